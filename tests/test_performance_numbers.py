"""docs/performance_numbers.py writes what benchmarks print into docs/performance.md and docs/training.md."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[1] / "docs"

BENCHMARK = """
import json, pathlib, sys
print("Chatter\\n")
print("| a | b |\\n|---|---|\\n| 1 | 2 |\\n")
print("| c |\\n|---|\\n| 3 |")
pathlib.Path(sys.argv[sys.argv.index("--json") + 1]).write_text(json.dumps({"machine": "A machine", "figures": {}}))
"""


@pytest.fixture(scope="module")
def script() -> ModuleType:
    specification = importlib.util.spec_from_file_location("performance_numbers", DOCS / "performance_numbers.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_every_table_has_a_place_and_every_place_a_benchmark(script: ModuleType) -> None:
    opened: list[str] = []
    for name in ("performance.md", "training.md"):
        page = (DOCS / name).read_text("utf-8")
        places, closed = script.places(page), re.findall(r"^<!-- end (\w+) -->$", page, re.M)
        assert places == closed
        opened += places
    assert sorted(opened) == sorted(script.TABLES)
    for benchmark in script.TABLES.values():
        assert (DOCS.parent / benchmark.split()[0]).is_file()


def test_the_tables_and_where_they_come_from(script: ModuleType, tmp_path: Path) -> None:
    benchmark = tmp_path / "benchmark.py"
    benchmark.write_text(BENCHMARK)
    text = script.measured(str(benchmark))
    assert text == f"| a | b |\n|---|---|\n| 1 | 2 |\n\n| c |\n|---|\n| 3 |\n\nA machine. `python {benchmark}`"


def test_a_benchmark_without_a_table(script: ModuleType, tmp_path: Path) -> None:
    benchmark = tmp_path / "benchmark.py"
    benchmark.write_text(BENCHMARK.replace("|", ""))
    with pytest.raises(ValueError, match="printed no table"):
        script.measured(str(benchmark))


def test_only_the_place_is_replaced(script: ModuleType) -> None:
    page = "before\n<!-- x -->\nold\n\nold\n<!-- end x -->\n<!-- y -->\nkept\n<!-- end y -->\n"
    written = script.replaced(page, "x", "new \\1")
    assert written == "before\n<!-- x -->\nnew \\1\n<!-- end x -->\n<!-- y -->\nkept\n<!-- end y -->\n"
    with pytest.raises(ValueError, match="expected the comments <!-- z --> and <!-- end z -->"):
        script.replaced(page, "z", "new")
