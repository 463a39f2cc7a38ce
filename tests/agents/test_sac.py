"""SAC against brax's losses, hand-worked numbers, and problems whose answers are known."""

from __future__ import annotations

import dataclasses
import math
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from loro_jax.agents import SAC
from loro_jax.agents.sac import SACState, soft_target, squashed_log_prob, temperature_loss
from loro_jax.spaces import Box
from loro_jax.training import replay
from loro_jax.types import Transition

ORACLE = pathlib.Path(__file__).parent.parent / "golden" / "sac_oracle.npz"
UNIT = Box((-1.0, -1.0), (1.0, 1.0))
TORQUE = Box((-2.0,), (2.0,))
AGENT = SAC(hidden=(8,), discount=0.9).for_game(UNIT)


def rows(batch: dict[str, np.ndarray], truncated: bool = False) -> Transition:
    floats = (jnp.asarray(batch[k], jnp.float32) for k in ("obs", "action", "reward", "next_obs"))
    ended = jnp.asarray(batch["terminated"], bool)
    return Transition(*floats, ended, jnp.full_like(ended, truncated))


def flat(tree: object) -> np.ndarray:
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])


@pytest.fixture(scope="module")
def oracle() -> list[dict[str, np.ndarray]]:
    with np.load(ORACLE) as archive:
        arrays = dict(archive)
    return [{name: array[i] for name, array in arrays.items()} for i in range(5)]


@jax.jit
def fresh(key: jax.Array) -> SACState:
    return AGENT.init(key, (3,), UNIT)


def begun(seed: int, log_temperature: np.ndarray) -> SACState:
    """The networks that the oracle was made with (tests/golden/make_sac_oracle.py)."""
    state, targets = fresh(jax.random.key(seed)), fresh(jax.random.key(seed + 100)).critics
    return state._replace(targets=targets, log_temperature=jnp.float32(log_temperature))


def test_the_critics_loss_is_braxs(oracle: list[dict[str, np.ndarray]]) -> None:
    """brax takes half the mean over rows and critics, this the sum over critics: four times as much."""
    loss = jax.jit(jax.value_and_grad(AGENT.critic_loss))
    for seed, case in enumerate(oracle):
        state, noise = begun(seed, case["log_temperature"]), jnp.asarray(case["noise"])
        value, gradient = loss(state.critics, state, rows(case), noise)
        np.testing.assert_allclose(value, 4 * case["critic_loss"], rtol=2e-5)
        np.testing.assert_allclose(flat(gradient), 4 * case["critic_gradient"], rtol=1e-3, atol=2e-5)


def test_the_actors_loss_is_braxs(oracle: list[dict[str, np.ndarray]]) -> None:
    loss = jax.jit(jax.value_and_grad(AGENT.actor_loss))
    for seed, case in enumerate(oracle):
        state, noise = begun(seed, case["log_temperature"]), jnp.asarray(case["noise"])
        temperature = jnp.exp(state.log_temperature)
        value, gradient = loss(state.actor, state.critics, temperature, rows(case).obs, noise)
        np.testing.assert_allclose(value, case["actor_loss"], rtol=2e-4, atol=2e-5)
        np.testing.assert_allclose(flat(gradient), case["actor_gradient"], rtol=2e-3, atol=5e-5)


def test_the_temperatures_loss_is_braxs(oracle: list[dict[str, np.ndarray]]) -> None:
    """At brax's target entropy, which is half of this agent's."""
    sample, loss = jax.jit(AGENT.sample), jax.jit(jax.value_and_grad(temperature_loss))
    for seed, case in enumerate(oracle):
        state, noise = begun(seed, case["log_temperature"]), jnp.asarray(case["noise"])
        _, log_probs = sample(state.actor, rows(case).obs, noise)
        value, gradient = loss(state.log_temperature, log_probs, -1.0)
        np.testing.assert_allclose(value, case["alpha_loss"], rtol=2e-4, atol=2e-5)
        np.testing.assert_allclose(gradient, case["alpha_gradient"][0], rtol=2e-4, atol=2e-5)


def test_the_target_by_hand() -> None:
    """1 + 0.9 (min(3, 2) - 0.5 (-0.4)) = 2.98; a terminated step keeps the reward alone."""
    target = soft_target(*(jnp.asarray(x, jnp.float32) for x in (1.0, 0.9, [3.0, 2.0], -0.4, 0.5)))
    assert float(target) == pytest.approx(2.98)
    ended = soft_target(*(jnp.asarray(x, jnp.float32) for x in (1.0, 0.0, [3.0, 2.0], -0.4, 0.5)))
    assert float(ended) == 1.0


