"""The API pages are made without a warning, of the public modules alone."""

from __future__ import annotations

import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parent.parent

# pdoc does not find the types of a NamedTuple's fields where annotations are postponed; it shows their names.
FILTERS = "error::UserWarning,ignore:Error parsing type annotation ForwardRef(:UserWarning"


def command() -> str:
    """The line of docs/api.md that makes the pages."""
    text = (ROOT / "docs/api.md").read_text()
    found = re.search(r"<!-- the API pages -->\n```\n(python -m pdoc .*)\n```", text)
    assert found
    return found[1]


def test_pages_are_made_without_warnings(tmp_path: pathlib.Path) -> None:
    pytest.importorskip("pdoc", reason="the extra `docs` is not installed")
    words = shlex.split(command())
    assert words[:3] == ["python", "-m", "pdoc"] and words.count("site") == 1
    words = [sys.executable, *words[1:]]
    words[words.index("site")] = str(tmp_path / "site")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": FILTERS}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "Warn" not in done.stdout + done.stderr, done.stdout + done.stderr
    pages = {p.relative_to(tmp_path / "site").as_posix() for p in (tmp_path / "site").rglob("*.html")}
    assert {"index.html", "loro_jax.html", "loro_jax/tasks.html", "loro_jax/types.html"} <= pages
    assert not any(page.startswith(("loro_jax/running", "loro_jax/shipped")) for page in pages)


def test_what_is_published_is_made_by_the_same_line() -> None:
    assert f"run: {command()}\n" in (ROOT / ".github/workflows/docs.yml").read_text()
