"""Writes sac_d3rlpy.npz: what d3rlpy's SAC, the reference study's, makes of a few gradient steps.

    pip install d3rlpy==2.8.1
    python tests/golden/make_sac_d3rlpy.py

d3rlpy (MIT) updates networks of its own with batches and normal draws given here, through its public
`update`. Two cases: "environment" has its MinMaxActionScaler for a torque in [-2, 2]; "unit" has none,
like the study's code, and is shown the same actions. Arrays are stored in the layout of `SACState`:
kernels (inputs, outputs), mean and log standard deviation in one last layer, critics side by side.
Arrays have a leading axis of steps; "before/..." is kept for the first step alone.
"""

from __future__ import annotations

import functools
import pathlib
from typing import Any
from unittest import mock

import d3rlpy
import numpy as np
import torch
from d3rlpy.dataset import TransitionMiniBatch
from d3rlpy.models.encoders import VectorEncoderFactory
from d3rlpy.preprocessing import MinMaxActionScaler

OBS, ACTIONS, ROWS, STEPS, BOUND = 3, 2, 16, 6, 2.0
HIDDEN = [8, 6]


def dense(layers: list[torch.nn.Linear]) -> dict[str, np.ndarray]:
    """Linear layers that read the same input, as one: kernel (inputs, outputs) and bias (outputs,)."""
    return {
        "kernel": torch.cat([layer.weight for layer in layers]).detach().numpy().T.copy(),
        "bias": torch.cat([layer.bias for layer in layers]).detach().numpy().copy(),
    }


def network(encoder: Any, *outputs: torch.nn.Linear) -> dict[str, np.ndarray]:
    hidden = [[layer] for layer in encoder.modules() if isinstance(layer, torch.nn.Linear)]
    layers = enumerate([*hidden, list(outputs)])
    return {f"Dense_{i}/{kind}": array for i, group in layers for kind, array in dense(group).items()}


def parameters(algo: Any) -> dict[str, np.ndarray]:
    """Everything that a gradient step changes, optimisers aside."""
    modules = algo.impl.modules
    policy = modules.policy
    found = {f"actor/{k}": v for k, v in network(policy._encoder, policy._mu, policy._logstd).items()}
    for name, critics in (("critics", modules.q_funcs), ("targets", modules.targ_q_funcs)):
        each = [network(critic._encoder, critic._fc) for critic in critics]
        found |= {f"{name}/{k}": np.stack([critic[k] for critic in each]) for k in each[0]}
    return found | {"log_temperature": modules.log_temp._parameter.detach().numpy()[0, 0].copy()}


def scrambled(algo: Any) -> None:
    """Makes either critic the smaller in some rows, and some standard deviations hit their bound."""
    modules = algo.impl.modules
    with torch.no_grad():
        for weight in modules.q_funcs.parameters():
            weight *= 3.0
        one, two = (
            q(torch.randn(256, OBS), torch.rand(256, ACTIONS)).q_value.mean() for q in modules.q_funcs
        )
        modules.q_funcs[1]._fc.bias += one - two
        for target, weight in zip(
            modules.targ_q_funcs.parameters(), modules.q_funcs.parameters(), strict=True
        ):
            target.copy_(weight + 0.1 * torch.randn_like(weight))
        modules.policy._logstd.weight *= 12.0
        found = modules.policy._logstd(modules.policy._encoder(torch.randn(256, OBS)))
        modules.policy._logstd.bias += torch.tensor([2.0, -1.0]) - found.mean(dim=0)
        modules.log_temp._parameter -= 0.5


def trace(rng: np.random.Generator, scaler: MinMaxActionScaler | None) -> dict[str, np.ndarray]:
    encoder = VectorEncoderFactory(HIDDEN)
    algo = d3rlpy.algos.SACConfig(
        actor_learning_rate=1e-2, critic_learning_rate=1e-2, temp_learning_rate=1e-2, gamma=0.9, tau=0.05,
        actor_encoder_factory=encoder, critic_encoder_factory=encoder, action_scaler=scaler,
    ).create(device="cpu:0")  # fmt: skip
    algo.create_impl((OBS,), ACTIONS)
    scrambled(algo)
    rows: dict[str, list[np.ndarray]] = {}
    for _ in range(STEPS):
        batch = {
            "obs": rng.normal(size=(ROWS, OBS)), "action": rng.uniform(-BOUND, BOUND, (ROWS, ACTIONS)),
            "reward": 3 * rng.normal(size=ROWS), "next_obs": rng.normal(size=(ROWS, OBS)),
            "terminated": rng.random(ROWS) < 0.3,
        }  # fmt: skip
        batch = {name: array.astype(np.float32) for name, array in batch.items()}
        noise = rng.normal(size=(2, ROWS, ACTIONS)).astype(np.float32)  # for next_obs, then for obs
        draws = [torch.from_numpy(x) for x in noise]
        before = parameters(algo)
        mode = algo.predict(batch["obs"])
        minibatch = TransitionMiniBatch(
            observations=batch["obs"], actions=batch["action"], rewards=batch["reward"][:, None],
            next_observations=batch["next_obs"], next_actions=batch["action"],
            terminals=batch["terminated"][:, None], intervals=np.ones((ROWS, 1), np.float32), transitions=[],
        )  # fmt: skip
        give = functools.partial(lambda draws, *_, **__: draws.pop(0), draws)
        with mock.patch("torch.distributions.normal._standard_normal", give):
            metrics = algo.update(minibatch)
        assert not draws, "d3rlpy drew less often than it should"
        row = batch | {"noise": noise, "mode": mode, "critic_loss": np.float32(metrics["critic_loss"])}
        row |= {f"before/{k}": v for k, v in before.items()}
        row |= {f"after/{k}": v for k, v in parameters(algo).items()}
        for name, value in row.items():
            rows.setdefault(name, []).append(value)
    # what is before a later step is what was after the one before
    return {k: np.stack(v[:1] if k.startswith("before/") else v) for k, v in rows.items()}


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    bound = np.full(ACTIONS, BOUND, np.float32)
    scalers = {"environment": MinMaxActionScaler(minimum=-bound, maximum=bound), "unit": None}
    arrays = {
        f"{case}/{name}": array
        for seed, (case, scaler) in enumerate(scalers.items())
        for name, array in trace(np.random.default_rng(seed), scaler).items()
    }
    np.savez_compressed(pathlib.Path(__file__).parent / "sac_d3rlpy.npz", **arrays)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
