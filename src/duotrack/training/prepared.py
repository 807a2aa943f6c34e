"""Pairs that were drawn once and are trained on many times: features of the frozen stem, in a folder.

    FOLDER/manifest.json              what they were made from, and how many there are
    FOLDER/pairs-000000.safetensors   the first SHARD of them, pairs-000001 the next, ...

A shard of n pairs holds, in the order of their numbers, ``template`` (n, 2, Hz, Wz, D) and ``search`` (n, 2, Hx, Wx, D)
in float16, visible before infrared; ``template_box`` and ``search_box`` (n, 4) float32, x, y, w, h in crop sides; and
``present`` (n,) bool. Shards are read where they lie, through memory maps: a folder may be larger than the memory.

:mod:`duotrack.training.preparation` makes such a folder.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from duotrack.crops import CropSettings
from duotrack.data.augment import Float32
from duotrack.model.config import LITE0_CHANNELS, ModelConfig
from duotrack.model.stem import LiteStem
from duotrack.training.config import Prepared, TrainingConfig

MANIFEST = "manifest.json"
SHARD = 1000  # pairs in a file: 81 MB for duotrack-tiny
PERIOD = 1000  # numbers after which the order of the folders repeats; also how finely weights are rounded

Float16 = npt.NDArray[np.float16]


@dataclass(frozen=True)
class PreparedPair:
    """What :class:`duotrack.data.augment.Pair` is, after the stem. Brightness is in the features already."""

    template: Float16  # (2, Hz, Wz, D): visible, infrared
    search: Float16  # (2, Hx, Wx, D)
    template_box: Float32  # (4,)
    search_box: Float32  # (4,)
    present: bool
    brightness: ClassVar[Float32] = np.ones(2, np.float32)
    skipped: ClassVar[tuple[str, ...]] = ()


@dataclass(frozen=True)
class Manifest:
    """What prepared pairs were made from.

    ``pairs`` is their number once all are made; ``data`` the recipe's section, without the places where things lay;
    ``crops`` all that a crop depends on; ``stem`` the SHA-256 of its weights (:func:`stem_hash`).
    """

    pairs: int
    shard: int
    seed: int
    data: dict[str, Any]
    crops: dict[str, Any]
    stem: str

    @classmethod
    def load(cls, folder: Path) -> "Manifest":
        """Reads the manifest of a folder.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: if it is damaged.
        """
        path = folder / MANIFEST
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} does not exist, so {folder} holds no prepared pairs; make them: duotrack prepare --output "
                f"{folder} ..."
            )
        try:
            manifest = cls(**json.loads(path.read_text("utf-8")))
            sizes = [manifest.pairs, manifest.shard, manifest.crops["template_size"], manifest.crops["search_size"]]
        except (TypeError, ValueError, KeyError) as error:
            raise ValueError(f"{path} is no manifest of prepared pairs ({error}); use another folder") from error
        if not all(isinstance(size, int) and size > 0 for size in sizes):
            raise ValueError(
                f"{path} is no manifest of prepared pairs: numbers and sizes are {sizes}; use another folder"
            )
        return manifest

    def json(self) -> str:
        """The manifest as it lies in the folder."""
        return json.dumps(asdict(self), indent=2) + "\n"

    def shards(self) -> list[range]:
        """The numbers of the pairs of each shard."""
        return [range(i, min(i + self.shard, self.pairs)) for i in range(0, self.pairs, self.shard)]


def crop_facts(network: ModelConfig, crops: CropSettings) -> dict[str, Any]:
    """All that the crops of a pair depend on."""
    return {
        "template_factor": crops.template_factor,
        "search_factor": crops.search_factor,
        "padding": crops.padding,
        "template_size": network.template_size,
        "search_size": network.search_size,
    }


def stem_hash(stem: LiteStem) -> str:
    """SHA-256 of a stem's weights, in float32 and the order of their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(stem.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def refuse_other_stems(config: TrainingConfig) -> None:
    """Sees whether all that a recipe trains begins behind one frozen stem.

    Raises:
        ValueError: if not; names the setting.
    """
    purpose = "prepared pairs are the features of a frozen convolutional stem"
    if config.network.stem != "lite0":
        raise ValueError(f"model: {purpose}, and this network has a {config.network.stem} stem")
    if config.network.teacher is not None:
        raise ValueError(f"model.teacher: {purpose} that teachers share, and these have one of their own")
    if config.optimizer.stem_rate > 0 and "stem" not in config.frozen:
        raise ValueError(f"optimizer.stem_rate: {purpose}, and {config.optimizer.stem_rate:g} trains it: set 0")


