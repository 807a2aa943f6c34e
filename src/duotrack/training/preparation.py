"""Draws pairs once and keeps what the frozen stem makes of them: the folders of :mod:`duotrack.training.prepared`.

    numbers of a shard --workers: draw, normalise, stem--> features --this process: put together--> a file

A pair costs more to draw and to take through the stem than to train a small network on. Prepared, it serves many
epochs and many runs. Each follows from (seed, number), so a preparation that was stopped goes on with the next file,
and leaves the same bytes, on the same kind of processor.

The stem runs on onnxruntime in float32: on one AVX-512 core 12 ms a pair, PyTorch 24 and more; their features differ by
1e-5. In bfloat16 PyTorch takes 12 ms too, but its features, of unit spread, are up to 0.3 off.
"""

import os
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import cv2
import onnxruntime
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from duotrack.configuration import plain
from duotrack.data.augment import Pair
from duotrack.data.sampling import PairSource
from duotrack.export import stem_graph
from duotrack.model.stem import LiteStem
from duotrack.progress import bar
from duotrack.results import beside, write_atomically
from duotrack.training.batches import collate, load_as
from duotrack.training.config import TrainingConfig
from duotrack.training.prepared import (
    MANIFEST,
    SHARD,
    Manifest,
    Shard,
    crop_facts,
    refuse_other_stems,
    shard_path,
    stem_hash,
)
from duotrack.training.recipe import build_network

AT_ONCE = 10  # pairs that go through the stem together


def prepare(config: TrainingConfig, folder: Path, pairs: int, *, workers: int | None = None) -> dict[str, Any]:
    """Prepares the first pairs of a recipe's stream, or those of them that the folder does not hold yet.

    Args:
        config: the recipe: ``data`` and ``seed`` say what is drawn, ``model``, ``crops`` and ``start`` what it goes
            through.
        folder: where the shards go. One that holds fewer pairs of the same recipe is extended.
        pairs: how many.
        workers: processes that draw; None for the recipe's.

    Returns:
        Facts for people and JSON: the folder, how many pairs it holds, how many of them are new, their size, and the
        files that could not be read.

    Raises:
        ValueError: if the recipe trains its stem or has none, the data cannot be used, or the folder holds pairs of
            another recipe, or more of this one.
        OSError: if the folder cannot be written to; whole files stay.
    """
    refuse_other_stems(config)
    cv2.setNumThreads(0)  # before workers are forked, as in training
    torch.set_num_threads(1)
    torch.manual_seed(config.seed)  # a stem without start weights is the one that a run of this seed starts with
    stem = build_network(config).stem
    assert stem is not None
    manifest = _manifest(config, stem, pairs)
    _refuse_other_pairs(folder, manifest)
    shards = manifest.shards()
    missing = [number for number in range(len(shards)) if not _is_whole(folder, number, manifest)]
    skipped: set[str] = set()
    if missing:
        source = PairSource(config.data, config.network, config.crops, seed=config.seed)
        for problem in source.problems:
            print(f"duotrack: left out: {problem}", file=sys.stderr)
        write_atomically(folder / MANIFEST, manifest.json())  # not before the data is seen to be there
        run = StemRunner(stem, config)
        skipped = _make(source, run, folder, manifest, missing, config.workers if workers is None else workers)
    return {
        "folder": str(folder),
        "pairs": pairs,
        "new": sum(len(shards[number]) for number in missing),
        "size_in_GB": round(sum(shard_path(folder, number).stat().st_size for number in range(len(shards))) / 1e9, 3),
        "files_that_could_not_be_read": sorted(skipped),
    }


def _manifest(config: TrainingConfig, stem: LiteStem, pairs: int) -> Manifest:
    """What the folder of a recipe says of itself."""
    data = plain(config)["data"]
    del data["root"], data["cache"]  # where things lay says nothing about the pairs
    return Manifest(pairs, SHARD, config.seed, data, crop_facts(config.network, config.crops), stem_hash(stem))


