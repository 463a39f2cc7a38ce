"""SAC with CQL's penalty against d3rlpy's CQL (tests/golden/make_cql_d3rlpy.py)."""

from __future__ import annotations

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_sac_d3rlpy import AGENT, NETWORKS, TORQUES, batch, network, start

from loro_jax.agents.sac import SACState
from loro_jax.errors import UserError
from loro_jax.training.guidance import Conservative
from loro_jax.types import Guided, Transition

GOLDEN = pathlib.Path(__file__).parent.parent / "golden" / "cql_d3rlpy.npz"
DRAWS = ("next_noise", "noise", "policy_noise", "next_policy_noise")  # in the order in which they are drawn


@pytest.mark.slow
def test_a_gradient_step_is_d3rlpys(monkeypatch: pytest.MonkeyPatch) -> None:
    """From its weights with its draws: both losses, the temperature, and all weights."""
    with np.load(GOLDEN) as archive:
        step = dict(archive)
    state = start(AGENT, {k.removeprefix("before/"): v for k, v in step.items() if k.startswith("before/")})
    penalty = Conservative(weight=float(step["weight"]), samples=len(step["uniform"]))

    uniform = jax.random.uniform  # which initial weights are drawn by too

    def give(*names: str) -> None:
        draws = iter([jnp.asarray(step[name]) for name in names])
        monkeypatch.setattr(jax.random, "normal", lambda key, shape: next(draws))

    @jax.jit
    def learn(state: SACState, rows: Transition) -> tuple[SACState, jax.Array, jax.Array]:
        give(*DRAWS)
        learned, loss = AGENT.learn(state, rows, jax.random.key(0), Guided(penalty=penalty))
        give(*DRAWS[2:])
        return learned, loss, AGENT.penalised(penalty, state.critics, state.actor, rows, jax.random.key(0))

    monkeypatch.setattr(
        jax.random,
        "uniform",
        lambda *args, **named: jnp.asarray(step["uniform"]) if "minval" in named else uniform(*args, **named),
    )
    learned, loss, added = learn(state, batch(step))
    np.testing.assert_allclose(added, step["conservative_loss"], rtol=1e-4)
    np.testing.assert_allclose(loss, step["critic_loss"], rtol=1e-4)
    np.testing.assert_allclose(learned.log_temperature, step["after/log_temperature"], atol=2e-6)
    for name in NETWORKS:
        wanted, found = network(step, f"after/{name}"), getattr(learned, name)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
            np.testing.assert_allclose(a, b, atol=2e-5, err_msg=name, strict=True)


def test_the_penalty_of_drawn_actions_by_hand() -> None:
    """Values 0 and log 3 against the data's log 2: log 4 - log 2."""
    found = Conservative(weight=2.0).drawn(jnp.log(jnp.array([1.0, 3.0])), jnp.log(2.0))
    np.testing.assert_allclose(found, 2.0 * np.log(2.0), rtol=1e-6)


def test_a_penalty_that_knows_no_continuous_actions_is_refused() -> None:
    with np.load(GOLDEN) as archive:
        step = dict(archive)
    state = jax.eval_shape(lambda: AGENT.init(jax.random.key(0), (3,), TORQUES))
    guided = Guided(penalty=lambda q, t, among: q.sum())
    with pytest.raises(UserError, match="function says nothing of continuous actions"):
        jax.eval_shape(lambda s: AGENT.learn(s, batch(step), jax.random.key(0), guided), state)
