"""The description of the training data, and that the shipped weights are trained on nothing that may not ship."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from duotrack.configuration import read
from duotrack.crops import CropSettings
from duotrack.data.sampling import Clips, DataConfig, PairSource, read_labelled
from duotrack.model.config import preset

RECIPE = Path(__file__).parents[2] / "configs" / "duotrack-tiny.yaml"
HELD_OUT = ("court_smoke", "demo_clip")
NOT_OURS_TO_SHIP = ("short_pairs", "popos", "grocery")
UNKNOWN_ORIGIN = ("dog", "juggle", "skateboarder", "snowboarder", "cyclist", "biker", "driving")  # names of clips


def shipped() -> DataConfig:
    return read(DataConfig, yaml.safe_load(RECIPE.read_text())["data"], RECIPE.name)


def test_the_shipped_recipe_uses_only_what_may_ship(shared: Path) -> None:
    config = shipped()
    assert config.rendered is not None
    patterns = [pattern for group in config.clips for pattern in group.clips]
    patterns += [still.folder for still in config.stills]
    patterns += [*config.rendered.visible, *config.rendered.infrared, *config.rendered.clips, *config.rendered.people]
    patterns += [pattern for cutouts in config.rendered.cutouts for pattern in cutouts.files]
    used = [path for pattern in patterns for path in (shared / "data").glob(pattern)]
    assert len(used) > 800
    for path in used:
        parts = path.relative_to(shared / "data").parts
        assert not {*HELD_OUT, *NOT_OURS_TO_SHIP} & {*parts}, path
        assert not (parts[:-1] == ("visible_only",) and parts[-1].startswith(UNKNOWN_ORIGIN)), path
        assert not (parts[:-1] == ("cutouts", "clips") and parts[-1].startswith(UNKNOWN_ORIGIN)), path


def test_a_small_recipe_opens_and_streams(shared: Path, tmp_path: Path) -> None:
    clips = (Clips(("thermal_only/uav_junction_*",), 1.0, lookalikes=()),)
    config = DataConfig(str(shared / "data"), str(tmp_path), clips=clips)
    with pytest.raises(ValueError, match="no target"):
        PairSource(config, preset("debug"), CropSettings(), seed=0)
    text = {"clips": ["thermal_only/uav_junction_*"], "weight": 1, "sampling": {"min_frames": 10, "rendered": 1.0}}
    config = read(DataConfig, {"root": str(shared / "data"), "cache": str(tmp_path), "clips": [text]}, "here")
    streams = [PairSource(config, preset("debug"), CropSettings(), seed=seed) for seed in (0, 0, 1)]
    a, b, c = (stream.pair(3) for stream in streams)
    assert a.search.shape == (2, 128, 128, 3)
    np.testing.assert_array_equal(a.search, b.search)
    assert not np.array_equal(a.search, c.search)


def test_missing_data_is_an_error(tmp_path: Path) -> None:
    config = DataConfig(str(tmp_path), clips=(Clips(("nothing_*",), 1.0),))
    with pytest.raises(FileNotFoundError, match="nothing_"):
        PairSource(config, preset("debug"), CropSettings(), seed=0)
    with pytest.raises(ValueError, match="at least one source"):
        PairSource(DataConfig(str(tmp_path)), preset("debug"), CropSettings(), seed=0)


def test_malformed_labels_are_named(tmp_path: Path) -> None:
    (tmp_path / "boxes.json").write_text('{"a.jpg": [["Car", 1, 2]]}')
    with pytest.raises(ValueError, match=r"boxes\.json: a\.jpg"):
        read_labelled(tmp_path, infrared=True)
