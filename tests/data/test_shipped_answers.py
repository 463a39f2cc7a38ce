"""Every shipped table: what its texts' rows say against its transcript, and its coverage counted again."""

from __future__ import annotations

import functools
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import gymnasium
import jax
import numpy as np
import pytest

from loro_jax.data import answers
from loro_jax.data.answers import Answers
from loro_jax.language import prompts, tables
from loro_jax.language.journal import read_transcript
from loro_jax.spaces import Discrete
from loro_jax.tasks import load
from loro_jax.tasks.actions import among

SHIPPED = sorted(card.parent for card in answers.SHIPPED.glob("*/*/card.json"))
EACH = pytest.mark.parametrize("folder", SHIPPED, ids=lambda f: f"{f.parent.name}/{f.name}")
GAMES: dict[str, tuple[str, dict[str, Any]]] = {
    "cartpole": ("CartPole-v1", {"max_episode_steps": 200}),
    "frozen_lake": ("FrozenLake-v1", {"is_slippery": True}),
    "frozen_lake_nonslippery": ("FrozenLake-v1", {"is_slippery": False, "max_episode_steps": 20}),
    "cliff_walking": ("CliffWalking-v1", {"max_episode_steps": 200}),
    "mountain_car": ("MountainCar-v0", {}),
    "pendulum": ("Pendulum-v1", {}),
}
EPISODES = 200


@functools.cache
def read(folder: pathlib.Path) -> Answers:
    return tables.read(folder, load(folder.parent.name))


@EACH
def test_each_row_is_what_the_transcript_has(folder: pathlib.Path) -> None:
    """Text by text: the answers in their order, each read again; and the compiled lookup finds them."""
    kept, task = read(folder), load(folder.parent.name)
    assert task.words is not None
    _, steps = read_transcript(folder / "transcript.jsonl.gz")
    said: dict[tuple[int, ...], dict[int, Any]] = {}
    for step in steps:
        row = said.setdefault(tuple(step["digits"]), {})
        reader = among(task.words.reader, kept.coding.legal(tuple(step["digits"])))
        for place, attempt in enumerate(step.get("attempts", ()), step["first"]):
            assert reader.read(attempt["answer"]) == attempt["action"]
            row[place] = attempt["action"]
    assert {tuple(d) for d in kept.digits[kept.asked].tolist()} == {d for d, row in said.items() if row}
    looked_up, coding = kept.table(), kept.coding
    found = jax.jit(jax.vmap(lambda d: answers.find(looked_up, coding, d)))(kept.digits[kept.asked])
    assert np.asarray(found.own).all()
    nothing = -1 if isinstance(task.environment().action_space, Discrete) else np.nan
    samples = range(kept.samples)
    for digits, actions in zip(
        kept.digits[kept.asked].tolist(), np.asarray(looked_up.actions)[np.asarray(found.row)], strict=True
    ):
        wanted = [nothing if said[tuple(digits)][i] is None else said[tuple(digits)][i] for i in samples]
        np.testing.assert_array_equal(actions, np.asarray(wanted, actions.dtype).reshape(actions.shape))


@EACH
def test_a_row_is_named_by_its_text(folder: pathlib.Path) -> None:
    kept, task = read(folder), load(folder.parent.name)
    assert task.words is not None
    prompt = prompts.parse(kept.card["prompt"]["text"], "prompt", task.words.names, str(folder))
    with np.load(folder / "answers.npz") as arrays:
        texts = arrays["texts"].tolist()
    assert texts == [prompt.tail(kept.coding.texts(d)) for d in kept.digits.tolist()]
    assert len(set(texts)) == len(texts)


def episodes(name: str, act: Any, seed: int) -> Iterator[list[np.ndarray]]:
    """Observations in which `act` is asked, of Gymnasium's own game."""
    game_name, settings = GAMES[name]
    game, cells = gymnasium.make(game_name, **settings), load(name).environment().states
    rng = np.random.default_rng(seed)
    for episode in range(EPISODES):
        obs, _ = game.reset(seed=seed + episode)
        seen, done = [], False
        while not done:
            seen.append(np.eye(cells, dtype=np.float32)[obs] if cells else np.asarray(obs, np.float32))
            obs, _, terminated, truncated, _ = game.step(act(seen[-1], rng))
            done = terminated or truncated
        yield seen


@pytest.mark.slow
@pytest.mark.parametrize("player", ["uniform", "answers"])
@EACH
def test_coverage_is_what_an_independent_player_finds(folder: pathlib.Path, player: str) -> None:
    """Gymnasium's game, texts rendered and compared as texts. The share of visits that were asked about is
    the card's within 0.02, and not far below what was wanted."""
    kept, name = read(folder), folder.parent.name
    if name not in GAMES:
        pytest.skip("Gymnasium does not have the game, or plays it on a console alone")
    task = load(name)
    words, env = task.words, task.environment()
    assert words is not None
    prompt = prompts.parse(kept.card["prompt"]["text"], "prompt", words.names, str(folder))
    with np.load(folder / "answers.npz") as arrays:
        texts, asked = arrays["texts"].tolist(), arrays["asked"]
        said = dict(zip(texts, arrays["actions"], strict=True))
    known = {text for text, was in zip(texts, asked, strict=True) if was}

    def tell(obs: np.ndarray) -> str:
        return prompt.tail({f.name: f.text(obs) for f in words.fields})

    def act(obs: np.ndarray, rng: np.random.Generator) -> Any:
        if player == "answers" and tell(obs) in known:
            one = said[tell(obs)][rng.integers(kept.samples)]
            if not (np.isnan(one).any() if one.dtype.kind == "f" else one == -1):
                return one
        if isinstance(env.action_space, Discrete):
            return int(rng.integers(env.action_space.n))
        return rng.uniform(env.action_space.low, env.action_space.high).astype(np.float32)

    visits = [tell(obs) in known for seen in episodes(name, act, 11) for obs in seen]
    share = float(np.mean(visits))
    card = json.loads((folder / "card.json").read_text())
    assert abs(share - card["coverage"][player]) < 0.02
    assert share > card["coverage_wanted"] - 0.01


def test_how_good_a_policy_the_shipped_lakes_first_answers_allow() -> None:
    """Value iteration over Gymnasium's table, kept to the first five answers about each cell, within the 100
    steps of an episode: what results/guidance/README.md says of `dqn_prior`."""
    kept = read(answers.SHIPPED / "frozen_lake" / "qwen2.5-coder-0.5b-instruct-map")
    rows = kept.nearest(np.asarray(answers.digits_of(kept.coding)(np.eye(16, dtype=np.float32))))
    allowed = [set(actions) for actions in kept.actions[rows, :5].tolist()]
    outcomes = gymnasium.make("FrozenLake-v1", is_slippery=True).unwrapped.P
    values: dict[str, np.ndarray] = {}
    for name, actions in (("first", allowed), ("all", [range(4)] * 16)):
        value = np.zeros(16)
        for _ in range(100):
            worth = [
                [sum(p * (reward + value[after] * (not done)) for p, after, reward, done in outcomes[s][a])
                 for a in actions[s]]
                for s in range(16)
            ]  # fmt: skip
            value = np.array([max(w) for w in worth])
        values[name] = value
    assert values["first"][0] == pytest.approx(0.080, abs=5e-4)
    assert values["all"][0] == pytest.approx(0.744, abs=5e-4)
