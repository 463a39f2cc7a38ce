"""Every notebook in examples/ runs from its first cell to its last, in an empty folder."""

from __future__ import annotations

import os
import pathlib
import warnings

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.long]

ROOT = pathlib.Path(__file__).parent.parent
NONE = pytest.param(None, marks=pytest.mark.skip(reason="examples/ holds no notebook"))
SECONDS = 600
"""For one cell."""


@pytest.mark.parametrize(
    "path", sorted((ROOT / "examples").glob("*.ipynb")) or [NONE], ids=lambda p: p and p.name
)
def test_a_notebook_runs(path: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # Jupyter's own, while it is imported and while it runs
        import nbclient
        import nbformat

        # The kernel is a process of its own: it shall use this tree, and leave nothing in anybody's home.
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
        monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
        monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
        (tmp_path / "empty").mkdir()
        notebook = nbformat.read(path, as_version=4)
        client = nbclient.NotebookClient(
            notebook,
            timeout=SECONDS,
            kernel_name="python3",
            resources={"metadata": {"path": tmp_path / "empty"}},
        )
        client.execute()  # raises with the cell and its traceback
