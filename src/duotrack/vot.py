"""A tracker under the VOT toolkit: the tracker's side of TraX, the protocol in which the two talk.

The toolkit starts the tracker as a process and asks; every message is a line that begins with ``@@TRAX:``.

    tracker   hello "trax.version=2" "trax.image=path;" "trax.region=rectangle;" "trax.channels=color;ir;"
    toolkit   initialize "file:///.../color/00000001.jpg" "file:///.../ir/00000001.jpg" "70,40,24,32"
    tracker   state "70,40,24,32"
    toolkit   frame "file:///.../color/00000002.jpg" "file:///.../ir/00000002.jpg"
    tracker   state "72.1,40.2,24.3,31.9" "confidence=0.93"
    toolkit   quit

Version 2 is the first with two channels and the last that is documented; newer toolkits speak it too. Rectangles are
the only regions that are announced, so the toolkit turns polygons and masks into the boxes around them itself.
Source: https://trax.readthedocs.io/en/latest/protocol.html. Nothing of the toolkit or of its libraries is imported.
"""

import contextlib
import math
import os
import re
import socket
import sys
from collections.abc import Iterator
from io import BufferedReader, BufferedWriter, TextIOWrapper
from pathlib import Path
from typing import TextIO

import numpy as np

from duotrack.crops import Box
from duotrack.sequence import Frame, read_image
from duotrack.tracking import Tracker

PREFIX = "@@TRAX:"

LONGEST_LINE = 1 << 16
"""Characters; two paths and a box need far fewer."""

_ARGUMENT = re.compile(r'"((?:[^"\\]|\\.)*)"|([^\s"]+)')
_NAMED = re.compile(r"[A-Za-z0-9._]{1,64}=.*", re.DOTALL)
_ESCAPES = {"\\n": "\n", '\\"': '"', "\\\\": "\\"}


class TraxError(ValueError):
    """A message that the protocol does not allow here; the text says what came and what was expected."""


def serve(tracker: Tracker, requests: TextIO, replies: TextIO) -> None:
    """Tracks as a TraX client asks, until it quits or hangs up.

    Whatever goes wrong ends the session, as the protocol demands: ``quit`` is sent, with the reason, and the error
    raised.

    Raises:
        ValueError: if a message, an image or a box is not as it must be.
        OSError: if the connection breaks.
    """
    capabilities = "trax.version=2", "trax.name=duotrack", "trax.image=path;", "trax.region=rectangle;"
    _send(replies, "hello", *capabilities, "trax.channels=color;ir;")
    started = False
    try:
        while (line := requests.readline(LONGEST_LINE)).endswith("\n"):
            if not line.startswith(PREFIX):
                continue
            match parse(line):
                case "initialize", [visible, infrared, region, *named] if _all_named(named):
                    box = _box(region)
                    tracker.initialize(_frame(visible, infrared), box)
                    started = True
                    _state(replies, box, 1.0)
                case "frame", [visible, infrared, *named] if started and _all_named(named):
                    estimate = tracker.update(_frame(visible, infrared))
                    _state(replies, estimate.box, estimate.score)
                case "quit", _:
                    return
                case _:
                    expected = "initialize (two images and a box), frame (two images) or quit"
                    raise TraxError(f"{_short(line)} came: expected {expected if started else 'initialize first'}")
        if line:
            raise TraxError(f"{_short(line)} breaks off: expected whole lines of up to {LONGEST_LINE} characters")
    except Exception as error:
        with contextlib.suppress(OSError):
            _send(replies, "quit", f"trax.reason={error}")
        raise


@contextlib.contextmanager
def connect() -> Iterator[tuple[TextIO, TextIO]]:
    """Opens the connection that the client has chosen: a port of this machine (``TRAX_SOCKET``), else stdin and stdout.

    Raises:
        TraxError: if ``TRAX_SOCKET`` is no port.
        OSError: if nobody listens there.
    """
    port = os.environ.get("TRAX_SOCKET")
    with contextlib.ExitStack() as stack:
        if port is None:
            requests = stack.enter_context(open(sys.stdin.fileno(), "rb", closefd=False))
            replies = stack.enter_context(open(sys.stdout.fileno(), "wb", closefd=False))
        elif not port.isdecimal():
            raise TraxError(f"TRAX_SOCKET is {port!r}: expected the number of a port")
        else:
            try:
                connection = stack.enter_context(socket.create_connection(("localhost", int(port))))
            except (OSError, OverflowError) as error:
                raise ConnectionError(f"nobody answers at port {port}, which TRAX_SOCKET names: {error}") from error
            requests, replies = connection.makefile("rb"), connection.makefile("wb")
        yield _text(requests), _text(replies)


def _text(stream: BufferedReader | BufferedWriter) -> TextIO:
    # Paths are bytes: what is no UTF-8 must reach the file system as it came.
    return TextIOWrapper(stream, "utf-8", "surrogateescape", newline="\n")


def parse(line: str) -> tuple[str, list[str]]:
    """Takes a message apart: its name and its arguments, without quotes and escapes.

    Raises:
        TraxError: if the quotes do not match.
    """
    name, _, rest = line.removeprefix(PREFIX).strip().partition(" ")
    arguments, position = [], 0
    while position < len(rest):
        if rest[position].isspace():
            position += 1
        elif match := _ARGUMENT.match(rest, position):
            quoted, plain = match.groups()
            arguments.append(plain or re.sub(r"\\.", lambda escape: _ESCAPES.get(escape[0], escape[0]), quoted))
            position = match.end()
        else:
            raise TraxError(f"{_short(line)} cannot be read: a quotation mark is left open")
    return name, arguments


def compose(name: str, *arguments: str) -> str:
    """Puts a message together, a line; :func:`parse` takes it apart again."""
    escaped = (a.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for a in arguments)
    return " ".join([PREFIX + name, *(f'"{argument}"' for argument in escaped)]) + "\n"


def _send(replies: TextIO, name: str, *arguments: str) -> None:
    replies.write(compose(name, *arguments))
    replies.flush()


def _state(replies: TextIO, box: Box, score: float) -> None:
    _send(replies, "state", ",".join(f"{value:.4f}" for value in box), f"confidence={score:.6f}")


def _all_named(arguments: list[str]) -> bool:
    """Whether what follows the mandatory arguments is optional: key=value."""
    return all(_NAMED.fullmatch(argument) for argument in arguments)


def _box(region: str) -> Box:
    try:
        values = [float(number) for number in region.split(",")]
    except ValueError:
        values = []
    if len(values) != 4 or not all(map(math.isfinite, values)):
        raise TraxError(f"the region is {_short(region)}: expected a rectangle, left,top,width,height")
    return np.array(values)


def _frame(visible: str, infrared: str) -> Frame:
    images = []
    for url in (visible, infrared):
        path = Path(url.removeprefix("file://"))
        if not url.startswith("file://") or not path.is_absolute():
            raise TraxError(f"the image is {_short(url)}: expected file:// and an absolute path")
        image = read_image(path)
        if image.dtype != np.uint8:
            raise TraxError(f"{path} is {image.dtype}: the RGB-T stacks have images of 8 bits")
        images.append(image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2))
    return Frame(*images)


def _short(text: str) -> str:
    text = text.rstrip()
    return repr(text if len(text) <= 120 else text[:120] + "...")
