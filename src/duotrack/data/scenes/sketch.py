"""A drawing kit: maps of parts that become cut-outs with colour, relief, texture and warmth; noise like clouds."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from duotrack.data.objects import Cutout, outline, to_bytes

Float32 = npt.NDArray[np.float32]
Generator = np.random.Generator


class Material(NamedTuple):
    """What a part is made of: its colour, its place in the thermal pattern 0..255, and how rough it looks."""

    colour: npt.NDArray[np.float64]  # (3,)
    heat: float
    grain: float = 8.0


class Sketch:
    """A map of parts, drawn at twice the size. Coordinates are pixels of the finished view."""

    def __init__(self, width: int, height: int) -> None:
        self.parts = np.zeros((2 * height, 2 * width), np.uint8)

    def limb(self, part: int, *points: tuple[float, float], width: float) -> None:
        """A bent line of some width with round ends."""
        line = np.round(np.array(points) * 2).astype(np.int32)
        cv2.polylines(self.parts, [line], False, part, max(1, round(2 * width)), cv2.LINE_8)

    def blob(self, part: int, x: float, y: float, a: float, b: float, angle: float = 0.0) -> None:
        """An ellipse with half axes a and b, turned by some degrees."""
        center, axes = (round(2 * x), round(2 * y)), (max(1, round(2 * a)), max(1, round(2 * b)))
        cv2.ellipse(self.parts, center, axes, angle, 0, 360, part, cv2.FILLED)

    def patch(self, part: int, *points: tuple[float, float]) -> None:
        """A polygon."""
        cv2.fillPoly(self.parts, [np.round(np.array(points) * 2).astype(np.int32)], part)

    def box(self, part: int, x1: float, y1: float, x2: float, y2: float) -> None:
        """A rectangle."""
        self.patch(part, (x1, y1), (x2, y1), (x2, y2), (x1, y2))


def fractal(rng: Generator, height: int, width: int, cells: float, octaves: int = 4) -> Float32:
    """Noise like clouds, stone or leaves, (height, width), deviation 1, with ``cells`` bumps to the height."""
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        rows = max(2, round(cells * 2**octave))
        grid = rng.standard_normal((rows, max(2, round(rows * width / height))), np.float32)
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.float32) / 1.7**octave
    return np.asarray(total / max(float(total.std()), 1e-6), np.float32)


def paint(sketch: Sketch, materials: Sequence[Material], seed: int) -> Cutout:
    """Fills a sketch: part k with material k - 1, round, lit from above; the seed is of the texture."""
    rng = np.random.default_rng(seed)
    parts = sketch.parts
    height, width = parts.shape
    table = np.array([[*material.colour, material.heat, material.grain] for material in materials], np.float32)
    values = np.concatenate([table.mean(0, keepdims=True), table])[parts]
    relief = np.zeros((height, width), np.float32)
    for part in range(1, len(materials) + 1):
        relief += np.sqrt(cv2.distanceTransform((parts == part).astype(np.uint8), cv2.DIST_L2, 3))
    relief = cv2.GaussianBlur(relief, (0, 0), 2.5).astype(np.float32)
    slope_x, slope_y = (cv2.Sobel(relief, cv2.CV_32F, *axis, ksize=3) for axis in ((1, 0), (0, 1)))
    light = 1 + 0.15 * np.clip(0.45 * slope_x + 0.9 * slope_y, -2, 2) + 0.1 * np.linspace(1, -1, height)[:, None]
    texture = fractal(rng, height, width, rng.uniform(4, 14), 4) * values[..., 4]
    visible = to_bytes((values[..., :3] + texture[..., None]) * light[..., None])
    core = np.clip(cv2.distanceTransform((parts > 0).astype(np.uint8), cv2.DIST_L2, 3) / (0.05 * height), 0, 1)
    heat = to_bytes(values[..., 3] * (0.8 + 0.2 * core) + fractal(rng, height, width, 3, 2) * 8 + 0.4 * texture)
    heat = cv2.GaussianBlur(heat, (0, 0), 1.5).astype(np.uint8)
    alpha = (parts > 0).astype(np.uint8) * 255
    size = (width // 2, height // 2)
    small = [cv2.resize(layer, size, interpolation=cv2.INTER_AREA).astype(np.uint8) for layer in (visible, heat, alpha)]
    return Cutout(small[0], small[1], small[2], outline(small[2]), "", "")
