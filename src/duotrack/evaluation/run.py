"""Running a tracker over a benchmark: a track for every sequence, in a folder that the same command goes on with.

    data set folder -> sequences -> one share a rank -> those without a track -> one share a worker -> tracks, run.json

A rank is a process that ``torchrun`` (or anything else that sets RANK and WORLD_SIZE) started, perhaps on another
machine; a worker is a process that a rank starts. Shares are fixed by the lengths of the sequences. A sequence is
tracked alone, from its official first box, frame by frame, by a tracker with a fixed number of threads: who tracks it,
and what was tracked before, leaves no trace in its boxes.

A track appears under its name only when whole, so that there is nothing to repair after a kill: what has a whole track
is skipped. ``run.json`` says which tracker, settings and versions a folder belongs to, and anything else is refused.
"""

import json
import os
import pickle
import platform
import signal
import threading
import time
import traceback
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import cv2
import numpy as np

from duotrack import __version__, pretrained, tracking
from duotrack.crops import Box
from duotrack.data.datasets import Layout, count, find_sequences, first_box
from duotrack.data.recordings import open_sequence
from duotrack.evaluation.benchmark import GroundTruth, load_ground_truth
from duotrack.processor import usable_cores
from duotrack.progress import bar
from duotrack.results import Track, write_atomically
from duotrack.sequence import Frame
from duotrack.sessions.base import Precision
from duotrack.tracking import Backend, Estimate

RUN = "run.json"
"""What a run folder says of itself; it has no track of this name."""


class Tracker(Protocol):
    """What can be run: :class:`duotrack.Tracker`, or any other object with these two methods."""

    def initialize(self, frame: Frame, box: Box, /) -> None:
        """Shows the target: a frame and its box there, x, y, w, h in pixels. Forgets everything before."""

    def update(self, frame: Frame, /) -> Estimate:
        """Finds the target in the next frame. A tracker without scores gives NaN for them."""
        ...


@dataclass(frozen=True)
class Pretrained:
    """Makes duotrack's own tracker, in whichever process calls it.

    Attributes:
        weights: the name of shipped weights, or a weights folder.
        backend: as in :meth:`duotrack.Tracker.from_pretrained`. PyTorch takes a GPU where there is one: under
            ``torchrun`` the one of its local rank.
        precision: as there.
        threads: of the runtime. PyTorch's boxes depend on it in the last digits, onnxruntime's did not where this was
            measured: it is a setting of the run, and never chosen by the machine. A worker for each core is faster
            than a worker with many threads.
    """

    weights: str | Path = "duotrack-tiny"
    backend: Backend = "auto"
    precision: Precision = "fp32"
    threads: int = 1

    def __call__(self) -> tracking.Tracker:
        """A tracker with its own session."""
        return tracking.Tracker.from_pretrained(
            self.weights,
            backend=self.backend,
            precision=self.precision,
            device=self._device(),
            threads=self.threads,
        )

    def about(self) -> dict[str, Any]:
        """What decides the boxes, for :func:`run_tracker`.

        Raises:
            FileNotFoundError: if there are no such weights.
            ModuleNotFoundError: if PyTorch or OpenVINO is needed and not installed.
            ValueError: if the weights folder is damaged.
        """
        folder = pretrained.locate(self.weights)
        crops = pretrained.read_config(folder).crops
        backend = tracking.choose_backend(folder, self.backend)
        if backend == "onnx":
            import onnxruntime

            runtime = {"onnxruntime": onnxruntime.__version__}
        elif backend == "openvino":
            from importlib import import_module
            from importlib.metadata import version

            import_module("duotrack.sessions.openvino")  # where the extra is missing, it says what to install
            runtime = {"openvino": version("openvino")}
        else:
            import torch

            runtime = {"torch": str(torch.__version__)}
        eight_bits = self.precision == "int8"
        fingerprint = (
            pretrained.sha256(folder / pretrained.INT8_GRAPH) if eight_bits else pretrained.fingerprint(folder)
        )
        device = (self._device() or "cpu").partition(":")[0]  # cuda: the ranks have one each
        return {
            "weights": {
                "name": str(self.weights),
                "sha256": fingerprint,
                "config_sha256": pretrained.sha256(folder / pretrained.CONFIG),
            },
            "settings": {
                "backend": backend,
                "precision": self.precision,
                "device": device,
                "threads": self.threads,
                "crops": asdict(crops),
            },
            "versions": runtime,
        }

    def _device(self) -> str | None:
        """Where PyTorch runs in this process; None where it is not used."""
        if tracking.choose_backend(pretrained.locate(self.weights), self.backend) != "torch":
            return None
        import torch

        if not torch.cuda.is_available():
            return "cpu"
        return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"


