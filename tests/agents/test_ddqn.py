"""Double DQN against hand-worked numbers, rlax, and games whose action values are known."""

from __future__ import annotations

import copy
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from environments import Endless, OneStep, Probe, TwoSteps, probe

from loro_jax import tasks
from loro_jax.agents import DDQN
from loro_jax.agents.ddqn import DDQNState, td_error
from loro_jax.spaces import Discrete
from loro_jax.training.phases import Fit, Interact, Load
from loro_jax.training.world import Interaction, World
from loro_jax.types import Knowledge, Run, Transition

OBS, ACTIONS, ROWS = 3, 4, 32
AGENT = DDQN(hidden=(8, 8), learning_rate=1e-2, batch_size=ROWS, discount=0.9, target_network_frequency=3)


def table(values: list[list[float]]) -> dict:
    """Parameters of a network that reads a one-hot state's values off `values`; its hidden layer, as wide as
    there are states, hands the state on."""
    kernel = jnp.asarray(values)
    states, actions = kernel.shape
    same = {"kernel": jnp.eye(states), "bias": jnp.zeros(states)}
    return {"params": {"Dense_0": same, "Dense_1": {"kernel": kernel, "bias": jnp.zeros(actions)}}}


def batch(seed: int = 0) -> Transition:
    rng = np.random.default_rng(seed)
    terminated = rng.random(ROWS) < 0.3
    return Transition(
        obs=rng.normal(size=(ROWS, OBS)).astype(np.float32),
        action=rng.integers(ACTIONS, size=ROWS).astype(np.int32),
        reward=(3 * rng.normal(size=ROWS)).astype(np.float32),
        next_obs=rng.normal(size=(ROWS, OBS)).astype(np.float32),
        terminated=terminated,
        truncated=~terminated & (rng.random(ROWS) < 0.3),
    )


@partial(jax.jit, static_argnums=0)
def loss(agent: DDQN, params: dict, target: dict, rows: Transition) -> jax.Array:
    """Of each of the rows (B, ...), (B,)."""
    q, next_q = agent.values(params, rows.obs), agent.values(params, rows.next_obs)
    return jax.vmap(agent.loss)(q, next_q, agent.values(target, rows.next_obs), rows)


def one(*step: object) -> Transition:
    """A batch of one transition."""
    return Transition(*(jnp.asarray(x)[None] for x in step))


@jax.jit
def fresh(key: jax.Array) -> DDQNState:
    return AGENT.init(key, (OBS,), Discrete(ACTIONS))


def state(seed: int = 0) -> DDQNState:
    """A state whose target network differs from its online network."""
    s = fresh(jax.random.key(seed))
    return s._replace(target=fresh(jax.random.key(seed + 100)).params)


@partial(jax.jit, static_argnums=0)
def learn(agent: DDQN, s: DDQNState, rows: Transition) -> tuple[DDQNState, jax.Array]:
    return agent.learn(s, rows, jax.random.key(0))


# In state 1 the online network prefers action 1, whose value the target network puts at 2; the target
# network's own best there is 7, which plain Q-learning would take.
ONLINE, TARGET = [[1.0, 4.0], [5.0, 6.0]], [[0.0, 0.0], [7.0, 2.0]]


@pytest.mark.parametrize(
    ("action", "reward", "terminated", "truncated", "error"),
    [
        (0, 0.5, False, False, 0.5 + 0.9 * 2.0 - 1.0),
        (1, 0.5, False, False, 0.5 + 0.9 * 2.0 - 4.0),
        (0, 0.5, True, False, 0.5 - 1.0),  # the end of an episode is worth nothing more
        (0, 0.5, False, True, 0.5 + 0.9 * 2.0 - 1.0),  # a limit is no end
    ],
)
def test_loss_by_hand(action: int, reward: float, terminated: bool, truncated: bool, error: float) -> None:
    agent = DDQN(hidden=(2,), discount=0.9)
    step = one(
        jnp.array([1.0, 0.0]), jnp.int32(action), jnp.float32(reward), jnp.array([0.0, 1.0]),
        terminated, truncated,
    )  # fmt: skip
    expected = error**2 / 2 if abs(error) <= 1 else abs(error) - 0.5
    assert float(loss(agent, table(ONLINE), table(TARGET), step)[0]) == pytest.approx(expected, rel=1e-6)
    numbered = step._replace(obs=step.obs.argmax(axis=1), next_obs=step.next_obs.argmax(axis=1))
    assert float(loss(agent, table(ONLINE), table(TARGET), numbered)[0]) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("error", "delta", "huber"),
    [
        (0.5, 1.0, 0.125),
        (-0.5, 1.0, 0.125),
        (1.0, 1.0, 0.5),
        (3.0, 1.0, 2.5),
        (-3.0, 1.0, 2.5),
        (3.0, 2.0, 4.0),
    ],
)
def test_huber_by_hand(error: float, delta: float, huber: float) -> None:
    """Square up to delta, linear beyond; a reward of `error` where all values are zero."""
    agent = DDQN(hidden=(1,), huber_delta=delta)
    zeros, obs = table([[0.0, 0.0]]), jnp.ones(1)
    step = one(obs, jnp.int32(0), jnp.float32(error), obs, True, False)
    assert float(loss(agent, zeros, zeros, step)[0]) == pytest.approx(huber, rel=1e-6)


