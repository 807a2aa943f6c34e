"""Places: large backgrounds in both modalities.

What is drawn here knows what it is made of, so its temperatures follow materials and not colours: a cold sky, glass
that mirrors it, walls and roads that kept the sun, leaves near the air.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from duotrack.crops import Image
from duotrack.data.objects import to_bytes
from duotrack.data.scenes.sketch import fractal

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Generator = np.random.Generator

View = Literal["side", "above", "near"]


@dataclass(frozen=True)
class World:
    """A place, larger than what a camera sees of it.

    Attributes:
        name: what it is, or the picture that it comes from.
        visible: uint8 (H, W, 3), RGB.
        infrared: uint8 (H, W).
        ground: upper and lower end of the rows on which something can stand, as shares of H.
        view: from the side, from above, or of things near by, where neither people nor vehicles belong.
    """

    name: str
    visible: Image
    infrared: UInt8
    ground: tuple[float, float]
    view: View = "side"


class _Plate:
    """A world being drawn: colours and temperatures, layer by layer."""

    def __init__(self, rng: Generator, width: int, height: int) -> None:
        self.rng, self.width, self.height = rng, width, height
        self.visible = np.zeros((height, width, 3), np.float32)
        self.infrared = np.zeros((height, width), np.float32)

    def fill(
        self,
        mask: npt.NDArray[np.bool_],
        colour: npt.ArrayLike,
        heat: float,
        *,
        cells: float = 20,
        grain: float = 8,
        waves: float = 2,
    ) -> None:
        """Lays a material where the mask is: its texture has ``cells`` bumps to the height, ``waves`` is thermal."""
        rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
        if not len(rows):
            return
        area = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        inside = mask[area]
        height, width = inside.shape
        share = max(2.0, cells * height / self.height)
        rough, slow = fractal(self.rng, height, width, share, 5), fractal(self.rng, height, width, 2, 3)
        shade = (rough * grain + slow * 0.4 * grain)[..., None]
        self.visible[area][inside] = (np.asarray(colour, np.float32) + shade)[inside]
        self.infrared[area][inside] = (heat + slow * waves + rough * 0.35 * waves)[inside]

    def mask(self, draw: Callable[[UInt8], object]) -> npt.NDArray[np.bool_]:
        """What a drawing on an empty sheet covers."""
        sheet = np.zeros((self.height, self.width), np.uint8)
        draw(sheet)
        return sheet > 0

    def box(self, x1: float, y1: float, x2: float, y2: float) -> npt.NDArray[np.bool_]:
        """A rectangle."""
        area = np.zeros((self.height, self.width), bool)
        area[max(0, round(y1)) : max(0, round(y2)), max(0, round(x1)) : max(0, round(x2))] = True
        return area

    def line(self, a: npt.ArrayLike, b: npt.ArrayLike, width: float) -> npt.NDArray[np.bool_]:
        """A straight line between two points."""
        (x1, y1), (x2, y2) = np.round(np.array([a, b])).astype(int).tolist()
        return self.mask(lambda sheet: cv2.line(sheet, (x1, y1), (x2, y2), 1, max(1, round(width))))

    def polygon(self, points: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """What lies within a closed line through (K, 2) points."""
        return self.mask(lambda sheet: cv2.fillPoly(sheet, [np.asarray(points).astype(np.int32)], 1))

    def tree(self, x: float, y: float, size: float, *, trunk: bool = True) -> None:
        """A tree that stands at (x, y), or a bush."""
        rng = self.rng
        green = np.array([60.0, 85.0, 45.0]) * rng.uniform(0.5, 1.3) + rng.normal(0, 8, 3)
        if trunk:
            wood = self.line((x, y), (x, y - 0.6 * size), 0.07 * size)
            self.fill(wood, green * [0.9, 0.6, 0.6], rng.uniform(28, 44), cells=60)
        middle = y - (0.75 if trunk else 0.25) * size
        for shade in (0.75, 1.0, 1.2):
            points = rng.normal(0, 1, (34, 2)) * [0.2 * size, 0.16 * size] + [x - 4 * shade, middle - 8 * shade]

            def leaves(sheet: UInt8, points: npt.NDArray[np.float64] = points) -> None:
                for point in points:
                    center = int(point[0]), int(point[1])
                    cv2.circle(sheet, center, max(2, int(rng.uniform(0.025, 0.085) * size)), 1, cv2.FILLED)

            heat = rng.uniform(24, 40)
            self.fill(self.mask(leaves), green * shade, heat, cells=70, grain=14, waves=4)

    def world(self, name: str, ground: tuple[float, float], view: View = "side") -> World:
        """The finished place, as sharp as a lens leaves it."""
        visible = cv2.GaussianBlur(to_bytes(self.visible), (0, 0), 0.8).astype(np.uint8)
        infrared = cv2.GaussianBlur(to_bytes(self.infrared), (0, 0), 1.3).astype(np.uint8)
        return World(name, visible, infrared, ground, view)


def _sky(plate: _Plate, rng: Generator, bottom: int) -> None:
    down = np.linspace(0, 1, bottom, dtype=np.float32)[:, None]
    zenith = np.array([95.0, 135.0, 190.0]) * rng.uniform(0.6, 1.2)
    horizon = np.array([205.0, 205.0, 205.0]) * rng.uniform(0.75, 1.15)
    clouds = np.clip(fractal(rng, bottom, plate.width, 3, 5) + rng.uniform(-0.8, 0.8), 0, 2)[..., None]
    plate.visible[:bottom] = zenith + (horizon - zenith) * down[..., None] + clouds * 30
    plate.infrared[:bottom] = 4 + 12 * down + clouds[..., 0] * 4


def street(rng: Generator) -> World:
    """Houses behind a pavement, a road in front of them, trees and lamps."""
    width, height = 1300, 560
    plate = _Plate(rng, width, height)
    pavement, kerb = round(0.52 * height), round(0.64 * height)
    _sky(plate, rng, pavement)
    x = float(-rng.uniform(0, 100))
    while x < width:
        right, top = x + rng.uniform(130, 320), rng.uniform(-0.2, 0.28) * height
        wall = rng.uniform(70, 210) * np.array([1.0, rng.uniform(0.85, 1), rng.uniform(0.7, 1)])
        warmth = rng.uniform(26, 62)
        plate.fill(plate.box(x, top, right, pavement), wall, warmth, cells=90, grain=7, waves=4)
        step_x, step_y = rng.uniform(28, 46), rng.uniform(42, 60)
        panes = rng.uniform(20, 130) * np.array([0.85, 0.95, 1.0])
        for left in np.arange(x + 12, right - step_x, step_x):
            for upper in np.arange(max(top, -40) + 14, pavement - 46, step_y):
                pane = plate.box(left, upper, left + 0.6 * step_x, upper + 0.62 * step_y)
                lit = rng.random() < 0.2
                glass = np.array([215.0, 190.0, 130.0]) if lit else panes * rng.uniform(0.6, 1.4)
                plate.fill(pane, glass, rng.uniform(60, 85) if lit else rng.uniform(12, 38), grain=5)
        door = x + rng.uniform(0.2, 0.7) * (right - x)
        plate.fill(plate.box(door, pavement - 62, door + 26, pavement), wall * 0.4, warmth + rng.uniform(5, 40))
        x = right + (rng.uniform(20, 90) if rng.random() < 0.4 else 0)
    plate.fill(plate.box(0, pavement, width, kerb), [150, 146, 138], rng.uniform(32, 48), cells=120, grain=7, waves=3)
    for left in range(0, width, 44):
        plate.fill(plate.box(left, pavement, left + 1, kerb), [120, 117, 110], 34)
    plate.fill(plate.box(0, kerb, width, kerb + 5), [185, 183, 176], rng.uniform(30, 40))
    tar = np.full(3, rng.uniform(62, 105))
    plate.fill(plate.box(0, kerb + 5, width, height), tar, rng.uniform(40, 58), cells=170, grain=9, waves=4)
    for left in range(0, width, 150):
        plate.fill(plate.line((left, 470), (left + 70, 470), 6), [205, 205, 198], 44)
    for left in rng.uniform(0, width, 5):
        plate.tree(left, pavement + 12, rng.uniform(150, 260))
    for left in rng.uniform(0, width, 4):
        pole = plate.box(left, 60, left + 5, pavement + 20)
        plate.fill(pole, [70, 72, 74], rng.uniform(20, 50), grain=3)
    return plate.world("street", (0.56, 0.96))


def meadow(rng: Generator) -> World:
    """Grass with bushes and a path, a wood and hills behind."""
    width, height = 1300, 520
    plate = _Plate(rng, width, height)
    edge = round(0.42 * height)
    _sky(plate, rng, edge + 20)
    for row, shade in ((0.24, 1.25), (0.32, 0.9)):
        ridge = (row * height + fractal(rng, 2, width, 2, 4)[0] * 18).astype(np.float32)
        hill = (np.arange(height)[:, None] > ridge) & (np.arange(height)[:, None] <= edge)
        colour = np.array([88.0, 105.0, 88.0]) * shade
        plate.fill(hill, colour, rng.uniform(22, 34), cells=60, grain=8, waves=3)
    for left in np.arange(0, width, 46):
        plate.tree(left + rng.normal(0, 14), edge + 10, rng.uniform(60, 120))
    grass = np.array([98.0, 116.0, 58.0]) * rng.uniform(0.6, 1.3) + rng.normal(0, 8, 3)
    plate.fill(plate.box(0, edge, width, height), grass, rng.uniform(24, 42), cells=150, grain=15, waves=6)
    track = rng.uniform(0.2, 0.8, 3) * width

    middles = np.stack([track, [height, 0.7 * height, edge]], 1)
    half = np.array([[110, 0], [45, 0], [16, 0]])
    path = plate.polygon(np.concatenate([middles - half, (middles + half)[::-1]]))
    plate.fill(path, [150, 132, 105], rng.uniform(40, 66), cells=120, grain=10, waves=4)
    for _ in range(9):
        plate.tree(rng.uniform(0, width), edge + rng.uniform(5, 140), rng.uniform(40, 90), trunk=False)
    return plate.world("meadow", (0.47, 0.96))


def from_above(rng: Generator) -> World:
    """Fields, two roads, roofs and trees as a drone sees them."""
    width, height = 1200, 900
    plate = _Plate(rng, width, height)
    everything = np.ones((height, width), bool)
    plate.fill(everything, [98, 108, 70], rng.uniform(24, 40), cells=200, grain=12, waves=5)
    for _ in range(5):
        field = plate.polygon(_turned(rng, rng.uniform(0, 1, 2) * [width, height], rng.uniform(120, 320, 2)))
        colour = np.array([120.0, 112.0, 68.0]) * rng.uniform(0.6, 1.3) + rng.normal(0, 10, 3)
        plate.fill(field, colour, rng.uniform(22, 56), cells=160, grain=9, waves=4)
    tar, warm = np.full(3, rng.uniform(70, 120)), rng.uniform(52, 78)
    roads = rng.uniform(0.2, 0.8, (2, 2))
    for start, end in (
        ([0, roads[0, 0] * height], [width, roads[0, 1] * height]),
        ([roads[1, 0] * width, 0], [roads[1, 1] * width, height]),
    ):
        plate.fill(plate.line(start, end, rng.uniform(70, 100)), tar, warm, cells=220, grain=7, waves=3)
        way = np.array(end) - start
        for share in np.arange(0, 1, 0.05):
            dash = plate.line(start + way * share, start + way * (share + 0.022), 3)
            plate.fill(dash, [210, 210, 205], warm - 6)
    for _ in range(9):
        corners = _turned(rng, rng.uniform(0, 1, 2) * [width, height], rng.uniform(60, 150, 2))
        roof = rng.uniform(60, 190) * np.array([1.0, rng.uniform(0.75, 1), rng.uniform(0.6, 0.8)])
        heat = rng.uniform(26, 90)
        plate.fill(plate.polygon(corners), roof * 0.8, heat, cells=150, grain=6)
        sunny = np.stack([*corners[:2], corners[1:3].mean(0), corners[[0, 3]].mean(0)])
        plate.fill(plate.polygon(sunny), roof, heat + 6, cells=150, grain=6)
    for _ in range(45):
        plate.tree(rng.uniform(0, width), rng.uniform(0, height), rng.uniform(30, 80), trunk=False)
    return plate.world("from above", (0.06, 0.94), "above")


def _turned(rng: Generator, center: Float64, sides: Float64) -> Float64:
    """The corners of a rectangle that is turned by some angle, (4, 2)."""
    box = ((float(center[0]), float(center[1])), (float(sides[0]), float(sides[1])), rng.uniform(0, 90))
    return cv2.boxPoints(box).astype(np.float64)


DRAWN: dict[str, Callable[[Generator], World]] = {"street": street, "meadow": meadow, "from above": from_above}
"""What draws a world anew."""
