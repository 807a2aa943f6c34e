"""The modality gap: how far the tokens of the visible and the infrared student lie apart, block by block.

Style distillation is meant to close it, and this is the measure of whether it did. Real pairs of frames go through a
network as in tracking, crops centred on the target; after each block the tokens of the two modalities are compared:

    style        style distance of each pair (the loss itself), over the mean variance of the tokens: scale-free
    statistics   the same between the modalities' average channel statistics: what of it is the same in all pairs
    probe        how well a linear classifier tells the modality from the pooled tokens of the target: 0.5 is chance
    normalised   the same after instance normalisation, which takes the style away

A probe of 1.0 is no proof of a large gap: branches with weights of their own can be told apart by any small offset.
The distances say how much there is to tell. Candidate elimination is left out, so that all tokens are looked at.

The picture shows the pooled features in their first two principal components, as the paper's figure 2 shows t-SNE.
Principal components are linear: what lies apart in the picture lies apart in the features, distances can be read off,
and there is no perplexity to choose, with which t-SNE draws separate clusters out of one cloud.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from duotrack import pretrained
from duotrack.crops import CropSettings, Image, crop
from duotrack.data.clips import Clip
from duotrack.data.folders import ImageClip, open_recordings
from duotrack.data.sources import causal_pair
from duotrack.evaluation.figures import PAGE, STYLE
from duotrack.losses import instance_norm, style_distance
from duotrack.model import weights
from duotrack.model.network import StudentNetwork
from duotrack.model.normalization import normalize
from duotrack.results import beside

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from rich.table import Table

Floats = npt.NDArray[np.float32]

BATCH = 8
FOLDS = 5
PENALTY = 0.1
"""Of the probe's weights, for each sample it is trained on; its features have unit variance."""
MAX_GAP = 200
"""The search frame is less than this many frames after the template frame, as in training."""
COLORS = {"visible": "#0072b2", "infrared": "#d55e00"}


class Pair(NamedTuple):
    """Crops around a target, visible and infrared: uint8 (2, Ht, Wt, 3) and (2, Hs, Ws, 3)."""

    template: Image
    search: Image


@dataclass(frozen=True, eq=False)
class Layer:
    """What is kept of the tokens after one block, for P pairs and C channels; visible first on axis 0.

    ``mean`` and ``deviation``, float32 (2, P, C), run over the tokens; ``pooled`` is the mean over the target's search
    tokens, ``normalized`` the same after instance normalisation over all tokens. ``style`` is the style distance of the
    modalities, averaged over the pairs.
    """

    mean: Floats
    deviation: Floats
    pooled: Floats
    normalized: Floats
    style: float


@dataclass(frozen=True)
class LayerGap:
    """The gap after one block (counted from 1), as the head of this module defines it."""

    block: int
    style: float
    statistics: float
    probe: float
    probe_normalized: float


@dataclass(frozen=True, eq=False)
class Gap:
    """The gap of all blocks, of the ``students`` and, where the network has them, of the ``teachers``.

    Of teachers deeper than the students these are the blocks that the students are compared with.
    """

    pairs: int
    blocks: dict[str, tuple[LayerGap, ...]]
    layers: dict[str, tuple[Layer, ...]]

    @property
    def style(self) -> float:
        """One number for the students: the mean of the relative style distance over the blocks."""
        return float(np.mean([one.style for one in self.blocks["students"]]))

    def json(self) -> str:
        """Every number, for programs."""
        blocks = {who: [asdict(one) for one in each] for who, each in self.blocks.items()}
        return json.dumps({"pairs": self.pairs, "style": self.style, **blocks}, indent=2) + "\n"

    def table(self) -> "Table":
        """Every number, for people."""
        from rich.table import Table

        table = Table(title=f"Modality gap over {self.pairs} pairs", title_justify="left")
        for column in ("branches", "block", "style", "statistics", "probe", "normalised"):
            table.add_column(column, justify="left" if column == "branches" else "right")
        for who, each in self.blocks.items():
            for one in each:
                values = (one.style, one.statistics, one.probe, one.probe_normalized)
                table.add_row(who, str(one.block), *(f"{value:.3f}" for value in values))
            table.add_section()
        return table


def load(name_or_folder: str | Path) -> tuple[StudentNetwork, CropSettings]:
    """A network to measure, with its teachers where the weights have them, on a GPU where there is one; and its crops.

    Raises:
        FileNotFoundError: if there are no such weights.
        ValueError: if they are damaged.
    """
    folder = pretrained.locate(name_or_folder)
    network = weights.load_coupled(folder) if weights.has_teachers(folder) else weights.load(folder)
    return network.to("cuda" if torch.cuda.is_available() else "cpu"), pretrained.read_config(folder).crops


