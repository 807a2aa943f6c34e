"""The rendered test set: sixty scenes, six of each kind, with every sort of target.

The set lies on disk as LasHeR does, so that ``duotrack test`` and ``evaluate`` read it, and each sequence also as a
clip of :mod:`duotrack.data.clips`::

    DIR/rendered.json              how the set was made
    DIR/sequences.txt              a name a line
    DIR/attributes.csv             sequence,NO,PO,...: LasHeR's attributes, from what was drawn
    DIR/NAME/visible/000000.jpg    and infrared/000000.jpg
    DIR/NAME/init.txt              x,y,w,h a frame: the whole target within the image, whatever hides it
    DIR/NAME/tracks/target.txt     frame,x,y,w,h,flag: flag 1 where something hides a part of it, 2 where almost all
    DIR/NAME/scene.json            kind, attributes, when things happen, and the share of the target that is seen
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from duotrack import results
from duotrack.data.clips import ABSENT, PARTLY_OCCLUDED, VISIBLE
from duotrack.data.scenes import actors
from duotrack.data.scenes.composition import Studio, compose
from duotrack.data.scenes.scene import KINDS, SIZE, Kind, Scene

UInt8 = npt.NDArray[np.uint8]
Float64 = npt.NDArray[np.float64]

ATTRIBUTES = (
    *("NO", "PO", "TO", "HO", "MB", "LI", "HI", "AIV", "LR", "DEF"),
    *("BC", "SA", "CM", "TC", "FL", "OV", "FM", "SV", "ARC"),
)
"""LasHeR's names. Not all occur, and HO (hyaline occlusion) stands for smoke."""

HIDDEN = 0.15  # share of the target that must be seen for a tracker to be asked about it
WHOLE = 0.9  # share above which nothing hides it
SETTINGS = "rendered.json"
FEWEST_FRAMES = 40  # in fewer, nothing has time to happen
VERSION = 1  # of the pictures: a set that was begun by another version is not gone on with


def plan(sequences: int) -> list[tuple[str, Kind, actors.Kind]]:
    """Name, kind and target of each sequence: kinds in turn, and every kind with every sort of target."""
    entries: list[tuple[str, Kind, actors.Kind]] = []
    for index in range(sequences):
        around, place = divmod(index, len(KINDS))
        kind, target = KINDS[place], actors.KINDS[(around + place) % len(actors.KINDS)]
        entries.append((f"{kind.replace(' ', '-')}-{around + 1}-{target}", kind, target))
    return entries


def render(
    output: Path,
    studio: Callable[[], Studio],
    *,
    sequences: int = 60,
    frames: int = 200,
    seed: int = 0,
    advance: Callable[[], None] = lambda: None,
) -> list[Path]:
    """Writes the test set; sequences that are there are kept, so that a stopped run goes on.

    Args:
        output: folder of the set, made where it is missing.
        studio: gives places and figures; asked only if something is to be drawn.
        sequences: how many.
        frames: of each.
        seed: the same seed and pictures, the same files.
        advance: called after each sequence.

    Returns:
        The folders of the sequences.

    Raises:
        ValueError: if the folder has something else or a set of other settings, or a number is too small.
    """
    if sequences < 1 or frames < FEWEST_FRAMES:
        raise ValueError(f"{sequences} sequences of {frames} frames: expected at least 1 of at least {FEWEST_FRAMES}")
    _check(output, settings := {"version": VERSION, "seed": seed, "frames": frames, "size": list(SIZE)})
    entries = plan(sequences)
    folders = [output / name for name, _, _ in entries]
    missing = [not (folder / "scene.json").is_file() for folder in folders]
    stage = studio() if any(missing) else None
    results.write_atomically(output / SETTINGS, json.dumps(settings, indent=1) + "\n")
    for index, (folder, (_, kind, target)) in enumerate(zip(folders, entries, strict=True)):
        if stage and missing[index]:
            _write(folder, compose(kind, target, frames, [seed, 3, index], stage), target)
        advance()
    rows = [",".join(["sequence", *ATTRIBUTES])]
    for folder in folders:
        has = json.loads((folder / "scene.json").read_text("utf-8"))["attributes"]
        rows.append(",".join([folder.name, *(str(int(attribute in has)) for attribute in ATTRIBUTES)]))
    results.write_atomically(output / "sequences.txt", "".join(f"{folder.name}\n" for folder in folders))
    results.write_atomically(output / "attributes.csv", "\n".join(rows) + "\n")
    return folders


