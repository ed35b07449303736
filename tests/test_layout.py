"""How the house is built: rooms that one can see over, no import in a circle, each package with its sentence."""

import ast
from graphlib import TopologicalSorter
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import grimp
import pytest

from tests.lazily import SLOW, imported_at_collection

ROOT = Path(__file__).parents[1]
PACKAGES = ("streamer", "consumers", "tgn")
FOLDERS = sorted({file.parent for package in PACKAGES for file in (ROOT / package).rglob("*.py")})
MOST_MODULES = 25
WITH_CODE = {"tgn.family"}  # torch is imported there first, with its warnings off


def dotted(folder: Path) -> str:
    return ".".join(folder.relative_to(ROOT).parts)


@pytest.mark.parametrize("folder", FOLDERS, ids=dotted)
def test_a_folder_has_no_more_modules_than_one_can_see_over(folder: Path) -> None:
    assert len([file for file in folder.glob("*.py") if file.name != "__init__.py"]) <= MOST_MODULES


@pytest.mark.parametrize("folder", FOLDERS, ids=dotted)
def test_a_package_says_in_one_line_what_lives_there(folder: Path) -> None:
    sentence, *code = ast.parse((folder / "__init__.py").read_text()).body
    assert isinstance(sentence, ast.Expr)
    assert isinstance(sentence.value, ast.Constant)
    assert isinstance(sentence.value.value, str)
    assert "\n" not in sentence.value.value
    assert sentence.value.value.endswith(".")
    assert bool(code) == (dotted(folder) in WITH_CODE)


def test_a_class_has_a_name_of_its_own() -> None:
    homes: dict[str, list[str]] = {}
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.ClassDef):
                    homes.setdefault(node.name.lstrip("_"), []).append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert homes["Worker"]
    assert {name: places for name, places in homes.items() if len(places) > 1} == {}


def test_no_module_imports_itself_by_a_detour() -> None:
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert imports["streamer.worker.worker"]
    TopologicalSorter(imports).prepare()  # raises CycleError, which names the modules of a cycle


def test_no_limit_of_a_test_is_a_number_of_seconds() -> None:
    """Limits grow with the slowness of the machine, see `tests.waiting`: `timeout=scaled(30)`."""
    fixed = []
    for file in sorted((ROOT / "tests").rglob("*.py")):
        if "benchmarks" in file.parts or file.name == "shop.py":  # that one is what the documents show
            continue
        for call in ast.walk(ast.parse(file.read_text())):
            limits = [k for k in call.keywords if k.arg == "timeout"] if isinstance(call, ast.Call) else []
            fixed += [f"{file.relative_to(ROOT)}:{k.value.lineno}" for k in limits if isinstance(k.value, ast.Constant)]
    assert fixed == []


def test_no_file_of_tests_imports_what_is_slow_before_it_is_used() -> None:
    """Every process of the tests imports every file: see `tests.lazily`."""
    assert __name__ in imported_at_collection
    assert sorted(imported_at_collection.intersection(SLOW)) == []


@pytest.mark.parametrize("file", sorted((ROOT / "tests" / "benchmarks").rglob("*.py")), ids=lambda file: file.stem)
def test_a_benchmark_imports_what_is_there(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in PACKAGES:
            home = import_module(node.module or "")
            missing = [
                name.name for name in node.names if not hasattr(home, name.name) and not _is_module(home, name.name)
            ]
            assert not missing


def _is_module(home: ModuleType, name: str) -> bool:
    return hasattr(home, "__path__") and find_spec(f"{home.__name__}.{name}") is not None
