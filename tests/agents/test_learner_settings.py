"""The learner's settings against libraries that have them (tests/golden/make_learner_torch.py), and off."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from loro_jax.agents import DDQN, SAC
from loro_jax.agents.base import schedules
from loro_jax.agents.ddqn import huber
from loro_jax.agents.networks import Mlp, of_every_state
from loro_jax.errors import UserError
from loro_jax.spaces import Box, Discrete
from loro_jax.training import replay
from loro_jax.types import Guided, Transition

GOLDEN = np.load(pathlib.Path(__file__).parent.parent / "golden" / "learner_torch.npz")
TORQUES = Box((-2.0, -2.0), (2.0, 2.0))
COMMON: dict[str, Any] = {
    "hidden": (8, 6), "learning_rate": 1e-2, "learning_rate_end": 1e-3, "learning_rate_decay_steps": 6,
    "discount": 0.9, "n_step": 3, "reward_scale": 0.3, "layer_norm": True,
}  # fmt: skip
AGENTS: dict[str, Any] = {
    "ddqn": DDQN(**COMMON, target_network_frequency=3, polyak=0.2),
    "sac": SAC(**COMMON, polyak=0.05).for_game(TORQUES),
}
ACTIONS: dict[str, Any] = {"ddqn": Discrete(4), "sac": TORQUES}


@pytest.mark.parametrize("delta", [1e-3, 1.0, 100.0, 101.0, 1e4, 1e7, 1e20, 1e30])
def test_a_loss_of_any_width_has_the_gradient_of_its_definition(delta: float) -> None:
    """Huber's: the error, cut at the width. Of a wide one float32 must keep the error's digits."""
    errors = jnp.array([-3.0, -0.003, 0.0, 1e-4, 0.01, 0.3, 1.5, 2e4])
    value, gradient = jax.vmap(jax.value_and_grad(lambda e: huber(e, delta)))(errors)
    cut = np.clip(np.asarray(errors, np.float64), -delta, delta)
    np.testing.assert_allclose(gradient, cut, rtol=1e-6, atol=8e-6 if 1 < delta <= 100 else 1e-7 * delta)
    np.testing.assert_allclose(value, cut * (errors - 0.5 * cut), rtol=1e-5, atol=1e-30)


def arrays(prefix: str) -> dict[str, np.ndarray]:
    return {k.removeprefix(f"{prefix}/"): GOLDEN[k] for k in GOLDEN.files if k.startswith(f"{prefix}/")}


def network(found: dict[str, np.ndarray], at: int | None = None) -> dict[str, Any]:
    """Arrays named layer/kind as a network's parameters; of one step of several, where `at` is given."""
    tree: dict[str, Any] = {}
    for name, array in found.items():
        layer, kind = name.split("/")
        tree.setdefault(layer, {})[kind] = jnp.asarray(array if at is None else array[at])
    return {"params": tree}


NETWORKS = {"ddqn": ("params", "target"), "sac": ("actor", "critics", "targets")}


def start(name: str, agent: Any) -> Any:
    state = agent.init(jax.random.key(0), (3,), ACTIONS[name])
    state = state._replace(**{part: network(arrays(f"{name}/before/{part}")) for part in NETWORKS[name]})
    if name == "sac":
        state = state._replace(log_temperature=jnp.asarray(GOLDEN["sac/before/log_temperature"]))
    return state


def rows(name: str, t: int) -> tuple[Transition, jax.Array]:
    """The batch of a step, and how many steps each row stands for."""
    found = {k: jnp.asarray(v[t]) for k, v in arrays(name).items() if "/" not in k}
    ended = found["terminated"] > 0
    batch = Transition(*(found[k] for k in ("obs", "action", "reward", "next_obs")), ended, ~ended)
    return batch, found["interval"]


