"""Scenes made up: who goes where before which place, what the camera does, and what the kind of scene promises.

Everything is settled here, as arrays over time, before anything is drawn. Every scene has one difficulty, its kind, so
that results can be told apart by kind.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from duotrack.data.objects import to_bytes
from duotrack.data.scenes import actors, motion, worlds
from duotrack.data.scenes.actors import Figure
from duotrack.data.scenes.scene import SIZE, Actor, Kind, Scene
from duotrack.data.scenes.worlds import World

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Generator = np.random.Generator


ATTEMPTS = 500  # one or a few will do; without an end, a studio in which nothing fits would hang


@dataclass(frozen=True)
class Studio:
    """What scenes are made of: places, and figures beside those that are drawn anew."""

    worlds: tuple[World, ...]
    figures: dict[actors.Kind, tuple[Figure, ...]]


def drawn_studio(seed: int, each: int = 3) -> Studio:
    """A studio without pictures: ``each`` drawn worlds of every sort."""
    rng = np.random.default_rng([seed, 1])
    places = [draw(rng) for draw in worlds.DRAWN.values() for _ in range(each)]
    return Studio(tuple(places), {kind: () for kind in actors.KINDS})


def compose(kind: Kind, target: actors.Kind, frames: int, seed: Sequence[int], studio: Studio) -> Scene:
    """Makes up a scene, and another one until it is fair.

    Fair: in the first frame the target is whole and free, it never leaves the image by half, and what the kind
    promises happens.

    Args:
        kind: what is difficult.
        target: what is followed.
        frames: how many.
        seed: the same seed, the same scene.
        studio: places and figures.

    Raises:
        ValueError: if none of :data:`ATTEMPTS` scenes is fair.
    """
    for attempt in range(ATTEMPTS):
        rng = np.random.default_rng([*seed, attempt])
        scene = _Composition(kind, target, frames, rng, studio).scene()
        if _is_fair(scene):
            return scene
    raise ValueError(
        f"a scene of kind {kind!r}, {frames} frames, target {target}: none of {ATTEMPTS} attempts came out fair; "
        "ask for more frames or another seed"
    )


def _is_fair(scene: Scene) -> bool:
    whole, boxes = (np.stack([scene.box(t, cut=cut) for t in range(len(scene))]) for cut in (False, True))
    within = boxes[:, 2:].prod(1) / whole[:, 2:].prod(1)
    if within[0] < 1 or within.min() < 0.5 or boxes[:, 2:].min() < 6 or scene.shot(0).seen < 0.98:
        return False
    if scene.kind == "occlusion":
        return min(scene.shot(t).seen for t in range(0, len(scene), 4)) < 0.5
    if scene.kind == "fast":
        centers = boxes[:, :2] + boxes[:, 2:] / 2
        return float(np.hypot(*np.diff(centers, axis=0).T).max()) > 0.15 * math.sqrt(boxes[0, 2:].prod())
    return True


class _Composition:
    """One attempt at a scene: choices that hold for all of it, then its parts in the order of their dependence."""

    def __init__(self, kind: Kind, target: actors.Kind, frames: int, rng: Generator, studio: Studio) -> None:
        self.kind, self.target_kind, self.frames, self.rng, self.studio = kind, target, frames, rng, studio
        self.figure = self._figure()
        self.world = self._world()
        self.moving = kind == "camera" or rng.random() < 0.4
        height, width = self.world.infrared.shape
        least = 1.02 * max(SIZE[0] / width, SIZE[1] / height)
        self.zoom = max(least, rng.uniform(0.85, 1.35))
        sides = {"small": (12, 18), "size": (26, 34)}.get(kind, (30, 58))
        self.side = rng.uniform(*sides) / self.zoom  # geometric mean of the target's sides, in pixels of the world
        self.background = float(np.median(self.world.infrared[round(self.world.ground[0] * height) :]))
        self.middle = self._middle()

    def scene(self) -> Scene:
        """The whole scene, fair or not."""
        rng, n = self.rng, self.frames
        low, high = self._region()
        speed = self.side * (rng.uniform(0.1, 0.17) if self.kind == "fast" else rng.uniform(0.02, 0.045))
        speed = max(speed, 5 * self.side / n)  # in a short scene too, it gets somewhere
        path = motion.wander(rng, n, low, high, speed, 0.14 if self.kind == "fast" else 0.05)
        crossover = motion.plateau(n, 0.3, 0.75, 20) if self.kind == "thermal crossover" else np.zeros(n)
        target = self._actor(self.figure, path, self._grown(path), self._heats(crossover))
        light, noise = None, rng.uniform(1, 3.5)
        if self.kind == "night":
            light, noise = self._night(), rng.uniform(4, 9)
        world = self.world
        if light is not None:
            world = replace(world, visible=to_bytes(world.visible * light[..., None]))
        return Scene(
            kind=self.kind,
            world=world,
            camera=self._camera(path),
            target=target,
            others=(*self._passers_by(low, high), *self._lookalikes(target), *self._obstacles(target)),
            seed=int(rng.integers(2**31)),
            smoke=motion.plateau(n, 0.25, 0.72, 25) * rng.uniform(0.95, 1.35) if self.kind == "smoke" else np.zeros(n),
            crossover=crossover,
            light=light,
            noise=(noise, rng.uniform(1, 3)),
            inverted=bool(rng.random() < 0.12),
            moving=self.moving,
        )

    def _figure(self) -> Figure:
        """A figure of the target's kind: drawn anew, or from a picture."""
        known = self.studio.figures[self.target_kind]
        if known and self.rng.random() < 0.5:
            return known[int(self.rng.integers(len(known)))]
        if self.target_kind == "vehicle" and self.rng.random() < 0.4:
            return actors.vehicle_from_above(self.rng)
        return actors.DRAWN[self.target_kind](self.rng)

    def _world(self) -> World:
        """A place where the figure belongs."""
        view = "above" if self.figure.manner == "turning" else "side"
        places = [world for world in self.studio.worlds if world.view == view]
        if self.target_kind == "thing" and self.rng.random() < 0.5:
            places = [world for world in self.studio.worlds if world.view == "near"] or places
        world = places[int(self.rng.integers(len(places)))]
        if self.rng.random() < 0.5:
            mirrored = (cv2.flip(layer, 1).astype(np.uint8) for layer in (world.visible, world.infrared))
            world = replace(world, visible=next(mirrored), infrared=next(mirrored))
        return world

    def _ground(self) -> tuple[float, float]:
        """Upper and lower end of where the target may be, in pixels of the world: on the ground or in the air."""
        height = len(self.world.infrared)
        top, bottom = (0.12, 0.75) if self.figure.manner == "floating" else self.world.ground
        return top * height, bottom * height

    def _middle(self) -> Float64:
        """What a camera that stands still looks at, in pixels of the world."""
        height, width = self.world.infrared.shape
        seen = np.array(SIZE) / self.zoom
        middle = self.rng.uniform(seen / 2, np.array([width, height]) - seen / 2)
        if self.figure.manner == "upright":  # half of the target's height above its feet
            middle[1] = np.clip(sum(self._ground()) / 2 - 0.5 * self.side, seen[1] / 2, height - seen[1] / 2)
        return np.asarray(middle)

    def _region(self) -> tuple[Float64, Float64]:
        """Where the target may go: what is its ground, within sight of a camera that does not move."""
        top, bottom = self._ground()
        low, high = np.array([0.0, top]), np.array([self.world.infrared.shape[1], bottom])
        margin = 0.9 * self.side * np.array([1.0, 0.5])
        if self.figure.manner == "upright":
            low[1] = max(low[1], 1.6 * self.side)
        if not self.moving:
            seen = np.array(SIZE) / self.zoom
            low, high = np.maximum(low, self.middle - seen / 2), np.minimum(high, self.middle + seen / 2)
        return low + margin, np.maximum(high - [margin[0], 4], low + margin + 8)

    def _grown(self, path: Float64) -> Float64:
        """How large the target is over time, (N,): larger where it is nearer, and by much in scenes of that kind."""
        grown = np.full(self.frames, self.side / self.figure.side)
        if self.world.view == "side" and self.figure.manner == "upright":
            top, bottom = (share * len(self.world.infrared) for share in self.world.ground)
            grown *= 0.75 + 0.5 * np.clip((path[:, 1] - top) / (bottom - top), 0, 1)
        if self.kind == "size":
            ends = self.rng.uniform(-0.85, -0.5), self.rng.uniform(0.5, 0.85)
            ends = ends if self.rng.random() < 0.5 else ends[::-1]
            grown *= np.exp(np.interp(np.arange(self.frames), [0, self.frames - 1], ends))
        return grown

    def _heats(self, crossover: Float64) -> UInt8:
        """The target's temperatures over time, (N, 256): living things are warm, other things may be cold."""
        rng, around = self.rng, self.background
        alive = self.target_kind in ("person", "animal")
        hard = self.kind in ("smoke", "night", "thermal crossover")  # there the contrast is needed, or is to vanish
        low = around + (rng.uniform(8, 40) if alive or hard else rng.uniform(-25, 25))
        high = min(low + (rng.uniform(90, 170) if alive else rng.uniform(70, 160)), 250)
        if self.target_kind == "thing" and not hard and rng.random() < 0.2 and around > 30:
            low, high = 2.0, around - 12  # cold
        ends = np.array([[low, high]]) + crossover[:, None] * (np.array([[around - 5, around + 9]]) - [[low, high]])
        return to_bytes(ends[:, :1] + (ends[:, 1:] - ends[:, :1]) * np.linspace(0, 1, 256)[None])

    def _actor(self, figure: Figure, path: Float64, scale: Float64, heat: UInt8) -> Actor:
        """Sets a figure on a path: which way it faces and which view it shows follow from how it moves."""
        n = len(path)
        velocity = np.gradient(path, axis=0)
        if figure.manner == "upright":
            turn = np.zeros((n, 2, 2))
            turn[:, 0, 0], turn[:, 1, 1] = motion.facing(velocity[:, 0]), 1
        else:
            leaning = np.clip(velocity[:, 0] / 25, -0.3, 0.3)
            turn = motion.rotations(
                np.arctan2(velocity[:, 1], velocity[:, 0]) if figure.manner == "turning" else leaning
            )
        moved = np.cumsum(np.hypot(*velocity.T) / scale)
        cycles = moved / figure.stride if figure.stride else np.arange(n) * 0.04
        view = (cycles * len(figure.views)).astype(np.int64) % len(figure.views)
        return Actor(figure, path, scale, turn, view, heat)

    def _passers_by(self, low: Float64, high: Float64) -> Iterator[Actor]:
        """Other things that go their own way, most of another kind than the target."""
        rng = self.rng
        for _ in range(int(rng.integers(0, 3 if self.world.view == "side" else 2))):
            ratio = 1.0
            if self.world.view == "above":
                figure = actors.vehicle_from_above(rng)
            else:
                others = [kind for kind in actors.KINDS if (kind == "thing") == (self.world.view == "near")]
                figure = actors.DRAWN[others[int(rng.integers(len(others)))]](rng)
                ratio = actors.RELATIVE_SIZE[figure.kind] / actors.RELATIVE_SIZE[self.target_kind]
            path = motion.wander(rng, self.frames, low, high, self.side * rng.uniform(0.015, 0.05), 0.05)
            scale = np.full(self.frames, self.side * min(ratio, 2.5) * rng.uniform(0.8, 1.2) / figure.side)
            base = self.background + rng.uniform(0, 30)
            yield self._actor(figure, path, scale, self._constant(base, base + rng.uniform(60, 150)))

    def _lookalikes(self, target: Actor) -> Iterator[Actor]:
        """Others of the target's kind that cross its path, each at its own moment."""
        rng, n = self.rng, self.frames
        if self.kind == "look-alikes":
            moments = np.array([0.3, 0.5, 0.7]) + rng.uniform(-0.06, 0.06, 3)
        else:
            moments = rng.uniform(0.25, 0.8, 1) if rng.random() < 0.25 else np.zeros(0)
        for moment in moments:
            meeting = int(moment * n)
            velocity = target.where[min(meeting + 5, n - 1)] - target.where[max(meeting - 5, 0)]
            own = np.array([-np.sign(velocity[0]) or 1.0, rng.normal(0, 0.08)]) * self.side * rng.uniform(0.025, 0.05)
            if self.world.view == "above":
                angle = rng.uniform(0, 2 * np.pi)
                own = np.array([math.cos(angle), math.sin(angle)]) * float(np.hypot(*own))
            beside = np.array([0.0, rng.choice([-1, 1]) * rng.uniform(0.02, 0.15) * self.side])
            path = target.where[meeting] + beside + own * (np.arange(n)[:, None] - meeting)
            figure, heat, choice = self.figure, target.heat[:1], rng.random()
            if choice < 0.45:
                figure = self._another()
            elif choice < 0.75:
                figure = actors.recoloured(figure, rng)
            else:
                cooler = self.background + (heat.astype(np.float64) - self.background) * rng.uniform(0.35, 0.6)
                heat = to_bytes(cooler)
            side = target.scale[meeting] * self.figure.side
            scale = np.full(n, side * rng.uniform(0.92, 1.08) / figure.side)
            yield self._actor(figure, path, scale, np.repeat(heat, n, 0))

    def _another(self) -> Figure:
        """Another figure of the target's kind and manner."""
        if self.figure.manner == "turning":
            return actors.vehicle_from_above(self.rng)
        known = [figure for figure in self.studio.figures[self.target_kind] if figure is not self.figure]
        if known and self.rng.random() < 0.5:
            return known[int(self.rng.integers(len(known)))]
        return actors.DRAWN[self.target_kind](self.rng)

    def _obstacles(self, target: Actor) -> Iterator[Actor]:
        """Things that stand where the target passes behind them."""
        rng, n = self.rng, self.frames
        if self.kind != "occlusion":
            return
        for moment in (0.3, 0.55, 0.8):
            meeting = int((moment + rng.uniform(-0.05, 0.05)) * n)
            figure = actors.obstacle(rng)
            size = target.figure.extent * target.scale[meeting]
            size = np.maximum(size * rng.uniform([0.5, 0.8], [1.5, 1.4]), 6)
            turn = np.zeros((n, 2, 2))
            turn[:, 0, 0], turn[:, 1, 1] = size / figure.extent
            below = 0.1 if target.figure.manner == "upright" else 0.6
            foot = target.where[meeting] + np.array([0, below * size[1]])
            base = self.background + rng.uniform(-20, 20)
            heat = self._constant(base, base + rng.uniform(5, 40))
            yield Actor(figure, np.tile(foot, (n, 1)), np.ones(n), turn, np.zeros(n, np.int64), heat, front=True)

    def _constant(self, low: float, high: float) -> UInt8:
        return np.repeat(to_bytes(np.linspace(low, high, 256))[None], self.frames, 0)

    def _night(self) -> Float32:
        """How bright it is in the world: little, and more below lamps."""
        height, width = self.world.infrared.shape
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        light = np.full((height, width), self.rng.uniform(0.03, 0.09), np.float32)
        for _ in range(int(self.rng.integers(2, 5))):
            center, radius = self.rng.uniform(0, 1, 2) * [width, height], self.rng.uniform(40, 100)
            light += self.rng.uniform(0.15, 0.45) * np.exp(
                -(((x - center[0]) / radius) ** 2) - ((y - center[1]) / radius) ** 2
            ).astype(np.float32)
        return light

    def _camera(self, path: Float64) -> Float64:
        """(N, 2, 3): stands still, or follows the target late and with a shaking hand."""
        rng, n = self.rng, self.frames
        height, width = self.world.infrared.shape
        middle, zoom, roll = np.tile(self.middle, (n, 1)), np.full(n, self.zoom), np.zeros(n)
        if self.moving:
            aim = path - [0, 0.5 * self.side if self.figure.manner == "upright" else 0]
            aim = (
                aim
                + np.stack([motion.smooth(rng, n, 40), motion.smooth(rng, n, 40)], 1) * 0.1 * np.array(SIZE) / self.zoom
            )
            middle = np.stack([motion.late(aim[:, axis], 12) for axis in (0, 1)], 1)
            if self.kind == "camera":
                zoom = zoom * np.exp(0.1 * np.abs(motion.smooth(rng, n, 60)))
            strength = rng.uniform(1.0, 3.0) if self.kind == "camera" else rng.uniform(0, 1.2)
            shake = np.stack([motion.smooth(rng, n, 3), motion.smooth(rng, n, 3)], 1) * strength / self.zoom
            roll = 0.004 * strength * motion.smooth(rng, n, 6)
            reach = np.array(SIZE) / self.zoom / 2
            middle = np.clip(middle, reach, np.maximum(np.array([width, height]) - reach, reach)) + shake
        linear = zoom[:, None, None] * motion.rotations(roll)
        shift = np.array(SIZE) / 2 - np.einsum("nij,nj->ni", linear, middle)
        return np.concatenate([linear, shift[..., None]], 2)
