"""The arms of the study: names, and sentences of phases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from loro_jax.training.arms import Plan, Sentence
from loro_jax.training.guidance import Tutor
from loro_jax.training.phases import Interact
from loro_jax.types import Agent, Arm
from studies.blocks import BEST

THETA = 0.5
"""Of the budget: while P falls from 1 to 0.1."""
REUSES = 3
AGENTS: dict[str, Callable[[Plan], Agent | None]] = {
    "dqn": lambda p: None,
    "ppo": lambda p: p.ppo,
    "a2c": lambda p: p.a2c,
}
"""The protocol's own learner, and those beside it."""
ENTRIES = ("mixture", "masked", "cloned")
"""How advice enters PPO and A2C, beside the naive way, which is the study's."""
NUMBERS = ("THETA", "REUSES", "ENTRIES")
"""Those above, which decide what is run."""


def alone(agent: str) -> Sentence:
    """The agent without a tutor."""

    def sentence(p: Plan) -> Arm:
        return Arm(agent, (Interact(p.protocol.schedule.budget),), agent.upper(), agent=AGENTS[agent](p))

    return sentence


def taught(agent: str, name: str, says: str, **settings: Any) -> Sentence:
    """The agent beside a tutor."""

    def sentence(p: Plan) -> Arm:
        budget = p.protocol.schedule.budget
        tutor = Tutor(decay_steps=max(1, round(THETA * budget)), **settings)
        return Arm(f"{agent}-{name}", (Interact(budget, override=tutor),), says, agent=AGENTS[agent](p))

    return sentence


def cells(tutor: str) -> list[str | Sentence]:
    """All agents beside a tutor, with reuse and without."""
    found: list[str | Sentence] = []
    for agent in AGENTS:
        found.append(taught(agent, tutor, f"{agent.upper()}, {tutor} as its tutor"))
        says = f"{agent.upper()}, {tutor} as its tutor, advice reused"
        found.append(taught(agent, f"{tutor}-reuse", says, reuses=REUSES))
    return found


def variants(tutor: str) -> list[str | Sentence]:
    """A tutor that falls silent, other rules of reuse, and other ways in which its advice enters a policy."""
    found: list[str | Sentence] = []
    for agent in AGENTS:
        upper = agent.upper()
        found.append(taught(agent, f"{tutor}-annealed", f"{upper}, P falls to 0", last=0.0))
        says = f"{upper}, reuse ever less often"
        found.append(taught(agent, f"{tutor}-decay", says, rule="decay"))
        if agent == "dqn":
            says = f"{upper}, reuse while its value grows"
            found.append(taught(agent, f"{tutor}-q_change", says, rule="q_change"))
            continue
        for enters in ENTRIES:
            found.append(taught(agent, f"{tutor}-{enters}", f"{upper}, advice {enters}", enters=enters))
    return found


def varied(best: str) -> tuple[str, ...]:
    """The tutors whose variants are run: the best model, and the perfect one."""
    return best, BEST