@dataclass(frozen=True)
class Outcome:
    """What a run has come to.

    Attributes:
        output: the run folder.
        sequences: number of sequences that were asked for.
        tracked: how many of them have a whole track now, whoever made it.
        failed: why this process has no track of a sequence: reasons by name.
        frames: in the whole tracks.
        seconds: what these frames took, reading them included, added up over all processes.
    """

    output: Path
    sequences: int
    tracked: int
    failed: Mapping[str, str]
    frames: int
    seconds: float

    @property
    def fps(self) -> float | None:
        """Frames per second of one process; None without a frame."""
        return self.frames / self.seconds if self.seconds else None

    def reasons(self) -> dict[str, list[str]]:
        """The sequences that failed, by reason."""
        names: dict[str, list[str]] = {}
        for name, reason in self.failed.items():
            names.setdefault(reason, []).append(name)
        return names


def run_tracker(
    make_tracker: Callable[[], Tracker],
    about: Mapping[str, Any],
    dataset: str,
    data: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    subset: Collection[str] | None = None,
    workers: int = 1,
) -> Outcome:
    """Runs a tracker over a benchmark, or goes on where that was stopped.

    Any tracker will do. With ``mine.py``::

        import numpy as np
        from duotrack.evaluation.run import run_tracker
        from duotrack.tracking import Estimate

        class Still:
            def initialize(self, frame, box):
                self.box = box

            def update(self, frame):
                return Estimate(self.box, score=np.nan)

        if __name__ == "__main__":  # worker processes import this file
            run_tracker(Still, {"name": "still", "version": 1}, "gtot", "GTOT", "runs/still", workers=4)

    Args:
        make_tracker: called once in every process; with several workers it must be picklable: a class, a function of a
            module, a :class:`Pretrained`.
        about: which tracker this is: everything that decides its boxes (name, hash of its weights, settings, versions
            of what computes them), as JSON can hold it. A folder of a run with other values is refused.
        dataset: name of a benchmark (:data:`duotrack.evaluation.benchmark.BENCHMARKS`).
        data: the data set folder.
        output: the run folder, made where it is missing: ``NAME.txt`` and ``NAME.json`` for every sequence
            (:class:`duotrack.results.Track`), and ``run.json``. Ranks share it.
        subset: names of the sequences to track; by default all. A later run may add others to the same folder.
        workers: processes. The tracks do not depend on their number.

    Returns:
        What has come of it. A sequence that cannot be read or tracked does not stop the others.

    Raises:
        KeyboardInterrupt: after SIGINT or SIGTERM; it says how much is done. No worker is left behind.
        OSError: if the data set or the run folder cannot be read or written.
        ValueError: if the data set is unknown or not there, the folder belongs to another run, or the tracker cannot
            be made.
    """
    rank, ranks = rank_from_environment()
    if workers < 1:
        raise ValueError(f"workers is {workers}: at least one process has to track")
    output = Path(output)
    truth = load_ground_truth(dataset, data).select(subset)
    facts = _begin(output, _facts(truth.benchmark.name, about), len(truth.names))
    # By the annotation, which is the same for all ranks, whatever their copies of the images lack.
    ours = share({name: len(truth.visible[name]) for name in truth.names}, ranks)[rank]
    tasks, unreadable = _plan(truth, find_sequences(data, truth.benchmark.layout), facts)
    left = [task for task in tasks if task.name in ours and _load(output, task) is None]
    failed = {name: reason for name, reason in unreadable.items() if name in ours}
    try:
        with (
            _terminable(),
            _bar(left, hidden=rank > 0) as advance,
            closing(_events(make_tracker, left, output, workers)) as events,
        ):
            for event in events:
                if event.kind == "frame":
                    advance()
                elif event.kind == "failed":
                    failed[event.sequence] = event.reason
    except KeyboardInterrupt:
        done = sum(_load(output, task) is not None for task in tasks if task.name in ours)
        raise KeyboardInterrupt(f"{done} of {len(ours)} sequences are tracked. The same command goes on.") from None
    return _finish(output, facts, tasks, len(truth.names), failed)


