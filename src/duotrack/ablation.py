"""Ablations: a grid of settings, each trained with several seeds, and what came of it with the spread.

    OUTPUT/SETTING/seed-N/    a training run like any other, and result.json: validation IoU, tracking AUC, the gap
    OUTPUT/ablation.json      every figure of every run, mean and standard deviation over the seeds
    OUTPUT/ablation.md        the same as a table
    OUTPUT/ablation.pdf, png  the same as a picture, as the paper's figure 5 compares its variants

A finished run is not trained again, a stopped one goes on from its checkpoint: the same command resumes. Commands that
differ in their seeds alone may run side by side into one folder; a last one, with all seeds, makes the table.
"""

import json
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from duotrack import analysis, pretrained
from duotrack.configuration import override, parse_yaml, plain, read
from duotrack.data.clips import Clip
from duotrack.data.folders import ImageClip
from duotrack.demo import CLIP
from duotrack.evaluation.figures import PAGE
from duotrack.results import write_atomically
from duotrack.training import engine
from duotrack.training.config import TrainingConfig
from duotrack.training.validation import open_clips

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table

RESULT, RECIPE, SUMMARY = "result.json", "recipe.json", "ablation"
MEASURES = {
    "validation.iou": "pair IoU",
    "tracking.auc": "tracking AUC",
    "gap.style": "style gap",
    "gap.probe": "probe",
    "gap.probe_normalized": "probe, normalised",
}
"""What is compared, and how it is called. The gap's figures are means over the students' blocks."""
GAP_PAIRS = 256


@dataclass(frozen=True)
class AblationConfig:
    """What is varied.

    ``recipe`` is a training recipe, its path relative to the ablation's file; ``set`` changes values of it for all
    runs. Each entry of ``grid`` is ``NAME=`` and what the setting changes, with blanks between:
    ``style=losses.content=false losses.teachers=false``.
    """

    recipe: str
    set: tuple[str, ...] = ()
    grid: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (1, 2, 3)


@dataclass(frozen=True)
class Run:
    """One training run of an ablation."""

    setting: str
    config: TrainingConfig

    @property
    def folder(self) -> Path:
        """Where it is trained."""
        return Path(self.config.output)


@dataclass(frozen=True)
class Ablation:
    """The figures of all runs: setting to seed to measure to value."""

    figures: dict[str, dict[int, dict[str, float]]]

    @property
    def measures(self) -> list[str]:
        """Those that every run has, in the order of :data:`MEASURES`."""
        runs = [values for seeds in self.figures.values() for values in seeds.values()]
        return [name for name in MEASURES if all(name in values for values in runs)]

    def summary(self, setting: str, measure: str) -> tuple[float, float]:
        """Mean and standard deviation (of the sample; NaN for one seed) over the seeds."""
        values = [each[measure] for each in self.figures[setting].values()]
        return fmean(values), stdev(values) if len(values) > 1 else math.nan

    def json(self) -> str:
        """Every figure, for programs."""
        settings = {}
        for setting, seeds in self.figures.items():
            summaries = {name: self.summary(setting, name) for name in self.measures}
            settings[setting] = {
                "mean": {name: mean for name, (mean, _) in summaries.items()},
                "deviation": {name: None if math.isnan(sd) else sd for name, (_, sd) in summaries.items()},
                "seeds": {str(seed): values for seed, values in seeds.items()},
            }
        return json.dumps(settings, indent=2) + "\n"

    def rows(self) -> list[list[str]]:
        """The table as text: a header, then a row for each setting."""
        head = ["setting", "seeds", *(MEASURES[name] for name in self.measures)]
        cells = [
            [setting, str(len(seeds)), *(_spread(*self.summary(setting, name)) for name in self.measures)]
            for setting, seeds in self.figures.items()
        ]
        return [head, *cells]

    def markdown(self) -> str:
        """The table for a README."""
        head, *rows = self.rows()
        lines = [head, [":--", *["--:"] * (len(head) - 1)], *rows]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)

    def table(self) -> "Table":
        """The table for a terminal."""
        from rich.table import Table

        head, *rows = self.rows()
        table = Table(title="Mean ± standard deviation over the seeds", title_justify="left")
        for column in head:
            table.add_column(column, justify="left" if column == "setting" else "right", no_wrap=True)
        for row in rows:
            table.add_row(*row)
        return table

    def figure(self) -> "Figure":
        """A panel for each measure: every seed a dot, mean and deviation a line."""
        names = list(self.figures)
        figure = analysis.new_figure(PAGE, 0.7 + 0.28 * len(names))
        panels = figure.subplots(1, len(self.measures), squeeze=False)[0]
        for axes, measure in zip(panels, self.measures, strict=True):
            for place, name in enumerate(names):
                values = [each[measure] for each in self.figures[name].values()]
                mean, deviation = self.summary(name, measure)
                spread = 0.0 if math.isnan(deviation) else deviation
                axes.plot([mean - spread, mean + spread], [place, place], color="#0072b2", lw=1.6)
                axes.plot(mean, place, "|", color="#0072b2", ms=9, mew=1.6)
                axes.plot(values, [place] * len(values), "o", color="#d55e00", ms=3, mew=0, alpha=0.8)
            axes.set(title=MEASURES[measure], ylim=(len(names) - 0.4, -0.6))
            axes.set_yticks(range(len(names)), names if axes is panels[0] else [""] * len(names))
            if "probe" in measure:
                axes.set_xlim(0.45, 1.02)  # from chance to certainty: its last digits mean nothing
            axes.margins(x=0.12)
            axes.locator_params("x", nbins=3)
            axes.grid(False, axis="y")
            axes.tick_params("y", length=0)
        return figure


