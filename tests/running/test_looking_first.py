"""`--quick` and `--dry-run`: a first look, before anything long is begun."""

from __future__ import annotations

import json
import pathlib

import pytest

from loro_jax.running.command import main, parse
from loro_jax.running.experiment import compiling
from loro_jax.tasks import SUITE
from loro_jax.training.phases import Interact
from loro_jax.types import Arm

ROOT = pathlib.Path(__file__).parent.parent.parent


def test_a_dry_run_trains_nothing(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    argv = ["--seeds", "16", "--arms", "pure_rl,loro,on_policy,llm_policy", "--out", str(out), "--dry-run"]
    assert main("cartpole", [*argv, "--protocol", "standard@1"]) == 0
    said = capsys.readouterr().out
    rows = {line.split()[0]: line.split() for line in said.splitlines() if line.strip()}
    assert rows["pure_rl"][1:4] == ["Interact(steps=10000)", "10,000", "10,000"]
    assert "Load(rows=1763)" in rows["loro"] and "8,200" in rows["loro"] and "9,200" in rows["loro"]
    assert rows["on_policy"].count("11,000") == 1  # gradient steps: also those of its own first steps
    assert "1,800 of 10,000 environment steps are charged for prior data" in said
    assert "up to a minute of compiling" in said and "MiB" in said and "Nothing was trained." in said
    assert not out.exists()


def test_many_arms_take_longer_to_compile() -> None:
    """The shipped run of eleven learning arms compiled for 48 and 81 s (results/guidance)."""
    arms = [Arm(str(i), (Interact(200),), "") for i in range(11)] + [Arm("flat", (), "")]
    assert compiling(arms) == "up to 2 minutes" and compiling(arms[-6:]) == "up to a minute"


def test_prior_data_of_another_game_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--seeds", "2", "--dry-run", "--arms", "pure_rl,loro", "--protocol", "standard@1", "--game"]
    assert main("frozen_lake", [*argv, "slippery=false"]) == 0
    said = capsys.readouterr()
    assert (
        "warning: the prior data was played without the parameters that the game has here (slippery"
        in said.err
    )
    assert main("frozen_lake", [*argv, "layout=8x8"]) == 2  # whose observations are others
    said = capsys.readouterr()
    assert "observations has shape" in said.err and said.err.count("\n") == 1


@pytest.mark.parametrize("name", SUITE)
def test_quick_is_small_for_every_task(name: str) -> None:
    """Few seeds, arms and evaluations, and something left of the budget after prior data."""
    _, options = parse(name, ["--quick"])
    settings = options.settings
    assert options.quick and options.seeds == 8 and options.arms == "pure_rl,loro,llm_policy,random_policy"
    assert settings.prior.tau == 2 and settings.prior.fit_steps <= 200
    assert 10 <= settings.schedule.evaluations <= 12
    _, mine = parse(name, ["--quick", "--seeds", "3", "--tau", "1", "--arms", "mix"])
    assert (mine.seeds, mine.settings.prior.tau, mine.arms) == (3, 1, "mix")


@pytest.mark.long
@pytest.mark.slow
def test_quick_says_what_was_changed(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main("frozen_lake", ["--quick", "--seeds", "2"]) == 0
    out = tmp_path / "results" / "frozen_lake" / "standard@2-quick"
    summary = json.loads((out / "summary.json").read_text())
    assert summary["protocol"].startswith("standard@2 with budget=")
    assert set(summary["arms"]) == {"pure_rl", "loro", "llm_policy", "random_policy"}
    assert "tau=2" in (out / "summary.md").read_text().splitlines()[0]
