"""What departures make of the arms: sentences rewritten, and the chained one."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from loro_jax.departures.phases import ShiftedCollect
from loro_jax.training.phases import Collect, Fit, Forget, Interact, Retarget
from loro_jax.types import Arm, Phase

if TYPE_CHECKING:
    from loro_jax.protocols import Protocol
    from loro_jax.training.arms import Plan


def depart(arm: Arm, protocol: Protocol) -> Arm:
    """The arm under the protocol's departures; the same where there are none."""
    d = protocol.departures
    phases: tuple[Phase, ...] = arm.phases
    copies = hasattr(arm.agent or protocol.agent, "target_network_frequency")
    if d.pretrain_target_frequency and copies and pretrains_on_llm(arm):
        phases = (Retarget(d.pretrain_target_frequency), *phases)
    if d.alignment == "released":
        phases = tuple(map(_shifted, phases))
    if d.keep_baseline_data and arm.source in ("uniform", "self"):
        phases = tuple(p for p in phases if not isinstance(p, Forget))
    return dataclasses.replace(arm, phases=phases)


def loro_chained(p: Plan) -> Arm:
    """Departure 2."""
    repeats: tuple[Phase, ...] = (Forget(), Interact(p.online)) * p.protocol.departures.chained_repeats
    sentence: tuple[Phase, ...] = (p.load, *p.fit(), *repeats)
    return Arm("loro_chained", sentence, "LORO, repeats that go on from one another's weights", "llm")


def shares_pretraining(arm: Arm, protocol: Protocol) -> bool:
    """Departure 5: whether all seeds of `arm` start from one network and one pretraining.

    Only arms that pretrain on LLM episodes do: the study's other repeats start afresh.
    """
    return protocol.departures.shared_pretraining and pretrains_on_llm(arm)


def pretrains_on_llm(arm: Arm) -> bool:
    return arm.source == "llm" and any(isinstance(p, Fit) for p in arm.phases)


def _shifted(phase: Phase) -> Phase:
    if not isinstance(phase, Collect):
        return phase
    return ShiftedCollect(**{f.name: getattr(phase, f.name) for f in dataclasses.fields(phase)})
