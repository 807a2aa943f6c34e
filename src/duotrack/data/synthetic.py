"""Rendered RGB-T pairs with exact boxes, drawn straight into the crops.

No full frame is ever made: one canvas is the template crop, one the search crop. A pair is a world (a background in
both modalities, seen twice, a little shifted), an object in it, things that look like the object, things in front of
it, weather, and two cameras. Before anything is drawn it is settled which modality tells the object from the rest
(:data:`TELLING`); whatever is destroyed later is destroyed in the other one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from duotrack.crops import Image
from duotrack.data.augment import Pair, Processing
from duotrack.data.objects import Cutout, Objects, random_curve, to_bytes

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Generator = np.random.Generator

Telling = Literal["both", "visible", "infrared"]
TELLING: dict[Telling, float] = {"both": 0.5, "infrared": 0.32, "visible": 0.18}
"""How often each modality alone, or both, tell the target from everything else."""

MIN_SEEN = 0.4  # share of the target that things in front of it must leave free


@dataclass(frozen=True)
class Background:
    """A picture to draw on: one modality, or a registered pair."""

    visible: Image | None  # (h, w, 3)
    infrared: UInt8 | None  # (h, w)


@dataclass(frozen=True)
class Rendering:
    """What rendered pairs contain, as probabilities. The defaults come from the pilot runs."""

    absent: float = 0.06
    """The target is not in the search crop; look-alikes may be."""
    lookalikes: float = 0.5
    """There are look-alikes beside, behind or in front of the target."""
    occluder: float = 0.2
    """Something hides a part of the target in the search crop."""
    template_border: float = 0.25
    search_border: float = 0.35
    """An image border crosses the crop; about every second one cuts the target."""
    low_resolution: float = 0.55
    """The target is small in the image, so that its crop is magnified."""
    compressed: float = 0.5
    """Images went through a lossy codec."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value <= 1:
                raise ValueError(f"rendering: {name} is a probability and must lie in 0..1, not {value}")


class Canvas:
    """A crop or frame being drawn: both modalities, and how much of the target is still seen.

    Args:
        visible: uint8 (H, W, 3), RGB; it is drawn on.
        infrared: uint8 (H, W); it is drawn on.
        least: share of the target that whatever is pasted later must leave free, else it is not drawn.
    """

    def __init__(self, visible: Image, infrared: UInt8, least: float = MIN_SEEN) -> None:
        self.visible = visible  # (H, W, 3)
        self.infrared = infrared  # (H, W)
        self.least = least
        self.seen: Float32 | None = None
        self.full = 0.0

    def guard(self, area: tuple[slice, slice]) -> None:
        """From now on, what is pasted must leave ``least`` of this area free."""
        self.seen = np.zeros(self.infrared.shape, np.float32)
        self.seen[area] = 1
        self.full = float(self.seen.sum())

    def stacked(self) -> Image:
        """Both modalities, uint8 (2, S, S, 3)."""
        return np.stack([self.visible, cv2.cvtColor(self.infrared, cv2.COLOR_GRAY2RGB).astype(np.uint8)])

    def paste(
        self,
        cutout: Cutout,
        matrix: Float64,
        heat: UInt8,
        *,
        opacity: tuple[float, float] = (1.0, 1.0),
        target: bool = False,
    ) -> bool:
        """Puts a cut-out into the picture.

        Args:
            cutout: what.
            matrix: (2, 3), from pixel edges of the cut-out to pixel edges of the canvas.
            heat: (256,), grey level for each value of the cut-out's thermal pattern.
            opacity: in visible and infrared; below 1 it melts into the background.
            target: what is pasted later must leave ``least`` of it free.

        Returns:
            Whether it was drawn: not if it lies outside, or would hide too much of the target.
        """
        corners = np.array([[0, 0], [1, 0], [0, 1], [1, 1]]) * cutout.alpha.shape[::-1]
        corners = corners @ matrix[:, :2].T + matrix[:, 2]
        x1, y1 = np.maximum(np.floor(corners.min(0)).astype(int) - 1, 0)
        x2, y2 = np.minimum(np.ceil(corners.max(0)).astype(int) + 1, self.infrared.shape[::-1])
        if x1 >= x2 or y1 >= y2:
            return False
        centers = matrix.copy()  # warpAffine speaks of pixel centres
        centers[:, 2] += matrix[:, :2] @ (0.5, 0.5) - (0.5 + x1, 0.5 + y1)
        extent = (int(x2 - x1), int(y2 - y1))
        alpha = cv2.warpAffine(cutout.alpha, centers, extent, flags=cv2.INTER_LINEAR).astype(np.float32) / 255
        roi = (slice(y1, y2), slice(x1, x2))
        if target:
            self.seen = np.zeros(self.infrared.shape, np.float32)
            self.seen[roi] = alpha
            self.full = float(alpha.sum())
        elif self.seen is not None:
            left = self.seen[roi] * (1 - alpha)
            if float(self.seen.sum() - self.seen[roi].sum() + left.sum()) < self.least * self.full:
                return False
            self.seen[roi] = left
        border = cv2.BORDER_REPLICATE
        colour = cv2.warpAffine(cutout.visible, centers, extent, flags=cv2.INTER_LINEAR, borderMode=border)
        warmth = cv2.warpAffine(heat[cutout.heat], centers, extent, flags=cv2.INTER_LINEAR, borderMode=border)
        _blend(self.visible[roi], colour, (alpha * np.float32(opacity[0]))[..., None])
        _blend(self.infrared[roi], warmth, alpha * np.float32(opacity[1]))
        return True


