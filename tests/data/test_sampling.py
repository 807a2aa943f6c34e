"""The description of the training data, and that the shipped weights are trained on nothing that may not ship."""

import json
import shutil
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import load_file

from duotrack import pretrained
from duotrack.configuration import plain, read
from duotrack.crops import CropSettings
from duotrack.data.folders import BrokenDatasetError
from duotrack.data.sampling import Clips, DataConfig, PairSource, read_labelled
from duotrack.model.config import preset
from duotrack.model.normalization import normalize

from ..layouts import write_dataset, write_other

RECIPE = Path(__file__).parents[2] / "configs" / "duotrack-tiny.yaml"
HELD_OUT = ("court_smoke", "demo_clip")
NOT_OURS_TO_SHIP = ("short_pairs", "popos", "grocery")
UNKNOWN_ORIGIN = ("dog", "juggle", "skateboarder", "snowboarder", "cyclist", "biker", "driving")  # names of clips


def shipped() -> dict[str, DataConfig]:
    """What the shipped model is trained on: the data of each of its folders of prepared pairs, by the folder's name."""
    names = [Path(each["folder"]).name for each in yaml.safe_load(RECIPE.read_text())["prepared"]]
    recipes = {name: RECIPE.with_suffix("") / f"{name}.yaml" for name in names}
    return {name: read(DataConfig, yaml.safe_load(path.read_text())["data"], name) for name, path in recipes.items()}


def test_the_shipped_weights_are_of_the_shipped_recipe() -> None:
    """But for the names of folders on somebody's disk."""
    trained = json.loads((pretrained.locate("duotrack-tiny") / "training.json").read_text())["recipe"]["prepared"]
    recipe = yaml.safe_load(RECIPE.read_text())["prepared"]
    data = [{**plain(config), "root": None, "cache": None} for config in shipped().values()]
    assert [each["weight"] for each in trained] == [each["weight"] for each in recipe]
    assert [{"root": None, "cache": None} | each["data"] for each in trained] == data


def test_the_shipped_recipe_uses_only_what_may_ship(shared: Path) -> None:
    patterns: list[str] = []
    for config in shipped().values():
        assert config.rendered is not None
        patterns += [pattern for group in config.clips for pattern in group.clips]
        patterns += [still.folder for still in config.stills]
        patterns += [*config.rendered.visible, *config.rendered.infrared]
        patterns += [*config.rendered.clips, *config.rendered.people]
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


def datasets(root: Path, *settings: dict[str, Any], **others: Any) -> DataConfig:
    cache = str(root.parent / "cache")
    return read(DataConfig, {"root": str(root), "cache": cache, "datasets": list(settings), **others}, "recipe.yaml")


LASHER = {"layout": "lasher", "folder": "LasHeR", "weight": 1, "sampling": {"min_frames": 10}}


def test_data_sets_are_mixed_by_their_weights(tmp_path: Path) -> None:
    """Infrared is grey, so a pair tells where it is from: from both, from visible alone, from infrared alone."""
    write_dataset(tmp_path / "LasHeR", "lasher")
    write_other(tmp_path / "GOT", "got10k")
    write_other(tmp_path / "thermal", "lasot")
    single = {"layout": "got10k", "folder": "GOT", "weight": 2}
    thermal = {"layout": "lasot", "folder": "thermal", "weight": 1, "modality": "infrared", "sampling": {"rendered": 1}}
    config = datasets(tmp_path, LASHER, single, thermal, corruption=0)
    source = PairSource(config, preset("debug"), CropSettings(), seed=0)
    assert source.problems == []
    pairs = [source.pair(index) for index in range(200)]
    black = [pair for pair in pairs if not pair.template[1].any()]
    assert {pair.shown for pair in black} == {(True, False)}
    assert len(black) / 200 == pytest.approx(1 / 2, abs=0.1)
    grey = [pair for pair in pairs if pair.shown == (True, True)]
    assert all(pair.search.any() and pair.skipped == () for pair in grey)


