"""From two annotated frames to one training pair, as published.

The random numbers come first, in the published order, as :class:`Draws`; :func:`process` is then a plain function of
frames, boxes and draws. Template and search each have one jitter, flip and brightness for both modalities: the two
images stay registered.
"""

import math
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from duotrack.crops import Box, CropSettings, Image, box_in_crop, crop, crop_side

Float32 = npt.NDArray[np.float32]
Images = tuple[Image, Image]
"""The visible and the infrared image of one moment, uint8 H x W x 3, RGB, equal sizes."""

MASK_STRIDE = 16  # the published validity test looks at the padding mask at this stride, whatever the network's is


@dataclass(frozen=True)
class Pair:
    """What the network is trained on: a template and a search crop, each in both modalities.

    Boxes are ``x, y, w, h`` in crop sides and are not clipped: a target may reach out of its crop. Brightness is left
    to the training step, ``clamp(uint8 * (b / 255), 0, 1)``, so that crops travel as bytes. Where the target is not in
    the search crop (``present`` is False), ``search_box`` has an area but no meaning. ``shown`` says which modalities
    of the search crop show the target: what may be taken away without making the pair unsolvable. ``skipped`` names
    the image files that could not be used when this pair was drawn, so that another one had to be.
    """

    template: Image  # (2, Ht, Wt, 3): visible, infrared
    search: Image  # (2, Hs, Ws, 3)
    template_box: Float32  # (4,)
    search_box: Float32  # (4,)
    brightness: Float32  # (2,): factor of template, search
    present: bool = True
    shown: tuple[bool, bool] = (True, True)
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True)
class Processing:
    """How two frames become a pair. The defaults are the published ones; sizes and crop are the network's."""

    crop: CropSettings = field(default_factory=CropSettings)
    template_size: int = 128
    search_size: int = 256
    grayscale: float = 0.05
    """Probability that all four images lose their colour."""
    flip_frames: float = 0.5
    """Probability that template and search are mirrored together."""
    flip_crops: float = 0.5
    """Probability that a crop is mirrored, template and search each on their own. 0 in validation."""
    brightness: float = 0.2
    """Brightness factors lie in 1 - brightness .. 1 + brightness. 0 in validation."""
    scale_jitter: float = 0.25
    """Standard deviation of the log of the search window's width and height."""
    center_jitter: float = 3.0
    """Range of the search window's shift, in geometric means of the box's sides."""

    def __post_init__(self) -> None:
        if self.template_size < MASK_STRIDE or self.search_size < MASK_STRIDE:
            raise ValueError(f"crops must have {MASK_STRIDE} pixels or more: {self.template_size}, {self.search_size}")
        for name in ("grayscale", "flip_frames", "flip_crops", "brightness"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in 0..1, not {getattr(self, name)}")
        if self.scale_jitter < 0 or self.center_jitter < 0:
            raise ValueError(f"jitters must be 0 or more, not {self.scale_jitter} and {self.center_jitter}")


@dataclass(frozen=True)
class CropDraws:
    """The random numbers of one crop."""

    size: tuple[float, float]  # standard normal: width, height
    shift: tuple[float, float]  # uniform 0..1: x, y
    brightness: float  # the factor itself
    flip: float  # uniform 0..1


@dataclass(frozen=True)
class Draws:
    """All random numbers of one pair, in the order in which they are drawn."""

    grayscale: float
    flip: float
    template: CropDraws
    search: CropDraws


def draw(rng: np.random.Generator, processing: Processing) -> Draws:
    """Draws the random numbers of one pair in the published order (those of the template's jitter go unused)."""
    grayscale, flip = rng.random(), rng.random()
    return Draws(grayscale, flip, _draw_crop(rng, processing), _draw_crop(rng, processing))


def _draw_crop(rng: np.random.Generator, processing: Processing) -> CropDraws:
    size, shift = rng.standard_normal(2), rng.random(2)
    brightness = rng.uniform(1 - processing.brightness, 1 + processing.brightness)
    return CropDraws((float(size[0]), float(size[1])), (float(shift[0]), float(shift[1])), brightness, rng.random())


def process(
    template: Images, search: Images, template_box: Box, search_box: Box, draws: Draws, processing: Processing
) -> Pair | None:
    """Makes a training pair out of two frames.

    Args:
        template: visible and infrared image of the template frame, uint8 H x W x 3.
        search: the same for the search frame.
        template_box: x, y, w, h of the target in pixels of the template frame.
        search_box: the same in the search frame.
        draws: the random numbers.
        processing: sizes and strengths.

    Returns:
        The pair, or None where it is invalid: a window without a pixel, or a crop that is padding all over.
    """
    crops: list[Image] = []
    boxes: list[Float32] = []
    for name, images, box, numbers in (
        ("template", template, template_box, draws.template),
        ("search", search, search_box, draws.search),
    ):
        if draws.grayscale < processing.grayscale:
            images = (_grayscale(images[0]), _grayscale(images[1]))
        if draws.flip < processing.flip_frames:
            width = images[0].shape[1]
            images = (_mirror(images[0]), _mirror(images[1]))
            box = np.array([(width - 1) - (box[0] + box[2]), *box[1:]])
        jittered, factor, size = box, processing.crop.template_factor, processing.template_size
        if name == "search":
            jittered = jitter(box, numbers, processing)
            factor, size = processing.crop.search_factor, processing.search_size
        if jittered[2] <= 0 or jittered[3] <= 0 or _all_padding(images[0], jittered, factor, size):
            return None
        both = [crop(image, jittered, factor, size, processing.crop.padding) for image in images]
        box = box_in_crop(box, jittered, both[0][1], size)
        stacked = np.stack([both[0][0], both[1][0]])
        if numbers.flip < processing.flip_crops:
            stacked = np.ascontiguousarray(stacked[:, :, ::-1])
            box = np.array([1 - (box[0] + box[2]), *box[1:]])
        crops.append(stacked)
        boxes.append(box.astype(np.float32))
    brightness = np.array([draws.template.brightness, draws.search.brightness], np.float32)
    return Pair(crops[0], crops[1], boxes[0], boxes[1], brightness)


def jitter(box: Box, draws: CropDraws, processing: Processing) -> Box:
    """The box ``x, y, w, h`` around which the search window is cut: resized and shifted by the drawn numbers."""
    wh = box[2:] * np.exp(np.array(draws.size) * processing.scale_jitter)
    reach = math.sqrt(float(wh[0] * wh[1])) * processing.center_jitter
    center = box[:2] + box[2:] / 2 + reach * (np.array(draws.shift) - 0.5)
    return np.concatenate([center - wh / 2, wh])


def padding_mask(shape: tuple[int, int], box: Box, factor: float, size: int) -> npt.NDArray[np.bool_]:
    """Which pixels of a crop are made of padding, wholly or in part, by the resizing: bool, size x size.

    Args:
        shape: height and width of the image.
        box: x, y, w, h of the box that the window is cut around.
        factor: side of the window over the geometric mean of the box's sides.
        size: side of the crop.
    """
    rows, columns = _padded_lines(shape, box, factor, size)
    return rows[:, None] | columns[None, :]


def _padded_lines(
    shape: tuple[int, int], box: Box, factor: float, size: int
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """The padding mask as rows and columns: padding is a frame around a rectangle, so two lines say it all."""
    side = crop_side(box, factor)
    lines = []
    for start, length, extent in ((box[1], box[3], shape[0]), (box[0], box[2], shape[1])):
        first = round(float(start) + 0.5 * float(length) - 0.5 * side)
        position = np.arange(first, first + side)
        padded = ((position < 0) | (position >= extent - (first + side >= extent))).astype(np.float64)
        lines.append(cv2.resize(padded[:, None], (1, size), interpolation=cv2.INTER_LINEAR)[:, 0] != 0)
    return lines[0], lines[1]


def _all_padding(image: Image, box: Box, factor: float, size: int) -> bool:
    rows, columns = _padded_lines((image.shape[0], image.shape[1]), box, factor, size)
    # Everything at stride 16 follows from everything at stride 1, so the coarse test covers both.
    return bool(rows[::MASK_STRIDE].all() or columns[::MASK_STRIDE].all())


def _grayscale(image: Image) -> Image:
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB).astype(np.uint8, copy=False)


def _mirror(image: Image) -> Image:
    return cv2.flip(image, 1).astype(np.uint8, copy=False)