def _blend(under: UInt8, over: npt.NDArray[Any], alpha: npt.NDArray[Any]) -> None:
    under[...] = (under + (over.astype(np.float32) - under) * alpha + 0.5).astype(np.uint8)


@dataclass(frozen=True)
class Placement:
    """Where a cut-out goes: the matrix, its box, and the image borders that cut it."""

    matrix: Float64  # (2, 3)
    box: Float64  # (4,) x, y, w, h in pixels of the canvas: the part within the borders
    full: Float64  # (4,) the same without borders


def place(
    cutout: Cutout, linear: Float64, side: float, center: Float64, cut: Sequence[float] = (0, 0, 0, 0)
) -> Placement:
    """Scales and shifts a linearly warped cut-out until the box of its outline is as wanted.

    Args:
        cutout: what is placed.
        linear: (2, 2), rotation, mirroring, aspect.
        side: geometric mean of the box's sides, in pixels.
        center: centre of the box.
        cut: share of the full box that lies beyond an image border: left, top, right, bottom. The box is what remains.
            Negative: the border does not touch it.
    """
    points = cutout.outline @ linear.T
    low, high = points.min(0), points.max(0)
    extent = high - low
    beyond = np.maximum(cut, 0)
    inner_low, inner_high = low + extent * beyond[:2], high - extent * beyond[2:]
    scale = side / math.sqrt(float(np.prod(inner_high - inner_low)))
    shift = center - scale * (inner_low + inner_high) / 2
    matrix = np.concatenate([scale * linear, shift[:, None]], 1)
    box = np.concatenate([inner_low * scale + shift, (inner_high - inner_low) * scale])
    return Placement(matrix, box, np.concatenate([low * scale + shift, extent * scale]))


