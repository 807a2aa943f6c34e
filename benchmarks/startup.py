"""Processor seconds of a command, from the start of the process to its end, beside a bare interpreter.

    python benchmarks/startup.py [--rounds N] [--json FILE]

`track` follows a target through two frames of 640 x 480, from JPEG files, and so ends with the first box that the
network has found; it runs on one thread, so that none waits. The commands take turns, each in a process of its own;
ratios are medians of the ratios within a round, with the range from the 10th to the 90th percentile. The first round
warms the disk cache and does not count. User and system time are added: on a busy machine they say more than a clock.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

from duotrack.profile import in_a_line, machine, versions

BARE = "python -c pass"


def main() -> None:
    """Measures and prints a Markdown table."""
    parser = argparse.ArgumentParser(description="Processor seconds of a command.")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    where = in_a_line(machine(), versions("onnx"))
    print(f"{where}\n")
    with tempfile.TemporaryDirectory() as folder:
        commands = {
            BARE: ["-c", "pass"],
            "duotrack --help": ["-m", "duotrack", "--help"],
            "duotrack track, to the first box": ["-m", "duotrack", "track", *pair(Path(folder)), "--threads", "1"],
            "duotrack doctor": ["-m", "duotrack", "doctor"],
        }
        rounds = [{name: seconds(command) for name, command in commands.items()} for _ in range(options.rounds + 1)][1:]

    figures = {}
    print("| command | processor seconds, median (10-90 %) | times a bare interpreter |\n|---|---|---|")
    for name in commands:
        spread = np.percentile([each[name] for each in rounds], (10, 50, 90)).tolist()
        ratio = np.percentile([each[name] / each[BARE] for each in rounds], (10, 50, 90)).tolist()
        figures[name] = {"seconds": spread, "ratio": ratio}
        print(f"| `{name}` | " + "{1:.3f} ({0:.3f}-{2:.3f}) | ".format(*spread), end="")
        print("{1:.1f} ({0:.1f}-{2:.1f}) |".format(*ratio))
    if options.json:
        options.json.write_text(json.dumps({"machine": where, "figures": figures}, indent=1) + "\n")


def pair(folder: Path) -> list[str]:
    """Two folders of two images, and the arguments that track in them."""
    random = np.random.default_rng(0)
    for name in ("visible", "infrared"):
        (folder / name).mkdir()
        for index in range(2):
            cv2.imwrite(str(folder / name / f"{index}.jpg"), random.integers(0, 256, (480, 640, 3), np.uint8))
    return [*(str(folder / name) for name in ("visible", "infrared")), "--box=300,200,40,80", f"--output={folder}"]


def seconds(command: list[str]) -> float:
    """Processor seconds that a Python process takes, and what it starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *command], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
