"""Runs the benchmarks and writes their tables, each with its machine and versions, into a page of the documentation.

    python docs/performance_numbers.py [NAME ...] [--page FILE.md]

The page is docs/performance.md; `--page docs/training.md` fills the other one. NAME is a place in it, between the
comments `<!-- NAME -->` and `<!-- end NAME -->`; without names all places of the page are filled.
The benchmarks take turns, so that none disturbs another; it is for you to keep the machine quiet meanwhile.
"""

import argparse
import json
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from duotrack.results import write_atomically

ROOT = Path(__file__).parents[1]

TABLES = {
    "frame_time": "benchmarks/frame_time.py",
    "sessions": "benchmarks/sessions.py",
    "fast_form": "benchmarks/fast_form.py",
    "precision": "benchmarks/precision.py",
    "loop": "benchmarks/loop.py",
    "targets": "benchmarks/targets.py",
    "startup": "benchmarks/startup.py",
    "training_step": "benchmarks/training_step.py",
    "training_memory": "benchmarks/training_memory.py",
}
"""Places in the pages, and the benchmark (with its arguments) whose table belongs there."""


def main() -> int:
    """Fills the places that were asked for, one after the other: what is finished is kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(TABLES))
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "performance.md", metavar="FILE.md")
    options = parser.parse_args()
    if unknown := set(options.names) - set(TABLES):
        parser.error(f"no place {', '.join(sorted(unknown))}; there are {', '.join(TABLES)}")
    for name in options.names or places(options.page.read_text("utf-8")):
        text = options.page.read_text("utf-8")
        replaced(text, name, "")  # fails before the work, not after it
        print(f"{name}: {TABLES[name]}", file=sys.stderr, flush=True)
        write_atomically(options.page, replaced(text, name, measured(TABLES[name])))
    return 0


def measured(benchmark: str) -> str:
    """Runs a benchmark; returns the tables that it prints, and where and how they came about."""
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder) / "figures.json"
        command = [sys.executable, *shlex.split(benchmark), "--json", str(figures)]
        printed = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
        machine = json.loads(figures.read_text("utf-8"))["machine"]
    tables = re.findall(r"(?:^\|.*\n)+", printed, re.MULTILINE)
    if not tables:
        raise ValueError(f"{benchmark} printed no table: {printed!r}")
    return "\n".join((*tables, f"{machine}. `python {benchmark}`"))


def places(text: str) -> list[str]:
    """The places that a page has, in the order of the page."""
    return re.findall(r"^<!-- (\w+) -->$", text, re.MULTILINE)


def replaced(text: str, name: str, new: str) -> str:
    """The text with what stands between ``<!-- NAME -->`` and ``<!-- end NAME -->`` replaced."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"there is no place for it: expected the comments <!-- {name} --> and <!-- end {name} -->")
    return pattern.sub(lambda match: f"{match[1]}{new}\n{match[2]}", text)


if __name__ == "__main__":
    sys.exit(main())
