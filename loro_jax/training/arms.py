"""The arms of the suite, each a sentence of phases. To add one, write its sentence and name it in `ARMS`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from loro_jax.errors import UserError
from loro_jax.training.phases import AsPrior, Collect, Fit, Forget, Interact, Load, Retarget
from loro_jax.training.protocols import Protocol
from loro_jax.types import Arm, Phase


@dataclasses.dataclass(frozen=True)
class Plan:
    """What the sentences are written with.

    Attributes:
        protocol: the protocol.
        rows: transitions of the LLM's prior data, as loaded.
        queries: questions that were put to the LLM for them; -1 where that is not known.
        prior: n, the share of the budget that prior data uses, in environment steps.
        limit: the environment's time limit.
    """

    protocol: Protocol
    rows: int
    prior: int
    limit: int
    queries: int = -1

    @property
    def load(self) -> Load:
        """The LLM's data, charged."""
        return Load(self.rows, self.prior, self.queries)

    @property
    def online(self) -> int:
        """N - n: environment steps left to an arm that starts from prior data."""
        return self.protocol.budget - self.prior

    @property
    def uniform(self) -> Collect:
        """A uniform policy's data: tau episodes, or as many steps as the LLM's, as prior data is charged."""
        p, chunks = self.protocol, self.prior // self.protocol.eval_every
        if p.charge == "episodes":
            return Collect(p.tau * self.limit, p.tau, chunks, p.alignment)
        return Collect(self.rows, 0, chunks, p.alignment)

    @property
    def forget_baseline(self) -> tuple[Phase, ...]:
        return () if self.protocol.keep_baseline_data else (Forget(),)

    @property
    def retarget(self) -> tuple[Phase, ...]:
        interval = self.protocol.pretrain_target_interval
        return (Retarget(interval),) if interval else ()


def pure_rl(p: Plan) -> Arm:
    return Arm("pure_rl", (Interact(p.protocol.budget),), "no prior data")


def loro(p: Plan) -> Arm:
    sentence = (*p.retarget, p.load, Fit(p.protocol.fit_steps), Forget(), Interact(p.online))
    return Arm("loro", sentence, "pretrained on LLM episodes, which are then dropped", "llm")


def loro_chained(p: Plan) -> Arm:
    repeats: tuple[Phase, ...] = (Forget(), Interact(p.online)) * p.protocol.chained_repeats
    sentence = (*p.retarget, p.load, Fit(p.protocol.fit_steps), *repeats)
    return Arm("loro_chained", sentence, "LORO, repeats that go on from one another's weights", "llm")


def mix(p: Plan) -> Arm:
    return Arm("mix", (p.load, Interact(p.online)), "no pretraining; LLM episodes in the replay", "llm")


def loro_keep(p: Plan) -> Arm:
    sentence = (*p.retarget, p.load, Fit(p.protocol.fit_steps), Interact(p.online))
    return Arm("loro_keep", sentence, "LORO, its LLM episodes kept in the replay", "llm")


def random_data(p: Plan) -> Arm:
    sentence: tuple[Phase, ...] = (
        p.uniform,
        Fit(p.protocol.fit_steps),
        *p.forget_baseline,
        Interact(p.online),
    )
    return Arm("random_data", sentence, "LORO on a uniform policy's episodes", "uniform")


def on_policy(p: Plan) -> Arm:
    sentence: tuple[Phase, ...] = (
        AsPrior(Interact(p.prior)),
        Fit(p.protocol.fit_steps),
        *p.forget_baseline,
        Interact(p.online),
    )
    return Arm("on_policy", sentence, "LORO on its own first episodes", "self")


def llm_policy(p: Plan) -> Arm:
    return Arm("llm_policy", (), "the LLM itself, no learning", "llm")


def random_policy(p: Plan) -> Arm:
    return Arm("random_policy", (), "uniform actions, no learning", "uniform")


ARMS: dict[str, Callable[[Plan], Arm]] = {
    "pure_rl": pure_rl,
    "loro": loro,
    "mix": mix,
    "loro_keep": loro_keep,
    "random_data": random_data,
    "on_policy": on_policy,
    "loro_chained": loro_chained,
    "llm_policy": llm_policy,
    "random_policy": random_policy,
}
BASELINE = "pure_rl"


def shares_pretraining(arm: Arm, protocol: Protocol) -> bool:
    """Whether all members of `arm` start from one network and one pretraining (departure 5).

    Only arms that pretrain on LLM episodes do: the study's other repeats start afresh.
    """
    return protocol.shared_pretraining and arm.source == "llm" and any(isinstance(p, Fit) for p in arm.phases)


def names(protocol: Protocol) -> tuple[str, ...]:
    """The arms that run when none are named: all, but the chained one only where the protocol chains."""
    return tuple(n for n in ARMS if n != "loro_chained" or protocol.chained_repeats > 1)


def build(chosen: tuple[str, ...], plan: Plan) -> tuple[Arm, ...]:
    """The named arms, in the order given; a `UserError` lists the names there are."""
    unknown = [n for n in chosen if n not in ARMS]
    if unknown:
        raise UserError(f"no arm is called '{unknown[0]}'; there are: {', '.join(ARMS)}")
    if len(set(chosen)) < len(chosen):
        raise UserError(f"an arm is named twice: {', '.join(chosen)}")
    return tuple(ARMS[n](plan) for n in chosen)
