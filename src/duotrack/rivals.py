"""Which peak of a score map is the target, where other things look like it.

To the network two people who cross are much the same. So whatever else stands out in the score map is followed too, as
a rival, and what each of them looks like is remembered:

    peaks --each to the target, to a rival or to nobody, by score, by the distance from where one was going,
            and by how far what is in the box is from what is remembered--> the target's peak

A rival that is left without a peak beside the target is thought to hide there: both are one peak now. It tells how they
move together, their velocities how they pass each other until they part. So a moving camera does no harm.

Following distractors to know what not to track is the idea of Mayer et al., "Learning Target Candidate Association to
Keep Track of What Not to Track", ICCV 2021; here motion and memory do it, without a network of their own. Not in the
paper.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import product

import cv2
import numpy as np
import numpy.typing as npt

from duotrack.appearance import Appearance, Memory
from duotrack.boxes import iou, xywh_to_xyxy
from duotrack.crops import Box

Floats = npt.NDArray[np.float32]
Point = npt.NDArray[np.float64]

Describe = Callable[[list[Box]], list[Appearance]]
"""What is in some boxes of the frame that is looked at."""

# Lengths are in sides of the target, sqrt(w h). Chosen on rendered scenes that are in no test set.
FLOOR, SHARE = 0.08, 0.2  # a peak has at least this score, and this share of the highest
MOST = 4  # peaks, and rivals, that are looked at
KNOWN = 3  # frames that a rival must have been seen for before it has a say
SPREAD = 0.3  # standard deviation of where one is around where it was going
MISSED = 0.05  # what a rival without a peak counts, as a score
BESIDE = 0.6  # a rival that vanished within this distance of the target hides there ...
HIDDEN = 25  # ... for this many frames; elsewhere it is forgotten after FORGOTTEN
FORGOTTEN = 5
SAME = 0.6  # overlap of boxes from which two peaks are one thing
INERTIA = 0.85  # of the velocity, frame by frame
ALIKE = 0.4  # distance of appearances that says nothing; one that is nearer speaks for a peak ...
WEIGHT = 20.0  # ... with this weight
LEARNED = 3  # times that one must have been seen for its appearance to count
ALONE = 0.05  # overlap with other peaks up to which a box shows one thing
EVERY = 3  # frames in which a target without rivals is looked at once


@dataclass(frozen=True, eq=False)
class Peak:
    """A place where the target may be: its box in the image, the raw score there, the windowed one, what is in it."""

    box: Box
    score: float
    windowed: float
    appearance: Appearance | None = None


@dataclass(eq=False)
class Mover:
    """Something that is followed: its centre and its velocity a frame, in pixels; seen and missed in frames."""

    center: Point
    velocity: Point = field(default_factory=lambda: np.zeros(2))
    seen: int = 1
    missed: int = 0
    memory: Memory | None = None

    @property
    def expected(self) -> Point:
        """Where it should be in the next frame."""
        return self.center + self.velocity

    def move(self, center: Point) -> None:
        """It was seen there."""
        self.velocity = INERTIA * self.velocity + (1 - INERTIA) * (center - self.center)
        self.center, self.seen, self.missed = center, self.seen + 1, 0

    def coast(self) -> None:
        """It was not seen, and is thought to go on as it went."""
        self.center, self.missed = self.expected, self.missed + 1

    def distance(self, peak: Peak) -> float | None:
        """How far what is in a peak's box is from what it has looked like; None where either is unknown."""
        if self.memory is None or self.memory.seen < LEARNED or peak.appearance is None:
            return None
        return self.memory.distance(peak.appearance)

    def learn(self, appearance: Appearance) -> None:
        """It looks like that, too."""
        if self.memory is None:
            self.memory = Memory(appearance)
        else:
            self.memory.add(appearance)


