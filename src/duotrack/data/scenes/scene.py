"""A scene as a function of time: what both cameras see, and where the target is.

``Scene.shot(t)`` depends on nothing but ``t``: figures are pasted from back to front, then come smoke, motion blur and
noise. Coordinates are pixel edges, those of the world or those of the image.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import cv2
import numpy as np
import numpy.typing as npt

from duotrack.crops import Image
from duotrack.data.objects import Cutout, outline, shrunk, to_bytes
from duotrack.data.scenes.actors import Figure
from duotrack.data.scenes.sketch import fractal
from duotrack.data.scenes.worlds import World
from duotrack.data.synthetic import Canvas, gain_table

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Generator = np.random.Generator

SIZE = (384, 288)
"""Width and height of a frame: those of a common thermal camera."""

Kind = Literal[
    "open", "camera", "size", "small", "fast", "look-alikes", "occlusion", "smoke", "night", "thermal crossover"
]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""What is difficult in a scene; an open one has nothing but a target that moves among passers-by."""


@dataclass(frozen=True)
class Shot:
    """One moment of a scene, as two cameras take it.

    Attributes:
        visible: uint8 (288, 384, 3), RGB.
        infrared: uint8 (288, 384).
        box: float64 (4,): x, y, w, h in pixels, the whole outline of the target within the image.
        seen: share of the target within the image that nothing stands in front of; smoke and night hide nothing here.
    """

    visible: Image
    infrared: UInt8
    box: Float64
    seen: float


@dataclass(frozen=True)
class Actor:
    """A figure on its path of N frames.

    Attributes:
        figure: what it is.
        where: (N, 2) where it stands (or its middle, in the air and from above), in pixels of the world.
        scale: (N,) pixels of the world for one of its views.
        turn: (N, 2, 2) mirrored, tilted or turned.
        view: (N,) which of its views.
        heat: (N, 256) uint8: grey level for each value of its thermal pattern.
        front: whether it stands in front of whatever is not.
    """

    figure: Figure
    where: Float64
    scale: Float64
    turn: Float64
    view: npt.NDArray[np.int64]
    heat: UInt8
    front: bool = False

    def matrix(self, t: int) -> Float64:
        """(2, 3): from pixels of its views to pixels of the world."""
        linear = self.scale[t] * self.turn[t]
        points = self.figure.views[0].outline
        low, high = points.min(0), points.max(0)
        foot = np.array([(low[0] + high[0]) / 2, high[1] if self.figure.manner == "upright" else (low + high)[1] / 2])
        return np.concatenate([linear, (self.where[t] - linear @ foot)[:, None]], 1)


