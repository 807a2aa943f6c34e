"""The figures of the field, drawn from a report: for the column of a two-column paper, and for a look.

Every figure is written twice. The PDF is for LaTeX: vectors, and text in embedded TrueType fonts, which publishers ask
for; the PNG is the same picture for where a PDF does not show: a README, slides, an issue. Made again from the same
report with the same matplotlib, both are the same bytes.

A figure is as wide as a column, so that it is included without scaling and its text keeps its size: 8 points, 6 to 7
where there is much to name. A tracker has one colour, one dash pattern and one marker in all figures; dashes and
markers alone tell them apart on grey paper. Legends stand below, where no curve can run through them, and rank by
the value in brackets.
"""

import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from duotrack.evaluation.report import Report, Standing
from duotrack.results import beside

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

COLUMN, PAGE = 3.3, 7.0
"""Width of a column and of a page of two columns, in inches."""

STYLE: dict[str, Any] = {
    # Fonts that matplotlib brings itself, so that a figure looks alike on all machines. STIX goes with the Times of
    # most papers; DejaVu has what it lacks.
    "font.family": ["STIXGeneral", "DejaVu Sans"],
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "text.parse_math": False,  # a name may hold dollar signs
    "axes.linewidth": 0.5,
    "axes.edgecolor": "0.3",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "0.9",
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "legend.frameon": False,
    "legend.handlelength": 2.4,
    "legend.labelspacing": 0.25,
    "legend.columnspacing": 1.2,
    "legend.borderaxespad": 0.2,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.03,
    "figure.constrained_layout.w_pad": 0.03,
    "pdf.fonttype": 42,  # TrueType; the default, Type 3, is refused by publishers
    "savefig.dpi": 300,
}

# Seven of the eight colours of Okabe and Ito, which people who confuse red and green tell apart; the eighth, yellow, is
# lost on white. Seven, four and nine have no common factor: 28 trackers differ in colour and dashes together, and 36 in
# dashes and marker on grey paper.
_COLORS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#000000", "#56b4e9", "#e69f00")
_DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.1)), (0, (5, 1.2, 1, 1.2)))
_MARKERS = "os^Dv<>pX"

_LABELS = {
    "precision": ("Centre location error threshold (pixels)", "Precision"),
    "normalized_precision": ("Normalised centre location error threshold", "Normalised precision"),
    "success": ("Overlap threshold", "Success rate"),
}

_WORST = 20
"""Sequences in the figure of the worst ones."""
_NAMED = 3
"""Sequences that are named on each side of a diagonal, where the trackers differ by ``_NOTEWORTHY`` or more."""
_NOTEWORTHY = 0.05


@contextmanager
def _style() -> Iterator[None]:
    """Sets the style for a block or, as a decorator, for a function."""
    try:
        from matplotlib import style
    except ImportError as error:
        raise ImportError('figures need matplotlib: pip install "duotrack[report]"') from error
    with style.context(["default", STYLE]):  # "default": what the user has set elsewhere does not count
        yield


def draw(report: Report, folder: Path) -> list[Path]:
    """Writes the figures that the report has data for, each as ``NAME.pdf`` and ``NAME.png``.

    Args:
        report: of one or more trackers; a dozen are legible, more make long legends.
        folder: made where it is missing; other files in it stay.

    Returns:
        The paths, in the order of :func:`figures`.

    Raises:
        ImportError: if matplotlib is not installed.
        OSError: if a file cannot be written.
    """
    paths = []
    for name, figure in figures(report).items():
        about = {"Title": f"{report.heading}: {name.replace('_', ' ')}"}
        # A date is the one thing in a file that would not come from the report.
        for suffix, metadata in ((".pdf", about | {"CreationDate": None}), (".png", about)):
            paths.append(Path(folder) / f"{name}{suffix}")
            with _style(), beside(paths[-1]) as temporary:
                figure.savefig(temporary, metadata=metadata)
    return paths


