"""What every session costs on this machine: `duotrack profile`, for each in a process of its own.

    python benchmarks/sessions.py [--networks W ...] [--threads N] [--frames N] [--rounds N] [--json FILE]

The sessions take turns; a figure is the median of the rounds. A session that this machine or installation cannot run
is in the table with the reason. Ratios between sessions are better taken from the benchmarks that time both in one
process; here are memory, start, and the stages of a frame.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from precision import with_int8

from duotrack import pretrained
from duotrack.processor import usable_threads
from duotrack.profile import in_a_line

SESSIONS = [
    ("onnx", "fp32"),
    ("onnx", "int8"),
    ("torch", "fp32"),
    ("torch", "bf16"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
]


def main() -> None:
    """Measures and prints a Markdown table."""
    parser = argparse.ArgumentParser(description="What every session costs.")
    parser.add_argument("--networks", nargs="+", default=["duotrack-tiny"], metavar="WEIGHTS_OR_PRESET")
    parser.add_argument("--threads", type=int, default=usable_threads())
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    kinds = [(network, *session) for network in options.networks for session in SESSIONS]
    found: dict[tuple[str, str, str], list[dict[str, Any]]] = {kind: [] for kind in kinds}
    with tempfile.TemporaryDirectory() as scratch:
        # Shipped weights have no graph in 8 bits beside them: a copy gets one.
        folders = {
            network: str(with_int8(network, Path(scratch) / network))
            for network in options.networks
            if network in pretrained.shipped()
        }
        for _ in range(options.rounds):
            for (network, backend, precision), profiles in found.items():
                if not (profiles and "error" in profiles[0]):
                    folder = folders.get(network, network)
                    profiles.append(profile(folder, backend, precision, options.threads, options.frames))

    print("| network | session | crop, network, rest: ms a frame | frames per second | load, first frame: s | ", end="")
    print("weights, peak memory: MiB |\n|---|---|---|---|---|---|")
    for (network, backend, precision), profiles in found.items():
        print(f"| {network} | {backend} {precision} | {row(profiles)} |")
    whole = [profiles[0] for profiles in found.values() if "error" not in profiles[0]]
    if not whole:
        raise SystemExit("no session ran")
    versions = {name: version for each in whole for name, version in each["versions"].items()}
    where = f"threads: {options.threads}; {in_a_line(whole[0]['machine'], versions)}"
    print(f"\n{where}")
    if options.json:
        figures = {" ".join(kind): profiles for kind, profiles in found.items()}
        options.json.write_text(json.dumps({"machine": where, "figures": figures}, indent=1) + "\n")


def profile(network: str, backend: str, precision: str, threads: int, frames: int) -> dict[str, Any]:
    """What `duotrack profile` says, or its `error`."""
    choice = ["--backend", backend, "--precision", precision, "--threads", str(threads), "--frames", str(frames)]
    command = [sys.executable, "-m", "duotrack", "profile", network, *choice, "--json"]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        return {"error": result.stderr.strip().splitlines()[-1].removeprefix("duotrack: error: ")}
    facts: dict[str, Any] = json.loads(result.stdout)
    return facts


def row(profiles: list[dict[str, Any]]) -> str:
    """The cells of one session."""
    if "error" in profiles[0]:
        return f"not available: {profiles[0]['error']} | | |"

    def of(*keys: str) -> float:
        values: list[Any] = profiles
        for key in keys:
            values = [value[key] for value in values]
        return float(median(values))

    stages = [of("milliseconds", stage, "median") for stage in ("crop", "network", "window and mapping")]
    cells = (
        ", ".join(f"{stage:.2f}" for stage in stages),
        f"{of('fps'):.1f}",
        f"{of('load_seconds'):.2f}, {of('first_frame_seconds'):.2f}",
        ", ".join(f"{of('memory', what) / 2**20:.0f}" for what in ("weights", "peak")),
    )
    return " | ".join(cells)


if __name__ == "__main__":
    main()
