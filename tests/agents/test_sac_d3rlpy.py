"""SAC's gradient steps against those of d3rlpy, the study's library (tests/golden/make_sac_d3rlpy.py)."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loro_jax.agents import SAC
from loro_jax.agents.sac import LOG_STD, SACState
from loro_jax.spaces import Box
from loro_jax.types import Transition

D3RLPY = pathlib.Path(__file__).parent.parent / "golden" / "sac_d3rlpy.npz"
TORQUES = Box((-2.0, -2.0), (2.0, 2.0))
NETWORKS = ("actor", "critics", "targets")
AGENT = SAC(hidden=(8, 6), learning_rate=1e-2, batch_size=16, discount=0.9, polyak=0.05).for_game(TORQUES)
AGENTS = {"environment": AGENT, "unit": dataclasses.replace(AGENT, action_range="unit")}
Arrays = dict[str, np.ndarray]


def network(arrays: Arrays, prefix: str) -> dict[str, Any]:
    """Arrays named prefix/layer/kind as a network's parameters."""
    tree: dict[str, Any] = {}
    for name, array in arrays.items():
        if name.startswith(f"{prefix}/"):
            layer, kind = name.removeprefix(f"{prefix}/").split("/")
            tree.setdefault(layer, {})[kind] = jnp.asarray(array)
    return {"params": tree}


def recorded(case: str) -> tuple[Arrays, list[Arrays]]:
    """What was before the first step, and for each step its batch, its draws and what was after it."""
    with np.load(D3RLPY) as archive:
        arrays = {k.removeprefix(f"{case}/"): v for k, v in archive.items() if k.startswith(f"{case}/")}
    before = {k.removeprefix("before/"): v[0] for k, v in arrays.items() if k.startswith("before/")}
    steps = {k: v for k, v in arrays.items() if not k.startswith("before/")}
    return before, [{k: v[t] for k, v in steps.items()} for t in range(len(steps["reward"]))]


def start(agent: SAC, before: Arrays) -> SACState:
    state = agent.init(jax.random.key(0), (3,), TORQUES)
    return state._replace(
        **{name: network(before, name) for name in NETWORKS},
        log_temperature=jnp.asarray(before["log_temperature"]),
    )


def batch(step: Arrays) -> Transition:
    floats = (jnp.asarray(step[k]) for k in ("obs", "action", "reward", "next_obs"))
    ended = jnp.asarray(step["terminated"], bool)
    return Transition(*floats, ended, ~ended)


@pytest.mark.slow
@pytest.mark.parametrize("case", AGENTS)
def test_gradient_steps_are_d3rlpys(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six steps from d3rlpy's weights with its draws: losses, modes, temperature and all weights.

    Weights differed by 1e-6 at most where this was written, and losses by 1e-5 of their value. Batches
    hold torques up to 2; "unit" shows them to the critics as they are, like d3rlpy without a scaler.
    """
    agent, (before, steps) = AGENTS[case], recorded(case)
    state = start(agent, before)

    @jax.jit
    def learn(state: SACState, rows: Transition, noise: jax.Array) -> tuple[SACState, jax.Array, jax.Array]:
        draws = iter(noise)  # for next_obs, then for obs
        with monkeypatch.context() as patch:
            patch.setattr(jax.random, "normal", lambda key, shape: next(draws))
            learned, loss = agent.learn(state, rows, jax.random.key(0))
        return learned, loss, jax.vmap(agent.act, (None, 0))(state, rows.obs)

    assert len(steps) == 6
    for step in steps:
        state, loss, mode = learn(state, batch(step), jnp.asarray(step["noise"]))
        np.testing.assert_allclose(loss, step["critic_loss"], rtol=1e-4)
        np.testing.assert_allclose(mode, step["mode"], atol=2e-5)
        np.testing.assert_allclose(state.log_temperature, step["after/log_temperature"], atol=2e-6)
        for name in NETWORKS:
            wanted, found = network(step, f"after/{name}"), getattr(state, name)
            assert jax.tree.structure(found) == jax.tree.structure(wanted)
            for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
                np.testing.assert_allclose(a, b, atol=2e-5, err_msg=name, strict=True)


@pytest.mark.parametrize("case", AGENTS)
def test_the_recorded_batches_tell_variants_apart(case: str) -> None:
    """They hold ends, torques beyond 1, and standard deviations on either side of their upper bound."""
    before, steps = recorded(case)
    ended, torque = (np.concatenate([step[k] for step in steps]) for k in ("terminated", "action"))
    assert 0.1 < ended.mean() < 0.5 and 1.9 < np.abs(torque).max() <= 2.0
    outputs = AGENT._actor.apply(network(before, "actor"), steps[0]["obs"])
    log_std = outputs[:, len(TORQUES.low) :]
    assert 0.05 < (np.asarray(log_std) > LOG_STD[1]).mean() < 0.95
