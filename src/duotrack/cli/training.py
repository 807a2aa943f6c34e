"""The commands that train and explain: ``prepare``, ``train``, ``ablate`` and ``gap``."""

import argparse
import sys

from duotrack.cli import arguments
from duotrack.cli.speech import as_json, as_lines


def add_to(commands: arguments.Commands) -> None:
    """Declares the commands."""
    command = arguments.add(
        commands,
        "prepare",
        prepare,
        "draw pairs once and keep the features of the frozen stem, to train on many times",
        "Whole files are kept. The same command goes on.",
    )
    command.add_argument("--config", type=arguments.path, required=True, metavar="C.yaml", help="the recipe")
    command.add_argument("--set", action="append", default=[], metavar="a.b=v", help="change one value of the recipe")
    command.add_argument("--pairs", type=arguments.positive, required=True, metavar="N", help="how many")
    command.add_argument(
        "--output", type=arguments.path, required=True, metavar="DIR", help="one that holds fewer of them is extended"
    )
    command.add_argument(
        "--workers", type=arguments.whole, metavar="W", help="processes that draw, one a core [workers of the recipe]"
    )
    command.add_argument("--json", action="store_true", help="print what was made as JSON")

    command = arguments.add(
        commands,
        "train",
        train,
        "train a network",
        "Checkpoints are kept. The same command goes on from the last one.",
    )
    command.add_argument("--config", type=arguments.path, required=True, metavar="C.yaml", help="the recipe")
    command.add_argument("--set", action="append", default=[], metavar="a.b=v", help="change one value of the recipe")
    command.add_argument(
        "--resume", choices=["auto", "never"], default="auto", help="go on from the last checkpoint [auto]"
    )
    command.add_argument(
        "--dry-run", action="store_true", help="open the data, take a few steps, say what time and memory the run needs"
    )
    command.add_argument("--json", action="store_true", help="print the folder of the weights, or the costs, as JSON")

    command = arguments.add(
        commands,
        "ablate",
        ablate,
        "train a grid of settings over seeds and compare them; the same command goes on where it was stopped",
        "Finished runs and checkpoints are kept. The same command goes on.",
    )
    command.add_argument(
        "--config",
        type=arguments.path,
        required=True,
        metavar="C.yaml",
        help="an ablation, or a training recipe with --grid",
    )
    command.add_argument("--set", action="append", default=[], metavar="a.b=v", help="change one value in all runs")
    command.add_argument(
        "--grid",
        nargs="+",
        default=[],
        metavar="NAME=CHANGES",
        help='the settings, each with what it changes: "style=losses.content=false losses.teachers=false"',
    )
    command.add_argument(
        "--seeds", nargs="+", type=arguments.whole, default=[], metavar="N", help="[those of the ablation, or 1 2 3]"
    )
    command.add_argument("--output", type=arguments.path, required=True, metavar="DIR", help="folder of all runs")
    command.add_argument("--json", action="store_true", help="print every figure as JSON instead of the table")

    command = arguments.add(commands, "gap", gap, "measure the gap between the modalities, block by block")
    command.add_argument("weights", metavar="WEIGHTS", help="name or folder; with teachers these are measured too")
    command.add_argument(
        "--data",
        type=arguments.path,
        nargs="+",
        metavar="DIR",
        help="annotated clips with both modalities, or with --layout data sets [the shipped clip]",
    )
    command.add_argument(
        "--layout",
        choices=arguments.LAYOUTS,
        metavar="L",
        help=f"how the data sets lie on disk: {', '.join(arguments.LAYOUTS)}",
    )
    command.add_argument("--pairs", type=arguments.positive, default=256, metavar="N", help="[256]")
    command.add_argument("--seed", type=arguments.whole, default=0, metavar="N", help="of the choice of pairs [0]")
    command.add_argument("--json", metavar="F", help="every value in full precision; - prints it instead of the table")
    command.add_argument(
        "--figures", type=arguments.path, metavar="DIR", help="the gap over the blocks, features in 2-D"
    )


def prepare(options: argparse.Namespace) -> int:
    """Prepares pairs for a recipe."""
    from duotrack.training import config, preparation

    recipe = config.load(options.config, options.set)
    facts = preparation.prepare(recipe, options.output, options.pairs, workers=options.workers)
    print(as_json(facts) if options.json else as_lines(facts))
    return 0


def train(options: argparse.Namespace) -> int:
    """Trains a network as a recipe says."""
    import os

    from duotrack.training import config, engine

    recipe = config.load(options.config, options.set)
    leads = os.environ.get("RANK", "0") == "0"  # of the processes of torchrun one speaks
    if options.dry_run:
        from duotrack.training.trial import dry_run

        facts = dry_run(recipe)
        if leads:
            print(as_json(facts) if options.json else as_lines(facts))
        return 0
    folder = engine.train(recipe, resume=options.resume == "auto")
    if leads:
        print(as_json({"weights": str(folder)}) if options.json else folder)
    return 0


def ablate(options: argparse.Namespace) -> int:
    """Trains a grid of settings over seeds and compares them."""
    from duotrack import ablation
    from duotrack.evaluation.report import show

    runs = ablation.load(options.config, options.output, changes=options.set, grid=options.grid, seeds=options.seeds)
    found = ablation.run(runs, options.output)
    if options.json:
        print(found.json(), end="")
    else:
        show(found.table(), narrowest=140)
    print(f"duotrack: wrote {options.output / ablation.SUMMARY}.json, .md, .pdf, .png", file=sys.stderr)
    return 0


def gap(options: argparse.Namespace) -> int:
    """Measures the modality gap of weights."""
    import tempfile
    from pathlib import Path

    from duotrack import analysis
    from duotrack.demo import CLIP
    from duotrack.evaluation.report import show
    from duotrack.progress import bar
    from duotrack.results import write_atomically

    network, crops = analysis.load(options.weights)
    with tempfile.TemporaryDirectory() as cache:
        clips = analysis.open_clips(options.data or [CLIP], Path(cache), options.layout)
        with bar("measuring", options.pairs, "pairs") as advance:
            found = analysis.measure(network, crops, clips, pairs=options.pairs, seed=options.seed, advance=advance)
    if options.json == "-":
        print(found.json(), end="")
    else:
        show(found.table())
    written = analysis.draw(found, options.figures) if options.figures else []
    if options.json not in (None, "-"):
        write_atomically(options.json, found.json())
        written.append(Path(options.json))
    for path in written:
        print(f"duotrack: wrote {path}", file=sys.stderr)
    return 0
