"""A2C against rlax, against PPO where they are one, and against hand-worked numbers."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import rlax
from jax.flatten_util import ravel_pytree

from loro_jax.agents import A2C, PPO
from loro_jax.agents.on_policy import ActorCritic, Rollout, advantages
from loro_jax.errors import UserError
from loro_jax.spaces import Discrete
from loro_jax.types import AdvisedRows, Guided, Transition

AGENT = A2C(hidden=(16,), games=2, rollout=6)
SHAPE, ACTIONS = (3,), Discrete(4)


def rows(seed: int = 0) -> Transition:
    """A rollout of noise, some of whose steps end an episode."""
    rng = np.random.default_rng(seed)
    numbers = [rng.normal(size=(12, *SHAPE)), rng.normal(size=12), rng.normal(size=(12, *SHAPE))]
    obs, reward, after = (jnp.asarray(x, jnp.float32) for x in numbers)
    ends = rng.integers(5, size=12)
    action = jnp.asarray(rng.integers(4, size=12), jnp.int32)
    return Transition(obs, action, reward, after, jnp.asarray(ends == 0), jnp.asarray(ends == 1))


def begun(agent: A2C | PPO) -> ActorCritic:
    return agent.init(jax.random.key(0), SHAPE, ACTIONS)


@pytest.mark.filterwarnings("ignore:Rlax:PendingDeprecationWarning")  # rlax's own, of its softmax
def test_the_loss_and_its_gradient_are_those_of_rlax() -> None:
    state, batch = begun(AGENT), rows()
    params, rng = (state.actor, state.critic), np.random.default_rng(3)
    advantage, target = (jnp.asarray(rng.normal(size=12), jnp.float32) for _ in range(2))
    nothing = jnp.zeros(12)

    def theirs(params: tuple[optax.Params, optax.Params]) -> jax.Array:
        actor, critic = params
        logits = AGENT.log_probs(actor, batch.obs)
        loss = rlax.policy_gradient_loss(logits, batch.action, advantage, jnp.ones(12))
        loss += AGENT.value_weight * jnp.mean((AGENT.values(critic, batch.obs) - target) ** 2)
        return loss - AGENT.entropy_weight * jax.scipy.special.entr(jnp.exp(logits)).sum(axis=1).mean()

    def ours(params: tuple[optax.Params, optax.Params]) -> jax.Array:
        return AGENT.loss(params, Rollout(batch, None, nothing, advantage, target, None))

    (a, by_a), (b, by_b) = jax.value_and_grad(ours)(params), jax.value_and_grad(theirs)(params)
    assert a == pytest.approx(float(b), rel=1e-5)
    np.testing.assert_allclose(ravel_pytree(by_a)[0], ravel_pytree(by_b)[0], rtol=1e-4, atol=1e-6)


def test_lambda_one_is_the_return_of_so_many_steps() -> None:
    """1 + 0.5 (2 + 0.5 (3 + 0.5 * 4)) - 1, as 4 is what the last state is worth; no value after an end."""
    value, reward = jnp.array([1.0, 2.0, 3.0]), jnp.array([1.0, 2.0, 3.0])
    after, no = jnp.array([2.0, 3.0, 4.0]), jnp.zeros(3, bool)
    half = jnp.full(3, 0.5)
    found = advantages(reward, half, value, after, no, no, AGENT.gae_lambda)
    np.testing.assert_allclose(found, [1 + 0.5 * (2 + 0.5 * 5) - 1, 2 + 0.5 * 5 - 2, 5 - 3])
    ended = advantages(reward, half, value, after, jnp.array([False, False, True]), no, 1.0)
    np.testing.assert_allclose(ended, [1 + 0.5 * (2 + 0.5 * 3) - 1, 2 + 0.5 * 3 - 2, 0])


def test_ppo_of_one_step_is_a2c() -> None:
    """As arXiv 2205.09123 has it: one epoch, one minibatch, the same optimiser."""
    a2c = dataclasses.replace(AGENT, optimiser="adam", max_gradient_norm=0.0)
    common = {f.name: getattr(a2c, f.name) for f in dataclasses.fields(a2c) if f.name != "optimiser"}
    ppo = PPO(**common, epochs=1, minibatches=1)
    after = [agent.learn(begun(agent), rows(), jax.random.key(1))[0] for agent in (a2c, ppo)]
    a, b, start = (ravel_pytree((s.actor, s.critic))[0] for s in (*after, begun(a2c)))
    assert np.abs(a - start).max() > 1e-4
    np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_step_of_rmsprop_by_hand() -> None:
    """lr g / sqrt(0.01 g^2 + 1e-5), from a mean of squares that begins at nought (arXiv 1602.01783)."""
    gradient = jnp.array([0.5, -2.0])
    steps = AGENT.steps(0.1)
    step, _ = steps.update(gradient, steps.init(gradient))
    np.testing.assert_allclose(step, -0.1 * gradient / np.sqrt(0.01 * gradient**2 + 1e-5), rtol=1e-5)


def test_a_step_that_is_not_finite_says_so() -> None:
    batch = rows()
    bad = batch._replace(reward=batch.reward.at[0].set(jnp.inf))
    assert not np.isfinite(AGENT.learn(begun(AGENT), bad, jax.random.key(1))[1])


def gradient(agent: A2C | PPO, batch: Transition, advised: AdvisedRows | None) -> np.ndarray:
    """Of the policy, at the first step of an update."""
    state = begun(agent)
    told = None if advised is None else Guided(advised=advised)
    rollout = agent.estimated(state, batch, told)
    by = jax.grad(agent.loss)((state.actor, state.critic), rollout)
    return np.asarray(ravel_pytree(by[0])[0])


ASKED = jnp.array([0.0, 0.4] * 6)
"""Every other row is a tutor's, who was asked with a chance of 0.4."""
PLAIN = {"hidden": (16,), "games": 2, "rollout": 6, "normalise_advantages": False, "entropy_weight": 0.0}


