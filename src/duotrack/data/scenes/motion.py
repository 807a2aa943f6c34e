"""How things and cameras move: paths, turns and shaking as series over N frames."""

import math

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
Generator = np.random.Generator


def rotations(angles: Float64) -> Float64:
    """Rotations by angles in radians, from x to y, (N, 2, 2)."""
    c, s = np.cos(angles), np.sin(angles)
    return np.stack([np.stack([c, -s], 1), np.stack([s, c], 1)], 1)


def wander(rng: Generator, n: int, low: Float64, high: Float64, speed: float, agility: float) -> Float64:
    """A path with inertia, (N, 2), from one random aim to the next; it turns the quicker, the higher ``agility``."""
    where, aim = rng.uniform(low, high), rng.uniform(low, high)
    velocity = (aim - where) / max(float(np.hypot(*(aim - where))), 1e-6) * speed
    path = np.zeros((n, 2))
    for t in range(n):
        path[t] = where
        if np.hypot(*(aim - where)) < 8 * speed + 2:
            aim = rng.uniform(low, high)
        towards = (aim - where) / max(float(np.hypot(*(aim - where))), 1e-6)
        velocity += agility * (speed * towards - velocity) + rng.normal(0, 0.02 * speed, 2)
        where = np.clip(where + velocity, low, high)
    return path


def facing(across: Float64) -> Float64:
    """1 for things that go right, -1 left, (N,); as one turns round it looks narrow for some frames."""
    facing, now = np.zeros(len(across)), 1.0 if across[: min(10, len(across))].sum() >= 0 else -1.0
    still = 0.25 * np.abs(across).mean()
    wanted = now
    for t, value in enumerate(across):
        if abs(value) > still:
            wanted = float(np.sign(value))
        now = float(np.clip(now + 0.2 * (wanted - now) + 0.04 * np.sign(wanted - now), -1, 1))
        facing[t] = math.copysign(max(abs(now), 0.4), now)
    return facing


def smooth(rng: Generator, n: int, width: float) -> Float64:
    """Smooth noise, (N,), of deviation about 1, that changes within ``width`` frames."""
    raw = rng.standard_normal(n + 8 * math.ceil(width))
    kernel = np.exp(-0.5 * (np.arange(-3 * math.ceil(width), 3 * math.ceil(width) + 1) / width) ** 2)
    smooth = np.convolve(raw, kernel / np.sqrt((kernel**2).sum()), "valid")
    return np.asarray(smooth[:n])


def late(values: Float64, frames: float) -> Float64:
    """Values that follow others with a delay, as an operator's hand does."""
    out = np.empty_like(values)
    now = values[0]
    for t, value in enumerate(values):
        now += (value - now) / frames
        out[t] = now
    return out


def plateau(n: int, start: float, end: float, ramp: float) -> Float64:
    """0, then 1 between two shares of the time, then 0 again, (N,), with ramps of some frames."""
    t, ramp = np.arange(n), min(ramp, 0.15 * n)
    rise, fall = (t - start * n) / ramp, (end * n - t) / ramp
    return np.asarray(np.clip(np.minimum(rise, fall), 0, 1))
