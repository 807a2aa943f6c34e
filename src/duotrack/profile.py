"""What tracking costs on this machine: the size of a network; milliseconds, memory and energy of a frame.

    frame --> crop --> network --> window and mapping --> boxes

The targets hold still in frames of noise: a session that stands between the tracker and the network runs it, but
answers that nothing has moved. So every frame costs the same, whatever the weights, which may be random; and what is
timed is the tracker itself.
"""

import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from duotrack import __version__, energy, pretrained
from duotrack.crops import CropSettings
from duotrack.model.complexity import count
from duotrack.model.config import PRESETS, ModelConfig
from duotrack.processor import usable_cores, usable_threads
from duotrack.sequence import Frame
from duotrack.sessions.base import Maps, Pixels, Precision, Session
from duotrack.tracking import Backend, MultiTracker, Tracker, open_session

STAGES = ("crop", "network", "window and mapping", "whole tracker")
"""What is timed in each frame; the last has all of it."""

Say = Callable[[str], object]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """Milliseconds of a frame: the median, and what 10 % and 90 % of the frames stay below."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Memory:
    """Bytes; None where the system does not say, or no GPU is at work.

    ``weights``: the files of the network that runs. ``peak``: the most that the process held in memory, with Python,
    libraries and frames. ``gpu_peak``: the most that PyTorch held on GPUs.
    """

    weights: int
    peak: int | None
    gpu_peak: int | None


@dataclass(frozen=True)
class Energy:
    """Of a chip while the frames ran; None where it cannot be read. ``source``: the counter, or why there is none."""

    joules_per_frame: float | None
    watts: float | None
    source: str


@dataclass(frozen=True)
class Published:
    """A speed that others published: to stand beside ours, never measured here."""

    network: str
    fps: float
    hardware: str
    source: str


CKD = Published(
    "CKD (two ViT-B/16, candidate elimination)",
    96.4,
    "NVIDIA GeForce RTX 4090",
    "Lu et al., Breaking Modality Gap in RGBT Tracking, ACM MM 2024, arXiv 2410.11586",
)


@dataclass(frozen=True)
class Profile:
    """What was found; :func:`dataclasses.asdict` makes it ready for JSON.

    Attributes:
        name: of the weights or the preset.
        weights: ``shipped``, ``random`` (of a preset), or the folder.
        backend: the session that ran.
        precision: what it computed in.
        device: ``cpu``, or the names of the GPUs.
        threads: of the session, on a CPU.
        frame_size: width and height in pixels.
        targets: followed at once, in one batch.
        frames: that were timed.
        parameters: of the network that tracks.
        macs: multiply-accumulates for one target in one frame, template included, by convolutions, linear layers and
            attention products: those of the network as it is written, whatever a runtime saves.
        macs_without_attention_products: of convolutions and linear layers alone.
        macs_published_convention: as published tables count (:class:`duotrack.model.complexity.Complexity`).
        load_seconds: to open the session, the import of its runtime included.
        first_frame_seconds: to show the targets and find them once, with all that a runtime does only once.
        milliseconds: of the :data:`STAGES`.
        fps: frames per second from frames in memory to boxes; reading the frames comes on top.
        fps_network: frames per second of the network alone.
        memory: in bytes.
        energy: by chip, ``processor`` and ``gpu``.
        machine: processor, cores that may be used, load before the start, operating system.
        versions: of what ran.
        published: the paper's speed.
    """

    name: str
    weights: str
    backend: str
    precision: Precision
    device: str
    threads: int
    frame_size: tuple[int, int]
    targets: int
    frames: int
    parameters: int
    macs: int
    macs_without_attention_products: int
    macs_published_convention: int
    load_seconds: float
    first_frame_seconds: float
    milliseconds: dict[str, Spread]
    fps: float
    fps_network: float
    memory: Memory
    energy: dict[str, Energy]
    machine: dict[str, Any]
    versions: dict[str, str]
    published: Published = CKD


def measure(
    weights: str | Path = "duotrack-tiny",
    *,
    backend: Backend = "auto",
    precision: Precision = "fp32",
    device: str | None = None,
    threads: int | None = None,
    targets: int = 1,
    frames: int = 100,
    size: tuple[int, int] = (640, 480),
    say: Say = lambda _: None,
) -> Profile:
    """Has a tracker follow targets that hold still, and measures what it costs.

    Args:
        weights: the name of shipped weights, a weights folder, or a preset, which gets random weights (PyTorch makes
            them, in a process of its own that leaves no trace in the figures).
        backend: as for :meth:`duotrack.Tracker.from_pretrained`.
        precision: likewise.
        device: likewise.
        threads: likewise.
        targets: to follow at once.
        frames: to time, after a tenth as many that are not.
        size: of the frames, width and height in pixels.
        say: told what is being done, for it takes seconds. A progress bar would take its part of what is measured.

    Raises:
        FileNotFoundError: if there are no such weights.
        ModuleNotFoundError: if a package is missing that the choice needs.
        ValueError: if there is nothing to measure, or the backend lacks the precision.
        ChildProcessError: if random weights could not be made.
    """
    if targets < 1 or frames < 1:
        raise ValueError(f"one target and one frame at least are needed, not {targets} and {frames}")
    if min(size) < 64:
        raise ValueError(f"frames of 64 x 64 pixels at least are needed, not {size[0]} x {size[1]}")
    before = machine()
    with _folder(weights, backend, precision, device, say) as (folder, origin):
        model, crops = pretrained.read_config(folder)
        noise = np.random.default_rng(0).integers(0, 256, (4, 2, size[1], size[0], 3), np.uint8)
        clip = [Frame(visible, infrared) for visible, infrared in noise]

        say(f"measuring {frames} frames")
        started = time.perf_counter()
        session = open_session(folder, backend, precision, device, threads)
        loaded = time.perf_counter()
        tracker = _show(_StillSession(session, model, crops.search_factor, size, targets), crops, clip[0])
        tracker.update(clip[0])
        first_frame = time.perf_counter()
        for _ in range(frames // 10):
            tracker.update(clip[0])
        gpus = _gpus(session.name)
        with energy.metered(list(gpus)) as readings:
            times = np.array([_times(tracker, clip[index % len(clip)]) for index in range(frames)])

        complexity = count(model)
        return Profile(
            name=str(weights),
            weights=origin,
            backend=session.name,
            precision=precision,
            device=", ".join(gpus.values()) or "cpu",
            threads=threads or usable_threads(),
            frame_size=size,
            targets=targets,
            frames=frames,
            parameters=complexity.parameters,
            macs=complexity.macs,
            macs_without_attention_products=complexity.convolutions_and_linears,
            macs_published_convention=complexity.macs_published_convention,
            load_seconds=loaded - started,
            first_frame_seconds=first_frame - loaded,
            milliseconds={stage: _spread(each) for stage, each in zip(STAGES, times.T, strict=True)},
            fps=float(1000 / times[:, STAGES.index("whole tracker")].mean()),
            fps_network=float(1000 / times[:, STAGES.index("network")].mean()),
            memory=Memory(_bytes_read(folder, session.name, precision), _peak_memory(), _gpu_peak_memory(gpus)),
            energy={chip: _per_frame(reading, times[:, -1].sum() / 1000, frames) for chip, reading in readings.items()},
            machine=before,
            versions=versions(session.name),
        )


class _StillSession:
    """Runs the network of a session, and answers that every target stays where it is.

    The targets are squares in the middle of the frame, half a pixel from where their search window would change its
    side: what rounding adds up over many frames makes no difference.
    """

    def __init__(
        self, session: Session, model: ModelConfig, search_factor: float, size: tuple[int, int], targets: int
    ) -> None:
        self.name, self.template_size, self.search_size = session.name, session.template_size, session.search_size
        self.template, self.join, self.describe = session.template, session.join, session.describe
        self._session = session
        window = max(min(size) // 3, math.ceil(12 * search_factor))  # trackers hold no box under 10 pixels
        side = (window - 0.5) / search_factor
        centers = np.random.default_rng(0).uniform(1 / 3, 2 / 3, (targets, 2)) * size
        self.boxes = np.hstack([centers - side / 2, np.full((targets, 2), side)])
        """x, y, w, h in pixels, (N, 4)."""
        grid = model.search_grid
        score, sizes, offset = (np.zeros((targets, channels, grid, grid), np.float32) for channels in (1, 2, 2))
        score[:, :, grid // 2, grid // 2] = 1
        sizes[:] = side / window
        offset[:] = grid % 2 / 2  # an even number of cells has its middle between two
        self._answer = Maps(score, sizes, offset, np.zeros((targets, 4), np.float32))

    def search(self, state: Any, crops: Pixels) -> Maps:
        """See :class:`duotrack.sessions.base.Session`."""
        self._session.search(state, crops)
        return self._answer


def _show(session: _StillSession, crops: CropSettings, frame: Frame) -> Tracker | MultiTracker:
    """A tracker that has been shown the targets."""
    if len(session.boxes) == 1:
        tracker = Tracker(session, **asdict(crops))
        tracker.initialize(frame, session.boxes[0])
        return tracker
    trackers = MultiTracker(session, **asdict(crops))
    for box in session.boxes:
        trackers.add(frame, box)
    return trackers


def _times(tracker: Tracker | MultiTracker, frame: Frame) -> tuple[float, ...]:
    """Milliseconds of each of the :data:`STAGES` in one frame."""
    started = time.perf_counter()
    tracker.update(frame)
    return *tracker.stages, 1000 * (time.perf_counter() - started)


@contextmanager
def _folder(
    weights: str | Path, backend: Backend, precision: Precision, device: str | None, say: Say
) -> Iterator[tuple[Path, str]]:
    """The weights folder, and where it comes from; that of a preset has random weights and is gone afterwards."""
    if weights in pretrained.shipped():
        yield pretrained.locate(weights), "shipped"
    elif weights not in PRESETS:
        try:
            folder = pretrained.locate(weights)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{error}, or a preset for random weights ({', '.join(PRESETS)})") from error
        yield folder, str(folder)
    else:
        say(f"making random weights for {weights}")
        forms = ["onnx"] if backend in ("onnx", "openvino") or (backend == "auto" and device in (None, "cpu")) else []
        forms += ["int8"] if forms and precision == "int8" else []
        with tempfile.TemporaryDirectory(prefix="duotrack-") as temporary:
            _make_random_elsewhere(Path(temporary), str(weights), forms)
            yield Path(temporary), "random"


def _make_random_elsewhere(folder: Path, preset: str, forms: Sequence[str]) -> None:
    """Runs :func:`_make_random` in a process of its own: PyTorch and the export would stay in the memory of this."""
    if find_spec("torch") is None:
        raise ModuleNotFoundError('random weights are made by PyTorch, which is missing: pip install "duotrack[torch]"')
    code = "import sys; from duotrack import profile; profile._make_random(*sys.argv[1:])"
    run = subprocess.run([sys.executable, "-c", code, folder, preset, *forms], capture_output=True, text=True)
    if run.returncode:
        reason = (run.stderr.strip().splitlines() or [f"exit status {run.returncode}"])[-1]
        raise ChildProcessError(f"the random weights of {preset} could not be made: {reason}")


def _make_random(folder: str, preset: str, *forms: str) -> None:
    """Leaves a weights folder; ``forms``: the graphs beside the weights, ``onnx`` and ``int8``."""
    from duotrack import quantization, samples
    from duotrack.export import export_onnx
    from duotrack.model import StudentNetwork, weights

    weights.save(folder, StudentNetwork(PRESETS[preset]).eval())
    if "onnx" in forms:
        export_onnx(Path(folder))
    if "int8" in forms:
        quantization.quantize(Path(folder), samples.of_demo_clip(pretrained.read_config(folder)))


# What the machine says


def machine() -> dict[str, Any]:
    """The processor, the cores that may be used, the load of the last minute where the system tells, the system."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    processor = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)
    return {
        "processor": processor or platform.processor() or platform.machine(),
        "cores": usable_cores(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions(backend: str) -> dict[str, str]:
    """Of duotrack, Python, and the libraries that a session of this backend runs on."""
    runtime = {"onnx": "onnxruntime"}.get(backend, backend)
    # OpenVINO's says what it was built from, too: 2026.4.1-22982-...
    libraries = {name: str(import_module(name).__version__).partition("-")[0] for name in ("numpy", "cv2", runtime)}
    return {"duotrack": __version__, "python": platform.python_version(), **libraries}


def in_a_line(machine: Mapping[str, Any], versions: Mapping[str, str]) -> str:
    """Where figures come from, to stand beside them."""
    load = "unknown" if machine["load"] is None else f"{machine['load']:.1f}"
    where = f"{machine['processor']}, {machine['cores']} cores to use, load {load}, {machine['system']}"
    return f"{where}; " + ", ".join(f"{name} {version}" for name, version in versions.items())


def _gpus(backend: str) -> dict[str, str]:
    """The GPUs on which the session has something in memory: UUIDs, as NVML gives them, and names."""
    if backend != "torch":
        return {}
    import torch

    at_work = [index for index in range(torch.cuda.device_count()) if torch.cuda.memory_allocated(index)]
    devices = [torch.cuda.get_device_properties(index) for index in at_work]
    return {f"GPU-{device.uuid}": device.name for device in devices}


def _bytes_read(folder: Path, backend: str, precision: Precision) -> int:
    """Of the files that a session reads."""
    search = pretrained.INT8_GRAPH if precision == "int8" else pretrained.SEARCH_GRAPH
    files = [pretrained.WEIGHTS] if backend == "torch" else [pretrained.TEMPLATE_GRAPH, search]
    return sum((folder / file).stat().st_size for file in files)


def _peak_memory() -> int | None:
    """Of this process, in bytes. (``getrusage`` would count what the parent process held, too.)"""
    path = Path("/proc/self/status")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), None)


