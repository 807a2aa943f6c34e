"""What the machine's energy counters took while some work ran: of the processor, and of NVIDIA's GPUs.

The counters are those of whole chips. Whatever else runs there at the same time, and idling, is in their readings.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol

POWERCAP = Path("/sys/class/powercap")
"""Where Linux shows the counters of processors (RAPL: of Intel's, and of AMD's under the same names)."""


@dataclass(frozen=True)
class Reading:
    """Joules, and the counter that told them; None and the reason where there is none to be read."""

    joules: float | None
    source: str


class _Counter(Protocol):
    source: str

    def joules(self) -> float:
        """Since the counter was made."""
        ...


@contextmanager
def metered(gpus: Sequence[str] = ()) -> Iterator[dict[str, Reading]]:
    """Measures the block: the dictionary has the readings by chip, ``processor`` and ``gpu``, once it ends.

    Args:
        gpus: UUIDs of the GPUs that are at work, as NVML names them; without any there is no reading ``gpu``.
    """
    counters: dict[str, _Counter] = {}
    readings: dict[str, Reading] = {}
    makers: dict[str, Callable[[], _Counter]] = {"processor": _Processor}
    if gpus:
        makers["gpu"] = lambda: _Gpus(gpus)
    for chip, maker in makers.items():
        try:
            counters[chip] = maker()
        except OSError as error:
            readings[chip] = Reading(None, f"not available: {error}")
    yield readings
    for chip, counter in counters.items():
        readings[chip] = Reading(counter.joules(), counter.source)


class _Processor:
    """The packages' counters of microjoules, which begin again at 0 beyond a given maximum.

    https://docs.kernel.org/power/powercap/powercap.html
    """

    source = "RAPL counters of the processor packages"

    def __init__(self) -> None:
        zones = sorted(POWERCAP.glob("intel-rapl:*"))
        self._packages = [zone for zone in zones if (zone / "name").read_text(encoding="ascii").startswith("package")]
        if not self._packages:
            raise OSError(f"no counter of a processor package in {POWERCAP}")
        try:
            self._started = self._read("energy_uj")
        except PermissionError as error:
            raise PermissionError(f"only root may read {error.filename}") from error

    def joules(self) -> float:
        counts = zip(self._started, self._read("energy_uj"), self._read("max_energy_range_uj"), strict=True)
        return sum(end - start if end >= start else end - start + maximum for start, end, maximum in counts) / 1e6

    def _read(self, file: str) -> list[int]:
        return [int((package / file).read_text(encoding="ascii")) for package in self._packages]


class _Gpus:
    """NVML's counters of millijoules."""

    source = "NVML counters of the GPUs"

    def __init__(self, uuids: Sequence[str]) -> None:
        try:
            self._nvml = import_module("pynvml")
        except ImportError as error:
            raise OSError("the package pynvml is missing: pip install nvidia-ml-py") from error
        try:
            self._nvml.nvmlInit()
            self._devices = [self._nvml.nvmlDeviceGetHandleByUUID(uuid) for uuid in uuids]
            self._started = self._read()
        except self._nvml.NVMLError as error:
            raise OSError(f"NVML: {error}") from error

    def joules(self) -> float:
        return (self._read() - self._started) / 1e3

    def _read(self) -> int:
        return sum(int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(device)) for device in self._devices)
