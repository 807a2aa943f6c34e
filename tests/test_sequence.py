import gc
import subprocess
import sys
import weakref
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duotrack.sequence import Frame, Sequence, SequenceError, check_box

WIDTH, HEIGHT = 48, 32


def grey(level: int, dtype: Any = np.uint8, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Any:
    return np.full((size[1], size[0]), level, dtype)


def write_images(folder: Path, images: list[Any], pattern: str = "frame{}.png") -> Path:
    folder.mkdir()
    for number, image in enumerate(images):
        assert cv2.imwrite(str(folder / pattern.format(number)), image)
    return folder


def write_clip(
    path: Path,
    count: int = 40,
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: Any = None,
    rate: int = 25,
) -> Path:
    """A clip whose frame i is grey of level 5 i, or 50 i + 1000 in 16 bits."""
    with av.open(str(path), "w", options={"movflags": "+faststart"} if path.suffix == ".mp4" else {}) as container:
        stream: Any = container.add_stream(codec, rate=Fraction(rate), options=options or {})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pix_fmt
        for number in range(count):
            if pix_fmt == "gray16le":
                image = grey(50 * number + 1000, np.uint16)
                image[:, 0] = np.random.default_rng(number).integers(0, 500, HEIGHT)
                frame = av.VideoFrame.from_ndarray(image, format="gray16le")
            else:
                image = np.repeat(grey(5 * number)[..., None], 3, 2)
                image[:, :8] = np.random.default_rng(number).integers(0, 255, (HEIGHT, 8, 3))
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def numbers(sequence: Sequence) -> list[int]:
    """Which frame of the clip each frame is, read off its grey level."""
    return [round(float(np.median(frame.visible)) / 5) for frame in sequence]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """H.264 with B-frames and a key frame every 12."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return write_clip(path, options={"g": "12", "bf": "3", "crf": "10"})


# Folders


def test_a_folder_in_natural_order(tmp_path: Path) -> None:
    visible = write_images(tmp_path / "visible", [grey(5 * number) for number in range(12)])
    (visible / "notes.txt").write_text("no image")
    (visible / "._frame0.png").write_text("left by another system")
    infrared = write_images(tmp_path / "infrared", [grey(number) for number in range(12)], "{:03d}.BMP")
    sequence = Sequence.open(visible, str(infrared))
    assert len(sequence) == 12
    assert numbers(sequence) == list(range(12))
    assert [int(frame.infrared[0, 0, 0]) for frame in sequence] == list(range(12))
    assert (sequence.size, sequence.fps, sequence.name) == ((WIDTH, HEIGHT), None, tmp_path.name)


@pytest.mark.parametrize("suffix", ["jpg", "JPEG", "png", "bmp", "tif", "TIFF"])
def test_every_kind_of_image_becomes_rgb(tmp_path: Path, suffix: str) -> None:
    colour = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    colour[:] = (30, 60, 200)  # OpenCV writes blue, green, red
    folder = write_images(tmp_path / "a", [colour], "0." + suffix)
    frame = Sequence.open(folder, folder)[0]
    assert frame.visible.dtype == np.uint8
    np.testing.assert_allclose(frame.visible[5, 5], (200, 60, 30), atol=3)


def test_alpha_is_dropped_and_grey_is_repeated(tmp_path: Path) -> None:
    alpha = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    alpha[:] = (30, 60, 200, 0)
    sequence = Sequence.open(write_images(tmp_path / "a", [alpha]), write_images(tmp_path / "b", [grey(77)]))
    assert (sequence[0].visible == (200, 60, 30)).all()
    assert (sequence[0].infrared == 77).all()


def test_sixteen_bits_go_through_one_map_for_the_whole_sequence(tmp_path: Path) -> None:
    # 1st and 99th percentile of 0..100 * 10 + 20000 are 20010 and 20990: the span of 980 grows by 490 each way.
    ramp = np.repeat(20000 + 10 * np.arange(101, dtype=np.uint16)[None], 101, 0)
    warmer = ramp + np.uint16(300)
    visible = write_images(tmp_path / "visible", [np.zeros((101, 101), np.uint8)] * 3)
    infrared = write_images(tmp_path / "infrared", [ramp, warmer, np.full_like(ramp, 65535)], "{}.tif")
    first, second, hot = Sequence.open(visible, infrared)
    expected = (ramp - (20010 - 490.0)) / (1960 + 0.0) * 255
    np.testing.assert_allclose(first.infrared[..., 0], expected, atol=0.51)
    np.testing.assert_allclose(second.infrared[..., 0], expected + 300 / 1960 * 255, atol=0.51)
    assert (hot.infrared == 255).all()
    np.testing.assert_array_equal(Sequence.open(visible, infrared)[1:][0].infrared, second.infrared)
    by_hand = Sequence.open(visible, infrared, thermal_range=(20000, 20510))
    np.testing.assert_allclose(by_hand[0].infrared[0, :52, 1], np.arange(52) * 5, atol=0.51)


@pytest.mark.parametrize("level", [0, 3000, 65535])
def test_a_constant_first_frame_of_sixteen_bits(tmp_path: Path, level: int) -> None:
    folder = write_images(tmp_path / "a", [grey(level, np.uint16), grey(min(level + 64, 65535), np.uint16)])
    first, second = Sequence.open(folder, folder)
    assert first.visible.min() == first.visible.max()
    assert second.visible[0, 0, 0] >= first.visible[0, 0, 0]
    if level == 3000:
        np.testing.assert_allclose([first.visible[0, 0, 0], second.visible[0, 0, 0]], [127.5, 191.25], atol=1)


# Videos


CONTAINERS = [
    ("clip.mp4", "libx264", "yuv420p", {"g": "12", "bf": "3"}),
    ("open_groups.mkv", "libx264", "yuv420p", {"g": "12", "bf": "3", "x264-params": "open-gop=1"}),
    ("clip.ts", "libx264", "yuv420p", {"g": "12", "bf": "2"}),
    ("clip.avi", "mpeg4", "yuv420p", {"g": "12", "bf": "2", "b": "2M"}),
    ("clip.mov", "mjpeg", "yuvj420p", {}),
    ("no_time_stamps.h264", "libx264", "yuv420p", {"g": "12", "bf": "2"}),
]


@pytest.mark.parametrize(("name", "codec", "pix_fmt", "options"), CONTAINERS)
def test_every_frame_of_a_video_by_every_way(tmp_path: Path, name: str, codec: str, pix_fmt: str, options: Any) -> None:
    path = write_clip(tmp_path / name, codec=codec, pix_fmt=pix_fmt, options=options)
    sequence = Sequence.open(path, path)
    assert len(sequence) == 40
    streamed = [frame.visible for frame in sequence]
    assert numbers(sequence) == list(range(40))
    for index in (39, 0, 1, 2, 13, 12, 11, 23, 24, 25, 37, 5, -1, -40):
        np.testing.assert_array_equal(sequence[index].visible, streamed[index], err_msg=str(index))


def test_slices_are_views(clip: Path) -> None:
    sequence = Sequence.open(clip, clip)
    assert numbers(sequence[5:9]) == [5, 6, 7, 8]
    assert numbers(sequence[30:][::3]) == [30, 33, 36, 39]
    assert numbers(sequence[3::-1]) == [3, 2, 1, 0]
    assert numbers(sequence[20:10]) == []
    view = sequence[10:20]
    assert len(view) == 10
    assert (view.name, view.fps, view.size) == ("clip", 25, (WIDTH, HEIGHT))
    np.testing.assert_array_equal(view[-1].visible, sequence[19].visible)
    for index in (10, -11):
        with pytest.raises(IndexError, match="of a sequence of 10 frames"):
            view[index]


def test_iterations_do_not_disturb_each_other(clip: Path) -> None:
    with Sequence.open(clip, clip) as sequence:
        seen = [
            tuple(round(float(np.median(frame.visible)) / 5) for frame in (first, second, sequence[30]))
            for first, second in zip(sequence[:3], sequence[20:23], strict=True)
        ]
    assert seen == [(0, 20, 30), (1, 21, 30), (2, 22, 30)]


def test_a_folder_and_a_video(tmp_path: Path, clip: Path) -> None:
    folder = write_images(tmp_path / "walk", [grey(5 * number) for number in range(40)])
    sequence = Sequence.open(folder, clip)
    assert numbers(sequence) == list(range(40))
    assert sequence.fps == 25


def test_video_of_sixteen_bits(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mkv", 20, codec="ffv1", pix_fmt="gray16le")
    sequence = Sequence.open(path, path, thermal_range=(1000, 2020))
    assert [int(frame.infrared[4, 4, 0]) for frame in sequence] == [round(12.5 * number) for number in range(20)]
    assert sequence[7].infrared[4, 4, 0] == round(12.5 * 7)


def test_a_trimmed_mp4_starts_where_players_start(tmp_path: Path, clip: Path) -> None:
    trimmed = tmp_path / "trimmed.mp4"
    options = {"avoid_negative_ts": "disabled", "use_editlist": "1"}
    with av.open(str(clip)) as source, av.open(str(trimmed), "w", options=options) as target:
        video = source.streams.video[0]
        copy = target.add_stream_from_template(video)
        for packet in source.demux(video):
            if packet.dts is not None and packet.pts is not None and video.time_base is not None:
                shift = round(15 / 25 / video.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, copy
                target.mux(packet)
    sequence = Sequence.open(trimmed, trimmed)
    assert numbers(sequence) == list(range(15, 40))
    assert round(float(np.median(sequence[14].visible)) / 5) == 29


def test_a_demo_pair(shared: Path) -> None:
    folder = shared / "data" / "demo_clip"
    sequence = Sequence.open(folder / "visible.mp4", folder / "infrared.mp4")
    assert (len(sequence), sequence.size, sequence.fps, sequence.name) == (360, (320, 240), 30, "demo_clip")
    capture = cv2.VideoCapture(str(folder / "visible.mp4"))
    for index, frame in enumerate(sequence[:5]):
        difference = cv2.absdiff(frame.visible, np.ascontiguousarray(capture.read()[1][..., ::-1]))
        assert float(difference.mean()) < 3, index  # two converters from YUV


# What is refused


def refused(message: str) -> Any:
    return pytest.raises(SequenceError, match=message)


def test_missing_and_empty_sources(tmp_path: Path, clip: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("")
    (tmp_path / "text.mp4").write_text("no video at all")
    image = write_images(tmp_path / "a", [grey(0)]) / "frame0.png"
    with refused("nowhere does not exist: expected a folder of images or a video"):
        Sequence.open(tmp_path / "nowhere", clip)
    with refused("empty holds no images: expected .jpg"):
        Sequence.open(clip, tmp_path / "empty")
    with refused(r"text\.mp4 cannot be opened as a video .* Copy it again"):
        Sequence.open(clip, tmp_path / "text.mp4")
    with refused("single image: name the folder"):
        Sequence.open(image, image)


def test_unequal_lengths(tmp_path: Path) -> None:
    long = write_images(tmp_path / "visible", [grey(0)] * 5)
    short = write_images(tmp_path / "infrared", [grey(0)] * 3)
    with refused(r"has 5 frames, .* has 3: .*visible.frame3\.png \(frame 3\) has no partner\. Cut the longer"):
        Sequence.open(long, short)


def test_unequal_sizes_between_the_two(tmp_path: Path) -> None:
    visible = write_images(tmp_path / "visible", [grey(0)])
    infrared = write_images(tmp_path / "infrared", [grey(0, size=(20, 10))])
    with refused(r"48 x 32 .*visible.* 20 x 10 .*infrared.* Register the pair, or resize it"):
        Sequence.open(visible, infrared)


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        (grey(0, size=(20, 10)), "is 20 x 10, the frames before it are 48 x 32"),
        (grey(0, np.uint16), "is uint16, the frames before it are uint8"),
        (grey(0, np.float32), "is float32: convert"),
    ],
)
def test_an_odd_image_within_a_folder(tmp_path: Path, odd: Any, message: str) -> None:
    folder = write_images(tmp_path / "a", [grey(0), grey(0), odd], "{}.tif")
    sequence = Sequence.open(folder, folder)
    assert sequence[1].size == (WIDTH, HEIGHT)
    with refused(r"2\.tif \(frame 2\) " + message):
        list(sequence)


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "tif"])
@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9])
def test_an_image_that_was_cut_off(tmp_path: Path, suffix: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    folder = write_images(tmp_path / "a", [noise, noise], "{}." + suffix)
    file = folder / f"1.{suffix}"
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
    with refused(rf"1\.{suffix} \(frame 1\) (is truncated|cannot be decoded)"):
        Sequence.open(folder, folder)[1]


def test_a_jpeg_with_a_thumbnail_that_was_cut_off(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    data = cv2.imencode(".jpg", noise)[1].tobytes()
    segment = b"\xff\xe1" + (len(data) + 2).to_bytes(2, "big") + data  # a whole JPEG, with its end, in the header
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "0.jpg").write_bytes(data[:2] + segment + data[2:] + b"\0\0\0")  # padding after the end is harmless
    (folder / "1.jpg").write_bytes((data[:2] + segment + data[2:])[:-500])
    sequence = Sequence.open(folder, folder)
    assert sequence[0].size == (WIDTH, HEIGHT)
    with refused(r"1\.jpg \(frame 1\) is truncated"):
        sequence[1]


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.avi", "mjpeg")])
def test_a_video_that_breaks_off(tmp_path: Path, name: str, codec: str) -> None:
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = write_clip(tmp_path / name, codec=codec, pix_fmt=pix_fmt, options={"g": "12"})
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    with refused(rf"{name} breaks off at frame [123]\d.* Copy it again"):
        Sequence.open(path, path)


@pytest.mark.parametrize(
    ("name", "codec", "kept"),
    [
        ("a.mp4", "libx264", 0.0),  # the decoder complains
        ("a.mp4", "libx264", 0.5),  # the decoder makes the rest up and marks the frame
        ("a.avi", "mpeg4", 0.1),  # the decoder leaves the frame out
    ],
)
def test_a_video_that_is_damaged_inside(tmp_path: Path, name: str, codec: str, kept: float) -> None:
    path = write_clip(tmp_path / name, codec=codec, options={"g": "12", "bf": "0"})
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packet = [bytes(packet) for packet in container.demux(video=0) if packet.size][20]
    start, end = data.index(packet) + max(4, int(len(packet) * kept)), data.index(packet) + len(packet)
    data[start:end] = bytes(end - start)
    path.write_bytes(data)
    sequence = Sequence.open(path, path)
    assert sequence[19].size == (WIDTH, HEIGHT)
    with refused(rf"frame 20 of .*{name} cannot be decoded .the video has 40 frames"):
        list(sequence)


def test_a_playlist_does_not_open_an_address(tmp_path: Path) -> None:
    path = tmp_path / "list.m3u8"
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    with refused(r"list\.m3u8"):
        Sequence.open(path, path)


@pytest.mark.parametrize("ends", [(5, 5), (9, 1), (float("nan"), 1), (0, float("inf"))])
def test_a_thermal_range_that_is_none(clip: Path, ends: tuple[float, float]) -> None:
    with refused("expected two counts, the lower one first"):
        Sequence.open(clip, clip, thermal_range=ends)


def test_a_thermal_range_for_eight_bits(clip: Path) -> None:
    with refused("is uint8: thermal_range is for 16-bit images only"):
        Sequence.open(clip, clip, thermal_range=(0, 100))


@pytest.mark.parametrize(
    ("visible", "infrared", "message"),
    [
        (np.zeros((4, 6, 3), np.uint8), np.zeros((4, 5, 3), np.uint8), "6 x 4.*5 x 4.*Register the pair"),
        (np.zeros((4, 6), np.uint8), np.zeros((4, 6, 3), np.uint8), r"visible image is uint8 of shape \(4, 6\)"),
        (np.zeros((4, 6, 3), np.uint8), np.zeros((4, 6, 3)), "infrared image is float64"),
    ],
)
def test_a_frame_checks_its_images(visible: Any, infrared: Any, message: str) -> None:
    with refused(message):
        Frame(visible, infrared)


# Names, boxes, imports


@pytest.mark.parametrize(
    ("visible", "infrared", "name"),
    [
        ("walk/visible.mp4", "walk/infrared.mp4", "walk"),
        ("rgb/walk.mp4", "ir/walk.mp4", "walk"),
        ("walk_rgb.mp4", "walk_ir.mp4", "walk"),
        ("night_walk-v.mp4", "night_walk-i.mp4", "night_walk"),
        ("a/first.mp4", "b/second.mp4", "first"),
    ],
)
def test_the_name_is_what_both_have_in_common(
    tmp_path: Path, clip: Path, visible: str, infrared: str, name: str
) -> None:
    for path in (visible, infrared):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(clip.read_bytes())
    assert Sequence.open(tmp_path / visible, tmp_path / infrared).name == name


@pytest.mark.parametrize("box", [(0, 0, 1, 1), (-5, -5, 6, 6), (99.5, 49.5, 10, 10), [10, 10, 20, 1000]])
def test_boxes_to_start_with(box: Any) -> None:
    np.testing.assert_array_equal(check_box(box, (100, 50)), np.array(box, np.float64))


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((1, 2, 3), "not four finite numbers"),
        ((1, 2, float("nan"), 4), "not four finite numbers"),
        ((1, 2, float("inf"), 4), "not four finite numbers"),
        ((1, 2, 0, 4), "no area"),
        ((1, 2, 3, -4), "no area"),
        ((100, 2, 3, 4), "outside"),
        ((-3, 2, 3, 4), "outside"),
        ((5, 50, 3, 4), "outside"),
        ("abcd", "not made of numbers"),
        (None, "not four finite numbers|not made of numbers"),
        ([[1, 2], [3]], "not made of numbers"),
    ],
)
def test_boxes_not_to_start_with(box: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"({message}).*expected x, y, w, h .* image of 100 x 50"):
        check_box(box, (100, 50))


@given(*[st.floats(-200, 200)] * 2, *[st.floats(0.01, 300)] * 2)
def test_a_box_is_taken_exactly_when_it_overlaps(x: float, y: float, w: float, h: float) -> None:
    overlaps = x < 100 and y < 50 and x + w > 0 and y + h > 0
    if overlaps:
        assert check_box((x, y, w, h), (100, 50)).dtype == np.float64
    else:
        with pytest.raises(ValueError, match="outside"):
            check_box((x, y, w, h), (100, 50))


def test_memory_does_not_grow_with_length(clip: Path) -> None:
    sequence = Sequence.open(clip, clip)
    alive = [weakref.ref(frame) for frame in sequence]
    gc.collect()
    assert sum(frame() is not None for frame in alive) <= 1


def test_importing_is_light() -> None:
    code = "import sys, duotrack.sequence; print([m for m in ('av', 'matplotlib', 'torch') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
