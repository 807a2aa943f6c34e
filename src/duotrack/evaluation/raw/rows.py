"""The rows of one file of raw results: text in whatever form trackers write it, to numbers.

Commas, semicolons, tabs and blanks separate; blank lines, a byte order mark, any line ends and MATLAB's or Python's
brackets are passed over; an empty field between commas is NaN; a first line without a number is a header.
"""

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt

from duotrack.evaluation.raw.problems import MAX_FILE, Problem

Values = npt.NDArray[np.float64]

BLANKS = bytes.maketrans(b",;\t[]()", b" " * 7)
"""Turns everything between numbers into blanks."""


class RowsError(Exception):
    """A file that holds no table of boxes: the problem, and where in the file it is. Never leaves the package."""

    def __init__(self, problem: Problem, place: str = "") -> None:
        super().__init__(problem, place)
        self.problem = problem
        self.place = place


def content(file: Path | bytes) -> bytes:
    """The bytes of a text file, or what was read from an archive.

    Raises:
        OSError: if the file cannot be read.
        RowsError: if it is too large, binary or empty.
    """
    if (len(file) if isinstance(file, bytes) else file.stat().st_size) > MAX_FILE:
        raise RowsError(Problem.HUGE)
    data = file if isinstance(file, bytes) else file.read_bytes()
    if b"\0" in data:
        raise RowsError(Problem.BINARY, " (UTF-16?)" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "")
    if not data.removeprefix(b"\xef\xbb\xbf").strip():
        raise RowsError(Problem.EMPTY)
    return data


def read_rows(data: bytes) -> tuple[Values, bool]:
    """Reads a table of boxes.

    Nearly all files are plain tables, which NumPy reads several times faster than a loop over lines. What it cannot
    read, and what may have empty fields, is left to :func:`read_lines`, which gives the same wherever both can read.

    Returns:
        float64, (M, 4) or (M, 8), M > 0, NaN and infinite numbers as in the file; and whether there was a header.

    Raises:
        RowsError: if it is no such table.
    """
    try:
        lines = data.translate(BLANKS).decode("utf-8-sig").splitlines()
        values = (
            np.loadtxt(lines, np.float64, comments=None, ndmin=2) if any(map(str.strip, lines)) else np.empty((0, 0))
        )
    except ValueError:
        return read_lines(data)
    rows, columns = values.shape
    separators = data.count(b",") + data.count(b";")
    if columns not in (4, 8) or separators not in (0, rows * (columns - 1)) or b",," in data:
        return read_lines(data)
    return values, False


def read_lines(data: bytes) -> tuple[Values, bool]:
    """The same as :func:`read_rows`, line by line: slow, and able to say what is wrong."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RowsError(Problem.BINARY) from error
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise RowsError(Problem.EMPTY)
    first = _cells(lines[0][1])
    header = len(lines) > 1 and any(first) and not any(map(_is_number, first))
    rows: list[list[float]] = []
    for number, line in lines[header:]:
        cells = _cells(line)
        wrong = [cell for cell in cells if cell and not _is_number(cell)]
        if wrong:
            raise RowsError(Problem.NOT_A_NUMBER, f", line {number}: {wrong[0][:40]!r}")
        rows.append([float(cell) if cell else np.nan for cell in cells])
        if len(cells) != len(rows[0]):
            raise RowsError(Problem.RAGGED, f", line {number}: {len(cells)} after {len(rows[0])}")
    if len(rows[0]) not in (4, 8):
        raise RowsError(Problem.COLUMNS, f" has {len(rows[0])}")
    return np.array(rows, np.float64), header


def _cells(line: str) -> list[str]:
    """The fields of a line. An empty one counts, unless it only comes from a comma at the end of a whole box."""
    cells = re.split(r"\s*[,;]\s*|\s+", re.sub(r"[\[\]()]", " ", line).strip())
    return cells[:-1] if cells[-1] == "" and len(cells) in (5, 9) else cells


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell  # 1_000 is a number to Python alone
