"""What a network is trained on, as data, and the stream of pairs made from it.

:class:`DataConfig` is plain values, so it stands in a training recipe: names of clips, images and cut-outs relative to
a data folder. They are glob patterns. A pattern that matches nothing is an error: silently missing data would train
another network. Data sets are folders in one of the layouts of :mod:`duotrack.data.folders`; of their many files a few
may be broken, up to a stated share.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from duotrack.crops import CropSettings
from duotrack.data.augment import Processing
from duotrack.data.clips import Clip, open_clip
from duotrack.data.folders import FOLDER_LAYOUTS, Modality, open_dataset
from duotrack.data.objects import Cutout, Objects, cut_people, load_cutouts
from duotrack.data.sources import ClipSource, DatasetSource, Maker, Mixture, Sampling, StillSource
from duotrack.data.synthetic import Background, Renderer, Rendering
from duotrack.model.config import ModelConfig

FRAMES_PER_CLIP = 12  # frames of a clip that serve as backgrounds
SMALLEST_BOX = 8.0  # px; smaller labels of stills are a dot


def _check_weight(weight: float) -> None:
    if not weight > 0:
        raise ValueError(f"weight must be above 0, not {weight}")


@dataclass(frozen=True)
class Clips:
    """Clips that are drawn from together."""

    clips: tuple[str, ...]
    weight: float
    partly_occluded: bool = False
    sampling: Sampling = field(default_factory=Sampling)
    lookalikes: tuple[str, ...] = ()
    """Kinds of objects that are put beside targets, if ``sampling`` asks for it."""

    def __post_init__(self) -> None:
        _check_weight(self.weight)


@dataclass(frozen=True)
class Dataset:
    """Sequences of a data set on disk, each drawn from as often as any other. The paper trains on LasHeR only."""

    layout: str
    """How the sequences lie on disk: ``lasher``, ``vtuav``, ``rgbt234``, ``rgbt210``, ``gtot``, ``got10k``, ``lasot``,
    ``otb``, or ``folders`` for your own (:mod:`duotrack.data.folders`)."""
    folder: str
    weight: float
    modality: Modality = "visible"
    """What the images of got10k, lasot and otb show."""
    sequences: str | None = None
    """Text file that names the sequences to take, one a line, such as LasHeR's list for training; null: all."""
    exclude: str | None = None
    """Text file that names sequences to leave out: those you test on."""
    tolerance: float = 0.2
    """Share of the sequences, and of the draws, that may be broken; beyond it the run stops."""
    sampling: Sampling = field(default_factory=Sampling)

    def __post_init__(self) -> None:
        _check_weight(self.weight)
        if self.layout not in FOLDER_LAYOUTS:
            raise ValueError(f"layout must be one of {', '.join(FOLDER_LAYOUTS)}, not {self.layout!r}")
        if self.modality == "infrared" and FOLDER_LAYOUTS[self.layout].infrared is not None:
            raise ValueError(f"modality is for sets of one modality, and {self.layout} has both: leave it out")
        if not 0 <= self.tolerance < 1:
            raise ValueError(f"tolerance is a share, from 0 to below 1, not {self.tolerance}")
        if self.sampling.lookalikes:
            raise ValueError("sampling.lookalikes is for clips only: leave it out")


@dataclass(frozen=True)
class Stills:
    """A folder of images with ``boxes.json``: file name -> [[class, x, y, w, h], ...]."""

    folder: str
    weight: float
    infrared: bool = True
    exclude: tuple[str, ...] = ("DontCare",)
    sampling: Sampling = field(default_factory=Sampling)

    def __post_init__(self) -> None:
        _check_weight(self.weight)


@dataclass(frozen=True)
class Cutouts:
    """Cut-outs with alpha, of one kind."""

    kind: str
    files: tuple[str, ...]
    infrared: bool = False
    """Which modality they show; the other one is made up."""


@dataclass(frozen=True)
class Kind:
    """How often a kind of object is the target of a rendered pair, against the others."""

    name: str
    weight: float

    def __post_init__(self) -> None:
        _check_weight(self.weight)


