"""Episodes of a policy: recorded and not."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loro_jax.tasks import load
from loro_jax.tasks.rollout import recorded, rollouts, uniform
from loro_jax.training import population


@pytest.mark.parametrize("name", ["cartpole", "frozen_lake", "pendulum"])
def test_a_recorded_episode_is_the_one_that_is_played(name: str) -> None:
    env = load(name).environment()
    keys = jax.random.split(jax.random.key(3), 8)
    play = jax.vmap(lambda key: recorded(env, uniform(env), key, env.limit))
    # Compiled as everybody's programs are: by the older generator two programs' pendulums part.
    both = jax.jit(
        lambda keys: (rollouts(env, uniform(env), keys), play(keys)), compiler_options=population.options()
    )
    (returns, lengths), rows = both(keys)
    played = np.asarray(rows.played)
    np.testing.assert_array_equal(played.sum(axis=1), lengths)
    np.testing.assert_allclose(np.where(played, rows.rewards, 0).sum(axis=1), returns, rtol=1e-5)
    last = lengths - 1
    ended = np.asarray(rows.terminated | rows.truncated)
    assert ended[np.arange(8), last].all() and not ended[played].sum() > 8


def test_an_action_that_is_not_a_number_earns_none() -> None:
    """Pendulum clips its actions."""
    env = load("pendulum").environment()
    keys = jax.random.split(jax.random.key(0), 4)
    for torque, finite in ((jnp.nan, False), (1.0, True)):
        returns, _ = rollouts(env, lambda obs, _, torque=torque: jnp.full(1, torque), keys)
        assert np.isfinite(returns).all() == finite and np.isnan(returns).all() != finite