def apart(name: str, agent: Any, patch: pytest.MonkeyPatch) -> float:
    """How far weights, losses and the temperature are from theirs, over all steps, at most."""

    @jax.jit
    def learn(state: Any, batch: Transition, interval: jax.Array, t: jax.Array, noise: jax.Array) -> Any:
        draws = iter(noise)  # for next_obs, then for obs
        several = agent.discount**interval if agent.n_step > 1 else None
        guided = Guided(learning_rate=schedules(agent, t).get("learning_rate"), discounts=several)
        with patch.context() as patched:
            if name == "sac":
                patched.setattr(jax.random, "normal", lambda key, shape: next(draws))
            return agent.learn(state, batch, jax.random.key(0), guided)

    state, furthest = start(name, agent), 0.0
    for t in range(8):
        noise = jnp.asarray(GOLDEN[f"{name}/noise"][t])
        state, loss = learn(state, *rows(name, t), jnp.int32(t), noise)
        wanted = GOLDEN[f"{name}/loss"][t]
        differences = [abs(float(loss) - float(wanted)) / (1 + abs(float(wanted)))]
        for part in NETWORKS[name]:
            theirs = network(arrays(f"{name}/after/{part}"), t)
            ours = getattr(state, part)
            assert jax.tree.structure(ours) == jax.tree.structure(theirs)
            for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
                differences.append(float(np.abs(np.asarray(a) - np.asarray(b)).max()))
        if name == "sac":
            wanted = GOLDEN["sac/after/log_temperature"][t]
            differences.append(abs(float(state.log_temperature) - float(wanted)))
        furthest = max(furthest, *differences)
    return furthest


