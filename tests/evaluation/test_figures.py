import builtins
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation, Text

from duotrack.evaluation import figures
from duotrack.evaluation.benchmark import BENCHMARKS, GroundTruth
from duotrack.evaluation.metrics import Values
from duotrack.evaluation.protocols import protocol
from duotrack.evaluation.report import Report
from duotrack.evaluation.scoring import Scores

SEQUENCES = tuple(f"sequence{number}" for number in range(6))
HAVING = {"NO": {0, 1, 2}, "PO": {1, 2, 3}, "TO": {3, 4, 5}, "HO": set(), "MB": {5}}

LEVELS = {"low": (1, 2, 3, 4, 5, 6), "high": (7, 8, 9, 9, 8, 7), "middle": (5, 5, 5, 5, 5, 5)}
"""Tracker to how many of ten frames hit in each sequence: its value in every metric, in tenths."""
SPEEDS = {"low": 160.0, "high": 5.0}


def report(
    levels: Mapping[str, Sequence[int]],
    benchmark: str = "lasher",
    attributes: Sequence[str] = tuple(HAVING),
    **more: Any,
) -> Report:
    """A report whose curves are flat; a tracker with fewer levels than sequences lacks the last ones."""
    rules = protocol(benchmark)
    truth = GroundTruth(
        benchmark=BENCHMARKS[benchmark],
        names=SEQUENCES,
        visible={name: np.ones((10, 4)) for name in SEQUENCES},
        infrared=None,
        attributes={name: frozenset(SEQUENCES[i] for i in HAVING[name]) for name in attributes},
        source="made up",
        remarks=(),
    )
    scores = {
        name: Scores(
            protocol=rules,
            names=SEQUENCES[: len(row)],
            missing=SEQUENCES[len(row) :],
            frames=np.full(len(row), 10),
            counts={
                one.kind: np.repeat(np.array(row)[:, None], len(one.thresholds), 1) for one in rules.curves.values()
            },
            attributes={name: np.array([i in HAVING[name] for i in range(len(row))]) for name in attributes},
        )
        for name, row in levels.items()
    }
    return Report(benchmark, truth.benchmark.title, "official", truth, tuple(levels), scores, **more)


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def points(line: Line2D) -> Values:
    """(N, 2) float64: what a line goes through."""
    return np.asarray(line.get_xydata(), np.float64)


def ticks(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.get_yticklabels()]


@pytest.fixture(scope="module")
def drawn() -> dict[str, Figure]:
    """Every figure there is, of three trackers."""
    return figures.figures(report(LEVELS, speeds=SPEEDS))


# Files


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return figures.draw(report(LEVELS, speeds=SPEEDS), tmp_path_factory.mktemp("figures") / "new" / "folder")


def test_every_figure_becomes_a_pdf_and_a_png(written: list[Path]) -> None:
    names = ["precision", "normalized_precision", "success", "attributes_precision", "attributes_success"]
    names += ["speed", "sequences", "worst", "intervals", "differences"]
    assert [path.name for path in written] == [f"{name}{suffix}" for name in names for suffix in (".pdf", ".png")]
    assert set(written) == set(written[0].parent.iterdir())
    for path in written:
        assert path.read_bytes().startswith(b"%PDF" if path.suffix == ".pdf" else b"\x89PNG")


def test_figures_made_again_are_the_same_bytes(written: list[Path], tmp_path: Path) -> None:
    again = figures.draw(report(LEVELS, speeds=SPEEDS), tmp_path)
    assert [path.read_bytes() for path in written] == [path.read_bytes() for path in again]


def test_a_pdf_has_embedded_truetype_fonts_no_date_and_says_the_rules(written: list[Path]) -> None:
    for path in written[::2]:
        data = path.read_bytes()
        assert b"/FontFile2" in data
        assert b"/Type3" not in data
        assert b"Date" not in data
        assert b"LasHeR, official rules" in data


