"""The network gives the numbers in the repository, whatever else is at hand."""

import pytest
import torch
from safetensors.torch import load_file

from duotrack.model import StudentNetwork, normalize
from duotrack.model.weights import import_published

from .make_fixture import CONFIG, ELIMINATION, FILE


@pytest.mark.parametrize("run", ["full", "elimination"])
def test_the_small_network_gives_its_numbers(run: str) -> None:
    tensors = load_file(FILE)
    published = {name.removeprefix("weights."): t for name, t in tensors.items() if name.startswith("weights.")}
    elimination = ELIMINATION if run == "elimination" else None
    config, state = import_published(published, heads=CONFIG.heads, elimination=elimination)
    network = StudentNetwork(config).eval()
    network.load_state_dict(state)
    with torch.no_grad():
        output = network(normalize(tensors["template"]), normalize(tensors["search"]))
    found = {"score": output.score, "size": output.size, "offset": output.offset, "box": output.box_cxcywh}
    for key, value in found.items():
        torch.testing.assert_close(value.double(), tensors[f"{run}.{key}"], rtol=0, atol=1e-4)
    assert len(output.kept) == (2 if elimination else 0)
    for layer, kept in enumerate(output.kept):
        assert set(kept[0].tolist()) == set(tensors[f"{run}.kept.{layer}"][0].tolist())