@dataclass(frozen=True)
class Rendered:
    """Rendered pairs: pictures to draw on and objects to draw."""

    weight: float
    visible: tuple[str, ...]
    """Visible background images, which also lend their textures."""
    infrared: tuple[str, ...]
    """Infrared background images."""
    clips: tuple[str, ...] = ()
    """Clips whose frames are backgrounds: pairs, or one modality."""
    people: tuple[str, ...] = ()
    """Clips of a static camera out of which the targets are cut."""
    cutouts: tuple[Cutouts, ...] = ()
    kinds: tuple[Kind, ...] = (Kind("figure", 1.0), Kind("vehicle", 1.0), Kind("shape", 1.0))
    rendering: Rendering = field(default_factory=Rendering)

    def __post_init__(self) -> None:
        _check_weight(self.weight)


@dataclass(frozen=True)
class DataConfig:
    """A mixture of sources of pairs.

    ``root`` is the folder that all names are relative to, ``cache`` the one in which decoded clips, and the names and
    boxes of data sets, are kept. ``corruption`` is the share of pairs in which one modality of the search crop is
    lost, ``misalignment`` that of pairs whose infrared images lie a little beside the visible ones; the paper has
    neither.
    """

    root: str
    cache: str = "cache"
    rendered: Rendered | None = None
    datasets: tuple[Dataset, ...] = ()
    clips: tuple[Clips, ...] = ()
    stills: tuple[Stills, ...] = ()
    corruption: float = 0.2
    misalignment: float = 0.0

    def __post_init__(self) -> None:
        for name in ("corruption", "misalignment"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share and must lie in 0..1, not {getattr(self, name)}")


class PairSource(Mixture):
    """The stream of training pairs that a configuration describes: :meth:`pair` ``(index)`` is one of them.

    Args:
        config: what it is made of.
        network: gives the sizes of the crops.
        crops: gives factors and padding.
        seed: two seeds, two streams.
        validation: whether crops are neither mirrored nor made brighter or darker, as published; all else remains.

    Attributes:
        problems: a message for each sequence of a data set that was left out because it cannot be used.

    Raises:
        FileNotFoundError: if a name of the configuration matches nothing.
        BrokenDatasetError: if more of a data set is broken than its tolerance allows.
        ValueError: if a file cannot be used, or the configuration has no source.
    """

    def __init__(
        self, config: DataConfig, network: ModelConfig, crops: CropSettings, *, seed: int, validation: bool = False
    ) -> None:
        processing = Processing(crops, network.template_size, network.search_size)
        if validation:
            processing = replace(processing, flip_crops=0, brightness=0)
        makers, self.problems = open_sources(config, processing)
        if not makers:
            raise ValueError("data: nothing to draw pairs from; give rendered, datasets, clips or stills")
        super().__init__(makers, seed, config.corruption, config.misalignment)


def open_sources(config: DataConfig, processing: Processing) -> tuple[list[tuple[Maker, float]], list[str]]:
    """Opens everything that a configuration names.

    Returns:
        The sources of pairs, each with its weight; and what was left out of data sets.
    """
    root, cache = Path(config.root), Path(config.cache)
    opened: dict[tuple[Path, bool], Clip] = {}

    def clips(patterns: Iterable[str], partly_occluded: bool) -> list[Clip]:
        folders = _matches(root, patterns)
        for folder in folders:
            if (folder, partly_occluded) not in opened:
                opened[folder, partly_occluded] = open_clip(folder, cache, partly_occluded=partly_occluded)
        return [opened[folder, partly_occluded] for folder in folders]

    makers: list[tuple[Maker, float]] = []
    objects: Objects | None = None
    if config.rendered is not None:
        what = config.rendered
        objects, backgrounds = _material(what, root, clips(what.people, True), clips(what.clips, True))
        makers.append((Renderer(objects, backgrounds, processing, what.rendering), what.weight))
    problems: list[str] = []
    for data in config.datasets:
        source, unusable = _open_dataset(data, root, cache, processing)
        makers.append((source, data.weight))
        problems += unusable
    for group in config.clips:
        members = clips(group.clips, group.partly_occluded)
        makers.append((ClipSource(members, processing, group.sampling, objects, group.lookalikes), group.weight))
    for still in config.stills:
        labelled = read_labelled(root / still.folder, infrared=still.infrared, exclude=still.exclude)
        makers.append((StillSource(labelled, processing, still.sampling), still.weight))
    return makers, problems


def _open_dataset(data: Dataset, root: Path, cache: Path, processing: Processing) -> tuple[DatasetSource, list[str]]:
    """The pairs of a data set, and what was left out of it."""
    only, without = (root / name if name is not None else None for name in (data.sequences, data.exclude))
    clips, problems = open_dataset(
        root / data.folder,
        data.layout,
        cache,
        modality=data.modality,
        only=only,
        without=without,
        tolerance=data.tolerance,
    )
    pairs = ClipSource(clips, processing, data.sampling)
    return DatasetSource(str(root / data.folder), pairs, data.tolerance), problems


def _material(what: Rendered, root: Path, people: list[Clip], scenes: list[Clip]) -> tuple[Objects, list[Background]]:
    """The objects and the backgrounds of rendered pairs."""
    collections: dict[str, dict[str, list[Cutout]]] = {}
    for clip in people:
        for identity, views in cut_people(clip).items():
            collections.setdefault(views[0].kind, {})[identity] = views
    for group in what.cutouts:
        files = _matches(root, group.files)
        collections[group.kind] = load_cutouts(files, group.kind, infrared=group.infrared)
    textures = [read_image(file) for file in _matches(root, what.visible)]
    backgrounds = [Background(texture, None) for texture in textures]
    backgrounds += [Background(None, read_image(file, grey=True)) for file in _matches(root, what.infrared)]
    for clip in scenes:
        backgrounds += frames_of(clip)
    return Objects(collections, textures, {kind.name: kind.weight for kind in what.kinds}), backgrounds


def frames_of(clip: Clip, count: int = FRAMES_PER_CLIP) -> list[Background]:
    """Frames of a clip, evenly spaced, to draw on. They stay on disk until they are used."""
    return [
        Background(
            clip.visible[index] if clip.visible is not None else None,
            clip.infrared[index] if clip.infrared is not None else None,
        )
        for index in np.linspace(0, clip.length - 1, min(count, clip.length)).astype(int)
    ]


def read_image(file: Path, *, grey: bool = False) -> npt.NDArray[np.uint8]:
    """An image file as uint8: (H, W, 3) RGB, or (H, W).

    Raises:
        ValueError: if it cannot be decoded.
    """
    image = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise ValueError(f"{file}: cannot be decoded as an image; get it anew")
    return image.astype(np.uint8, copy=False)


def read_labelled(
    folder: Path, *, infrared: bool, exclude: Iterable[str] = ()
) -> list[tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64]]]:
    """The images of a folder with their boxes ``(K, 4)``, x, y, w, h, from ``boxes.json``.

    Raises:
        ValueError: if the file is malformed or an image cannot be decoded.
    """
    file = folder / "boxes.json"
    skipped = set(exclude)
    labelled = []
    for name, rows in json.loads(file.read_text()).items():
        try:
            boxes = [[float(value) for value in row[1:5]] for row in rows if row[0] not in skipped]
            boxes = [[x, y, w, h] for x, y, w, h in boxes if min(w, h) >= SMALLEST_BOX]
        except (TypeError, ValueError, IndexError):
            raise ValueError(f"{file}: {name}: expected rows [class, x, y, w, h]") from None
        if boxes:
            labelled.append((read_image(folder / name, grey=infrared), np.array(boxes)))
    return labelled


def _matches(root: Path, patterns: Iterable[str]) -> list[Path]:
    """The files or folders that patterns name, sorted, each once."""
    found: set[Path] = set()
    for pattern in patterns:
        matches = sorted(root.glob(pattern))
        if not matches:
            raise FileNotFoundError(f"{root / pattern}: nothing there; check the data folder and the recipe")
        found.update(matches)
    return sorted(found)