def test_errors_and_loss_agree_with_rlax() -> None:
    import rlax  # takes seconds

    rows, s = batch(), state()

    def values(params: dict, obs: np.ndarray) -> jax.Array:
        return AGENT.values(params, jnp.asarray(obs))

    q, discount = values(s.params, rows.obs), jnp.asarray(np.where(rows.terminated, 0.0, 0.9), jnp.float32)
    selector, target = values(s.params, rows.next_obs), values(s.target, rows.next_obs)
    with jax.numpy_dtype_promotion("standard"):
        errors = jax.vmap(rlax.double_q_learning)(
            q, jnp.asarray(rows.action), jnp.asarray(rows.reward), discount, target, selector
        )
        losses = rlax.huber_loss(errors, 1.0)
    best = jnp.argmax(selector, -1)
    ours = jax.vmap(td_error)(
        q[jnp.arange(ROWS), rows.action], jnp.asarray(rows.reward), discount, target[jnp.arange(ROWS), best]
    )
    np.testing.assert_allclose(ours, errors, rtol=1e-5, atol=1e-6)
    each = loss(AGENT, s.params, s.target, jax.tree.map(jnp.asarray, rows))
    np.testing.assert_allclose(each, losses, rtol=1e-5, atol=1e-6)
    assert float(learn(AGENT, s, rows)[1]) == pytest.approx(float(losses.mean()), rel=1e-5)


def test_no_gradient_flows_through_the_target() -> None:
    """With action 0 taken and action 1 best next, only action 0's value may move."""
    agent = DDQN(hidden=(1,), discount=0.9)
    online = table([[1.0, 4.0]])
    step = one(jnp.ones(1), jnp.int32(0), jnp.float32(0.1), jnp.ones(1), False, False)
    gradient = jax.grad(lambda p: loss(agent, p, p, step)[0])(online)["params"]["Dense_1"]["kernel"]
    np.testing.assert_array_equal(gradient, [[-1.0, 0.0]])  # the error is 0.1 + 3.6 - 1 > 1: linear


def numpy_learn(s: DDQNState, rows: Transition, steps: int) -> list[dict[str, np.ndarray]]:
    """Double DQN with Adam in float64, written out: parameters after each of `steps` on one batch."""
    layers = [f"Dense_{i}" for i in range(len(AGENT.hidden) + 1)]

    def read(tree: dict) -> dict[str, np.ndarray]:
        return {
            f"{n}/{k}": np.asarray(tree["params"][n][k], np.float64)
            for n in layers
            for k in ("kernel", "bias")
        }

    def forward(p: dict[str, np.ndarray], x: np.ndarray) -> list[np.ndarray]:
        out = [x]
        for n in layers:
            x = out[-1] @ p[f"{n}/kernel"] + p[f"{n}/bias"]
            out.append(x if n == layers[-1] else np.maximum(x, 0))
        return out

    p, target, history = read(s.params), read(s.target), []
    m = {k: np.zeros_like(v) for k, v in p.items()}
    v = copy.deepcopy(m)
    for step in range(1, steps + 1):
        best = forward(p, rows.next_obs)[-1].argmax(-1)
        bootstrap = forward(target, rows.next_obs)[-1][np.arange(ROWS), best]
        goal = rows.reward + 0.9 * ~rows.terminated * bootstrap
        out = forward(p, rows.obs)
        error = goal - out[-1][np.arange(ROWS), rows.action]
        back = np.zeros_like(out[-1])
        back[np.arange(ROWS), rows.action] = -np.clip(error, -1, 1) / ROWS
        gradient: dict[str, np.ndarray] = {}
        for i in reversed(range(len(layers))):
            gradient[f"{layers[i]}/kernel"] = out[i].T @ back
            gradient[f"{layers[i]}/bias"] = back.sum(0)
            back = (back @ p[f"{layers[i]}/kernel"].T) * (out[i] > 0)
        for k, g in gradient.items():
            m[k] = 0.9 * m[k] + 0.1 * g
            v[k] = 0.999 * v[k] + 0.001 * g**2
            p[k] = p[k] - 1e-2 * (m[k] / (1 - 0.9**step)) / (np.sqrt(v[k] / (1 - 0.999**step)) + 1e-8)
        if (step - 1) % 3 == 0:
            target = dict(p)
        history.append(
            {**{f"params/{k}": x for k, x in p.items()}, **{f"target/{k}": x for k, x in target.items()}}
        )
    return history


