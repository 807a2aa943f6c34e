"""The command as a user meets it: every test runs ``duotrack`` as a process of its own."""

import json
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt
import pytest

from duotrack.demo import CLIP
from duotrack.results import Track, read_boxes

FRAMES = 12
BOX = "70,40,24,32"

Images = npt.NDArray[np.uint8]


def command(*arguments: object, before: str = "") -> list[str]:
    """The command line that runs ``duotrack``, after some Python has run in the same process."""
    code = f"import sys\n{before}\nfrom duotrack.cli import main\nsys.exit(main())"
    return [sys.executable, "-c", code, *map(str, arguments)]


def run(*arguments: object, before: str = "", cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments, before=before), capture_output=True, text=True, timeout=300, cwd=cwd)


def fails(*arguments: object, status: int = 1, saying: str | tuple[str, ...]) -> None:
    """The command exits with this status and an error on stderr that says all of this; no traceback."""
    result = run(*arguments)
    assert result.returncode == status, result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert "error: " in result.stderr
    for text in [saying] if isinstance(saying, str) else saying:
        assert text in result.stderr


def scene(frames: int = FRAMES) -> tuple[Images, Images]:
    """A patch that moves two pixels a frame over a textured ground, in both modalities: (N, 120, 160, 3) each."""
    random = np.random.default_rng(7)
    ground = cv2.resize(random.integers(60, 160, (15, 20, 3), np.uint8), (160, 120), interpolation=cv2.INTER_CUBIC)
    patch = random.integers(0, 256, (4, 3, 3), np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    visible, infrared = np.stack([ground] * frames).astype(np.uint8), np.full((frames, 120, 160, 3), 70, np.uint8)
    for i in range(frames):
        left = 70 + 2 * i
        visible[i, 40:72, left : left + 24] = patch
        infrared[i, 40:72, left : left + 24] = 220
    return visible, infrared


def write_folder(folder: Path, images: npt.NDArray[np.uint8 | np.uint16], suffix: str = ".jpg") -> Path:
    folder.mkdir(parents=True)
    for i, image in enumerate(images):
        assert cv2.imwrite(str(folder / f"{i:04d}{suffix}"), image[..., ::-1] if image.ndim == 3 else image)
    return folder


def write_video(path: Path, images: Images) -> Path:
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width = images.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    visible, infrared = scene()
    return write_folder(tmp_path / "walk/visible", visible), write_folder(tmp_path / "walk/infrared", infrared)


@pytest.fixture
def videos(tmp_path: Path) -> tuple[Path, Path]:
    visible, infrared = scene()
    return write_video(tmp_path / "walk_rgb.mp4", visible), write_video(tmp_path / "walk_ir.mp4", infrared)


def final_names(folder: Path) -> list[str]:
    """What bears a final name; names that begin with a dot are of files that are being written."""
    return [path.name for path in folder.rglob("*") if not path.name.startswith(".")] if folder.exists() else []


# Help and wrong use


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["demo"],
        ["track"],
        ["test"],
        ["prepare"],
        ["train"],
        ["convert"],
        ["vot"],
        ["weights"],
        ["weights", "import"],
        ["weights", "info"],
        ["doctor"],
    ],
)
def test_every_command_explains_itself(words: list[str]) -> None:
    result = run(*words, "--help")
    assert result.returncode == 0
    assert result.stderr == ""
    assert result.stdout.startswith(" ".join(["usage: duotrack", *words, "[-h]"]))


def test_version() -> None:
    assert run("--version").stdout == "duotrack 0.1.0\n"


