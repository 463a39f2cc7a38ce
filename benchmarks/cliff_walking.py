"""CliffWalking with a 200-step limit: `python -m benchmarks.cliff_walking --help`."""

import dataclasses
import sys

from loro_jax.running.benchmark import Benchmark
from loro_jax.running.command import main
from loro_jax.training.protocols import PAPER, RELEASED

# Tuned for pure RL by `python -m studies.tune --benchmark cliff_walking` (results/tuning/). Of the 3
# rows on 16 seeds (seed 102) this one is the best: -17,318 +- 2,227. Nothing was tuned for LORO: tau is the
# study's, and fit_steps is a tenth of the budget, as in the study's CartPole.
STANDARD = dataclasses.replace(
    PAPER,
    name="standard",
    budget=20_000,
    fit_steps=2000,
    charge="steps",
    hidden=(32, 32),
    learning_rate=0.004,
    batch_size=64,
    discount=0.99,
    target_interval=100,
    epsilon=0.05,
    warmup=100,
    reset_each_chunk=False,
)

CLIFF_WALKING = Benchmark(
    name="cliff_walking",
    environment="cliff_walking",
    episodes="qwen2.5-coder-0.5b-instruct-cot",
    protocols={
        "standard": STANDARD,
        "paper": dataclasses.replace(PAPER, budget=40_000, eval_episodes=10),
        "released": dataclasses.replace(RELEASED, budget=40_000, eval_episodes=10),
    },
    threshold=-13.0,
    seeds=256,
)

if __name__ == "__main__":
    sys.exit(main(CLIFF_WALKING))
