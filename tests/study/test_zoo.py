"""The study beside another library: what it refuses, its page, and a training where that is installed."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import numpy as np
import pytest

from loro_jax.errors import UserError, command
from studies import zoo


def record(curves: dict[str, list[float]]) -> dict[str, Any]:
    asked = zoo._record(zoo.Options())
    return asked | {"stable_baselines3": "2.0.0", "curves": curves}


def test_the_page_sets_both_beside_each_other(tmp_path: pathlib.Path) -> None:
    """Four seeds of ours with 10 evaluations of 1 to 4, two of theirs of 1: cumulative 25 and 10."""
    saved = tmp_path / "cartpole" / "standard@2"
    saved.mkdir(parents=True)
    np.savez(saved / "curves.npz", pure_rl=np.arange(1.0, 5.0)[:, None] * np.ones(10), env_steps=np.ones(10))
    asked = record({"0": [1.0] * 10, "1": [1.0] * 10}) | {"protocol": "standard@2", "budget": 2000}
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo" / "cartpole.json").write_text(json.dumps(asked))
    page = zoo.page(tmp_path / "zoo", tmp_path)
    assert "| cartpole | 2,000 | pure RL, `standard@2` | 4 | 25 [" in page and "| +15 [" in page
    assert "| cartpole | 2,000 | stable-baselines3 2.0.0, DQN | 2 | 10 [10, 10] | 1.0 [1.0, 1.0] |  |" in page
    assert "RL Zoo (github.com/DLR-RM/rl-baselines3-zoo), hyperparams/dqn.yml at ce95481" in page
    whole = [1.0] * 10
    for curves in (
        {"0": whole}, {"0": whole, "1": [1.0] * 3}, {"0": whole, "1": "x"}, {"0": whole, "x": whole}, [], None
    ):  # fmt: skip
        (tmp_path / "zoo" / "cartpole.json").write_text(json.dumps(asked | {"curves": curves}))
        with pytest.raises(UserError, match=r"cartpole.json: damaged, or fewer than two seeds"):
            zoo.page(tmp_path / "zoo", tmp_path)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("--task", "frozen_lake"), "the RL Zoo recommends nothing for 'frozen_lake'; there are: cartpole, "),
        (("--seeds", "1"), "--seeds must be at least 2, got 1"),
        (("--results", "no/such"), "no saved run to compare with"),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    argv: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(lambda: zoo.main([*argv])) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1


@pytest.mark.slow
def test_a_training_is_evaluated_as_often_as_the_protocol_says() -> None:
    pytest.importorskip("stable_baselines3", reason="the library that is compared with")
    asked = record({}) | {"budget": 600, "eval_interval": 200, "eval_episodes": 1}
    returns = zoo.trained(asked, 0)
    assert len(returns) == 3 and all(0 < value <= 200 for value in returns)
