"""What strangers and their tools read first: the version is one, and every YAML file can be read."""

from __future__ import annotations

import pathlib
import tomllib

import pytest
import yaml

import loro_jax

ROOT = pathlib.Path(__file__).parent.parent
YAML = [ROOT / "CITATION.cff", ROOT / ".pre-commit-config.yaml", *(ROOT / ".github").rglob("*.yml")]


def test_the_version_is_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert project["version"] == citation["version"] == loro_jax.__version__
    assert project["license"] == citation["license"] == "MIT"


@pytest.mark.parametrize("path", YAML, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_yaml_can_be_read(path: pathlib.Path) -> None:
    assert isinstance(yaml.safe_load(path.read_text()), dict)


def test_the_workflow_tests_what_the_package_promises() -> None:
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    workflow = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text())
    pythons = workflow["jobs"]["tests"]["strategy"]["matrix"]["python"]
    assert [f"Programming Language :: Python :: {python}" for python in pythons] == classifiers
    steps = [step.get("run") for step in workflow["jobs"]["tests"]["steps"]]
    assert (
        "python -m pytest -n 2 --dist loadfile -m 'not chaos'" in steps
        and ".venv/bin/python -m pytest -n 2 --dist loadfile" in (ROOT / "README.md").read_text()
    )
