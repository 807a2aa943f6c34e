"""Imports point one way: the table below is design and test at once. A new module needs a row here."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import duotrack

PACKAGE = Path(duotrack.__file__).parent

FRAMES = {"boxes", "results", "images", "crops", "sequence"}
NOTICING = {"appearance", "rivals", "redetection", "frozen", "calibration"}
TRACKING = FRAMES | NOTICING | {"pipeline", "pretrained", "sessions", "tracking"}

# Module or folder (the longest name counts): packages from outside, modules of duotrack. Within a row all is allowed.
ALLOWED: dict[str, tuple[set[str], set[str]]] = {
    "": (set(), {"sequence", "tracking"}),
    "configuration": ({"yaml"}, set()),
    "progress": ({"rich"}, set()),
    "processor": (set(), set()),
    "pipeline": (set(), set()),
    "boxes": ({"numpy"}, set()),
    "results": ({"numpy"}, {"boxes"}),
    "crops": ({"numpy", "cv2"}, {"boxes"}),
    "images": (set(), set()),
    "sequence": ({"numpy", "cv2", "av"}, {"boxes", "images", "crops"}),
    "pretrained": (set(), {"configuration", "crops", "model.config"}),
    "sessions": ({"numpy", "onnxruntime"}, {"crops", "pretrained", "processor"}),
    "sessions.openvino": ({"numpy", "openvino"}, {"sessions", "crops", "pretrained", "processor"}),
    "sessions.torch": ({"numpy", "torch"}, {"sessions", "crops", "pretrained", "processor", "model"}),
    "appearance": ({"numpy", "cv2"}, {"crops", "sequence", "sessions"}),
    "rivals": ({"numpy", "cv2"}, {"boxes", "crops", "appearance"}),
    "redetection": ({"numpy"}, {"crops", "rivals"}),
    "frozen": ({"numpy"}, {"sequence"}),
    "calibration": ({"numpy"}, {"boxes", "crops"}),
    "tracking": (
        {"numpy"},
        FRAMES | NOTICING | {"pipeline", "sessions", "pretrained", "processor"},
    ),
    "model": ({"numpy", "torch"}, {"boxes", "model"}),
    "model.config": (set(), set()),
    "model.complexity": (set(), {"model.config"}),
    "model.weights": ({"numpy", "torch", "safetensors"}, {"configuration", "crops", "results", "pretrained", "model"}),
    "losses": ({"torch"}, {"boxes", "model"}),
    "export": ({"numpy", "torch", "onnx"}, {"results", "pretrained", "model"}),
    "samples": ({"numpy"}, TRACKING | {"demo"}),
    "quantization": ({"numpy", "onnx", "onnxruntime"}, {"results", "pretrained", "samples"}),
    "verification": ({"numpy", "torch"}, {"boxes", "pretrained", "samples", "sessions", "model"}),
    "data": ({"numpy", "cv2"}, FRAMES | {"configuration", "data", "model"}),
    "data.clips": ({"numpy", "cv2"}, FRAMES),
    "data.datasets": ({"numpy"}, {"images"}),
    "data.folders": ({"numpy"}, FRAMES | {"progress", "data.clips", "data.datasets"}),
    "data.recordings": (set(), FRAMES | {"data.datasets"}),
    "data.check": (
        {"numpy", "cv2"},
        FRAMES
        | {"processor", "progress", "data.datasets"}
        | {f"evaluation.{name}" for name in ("annotations", "benchmark", "metrics", "protocols")},
    ),
    "evaluation.report": (
        {"numpy", "rich"},
        {f"evaluation.{name}" for name in ("metrics", "protocols", "scoring", "benchmark")},
    ),
    "evaluation": ({"numpy", "rich", "matplotlib"}, {"boxes", "results", "data.datasets", "evaluation.report"}),
    "evaluation.run": (
        {"numpy", "cv2", "onnxruntime", "torch"},
        TRACKING | {"processor", "progress", "data.datasets", "data.recordings", "evaluation.benchmark"},
    ),
    "training": (
        {"numpy", "cv2", "torch", "safetensors", "onnxruntime", "yaml", "rich"},
        TRACKING | {"configuration", "progress", "processor", "model", "losses", "data", "export", "visualize"},
    ),
    "analysis": (
        {"numpy", "torch", "matplotlib", "rich"},
        FRAMES | {"pretrained", "model", "losses", "data", "evaluation.figures"},
    ),
    "ablation": (
        {"matplotlib", "rich"},
        {"results", "configuration", "pretrained", "demo", "data", "evaluation.figures", "training", "analysis"},
    ),
    "visualize": ({"numpy", "cv2", "av", "matplotlib"}, FRAMES),
    "demo": ({"numpy"}, TRACKING | {"progress", "data.clips", "visualize"}),
    "interchange": ({"numpy"}, {"boxes", "results"}),
    "vot": ({"numpy"}, TRACKING),
    "doctor": ({"numpy", "av", "torch"}, TRACKING | {"processor"}),
    "energy": (set(), set()),
    "profile": (
        {"numpy", "torch", "rich"},
        TRACKING | {"processor", "energy", "export", "samples", "quantization", "model"},
    ),
    "__main__": (set(), {"cli"}),
    "cli": (set(), {"cli"}),
    "cli.tracking": (set(), TRACKING | {"cli", "progress", "visualize", "demo"}),
    "cli.evaluation": (set(), {"cli", "progress", "results", "data.check", "data.scenes", "evaluation"}),
    "cli.training": (
        set(),
        {"cli", "progress", "results", "demo", "evaluation.report", "training", "analysis", "ablation"},
    ),
    "cli.interchange": (set(), {"cli", "images", "sequence", "tracking", "interchange", "vot"}),
    "cli.weights": (set(), {"cli", "pretrained", "model", "samples", "export", "quantization", "verification"}),
    "cli.machine": (set(), {"cli", "profile", "doctor"}),
}

MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip("."): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def imports(module: str) -> set[str]:
    """Everything a module imports, at its top or inside functions: ``duotrack.x.y`` or the name of a package."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import in line {node.lineno}"
            source = node.module or ""
            for alias in node.names:  # `from duotrack import boxes` imports a module, `... import Tracker` a name
                name = f"{source}.{alias.name}"
                found.add(name if name.removeprefix("duotrack.") in MODULES else source)
    return {name if is_own(name) else name.partition(".")[0] for name in found} - sys.stdlib_module_names