def test_broken_images_of_a_data_set_are_skipped_and_too_many_stop_the_run(tmp_path: Path) -> None:
    write_dataset(tmp_path / "LasHeR", "lasher")
    config = datasets(tmp_path, {**LASHER, "tolerance": 0.9}, corruption=0)
    source, again = (PairSource(config, preset("debug"), CropSettings(), seed=0) for _ in range(2))
    whole = [source.pair(index) for index in range(30)]
    broken = sorted((tmp_path / "LasHeR").rglob("infrared/i00[357].jpg"))
    for file in broken:
        file.write_bytes(file.read_bytes()[:-40])
    pairs = [source.pair(index) for index in range(30)]
    skipped = [pair for pair in pairs if pair.skipped]
    assert 5 < len(skipped) < 30
    assert {path for pair in skipped for path in pair.skipped} <= set(map(str, broken))
    for index, (pair, before) in enumerate(zip(pairs, whole, strict=True)):
        np.testing.assert_array_equal(pair.search, again.pair(index).search)
        assert np.array_equal(pair.search, before.search) == (not pair.skipped)
    strict = PairSource(datasets(tmp_path, LASHER, corruption=0), preset("debug"), CropSettings(), seed=0)
    with pytest.raises(BrokenDatasetError, match=r"LasHeR: \d+ of \d+ draws .* tolerance of 0\.2.*is truncated"):
        for index in range(200):
            strict.pair(index)


def test_sequences_left_out_are_reported(tmp_path: Path) -> None:
    write_dataset(tmp_path / "LasHeR", "lasher", sequences=5)
    (file,) = (tmp_path / "LasHeR").rglob("car/init.txt")
    file.unlink()
    source = PairSource(datasets(tmp_path, LASHER), preset("debug"), CropSettings(), seed=0)
    assert len(source.problems) == 1
    assert str(file.parent) in source.problems[0]


def test_validation_neither_mirrors_crops_nor_changes_their_brightness(tmp_path: Path) -> None:
    """All other draws are the same: boxes are those of training, some mirrored."""
    write_dataset(tmp_path / "LasHeR", "lasher")
    config = datasets(tmp_path, LASHER, corruption=0)
    training, validation = (
        PairSource(config, preset("debug"), CropSettings(), seed=0, validation=flag) for flag in (False, True)
    )
    mirrored = 0
    for index in range(20):
        a, b = training.pair(index), validation.pair(index)
        assert (b.brightness == 1).all()
        assert not (a.brightness == 1).any()
        same = np.allclose(a.search_box, b.search_box)
        np.testing.assert_array_equal(a.search if same else a.search[:, :, ::-1], b.search)
        mirrored += not same
    assert 3 < mirrored < 17


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layout": "lashr"}, r"datasets\[0\]: layout must be one of .*lasher.*, not 'lashr'"),
        ({"weight": 0}, r"datasets\[0\]: weight must be above 0, not 0"),
        ({"modality": "infrared"}, r"datasets\[0\]: modality is for sets of one modality"),
        ({"modality": "thermal"}, r"datasets\[0\]\.modality: expected 'visible' or 'infrared'"),
        ({"tolerance": 1}, r"datasets\[0\]: tolerance is a share"),
        ({"sampling": {"lookalikes": 0.5}}, r"datasets\[0\]: sampling\.lookalikes is for clips"),
        ({"sequence": "list.txt"}, r"datasets\[0\]: unknown key 'sequence'; did you mean 'sequences'"),
    ],
)
def test_settings_of_data_sets_are_checked_by_name(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"recipe\.yaml: {message}"):
        datasets(tmp_path, {**LASHER, **change})
    with pytest.raises(ValueError, match=r"recipe\.yaml: corruption is a share"):
        datasets(tmp_path, LASHER, corruption=2)