def open_clips(folders: Sequence[Path], cache: Path, layout: str | None = None) -> list[Clip | ImageClip]:
    """Opens clips to measure on.

    Args:
        folders: each a clip (:mod:`duotrack.data.clips`) or, with a layout, a data set.
        cache: where decoded frames are kept.
        layout: of a data set, a name in :data:`duotrack.data.folders.FOLDER_LAYOUTS`.

    Raises:
        OSError: if something is missing.
        ValueError: if a clip cannot be used or lacks a modality; names it.
    """
    clips = open_recordings(folders, layout, cache)
    for clip in clips:
        if clip.visible is None or clip.infrared is None:
            raise ValueError(f"{clip.name}: one modality is missing; the gap is measured between two")
    return clips


def draw_pairs(
    clips: Sequence[Clip | ImageClip], count: int, network: StudentNetwork, crops: CropSettings, seed: int = 0
) -> Iterator[Pair]:
    """Draws pairs of frames: a target, a template frame, and a later search frame, each crop centred on the target.

    Args:
        clips: with both modalities; targets of fewer than two frames are not used.
        count: number of pairs. They come sorted by target and time.
        network: gives the sizes of the crops.
        crops: factors and padding.
        seed: of the choice.

    Raises:
        ValueError: if no clip has a target of two frames.
    """
    targets = [(clip, track) for clip in clips for track in clip.tracks if len(track.frames) >= 2]
    if not targets:
        raise ValueError(f"{', '.join(clip.name for clip in clips)}: no target is annotated in two frames or more")
    rng = np.random.default_rng(seed)
    chosen = []
    for _ in range(count):
        target = int(rng.integers(len(targets)))
        clip, track = targets[target]
        first, second = causal_pair(track, clip.length, MAX_GAP, rng)
        chosen.append((target, second, first))
    for target, second, first in sorted(chosen):
        clip, track = targets[target]
        sizes = (network.config.template_size, crops.template_factor), (network.config.search_size, crops.search_factor)
        views = []
        for row, (size, factor) in zip((first, second), sizes, strict=True):
            images = clip.frame(int(track.frames[row]))
            views.append(np.stack([crop(image, track.boxes[row], factor, size, crops.padding)[0] for image in images]))
        yield Pair(*views)


@torch.no_grad()
def measure(
    network: StudentNetwork,
    crops: CropSettings,
    clips: Sequence[Clip | ImageClip],
    *,
    pairs: int = 256,
    seed: int = 0,
    advance: Callable[[], None] = lambda: None,
) -> Gap:
    """Measures the modality gap of a network after each block.

    Args:
        network: students, or a :class:`duotrack.model.CoupledNetwork`, whose teachers are then measured as well. It
            is left in evaluation mode.
        crops: how it wants its crops.
        clips: real clips with both modalities.
        pairs: how many are drawn; 10 or more.
        seed: of the choice.
        advance: called after each pair.

    Raises:
        ValueError: for too few pairs, or clips without a target.
    """
    if pairs < 2 * FOLDS:
        raise ValueError(f"{2 * FOLDS} pairs or more are needed to train and test the probe, not {pairs}")
    network.eval()
    device = next(network.parameters()).device
    cells = target_cells(network.config.search_grid, crops.search_factor) + network.config.template_grid**2
    batches: list[dict[str, list[Layer]]] = []
    waiting: list[Pair] = []
    config = network.config
    network.config = replace(config, elimination=None)  # all tokens in their places, those of the target too
    try:
        for number, pair in enumerate(draw_pairs(clips, pairs, network, crops, seed), 1):
            waiting.append(pair)
            advance()
            if len(waiting) == BATCH or number == pairs:
                template, search = (np.stack(images, axis=1) for images in zip(*waiting, strict=True))
                batches.append(_layers(network, template, search, cells, device))
                waiting = []
    finally:
        network.config = config
    layers = {
        who: tuple(_joined([batch[who][layer] for batch in batches]) for layer in range(len(each)))
        for who, each in batches[0].items()
    }
    blocks = {who: tuple(gap_of(layer, block) for block, layer in enumerate(each, 1)) for who, each in layers.items()}
    return Gap(pairs, blocks, layers)


def target_cells(grid: int, factor: float) -> npt.NDArray[np.int64]:
    """The search tokens of a centred target, row-major: those within a square of the target's size."""
    centres = (np.arange(grid) + 0.5) / grid
    inside = np.flatnonzero(np.abs(centres - 0.5) <= max(0.5 / factor, 0.5 / grid) + 1e-9)
    return (inside[:, None] * grid + inside).ravel()


