"""What a trained learner earns when another model proposes, another number of answers, or in games that
nothing was trained on: its values are kept, only the choice it is given differs."""

from __future__ import annotations

import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from loro_jax import api, files, keys
from loro_jax.keys import Purpose
from loro_jax.records import results
from loro_jax.tasks import Environment
from loro_jax.training.guidance import keyed, opened
from loro_jax.training.phases import Evaluate
from loro_jax.training.world import Interaction, World, evaluate
from loro_jax.types import Knowledge
from studies.blocks import BEST, Block
from studies.priors.worlds import Known

EPISODES = 100
"""Greedy episodes of each seed."""


class Trained:
    """The policies of an arm, of all its seeds."""

    def __init__(self, folder: pathlib.Path, arm: str, known: Known, seeds: int) -> None:
        # Only its numbers are of use: `returns` is told among what it chooses.
        table, any_of = known.blocks.table, known.blocks.block(BEST, 1)
        one = api.load_policy(folder, arm, 0, known.task, answers=table, support=any_of)
        kept = files.read_npz(folder / results.POLICIES)
        leaves, tree = jax.tree_util.tree_flatten_with_path(one.state)
        names = [f"{arm}/{jax.tree_util.keystr(path)}" for path, _ in leaves]
        self.states = jax.tree.unflatten(tree, [jnp.asarray(kept[name][:seeds]) for name in names])
        self.agent, self.seeds, self.known = one.agent, seeds, known
        nothing: Any = None  # no prior data is looked at
        self.told = Knowledge(nothing, known.blocks.table.table())

    def returns(self, support: Block, env: Environment | None = None, key: int = 0) -> np.ndarray:
        """Each seed's mean return when it chooses among what `support` says, (seeds,)."""
        table = self.known.blocks.table
        how = Interaction(1, EPISODES, False)
        world = World(env or self.known.env, self.agent, how, table.coding, table.length)
        each = jax.vmap(lambda seed: keys.of_seed(key, seed))(jnp.arange(self.seeds))
        return np.asarray(_returns(world, self.states, each, support, self.told), np.float64)


@functools.partial(jax.jit, static_argnums=0)
def _returns(world: World, states: Any, each: jax.Array, support: Block, told: Knowledge) -> jax.Array:
    """Mean returns of agents with such states, (seeds,)."""

    def one(state: Any, key: jax.Array) -> jax.Array:
        doors = opened(Evaluate(EPISODES, support=support), keyed(key), world, told)
        at = keys.fold(key, Purpose.EVALUATE)
        return evaluate(world, state, at, lambda obs: doors.among(world, told, obs))

    return jax.vmap(one)(states, each)
