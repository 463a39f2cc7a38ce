"""Writes sac_oracle.npz: what brax's SAC losses say about random batches and networks of ours.

    pip install --no-deps --target FOLDER brax==0.14.2
    PYTHONPATH=FOLDER:. python tests/golden/make_sac_oracle.py

brax (Apache-2.0) is loaded without its physics, which the losses do not need. It parametrises the policy's
standard deviation as softplus + 0.001, so the networks' log standard deviation is translated.
"""

from __future__ import annotations

import importlib.util
import pathlib
import sys
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

spec = importlib.util.find_spec("brax")
assert spec is not None and spec.submodule_search_locations is not None
package = types.ModuleType("brax")
package.__path__ = list(spec.submodule_search_locations)
sys.modules["brax"] = package

from brax.training import distribution  # noqa: E402
from brax.training import types as brax_types  # noqa: E402
from brax.training.agents.sac import losses, networks  # noqa: E402
from brax.training.networks import FeedForwardNetwork  # noqa: E402

from loro_jax.agents.sac import SAC  # noqa: E402
from loro_jax.spaces import Box  # noqa: E402

OBS, ACTIONS, ROWS, DISCOUNT = 3, 2, 16, 0.9


def main() -> None:
    actions = Box((-1.0,) * ACTIONS, (1.0,) * ACTIONS)
    agent = SAC(hidden=(8,), discount=DISCOUNT).for_game(actions)

    def policy(normaliser: Any, actor: Any, obs: jax.Array) -> jax.Array:
        mean, log_std = jax.vmap(agent.gaussian, (None, 0))(actor, obs)
        return jnp.concatenate([mean, jnp.log(jnp.expm1(jnp.exp(log_std) - 0.001))], axis=-1)

    def q(normaliser: Any, critics: Any, obs: jax.Array, action: jax.Array) -> jax.Array:
        return jax.vmap(agent.q, (None, 0, 0))(critics, obs, action)

    nothing = lambda key: None  # noqa: E731
    made = networks.SACNetworks(
        FeedForwardNetwork(nothing, policy), FeedForwardNetwork(nothing, q),
        distribution.NormalTanhDistribution(event_size=ACTIONS),
    )  # fmt: skip
    alpha_loss, critic_loss, actor_loss = losses.make_losses(made, 1.0, DISCOUNT, ACTIONS)
    rows: dict[str, list[Any]] = {}
    for seed in range(5):
        rng = np.random.default_rng(seed)
        state = agent.init(jax.random.key(seed), (OBS,), agent.actions)
        other = agent.init(jax.random.key(seed + 100), (OBS,), agent.actions)
        batch = {
            "obs": rng.normal(size=(ROWS, OBS)), "next_obs": rng.normal(size=(ROWS, OBS)),
            "action": rng.uniform(-1, 1, (ROWS, ACTIONS)), "reward": rng.normal(size=ROWS),
            "terminated": rng.random(ROWS) < 0.3,
        }  # fmt: skip
        log_alpha, key = np.float32(rng.normal()), jax.random.PRNGKey(seed)
        f = {k: jnp.asarray(v, jnp.float32) for k, v in batch.items()}
        transitions = brax_types.Transition(
            observation=f["obs"], action=f["action"], reward=f["reward"], discount=1 - f["terminated"],
            next_observation=f["next_obs"], extras={"state_extras": {"truncation": jnp.zeros(ROWS)}},
        )  # fmt: skip
        alpha = jnp.exp(log_alpha)
        found = {
            "critic": jax.value_and_grad(critic_loss)(
                state.critics, state.actor, None, other.critics, alpha, transitions, key
            ),
            "actor": jax.value_and_grad(actor_loss)(
                state.actor, None, state.critics, alpha, transitions, key
            ),
            "alpha": jax.value_and_grad(alpha_loss)(log_alpha, state.actor, None, transitions, key),
        }
        row = batch | {"log_temperature": log_alpha, "noise": jax.random.normal(key, (ROWS, ACTIONS))}
        for name, (loss, gradient) in found.items():
            row[f"{name}_loss"] = loss
            row[f"{name}_gradient"] = jnp.concatenate([jnp.ravel(x) for x in jax.tree.leaves(gradient)])
        for name, value in row.items():
            rows.setdefault(name, []).append(np.asarray(value))
    arrays = {name: np.stack(values) for name, values in rows.items()}
    np.savez_compressed(pathlib.Path(__file__).parent / "sac_oracle.npz", **arrays)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
