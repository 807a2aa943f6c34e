"""Peak memory of a training step by the pairs that are computed at once, and what follows for larger memories.

    python benchmarks/training_memory.py [--recipe FILE.yaml] [--pairs 1 2 4] [--precisions fp32 bf16] [--threads N]
                                         [--device cuda] [--json FILE]

Real steps of the recipe, with random weights on made-up pairs, each case in a process of its own, with and without
`recompute`. Two steps are taken, for the second one is the dearer: by then the optimizer has its moments. On a CPU the
peak is that of the whole process, with Python and the libraries; on a GPU what PyTorch has allocated there.

Few pairs hide behind the gradients: what a pair needs is let go in the backward pass while these come into being. So
`each pair` is taken where it is seen from the first pair on, at the end of the first forward pass. From the largest
case on every further pair costs as much, and so one knows how many fit into 24, 40 and 80 GB of a GPU, a tenth left
free for what its runtime and gaps between blocks take. Measured on a CPU that is an extrapolation: on GPUs attention
in bf16 is fused and stores no matrix, and convolutions want room to work in.
"""

import argparse
import json
import math
import multiprocessing
import resource
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from training_step import CONFIGS, recipe

from duotrack.data.sampling import PairSource
from duotrack.model import PRESETS
from duotrack.profile import in_a_line, machine, versions
from duotrack.training.batches import load
from duotrack.training.config import TrainingConfig
from duotrack.training.engine import parts_of, prepare, train_step

MEMORIES = (24, 40, 80)
"""Of common GPUs, GB."""

FREE = 0.1
"""The share of a GPU's memory that is not counted on."""


def main() -> None:
    """Measures and prints a Markdown table."""
    parser = argparse.ArgumentParser(description="Peak memory of a training step.")
    parser.add_argument("--recipe", type=Path, default=CONFIGS / "ckd_base_stage1.yaml")
    parser.add_argument("--pairs", type=int, nargs="+", default=[1, 2, 4], help="computed at once")
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"], choices=["fp32", "bf16", "fp16"])
    parser.add_argument("--threads", type=int, default=1, help="of the step, on a CPU")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", choices=list(PRESETS), help="in place of the recipe's, for a trial")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if len(set(options.pairs)) < 2:
        parser.error("--pairs: what each of them needs is seen from two different numbers")
    where = f"{options.device}; {in_a_line(machine(), versions('torch'))}"
    print(f"{where}\n")
    listed = ", ".join(map(str, options.pairs))
    header = [options.recipe.stem, "recompute", f"GB for {listed} pairs", "each pair, GB"]
    header += [f"pairs in {size} GB" for size in MEMORIES]
    print("| " + " | ".join(header) + " |\n" + "|---" * len(header) + "|")
    figures: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        changes = {"workers": 0, "micro_batch": None, "device": options.device, "threads": options.threads}
        for precision in options.precisions:
            for recompute in (False, True):
                what = {**changes, "precision": precision, "recompute": recompute}
                config = recipe(options.recipe, Path(folder), options.model, what)
                peaks = [peaks_apart(replace(config, batch_size=pairs)) for pairs in options.pairs]
                row = {"precision": precision, "recompute": recompute, "pairs": options.pairs}
                figures.append(row | extrapolated(options.pairs, peaks))
                print(_formatted(figures[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps({"machine": where, "figures": figures}, indent=1) + "\n")


class Peaks(NamedTuple):
    """The largest memory so far in GB: when the first forward pass was done, and after two whole steps."""

    forward: float
    steps: float


class AfterForward(torch.amp.GradScaler):
    """The engine's scaler, which is given the losses when a forward pass is done: notes the memory of the first."""

    def __init__(self, device: torch.device, *, enabled: bool) -> None:
        super().__init__(device.type, enabled=enabled)
        self.device = device
        self.peak = 0.0

    def scale(self, outputs: Any) -> Any:
        self.peak = self.peak or used(self.device)
        return super().scale(outputs)


def peaks_apart(config: TrainingConfig) -> Peaks:
    """The peaks in a new process: no case inherits what another one took."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(peaks_here, config).result()


def peaks_here(config: TrainingConfig) -> Peaks:
    """Takes two steps in this process."""
    network, optimizer, precision = prepare(config)
    device = next(network.parameters()).device
    precision.scaler = scaler = AfterForward(device, enabled=precision.name == "fp16")
    source = PairSource(config.data, config.network, config.crops, seed=config.seed)
    numbers = [parts_of(config, step) for step in range(2)]
    batches = load(source, config, [part for step in numbers for part in step])
    for step, parts in enumerate(numbers):
        train_step(network, optimizer, [next(batches) for _ in parts], config, step, precision)
    return Peaks(scaler.peak, used(device))


def used(device: torch.device) -> float:
    """The largest memory of this process so far, in GB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def extrapolated(pairs: list[int], peaks: list[Peaks]) -> dict[str, Any]:
    """The peaks, what a pair adds, and how many pairs fit into :data:`MEMORIES`; all in GB."""
    slope = float(np.polyfit(pairs, [peak.forward for peak in peaks], 1)[0])
    if slope <= 0:
        raise SystemExit(f"the memory of {pairs} pairs does not grow: give larger numbers to --pairs")
    most, largest = max(zip(pairs, peaks, strict=True))
    fitting = {size: max(0, most + math.floor((size * (1 - FREE) - largest.steps) / slope)) for size in MEMORIES}
    return {"peaks": [peak.steps for peak in peaks], "slope": slope, "fitting": fitting}


def _formatted(row: dict[str, Any]) -> str:
    cells = [
        row["precision"],
        "yes" if row["recompute"] else "no",
        ", ".join(f"{value:.1f}" for value in row["peaks"]),
        f"{row['slope']:.2f}",
        *(str(pairs) for pairs in row["fitting"].values()),
    ]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
