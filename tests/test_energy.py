import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from duotrack import energy


def package(folder: Path, number: int, microjoules: int, name: str = "package-0") -> Path:
    """A counter as Linux shows it; returns the file that counts."""
    zone = folder / f"intel-rapl:{number}"
    zone.mkdir()
    (zone / "name").write_text(f"{name}\n")
    (zone / "max_energy_range_uj").write_text("1000000\n")
    (zone / "energy_uj").write_text(f"{microjoules}\n")
    return zone / "energy_uj"


@pytest.fixture
def powercap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    return tmp_path


def test_packages_add_up_and_other_domains_do_not(powercap: Path) -> None:
    first, second = package(powercap, 0, 100_000), package(powercap, 1, 0, "package-1")
    platform = package(powercap, 2, 0, "psys")
    with energy.metered() as readings:
        assert not readings
        first.write_text("350000\n")
        second.write_text("50000\n")
        platform.write_text("900000\n")
    assert readings["processor"].joules == pytest.approx(0.25 + 0.05)


def test_a_counter_that_begins_again(powercap: Path) -> None:
    counter = package(powercap, 0, 900_000)
    with energy.metered() as readings:
        counter.write_text("200000\n")
    assert readings["processor"].joules == pytest.approx(0.3)


def test_no_counter(powercap: Path) -> None:
    with energy.metered() as readings:
        pass
    assert readings["processor"].joules is None
    assert readings["processor"].source == f"not available: no counter of a processor package in {powercap}"


def test_a_counter_for_root_only(powercap: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counter, read = package(powercap, 0, 0), Path.read_text

    def refusing(path: Path, encoding: str | None = None) -> str:
        if path == counter:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path, encoding)

    monkeypatch.setattr(Path, "read_text", refusing)
    with energy.metered() as readings:
        pass
    assert readings["processor"].source == f"not available: only root may read {counter}"


class NvmlError(Exception):
    pass


def nvml(monkeypatch: pytest.MonkeyPatch, millijoules: dict[str, int]) -> None:
    """Puts a library in place that counts like NVIDIA's."""

    def handle(uuid: str) -> str:
        if uuid not in millijoules:
            raise NvmlError("Not Found")
        return uuid

    module = SimpleNamespace(
        NVMLError=NvmlError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=handle,
        nvmlDeviceGetTotalEnergyConsumption=lambda device: millijoules[device],
    )
    monkeypatch.setitem(sys.modules, "pynvml", module)


@pytest.mark.usefixtures("powercap")
def test_gpus_that_are_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    millijoules = {"GPU-a": 1_000, "GPU-b": 0, "GPU-idle": 0}
    nvml(monkeypatch, millijoules)
    with energy.metered(["GPU-a", "GPU-b"]) as readings:
        millijoules |= {"GPU-a": 3_500, "GPU-b": 250, "GPU-idle": 70}
    assert readings["gpu"].joules == pytest.approx(2.75)


@pytest.mark.usefixtures("powercap")
def test_a_gpu_that_nvml_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml(monkeypatch, {})
    with energy.metered(["GPU-a"]) as readings:
        pass
    assert readings["gpu"] == energy.Reading(None, "not available: NVML: Not Found")


@pytest.mark.usefixtures("powercap")
def test_nvml_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with energy.metered(["GPU-a"]) as readings:
        pass
    assert "pip install nvidia-ml-py" in readings["gpu"].source


@pytest.mark.usefixtures("powercap")
def test_without_gpus_there_is_no_reading_of_gpus() -> None:
    with energy.metered() as readings:
        pass
    assert list(readings) == ["processor"]
