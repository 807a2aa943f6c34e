"""Pictures of what a network in training sees and says: a row for each pair.

    template V, I | search V, I with the truth (teal) and the answer (orange) | what the masked students see |
    what elimination leaves | score map with its highest value, both over the lighter of the two images

Only pairs tell what numbers cannot: boxes in the wrong place, crops without a target, modalities out of register.
"""

from typing import cast

import cv2
import numpy as np
import numpy.typing as npt
import torch

from duotrack.crops import Image
from duotrack.model.network import CoupledNetwork, search_mask
from duotrack.training.batches import Batch
from duotrack.training.config import TrainingConfig
from duotrack.visualize import TRACKER, TRUTH

SIDE = 192  # px of a tile
GAP = 6
CAPTION = 18
DROPPED = (84, 66, 110)
"""Colour of the cells that are masked or eliminated, RGB."""
TITLES = ("template V", "template I", "search V", "search I", "masked V", "masked I", "kept", "score")


@torch.no_grad()
def draw_pairs(network: CoupledNetwork, batch: Batch, config: TrainingConfig) -> Image:
    """Draws pairs with the network's answers, uint8 (H, W, 3), RGB.

    The answers are those of tracking (evaluation mode, nothing masked); the mask is one as training draws it.
    """
    network.eval()
    device, grid = next(network.parameters()).device, config.network.search_grid
    there = batch.to(device)
    output = network(*there.inputs(), there.template_box, teachers=False)
    generator = torch.Generator().manual_seed(config.seed)
    masks = search_mask(len(batch), grid**2, config.masking.ratio, config.masking.probability, generator)
    rows = [np.full((CAPTION, len(TITLES) * (SIDE + GAP) + GAP, 3), 255, np.uint8)]
    for column, title in enumerate(TITLES):
        place = (GAP + column * (SIDE + GAP), CAPTION - 5)
        cv2.putText(rows[0], title, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, (40, 40, 40), 1, cv2.LINE_AA)
    for i in range(len(batch)):
        template = [_tile(image) for image in batch.template[:, i].numpy()]
        search = [_tile(image) for image in batch.search[:, i].numpy()]
        kept = np.zeros(grid * grid, bool)
        kept[output.kept[-1][i].cpu().numpy() if output.kept else slice(None)] = True
        for image in template:
            _box(image, batch.template_box[i].numpy(), TRUTH)
        center, size = output.box_cxcywh[i, :2].cpu().numpy(), output.box_cxcywh[i, 2:].cpu().numpy()
        answered = [image.copy() for image in search]
        for image in answered:
            if batch.target.present[i]:
                _box(image, batch.target.box[i].numpy(), TRUTH)
            _box(image, np.concatenate([center - size / 2, size]), TRACKER)
        seen = masks[i].numpy().reshape(grid, grid)
        both = np.maximum(*search)
        heat = _heat(both, output.score[i, 0].cpu().numpy())
        tiles = [*template, *answered, *(_dim(image, seen) for image in search)]
        rows.append(_row([*tiles, _dim(both, kept.reshape(grid, grid)), heat]))
    return cast(Image, np.concatenate(rows))


def _tile(crop: npt.NDArray[np.uint8]) -> Image:
    return cv2.resize(crop, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)


def _box(image: Image, box: npt.NDArray[np.floating], color: tuple[int, int, int]) -> None:
    """Draws x, y, w, h in crop sides."""
    x, y, w, h = (float(value) * SIDE for value in box)
    cv2.rectangle(image, (round(x), round(y)), (round(x + w), round(y + h)), color, 2, cv2.LINE_AA)


def _dim(image: Image, stay: npt.NDArray[np.bool_]) -> Image:
    """Veils the cells that do not stay."""
    stays = cv2.resize(stay.astype(np.uint8), (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)[..., None] > 0
    return np.where(stays, image, 0.25 * image + 0.75 * np.array(DROPPED)).astype(np.uint8)


def _heat(image: Image, score: npt.NDArray[np.floating]) -> Image:
    """A score map, 0..1, over a grey crop: from nothing to orange, one square a cell."""
    strength = cv2.resize(score.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)[..., None]
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB) * 0.6
    heat = (grey * (1 - strength) + np.array(TRACKER) * strength).astype(np.uint8)
    place = (4, SIDE - 6)
    cv2.putText(heat, f"{score.max():.2f}", place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1, cv2.LINE_AA)
    return heat


def _row(tiles: list[Image]) -> Image:
    row = np.full((SIDE + GAP, len(tiles) * (SIDE + GAP) + GAP, 3), 255, np.uint8)
    for column, tile in enumerate(tiles):
        left = GAP + column * (SIDE + GAP)
        row[:SIDE, left : left + SIDE] = tile
    return row
