"""Writes learner_torch.npz: what other libraries make of the settings that a learner has beside its method.

    pip install d3rlpy==2.8.1 stable-baselines3==2.9.2
    python tests/golden/make_learner_torch.py

Gradient steps are d3rlpy's (Double DQN, SAC), with layer norm in its networks (torch's), rows of several
steps (`intervals`), a reward scale (`MultiplyRewardScaler`) and a learning rate that falls (torch's
`LinearLR`); Double DQN's target is moved by stable-baselines3's `polyak_update`. Targets of several steps are
those of stable-baselines3's `NStepReplayBuffer`, schedules its `LinearSchedule`.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from typing import Any
from unittest import mock

import d3rlpy
import numpy as np
import torch
from d3rlpy.dataset import TransitionMiniBatch
from d3rlpy.models.encoders import EncoderFactory
from d3rlpy.models.torch.encoders import Encoder, EncoderWithAction
from d3rlpy.preprocessing import MinMaxActionScaler, MultiplyRewardScaler
from gymnasium.spaces import Box, Discrete
from make_sac_d3rlpy import ACTIONS, BOUND, HIDDEN, OBS, ROWS, dense
from stable_baselines3.common.buffers import NStepReplayBuffer
from stable_baselines3.common.utils import LinearSchedule, polyak_update

STEPS, RATE, END, DECAY, SCALE, SHARE, EVERY = 8, 1e-2, 1e-3, 6, 0.3, 0.2, 3
"""Gradient steps; learning rates and the steps between; reward scale; Polyak's share, taken every so many."""


def normalised(inputs: int) -> torch.nn.Sequential:
    """Linear layers, each normalised before its ReLU."""
    layers: list[torch.nn.Module] = []
    for a, b in zip([inputs, *HIDDEN[:-1]], HIDDEN, strict=True):
        norm = torch.nn.LayerNorm(b)
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5)  # else they are ones and zeros
        torch.nn.init.uniform_(norm.bias, -0.5, 0.5)
        layers += [torch.nn.Linear(a, b), norm, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers)


