"""Pairs to batches: stacked, with heat maps, loaded by worker processes."""

import signal
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from duotrack.crops import heatmap
from duotrack.data.augment import Pair
from duotrack.data.sampling import PairSource
from duotrack.losses import Target
from duotrack.training.config import TrainingConfig

PREFETCHED = 4  # batches that each worker prepares ahead


@dataclass(frozen=True)
class Batch:
    """Pairs as tensors; modalities on axis 0 of the crops, uint8 (2, B, H, W, 3).

    ``brightness`` (B, 2) has the factors of template and search. ``skipped`` names the files that could not be read
    while these pairs were drawn.
    """

    template: Tensor
    search: Tensor
    template_box: Tensor
    brightness: Tensor
    target: Target
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.brightness)

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device."""
        target = Target(self.target.box.to(device), self.target.heatmap.to(device), self.target.present.to(device))
        return Batch(
            self.template.to(device),
            self.search.to(device),
            self.template_box.to(device),
            self.brightness.to(device),
            target,
            self.skipped,
        )


def load(source: PairSource, config: TrainingConfig, batches: Sequence[range]) -> Generator[Batch, None, None]:
    """Loads pairs by their numbers, a batch for each range; to be closed where not all of them are taken.

    Raises:
        ValueError: if the data cannot be used, in the words of the source also where a worker process met it.
        OSError: if a worker process was killed.
    """
    loader: DataLoader[Any] = DataLoader(
        _Pairs(source),
        batch_sampler=[list(batch) for batch in batches],
        num_workers=config.workers,
        collate_fn=partial(collate, grid=config.network.search_grid),
        prefetch_factor=PREFETCHED if config.workers else None,
        worker_init_fn=_quiet_worker,
    )
    loaded = iter(loader)
    try:
        yield from loaded
    except ValueError as error:
        if not config.workers:
            raise
        # What comes from a worker has the worker's traceback for a message; the last line is the error itself.
        raise ValueError(str(error).rstrip().splitlines()[-1].partition(": ")[2]) from error
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker (pid"):
            raise
        raise OSError(
            f"a process that loads pairs was killed, most often because memory ran out, or shared memory where a "
            f"container has little (docker: --shm-size): set fewer workers, or workers=0 ({error})"
        ) from error
    finally:
        # torch ends the workers when it forgets the iterator, which a traceback may hold until Python's exit. There
        # they would be sent SIGTERM, which they ignore, and be waited for without end.
        if config.workers:
            loaded._shutdown_workers()  # type: ignore[attr-defined]


def collate(pairs: Sequence[Pair], grid: int) -> Batch:
    """Stacks pairs; ``grid`` is the number of cells along a side of the heat map."""
    search_box = np.stack([pair.search_box for pair in pairs])
    heatmaps = [heatmap(pair.search_box.astype(np.float64), grid) * pair.present for pair in pairs]
    return Batch(
        template=torch.from_numpy(np.stack([pair.template for pair in pairs], axis=1)),
        search=torch.from_numpy(np.stack([pair.search for pair in pairs], axis=1)),
        template_box=torch.from_numpy(np.stack([pair.template_box for pair in pairs])).float(),
        brightness=torch.from_numpy(np.stack([pair.brightness for pair in pairs])).float(),
        target=Target(
            box=torch.from_numpy(search_box).float(),
            heatmap=torch.from_numpy(np.stack(heatmaps)).unsqueeze(1),
            present=torch.tensor([pair.present for pair in pairs]),
        ),
        skipped=tuple(path for pair in pairs for path in pair.skipped),
    )


class _Pairs(Dataset[Pair]):
    """Pairs by their number."""

    def __init__(self, source: PairSource) -> None:
        self.source = source

    def __getitem__(self, index: int) -> Pair:
        return self.source.pair(index)


def _quiet_worker(worker: int) -> None:
    # The main process saves and says goodbye; workers end with it, also where every process gets the signal.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
