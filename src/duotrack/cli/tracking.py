"""The commands that track: ``demo`` and ``track``."""

import argparse
import sys
from typing import TYPE_CHECKING

from duotrack.cli import arguments
from duotrack.cli.speech import as_json

if TYPE_CHECKING:
    from pathlib import Path


def add_to(commands: arguments.Commands) -> None:
    """Declares the commands."""
    command = arguments.add(commands, "demo", demo, "track the shipped clip: a video, boxes, a plot")
    command.add_argument("--output", type=arguments.path, default="demo-output", metavar="DIR", help="[demo-output]")

    command = arguments.add(
        commands,
        "track",
        track,
        "track objects through any pair of folders or videos",
        "Nothing was written. The same command starts again.",
    )
    command.add_argument("visible", type=arguments.path, metavar="VISIBLE", help="folder of images, or a video")
    command.add_argument("infrared", type=arguments.path, metavar="INFRARED", help="the same moments in infrared")
    command.add_argument(
        "--box",
        type=arguments.numbers("X,Y,W,H"),
        action="append",
        required=True,
        metavar="X,Y,W,H",
        help="the object in the first frame: left, top, width, height in pixels of the visible image "
        "(where X is negative: --box=-8,40,24,32); several times for several objects, whose files are then numbered",
    )
    command.add_argument("--weights", default="duotrack-tiny", metavar="W", help="name or folder [duotrack-tiny]")
    command.add_argument("--output", type=arguments.path, default="tracks", metavar="DIR", help="[tracks]")
    command.add_argument(
        "--name", type=arguments.plain_name, help="of the files that are written [that of the sequence]"
    )
    command.add_argument("--video", action="store_true", help="also write a video with the boxes")
    arguments.add_runtime(command)
    command.add_argument(
        "--thermal-range",
        type=arguments.numbers("LOW,HIGH"),
        metavar="LOW,HIGH",
        help="16-bit infrared: raw values that become black and white [the range of the first frame]",
    )
    command.add_argument("--json", action="store_true", help="print what was written as JSON")


def demo(options: argparse.Namespace) -> int:
    """Tracks the shipped clip with the shipped weights."""
    import duotrack.demo

    for path in duotrack.demo.run(options.output):
        print(path)
    return 0


def track(options: argparse.Namespace) -> int:
    """Tracks objects through a pair of folders or videos."""
    from statistics import median

    from duotrack import pretrained
    from duotrack.progress import bar, watched
    from duotrack.results import stretches
    from duotrack.sequence import Sequence
    from duotrack.tracking import MultiTracker, record_all

    folder = pretrained.locate(options.weights)
    sequence = Sequence.open(options.visible, options.infrared, thermal_range=options.thermal_range)
    tracker = MultiTracker.from_pretrained(
        folder, backend=options.backend, precision=options.precision, threads=options.threads
    )
    options.output.mkdir(parents=True, exist_ok=True)

    info = {
        "source": {"visible": str(options.visible), "infrared": str(options.infrared)},
        "thermal_range": options.thermal_range,
        "weights": {"name": options.weights, "sha256": pretrained.fingerprint(folder)},
        "precision": options.precision,
    }
    with bar("tracking", len(sequence)) as advance:
        tracks = record_all(tracker, sequence, options.box, info, advance)

    several, name = len(tracks) > 1, options.name or sequence.name
    names = [f"{name}-{number}" if several else name for number in range(1, len(tracks) + 1)]
    paths: dict[str, list[Path]] = {}
    if options.video:  # before the tracks, so that an interrupted run has written nothing
        from duotrack import visualize

        paths["video"] = [options.output / f"{name}.mp4" for name in names]
        fps = sequence.fps or 30.0
        for path, result in zip(paths["video"], tracks, strict=True):
            notes = ["lost: looked for around here" if lost else "" for lost in result.lost]
            visualize.write_video(path, watched("drawing", sequence), result.boxes, result.scores, fps=fps, notes=notes)
    paths["track"] = [result.save(options.output, name) for name, result in zip(names, tracks, strict=True)]

    frozen = tracks[0].info.get("frozen", {})
    for camera, spans in frozen.items():
        print(
            f"duotrack: {camera} repeats its image while the other goes on, {_frames(spans)}: frozen?", file=sys.stderr
        )
    lost = [stretches(result.lost.tolist()) for result in tracks]
    for target, spans in zip(names, lost, strict=True):
        if spans:
            print(f"duotrack: {target} was lost, {_frames(spans)}", file=sys.stderr)
    milliseconds, stages = tracks[0].milliseconds, tracks[0].info["stages"]
    speed = 1000 * len(milliseconds) / milliseconds.sum()
    if options.json:
        written = {kind: [str(path) for path in of_kind] for kind, of_kind in paths.items()}
        figures = {
            "frames": len(milliseconds),
            "median_milliseconds": median(milliseconds.tolist()),
            "frames_per_second": float(speed),
            "stages": stages,
            "frozen": frozen,
            "lost": lost if several else lost[0],
        }
        print(as_json((written if several else {kind: path for kind, (path,) in written.items()}) | figures))
    else:
        print(*(path for of_kind in paths.values() for path in of_kind), sep="\n")
        shown = ", ".join(f"{stage} {usual:.1f}" for stage, usual in stages.items())
        print(f"{speed:.1f} frames a second; milliseconds of a frame: {shown}", file=sys.stderr)
    return 0


def _frames(spans: list[list[int]]) -> str:
    return "frames " + ", ".join(f"{first} to {last}" for first, last in spans)