class Renderer:
    """Makes rendered pairs: ``renderer(rng)`` is one. All of it comes from the generator.

    Args:
        objects: what can be put into a picture.
        backgrounds: what is behind it: visible, infrared, and registered pairs.
        processing: sizes, factors, jitter and brightness of the pairs, as for real ones.
        rendering: what the pairs contain.
    """

    def __init__(
        self,
        objects: Objects,
        backgrounds: Sequence[Background],
        processing: Processing,
        rendering: Rendering | None = None,
    ) -> None:
        self.objects = objects
        self.processing = processing
        self.rendering = rendering or Rendering()
        self.pairs = [b for b in backgrounds if b.visible is not None and b.infrared is not None]
        self.visible = [b.visible for b in backgrounds if b.visible is not None and b.infrared is None]
        self.infrared = [b.infrared for b in backgrounds if b.visible is None and b.infrared is not None]
        if not self.visible or not self.infrared:
            raise ValueError("rendering needs visible and infrared background pictures, at least one of each")
        # Normal noise is dear and nobody sees that it repeats: a table, read at random places.
        self.noise = np.random.default_rng(0).standard_normal((512, 512, 3), np.float32)

    def __call__(self, rng: Generator) -> Pair | None:
        """One pair."""
        p, what = self.processing, self.rendering
        telling: Telling = rng.choice(list(TELLING), p=list(TELLING.values()))
        present = rng.random() >= what.absent
        views = self.objects.draw(rng)
        world = self._world(rng)

        # Geometry: the same jitter as for real pairs, seen from the crop.
        template_side = p.template_size / p.crop.template_factor
        template_cut = _cut(rng) if rng.random() < what.template_border else None
        linear = _linear(rng, upright=views[0].kind in UPRIGHT, strength=0.1)
        center = np.full(2, p.template_size / 2)
        in_template = place(views[0], linear, template_side, center, template_cut or (0, 0, 0, 0))
        jitter = rng.standard_normal(2)
        side = p.search_size / p.crop.search_factor * math.exp(-p.scale_jitter * jitter.mean())
        center = (0.5 - (rng.random(2) - 0.5) * p.center_jitter / p.crop.search_factor) * p.search_size
        search_cut = _cut(rng) if rng.random() < what.search_border else None
        linear = linear @ _linear(rng, upright=views[0].kind in UPRIGHT, strength=0.18, mirror=0.12)
        in_search = place(views[1], linear, side, center, search_cut or (0, 0, 0, 0))

        template, search = self._views_of_world(world, in_search.box, rng)
        local = _mean_around(search, in_search.box)
        heat = _temperatures(local[3], rng, crossover=telling == "visible" and rng.random() < 0.5)
        if telling == "visible" or (telling == "both" and rng.random() < 0.7):
            views = _contrasted(views, local[:3], rng)
        opacity = _opacity(telling, rng)

        # Things behind the target, the target, things in front of it.
        self._neighbours(template, views[0], in_template, heat, telling, rng, share=0.35)
        template.paste(views[0], in_template.matrix, heat, opacity=opacity, target=True)
        rivals = rng.random() < what.lookalikes or (not present and rng.random() < 0.7)
        behind = rng.random() < 0.5
        if rivals and behind:
            self._rivals(search, views[1], in_search, heat, telling, rng)
        if present:
            search.paste(views[1], in_search.matrix, heat, opacity=opacity, target=True)
        if rivals and not behind:
            self._rivals(search, views[1], in_search, heat, telling, rng)
        if rng.random() < what.occluder:
            self._occluder(search, in_search, local[3], rng)
        if rng.random() < 0.06:
            self._occluder(template, in_template, local[3], rng)

        shown = self._weather(template, search, in_search, telling, rng)
        shown = (shown[0] and telling != "infrared", shown[1] and telling != "visible")
        self._cameras(template, search, telling, rng)
        if template_cut is not None:
            _border(template, in_template, template_cut, p.crop.padding, rng)
        if search_cut is not None:
            _border(search, in_search, search_cut, p.crop.padding, rng)
        return Pair(
            template.stacked(),
            search.stacked(),
            (in_template.box / p.template_size).astype(np.float32),
            (in_search.box / p.search_size).astype(np.float32),
            rng.uniform(1 - p.brightness, 1 + p.brightness, 2).astype(np.float32),
            present,
            shown,
        )

    # --- the world -------------------------------------------------------------------------------------------------

    def _world(self, rng: Generator) -> tuple[Image, UInt8]:
        """A background larger than the search crop, in both modalities."""
        size = round(1.5 * self.processing.search_size)
        kind = rng.random()
        if kind < 0.18 and self.pairs:
            pair = self.pairs[int(rng.integers(len(self.pairs)))]
            assert pair.visible is not None and pair.infrared is not None
            window = _window(pair.infrared.shape, rng)
            visible, infrared = _cut_window(pair.visible, window, size), _cut_window(pair.infrared, window, size)
            infrared = cv2.LUT(infrared, gain_table(rng.uniform(0.6, 1.5), rng.uniform(-15, 50))).astype(np.uint8)
        elif kind < 0.45:
            still = self.infrared[int(rng.integers(len(self.infrared)))]
            infrared = _cut_window(still, _window(still.shape, rng), size)
            infrared = cv2.LUT(infrared, gain_table(rng.uniform(0.5, 1.3), rng.uniform(-50, 30))).astype(np.uint8)
            visible = coloured(infrared, rng) if rng.random() < 0.5 else self._still(size, rng)
        else:
            visible = self._still(size, rng)
            infrared = thermal(visible, rng)
        if rng.random() < 0.5:
            visible, infrared = cv2.flip(visible, 1).astype(np.uint8), cv2.flip(infrared, 1).astype(np.uint8)
        gain, offset = rng.uniform(0.65, 1.25), rng.uniform(-20, 20)
        tint = [gain_table(gain * rng.uniform(0.92, 1.08), offset + rng.uniform(-5, 5)) for _ in range(3)]
        return cv2.LUT(visible, np.stack(tint, -1)[:, None]).astype(np.uint8), infrared

    def _still(self, size: int, rng: Generator) -> Image:
        still = self.visible[int(rng.integers(len(self.visible)))]
        return _cut_window(still, _window(still.shape, rng), size)

    def _views_of_world(self, world: tuple[Image, UInt8], box: Float64, rng: Generator) -> tuple[Canvas, Canvas]:
        """The template's and the search's part of the world: the target moved, the camera too, a little."""
        p = self.processing
        size = p.search_size
        x, y = (int(value) for value in rng.integers(0, len(world[1]) - size, 2))
        window = np.s_[y : y + size, x : x + size]
        search = Canvas(np.ascontiguousarray(world[0][window]), np.ascontiguousarray(world[1][window]))
        scale, angle = math.exp(rng.normal(0, 0.08)), rng.normal(0, 0.03)
        where = np.array([x, y]) + box[:2] + box[2:] / 2 + rng.normal(0, 0.2 if rng.random() < 0.7 else 0.8, 2) * size
        linear = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]) * scale
        matrix = np.concatenate([linear, (np.full(2, p.template_size / 2) - linear @ where)[:, None]], 1)
        extent = (p.template_size, p.template_size)
        parts = [
            cv2.warpAffine(part, matrix, extent, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
            for part in world
        ]
        return Canvas(parts[0].astype(np.uint8), parts[1].astype(np.uint8)), search

    # --- other objects ---------------------------------------------------------------------------------------------

    def _rival(self, target: Cutout, heat: UInt8, telling: Telling, rng: Generator) -> tuple[Cutout, UInt8]:
        """Something like the target that differs from it in what tells: shape and colours, or warmth."""
        cooler = _other_temperature(heat, rng)
        choice = rng.random()
        if choice < 0.4:  # another one of its kind
            cutout = self.objects.draw_kind(target.kind, rng, other_than=target.identity)[0]
            if telling == "visible" and cutout.identity == target.identity:
                cutout = self.objects.recoloured(cutout, rng)
            return cutout, cooler if telling == "infrared" or rng.random() < 0.4 else heat
        if telling == "infrared" or (telling == "both" and choice < 0.6):  # its twin to the eye
            return target, cooler
        if telling == "visible" or choice < 0.8:  # its twin in infrared
            return self.objects.recoloured(target, rng), heat
        return self.objects.recoloured(target, rng), cooler

    def _rivals(
        self, canvas: Canvas, target: Cutout, placement: Placement, heat: UInt8, telling: Telling, rng: Generator
    ) -> None:
        """One to three look-alikes, most of them near the target or crossing it."""
        center, extent = placement.box[:2] + placement.box[2:] / 2, placement.box[2:]
        side = math.sqrt(float(extent[0] * extent[1]))
        for _ in range(int(rng.choice([1, 2, 3], p=[0.5, 0.3, 0.2]))):
            cutout, warmth = self._rival(target, heat, telling, rng)
            if rng.random() < 0.75:
                direction = rng.choice([-1.0, 1.0])
                offset = np.array([direction * rng.uniform(0.45, 1.7), rng.normal(0, 0.25)]) * extent
                if rng.random() < 0.25:
                    offset = np.array([rng.normal(0, 0.4), direction * rng.uniform(0.5, 1.5)]) * extent
            else:
                offset = rng.uniform(0, len(canvas.infrared), 2) - center
            linear = _linear(rng, upright=cutout.kind in UPRIGHT, strength=0.1, mirror=0.5)
            spot = place(cutout, linear, side * math.exp(rng.normal(0, 0.15)), center + offset)
            canvas.paste(cutout, spot.matrix, warmth)

    def _neighbours(
        self,
        canvas: Canvas,
        target: Cutout,
        placement: Placement,
        heat: UInt8,
        telling: Telling,
        rng: Generator,
        share: float,
    ) -> None:
        """Sometimes a look-alike at the edge of the template, behind the target."""
        if rng.random() < share:
            cutout, warmth = self._rival(target, heat, telling, rng)
            extent = placement.box[2:]
            offset = np.array([rng.choice([-1, 1]) * rng.uniform(0.7, 1.3), rng.normal(0, 0.25)]) * extent
            linear = _linear(rng, upright=cutout.kind in UPRIGHT, strength=0.1, mirror=0.5)
            side = math.sqrt(float(extent[0] * extent[1])) * math.exp(rng.normal(0, 0.15))
            spot = place(cutout, linear, side, placement.box[:2] + extent / 2 + offset)
            canvas.paste(cutout, spot.matrix, warmth)

    def _occluder(self, canvas: Canvas, placement: Placement, local: float, rng: Generator) -> None:
        """Something unlike the target in front of a part of it: a post, a bush, a thing passing by."""
        cutout = self.objects.draw_kind("shape", rng)[0]
        w, h = placement.box[2:]
        stretch = np.diag([1.0, math.exp(rng.normal(0.4, 0.5))])
        offset = np.array([rng.uniform(-0.7, 0.7) * w, rng.uniform(-0.7, 0.7) * h])
        center = placement.box[:2] + placement.box[2:] / 2 + offset
        spot = place(cutout, stretch, math.sqrt(w * h) * rng.uniform(0.4, 1.0), center)
        heat = _temperatures(local, rng, crossover=rng.random() < 0.6)
        canvas.paste(cutout, spot.matrix, heat)

    # --- weather and cameras ---------------------------------------------------------------------------------------

    def _weather(
        self, template: Canvas, search: Canvas, placement: Placement, telling: Telling, rng: Generator
    ) -> tuple[bool, bool]:
        """Smoke, darkness, glare in visible; low contrast, halo and polarity in infrared.

        Returns:
            Whether visible and infrared still show the target in the search crop.
        """
        shown = [True, True]
        kind = rng.random()
        if telling == "infrared":
            shown[0] = False
            if kind < 0.42:
                smoke(search, rng.uniform(0.7, 1.3), rng)
                if rng.random() < 0.3:
                    smoke(template, rng.uniform(0.3, 1.1), rng)
            elif kind < 0.75:
                night = rng.uniform(0.02, 0.2), rng.uniform(0, 12)
                search.visible[...] = cv2.LUT(search.visible, gain_table(*night))
                if rng.random() < 0.85:
                    template.visible[...] = cv2.LUT(template.visible, gain_table(*night))
            elif kind < 0.85:
                _glare(search, rng, strength=rng.uniform(180, 400), around=placement.box)
        else:
            if kind < 0.15:
                smoke(search, rng.uniform(-0.2, 0.45), rng)
                if rng.random() < 0.5:
                    smoke(template, rng.uniform(-0.2, 0.4), rng)
            elif kind < 0.3:
                dusk = rng.uniform(0.25, 0.7), rng.uniform(0, 15)
                search.visible[...] = cv2.LUT(search.visible, gain_table(*dusk))
                if rng.random() < 0.8:
                    template.visible[...] = cv2.LUT(template.visible, gain_table(*dusk))
            elif kind < 0.36:
                _glare(search, rng, strength=rng.uniform(60, 200), around=None)
        gain, offset = math.exp(rng.uniform(-0.4, 0.35)), rng.uniform(-25, 20)
        if telling == "visible" and rng.random() < 0.35:
            gain, offset, shown[1] = rng.uniform(0.02, 0.2), rng.uniform(10, 150), False
        inverted = rng.random() < 0.25
        halo = rng.uniform(0.2, 0.8) if rng.random() < 0.25 else 0.0
        for canvas in (template, search):
            if halo:
                wide = cv2.resize(canvas.infrared, (12, 12), interpolation=cv2.INTER_AREA)
                wide = cv2.resize(wide, canvas.infrared.shape)
                canvas.infrared = cv2.addWeighted(canvas.infrared, 1 + halo, wide, -halo, 0).astype(np.uint8)
            table = gain_table(gain * math.exp(rng.normal(0, 0.06)), offset + rng.normal(0, 4))
            canvas.infrared = cv2.LUT(canvas.infrared, 255 - table if inverted else table).astype(np.uint8)
        return shown[0], shown[1]

    def _cameras(self, template: Canvas, search: Canvas, telling: Telling, rng: Generator) -> None:
        """Resolution, blur, noise and compression: one camera a modality for both crops."""
        what = self.rendering
        sharpness = rng.uniform(0.24, 0.9) if rng.random() < what.low_resolution else 1.0
        dark = telling == "infrared" and float(search.visible.mean()) < 40
        quality = int(rng.integers(25, 92)) if rng.random() < what.compressed else None
        noise = rng.uniform(4, 22) if dark else rng.uniform(0, 9) * (rng.random() < 0.7)
        blur = rng.uniform(0.5, 1.6) if rng.random() < 0.25 else 0.0
        color = _Camera(sharpness, blur, noise, 0.0, quality)
        coarse = max(0.2, sharpness * (rng.uniform(0.5, 1) if rng.random() < 0.5 else 1))
        blur = rng.uniform(0.5, 1.8) if rng.random() < 0.35 else 0.0
        pattern = rng.uniform(1, 6) if rng.random() < 0.2 else 0.0
        noise = rng.uniform(0, 8) * (rng.random() < 0.7)
        thermal_camera = _Camera(coarse, blur, noise, pattern, quality)
        moving = rng.random() < 0.1
        for canvas in (template, search):
            zoom = math.exp(rng.normal(0, 0.12))
            canvas.visible = self._taken(canvas.visible, color, zoom, rng)
            canvas.infrared = self._taken(canvas.infrared, thermal_camera, zoom, rng)
            if moving and canvas is search:
                _motion_blur(canvas, rng)

    def _taken(self, image: UInt8, camera: "_Camera", zoom: float, rng: Generator) -> UInt8:
        size = len(image)
        small = min(size, max(16, round(size * camera.sharpness * zoom))) if camera.sharpness < 1 else size
        if small < size:
            image = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA).astype(np.uint8)
        if camera.blur:
            image = cv2.GaussianBlur(image, (0, 0), camera.blur * max(0.5, small / size)).astype(np.uint8)
        if camera.noise or camera.pattern:
            y, x = (int(value) for value in rng.integers(0, 512 - small, 2))
            grain = self.noise[y : y + small, x : x + small]
            grain = (grain if image.ndim == 3 else grain[..., 0]) * np.float32(camera.noise)
            if camera.pattern and image.ndim == 2:
                grain = grain + self.noise[y, x : x + small, 1] * np.float32(camera.pattern)
            image = cv2.add(image, grain, dtype=cv2.CV_8U).astype(np.uint8)
        if camera.quality is not None:
            _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, camera.quality])
            decoded = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
            assert decoded is not None
            image = decoded.astype(np.uint8, copy=False)
        if small < size:
            image = cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR).astype(np.uint8)
        return image


