"""The room `loro_jax.analysis`: without JAX, matplotlib only where something is drawn, and no circle."""

from __future__ import annotations

import ast
import graphlib
import pathlib
import pkgutil
import subprocess
import sys

import pytest

from loro_jax import analysis

HEAVY = ("jax", "jaxlib", "flax", "matplotlib", "pandas")
MODULES = sorted(
    module.name for module in pkgutil.walk_packages(analysis.__path__, prefix=f"{analysis.__name__}.")
)


def source(module: str) -> ast.Module:
    path = pathlib.Path(analysis.__path__[0]).joinpath(*module.split(".")[2:])
    return ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text())


def imported(nodes: list[ast.stmt] | ast.Module) -> set[str]:
    """The modules of the room that statements import, within functions and `if TYPE_CHECKING`, too."""
    found = set()
    tree = nodes if isinstance(nodes, ast.Module) else ast.Module(nodes, [])
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found & set(MODULES)


EACH = """
import importlib, os, sys
import numpy, rich, scipy.stats  # which they may need: shared by all, so that each of them costs little
for module in sys.argv[2:]:
    if (child := os.fork()) == 0:
        importlib.import_module(module)
        print(module, [name for name in sys.argv[1].split() if name in sys.modules], flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, module
"""


def test_each_module_is_imported_alone_and_lightly() -> None:
    """Each in a process of its own, where nothing else of the project was imported before."""
    line = [sys.executable, "-c", EACH, " ".join(HEAVY), *MODULES]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{module} []" for module in MODULES]


def test_no_circle() -> None:
    """A package's own file imports its modules, and they name the package to import each other."""
    graph = {module: imported(source(module)) - {module, module.rpartition(".")[0]} for module in MODULES}
    graphlib.TopologicalSorter(graph).prepare()
    assert {"loro_jax.analysis.summary", "loro_jax.analysis.tables"} <= graph["loro_jax.analysis.outputs"]


@pytest.mark.parametrize("module", MODULES)
def test_no_function_hides_an_import_of_this_project(module: str) -> None:
    for node in ast.walk(source(module)):
        if isinstance(node, ast.FunctionDef):
            hidden = {n for n in ast.walk(node) if isinstance(n, ast.Import | ast.ImportFrom)}
            names = {n.module or "" for n in hidden if isinstance(n, ast.ImportFrom)}
            names |= {alias.name for n in hidden if isinstance(n, ast.Import) for alias in n.names}
            assert not [name for name in names if name.startswith("loro_jax")], node.name
