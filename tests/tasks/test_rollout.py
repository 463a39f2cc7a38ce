"""Episodes of a policy: recorded and not."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from loro_jax.tasks import load
from loro_jax.tasks.rollout import recorded, rollouts, uniform


@pytest.mark.parametrize("name", ["cartpole", "frozen_lake", "pendulum"])
def test_a_recorded_episode_is_the_one_that_is_played(name: str) -> None:
    env = load(name).environment()
    keys = jax.random.split(jax.random.key(3), 8)
    returns, lengths = rollouts(env, uniform(env), keys)
    rows = jax.jit(jax.vmap(lambda key: recorded(env, uniform(env), key, env.limit)))(keys)
    played = np.asarray(rows.played)
    np.testing.assert_array_equal(played.sum(axis=1), lengths)
    np.testing.assert_allclose(np.where(played, rows.rewards, 0).sum(axis=1), returns, rtol=1e-5)
    last = lengths - 1
    ended = np.asarray(rows.terminated | rows.truncated)
    assert ended[np.arange(8), last].all() and not ended[played].sum() > 8
