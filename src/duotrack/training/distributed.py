"""Data-parallel training: several processes, each with a part of every batch, that take one step together.

Started by ``torchrun``, on one machine or several; without it there is one process. On a CPU, one single-threaded
process a core is faster than one process with many threads, which wait for each other after every small operation.

Losses are shares of the whole batch's (:class:`duotrack.losses.Share`), so gradients are added up over processes and
not averaged. That is also why this is an explicit sum after the backward pass and not ``DistributedDataParallel``: with
a sum, an accumulation over parts and a division of work into processes are one and the same.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed

# Before there is a group: defaults of its functions would hold the group for ever, and its threads, which abort a
# process that ends while they run. Optimizers import it, where nobody expects it.
import torch.distributed.nn
from torch import Tensor, nn

BUCKET = 2**24  # numbers that travel together: 64 MB of float32
PATIENCE = timedelta(hours=2)  # for process 0, which validates while the others wait


@dataclass(frozen=True)
class Group:
    """The processes that train together: this one's number, its number on its machine, and how many there are."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    def device(self, name: str) -> torch.device:
        """The device of this process: ``auto`` and ``cuda`` are a GPU of its own."""
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        if name == "cuda" and self.size > 1:
            name = f"cuda:{self.local_rank}"
        return torch.device(name)

    def parts(self, batch: range, micro_batch: int | None) -> list[range]:
        """This process's share of a batch, in the parts that it computes at once.

        Raises:
            ValueError: if the batch cannot be divided so.
        """
        if len(batch) % self.size:
            raise ValueError(
                f"batch_size {len(batch)} cannot be shared equally by {self.size} processes: make it a multiple"
            )
        share = len(batch) // self.size
        part = micro_batch or share
        if share % part:
            raise ValueError(
                f"micro_batch {part} does not divide the {share} pairs that each of {self.size} processes has of a "
                f"batch_size of {len(batch)}: give a divisor of {share}"
            )
        first = self.rank * share
        return [batch[start : start + part] for start in range(first, first + share, part)]

    def sum(self, values: Tensor) -> Tensor:
        """The sum of a tensor over all processes, in place.

        Raises:
            ConnectionError: if another process is gone.
        """
        if self.size > 1:
            with _together():
                torch.distributed.all_reduce(values)
        return values

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process: all get the same answer."""
        return flag if self.size == 1 else bool(self.sum(torch.tensor(float(flag))) > 0)

    def sum_gradients(self, network: nn.Module) -> None:
        """Replaces the gradients of all processes by their sum."""
        if self.size > 1:
            self._sum([parameter.grad for parameter in network.parameters() if parameter.grad is not None])

    def average_statistics(self, network: nn.Module) -> None:
        """Replaces the running statistics of BatchNorm by their mean over all processes."""
        if self.size > 1:
            statistics = [buffer for buffer in network.buffers() if buffer.is_floating_point()]
            self._sum(statistics)
            for buffer in statistics:
                buffer /= self.size

    def follow(
        self, step: int, network: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler
    ) -> int:
        """Gives every process the weights, the optimizer's moments, the scale of fp16 and the step of process 0.

        Processes on another machine need not see its files.
        """
        if self.size == 1:
            return step
        trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        known = torch.tensor([step, *(parameter in optimizer.state for parameter in trained)])
        with _together():
            torch.distributed.broadcast(known, 0)
        for parameter, has_moments in zip(trained, known[1:].tolist(), strict=True):
            if has_moments and parameter not in optimizer.state:
                moments = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
                optimizer.state[parameter] = {"step": torch.tensor(0.0), **moments}
        states = [optimizer.state[parameter] for parameter in trained if parameter in optimizer.state]
        moments_of_all = (state[name] for state in states for name in ("step", "exp_avg", "exp_avg_sq"))
        with _together():
            for tensor in (*network.state_dict().values(), *moments_of_all):
                torch.distributed.broadcast(tensor, 0)
            if scaler.is_enabled():  # gradients are added up as they are: all need the same scale
                state = scaler.state_dict()
                scale = torch.tensor([state["scale"], state["_growth_tracker"]], dtype=torch.float64)
                torch.distributed.broadcast(scale, 0)
                scaler.load_state_dict(state | {"scale": scale[0].item(), "_growth_tracker": int(scale[1])})
        return int(known[0])

    def _sum(self, tensors: list[Tensor]) -> None:
        for bucket in _buckets(tensors):
            together = self.sum(torch.cat([tensor.flatten() for tensor in bucket]))
            for tensor, part in zip(bucket, together.split([t.numel() for t in bucket]), strict=True):
                tensor.copy_(part.view_as(tensor))


def _buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Tensors in groups of about :data:`BUCKET` numbers: few messages, little memory."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        if bucket and sum(t.numel() for t in bucket) + tensor.numel() > BUCKET:
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket


@contextmanager
def _together() -> Iterator[None]:
    """Around what all processes do at once: without one of them it fails in all others."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise ConnectionError(
            "another process of this run is gone, on this machine or another, and says why if it could; the last "
            f"checkpoint stays. Start all of them again to go on ({reason})"
        ) from error


@contextmanager
def join() -> Iterator[Group]:
    """Joins the processes that ``torchrun`` started, or none."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Group()
        return
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank % torch.cuda.device_count())
    # Both at once: weights and gradients lie on GPUs, flags and step counts on the CPU.
    backends = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    torch.distributed.init_process_group(backends, timeout=PATIENCE)
    try:
        yield Group(torch.distributed.get_rank(), size, local_rank)
    finally:
        torch.distributed.destroy_process_group()
