"""Pairs to batches: stacked, with heat maps, loaded by worker processes."""

import signal
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from duotrack.crops import heatmap
from duotrack.data.augment import Pair
from duotrack.losses import Target
from duotrack.model.normalization import normalize
from duotrack.training.config import TrainingConfig
from duotrack.training.prepared import PreparedPair

T = TypeVar("T")
P = TypeVar("P", bound=Pair | PreparedPair)
P_co = TypeVar("P_co", bound=Pair | PreparedPair, covariant=True)
PREFETCHED = 4  # batches that each worker prepares ahead


class Pairs(Protocol[P_co]):
    """A stream of pairs, each of which follows from its number."""

    def pair(self, index: int, /) -> P_co:
        """Pair ``index`` (0 or more)."""
        ...


@dataclass(frozen=True)
class Batch:
    """Pairs as tensors; modalities on axis 0 of the crops, uint8 (2, B, H, W, 3), or of what the stem made of them,
    float16 (2, B, H, W, D), where pairs are prepared.

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

    def inputs(self, *, brightness: bool = False) -> tuple[Tensor, Tensor]:
        """Template and search as networks take them, float32 (2, B, D, H, W): normalised images, or features.

        Args:
            brightness: whether images get the drawn brightness; only training wants it.
        """
        crops = (self.template, self.search)
        if self.search.dtype == torch.uint8:
            factors = self.brightness.unbind(1) if brightness else (None, None)
            template, search = (normalize(images, factor) for images, factor in zip(crops, factors, strict=True))
        else:
            template, search = (features.float().movedim(-1, -3) for features in crops)
        return template, search

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


def load(source: Pairs[P], config: TrainingConfig, batches: Sequence[range]) -> Generator[Batch, None, None]:
    """Loads pairs by their numbers, a batch for each range; as :func:`load_as`."""
    return load_as(partial(collate, grid=config.network.search_grid), source, batches, config.workers)


def load_as(
    make: Callable[[list[P]], T], source: Pairs[P], batches: Sequence[range], workers: int
) -> Generator[T, None, None]:
    """Loads pairs by their numbers; to be closed where not all of them are taken.

    Args:
        make: makes one thing of the pairs of each range, in the process that drew them.
        source: draws them.
        batches: the ranges.
        workers: processes; 0 for this one.

    Raises:
        ValueError: if the data cannot be used, in the words of the source also where a worker process met it.
        OSError: if a worker process was killed.
    """
    loader: DataLoader[Any] = DataLoader(
        _Pairs(source),
        batch_sampler=[list(batch) for batch in batches],
        num_workers=workers,
        collate_fn=make,
        prefetch_factor=PREFETCHED if workers else None,
        worker_init_fn=_quiet_worker,
    )
    loaded = iter(loader)
    try:
        yield from loaded
    except ValueError as error:
        if not workers:
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
        if workers:
            loaded._shutdown_workers()  # type: ignore[attr-defined]  # only the iterator of workers has it


def collate(pairs: Sequence[Pair | PreparedPair], grid: int) -> Batch:
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


class _Pairs(Dataset[P]):
    """Pairs by their number."""

    def __init__(self, source: Pairs[P]) -> None:
        self.source = source

    def __getitem__(self, index: int) -> P:
        return self.source.pair(index)


def _quiet_worker(worker: int) -> None:
    # The main process saves and says goodbye; workers end with it, also where every process gets the signal.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
