"""What the test set takes from a data folder: places and figures from pictures, none of which a recipe trains on.

A photographed place is cut into regions of alike colour, each of which gets a temperature, and what is warm in a
photographed figure is made up too; those of registered pairs have the temperatures that a thermal camera saw. Some of
the pictures may be used but not handed on: a set that is made of them is for measuring, not for publishing.
"""

import math
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from duotrack.crops import Image
from duotrack.data.clips import Clip, open_clip
from duotrack.data.objects import Cutout, cut_people, load_cutouts, outline, to_bytes
from duotrack.data.scenes.actors import KINDS, Figure, Kind
from duotrack.data.scenes.composition import Studio, drawn_studio
from duotrack.data.scenes.sketch import fractal
from duotrack.data.scenes.worlds import World

UInt8 = npt.NDArray[np.uint8]
Generator = np.random.Generator

STILLS: dict[str, tuple[float, float]] = {
    "images/popos/jared-evans-119758.jpg": (0.7, 0.97),
    "images/popos/kait-herzog-8242.jpg": (0.75, 0.97),
    "images/popos/jad-limcaco-183877.jpg": (0.45, 0.95),
    "images/popos/sean-afnan-244576.jpg": (0.6, 0.95),
    "images/grocery/Banana_023.jpg": (0.2, 0.95),
    "images/grocery/Cabbage_010.jpg": (0.1, 0.95),
    "images/grocery/Orange_029.jpg": (0.1, 0.95),
    "images/grocery/Ginger_010.jpg": (0.1, 0.95),
}
"""Places from stills: where they lie in the data folder, and the ground in them (:class:`World`)."""

CLIPS: dict[str, tuple[float, float]] = {
    "visible_only/dog_soccer": (0.42, 0.95),
    "visible_only/dog": (0.6, 0.95),
    "visible_only/driving": (0.68, 0.95),
    "visible_only/snowboarder": (0.5, 0.95),
}
"""Places from clips: what is seen most of the time where the camera stands still, else the first frame."""

PAIRS: dict[str, tuple[float, float]] = {
    "short_pairs/dusk_street": (0.6, 0.98),
    "short_pairs/night_gate": (0.7, 0.97),
    "short_pairs/night_market": (0.72, 0.98),
    "short_pairs/shop_front": (0.83, 0.98),
}
"""Places from registered pairs, temperatures included."""

CUTOUTS: dict[Kind, tuple[str, ...]] = {
    "person": (
        "juggle_M_man_200",
        "skateboarder_S_skater_000",
        "skateboarder_S_skater_122",
        "snowboarder_S_boarder_000",
        "snowboarder_S_boarder_108",
    ),
    "animal": ("dog_board_D_dog_026", "dog_board_D_dog_085", "dog_board_D_dog_112", "dog_board_D_dog_220"),
    "vehicle": (
        "cyclist_C_cyclist_037",
        "cyclist_C_cyclist_117",
        "biker_M_motorbike_028",
        "biker_M_motorbike_168",
        "driving_V_white_suv_075",
    ),
    "thing": ("juggle_B_ball_028", "juggle_B_ball_112"),
}
"""Figures from cut-outs: the cleanest files of ``cutouts/clips``."""

PEOPLE = ("dusk_street/man_cap", "dusk_street/woman_pink", "night_gate/woman_bag", "night_market/man_front")
"""Figures from the registered pairs: the people whose outline comes out whole."""


def open_studio(root: Path, seed: int) -> Studio:
    """A studio with the pictures of a data folder beside what is drawn.

    Args:
        root: the data folder, which holds all that the tables of this module name.
        seed: for what is drawn or made up.

    Raises:
        FileNotFoundError: if something is missing.
        ValueError: if it cannot be decoded.
    """
    if not root.is_dir():
        raise FileNotFoundError(
            f"{root} is not a folder: expected the data folder that holds images, cutouts, short_pairs and visible_only"
        )
    drawn = drawn_studio(seed)
    places = photographed_worlds(root, np.random.default_rng([seed, 2]))
    figures = {kind: tuple(photographed_figures(root / "cutouts/clips", kind)) for kind in KINDS}
    with tempfile.TemporaryDirectory() as cache:
        pairs = open_pairs(root, Path(cache))
        places += registered_worlds(pairs)
        figures["person"] += tuple(filmed_figures(pairs.values()))
        del pairs  # what is mapped from the cache
    return Studio((*drawn.worlds, *places), figures)