class Scripted:
    """A generator whose next numbers are written down beforehand; each request has to ask for the kind that is next."""

    def __init__(self, numbers: list[tuple[str, Any]]) -> None:
        self.numbers = numbers

    def _next(self, kind: str) -> Any:
        expected, value = self.numbers.pop(0)
        assert kind == expected
        return value

    def integers(self, *limits: Any) -> Any:
        return self._next("integers")

    def random(self, size: Any = None) -> Any:
        return self._next("uniform01") if size is None else np.array(self._next("rand"))

    def standard_normal(self, size: Any = None) -> Any:
        return np.array(self._next("randn"))

    def uniform(self, *limits: Any) -> Any:
        return self._next("brightness_uniform")


def test_published_samples_come_out_of_files_on_disk(shared: Path, tmp_path: Path) -> None:
    """The whole way from two folders and a text file to what the network sees, with the published random numbers."""
    folder = shared / "fixtures" / "preprocess"
    fixture = json.loads((folder / "expected.json").read_text())["training_samples"]
    expected = load_file(folder / "expected.safetensors")
    for modality in ("visible", "infrared"):
        (tmp_path / "clip" / modality).mkdir(parents=True)
        short = {"visible": "rgb", "infrared": "tir"}[modality]
        for number, part in enumerate(("template", "search")):
            shutil.copy(folder / fixture[f"{part}_{short}"], tmp_path / "clip" / modality / f"{number}.png")
    rows = [",".join(map(str, fixture[f"{part}_box"])) for part in ("template", "search")]
    (tmp_path / "clip" / "boxes.txt").write_text("\n".join(rows))
    sampling = {"min_frames": 2, "min_visible": 2}
    config = datasets(tmp_path, {"layout": "folders", "folder": "clip", "weight": 1, "sampling": sampling})
    source = PairSource(config, preset("ckd-base"), CropSettings(), seed=0)
    for index, sample in enumerate(fixture["samples"]):
        # Which target, template and search frame, whether the target is absent; the published ones; and whether there
        # is a look-alike, a rendered modality, weather: nothing of that is in the paper.
        numbers = [("integers", 0), ("integers", 0), ("integers", 1), ("uniform01", 0.5)]
        numbers += [(kind, value) for kind, value, *_ in sample["draws_in_order"]] + [("uniform01", 0.5)] * 3
        pair = source.makers[0](cast(np.random.Generator, Scripted(numbers)))
        assert pair is not None
        assert not numbers
        np.testing.assert_allclose(pair.template_box, sample["template_anno"], atol=1e-6)
        np.testing.assert_allclose(pair.search_box, sample["search_anno"], atol=1e-6)
        for part, crops, factor in (("template", pair.template, 0), ("search", pair.search, 1)):
            brightness = torch.from_numpy(pair.brightness)[factor].expand(2)
            for short, pixels in zip(
                ("rgb", "tir"), normalize(torch.from_numpy(crops), brightness).numpy(), strict=True
            ):
                name = f"train_{index}.{part}_{short}_every_16th_pixel"
                np.testing.assert_allclose(pixels[:, ::16, ::16], expected[name], atol=1e-5)


def test_missing_data_is_an_error(tmp_path: Path) -> None:
    config = DataConfig(str(tmp_path), clips=(Clips(("nothing_*",), 1.0),))
    with pytest.raises(FileNotFoundError, match="nothing_"):
        PairSource(config, preset("debug"), CropSettings(), seed=0)
    with pytest.raises(ValueError, match="nothing to draw pairs from"):
        PairSource(DataConfig(str(tmp_path)), preset("debug"), CropSettings(), seed=0)


def test_malformed_labels_are_named(tmp_path: Path) -> None:
    (tmp_path / "boxes.json").write_text('{"a.jpg": [["Car", 1, 2]]}')
    with pytest.raises(ValueError, match=r"boxes\.json: a\.jpg"):
        read_labelled(tmp_path, infrared=True)