@dataclass(frozen=True)
class _Camera:
    sharpness: float  # pixels of the image per pixel of the crop
    blur: float  # standard deviation in pixels
    noise: float  # standard deviation in grey levels
    pattern: float  # the same of the column pattern
    quality: int | None  # of the codec


UPRIGHT = ("person", "warm person", "figure", "photo", "vehicle")
"""Kinds that stand on the ground: they are turned by a few degrees only."""


def thermal(visible: Image, rng: Generator) -> UInt8:
    """An infrared look for a visible picture: a random curve of its blurred luma, plus a slow random field."""
    luma = cv2.cvtColor(visible, cv2.COLOR_RGB2GRAY)
    curved = cv2.LUT(cv2.GaussianBlur(luma, (0, 0), rng.uniform(0.6, 3)), random_curve(rng)).astype(np.float32)
    mean, deviation = cv2.meanStdDev(curved)
    contrast = min(rng.uniform(4, 42) / max(float(deviation[0, 0]), 4), 2.5)
    grid = rng.normal(0, rng.uniform(2, 16), (5, 5)).astype(np.float32)
    field = cv2.resize(grid, luma.shape[::-1], interpolation=cv2.INTER_CUBIC)
    level = rng.uniform(15, 150)
    return to_bytes((curved - float(mean[0, 0])) * contrast + level + field)


