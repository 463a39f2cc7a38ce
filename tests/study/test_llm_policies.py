"""The report on language models as policies says what the episodes beside it say."""

from __future__ import annotations

import json
import pathlib
import shutil
from typing import Any

import numpy as np
import pytest

from loro_jax import files
from loro_jax.errors import UserError
from loro_jax.records import results
from loro_jax.tasks import SUITE, load
from studies import llm_policies

RESULTS = pathlib.Path(__file__).parent.parent.parent / "results"
REPORT = RESULTS / "llm_policies.json"
PLAIN = "smollm2-135m-instruct-plain"
"""A small set, whose card was written before there were modes and grammars."""


@pytest.fixture
def copied(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder of datasets with one in it."""
    shutil.copytree(RESULTS / "episodes" / "cartpole" / PLAIN, tmp_path / "episodes" / "cartpole" / PLAIN)
    return tmp_path / "episodes"


def rewrite(root: pathlib.Path, **changes: Any) -> None:
    """Changes entries of the copied card; None removes one."""
    path = root / "cartpole" / PLAIN / "card.json"
    card = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in card.items() if value is not None}))


@pytest.mark.parametrize("name", SUITE)
def test_the_report_is_what_the_episodes_say(name: str) -> None:
    """All but the agreement in Pong, whose planner takes a while."""
    saved = json.loads(REPORT.read_text())[name]
    folders = llm_policies.folders(RESULTS / "episodes", name)
    complete = [f for f in folders if json.loads((f / "card.json").read_text()).get("complete")]
    assert [row["name"] for row in saved["rows"]] == [f.name for f in complete]
    models = {row["model"] for row in saved["rows"] if row["episodes"] >= 30}
    assert len(models) >= 2 and any("0.5b" in m or "1.5b" in m for m in models)
    if name == "pong":
        return
    for row, folder in zip(saved["rows"], complete, strict=True):
        found = llm_policies.describe(folder, load(name))
        assert found is not None
        assert found.keys() == row.keys()
        for key, value in row.items():
            assert found[key] == (
                pytest.approx(value, rel=1e-6) if isinstance(value, float | list) else value
            )


def test_the_tables_are_the_reports() -> None:
    text = (RESULTS / "llm_policies.md").read_text()
    assert text == llm_policies.markdown(json.loads(REPORT.read_text()))


def test_the_command_writes_its_report(copied: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """The same row as in the shipped report, an old card's mode and grammar filled in, both figures."""
    out = tmp_path / "new" / "report.md"
    assert llm_policies.main(["--folder", str(copied), "--out", str(out)]) == 0
    found = json.loads(out.with_suffix(".json").read_text())
    (row,) = found["cartpole"]["rows"]
    shipped = next(r for r in json.loads(REPORT.read_text())["cartpole"]["rows"] if r["name"] == PLAIN)
    assert list(found) == ["cartpole", "files"] and row["return"] == pytest.approx(shipped["return"])
    assert (row["mode"], row["grammar"]) == ("cot", False)
    assert found["cartpole"]["reference"] == 200 and found["cartpole"]["reference_standard_error"] == 0
    assert f"`{PLAIN}` (30)" in out.read_text() and "| cot | no |" in out.read_text()
    assert out.read_text() == llm_policies.markdown(found)
    names = ["report.md", "report.pdf", "report.png"]
    assert found["files"] == {name: files.digest(out.parent / name) for name in names}
    assert sorted(p.name for p in out.parent.iterdir()) == ["report.json", *names]


def test_a_report_that_cannot_be_drawn_leaves_the_old_one(
    copied: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "report.json").write_text('{"old": {}}')
    (tmp_path / "report.md").write_text("old")

    def fails(found: Any, out: pathlib.Path) -> None:
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(llm_policies, "draw", fails)
    with pytest.raises(UserError, match=r"results cannot be written to .* \(no space left on device\)"):
        llm_policies.main(["--folder", str(copied), "--out", str(tmp_path / "report")])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["episodes", "report.json", "report.md"]
    assert (tmp_path / "report.md").read_text() == "old"
    with pytest.raises(UserError, match="--out must name the report"):
        llm_policies.main(["--folder", str(copied), "--out", "."])


def test_two_reports_are_written_side_by_side(tmp_path: pathlib.Path) -> None:
    with results.report(tmp_path / "a") as one, results.report(tmp_path / "b") as two:
        files.write_json(one.with_suffix(".json"), {})
        files.write_json(two.with_suffix(".json"), {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "b.json"]


def test_episodes_that_are_not_complete_are_left_out(copied: pathlib.Path, tmp_path: pathlib.Path) -> None:
    rewrite(copied, complete=False)
    assert llm_policies.describe(copied / "cartpole" / PLAIN, load("cartpole")) is None
    with pytest.raises(UserError, match="holds no complete episodes"):
        llm_policies.main(["--folder", str(copied), "--out", str(tmp_path / "report")])


def test_a_card_without_its_answers_is_refused(copied: pathlib.Path) -> None:
    rewrite(copied, answers=None)
    with pytest.raises(UserError, match=r"card\.json: lacks 'answers'; collect"):
        llm_policies.describe(copied / "cartpole" / PLAIN, load("cartpole"))


def test_episodes_are_resampled_whole() -> None:
    """Two episodes, all right and all wrong: resamples are 0, a third or two thirds by length, or 1."""
    assert llm_policies.ratio_interval(np.array([10.0, 0.0]), np.array([10, 20])) == [0.0, 1.0]
    assert llm_policies.ratio_interval(np.array([10.0]), np.array([10])) is None