def test_the_networks_losses_by_hand() -> None:
    """Mean 0.5, deviation 1; values s + 2a and 3s - a; s = 1, no noise, temperature 0.5. Hidden layers hand
    on what they read, which is positive throughout.

    So a = tanh(0.5) = 0.462117, its log-density is -log(2 pi)/2 - log(1 - a^2) = -0.678709, and the smaller
    value 1.924234. The critics' target is 1 + 0.5 (1.924234 + 0.5 * 0.678709) = 2.131795, and the values of
    a = 0.25 are 1.5 and 2.75: squared errors 0.399164 and 0.382178.
    """
    box = Box((-1.0,), (1.0,))
    agent, one, zero = SAC(hidden=(2,), discount=0.5).for_game(box), jnp.ones((1, 1)), jnp.zeros((1, 1))
    first = {"kernel": jnp.eye(1, 2), "bias": jnp.zeros(2)}
    last = {"kernel": jnp.zeros((2, 2)), "bias": jnp.array([0.5, 0.0])}
    actor = {"params": {"Dense_0": first, "Dense_1": last}}
    first = {"kernel": jnp.stack([jnp.eye(2)] * 2), "bias": jnp.zeros((2, 2))}
    last = {"kernel": jnp.array([[1.0, 2.0], [3.0, -1.0]])[:, :, None], "bias": jnp.zeros((2, 1))}
    critics = {"params": {"Dense_0": first, "Dense_1": last}}
    state = SACState(actor, critics, critics, jnp.log(jnp.float32(0.5)), None, None, None)
    loss = jax.jit(agent.actor_loss)(actor, critics, jnp.float32(0.5), one, zero)
    assert float(loss) == pytest.approx(0.5 * -0.678709 - 1.924234, abs=2e-6)
    no, yes = jnp.zeros(1, bool), jnp.ones(1, bool)
    step = Transition(one, jnp.array([[0.25]]), jnp.ones(1), one, no, yes)
    critic_loss = jax.jit(agent.critic_loss)
    assert float(critic_loss(critics, state, step, zero)) == pytest.approx(0.781342, abs=3e-6)
    ended = critic_loss(critics, state, step._replace(terminated=yes), zero)
    assert float(ended) == pytest.approx(0.5**2 + 1.75**2, abs=3e-6)


def test_the_temperatures_loss_by_hand() -> None:
    """-e^0 ((-1 - 1) + (0.5 - 1)) / 2 = 1.25: the policy is more random than asked, so it falls."""
    loss, slope = jax.value_and_grad(temperature_loss)(jnp.float32(0.0), jnp.array([-1.0, 0.5]), -1.0)
    assert float(loss) == float(slope) == pytest.approx(1.25)


@jax.jit
def densities(raw: jax.Array, mean: jax.Array, log_std: jax.Array) -> jax.Array:
    return jax.vmap(lambda x: squashed_log_prob(x[None], mean, log_std))(raw)


@pytest.mark.parametrize(("mean", "log_std"), [(0.0, 0.0), (1.3, -1.0), (-4.0, 1.0), (0.2, -3.0)])
def test_densities_integrate_to_one(mean: float, log_std: float) -> None:
    raw = jnp.linspace(mean - 9 * math.exp(log_std), mean + 9 * math.exp(log_std), 20_001)
    with jax.enable_x64(True):
        raw = raw.astype(jnp.float64)
        log_prob = densities(raw, jnp.array([mean]), jnp.array([log_std]))
        # over actions a = tanh(raw): p(a) da, with da = (1 - a^2) draw
        mass = np.trapezoid(np.exp(log_prob) * (1 - np.tanh(raw) ** 2), raw)
    assert mass == pytest.approx(1.0, abs=1e-6)


def test_density_far_out_is_finite() -> None:
    value, slope = jax.value_and_grad(lambda m: squashed_log_prob(jnp.array([40.0]), m, jnp.zeros(1)))(
        jnp.array([39.0])
    )
    assert np.isfinite(value) and np.isfinite(slope).all()


def test_actions_fill_the_environments_range_or_the_unit_one() -> None:
    scaled, unit = (SAC(hidden=(8,), action_range=r).for_game(TORQUE) for r in ("environment", "unit"))
    state = jax.jit(lambda key: scaled.init(key, (3,), TORQUE))(jax.random.key(0))
    state = state._replace(actor=jax.tree.map(lambda x: 3 * x, state.actor))
    obs = jax.random.normal(jax.random.key(1), (2000, 3))
    keys = jax.random.split(jax.random.key(2), 2000)
    for agent, bound in ((scaled, 2.0), (unit, 1.0)):
        taken = np.asarray(jax.jit(jax.vmap(agent.explore, (None, 0, 0)))(state, obs, keys))
        assert taken.shape == (2000, 1) and 0.97 * bound < np.abs(taken).max() <= bound
    np.testing.assert_allclose(scaled.unscale_action(jnp.array([-1.0, 0.0, 1.0])), [-2.0, 0.0, 2.0])
    np.testing.assert_allclose(scaled.scale_action(jnp.array([-2.0, 0.5, 3.0])), [-1.0, 0.25, 1.0])
    np.testing.assert_allclose(unit.scale_action(jnp.array([-2.0, 0.5])), [-2.0, 0.5])  # as the study's code


