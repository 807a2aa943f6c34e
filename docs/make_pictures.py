"""Makes the pictures of the README from a real run: `duotrack demo`'s clip, model and target.

python docs/make_pictures.py [--frame N]
"""

import argparse
from pathlib import Path

import cv2

from duotrack import demo, visualize
from duotrack.sequence import Sequence
from duotrack.tracking import Tracker

FOLDER = Path(__file__).parent


def main() -> None:
    """Tracks up to the frame of the picture and draws it."""
    parser = argparse.ArgumentParser(description="Makes the pictures of the README.")
    parser.add_argument("--frame", type=int, default=110, help="of the clip")
    frame = parser.parse_args().frame
    with Sequence.open(demo.CLIP / "visible.mp4", demo.CLIP / "infrared.mp4") as clip:
        truth = demo.ground_truth(demo.TARGET, len(clip))
        first = demo.facts(demo.TARGET)["suggested_init"]
        estimates = list(Tracker.from_pretrained(demo.WEIGHTS).run(clip[first : frame + 1], truth[first]))
        picture = visualize.draw_frame(
            clip[frame],
            estimates[-1].box,
            estimates[-1].score,
            number=frame,
            ground_truth=truth[frame],
            note="hidden by smoke from the visible camera",
        )
    cv2.imwrite(str(FOLDER / "demo.jpg"), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == "__main__":
    main()