def photographed_worlds(root: Path, rng: Generator) -> list[World]:
    """The places of :data:`STILLS` and :data:`CLIPS`.

    Args:
        root: the data folder.
        rng: for the temperatures that are made up.

    Raises:
        FileNotFoundError: if something is missing or cannot be decoded.
    """
    stills = [_from_picture(name, _read(root / name), ground, rng) for name, ground in STILLS.items()]
    clips = [_from_picture(name, _usual(root / name / "visible.mp4"), ground, rng) for name, ground in CLIPS.items()]
    return stills + clips


def registered_worlds(clips: dict[str, Clip]) -> list[World]:
    """The places of registered pairs, by their names in :data:`PAIRS`: the median of their frames.

    Raises:
        ValueError: if a pair lacks a modality.
    """
    worlds = []
    for name, clip in clips.items():
        if clip.visible is None or clip.infrared is None:
            raise ValueError(f"{name}: expected a visible and an infrared video; one is missing")
        visible, infrared = (np.median(part, axis=0).astype(np.uint8) for part in (clip.visible, clip.infrared))
        worlds.append(World(name, visible, infrared, PAIRS[name]))
    return worlds


def open_pairs(root: Path, cache: Path) -> dict[str, Clip]:
    """The registered pairs, by their names in :data:`PAIRS`, decoded into a cache."""
    return {name: open_clip(root / name, cache) for name in PAIRS}


def _from_picture(name: str, picture: Image, ground: tuple[float, float], rng: Generator) -> World:
    scale = max(800 / picture.shape[1], 480 / picture.shape[0])
    visible = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC).astype(np.uint8)
    return World(name, visible, by_region(visible, rng), ground, "near" if "grocery" in name else "side")


def by_region(visible: Image, rng: Generator) -> UInt8:
    """Temperatures for a photograph: one for each of ten colours, cold where it is high and blue, and a slow change."""
    height, width = visible.shape[:2]
    small = cv2.pyrMeanShiftFiltering(
        cv2.resize(visible, (width // 4, height // 4), interpolation=cv2.INTER_AREA), 9, 18
    )
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB).reshape(-1, 3).astype(np.float32)
    cv2.setRNGSeed(int(rng.integers(2**31)))
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 30, 0.5)
    _, labels, centers = cv2.kmeans(lab, 10, np.zeros((len(lab), 1), np.int32), stop, 2, cv2.KMEANS_PP_CENTERS)
    heats = rng.uniform(18, 66, 10) + (rng.random(10) < 0.1) * rng.uniform(20, 60, 10)
    rows = np.repeat(np.arange(small.shape[0]), small.shape[1]) / small.shape[0]
    for label, (light, _, blue) in enumerate(centers):
        if rows[labels[:, 0] == label].mean() < 0.35 and light > 90 and blue < 132:
            heats[label] = rng.uniform(5, 12)  # sky
    coarse = heats[labels[:, 0]].reshape(small.shape[:2]).astype(np.float32)
    heat = cv2.resize(cv2.GaussianBlur(coarse, (0, 0), 0.8), (width, height), interpolation=cv2.INTER_LINEAR)
    luma = cv2.cvtColor(visible, cv2.COLOR_RGB2GRAY).astype(np.float32)
    detail = cv2.GaussianBlur(luma, (0, 0), 1.5) - cv2.GaussianBlur(luma, (0, 0), 12)
    return to_bytes(
        heat + rng.choice([-1, 1]) * rng.uniform(0.08, 0.2) * detail + fractal(rng, height, width, 2, 2) * 4
    )


