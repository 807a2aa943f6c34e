"""The commands on the machine at hand: ``profile`` and ``doctor``."""

import argparse
import sys

from duotrack.cli import arguments
from duotrack.cli.speech import as_json, fail


def add_to(commands: arguments.Commands) -> None:
    """Declares the commands."""
    command = arguments.add(commands, "profile", profile, "say what tracking costs on this machine")
    command.add_argument(
        "weights",
        nargs="?",
        default="duotrack-tiny",
        metavar="WEIGHTS_OR_PRESET",
        help="name, folder, or a preset for random weights: ckd-base [duotrack-tiny]",
    )
    arguments.add_runtime(command)
    command.add_argument("--targets", type=arguments.positive, default=1, metavar="N", help="followed at once [1]")
    command.add_argument("--frames", type=arguments.positive, default=100, metavar="N", help="to measure [100]")
    command.add_argument(
        "--size", type=arguments.size, default=(640, 480), metavar="WxH", help="of the frames [640x480]"
    )
    command.add_argument("--json", action="store_true", help="print it as JSON")

    command = arguments.add(commands, "doctor", doctor, "say what this installation can do")
    command.add_argument("--json", action="store_true", help="print it as JSON")


def profile(options: argparse.Namespace) -> int:
    """Says what tracking costs on this machine."""
    from dataclasses import asdict
    from functools import partial

    import duotrack.profile

    found = duotrack.profile.measure(
        options.weights,
        backend=options.backend,
        precision=options.precision,
        threads=options.threads,
        targets=options.targets,
        frames=options.frames,
        size=options.size,
        say=partial(print, file=sys.stderr, flush=True),
    )
    print(as_json(asdict(found)) if options.json else duotrack.profile.text(found))
    return 0


def doctor(options: argparse.Namespace) -> int:
    """Says what this installation can do; fails where the demo could not run."""
    from dataclasses import asdict

    from duotrack.doctor import examine

    report = examine()
    print(as_json(asdict(report)) if options.json else report)
    for problem in report.problems:
        fail(f"the demo cannot run: {problem}")
    return 1 if report.problems else 0
