"""Data-parallel training: several processes, each with a part of every batch, that agree on one gradient.

Started by ``torchrun``; without it there is one process. On a CPU, one single-threaded process a core is faster than
one process with many threads, which wait for each other after every small operation.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed
from torch import nn


@dataclass(frozen=True)
class Group:
    """The processes that train together: this one's number, and how many there are."""

    rank: int = 0
    size: int = 1

    def part(self, batch: range) -> range:
        """This process's share of a batch."""
        if len(batch) % self.size:
            raise ValueError(f"a batch of {len(batch)} pairs cannot be shared equally by {self.size} processes")
        share = len(batch) // self.size
        return batch[self.rank * share : (self.rank + 1) * share]

    def average_gradients(self, network: nn.Module) -> None:
        """Replaces the gradients of all processes by their mean."""
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
        together = torch.cat([gradient.flatten() for gradient in gradients])
        torch.distributed.all_reduce(together)
        parts = (together / self.size).split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process: all get the same answer."""
        if self.size == 1:
            return flag
        flags = torch.tensor(float(flag))
        torch.distributed.all_reduce(flags)
        return bool(flags > 0)


@contextmanager
def join() -> Iterator[Group]:
    """Joins the processes that ``torchrun`` started, or none."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Group()
        return
    torch.distributed.init_process_group("gloo" if not torch.cuda.is_available() else "nccl")
    try:
        yield Group(torch.distributed.get_rank(), size)
    finally:
        torch.distributed.destroy_process_group()
