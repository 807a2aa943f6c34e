"""The commands for other tools: ``convert`` and ``vot``."""

import argparse

from duotrack.cli import arguments


def add_to(commands: arguments.Commands) -> None:
    """Declares the commands."""
    command = arguments.add(
        commands, "convert", convert, "turn tracks into MOT, COCO or CVAT files, and boxes from CVAT into tracks"
    )
    command.add_argument(
        "tracks",
        type=arguments.path,
        nargs="+",
        metavar="TRACKS",
        help="the targets of one video: text files, a line x,y,w,h for every frame, or folders of them; or one XML "
        "file in the format 'CVAT for video 1.1'",
    )
    command.add_argument("--to", choices=["mot", "coco", "cvat", "tracks"], required=True, help="what to write")
    command.add_argument(
        "--output", type=arguments.path, required=True, metavar="F", help="the file; of tracks the folder"
    )
    command.add_argument(
        "--images", type=arguments.path, metavar="DIR", help="the video's images, for their names and size"
    )
    command.add_argument("--size", type=arguments.size, metavar="W,H", help="of the images; COCO needs it")
    command.add_argument(
        "--start-frame", type=int, metavar="N", help="CVAT: the task begins with this frame [that of the XML, or 0]"
    )
    command.add_argument(
        "--frame-step",
        type=arguments.positive,
        metavar="N",
        help="CVAT: the task has every Nth frame [that of the XML, or 1]",
    )

    command = arguments.add(commands, "vot", vot, "track for the VOT toolkit, which starts this command itself")
    command.add_argument("--weights", default="duotrack-tiny", metavar="W", help="name or folder [duotrack-tiny]")
    arguments.add_runtime(command)


def convert(options: argparse.Namespace) -> int:
    """Turns tracks into the formats of other tools, and boxes from CVAT into tracks."""
    from dataclasses import replace

    from duotrack import interchange

    if len(options.tracks) == 1 and options.tracks[0].suffix.lower() == ".xml":
        video, targets = interchange.read_cvat(options.tracks[0])
    else:
        video, targets = interchange.Video(options.output.stem), interchange.read_tracks(options.tracks)
    if options.images:
        from duotrack.images import list_images
        from duotrack.sequence import read_image

        if not (files := list_images(options.images)):
            raise ValueError(f"{options.images} holds no images: name the folder of the visible ones")
        height, width = read_image(files[0]).shape[:2]
        video = replace(video, size=(width, height), images=tuple(file.name for file in files))
    if options.size:
        video = replace(video, size=options.size)
    if options.start_frame is not None:
        video = replace(video, start=options.start_frame)
    if options.frame_step is not None:
        video = replace(video, step=options.frame_step)

    written = [options.output]
    if options.to == "mot":
        interchange.write_mot(options.output, targets)
    elif options.to == "coco":
        interchange.write_coco(options.output, targets, video)
    elif options.to == "cvat":
        interchange.write_cvat(options.output, targets, video)
    else:
        written = [target.save(options.output, name) for name, target in targets.items()]
    print(*written, sep="\n")
    return 0


def vot(options: argparse.Namespace) -> int:
    """Tracks what the VOT toolkit asks for."""
    from duotrack.tracking import Tracker
    from duotrack.vot import connect, serve

    tracker = Tracker.from_pretrained(
        options.weights, backend=options.backend, precision=options.precision, threads=options.threads
    )
    with connect() as (requests, replies):
        serve(tracker, requests, replies)
    return 0
