"""What DQN-Prior must come to: value iteration over what a frozen table proposes, in three worlds.

Everything is seen, so that the states are Markov's; the table is made at random, with the best action among
the proposals about some texts and not about others. Learning is offline on every step that the proposals
allow, so that nothing hangs on exploration; then greedy play among the proposals earns what value iteration
restricted to them earns, which is less than the best without them.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loro_jax.agents import DDQN
from loro_jax.data.answers import Answers, Coding
from loro_jax.tasks import cooking, frozen_lake, household
from loro_jax.tasks.base import Environment
from loro_jax.tasks.kitchen import TOMATO
from loro_jax.tasks.words import Field
from loro_jax.training.guidance import Proposals
from loro_jax.training.phases import Evaluate, Fit, Load
from loro_jax.training.world import Interaction, World
from loro_jax.types import Knowledge, Transition

N, K = 4, 2
DISCOUNT = 0.95


@dataclasses.dataclass(frozen=True)
class Solved:
    """A deterministic world, every state of which is seen: (N, obs), (N, A), ... ; the first is the start."""

    env: Environment
    seen: np.ndarray
    after: np.ndarray
    reward: np.ndarray
    ended: np.ndarray
    duration: np.ndarray
    legal: np.ndarray

    def q(self, allowed: np.ndarray) -> np.ndarray:
        factor, value = DISCOUNT**self.duration, np.zeros(len(self.after))
        for _ in range(400):
            q = np.where(allowed, self.reward + np.where(self.ended, 0, factor * value[self.after]), -np.inf)
            value = q.max(axis=1)
        return q

    def earned(self, q: np.ndarray) -> float:
        """Undiscounted return of the greedy policy from the first state, under the limit."""
        at, time, total = 0, 0, 0.0
        while True:
            action = int(q[at].argmax())
            total, time = total + self.reward[at, action], time + self.duration[at, action]
            if self.ended[at, action] or time >= self.env.limit:
                return float(total)
            at = self.after[at, action]


def lake() -> Solved:
    env = frozen_lake.frozen_lake(slippery=False, limit=20)
    tiles = np.asarray(env.game.desc).ravel()
    after, ended, reward = np.zeros((16, 4), int), np.zeros((16, 4), bool), np.zeros((16, 4))
    for cell in range(16):
        for action, (down, right) in enumerate(frozen_lake.MOVES):
            to = np.clip(cell // 4 + down, 0, 3) * 4 + np.clip(cell % 4 + right, 0, 3)
            after[cell, action] = to
            ended[cell, action] = tiles[to] in (frozen_lake.HOLE, frozen_lake.GOAL)
            reward[cell, action] = tiles[to] == frozen_lake.GOAL
    ones = np.ones((16, 4), int)
    return Solved(env, np.eye(16, dtype=np.float32), after, reward, ended, ones, ones > 0)


def tomato() -> Solved:
    s = cooking.solved(TOMATO)
    env = cooking.environment(TOMATO, full=True, by_duration=True)
    legal = np.asarray(jax.vmap(cooking.legal(TOMATO))(jnp.asarray(s.full)))
    return Solved(env, s.full, s.after, s.reward, s.terminated, s.duration, legal)


def house() -> Solved:
    """One of the games, that of the apple."""
    _, seen, after, reached, there = household.solved()
    env = household._environment((0,), True, 30)
    return Solved(env, seen, after, reached.astype(float), reached, np.ones(after.shape, int), there)


WORLDS = {"frozen_lake": lake, "overcooked_tomato": tomato, "household": house}


def numbered(seen: np.ndarray) -> Coding:
    """A text for each state: its number, found by comparison."""
    # A number for each observation that no other has: a product with powers, all whole and below 2^24.
    rng = np.random.default_rng(0)
    weights = rng.integers(1, 2**12, seen.shape[1]).astype(np.float32)
    numbers = seen @ weights
    order = np.argsort(numbers)
    assert len(np.unique(numbers)) == len(seen) and numbers.max() < 2**24
    edges = (numbers[order][:-1] + numbers[order][1:]) / 2

    def index(obs: Any) -> Any:
        return ((obs * weights).sum() > edges.astype(np.float32)).sum()

    return Coding((Field("state", tuple(map(str, range(len(seen)))), index),))


@pytest.mark.slow
@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("seed", [0, 1])
def test_greedy_play_earns_what_value_iteration_does(name: str, seed: int) -> None:
    w = WORLDS[name]()
    rng = np.random.default_rng(seed)
    best = w.q(w.legal).argmax(axis=1)
    # Of what can be reached from the start alone, which leaves a household of a few hundred states.
    reached, front = {0}, [0]
    said = np.zeros((len(w.after), N), np.int32)
    while front:
        at = front.pop()
        choices = np.flatnonzero(w.legal[at])
        said[at] = rng.choice(choices, N)
        if rng.random() < 0.7:
            said[at, rng.integers(K)] = best[at]
        for action in said[at, :K]:
            to = int(w.after[at, action])
            if not w.ended[at, action] and to not in reached:
                reached.add(to)
                front.append(to)
    rows = np.array(sorted(reached))
    numbers = {state: i for i, state in enumerate(rows)}
    ends = len(rows)  # a place for what ends
    s = dataclasses.replace(
        w,
        seen=w.seen[rows],
        after=np.array([[numbers.get(int(to), 0) for to in w.after[row]] for row in rows]),
        reward=w.reward[rows], ended=w.ended[rows], duration=w.duration[rows], legal=w.legal[rows],
    )  # fmt: skip
    proposed = np.zeros(s.legal.shape, bool)
    for k in range(K):
        proposed[np.arange(ends), said[rows, k]] = True
    restricted = s.q(proposed)

    coding = numbered(s.seen)
    place = np.array([int(coding.fields[0].index(obs)) for obs in s.seen])
    actions = np.zeros((ends, N), np.int32)
    actions[place] = said[rows]
    digits = np.arange(ends, dtype=np.int32)[:, None]
    table = Answers(coding, digits, actions, np.ones(ends, bool), {}).table()
    agent = DDQN(
        hidden=(128,), batch_size=128, discount=DISCOUNT, learning_rate=1e-3, huber_delta=100.0,
        target_network_frequency=100, learning_starts=0, replay_capacity=4096,
    )  # fmt: skip
    env = dataclasses.replace(s.env, timed=False)  # rows are loaded; durations are in the discounts of no row
    if s.env.timed:
        env = s.env
    world = World(env, agent.for_game(env.action_space), Interaction(200, 1, False), coding)
    pairs = np.argwhere(proposed)
    whole = w.seen[[w.after[rows[i], a] for i, a in pairs]]
    data = Transition(
        s.seen[pairs[:, 0]], pairs[:, 1], s.reward[proposed].astype(np.float32), whole, s.ended[proposed],
        np.zeros(len(pairs), bool),
    )  # fmt: skip
    known, key = Knowledge(world.rows(data), table), jax.random.key(seed)
    support = Proposals(k=K)

    @jax.jit
    def learned() -> tuple[Any, jax.Array]:
        run = world.begin(key, key, known)
        if env.timed:
            from loro_jax.training import replay

            rows_ = jax.tree.map(jnp.asarray, known.rows)
            lasted = jnp.asarray(s.duration[proposed], jnp.int32)
            run = run._replace(replay=replay.add(run.replay, rows_, jnp.ones(len(pairs), bool), lasted))
        else:
            run, _ = Load(len(pairs))(run, world, known)
        run, _ = Fit(20_000, support=support)(run, world, known)
        return run, Evaluate(1, support=support)(run, world, known)[1]

    _, value = learned()
    assert float(value[0]) == pytest.approx(s.earned(restricted), abs=1e-3)


@pytest.mark.parametrize("name", ["frozen_lake", "overcooked_tomato"])
def test_one_proposal_is_followed(name: str) -> None:
    """k = 1: whatever was learned, greedy play earns what the first proposals do."""
    w = WORLDS[name]()
    rng = np.random.default_rng(2)
    said = np.stack([rng.choice(np.flatnonzero(legal), N) for legal in w.legal]).astype(np.int32)
    coding = numbered(w.seen)
    place = np.array([int(coding.fields[0].index(obs)) for obs in w.seen])
    actions = np.zeros_like(said)
    actions[place] = said
    digits = np.arange(len(said), dtype=np.int32)[:, None]
    table = Answers(coding, digits, actions, np.ones(len(said), bool), {}).table()
    world = World(w.env, DDQN(hidden=(8,)).for_game(w.env.action_space), Interaction(200, 1, False), coding)
    known, key = Knowledge(jax.tree.map(lambda x: x[None], world.example), table), jax.random.key(0)
    value = jax.jit(
        lambda: Evaluate(1, support=Proposals(k=1))(world.begin(key, key, known), world, known)[1]
    )()
    first = np.where(np.arange(w.legal.shape[1]) == said[:, :1], 0.0, -np.inf)
    assert float(value[0]) == pytest.approx(w.earned(first), abs=1e-4)
