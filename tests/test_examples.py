"""What stands in examples/ does what it says, with nothing but the packages that it names."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from duotrack import demo, pretrained
from duotrack.sequence import Sequence
from duotrack.tracking import Tracker

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.parametrize("target", ["A_far_puffer", "D_leather"])
def test_the_onnx_tracker_finds_what_duotrack_finds(tmp_path: Path, target: str) -> None:
    """Also where the first crop reaches beyond the border of the picture, as it does for D."""
    folder = pretrained.locate("duotrack-tiny")
    first = demo.facts(target)["suggested_init"]
    with Sequence.open(demo.CLIP / "visible.mp4", demo.CLIP / "infrared.mp4") as clip:
        box = demo.ground_truth(target, len(clip))[first]
        part = clip[first : first + 40]
        for name in ("visible", "infrared"):
            (tmp_path / name).mkdir()
        for index, frame in enumerate(part):
            for name in ("visible", "infrared"):
                cv2.imwrite(str(tmp_path / name / f"{index:03d}.png"), getattr(frame, name)[..., ::-1])
        tracker = Tracker.from_pretrained(folder, backend="onnx")
        tracker.rivals, tracker.lost, tracker.calibration = False, 0.0, 0.0  # the example has the published loop
        expected = [estimate.box for estimate in tracker.run(part, box)]
    numbers = ",".join(map(repr, box.tolist()))
    arguments = [folder, tmp_path / "visible", tmp_path / "infrared", numbers, tmp_path / "boxes.txt"]
    code = f"import sys; sys.modules['duotrack'] = None; sys.path.insert(0, {str(EXAMPLES)!r})"
    code += "; import runpy; runpy.run_module('onnx_tracker', run_name='__main__', alter_sys=True)"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    found = np.loadtxt(tmp_path / "boxes.txt", delimiter=",")
    assert np.abs(np.diff(found, axis=0)).max() > 1  # the target moves
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.01)
