"""What every session offers, whatever runs inside."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]

Precision = Literal["fp32", "bf16", "int8"]
"""What a network computes in. What comes out is float32 all the same."""


@dataclass(frozen=True)
class Maps:
    """A network's answer for B search crops, float32.

    ``score`` (B, 1, F, F) in (0, 1); ``size`` (B, 2, F, F), width and height in crop sides; ``offset``
    (B, 2, F, F) in cells; ``box_cxcywh`` (B, 4) in crop sides, read at the highest score without any window.
    """

    score: Floats
    size: Floats
    offset: Floats
    box_cxcywh: Floats


class Session(Protocol):
    """Runs a network on crops; axis 0 of the crops is visible, infrared."""

    name: str
    template_size: int
    search_size: int

    def template(self, crops: Pixels, box: Floats | None = None) -> Any:
        """What the network remembers of targets.

        Args:
            crops: uint8 (2, B, Ht, Wt, 3), RGB.
            box: the targets in these crops, x, y, w, h in crop sides, (B, 4); some networks want it.

        Returns:
            A state to hand to :meth:`search`, never changed by it.
        """
        ...

    def join(self, states: Sequence[Any]) -> Any:
        """The states of several :meth:`template` calls as one, as if their crops had been one batch, in this order."""
        ...

    def describe(self, crops: Pixels) -> Floats | None:
        """The stem's features of uint8 crops (2, B, Ht, Wt, 3), (2, B, D, H, W); None for a network without one."""
        ...

    def search(self, state: Any, crops: Pixels) -> Maps:
        """Looks for the targets in uint8 crops (2, B, Hs, Ws, 3)."""
        ...
