"""Scores: how many frames of each sequence hit at each threshold, and everything that follows from it.

:func:`score` takes one tracker's rows through the decisions of a protocol once, all sequences at a time. Rates,
curves, attributes, overall values and their bootstrap intervals are reductions of the counts that it leaves.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from duotrack.evaluation import metrics
from duotrack.evaluation.metrics import Counts, Floats, Values
from duotrack.evaluation.protocols import Protocol

if TYPE_CHECKING:
    from duotrack.evaluation.benchmark import GroundTruth

Short = Literal["error", "pad-last", "cut"]
"""What becomes of results with too few rows: refused; the last row repeated; or only the common frames scored."""

BoxFormat = Literal["xywh", "xyxy", "corners"]

Mask = npt.NDArray[np.bool_]

_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class Scores:
    """What one tracker reaches on S sequences.

    Attributes:
        protocol: the decisions behind the numbers.
        names: (S) of the sequences that were scored, in the order of the ground truth.
        missing: of those that were not.
        frames: int64, (S,): frames that were scored in each.
        counts: kind of curve (``precision``, ``normalized_precision``, ``success``) to int64, (S, T): frames that hit.
        attributes: attribute to bool, (S,): which sequences have it.
    """

    protocol: Protocol
    names: tuple[str, ...]
    missing: tuple[str, ...]
    frames: Counts
    counts: Mapping[str, Counts]
    attributes: Mapping[str, Mask]

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics, precision first."""
        return self.protocol.metrics

    def rates(self, kind: str) -> Values:
        """The curve of each sequence, (S, T), 0..1."""
        eps = _EPS if self.protocol.divisor == "frames + eps" else 0.0
        return np.asarray(self.counts[kind] / (self.frames + eps)[:, None], np.float64)

    def weights(self, kind: str) -> Values:
        """What each sequence weighs in overall values, (S,): the protocol's way of pooling."""
        if self.protocol.pooling == "frames":
            return self.frames.astype(np.float64)
        if self.protocol.zero_curves == "dropped":
            return np.asarray(self.rates(kind).sum(axis=1) > _EPS, np.float64)
        return np.ones(len(self.names))

    def sequences(self) -> dict[str, Values]:
        """Metric to the value of each sequence, (S,), 0..1."""
        return {metric: curve.value(self.rates(curve.kind)) for metric, curve in self.protocol.curves.items()}

    def overall(self, among: Mask | None = None) -> dict[str, float]:
        """Metric to the value over all sequences, or those of a mask (S,); NaN where there are none."""
        return {
            metric: float(curve.value(self.curve(curve.kind, among))) for metric, curve in self.protocol.curves.items()
        }

    def curve(self, kind: str, among: Mask | None = None) -> Values:
        """The curve over all sequences, or those of a mask, (T,), 0..1; NaN where there are none."""
        weights = self.weights(kind) * (1 if among is None else among)
        total = weights.sum()
        rates = self.rates(kind)
        return np.asarray(weights @ rates / total) if total else np.full(rates.shape[1], np.nan)

    def interval(self, metric: str, level: float = 0.95, samples: int = 10_000, seed: int = 0) -> tuple[float, float]:
        """Bootstrap interval of an overall value: sequences are drawn anew with replacement, ``samples`` times.

        It says how much the value depends on which sequences happen to be in the benchmark.
        """
        draws = resample(len(self.names), samples, seed)
        low, high = np.quantile(self.resampled(metric, draws), [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)

    def resampled(self, metric: str, draws: Values) -> Values:
        """The overall value for every drawn set of sequences; ``draws`` is (samples, S), times each was drawn."""
        weights = self.weights(self.protocol.curves[metric].kind)
        with np.errstate(invalid="ignore"):
            return np.asarray(draws @ (weights * self.sequences()[metric]) / (draws @ weights))


def resample(sequences: int, samples: int, seed: int) -> Values:
    """How often each sequence is drawn in each bootstrap sample, (samples, sequences)."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(sequences, np.full(sequences, 1 / sequences), size=samples).astype(np.float64)


def score(
    truth: "GroundTruth",
    tracks: Mapping[str, Values],
    protocol: Protocol,
    *,
    box_format: BoxFormat = "xywh",
    short: Short = "error",
) -> Scores:
    """Scores one tracker.

    Args:
        truth: the ground truth.
        tracks: sequence to the tracker's rows as they are in its files: (M, 4), or (M, 8) corners. Sequences that
            are missing are left out of every value and named in :attr:`Scores.missing`.
        protocol: the decisions.
        box_format: of rows of four numbers.
        short: what becomes of tracks with fewer rows than the ground truth needs. Rows beyond are ignored.

    Raises:
        ValueError: if there is nothing to score, a track has another shape or is short, or the two ground truths of a
            sequence differ in length.
    """
    frames = frame_errors(truth, tracks, protocol, box_format=box_format, short=short)
    counts: dict[str, Counts] = {
        curve.kind: metrics.count_hits(frames.errors[curve.kind], curve.comparison, curve.thresholds, frames.lengths)
        for curve in protocol.curves.values()
    }
    scored = frozenset(frames.names)
    attributes = {key: np.array([name in having for name in frames.names]) for key, having in truth.attributes.items()}
    missing = tuple(name for name in truth.names if name not in scored)
    return Scores(protocol, frames.names, missing, frames.lengths, counts, attributes)


@dataclass(frozen=True, eq=False)
class FrameErrors:
    """The errors of every frame of S sequences, one sequence after another, F frames in all.

    Attributes:
        names: (S) of the sequences.
        lengths: int64, (S,): frames of each.
        errors: kind of curve to (F,): ``precision`` in pixels, ``normalized_precision``, ``success`` (overlap). NaN
            never hits; -1 stands for a frame without proper ground truth where the protocol says so.
    """

    names: tuple[str, ...]
    lengths: Counts
    errors: Mapping[str, Floats]


def frame_errors(
    truth: "GroundTruth",
    tracks: Mapping[str, Values],
    protocol: Protocol,
    *,
    box_format: BoxFormat = "xywh",
    short: Short = "error",
) -> FrameErrors:
    """The one pass in which boxes are looked at; arguments and errors are those of :func:`score`."""
    names = tuple(name for name in truth.names if name in tracks)
    if not names:
        raise ValueError("none of the sequences of the ground truth has a track: there is nothing to score")
    results, visible, infrared = [], [], []
    for name in names:
        rows = to_xywh(np.asarray(tracks[name], np.float64), protocol, box_format, name)[:: protocol.step]
        targets = _targets(truth, name, protocol)
        rows = _fit(rows, len(targets[0]), short, name, protocol.step)
        results.append(rows)
        visible.append(targets[0][: len(rows)])
        infrared.append(targets[-1][: len(rows)])
    lengths = np.array([len(rows) for rows in results], np.int64)
    both = [visible] if protocol.modalities == "one" else [visible, infrared]
    errors = _errors(np.concatenate(results), [np.concatenate(boxes) for boxes in both], lengths, protocol)
    return FrameErrors(names, lengths, errors)


def to_xywh(rows: Values, protocol: Protocol, box_format: BoxFormat, name: str) -> Values:
    """Rows as in a file to ``x, y, w, h``, rounded as the protocol says.

    Raises:
        ValueError: if a row has neither four nor eight numbers.
    """
    if rows.ndim != 2 or rows.shape[1] not in (4, 8) or not len(rows):
        raise ValueError(f"{name}: the track has shape {rows.shape}: expected (M, 4), or (M, 8) for corners")
    if protocol.arithmetic == "float32":
        rows = rows.astype(np.float32).astype(np.float64)  # as read, before anything is rounded
    if protocol.rounding == "all":
        rows = np.rint(rows)
    if rows.shape[1] == 4 and box_format != "xyxy":
        return rows
    x2, y2 = (rows[:, 2], rows[:, 5]) if rows.shape[1] == 8 else (rows[:, 2], rows[:, 3])
    extra = 1 if protocol.corner_size == "right - left + 1" else 0
    boxes = np.stack([rows[:, 0], rows[:, 1], x2 - rows[:, 0] + extra, y2 - rows[:, 1] + extra], axis=1)
    return _round_half_away(boxes) if protocol.rounding == "corners" and rows.shape[1] == 8 else boxes


def _round_half_away(values: Values) -> Values:
    """MATLAB's round."""
    down = np.trunc(values)
    return np.asarray(down + np.where(np.abs(values - down) >= 0.5, np.sign(values), 0))


def _targets(truth: "GroundTruth", name: str, protocol: Protocol) -> list[Values]:
    """The ground truths of a sequence that count: one, or visible and infrared."""
    visible = truth.visible[name]
    if protocol.modalities == "one" or truth.infrared is None:
        return [visible]
    infrared = truth.infrared[name]
    if len(visible) != len(infrared):
        raise ValueError(
            f"{name}: the visible ground truth has {len(visible)} rows, the infrared one {len(infrared)}; the official "
            "kit stops here too. Repair the annotation, or leave the sequence out"
        )
    return [visible, infrared]


def _fit(rows: Values, length: int, short: Short, name: str, step: int) -> Values:
    """As many rows as the ground truth has, or fewer where only the common frames are to be scored."""
    if len(rows) >= length or short == "cut":
        return rows[:length]
    if short == "pad-last":
        return np.concatenate([rows, np.repeat(rows[-1:], length - len(rows), axis=0)])
    every = "" if step == 1 else f" after every {step}th was taken"
    raise ValueError(
        f"{name}: the track has {len(rows)} rows{every}, the ground truth {length}. Complete it, or choose what is to "
        "be scored: short='pad-last' repeats the last row, short='cut' leaves the other frames out"
    )


def _errors(results: Values, targets: list[Values], lengths: Counts, protocol: Protocol) -> dict[str, Floats]:
    """Kind of curve to the error of every frame, (F,)."""
    first = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    if protocol.repair == "not a box":
        sound = (results[:, 2:] > 0).all(axis=1) & ~np.isnan(results).any(axis=1) | np.isnan(targets[0]).any(axis=1)
        results = _take_row_before(results, np.asarray(sound), first)
    if protocol.first_row == "ground truth":
        results = results.copy()
        results[first] = targets[0][first]
    if protocol.repair == "no size":
        results = _take_row_before(results, ~np.any(results[:, 2:] <= 0, axis=1), first)

    found: Floats = results.astype(protocol.arithmetic)
    overlaps, distances, normalized = [], [], []
    for target in targets:
        expected: Floats = target.astype(protocol.arithmetic)
        if protocol.center == "pixels":
            a, b = metrics.inner_center(found), metrics.inner_center(expected)
        else:
            a, b = metrics.outer_center(found), metrics.outer_center(expected)
        overlaps.append(metrics.overlap(found, expected))
        distances.append(metrics.distance(a, b))
        with np.errstate(divide="ignore", invalid="ignore"):
            normalized.append(metrics.distance(a / expected[:, 2:], b / expected[:, 2:]))
    errors = {
        "precision": np.fmin.reduce(distances),
        "normalized_precision": np.fmin.reduce(normalized),
        "success": np.fmax.reduce(overlaps),
    }
    if protocol.invalid == "minus one":
        values = targets[0]
        valid = ~(values <= 0).any(axis=1) if protocol.nan_is_valid else (values > 0).all(axis=1)
        errors = {kind: np.where(valid, error, -1) for kind, error in errors.items()}
    return errors


def _take_row_before(rows: Values, sound: Mask, first: Counts) -> Values:
    """Each row that is not sound becomes the last sound one before it; the first of a sequence is never examined."""
    kept = sound.copy()
    kept[first] = True
    return rows[np.maximum.accumulate(np.where(kept, np.arange(len(rows)), 0))]