def coloured(infrared: UInt8, rng: Generator) -> Image:
    """A visible look for an infrared picture: one random curve, and faint colours by a second one."""
    grey = cv2.LUT(infrared, random_curve(rng, monotone=0.93))
    tint = cv2.LUT(infrared, random_curve(rng)).astype(np.float32) - 128
    weights = rng.normal(0, 0.12, 3).astype(np.float32)
    return to_bytes(grey[..., None] + tint[..., None] * weights)


def _window(shape: Sequence[int], rng: Generator) -> tuple[float, float, float]:
    """Centre and side of a random square window, as shares of a picture's width, height and smaller side."""
    return rng.uniform(0.2, 0.8), rng.uniform(0.2, 0.8), rng.uniform(0.45, 1.3)


def _cut_window(picture: UInt8, window: tuple[float, float, float], size: int) -> UInt8:
    height, width = picture.shape[:2]
    scale = size / (window[2] * min(height, width))
    shift = size / 2 - scale * np.array([window[0] * width, window[1] * height])
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    if scale < 0.6:  # linear interpolation alone would alias
        picture = cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA).astype(np.uint8)
        matrix[:, :2] *= 2
    flags, border = cv2.INTER_LINEAR, cv2.BORDER_REFLECT_101
    return cv2.warpAffine(picture, matrix, (size, size), flags=flags, borderMode=border).astype(np.uint8)