def rank_from_environment() -> tuple[int, int]:
    """The number of this process and how many there are, as ``torchrun`` says it in RANK and WORLD_SIZE; else 0, 1.

    Raises:
        ValueError: if the two variables do not fit together.
    """
    texts = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    if not all(text.isdecimal() for text in texts) or not int(texts[0]) < int(texts[1]):
        raise ValueError(
            f"RANK is {texts[0]!r} and WORLD_SIZE {texts[1]!r} in the environment: expected whole numbers, the rank "
            "below the size. Start this with torchrun, or unset both."
        )
    return int(texts[0]), int(texts[1])


# What there is to do


@dataclass(frozen=True)
class Task:
    """A sequence to be tracked: where it lies, how many frames it has, and what its track shall say of its making."""

    name: str
    folder: Path
    layout: Layout
    frames: int
    box: tuple[float, ...]
    info: Mapping[str, Any]


def share(lengths: Mapping[str, int], number: int) -> list[list[str]]:
    """Divides sequences into shares of nearly equal length: the longest first, each to the share that is shortest.

    Args:
        lengths: frames by name of the sequence.
        number: of shares.

    Returns:
        Names, each in one share. Equal lengths give equal shares wherever they are computed.
    """
    shares: list[list[str]] = [[] for _ in range(number)]
    totals = [0] * number
    for name in sorted(lengths, key=lambda name: (-lengths[name], name)):
        shortest = totals.index(min(totals))
        shares[shortest].append(name)
        totals[shortest] += lengths[name]
    return shares


def _plan(
    truth: GroundTruth, folders: Mapping[str, Path], facts: Mapping[str, Any]
) -> tuple[list[Task], dict[str, str]]:
    """The sequences that can be tracked, and why others cannot. No image is read."""
    tasks, unreadable = [], {}
    for name in truth.names:
        try:
            tasks.append(_task(truth, name, folders, facts))
        except (OSError, ValueError) as error:
            unreadable[name] = str(error)
    return tasks, unreadable


def _task(truth: GroundTruth, name: str, folders: Mapping[str, Path], facts: Mapping[str, Any]) -> Task:
    if name not in folders:
        raise ValueError(f"{truth.source} has its annotation, but no folder {name} with its images")
    if f"{name}.json" == RUN:
        raise ValueError(f"{folders[name]} cannot be tracked under this name, which {RUN} needs: rename the folder")
    folder, layout = folders[name], truth.benchmark.layout
    frames, box = count(folder, layout).frames, tuple(first_box(folder, layout).tolist())
    if not np.isfinite(box).all():
        raise ValueError(f"the first box of {folder} is {box}: four finite numbers are needed to start a tracker")
    info = {key: value for key, value in facts.items() if key != "dataset"}
    info["source"] = {"dataset": facts["dataset"], "sequence": name}
    info["settings"] = {**facts.get("settings", {}), "box": list(box)}
    return Task(name, folder, layout, frames, box, info)


def _load(output: Path, task: Task) -> Track | None:
    """The track of a sequence if it is whole, and of this run."""
    try:
        track = Track.load(output / f"{task.name}.txt")
    except (OSError, ValueError):
        return None
    return track if len(track) == task.frames and track.info == task.info else None


# The work


@dataclass(frozen=True)
class Event:
    """What a worker tells of a sequence: it is begun, a frame more is done, its track is whole, or why it has none.

    ``broken`` is of no sequence: the worker cannot go on at all.
    """

    kind: Literal["begun", "frame", "whole", "failed", "broken"]
    sequence: str = ""
    reason: str = ""


def _events(
    make_tracker: Callable[[], Tracker], tasks: Sequence[Task], output: Path, workers: int
) -> Generator[Event, None, None]:
    """Tracks sequences, here or in processes of their own."""
    if workers == 1:
        return _work(make_tracker, tasks, output)
    by_name = {task.name: task for task in tasks}
    shares = share({task.name: task.frames for task in tasks}, workers)
    return _gather(make_tracker, [[by_name[name] for name in names] for names in shares if names], output)


def _work(make_tracker: Callable[[], Tracker], tasks: Sequence[Task], output: Path) -> Generator[Event, None, None]:
    """Tracks one sequence after the other. Only what would stop every sequence, such as a full disk, is raised."""
    if not tasks:
        return
    tracker = make_tracker()
    for task in tasks:
        yield Event("begun", task.name)
        try:
            track = yield from _follow(tracker, task)
        except (OSError, ValueError) as error:
            yield Event("failed", task.name, str(error))
        except Exception:  # a tracker may raise anything, and its author needs to see where
            yield Event("failed", task.name, traceback.format_exc())
        else:
            track.save(output, task.name)
            yield Event("whole", task.name)