@pytest.mark.parametrize("agent", [A2C(**PLAIN), PPO(**PLAIN, minibatches=1)], ids=["a2c", "ppo"])  # type: ignore
def test_how_advice_enters_a_policys_loss(agent: A2C | PPO) -> None:
    """Row by row: an own row counts whole; an advised one by pi / ((1 - P) pi + P), or not at all, or as a
    log-probability that is to be great."""
    batch, state = rows(), begun(agent)
    rollout = agent.estimated(state, batch, None)

    def by_hand(weights: np.ndarray) -> np.ndarray:
        def objective(actor: optax.Params) -> jax.Array:
            logs = agent.log_probs(actor, batch.obs)[jnp.arange(12), batch.action]
            return -(logs * weights).mean()

        return np.asarray(ravel_pytree(jax.grad(objective)(state.actor))[0])

    told, advantage = np.asarray(ASKED) > 0, np.asarray(rollout.advantage)
    pi = np.exp(np.asarray(rollout.log_prob))
    mixed = np.where(told, pi / (0.6 * pi + 0.4), 1.0) * advantage
    if isinstance(agent, PPO):  # whose objective is cut where the ratio is out of its bounds already
        ratio = mixed / advantage
        cut = (advantage < 0) & (ratio < 1 - agent.clip) | (advantage > 0) & (ratio > 1 + agent.clip)
        mixed = np.where(cut, 0.0, mixed)
    expected = {
        "mixture": mixed,
        "masked": np.where(told, 0.0, advantage),
        "cloned": np.where(told, 3.0, advantage),
    }
    for enters, weights in expected.items():
        found = gradient(agent, batch, AdvisedRows(ASKED, enters, 3.0))
        np.testing.assert_allclose(found, by_hand(weights), rtol=1e-4, atol=1e-6, err_msg=enters)
    assert np.abs(gradient(agent, batch, None) - by_hand(advantage)).max() < 1e-6


@pytest.mark.parametrize("enters", ["mixture", "masked", "cloned"])
def test_a_tutor_that_was_not_asked_changes_nothing(enters: str) -> None:
    agent = A2C(**PLAIN)  # type: ignore[arg-type]
    np.testing.assert_array_equal(
        gradient(agent, rows(), AdvisedRows(jnp.zeros(12), enters, 1.0)), gradient(agent, rows(), None)
    )


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"games": 1, "rollout": 1, "normalise_advantages": True}, "two at least"),
        ({"optimiser": "sgd"}, "optimiser"),
        ({"rollout": 0}, "rollout"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says):
        dataclasses.replace(AGENT, **settings)  # type: ignore[arg-type]
