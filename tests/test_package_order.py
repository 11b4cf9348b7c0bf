"""Packages import one way, importing does nothing heavy, and the names are public."""

import ast
import importlib
import re
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import hffruits

ROOT = Path(hffruits.__file__).parents[1]
ORDER = [
    "core", "data", "models", "inference", "evaluation", "exploration", "hub", "training",
    "exporters", "demo", "cli",
]  # fmt: skip
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in (ROOT / "hffruits").rglob("*.py")
}


@cache
def parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


@cache
def imports_of(module: str) -> set[str]:
    """The package's own modules that one imports, also inside functions."""
    names = set()
    for node in ast.walk(parse(FILES[module])):
        if isinstance(node, ast.ImportFrom):
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names.add(node.value)  # of `importlib.import_module`
    return (names & set(FILES)) - {"hffruits"}


def test_every_module_lies_in_a_package_of_the_order():
    assert {module.split(".")[1] for module in FILES if "." in module} == {*ORDER, "__main__"}


@pytest.mark.parametrize("package", ORDER)
def test_a_package_lists_its_modules(package: str):
    listed = set(re.findall(r"\w+", ast.get_docstring(parse(FILES[f"hffruits.{package}"]))))
    modules = {path.stem for path in (ROOT / "hffruits" / package).glob("*.py")} - {"__init__"}
    assert not modules - listed


def test_a_package_imports_only_itself_and_earlier_ones():
    for module in FILES:
        here = module.split(".")[1] if "." in module else "__main__"
        for name in imports_of(module) if here in ORDER else ():
            there = name.split(".")[1]
            assert ORDER.index(there) <= ORDER.index(here), f"{module} imports {name}"


def test_no_two_modules_import_each_other():
    graph = {module: imports_of(module) for module in FILES if module != "hffruits"}
    TopologicalSorter(graph).prepare()  # raises CycleError


def test_the_table_of_imports_in_the_contributing_guide_is_true():
    table = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", table, re.MULTILINE))
    for package in ORDER[:-1]:  # what the commands import stands in words
        modules = [module for module in FILES if module.startswith(f"hffruits.{package}")]
        found = {name.split(".")[1] for module in modules for name in imports_of(module)}
        assert set(re.findall(r"`(\w+)`", rows[package])) == found - {package}, package


def test_no_function_is_longer_than_80_lines_besides_its_docstring():
    for path in FILES.values():
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                docstring = (ast.get_docstring(node, clean=False) or "").splitlines()
                lines = node.end_lineno - node.lineno + 1 - len(docstring)
                assert lines <= 80, f"{path}: {node.name} has {lines} lines"


def test_the_public_names_are_these():
    assert sorted(hffruits.__all__) == [
        "FruitClassifier", "InputError", "Prediction", "compare", "evaluate", "explore", "export",
        "load_fruits", "push", "split", "teach", "train",
    ]  # fmt: skip


def test_no_package_bears_the_name_of_a_public_function():
    assert not set(hffruits.__all__) & {module.split(".")[1] for module in FILES if "." in module}
    for module in FILES:
        if module != "hffruits.__main__":  # which runs the command
            importlib.import_module(module)
    for name in hffruits.__all__:
        assert getattr(hffruits, name).__name__ == name


def test_the_package_and_its_help_import_nothing_heavy():
    code = (
        "import sys, hffruits.cli.main\n"
        "try: hffruits.cli.main.main(['--help'])\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        "heavy = {'torch', 'transformers', 'datasets', 'gradio', 'numpy', 'PIL'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