def test_bounds_that_are_not_symmetric() -> None:
    box = Box((0.0, -3.0), (1.0, 1.0))
    agent = SAC().for_game(box)
    np.testing.assert_allclose(agent.unscale_action(jnp.array([-1.0, 1.0])), [0.0, 1.0])
    np.testing.assert_allclose(agent.unscale_action(jnp.zeros(2)), [0.5, -1.0])
    np.testing.assert_allclose(
        agent.scale_action(agent.unscale_action(jnp.array([0.3, -0.7]))), [0.3, -0.7], atol=1e-6
    )
    unit = SAC(action_range="unit").for_game(box)
    np.testing.assert_allclose(
        unit.unscale_action(jnp.array([-0.5, -0.5])), [0.0, -0.5]
    )  # cut, never stretched


@jax.jit
def small(key: jax.Array) -> SACState:
    return SAC(hidden=(8,)).for_game(TORQUE).init(key, (3,), TORQUE)


def test_the_released_exploration_is_the_mode_or_zero() -> None:
    """Zeros in 10 % of 4,000 draws; 4.5 standard errors are 0.021, so it fails by chance once in 10^5."""
    agent = SAC(hidden=(8,), exploration="mode", epsilon=0.1).for_game(TORQUE)
    state, obs = small(jax.random.key(0)), jnp.ones(3)
    keys = jax.random.split(jax.random.key(1), 4000)
    taken = np.asarray(jax.jit(jax.vmap(agent.explore, (None, None, 0)))(state, obs, keys))
    mode = np.asarray(agent.act(state, obs))
    assert ((taken == 0) | (taken == mode)).all() and mode != 0
    assert (taken == 0).mean() == pytest.approx(0.1, abs=0.021)


def test_exploration_draws_have_the_policys_median() -> None:
    """The mode before the squashing is the median: half of 4,000 draws lie above, within 0.036 (4.5 SE)."""
    agent = SAC(hidden=(8,)).for_game(TORQUE)
    state, obs = small(jax.random.key(3)), jnp.ones(3)
    keys = jax.random.split(jax.random.key(1), 4000)
    taken = np.asarray(jax.jit(jax.vmap(agent.explore, (None, None, 0)))(state, obs, keys))
    assert (taken > np.asarray(agent.act(state, obs))).mean() == pytest.approx(0.5, abs=0.036)
    assert len(np.unique(taken)) > 3900


def test_only_termination_stops_bootstrapping(oracle: list[dict[str, np.ndarray]]) -> None:
    case = oracle[0] | {"terminated": np.zeros(16, bool)}
    state, noise = begun(0, case["log_temperature"]), jnp.asarray(case["noise"])

    @jax.jit
    def each(critics: object, state: SACState, batch: Transition, noise: jax.Array) -> jax.Array:
        alone = jax.tree.map(lambda x: x[:, None], (batch, noise))
        return jax.vmap(lambda one: AGENT.critic_loss(critics, state, *one))(alone)

    going, cut = (each(state.critics, state, rows(case, flag), noise) for flag in (False, True))
    np.testing.assert_array_equal(going, cut)
    ended = each(state.critics, state, rows(case | {"terminated": np.ones(16, bool)}), noise)
    values = AGENT.q(state.critics, rows(case).obs, rows(case).action)
    wanted = np.square(np.asarray(values) - case["reward"].astype(np.float32)).sum(axis=0)
    np.testing.assert_allclose(ended, wanted, rtol=1e-5)