def _usual(video: Path) -> Image:
    """The median of 15 frames where most of them agree, else the first frame."""
    capture = cv2.VideoCapture(str(video))
    frames = []
    while capture.grab():
        ok, image = capture.retrieve()
        if ok:
            frames.append(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
    capture.release()
    if not frames:
        raise FileNotFoundError(f"{video} is missing or cannot be decoded: the rendered test set needs it")
    some = np.stack(frames[:: max(1, len(frames) // 15)])
    usual = np.median(some, axis=0)
    still = float(np.mean(np.abs(some - usual).max(-1) > 25)) < 0.12
    return usual.astype(np.uint8) if still else frames[0].astype(np.uint8)


def _read(file: Path) -> Image:
    image = cv2.imread(str(file))
    if image is None:
        raise FileNotFoundError(f"{file} is missing or cannot be decoded: the rendered test set needs it")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8)


def photographed_figures(folder: Path, kind: Kind) -> list[Figure]:
    """Figures from the photographic cut-outs of a kind; how warm they are is made up.

    Args:
        folder: holds the files that :data:`CUTOUTS` names.
        kind: which of them.

    Raises:
        FileNotFoundError: if one is missing.
        ValueError: if one cannot be decoded or has no alpha channel.
    """
    files = [folder / f"{name}.webp" for name in CUTOUTS[kind]]
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"{file} is missing: the rendered test set needs the cut-outs of cutouts/clips")
    cutouts = [view for views in load_cutouts(files, kind).values() for view in views]
    if kind == "animal":  # the dogs look to the left, and figures move to the right
        cutouts = [_mirrored(view) for view in cutouts]
    return [_animated(replace(view, heat=_warmth(view, kind)), kind) for view in cutouts]


def _mirrored(cutout: Cutout) -> Cutout:
    layers = (cutout.visible, cutout.heat, cutout.alpha)
    visible, heat, alpha = (cv2.flip(layer, 1).astype(np.uint8) for layer in layers)
    return replace(cutout, visible=visible, heat=heat, alpha=alpha, outline=outline(alpha))


def filmed_figures(clips: Iterable[Clip]) -> list[Figure]:
    """The :data:`PEOPLE` of registered pairs, as a thermal camera saw them too: the fullest view of each."""
    people = [views for clip in clips for name, views in cut_people(clip).items() if name in PEOPLE]
    best = [max(views, key=lambda view: float((view.alpha > 110).mean())) for views in people]
    return [_animated(view, "person") for view in best]


def _warmth(cutout: Cutout, kind: Kind) -> UInt8:
    """A thermal pattern for a photograph: warm inside, warmer heads, hot engines and tyres, clothes by their colour."""
    height, width = cutout.alpha.shape
    body = (cutout.alpha > 110).astype(np.uint8)
    core = np.clip(cv2.distanceTransform(body, cv2.DIST_L2, 3) / (0.12 * min(height, width)), 0, 1)
    luma = cv2.GaussianBlur(cv2.cvtColor(cutout.visible, cv2.COLOR_RGB2GRAY), (0, 0), 1.2).astype(np.float32)
    down = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    pattern = 0.25 * (128 - luma) + 50 * core
    if kind == "person":
        pattern += np.where(down < 0.17, 190, np.where(down < 0.55, 95, 130))
    elif kind == "animal":
        pattern += 120 + 40 * np.linspace(-1, 1, width)[None]
    elif kind == "vehicle":
        pattern += 70 + 110 * np.clip(down - 0.55, 0, 1) / 0.45
    else:
        pattern += 90
    return to_bytes(pattern)


def _animated(cutout: Cutout, kind: Kind) -> Figure:
    """A figure from one view: legs swing, balls roll, the rest stays as it is."""
    height, width = cutout.alpha.shape
    if kind == "vehicle":
        return Figure((cutout,), 0, kind)
    margin = math.ceil(0.12 * width) if kind in ("person", "animal") else 0
    y, x = np.mgrid[0:height, 0 : width + 2 * margin].astype(np.float32)
    views = []
    for phase in np.linspace(0, 2 * np.pi, 10, endpoint=False):
        if kind == "thing":
            angle = math.degrees(phase)
            turned = cv2.getRotationMatrix2D((width / 2 - 0.5, height / 2 - 0.5), -angle, 1.0)
            layers = [
                cv2.warpAffine(layer, turned, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
                for layer in (cutout.visible, cutout.heat)
            ]
            layers.append(cutout.alpha)
        else:
            side = np.tanh((x - margin - 0.5 * width) / (0.15 * width))
            reach = np.clip((y / height - 0.5) / 0.5, 0, 1) * 0.9 * margin
            map_x = (x - margin + reach * side * math.sin(phase)).astype(np.float32)
            layers = [
                cv2.remap(layer, map_x, y, cv2.INTER_LINEAR, borderMode=border)
                for layer, border in (
                    (cutout.visible, cv2.BORDER_REPLICATE),
                    (cutout.heat, cv2.BORDER_REPLICATE),
                    (cutout.alpha, cv2.BORDER_CONSTANT),
                )
            ]
        visible, heat, alpha = (layer.astype(np.uint8) for layer in layers)
        views.append(replace(cutout, visible=visible, heat=heat, alpha=alpha, outline=outline(alpha)))
    return Figure(tuple(views), stride=3.1 * width if kind == "thing" else 1.2 * width, kind=kind)