def shard_path(folder: Path, shard: int) -> Path:
    """The file of a shard."""
    return folder / f"pairs-{shard:06d}.safetensors"


class Shard:
    """One file of prepared pairs, read where it lies.

    Raises:
        ValueError: if it is damaged, or of another form than expected.
    """

    def __init__(self, path: Path, pairs: int, crops: dict[str, Any]) -> None:
        self._arguments = (path, pairs, crops)
        cells = [crops[f"{name}_size"] // 16 for name in ("template", "search")]
        template, search = ([pairs, 2, side, side, LITE0_CHANNELS] for side in cells)
        expected = {
            "template": ("F16", template),
            "search": ("F16", search),
            "template_box": ("F32", [pairs, 4]),
            "search_box": ("F32", [pairs, 4]),
            "present": ("BOOL", [pairs]),
        }
        try:
            self._file = safe_open(path, framework="np")
            get_slice: Any = self._file.get_slice  # has no annotations
            self._slices = {name: get_slice(name) for name in expected}
            found = {name: (part.get_dtype(), part.get_shape()) for name, part in self._slices.items()}
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path} is no shard of prepared pairs ({error})") from error
        if found != expected:
            raise ValueError(f"{path} holds {found}, expected {expected}")

    def __reduce__(self) -> tuple[Any, ...]:
        return Shard, self._arguments  # a worker that is not forked opens the file itself

    def pair(self, place: int) -> PreparedPair:
        """The pair at a place in the shard."""
        part = {name: values[place] for name, values in self._slices.items()}
        return PreparedPair(**{**part, "present": bool(part["present"])})


def open_prepared(config: TrainingConfig, stem: LiteStem | None) -> "PreparedPairs":
    """The prepared pairs that a recipe names, once they are seen to fit its network.

    Raises:
        ValueError: if they do not, naming the folder; the other errors of :class:`PreparedPairs`.
    """
    refuse_other_stems(config)
    assert stem is not None
    held_out = config.validation_pairs if config.validation_data is None else 0
    pairs = PreparedPairs(config.prepared, seed=config.seed, held_out=held_out)
    for one in pairs.folders:
        expected = crop_facts(config.network, config.crops)
        if one.manifest.crops != expected:
            raise ValueError(f"{one.folder} was prepared from crops {one.manifest.crops}, the recipe's are {expected}")
        if one.manifest.stem != stem_hash(stem):
            raise ValueError(
                f"{one.folder} was prepared by another stem than that of the recipe's start, {config.start!r} "
                f"(SHA-256 {one.manifest.stem[:12]}..., expected {stem_hash(stem)[:12]}...)"
            )
    return pairs


