"""Pictures of a track: a video of both images side by side, and a plot of the score over time.

One colour stands for one thing in both: orange for the tracker, teal for the ground truth.
"""

import math
import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from duotrack.crops import Image
from duotrack.results import beside
from duotrack.sequence import Frame

Color = tuple[int, int, int]

TRACKER: Color = (255, 140, 26)
"""What the tracker says, RGB: orange, which neither grey heat nor daylight has much of."""
TRUTH: Color = (45, 212, 191)
"""The ground truth, RGB: teal."""

_STRIP: Color = (18, 20, 24)
_TROUGH: Color = (58, 62, 70)
_TEXT: Color = (236, 238, 241)
_MUTED: Color = (150, 156, 166)

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FINE = 4  # binary digits after the point in what OpenCV draws: boxes move smoothly, not from pixel to pixel


def write_video(
    path: str | os.PathLike[str],
    frames: Iterable[Frame],
    boxes: Iterable[npt.ArrayLike],
    scores: Iterable[float],
    *,
    fps: float,
    ground_truth: Iterable[npt.ArrayLike] | None = None,
    notes: Iterable[str] | None = None,
) -> None:
    """Writes an H.264 video that browsers play: the frames as :func:`draw_frame` draws them.

    Everything is taken one frame at a time: iterators will do, and memory does not grow with length.

    Args:
        path: of the mp4 file; it appears under its name when it is whole.
        frames: what was tracked; numbered from 0.
        boxes: a box (x, y, w, h) for each frame, in pixels; one with NaN is not drawn.
        scores: for each frame, 0..1 or NaN.
        fps: frames per second of the video.
        ground_truth: the true boxes, drawn thin.
        notes: a short text for each frame (may be empty), such as "hidden by smoke in visible".

    Raises:
        ValueError: if the suffix is not mp4, if there is no frame, if the inputs differ in length or if ``fps`` is
            not positive.
    """
    import av
    from av.video.reformatter import ColorRange, Colorspace

    if Path(path).suffix.lower() != ".mp4":
        raise ValueError(f"{path}: the video is H.264 in mp4, so its name has to end in .mp4")
    if not 0 < fps < math.inf:
        raise ValueError(f"fps is {fps}: expected a positive number of frames per second")
    columns: dict[str, Iterable[Any]] = {"frames": frames, "boxes": boxes, "scores": scores}
    if ground_truth is not None:
        columns["ground_truth"] = ground_truth
    if notes is not None:
        columns["notes"] = notes

    with beside(path) as temporary, av.open(str(temporary), "w", options={"movflags": "+faststart"}) as container:
        stream = None
        for number, row in enumerate(_rows(columns)):
            picture = draw_frame(
                row["frames"],
                row["boxes"],
                row["scores"],
                number=number,
                ground_truth=row.get("ground_truth"),
                note=row.get("notes", ""),
            )
            if stream is None:
                stream = container.add_stream(
                    "libx264", rate=Fraction(fps).limit_denominator(1001), options={"crf": "20", "preset": "veryfast"}
                )
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt = "yuv420p"
                # Said in the file, or players guess the colours from the size of the picture.
                stream.codec_context.colorspace = Colorspace.ITU709
                stream.codec_context.color_range = ColorRange.MPEG
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)))
        if stream is None:
            raise ValueError(f"{path}: there are no frames to write")
        container.mux(stream.encode())


def _rows(columns: dict[str, Iterable[Any]]) -> Iterator[dict[str, Any]]:
    """Columns to rows, one at a time; all must have one length."""
    iterators = {name: iter(values) for name, values in columns.items()}
    end = object()
    number = 0
    while True:
        row = {name: next(values, end) for name, values in iterators.items()}
        ended = [name for name, value in row.items() if value is end]
        if len(ended) == len(row):
            return
        if ended:
            raise ValueError(f"{' and '.join(ended)} end before frame {number}: expected one for every frame")
        yield row
        number += 1