def test_figures_are_as_wide_as_a_column_or_a_page(drawn: dict[str, Figure]) -> None:
    widths = {name: figure.get_figwidth() for name, figure in drawn.items()}
    assert widths.pop("sequences") == figures.PAGE  # two panels
    assert set(widths.values()) == {figures.COLUMN}
    pair = {name: LEVELS[name] for name in ("low", "high")}
    assert figures.sequences(report(pair)).get_figwidth() == figures.COLUMN


def test_the_settings_of_matplotlib_stay_and_do_not_matter(tmp_path: Path) -> None:
    small = report({"low": LEVELS["low"]}, "gtot", attributes=())
    plain = figures.draw(small, tmp_path / "plain")
    with matplotlib.rc_context({"font.size": 20, "pdf.fonttype": 3, "axes.facecolor": "red"}):
        before = dict(matplotlib.rcParams)
        changed = figures.draw(small, tmp_path / "changed")
        assert dict(matplotlib.rcParams) == before
    assert [path.read_bytes() for path in plain] == [path.read_bytes() for path in changed]


def test_without_matplotlib_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = builtins.__import__

    def absent(name: str, *others: Any) -> Any:
        if name.partition(".")[0] == "matplotlib":
            raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")
        return real(name, *others)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ImportError, match=re.escape('pip install "duotrack[report]"')):
        figures.draw(report(LEVELS), tmp_path)


# Which figures


@pytest.mark.parametrize(
    ("levels", "benchmark", "attributes", "speeds", "absent"),
    [
        # One tracker has nothing to be compared with.
        ({"low": LEVELS["low"]}, "lasher", tuple(HAVING), {"low": 9.0}, {"speed", "sequences", "differences"}),
        # A speed of one tracker is no comparison; neither is one of a tracker that is not in the report.
        (LEVELS, "lasher", tuple(HAVING), {"low": 9.0, "other": 5.0}, {"speed"}),
        # Two attributes with sequences make no radar, whatever there is without.
        (
            LEVELS,
            "lasher",
            ("NO", "PO", "HO"),
            {"low": 9.0, "high": 5.0},
            {"attributes_precision", "attributes_success"},
        ),
        # GTOT knows no normalised precision.
        (LEVELS, "gtot", tuple(HAVING), {"low": 9.0, "high": 5.0}, {"normalized_precision"}),
        # No other sequences can be drawn from one.
        (
            {"low": (1,), "high": (7,)},
            "lasher",
            (),
            {"low": 9.0, "high": 5.0},
            {"intervals", "differences", "attributes_precision", "attributes_success"},
        ),
    ],
)
def test_nothing_is_drawn_where_data_is_lacking(
    drawn: dict[str, Figure],
    levels: Mapping[str, Sequence[int]],
    benchmark: str,
    attributes: tuple[str, ...],
    speeds: dict[str, float],
    absent: set[str],
) -> None:
    assert set(drawn) - set(figures.figures(report(levels, benchmark, attributes, speeds=speeds))) == absent


def test_a_tracker_that_never_hits_is_drawn_without_complaint() -> None:
    never = report({"never": (0,) * 6, "high": LEVELS["high"]}, speeds={"never": 9.0, "high": 5.0})
    assert np.isnan(never.scores["never"].overall()["SR"])  # by the rules of LasHeR
    drawn = figures.figures(never)
    for figure in drawn.values():
        figure.draw_without_rendering()
    assert set(drawn) == {
        "precision",
        "normalized_precision",
        "success",
        "sequences",
        "worst",
        "intervals",
        "differences",
    }


# What they show


@pytest.mark.parametrize("kind", ["precision", "normalized_precision", "success"])
def test_curves_are_those_of_the_scores_with_a_legend_by_rank(drawn: dict[str, Figure], kind: str) -> None:
    one, figure = report(LEVELS), drawn[kind]
    assert legend(figure) == ["[0.800] high", "[0.500] middle", "[0.350] low"]
    lines = dict(zip(one.names, figure.axes[0].lines, strict=False))
    for name, line in lines.items():
        thresholds, rates = points(line).T
        np.testing.assert_array_equal(thresholds, one.protocol.curve(kind).thresholds)
        np.testing.assert_array_equal(rates, one.scores[name].curve(kind))
    handles = {text: handle for text, handle in zip(legend(figure), figure.legends[0].legend_handles, strict=True)}
    for name, line in lines.items():
        (handle,) = (handle for text, handle in handles.items() if text.endswith(name))
        assert handle.get_color() == line.get_color()  # type: ignore[union-attr]


