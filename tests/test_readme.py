"""What the README and the docs tell a reader to type does what they say."""

from __future__ import annotations

import pathlib
import re
from typing import Any

import pytest

import loro_jax as lj
from loro_jax.tasks.check import check_task

ROOT = pathlib.Path(__file__).parent.parent


def blocks(path: str) -> list[str]:
    """The Python in a page."""
    return re.findall(r"```python\n(.*?)```", (ROOT / path).read_text(), re.DOTALL)


@pytest.mark.slow
def test_the_ten_lines(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("README.md")
    found: dict[str, Any] = {}
    exec(code, found)
    said = capsys.readouterr().out
    assert "| loro | cumulative return |" in said and "P(improvement) 0." in said
    assert found["curves"].sizes == {"seed": 16, "env_steps": 20}
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_the_task_of_the_page_is_sound() -> None:
    *games, words = blocks("docs/add-a-task.md")
    found: dict[str, Any] = {}
    for code, name in zip(games, ("TASK", "MASKED", "CAR", "CELLS"), strict=True):
        exec(code, found)
        task = lj.Task(name="masked", game=found[name]) if name == "MASKED" else found[name]
        assert [f.says for f in check_task(task) if f.kind == "problem"] == []
    exec(words.split("TASK")[0], found)  # the rest is a sketch
    assert found["describe"](found["jnp"].ones(1), []) == {"place": "1"}


def test_links_lead_somewhere() -> None:
    for page in [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "results/README.md",
        *ROOT.glob("docs/*.md"),
    ]:
        text = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)#\s]+)", text):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"
