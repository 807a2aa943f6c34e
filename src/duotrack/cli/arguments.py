"""What the command line takes: how commands are declared, and readers of their values.

Nothing but the standard library is imported, and of it little: help is to answer at once.
"""

import argparse
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from pathlib import Path

BENCHMARKS = ("gtot", "rgbt210", "rgbt234", "lasher", "vtuav-st", "vtuav-lt")
"""Names of the benchmarks: known here because a choice of the command line must not import anything."""

LAYOUTS = ("gtot", "rgbt210", "rgbt234", "lasher", "vtuav", "folders")
"""How data with both modalities may lie on disk (:mod:`duotrack.data.folders`)."""

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""What commands are added to."""


def add(
    commands: Commands,
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


def add_runtime(command: argparse.ArgumentParser, threads: int | None = None) -> None:
    """The options that choose what a network runs on."""
    command.add_argument("--backend", choices=["auto", "onnx", "torch", "openvino"], default="auto", help="[auto]")
    command.add_argument("--precision", choices=["fp32", "bf16", "int8"], default="fp32", help="[fp32]")
    what = f"of each process; a setting of the run [{threads}]" if threads else "[as many as there are cores, up to 4]"
    command.add_argument("--threads", type=positive, default=threads, metavar="N", help=f"CPU threads {what}")


def numbers(names: str) -> Callable[[str], tuple[float, ...]]:
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


def path(text: str) -> "Path":
    """A path, which need not exist."""
    from pathlib import Path

    return Path(text)


def names(text: str) -> list[str]:
    """Names with commas between them, or a file with a name a line."""
    import os
    from pathlib import Path

    is_file = os.path.isfile(text)  # Path.is_file fails where the list is longer than a name may be
    lines = Path(text).read_text("utf-8-sig").splitlines() if is_file else text.split(",")
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise argparse.ArgumentTypeError(f"names A,B,C or a file of names is needed, not {text!r}")
    return names


def named_path(text: str) -> "tuple[str, Path]":
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


class NamedPaths(argparse.Action):
    """Collects named paths; two of one name would hide each other."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        """Adds what one use of the option names."""
        paths = dict(getattr(namespace, self.dest) or {})
        for name, path in values:  # type: ignore[attr-defined]  # argparse says object for what `type` made
            if name in paths:
                raise argparse.ArgumentError(
                    self, f"{paths[name]} and {path} are both named {name!r}: name them apart, as in OTHER={path}"
                )
            paths[name] = path
        setattr(namespace, self.dest, paths)


def plain_name(text: str) -> str:
    """A name of a file, without a folder."""
    if text in ("", ".", "..") or "/" in text or "\\" in text:
        raise argparse.ArgumentTypeError(f"a name without / or \\ is needed, not {text!r}")
    return text


def whole(text: str) -> int:
    """A whole number, 0 or above."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"a whole number, 0 or above, is needed, not {text!r}")
    return int(text)


def positive(text: str) -> int:
    """A whole number above 0."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"a whole number above 0 is needed, not {text!r}")
    return int(text)


def size(text: str) -> tuple[int, int]:
    """Width and height, with ``x`` or a comma between them."""
    width, _, height = text.replace("x", ",").partition(",")
    try:
        return positive(width), positive(height)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"width and height such as 640x480 are needed, not {text!r}") from None
