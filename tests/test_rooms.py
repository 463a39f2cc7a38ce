"""The rooms of the package stand in an order, and no import goes against it (docs/architecture.md)."""

from __future__ import annotations

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "loro_jax"

# Each row may import from itself and from the rows above it. `departures` belongs to several rows: its
# settings to the protocols, its words to training.
ORDER = (
    {"errors"},
    {"files", "shipped", "progress", "spaces", "types", "keys", "validation", "processes", "ahead"},
    {"departures.settings"},
    {"agents"},
    {"protocols"},
    {"tasks"},
    {"data"},
    {"language"},
    {"departures.alignment"},
    {"training", "departures"},
    {"records"},
    {"analysis"},
    {"running"},
    {"interchange"},
    {"api", "check", "compare", "merge", "report", "rerun"},
)
# What stands against the order, inside a function, and why: a message about JAX itself; a reading of the
# journal that a dataset's cost needs; a check that looks at everything; agents that play for a survey.
ALLOWED = {("errors", "running"), ("tasks", "language"), ("language", "api")}
LIGHT = (
    "loro_jax", "loro_jax.report", "loro_jax.compare", "loro_jax.records.results",
    "loro_jax.records.identity", "loro_jax.files",
)  # fmt: skip


def room(module: str) -> str:
    """The row that a module of the package is in: its first part, or two where a row says so."""
    parts = module.split(".")
    return two if len(parts) > 1 and any((two := ".".join(parts[:2])) in row for row in ORDER) else parts[0]


def rank(name: str) -> int:
    return next(i for i, row in enumerate(ORDER) if name in row)


def imports(path: pathlib.Path) -> list[tuple[str, bool]]:
    """Modules of the package that a file imports, and whether in a function; not those for types alone."""
    tree = ast.parse(path.read_text())
    found: list[tuple[str, bool]] = []

    def visit(node: ast.AST, inside: bool) -> None:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "loro_jax":
            base = node.module.removeprefix("loro_jax").lstrip(".")
            for name in node.names:
                full = f"{base}.{name.name}".lstrip(".")
                is_module = (PACKAGE / f"{full.replace('.', '/')}.py").exists() or (
                    PACKAGE / full.replace(".", "/") / "__init__.py"
                ).exists()
                if is_module or base:
                    found.append((full if is_module else base, inside))
        for child in ast.iter_child_nodes(node):
            visit(child, inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))

    visit(tree, False)
    return found


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def test_every_room_has_its_place() -> None:
    for path in MODULES:
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        rank(room(module))
    text = (ROOT / "docs" / "architecture.md").read_text()
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    for name in folders:
        assert f"`loro_jax/{name}/`" in text, f"docs/architecture.md says nothing of loro_jax/{name}/"


def test_no_import_goes_against_the_order() -> None:
    wrong = []
    for path in MODULES:
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        for other, inside in imports(path):
            here, there = room(module), room(other)
            if rank(there) > rank(here) and not (inside and (here, there) in ALLOWED):
                wrong.append(f"{module} imports {other}")
    assert not wrong


@pytest.mark.parametrize("name", LIGHT)
def test_what_does_without_jax(name: str) -> None:
    code = f"import sys, {name}; print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False"


GYMNAX = """
import contextlib, importlib, io, sys
import loro_jax.api, loro_jax.check, loro_jax.rerun, loro_jax.language.collect, loro_jax.interchange
import benchmarks.suite
from loro_jax.running import command, experiment, trainer
from loro_jax.tasks import NAMES, load
tasks = [load(name) for name in NAMES]
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as usage:
    command.main("cartpole", ["--help"])
assert "--no-cache" in usage.getvalue()
for name in ("cliff_walking", "pong"):
    load(name).environment().step
found = [name for name in ("gymnax", "matplotlib", "orbax") if name in sys.modules]
load("cartpole").environment()
print(found, "gymnax" in sys.modules)
"""


def test_gymnax_is_imported_where_one_of_its_games_is_made() -> None:
    """It takes seconds: neither a command nor a game of our own needs it."""
    done = subprocess.run([sys.executable, "-c", GYMNAX], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[] True", done.stderr


def test_the_wheel_has_nothing_of_the_clone() -> None:
    """Nothing in the package or the benchmarks imports the studies or the tests."""
    for path in [*MODULES, *(ROOT / "benchmarks").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(n.split(".")[0] in ("studies", "tests") for n in names), path