def test_gradient_steps_against_numpy() -> None:
    """Seven steps, which cross three copies into the target network."""
    rows, s = batch(), state()
    for expected in numpy_learn(s, rows, 7):
        s, _ = learn(AGENT, s, rows)
        for name, value in expected.items():
            tree, layer, kind = name.split("/")
            np.testing.assert_allclose(
                getattr(s, tree)["params"][layer][kind], value, rtol=1e-3, atol=2e-5, err_msg=name
            )


def test_target_is_copied_after_gradient_steps_0_i_2i() -> None:
    rows, s = batch(), state()
    copied = []
    for _ in range(8):
        s, _ = learn(AGENT, s, rows)
        same = jax.tree.map(np.array_equal, s.params, s.target)
        copied.append(all(jax.tree.leaves(same)))
    assert copied == [True, False, False, True, False, False, True, False]


def test_interval_is_state_that_can_change() -> None:
    rows, s = batch(), state()._replace(target_interval=jnp.int32(2))
    copied = []
    for _ in range(5):
        s, _ = learn(AGENT, s, rows)
        copied.append(all(jax.tree.leaves(jax.tree.map(np.array_equal, s.params, s.target))))
    assert copied == [True, False, True, False, True]
    assert int(s.steps) == 5


def test_a_batch_is_averaged_not_summed() -> None:
    rows, s = batch(), state()
    twice = jax.tree.map(lambda x: np.concatenate([x, x]), rows)
    once, doubled = learn(AGENT, s, rows), learn(AGENT, s, twice)
    assert float(once[1]) == pytest.approx(float(doubled[1]), rel=1e-5)


def test_initial_weights_are_uniform_in_pytorchs_bounds() -> None:
    agent = DDQN(hidden=(256, 64))
    s = jax.jit(lambda key: agent.init(key, (4,), Discrete(2)))(jax.random.key(0))
    for layer, fan_in in (("Dense_0", 4), ("Dense_1", 256), ("Dense_2", 64)):
        for kind in ("kernel", "bias"):
            weights = np.asarray(s.params["params"][layer][kind]).ravel()
            bound = fan_in**-0.5
            assert np.abs(weights).max() <= bound
            if weights.size >= 64:
                assert np.abs(weights).max() > 0.9 * bound  # fills the interval,
                deviation = bound / np.sqrt(3) * 5 / np.sqrt(weights.size)
                assert abs(weights.mean()) < deviation  # is centred,
                assert weights.std() == pytest.approx(bound / np.sqrt(3), rel=0.25)  # and uniform's width
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, s.params, s.target)))
    assert jax.tree.structure(s.optimiser) == jax.tree.structure(optax.adam(1e-3).init(s.params))


def test_act_is_the_best_value() -> None:
    agent = DDQN(hidden=(2,))
    s = DDQNState(table([[0.0, 3.0, 1.0], [2.0, 0.0, 1.0]]), None, None, jnp.int32(0), jnp.int32(1))
    assert [int(agent.act(s, jnp.asarray(obs))) for obs in ([1.0, 0.0], [0.0, 1.0])] == [1, 0]


def learner(game: type[Probe], limit: int) -> tuple[World, Run]:
    """A small agent with a discount of 0.5 that plays uniformly, so that it sees every action."""
    agent = DDQN(
        hidden=(16,), learning_rate=3e-3, batch_size=32, discount=0.5, target_network_frequency=20,
        epsilon=1.0, learning_starts=50, replay_capacity=1000,
    )  # fmt: skip
    world = World(probe(game, limit), agent, Interaction(100, 1, reset_each_interval=False))
    return world, jax.jit(lambda: world.begin(jax.random.key(0), jax.random.key(0)))()


@pytest.mark.parametrize(
    ("game", "limit", "observations", "values"),
    [
        pytest.param(OneStep, 10, [[1.0]], [[0.0, 1.0]], marks=pytest.mark.slow),
        pytest.param(
            TwoSteps, 10, [[1.0, 0.0], [0.0, 1.0]], [[0.5, 0.5], [1.0, -1.0]], marks=pytest.mark.slow
        ),
        (Endless, 2, [[1.0]], [[1.0, 2.0]]),  # [1/3, 4/3] if the limit counted as an end
    ],
)
def test_online_learning_finds_known_values(
    game: type[Probe], limit: int, observations: list[list[float]], values: list[list[float]]
) -> None:
    world, run = learner(game, limit)
    run, _ = jax.jit(lambda run: Interact(2000)(run, world, Knowledge(world.example)))(run)
    learned = world.agent.values(run.agent.params, jnp.asarray(observations))
    np.testing.assert_allclose(learned, values, atol=0.1)


