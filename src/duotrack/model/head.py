"""The centre head: where the target is, how big, and where within the cell; and the box that follows from it."""

import itertools
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Maps(NamedTuple):
    """What a centre head sees, on F x F cells.

    ``score`` (B, 1, F, F) in (0, 1); ``size`` (B, 2, F, F), width and height in crop sides; ``offset`` (B, 2, F, F),
    x and y in cells from the cell's index.
    """

    score: Tensor
    size: Tensor
    offset: Tensor


class CenterHead(nn.Module):
    """Three towers of four 3x3 convolutions with BatchNorm and ReLU, and a 1x1 convolution each."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.score = _tower(in_channels, channels, 1)
        self.offset = _tower(in_channels, channels, 2)
        self.size = _tower(in_channels, channels, 2)

    def forward(self, features: Tensor) -> Maps:
        """Features (B, D, F, F) to maps."""
        return Maps(
            score=self.score(features).float().sigmoid().clamp(1e-4, 1 - 1e-4),
            size=self.size(features).float().sigmoid().clamp(1e-4, 1 - 1e-4),
            offset=self.offset(features).float(),
        )


def _tower(in_channels: int, channels: int, out_channels: int) -> nn.Sequential:
    widths = [in_channels, channels, channels // 2, channels // 4, channels // 8]
    tower = nn.Sequential(
        *(
            nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU())
            for i, o in itertools.pairwise(widths)
        ),
        nn.Conv2d(widths[-1], out_channels, 1),
    )
    for parameter in tower.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
    return tower


def box_at(maps: Maps, cell: Tensor) -> Tensor:
    """The box that the maps hold at a cell: centre, width, height in crop sides.

    Args:
        maps: of a centre head.
        cell: index into the flattened F x F cells, (B,).

    Returns:
        (B, 4); gradients flow through size and offset at this cell.
    """
    grid = maps.score.shape[-1]
    index = cell.view(-1, 1, 1).expand(-1, 2, 1)
    size = maps.size.flatten(2).gather(2, index).squeeze(2)
    offset = maps.offset.flatten(2).gather(2, index).squeeze(2)
    corner = torch.stack([cell % grid, cell // grid], dim=1)
    return torch.cat([(corner + offset) / grid, size], dim=1)


def peak_box(maps: Maps) -> Tensor:
    """The box at the highest score, (B, 4): centre, width, height in crop sides; not clipped."""
    return box_at(maps, maps.score.flatten(1).argmax(1))
