"""d3rlpy's Double DQN and SAC, one seed, trained by its own `fit_online`.

As fast as its documentation lets it be: no progress bar, no log files, no models saved. Its `compile_graph`
has an effect with CUDA alone (`LearnableBase.compiled`), and is on there.
"""

from __future__ import annotations

import time
from typing import Any

from lines import peak_memory, say, told_to_go, work

ASKED = work()

import d3rlpy  # noqa: E402  (after the process was given its core)
import gymnasium  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from d3rlpy.algos import ConstantEpsilonGreedy, DoubleDQNConfig, SACConfig  # noqa: E402
from d3rlpy.dataset import create_fifo_replay_buffer  # noqa: E402
from d3rlpy.logging import NoopAdapterFactory  # noqa: E402
from d3rlpy.metrics.utility import evaluate_qlearning_with_environment  # noqa: E402
from d3rlpy.models.encoders import VectorEncoderFactory  # noqa: E402


class OneHot(gymnasium.ObservationWrapper):  # type: ignore[misc]
    """Whole numbers as vectors, as the networks of this suite see them."""

    def __init__(self, env: Any, states: int) -> None:
        super().__init__(env)
        self.rows = np.eye(states, dtype=np.float32)
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, (states,), np.float32)

    def observation(self, observation: Any) -> Any:
        return self.rows[observation]


class Over(Exception):
    """The parent has heard enough."""


def environment() -> Any:
    name = {"CliffWalking-v1": "CliffWalking-v0"}.get(ASKED["gymnasium_id"], ASKED["gymnasium_id"])
    env = gymnasium.make(name, max_episode_steps=ASKED["limit"])
    return OneHot(env, ASKED["states"]) if ASKED["states"] else env


def algorithm(cuda: bool) -> Any:
    common = {
        "batch_size": ASKED["batch_size"], "gamma": ASKED["discount"], "compile_graph": cuda,
    }  # fmt: skip
    encoder, rate = VectorEncoderFactory(list(ASKED["hidden"])), ASKED["learning_rate"]
    if ASKED["agent"] == "ddqn":
        config: Any = DoubleDQNConfig(
            learning_rate=rate, encoder_factory=encoder,
            target_update_interval=ASKED["target_network_frequency"], **common,
        )  # fmt: skip
    else:
        config = SACConfig(
            actor_learning_rate=rate, critic_learning_rate=rate, temp_learning_rate=rate,
            actor_encoder_factory=encoder, critic_encoder_factory=encoder, tau=ASKED["polyak"],
            initial_temperature=ASKED["initial_temperature"], **common,
        )  # fmt: skip
    return config.create(device="cuda:0" if cuda else "cpu:0")


def main() -> None:
    torch.set_num_threads(ASKED["threads"])
    cuda = torch.cuda.is_available()
    env, other, interval = environment(), environment(), ASKED["eval_interval"]
    warm = -(-(ASKED["learning_starts"] + ASKED["batch_size"]) // interval + 1) * interval
    start, first = 0.0, 0

    def after(algo: Any, epoch: int, step: int) -> None:
        nonlocal start, first
        if step % interval:
            return
        evaluate_qlearning_with_environment(algo, other, n_trials=ASKED["eval_episodes"])
        seconds = time.perf_counter() - start
        if step < warm or (step > warm and seconds < ASKED["seconds"]):
            return
        if step == warm:
            say(version=d3rlpy.__version__, torch=torch.__version__, device="cuda" if cuda else "cpu")
        else:
            done = step - first
            say(seconds=seconds, env_steps=done, gradient_steps=done // ASKED["train_frequency"])
        if not told_to_go():
            raise Over
        start, first = time.perf_counter(), step

    algo = algorithm(cuda)
    greedy = ConstantEpsilonGreedy(ASKED["epsilon"]) if ASKED["agent"] == "ddqn" else None
    try:
        algo.fit_online(
            env, create_fifo_replay_buffer(ASKED["replay_capacity"], env=env), greedy, n_steps=10**9,
            n_steps_per_epoch=10**9, update_interval=ASKED["train_frequency"],
            update_start_step=ASKED["learning_starts"], logger_adapter=NoopAdapterFactory(),
            show_progress=False, callback=after,
        )  # fmt: skip
    except Over:
        say(peak_memory=peak_memory())


if __name__ == "__main__":
    main()
