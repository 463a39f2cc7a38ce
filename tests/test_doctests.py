"""Every example in a docstring of loro_jax gives what stands below it.

    python -m pytest -m '' tests/test_doctests.py

Blanks and line ends do not matter, and `...` stands for anything.
"""

from __future__ import annotations

import doctest
import importlib
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def prompts_in(path: pathlib.Path) -> int:
    return sum(line.lstrip().startswith(">>> ") for line in path.read_text().splitlines())


TRAINS = (pytest.mark.slow, pytest.mark.long)

# Only modules with examples are imported.
PATHS = [path for path in sorted((ROOT / "loro_jax").rglob("*.py")) if prompts_in(path)]


def module_name(path: pathlib.Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=TRAINS) if p.name == "api.py" else p for p in PATHS],
    ids=module_name,
)
def test_examples(path: pathlib.Path) -> None:
    module = importlib.import_module(module_name(path))
    tests = doctest.DocTestFinder().find(module)
    # An example that doctest does not find, such as one below a field, would never run.
    assert sum(len(test.examples) for test in tests) == prompts_in(path)
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    said: list[str] = []
    for test in tests:
        runner.run(test, out=said.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(said)
