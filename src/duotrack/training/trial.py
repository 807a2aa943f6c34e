"""A trial of a recipe before it runs for days: is everything there, does a step work, what will it cost?"""

import sys
import time
from contextlib import closing
from pathlib import Path

import torch

from duotrack.training import checkpoint, distributed
from duotrack.training.batches import load
from duotrack.training.config import TrainingConfig
from duotrack.training.engine import held_out, open_pairs, parts_of, prepare, train_step
from duotrack.training.validation import open_clips

STEPS = 3  # beside the first, which is slower than all others


def dry_run(config: TrainingConfig) -> dict[str, object]:
    """Opens data and start weights, takes a few real steps and forgets them; nothing is left in the output folder.

    Returns:
        Facts for people and JSON: sizes, seconds a step and for the whole run (validation not counted), the largest
        memory of this process, and what is written to the disk.

    Raises:
        ValueError: what a run would raise; so are the other errors of :func:`duotrack.training.engine.train`.
    """
    with distributed.join() as group:
        output = Path(config.output)
        network, optimizer, precision = prepare(config, group)
        size, room = checkpoint.size(network, optimizer), checkpoint.room(network, optimizer)
        if group.rank == 0:
            checkpoint.check_room(output, room)
        source = open_pairs(config, network)
        held_out(source, config).pair(0)
        clips = open_clips(config)
        steps = [parts_of(config, step, group) for step in range(1 + STEPS)]
        seconds, skipped = [], set()
        with closing(load(source, config, [part for step in steps for part in step])) as batches:
            for step, parts in enumerate(steps):
                work = [next(batches) for _ in parts]
                skipped |= {path for part in work for path in part.skipped}
                started = time.monotonic()
                train_step(network, optimizer, work, config, step, precision, group)
                _wait_for(next(network.parameters()).device)
                seconds.append(time.monotonic() - started)
        fresh = parts_of(config, len(steps), group)[0]  # others lie in the memory of the system by now
        started = time.monotonic()
        for number in fresh:
            source.pair(number)
        pair = (time.monotonic() - started) / len(fresh)
        step_seconds = min(seconds[1:])
        share = config.batch_size // group.size
        data_seconds = pair * share / max(1, config.workers)
        # Workers prepare batches while the network computes; without workers one waits for the other.
        whole = max(step_seconds, data_seconds) if config.workers else step_seconds + data_seconds
        trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
        device = next(network.parameters()).device
        return {
            "device": str(device),
            "precision": precision.name,
            "parameters": {"all": sum(p.numel() for p in network.parameters()), "trained": trained},
            "batch": {
                "pairs": config.batch_size,
                "processes": group.size,
                "parts_of_each_process": len(steps[0]),
                "pairs_at_once": len(steps[0][0]),
            },
            "seconds_per_step": {"network": round(step_seconds, 3), "data": round(data_seconds, 3)},
            "steps": config.total_steps,
            "hours_for_the_run": round(whole * config.total_steps / 3600, 2),
            "memory_in_GB": {name: round(value / 1e9, 2) for name, value in _memory(device).items()},
            "disk_in_GB": {"checkpoint": round(size / 1e9, 3), "all": round(room / 1e9, 3)},
            "validation_clips": len(clips),
            "files_that_could_not_be_read": sorted(skipped),
        }


def _memory(device: torch.device) -> dict[str, int]:
    """The largest amounts of memory that this process has used so far, in bytes."""
    used = {}
    if sys.platform != "win32":  # which has no such figure
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        used["process"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    if device.type == "cuda":
        used["gpu"] = torch.cuda.max_memory_allocated(device)
    return used


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
