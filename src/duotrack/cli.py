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
}
"""Modules that the base installation lacks, and the extra that brings each."""


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
    except (ValueError, OSError, ArithmeticError) as error:
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
    """Tracks one object through a pair of folders or videos."""
    from statistics import median

    from duotrack import pretrained
    from duotrack.progress import bar, watched
    from duotrack.sequence import Sequence
    from duotrack.tracking import Tracker, record

    folder = pretrained.locate(options.weights)
    sequence = Sequence.open(options.visible, options.infrared, thermal_range=options.thermal_range)
    tracker = Tracker.from_pretrained(folder, backend=options.backend, threads=options.threads)
    options.output.mkdir(parents=True, exist_ok=True)

    info = {
        "source": {"visible": str(options.visible), "infrared": str(options.infrared)},
        "thermal_range": options.thermal_range,
        "weights": {"name": options.weights, "sha256": pretrained.sha256(folder / pretrained.WEIGHTS)},
    }
    with bar("tracking", len(sequence)) as advance:
        result = record(tracker, sequence, options.box, info, advance)

    name = options.name or sequence.name
    written = {}
    if options.video:  # before the track, so that an interrupted run has written nothing
        from duotrack import visualize

        written["video"] = options.output / f"{name}.mp4"
        fps = sequence.fps or 30.0
        visualize.write_video(written["video"], watched("drawing", sequence), result.boxes, result.scores, fps=fps)
    written["track"] = result.save(options.output, name)
    if options.json:
        figures = {"frames": len(result), "median_milliseconds": median(result.milliseconds.tolist())}
        print(_json({kind: str(path) for kind, path in written.items()} | figures))
    else:
        print(*written.values(), sep="\n")
    return 0


def train(options: argparse.Namespace) -> int:
    """Trains a network as a recipe says."""
    from duotrack.training import config, engine

    print(engine.train(config.load(options.config, options.set), resume=options.resume == "auto"))
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
        "track one object through any pair of folders or videos",
        "Nothing was written. The same command starts again.",
    )
    command.add_argument("visible", type=_path, metavar="VISIBLE", help="folder of images, or a video")
    command.add_argument("infrared", type=_path, metavar="INFRARED", help="the same moments in infrared")
    command.add_argument(
        "--box",
        type=_numbers("X,Y,W,H"),
        required=True,
        metavar="X,Y,W,H",
        help="the object in the first frame: left, top, width, height in pixels of the visible image "
        "(where X is negative: --box=-8,40,24,32)",
    )
    command.add_argument("--weights", default="duotrack-tiny", metavar="W", help="name or folder [duotrack-tiny]")
    command.add_argument("--output", type=_path, default="tracks", metavar="DIR", help="[tracks]")
    command.add_argument("--name", type=_plain_name, help="of the files that are written [that of the sequence]")
    command.add_argument("--video", action="store_true", help="also write a video with the boxes")
    command.add_argument("--backend", choices=["auto", "onnx", "torch"], default="auto", help="[auto]")
    command.add_argument("--threads", type=_positive, metavar="N", help="CPU threads [as many as there are cores]")
    command.add_argument(
        "--thermal-range",
        type=_numbers("LOW,HIGH"),
        metavar="LOW,HIGH",
        help="16-bit infrared: raw values that become black and white [the range of the first frame]",
    )
    command.add_argument("--json", action="store_true", help="print what was written as JSON")

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

    command = _command(commands, "doctor", doctor, "say what this installation can do")
    command.add_argument("--json", action="store_true", help="print it as JSON")
    return top


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


def _plain_name(text: str) -> str:
    if text in ("", ".", "..") or "/" in text or "\\" in text:
        raise argparse.ArgumentTypeError(f"a name without / or \\ is needed, not {text!r}")
    return text


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"a whole number above 0 is needed, not {text!r}")
    return int(text)


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
