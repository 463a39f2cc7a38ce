"""Datasets in Minari's format, read back with Minari itself."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from typing import Any

import minari
import numpy as np
import pytest

from loro_jax.data import episodes
from loro_jax.data.episodes import Episodes
from loro_jax.errors import EpisodeError, UserError, command
from loro_jax.interchange.minari import export, main
from loro_jax.spaces import Discrete
from loro_jax.tasks import load
from loro_jax.types import Transition


def read(out: pathlib.Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(out))
    return minari.load_dataset(name)


@pytest.mark.parametrize(("task", "dataset"), [("cartpole", ""), ("pendulum", "")])
def test_what_minari_reads_is_what_was_played(
    task: str, dataset: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = load(task)
    name = dataset or known.episodes or episodes.shipped(task)[0]
    assert main([name, "--task", task, "--out", str(tmp_path)]) == 0
    env = known.environment()
    ours = episodes.load(episodes.resolve(name, task), task, env.observation_shape, env.action_space)
    theirs = read(tmp_path, f"loro-jax/{task}/{name.replace('.', '_')}-v0", monkeypatch)
    assert theirs.total_episodes == len(ours.episode_lengths)
    assert theirs.total_steps == ours.episode_lengths.sum()
    assert isinstance(env.action_space, Discrete) == hasattr(theirs.action_space, "n")
    ends = ours.ends
    for i, episode in enumerate(theirs.iterate_episodes()):
        rows = slice(ends[i] - ours.episode_lengths[i], ends[i])
        t = Transition(*(np.asarray(x[rows]) for x in ours.transitions))
        np.testing.assert_array_equal(episode.observations[:-1], t.obs)
        np.testing.assert_array_equal(episode.observations[1:], t.next_obs)
        np.testing.assert_array_equal(episode.actions, t.action)
        np.testing.assert_array_equal(episode.rewards, t.reward)
        np.testing.assert_array_equal(episode.terminations, t.terminated)
        np.testing.assert_array_equal(episode.truncations, t.truncated)
        assert theirs.observation_space.contains(episode.observations[0])
    description = theirs.storage.metadata["description"]
    assert episodes.digest(ours) in description and task in description


def small(follow: bool = True) -> Episodes:
    obs = np.arange(12, dtype=np.float32).reshape(3, 4)
    after = np.concatenate([obs[1:], obs[:1]]) if follow else obs
    last = np.array([False, False, True])
    t = Transition(obs, np.zeros(3, np.int32), np.ones(3, np.float32), after, last, np.zeros(3, bool))
    return Episodes(t, np.array([3]), {"environment": "cartpole", "name": "small"})


def test_rows_that_do_not_follow_from_each_other_are_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(EpisodeError, match="rows of episode 0 do not follow from each other"):
        export(small(follow=False), Discrete(2), tmp_path, "mine/small-v0")
    early = small()
    early = dataclasses.replace(early, transitions=early.transitions._replace(terminated=np.ones(3, bool)))
    with pytest.raises(EpisodeError, match="episode 0 ends before its last row"):
        export(early, Discrete(2), tmp_path, "mine/small-v0")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["small", "a b-v0", "../up-v0x", "/a-v0"])
def test_a_name_that_minari_could_not_read_is_refused(name: str, tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match="--name is such as loro-jax/cartpole/my-episodes-v0"):
        export(small(), Discrete(2), tmp_path, name)


def test_nothing_is_overwritten_and_the_environment_stays(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", "elsewhere")
    where = export(small(), Discrete(2), tmp_path, "mine/small-v0")
    before = {p.name: p.read_bytes() for p in where.rglob("*") if p.is_file()}
    with pytest.raises(UserError, match="exists; give --out another folder"):
        export(small(), Discrete(2), tmp_path, "mine/small-v0")
    assert os.environ["MINARI_DATASETS_PATH"] == "elsewhere"
    assert {p.name: p.read_bytes() for p in where.rglob("*") if p.is_file()} == before


def test_a_dataset_that_is_not_there_is_one_line(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(lambda: main(["nowhere", "--out", str(tmp_path)])) == 2
    assert capsys.readouterr().err.startswith("error: ")