class Rivals:
    """The target of a track and what looks like it, from frame to frame.

    Args:
        box: of the target in the first frame, x, y, w, h in pixels.
        appearance: what is in it; without, motion alone tells the target from its rivals.
    """

    def __init__(self, box: Box, appearance: Appearance | None = None) -> None:
        self.target = Mover(_center(box), memory=None if appearance is None else Memory(appearance))
        self.rivals: list[Mover] = []
        self._peak = self.target.center  # that was the target's in the last frame
        self._frames = 0

    def restart(self, box: Box) -> None:
        """The target was lost and is found again: what it looks like is still known, its rivals are not."""
        self.target, self.rivals = Mover(_center(box), memory=self.target.memory), []
        self._peak = self.target.center

    def settle(self, peaks: Sequence[Peak], last: Box, describe: Describe | None = None) -> tuple[Box, float]:
        """Finds the target among the peaks of the next frame.

        Args:
            peaks: one or more.
            last: the target's last box.
            describe: what is in boxes of this frame; asked where the target's appearance is known.

        Returns:
            The target's box, x, y, w, h in pixels, and the raw score of its peak.
        """
        side = float(np.sqrt(last[2] * last[3]))
        peaks = _distinct(peaks)
        known = [rival for rival in self.rivals if rival.seen >= KNOWN]
        self._frames += 1
        if describe and self.target.memory and (known or len(peaks) > 1 or self._frames % EVERY == 0):
            contents = describe([peak.box for peak in peaks])
            peaks = [replace(peak, appearance=content) for peak, content in zip(peaks, contents, strict=True)]
        chosen, taken = self._assign(peaks, known, side)
        center = _center(chosen.box)
        hidden = self._follow(known, taken, [_center(p.box) for p in peaks if p not in (chosen, *taken)], center, side)
        self._learn(chosen, dict(zip(known, taken, strict=True)), peaks, hidden)
        moved, self._peak = center - self._peak, center
        if not hidden:
            self.target.move(center)
            return chosen.box, chosen.score
        self.target.coast()
        together = [self.target, *hidden]
        drift = moved - np.mean([mover.velocity for mover in together], 0)
        for mover in together:
            mover.center = mover.center + drift
        return np.concatenate([center - last[2:] / 2, last[2:]]), chosen.score

    def _assign(self, peaks: list[Peak], known: list[Mover], side: float) -> tuple[Peak, list[Peak | None]]:
        """The peaks of the target and of each known rival, the likeliest together; None for a rival without one."""
        movers = [self.target, *known]
        expected = np.array([mover.expected for mover in movers])
        distance = np.linalg.norm(np.array([_center(peak.box) for peak in peaks]) - expected[:, None], axis=2) / side
        likely = np.log([[max(peak.score, 1e-6) for peak in peaks]] * len(movers))
        likely[0] = np.log([max(peak.windowed, 1e-6) for peak in peaks])
        nobody = np.full((len(movers), 1), np.log(MISSED))
        nobody[0] = -np.inf
        if known:  # without them the window says all that is to be said about places
            likely -= 0.5 * (distance / SPREAD) ** 2
            distances = [[mover.distance(peak) for peak in peaks] for mover in movers]
            likely -= WEIGHT * np.array([[0 if d is None else d - ALIKE for d in row] for row in distances])
        table, plans = np.concatenate([likely, nobody], 1), _plans(len(movers), len(peaks))
        best = plans[int(table[np.arange(len(movers)), plans].sum(1).argmax())]
        return peaks[best[0]], [peaks[peak] if peak < len(peaks) else None for peak in best[1:]]

    def _follow(
        self, known: list[Mover], taken: list[Peak | None], free: list[Point], target: Point, side: float
    ) -> list[Mover]:
        """Moves the rivals, forgets some and finds new ones; returns those that hide behind or before the target.

        Args:
            known: rivals that had a say.
            taken: their peaks.
            free: centres of the peaks that are nobody's.
            target: where the target is now.
            side: of the target.
        """
        hidden, kept = [], []
        for rival, peak in zip(known, taken, strict=True):
            if peak is not None:
                rival.move(_center(peak.box))
            else:
                rival.coast()
            beside = np.abs(rival.center - target).max() < BESIDE * side
            if beside and 0 < rival.missed <= HIDDEN:
                hidden.append(rival)
            if rival in hidden or rival.missed <= FORGOTTEN:
                kept.append(rival)
        for rival in self.rivals:
            near = [n for n, point in enumerate(free) if np.linalg.norm(point - rival.expected) < 2 * SPREAD * side]
            if rival.seen < KNOWN and near:
                rival.move(free.pop(near[0]))
                kept.append(rival)
        kept += [Mover(point) for point in free if np.abs(point - target).max() > side / 2]
        self.rivals = kept[:MOST]
        return hidden

    def _learn(self, chosen: Peak, taken: dict[Mover, Peak | None], peaks: list[Peak], hidden: list[Mover]) -> None:
        """Remembers what the target and the known rivals look like, each where it is alone and most like itself.

        Args:
            chosen: the target's peak.
            taken: those of the known rivals.
            peaks: all.
            hidden: rivals that hide behind or before the target.
        """
        for mover, peak in ({self.target: chosen} | taken).items():
            if peak is None or peak.appearance is None or (mover is self.target and hidden):
                continue
            own = mover.distance(peak)
            others = [other.distance(peak) for other in (taken if mover is self.target else [self.target])]
            like_itself = own is None or all(other is None or own <= other for other in others)
            if like_itself and all(other is peak or _overlap(peak.box, other.box) <= ALONE for other in peaks):
                mover.learn(peak.appearance)


def peak_cells(score: Floats, windowed: Floats, most: int) -> list[tuple[int, int]]:
    """Row and column of peaks of a score map, the highest of the windowed map first; that one always.

    The others are as high as any of their eight neighbours, and not much lower than the first (:data:`FLOOR`,
    :data:`SHARE`).

    Args:
        score: (F, F).
        windowed: (F, F), the score map multiplied with the window.
        most: how many at most.
    """
    first = divmod(int(windowed.argmax()), len(score))
    if most == 1:
        return [first]
    stands_out = score >= np.maximum(cv2.dilate(score, np.ones((3, 3), np.uint8)), max(FLOOR, SHARE * score[first]))
    stands_out[first] = False
    others = sorted(np.argwhere(stands_out).tolist(), key=lambda cell: -float(windowed[tuple(cell)]))
    return [first, *((row, col) for row, col in others[: most - 1])]


@cache
def _plans(movers: int, peaks: int) -> npt.NDArray[np.int64]:
    """Every way to give each of some movers a peak of its own or none, (P, movers).

    Peaks are counted from 0; ``peaks`` stands for none.
    """
    plans = product(range(peaks + 1), repeat=movers)
    return np.array([plan for plan in plans if len(used := [p for p in plan if p < peaks]) == len(set(used))])


def _distinct(peaks: Sequence[Peak]) -> list[Peak]:
    """The peaks without those whose box is much the same as that of one before."""
    kept: list[Peak] = []
    for peak in peaks:
        if all(_overlap(peak.box, other.box) < SAME for other in kept):
            kept.append(peak)
    return kept


def _overlap(one: Box, other: Box) -> float:
    return float(iou(*xywh_to_xyxy(np.stack([one, other]))))


def _center(box: Box) -> Point:
    return np.asarray(box[:2] + box[2:] / 2)
