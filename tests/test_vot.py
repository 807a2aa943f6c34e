"""The tracker's side of TraX, against a scripted client: in the process, and as the process that the toolkit starts."""

import io
import os
import socket
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duotrack.sequence import Sequence
from duotrack.tracking import Tracker
from duotrack.vot import compose, parse, serve

FRAMES = 4
BOX = "70.0000,40.0000,24.0000,32.0000"
HELLO = (
    '@@TRAX:hello "trax.version=2" "trax.name=duotrack" "trax.image=path;" "trax.region=rectangle;" '
    '"trax.channels=color;ir;"\n'
)
QUIT = "@@TRAX:quit\n"
COMMAND = [sys.executable, "-m", "duotrack", "vot", "--threads", "1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A patch that moves over a textured ground, as a VOT sequence lays it out; the path has a blank and an umlaut."""
    random = np.random.default_rng(7)
    ground = cv2.resize(random.integers(60, 160, (15, 20, 3), np.uint8), (160, 120), interpolation=cv2.INTER_CUBIC)
    patch = random.integers(0, 256, (4, 3, 3), np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    folder = tmp_path_factory.mktemp("vot") / "tür zwei"
    for channel in ("color", "ir"):
        (folder / channel).mkdir(parents=True)
    for i in range(FRAMES):
        visible, infrared = ground.copy(), np.full((120, 160), 70, np.uint8)
        visible[40:72, 70 + 2 * i : 94 + 2 * i] = patch
        infrared[40:72, 70 + 2 * i : 94 + 2 * i] = 220
        cv2.imwrite(str(folder / f"color/{i + 1:08d}.jpg"), visible)
        cv2.imwrite(str(folder / f"ir/{i + 1:08d}.jpg"), infrared)  # grey, as the infrared images of some stacks are
    return folder


@pytest.fixture(scope="module")
def tracker() -> Tracker:
    return Tracker.from_pretrained("duotrack-tiny", threads=1)


def images(folder: Path, frame: int) -> str:
    return " ".join(f'"file://{folder / channel / f"{frame + 1:08d}.jpg"}"' for channel in ("color", "ir"))


def script(folder: Path) -> list[str]:
    """What a client says to have a sequence tracked, with a blank before the end of a line as the toolkit has it."""
    follow = [f"@@TRAX:frame {images(folder, i)} \n" for i in range(1, FRAMES)]
    return [f'@@TRAX:initialize {images(folder, 0)} "{BOX}" \n', *follow]


def states(text: str) -> list[tuple[list[float], float]]:
    """Boxes and scores of a conversation."""
    found = []
    for line in text.splitlines():
        name, arguments = parse(line)
        assert name == "state"
        region, confidence = arguments
        found.append(([float(number) for number in region.split(",")], float(confidence.removeprefix("confidence="))))
    return found


def expected(tracker: Tracker, folder: Path) -> list[tuple[list[float], float]]:
    sequence = Sequence.open(folder / "color", folder / "ir")
    return [(one.box.tolist(), one.score) for one in tracker.run(sequence, [float(n) for n in BOX.split(",")])]


def assert_tracked(text: str, tracker: Tracker, folder: Path) -> None:
    for (box, score), (right, sure) in zip(states(text), expected(tracker, folder), strict=True):
        np.testing.assert_allclose(box, right, rtol=0, atol=5.1e-5)
        assert score == pytest.approx(sure, abs=5.1e-7)


def test_a_session_gives_the_boxes_of_the_tracker(tracker: Tracker, folder: Path) -> None:
    lines = ["loading\n", *script(folder), *script(folder), "@@TRAX:quit \n", "@@TRAX:frame after the end\n"]
    replies = io.StringIO()
    serve(tracker, io.StringIO("".join(lines)), replies)
    hello, *rest = replies.getvalue().splitlines(keepends=True)
    assert hello == HELLO
    assert_tracked("".join(rest[:FRAMES]), tracker, folder)
    assert rest[:FRAMES] == rest[FRAMES:]  # a second start leaves nothing of the first


def test_a_client_that_hangs_up_ends_the_session(tracker: Tracker, folder: Path) -> None:
    replies = io.StringIO()
    serve(tracker, io.StringIO("".join(script(folder)[:2])), replies)
    assert len(replies.getvalue().splitlines()) == 3


@pytest.mark.parametrize(
    ("said", "saying"),
    [
        ("@@TRAX:frame {frame}\n", "expected initialize first"),
        ("@@TRAX:initialize {frame}\n", "expected initialize first"),
        ('@@TRAX:initialize {frame} "1,2,3"\n', "'1,2,3': expected a rectangle"),
        ('@@TRAX:initialize {frame} "0,0,9,0,9,9,0,9"\n', "expected a rectangle"),
        ('@@TRAX:initialize {frame} "1,2,3,inf"\n', "expected a rectangle"),
        ('@@TRAX:initialize {frame} "500,2,3,4"\n', "lies outside the image"),
        ('@@TRAX:initialize {frame} "{box}" "file:///third.jpg"\n', "expected initialize first"),
        ('@@TRAX:initialize "file:///none.jpg" "file:///none.jpg" "{box}"\n', "/none.jpg cannot be read"),
        ('@@TRAX:initialize "file://a.jpg" "file://a.jpg" "{box}"\n', "an absolute path"),
        ('@@TRAX:initialize "http://h/a.jpg" "http://h/a.jpg" "{box}"\n', "an absolute path"),
        ('@@TRAX:initialize {frame} "{box}"\n@@TRAX:frame "file:///one.jpg"\n', "expected initialize (two images"),
        ('@@TRAX:initialize {frame} "{box}"\n@@TRAX:hello\n', "or quit"),
        ('@@TRAX:initialize {frame} "{box}\n', "quotation mark"),
        ('@@TRAX:initialize {frame} "{box}"', "breaks off"),
        ("x" * 100_000 + "\n", "up to 65536 characters"),
    ],
)
def test_what_the_protocol_does_not_allow_ends_the_session(
    tracker: Tracker, folder: Path, said: str, saying: str
) -> None:
    replies = io.StringIO()
    with pytest.raises(ValueError) as caught:
        serve(tracker, io.StringIO(said.replace("{frame}", images(folder, 0)).replace("{box}", BOX)), replies)
    assert saying in str(caught.value)
    first, *_, last = replies.getvalue().splitlines(keepends=True)
    assert first == HELLO
    assert parse(last) == ("quit", [f"trax.reason={caught.value}"])  # which the toolkit shows


def test_16_bits_are_refused(tracker: Tracker, folder: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "deep.png"), np.zeros((120, 160), np.uint16))
    visible = images(folder, 0).split('" "')[0] + '"'
    said = f'@@TRAX:initialize {visible} "file://{tmp_path / "deep.png"}" "{BOX}"\n'
    with pytest.raises(ValueError, match=r"deep.png is uint16: .* 8 bits"):
        serve(tracker, io.StringIO(said), io.StringIO())


@given(st.text("ab_", min_size=1), st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_arguments_survive_the_line(name: str, arguments: list[str]) -> None:
    line = compose(name, *arguments)
    assert line.count("\n") == 1
    assert parse(line) == (name, arguments)


def test_arguments_as_the_protocol_describes_them() -> None:
    line = r'@@TRAX:frame plain "with blank" "a \"quote\"" "back\\slash" "two\nlines" "key=a b"' + "\r\n"
    arguments = ["plain", "with blank", 'a "quote"', "back\\slash", "two\nlines", "key=a b"]
    assert parse(line) == ("frame", arguments)


# The process


def test_the_command_speaks_over_stdin_and_stdout(tracker: Tracker, folder: Path) -> None:
    with subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == HELLO  # before anything is said
        replies = ""
        for line in script(folder):  # each is answered before the next is asked
            process.stdin.write(line)
            process.stdin.flush()
            replies += process.stdout.readline()
        process.stdin.write(QUIT)
        process.stdin.flush()
        assert process.wait(timeout=60) == 0
        assert process.stdout.read() == ""
    assert_tracked(replies, tracker, folder)


def test_the_command_speaks_over_a_socket(tracker: Tracker, folder: Path) -> None:
    with socket.create_server(("localhost", 0)) as server:
        environment = os.environ | {"TRAX_SOCKET": str(server.getsockname()[1])}
        with subprocess.Popen(COMMAND, env=environment, stdin=subprocess.DEVNULL) as process:
            server.settimeout(60)
            connection, _ = server.accept()
            with connection, connection.makefile("rw", encoding="utf-8", newline="\n") as client:
                assert client.readline() == HELLO
                client.write("".join(script(folder)) + QUIT)
                client.flush()
                replies = client.read()
            assert process.wait(timeout=60) == 0
    assert_tracked(replies, tracker, folder)


def test_an_error_ends_the_command_and_is_said_on_stderr() -> None:
    run = subprocess.run(COMMAND, input="@@TRAX:dance\n", capture_output=True, text=True, timeout=60)
    assert run.returncode == 1
    assert run.stdout == HELLO + "@@TRAX:quit \"trax.reason='@@TRAX:dance' came: expected initialize first\"\n"
    assert run.stderr == "duotrack: error: '@@TRAX:dance' came: expected initialize first\n"
