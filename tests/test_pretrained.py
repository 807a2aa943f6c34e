import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from duotrack import pretrained
from duotrack.crops import CropSettings
from duotrack.model.config import PRESETS, Elimination, ModelConfig


def write_config(folder: Path, **changes: Any) -> Path:
    content = {"format": 1, "model": {"width": 64, "heads": 4}, "crops": {"padding": "mean"}} | changes
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({key: v for key, v in content.items() if v is not ...}))
    return folder


def test_reads_a_config(tmp_path: Path) -> None:
    model = {"width": 64, "heads": 4, "elimination": {"layers": [2, 4], "keep": 0.5, "template_tokens": "ALL"}}
    info = pretrained.read_config(write_config(tmp_path, model=model))
    assert info.model == ModelConfig(width=64, heads=4, elimination=Elimination((2, 4), 0.5, "ALL"))
    assert info.crops == CropSettings(padding="mean")


@pytest.mark.parametrize("name", PRESETS)
def test_config_text_is_read_back(tmp_path: Path, name: str) -> None:
    info = pretrained.WeightsInfo(PRESETS[name], CropSettings(window=4.0, padding="mean"))
    (tmp_path / "config.json").write_text(pretrained.config_text(info))
    assert pretrained.read_config(tmp_path) == info


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2, "future": {}}, "format 2 is newer .* pip install --upgrade duotrack"),
        ({"format": 0}, "format must be 1, not 0"),
        ({"format": "1"}, "format: expected a whole number"),
        ({"format": ...}, "missing format"),
        ({"model": ...}, "missing model"),
        ({"crop": {}}, "unknown key 'crop'.*'crops'"),
        ({"model": {"width": 64, "heads": 5}}, "model: width 64 is not a multiple of 5 heads"),
        ({"model": {"mlp_ratio": 1e400}}, "model: mlp_ratio must be positive, not inf"),
    ],
)
def test_refuses_other_configs(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        pretrained.read_config(write_config(tmp_path, **changes))
    assert str(tmp_path / "config.json") in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "[]", "\ud800".encode("utf-8", "surrogatepass")])
def test_refuses_damaged_configs(tmp_path: Path, text: str | bytes) -> None:
    (tmp_path / "config.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=r"config\.json"):
        pretrained.read_config(tmp_path)


def test_locates_shipped_names_and_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "_ASSETS", tmp_path / "assets")
    shipped = write_config(tmp_path / "assets" / "duotrack-tiny")
    (tmp_path / "assets" / "clip").mkdir()
    mine = write_config(tmp_path / "mine")
    assert pretrained.shipped() == ["duotrack-tiny"]
    assert pretrained.locate("duotrack-tiny") == shipped
    assert pretrained.locate(str(mine)) == mine
    assert pretrained.locate(mine) == mine
    # A shipped name is a name and no way out of the package's folder.
    for wrong in ("clip", "../mine", "duotrack-tinny", ""):
        with pytest.raises(FileNotFoundError, match=r"shipped weights \(duotrack-tiny\) or a folder with config\.json"):
            pretrained.locate(wrong)


def test_says_what_is_wrong_with_a_path(tmp_path: Path) -> None:
    checkpoint = tmp_path / "OSTrack_CKD_ep0025.pth.tar"
    checkpoint.touch()
    for path, message in (
        (checkpoint, "is a file; .* `duotrack weights import`"),
        (tmp_path, r"is a folder without config\.json"),
        (tmp_path / "absent", "does not exist"),
    ):
        with pytest.raises(FileNotFoundError, match=message):
            pretrained.locate(path)


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc" * 1000)
    assert pretrained.sha256(tmp_path / "a") == hashlib.sha256(b"abc" * 1000).hexdigest()


def test_needs_no_torch() -> None:
    code = "import sys, duotrack.pretrained; sys.exit('torch' in sys.modules or 'safetensors' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
