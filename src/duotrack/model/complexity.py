"""How large a network is and how much it computes, from its configuration alone. No torch here."""

import itertools
import math
from dataclasses import dataclass

from duotrack.model.config import LITE0_CHANNELS, LITE0_STAGES, ModelConfig


@dataclass(frozen=True)
class Complexity:
    """Costs of one frame, template included, batch 1.

    ``parameters`` of the students and the fused head. MACs are multiply-accumulates of ``convolutions_and_linears``,
    of both ``attention_products`` (q k^T and a v), and of ``norms`` at 4 an element, as the tool ``thop`` counts
    them: the published figures are ``macs_published_convention``. Not counted: what has no parameters beside
    attention, such as the cosines of the correlation input (0.1 % of `duotrack-tiny`).
    """

    parameters: int
    convolutions_and_linears: int
    attention_products: int
    norms: int

    @property
    def macs(self) -> int:
        """Convolutions, linear layers and attention products."""
        return self.convolutions_and_linears + self.attention_products

    @property
    def macs_published_convention(self) -> int:
        """As the published tables count: norms in, attention products out."""
        return self.convolutions_and_linears + self.norms


def count(config: ModelConfig) -> Complexity:
    """Counts parameters and MACs of the inference network of a configuration."""
    stem, student, head = _stem(config), _student(config), _head(config)
    students = 1 if config.shared_students else 2  # that differ: both compute
    return Complexity(
        parameters=stem.parameters + students * student.parameters + head.parameters,
        convolutions_and_linears=stem.linear + 2 * student.linear + head.linear,
        attention_products=2 * student.attention,
        norms=2 * student.norms + head.norms,
    )


class _Sum:
    """Adds up the layers of one part of the network."""

    def __init__(self) -> None:
        self.parameters = self.linear = self.attention = self.norms = 0

    def layer(self, inputs: int, outputs: int, places: int, kernel: int = 1) -> None:
        """A convolution or linear layer with bias, evaluated at ``places`` pixels or tokens.

        A depthwise convolution is one with a single input: each of its outputs sees one channel.
        """
        self.parameters += outputs * (inputs * kernel**2 + 1)
        self.linear += places * outputs * inputs * kernel**2

    def norm(self, channels: int, places: int) -> None:
        self.parameters += 2 * channels
        self.norms += 4 * places * channels


def _stem(config: ModelConfig) -> _Sum:
    """The convolutional stem over the template and search crops of both modalities; nothing for a patch stem."""
    total = _Sum()
    if config.stem == "patch":
        return total
    pixels = 2 * (config.template_size**2 + config.search_size**2) // 4
    total.layer(3, 32, pixels, kernel=3)
    inputs = 32
    for outputs, kernel, first_stride, expansion, repeats in LITE0_STAGES:
        for stride in (first_stride, *(repeats - 1) * (1,)):
            hidden = inputs * expansion
            if expansion > 1:
                total.layer(inputs, hidden, pixels)
            pixels //= stride**2
            total.layer(1, hidden, pixels, kernel)
            total.layer(hidden, outputs, pixels)
            inputs = outputs
    return total


def _student(config: ModelConfig) -> _Sum:
    """One vision transformer; its tokens become fewer where elimination drops some."""
    total = _Sum()
    width, hidden = config.width, int(config.width * config.mlp_ratio)
    template, search = config.template_grid**2, config.search_grid**2
    channels, patch = (LITE0_CHANNELS, 1) if config.stem == "lite0" else (3, config.stride)
    total.layer(channels, width, template + search, patch)
    total.parameters += (template + search) * width  # position embeddings
    if config.correlation_input:
        total.layer(template, width, search)
    elimination = config.elimination
    keep_rates = dict(zip(elimination.layers, elimination.keep_rates, strict=True)) if elimination else {}
    for block in range(config.depth):
        tokens = template + search
        total.norm(width, tokens)
        total.layer(width, 3 * width, tokens)
        total.attention += 2 * tokens**2 * width
        total.layer(width, width, tokens)
        search = math.ceil(keep_rates.get(block, 1.0) * search)
        tokens = template + search
        total.norm(width, tokens)
        total.layer(width, hidden, tokens)
        total.layer(hidden, width, tokens)
    total.norm(width, template + search)
    return total


def _head(config: ModelConfig) -> _Sum:
    """The fused centre head: a tower each for score, offset and size."""
    total = _Sum()
    cells, first = config.search_grid**2, config.head_channels
    for maps in (1, 2, 2):
        for inputs, outputs in itertools.pairwise((2 * config.width, first, first // 2, first // 4, first // 8)):
            total.layer(inputs, outputs, cells, kernel=3)
            total.norm(outputs, cells)
        total.layer(first // 8, maps, cells)
    return total
