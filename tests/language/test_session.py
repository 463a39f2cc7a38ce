"""A collection comes out the same however often it is killed, and asks nothing twice."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import gzip
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import pytest

from loro_jax import tasks
from loro_jax.data import episodes as dataset
from loro_jax.errors import UserError
from loro_jax.language import journal, play, session
from loro_jax.language.journal import Journal
from loro_jax.language.policy import Attempt, Decision, Request, number_of
from loro_jax.spaces import Discrete

IDENTITY: dict[str, Any] = {"environment": "cartpole", "seed": 3}


class Scripted:
    """A policy that follows the pole most of the time; it is interrupted after `rounds` rounds."""

    def __init__(self, rounds: int = 10**9, says: str = "\u00e9") -> None:
        self.rounds, self.says, self.calls = rounds, says, 0

    def recall(self, steps: Sequence[dict[str, Any]]) -> None:
        pass

    def decide(self, requests: Sequence[Request]) -> list[Decision]:
        if self.calls == self.rounds:
            raise KeyboardInterrupt
        self.calls += 1
        return [self._decide(r) for r in requests]

    def _decide(self, r: Request) -> Decision:
        noisy = number_of("noise", r.episode, r.step) % 4 == 0
        action = int((r.fields["pole_direction"] == "right") != noisy)
        answer = Attempt(f"{self.says} {r.step}", None if noisy else action, False, 7, 3)
        return Decision(action, noisy, (answer,))


@pytest.fixture(scope="module")
def simulator() -> play.Simulator:
    return play.Simulator(tasks.load("cartpole").environment(), seed=3)


def plan(simulator: play.Simulator, out: pathlib.Path, episodes: int = 5) -> session.Collection:
    words = tasks.load("cartpole").words
    assert words is not None
    card = {"name": "scripted", "alignment": "true", **IDENTITY}
    return session.Collection(simulator, words, episodes, 2, out, card)


def collect(collection: session.Collection, policy: Scripted) -> None:
    record = Journal(collection.out, IDENTITY)
    try:
        collection.run(record, policy)
    finally:
        record.close()


def load(out: pathlib.Path) -> dataset.Episodes:
    return dataset.load(out, "cartpole", (4,), Discrete(2))


def transcript(out: pathlib.Path) -> list[dict[str, Any]]:
    with gzip.open(out / journal.TRANSCRIPT, "rt") as lines:
        return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


@pytest.fixture(scope="module")
def whole(simulator: play.Simulator, tmp_path_factory: pytest.TempPathFactory) -> session.Collection:
    collection = plan(simulator, tmp_path_factory.mktemp("whole"))
    collect(collection, Scripted())
    return collection


def test_the_dataset_and_its_record_agree(whole: session.Collection) -> None:
    episodes, (first, *steps) = load(whole.out), transcript(whole.out)
    assert first == IDENTITY
    assert [s["action"] for s in steps] == episodes.transitions.action.tolist()
    assert [s["episode"] for s in steps] == np.repeat(np.arange(5), episodes.episode_lengths).tolist()
    answers = episodes.card["answers"]
    assert answers["steps"] == len(steps) == episodes.card["steps"]
    assert answers["random_actions"] == sum(s["random"] for s in steps) > 0
    assert answers["unparsable_answers"] == answers["random_actions"]
    assert answers["answer_tokens"] == 3 * len(steps)
    assert episodes.card["complete"] and not (whole.out / journal.JOURNAL).exists()


def test_transitions_replay_in_the_simulator(whole: session.Collection, simulator: play.Simulator) -> None:
    episodes = load(whole.out)
    t, rows = episodes.transitions, 0
    for index, length in enumerate(episodes.episode_lengths):
        game = simulator.begin(index)
        for row in range(rows, rows + length):
            simulator.advance(game, int(t.action[row]))
            for mine, theirs in zip(game.rows[-1], t, strict=True):
                np.testing.assert_array_equal(mine, theirs[row])
        rows += length
        assert game.done


def test_transitions_are_single_steps_of_the_game(whole: session.Collection) -> None:
    """Independent of the collector: every row is one step from the state that its observation names."""
    from gymnax.environments.classic_control.cartpole import EnvState

    environment, t = tasks.load("cartpole").environment(), load(whole.out).transitions
    time = np.concatenate([np.arange(n, dtype=np.int32) for n in load(whole.out).episode_lengths])
    states = EnvState(x=t.obs[:, 0], x_dot=t.obs[:, 1], theta=t.obs[:, 2], theta_dot=t.obs[:, 3], time=time)
    keys = jax.random.split(jax.random.key(0), len(time))
    after, _, reward, terminated, truncated = jax.vmap(environment.step)(keys, states, t.action)
    np.testing.assert_allclose(after, t.next_obs, atol=1e-6)
    np.testing.assert_array_equal(reward, t.reward)
    np.testing.assert_array_equal(terminated, t.terminated)
    np.testing.assert_array_equal(truncated, t.truncated)


@pytest.mark.parametrize("kills", [(0,), (1,), (4, 3), (30,)])
def test_resumed_equals_uninterrupted(
    whole: session.Collection, simulator: play.Simulator, tmp_path: pathlib.Path, kills: tuple[int, ...]
) -> None:
    collection = plan(simulator, tmp_path)
    for rounds in kills:
        with pytest.raises(KeyboardInterrupt):
            collect(collection, Scripted(rounds))
        with open(tmp_path / journal.JOURNAL, "ab") as file:
            file.write(b'[{"episode": 0, "st')  # the kill came in the middle of a write
    collect(collection, Scripted())
    for mine, theirs in zip(load(tmp_path).transitions, load(whole.out).transitions, strict=True):
        assert mine.tobytes() == theirs.tobytes()
    assert transcript(tmp_path) == transcript(whole.out)


STRANGE = '\x00\r\r\n\x1c\x85\u2028\u2029\ufeff\ufffe\ud83d \\\ude00\\"' + "\U0001f600" * 1000


def test_any_answer_can_be_recorded(
    whole: session.Collection, simulator: play.Simulator, tmp_path: pathlib.Path
) -> None:
    """Line ends of every kind, and halves of characters, in answers as in names."""
    card = {**plan(simulator, tmp_path).card, "model": STRANGE}
    collection = dataclasses.replace(plan(simulator, tmp_path), card=card)
    identity = {**IDENTITY, "model": STRANGE}
    for rounds in (3, 10**9):
        with contextlib.closing(Journal(tmp_path, identity)) as record:
            if rounds == 3:
                with pytest.raises(KeyboardInterrupt):
                    collection.run(record, Scripted(rounds, STRANGE))
            else:
                collection.run(record, Scripted(rounds, STRANGE))
    found, *steps = transcript(tmp_path)
    assert found == identity and load(tmp_path).card["model"] == STRANGE
    assert all(s["attempts"][0]["answer"] == f"{STRANGE} {s['step']}" for s in steps)
    assert [s["action"] for s in steps] == [s["action"] for s in transcript(whole.out)[1:]]


def test_an_interrupted_dataset_holds_the_finished_episodes(
    whole: session.Collection, simulator: play.Simulator, tmp_path: pathlib.Path
) -> None:
    longest = int(load(whole.out).episode_lengths[:2].max())
    with pytest.raises(KeyboardInterrupt):
        collect(plan(simulator, tmp_path), Scripted(longest + 1))
    part, all_ = load(tmp_path), load(whole.out)
    assert not part.card["complete"] and 1 <= len(part.episode_lengths) < 5
    assert set(part.episode_lengths.tolist()) <= set(all_.episode_lengths.tolist())


def test_a_finished_collection_asks_nothing(whole: session.Collection, simulator: play.Simulator) -> None:
    before = {f.name: f.read_bytes() for f in whole.out.iterdir()}
    policy = Scripted(rounds=0)  # any question would interrupt
    collect(plan(simulator, whole.out), policy)
    collect(plan(simulator, whole.out, episodes=3), policy)
    assert policy.calls == 0
    assert before == {f.name: f.read_bytes() for f in whole.out.iterdir()}


def test_more_episodes_are_added_to_a_finished_collection(
    whole: session.Collection, simulator: play.Simulator, tmp_path: pathlib.Path
) -> None:
    collect(plan(simulator, tmp_path, episodes=2), Scripted())
    collect(plan(simulator, tmp_path, episodes=5), Scripted())
    assert dataset.digest(load(tmp_path)) == dataset.digest(load(whole.out))
    assert transcript(tmp_path) == transcript(whole.out)


def test_another_collection_is_refused(simulator: play.Simulator, tmp_path: pathlib.Path) -> None:
    collect(plan(simulator, tmp_path, episodes=1), Scripted())
    before = {f.name: f.read_bytes() for f in tmp_path.iterdir()}
    with pytest.raises(UserError, match="begun with another seed"):
        Journal(tmp_path, IDENTITY | {"seed": 4})
    assert before == {f.name: f.read_bytes() for f in tmp_path.iterdir()}


def test_two_collectors_do_not_share_a_folder(tmp_path: pathlib.Path) -> None:
    first = Journal(tmp_path, IDENTITY)
    first.begin()
    with pytest.raises(UserError, match="another collection is writing"):
        Journal(tmp_path, IDENTITY)
    first.close()
    Journal(tmp_path, IDENTITY).close()


def test_a_round_that_found_no_room_can_be_recorded_later(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the same process, or by the next one: nothing of it is left."""

    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    step = {"episode": 0, "step": 0}
    with contextlib.closing(Journal(tmp_path, IDENTITY)) as record:
        record.append([step])
        kept = (tmp_path / journal.JOURNAL).read_bytes()
        with monkeypatch.context() as patch, pytest.raises(UserError, match="recorded is whole: make room"):
            patch.setattr(os, "fsync", full)
            record.append([step | {"step": 1}])
        assert (tmp_path / journal.JOURNAL).read_bytes() == kept and record.steps == [step]
        record.append([step | {"step": 1}])
    with contextlib.closing(Journal(tmp_path, IDENTITY)) as again:
        assert again.steps == [step, step | {"step": 1}]


