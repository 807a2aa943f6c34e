"""Things that move: people, animals, vehicles and objects that walk, trot and roll, as cycles of views.

They are drawn anew for each scene, lit from above, and their parts have a temperature each.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from duotrack.crops import Image
from duotrack.data.objects import Cutout, to_bytes
from duotrack.data.scenes.sketch import Material, Sketch, paint

Float32 = npt.NDArray[np.float32]
Generator = np.random.Generator

Kind = Literal["person", "animal", "vehicle", "thing"]
KINDS: tuple[Kind, ...] = get_args(Kind)

RELATIVE_SIZE: dict[Kind, float] = {"person": 1.0, "animal": 0.8, "vehicle": 2.2, "thing": 0.5}
"""Geometric mean of the sides in a picture, where a person has 1."""

Manner = Literal["upright", "turning", "floating"]
"""How it moves: upright, and mirrored as it turns back; seen from above, and turned to where it goes; in the air."""


@dataclass(frozen=True)
class Figure:
    """One thing that can move.

    Attributes:
        views: a cycle, all of one size: (h, w) pixels of which the same pixel is the same point of the thing.
        stride: how far it moves in one cycle, in pixels of the views; 0: the cycle runs with time.
        kind: what it is.
        manner: how it moves.
    """

    views: tuple[Cutout, ...]
    stride: float
    kind: Kind
    manner: Manner = "upright"

    def __post_init__(self) -> None:
        if not self.views or len({view.alpha.shape for view in self.views}) > 1:
            raise ValueError("a figure needs views, and all of one size")

    @property
    def extent(self) -> Float32:
        """Width and height of its outline in pixels of the views, (2,), as the first view shows it."""
        points = self.views[0].outline
        return np.asarray(points.max(0) - points.min(0))

    @property
    def side(self) -> float:
        """The geometric mean of both."""
        return math.sqrt(float(np.prod(self.extent)))


def _colour(rng: Generator, low: float = 15, high: float = 235, strength: float = 1.0) -> npt.NDArray[np.float64]:
    colour: npt.NDArray[np.float64] = rng.uniform(low, high, 3)
    return np.asarray(colour.mean() + (colour - colour.mean()) * rng.uniform(0, strength))


def person(rng: Generator) -> Figure:
    """Someone who walks, seen from the side."""
    seed = int(rng.integers(2**63))
    skin = np.array([232.0, 188.0, 160.0]) * rng.uniform(0.35, 1.0)
    skirt, hood, bag = rng.random() < 0.25, rng.random() < 0.3, rng.random() < 0.45
    top, legs = _colour(rng), _colour(rng, 15, 150, 0.5)
    materials = [
        Material(skin, rng.uniform(225, 255), 3),
        Material(top if hood else _colour(rng, 10, 110, 0.4), rng.uniform(120, 190)),
        Material(top, rng.uniform(95, 185), rng.uniform(4, 22)),
        Material(legs, rng.uniform(120, 225), rng.uniform(4, 12)),
        Material(_colour(rng, 10, 120, 0.3), rng.uniform(50, 120)),
        Material(_colour(rng), rng.uniform(20, 80)),
    ]
    face, hair, shirt, trousers, shoe, pack = range(1, 7)
    build, swing, lean = rng.uniform(0.85, 1.35), rng.uniform(0.38, 0.55), rng.uniform(-1, 3)
    hip_y, shoulder_y, thigh, shin = 68.0, 30.0, 26.0, 26.0
    views = []
    for phase in np.linspace(0, 2 * np.pi, 12, endpoint=False):
        sketch = Sketch(72, 128)
        bob = 1.5 * abs(math.sin(phase))
        hip, shoulder = (34.0, hip_y - bob), (34 + lean, shoulder_y - bob)

        def leg(turn: float, hip: tuple[float, float] = hip, sketch: Sketch = sketch) -> None:
            angle = swing * math.sin(turn)
            bend = 0.75 * max(0.0, math.cos(turn)) ** 2
            knee = (hip[0] + thigh * math.sin(angle), hip[1] + thigh * math.cos(angle))
            foot = (knee[0] + shin * math.sin(angle - bend), knee[1] + shin * math.cos(angle - bend))
            sketch.limb(trousers, hip, knee, width=10 * build)
            sketch.limb(trousers, knee, foot, width=7.5 * build)
            sketch.limb(shoe, foot, (foot[0] + 6, foot[1] + 1), width=5)

        def arm(turn: float, shoulder: tuple[float, float] = shoulder, sketch: Sketch = sketch) -> None:
            angle = 0.8 * swing * math.sin(turn)
            elbow = (shoulder[0] + 17 * math.sin(angle), shoulder[1] + 3 + 17 * math.cos(angle))
            hand = (elbow[0] + 16 * math.sin(angle + 0.35), elbow[1] + 16 * math.cos(angle + 0.35))
            sketch.limb(shirt, (shoulder[0], shoulder[1] + 3), elbow, width=7 * build)
            sketch.limb(shirt, elbow, hand, width=5.5 * build)
            sketch.blob(face, *hand, 2.8, 2.8)

        arm(phase)
        leg(phase + np.pi)
        leg(phase)
        half = 8.5 * build
        waist = (hip[0] - 0.85 * half, hip[1] + 2), (hip[0] + 0.85 * half, hip[1] + 2)
        sketch.patch(shirt, (shoulder[0] - half, shoulder[1]), (shoulder[0] + half, shoulder[1]), waist[1], waist[0])
        if skirt:
            wide = 1.5 * half + 3 * abs(math.sin(phase))
            sketch.patch(trousers, waist[0], waist[1], (hip[0] + wide, hip[1] + 24), (hip[0] - wide, hip[1] + 24))
        if bag:
            sketch.blob(pack, shoulder[0] - half - 2, shoulder[1] + 14, 5.5, 13)
        arm(phase + np.pi)
        sketch.limb(face, (shoulder[0] + 0.5, shoulder[1] - 1), (shoulder[0] + 1, shoulder[1] - 5), width=5)
        sketch.blob(face, shoulder[0] + 1.5, shoulder[1] - 12, 6.6, 8.3)
        sketch.blob(hair, shoulder[0] - 0.8, shoulder[1] - 15, 6.5, 6.3, 20)
        views.append(paint(sketch, materials, seed))
    return Figure(tuple(views), stride=4 * (thigh + shin) * math.sin(swing), kind="person")


def animal(rng: Generator) -> Figure:
    """Something on four legs, between a cat and a horse, that trots to the right."""
    seed = int(rng.integers(2**63))
    coat = _colour(rng, 20, 230, 0.12) * [1.0, 0.9, 0.75]
    warm = rng.uniform(130, 200)
    materials = [
        Material(coat, warm, rng.uniform(6, 20)),
        Material(_colour(rng, 15, 240, 0.08), warm * rng.uniform(0.85, 1.05), rng.uniform(6, 20)),
        Material(coat * 0.75, rng.uniform(180, 240), 6),
        Material(coat * rng.uniform(0.9, 1.1), rng.uniform(215, 255), 6),
    ]
    fur, spot, shank, head = range(1, 5)
    leg_length, thick, neck, muzzle = rng.uniform(18, 38), rng.uniform(10, 17), rng.uniform(4, 24), rng.uniform(6, 12)
    tail, horns, spots = rng.uniform(6, 22), rng.random() < 0.3, rng.random((3, 2))
    swing, narrow = rng.uniform(0.4, 0.6), rng.uniform(0.1, 0.2)
    back = 92 - leg_length - thick
    views = []
    for phase in np.linspace(0, 2 * np.pi, 12, endpoint=False):
        sketch = Sketch(136, 100)
        y = back - 1.5 * math.cos(2 * phase)
        for x, turn in ((40, phase + np.pi), (88, phase), (44, phase), (92, phase + np.pi)):  # the far legs first
            angle, bend = swing * math.sin(turn), 0.7 * max(0.0, math.cos(turn)) ** 2
            knee = (x + 0.5 * leg_length * math.sin(angle), y + 0.6 * thick + 0.5 * leg_length * math.cos(angle))
            hoof = (
                knee[0] + 0.55 * leg_length * math.sin(angle - bend),
                knee[1] + 0.55 * leg_length * math.cos(angle - bend),
            )
            sketch.limb(fur, (x, y + 0.5 * thick), knee, width=0.55 * thick)
            sketch.limb(shank, knee, hoof, width=narrow * leg_length)
        sketch.limb(fur, (36, y - 3), (36 - tail, y - 2 + 0.6 * tail + 3 * math.sin(phase)), width=3)
        sketch.blob(fur, 66, y, 33, thick)
        for u, v in spots:
            sketch.blob(spot, 48 + 36 * u, y - thick * 0.5 + thick * 0.8 * v, 7, 0.45 * thick)
        top = (98 + 0.5 * neck, y - 4 - neck - 1.2 * math.sin(2 * phase))
        sketch.limb(fur, (91, y - 1), top, width=0.85 * thick)
        sketch.blob(head, top[0] + 0.5 * muzzle, top[1], muzzle, 0.62 * muzzle, 20)
        sketch.patch(head, (top[0] - 3, top[1] - 3), (top[0] + 2, top[1] - 5), (top[0] - 4, top[1] - 13))
        if horns:
            sketch.limb(spot, (top[0], top[1] - 4), (top[0] + 4, top[1] - 14), width=2)
        views.append(paint(sketch, materials, seed))
    return Figure(tuple(views), stride=3.2 * leg_length * math.sin(swing), kind="animal")


def vehicle(rng: Generator) -> Figure:
    """A car, van, bus or lorry from the side; it goes to the right."""
    seed = int(rng.integers(2**63))
    lacquer = _colour(rng, 15, 240)
    materials = [
        Material(lacquer, rng.uniform(60, 130), 3),
        Material(np.array([45.0, 55.0, 65.0]) * rng.uniform(0.5, 1.6), rng.uniform(15, 60), 6),
        Material(np.full(3, rng.uniform(15, 40)), rng.uniform(120, 210), 4),
        Material(np.full(3, rng.uniform(120, 200)), rng.uniform(90, 190), 3),
        Material(lacquer * rng.uniform(0.85, 1), rng.uniform(170, 250), 3),
        Material(_colour(rng), rng.uniform(50, 130), rng.uniform(3, 14)),
        Material(np.full(3, 25.0), rng.uniform(190, 255), 4),
    ]
    paintwork, glass, tyre, rim, bonnet, load, under = range(1, 8)
    form = rng.choice(["car", "van", "bus", "lorry"], p=[0.4, 0.2, 0.2, 0.2])
    roof, nose, tail = rng.uniform(12, 20), rng.uniform(112, 122), rng.uniform(20, 34)
    axles, radius = {"car": ((36, 126), 13), "lorry": ((28, 50, 134), 12)}.get(form, ((34, 128), 12))
    views = []
    for turn in np.linspace(0, 2 * np.pi / 5, 5, endpoint=False):
        sketch = Sketch(164, 84)
        if form == "car":
            sketch.patch(paintwork, (tail, 40), (tail + 12, roof), (94, roof), (nose, 40))
            sketch.patch(glass, (tail + 7, 39), (tail + 15, roof + 4), (62, roof + 4), (62, 39))
            sketch.patch(glass, (66, 39), (66, roof + 4), (92, roof + 4), (nose - 8, 39))
            sketch.patch(paintwork, (6, 42), (14, 38), (nose, 39), (152, 46), (157, 66), (6, 66))
            sketch.patch(bonnet, (nose, 40), (150, 46), (152, 58), (nose, 58))
        elif form == "lorry":
            sketch.box(load, 4, 4, 112, 56)
            sketch.patch(paintwork, (115, 12), (140, 12), (152, 40), (155, 64), (115, 64))
            sketch.patch(glass, (124, 17), (138, 17), (147, 38), (124, 38))
            sketch.box(under, 6, 57, 112, 63)
            sketch.box(bonnet, 130, 44, 154, 60)
        else:
            low = 2.0 if form == "bus" else roof - 2
            sketch.patch(paintwork, (6, low), (140 if form == "van" else 152, low), (158, 40), (158, 66), (6, 66))
            for x in range(12, 140 if form == "bus" else 14, 22):
                sketch.box(glass, x, low + 6, x + 18, low + 24)
            sketch.patch(glass, (118, low + 6), (138, low + 6), (152, 38), (118, 38))
            sketch.box(bonnet if form == "van" else load, 128 if form == "van" else 8, 46, 156, 57)
        sketch.box(under, 10, 65, 60, 68)
        for x in axles:
            sketch.blob(tyre, x, 67, radius, radius)
            sketch.blob(rim, x, 67, 0.55 * radius, 0.55 * radius)
            for spoke in range(5):
                angle = turn + 2 * np.pi * spoke / 5
                sketch.limb(tyre, (x, 67), (x + 7 * math.cos(angle), 67 + 7 * math.sin(angle)), width=1.2)
        views.append(paint(sketch, materials, seed))
    return Figure(tuple(views), stride=2 * np.pi * 13 / 5, kind="vehicle")


def vehicle_from_above(rng: Generator) -> Figure:
    """A car or lorry as a drone sees it; it goes to the right."""
    seed = int(rng.integers(2**63))
    lacquer = _colour(rng, 15, 240)
    materials = [
        Material(lacquer, rng.uniform(60, 140), 3),
        Material(np.array([40.0, 48.0, 58.0]) * rng.uniform(0.5, 1.5), rng.uniform(10, 60), 4),
        Material(lacquer * 0.95, rng.uniform(170, 255), 3),
        Material(_colour(rng), rng.uniform(40, 140), 10),
    ]
    paintwork, glass, bonnet, load = range(1, 5)
    sketch = Sketch(112, 56)
    long = rng.random() < 0.35
    left = 4.0 if long else rng.uniform(16, 26)
    sketch.patch(paintwork, (left, 14), (left + 6, 10), (98, 10), (106, 17), (106, 39), (98, 46), (left + 6, 46))
    sketch.patch(paintwork, (left, 14), (left + 6, 46), (left, 42))
    sketch.box(bonnet, 86, 14, 102, 42)
    sketch.patch(glass, (74, 16), (84, 13), (84, 43), (74, 40))
    if long:
        sketch.box(load, 6, 9, 68, 47)
    else:
        sketch.box(glass, left + 7, 16, left + 13, 40)
    return Figure((paint(sketch, materials, seed),), stride=0, kind="vehicle", manner="turning")


def thing(rng: Generator) -> Figure:
    """A ball, a drone, a balloon, a wheeled case or a small robot."""
    seed = int(rng.integers(2**63))
    materials = [
        Material(_colour(rng), rng.uniform(60, 200), rng.uniform(4, 20)),
        Material(_colour(rng), rng.uniform(60, 200), rng.uniform(4, 20)),
        Material(np.full(3, rng.uniform(15, 60)), rng.uniform(40, 160), 4),
        Material(_colour(rng, 60, 250), rng.uniform(180, 255), 4),
    ]
    body, second, dark, hot = range(1, 5)
    form = rng.choice(["ball", "drone", "balloon", "case", "robot"])
    proportion = rng.uniform(0.8, 1.2)
    views = []
    for turn in np.linspace(0, 2 * np.pi, 10, endpoint=False):
        sketch = Sketch(96, 96)
        if form == "ball":
            sketch.blob(body, 48, 48, 40, 40)
            for spot in range(5):
                angle = turn + 2 * np.pi * spot / 5
                sketch.blob(second, 48 + 24 * math.cos(angle), 48 + 24 * math.sin(angle), 9, 9)
        elif form == "drone":
            for x, far in ((12, 0), (30, 1), (66, 1), (84, 0)):
                sketch.limb(dark, (48, 48), (x, 40 - 3 * far), width=4)
                sketch.blob(hot, x, 40 - 3 * far, 4, 5)
                sketch.blob(second, x, 34 - 3 * far, 4 + 11 * abs(math.cos(3 * turn)), 1.5)
            sketch.blob(body, 48, 48, 18 * proportion, 10)
            sketch.blob(hot, 48, 54, 7, 5)
            sketch.limb(dark, (36, 54), (30, 68), (24, 68), width=2.5)
            sketch.limb(dark, (60, 54), (66, 68), (72, 68), width=2.5)
        elif form == "balloon":
            sway = 4 * math.sin(turn)
            sketch.blob(body, 48 + sway, 34, 27, 31 * proportion)
            for x in (-14, 0, 14):
                sketch.limb(second, (48 + sway + x, 12), (48 + sway + 1.2 * x, 36), (48 + sway + 0.6 * x, 60), width=5)
            sketch.limb(dark, (42 + sway, 62), (44, 76), width=1.5)
            sketch.limb(dark, (54 + sway, 62), (52, 76), width=1.5)
            sketch.box(hot, 41, 74, 55, 86)
        elif form == "case":
            sketch.limb(dark, (30, 30), (30, 8), (48, 8), (48, 30), width=3)
            sketch.box(body, 18, 26, 64 * proportion, 84)
            for y in (36, 50, 64):
                sketch.box(second, 22, y, 60 * proportion, y + 7)
            sketch.blob(dark, 24, 87, 5, 5)
            sketch.blob(dark, 58, 87, 5, 5)
        else:
            sketch.patch(body, (14, 76), (20, 46), (70, 40 / proportion), (84, 76))
            sketch.box(second, 28, 52, 62, 64)
            sketch.limb(dark, (58, 44), (58, 18), width=3)
            sketch.blob(hot, 58, 15 + 2 * math.sin(turn), 7, 5)
            for x in (26, 50, 74):
                sketch.blob(dark, x, 78, 10, 10)
                sketch.limb(hot, (x, 78), (x + 7 * math.cos(turn), 78 + 7 * math.sin(turn)), width=2)
        views.append(paint(sketch, materials, seed))
    in_air = form in ("drone", "balloon")
    return Figure(tuple(views), 0 if in_air else 250, "thing", "floating" if in_air else "upright")


def obstacle(rng: Generator) -> Figure:
    """Something to pass behind: a post, a bush, a wall or a board."""
    form = rng.choice(["post", "bush", "wall", "board"])
    stone = Material(_colour(rng, 40, 210, 0.25), rng.uniform(60, 200), 14)
    leaf = Material(np.array([60.0, 85.0, 42.0]) * rng.uniform(0.5, 1.4), rng.uniform(40, 160), 20)
    sketch = Sketch(100, 120)
    if form == "post":
        sketch.box(1, 38, 2, 62, 119)
    elif form == "wall":
        sketch.box(1, 2, 50, 98, 119)
    elif form == "board":
        sketch.box(1, 46, 40, 54, 119)
        sketch.box(1, 14, 4, 86, 74)
    else:
        for x, y in zip(rng.uniform(15, 85, 40), rng.uniform(30, 110, 40), strict=True):
            sketch.blob(1, x, y, rng.uniform(4, 11), rng.uniform(4, 9))
    view = paint(sketch, [leaf if form == "bush" else stone], int(rng.integers(2**63)))
    return Figure((view,), 0, "thing")


DRAWN: dict[Kind, Callable[[Generator], Figure]] = {
    "person": person,
    "animal": animal,
    "vehicle": vehicle,
    "thing": thing,
}
"""What draws a figure of each kind anew."""


def recoloured(figure: Figure, rng: Generator) -> Figure:
    """The same outline and warmth in other colours."""
    order = rng.permutation(3)
    shift = rng.uniform(-70, 70)

    def other(visible: Image) -> Image:
        return to_bytes(visible[..., order].astype(np.float32) + shift)

    return replace(figure, views=tuple(replace(view, visible=other(view.visible)) for view in figure.views))