def _refuse_other_pairs(folder: Path, manifest: Manifest) -> None:
    """Sees whether a folder is new, or holds pairs of the same recipe and no more than wanted."""
    if not (folder / MANIFEST).is_file():
        if shard_path(folder, 0).exists():
            raise ValueError(
                f"{folder} holds pairs without their {MANIFEST}: nobody knows of what; give another --output"
            )
        return
    there = Manifest.load(folder)
    differ = [one.name for one in fields(manifest) if getattr(there, one.name) != getattr(manifest, one.name)]
    if set(differ) - {"pairs"}:
        raise ValueError(
            f"{folder} holds pairs of another recipe: {', '.join(differ)} differ from {MANIFEST} there; give another "
            "--output"
        )
    if there.pairs > manifest.pairs:
        raise ValueError(f"{folder} holds {there.pairs} pairs of this recipe already: ask for as many or more")


def _is_whole(folder: Path, number: int, manifest: Manifest) -> bool:
    """Whether a shard is there, undamaged as far as its header tells, with all its pairs."""
    path = shard_path(folder, number)
    if not path.is_file():
        return False
    try:
        Shard(path, len(manifest.shards()[number]), manifest.crops)
    except ValueError:
        return False
    return True


def _make(
    source: PairSource, run: "StemRunner", folder: Path, manifest: Manifest, shards: Sequence[int], workers: int
) -> set[str]:
    """Makes shards, and tells which files could not be read."""
    skipped: set[str] = set()
    numbers = [manifest.shards()[shard] for shard in shards]
    chunks = [[pairs[i : i + AT_ONCE] for i in range(0, len(pairs), AT_ONCE)] for pairs in numbers]
    made = load_as(run, source, [chunk for shard in chunks for chunk in shard], workers)
    with closing(made) as results, bar("preparing", sum(map(len, numbers)), "pairs") as advance:
        for shard, expected in zip(shards, chunks, strict=True):
            parts: list[Features] = []
            for chunk in expected:
                parts.append(next(results))
                skipped.update(parts[-1].skipped)
                for _ in chunk:
                    advance()
            _save(shard_path(folder, shard), parts)
    return skipped


@dataclass(frozen=True)
class Features:
    """What a shard holds of a few pairs, and the files that could not be read while they were drawn.

    Tensors, not arrays: they come from workers through shared memory. A worker that is about to send them through a
    pipe would wait without end if this process were killed.
    """

    tensors: dict[str, Tensor]
    skipped: tuple[str, ...]


class StemRunner:
    """Takes pairs through the stem. It may travel to another process: sessions are opened where they are used."""

    def __init__(self, stem: LiteStem, config: TrainingConfig) -> None:
        network = config.network
        self._grid = network.search_grid
        self._graphs = [stem_graph(stem, size) for size in (network.template_size, network.search_size)]
        self._sessions: list[onnxruntime.InferenceSession] = []

    def __call__(self, pairs: Sequence[Pair]) -> Features:
        """The features of pairs, and what else training wants to know of them."""
        if not self._sessions:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1  # a process a core
            self._sessions = [onnxruntime.InferenceSession(graph, options) for graph in self._graphs]
        batch = collate(pairs, self._grid)
        template, search = (
            self._run(session, images)
            for session, images in zip(self._sessions, batch.inputs(brightness=True), strict=True)
        )
        tensors = {
            "template": template,
            "search": search,
            "template_box": batch.template_box,
            "search_box": batch.target.box,
            "present": batch.target.present,
        }
        return Features(tensors, batch.skipped)

    def _run(self, session: onnxruntime.InferenceSession, images: Tensor) -> Tensor:
        """Images (2, B, 3, H, W) to features (B, 2, H', W', D)."""
        (features,) = session.run(None, {"images": images.flatten(0, 1).contiguous().numpy()})
        by_modality: Tensor = torch.from_numpy(features).half().unflatten(0, (2, -1))
        return by_modality.transpose(0, 1).contiguous()


def _save(path: Path, parts: Sequence[Features]) -> None:
    tensors = {name: torch.cat([part.tensors[name] for part in parts]) for name in parts[0].tensors}
    try:
        with beside(path) as temporary:
            save_file(tensors, temporary)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
    except (OSError, SafetensorError) as error:
        raise OSError(
            f"{path}: these pairs cannot be written ({error}); make room, then run the same command again to go on"
        ) from error
