import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from duotrack.sequence import Frame
from duotrack.visualize import TRACKER, TRUTH, draw_frame, plot_track, write_video

NAN_BOX = (np.nan,) * 4


def frame(width: int = 101, height: int = 75, level: int = 100) -> Frame:
    return Frame(np.full((height, width, 3), level, np.uint8), np.full((height, width, 3), level // 2, np.uint8))


def places(picture: Any, color: tuple[int, int, int]) -> Any:
    """Rows and columns of the pixels of one colour."""
    return np.argwhere((np.abs(picture.astype(int) - color) < 30).all(axis=2))


def read(path: Path) -> list[Any]:
    with av.open(str(path)) as container:
        return [picture.to_ndarray(format="rgb24") for picture in container.decode(video=0)]


@pytest.mark.parametrize(("width", "height", "scale"), [(101, 75, 7), (320, 240, 2), (640, 480, 1), (3840, 2160, 0.5)])
def test_small_images_are_enlarged_and_sides_are_even(width: int, height: int, scale: float) -> None:
    picture = draw_frame(frame(width, height), NAN_BOX, 0.5, number=0)
    assert picture.dtype == np.uint8
    assert picture.shape[0] % 2 == picture.shape[1] % 2 == 0
    strips, gap = picture.shape[0] - scale * height, picture.shape[1] - 2 * scale * width
    assert 60 <= strips <= 160
    assert 0 < gap <= 16


def test_the_box_is_drawn_in_both_images_where_it_is() -> None:
    picture = draw_frame(frame(320, 240), (40, 60, 100, 80), 0.0, number=0)
    found = places(picture[36:516], TRACKER)  # between the strips
    visible, infrared = found[found[:, 1] < 640], found[found[:, 1] >= 640] - [0, 644]
    for panel in (visible, infrared):
        np.testing.assert_allclose(panel.min(axis=0), (120, 80), atol=2)
        np.testing.assert_allclose(panel.max(axis=0), (280, 280), atol=2)


def test_a_box_with_nan_is_not_drawn() -> None:
    picture = draw_frame(frame(320, 240), NAN_BOX, 0.5, number=0, ground_truth=NAN_BOX)
    assert not len(places(picture[36:516], TRACKER))
    assert not len(places(picture[36:516], TRUTH))


def test_the_ground_truth_is_thinner_than_the_box() -> None:
    picture = draw_frame(frame(320, 240), (10, 10, 50, 50), 0.5, number=0, ground_truth=(100, 100, 50, 50))[36:516]
    assert 0 < len(places(picture, TRUTH)) < len(places(picture, TRACKER))


def test_the_bar_grows_with_the_score() -> None:
    lengths = []
    for score in (np.nan, 0.0, 0.25, 0.5, 1.0, 7.0):
        bottom = draw_frame(frame(320, 240), NAN_BOX, score, number=0)[-36:]
        lengths.append(len(set(places(bottom, TRACKER)[:, 1])))
    np.testing.assert_allclose(lengths, [0, 0, 28, 56, 111, 111], atol=2)


def test_the_frame_itself_stays_as_it_was() -> None:
    original = frame(640, 480)
    draw_frame(original, (10, 10, 50, 50), 0.5, number=0)
    assert (original.visible == 100).all()


def test_a_video_that_browsers_play(tmp_path: Path) -> None:
    def frames() -> Iterator[Frame]:
        yield from (frame(64, 48, 40 * number) for number in range(6))

    path = tmp_path / "new" / "walk.mp4"
    notes = (f"note {number}" for number in range(6))
    truth = ([8, 8, 16, 16] for _ in range(6))
    write_video(path, frames(), [(8, 8, 16, 16)] * 6, np.linspace(0, 1, 6), fps=12.5, ground_truth=truth, notes=notes)
    assert [file.name for file in path.parent.iterdir()] == ["walk.mp4"]
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt, stream.frames) == ("h264", "yuv420p", 6)
        assert stream.average_rate == 12.5
        assert stream.width % 2 == stream.height % 2 == 0
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat"), "the index has to come before the pictures"
    levels = [picture[300, 20].mean() for picture in read(path)]
    np.testing.assert_allclose(levels, [0, 40, 80, 120, 160, 200], atol=6)


def test_colours_survive_the_video(tmp_path: Path) -> None:
    red = np.zeros((480, 640, 3), np.uint8)
    red[:] = (220, 30, 40)
    write_video(tmp_path / "red.mp4", [Frame(red, red)], [NAN_BOX], [0.5], fps=25)
    capture = cv2.VideoCapture(str(tmp_path / "red.mp4"))  # another reader, which looks at the colour tags too
    shown = read(tmp_path / "red.mp4")[0] if not capture.isOpened() else capture.read()[1][..., ::-1]
    np.testing.assert_allclose(shown[200, 200], (220, 30, 40), atol=8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": []}, "boxes and scores end|frames end"),
        ({"boxes": [(1, 1, 2, 2)] * 2}, "boxes end before frame 2"),
        ({"scores": [0.5] * 4}, "frames and boxes end before frame 3"),
        ({"notes": [""]}, "notes end before frame 1"),
        ({"fps": 0}, "fps is 0"),
        ({"fps": float("nan")}, "fps is nan"),
    ],
)
def test_bad_input_to_a_video_is_refused_and_leaves_no_file(tmp_path: Path, change: Any, message: str) -> None:
    arguments: dict[str, Any] = {"frames": [frame()] * 3, "boxes": [(1, 1, 9, 9)] * 3, "scores": [0.5] * 3, "fps": 25}
    with pytest.raises(ValueError, match=message):
        write_video(tmp_path / "walk.mp4", **{**arguments, **change})
    assert not list(tmp_path.iterdir())


