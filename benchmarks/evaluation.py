"""Seconds to score LasHeR from text files: duotrack against the package `rgbt` 1.0.1, and many trackers at once.

    python benchmarks/evaluation.py GROUND_TRUTH RESULTS [RESULTS ...] [--python P] [--rounds N] [--json FILE]

One tracker on the testing set: three metrics overall and for each of the 19 attributes, by the rules of `rgbt` on both
sides; the values must agree within 1e-6. Every measurement is a process of its own, from its start to its end:
`duotrack evaluate`, with empty cache (every annotation is read from text) and with the one that its last run left, and
`rgbt` with the annotations it brings. duotrack also makes its table and bootstrap intervals. Then several trackers in
one run (the folders RESULTS in turns), against one run for each.

All variants take turns within a round, so that whatever else the machine does hits them alike; ratios are medians of
the ratios within a round, with the range over rounds. Seconds of the processor stand beside those on the clock, because
on a busy machine they are the steadier ones. Without `rgbt` only duotrack is measured.
"""

import argparse
import itertools
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import duotrack

RGBT = """
import json, sys
from rgbt import LasHeR
lasher = LasHeR()
lasher(tracker_name="tracker", result_path=sys.argv[1], bbox_type="ltwh")
scopes = {"overall": None} | {name: getattr(lasher, name) for name in lasher.get_attr_list()}
metrics = {"PR": lasher.PR, "NPR": lasher.NPR, "SR": lasher.SR}
print(json.dumps({
    scope: {name: float(metric("tracker", seqs=sequences)[0]) for name, metric in metrics.items()}
    for scope, sequences in scopes.items()
}))
"""

AGREED = 1e-6

Values = dict[str, dict[str, float]]
Seconds = tuple[float, float]
"""On the clock, and of the processor."""


def main() -> None:
    """Measures and prints a Markdown table."""
    parser = argparse.ArgumentParser(description="Seconds to score LasHeR: duotrack and the package rgbt.")
    parser.add_argument("ground_truth", type=Path, help="the data set's folder or a folder of its annotations")
    parser.add_argument("results", type=Path, nargs="+", help="folders of raw results, x,y,w,h, SEQUENCE.txt each")
    parser.add_argument("--python", default=sys.executable, help="an interpreter that has rgbt [this one]")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--trackers", type=int, default=10, help="how many are scored at once [10]")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        seconds = measure(options, Path(folder))
    report = {name: [list(column) for column in zip(*rounds, strict=True)] for name, rounds in seconds.items()}
    print(f"{machine()}; {options.rounds} rounds\n")
    print("| | on the clock, s | of the processor, s |\n|---|---|---|")
    for name, columns in report.items():
        print(f"| {name} | {_spread(columns[0])} | {_spread(columns[1])} |")
    slow, cold, warm, together, apart = names(options.trackers)
    for above, below in ((slow, cold), (slow, warm), (apart, together)):
        if above in report:
            ratios = [_spread(np.divide(report[above][i], report[below][i]).tolist()) for i in (0, 1)]
            print(f"| **{above} / {below}** | {ratios[0]} | {ratios[1]} |")
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "seconds": report}, indent=1) + "\n")


def names(trackers: int) -> tuple[str, str, str, str, str]:
    """What the table calls the variants."""
    return "rgbt", "duotrack, no cache", "duotrack", f"{trackers} trackers, one run", f"{trackers} runs"


def measure(options: argparse.Namespace, folder: Path) -> dict[str, list[Seconds]]:
    """Seconds of each variant in each round."""
    cold, warm = folder / "cold", folder / "warm"

    def score(results: Sequence[Path], cache: Path) -> Seconds:
        command = [sys.executable, "-m", "duotrack", "evaluate", "--dataset", "lasher", "--rules", "rgbt"]
        command += ["--ground-truth", str(options.ground_truth), "--json", str(folder / "report.json"), "--results"]
        command += [f"{number}={path}" for number, path in enumerate(results)]
        return timed(command, {"DUOTRACK_CACHE": str(cache)})[0]

    def apart() -> Seconds:
        clock, processor = zip(*(score([path], warm) for path in many), strict=True)
        return sum(clock), sum(processor)

    first = options.results[0]
    many = list(itertools.islice(itertools.cycle(options.results), options.trackers))
    called = names(options.trackers)
    work: dict[str, Callable[[], Seconds]] = {
        called[1]: lambda: score([first], cold / str(time.monotonic_ns())),
        called[2]: lambda: score([first], warm),
        called[3]: lambda: score(many, warm),
        called[4]: apart,
    }
    if has_rgbt(options.python):
        score([first], warm)
        expected = json.loads(timed([options.python, "-c", RGBT, str(first)], {})[1])
        check(expected, json.loads((folder / "report.json").read_text())["trackers"][0])
        work = {called[0]: lambda: timed([options.python, "-c", RGBT, str(first)], {})[0]} | work
    score([first], warm)  # fills the cache

    seconds: dict[str, list[Seconds]] = {name: [] for name in work}
    for _ in range(options.rounds):
        for name, step in work.items():
            seconds[name].append(step())
    return seconds


def timed(command: list[str], environment: dict[str, str]) -> tuple[Seconds, str]:
    """Runs a process to its end: what it took, and what it printed."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    run = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, check=False)
    clock, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if run.returncode:
        raise SystemExit(f"{' '.join(command[:4])} ... failed:\n{run.stderr}")
    return (clock, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime), run.stdout


def has_rgbt(python: str) -> bool:
    """Whether an interpreter has rgbt 1.0.1; says what to install if not."""
    code = "import importlib.metadata, rgbt; print(importlib.metadata.version('rgbt'))"
    found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False).stdout.strip()
    if found != "1.0.1":
        print(
            f"{python} has {f'rgbt {found}' if found else 'no rgbt'}, so only duotrack is measured. To compare: "
            "pip install rgbt==1.0.1 matplotlib, or name an interpreter that has them with --python",
            file=sys.stderr,
        )
    return found == "1.0.1"


def check(expected: Values, tracker: dict[str, Any]) -> None:
    """Speed is compared only where the values are the same."""
    found = {"overall": tracker["overall"]} | tracker["attributes"]
    if set(found) != set(expected):
        raise SystemExit(f"duotrack scored {sorted(found)}, rgbt {sorted(expected)}: give the whole testing set")
    gaps = {
        f"{scope}, {metric}": abs(value - found[scope][metric])
        for scope, values in expected.items()
        for metric, value in values.items()
    }
    worst = max(gaps, key=gaps.__getitem__)
    print(f"largest difference of {len(gaps)} values: {gaps[worst]:.1e} ({worst})\n")
    if gaps[worst] > AGREED:
        raise SystemExit(f"more than {AGREED:.0e}: these are other data, or rgbt runs under another numpy than 2")


def machine() -> str:
    """The processor and the versions."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    processor = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown CPU")
    return (
        f"{processor}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; "
        f"duotrack {duotrack.__version__}, Python {platform.python_version()}, numpy {np.__version__}"
    )


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.3g} ({min(values):.3g}-{max(values):.3g})"


if __name__ == "__main__":
    main()
