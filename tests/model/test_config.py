"""Configurations: what is refused, with which words, and that every preset is a network that runs and learns."""

import dataclasses
import subprocess
import sys
from typing import Any

import pytest
import torch

from duotrack.losses import Target, ckd_loss
from duotrack.model import PRESETS, CoupledNetwork, Elimination, ModelConfig, preset


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"width": 0}, "width must be positive, not 0"),
        ({"depth": -1}, "depth must be positive, not -1"),
        ({"heads": 0}, "heads must be positive"),
        ({"stride": 0}, "stride must be positive"),
        ({"stem": "resnet"}, "stem must be 'patch' or 'lite0', not 'resnet'"),
        ({"width": 100, "heads": 3}, "width 100 is not a multiple of 3 heads"),
        ({"template_size": 100}, "crop sizes 100 and 256 must be multiples of the stride 16"),
        ({"search_size": 250}, "crop sizes 128 and 250 must be multiples of the stride 16"),
        ({"stem": "lite0", "stride": 8}, "the lite0 stem has stride 16, not 8"),
        ({"correlation_input": True}, "correlation_input needs a convolutional stem"),
        ({"mlp_ratio": 0.0}, "mlp_ratio must be positive"),
        ({"mlp_ratio": -4.0}, "mlp_ratio must be positive"),
        ({"head_channels": 7}, "head_channels must be 8 or more"),
        ({"drop_path": 1.0}, r"drop_path must lie in \[0, 1\), not 1.0"),
        ({"drop_path": -0.1}, "drop_path must lie in"),
        ({"depth": 9, "elimination": Elimination()}, "elimination in block 9, but there are 9 blocks"),
        ({"teacher": ModelConfig(search_size=384)}, "teacher: search_size is 384, that of the students 256"),
        ({"teacher": ModelConfig(template_size=96)}, "teacher: template_size is 96, that of the students 128"),
        ({"teacher": ModelConfig(stride=8)}, "teacher: stride is 8, that of the students 16"),
        ({"teacher": ModelConfig(depth=11)}, "teacher: 11 blocks are too few for students of 12"),
        ({"teacher": ModelConfig(elimination=Elimination())}, "teacher: leave out elimination, shared_students"),
        ({"teacher": ModelConfig(shared_students=True)}, "teacher: leave out elimination, shared_students"),
        ({"teacher": ModelConfig(teacher=ModelConfig())}, "teacher: leave out elimination, shared_students"),
    ],
)
def test_refused_networks(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelConfig(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"layers": ()}, "ascending order"),
        ({"layers": (6, 3)}, "ascending order"),
        ({"layers": (3, 3)}, "ascending order"),
        ({"layers": (-1, 3)}, "ascending order"),
        ({"keep": (0.7, 0.7)}, "3 elimination layers, but 2 keep rates"),
        ({"keep": 0.0}, r"keep rates must lie in \(0, 1\], not 0.0"),
        ({"keep": 1.1}, "keep rates must lie in"),
        ({"keep": float("nan")}, "keep rates must lie in"),
        ({"keep": (0.7, 0.7, 0.0)}, "keep rates must lie in"),
        ({"template_tokens": "CENTER"}, "CTR_POINT, CTR_REC, ALL or GT_BOX, not 'CENTER'"),
    ],
)
def test_refused_elimination(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Elimination(**fields)


def test_unknown_preset() -> None:
    with pytest.raises(ValueError, match="no preset 'ckd-huge'; there are ckd-base, duotrack-tiny, debug"):
        preset("ckd-huge")


def test_keep_rates() -> None:
    assert Elimination((1, 2), 0.5).keep_rates == (0.5, 0.5)
    assert Elimination((1, 2), (0.9, 0.5)).keep_rates == (0.9, 0.5)


def test_lists_of_a_file_become_tuples() -> None:
    read = Elimination(layers=[1, 2], keep=[0.9, 0.5])  # type: ignore[arg-type]
    assert read == Elimination((1, 2), (0.9, 0.5))
    assert hash(read) == hash(Elimination((1, 2), (0.9, 0.5)))


def test_the_paper_s_network() -> None:
    config = preset("ckd-base")
    assert (config.stem, config.width, config.depth, config.heads, config.mlp_ratio) == ("patch", 768, 12, 12, 4)
    assert (config.template_size, config.search_size, config.stride, config.head_channels) == (128, 256, 16, 256)
    assert (config.template_grid, config.search_grid) == (8, 16)
    assert config.drop_path == 0.1
    assert not config.shared_students
    assert not config.correlation_input
    assert config.elimination == Elimination((3, 6, 9), 0.7, "CTR_POINT")


@pytest.mark.parametrize("name", ["debug", "duotrack-tiny"])
def test_small_presets_run_and_learn(name: str) -> None:
    """A few steps on one pair make the loss smaller."""
    torch.manual_seed(0)
    config = preset(name)
    network = CoupledNetwork(config).train()
    template = torch.randn(2, 2, 3, config.template_size, config.template_size)
    search = torch.randn(2, 2, 3, config.search_size, config.search_size)
    heatmap = torch.zeros(2, 1, config.search_grid, config.search_grid)
    heatmap[:, 0, 3, 4] = 1
    target = Target(torch.tensor([[0.4, 0.3, 0.2, 0.2]] * 2), heatmap, torch.ones(2, dtype=torch.bool))
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    totals = []
    for _ in range(4):
        losses = ckd_loss(network(template, search), target)
        totals.append(losses.total.item())
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
    assert totals[-1] < totals[0]


def test_every_preset_can_be_changed() -> None:
    for config in PRESETS.values():
        assert dataclasses.replace(config, shared_students=True).shared_students


def test_configurations_need_no_torch() -> None:
    code = "import sys; import duotrack.model; duotrack.model.preset('debug'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
