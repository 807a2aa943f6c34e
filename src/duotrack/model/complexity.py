"""How large a network is and how much it computes, counted by running it without data."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from duotrack.model.config import ModelConfig
from duotrack.model.network import StudentNetwork
from duotrack.model.vit import Attention


@dataclass(frozen=True)
class Complexity:
    """Costs of one frame, template included, batch 1.

    ``parameters`` of the students and the fused head. MACs are multiply-accumulates of ``convolutions_and_linears``,
    of both ``attention_products`` (q k^T and a v), and of ``norms`` at 4 an element, as the tool ``thop`` counts
    them: the published figures are ``macs_published_convention``.
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
    if config.elimination is not None:
        # Which template tokens judge costs nothing, and the rule GT_BOX wants a box, which there is none of here.
        config = replace(config, elimination=replace(config.elimination, template_tokens="ALL"))
    macs = dict.fromkeys(("linear", "attention", "norm"), 0)

    def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(module, nn.Conv2d):
            macs["linear"] += output.numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            macs["linear"] += output.numel() * module.in_features
        elif isinstance(module, Attention):
            batch, tokens, width = inputs[0].shape
            macs["attention"] += 2 * batch * tokens * tokens * width
        elif isinstance(module, nn.LayerNorm | nn.BatchNorm2d):
            macs["norm"] += 4 * output.numel()

    with torch.device("meta"):
        network = StudentNetwork(config).eval()
        images = [torch.empty(2, 1, 3, side, side) for side in (config.template_size, config.search_size)]
    for module in network.modules():
        module.register_forward_hook(hook)
    with torch.no_grad():
        network(images[0], images[1])
    return Complexity(
        sum(parameter.numel() for parameter in network.parameters()), macs["linear"], macs["attention"], macs["norm"]
    )