class PreparedFolder:
    """The pairs of one folder, by their number.

    Raises:
        FileNotFoundError: if the folder has no manifest.
        ValueError: if pairs are missing or a file is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.manifest = folder, Manifest.load(folder)
        paths = [shard_path(folder, number) for number in range(len(self.manifest.shards()))]
        missing = sum(not path.is_file() for path in paths)
        if missing:
            first = next(path.name for path in paths if not path.is_file())
            raise ValueError(
                f"{folder}: {missing} of {len(paths)} files of prepared pairs are missing, such as {first}; run the "
                "same duotrack prepare again, it goes on where it stopped"
            )
        try:
            self._shards = [
                Shard(path, len(numbers), self.manifest.crops)
                for path, numbers in zip(paths, self.manifest.shards(), strict=True)
            ]
        except ValueError as error:
            raise ValueError(f"{error}; run the same duotrack prepare again, it is made anew") from error

    def __len__(self) -> int:
        return self.manifest.pairs

    def pair(self, number: int) -> PreparedPair:
        """Pair ``number`` of the folder."""
        shard, place = divmod(number, self.manifest.shard)
        return self._shards[shard].pair(place)


class PreparedPairs:
    """Prepared pairs of several folders as one endless, numbered, reproducible stream, mixed by weights.

    Which pair has a number follows from the seed and the number. The folders take turns, evenly, so that every batch
    is mixed by the weights. Each folder is shown in a random order, and in another one once all of it was shown.

    Args:
        folders: where the pairs are, each with its weight.
        seed: of the order.
        held_out: how many pairs at the end of the folders, mixed by the same weights, are never in the stream.

    Raises:
        ValueError: if a folder cannot be used, or too few of its pairs are left.
    """

    problems: ClassVar[tuple[str, ...]] = ()  # of the data: seen when the pairs were made

    def __init__(self, folders: Sequence[Prepared], *, seed: int, held_out: int) -> None:
        self.seed, self.weights = seed, [one.weight for one in folders]
        self.folders = [PreparedFolder(Path(one.folder)) for one in folders]
        for one in folders:
            if one.weight * PERIOD < sum(self.weights):
                raise ValueError(f"{one.folder}: the weight {one.weight:g} is below a thousandth of all weights")
        self._owner, self._rank, self._counts = take_turns(self.weights)
        kept_back = [self._turn(number)[0] for number in range(held_out)]
        self._trained = [len(folder) - kept_back.count(i) for i, folder in enumerate(self.folders)]
        for folder, trained in zip(self.folders, self._trained, strict=True):
            if trained < 1:
                raise ValueError(
                    f"{folder.folder}: of its {len(folder)} pairs {len(folder) - trained} would be kept back for "
                    "validation and none left: prepare more pairs, or set fewer validation_pairs"
                )
        self._orders: dict[int, tuple[int, npt.NDArray[np.int64]]] = {}

    def pair(self, number: int) -> PreparedPair:
        """Pair ``number`` (0 or more) of the stream."""
        which, turn = self._turn(number)
        epoch, place = divmod(turn, self._trained[which])
        return self.folders[which].pair(int(self._order(which, epoch)[place]))

    def held_out(self, number: int) -> PreparedPair:
        """Pair ``number`` of those that are kept back."""
        which, turn = self._turn(number)
        return self.folders[which].pair(self._trained[which] + turn)

    def facts(self) -> list[dict[str, Any]]:
        """What the pairs are, for the record: the weight and the manifest of each folder."""
        return [{"weight": w, **asdict(one.manifest)} for w, one in zip(self.weights, self.folders, strict=True)]

    def _turn(self, number: int) -> tuple[int, int]:
        """Which folder a number takes its pair from, and how many it took from there before."""
        period, place = divmod(number, PERIOD)
        which = int(self._owner[place])
        return which, period * int(self._counts[which]) + int(self._rank[place])

    def _order(self, which: int, epoch: int) -> npt.NDArray[np.int64]:
        """The order in which a folder is shown for the ``epoch``-th time; the last one is remembered."""
        if which not in self._orders or self._orders[which][0] != epoch:
            order = np.random.default_rng([self.seed, which, epoch]).permutation(self._trained[which])
            self._orders[which] = (epoch, order)
        return self._orders[which][1]


class HeldOut:
    """The pairs of a stream that are kept back for validation, numbered from 0."""

    def __init__(self, pairs: PreparedPairs) -> None:
        self._pairs = pairs

    def pair(self, number: int) -> PreparedPair:
        """Pair ``number``."""
        return self._pairs.held_out(number)


def take_turns(weights: Sequence[float]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """A round of :data:`PERIOD` turns, shared by weights and evenly spread.

    Returns:
        Whose turn each is; how many turns that one had before in the round; and how many each has in all.
    """
    shares = np.array(weights) / np.sum(weights) * PERIOD
    counts = shares.astype(np.int64)
    counts[np.argsort(counts - shares, kind="stable")[: PERIOD - int(counts.sum())]] += 1  # the largest remainders
    owner = np.repeat(np.arange(len(counts)), counts)
    rank = np.concatenate([np.arange(count) for count in counts])
    order = np.argsort((rank + 0.5) / counts[owner], kind="stable")
    return owner[order], rank[order], counts
