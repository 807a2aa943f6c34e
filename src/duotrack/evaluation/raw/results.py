"""Raw results of any tracker, read as they are published.

A result is a folder, a tree of folders or an archive with a text file for each sequence and a box in each line::

    NAME.txt, PREFIX_NAME.txt, PREFIX_NAME_SUFFIX.txt      one prefix and one suffix for all sequences
    NAME/NAME.txt                                          in folders of any depth
    NAME_time.txt, or NAME.json as duotrack writes it      what each frame took, beside the boxes

    698,377,48,87 | 698 377 48 87 | 6.98e+02<TAB>...       x,y,w,h or x1,y1,x2,y2; eight numbers are four corners

Nothing is guessed in silence. What keeps the results from being scored is gathered over all files and raised once, as
:class:`~duotrack.evaluation.raw.problems.ResultsError`; what is merely odd is a remark. Boxes are not cut, padded,
converted, rounded or repaired: that belongs to the rules of a benchmark.
"""

import json
import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from duotrack.evaluation.annotations import some
from duotrack.evaluation.raw import first_boxes, naming
from duotrack.evaluation.raw.problems import Problem, ResultsError
from duotrack.evaluation.raw.rows import BLANKS, RowsError, content, read_rows
from duotrack.evaluation.scoring import BoxFormat, Short

if TYPE_CHECKING:
    from duotrack.evaluation.benchmark import GroundTruth

__all__ = ["RawResults", "ResultsError", "read_results"]

Values = npt.NDArray[np.float64]

PLAUSIBLE_SECONDS = (1e-5, 2.0)
"""Where the median of seconds a frame must lie to be believed; beyond are milliseconds, rates and totals."""


@dataclass(frozen=True, eq=False)
class RawResults:
    """What one tracker wrote for the sequences of a benchmark.

    Attributes:
        tracks: sequence to rows as in its file, float64, in the order of the ground truth: (M, 4), or (M, 8) corners.
            NaN where the file says so. They are not converted, because some rules round before they do that.
        missing: sequences without a file.
        box_format: what the rows are: ``xywh``, ``xyxy`` or ``corners``.
        remarks: what a reader of the scores should know about the files.
        seconds: sequence to the time of each frame, float64, (M,), or (M - 1,) without that of the first; NaN where it
            was not measured. Only sequences with believable times.
    """

    tracks: Mapping[str, Values]
    missing: tuple[str, ...]
    box_format: BoxFormat
    remarks: tuple[str, ...]
    seconds: Mapping[str, Values]

    @property
    def frames_per_second(self) -> float | None:
        """Frames by the time they took together, over all sequences with times; None without any."""
        times = np.concatenate([*self.seconds.values(), np.empty(0)])
        total = float(np.nansum(times))
        return int(np.isfinite(times).sum()) / total if total else None


def read_results(
    path: str | os.PathLike[str],
    truth: "GroundTruth",
    *,
    box_format: Literal["auto"] | BoxFormat = "auto",
    allow_missing: bool = False,
    short: Short = "error",
) -> RawResults:
    """Reads the results of one tracker for the sequences of a ground truth.

    Args:
        path: a folder, an archive (:func:`~duotrack.evaluation.raw.archives.read_archive`), or a folder inside an
            archive: ``results.zip/APFNet``.
        truth: the sequences that are wanted, their first boxes and their lengths. Files of others are not read.
        box_format: what the rows hold; ``auto`` tells it from the first boxes, or refuses.
        allow_missing: whether sequences may be without a file.
        short: what will become of tracks with too few rows; unless it is ``error``, they are a remark.

    Raises:
        OSError: if there is no such path, or a file cannot be read.
        ArchiveError: if an archive is refused.
        ResultsError: if anything keeps the results from being scored; it has all that does.
        ValueError: if the path is a single text file, or an option is unknown.
    """
    _check_option("box_format", box_format, ("auto", *get_args(BoxFormat)))
    _check_option("short", short, get_args(Short))
    problems: dict[Problem, list[str]] = defaultdict(list)
    remarks: list[str] = []

    files = naming.list_files(Path(path))
    matched = naming.match(files, truth.names)
    missing = tuple(name for name in truth.names if name not in matched.tracks)
    hints = [f"{name} (is it {file}? rename it)" for name, file in naming.misspelt(missing, matched).items()]
    if matched.rivals:
        raise ResultsError(path, {Problem.AMBIGUOUS: matched.rivals})
    if not matched.tracks:
        raise ResultsError(path, {Problem.NOTHING: hints or [f"found {some(list(files), 3) or 'no file'}"]})
    if missing and allow_missing:
        remarks.append(f"partial, {len(matched.tracks)} of {len(truth.names)} sequences: no file for {some(missing)}")
        remarks += [f"perhaps only misspelt: {some(hints)}"] if hints else []
    elif missing:
        hinted = {hint.partition(" ")[0] for hint in hints}
        problems[Problem.MISSING] += [*hints, *(name for name in missing if name not in hinted)]
    if matched.others:
        remarks.append(f"{_count(matched.others)} of no sequence asked for, not read: {some(matched.others, 3)}")

    rows: dict[str, Values] = {}
    headers = []
    for name, file in matched.tracks.items():
        try:
            rows[name], header = read_rows(content(files[file]))
        except RowsError as error:
            problems[error.problem].append(f"{file}{error.place}")
        else:
            headers += [file] if header else []
    if headers:
        remarks.append(f"{_count(headers)} with a header line, skipped: {some(headers, 3)}")

    taken = None
    wide = [matched.tracks[name] for name, values in rows.items() if values.shape[1] == 8]
    if 0 < len(wide) < len(rows):
        problems[Problem.MIXED] += wide
    elif rows:
        taken, wrong = _box_format(rows, truth, box_format)
        problems.update(wrong)
    if taken:
        remarks.append(f"boxes read as {taken}, {'told from the first boxes' if box_format == 'auto' else 'as given'}")
        as_xywh = {name: first_boxes.to_xywh(values, taken) for name, values in rows.items()}
        strange, swapped = first_boxes.displaced(as_xywh, truth)
        if swapped:
            problems[Problem.SWAPPED] += swapped
        if strange:
            remarks.append(f"{_count(strange)} not beginning at the annotated object: {some(strange)}")
        remarks += _odd_rows(as_xywh)
    wrong, lengths = _compare_lengths(rows, truth, short)
    problems.update(wrong)
    remarks += lengths
    if problems or not taken:
        raise ResultsError(path, problems)

    seconds, unused = _read_times(files, matched.times, rows)
    if unused:
        remarks.append(
            f"{_count(unused)} of times without believable seconds for each frame, not used: {some(unused, 3)}"
        )
    return RawResults(rows, missing, taken, tuple(remarks), seconds)


