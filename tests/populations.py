"""A small population on CartPole that many tests share, and equality to the bit."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from loro_jax.agents import DDQN
from loro_jax.tasks import load
from loro_jax.training.population import Layout, Programs, begin
from loro_jax.training.world import Interaction, World
from loro_jax.types import Knowledge, Phase, Run, Transition

MEMBERS, INTERVAL, PRIOR_ROWS = 4, 20, 30


@dataclasses.dataclass(frozen=True)
class Population:
    """Four members of CartPole with a small agent, and the programs compiled for them so far."""

    world: World
    layout: Layout
    programs: Programs
    known: Knowledge
    begun: Run

    def start(self) -> Run:
        """A copy of the members' start, which a program may use up."""
        return jax.tree.map(jnp.copy, self.begun)

    def play(self, *phases: Phase, runs: Run | None = None) -> tuple[Run, np.ndarray]:
        """The runs after `phases`, and their records side by side, (members, evaluations)."""
        runs = self.start() if runs is None else jax.tree.map(jnp.copy, runs)
        records = [np.zeros((MEMBERS, 0), np.float32)]
        for phase in phases:
            runs, record = self.programs(phase, runs, self.known)
            records.append(record)
        return runs, np.concatenate(records, axis=1)


def small() -> Population:
    how = Interaction(eval_interval=INTERVAL, eval_episodes=1, reset_each_interval=False)
    agent = DDQN(
        hidden=(16, 16), learning_rate=1e-2, batch_size=16, target_network_frequency=7, epsilon=0.2,
        learning_starts=16, replay_capacity=70,
    )  # fmt: skip
    world = World(load("cartpole").environment(), agent, how)
    layout = Layout(devices=2, block=2)
    rng = np.random.default_rng(0)
    obs, next_obs = rng.uniform(-0.2, 0.2, (2, PRIOR_ROWS, 4)).astype(np.float32)
    data = Transition(
        obs, rng.integers(0, 2, PRIOR_ROWS).astype(np.int32), np.ones(PRIOR_ROWS, np.float32), next_obs,
        rng.random(PRIOR_ROWS) < 0.1, np.zeros(PRIOR_ROWS, bool),
    )  # fmt: skip
    begun = begin(world, layout, seed=0, seeds=MEMBERS, shared_pretraining=False)
    return Population(
        world, layout, Programs(world, layout), Knowledge(jax.tree.map(jnp.asarray, data)), begun
    )


def numbers(tree: Any) -> Any:
    """The tree's leaves as numpy arrays, keys by their data."""

    def number(x: Any) -> np.ndarray:
        typed = isinstance(x, jax.Array) and jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(x) if typed else x)

    return jax.tree.map(number, tree)


def member(tree: Any, index: int) -> Any:
    """One member's leaves, as numpy arrays."""
    return jax.tree.map(lambda x: x[index], numbers(tree))


def assert_same(one: Any, other: Any) -> None:
    """Two trees equal to the bit, leaf by leaf."""
    ours, theirs = jax.tree_util.tree_leaves_with_path(numbers(one)), jax.tree.leaves(numbers(other))
    assert len(ours) == len(theirs)
    for (path, a), b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=jax.tree_util.keystr(path), strict=True)


def differ(one: Any, other: Any) -> bool:
    return not all(jax.tree.leaves(jax.tree.map(np.array_equal, numbers(one), numbers(other))))