@pytest.mark.parametrize(("benchmark", "kind", "marked"), [("lasher", "precision", 20), ("gtot", "precision", 5)])
def test_the_reported_threshold_is_marked(benchmark: str, kind: str, marked: float) -> None:
    *_, mark = figures.curves(report(LEVELS, benchmark), kind).axes[0].lines
    assert set(points(mark)[:, 0]) == {marked}


def test_a_mean_over_thresholds_has_none_to_mark(drawn: dict[str, Figure]) -> None:
    assert len(drawn["success"].axes[0].lines) == len(LEVELS)


def test_a_partial_score_says_so_and_stands_last() -> None:
    partial = report({"partial": (9, 9, 9, 9), "high": LEVELS["high"]})
    assert legend(figures.curves(partial, "success")) == ["[0.800] high", "[0.900] partial (4/6)"]
    assert ticks(figures.intervals(partial).axes[0]) == ["high", "partial (4/6)"]


def test_a_radar_has_the_attributes_with_sequences_and_the_range_of_values_at_each(drawn: dict[str, Figure]) -> None:
    axes = drawn["attributes_success"].axes[0]
    written = [text.get_text() for text in axes.get_xticklabels()]
    # NO is sequences 0 to 2: low reaches 0.1, 0.2, 0.3 there, high 0.7, 0.8, 0.9. HO has no sequence.
    assert written == ["NO\n0.20–0.80", "PO\n0.30–0.87", "TO\n0.50–0.80", "MB\n0.50–0.70"]  # noqa: RUF001
    np.testing.assert_allclose(points(axes.lines[0])[:, 1], [0.2, 0.3, 0.5, 0.6, 0.2])  # low, round to where it began


def test_the_values_of_a_single_tracker_are_written_at_the_attributes() -> None:
    axes = figures.radar(report({"low": LEVELS["low"]}), "success").axes[0]
    assert axes.get_xticklabels()[0].get_text() == "NO\n0.200"


def test_attributes_are_written_as_papers_print_them() -> None:
    one = report(LEVELS, "rgbt234", ("NO", "PO", "TO"))
    scores = {
        name: replace(each, attributes={"SC": each.attributes["NO"], **each.attributes})
        for name, each in one.scores.items()
    }
    axes = figures.radar(replace(one, scores=scores), "success").axes[0]
    assert axes.get_xticklabels()[0].get_text().startswith("SV\n")


def test_speed_is_on_a_logarithmic_axis_with_every_timed_tracker_named(drawn: dict[str, Figure]) -> None:
    axes = drawn["speed"].axes[0]
    assert axes.get_xscale() == "log"
    places = {text.get_text(): text.xy for text in axes.texts if isinstance(text, Annotation)}
    assert set(places) == {"high", "low"}
    np.testing.assert_allclose(places["high"], (5.0, 0.8))
    np.testing.assert_allclose(places["low"], (160.0, 0.35))


def test_names_of_trackers_do_not_cover_one_another() -> None:
    levels = {f"tracker-{number}": (5, 5, 5, 5, 5, 5 + number % 2) for number in range(8)}
    speeds = {name: 30.0 + number for number, name in enumerate(levels)}
    axes = figures.speed(report(levels, speeds=speeds)).axes[0]
    boxes = [Text.get_window_extent(text) for text in axes.texts]
    assert len(boxes) == 8
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    assert all(axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1 for box in boxes)


