"""CartPole with a 200-step limit: `python -m benchmarks.cartpole --help`."""

import dataclasses
import sys

from loro_jax.benchmark import Benchmark
from loro_jax.command import main
from loro_jax.protocols import PAPER, RELEASED

STANDARD = dataclasses.replace(
    PAPER,
    name="standard",
    budget=10_000,
    eval_episodes=4,
    charge="steps",
    fit_steps=1000,
    hidden=(64, 64),
    learning_rate=1e-3,
    batch_size=32,
    target_interval=200,
    warmup=200,
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