def test_a_video_without_frames_or_with_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no frames"):
        write_video(tmp_path / "walk.mp4", [], [], [], fps=25)
    with pytest.raises(ValueError, match=r"\.mp4"):
        write_video(tmp_path / "walk.avi", [frame()], [NAN_BOX], [0.5], fps=25)
    assert not list(tmp_path.iterdir())


def test_a_plot_names_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    monkeypatch.setitem(matplotlib.rcParams, "svg.fonttype", "none")  # writing as text
    scores, ious = np.linspace(0, 1, 50), np.linspace(1, 0, 50)
    ious[20:30] = np.nan
    plot_track(tmp_path / "a.svg", scores, ious=ious, hidden=[(5, 9), (15, 30)], title="walk")
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", (tmp_path / "a.svg").read_text())
    assert {"walk", "frame", "score, IoU", "score", "IoU with the ground truth"} <= set(texts)
    assert texts.count("hidden from the visible camera") == 1
    assert {"0.00", "1.00"} <= set(texts)
    plot_track(tmp_path / "b.svg", scores)
    assert not re.search("IoU|hidden", (tmp_path / "b.svg").read_text())


def test_plotting_needs_no_window_system(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    code = (
        "import sys, numpy as np; from duotrack.visualize import plot_track; "
        f"plot_track({str(tmp_path / 'a.svg')!r}, np.ones(3)); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_plot_as_png(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plot_track(tmp_path / "new" / "a.png", [0.5])
    picture = cv2.imread(str(tmp_path / "new" / "a.png"))
    assert picture is not None
    assert picture.shape[1] > 1000
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["a.png"]


def test_bad_input_to_a_plot_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="png or svg"):
        plot_track(tmp_path / "a.jpg", [0.5])
    with pytest.raises(ValueError, match="a number a frame"):
        plot_track(tmp_path / "a.png", [0.5, 0.5], ious=[0.5])
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install \"duotrack\[report\]\""):
        plot_track(tmp_path / "a.png", [0.5])
    assert not list(tmp_path.iterdir())