def _check_option(option: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{option} is {value!r}: expected one of {', '.join(allowed)}")


def _count(files: Sequence[str]) -> str:
    return f"{len(files)} file{'s' if len(files) != 1 else ''}"


def _box_format(
    rows: Mapping[str, Values], truth: "GroundTruth", given: Literal["auto"] | BoxFormat
) -> tuple[BoxFormat | None, Mapping[Problem, list[str]]]:
    """The format that was given if the rows can have it, or the one that they are recognised to have."""
    if given == "auto":
        return first_boxes.recognize(rows, truth)
    columns = len(next(iter(rows.values()))[0])
    if given in first_boxes.FITTING[columns]:
        return given, {}
    return None, {Problem.GIVEN_FORMAT: [f"{_count(list(rows))} of {columns} columns, given {given}"]}


def _compare_lengths(
    rows: Mapping[str, Values], truth: "GroundTruth", short: Short
) -> tuple[dict[Problem, list[str]], list[str]]:
    """Problems and remarks from comparing the rows of each file with the frames that the annotation spans."""
    step = truth.benchmark.step
    needed = {name: step * (len(truth.visible[name]) - 1) + 1 for name in rows}
    lacking = {name: needed[name] - len(values) for name, values in rows.items()}
    told = {name: f"{name} ({len(rows[name])} rows for {needed[name]} frames)" for name in rows}
    remarks = []
    # Where every tenth frame is annotated, up to nine frames may follow the last annotation.
    if long := [told[name] for name in rows if lacking[name] <= -step]:
        remarks.append(f"{_count(long)} with rows beyond the annotation, which the rules ignore: {some(long)}")

    few = [name for name in rows if lacking[name] > 0]
    if step > 1 and (sparse := [told[name] for name in few if len(rows[name]) == len(truth.visible[name])]):
        return {Problem.SPARSE: sparse}, remarks
    if few and short == "error":
        problem = Problem.FIRST_LACKING if len(rows) > 1 and set(lacking.values()) == {1} else Problem.SHORT
        return {problem: [told[name] for name in few]}, remarks
    if few:
        then = "the last row is repeated" if short == "pad-last" else "the other frames are left out"
        remarks.append(f"{_count(few)} with too few rows, {then}: {some([told[name] for name in few])}")
    return {}, remarks


_ODD: dict[str, Callable[[Values], Any]] = {
    "NaN": lambda track: np.isnan(track).any(axis=1),
    "infinite numbers": lambda track: np.isinf(track).any(axis=1),
    "a width or height of zero or less": lambda track: (track[:, 2:] <= 0).any(axis=1),
}


def _odd_rows(tracks: Mapping[str, Values]) -> list[str]:
    """Remarks on rows that the rules of a benchmark treat in ways a reader may not expect."""
    remarks = []
    for kind, is_odd in _ODD.items():
        counts = {name: int(is_odd(track).sum()) for name, track in tracks.items()}
        if where := [name for name, count in counts.items() if count]:
            remarks.append(f"{sum(counts.values())} rows with {kind} in {_count(where)}: {some(where)}")
    if still := [name for name, track in tracks.items() if len(track) > 1 and (track == track[0]).all()]:
        remarks.append(f"{_count(still)} with the same box in all rows: {some(still)}")
    return remarks


def _read_times(
    files: naming.Files, times: Mapping[str, str], tracks: Mapping[str, Values]
) -> tuple[dict[str, Values], list[str]]:
    """Seconds of each frame by sequence, and the files of times that hold something else. No score depends on them."""
    seconds, unused = {}, []
    for name, file in times.items():
        try:
            data = content(files[file])
            if file.endswith(".json"):  # null, not measured, becomes NaN
                values = np.array(json.loads(data)["milliseconds"], np.float64) / 1000
            else:
                values = np.array(data.translate(BLANKS).split(), np.float64)
            if not _is_plausible(values, len(tracks[name])):
                raise ValueError
        except (RowsError, ValueError, TypeError, LookupError, OverflowError, RecursionError):
            unused.append(file)
        else:
            seconds[name] = values
    return seconds, unused


def _is_plausible(seconds: Values, rows: int) -> bool:
    measured = seconds[~np.isnan(seconds)]
    if seconds.shape not in ((rows,), (rows - 1,)) or not len(measured) or measured.min() < 0:
        return False
    return bool(PLAUSIBLE_SECONDS[0] <= np.median(measured) <= PLAUSIBLE_SECONDS[1])
