"""Writes cql_d3rlpy.npz: what d3rlpy's CQL makes of a gradient step, as make_sac_d3rlpy.py does of SAC's.

    pip install d3rlpy==2.8.1
    python tests/golden/make_cql_d3rlpy.py

The penalty's weight is constant, and the target is SAC's (`soft_q_backup`).
"""

from __future__ import annotations

import functools
import pathlib
from unittest import mock

import d3rlpy
import numpy as np
import torch
from d3rlpy.dataset import TransitionMiniBatch
from d3rlpy.models.encoders import VectorEncoderFactory
from d3rlpy.preprocessing import MinMaxActionScaler
from make_sac_d3rlpy import ACTIONS, BOUND, HIDDEN, OBS, ROWS, parameters, scrambled

SAMPLES, WEIGHT = 4, 2.5


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    bound = np.full(ACTIONS, BOUND, np.float32)
    encoder = VectorEncoderFactory(HIDDEN)
    algo = d3rlpy.algos.CQLConfig(
        actor_learning_rate=1e-2, critic_learning_rate=1e-2, temp_learning_rate=1e-2, alpha_learning_rate=0.0,
        gamma=0.9, tau=0.05, actor_encoder_factory=encoder, critic_encoder_factory=encoder, initial_alpha=1.0,
        alpha_threshold=0.0, conservative_weight=WEIGHT, n_action_samples=SAMPLES, soft_q_backup=True,
        action_scaler=MinMaxActionScaler(minimum=-bound, maximum=bound),
    ).create(device="cpu:0")  # fmt: skip
    algo.create_impl((OBS,), ACTIONS)
    scrambled(algo)
    batch = {
        "obs": rng.normal(size=(ROWS, OBS)), "action": rng.uniform(-BOUND, BOUND, (ROWS, ACTIONS)),
        "reward": 3 * rng.normal(size=ROWS), "next_obs": rng.normal(size=(ROWS, OBS)),
        "terminated": rng.random(ROWS) < 0.3,
    }  # fmt: skip
    batch = {name: array.astype(np.float32) for name, array in batch.items()}
    draws = {
        "next_noise": rng.normal(size=(ROWS, ACTIONS)),
        "policy_noise": rng.normal(size=(SAMPLES, ROWS, ACTIONS)),
        "next_policy_noise": rng.normal(size=(SAMPLES, ROWS, ACTIONS)),
        "noise": rng.normal(size=(ROWS, ACTIONS)),
    }
    draws = {name: array.astype(np.float32) for name, array in draws.items()}
    uniform = rng.uniform(-1, 1, (SAMPLES, ROWS, ACTIONS)).astype(np.float32)
    before = parameters(algo)
    minibatch = TransitionMiniBatch(
        observations=batch["obs"], actions=batch["action"], rewards=batch["reward"][:, None],
        next_observations=batch["next_obs"], next_actions=batch["action"],
        terminals=batch["terminated"][:, None], intervals=np.ones((ROWS, 1), np.float32), transitions=[],
    )  # fmt: skip
    left = [torch.from_numpy(x) for x in draws.values()]
    give = functools.partial(lambda left, *_, **__: left.pop(0), left)
    flat = torch.from_numpy(uniform.transpose(1, 0, 2).reshape(-1, ACTIONS).copy())
    with (
        mock.patch("torch.distributions.normal._standard_normal", give),
        mock.patch("torch.Tensor.uniform_", lambda self, *_: flat),
    ):
        metrics = algo.update(minibatch)
    assert not left, "d3rlpy drew less often than it should"
    row = batch | draws | {"uniform": uniform, "weight": np.float32(WEIGHT)}
    row |= {k: np.float32(metrics[k]) for k in ("critic_loss", "conservative_loss")}
    row |= {f"before/{k}": v for k, v in before.items()} | {
        f"after/{k}": v for k, v in parameters(algo).items()
    }
    np.savez_compressed(pathlib.Path(__file__).parent / "cql_d3rlpy.npz", **row)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