def figures(report: Report) -> dict[str, "Figure"]:
    """Draws the figures that the report has data for; matplotlib's settings are afterwards what they were.

    Returns:
        Name to figure: ``precision``, ``normalized_precision``, ``success`` (those that the rules know);
        ``attributes_precision``, ``attributes_success`` (three attributes or more); ``speed`` (two trackers of known
        speed or more); ``sequences`` (two trackers or more); ``worst``; ``intervals`` (two sequences or more);
        ``differences`` (two trackers or more that share two sequences or more).

    Raises:
        ImportError: if matplotlib is not installed.
    """
    drawn = {kind: curves(report, kind) for kind in _metrics(report)}
    if len(_attributes(report)) >= 3:  # with fewer a radar has no area
        drawn |= {f"attributes_{kind}": radar(report, kind) for kind in ("precision", "success")}
    if len(_timed(report)) >= 2:
        drawn["speed"] = speed(report)
    if len(report.names) >= 2:
        drawn["sequences"] = sequences(report)
    drawn["worst"] = worst(report)
    if min(len(one.sequences) for one in report.standings) >= 2:
        drawn["intervals"] = intervals(report)
    if any(one.difference and one.difference.sequences >= 2 for one in report.standings):
        drawn["differences"] = differences(report)
    return drawn


# The figures, each of them from a report


