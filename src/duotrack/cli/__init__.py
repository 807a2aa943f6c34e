"""The command ``duotrack``: parse, call the library, print.

Nothing but the standard library is imported before a command runs, so that ``--help`` answers at once. That is also why
the commands are declared to ``argparse``: deriving them from typed functions with tyro took 19 times the CPU time of a
bare interpreter before the first word of help (measured), argparse takes 3.

A module for each group of commands; in it ``add_to`` declares them, and a function of its name carries each out.

Exit status: 0 done, 1 the work failed, 2 wrong use, 130 interrupted. Results go to stdout, all else to stderr.
"""

import argparse
from collections.abc import Sequence

from duotrack import __version__
from duotrack.cli import evaluation, interchange, machine, tracking, training, weights
from duotrack.cli.speech import fail

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


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status. Wrong use raises ``SystemExit(2)``, as argparse does."""
    options = parser().parse_args(arguments)
    try:
        status: int = options.run(options)
        return status
    except KeyboardInterrupt as stop:
        return fail(f"interrupted. {stop}" if str(stop) else f"interrupted. {options.interrupted}", status=130)
    except ImportError as error:
        if "pip install" in str(error):  # the library has said it better
            return fail(str(error))
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        return fail(f"this needs the package {error.name!r}: pip install 'duotrack[{extra}]'")
    except (ValueError, OSError, ArithmeticError, MemoryError) as error:
        return fail(str(error))


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
    for group in (tracking, evaluation, training, interchange, weights, machine):
        group.add_to(commands)
    return top
