"""CartPole with a 200-step limit: `python -m benchmarks.cartpole --help`."""

import dataclasses
import sys

from loro_jax.running.benchmark import Benchmark
from loro_jax.running.command import main
from loro_jax.training.protocols import PAPER, RELEASED

# Learning rate, target interval, epsilon, discount, batch, network and warm-up are a row of the search for
# pure RL by `python -m studies.tune` (results/tuning/cartpole.json). Of the 17 rows on 64 seeds (seed
# 102) this one scores 6,938 +- 85 and the best 7,167 +- 85 (batch_size 64, hidden 128); why it was not
# taken is not on record. Nothing was tuned for LORO: tau is the study's, and fit_steps is the study's K in
# the same ratio to the budget.
STANDARD = dataclasses.replace(
    PAPER,
    name="standard",
    budget=10_000,
    eval_episodes=4,
    charge="steps",
    fit_steps=1000,
    hidden=(256,),
    learning_rate=2e-3,
    batch_size=32,
    discount=0.97,
    target_interval=400,
    epsilon=0.2,
    warmup=100,
    reset_each_chunk=False,
)

CARTPOLE = Benchmark(
    name="cartpole",
    environment="cartpole",
    episodes="qwen2.5-coder-0.5b-instruct-hint",
    protocols={"standard": STANDARD, "paper": PAPER, "released": RELEASED},
    threshold=195.0,
)

if __name__ == "__main__":
    sys.exit(main(CARTPOLE))