class OfObservation(Encoder):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self._layers = normalised(inputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._layers(x)


class WithAction(EncoderWithAction):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self._layers = normalised(inputs)

    def forward(self, x: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        return self._layers(torch.cat([x, action], dim=1))


@dataclasses.dataclass()
class NormalisedFactory(EncoderFactory):
    def create(self, observation_shape: Any) -> Encoder:
        return OfObservation(observation_shape[0])

    def create_with_action(
        self, observation_shape: Any, action_size: int, discrete_action: bool = False
    ) -> EncoderWithAction:
        return WithAction(observation_shape[0] + action_size)

    @staticmethod
    def get_type() -> str:
        return "normalised"


def network(encoder: Any, *outputs: torch.nn.Linear) -> dict[str, np.ndarray]:
    linear = [[m] for m in encoder.modules() if isinstance(m, torch.nn.Linear)]
    found = {f"Dense_{i}/{k}": v for i, g in enumerate([*linear, list(outputs)]) for k, v in dense(g).items()}
    for i, norm in enumerate(m for m in encoder.modules() if isinstance(m, torch.nn.LayerNorm)):
        found[f"LayerNorm_{i}/scale"] = norm.weight.detach().numpy().copy()
        found[f"LayerNorm_{i}/bias"] = norm.bias.detach().numpy().copy()
    return found


def named(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{prefix}/{k}": v for k, v in arrays.items()}


def of_ddqn(algo: Any) -> dict[str, np.ndarray]:
    modules = algo.impl.modules
    [online], [target] = modules.q_funcs, modules.targ_q_funcs
    return named("params", network(online._encoder, online._fc)) | named(
        "target", network(target._encoder, target._fc)
    )


def of_sac(algo: Any) -> dict[str, np.ndarray]:
    modules = algo.impl.modules
    policy = modules.policy
    found = named("actor", network(policy._encoder, policy._mu, policy._logstd))
    for name, critics in (("critics", modules.q_funcs), ("targets", modules.targ_q_funcs)):
        each = [network(critic._encoder, critic._fc) for critic in critics]
        found |= named(name, {k: np.stack([critic[k] for critic in each]) for k in each[0]})
    return found | {"log_temperature": modules.log_temp._parameter.detach().numpy()[0, 0].copy()}


def optimisers(algo: Any) -> list[torch.optim.Optimizer]:
    modules = algo.impl.modules
    names = [
        name for name in ("optim", "actor_optim", "critic_optim", "temp_optim") if hasattr(modules, name)
    ]
    return [getattr(modules, name).optim for name in names]


def batch(rng: np.random.Generator, actions: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "obs": rng.normal(size=(ROWS, OBS)).astype(np.float32), "action": actions,
        "reward": (5 * rng.normal(size=ROWS)).astype(np.float32),
        "next_obs": rng.normal(size=(ROWS, OBS)).astype(np.float32),
        "terminated": (rng.random(ROWS) < 0.3).astype(np.float32),
        "interval": rng.integers(1, 4, ROWS).astype(np.float32),
    }  # fmt: skip


def trace(
    algo: Any, parameters: Any, batches: list[dict[str, np.ndarray]], rng: Any
) -> dict[str, np.ndarray]:
    """Gradient steps: what was before the first, each one's batch and draws, and what was after it."""
    schedulers = [
        torch.optim.lr_scheduler.LinearLR(o, start_factor=1.0, end_factor=END / RATE, total_iters=DECAY)
        for o in optimisers(algo)
    ]
    rows: dict[str, list[np.ndarray]] = {}
    first = named("before", parameters(algo))
    for step in batches:
        noise = rng.normal(size=(2, ROWS, ACTIONS)).astype(np.float32)
        draws = [torch.from_numpy(x) for x in noise]
        give = functools.partial(lambda draws, *_, **__: draws.pop(0), draws)
        column = step["action"].reshape(ROWS, -1).astype(np.float32)
        minibatch = TransitionMiniBatch(
            observations=step["obs"], actions=column, rewards=step["reward"][:, None],
            next_observations=step["next_obs"], next_actions=column, terminals=step["terminated"][:, None],
            intervals=step["interval"][:, None], transitions=[],
        )  # fmt: skip
        with mock.patch("torch.distributions.normal._standard_normal", give):
            metrics = algo.update(minibatch)
        for scheduler in schedulers:
            scheduler.step()
        row = step | {"noise": noise, "loss": np.float32(metrics.get("critic_loss", metrics.get("loss")))}
        for name, value in (row | named("after", parameters(algo))).items():
            rows.setdefault(name, []).append(value)
    return first | {k: np.stack(v) for k, v in rows.items()}


def of_double_dqn(rng: np.random.Generator) -> dict[str, np.ndarray]:
    algo = d3rlpy.algos.DoubleDQNConfig(
        learning_rate=RATE, gamma=0.9, target_update_interval=EVERY, encoder_factory=NormalisedFactory(),
        reward_scaler=MultiplyRewardScaler(SCALE),
    ).create(device="cpu:0")  # fmt: skip
    algo.create_impl((OBS,), 4)
    modules = algo.impl.modules
    with torch.no_grad():
        for target in modules.targ_q_funcs.parameters():
            target += 0.1 * torch.randn_like(target)

    def update_target() -> None:
        polyak_update(modules.q_funcs.parameters(), modules.targ_q_funcs.parameters(), SHARE)

    algo.impl.update_target = update_target
    batches = [batch(rng, rng.integers(0, 4, ROWS).astype(np.int32)) for _ in range(STEPS)]
    return trace(algo, of_ddqn, batches, rng)


def of_soft_actor_critic(rng: np.random.Generator) -> dict[str, np.ndarray]:
    bound = np.full(ACTIONS, BOUND, np.float32)
    factory = NormalisedFactory()
    algo = d3rlpy.algos.SACConfig(
        actor_learning_rate=RATE, critic_learning_rate=RATE, temp_learning_rate=RATE, gamma=0.9, tau=0.05,
        actor_encoder_factory=factory, critic_encoder_factory=factory,
        action_scaler=MinMaxActionScaler(minimum=-bound, maximum=bound),
        reward_scaler=MultiplyRewardScaler(SCALE),
    ).create(device="cpu:0")  # fmt: skip
    algo.create_impl((OBS,), ACTIONS)
    drawn = (rng.uniform(-BOUND, BOUND, (ROWS, ACTIONS)).astype(np.float32) for _ in range(STEPS))
    return trace(algo, of_sac, [batch(rng, actions) for actions in drawn], rng)


def of_several_steps(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A ring that has gone round twice, and every row's target of 1, 3 and 5 steps."""
    capacity, pushed = 23, 52
    box = Box(-np.inf, np.inf, (1,))
    rows: dict[str, list[Any]] = {k: [] for k in ("reward", "terminated", "truncated")}
    rings = {n: NStepReplayBuffer(capacity, box, Discrete(2), n_steps=n, gamma=0.9) for n in (1, 3, 5)}
    for t in range(pushed):
        reward, terminated = np.float32(rng.normal()), bool(rng.random() < 0.15)
        truncated = bool(rng.random() < 0.15) and not terminated
        for ring in rings.values():
            ring.add(
                np.array([[t]], np.float32), np.array([[t + 1]], np.float32), np.array([0]),
                np.array([reward]), np.array([terminated or truncated]), [{"TimeLimit.truncated": truncated}],
            )  # fmt: skip
        for name, value in (("reward", reward), ("terminated", terminated), ("truncated", truncated)):
            rows[name].append(value)
    found = {name: np.asarray(values) for name, values in rows.items()}
    for n, ring in rings.items():
        samples = ring._get_samples(np.arange(capacity))
        for name in ("rewards", "dones", "discounts", "next_observations"):
            found[f"{n}/{name}"] = getattr(samples, name).numpy()[:, 0]
    return found


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    steps = np.arange(0, 130, 13)
    told = np.array([LinearSchedule(1.0, 0.05, 0.4)(1 - t / 200) for t in steps])
    arrays = named("schedule", {"steps": steps, "epsilon": told})
    arrays |= named("ddqn", of_double_dqn(rng)) | named("sac", of_soft_actor_critic(rng))
    arrays |= named("several", of_several_steps(rng))
    np.savez_compressed(pathlib.Path(__file__).parent / "learner_torch.npz", **arrays)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