def gain_table(gain: float, offset: float) -> UInt8:
    """The table 0..255 -> gain * level + offset, clipped."""
    return to_bytes(np.arange(256) * gain + offset)


def _linear(rng: Generator, *, upright: bool, strength: float, mirror: float = 0.5) -> Float64:
    """A random rotation, aspect and mirroring, (2, 2)."""
    angle = rng.normal(0, 0.06) if upright else rng.normal(0, 0.35)
    aspect = math.exp(rng.normal(0, strength) / 2)
    sign = -1 if rng.random() < mirror else 1
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s], [s, c]]) @ np.diag([sign * aspect, 1 / aspect])


def _cut(rng: Generator) -> tuple[float, float, float, float]:
    """Shares of the box beyond an image border, left, top, right, bottom; negative: the border is that far away."""
    sides = [-9.0] * 4
    across, down = int(rng.integers(2)) * 2, int(rng.integers(2)) * 2 + 1  # left or right, top or bottom
    both = rng.random()
    for side in (across, down) if both < 0.2 else (across,) if both < 0.6 else (down,):
        sides[side] = rng.uniform(0.05, 0.6) if rng.random() < 0.5 else rng.uniform(-1.5, 0)
    return sides[0], sides[1], sides[2], sides[3]


def _temperatures(local: float, rng: Generator, *, crossover: bool) -> UInt8:
    """How warm an object is: its pattern 0..255 to grey levels, against the grey level around it."""
    contrast = rng.uniform(25, 150)
    kind = rng.random()
    if crossover:
        base, contrast = local + rng.normal(0, 3), rng.uniform(0, 15)
    elif kind < 0.68:
        base = local + rng.uniform(45, 165)
    elif kind < 0.85:
        base = local - rng.uniform(35, 100)
        if base < 5:
            base = local + rng.uniform(40, 140)
    else:
        base, contrast = local + rng.normal(0, 10), rng.uniform(120, 220)
    return gain_table(contrast / 255, base - contrast / 2)