def draw_frame(
    frame: Frame,
    box: npt.ArrayLike,
    score: float,
    *,
    number: int,
    ground_truth: npt.ArrayLike | None = None,
    note: str = "",
) -> Image:
    """Draws one frame: visible and infrared side by side, the box in both, a strip of writing above and below.

    Images of less than 480 lines are enlarged by a whole factor so that the writing is legible, those wider than
    1920 are reduced.

    Args:
        frame: what was tracked.
        box: x, y, w, h in pixels of the frame; with NaN it is not drawn.
        score: 0..1 or NaN.
        number: of the frame.
        ground_truth: the true box, drawn thin; None where there is no ground truth.
        note: a short text, ASCII.

    Returns:
        uint8, H x W x 3, RGB; height and width are even, as video wants them.
    """
    width, height = frame.size
    scale = min(math.ceil(480 / height), 1920 / width) if height < 480 else min(1.0, 1920 / width)
    panels = [_enlarge(image, scale) for image in (frame.visible, frame.infrared)]
    for panel in panels:
        if ground_truth is not None:
            _box(panel, ground_truth, scale, TRUTH, thickness=1)
        _box(panel, box, scale, TRACKER, thickness=2)

    height, width = panels[0].shape[:2]
    unit = max(1.0, height / 640)  # writing grows with the picture
    strip, gap = round(18 * unit) * 2, round(2 * unit) * 2
    canvas = np.full((_even(height + 2 * strip), _even(2 * width + gap), 3), _STRIP, np.uint8)
    canvas[strip : strip + height, :width] = panels[0]
    canvas[strip : strip + height, width + gap : 2 * width + gap] = panels[1]

    pad, above, below = round(12 * unit), strip // 2, strip + height + strip // 2
    right = 2 * width + gap - pad
    _write(canvas, "visible", pad, above, _TEXT, unit)
    _write(canvas, "infrared", width + gap + pad, above, _TEXT, unit)
    if ground_truth is not None:
        left = _write(canvas, "ground truth", right, above, _MUTED, unit, from_right=True)
        left = _dash(canvas, left - pad // 2, above, TRUTH, 1, unit)
        left = _write(canvas, "tracker", left - 2 * pad, above, _MUTED, unit, from_right=True)
        _dash(canvas, left - pad // 2, above, TRACKER, 2, unit)

    end = _write(canvas, f"frame {number}", pad, below, _MUTED, unit)
    _write(canvas, note, max(end + 2 * pad, pad + round(120 * unit)), below, TRACKER, unit)
    bar = round(110 * unit)
    _bar(canvas, score, right - bar, below, bar, unit)
    text = "score    -" if math.isnan(score) else f"score {score:.2f}"
    _write(canvas, text, right - bar - pad, below, _TEXT, unit, from_right=True)
    return canvas


def _even(length: int) -> int:
    return length + length % 2


def _enlarge(image: Image, scale: float) -> Image:
    if scale == 1:
        return image.copy()
    size = round(image.shape[1] * scale), round(image.shape[0] * scale)
    resized: Image = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA).astype(
        np.uint8, copy=False
    )
    return resized


def _box(panel: Image, box: npt.ArrayLike, scale: float, color: Color, thickness: int) -> None:
    """A box with a dark rim, so that it reads on bright heat and on dark night."""
    x, y, w, h = np.asarray(box, np.float64) * scale
    if not np.isfinite((x, y, w, h)).all():
        return
    first, second = ((round(a * 2**_FINE), round(b * 2**_FINE)) for a, b in ((x, y), (x + w, y + h)))
    thickness = max(thickness, round(thickness * panel.shape[0] / 640))
    cv2.rectangle(panel, first, second, _STRIP, thickness + 2, cv2.LINE_AA, _FINE)
    cv2.rectangle(panel, first, second, color, thickness, cv2.LINE_AA, _FINE)


def _write(
    canvas: Image, text: str, x: int, middle: int, color: Color, unit: float, *, from_right: bool = False
) -> int:
    """Writes a line around a height and returns the end of it away from ``x``."""
    size, weight = 0.5 * unit, max(1, round(unit))
    width = cv2.getTextSize(text, _FONT, size, weight)[0][0]
    height = cv2.getTextSize("0", _FONT, size, weight)[0][1]
    left = x - width if from_right else x
    cv2.putText(canvas, text, (left, middle + height // 2), _FONT, size, color, weight, cv2.LINE_AA)
    return left if from_right else x + width


def _dash(canvas: Image, right: int, middle: int, color: Color, thickness: int, unit: float) -> int:
    """A piece of line for the legend; returns its left end."""
    left = right - round(18 * unit)
    cv2.line(canvas, (left, middle), (right, middle), color, max(1, round(thickness * unit)), cv2.LINE_AA)
    return left


def _bar(canvas: Image, score: float, left: int, middle: int, width: int, unit: float) -> None:
    half = round(3 * unit)
    cv2.rectangle(canvas, (left, middle - half), (left + width, middle + half), _TROUGH, cv2.FILLED)
    filled = 0 if math.isnan(score) else round(width * min(max(score, 0.0), 1.0))
    if filled:
        cv2.rectangle(canvas, (left, middle - half), (left + filled, middle + half), TRACKER, cv2.FILLED)


def plot_track(
    path: str | os.PathLike[str],
    scores: npt.ArrayLike,
    *,
    ious: npt.ArrayLike | None = None,
    hidden: Iterable[tuple[int, int]] = (),
    title: str | None = None,
) -> None:
    """Plots the score of a track, and its overlap with the ground truth, over the frames.

    Args:
        path: of the picture, png or svg; it appears under its name when it is whole.
        scores: (N,), 0..1; NaN leaves a gap.
        ious: (N,), 0..1; NaN where there is no ground truth.
        hidden: first and last frame of each interval in which the visible camera does not see the target.
        title: a line above the plot.

    Raises:
        ValueError: if the suffix is another or ``ious`` has another length than ``scores``.
        ImportError: if matplotlib is not installed.
    """
    path = Path(path)
    if path.suffix.lower() not in (".png", ".svg"):
        raise ValueError(f"{path}: a plot is written as png or svg, so its name has to end in .png or .svg")
    score = np.asarray(scores, np.float64)
    overlap = None if ious is None else np.asarray(ious, np.float64)
    if score.ndim != 1 or (overlap is not None and overlap.shape != score.shape):
        shapes = score.shape if overlap is None else f"{score.shape} and {overlap.shape}"
        raise ValueError(f"{path}: scores and IoUs of shape {shapes} cannot be plotted: expected a number a frame")
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('plots need matplotlib: pip install "duotrack[report]"') from error

    # The salt makes the same plot the same SVG file.
    style = {"font.size": 9, "axes.edgecolor": "#9aa0a8", "svg.hashsalt": "duotrack"}
    with rc_context(style):  # type: ignore[arg-type]  # annotated with a Literal of every key, which a variable loses
        figure = Figure(figsize=(8, 3.0), dpi=160, layout="constrained")
        axes = figure.add_subplot()
        for number, (first, last) in enumerate(hidden):
            label = "hidden from the visible camera" if number == 0 else None
            axes.axvspan(first - 0.5, last + 0.5, color="#dfe3e8", linewidth=0, label=label)
        frames = np.arange(len(score))
        if overlap is not None:
            axes.plot(frames, overlap, color=_hex(TRUTH, 0.8), linewidth=1.4, label="IoU with the ground truth")
        axes.plot(frames, score, color=_hex(TRACKER, 0.95), linewidth=1.4, label="score")
        axes.set(
            xlim=(0, max(1, len(score) - 1)),
            ylim=(0, 1.02),
            xlabel="frame",
            ylabel="score" if overlap is None else "score, IoU",
        )
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
        axes.grid(axis="y", color="#e8eaee", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(color="#9aa0a8", labelcolor="#4a4f57")
        # Below the axes, where neither the curves nor a long title are in its way.
        figure.legend(loc="outside lower right", ncols=3, frameon=False, handlelength=1.5, columnspacing=1.4)
        if title is not None:
            axes.set_title(title, loc="left", fontsize=10, fontweight="bold")
        with beside(path) as temporary:
            figure.savefig(temporary, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)


def _hex(color: Color, brightness: float) -> str:
    return "#" + "".join(f"{round(value * brightness):02x}" for value in color)
