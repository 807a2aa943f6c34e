"""Things to put into a picture: cut-outs with a visible and a thermal look, an outline and an identity.

Cut-outs come from files with an alpha channel, from people in annotated clips, or are drawn. A modality that the source
lacks is made up, the same way for both views of an object. ``heat`` is a pattern, not a temperature: the renderer maps
its 0..255 to grey levels of the scene.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from duotrack.crops import Image
from duotrack.data.clips import Clip

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]

VIEW_SIDE = 60.0  # geometric mean of the sides to which large cut-outs are reduced: above what any crop shows

DRAWN_KINDS = ("figure", "vehicle", "shape")
"""Kinds that are drawn anew each time, beside the kinds of the collections."""


@dataclass(frozen=True)
class Cutout:
    """One view of an object.

    Attributes:
        visible: uint8 (h, w, 3), RGB.
        heat: uint8 (h, w), thermal pattern: 0 the coldest, 255 the warmest part.
        alpha: uint8 (h, w), opacity; straight, not premultiplied.
        outline: float32 (K, 2), convex hull of the opaque part in pixels (edges, not centres): its extent is the box.
        kind: what it is; look-alikes are sought among the same kind.
        identity: which one it is; views of one object share it.
        known: whether visible and heat are real (or already made up).
    """

    visible: Image
    heat: UInt8
    alpha: UInt8
    outline: Float32
    kind: str
    identity: str
    known: tuple[bool, bool] = (True, True)


Views = tuple[Cutout, Cutout]
"""Two views of the same object: for the template and for the search crop."""


def outline(alpha: UInt8) -> Float32:
    """The convex hull, (K, 2) x and y of pixel corners, of what is opaque.

    Raises:
        ValueError: if nothing is.
    """
    contours, _ = cv2.findContours((alpha >= 110).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        raise ValueError("a cut-out must have an opaque part")
    points = np.concatenate(contours)[:, 0].astype(np.float32)
    corners = np.concatenate([points + offset for offset in ((0, 0), (1, 0), (0, 1), (1, 1))])
    return cv2.convexHull(corners.astype(np.float32))[:, 0].astype(np.float32)


def load_cutouts(files: Iterable[Path], kind: str, *, infrared: bool = False) -> dict[str, list[Cutout]]:
    """Reads cut-outs with alpha and sorts them by identity: names that differ in a last ``_NUMBER`` are one object.

    Args:
        files: images with four channels.
        kind: their kind.
        infrared: which modality they show; the other look is made up.

    Raises:
        ValueError: if a file cannot be decoded or has no alpha channel.
    """
    collection: dict[str, list[Cutout]] = {}
    for file in files:
        pixels = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        if pixels is None or pixels.ndim != 3 or pixels.shape[2] != 4:
            raise ValueError(f"{file}: expected an image with four channels (colour and alpha)")
        pixels = _reduce(pixels.astype(np.uint8, copy=False))
        alpha, colour = np.ascontiguousarray(pixels[:, :, 3]), pixels[:, :, :3]
        if (alpha >= 110).sum() < 12:
            continue
        heat = cv2.cvtColor(colour, cv2.COLOR_BGR2GRAY).astype(np.uint8)
        visible = cv2.cvtColor(colour, cv2.COLOR_BGR2RGB).astype(np.uint8)
        identity = re.sub(r"_\d+$", "", file.stem) if re.search(r"\d+_\d+$", file.stem) else file.stem
        cutout = Cutout(visible, heat, alpha, outline(alpha), kind, identity, (not infrared, infrared))
        collection.setdefault(identity, []).append(cutout)
    return collection


def cut_people(clip: Clip, every: int = 4) -> dict[str, list[Cutout]]:
    """Cuts the targets out of a clip: what is warmer than the surroundings, or was not there most of the time.

    Meant for warm targets and a static camera. Views that look wrong (half a person, no outline) are left out.

    Args:
        clip: a clip with infrared frames.
        every: take one annotated frame in this many.
    """
    if clip.infrared is None:
        raise ValueError(f"clip {clip.name}: people are cut out by their warmth, but there are no infrared frames")
    collection: dict[str, list[Cutout]] = {}
    kind = "person" if clip.visible is not None else "warm person"
    moments = slice(None, None, max(1, clip.length // 24))
    for track in clip.tracks:
        identity = f"{clip.name}/{track.name}"
        for frame, (x, y, w, h) in list(zip(track.frames, track.boxes, strict=True))[::every]:
            margin = 0.08 * h
            window = (
                slice(max(0, int(y - margin)), int(y + h + margin)),
                slice(max(0, int(x - margin)), int(x + w + margin)),
            )
            heat = np.array(clip.infrared[frame][window])
            top, left = int(y) - window[0].start, int(x) - window[1].start
            inside = np.zeros(heat.shape, bool)
            inside[max(0, top) : top + round(h), max(0, left) : left + round(w)] = True
            if min(heat.shape) < 16 or inside.all():
                continue
            change = _change(heat, clip.infrared[moments][:, *window], 12)
            if clip.visible is not None:
                change |= _change(clip.visible[frame][window], clip.visible[moments][:, *window], 30).any(2)
            alpha = _body(heat, change, inside)
            if alpha is None:
                continue
            low, high = np.percentile(heat[alpha > 127], (3, 97))
            pattern = np.clip((heat.astype(np.float32) - low) * (225 / max(high - low, 20)) + 15, 0, 255)
            visible = np.repeat(heat[..., None], 3, 2) if clip.visible is None else clip.visible[frame][window]
            stacked = _reduce(np.dstack([visible, pattern.astype(np.uint8), alpha]))
            visible, pattern, alpha = (np.ascontiguousarray(stacked[..., part]) for part in (slice(3), 3, 4))
            known = (clip.visible is not None, True)
            view = Cutout(visible, pattern, alpha, outline(alpha), kind, identity, known)
            collection.setdefault(identity, []).append(view)
    return collection


def _change(now: UInt8, moments: UInt8, threshold: float) -> npt.NDArray[np.bool_]:
    """Where an image differs from the median of other moments."""
    usual = np.median(moments, axis=0)
    changed: npt.NDArray[np.bool_] = np.abs(now.astype(np.float32) - usual) > threshold
    return changed


def _body(heat: UInt8, change: npt.NDArray[np.bool_], inside: npt.NDArray[np.bool_]) -> UInt8 | None:
    """Alpha of the body in a box, or None where it does not fill the box as a body does."""
    surroundings, warmest = float(np.median(heat[~inside])), float(np.percentile(heat[inside], 95))
    if warmest - surroundings < 30:
        return None
    warm = cv2.GaussianBlur(heat, (3, 3), 0) > surroundings + 0.3 * (warmest - surroundings)
    mask = ((warm | change) & inside).astype(np.uint8)
    reach = max(3, int(0.05 * inside.any(1).sum()) | 1)
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)).astype(np.uint8)
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((reach, reach), np.uint8)).astype(np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return None
    body = max(contours, key=cv2.contourArea)
    _, _, w, h = cv2.boundingRect(body)
    rows, columns = inside.any(1).sum(), inside.any(0).sum()
    share = cv2.contourArea(body) / (rows * columns)
    if h < 0.85 * rows or w < 0.65 * columns or not 0.35 < share < 0.8:
        return None
    alpha = cv2.drawContours(np.zeros_like(heat), [body], -1, 255, cv2.FILLED)
    return cv2.GaussianBlur(alpha, (3, 3), 0).astype(np.uint8)


def _reduce(pixels: UInt8) -> UInt8:
    scale = VIEW_SIDE / (pixels.shape[0] * pixels.shape[1]) ** 0.5
    if scale >= 1:
        return pixels
    size = max(4, round(pixels.shape[1] * scale)), max(4, round(pixels.shape[0] * scale))
    channels = [cv2.resize(pixels[..., i], size, interpolation=cv2.INTER_AREA) for i in range(pixels.shape[2])]
    return np.dstack(channels).astype(np.uint8)


def shrunk(cutout: Cutout, side: float) -> Cutout:
    """The cut-out with no more detail than ``side`` pixels (geometric mean of its sides) can hold."""
    h, w = cutout.alpha.shape
    scale = side / math.sqrt(h * w)
    if scale >= 1:
        return cutout
    size = max(3, round(w * scale)), max(3, round(h * scale))
    visible, heat, alpha = (
        cv2.resize(part, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
        for part in (cutout.visible, cutout.heat, cutout.alpha)
    )
    points = cutout.outline * (np.array(size, np.float32) / (w, h)).astype(np.float32)
    return replace(cutout, visible=visible, heat=heat, alpha=alpha, outline=points)


class Objects:
    """All that can be put into a picture.

    Args:
        collections: kind -> identity -> views.
        textures: uint8 (h, w, 3) images from which cloth and skin of drawn things are taken.
        weights: how often each kind is drawn, of the collections and of :data:`DRAWN_KINDS`; unnamed kinds never.

    Attributes:
        known: the kinds that can be drawn.

    Raises:
        ValueError: if a kind is not there, or no texture.
    """

    def __init__(
        self,
        collections: dict[str, dict[str, list[Cutout]]],
        textures: Sequence[Image],
        weights: dict[str, float],
    ) -> None:
        self.known = {*DRAWN_KINDS, *(kind for kind, members in collections.items() if members)}
        if unknown := set(weights) - {*self.known, *collections}:
            raise ValueError(f"no such kinds of object: {sorted(unknown)}; there are {sorted(self.known)}")
        if not textures:
            raise ValueError("at least one texture is needed to draw objects")
        self.collections = {kind: [*members.values()] for kind, members in collections.items() if members}
        self.textures = textures
        self.kinds = [kind for kind in weights if kind in self.collections or kind in DRAWN_KINDS]
        cumulated = np.cumsum([weights[kind] for kind in self.kinds])
        self.cumulated = cumulated / cumulated[-1]

    def draw(self, rng: np.random.Generator) -> Views:
        """Two views of a random object."""
        return self.draw_kind(self.kinds[int(np.searchsorted(self.cumulated, rng.random(), side="right"))], rng)

    def draw_kind(self, kind: str, rng: np.random.Generator, *, other_than: str = "") -> Views:
        """Two views of a random object of a kind, but not of the given identity if there are others."""
        look = int(rng.integers(2**63))  # both views draw their looks from this, and so look the same
        if kind in DRAWN_KINDS:
            painter = {"figure": _figure, "vehicle": _vehicle, "shape": _shape}[kind]
            return painter(look, rng, self), painter(look, rng, self)
        members = self.collections[kind]
        views = members[int(rng.integers(len(members)))]
        for _ in range(8):
            if views[0].identity != other_than:
                break
            views = members[int(rng.integers(len(members)))]
        first, second = (views[int(i)] for i in rng.integers(len(views), size=2))
        return self._complete(first, look), self._complete(second, look)

    def _complete(self, cutout: Cutout, look: int) -> Cutout:
        """Makes up the look that the source lacks; the same ``look``, the same rule."""
        rng = np.random.default_rng(look)
        if not cutout.known[1]:
            cutout = replace(cutout, heat=_invented_heat(cutout, rng))
        if not cutout.known[0]:
            cutout = replace(cutout, visible=self._invented_colour(cutout, rng))
        return cutout

    def _invented_colour(self, cutout: Cutout, rng: np.random.Generator) -> Image:
        """A visible look for a thermal cut-out: clothes in bands for people, one dark or light paint for the rest."""
        h, w = cutout.alpha.shape
        grey = cv2.cvtColor(cutout.heat, cv2.COLOR_GRAY2RGB).astype(np.float32) - 128
        texture = self.texture(rng, h, w).astype(np.float32)
        texture -= texture.mean((0, 1))
        if cutout.kind == "warm person":
            skin, top, bottom = _skin(rng), random_colour(rng), random_colour(rng, high=190)
            waist, neck = rng.uniform(0.42, 0.55), rng.uniform(0.12, 0.17)
            height = np.arange(h)[:, None, None] / h
            colour = np.where(height < neck, skin, np.where(height < waist, top, bottom))
        else:
            colour = np.full((1, 1, 3), rng.uniform(15, 230)) + rng.normal(0, 15, 3)
        return to_bytes(colour + texture * rng.uniform(0.1, 0.6) + grey * rng.uniform(-0.25, 0.25))

    def texture(self, rng: np.random.Generator, h: int, w: int) -> Image:
        """A random piece of a random texture, (h, w, 3)."""
        source = self.textures[int(rng.integers(len(self.textures)))]
        side = int(rng.uniform(0.08, 0.45) * min(source.shape[:2]))
        y, x = int(rng.integers(source.shape[0] - side)), int(rng.integers(source.shape[1] - side))
        return cv2.resize(source[y : y + side, x : x + side], (w, h), interpolation=cv2.INTER_LINEAR).astype(np.uint8)

    def recoloured(self, cutout: Cutout, rng: np.random.Generator) -> Cutout:
        """The same outline and warmth in clearly other colours."""
        body = cutout.alpha > 127
        mean = cutout.visible[body].mean(0) if body.any() else np.full(3, 128.0)
        wanted = mean
        while np.abs(wanted - mean).max() < 70:
            wanted = random_colour(rng)
        texture = self.texture(rng, *cutout.alpha.shape).astype(np.float32)
        shading = (cutout.visible.astype(np.float32) - mean) * rng.uniform(0.2, 0.9)
        painted = wanted + shading + (texture - texture.mean((0, 1))) * rng.uniform(0, 0.7)
        return replace(cutout, visible=to_bytes(painted), identity="")


def _invented_heat(cutout: Cutout, rng: np.random.Generator) -> UInt8:
    """A thermal pattern for a visible cut-out: a curve of its blurred luma, a slope, and a hot spot or two."""
    h, w = cutout.alpha.shape
    curve = random_curve(rng)
    luma = cv2.cvtColor(cutout.visible, cv2.COLOR_RGB2GRAY)
    pattern = cv2.LUT(cv2.GaussianBlur(luma, (0, 0), rng.uniform(0.5, 2.5)), curve).astype(np.float32)
    slope, angle = rng.uniform(0, 90), rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    across, down = x / w - 0.5, y / h - 0.5
    pattern = pattern * rng.uniform(0.1, 0.8) + 70 + slope * (across * np.cos(angle) + down * np.sin(angle))
    for _ in range(int(rng.integers(0, 3))):
        spot, extent = rng.uniform(-0.35, 0.35, 2), rng.uniform(0.06, 0.3, 2)
        distance = ((across - spot[0]) / extent[0]) ** 2 + ((down - spot[1]) / extent[1]) ** 2
        pattern += rng.uniform(40, 130) * np.exp(-distance)
    return to_bytes(pattern)


def to_bytes(values: npt.NDArray[Any]) -> UInt8:
    """Clipped to 0..255, uint8."""
    clipped: UInt8 = np.clip(values, 0, 255).astype(np.uint8)
    return clipped


def random_curve(rng: np.random.Generator, monotone: float = 0.7) -> UInt8:
    """A random table 0..255 -> 0..255: with probability ``monotone`` rising or falling, else with bends."""
    knots = rng.uniform(0, 255, 6)
    if rng.random() < monotone:
        knots = np.sort(knots)
        if rng.random() < 0.4:
            knots = knots[::-1]
    return np.interp(np.arange(256), np.linspace(0, 255, 6), knots).astype(np.uint8)


def random_colour(rng: np.random.Generator, low: float = 8, high: float = 245) -> npt.NDArray[np.float64]:
    """A random colour, (3,): greys are more common than random numbers would have it."""
    colour: npt.NDArray[np.float64] = rng.uniform(low, high, 3)
    return np.asarray(colour.mean() + (colour - colour.mean()) * rng.uniform(0, 1))


def _skin(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    tone = rng.uniform(0.3, 1.0)
    return np.array([235.0, 190.0, 165.0]) * tone


def _painted(
    labels: UInt8,
    colours: npt.NDArray[np.float64],
    heats: npt.NDArray[np.float64],
    look: np.random.Generator,
    objects: Objects,
    kind: str,
) -> Cutout:
    """Fills a map of parts, drawn at twice the size, with colours, warmth and a texture. Part 0 is nothing."""
    h, w = labels.shape[0] // 2, labels.shape[1] // 2
    grey = colours.mean(1, keepdims=True)
    colours = grey + (colours - grey) * look.uniform(0, 1)  # few things are as colourful as random numbers
    colours[0], heats[0] = colours[1:].mean(0), heats[1:].mean()  # what shows through soft edges
    table = np.concatenate([colours, heats[:, None]], 1).clip(0, 255).astype(np.uint8)
    packed = cv2.resize(table[labels], (w, h), interpolation=cv2.INTER_AREA)
    alpha = cv2.resize((labels > 0).astype(np.uint8) * 255, (w, h), interpolation=cv2.INTER_AREA).astype(np.uint8)
    texture = objects.texture(look, h, w).astype(np.float32)
    texture = (texture - texture.mean((0, 1))) * look.uniform(0.1, 0.8)
    light = np.linspace(-1, 1, w, dtype=np.float32)[None, :, None] * look.uniform(-30, 30)
    visible = to_bytes(packed[..., :3] + texture + light)
    grid = look.normal(0, look.uniform(5, 30), (5, 4)).astype(np.float32)
    slow = cv2.resize(grid, (w, h), interpolation=cv2.INTER_CUBIC)
    fine = texture.mean(2) * look.uniform(-0.4, 0.4)
    heat = to_bytes(packed[..., 3] + slow + fine)
    return Cutout(visible, heat, alpha, outline(alpha), kind, "")


def _polygon(labels: UInt8, points: Sequence[tuple[float, float]], part: int) -> None:
    cv2.fillPoly(labels, [np.round(np.array(points)).astype(np.int32)], part)


def _line(labels: UInt8, a: tuple[float, float], b: tuple[float, float], width: float, part: int) -> None:
    cv2.line(labels, (round(a[0]), round(a[1])), (round(b[0]), round(b[1])), part, max(1, round(width)))


def _ellipse(labels: UInt8, center: tuple[float, float], axes: tuple[float, float], part: int) -> None:
    (x, y), (a, b) = center, axes
    cv2.ellipse(labels, (round(x), round(y)), (round(a), round(b)), 0, 0, 360, part, cv2.FILLED)


def _rectangle(labels: UInt8, x1: float, y1: float, x2: float, y2: float, part: int) -> None:
    cv2.rectangle(labels, (round(x1), round(y1)), (round(x2), round(y2)), part, cv2.FILLED)


def _figure(seed: int, rng: np.random.Generator, objects: Objects) -> Cutout:
    """A standing or walking person. Clothes and build come from ``seed``, the pose from ``rng``."""
    look = np.random.default_rng(seed)
    skin, hair, top, legs, shoes, bag = 1, 2, 3, 4, 5, 6
    colours = look.uniform(5, 250, (7, 3))
    colours[skin], colours[hair] = _skin(look), look.uniform(5, 120)
    colours[legs] *= look.uniform(0.3, 1)
    heats = np.zeros(7)
    heats[skin], heats[hair], heats[top] = look.uniform(215, 255), look.uniform(120, 220), look.uniform(40, 210)
    heats[legs], heats[shoes], heats[bag] = look.uniform(80, 230), look.uniform(30, 160), look.uniform(0, 140)
    build, head = look.uniform(0.75, 1.35), look.uniform(9, 11.5)
    coat, carries, long_hair = look.uniform(78, 104), look.random() < 0.4, look.random() < 0.4
    side = rng.random() < 0.5
    stride, swing, lean = rng.normal(0, 12 if side else 4), rng.normal(0, 12 if side else 5), rng.normal(0, 3)
    labels = np.zeros((168, 112), np.uint8)
    x, shoulder, hip = 56.0, 34.0, 86.0
    half, waist = (10 if side else 17) * build, (9 if side else 13) * build
    stance = 2.5 if side else 7 * build
    for direction in (-1, 1):
        foot = (x + direction * (stance + stride), 158 - 0.02 * stride**2 * (direction > 0))
        knee = ((x + foot[0]) / 2 + direction * stance * 0.3 + (3 if side else 0), 122)
        _line(labels, (x + direction * stance * 0.7, hip - 4), knee, 11 * build, legs)
        _line(labels, knee, foot, 9 * build, legs)
        _line(labels, foot, (foot[0] + (7 if side else 2 * direction), foot[1] + 2), 7, shoes)
    top_x = x + lean
    for direction in (-1, 1):
        elbow = (top_x + direction * (half + 1) + direction * swing * 0.6, 60)
        hand = (elbow[0] + swing * direction * 0.7, 82 + rng.normal(0, 3) - abs(swing) * 0.4)
        _line(labels, (top_x + direction * half * 0.9, shoulder + 4), elbow, 8 * build, top)
        _line(labels, elbow, hand, 7 * build, top)
        _ellipse(labels, hand, (4, 4), skin)
    _polygon(labels, [(top_x - half, shoulder), (top_x + half, shoulder), (x + waist, coat), (x - waist, coat)], top)
    _ellipse(labels, (top_x, 27), (5, 5), skin)
    _ellipse(labels, (top_x + lean * 0.4, 17), (head * 0.85, head), skin)
    _ellipse(labels, (top_x + lean * 0.4, 11), (head * 0.9, head * 0.6), hair)
    if long_hair:
        _ellipse(labels, (top_x - 2, 22), (head * 0.8, head * 1.2), hair)
    if carries:
        _ellipse(labels, (x - half * 0.8, 60) if side else (x, 55), (9 * build, 16), bag)
    return _painted(labels, colours, heats, look, objects, "figure")


def _vehicle(seed: int, rng: np.random.Generator, objects: Objects) -> Cutout:
    """A car or van from the side, the front or above. Everything comes from ``seed``: it is rigid."""
    look = np.random.default_rng(seed)
    body, window, wheel, hot = 1, 2, 3, 4
    colours = look.uniform(10, [[250], [250], [90], [60], [250]], (5, 3))
    colours[hot] = colours[body] * 0.9
    heats = np.array([0, look.uniform(40, 180), look.uniform(0, 110), look.uniform(120, 255), look.uniform(150, 255)])
    form = look.integers(3)
    if form == 0:  # from the side
        w, h = int(look.uniform(150, 220)), 96
        labels = np.zeros((h, w), np.uint8)
        roof, hood, rear = look.uniform(8, 24), look.uniform(0.1, 0.4) * w, look.uniform(0.65, 0.95) * w
        _polygon(labels, [(hood, 48), (hood + 24, roof), (rear - 14, roof), (rear, 48)], body)
        _polygon(labels, [(8, 46), (w - 8, 46), (w - 4, 80), (4, 80)], body)
        _polygon(labels, [(hood + 12, 46), (hood + 28, roof + 7), (rear - 18, roof + 7), (rear - 8, 46)], window)
        _rectangle(labels, 6, 48, hood, 68, hot)
        for middle in (0.2, 0.8):
            _ellipse(labels, (middle * w, 78), (14, 14), wheel)
    elif form == 1:  # from the front or the back
        w, h = int(look.uniform(90, 120)), int(look.uniform(84, 130))
        labels = np.zeros((h, w), np.uint8)
        middle = h * 0.45
        _polygon(labels, [(4, middle), (w * 0.2, 6), (w * 0.8, 6), (w - 4, middle), (w - 4, h - 14), (4, h - 14)], body)
        _polygon(labels, [(14, middle), (w * 0.25, 14), (w * 0.75, 14), (w - 14, middle)], window)
        _rectangle(labels, w * 0.25, h * 0.55, w * 0.75, h * 0.75, hot)
        for left in (0.04, 0.76):
            _rectangle(labels, left * w, h - 26, (left + 0.2) * w, h - 3, wheel)
    else:  # from above
        w, h = int(look.uniform(66, 96)), int(look.uniform(140, 190))
        labels = np.zeros((h, w), np.uint8)
        front = [(4, 26), (14, 4), (w - 14, 4), (w - 4, 26)]
        back = [(w - 4, h - 18), (w - 14, h - 4), (14, h - 4), (4, h - 18)]
        _polygon(labels, front + back, body)
        _polygon(labels, [(12, h * 0.38), (w - 12, h * 0.38), (w - 16, h * 0.48), (16, h * 0.48)], window)
        _polygon(labels, [(16, h * 0.78), (w - 16, h * 0.78), (w - 12, h * 0.86), (12, h * 0.86)], window)
        _polygon(labels, [(14, 12), (w - 14, 12), (w - 12, h * 0.3), (12, h * 0.3)], hot)
    return _painted(labels, colours, heats, look, objects, "vehicle")


def _shape(seed: int, rng: np.random.Generator, objects: Objects) -> Cutout:
    """A blob, polygon, rectangle or ellipse with up to three parts. Everything comes from ``seed``."""
    look = np.random.default_rng(seed)
    w, h = (2 * int(side) for side in 60 * np.exp(look.normal(0, 0.3) * np.array([1, -1])).clip(0.4, 2.5))
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    form = look.integers(4)
    if form == 0:  # blob
        radius = 1 + sum(look.normal(0, 0.35 / k) * np.cos(k * angles + look.uniform(0, 6.3)) for k in range(2, 7))
        radius = np.clip(radius, 0.35, 1.6)
    elif form == 1:  # polygon, often concave
        corners = int(look.integers(3, 9))
        angles = np.sort(look.uniform(0, 2 * np.pi, corners) * 0.3 + np.linspace(0, 2 * np.pi, corners, endpoint=False))
        radius = look.uniform(0.5, 1.4, corners)
    elif form == 2:  # rounded rectangle
        radius = 1 / (np.abs(np.cos(angles)) ** 6 + np.abs(np.sin(angles)) ** 6) ** (1 / 6)
    else:
        radius = np.ones(len(angles))
    points = np.stack([np.cos(angles), np.sin(angles)], 1) * np.asarray(radius)[:, None]
    low, high = points.min(0), points.max(0)
    points = (points - low) / (high - low) * [w - 5, h - 5] + 2
    labels = np.zeros((h, w), np.uint8)
    cv2.fillPoly(labels, [np.round(points).astype(np.int32)], 1)
    for part in range(2, 2 + int(look.integers(0, 3))):
        spot = np.zeros_like(labels)
        if look.random() < 0.5:
            center = (round(look.uniform(0.2, 0.8) * w), round(look.uniform(0.2, 0.8) * h))
            axes = (round(look.uniform(0.1, 0.35) * w), round(look.uniform(0.1, 0.35) * h))
            cv2.ellipse(spot, center, axes, look.uniform(0, 180), 0, 360, 1, cv2.FILLED)
        else:
            a, b = (look.uniform(0, w), 0.0), (look.uniform(0, w), float(h))
            if look.random() < 0.5:
                a, b = (0.0, look.uniform(0, h)), (float(w), look.uniform(0, h))
            _line(spot, a, b, look.uniform(6, 40), 1)
        labels[(spot > 0) & (labels > 0)] = part
    colours, heats = look.uniform(5, 250, (4, 3)), look.uniform(0, 255, 4)
    return _painted(labels, colours, heats, look, objects, "shape")