def _other_temperature(heat: UInt8, rng: Generator) -> UInt8:
    """A clearly other temperature, inside the range of the sensor."""
    middle = float(heat[128])
    shift = rng.uniform(45, 110)
    if middle + shift > 250 or (middle - shift > 5 and rng.random() < 0.5):
        shift = -shift
    return to_bytes(heat.astype(np.float64) + shift)


def _opacity(telling: Telling, rng: Generator) -> tuple[float, float]:
    """Camouflage in the modality that does not tell."""
    if telling == "infrared" and rng.random() < 0.2:
        return rng.uniform(0.05, 0.3), 1.0
    if telling == "visible" and rng.random() < 0.4:
        return 1.0, rng.uniform(0.1, 0.5)
    return 1.0, 1.0


def _mean_around(canvas: Canvas, box: Float64) -> list[float]:
    """Mean colour and infrared level where the target will stand: r, g, b, i."""
    size = len(canvas.infrared)
    x1, y1 = (int(value) for value in np.clip(box[:2], 0, size - 2))
    x2, y2 = (int(value) for value in np.clip(box[:2] + box[2:], (x1 + 1, y1 + 1), size))
    return [*cv2.mean(canvas.visible[y1:y2, x1:x2])[:3], cv2.mean(canvas.infrared[y1:y2, x1:x2])[0]]