def test_each_tracker_is_set_against_the_first_sequence_by_sequence(drawn: dict[str, Figure]) -> None:
    high, middle = drawn["sequences"].axes
    assert (high.get_xlabel(), high.get_ylabel()) == ("SR, high", "SR, low")
    _, dots = high.lines
    expected = np.array([LEVELS["high"], LEVELS["low"]]).T / 10
    np.testing.assert_allclose(points(dots), expected)
    assert high.get_title() == "above in 0, below in 6"
    assert middle.get_title() == "above in 1, below in 4, 1 equal"
    # 1 to 5, 2 to 5, 3 to 5 on one side, 6 to 5 on the other; 4 to 5 comes after them, 5 to 5 is no difference.
    named = {text.get_text() for text in middle.texts}
    assert named == {"sequence0", "sequence1", "sequence2", "sequence5", "sequence3"}


def test_only_common_sequences_are_set_against_each_other() -> None:
    (axes,) = figures.sequences(report({"partial": (9, 9), "high": LEVELS["high"]})).axes
    assert axes.get_title() == "above in 2, below in 0"


def test_the_worst_sequences_of_the_first_tracker_are_bars_from_the_lowest() -> None:
    axes = figures.worst(report({"high": LEVELS["high"], "low": LEVELS["low"]})).axes[0]
    assert ticks(axes) == [f"sequence{number}" for number in (0, 5, 1, 4, 2, 3)]
    widths = [bar.get_width() for bar in axes.patches]  # type: ignore[attr-defined]
    np.testing.assert_allclose(widths, [0.7, 0.7, 0.8, 0.8, 0.9, 0.9])
    np.testing.assert_allclose(points(axes.lines[0])[:, 0], [0.1, 0.6, 0.2, 0.5, 0.3, 0.4])  # of low, in the same order
    low, high = axes.get_ylim()
    assert low > high  # the first on top


def test_intervals_are_those_of_the_report_best_on_top(drawn: dict[str, Figure]) -> None:
    *_, success = drawn["intervals"].axes
    assert success.get_title() == "SR"
    for place, standing in enumerate(report(LEVELS).standings):
        whisker, dot = success.lines[2 * place : 2 * place + 2]
        assert tuple(points(whisker)[:, 0]) == pytest.approx(standing.intervals["SR"])
        np.testing.assert_allclose(points(dot), [[standing.overall["SR"], place]])


def test_differences_are_to_the_first_tracker(drawn: dict[str, Figure]) -> None:
    axes = drawn["differences"].axes[0]
    assert ticks(axes) == ["high", "middle"]
    np.testing.assert_allclose(points(axes.lines[1]), [[0.45, 0]])
    np.testing.assert_allclose(points(axes.lines[3]), [[0.15, 1]])


# Names and looks


def test_a_tracker_looks_the_same_in_every_figure(drawn: dict[str, Figure]) -> None:
    look = figures.looks_of(tuple(LEVELS))["high"]
    lines = [drawn[kind].axes[0].lines[1] for kind in ("precision", "success", "attributes_success")]
    lines += [drawn["sequences"].axes[0].lines[1], drawn["intervals"].axes[0].lines[1]]
    assert {line.get_color() for line in lines} == {look.color}


def test_28_trackers_differ_in_colour_and_36_on_grey_paper() -> None:
    looks = list(figures.looks_of([str(number) for number in range(36)]).values())
    assert len({(look.color, str(look.dashes)) for look in looks[:28]}) == 28
    assert len({(str(look.dashes), look.marker) for look in looks}) == 36


@pytest.mark.parametrize("count", [1, 12, 30])
def test_long_names_stay_within_the_figure(count: int) -> None:
    levels = {f"A tracker whose name goes on and on, variant {number}": LEVELS["low"] for number in range(count)}
    figure = figures.curves(report(levels), "success")
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width
    assert box.y1 <= figure.axes[0].get_tightbbox().y0  # type: ignore[union-attr]  # below the axes
    assert all(text.endswith(f"variant {number}") for number, text in enumerate(legend(figure)))  # the end tells apart


def test_names_are_written_as_they_are() -> None:
    assert legend(figures.curves(report({"_$x_1$": LEVELS["high"]}), "success")) == ["[0.800] _$x_1$"]
