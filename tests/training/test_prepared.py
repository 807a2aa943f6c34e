"""Prepared pairs: what is on disk, who may read it, in which order it comes, and that it trains as crops do."""

import json
import pickle
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from duotrack import cli, export
from duotrack.data.sampling import DataConfig, PairSource
from duotrack.model import CoupledNetwork
from duotrack.model.stem import LiteStem
from duotrack.training import engine, preparation
from duotrack.training.batches import Batch, collate
from duotrack.training.config import OptimizerConfig, Prepared, TrainingConfig
from duotrack.training.prepared import (
    PERIOD,
    HeldOut,
    PreparedFolder,
    PreparedPairs,
    Shard,
    open_prepared,
    shard_path,
    stem_hash,
    take_turns,
)
from duotrack.training.trial import dry_run

from .tiny import LITE, NETWORK, recipe, rows

PAIRS, SHARD = 8, 3
CROPS = {"template_factor": 2.0, "search_factor": 4.0, "padding": "zero", "template_size": 32, "search_size": 64}

MANIFEST = json.dumps({"pairs": 5, "shard": 5, "seed": 0, "data": {}, "crops": CROPS, "stem": "none"})


@pytest.fixture(scope="module", autouse=True)
def small_shards() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preparation, "SHARD", SHARD)
        graphs: dict[tuple[str, int], bytes] = {}  # an export takes seconds

        def stem_graph(stem: LiteStem, size: int) -> bytes:
            key = (stem_hash(stem), size)
            return graphs.get(key) or graphs.setdefault(key, export.stem_graph(stem, size))

        patch.setattr(preparation, "stem_graph", stem_graph)
        yield


@pytest.fixture(scope="module")
def drawing(data: Path) -> TrainingConfig:
    """The recipe that pairs are prepared by."""
    return recipe(data, Path("unused"), model=LITE)