@_style()
def curves(report: Report, kind: str) -> "Figure":
    """Precision, normalised precision or success over thresholds; a line marks the threshold that is reported."""
    figure, axes = _figure(COLUMN, 2.0)
    curve, looks = report.protocol.curve(kind), looks_of(report.names)
    rates = {name: report.scores[name].curve(kind) for name in report.names}
    lines: dict[str, Line2D] = {}
    for place, name in enumerate(report.names):
        (lines[name],) = axes.plot(curve.thresholds, rates[name], **looks[name].line, marker=looks[name].marker, ms=2.5)
        step = len(curve.thresholds) // 5
        lines[name].set_markevery((place * step // len(report.names), step))  # not all at one threshold
    lines[report.names[0]].set_linewidth(1.8)
    if not isinstance(curve.reported, str):
        axes.axvline(curve.reported, color="0.5", lw=0.7, zorder=0.9)
    axes.set(xlim=curve.thresholds[[0, -1]], ylim=(0, _up(np.nan_to_num(list(rates.values())).max())))
    axes.set(xlabel=_LABELS[kind][0], ylabel=_LABELS[kind][1])
    _legend(figure, report, kind, lines)
    return figure


@_style()
def radar(report: Report, kind: str) -> "Figure":
    """The value of a metric on the sequences of each attribute, with the lowest and the highest tracker's written out.

    All attributes share the scale of the rings, so that it also shows which attribute is hard. Attributes without
    sequences are left out.
    """
    names, metric, looks = _attributes(report), _metrics(report)[kind], looks_of(report.names)
    values = {one.name: [one.attributes[name][metric] for name in names] for one in report.standings}
    lowest, highest = np.min(list(values.values()), axis=0), np.max(list(values.values()), axis=0)
    angles = np.arange(len(names) + 1) * 2 * np.pi / len(names)

    figure, axes = _figure(COLUMN, 3.0, projection="polar", theta_offset=np.pi / 2, theta_direction=-1)
    lines: dict[str, Artist] = {}
    for name in report.names:
        around = [*values[name], values[name][0]]
        (lines[name],) = axes.plot(angles, around, **looks[name].line, marker=looks[name].marker, ms=2.2, lw=1)
    center = max(0.0, np.floor(lowest.min() * 10 - 0.5) / 10)
    rings = np.arange(round(center * 10), round(_up(highest.max()) * 10) + 1) / 10
    axes.set_ylim(center, rings[-1])
    axes.set_yticks(rings, [""] * len(rings))
    for ring in rings[1:]:  # written over the lines, between two spokes
        axes.text(
            np.pi / len(names), ring, f"{ring:.1f}", fontsize=6, color="0.3", ha="center", va="center", bbox=_PAPER
        )
    if len(values) == 1:
        written = [f"{value:.3f}" for value in highest]
    else:
        written = [f"{low:.2f}\N{EN DASH}{high:.2f}" for low, high in zip(lowest, highest, strict=True)]
    spokes = [f"{report.truth.benchmark.label(name)}\n{value}" for name, value in zip(names, written, strict=True)]
    axes.set_xticks(angles[:-1], spokes, fontsize=6.5, linespacing=0.95)
    axes.tick_params("x", pad=2)
    axes.spines["polar"].set_visible(False)
    _legend(figure, report, kind, lines)
    return figure


@_style()
def speed(report: Report) -> "Figure":
    """Precision over frames per second, for the trackers whose times are known.

    The times are those that came with each tracker's results: compare only what was timed on one machine.
    """
    names, looks, metric = _timed(report), looks_of(report.names), _metrics(report)["precision"]
    standings = {one.name: one for one in report.standings}
    points = [(report.speeds[name], standings[name].overall[metric]) for name in names]
    figure, axes = _figure(COLUMN, 2.3)
    for name, point in zip(names, points, strict=True):
        axes.plot(*point, **looks[name].point, ms=5)
    slowest, fastest = min(x for x, _ in points) / 1.6, max(x for x, _ in points) * 1.6
    axes.set(xscale="log", xlim=(slowest, fastest))
    digits = (1, 2, 5) if fastest / slowest > 10 else (1, 2, 3, 5, 7)
    ticks = [digit * 10.0**power for power, digit in itertools.product(range(-4, 6), digits)]
    ticks = [tick for tick in ticks if slowest <= tick <= fastest]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.margins(y=0.15)
    axes.set(xlabel="Speed (frames per second)", ylabel=metric)
    figure.draw_without_rendering()  # puts the axes where they will be
    _annotate(axes, points, [_short(name) + _partial(standings[name]) for name in names], size=7)
    return figure


@_style()
def sequences(report: Report) -> "Figure":
    """Success of the first tracker over that of each other one, a point a sequence; the largest differences are named.

    A panel for each pair: one in the width of a column, more in the width of a page.
    """
    first, *others = report.names
    looks, metric, values = looks_of(report.names), _metrics(report)["success"], _success(report)
    columns = min(len(others), 3)
    rows = -(-len(others) // columns)
    width = COLUMN if columns == 1 else PAGE
    figure, _ = _figure(width, rows * (width / columns + 0.1), rows, columns)
    named: dict[str, dict[str, tuple[float, float]]] = {}
    for axes, other in zip(figure.axes, others, strict=False):
        common = [name for name in values[first] if name in values[other]]
        x, y = (np.array([values[tracker][name] for name in common]) for tracker in (other, first))
        axes.plot([0, 1], [0, 1], color="0.6", lw=0.6)
        axes.plot(x, y, ls="", color=looks[other].color, marker=looks[other].marker, ms=2.8, mew=0, alpha=0.7)
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xticks=np.arange(6) / 5, yticks=np.arange(6) / 5)
        axes.set(xlabel=f"{metric}, {_short(other, 20)}", ylabel=f"{metric}, {_short(first, 20)}")
        equal = f", {ties} equal" if (ties := int((y == x).sum())) else ""
        axes.set_title(f"above in {int((y > x).sum())}, below in {int((y < x).sum())}{equal}")
        order = np.argsort(y - x, kind="stable")
        ends = dict.fromkeys([*order[::-1][:_NAMED], *order[:_NAMED]])
        named[other] = {common[i]: (x[i], y[i]) for i in ends if abs(y[i] - x[i]) >= _NOTEWORTHY}
    for axes in figure.axes[len(others) :]:
        axes.remove()
    figure.draw_without_rendering()  # puts the axes where they will be
    for axes, points in zip(figure.axes, named.values(), strict=True):
        _annotate(axes, list(points.values()), list(map(_short, points)), size=6)
    return figure


@_style()
def worst(report: Report) -> "Figure":
    """The sequences in which the first tracker's success is lowest, as bars; the other trackers' values as marks."""
    first, *others = report.names
    looks, values = looks_of(report.names), _success(report)
    lowest = sorted(values[first], key=values[first].__getitem__)[:_WORST]
    places = range(len(lowest))
    figure, axes = _figure(COLUMN, 0.45 + 0.14 * len(lowest))
    bars = axes.barh(places, [values[first][name] for name in lowest], 0.7, color=looks[first].color, alpha=0.55)
    handles: dict[str, Artist] = {first: bars[0]}
    for other in others:
        known = [values[other].get(name, np.nan) for name in lowest]
        (handles[other],) = axes.plot(known, places, ls="", **looks[other].point, clip_on=False, zorder=3)
    axes.set_yticks(places, [_short(name) for name in lowest])
    axes.set(ylim=(len(lowest) - 0.4, -0.6), xlabel=f"{_metrics(report)['success']} of the sequence")
    axes.set_xlim(left=0)
    axes.grid(False, axis="y")
    axes.tick_params("y", length=0)
    _legend(figure, report, "success", handles)
    return figure


@_style()
def intervals(report: Report) -> "Figure":
    """Each overall value with its 95 % interval over the choice of sequences (a bootstrap), best tracker on top.

    Where intervals overlap, trackers may still differ beyond chance, because a hard sequence is hard for all of them:
    :func:`differences` looks at that.
    """
    found = {
        one.name: {key: (value, *one.intervals[key]) for key, value in one.overall.items()} for one in report.standings
    }
    figure = _whiskers(report, found)
    figure.supxlabel("overall value with 95 % interval", fontsize=8)
    return figure


@_style()
def differences(report: Report) -> "Figure":
    """How far each tracker is from the first, with the 95 % interval of the difference, best tracker on top.

    Both are taken on the same drawn sequences, so that what is hard for both cancels. Where an interval reaches the
    line at zero, these sequences cannot tell the two apart.
    """
    gaps = {one.name: one.difference for one in report.standings if one.difference}
    found = {
        name: {key: (value, *gap.intervals[key]) for key, value in gap.values.items()} for name, gap in gaps.items()
    }
    figure = _whiskers(report, found)
    for axes in figure.axes:
        axes.axvline(0, color="0.5", lw=0.7, zorder=0.9)
    figure.supxlabel(f"difference to {_short(report.names[0])} with 95 % interval", fontsize=8)
    return figure


# What they share


class Look(NamedTuple):
    """How a tracker is drawn."""

    color: str
    dashes: Any
    marker: str

    @property
    def line(self) -> dict[str, Any]:
        """As a line, for ``plot``."""
        return {"color": self.color, "linestyle": self.dashes}

    @property
    def point(self) -> dict[str, Any]:
        """As a point with a white rim, for ``plot``."""
        return {"color": self.color, "marker": self.marker, "markeredgecolor": "white", "markeredgewidth": 0.4}


def looks_of(names: Collection[str]) -> dict[str, Look]:
    """A look for each tracker by its place in the report: the same in every figure."""
    return {
        name: Look(_COLORS[i % len(_COLORS)], _DASHES[i % len(_DASHES)], _MARKERS[i % len(_MARKERS)])
        for i, name in enumerate(names)
    }


def _figure(width: float, height: float, rows: int = 1, columns: int = 1, **kind: Any) -> tuple["Figure", "Axes"]:
    """A figure that no window system and no list of open figures knows, and its first axes. Sizes in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)  # what measures text
    return figure, figure.subplots(rows, columns, squeeze=False, subplot_kw=kind)[0, 0]


def _legend(figure: "Figure", report: Report, kind: str, handles: Mapping[str, "Artist"]) -> None:
    """Puts a ranked legend below, in as many columns as fit, and makes the figure higher by it."""
    metric = _metrics(report)[kind]
    # Trackers that were not scored on all sequences come last, as in the tables.
    ranked = sorted(report.standings, key=lambda one: (bool(one.missing), -np.nan_to_num(one.overall[metric])))
    labels = [f"[{one.overall[metric]:.3f}] {_short(one.name)}{_partial(one)}" for one in ranked]
    size = 7 if len(ranked) <= 12 else 6
    for columns in (3, 2, 1):
        legend = figure.legend(
            [handles[one.name] for one in ranked], labels, loc="outside lower center", ncols=columns, fontsize=size
        )
        extent = legend.get_window_extent()
        if extent.width <= figure.bbox.width:
            break
        if columns > 1:
            legend.remove()
    figure.set_figheight(figure.get_figheight() + extent.height / figure.dpi)


def _whiskers(report: Report, values: Mapping[str, Mapping[str, tuple[float, float, float]]]) -> "Figure":
    """A row for each tracker, a panel for each metric: tracker to metric to value, low end and high end."""
    metrics, looks, places = report.protocol.metrics, looks_of(report.names), range(len(values))
    labels = [_short(one.name, 20) + _partial(one) for one in report.standings if one.name in values]
    figure, left = _figure(COLUMN, 0.65 + 0.17 * len(values), 1, len(metrics))
    for axes, metric in zip(figure.axes, metrics, strict=True):
        for place, name in enumerate(values):
            value, low, high = values[name][metric]
            axes.plot([low, high], [place, place], color=looks[name].color)
            axes.plot(value, place, **looks[name].point, ms=5)
        axes.set(title=metric, ylim=(len(values) - 0.4, -0.6))
        axes.set_yticks(places, labels if axes is left else [""] * len(values))
        axes.margins(x=0.08)
        axes.locator_params("x", nbins=3)
        axes.grid(False, axis="y")
        axes.tick_params("y", length=0)
    return figure


def _annotate(axes: "Axes", points: Sequence[tuple[float, float]], texts: Sequence[str], size: float) -> None:
    """Names points, once the axes have their place, so that no name covers another one or a point, if there is room.

    A name stays next to its point where it can; one that has to move away is tied to it by a line.
    """
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

    unit = axes.figure.dpi / 72  # pixels in a point
    marks = [axes.transData.transform(line.get_xydata()) for line in axes.lines if line.get_marker() != "None"]
    taken = [Bbox.from_bounds(x - 2 * unit, y - 2 * unit, 4 * unit, 4 * unit) for x, y in np.concatenate(marks)]
    placed: list[Bbox] = []
    for point, text in zip(points, texts, strict=True):
        tie = {"arrowstyle": "-", "color": "0.4", "linewidth": 0.4, "shrinkA": 0, "shrinkB": 2}
        note = axes.annotate(text, point, (0, 0), textcoords="offset points", fontsize=size, arrowprops=tie)
        note.set_in_layout(False)
        note.get_window_extent()  # only now it knows where its point is
        tried = []
        for away, (right, up) in itertools.product((4, 9, 16, 25, 36), _DIRECTIONS):
            where = {"x": away * right, "y": away * up, "ha": _ACROSS[right], "va": _ALONG[up]}
            note.set(**where)
            box = Text.get_window_extent(note)  # of the text alone, not of the line that ties it
            x_inside = axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1
            y_inside = axes.bbox.y0 <= box.y0 and box.y1 <= axes.bbox.y1
            covered = box.count_overlaps(taken) + 5 * box.count_overlaps(placed)
            tried.append((covered + (0 if x_inside and y_inside else 50), box, where))
        _, box, where = min(tried, key=lambda one: one[0])  # of equally good places the nearest
        note.set(**where)
        placed.append(box)


_PAPER = {"facecolor": "white", "linewidth": 0, "alpha": 0.8, "pad": 0.5}
_DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
_ACROSS = {1: "left", 0: "center", -1: "right"}
_ALONG = {1: "bottom", 0: "center", -1: "top"}


def _metrics(report: Report) -> dict[str, str]:
    """Kind of curve to what the benchmark calls its metric: ``precision`` to ``MPR``."""
    return {curve.kind: metric for metric, curve in report.protocol.curves.items()}


def _attributes(report: Report) -> list[str]:
    """The attributes that every tracker has values for, in the benchmark's order."""

    def known(name: str) -> bool:
        values = [one.attributes.get(name, {"": math.nan}).values() for one in report.standings]
        return all(map(math.isfinite, itertools.chain(*values)))

    return list(filter(known, report.standings[0].attributes))


def _timed(report: Report) -> list[str]:
    """The trackers whose speed is known, and that hit at all."""
    hit = {one.name for one in report.standings if all(map(math.isfinite, one.overall.values()))}
    return [name for name in report.names if name in hit and report.speeds.get(name, 0) > 0]


def _success(report: Report) -> dict[str, dict[str, float]]:
    """Tracker to sequence to the success metric."""
    metric = _metrics(report)["success"]
    return {one.name: {name: values[metric] for name, values in one.sequences.items()} for one in report.standings}


def _partial(one: Standing) -> str:
    return f" ({one.partial})" if one.partial else ""


def _short(name: str, length: int = 28) -> str:
    """A name without its middle where it is too long for a figure: its ends are what tells variants apart."""
    half = (length - 1) // 2
    return name if len(name) <= length else f"{name[:half]}…{name[-half:]}"


def _up(value: float) -> float:
    """The next tenth, for the end of an axis; at most 1."""
    return float(min(1.0, max(0.1, np.ceil(value * 10 - 1e-9) / 10)))