def _check(output: Path, settings: dict[str, Any]) -> None:
    """A folder is gone on with only if it holds a set of the same settings."""
    stored = output / SETTINGS
    if stored.is_file():
        try:
            found = json.loads(stored.read_text("utf-8"))
        except ValueError as error:
            raise ValueError(f"{stored} is damaged ({error}): remove the folder, and render the set again") from error
        if found != settings:
            raise ValueError(f"{stored} has {found}, not {settings}: name another folder, or remove this one")
    elif output.is_dir() and any(output.iterdir()):
        raise ValueError(f"{output} holds something else, no rendered set: name a new or empty folder")


def _write(folder: Path, scene: Scene, target: actors.Kind) -> None:
    """Draws a scene into a folder that gets its name when all is there."""
    partial = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    for part in ("visible", "infrared", "tracks"):
        (partial / part).mkdir(parents=True)
    boxes, seen = [], []
    for t in range(len(scene)):
        shot = scene.shot(t)
        _write_image(partial / "visible" / f"{t:06d}.jpg", shot.visible[..., ::-1])
        _write_image(partial / "infrared" / f"{t:06d}.jpg", shot.infrared)
        boxes.append(shot.box)
        seen.append(shot.seen)
    table = np.array(boxes)
    lines = [",".join(f"{value:.2f}" for value in box) for box in table]
    flags = [VISIBLE if share >= WHOLE else PARTLY_OCCLUDED if share >= HIDDEN else ABSENT for share in seen]
    rows = [f"{t},{line},{flag}" for t, (line, flag) in enumerate(zip(lines, flags, strict=True))]
    (partial / "init.txt").write_text("\n".join(lines) + "\n")
    (partial / "tracks" / "target.txt").write_text("\n".join(rows) + "\n")
    facts = describe(scene, table, np.array(seen))
    (partial / "scene.json").write_text(json.dumps({"target": target, **facts}) + "\n")
    partial.rename(folder)


def describe(scene: Scene, boxes: Float64, seen: Float64) -> dict[str, Any]:
    """What happens in a scene: its attributes by LasHeR's names and thresholds, and when.

    Args:
        scene: the scene.
        boxes: (N, 4) within the image.
        seen: (N,) share of the target that is seen.
    """
    whole = np.stack([scene.box(t, cut=False) for t in range(len(scene))])
    centers = boxes[:, :2] + boxes[:, 2:] / 2
    area, aspect = boxes[:, 2:].prod(1), boxes[:, 2] / boxes[:, 3]
    holds = {
        "NO": seen.min() >= WHOLE,
        "PO": seen.min() < WHOLE,
        "TO": seen.min() < HIDDEN,
        "HO": scene.smoke.max() > 0,
        "LI": scene.light is not None,
        "LR": area.min() < 400,
        "SA": scene.kind == "look-alikes",
        "CM": scene.moving,
        "TC": scene.crossover.max() > 0,
        "OV": (area / whole[:, 2:].prod(1)).min() < 0.98,
        "FM": np.hypot(*np.diff(centers, axis=0).T).max() > 20,
        "SV": _leaves(area / area[0], 2),
        "ARC": _leaves(aspect / aspect[0], 2),
    }
    when = {
        "smoke": results.stretches((scene.smoke > 0.5).tolist()),
        "thermal crossover": results.stretches((scene.crossover > 0.5).tolist()),
        "partly hidden": results.stretches((seen < WHOLE).tolist()),
        "hidden": results.stretches((seen < HIDDEN).tolist()),
    }
    return {
        "kind": scene.kind,
        "world": scene.world.name,
        "attributes": [name for name in ATTRIBUTES if holds.get(name)],
        "when": {name: spans for name, spans in when.items() if spans},
        "seen": [round(float(share), 3) for share in seen],
    }


def _leaves(ratio: Float64, bound: float) -> bool:
    return bool(ratio.max() > bound or ratio.min() < 1 / bound)


def _write_image(file: Path, image: UInt8) -> None:
    if not cv2.imwrite(str(file), image, [cv2.IMWRITE_JPEG_QUALITY, 92]):
        raise OSError(f"{file}: cannot be written; check the space that is left")
