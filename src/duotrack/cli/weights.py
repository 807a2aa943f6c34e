"""The commands on weights: ``weights import``, ``weights info`` and ``export``."""

import argparse
import sys

from duotrack.cli import arguments
from duotrack.cli.speech import as_json, as_lines, fail


def add_to(commands: arguments.Commands) -> None:
    """Declares the commands."""
    weights = commands.add_parser("weights", help="import published checkpoints; say what a weights folder holds")
    actions = weights.add_subparsers(title="commands", metavar="COMMAND", required=True)
    command = arguments.add(actions, "import", weights_import, "turn a published checkpoint into a weights folder")
    command.add_argument(
        "checkpoint", type=arguments.path, metavar="CHECKPOINT", help="file; nothing in it is executed"
    )
    command.add_argument("--output", type=arguments.path, required=True, metavar="DIR", help="the weights folder")
    command.add_argument("--heads", type=arguments.positive, metavar="N", help="attention heads [one for 64 channels]")
    command.add_argument(
        "--elimination",
        action="store_true",
        help="track with candidate elimination as published (blocks 3, 6, 9 keep 0.7): for stage-2 checkpoints",
    )
    command.add_argument("--coupled", action="store_true", help="all four branches, to train on; not only the students")
    command = arguments.add(actions, "info", weights_info, "say what a weights folder holds")
    command.add_argument(
        "weights", metavar="NAME_OR_FOLDER", help="shipped weights, a weights folder, or a preset: ckd-base"
    )
    command.add_argument("--json", action="store_true", help="print it as JSON")

    command = arguments.add(commands, "export", export, "turn weights into ONNX graphs that run without PyTorch")
    command.add_argument(
        "weights", nargs="?", default="duotrack-tiny", metavar="WEIGHTS", help="name or folder [duotrack-tiny]"
    )
    command.add_argument("--format", choices=["onnx"], default="onnx", help="[onnx]")
    command.add_argument(
        "--precision", choices=["fp32", "int8"], default="fp32", help="int8 adds a search graph in 8 bits [fp32]"
    )
    command.add_argument(
        "--calibrate",
        nargs=2,
        type=arguments.path,
        metavar=("VISIBLE", "INFRARED"),
        help="int8: a clip like those that it will see, tracked from --box [the demo clip]",
    )
    command.add_argument(
        "--box", type=arguments.numbers("X,Y,W,H"), metavar="X,Y,W,H", help="the object in its first frame"
    )
    command.add_argument(
        "--output",
        type=arguments.path,
        metavar="DIR",
        help="[the weights folder; for shipped weights a new one of their name]",
    )
    command.add_argument("--check", action="store_true", help="compare with PyTorch on real crops; fail if they differ")
    command.add_argument("--json", action="store_true", help="print what was written and found as JSON")


def weights_import(options: argparse.Namespace) -> int:
    """Turns a published checkpoint into a weights folder."""
    from duotrack.model import Elimination, weights

    weights.import_checkpoint(
        options.checkpoint,
        options.output,
        heads=options.heads,
        elimination=Elimination() if options.elimination else None,
        coupled=options.coupled,
    )
    print(options.output)
    return 0


def weights_info(options: argparse.Namespace) -> int:
    """Says what a weights folder holds."""
    from duotrack.model import weights

    facts = weights.describe(options.weights)
    print(as_json(facts) if options.json else as_lines(facts))
    return 0


def export(options: argparse.Namespace) -> int:
    """Turns weights into ONNX graphs."""
    from dataclasses import asdict
    from pathlib import Path

    from duotrack import pretrained, samples
    from duotrack.export import export_onnx
    from duotrack.quantization import quantize
    from duotrack.verification import check, check_int8

    eight_bits = options.precision == "int8"
    if bool(options.calibrate) != bool(options.box):
        return fail("--calibrate VISIBLE INFRARED and --box X,Y,W,H go together", status=2)
    if options.calibrate and not eight_bits:
        return fail("--calibrate is for --precision int8", status=2)
    folder = pretrained.locate(options.weights)
    # What came with the package stays as it is.
    output = options.output or (Path(options.weights) if options.weights in pretrained.shipped() else folder)
    print(f"exporting to {output} (minutes for a large network)", file=sys.stderr, flush=True)
    export_onnx(folder, output)
    names = [pretrained.TEMPLATE_GRAPH, pretrained.SEARCH_GRAPH]
    checks = []
    if eight_bits or options.check:
        # Every other crop of the demo clip calibrates, the others check.
        crops = samples.of_demo_clip(pretrained.read_config(folder))
    if options.check:
        print("checking against PyTorch", file=sys.stderr, flush=True)
        checks.append(check(folder, output, crops[1::2]))
    if eight_bits:
        if options.calibrate:
            visible, infrared = options.calibrate
            calibration = samples.of_clip(output, visible, infrared, options.box)
        else:
            calibration = crops[::2]
        print(f"calibrating with {len(calibration)} pairs of crops", file=sys.stderr, flush=True)
        quantize(output, calibration)
        names.append(pretrained.INT8_GRAPH)
        if options.check:
            checks.append(check_int8(output, crops[1::2]))
    paths = [str(output / name) for name in names]
    if options.json:
        print(as_json({"files": paths, "checks": [asdict(found) for found in checks]}))
    else:
        print(*paths, *checks, sep="\n")
    failed = [found.precision for found in checks if not found.passed]
    return fail(f"not within tolerance: {', '.join(failed)}; the files are there to be looked into") if failed else 0