def is_own(name: str) -> bool:
    return name == "duotrack" or name.startswith("duotrack.")


def within(name: str, folder: str) -> bool:
    return name == folder or name.startswith(f"{folder}.")


def row(module: str) -> str:
    """The row of the table that a module belongs to."""
    rows = [name for name in ALLOWED if within(module, name)]
    assert rows, f"duotrack.{module} has no row in ALLOWED: say there what it may import"
    return max(rows, key=len)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_lies_below_it(module: str) -> None:
    name = row(module)
    packages, modules = ALLOWED[name]
    for imported in imports(module):
        if not is_own(imported):
            assert imported in packages, f"duotrack.{module} imports {imported}"
        elif below := imported.removeprefix("duotrack").removeprefix("."):
            allowed = row(below) == name or any(within(below, other) for other in modules)
            assert allowed, f"duotrack.{module} imports {imported}"


def modules_after(code: str) -> set[str]:
    """Top-level packages in memory after some code ran in an interpreter of its own."""
    script = f"{code}\nimport sys; print('\\n'.join(sys.modules))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in run.stdout.split()}


HEAVY = {"numpy", "torch", "cv2", "av", "onnxruntime", "matplotlib", "rich"}


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["track", "--help"], ["evaluate", "--help"], ["weights", "info", "--help"]]
)
def test_help_and_version_import_nothing_heavy(arguments: list[str]) -> None:
    code = f"from duotrack.cli import main\ntry: main({arguments})\nexcept SystemExit as end: assert not end.code"
    assert not modules_after(code) & HEAVY


def test_importing_duotrack_costs_nothing_until_a_name_is_used() -> None:
    assert not modules_after("import duotrack; duotrack.__version__; dir(duotrack)") & HEAVY
    after = modules_after("import duotrack; duotrack.Frame, duotrack.MultiTracker, duotrack.Sequence, duotrack.Tracker")
    assert "cv2" in after
    assert "torch" not in after


def test_tracking_does_not_import_torch() -> None:
    code = """
import numpy as np, duotrack
tracker = duotrack.Tracker.from_pretrained("duotrack-tiny", backend="onnx")
frame = duotrack.Frame(*np.zeros((2, 120, 160, 3), np.uint8))
tracker.initialize(frame, (60, 40, 20, 30))
tracker.update(frame)
"""
    assert not modules_after(code) & {"torch", "matplotlib", "safetensors", "yaml"}


def test_an_unknown_name_is_an_attribute_error() -> None:
    name = "Trackr"
    with pytest.raises(AttributeError, match="no attribute 'Trackr'"):
        getattr(duotrack, name)
