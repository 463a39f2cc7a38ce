"""Pendulum, with SAC: `python -m benchmarks.pendulum --help`."""

import dataclasses
import sys

from loro_jax.benchmark import Benchmark
from loro_jax.command import main
from loro_jax.protocols import SAC_PAPER, SAC_RELEASED

# Tuned for pure RL by `python -m benchmarks.tune --benchmark pendulum` (results/tuning/). Nothing was
# tuned for LORO: tau is the study's, and fit_steps is a tenth of the budget, as in the study's CartPole.
STANDARD = dataclasses.replace(
    SAC_PAPER,
    name="standard",
    budget=20_000,
    eval_episodes=4,
    fit_steps=2000,
    charge="steps",
    hidden=(64, 64),
    learning_rate=1e-3,
    batch_size=64,
    discount=0.97,
    warmup=200,
    train_every=1,
    reset_each_chunk=False,
)

PENDULUM = Benchmark(
    name="pendulum",
    environment="pendulum",
    episodes="qwen2.5-coder-0.5b-instruct-cot-grammar",
    protocols={
        "standard": STANDARD,
        "paper": dataclasses.replace(SAC_PAPER, budget=120_000),
        "released": dataclasses.replace(SAC_RELEASED, budget=120_000),
    },
    threshold=-200.0,
    seeds=64,
)

if __name__ == "__main__":
    sys.exit(main(PENDULUM))