def test_damage_is_refused_and_kept(
    whole: session.Collection, simulator: play.Simulator, tmp_path: pathlib.Path
) -> None:
    damaged = (whole.out / journal.TRANSCRIPT).read_bytes()[:-20]
    (tmp_path / journal.TRANSCRIPT).write_bytes(damaged)
    with pytest.raises(UserError, match=r"transcript.jsonl.gz: damaged"):
        Journal(tmp_path, IDENTITY)
    assert (tmp_path / journal.TRANSCRIPT).read_bytes() == damaged
    other = tmp_path / "other"
    other.mkdir()
    (other / journal.JOURNAL).write_bytes(json.dumps(IDENTITY).encode() + b"\nnot json\n")
    with pytest.raises(UserError, match=r"journal.jsonl: damaged"):
        Journal(other, IDENTITY)
    (other / journal.JOURNAL).unlink()
    (other / "episodes.npz").write_bytes(b"someone's")
    with pytest.raises(UserError, match="without a transcript"):
        Journal(other, IDENTITY)


def test_a_record_of_another_game_is_refused(simulator: play.Simulator, tmp_path: pathlib.Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        collect(plan(simulator, tmp_path), Scripted(3))
    elsewhere = play.Simulator(simulator.environment, seed=4)
    with pytest.raises(UserError, match="does not fit the game at episode 0, step 0"):
        collect(plan(elsewhere, tmp_path), Scripted())


def test_random_policy(simulator: play.Simulator) -> None:
    """CartPole's random policy is known to last some 22 steps; each step gives 1."""
    returns, lengths = play.random_policy(simulator.environment, 1000, seed=0)
    np.testing.assert_array_equal(returns, lengths)
    assert 20.5 < returns.mean() < 24 and returns.min() >= 8


def test_questions_are_counted_for_the_episodes_that_use_them(tmp_path: pathlib.Path) -> None:
    """An answer that is used again counts once, whichever episode asked; what cannot be told is -1."""

    def step(episode: int, state: str, sample: int | None, asked: int) -> dict[str, Any]:
        return {"episode": episode, "state": {"s": state}, "sample": sample, "attempts": [{}] * asked}

    steps = [
        step(0, "a", 0, 1), step(0, "a", 1, 2), step(0, "a", 0, 0),
        step(1, "b", None, 3), step(1, "b", None, 1), step(1, "c", 0, 0),
        step(2, "c", 0, 1), step(2, "d", 0, 5),
    ]  # fmt: skip
    with gzip.open(tmp_path / journal.TRANSCRIPT, "wt") as out:
        for line in ({"environment": "x"}, *steps):
            out.write(json.dumps(line) + "\n")
    assert [journal.questions(tmp_path, n) for n in (1, 2, 3)] == [3, 8, 13]
    assert journal.questions(tmp_path, 4) == -1  # more than were recorded
    assert journal.questions(tmp_path / "nothing", 1) == -1
    (tmp_path / journal.TRANSCRIPT).write_bytes(b"no gzip")
    assert journal.questions(tmp_path, 1) == -1
