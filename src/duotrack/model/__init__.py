"""The networks of duotrack. Importing this package does not import torch; its networks and functions do."""

from typing import TYPE_CHECKING, Any

from duotrack.model.config import PRESETS, Elimination, ModelConfig, preset

if TYPE_CHECKING:
    from duotrack.model.network import CoupledNetwork, Output, StudentNetwork
    from duotrack.model.normalization import normalize

__all__ = [
    "PRESETS",
    "CoupledNetwork",
    "Elimination",
    "ModelConfig",
    "Output",
    "StudentNetwork",
    "normalize",
    "preset",
]


def __getattr__(name: str) -> Any:
    if name in ("CoupledNetwork", "Output", "StudentNetwork"):
        from duotrack.model import network

        return getattr(network, name)
    if name == "normalize":
        from duotrack.model.normalization import normalize

        return normalize
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
