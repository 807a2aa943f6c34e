"""How single pairs are drawn: from clips by the published rule, from labelled stills, and from a mixture of sources."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from duotrack.crops import Box, Image
from duotrack.data.augment import Draws, Pair, Processing, draw, process
from duotrack.data.clips import Clip, Track
from duotrack.data.folders import BrokenDatasetError, BrokenImageError, ImageClip
from duotrack.data.objects import Objects, shrunk, to_bytes
from duotrack.data.synthetic import Canvas, coloured, gain_table, place, smoke, thermal

Generator = np.random.Generator
Maker = Callable[[Generator], Pair | None]
"""One kind of pairs: a pair from a generator, or None where the draw was invalid and has to be repeated.

It may raise :class:`duotrack.data.folders.BrokenImageError` to the same effect.
"""

MAX_REDRAWS = 200
ENOUGH_DRAWS = 100  # below that many, the share of broken ones says little
MISALIGNED = 0.12  # standard deviation, across and down, in sides of the target: 8 pixels are 0.18 of one of 45


@dataclass(frozen=True)
class Sampling:
    """How pairs are drawn from clips and stills. The first three are the published rule; the rest is off in it."""

    max_gap: int = 200
    """The search frame is less than this many frames after the template frame."""
    min_frames: int = 20
    """Shorter clips are not used."""
    min_visible: int = 5
    """Targets visible in fewer frames are not used."""
    absent: float = 0.0
    """Share of pairs whose search crop is cut elsewhere in the frame, without the target."""
    rendered: float = 0.0
    """Share of pairs of single-modality clips whose missing modality is a random curve of the other; else black."""
    lookalikes: float = 0.0
    """Share of pairs in whose search crop another object is put beside the target or across it."""
    weather: float = 0.0
    """Share of pairs over whose visible images smoke or night comes, or whose infrared loses contrast or polarity."""

    def __post_init__(self) -> None:
        if self.max_gap < 2 or self.min_frames < 2 or self.min_visible < 2:
            raise ValueError("sampling: max_gap, min_frames and min_visible must be 2 or more")
        for name in ("absent", "rendered", "lookalikes", "weather"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"sampling: {name} is a share and must lie in 0..1, not {getattr(self, name)}")


class ClipSource:
    """Pairs of two frames of a clip, template before search, the same two frames in both modalities.

    Args:
        clips: where pairs come from. Every target is as likely as any other, however long its track.
        processing: how frames become crops.
        sampling: the rule.
        objects: what look-alikes are drawn from; needed if the rule wants any.
        kinds: the kinds of objects that fit these clips.

    Raises:
        ValueError: if no clip has a target that the rule admits.
    """

    def __init__(
        self,
        clips: Sequence[Clip | ImageClip],
        processing: Processing,
        sampling: Sampling | None = None,
        objects: Objects | None = None,
        kinds: Sequence[str] = (),
    ) -> None:
        self.processing = processing
        self.sampling = rule = sampling or Sampling()
        self.targets = [
            (clip, track)
            for clip in clips
            for track in clip.tracks
            if len(track.frames) >= rule.min_visible and clip.length >= rule.min_frames
        ]
        if not self.targets:
            names = ", ".join(clip.name for clip in clips[:5]) + ", ..." * (len(clips) > 5)
            raise ValueError(
                f"{names}: no target visible in {rule.min_visible} of at least {rule.min_frames} frames, as the "
                "settings sampling.min_visible and sampling.min_frames want it"
            )
        if rule.lookalikes and (objects is None or not kinds):
            raise ValueError("look-alikes need objects and the kinds to draw")
        if rule.lookalikes and objects is not None and (unknown := set(kinds) - objects.known):
            raise ValueError(
                f"lookalikes: no such kinds of object: {sorted(unknown)}; there are {sorted(objects.known)}"
            )
        self.objects, self.kinds = objects, kinds

    def __call__(self, rng: Generator) -> Pair | None:
        """One pair, or None where the draw was invalid."""
        rule = self.sampling
        clip, track = self.targets[int(rng.integers(len(self.targets)))]
        first, second = causal_pair(track, clip.length, rule.max_gap, rng)
        template, search = clip.frame(int(track.frames[first])), clip.frame(int(track.frames[second]))
        box, present = track.boxes[second], bool(rng.random() >= rule.absent)
        window = box if present else _elsewhere(clip, track, second, search[0].shape, rng)
        draws = draw(rng, self.processing)
        pair = process(template, search, track.boxes[first], window, draws, self.processing)
        if pair is None or (not present and _in_crop(box, window, pair, draws, self.processing)):
            return None
        pair = replace(pair, present=present, shown=(clip.visible is not None, clip.infrared is not None))
        if rng.random() < rule.lookalikes:
            pair = self._with_lookalike(pair, f"{clip.name}/{track.name}", math.sqrt(box[2] * box[3]), rng)
        pair = without_gap(pair, rendered=bool(rng.random() < rule.rendered), rng=rng)
        return weathered(pair, rng) if rng.random() < rule.weather else pair

    def _with_lookalike(self, pair: Pair, identity: str, resolution: float, rng: Generator) -> Pair:
        """Puts another object near the target, as sharp as the target is in the image."""
        assert self.objects is not None
        size = pair.search.shape[1]
        canvas = Canvas(pair.search[0].copy(), np.ascontiguousarray(pair.search[1, :, :, 0]))
        x, y, w, h = (float(value) * size for value in pair.search_box)
        x1, y1, x2, y2 = (int(value) for value in np.clip((x, y, x + w, y + h), 0, size))
        if x2 - x1 < 4 or y2 - y1 < 4:
            return pair
        if pair.present:
            canvas.guard((slice(y1, y2), slice(x1, x2)))
        cold = float(cv2.mean(canvas.infrared)[0])
        warm = float(np.percentile(canvas.infrared[y1:y2, x1:x2], 97)) * rng.uniform(0.8, 1.1)
        for _ in range(1 + int(rng.random() < 0.3)):
            kind = self.kinds[int(rng.integers(len(self.kinds)))]
            cutout = self.objects.draw_kind(kind, rng, other_than=identity)[0]
            if rng.random() < 0.3:
                cutout = self.objects.recoloured(cutout, rng)
            low = cold + rng.uniform(-0.1, 0.2) * (warm - cold)
            heat = np.clip(np.linspace(low, max(warm, low + 20), 256), 0, 255).astype(np.uint8)
            side = math.sqrt(w * h) * math.exp(rng.normal(0, 0.15))
            offset = np.array([rng.choice([-1, 1]) * rng.uniform(0.5, 1.6) * w, rng.normal(0, 0.15) * h])
            mirror = np.diag([float(rng.choice([-1, 1])), 1.0])
            cutout = shrunk(cutout, resolution)
            spot = place(cutout, mirror, side, np.array([x + w / 2, y + h / 2]) + offset)
            canvas.paste(cutout, spot.matrix, heat)
        return replace(pair, search=canvas.stacked())


class DatasetSource:
    """Pairs from a data set on disk, some of whose images may be missing or damaged.

    Args:
        name: of the data set, for messages.
        pairs: draws them.
        tolerance: largest share of draws that may hit a broken image.
    """

    def __init__(self, name: str, pairs: Maker, tolerance: float) -> None:
        self.name, self.pairs, self.tolerance = name, pairs, tolerance
        self.draws, self.broken = 0, 0  # they do not touch what is drawn: they only end a run

    def __call__(self, rng: Generator) -> Pair | None:
        """One pair, or None where the draw was invalid.

        Raises:
            BrokenImageError: if an image cannot be used.
            BrokenDatasetError: if that has happened more often than tolerated.
        """
        self.draws += 1
        try:
            return self.pairs(rng)
        except BrokenImageError as error:
            self.broken += 1
            if self.draws >= ENOUGH_DRAWS and self.broken > self.tolerance * self.draws:
                raise BrokenDatasetError(
                    f"{self.name}: {self.broken} of {self.draws} draws hit an image that cannot be used, more than the "
                    f"tolerance of {self.tolerance:g}. The last one: {error}"
                ) from error
            raise


class StillSource:
    """Pairs of two crops of one labelled still: poor in change, rich in objects and real texture.

    Args:
        stills: visible (H, W, 3) or infrared (H, W) images with their boxes (K, 4).
        processing: how images become crops.
        sampling: the rule; of it only ``rendered`` applies.
    """

    def __init__(
        self, stills: Sequence[tuple[npt.NDArray[np.uint8], Box]], processing: Processing, sampling: Sampling
    ) -> None:
        self.targets = [(image, box) for image, boxes in stills for box in boxes]
        if not self.targets:
            raise ValueError("no labelled still has a box")
        self.processing, self.sampling = processing, sampling

    def __call__(self, rng: Generator) -> Pair | None:
        """One pair, or None where the draw was invalid."""
        image, box = self.targets[int(rng.integers(len(self.targets)))]
        infrared = image.ndim == 2
        colour = np.repeat(image[..., None], 3, 2) if infrared else image
        frame = (np.zeros_like(colour), colour) if infrared else (colour, np.zeros_like(colour))
        pair = process(frame, frame, box, box, draw(rng, self.processing), self.processing)
        if pair is None:
            return None
        gain, offset = rng.uniform(0.75, 1.25), rng.uniform(-20, 20)
        table = np.clip(np.arange(256) * gain + offset, 0, 255).astype(np.uint8)
        pair = replace(pair, search=table[pair.search], shown=(not infrared, infrared))
        return without_gap(pair, rendered=bool(rng.random() < self.sampling.rendered), rng=rng)


class Mixture:
    """Several sources as one endless, numbered, reproducible stream of pairs.

    Pair ``index`` of seed ``seed`` has a random generator of its own, so the stream is the same for any number of
    workers and when training resumes at any index. Where a draw is invalid or hits a broken image, the next one comes
    from the same source and generator.

    Args:
        makers: sources, each with its weight.
        seed: two seeds, two streams: one for training, another for validation.
        corruption: share of pairs in which one modality of the search crop is black, noise, or of another sample; never
            the only one that shows the target.
        misalignment: share of pairs whose infrared images are moved against the visible ones (:func:`misaligned`).
    """

    def __init__(
        self,
        makers: Sequence[tuple[Maker, float]],
        seed: int,
        corruption: float = 0.0,
        misalignment: float = 0.0,
    ) -> None:
        if not makers or any(weight <= 0 for _, weight in makers):
            raise ValueError("a mixture needs at least one source, and every weight must be above 0")
        for name, share in (("corruption", corruption), ("misalignment", misalignment)):
            if not 0 <= share <= 1:
                raise ValueError(f"{name} is a share and must lie in 0..1, not {share}")
        self.makers = [maker for maker, _ in makers]
        cumulated = np.cumsum([weight for _, weight in makers])
        self.cumulated = cumulated / cumulated[-1]
        self.seed = seed
        self.corruption = corruption
        self.misalignment = misalignment

    def pair(self, index: int) -> Pair:
        """Pair ``index`` (0 or more) of the stream."""
        if index < 0:
            raise IndexError(f"pairs are numbered from 0, not {index}")
        rng = np.random.default_rng([self.seed, index])
        pair = self._draw(rng)
        pair = self._corrupted(pair, rng) if rng.random() < self.corruption else pair
        return misaligned(pair, rng) if rng.random() < self.misalignment else pair

    def _draw(self, rng: Generator) -> Pair:
        maker = self.makers[int(np.searchsorted(self.cumulated, rng.random(), side="right"))]
        skipped: list[str] = []
        for _ in range(MAX_REDRAWS):
            try:
                pair = maker(rng)
            except BrokenImageError as error:
                skipped.append(str(error.file))
                continue
            if pair is not None:
                return replace(pair, skipped=tuple(skipped))
        raise ValueError(
            f"{type(maker).__name__}: no valid pair in {MAX_REDRAWS} draws; check the boxes and images of its data"
        )

    def _corrupted(self, pair: Pair, rng: Generator) -> Pair:
        """Takes one modality of the search crop away, if the other one is enough."""
        lost = int(rng.integers(2))
        if pair.present and not pair.shown[1 - lost]:
            lost = 1 - lost
        if pair.present and not pair.shown[1 - lost]:
            return pair
        search, skipped = pair.search.copy(), pair.skipped
        kind = rng.integers(3)
        if kind == 0:
            search[lost] = 0
        elif kind == 1:
            noise = rng.integers(0, 256, search.shape[1:], np.uint8)
            search[lost] = noise if lost == 0 else noise[..., :1]
        else:
            other = self._draw(rng)
            search[lost], skipped = other.search[lost], skipped + other.skipped
        shown = (pair.shown[0] and lost != 0, pair.shown[1] and lost != 1)
        return replace(pair, search=search, shown=shown, skipped=skipped)


def causal_pair(track: Track, length: int, max_gap: int, rng: Generator) -> tuple[int, int]:
    """Draws a template and a later search row of a track as published.

    The template frame is uniform among the annotated ones (the clip's last frame excepted), the search frame among
    those less than ``max_gap`` frames later. Where there is none, both are drawn anew, with five frames more.

    Args:
        track: a target with two annotated frames or more.
        length: number of frames of the clip.
        max_gap: see above.
        rng: the generator.

    Returns:
        Rows of the track, not frame numbers.
    """
    candidates = int(np.searchsorted(track.frames, length - 1))
    gap = max_gap
    while True:
        first = int(rng.integers(candidates))
        end = int(np.searchsorted(track.frames, track.frames[first] + gap))
        if end > first + 1:
            return first, int(rng.integers(first + 1, end))
        gap += 5


def weathered(pair: Pair, rng: Generator) -> Pair:
    """Spoils one modality of a clear pair by smoke, night, or a cold or inverted infrared picture."""
    template, search = (
        Canvas(images[0].copy(), np.ascontiguousarray(images[1, :, :, 0])) for images in (pair.template, pair.search)
    )
    shown = pair.shown
    kind = rng.random()
    if kind < 0.4 and shown[1]:
        density = rng.uniform(0.1, 1.3)
        smoke(search, density, rng)
        if rng.random() < 0.3:
            smoke(template, rng.uniform(0, 0.9), rng)
        shown = (shown[0] and density < 0.5, shown[1])
    elif kind < 0.65 and shown[1]:
        gain = rng.uniform(0.02, 0.5)
        for canvas in (template, search):
            dark = gain_table(gain, rng.uniform(0, 8))[canvas.visible]
            canvas.visible = to_bytes(dark + rng.normal(0, rng.uniform(1, 12), dark.shape))
        shown = (shown[0] and gain > 0.2, shown[1])
    elif kind < 0.8 and shown[0]:
        gain, offset = rng.uniform(0.03, 0.5), rng.uniform(0, 120)
        for canvas in (template, search):
            canvas.infrared = gain_table(gain, offset)[canvas.infrared]
        shown = (shown[0], shown[1] and gain > 0.2)
    if rng.random() < 0.3:
        for canvas in (template, search):
            canvas.infrared = 255 - canvas.infrared
    return replace(pair, template=template.stacked(), search=search.stacked(), shown=shown)


def misaligned(pair: Pair, rng: Generator) -> Pair:
    """Moves the infrared images against the visible ones, of which the boxes speak.

    Most often template and search alike, as by cameras that are badly registered: what the template shows tells how to
    correct it. Sometimes the search alone, as by a camera that is late; never where infrared alone shows the target,
    for then nobody could tell.
    """
    shift = rng.normal(0, MISALIGNED, 2)  # in sides of the target
    late = rng.random() < 0.3 and (pair.shown[0] or not pair.present)
    crops = []
    for images, box, moves in ((pair.template, pair.template_box, not late), (pair.search, pair.search_box, True)):
        moved = images.copy()
        if moves:
            size = images.shape[1]
            x, y = shift * math.sqrt(float(box[2] * box[3])) * size
            matrix = np.array([[1, 0, x], [0, 1, y]])
            moved[1] = cv2.warpAffine(images[1], matrix, (size, size), borderMode=cv2.BORDER_REPLICATE)
        crops.append(moved)
    return replace(pair, template=crops[0], search=crops[1])


def without_gap(pair: Pair, *, rendered: bool, rng: Generator) -> Pair:
    """Fills the modality that the source of a pair lacks: with a random curve of the other one, or with black.

    Args:
        pair: as cut from a source of one or two modalities; ``shown`` tells which are there.
        rendered: True for the curve.
        rng: the generator.
    """
    if pair.shown[0] == pair.shown[1]:
        return pair
    there = 0 if pair.shown[0] else 1
    seed = int(rng.integers(2**63))  # template and search get the same curve
    crops: list[Image] = []
    for images in (pair.template, pair.search):
        filled = images.copy()
        filled[1 - there] = 0
        if rendered and there == 0:
            filled[1] = thermal(images[0], np.random.default_rng(seed))[..., None]
        elif rendered:
            filled[0] = coloured(np.ascontiguousarray(images[1, :, :, 0]), np.random.default_rng(seed))
        crops.append(filled)
    return replace(pair, template=crops[0], search=crops[1], shown=(True, True) if rendered else pair.shown)


def _elsewhere(clip: Clip | ImageClip, track: Track, row: int, shape: tuple[int, ...], rng: Generator) -> Box:
    """A box of the target's size elsewhere in the frame, where another target is or anywhere."""
    box, frame = track.boxes[row], track.frames[row]
    others = [
        other.boxes[np.searchsorted(other.frames, frame)]
        for other in clip.tracks
        if other.name != track.name and frame in other.frames
    ]
    if others and rng.random() < 0.5:
        other = others[int(rng.integers(len(others)))]
        center = other[:2] + other[2:] / 2
    else:
        center = rng.random(2) * (shape[1], shape[0])
    return np.concatenate([center - box[2:] / 2, box[2:]])


def _in_crop(box: Box, window: Box, pair: Pair, draws: Draws, processing: Processing) -> bool:
    """Whether a box of the frame reaches into a search crop that was cut around another box of the same size."""
    offset = (box[:2] - window[:2]) * pair.search_box[2:] / window[2:]
    if (draws.flip < processing.flip_frames) != (draws.search.flip < processing.flip_crops):
        offset[0] = -offset[0]
    low = pair.search_box[:2] + offset
    margin = 0.05  # of the crop: boxes are not exact, and shadows fall beside them
    return bool((low + pair.search_box[2:] > -margin).all() and (low < 1 + margin).all())