def _follow(tracker: Tracker, task: Task) -> Generator[Event, None, Track]:
    """Tracks a sequence: reads a frame, takes its box, forgets it."""
    boxes, scores, milliseconds = [], [], []
    with open_sequence(task.folder, task.layout) as sequence:
        started = time.perf_counter()
        for index, frame in enumerate(sequence):
            if index == 0:
                tracker.initialize(frame, np.array(task.box))
                estimate = Estimate(np.array(task.box), 1.0)
            else:
                estimate = tracker.update(frame)
            boxes.append(np.array(estimate.box, np.float64))  # a copy: the tracker may go on with its own
            scores.append(float(estimate.score))
            milliseconds.append(1000 * (time.perf_counter() - started))
            yield Event("frame", task.name)
            started = time.perf_counter()
    return Track(np.array(boxes), np.array(scores), np.array(milliseconds), dict(task.info))


@dataclass
class _Worker:
    """A worker process, as its parent knows it: the sequences without an outcome yet, and the one it is at."""

    process: BaseProcess
    pending: list[str]
    current: str = ""

    def note(self, event: Event) -> None:
        self.current = event.sequence
        if event.kind in ("whole", "failed"):
            self.pending.remove(event.sequence)

    def death(self) -> str:
        """Why there will be no outcome of what is pending."""
        self.process.join(10)
        code = self.process.exitcode
        how = f"ended with status {code}; what it printed says why"
        if code is not None and code < 0:
            how = f"was killed by signal {-code}; if memory has run out, take fewer workers"
        return f"worker process {self.process.pid}, when it was at {self.current or 'the start'}, {how}"


def _gather(
    make_tracker: Callable[[], Tracker], parts: Sequence[Sequence[Task]], output: Path
) -> Generator[Event, None, None]:
    """Tracks each part in a process of its own. However this ends, no process is left."""
    workers: dict[Connection, _Worker] = {}
    try:
        with _uninterrupted():
            for part in parts:
                connection, worker = _start(make_tracker, part, output)
                workers[connection] = worker
        while workers:
            for ready in wait(list(workers)):
                connection = cast(Connection, ready)
                worker = workers[connection]
                try:
                    event: Event = connection.recv()
                except (EOFError, OSError):  # the process has ended, one way or the other
                    del workers[connection]
                    reason = worker.death()
                    yield from [Event("failed", name, reason) for name in worker.pending]
                    continue
                if event.kind == "broken":
                    raise ValueError(f"worker process {worker.process.pid} cannot go on: {event.reason}")
                worker.note(event)
                yield event
    finally:
        for worker in workers.values():
            worker.process.terminate()
        for worker in workers.values():
            worker.process.join(5)
            worker.process.kill()


def _start(make_tracker: Callable[[], Tracker], part: Sequence[Task], output: Path) -> tuple[Connection, _Worker]:
    context = get_context("spawn")  # a fork would inherit the threads of OpenCV and of the runtimes, half alive
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_worker, args=(theirs, make_tracker, part, output))
    try:
        process.start()
    except (AttributeError, TypeError, pickle.PicklingError) as error:
        raise ValueError(
            f"the tracker cannot be made in other processes ({error}): expected a class or a function of a module; "
            "anything runs with workers=1"
        ) from error
    theirs.close()  # so that the end of the process is the end of the pipe
    return ours, _Worker(process, [task.name for task in part])


def _worker(connection: Connection, make_tracker: Callable[[], Tracker], part: Sequence[Task], output: Path) -> None:
    """The life of a worker process. It ends with its work, or with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent ends this one
    cv2.setNumThreads(1)  # the other cores have workers of their own
    try:
        for event in _work(make_tracker, part, output):
            connection.send(event)
    except BrokenPipeError:
        return  # the parent is gone
    except Exception as error:
        connection.send(Event("broken", reason=str(error) or repr(error)))


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C is ignored meanwhile, and for good by processes that start: one that is starting would print its stack."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _terminable() -> Iterator[None]:
    """Makes SIGTERM end the work as Ctrl-C does. Python can do so in the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _bar(tasks: Sequence[Task], *, hidden: bool) -> AbstractContextManager[Callable[[], None]]:
    frames = sum(task.frames for task in tasks)
    if hidden or not frames:
        return nullcontext(lambda: None)
    return bar(f"tracking {len(tasks)} sequences", frames)


