"""duotrack follows one object through a visible and an infrared video at once.

    import duotrack

    tracker = duotrack.Tracker.from_pretrained("duotrack-tiny")
    sequence = duotrack.Sequence.open("visible/", "infrared/")
    for track in tracker.run(sequence, (x, y, w, h)):
        print(track.box, track.score)

The names below are looked up when they are first used, so that ``import duotrack`` costs nothing and ``duotrack
--help`` answers at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = ["Frame", "MultiTracker", "Sequence", "Tracker", "__version__"]

if TYPE_CHECKING:
    from duotrack.sequence import Frame, Sequence
    from duotrack.tracking import MultiTracker, Tracker
else:
    _HOME = {
        "Frame": "duotrack.sequence",
        "MultiTracker": "duotrack.tracking",
        "Sequence": "duotrack.sequence",
        "Tracker": "duotrack.tracking",
    }

    def __getattr__(name: str) -> object:
        if name not in _HOME:
            raise AttributeError(f"module 'duotrack' has no attribute {name!r}")
        return getattr(import_module(_HOME[name]), name)

    def __dir__() -> list[str]:
        return __all__
