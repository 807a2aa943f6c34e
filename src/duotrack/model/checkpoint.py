"""PyTorch checkpoints of others, read as data.

A checkpoint is a pickle, and a pickle is a program: it may call whatever it can name. Published tracking checkpoints
cannot do without names, because settings and statistics of the training code are pickled into them. So a file is read
twice at most: by torch, which refuses foreign names, and then by an unpickler for which every name stands for a class
that ignores whatever is done to it. Nothing that a file names is imported or called.
"""

import pickle
import pickletools
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """The weights in a checkpoint file: its ``net``, its ``model``, or the file itself where it is a bare state dict.

    Args:
        path: a file that ``torch.save`` wrote; of the format before PyTorch 1.6 only without foreign classes.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is damaged, or holds no state dict; names the file.
    """
    path = Path(path)
    size = path.stat().st_size
    try:
        if zipped := zipfile.is_zipfile(path):
            _refuse_compression(path, size)
        try:
            with warnings.catch_warnings(action="ignore"):  # pickle protocols that it may not know
                content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
        except pickle.UnpicklingError as error:
            if not zipped:
                raise ValueError(
                    "it is no checkpoint, or of the format before PyTorch 1.6 with foreign classes in it; where you "
                    "trust it, load it in the environment it comes from and save its state dict alone: "
                    "torch.save(checkpoint['net'], file)"
                ) from error
            content = _read_zip(path)
    except OSError:
        raise
    except Exception as error:  # a damaged or hostile file can fail anywhere
        raise ValueError(f"{path}: cannot be read as a PyTorch checkpoint: {error}") from error
    state = _state_dict(content, path)
    # Strides of zero and shared storages could make a small file claim more memory than there is. Four branches may
    # share their weights.
    if sum(tensor.numel() * tensor.element_size() for tensor in state.values()) > 4 * size:
        raise ValueError(f"{path}: its tensors claim more data than the file holds")
    return state


def _state_dict(content: object, path: Path) -> dict[str, Tensor]:
    if isinstance(content, Mapping):
        content = next((content[key] for key in ("net", "model") if key in content), content)
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f"{path}: holds no state dict under 'net' or 'model', nor is it one")
    wrong = [str(key) for key, value in content.items() if not (isinstance(key, str) and _plain_tensor(value))]
    if wrong:
        raise ValueError(
            f"{path}: not a state dict: {len(wrong)} of {len(content)} entries are not tensors, {wrong[0]!r} for one"
        )
    return {key: value.detach() for key, value in content.items()}


def _plain_tensor(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout is torch.strided and value.device.type == "cpu"


def _refuse_compression(path: Path, size: int) -> None:
    """torch.save stores its parts as they are; whatever else is in a zip file would only grow when read."""
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
    if any(part.compress_type != zipfile.ZIP_STORED for part in parts) or sum(part.file_size for part in parts) > size:
        raise ValueError("it is compressed, which torch.save never does")


class _Inert:
    """What a name in a pickle stands for: takes any arguments, ignores any use."""

    arguments: tuple[Any, ...] = ()

    def __init__(self, *arguments: Any, **_: Any) -> None:
        self.arguments = arguments

    def _ignore(self, *_: Any) -> None:
        pass

    __setstate__ = append = extend = add = __setitem__ = _ignore


class _InertDict(dict[Any, Any]):
    """An OrderedDict; the attributes that pickles of state dicts set on it are dropped."""

    def __setstate__(self, state: object) -> None:
        pass


class _Storage(NamedTuple):
    """Where a tensor's numbers are in the archive."""

    kind: type
    key: str
    length: int


_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class _Unpickler(pickle.Unpickler):
    """Builds plain containers of inert objects. Tensors stay records of where their numbers are."""

    def find_class(self, module: str, name: str) -> type:
        """A new class for every name, so that a pickle has nothing of this process in its hands."""
        base = _InertDict if (module, name) == ("collections", "OrderedDict") else _Inert
        return type(name, (base,), {"__module__": module})

    def persistent_load(self, pid: Any) -> _Storage:
        """``("storage", kind, key, location, length)``, as torch.save refers to data."""
        _, kind, key, _, length = pid
        return _Storage(kind, str(key), int(length))


def _read_zip(path: Path) -> object:
    """The part of a checkpoint that may hold weights, with its tensors, all else in it inert."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        root = next(name for name in names if name.endswith("data.pkl")).removesuffix("data.pkl")
        if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
            raise ValueError("its numbers are not little-endian")
        program = archive.read(f"{root}data.pkl")
        _refuse_large_memo(program)
        with archive.open(f"{root}data.pkl") as file:
            content = _Unpickler(file).load()
        if isinstance(content, dict):
            content = next((content[key] for key in ("net", "model") if key in content), content)
        if not isinstance(content, dict):
            return None
        storages: dict[str, Tensor] = {}
        return {key: _tensor(value, archive, root, storages) for key, value in content.items()}


def _refuse_large_memo(program: bytes) -> None:
    """The unpickler reserves memory for the highest index that a pickle remembers something under."""
    for opcode, argument, _ in pickletools.genops(program):
        if "PUT" in opcode.name and cast(int, argument) > len(program):
            raise ValueError("its pickle asks for more memory than it can need")


def _tensor(record: object, archive: zipfile.ZipFile, root: str, storages: dict[str, Tensor]) -> object:
    """The tensor that an inert record of ``_rebuild_tensor_v2`` or ``_rebuild_parameter`` stands for."""
    if _name(record) == "torch._utils._rebuild_parameter":
        record = cast(_Inert, record).arguments[0]
    if _name(record) != "torch._utils._rebuild_tensor_v2":
        return record
    storage, offset, size, stride = cast(_Inert, record).arguments[:4]
    if storage.key not in storages:
        data = archive.read(f"{root}data/{storage.key}")
        dtype = _DTYPES[storage.kind.__name__]
        numbers = torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0, dtype=dtype)
        if len(numbers) != storage.length:
            raise ValueError(f"storage {storage.key} holds {len(numbers)} numbers instead of {storage.length}")
        storages[storage.key] = numbers
    # Refuses whatever reaches out of the storage.
    return torch.as_strided(storages[storage.key], size, stride, offset)


def _name(record: object) -> str:
    return f"{type(record).__module__}.{type(record).__name__}"