def layer_of(visible: Tensor, infrared: Tensor, cells: npt.NDArray[np.int64]) -> Layer:
    """What is kept of the tokens (P, N, C) of the two modalities; ``cells`` are those of the target."""
    tokens = torch.stack([visible, infrared]).float()
    normalized = torch.stack([instance_norm(visible), instance_norm(infrared)])
    kept = (tokens.mean(2), tokens.std(2), tokens[:, :, cells].mean(2), normalized[:, :, cells].mean(2))
    mean, deviation, pooled, normal = (part.cpu().numpy() for part in kept)
    return Layer(mean, deviation, pooled, normal, float(style_distance(visible, infrared)))


def gap_of(layer: Layer, block: int) -> LayerGap:
    """The gap after a block."""
    variance = float(np.square(layer.deviation).mean())
    averages = np.stack([layer.mean.mean(1), layer.deviation.mean(1)])  # (statistic, modality, C)
    statistics = float(np.square(averages[:, 0] - averages[:, 1]).sum(0).mean())
    return LayerGap(block, layer.style / variance, statistics / variance, probe(layer.pooled), probe(layer.normalized))


def probe(features: Floats) -> float:
    """How often a linear classifier tells the modality right, on pairs that it was not trained on.

    It is ridge regression on labels of -1 and 1, trained on four fifths of the pairs and tested on the last, five times
    over. Folds are stretches of pairs in the order given, not a random choice: of neighbouring frames, which look
    alike, few then stand on both sides. A pair stays together.

    Args:
        features: (2, P, C), the modalities first.

    Returns:
        0..1; 0.5 is chance, and what no decision counts as.
    """
    correct = []
    for tested in np.array_split(np.arange(features.shape[1]), FOLDS):
        training = np.delete(features, tested, axis=1).reshape(-1, features.shape[2]).astype(np.float64)
        labels = np.repeat([-1.0, 1.0], len(training) // 2)
        mean, deviation = training.mean(0), training.std(0) + 1e-8
        known = (training - mean) / deviation
        ridge = PENALTY * len(known) * np.eye(known.shape[1])
        weights = np.linalg.solve(known.T @ known + ridge, known.T @ labels)
        answers = ((features[:, tested] - mean) / deviation) @ weights * np.array([[-1.0], [1.0]])
        correct.append(np.where(np.abs(answers) < 1e-9, 0.5, answers > 0).ravel())
    return float(np.concatenate(correct).mean())


def principal_components(features: Floats) -> tuple[Floats, float]:
    """Features (2, P, C) in their first two principal components, (2, P, 2), and the share of variance in these."""
    flat = features.reshape(-1, features.shape[2]).astype(np.float64)
    _, spread, axes = np.linalg.svd(flat - flat.mean(0), full_matrices=False)
    axes = axes[:2] * np.sign(np.take_along_axis(axes[:2], np.abs(axes[:2]).argmax(1)[:, None], 1))  # else arbitrary
    share = float(np.square(spread[:2]).sum() / max(np.square(spread).sum(), 1e-12))
    return ((flat - flat.mean(0)) @ axes.T).reshape(2, -1, 2).astype(np.float32), share


# Pictures


def draw(gap: Gap, folder: Path) -> list[Path]:
    """Writes the gap over the blocks (``gap_blocks``) and the features (``gap_features``), each as PDF and PNG.

    Returns:
        The four paths.

    Raises:
        ImportError: if matplotlib is not installed.
        OSError: if a file cannot be written.
    """
    paths = []
    with styled():
        for name, figure in (("gap_blocks", blocks_figure(gap)), ("gap_features", features_figure(gap))):
            paths += save_figure(figure, folder / name)
    return paths


def blocks_figure(gap: Gap) -> "Figure":
    """The relative style distance, and the accuracy of the probe, over the blocks."""
    figure = new_figure(PAGE, 2.2)
    left, right = figure.subplots(1, 2)
    dashes = {"students": "-", "teachers": (0, (4, 1.5))}
    for who, each in gap.blocks.items():
        numbers = [one.block for one in each]
        line = {"linestyle": dashes[who], "marker": "o", "markersize": 3}
        left.plot(numbers, [one.style for one in each], color="#000000", label=f"style, {who}", **line)
        left.plot(numbers, [one.statistics for one in each], color="#009e73", label=f"statistics, {who}", **line)
        # The two often agree: rings around dots show both.
        ring = {**line, "markersize": 7, "markerfacecolor": "none"}
        right.plot(numbers, [one.probe for one in each], color="#000000", label=f"tokens, {who}", **ring)
        normalized = [one.probe_normalized for one in each]
        right.plot(numbers, normalized, color="#cc79a7", label=f"instance-normalised, {who}", **line)
    right.axhline(0.5, color="0.5", lw=0.7, zorder=0.9)
    left.set(xlabel="block", ylabel="distance / token variance", ylim=(0, None))
    right.set(xlabel="block", ylabel="accuracy of the probe", ylim=(0.38, 1.03))
    for axes in (left, right):
        axes.set_xticks(numbers)
        axes.legend(fontsize=7, loc="best")
    return figure


def features_figure(gap: Gap) -> "Figure":
    """The target's features of each pair in two dimensions: a dot for each modality, a line between the two."""
    rows: list[tuple[str, Sequence[Layer], Sequence[LayerGap], bool]] = []
    for who, each in gap.layers.items():
        rows += [(who, each, gap.blocks[who], False), (f"{who}, normalised", each, gap.blocks[who], True)]
    depth = len(gap.layers["students"])
    shown = sorted({round(place) for place in np.linspace(0, depth - 1, min(4, depth))})
    figure = new_figure(PAGE, 0.4 + 1.75 * len(rows))
    grid = figure.subplots(len(rows), len(shown), squeeze=False)
    for line, (title, layers, blocks, normalized) in zip(grid, rows, strict=True):
        for axes, place in zip(line, shown, strict=True):
            features = layers[place].normalized if normalized else layers[place].pooled
            accuracy = blocks[place].probe_normalized if normalized else blocks[place].probe
            _scatter(axes, features)
            axes.set_title(f"block {blocks[place].block}: probe {accuracy:.2f}", fontsize=7)
        line[0].set_ylabel(title)
    handles = grid[0, 0].collections[-2:]
    figure.legend(handles, list(COLORS), loc="outside lower center", ncols=2, markerscale=2)
    return figure


def _scatter(axes: "Axes", features: Floats) -> None:
    points, share = principal_components(features)
    axes.plot(points[:, :, 0], points[:, :, 1], color="0.85", lw=0.3, zorder=1)
    for modality, color, cloud in zip(COLORS, COLORS.values(), points, strict=True):
        axes.scatter(cloud[:, 0], cloud[:, 1], s=4, color=color, linewidths=0, alpha=0.7, label=modality, zorder=2)
    axes.set(xticks=[], yticks=[])
    axes.set_xlabel(f"{100 * share:.0f} % of the variance", fontsize=7)
    axes.set_aspect("equal", adjustable="datalim")
    axes.grid(False)


@contextmanager
def styled() -> Iterator[None]:
    """Sets the style of the figures of this package.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    try:
        from matplotlib import style
    except ImportError as error:
        raise ImportError('figures need matplotlib: pip install "duotrack[report]"') from error
    with style.context(["default", STYLE]):
        yield


def save_figure(figure: "Figure", path: Path) -> list[Path]:
    """Writes a figure as ``PATH.pdf`` and ``PATH.png``; returns both."""
    written = []
    for suffix, metadata in ((".pdf", {"CreationDate": None}), (".png", {})):
        written.append(path.with_name(path.name + suffix))
        with beside(written[-1]) as temporary:
            figure.savefig(temporary, metadata=metadata)
    return written


def new_figure(width: float, height: float) -> "Figure":
    """A figure that no window system knows, sizes in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


# Parts


def _layers(
    network: StudentNetwork, template: Image, search: Image, cells: npt.NDArray[np.int64], device: torch.device
) -> dict[str, list[Layer]]:
    """The layers of a batch of crops (2, B, H, W, 3), of students and teachers."""
    crops = (normalize(torch.from_numpy(images).to(device)) for images in (template, search))
    visible, infrared, teacher_visible, teacher_infrared = network.tokens(*crops)
    pairs = {"students": (visible, infrared), "teachers": (teacher_visible, teacher_infrared)}
    return {who: [layer_of(*two, cells) for two in zip(*both, strict=True)] for who, both in pairs.items() if both[0]}


def _joined(layers: Sequence[Layer]) -> Layer:
    """One layer out of those of the batches."""
    mean, deviation, pooled, normalized = (
        np.concatenate([getattr(one, name) for one in layers], axis=1)
        for name in ("mean", "deviation", "pooled", "normalized")
    )
    sizes = [one.mean.shape[1] for one in layers]
    style = np.average([one.style for one in layers], weights=sizes)
    return Layer(mean, deviation, pooled, normalized, float(style))
