"""From pixels to what networks see."""

from torch import Tensor

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def normalize(crops: Tensor, brightness: Tensor | None = None) -> Tensor:
    """Pixels to normalised tensors, by the ImageNet statistics, for both modalities.

    Args:
        crops: uint8 (..., H, W, 3), RGB.
        brightness: factors that multiply the pixels first, which are then clamped to white; shape broadcastable to
            ``(...)``. Only training uses it.

    Returns:
        float32 (..., 3, H, W).
    """
    if brightness is None:
        pixels = crops.float().div_(255)
    else:
        pixels = crops.float().mul_(brightness[..., None, None, None] / 255).clamp_(0, 1)
    # By rows: vectors of three numbers, in new memory each time, took six times as long.
    width = crops.shape[-2]
    mean, std = pixels.new_tensor(MEAN).repeat(width), pixels.new_tensor(STD).repeat(width)
    normal: Tensor = pixels.flatten(-2).sub_(mean).div_(std).unflatten(-1, (width, 3))
    return normal.movedim(-1, -3)
