"""Weights folders: where they are, and what their ``config.json`` says. No torch here.

    config.json          the network and how it wants its crops
    model.safetensors    the weights
    model.onnx           the search graph, and
    model_template.onnx  the template graph made from them: what tracks without torch (optional)
    model.int8.onnx      the search graph in 8 bits (optional)
    training.json        where the weights come from (optional)

Only a folder with a ``config.json`` is a weights folder: it is the last file to be written.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from duotrack import configuration
from duotrack.crops import CropSettings
from duotrack.model.config import ModelConfig

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
SEARCH_GRAPH = "model.onnx"
TEMPLATE_GRAPH = "model_template.onnx"
INT8_GRAPH = "model.int8.onnx"
TRAINING = "training.json"

FORMAT = 1
"""Version of the folder's layout. A newer one is refused."""

_ASSETS = Path(__file__).parent / "assets"


class WeightsInfo(NamedTuple):
    """What ``config.json`` holds: the network, and the crops it was trained with and must be given."""

    model: ModelConfig
    crops: CropSettings


@dataclass(frozen=True)
class _ConfigFile:
    format: int
    model: ModelConfig
    crops: CropSettings


def shipped() -> list[str]:
    """Names of the weights that come with the package."""
    return sorted(config.parent.name for config in _ASSETS.glob(f"*/{CONFIG}"))


def locate(weights: str | Path) -> Path:
    """The weights folder of a name such as ``duotrack-tiny``, or a path to such a folder.

    Raises:
        FileNotFoundError: if it is neither; the message lists what there is.
    """
    if weights in shipped():
        return _ASSETS / weights
    folder = Path(weights)
    if (folder / CONFIG).is_file():
        return folder
    names = ", ".join(shipped()) or "none in this installation"
    if folder.is_file():
        problem = "is a file; turn a published checkpoint into a folder with `duotrack weights import`"
    elif folder.is_dir():
        problem = f"is a folder without {CONFIG}, so it holds no (complete) weights"
    else:
        problem = "does not exist"
    raise FileNotFoundError(f"{folder} {problem}. Give the name of shipped weights ({names}) or a folder with {CONFIG}")


def read_config(folder: str | Path) -> WeightsInfo:
    """Reads the ``config.json`` of a weights folder.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is damaged, of a newer format, or has unknown, missing or wrong values; all name the file.
    """
    path = Path(folder) / CONFIG
    try:
        content = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from error
    version = content.get("format") if isinstance(content, dict) else None
    if isinstance(version, int) and version > FORMAT:
        raise ValueError(
            f"{path}: format {version} is newer than this duotrack, which knows {FORMAT}; "
            "upgrade it: pip install --upgrade duotrack"
        )
    config = configuration.read(_ConfigFile, content, str(path))
    if config.format != FORMAT:
        raise ValueError(f"{path}: format must be {FORMAT}, not {config.format}")
    return WeightsInfo(config.model, config.crops)


def config_text(info: WeightsInfo) -> str:
    """The text of a ``config.json`` that :func:`read_config` reads back."""
    return json.dumps(configuration.plain(_ConfigFile(FORMAT, info.model, info.crops)), indent=2) + "\n"


def check_origin(folder: Path, origins: set[str]) -> None:
    """Graphs must come from the weights that lie beside them; where only graphs are, from the same weights.

    Args:
        folder: the weights folder.
        origins: the hashes of weights that the graphs name.

    Raises:
        ValueError: if they do not.
    """
    weights = folder / WEIGHTS
    if len(origins) != 1 or (weights.is_file() and origins != {sha256(weights)}):
        raise ValueError(
            f"the ONNX graphs in {folder} were not made from the {WEIGHTS} beside them; export them again, "
            "or use the torch backend"
        )


def fingerprint(folder: Path) -> str:
    """Which weights a folder holds: the SHA-256 of ``model.safetensors``, or of the search graph where only graphs are.

    Raises:
        FileNotFoundError: if neither is there.
    """
    weights, graph = folder / WEIGHTS, folder / SEARCH_GRAPH
    return sha256(graph if graph.is_file() and not weights.is_file() else weights)


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file in hexadecimal digits: which weights made a result."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