def load(
    path: Path, output: Path, *, changes: Sequence[str] = (), grid: Sequence[str] = (), seeds: Sequence[int] = ()
) -> list[Run]:
    """Reads an ablation, or a training recipe together with a grid, and checks the recipe of every run.

    Args:
        path: YAML of an :class:`AblationConfig` (it has a ``recipe``), or a training recipe.
        output: the folder of all runs.
        changes: assignments such as ``steps=200``, for all runs.
        grid: settings in place of the file's.
        seeds: in place of the file's.

    Returns:
        The runs, those of one setting together.

    Raises:
        OSError: if a file is missing.
        ValueError: for an unknown or wrong entry, or if nothing is varied; names file, setting and key.
    """
    mapping = _read_yaml(path)
    config = AblationConfig(recipe=path.name)
    if "recipe" in mapping:
        config = read(AblationConfig, mapping, str(path))
        mapping = _read_yaml(path.parent / config.recipe)
    config = replace(config, grid=tuple(grid) or config.grid, seeds=tuple(seeds) or config.seeds)
    if not config.grid:
        raise ValueError(f'{path}: nothing is varied; name settings: --grid "NAME=losses.style=false" ...')
    runs: list[Run] = []
    for entry in config.grid:
        name, equals, assignments = entry.partition("=")
        if not equals or not name or "/" in name or "\\" in name or name.startswith("."):
            raise ValueError(f"{path}: {entry!r} is no setting: write NAME=a.b=v c.d=w, NAME without / or \\")
        if any(run.setting == name for run in runs):
            raise ValueError(f"{path}: two settings are named {name!r}")
        recipe = override(mapping, [*config.set, *changes, *assignments.split()])
        for seed in dict.fromkeys(config.seeds):
            folder = output / name / f"seed-{seed}"
            values = {**recipe, "seed": seed, "output": str(folder)}
            runs.append(Run(name, read(TrainingConfig, values, f"{path}: setting {name}")))
    return runs


def run(runs: Sequence[Run], output: Path) -> Ablation:
    """Trains and measures what is not finished, and writes the summary.

    Args:
        runs: of :func:`load`.
        output: the folder of all runs.

    Raises:
        ValueError: if a run's folder holds one of another recipe, naming it; or under ``torchrun``.
        KeyboardInterrupt: after SIGINT or SIGTERM; the run under way is saved.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("an ablation is no job for torchrun: start a command a process, each with some of the --seeds")
    for one in runs:
        _refuse_other_recipe(one)
    figures: dict[str, dict[int, dict[str, float]]] = {}
    for one in runs:
        result = one.folder / RESULT
        if not result.is_file():
            write_atomically(one.folder / RECIPE, _recipe(one.config))
            measured = _measure(engine.train(one.config), one.config)
            write_atomically(result, json.dumps(measured, indent=2) + "\n")
        values = json.loads(result.read_text("utf-8"))["figures"]
        figures.setdefault(one.setting, {})[one.config.seed] = values
    ablation = Ablation(figures)
    write_atomically(output / f"{SUMMARY}.json", ablation.json())
    write_atomically(output / f"{SUMMARY}.md", ablation.markdown())
    with analysis.styled():
        analysis.save_figure(ablation.figure(), output / SUMMARY)
    return ablation


def _measure(folder: Path, config: TrainingConfig) -> dict[str, Any]:
    """The figures of a finished run: those of its last validation, and the gap on held-out clips."""
    figures: Mapping[str, float] = json.loads((folder / pretrained.TRAINING).read_text("utf-8"))["figures"]
    with tempfile.TemporaryDirectory() as cache:
        clips: list[Clip | ImageClip] = [
            clip for clip in open_clips(config) if clip.visible is not None and clip.infrared is not None
        ]
        clips = clips or analysis.open_clips([CLIP], Path(cache))
        gap = analysis.measure(*analysis.load(folder), clips, pairs=GAP_PAIRS)
    names = ("style", "statistics", "probe", "probe_normalized")
    means = {f"gap.{name}": fmean(getattr(one, name) for one in gap.blocks["students"]) for name in names}
    return {"figures": {**figures, **means}, "gap": json.loads(gap.json())}


def _refuse_other_recipe(one: Run) -> None:
    recipe = one.folder / RECIPE
    if recipe.is_file() and recipe.read_text("utf-8") != _recipe(one.config):
        raise ValueError(
            f"{one.folder} holds a run of another recipe ({RECIPE} there); give another --output or remove that folder"
        )


def _recipe(config: TrainingConfig) -> str:
    """All that a run's figures depend on; where things lie and how many processes work does not count."""
    recipe = plain(config)
    for place in ("output", "workers", "threads"):
        del recipe[place]
    if not config.prepared:
        del recipe["prepared"]  # so that runs from before there were any go on
    for data in (recipe["data"], recipe["validation_data"]):
        if data is not None:
            del data["root"], data["cache"]
    return json.dumps(recipe, indent=2) + "\n"


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}: expected an ablation or a training recipe, as in configs/")
    mapping = parse_yaml(path.read_text("utf-8"), str(path))
    if not isinstance(mapping, dict):
        raise ValueError(f"{path} must hold a mapping of settings, found {type(mapping).__name__}")
    return mapping


def _spread(mean: float, deviation: float) -> str:
    return f"{mean:.3f}" if math.isnan(deviation) else f"{mean:.3f} ± {deviation:.3f}"
