"""The loop around the network: what it costs, and what reading ahead gains over video.

    python benchmarks/loop.py [--rounds N] [--threads N] [--video VISIBLE INFRARED] [--json FILE]

First table: processor milliseconds of one core that an update takes beyond `session.search` (crops, window, peak, box),
on one thread and frames in memory. Each round shows the targets anew and finds them once, so that the windows are the
same in all; ratios to the session are medians of those within a round.

Second table: a video followed with the frames decoded ahead in a thread (as `duotrack track` does) and without, in
turns within one run; frames per second, and the median of the ratios within a round. Ranges go from the 10th to the
90th percentile.
"""

import argparse
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from duotrack.demo import CLIP
from duotrack.pipeline import ahead
from duotrack.processor import usable_threads
from duotrack.profile import in_a_line, machine, versions
from duotrack.sequence import Frame, Sequence
from duotrack.sessions.base import Floats, Maps, Pixels, Session
from duotrack.tracking import MultiTracker, Tracker

SIZES = (640, 480), (1280, 720), (1920, 1080)
FRAMES = 40


def main() -> None:
    """Measures and prints Markdown tables."""
    parser = argparse.ArgumentParser(description="The loop around the network.")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, usable_threads()}), help="second table")
    parser.add_argument("--video", type=Path, nargs=2, default=(CLIP / "visible.mp4", CLIP / "infrared.mp4"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    where = in_a_line(machine(), versions("onnx"))
    print(f"{where}\n")
    figures: dict[str, list[dict[str, Any]]] = {"loop": [], "reading ahead": []}

    session = Timed(Tracker.from_pretrained(threads=1).session)
    print("| frames | targets | loop, core-ms (10-90 %) | per cent of the session |\n|---|---|---|---|")
    for width, height in SIZES:
        for targets in (1, 8):
            loop, share = around(session, (width, height), targets, options.rounds)
            size = f"{width} x {height}"
            figures["loop"].append({"frames": size, "targets": targets, "milliseconds": loop, "share": share})
            print(f"| {size} | {targets} | " + "{1:.2f} ({0:.2f}-{2:.2f}) | ".format(*loop), end="")
            print("{1:.1f} ({0:.1f}-{2:.1f}) |".format(*(100 * value for value in share)), flush=True)

    print("\n| video | threads | frames per second, decoded ahead | decoded in turn | ahead / in turn |")
    print("|---|---|---|---|---|")
    for threads in options.threads:
        with Sequence.open(*options.video) as sequence:
            size = "{} x {}".format(*sequence.size)
            speeds, ratio = reading_ahead(sequence[:FRAMES], threads, options.rounds // 2)
        figures["reading ahead"].append({"video": size, "threads": threads, "speeds": speeds, "ratio": ratio})
        print("| {} | {} | {:.1f} | {:.1f} | ".format(size, threads, *speeds), end="")
        print("{1:.2f} ({0:.2f}-{2:.2f}) |".format(*ratio), flush=True)
    if options.json:
        options.json.write_text(json.dumps({"machine": where, "figures": figures}, indent=1) + "\n")


class Timed:
    """A session that counts the processor time of its network in an update; on one thread it runs in the caller's."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.name, self.template_size, self.search_size = session.name, session.template_size, session.search_size
        self.seconds = 0.0

    def template(self, crops: Pixels, box: Floats | None = None) -> Any:
        return self.session.template(crops, box)

    def join(self, states: Any) -> Any:
        return self.session.join(states)

    def describe(self, crops: Pixels) -> Floats | None:
        started = time.thread_time()
        features = self.session.describe(crops)
        self.seconds += time.thread_time() - started
        return features

    def search(self, state: Any, crops: Pixels) -> Maps:
        started = time.thread_time()
        maps = self.session.search(state, crops)
        self.seconds = time.thread_time() - started
        return maps


def around(session: Timed, size: tuple[int, int], targets: int, rounds: int) -> tuple[list[float], list[float]]:
    """Core-milliseconds of an update without its search, and their ratio to the search's: 10, 50 and 90 %."""
    width, height = size
    box = (width / 2 - 20, height / 2 - 40, 40, 80)
    frame = Frame(*np.random.default_rng(0).integers(0, 256, (2, height, width, 3), np.uint8))
    loop, share = np.empty((2, rounds + 1))
    for turn in range(rounds + 1):
        tracker = MultiTracker(session, padding="mean", window=2.0)  # as duotrack-tiny wants them
        for _ in range(targets):
            tracker.add(frame, box)
        started = time.thread_time()
        tracker.update(frame)
        rest = time.thread_time() - started - session.seconds
        loop[turn], share[turn] = 1000 * rest, rest / session.seconds
    return spread(loop[1:]), spread(share[1:])


def reading_ahead(sequence: Sequence, threads: int, rounds: int) -> tuple[list[float], list[float]]:
    """Median frames per second with and without, and the spread of their ratio."""
    tracker = Tracker.from_pretrained(threads=threads)
    width, height = sequence.size
    box = (width / 2 - 20, height / 2 - 40, 40, 80)
    seconds = np.empty((rounds + 1, 2))
    for turn in seconds:
        for column, frames in enumerate[Iterable[Frame]]((ahead(sequence), sequence)):
            started = time.perf_counter()
            for _ in tracker.run(frames, box):
                pass
            turn[column] = time.perf_counter() - started
    kept = seconds[1:]  # the first warms up
    return (len(sequence) / np.median(kept, axis=0)).tolist(), spread(kept[:, 1] / kept[:, 0])


def spread(values: "np.ndarray[Any, np.dtype[np.float64]]") -> list[float]:
    """10, 50 and 90 %."""
    percentiles: list[float] = np.percentile(values, (10, 50, 90)).tolist()
    return percentiles


if __name__ == "__main__":
    main()
