"""A program of a tracker's author: `python runner.py TRACKER DATASET DATA OUTPUT WORKERS`. Prints what failed."""

import json
import os
import signal
import sys
import time

import cv2
import numpy as np
import numpy.typing as npt

from duotrack.evaluation.run import run_tracker
from duotrack.sequence import Frame
from duotrack.tracking import Estimate


class Slow:
    """The tracker of test_run.py with time to be stopped."""

    def initialize(self, frame: Frame, box: npt.NDArray[np.float64]) -> None:
        self.frames = 1

    def update(self, frame: Frame) -> Estimate:
        time.sleep(0.01)
        self.frames += 1
        box = cv2.boundingRect((frame.infrared[..., 0] > 150).astype(np.uint8))
        return Estimate(np.array(box, np.float64), 1 / self.frames)


class Dying(Slow):
    """Is killed when it is shown a certain target, as by a system without memory."""

    def initialize(self, frame: Frame, box: npt.NDArray[np.float64]) -> None:
        if box.tolist() == [float(number) for number in os.environ["DEADLY"].split(",")]:
            os.kill(os.getpid(), signal.SIGKILL)
        super().initialize(frame, box)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also below nohup, where it is ignored
    tracker, dataset, data, output, workers = sys.argv[1:]
    make_tracker = {"Slow": Slow, "Dying": Dying}[tracker]
    about = {"name": "warmest", "settings": {"level": 150}}
    try:
        outcome = run_tracker(make_tracker, about, dataset, data, output, workers=int(workers))
    except KeyboardInterrupt as stop:
        print(stop)
        sys.exit(130)
    print(json.dumps(dict(outcome.failed)))
    sys.exit(bool(outcome.failed))