@pytest.fixture(scope="module")
def prepared(drawing: TrainingConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pairs in three files."""
    folder = tmp_path_factory.mktemp("prepared") / "pairs"
    facts = preparation.prepare(drawing, folder, PAIRS)
    assert (facts["pairs"], facts["new"]) == (PAIRS, PAIRS)
    return folder


def training(drawing: TrainingConfig, folder: Path, output: Path, **changes: Any) -> TrainingConfig:
    """A recipe that trains on the prepared pairs and has no other data."""
    return replace(
        drawing, output=str(output), data=DataConfig(root="nowhere"), prepared=(Prepared(str(folder)),), **changes
    )


def made_up(folder: Path, pairs: int, shard: int = 5) -> Path:
    """A folder in which the boxes of pair n are all n."""
    folder.mkdir(parents=True)
    manifest = json.loads(MANIFEST) | {"pairs": pairs, "shard": shard}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    for number, first in enumerate(range(0, pairs, shard)):
        numbers = np.arange(first, min(first + shard, pairs), dtype=np.float32)
        boxes = np.repeat(numbers[:, None], 4, axis=1)
        tensors: dict[str, npt.NDArray[Any]] = {
            "template": np.zeros((len(numbers), 2, 2, 2, 112), np.float16),
            "search": np.zeros((len(numbers), 2, 4, 4, 112), np.float16),
            "template_box": boxes,
            "search_box": boxes,
            "present": np.ones(len(numbers), np.bool_),
        }
        save_file(tensors, shard_path(folder, number))
    return folder


def shown(source: PreparedPairs | HeldOut, numbers: range) -> list[int]:
    return [int(source.pair(number).search_box[0]) for number in numbers]


class TestPreparation:
    def test_features_are_what_the_stem_makes_of_the_crops(self, drawing: TrainingConfig, prepared: Path) -> None:
        network, _, _ = engine.prepare(drawing)
        assert network.stem is not None
        source, folder = PairSource(drawing.data, LITE, drawing.crops, seed=drawing.seed), PreparedFolder(prepared)
        assert len(folder) == PAIRS
        for number in range(PAIRS):
            drawn, found = source.pair(number), folder.pair(number)
            images = collate([drawn], LITE.search_grid).inputs(brightness=True)
            for crop, features in zip(images, (found.template, found.search), strict=True):
                with torch.no_grad():
                    expected = network.stem(crop[:, 0]).permute(0, 2, 3, 1)
                # Half a unit in the last place of float16, and what two runtimes differ by.
                torch.testing.assert_close(torch.from_numpy(features).float(), expected, rtol=2**-11, atol=1e-4)
            np.testing.assert_array_equal(found.template_box, drawn.template_box)
            np.testing.assert_array_equal(found.search_box, drawn.search_box)
            assert found.present == drawn.present

    def test_a_stopped_preparation_goes_on_and_a_finished_one_is_extended(
        self, drawing: TrainingConfig, prepared: Path, tmp_path: Path
    ) -> None:
        folder = tmp_path / "pairs"
        shutil.copytree(prepared, folder)
        shard_path(folder, 0).unlink()
        shard_path(folder, 1).write_bytes(shard_path(prepared, 1).read_bytes()[:100])
        facts = preparation.prepare(drawing, folder, PAIRS + 1, workers=1)
        assert facts["new"] == 3 * SHARD  # the last file grew from two pairs to three
        for shard in (0, 1):
            assert shard_path(folder, shard).read_bytes() == shard_path(prepared, shard).read_bytes()
        before, after = (load_file(shard_path(one, 2)) for one in (prepared, folder))
        for name, values in before.items():
            np.testing.assert_array_equal(after[name][: len(values)], values)
        assert len(PreparedFolder(folder)) == PAIRS + 1
        assert preparation.prepare(drawing, folder, PAIRS + 1)["new"] == 0

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"seed": 4}, "seed"),
            ({"data": "corruption"}, ": data differ"),
            ({"model": replace(LITE, search_size=160)}, ": crops differ"),
        ],
    )
    def test_a_folder_of_another_recipe_is_refused(
        self, drawing: TrainingConfig, prepared: Path, change: dict[str, Any], message: str
    ) -> None:
        if "data" in change:
            change = {"data": replace(drawing.data, corruption=0.5)}
        before = (prepared / "manifest.json").read_text()
        with pytest.raises(ValueError, match=message) as caught:
            preparation.prepare(replace(drawing, **change), prepared, PAIRS)
        assert str(prepared) in str(caught.value)
        assert (prepared / "manifest.json").read_text() == before

    def test_data_that_is_not_there_leaves_nothing(self, drawing: TrainingConfig, tmp_path: Path) -> None:
        config = replace(drawing, data=replace(drawing.data, root=str(tmp_path / "nowhere")))
        with pytest.raises(FileNotFoundError, match="nowhere"):
            preparation.prepare(config, tmp_path / "pairs", PAIRS)
        assert not (tmp_path / "pairs").exists()

    def test_files_of_unknown_origin_are_not_taken_over(
        self, drawing: TrainingConfig, prepared: Path, tmp_path: Path
    ) -> None:
        shutil.copy(shard_path(prepared, 0), shard_path(tmp_path, 0))
        with pytest.raises(ValueError, match=r"without their manifest\.json"):
            preparation.prepare(drawing, tmp_path, PAIRS)

    def test_fewer_pairs_than_there_are(self, drawing: TrainingConfig, prepared: Path) -> None:
        with pytest.raises(ValueError, match=f"holds {PAIRS} pairs of this recipe already"):
            preparation.prepare(drawing, prepared, PAIRS - 1)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"model": NETWORK}, "model: .* has a patch stem"),
            ({"model": replace(LITE, teacher=LITE)}, r"model\.teacher: .* one of their own"),
            ({"optimizer": OptimizerConfig(stem_rate=1e-4)}, r"stem_rate: .* 0\.0001 trains it"),
        ],
    )
    def test_a_stem_that_is_not_frozen_or_not_there_is_refused_at_both_ends(
        self, drawing: TrainingConfig, prepared: Path, tmp_path: Path, change: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            preparation.prepare(replace(drawing, **change), tmp_path / "pairs", PAIRS)
        assert not (tmp_path / "pairs").exists()
        with pytest.raises(ValueError, match=message):
            engine.train(training(drawing, prepared, tmp_path / "run", **change))

    def test_a_recipe_that_draws_nothing(self, drawing: TrainingConfig, prepared: Path, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="data: nothing to draw pairs from"):
            preparation.prepare(training(drawing, prepared, tmp_path), tmp_path / "pairs", PAIRS)


class TestReading:
    def test_missing_and_damaged_files_are_named(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"manifest\.json does not exist.*duotrack prepare"):
            PreparedFolder(tmp_path)
        folder = made_up(tmp_path / "pairs", 12)
        shard_path(folder, 1).rename(folder / "elsewhere")
        with pytest.raises(ValueError, match=r"1 of 3 files .* missing, such as pairs-000001"):
            PreparedFolder(folder)
        shard_path(folder, 1).write_bytes(b"\0" * 64)
        with pytest.raises(ValueError, match=r"pairs-000001\.safetensors is no shard .*same duotrack prepare again"):
            PreparedFolder(folder)
        shutil.copy(shard_path(folder, 2), shard_path(folder, 1))  # two pairs, not five
        with pytest.raises(ValueError, match=r"pairs-000001\.safetensors holds .*expected"):
            PreparedFolder(folder)

    @pytest.mark.parametrize(
        "text", ["{", "[]", "{}", MANIFEST.replace("64", "null"), MANIFEST.replace("search_size", "size")]
    )
    def test_a_damaged_manifest_is_named(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(ValueError, match=r"manifest\.json is no manifest"):
            PreparedFolder(tmp_path)

    def test_a_shard_opens_again_in_a_worker_that_was_not_forked(self, tmp_path: Path) -> None:
        path = shard_path(made_up(tmp_path / "pairs", 5), 0)
        assert pickle.loads(pickle.dumps(Shard(path, 5, CROPS))).pair(3).search_box[0] == 3

    def test_other_crops_and_other_stems_are_refused(
        self, drawing: TrainingConfig, prepared: Path, tmp_path: Path
    ) -> None:
        config = training(drawing, prepared, tmp_path)
        wide = replace(config, crops=replace(config.crops, search_factor=5.0))
        with pytest.raises(ValueError, match=r"prepared from crops .*4\.0.* the recipe's are .*5\.0"):
            open_prepared(wide, CoupledNetwork(LITE).stem)
        torch.manual_seed(99)
        with pytest.raises(ValueError, match="prepared by another stem than that of the recipe's start, 'scratch'"):
            open_prepared(config, CoupledNetwork(LITE).stem)


class TestOrder:
    @given(st.lists(st.floats(0.01, 10), min_size=1, max_size=6))
    def test_turns_are_shared_by_weights_and_evenly_spread(self, weights: list[float]) -> None:
        owner, rank, counts = take_turns(weights)
        assert counts.sum() == len(owner) == PERIOD
        np.testing.assert_allclose(counts / PERIOD, np.array(weights) / sum(weights), atol=1 / PERIOD)
        for which, count in enumerate(counts):
            own = owner == which
            np.testing.assert_array_equal(rank[own], np.arange(count))
            # Of the first n turns it has its share, give or take less than one for each of the others.
            share = np.arange(1, PERIOD + 1) * count / PERIOD
            assert np.abs(own.cumsum() - share).max() <= len(weights)

    def test_every_pair_is_shown_once_before_any_comes_again(self, tmp_path: Path) -> None:
        folder = made_up(tmp_path / "pairs", 12)
        pairs = PreparedPairs((Prepared(str(folder)),), seed=7, held_out=3)
        epochs = [shown(pairs, range(first, first + 9)) for first in (0, 9, 18)]
        for epoch in epochs:
            assert sorted(epoch) == list(range(9))
        assert epochs[0] != epochs[1] != epochs[2]
        assert shown(HeldOut(pairs), range(3)) == [9, 10, 11]

    def test_a_pair_follows_from_seed_and_number_alone(self, tmp_path: Path) -> None:
        folder = made_up(tmp_path / "pairs", 12)
        first, second, other = (PreparedPairs((Prepared(str(folder)),), seed=seed, held_out=2) for seed in (7, 7, 8))
        expected = shown(first, range(40))
        assert [int(second.pair(number).search_box[0]) for number in reversed(range(40))] == expected[::-1]
        assert shown(other, range(40)) != expected

    def test_folders_are_mixed_in_training_and_validation(self, tmp_path: Path) -> None:
        folders = (made_up(tmp_path / "a", 100), made_up(tmp_path / "b", 40))
        mixed = tuple(Prepared(str(folder), weight) for folder, weight in zip(folders, (3, 1), strict=True))
        pairs = PreparedPairs(mixed, seed=1, held_out=8)
        turns = [pairs._turn(number) for number in range(4000)]
        assert Counter(which for which, _ in turns) == {0: 3000, 1: 1000}
        # Each folder's own count goes on without a gap, across rounds.
        for which in (0, 1):
            assert [turn for one, turn in turns if one == which] == list(range(3000 if which == 0 else 1000))
        held_out = {(pairs._turn(number)[0], box) for number, box in enumerate(shown(HeldOut(pairs), range(8)))}
        assert held_out == {(0, n) for n in range(94, 100)} | {(1, n) for n in (38, 39)}
        trained = {(pairs._turn(number)[0], box) for number, box in enumerate(shown(pairs, range(200)))}
        assert trained == {(0, n) for n in range(94)} | {(1, n) for n in range(38)}

    def test_too_few_pairs_and_a_weight_that_rounds_to_nothing(self, tmp_path: Path) -> None:
        folder = str(made_up(tmp_path / "pairs", 4))
        with pytest.raises(ValueError, match="of its 4 pairs 4 would be kept back"):
            PreparedPairs((Prepared(folder),), seed=0, held_out=4)
        with pytest.raises(ValueError, match=r"weight 0\.0001 is below a thousandth"):
            PreparedPairs((Prepared(folder), Prepared(folder, 1e-4)), seed=0, held_out=1)


class TestTraining:
    def test_a_step_from_features_equals_one_from_crops(self, drawing: TrainingConfig, prepared: Path) -> None:
        """Style, content, both teachers and masking included; and what differs comes from float16 alone."""
        config = replace(drawing, batch_size=4)
        source, folder = PairSource(drawing.data, LITE, drawing.crops, seed=drawing.seed), PreparedFolder(prepared)
        crops = collate([source.pair(number) for number in range(4)], LITE.search_grid)
        features = collate([folder.pair(number) for number in range(4)], LITE.search_grid)
        losses, found = self.step(config, features)
        plain_losses, _ = self.step(config, crops)
        rounded_losses, rounded = self.step(config, crops, rounded=True)
        assert len(losses) == 11
        assert losses == pytest.approx(plain_losses, rel=2e-3)
        assert losses == pytest.approx(rounded_losses, rel=2e-4)
        assert found.keys() == rounded.keys()
        assert not any(name.startswith("stem") for name in found)
        for name, gradient in rounded.items():
            # A runtime's last bit makes a few features round the other way.
            assert float((found[name] - gradient).norm()) <= 5e-3 * float(gradient.norm()) + 1e-6, name

    @staticmethod
    def step(
        config: TrainingConfig, batch: Batch, *, rounded: bool = False
    ) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
        """Losses and gradients of a first step; ``rounded`` has the stem's features go through float16."""
        network, optimizer, precision = engine.prepare(config)
        assert network.stem is not None
        if rounded:
            network.stem.register_forward_hook(lambda stem, images, features: features.half().float())
        losses, _ = engine.train_step(network, optimizer, [batch], config, 0, precision)
        gradients = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
        return {name: value.item() for name, value in losses.terms.items()}, gradients

    def test_a_run_on_prepared_pairs_goes_on_where_it_stopped(
        self, drawing: TrainingConfig, prepared: Path, tmp_path: Path
    ) -> None:
        constant = replace(drawing.optimizer, schedule="constant")  # the same for any number of steps
        config = training(
            drawing, prepared, tmp_path / "whole", steps=4, validate_every=2, pictures=2, optimizer=constant
        )
        weights = engine.train(config)
        halves = replace(config, output=str(tmp_path / "halves"), workers=1)
        engine.train(replace(halves, steps=2))
        engine.train(halves)
        assert rows(tmp_path / "halves") == rows(tmp_path / "whole")
        assert not (tmp_path / "whole" / "pictures").exists()
        assert all(0 <= row["validation.iou"] <= 1 for row in rows(tmp_path / "whole") if "validation.iou" in row)
        record = (weights / "training.json").read_text()
        assert str(tmp_path) not in record and str(prepared) not in record
        assert json.loads(record)["recipe"]["prepared"][0]["pairs"] == PAIRS

    def test_a_trial(self, drawing: TrainingConfig, prepared: Path, tmp_path: Path) -> None:
        assert dry_run(training(drawing, prepared, tmp_path / "run"))["steps"] == 6


def test_the_command(prepared: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import yaml

    from duotrack.configuration import plain

    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(plain(recipe(data, tmp_path / "run", model=LITE))))
    command = ["prepare", "--config", str(path), "--output", str(prepared), "--json"]
    assert cli.main([*command, "--pairs", str(PAIRS)]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["folder"], facts["pairs"], facts["new"]) == (str(prepared), PAIRS, 0)
    assert cli.main([*command, "--pairs", str(PAIRS), "--set", "seed=9"]) == 1
    assert "seed" in capsys.readouterr().err
