"""Many targets: one `MultiTracker` against as many `Tracker`s that share its session.

    python benchmarks/targets.py [--backend onnx|torch] [--targets 1 2 4 8] [--threads N] [--rounds N] [--json FILE]

Both sides follow the same targets through the same frames of noise, 640 x 480, in memory, and take turns. Ratios are
medians of the ratios within a round, with the range from the 10th to the 90th percentile.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from duotrack import pretrained
from duotrack.processor import usable_threads
from duotrack.profile import in_a_line, machine, versions
from duotrack.sequence import Frame
from duotrack.sessions.base import Session
from duotrack.tracking import MultiTracker, Tracker, open_session

Times = npt.NDArray[np.float64]


def main() -> None:
    """Measures and prints a Markdown table."""
    parser = argparse.ArgumentParser(description="One tracker of many targets against many of one.")
    parser.add_argument("--weights", default="duotrack-tiny")
    parser.add_argument("--backend", default="onnx", choices=["onnx", "torch"])
    parser.add_argument("--targets", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--threads", type=int, default=usable_threads())
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    session = open_session(pretrained.locate(options.weights), options.backend, threads=options.threads)
    where = f"threads: {options.threads}; {in_a_line(machine(), versions(session.name))}"
    print(f"{options.weights}, {session.name}; {where}\n")
    print("| targets | ms a frame, MultiTracker (10-90 %) | ms a target | Trackers / MultiTracker |\n|---|---|---|---|")
    figures = []
    for targets in options.targets:
        together, apart = measure(session, targets, options.rounds)
        low, median, high = np.percentile(together, (10, 50, 90)).tolist()
        ratio = np.percentile(apart / together, (10, 50, 90)).tolist()
        figures.append({"targets": targets, "milliseconds": [low, median, high], "ratio": ratio})
        print(f"| {targets} | {median:.1f} ({low:.1f}-{high:.1f}) | {median / targets:.1f} | ", end="")
        print(f"{ratio[1]:.2f} ({ratio[0]:.2f}-{ratio[2]:.2f}) |", flush=True)
    if options.json:
        options.json.write_text(json.dumps({"machine": where, "figures": figures}, indent=1) + "\n")


def measure(session: Session, targets: int, rounds: int) -> tuple[Times, Times]:
    """Milliseconds a frame in each round: one tracker of all targets, and a tracker each."""
    random = np.random.default_rng(0)
    frame = Frame(*random.integers(0, 256, (2, 480, 640, 3), np.uint8))
    boxes = [(x, y, 40.0, 60.0) for x, y in random.uniform(100, 340, (targets, 2))]
    together, apart = MultiTracker(session), [Tracker(session) for _ in boxes]
    for tracker, box in zip(apart, boxes, strict=True):
        together.add(frame, box)
        tracker.initialize(frame, box)
    times = np.empty((rounds + 1, 2))
    for each in times:
        started = time.perf_counter()
        together.update(frame)
        halfway = time.perf_counter()
        for tracker in apart:
            tracker.update(frame)
        each[:] = 1000 * (halfway - started), 1000 * (time.perf_counter() - halfway)
    return times[1:, 0], times[1:, 1]  # the first warms up


if __name__ == "__main__":
    main()
