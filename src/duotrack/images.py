"""Folders of images: what counts as an image, and in which order images come."""

import os
import re
from pathlib import Path

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
"""What counts as an image in a folder, in upper or lower case."""


def list_images(folder: Path) -> list[Path]:
    """The images of a folder in natural order; hidden files are left out.

    Raises:
        OSError: if the folder cannot be read.
    """
    names = (name for name in os.listdir(folder) if name.lower().endswith(IMAGE_SUFFIXES) and name[0] != ".")
    return [folder / name for name in sorted(names, key=natural)]


def natural(name: str) -> tuple[list[int | str], str]:
    """A key that sorts names as people count: ``frame2`` before ``frame10``."""
    parts = re.split(r"([0-9]+)", name.lower())
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], name
