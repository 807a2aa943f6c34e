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
    pixels = crops.float() / 255
    if brightness is not None:
        pixels = (crops.float() * (brightness[..., None, None, None] / 255)).clamp(0, 1)
    mean, std = pixels.new_tensor(MEAN), pixels.new_tensor(STD)
    return ((pixels - mean) / std).movedim(-1, -3)