def test_a_step_is_critics_temperature_actor_targets_in_this_order(
    oracle: list[dict[str, np.ndarray]],
) -> None:
    """The whole step against one written in batches, with gradients of its own."""
    state, batch, key = begun(1, np.float32(-0.3)), rows(oracle[1]), jax.random.key(5)
    agent = dataclasses.replace(AGENT, learning_rate=1e-2, polyak=0.1)
    new, loss = jax.jit(agent.learn)(state, batch, key)
    next_noise, noise = (jax.random.normal(jax.random.fold_in(key, i), (16, 2)) for i in range(2))

    def drawn(actor, obs, noise):
        mean, log_std = agent.gaussian(actor, obs)
        raw = mean + jnp.exp(log_std) * noise
        log_prob = jax.scipy.stats.norm.logpdf(raw, mean, jnp.exp(log_std)) - jnp.log(1 - jnp.tanh(raw) ** 2)
        return jnp.tanh(raw), log_prob.sum(axis=1)

    def smaller(critics, obs, action):
        return agent.q(critics, obs, action).min(axis=0)

    def adam(gradient, parameters):
        updates, _ = optax.adam(1e-2).update(gradient, optax.adam(1e-2).init(parameters))
        return optax.apply_updates(parameters, updates)

    @jax.jit
    def by_hand() -> tuple[Any, ...]:
        action, log_prob = drawn(state.actor, batch.next_obs, next_noise)
        future = smaller(state.targets, batch.next_obs, action) - jnp.exp(state.log_temperature) * log_prob
        target = batch.reward + 0.9 * jnp.where(batch.terminated, 0.0, future)

        def errors(critics):
            values = agent.q(critics, batch.obs, batch.action)
            return ((values - target) ** 2).mean(axis=1).sum()

        error, gradient = jax.value_and_grad(errors)(state.critics)
        critics = adam(gradient, state.critics)
        _, log_prob = drawn(state.actor, batch.obs, noise)
        slope = -jnp.exp(state.log_temperature) * (log_prob - 2.0).mean()
        log_temperature = adam(slope, state.log_temperature)

        def policy(actor):
            action, log_prob = drawn(actor, batch.obs, noise)
            return (jnp.exp(log_temperature) * log_prob - smaller(critics, batch.obs, action)).mean()

        return error, critics, log_temperature, adam(jax.grad(policy)(state.actor), state.actor)

    error, critics, log_temperature, actor = by_hand()
    np.testing.assert_allclose(loss, error, rtol=1e-4)
    np.testing.assert_allclose(new.log_temperature, log_temperature, rtol=1e-5)
    np.testing.assert_allclose(flat(new.critics), flat(critics), atol=1e-4)
    np.testing.assert_allclose(flat(new.actor), flat(actor), atol=5e-4)
    wanted = jax.tree.map(lambda new, old: 0.1 * new + 0.9 * old, critics, state.targets)
    np.testing.assert_allclose(flat(new.targets), flat(wanted), atol=2e-5)


def test_networks_start_as_pytorchs_do_and_critics_differ() -> None:
    agent = SAC().for_game(TORQUE)
    state = jax.jit(lambda key: agent.init(key, (3,), TORQUE))(jax.random.key(0))
    kernel = np.asarray(state.critics["params"]["Dense_0"]["kernel"])
    assert kernel.shape == (2, 4, 256) and not np.array_equal(kernel[0], kernel[1])
    assert 0.49 < np.abs(kernel).max() <= 0.5  # 1 / sqrt(4 inputs)
    assert state.actor["params"]["Dense_2"]["kernel"].shape == (256, 2)
    np.testing.assert_array_equal(flat(state.critics), flat(state.targets))
    assert float(jnp.exp(state.log_temperature)) == 1.0


def test_keys_decide_a_step(oracle: list[dict[str, np.ndarray]]) -> None:
    state, batch = begun(1, np.float32(0)), rows(oracle[1])
    learn = jax.jit(AGENT.learn)
    one, same, other = (learn(state, batch, jax.random.key(k))[0] for k in (1, 1, 2))
    np.testing.assert_array_equal(flat(one), flat(same))
    assert not np.array_equal(flat(one.actor), flat(other.actor))


@pytest.mark.slow
def test_the_best_action_of_a_single_step_is_found() -> None:
    """Reward -(a - 1.2)^2 on a torque in [-2, 2], terminated at once: the mode goes to 1.2."""
    agent = SAC((32,), 3e-3, 64, 0.9, initial_temperature=0.1).for_game(TORQUE)
    state = agent.init(jax.random.key(0), (1,), TORQUE)
    key = jax.random.key(1)
    actions = jax.random.uniform(key, (512, 1), minval=-2.0, maxval=2.0)
    obs, ended = jnp.ones((512, 1)), jnp.ones(512, bool)
    data = Transition(obs, actions, -((actions[:, 0] - 1.2) ** 2), obs, ended, ~ended)
    buffer = replay.add(replay.create(512, jax.tree.map(lambda x: x[0], data)), data, ended)

    def step(state: SACState, i: jax.Array) -> tuple[SACState, None]:
        one, two = (jax.random.fold_in(jax.random.fold_in(key, i), j) for j in range(2))
        return agent.learn(state, replay.sample(buffer, one, 64), two)[0], None

    state, _ = jax.jit(lambda s: jax.lax.scan(step, s, jnp.arange(1500)))(state)
    assert float(agent.act(state, jnp.ones(1))[0]) == pytest.approx(1.2, abs=0.1)