# The run folder


def _facts(dataset: str, about: Mapping[str, Any]) -> dict[str, Any]:
    """What a run folder belongs to, as JSON gives it back.

    Raises:
        ValueError: if ``about`` is not for JSON, or has a name that the run or its tracks use.
    """
    for name in about:
        if name in _TAKEN:
            raise ValueError(f"about has the key {name!r}, which a run uses itself: rename it")
    versions = {"duotrack": __version__, "numpy": np.__version__, "opencv": cv2.__version__}
    facts = {"dataset": dataset, **about, "versions": {**versions, **about.get("versions", {})}}
    try:
        return _as_json(facts)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"about cannot be written as JSON ({error}): use text, numbers, lists, dictionaries"
        ) from error


def _as_json(value: Mapping[str, Any]) -> dict[str, Any]:
    """The same once written and read, with lists for tuples."""
    result: dict[str, Any] = json.loads(json.dumps(value, allow_nan=False))
    return result


_STATE = ("python", "machine", "sequences", "tracked", "frames", "seconds", "fps", "failed")
"""What ``run.json`` says beyond what the folder belongs to: of this machine, and of how far the run is."""

_TAKEN = {"dataset", "source", "scores", "milliseconds", *_STATE}


def _begin(output: Path, facts: dict[str, Any], sequences: int) -> dict[str, Any]:
    """Makes the run folder, or recognises it.

    Returns:
        What the folder belongs to: ``facts``, with the name under which the weights were first given.

    Raises:
        ValueError: if it belongs to another run, or to none.
    """
    path = output / RUN
    # Listed before the look for run.json, which another rank may be writing.
    strangers = [each for each in output.iterdir() if not each.name.startswith(".")] if output.is_dir() else []
    if path.is_file():
        recorded = {key: value for key, value in _read(path).items() if key not in _STATE}
        if found := list(_differences(recorded, facts)):
            raise ValueError(
                f"{output} is the folder of another run, and runs are never mixed: {'; '.join(found)}. Name another "
                "folder, or go on with what it was begun with."
            )
        return recorded
    if strangers:
        raise ValueError(f"{output} is not empty and has no {RUN}, so it is not a run folder: name another")
    _write(output, facts, sequences=sequences)
    return facts


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}): name another run folder") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged (no object in it): name another run folder")
    return content


def _write(output: Path, facts: Mapping[str, Any], **state: Any) -> None:
    here = {"python": platform.python_version(), "machine": f"{platform.platform()}, {usable_cores()} cores"}
    write_atomically(output / RUN, json.dumps({**facts, **here, **state}, indent=2, allow_nan=False) + "\n")


def _differences(there: object, here: object, place: str = "") -> Iterator[str]:
    """What two runs do not have in common. The name of weights may change, with their folder; their hash may not."""
    if isinstance(there, dict) and isinstance(here, dict):
        for key in (*there, *(key for key in here if key not in there)):
            below = f"{place}.{key}" if place else str(key)
            if below != "weights.name":
                yield from _differences(there.get(key), here.get(key), below)
    elif there != here:
        yield f"{place} is {there!r} there and {here!r} now"


def _finish(
    output: Path, facts: Mapping[str, Any], tasks: Sequence[Task], sequences: int, failed: Mapping[str, str]
) -> Outcome:
    """Counts what is whole, whoever made it, and completes ``run.json``. Sweeps up after kills when nobody writes."""
    tracks = {task.name: track for task in tasks if (track := _load(output, task)) is not None}
    frames = sum(map(len, tracks.values()))
    seconds = sum(float(np.nansum(track.milliseconds)) for track in tracks.values()) / 1000
    outcome = Outcome(output, sequences, len(tracks), failed, frames, seconds)
    state = {name: getattr(outcome, name) for name in ("sequences", "tracked", "frames", "seconds", "fps")}
    everywhere = {**_read(output / RUN).get("failed", {}), **failed}  # other ranks have said theirs there
    _write(output, facts, **state, failed={name: why for name, why in everywhere.items() if name not in tracks})
    if len(tracks) == sequences:
        for partial in output.glob(".*.part.*"):
            if not partial.name.startswith(".run."):  # that of another rank
                partial.unlink(missing_ok=True)
    return outcome
