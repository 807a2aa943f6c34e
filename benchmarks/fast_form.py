"""The inference form of the networks against their plain form, and against the fastest matrix product of the run.

    python benchmarks/fast_form.py [--rounds N] [--presets duotrack-tiny ckd-base] [--threads 1 2] [--json FILE]

The weights are random (speed does not depend on them). A frame is one search crop of both modalities, from normalised
pixels to box, the template known. All forms of a preset take turns within one run, so that whatever else the machine
does hits them alike; ratios are medians of the ratios within a round, with the range from the 10th to the 90th
percentile. `of peak` compares the arithmetic of a form with that of a linear layer of `ckd-base` with packed weights in
the same type, both at their best in the run. `difference` is the largest one of any map from the plain form's, in fp32:
in bf16 it says nothing, for where another token is eliminated, a cell of the maps is another.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from duotrack.model import PRESETS, ModelConfig, Output, StudentNetwork
from duotrack.model.fast import InferenceNetwork, Precision
from duotrack.model.packing import Linear, pack
from duotrack.processor import has_bf16
from duotrack.profile import in_a_line, machine, versions

TOKENS, WIDTH, HIDDEN = 320, 768, 3072
"""Of the linear layer whose speed stands for the processor's."""


class Variant(NamedTuple):
    form: str
    threads: int


def main() -> None:
    """Measures and prints a Markdown table."""
    parser = argparse.ArgumentParser(description="The inference form of the networks against their plain form.")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--presets", nargs="+", default=["duotrack-tiny", "ckd-base"], choices=list(PRESETS))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    where = in_a_line(machine(), versions("torch"))
    print(f"{where}\n")
    print("| network | form | threads | ms a frame, median (10-90 %) | plain / form | of peak | difference |")
    print("|---|---|---|---|---|---|---|")
    report: dict[str, list[dict[str, Any]]] = {}
    for name in options.presets:
        report[name] = measure(PRESETS[name], options.threads, options.rounds)
        for row in report[name]:
            low, median, high = row["milliseconds"]
            ratio = "" if row["form"] == "plain fp32" else "{1:.2f} ({0:.2f}-{2:.2f})".format(*row["ratio"])
            difference = "" if row["difference"] is None else f"{row['difference']:.1e}"
            print(f"| {name} | {row['form']} | {row['threads']} | {median:.1f} ({low:.1f}-{high:.1f}) | ", end="")
            print(f"{ratio} | {row['of_peak']:.2f} | {difference} |", flush=True)
    if not has_bf16():
        print("\nbf16 is not available: this processor does not compute in it.")
    if options.json:
        options.json.write_text(json.dumps({"machine": where, "figures": report}, indent=1) + "\n")


@torch.inference_mode()
def measure(config: ModelConfig, threads: list[int], rounds: int) -> list[dict[str, Any]]:
    """Times all forms of a network in turns; one row for each."""
    torch.manual_seed(0)
    network = StudentNetwork(config).eval()
    template, search = (torch.randn(2, 1, 3, side, side) for side in (config.template_size, config.search_size))
    known = network.template(template)
    plain = network.search(known, search)
    work: dict[Variant, Callable[[], Output]] = {}
    peaks: dict[Variant, Callable[[], Tensor]] = {}
    differences: dict[str, float] = {}
    for number in threads:
        torch.set_num_threads(number)
        work[Variant("plain fp32", number)] = lambda: network.search(known, search)
        for precision in precisions():
            form, variant = InferenceNetwork(network, precision=precision), Variant(f"fast {precision}", number)
            work[variant] = _searching(form, template, search)
            peaks[variant] = _product(torch.float32 if precision == "fp32" else torch.bfloat16)
            if precision == "fp32":
                differences[variant.form] = _difference(work[variant](), plain)
        peaks[Variant("plain fp32", number)] = peaks[Variant("fast fp32", number)]
    seconds: dict[Variant, list[float]] = {variant: [] for variant in work}
    shortest: dict[Variant, list[float]] = {variant: [] for variant in work}
    for _ in range(rounds + 1):
        for variant, step in work.items():
            torch.set_num_threads(variant.threads)
            shortest[variant].append(_timed(peaks[variant]))  # also lets threads of the variant before come to rest
            seconds[variant].append(_timed(step))
    operations = operations_of(config)
    rows: list[dict[str, Any]] = []
    for variant, values in seconds.items():
        measured = np.array(values[1:])  # the first round warms up
        peak = 2 * TOKENS * WIDTH * HIDDEN / min(shortest[variant])
        rows.append(
            {
                "form": variant.form,
                "threads": variant.threads,
                "milliseconds": _spread(1000 * measured),
                "ratio": _spread(np.array(seconds[Variant("plain fp32", variant.threads)][1:]) / measured),
                "of_peak": operations / float(measured.min()) / peak,
                "difference": differences.get(variant.form),
            }
        )
    return rows


def operations_of(config: ModelConfig) -> float:
    """Multiplications and additions that the inference form does for a frame, counted by running it without data."""
    with torch.device("meta"):
        form = InferenceNetwork(StudentNetwork(config).eval())
        template, search = (torch.empty(2, 1, 3, side, side) for side in (config.template_size, config.search_size))
        # The rule GT_BOX would want a box, but no preset has it.
        known = form.template(template)
        with FlopCounterMode(display=False) as counter:
            form.search(known, search)
    return float(counter.get_total_flops())


def precisions() -> list[Precision]:
    """Those that this processor computes in."""
    return ["fp32", "bf16"] if has_bf16() else ["fp32"]


def _searching(form: InferenceNetwork, template: Tensor, search: Tensor) -> Callable[[], Output]:
    known = form.template(template)
    return lambda: form.search(known, search)


def _product(dtype: torch.dtype) -> Callable[[], Tensor]:
    x = torch.randn(1, TOKENS, WIDTH).to(dtype)
    layer = pack(Linear(torch.randn(HIDDEN, WIDTH).to(dtype), torch.zeros(HIDDEN, dtype=dtype)), x)
    return lambda: layer(x)


def _difference(found: Output, expected: Output) -> float:
    maps = ("score", "size", "offset")
    return max(float((getattr(found, name) - getattr(expected, name)).abs().max()) for name in maps)


def _timed(step: Callable[[], object]) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def _spread(values: np.ndarray) -> tuple[float, float, float]:
    low, median, high = np.percentile(values, (10, 50, 90))
    return float(low), float(median), float(high)


if __name__ == "__main__":
    main()