@pytest.mark.parametrize(
    ("arguments", "saying"),
    [
        ([], "COMMAND"),
        (["trak"], "'trak'"),
        (["weights"], "COMMAND"),
        (["demo", "--outptu", "x"], "--outptu"),
        (["track", "v", "i"], "--box"),
        (["track", "v", "--box", BOX], "INFRARED"),
        (["track", "v", "i", "--box", "1,2,3"], "4 numbers X,Y,W,H are needed, not '1,2,3'"),
        (["track", "v", "i", "--box", "1,2,3,4,5"], "not '1,2,3,4,5'"),
        (["track", "v", "i", "--box", "one,2,3,4"], "not 'one,2,3,4'"),
        (["track", "v", "i", "--box", "1,2,nan,4"], "not '1,2,nan,4'"),
        (["track", "v", "i", "--box", BOX, "--backend", "tpu"], "'tpu'"),
        (["track", "v", "i", "--box", BOX, "--threads", "0"], "a whole number above 0 is needed, not '0'"),
        (["track", "v", "i", "--box", BOX, "--thermal-range", "5"], "2 numbers LOW,HIGH are needed, not '5'"),
        (["track", "v", "i", "--box", BOX, "--name", "../x"], "a name without / or \\ is needed, not '../x'"),
        (["track", "v", "i", "--box", BOX, "--precision", "fp16"], "'fp16'"),
        (["export", "--format", "tflite"], "'tflite'"),
        (["export", "--precision", "int8", "--calibrate", "v"], "--calibrate"),
        (["export", "--precision", "int8", "--calibrate", "v", "i"], "--box X,Y,W,H go together"),
        (["export", "--box", BOX], "go together"),
        (["export", "--calibrate", "v", "i", "--box", BOX], "--precision int8"),
        (["train"], "--config"),
        (["prepare", "--config", "c.yaml", "--output", "pairs"], "--pairs"),
        (["weights", "import", "x.pth.tar"], "--output"),
    ],
)
def test_wrong_use_is_status_2_and_says_what_came(arguments: list[str], saying: str) -> None:
    fails(*arguments, status=2, saying=saying)


def test_a_missing_extra_is_named_with_the_command_that_installs_it(tmp_path: Path) -> None:
    result = run("weights", "import", tmp_path / "x.pth", "--output", tmp_path, before="sys.modules['torch'] = None")
    assert result.returncode == 1
    assert "pip install 'duotrack[torch]'" in result.stderr
    assert "Traceback" not in result.stderr


# The demo and the doctor


