"""What this installation can do: versions, cores, which runtimes really run the shipped model, and what the demo lacks.

Nothing is taken on trust: packages are imported, and each runtime tracks a few made-up frames.
"""

import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Literal

from duotrack import __version__
from duotrack.processor import cpu_features, usable_cores, wait_asleep

Backend = Literal["onnx", "torch", "openvino"]
Precision = Literal["fp32", "bf16", "int8"]

SESSIONS: tuple[tuple[Backend, Precision], ...] = (
    ("onnx", "fp32"),
    ("torch", "fp32"),
    ("torch", "bf16"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
)
"""What may track here, by runtime and precision. The demo needs the first."""

MODEL = "duotrack-tiny"
ASSETS = Path(__file__).parent / "assets"

BASE = {
    "numpy": "numpy",
    "cv2": "opencv-python-headless",
    "onnxruntime": "onnxruntime",
    "av": "av",
    "matplotlib": "matplotlib",
    "rich": "rich",
}
"""Modules that the demo needs, and the distributions that bring them."""

CPU_FEATURES = {
    *("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16"),
    *("asimd", "asimddp", "bf16", "i8mm", "sve"),
}
"""Instructions that inference and training gain from, as Linux names them on x86 and ARM."""


@dataclass(frozen=True)
class SessionCheck:
    """Whether a runtime tracks in a precision with the shipped model: median milliseconds a frame, or why not."""

    milliseconds: float | None
    error: str | None


@dataclass(frozen=True)
class Report:
    """What was found. ``packages`` has a version, or None for what is not installed.

    ``problems`` are the reasons why the demo cannot run, each with its remedy; empty where it can.
    """

    duotrack: str
    python: str
    system: str
    packages: dict[str, str | None]
    cores: int
    cpu_features: list[str]
    cuda_devices: list[str]
    assets: dict[str, bool]
    sessions: dict[str, SessionCheck]
    problems: list[str]

    def __str__(self) -> str:
        rows = [
            ("duotrack", self.duotrack),
            ("Python", self.python),
            ("system", self.system),
            ("CPU", f"{self.cores} cores to use; {' '.join(self.cpu_features) or 'features unknown'}"),
            ("CUDA", ", ".join(self.cuda_devices) or "none"),
        ]
        for package, found in self.packages.items():
            rows.append((package, found or f"not installed: {_remedy(package)}"))
        for asset, there in self.assets.items():
            rows.append((asset, "there" if there else "missing"))
        for session, check in self.sessions.items():
            works = f"works, {check.milliseconds:.1f} ms a frame" if check.milliseconds else f"does not: {check.error}"
            rows.append((session, works))
        return "\n".join(f"{name:<20} {value}" for name, value in rows)


def examine() -> Report:
    """Looks at everything; takes a few seconds."""
    wait_asleep()
    packages, problems = {}, []
    for module in (*BASE, "torch"):
        packages[module], error = _version(module)
        if error and module in BASE:
            problems.append(f"{module} cannot be imported ({error}): {_remedy(module)}")
    assets = {MODEL: (ASSETS / MODEL / "config.json").is_file(), "demo clip": _has_clip()}
    problems += [
        f"{asset} is not part of this installation: install duotrack again, from a wheel or a complete checkout"
        for asset, found in assets.items()
        if not found
    ]
    sessions = {f"{backend} {precision}": _check(backend, precision) for backend, precision in SESSIONS}
    if not problems and (error := sessions["onnx fp32"].error):
        problems.append(f"onnxruntime does not run the shipped model ({error}): pip install --upgrade onnxruntime")
    if packages["av"] and not _encodes_h264():
        problems.append("this build of PyAV cannot write H.264: pip install --force-reinstall --only-binary av av")
    return Report(
        duotrack=__version__,
        python=platform.python_version(),
        system=platform.platform(),
        packages=packages,
        cores=usable_cores(),
        cpu_features=sorted(CPU_FEATURES & cpu_features()),
        cuda_devices=_cuda_devices() if packages["torch"] else [],
        assets=assets,
        sessions=sessions,
        problems=problems,
    )


def _version(module: str) -> tuple[str | None, str | None]:
    """The version of a package that can be imported, or what its import said."""
    try:
        imported = import_module(module)
        return str(getattr(imported, "__version__", None) or version(module)), None
    except ImportError as error:
        return None, str(error)


def _remedy(module: str) -> str:
    return f"pip install {BASE[module]}" if module in BASE else "pip install 'duotrack[torch]'"


def _has_clip() -> bool:
    folder = ASSETS / "demo_clip"
    return all((folder / f"{modality}.mp4").is_file() for modality in ("visible", "infrared"))


def _check(backend: Backend, precision: Precision) -> SessionCheck:
    try:
        return SessionCheck(milliseconds=_milliseconds(backend, precision), error=None)
    except Exception as error:  # whatever a broken runtime raises belongs in the report
        return SessionCheck(milliseconds=None, error=str(error) or type(error).__name__)


def _milliseconds(backend: Backend, precision: Precision, frames: int = 8) -> float:
    """Median time of a frame, tracking noise."""
    import numpy as np

    from duotrack.sequence import Frame
    from duotrack.tracking import Tracker

    visible, infrared = np.random.default_rng(0).integers(0, 256, (2, 240, 320, 3), np.uint8)
    frame = Frame(visible, infrared)
    tracker = Tracker.from_pretrained(MODEL, backend=backend, precision=precision)
    tracker.initialize(frame, (140.0, 90.0, 40.0, 60.0))
    return 1000 * median(_seconds(lambda: tracker.update(frame)) for _ in range(frames))


def _seconds(work: Callable[[], object]) -> float:
    started = perf_counter()
    work()
    return perf_counter() - started


def _encodes_h264() -> bool:
    import av

    return "libx264" in av.codecs_available


def _cuda_devices() -> list[str]:
    import torch

    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
