"""What is trained: two games of discrete actions and one of continuous ones, every setting written out.

The settings are made to notice, not to score: many evaluations while learning is steep; on CartPole episodes
that an interval cuts, so that a cut that is taken for an end shows in the values, and a plain learner; on
FrozenLake an arm that chooses among a language model's answers, and a learner with schedules, targets over
several steps, soft target updates and layer norm.
"""

from __future__ import annotations

import dataclasses

from loro_jax.agents import DDQN, SAC
from loro_jax.departures.settings import Departures
from loro_jax.protocols import PriorUse, Protocol, Schedule

NAME = "regression@1"


@dataclasses.dataclass(frozen=True)
class Case:
    """Some arms on one task.

    Attributes:
        seeds: of each arm, in a run; the reference has `REFERENCE_KEYS` times as many.
        episodes, answers: what is known of a language model; one of them is named.
    """

    task: str
    protocol: Protocol
    arms: tuple[str, ...]
    seeds: int
    episodes: str = ""
    answers: str = ""


def _protocol(
    agent: DDQN | SAC, budget: int, interval: int, episodes: int, tau: int, fit: int, cut: bool, limit: int
) -> Protocol:
    schedule = Schedule(
        budget=budget, eval_interval=interval, eval_episodes=episodes, eval_limit=limit,
        reset_each_interval=cut,
    )  # fmt: skip
    prior = PriorUse(tau=tau, fit_steps=fit, charge="episodes")
    return Protocol(NAME, schedule, agent, prior, Departures())


CASES = (
    Case(
        "frozen_lake",
        _protocol(
            DDQN(
                hidden=(32,), learning_rate=2e-3, learning_rate_end=2e-4, learning_rate_decay_steps=6000,
                batch_size=32, discount=0.97, epsilon=0.1, epsilon_start=1.0, epsilon_decay_steps=1000,
                learning_starts=100, target_network_frequency=1, polyak=0.05, huber_delta=1.0, n_step=3,
                layer_norm=True,
            ),
            budget=6000, interval=200, episodes=10, tau=3, fit=500, cut=False, limit=0,
        ),
        ("pure_rl", "loro", "mix", "dqn_prior"), 64, answers="qwen2.5-coder-0.5b-instruct-map",
    ),
    Case(
        "cartpole",
        _protocol(
            DDQN(
                hidden=(64,), learning_rate=1e-3, batch_size=32, discount=0.99, epsilon=0.1,
                learning_starts=100, target_network_frequency=100, huber_delta=1.0,
            ),
            budget=4000, interval=80, episodes=1, tau=5, fit=500, cut=True, limit=200,
        ),
        ("pure_rl", "loro", "mix"), 64, episodes="qwen2.5-coder-0.5b-instruct-hint",
    ),
    Case(
        "pendulum",
        _protocol(
            SAC(
                hidden=(64, 64), learning_rate=3e-3, batch_size=64, discount=0.95, epsilon=0.1,
                learning_starts=100, polyak=0.02, initial_temperature=1.0, reward_scale=0.1,
            ),
            budget=3000, interval=200, episodes=2, tau=2, fit=300, cut=False, limit=0,
        ),
        ("pure_rl", "loro"), 16, episodes="qwen2.5-coder-0.5b-instruct-cot-grammar",
    ),
)  # fmt: skip
REFERENCE_KEYS = (9001, 9002, 9003, 9004)
"""From which the reference's seeds come; a run's key is another."""