def test_demo_leaves_a_video_boxes_and_a_plot_without_torch(tmp_path: Path) -> None:
    result = run("demo", before="sys.modules['torch'] = None", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    paths = [tmp_path / line for line in result.stdout.splitlines()]
    assert {".mp4", ".txt"} < {path.suffix for path in paths}
    for path in paths:
        assert path.stat().st_size > 1000
        assert path.parent == tmp_path / "demo-output"
    video = next(path for path in paths if path.suffix == ".mp4")
    boxes = next(path for path in paths if path.suffix == ".txt")
    with av.open(video) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert sum(1 for _ in container.decode(stream)) == len(read_boxes(boxes))


def test_the_doctor_finds_this_installation_fit_for_the_demo() -> None:
    result = run("doctor", "--json")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["problems"] == []
    assert report["duotrack"] == "0.1.0"
    assert report["python"] == ".".join(map(str, sys.version_info[:3]))
    assert report["packages"]["numpy"] == np.__version__
    assert report["cores"] >= 1
    assert report["sessions"]["onnx fp32"]["milliseconds"] > 0
    assert {"torch bf16", "openvino bf16"} < set(report["sessions"])


def test_the_doctor_says_what_is_missing_and_how_to_get_it() -> None:
    result = run("doctor", before="sys.modules['torch'] = None; sys.modules['onnxruntime'] = None")
    assert result.returncode == 1
    assert "pip install 'duotrack[torch]'" in result.stdout  # the demo does not need it: no error
    errors = [line for line in result.stderr.splitlines() if line.startswith("duotrack: error: the demo cannot run: ")]
    assert len(errors) == 1
    assert "pip install onnxruntime" in errors[0]


# Tracking


def test_track_two_folders(folders: tuple[Path, Path], tmp_path: Path) -> None:
    result = run("track", *folders, "--box", BOX, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "tracks/walk.txt\n"
    track = Track.load(tmp_path / "tracks/walk.txt")
    assert len(track) == FRAMES
    assert track.boxes[0].tolist() == [70, 40, 24, 32]
    assert ((track.scores >= 0) & (track.scores <= 1)).all()
    assert (track.milliseconds > 0).all()
    assert track.info["source"] == {"visible": str(folders[0]), "infrared": str(folders[1])}
    assert sorted(final_names(tmp_path / "tracks")) == ["walk.json", "walk.txt"]


def test_track_two_videos_and_draw_them(videos: tuple[Path, Path], tmp_path: Path) -> None:
    output = tmp_path / "out/deep"
    result = run("track", *videos, "--box", BOX, "--output", output, "--name", "mine", "--video", "--json")
    assert result.returncode == 0, result.stderr
    written = json.loads(result.stdout)
    assert written["track"] == str(output / "mine.txt")
    assert written["frames"] == len(read_boxes(output / "mine.txt")) == FRAMES
    with av.open(written["video"]) as container:
        assert sum(1 for _ in container.decode(video=0)) == FRAMES


def test_track_says_that_the_target_was_lost(tmp_path: Path) -> None:
    pair = [images.copy() for images in scene(20)]
    for images in pair:
        images[8:] = 0  # both cameras go out
    folders = write_folder(tmp_path / "v", pair[0]), write_folder(tmp_path / "i", pair[1])
    result = run("track", *folders, "--box", BOX, "--output", tmp_path, "--name", "walk", "--video", "--json")
    assert result.returncode == 0, result.stderr
    ((first, last),) = json.loads(result.stdout)["lost"]
    assert 8 <= first <= 14 and last == 19
    assert f"walk was lost, frames {first} to 19" in result.stderr
    assert Track.load(tmp_path / "walk.txt").lost.tolist() == [first <= frame for frame in range(20)]


def test_track_says_that_a_camera_was_frozen(tmp_path: Path) -> None:
    visible, infrared = scene(20)
    infrared[:, :16, :16] += np.arange(0, 100, 5, dtype=np.uint8)[:, None, None, None]  # a camera that goes on ...
    infrared[5:] = infrared[4]  # ... until here
    folders = write_folder(tmp_path / "v", visible), write_folder(tmp_path / "i", infrared)
    result = run("track", *folders, "--box", BOX, "--output", tmp_path, "--name", "walk", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["frozen"] == {"infrared": [[14, 19]]}
    assert "infrared repeats its image while the other goes on, frames 14 to 19" in result.stderr


def test_track_several_objects_at_once(folders: tuple[Path, Path], tmp_path: Path) -> None:
    other = "20,60,30,24"
    result = run("track", *folders, "--box", BOX, "--box", other, "--output", tmp_path / "both", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    written = [Path(line) for line in result.stdout.splitlines()]
    assert written == [tmp_path / "both/walk-1.txt", tmp_path / "both/walk-2.txt"]
    for path, box in zip(written, (BOX, other), strict=True):
        assert run("track", *folders, "--box", box, "--output", tmp_path / "alone").returncode == 0
        np.testing.assert_allclose(read_boxes(path), read_boxes(tmp_path / "alone/walk.txt"), rtol=0, atol=0.01)
    assert sorted(final_names(tmp_path / "both")) == ["walk-1.json", "walk-1.txt", "walk-2.json", "walk-2.txt"]


def test_several_objects_as_json_and_videos(folders: tuple[Path, Path], tmp_path: Path) -> None:
    boxes = [text for box in (BOX, "20,60,30,24") for text in ("--box", box)]
    result = run("track", *folders, *boxes, "--output", tmp_path, "--name", "pair", "--video", "--json")
    assert result.returncode == 0, result.stderr
    written = json.loads(result.stdout)
    for kind, suffix in (("track", "txt"), ("video", "mp4")):
        assert written[kind] == [str(tmp_path / f"pair-{number}.{suffix}") for number in (1, 2)]
        assert all(Path(path).stat().st_size > 100 for path in written[kind])


def test_one_of_several_boxes_that_is_bad(folders: tuple[Path, Path], tmp_path: Path) -> None:
    boxes = ["--box", BOX, "--box", "500,40,24,32"]
    fails("track", *folders, *boxes, "--output", tmp_path / "out", saying=("500, 40, 24, 32", "160 x 120"))
    assert final_names(tmp_path / "out") == []


def test_how_fast_it_was(folders: tuple[Path, Path], tmp_path: Path) -> None:
    result = run("track", *folders, "--box", BOX, "--output", tmp_path / "out", "--json")
    speed = json.loads(result.stdout)
    assert [*speed["stages"]] == ["decode", "crop", "network", "rest"]
    track = Track.load(tmp_path / "out/walk.txt")
    assert track.info["stages"] == speed["stages"]
    assert speed["frames_per_second"] == pytest.approx(1000 * FRAMES / track.milliseconds.sum())
    told = run("track", *folders, "--box", BOX, "--output", tmp_path / "out").stderr
    assert "frames a second; milliseconds of a frame: decode" in told


def test_track_16_bit_thermal_images(tmp_path: Path) -> None:
    visible, infrared = scene()
    kelvin = (29_000 + 8 * infrared[..., 0].astype(np.uint16)).astype(np.uint16)  # hundredths, as cameras give them
    pair = write_folder(tmp_path / "v", visible), write_folder(tmp_path / "i", kelvin, ".png")
    for choice in ([], ["--thermal-range", "29000,31000"]):
        output = tmp_path / f"out{len(choice)}"
        result = run("track", *pair, "--box", BOX, "--output", output, "--name", "t", *choice)
        assert result.returncode == 0, result.stderr
        assert len(read_boxes(output / "t.txt")) == FRAMES


@pytest.mark.parametrize("backend", ["onnx", "torch"])
def test_track_with_a_named_backend_and_thread_count(folders: tuple[Path, Path], tmp_path: Path, backend: str) -> None:
    output = tmp_path / "out"
    result = run("track", *folders, "--box", BOX, "--backend", backend, "--threads", 1, "--output", output)
    assert result.returncode == 0, result.stderr
    assert len(read_boxes(output / "walk.txt")) == FRAMES


@pytest.mark.parametrize(
    ("backend", "precision", "saying"),
    [
        ("onnx", "bf16", "fp32 or int8, not bf16"),
        ("torch", "int8", "fp32 or bf16, not in int8"),
        ("auto", "bf16", "openvino and torch have bf16"),
    ],
)
def test_a_precision_that_a_backend_lacks(tmp_path: Path, backend: str, precision: str, saying: str) -> None:
    arguments = ["--backend", backend, "--precision", precision, "--output", tmp_path / "out"]
    pair = (CLIP / "visible.mp4", CLIP / "infrared.mp4")
    fails("track", *pair, "--box", BOX, *arguments, saying=saying)
    assert final_names(tmp_path / "out") == []


def test_a_backend_that_is_not_installed(folders: tuple[Path, Path]) -> None:
    result = run("track", *folders, "--box", BOX, "--backend", "openvino", before="sys.modules['openvino'] = None")
    assert result.returncode == 1
    assert 'pip install "duotrack[openvino]"' in result.stderr
    assert "Traceback" not in result.stderr


# Export


@pytest.mark.slow
def test_export_checks_and_the_graphs_alone_track(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """Of the shipped model, with a calibration on a clip of one's own; without a copy of the weights."""
    choices = ["--precision", "int8", "--calibrate", *folders, "--box", BOX, "--check", "--json"]
    result = run("export", "duotrack-tiny", *choices, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    names = ["model_template.onnx", "model.onnx", "model.int8.onnx"]
    assert found["files"] == [str(Path("duotrack-tiny") / name) for name in names]
    exact, rounded = found["checks"]
    assert exact["passed"]
    assert max(exact[name] for name in ("score", "size", "offset", "box")) < 1e-5
    assert rounded["passed"]
    assert 0.98 < rounded["overlap"] < 1
    weights = tmp_path / "duotrack-tiny"
    assert sorted(final_names(weights)) == sorted([*names, "config.json"])
    for precision in ("fp32", "int8"):
        output = tmp_path / precision
        arguments = ["--weights", weights, "--precision", precision, "--output", output]
        assert run("track", *folders, "--box", BOX, *arguments).returncode == 0
        assert Track.load(output / "walk.txt").info["precision"] == precision


def test_export_of_weights_that_are_not_there(tmp_path: Path) -> None:
    fails("export", tmp_path / "nowhere", saying=str(tmp_path / "nowhere"))


# Bad input: each names the culprit, and nothing is written


def missing_folder(visible: Path, infrared: Path) -> str:
    infrared.rename(infrared.with_name("elsewhere"))
    return str(infrared)


def empty_folder(visible: Path, infrared: Path) -> str:
    for path in infrared.iterdir():
        path.unlink()
    return str(infrared)


def one_frame_short(visible: Path, infrared: Path) -> str:
    (infrared / f"{FRAMES - 1:04d}.jpg").unlink()
    return f"{FRAMES - 1:04d}.jpg"


def corrupt_image(visible: Path, infrared: Path) -> str:
    (infrared / "0005.jpg").write_bytes(b"\xff\xd8 this is no picture")
    return str(infrared / "0005.jpg")


def truncated_image(visible: Path, infrared: Path) -> str:
    path = visible / "0005.jpg"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return str(path)


def other_size(visible: Path, infrared: Path) -> str:
    cv2.imwrite(str(visible / "0005.jpg"), np.zeros((60, 80, 3), np.uint8))
    return str(visible / "0005.jpg")


@pytest.mark.parametrize(
    "spoil", [missing_folder, empty_folder, one_frame_short, corrupt_image, truncated_image, other_size]
)
def test_bad_folders(folders: tuple[Path, Path], tmp_path: Path, spoil: Callable[[Path, Path], str]) -> None:
    culprit = spoil(*folders)
    fails("track", *folders, "--box", BOX, "--output", tmp_path / "out", saying=culprit)
    assert final_names(tmp_path / "out") == []


def test_truncated_video(videos: tuple[Path, Path], tmp_path: Path) -> None:
    data = videos[1].read_bytes()
    videos[1].write_bytes(data[: len(data) // 2])
    fails("track", *videos, "--box", BOX, "--output", tmp_path / "out", saying=str(videos[1]))
    assert final_names(tmp_path / "out") == []


@pytest.mark.parametrize("box", ["500,40,24,32", "70,40,0,32", "70,40,24,-3"])
def test_bad_boxes(folders: tuple[Path, Path], tmp_path: Path, box: str) -> None:
    numbers = ", ".join(box.split(","))
    fails("track", *folders, "--box", box, "--output", tmp_path / "out", saying=(numbers, "160 x 120"))
    assert final_names(tmp_path / "out") == []


def test_wrong_weights(folders: tuple[Path, Path], tmp_path: Path) -> None:
    arguments = ["track", *folders, "--box", BOX, "--output", tmp_path / "out", "--weights"]
    fails(*arguments, tmp_path / "nowhere", saying=str(tmp_path / "nowhere"))
    fails(*arguments, "duotrack-tinny", saying="duotrack-tinny")
    (tmp_path / "empty").mkdir()
    fails(*arguments, tmp_path / "empty", saying=str(tmp_path / "empty"))
    fails("weights", "info", tmp_path / "empty", saying=str(tmp_path / "empty"))
    assert final_names(tmp_path / "out") == []


def test_an_output_that_is_a_file(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    fails("track", *folders, "--box", BOX, "--output", tmp_path / "out", saying=str(tmp_path / "out"))
    assert (tmp_path / "out").read_text() == "mine"


# Checkpoints and recipes


class Malice:
    """A pickle that would make a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return open, (str(self.path), "w")


def test_a_malicious_checkpoint_is_refused_and_not_executed(tmp_path: Path) -> None:
    checkpoint, trace = tmp_path / "evil.pth.tar", tmp_path / "trace"
    checkpoint.write_bytes(pickle.dumps({"net": Malice(trace)}))
    fails("weights", "import", checkpoint, "--output", tmp_path / "out", saying=str(checkpoint))
    assert not trace.exists()
    assert final_names(tmp_path / "out") == []


def test_something_else_than_a_checkpoint_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "notes.pth.tar"
    other.write_text("not a checkpoint")
    fails("weights", "import", other, "--output", tmp_path / "out", saying=str(other))
    fails("weights", "import", tmp_path / "none.pth", "--output", tmp_path / "out", saying=str(tmp_path / "none.pth"))
    assert final_names(tmp_path / "out") == []


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    fails("train", "--config", tmp_path / "none.yaml", saying=str(tmp_path / "none.yaml"))


def test_weights_info_of_the_shipped_model() -> None:
    result = run("weights", "info", "duotrack-tiny", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)


# Interruption


@pytest.fixture
def long_folders(tmp_path: Path) -> tuple[Path, Path]:
    """Half an hour of two pictures."""
    pair = tmp_path / "long/visible", tmp_path / "long/infrared"
    for folder, image in zip(pair, scene(1), strict=True):
        first = write_folder(folder, image) / "0000.jpg"
        for i in range(1, 50_000):
            (folder / f"{i:05d}.jpg").symlink_to(first)
    return pair


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_stopped_half_way_nothing_bears_a_final_name(
    long_folders: tuple[Path, Path], tmp_path: Path, how: signal.Signals
) -> None:
    output = tmp_path / "out"
    interruptible = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # also below nohup
    arguments = command("track", *long_folders, "--box", BOX, "--output", output, before=interruptible)
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not output.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)  # the folder is made when tracking begins
        time.sleep(1)
        process.send_signal(how)
        stdout, stderr = process.communicate(timeout=60)
    assert output.exists(), stderr
    assert final_names(output) == []
    assert stdout == ""
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert "Nothing was written. The same command starts again." in stderr
        assert "Traceback" not in stderr
    else:
        assert process.returncode == -signal.SIGKILL


class TestGap:
    def test_of_the_shipped_weights_on_the_shipped_clip(self, tmp_path: Path) -> None:
        result = run("gap", "duotrack-tiny", "--pairs", 10, "--json", "-", "--figures", tmp_path / "figures")
        assert result.returncode == 0, result.stderr
        facts = json.loads(result.stdout)
        assert (facts["pairs"], len(facts["students"]), "teachers" in facts) == (10, 4, False)
        assert {path.name for path in (tmp_path / "figures").iterdir()} >= {"gap_features.pdf", "gap_blocks.png"}

    def test_weights_or_clips_that_are_not_there(self, tmp_path: Path) -> None:
        fails("gap", tmp_path / "nowhere", saying="nowhere does not exist")
        fails("gap", "duotrack-tiny", "--data", tmp_path, saying=(str(tmp_path), "no clip here"))
        fails("gap", "duotrack-tiny", "--layout", "got10k", status=2, saying="invalid choice: 'got10k'")


def test_an_ablation_that_varies_nothing(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("output: x\ndata: {root: data}\n")
    fails("ablate", "--config", recipe, "--output", tmp_path / "runs", saying=(str(recipe), "nothing is varied"))
    assert not (tmp_path / "runs").exists()