def test_offline_learning_takes_a_limit_for_what_the_data_says() -> None:
    """Prior data whose limits are marked as ends teach the other value: departure 4 of the study."""
    world, run = learner(Endless, 2)
    action = np.arange(200, dtype=np.int32) // 2 % 2
    cut = np.arange(200) % 2 == 1
    one, never = np.ones((200, 1), np.float32), np.zeros(200, bool)
    limits = Transition(one, action, action.astype(np.float32), one, never, cut)
    ends = limits._replace(terminated=cut, truncated=never)

    @jax.jit
    def fit(rows: Transition) -> jax.Array:
        known = Knowledge(rows)
        loaded, _ = Load(200)(run, world, known)
        fitted, _ = Fit(2000)(loaded, world, known)
        return world.agent.values(fitted.agent.params, jnp.ones((1, 1)))[0]

    np.testing.assert_allclose(fit(limits), [1.0, 2.0], atol=0.1)
    np.testing.assert_allclose(fit(ends), [1 / 3, 4 / 3], atol=0.1)


class Bonus(DDQN):
    """An agent of one's own, whose network says something else."""

    def values(self, params: dict, obs: jax.Array) -> jax.Array:
        return super().values(params, obs) + 10.0


class Wrapped:
    """Another agent around one, which hands on what it does not do itself."""

    def __init__(self, agent: DDQN) -> None:
        self.agent = agent

    def __getattr__(self, name: str) -> object:
        return getattr(self.agent, name)


def test_agents_of_ones_own_get_observations_as_they_are() -> None:
    assert Bonus(batch_size=16).of_states(5).states == 0
    game = tasks.load("frozen_lake").environment()
    for agent in (Bonus(), Wrapped(DDQN())):
        world = World(game, agent, Interaction(100, 1, True))
        assert world.agent == agent and not world.environment.indexed
    assert World(game, DDQN(), Interaction(100, 1, True)).environment.indexed


@pytest.mark.slow
def test_numbers_of_states_are_learned_from_as_one_hot_rows() -> None:
    """Seeds side by side, each with a target interval of its own: as each alone with one-hot observations."""
    n, seeds, rng = 5, 3, np.random.default_rng(2)
    plain = DDQN(hidden=(8, 6), learning_rate=1e-2, batch_size=16, discount=0.9)
    numbered = plain.of_states(n)
    assert (numbered.states, plain.of_states(17).states, numbered.of_states(0)) == (n, 0, plain)
    every = jax.random.split(jax.random.key(0), seeds)
    intervals = jnp.arange(1, seeds + 1)

    def begun(agent: DDQN) -> DDQNState:
        states = jax.jit(jax.vmap(lambda key: agent.init(key, (n,), Discrete(3))))(every)
        return states._replace(target_interval=intervals)

    s, ours = begun(plain), begun(numbered)
    side_by_side = jax.jit(jax.vmap(numbered.learn, (0, None, None)))
    alone, values = jax.jit(plain.learn), jax.jit(jax.vmap(plain.values, (0, None)))
    stacked = jax.jit(lambda *states: jax.tree.map(lambda *x: jnp.stack(x), *states))
    for _ in range(7):
        obs, next_obs = rng.integers(0, n, (2, 16))
        rows = Transition(
            obs=np.eye(n, dtype=np.float32)[obs],
            action=rng.integers(0, 3, 16).astype(np.int32),
            reward=rng.normal(size=16).astype(np.float32),
            next_obs=np.eye(n, dtype=np.float32)[next_obs],
            terminated=rng.random(16) < 0.3,
            truncated=np.zeros(16, bool),
        )
        numbers = rows._replace(obs=obs.astype(np.int32), next_obs=next_obs.astype(np.int32))
        ours, losses = side_by_side(ours, numbers, jax.random.key(0))
        each = [alone(jax.tree.map(lambda x, i=i: x[i], s), rows, jax.random.key(0)) for i in range(seeds)]
        s = stacked(*(state for state, _ in each))
        np.testing.assert_allclose(losses, [loss for _, loss in each], rtol=1e-4)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), ours.params, s.params
        )
        told = values(s.target, jnp.eye(n))
        np.testing.assert_allclose(ours.target, told, rtol=1e-3, atol=1e-5)
