"""The rows of the benchmark: a task, the sizes that it is trained at, and how many seeds."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

from loro_jax.errors import UserError, within
from loro_jax.spaces import Discrete

if TYPE_CHECKING:
    from loro_jax.protocols import Protocol
    from loro_jax.running.experiment import Experiment

SMALL: dict[str, Any] = {
    "name": "small@1", "budget": 20_000, "eval_episodes": 4, "hidden": (64, 64), "batch_size": 32,
    "learning_starts": 100, "reset_each_interval": False,
}  # fmt: skip
"""Sizes of many examples, rejax's and CleanRL's among them; no task's protocol, for nothing is learned by
them here. The rest is the study's."""


@dataclasses.dataclass(frozen=True, order=True)
class Case:
    """One row: `seeds` seeds of pure RL in `task` under `protocol`, or under the sizes called "small"."""

    task: str
    protocol: str
    seeds: int

    def __str__(self) -> str:
        return f"{self.task}, {self.protocol}, {self.seeds} seed{'s' * (self.seeds > 1)}"

    def settings(self) -> Protocol:
        """The protocol."""
        from loro_jax.tasks import load

        task = load(self.task)
        if self.protocol in ("small", SMALL["name"]):
            return task.protocol("paper").replace(**SMALL)
        return task.protocol(self.protocol)

    def named(self) -> Case:
        """The same, its protocol's version spelled out."""
        return dataclasses.replace(self, protocol=self.settings().name)

    def experiment(self) -> Experiment:
        """What `python -m benchmarks.run` would train, the one arm `pure_rl`. JAX has to run."""
        from loro_jax.running import experiment
        from loro_jax.tasks import load

        return experiment.prepare_experiment(load(self.task), self.settings(), ("pure_rl",), self.seeds, 0)

    def work(self) -> dict[str, Any]:
        """The same as peers are told it, JSON; sizes and frequencies, names as in `protocols`."""
        from loro_jax.tasks import load

        protocol, task = self.settings(), load(self.task)
        env = task.under(protocol)
        return {
            **dataclasses.asdict(self), **protocol.flat(), "agent": protocol.agent.name,
            "limit": env.limit, "gymnasium_id": task.gymnasium_id, "states": env.states,
        }  # fmt: skip


def chosen(tasks: str, protocols: str, seeds: str) -> list[Case]:
    """The rows that the options name; a `UserError` for what is none."""
    numbers = []
    for word in _words(seeds, "--seeds"):
        if not word.isdecimal():
            raise UserError(f"--seeds takes whole numbers, separated by commas, got '{word}'")
        within("--seeds", int(word), 1, 1_000_000)
        numbers.append(int(word))
    return [
        Case(task, protocol, n).named()
        for task in _words(tasks, "--tasks")
        for protocol in _words(protocols, "--protocols")
        for n in numbers
    ]


def _words(listed: str, flag: str) -> list[str]:
    words = [word.strip() for word in listed.split(",") if word.strip()]
    if not words or len(set(words)) < len(words):
        raise UserError(f"{flag} must name what to run, each once, separated by commas")
    return words


def sizes(e: Experiment) -> tuple[int, int]:
    """Numbers of an observation, and discrete actions or numbers of a continuous one."""
    env = e.world.environment
    space = env.action_space
    return math.prod(env.observation_shape), space.n if isinstance(space, Discrete) else space.shape[0]