@dataclass(frozen=True)
class Scene:
    """A place with things that move in it, for N frames.

    Attributes:
        kind: what is difficult.
        world: the place.
        camera: (N, 2, 3): from pixels of the world to pixels of the image.
        target: what is to be followed.
        others: everything else that moves or stands.
        seed: of clouds and noise.
        smoke: (N,) how dense, 0 none, 1 nothing to be seen in the visible image.
        crossover: (N,) 0..1: how much of the target's thermal contrast is gone.
        light: (H, W) how bright it is in the world at night, else None.
        noise: standard deviations in visible and infrared, in grey levels.
        inverted: whether the thermal camera shows warm as black.
        moving: whether the camera moves.
    """

    kind: Kind
    world: World
    camera: Float64
    target: Actor
    others: tuple[Actor, ...]
    seed: int
    smoke: Float64
    crossover: Float64
    light: Float32 | None
    noise: tuple[float, float]
    inverted: bool
    moving: bool
    _views: dict[tuple[int, int, int], Cutout] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.camera)

    def box(self, t: int, *, cut: bool = True) -> Float64:
        """The target's box, (4,): the extent of its outline, within the image if it is to be cut."""
        cutout, matrix = self._placed(self.target, t)
        points = cutout.outline @ matrix[:, :2].T + matrix[:, 2]
        low, high = points.min(0), points.max(0)
        if cut:
            low, high = np.clip(low, 0, SIZE), np.clip(high, 0, SIZE)
        return np.concatenate([low, high - low]).astype(np.float64)

    def shot(self, t: int) -> Shot:
        """What the cameras see at one moment."""
        rng = np.random.default_rng([self.seed, t])
        border = cv2.BORDER_REFLECT_101
        centers = _of_centers(self.camera[t])
        visible, infrared = (
            cv2.warpAffine(layer, centers, SIZE, flags=cv2.INTER_LINEAR, borderMode=border).astype(np.uint8)
            for layer in (self.world.visible, self.world.infrared)
        )
        canvas = Canvas(visible, infrared, least=-1.0)  # whatever passes in front of the target may hide all of it
        if self.light is None:
            for actor in (self.target, *self.others):
                self._shadow(canvas, actor, t)
        for actor in sorted((self.target, *self.others), key=lambda actor: (actor.front, actor.where[t, 1])):
            cutout, matrix = self._placed(actor, t)
            canvas.paste(self._lit(cutout, actor, t), matrix, actor.heat[t], target=actor is self.target)
        seen = 0.0 if canvas.seen is None else float(canvas.seen.sum()) / max(canvas.full, 1e-6)
        self._smoke(canvas, t)
        self._expose(canvas, t, rng)
        return Shot(canvas.visible, canvas.infrared, self.box(t), min(1.0, seen))

    def _placed(self, actor: Actor, t: int) -> tuple[Cutout, Float64]:
        """The view that is shown, no finer than it is drawn, and the way from its pixels to those of the image."""
        camera, own = self.camera[t], actor.matrix(t)
        linear = camera[:, :2] @ own[:, :2]
        matrix = np.concatenate([linear, (camera[:, :2] @ own[:, 2] + camera[:, 2])[:, None]], 1)
        view = actor.figure.views[actor.view[t]]
        height, width = view.alpha.shape
        drawn = math.sqrt(abs(float(np.linalg.det(linear))) * height * width)
        level = math.ceil(2 * math.log2(max(drawn, 4)))
        key = (id(actor.figure), int(actor.view[t]), level)
        if key not in self._views:
            self._views[key] = shrunk(view, 2 ** (level / 2))
        cutout = self._views[key]
        matrix[:, :2] *= [width / cutout.alpha.shape[1], height / cutout.alpha.shape[0]]
        return cutout, matrix

    def _lit(self, cutout: Cutout, actor: Actor, t: int) -> Cutout:
        """A view in the light of the place where it stands."""
        if self.light is None:
            return cutout
        x, y = np.clip(actor.where[t].astype(int), 0, np.array(self.light.shape[::-1]) - 1)
        table = gain_table(float(self.light[y, x]), 0)
        return replace(cutout, visible=cv2.LUT(cutout.visible, table).astype(np.uint8))

    def _shadow(self, canvas: Canvas, actor: Actor, t: int) -> None:
        """Where a figure touches the ground, the ground is darker."""
        if actor.figure.manner == "floating":
            return
        cutout, matrix = self._placed(actor, t)
        width, height = cutout.outline.max(0) - cutout.outline.min(0)
        above = actor.figure.manner == "turning"
        middle = (cutout.outline.max(0) + cutout.outline.min(0)) / 2
        foot = matrix[:, :2] @ (middle if above else (middle[0], middle[1] + height / 2)) + matrix[:, 2]
        scale = math.sqrt(abs(float(np.linalg.det(matrix[:, :2]))))
        a, b = scale * width * 0.6, scale * (0.6 * height if above else 0.09 * width + 1)
        spread = np.diag([a / 16, b / 16])
        place = np.concatenate([spread, (foot + (2 if above else 0) - spread @ (16, 16))[:, None]], 1)
        canvas.paste(_SHADOW, place, _BLACK, opacity=(0.5, 0.0))

    def _smoke(self, canvas: Canvas, t: int) -> None:
        """Clouds that drift through the world and over the visible image; they dim the infrared one a little."""
        density = float(self.smoke[t])
        if density <= 0:
            return
        rng = np.random.default_rng(self.seed)
        wind, grey = rng.normal(0, 1.2, 2), rng.uniform(130, 225) + rng.normal(0, 5, 3)
        cloud = np.zeros((SIZE[1] // 2, SIZE[0] // 2), np.float32)
        for speed, share in ((1.0, 0.65), (1.7, 0.35)):
            layer = fractal(rng, 256, 256, 3, 5)
            matrix = self.camera[t].copy() * 0.5
            matrix[:, 2] += matrix[:, :2] @ (wind * speed * t)
            matrix[:, :2] *= 3.0
            size = (SIZE[0] // 2, SIZE[1] // 2)
            flags = cv2.INTER_LINEAR
            cloud += share * cv2.warpAffine(layer, matrix, size, flags=flags, borderMode=cv2.BORDER_REFLECT)
        cloud = cv2.resize(cloud, SIZE, interpolation=cv2.INTER_LINEAR).astype(np.float32)
        opacity = np.clip(density * (1 + 0.35 * cloud), 0, 0.985)[..., None]
        colour = grey + 14 * cloud[..., None]
        canvas.visible[...] = to_bytes(canvas.visible + (colour - canvas.visible) * opacity)
        haze = np.float32(0.12) * opacity[..., 0]
        level = float(canvas.infrared.mean())
        canvas.infrared[...] = to_bytes(canvas.infrared + (level - canvas.infrared) * haze)

    def _expose(self, canvas: Canvas, t: int, rng: Generator) -> None:
        """What lenses and sensors add: motion blur, noise, the column pattern of a thermal sensor, polarity."""
        before = self.camera[max(t - 1, 0)]
        middle = np.array(SIZE) / 2
        world = np.linalg.solve(self.camera[t][:, :2], middle - self.camera[t][:, 2])
        moved = (middle - (before[:, :2] @ world + before[:, 2])) * 0.4  # the shutter is open for 0.4 of a frame
        if np.hypot(*moved) >= 1.5:
            kernel = _streak(moved)
            canvas.visible[...] = cv2.filter2D(canvas.visible, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
            canvas.infrared[...] = cv2.filter2D(canvas.infrared, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
        width, height = SIZE
        grain = rng.standard_normal((height, width, 3), np.float32) * np.float32(self.noise[0])
        canvas.visible = to_bytes(canvas.visible + grain + 0.5)
        pattern = np.random.default_rng(self.seed + 1).standard_normal((1, width), np.float32)
        pattern = pattern * np.float32(0.4 * self.noise[1])
        grain = rng.standard_normal((height, width), np.float32) * np.float32(self.noise[1])
        canvas.infrared = to_bytes(canvas.infrared + grain + pattern + 0.5)
        if self.inverted:
            canvas.infrared = 255 - canvas.infrared


def _of_centers(matrix: Float64) -> Float64:
    """The same map between pixel centres, as OpenCV wants it, instead of pixel edges."""
    centers = matrix.copy()
    centers[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
    return centers


def _streak(moved: Float64) -> Float32:
    reach = math.ceil(float(np.abs(moved).max()) / 2) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    a, b = np.round((reach - moved / 2) * 16).astype(int), np.round((reach + moved / 2) * 16).astype(int)
    cv2.line(kernel, (int(a[0]), int(a[1])), (int(b[0]), int(b[1])), 1.0, 1, cv2.LINE_8, 4)
    return np.asarray(kernel / kernel.sum(), np.float32)


def _soft_disc() -> Cutout:
    y, x = np.mgrid[0:32, 0:32].astype(np.float32) - 15.5
    alpha = to_bytes(255 * np.clip(1.2 - np.hypot(x, y) / 14, 0, 1))
    black = np.zeros((32, 32, 3), np.uint8)
    return Cutout(black, black[..., 0], alpha, outline(alpha), "shadow", "")


_SHADOW = _soft_disc()
_BLACK = np.zeros(256, np.uint8)
