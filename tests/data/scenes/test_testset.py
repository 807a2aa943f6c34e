"""The set on disk: the same seed the same bytes, runs that go on, and attributes that agree with what is drawn."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from duotrack.cli import main
from duotrack.data.clips import open_clip, read_track
from duotrack.data.scenes import actors, pictures, testset
from duotrack.data.scenes.composition import Studio, compose
from duotrack.data.scenes.scene import KINDS, SIZE, Kind, Scene, Shot
from duotrack.evaluation.benchmark import load_ground_truth

FRAMES = 40


def digests(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def test_the_same_seed_gives_the_same_bytes(studio: Studio, tmp_path: Path) -> None:
    sets = [tmp_path / name for name in ("first", "second", "other")]
    for output, seed in zip(sets, (1, 1, 2), strict=True):
        testset.render(output, lambda: studio, sequences=2, frames=FRAMES, seed=seed)
    first = digests(sets[0])
    assert len(first) == 3 + 2 * (2 * FRAMES + 3)
    assert first == digests(sets[1])
    other = digests(sets[2])
    assert all(other[name] != digest for name, digest in first.items() if name.endswith(".jpg"))


def test_a_run_that_was_stopped_leaves_whole_sequences_and_goes_on(
    studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    testset.render(tmp_path / "at once", lambda: studio, sequences=2, frames=FRAMES)
    shot, taken = Scene.shot, []

    def stopped(scene: Scene, t: int) -> Shot:
        taken.append(t)
        if len(taken) > 2 * FRAMES:  # within the second sequence
            raise KeyboardInterrupt
        return shot(scene, t)

    output = tmp_path / "stopped"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Scene, "shot", stopped)
        testset.render(output, lambda: studio, sequences=2, frames=FRAMES)
    assert [folder.name for folder in output.iterdir() if folder.is_dir() and folder.name[0] != "."] == [
        "open-1-person"
    ]
    assert not (output / "sequences.txt").exists()
    testset.render(output, lambda: studio, sequences=2, frames=FRAMES)
    assert digests(output) == digests(tmp_path / "at once")


def test_a_set_that_is_whole_draws_nothing(studio: Studio, tmp_path: Path) -> None:
    testset.render(tmp_path, lambda: studio, sequences=1, frames=FRAMES)

    def unwanted() -> Studio:
        raise AssertionError("nothing is left to be drawn")

    testset.render(tmp_path, unwanted, sequences=1, frames=FRAMES)


def test_another_set_in_the_folder_is_refused(studio: Studio, tmp_path: Path) -> None:
    testset.render(tmp_path, lambda: studio, sequences=1, frames=FRAMES, seed=1)
    with pytest.raises(ValueError, match=r"rendered.json has .*name another folder"):
        testset.render(tmp_path, lambda: studio, sequences=1, frames=FRAMES, seed=2)
    (tmp_path / "rendered.json").write_text("{")
    with pytest.raises(ValueError, match=r"rendered.json is damaged"):
        testset.render(tmp_path, lambda: studio, sequences=1, frames=FRAMES, seed=1)
    with pytest.raises(ValueError, match="at least 40"):
        testset.render(tmp_path / "short", lambda: studio, sequences=1, frames=2)
    with pytest.raises(ValueError, match="holds something else"):
        testset.render(tmp_path / "open-1-person", lambda: studio, sequences=1, frames=FRAMES)


def test_nothing_is_written_where_pictures_are_missing(tmp_path: Path) -> None:
    def missing() -> Studio:
        raise FileNotFoundError("a picture is missing")

    with pytest.raises(FileNotFoundError):
        testset.render(tmp_path / "set", missing, sequences=1, frames=FRAMES)
    assert not (tmp_path / "set").exists()


def describe(studio: Studio, kind: Kind, target: actors.Kind = "person", seed: int = 0) -> dict[str, Any]:
    scene = compose(kind, target, FRAMES, [seed], studio)
    shots = [scene.shot(t) for t in range(FRAMES)]
    return testset.describe(scene, np.stack([shot.box for shot in shots]), np.array([shot.seen for shot in shots]))


def test_obstacles_hide_the_target_and_the_track_says_so(
    studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(testset, "KINDS", ("occlusion", "open"))
    folders = testset.render(tmp_path, lambda: studio, sequences=2, frames=FRAMES)
    facts = json.loads((folders[0] / "scene.json").read_text())
    assert facts["kind"] == "occlusion"
    assert "PO" in facts["attributes"]
    assert "NO" not in facts["attributes"]
    assert facts["seen"][0] > 0.97
    assert min(facts["seen"]) < 0.5
    file = folders[0] / "tracks" / "target.txt"
    flags = [int(line.rpartition(",")[2]) for line in file.read_text().splitlines()]
    assert flags == [0 if seen >= 0.9 else 1 if seen >= 0.15 else 2 for seen in facts["seen"]]
    free = read_track(file, frames=FRAMES)
    np.testing.assert_array_equal(free.frames, np.flatnonzero(np.array(flags) == 0))

    # The set as LasHeR, and a sequence as a clip.
    truth = load_ground_truth("lasher", tmp_path)
    assert set(truth.names) == {folder.name for folder in folders}
    clip = open_clip(folders[0], tmp_path / "cache")
    assert clip.visible is not None
    assert clip.visible.shape == (FRAMES, SIZE[1], SIZE[0], 3)
    rows = (tmp_path / "attributes.csv").read_text().splitlines()
    header = rows[0].split(",")
    for row, folder in zip(rows[1:], folders, strict=True):
        name, *values = row.split(",")
        has = json.loads((folder / "scene.json").read_text())["attributes"]
        assert name == folder.name
        assert [attribute for attribute, value in zip(header[1:], values, strict=True) if value == "1"] == has


@pytest.mark.parametrize("kind", ["open", "size"])
def test_a_change_of_size_is_said_where_there_is_one(studio: Studio, kind: Kind) -> None:
    grown = compose(kind, "vehicle", FRAMES, [4], studio)
    areas = np.array([grown.box(t)[2:].prod() for t in range(FRAMES)]) / grown.box(0)[2:].prod()
    assert ("SV" in describe(studio, kind, "vehicle", 4)["attributes"]) == bool(areas.max() > 2 or areas.min() < 0.5)
    if kind == "size":
        assert areas.max() > 2 or areas.min() < 0.5


@pytest.mark.parametrize(
    ("attribute", "kind", "when"),
    [("HO", "smoke", "smoke"), ("TC", "thermal crossover", "thermal crossover"), ("LI", "night", None)],
)
def test_weather_is_said_where_there_is_some(studio: Studio, attribute: str, kind: Kind, when: str | None) -> None:
    facts = describe(studio, kind)
    assert attribute in facts["attributes"]
    assert attribute not in describe(studio, "open")["attributes"]
    if when:
        ((first, last),) = facts["when"][when]
        assert first < FRAMES // 2 < last


def test_the_plan_gives_every_kind_every_sort_of_target() -> None:
    entries = testset.plan(60)
    assert len({name for name, _, _ in entries}) == 60
    for kind in KINDS:
        assert {target for _, each, target in entries if each == kind} == set(actors.KINDS)
    assert testset.plan(20) == entries[:20]


def test_the_command_renders_from_a_data_folder(
    studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "set"
    command = ["data", "render", "--output", str(output), "--data", str(tmp_path), "--sequences", "1", "--frames", "40"]
    assert main([*command[:5], str(tmp_path / "nowhere"), *command[6:]]) == 1
    assert "is not a folder" in capsys.readouterr().err
    monkeypatch.setattr(pictures, "open_studio", lambda root, seed: studio)
    assert main(command) == 0
    assert capsys.readouterr().out == f"{output}\n"
    assert len(list((output / "open-1-person" / "visible").iterdir())) == FRAMES