@pytest.mark.parametrize("name", AGENTS)
def test_gradient_steps_with_all_of_them_are_d3rlpys(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert apart(name, AGENTS[name], monkeypatch) < 5e-5


OFF: dict[str, dict[str, Any]] = {
    "a constant learning rate": {"learning_rate_decay_steps": 0},
    "rows of one step": {"n_step": 1},
    "rewards as they are": {"reward_scale": 1.0},
    "a target that is copied": {"polyak": 1.0},
}


@pytest.mark.slow
@pytest.mark.parametrize("what", OFF)
@pytest.mark.parametrize("name", AGENTS)
def test_the_recorded_steps_tell_each_setting_apart(
    name: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = dataclasses.replace(AGENTS[name], **OFF[what])
    assert apart(name, without, monkeypatch) > 1e-3


def test_schedules_are_stable_baselines3s_and_optaxs() -> None:
    agent = DDQN(
        epsilon=0.05, epsilon_start=1.0, epsilon_decay_steps=80,
        learning_rate=1e-3, learning_rate_end=1e-4, learning_rate_decay_steps=50,
    )  # fmt: skip
    for t, epsilon in zip(GOLDEN["schedule/steps"], GOLDEN["schedule/epsilon"], strict=True):
        found = schedules(agent, jnp.int32(t))
        np.testing.assert_allclose(found["epsilon"], epsilon, rtol=1e-6)
        rate = optax.schedules.polynomial_schedule(1e-3, 1e-4, 1, 50)(int(t))
        np.testing.assert_allclose(found["learning_rate"], rate, rtol=1e-6)
    assert schedules(DDQN(), jnp.int32(5)) == {}
    named = schedules(agent, jnp.int32(25), jnp.float32(1e-2))["learning_rate"]
    np.testing.assert_allclose(named, (1e-2 + 1e-4) / 2, rtol=1e-6)  # a phase's own is where it begins


@pytest.mark.parametrize("steps", [1, 3, 5])
def test_targets_of_several_steps_are_stable_baselines3s(steps: int) -> None:
    """Every row of a ring that has gone round twice, with ends and cuts of episodes in it."""
    played = arrays("several")
    obs, taken = jnp.float32([0]), jnp.int32(0)
    off = jnp.bool_(False)
    ring = replay.create(23, Transition(obs, taken, jnp.float32(0), obs, off, off))
    push = jax.jit(replay.push)
    for t, reward in enumerate(played["reward"]):
        ended, cut = (jnp.asarray(played[k][t]) for k in ("terminated", "truncated"))
        row = Transition(jnp.float32([t]), taken, jnp.asarray(reward), jnp.float32([t + 1]), ended, cut)
        ring = push(ring, row, jnp.bool_(True))
    found, discounts = replay.several(ring, jnp.arange(23), steps, 0.9)
    theirs = arrays(f"several/{steps}")
    np.testing.assert_allclose(found.reward, theirs["rewards"], atol=1e-6)
    np.testing.assert_array_equal(found.terminated, theirs["dones"] > 0)
    np.testing.assert_array_equal(found.next_obs[:, 0], theirs["next_observations"])
    np.testing.assert_allclose(discounts, theirs["discounts"], rtol=1e-6)
    first = replay.at(ring, jnp.arange(23))
    assert (found.obs == first.obs).all() and (found.action == first.action).all()
    if steps > 1:
        assert len(set(np.asarray(discounts).round(5).tolist())) > 1  # some end before


def test_rows_of_other_phases_are_not_taken_for_what_follows() -> None:
    """A row that does not begin where the one before led to is of other data, whatever its flags say."""

    def rows(*places: tuple[float, float]) -> Transition:
        n = len(places)
        here, there = (np.float32([p[i] for p in places])[:, None] for i in (0, 1))
        no = np.zeros(n, bool)
        return Transition(here, np.zeros(n, np.int32), np.ones(n, np.float32), there, no, no)

    ring = replay.create(8, jax.tree.map(lambda x: jnp.asarray(x[0]), rows((0, 1))))
    ring = replay.add(ring, rows((0, 1), (1, 2), (7, 8), (8, 9)), np.ones(4, bool))
    found, discounts = replay.several(ring, jnp.arange(4), 4, 0.5)
    np.testing.assert_array_equal(found.reward, [1.5, 1.0, 1.5, 1.0])
    np.testing.assert_array_equal(discounts, [0.25, 0.5, 0.25, 0.5])
    np.testing.assert_array_equal(found.next_obs[:, 0], [2, 2, 9, 9])


def test_a_network_says_of_every_state_what_it_says_of_each() -> None:
    network = Mlp((8, 6), 3, (), True)
    params = network.init(jax.random.key(1), jnp.zeros((1, 5)))
    leaves, tree = jax.tree.flatten(params)
    drawn = [
        jax.random.normal(jax.random.fold_in(jax.random.key(2), i), x.shape) for i, x in enumerate(leaves)
    ]
    params = jax.tree.unflatten(tree, drawn)  # norms begin as ones and zeros, which would tell nothing
    np.testing.assert_allclose(of_every_state(params), network.apply(params, jnp.eye(5)), atol=1e-5)


def test_numbers_of_states_and_a_target_that_moves_are_the_one_hot_learner() -> None:
    """Five gradient steps of both, from the same weights."""
    agent = DDQN(hidden=(8,), batch_size=16, learning_rate=1e-2, polyak=0.3, target_network_frequency=2)
    numbered = agent.of_states(5)
    assert numbered.states == 5
    one, other = (a.init(jax.random.key(0), (5,), Discrete(2)) for a in (agent, numbered))
    for t in range(5):
        keys = jax.random.split(jax.random.key(t), 3)
        here, there = (jax.random.randint(k, (16,), 0, 5) for k in keys[:2])
        actions = jax.random.randint(keys[2], (16,), 0, 2)
        flags = jnp.zeros(16, bool)
        told = Transition(here, actions, jnp.ones(16), there, flags, flags)
        seen = told._replace(obs=jnp.eye(5)[here], next_obs=jnp.eye(5)[there])
        one, _ = agent.learn(one, seen, jax.random.key(0))
        other, _ = numbered.learn(other, told, jax.random.key(0))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"epsilon_decay_steps": -1}, "epsilon_decay_steps must lie between 0 and 2**31 - 1"),
        ({"epsilon_start": 1.5}, "epsilon_start must lie in [0, 1]"),
        ({"learning_rate_end": -1.0}, "learning_rate_end must lie between 0 and 1e30"),
        ({"learning_rate_end": float("nan")}, "learning_rate_end must be a finite number"),
        ({"gradient_steps": 0}, "gradient_steps must be at least 1"),
        ({"n_step": 101}, "n_step must be at most 100"),
        ({"reward_scale": 0.0}, "reward_scale must be positive"),
        ({"polyak": 0.0}, "polyak must lie in (0, 1]"),
        ({"polyak": 1.5}, "polyak must lie in (0, 1]"),
        ({"layer_norm": 1}, "layer_norm must be true or false, got 1"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any], says: str) -> None:
    for kind in (DDQN, SAC):
        with pytest.raises(UserError) as refused:
            kind(**settings)
        assert says in str(refused.value)