def _contrasted(views: tuple[Cutout, Cutout], local: Sequence[float], rng: Generator) -> tuple[Cutout, Cutout]:
    """The views, made lighter or darker where their colours would drown in the background."""
    body = views[1].alpha > 127
    mean = views[1].visible[body].mean(0) if body.any() else np.full(3, 128.0)
    difference = mean - np.array(local)
    if np.abs(difference).max() >= 35:
        return views
    shift = rng.uniform(50, 90) * (1 if np.mean(local) < 128 else -1)
    table = gain_table(1.0, shift)
    first, second = (replace(view, visible=cv2.LUT(view.visible, table).astype(np.uint8)) for view in views)
    return first, second


def smoke(canvas: Canvas, density: float, rng: Generator) -> None:
    """Clouds over the visible image: opacity around ``density``, thinner and thicker in places."""
    size = len(canvas.infrared)
    cloud = np.zeros((size, size), np.float32)
    for cells, strength in ((3, 0.3), (6, 0.16), (14, 0.08)):
        grid = rng.normal(0, strength, (cells, cells)).astype(np.float32)
        cloud += cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
    opacity = np.clip(cloud * rng.uniform(0.4, 1.0) + density, 0, 0.985)[..., None]
    colour = rng.uniform(110, 245) + rng.normal(0, 6, 3)
    shade = (cloud * rng.uniform(0, 40))[..., None]
    _blend(canvas.visible, (colour + shade).astype(np.float32).clip(0, 255), opacity.astype(np.float32))


def _glare(canvas: Canvas, rng: Generator, *, strength: float, around: Float64 | None) -> None:
    """A bright light in the visible image, on the target or anywhere."""
    size = len(canvas.infrared)
    if around is None:
        center, radius = rng.uniform(0, size, 2), rng.uniform(0.08, 0.3) * size
    else:
        center, radius = around[:2] + around[2:] / 2, float(around[2:].max()) * rng.uniform(0.7, 1.4)
    y, x = np.ogrid[0:size, 0:size]
    light = strength * np.exp(-((x - center[0]) ** 2 + (y - center[1]) ** 2) / (2 * radius**2))
    light = np.repeat(light.astype(np.float32)[..., None], 3, 2)
    canvas.visible = cv2.add(canvas.visible, light, dtype=cv2.CV_8U).astype(np.uint8)


def _motion_blur(canvas: Canvas, rng: Generator) -> None:
    length = int(rng.integers(3, 10)) | 1
    kernel = np.zeros((length, length), np.float32)
    angle = rng.uniform(0, np.pi)
    reach = np.array([math.cos(angle), math.sin(angle)]) * (length // 2)
    middle = length // 2
    a, b = np.round(middle - reach).astype(int), np.round(middle + reach).astype(int)
    cv2.line(kernel, (int(a[0]), int(a[1])), (int(b[0]), int(b[1])), 1.0)
    kernel /= kernel.sum()
    canvas.visible = cv2.filter2D(canvas.visible, -1, kernel).astype(np.uint8)
    canvas.infrared = cv2.filter2D(canvas.infrared, -1, kernel).astype(np.uint8)


def _border(canvas: Canvas, placement: Placement, cut: Sequence[float], padding: str, rng: Generator) -> None:
    """Fills what lies beyond the image borders as :func:`duotrack.crops.crop` does."""
    size = len(canvas.infrared)
    low, extent = placement.full[:2], placement.full[2:]
    start = np.clip(np.round(low + extent * np.array(cut[:2])), 0, size - 1).astype(int)
    end = np.clip(np.round(low + extent * (1 - np.array(cut[2:]))), start + 1, size).astype(int)
    inside = (slice(start[1], end[1]), slice(start[0], end[0]))
    for name in ("visible", "infrared"):
        image = getattr(canvas, name)
        fill = np.zeros_like(image)
        if padding == "mean":
            fill[...] = np.array(cv2.mean(image[inside])[: 1 if image.ndim == 2 else 3]).astype(np.uint8)
        fill[inside] = image[inside]
        setattr(canvas, name, fill)
