"""rejax's DQN and SAC, many seeds in one jitted, vmapped program, trained by its own `train`.

As its documentation has it: `jax.jit(jax.vmap(...))` over seeds. Each stretch goes on from the state of the
one before, in whole evaluation intervals; only the number of evaluation episodes is not its default of 128.
"""

from __future__ import annotations

import time
from typing import Any

from lines import peak_memory, say, told_to_go, work

ASKED = work()

import jax  # noqa: E402  (after the process was given its core)
from flax import linen as nn  # noqa: E402
from rejax import get_algo  # noqa: E402
from rejax.evaluate import evaluate  # noqa: E402
from rejax.networks import DiscreteQNetwork, EpsilonGreedyPolicy  # noqa: E402


def algorithm() -> Any:
    interval, ddqn = ASKED["eval_interval"], ASKED["agent"] == "ddqn"
    common = {
        "env": ASKED["gymnasium_id"], "num_envs": 1, "num_epochs": 1, "eval_freq": interval,
        "total_timesteps": interval, "skip_initial_evaluation": True, "learning_rate": ASKED["learning_rate"],
        "gamma": ASKED["discount"], "buffer_size": ASKED["replay_capacity"],
        "fill_buffer": ASKED["learning_starts"], "batch_size": ASKED["batch_size"],
    }  # fmt: skip
    hidden = tuple(ASKED["hidden"])
    if ddqn:
        algo = get_algo("dqn").create(
            **common, eps_start=ASKED["epsilon"], eps_end=ASKED["epsilon"],
            target_update_freq=ASKED["target_network_frequency"], polyak=0.0, ddqn=True,
        )  # fmt: skip
        actions = algo.env.action_space(algo.env_params).n
        network = EpsilonGreedyPolicy(DiscreteQNetwork)(hidden, nn.relu, actions)  # `create` fixes 64-64
        algo = algo.replace(agent=network)
    else:
        algo = get_algo("sac").create(
            **common, hidden_layer_sizes=hidden, target_update_freq=1, polyak=1 - ASKED["polyak"]
        )
    limit = ASKED["limit"]
    params = algo.env_params.replace(max_steps_in_episode=limit)

    def evaluated(algo: Any, ts: Any, rng: Any) -> Any:
        return evaluate(algo.make_act(ts), rng, algo.env, params, ASKED["eval_episodes"], limit)

    return algo.replace(env_params=params, eval_callback=evaluated)


def main() -> None:
    algo, seeds, interval = algorithm(), ASKED["seeds"], ASKED["eval_interval"]
    state = jax.jit(jax.vmap(algo.init_state))(jax.random.split(jax.random.key(0), seeds))
    train = jax.jit(jax.vmap(lambda ts: algo.train(train_state=ts)), donate_argnums=0)
    start = time.perf_counter()
    program = train.lower(state).compile()
    compiling = time.perf_counter() - start
    for _ in range(ASKED["learning_starts"] // interval + 2):
        state, _ = jax.block_until_ready(program(state))
    say(compile_seconds=compiling, jax=jax.__version__, device=jax.default_backend(), seeds=seeds)
    while told_to_go():
        steps, start = 0, time.perf_counter()
        while not steps or time.perf_counter() - start < ASKED["seconds"]:
            state, _ = jax.block_until_ready(program(state))
            steps += interval * seeds
        say(seconds=time.perf_counter() - start, env_steps=steps, gradient_steps=steps)
    say(peak_memory=peak_memory())


if __name__ == "__main__":
    main()
