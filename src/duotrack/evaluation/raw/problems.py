"""What can be wrong with raw results, and the error that says all of it at once."""

import os
from collections.abc import Mapping, Sequence
from enum import StrEnum

from duotrack.evaluation.annotations import some

MAX_FILE = 64 << 20
"""Bytes of one text file. The longest sequences of the field take about 2 MiB."""


class Problem(StrEnum):
    """What keeps results from being scored. The value is how the message says it, before the places."""

    # Which files there are
    MISSING = "sequences without a file (--allow-missing scores the others, and the report says so)"
    NOTHING = "no file for any sequence: expected NAME.txt, or PREFIX_NAME.txt with one prefix for all"
    AMBIGUOUS = (
        "sequences with more than one result: give the folder of one tracker, in an archive too (results.zip/FOLDER)"
    )
    SWAPPED = "files that begin at the object of another sequence: expected the results of the sequence in the name"

    # What is in a file
    EMPTY = "files without a row: expected a box for each frame"
    HUGE = f"files larger than {MAX_FILE >> 20} MiB: expected text with a box in each line"
    BINARY = "files that are not text: expected a box in each line, UTF-8"
    NOT_A_NUMBER = "lines with something that is no number: expected a box in each line"
    RAGGED = "lines with more or fewer numbers than the lines before: expected as many in each"
    COLUMNS = "files with another number of columns: expected 4 (x,y,w,h or x1,y1,x2,y2) or 8 (corners)"
    MIXED = "files with 8 columns among files with 4: expected one format for all"

    # What the boxes mean
    GIVEN_FORMAT = "files that cannot be of the format given: leave --box-format away, or give the one that fits"
    DOUBTFUL_FORMAT = (
        "first boxes that are not those of the annotation, or do not tell x,y,w,h from x1,y1,x2,y2. Results of another "
        "benchmark? A tracker that is not given the first box? --box-format takes the rows as you say"
    )
    CENTER = "first boxes that fit the annotation as centre and size: expected the left top corner and size"
    NORMALIZED = "boxes between 0 and 1: expected pixels of the visible image"
    SCALED = "first boxes that fit the annotation but for their scale: expected pixels of the original image"
    CORNER_ORDER = "corners in another order: expected left top, right top, right bottom, left bottom"

    # How many there are
    SHORT = "files with too few rows (--short pad-last repeats the last row, --short cut leaves the other frames out)"
    FIRST_LACKING = (
        "files that all lack exactly one row, perhaps the given box of the first frame: write it too "
        "(--short pad-last repeats the last row, --short cut leaves the last frame out)"
    )
    SPARSE = "files with a row for each annotation only: expected a row for each frame, of which the rules take theirs"


class ResultsError(ValueError):
    """Results that cannot be scored as they are.

    Attributes:
        problems: all that is wrong with them: kind to the places where (files, sequences, lines).
    """

    def __init__(self, path: str | os.PathLike[str], problems: Mapping[Problem, Sequence[str]]) -> None:
        self.problems = {kind: tuple(places) for kind, places in problems.items()}
        told = (f"\n- {kind}: {some(places)}" for kind, places in self.problems.items())
        super().__init__(f"{os.fspath(path)} cannot be scored as it is:{''.join(told)}")