def _gpu_peak_memory(gpus: dict[str, str]) -> int | None:
    if not gpus:
        return None
    import torch

    return sum(torch.cuda.max_memory_allocated(index) for index in range(torch.cuda.device_count()))


def _per_frame(reading: energy.Reading, seconds: float, frames: int) -> Energy:
    if reading.joules is None:
        return Energy(None, None, reading.source)
    if seconds < 1:  # NVML's counter moves some ten times a second
        return Energy(None, None, f"not available: {seconds:.1f} s are too short for a counter, ask for more frames")
    return Energy(reading.joules / frames, reading.joules / seconds, reading.source)


def _spread(values: Floats) -> Spread:
    low, median, high = np.percentile(values, (10, 50, 90))
    return Spread(float(median), float(low), float(high))


# For people


def text(profile: Profile) -> str:
    """The profile as tables, as wide as the terminal."""
    from rich.console import Console
    from rich.table import Table

    stages = Table("milliseconds a frame", box=None, padding=(0, 2, 0, 0))
    for title in ("median", "10 %", "90 %"):
        stages.add_column(title, justify="right")
    for stage, spread in profile.milliseconds.items():
        stages.add_row(stage, *(f"{value:.2f}" for value in (spread.median, spread.low, spread.high)))
    facts = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for name, value in _facts(profile).items():
        facts.add_row(name, value)
    console = Console(highlight=False)
    with console.capture() as capture:
        console.print(stages, "", facts)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def _facts(profile: Profile) -> dict[str, str]:
    weights = {"shipped": f"{profile.name}, as shipped", "random": f"random, for the preset {profile.name}"}
    width, height = profile.frame_size
    by_target = f", {profile.targets * profile.fps:.1f} targets per second" if profile.targets > 1 else ""
    memory, published = profile.memory, profile.published
    return {
        "weights": weights.get(profile.weights, profile.weights),
        "session": f"{profile.backend}, {profile.precision}, {profile.device}, threads: {profile.threads}",
        "frames": f"{profile.frames} of {width} x {height} pixels in memory, targets: {profile.targets}",
        "frames per second": f"{profile.fps:.1f}{by_target}; the network alone {profile.fps_network:.1f}",
        "published": f"{published.fps} frames per second for {published.network} on an {published.hardware}; "
        f"not measured here ({published.source})",
        "parameters": f"{profile.parameters / 1e6:.2f} M",
        "MACs": f"{profile.macs / 1e9:.3f} G; {profile.macs_without_attention_products / 1e9:.3f} G without attention "
        f"products, {profile.macs_published_convention / 1e9:.3f} G as published tables count",
        "start": f"session {profile.load_seconds:.2f} s, first frame {profile.first_frame_seconds:.2f} s",
        "memory": f"weights {_mebibytes(memory.weights)}, process at most {_mebibytes(memory.peak)}"
        + (f", GPU at most {_mebibytes(memory.gpu_peak)}" if memory.gpu_peak is not None else ""),
        **{f"energy, {chip}": _spent(each) for chip, each in profile.energy.items()},
        "machine": in_a_line(profile.machine, profile.versions),
    }


def _spent(each: Energy) -> str:
    if each.joules_per_frame is None:
        return each.source
    return f"{each.joules_per_frame:.3f} J a frame, {each.watts:.1f} W ({each.source})"


def _mebibytes(size: int | None) -> str:
    return "not available" if size is None else f"{size / 2**20:.1f} MiB"
