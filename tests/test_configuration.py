import json
import math
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duotrack.configuration import override, parse_yaml, plain, read
from duotrack.crops import CropSettings
from duotrack.model.config import PRESETS, Elimination, ModelConfig


@dataclass(frozen=True)
class Optimizer:
    rate: float
    steps: int = 10
    name: Literal["adamw", "sgd"] = "adamw"
    decay: float | None = None


@dataclass(frozen=True)
class Source:
    folder: str
    share: float = 1.0


@dataclass(frozen=True)
class Recipe:
    output: str
    optimizer: Optimizer
    model: str | ModelConfig = "debug"
    sources: tuple[Source, ...] = ()
    size: tuple[int, int] = (96, 192)
    fast: bool = False
    teacher: Source | None = None
    keep: float | tuple[float, ...] = field(default=0.7)

    def __post_init__(self) -> None:
        if self.size[0] > self.size[1]:
            raise ValueError(f"size must ascend, not {self.size}")


def recipe(**changes: Any) -> dict[str, Any]:
    return {"output": "out", "optimizer": {"rate": 1}} | changes


def test_reads_nested_plain_data() -> None:
    data = recipe(
        model={"width": 64, "elimination": {"layers": [3, 6], "keep": [0.9, 0.7]}, "heads": 4},
        sources=[{"folder": "a"}, {"folder": "b", "share": 2}],
        size=[64, 128],
        teacher={"folder": "t"},
        keep=1,
    )
    config = read(Recipe, data, "r.yaml")
    assert config == Recipe(
        output="out",
        optimizer=Optimizer(1.0),
        model=ModelConfig(width=64, heads=4, elimination=Elimination((3, 6), (0.9, 0.7))),
        sources=(Source("a"), Source("b", 2.0)),
        size=(64, 128),
        teacher=Source("t"),
        keep=1.0,
    )
    # An int stands for a float, and is one afterwards.
    assert [type(value) for value in (config.optimizer.rate, config.sources[1].share, config.keep)] == [float] * 3
    assert read(Recipe, recipe(teacher=None, model="ckd-base"), "r.yaml").model == "ckd-base"


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"optimiser": {}}, ["r.yaml", "unknown key 'optimiser'", "did you mean 'optimizer'"]),
        ({"optimizer": {"rate": 1, "stpes": 3}}, ["r.yaml: optimizer", "'stpes'", "'steps'"]),
        ({"zzz": 1}, ["unknown key 'zzz'", "output, optimizer, model"]),
        ({"optimizer": {}}, ["r.yaml: optimizer", "missing rate"]),
        ({"optimizer": {"rate": "fast"}}, ["optimizer.rate", "expected a number", "'fast' (str)"]),
        ({"optimizer": {"rate": True}}, ["optimizer.rate", "expected a number", "True (bool)"]),
        ({"optimizer": {"rate": 1, "steps": 1.5}}, ["optimizer.steps", "expected a whole number", "1.5 (float)"]),
        ({"optimizer": {"rate": 1, "steps": True}}, ["optimizer.steps", "expected a whole number"]),
        ({"optimizer": {"rate": 1, "name": "adam"}}, ["optimizer.name", "'adamw' or 'sgd'", "'adam'"]),
        ({"optimizer": {"rate": 1, "decay": "no"}}, ["optimizer.decay", "a number or null"]),
        ({"optimizer": [1]}, ["optimizer", "expected a group of settings", "[1] (list)"]),
        ({"sources": [{"folder": "a"}, {"folder": 3}]}, ["sources[1].folder", "expected text", "3 (int)"]),
        ({"sources": "a"}, ["sources", "expected a list", "'a' (str)"]),
        ({"size": [1, 2, 3]}, ["size", "a list of 2", "[1, 2, 3]"]),
        ({"fast": 1}, ["fast", "true or false", "1 (int)"]),
        ({"output": None}, ["output", "expected text", "null"]),
        # The dataclass in a union has the better error.
        ({"model": {"widht": 3}}, ["r.yaml: model", "'widht'", "'width'"]),
        ({"teacher": {"folder": 3}}, ["teacher.folder", "expected text"]),
        # What the dataclass itself refuses.
        ({"size": [2, 1]}, ["r.yaml", "size must ascend"]),
        ({"model": {"width": 50, "heads": 12}}, ["r.yaml: model", "not a multiple of 12 heads"]),
    ],
)
def test_refuses_and_says_where(changes: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(ValueError) as caught:
        read(Recipe, recipe(**changes), "r.yaml")
    assert all(part in str(caught.value) for part in parts), caught.value


def test_lists_everything_that_is_missing() -> None:
    with pytest.raises(ValueError, match="missing output, optimizer"):
        read(Recipe, {}, "r.yaml")
    with pytest.raises(ValueError, match=r"r\.yaml: expected a group of settings, found null"):
        read(Recipe, None, "r.yaml")


configs = st.builds(
    ModelConfig,
    width=st.sampled_from([32, 64]),
    heads=st.sampled_from([2, 4]),
    depth=st.integers(4, 9),
    mlp_ratio=st.floats(0.5, 8),
    drop_path=st.floats(0, 0.9),
    shared_students=st.booleans(),
    elimination=st.none()
    | st.builds(
        Elimination,
        layers=st.just((1, 3)),
        keep=st.floats(0.1, 1) | st.tuples(st.floats(0.1, 1), st.floats(0.1, 1)),
        template_tokens=st.sampled_from(["CTR_POINT", "CTR_REC", "ALL", "GT_BOX"]),
    ),
) | st.sampled_from(list(PRESETS.values()))


@given(configs)
def test_plain_goes_through_json_and_back(config: ModelConfig) -> None:
    assert read(ModelConfig, json.loads(json.dumps(plain(config))), "c.json") == config


def test_plain_of_nested_tuples() -> None:
    config = Recipe("out", Optimizer(0.5), sources=(Source("a"),), model=ModelConfig())
    data = plain(config)
    assert data["sources"] == [{"folder": "a", "share": 1.0}]
    assert data["size"] == [96, 192]
    assert data["model"]["elimination"] is None
    assert read(Recipe, data, "r.yaml") == config


def test_override_sets_and_makes_groups_and_leaves_the_original() -> None:
    before = {"optimizer": {"rate": 1.0, "steps": 3}, "teacher": None}
    after = override(
        before, ["optimizer.rate=1e-4", "teacher.folder=a=b", "size=[64, 128]", "new.deep.key=true", "output="]
    )
    assert after == {
        "optimizer": {"rate": 1e-4, "steps": 3},
        "teacher": {"folder": "a=b"},
        "size": [64, 128],
        "new": {"deep": {"key": True}},
        "output": None,
    }
    assert before == {"optimizer": {"rate": 1.0, "steps": 3}, "teacher": None}


@pytest.mark.parametrize("assignment", ["optimizer.rate", "=3", "a..b=3", ".a=3", "a.=3", ""])
def test_override_refuses_what_is_no_assignment(assignment: str) -> None:
    with pytest.raises(ValueError, match=r"no assignment: write key=value"):
        override({}, [assignment])


def test_override_refuses_to_go_into_a_value() -> None:
    with pytest.raises(ValueError, match=r"optimizer\.rate is 1\.0, not a group"):
        override({"optimizer": {"rate": 1.0}}, ["optimizer.rate.x=3"])
    with pytest.raises(ValueError, match="not valid YAML"):
        override({}, ["a=[1, 2"])


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_yaml_reads_every_number_python_writes(number: float) -> None:
    (read_back,) = parse_yaml(f"- {number!r}", "x")
    assert read_back == number or math.isclose(read_back, number)
    assert isinstance(read_back, float)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("-2E3", -2000.0),
        ("1.5e-3", 0.0015),
        ("17", 17),
        ("1e-4x", "1e-4x"),
        ("e5", "e5"),
        ("null", None),
    ],
)
def test_yaml_numbers(text: str, value: object) -> None:
    assert parse_yaml(text, "x") == value


def test_crop_settings_from_json() -> None:
    assert read(CropSettings, {"padding": "mean", "window": 4}, "c") == CropSettings(padding="mean", window=4.0)
    with pytest.raises(ValueError, match="crop factors must be positive"):
        read(CropSettings, {"search_factor": -1}, "c")


def test_a_group_within_itself_without_end_is_an_error() -> None:
    nested: dict[str, object] = {}
    for _ in range(2000):
        nested = {"teacher": nested}
    with pytest.raises(ValueError, match="file: settings are nested too deeply"):
        read(ModelConfig, nested, "file")
