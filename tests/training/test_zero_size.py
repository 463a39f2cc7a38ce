"""No array without elements enters `shard_map` from outside: jaxlib 0.11.2 crashes on one.

docs/zero-size-constant.md has the story. What the compiler gets is read as text, so that the fault is also
found under a jaxlib that bears it.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from populations import INTERVAL, MEMBERS, PRIOR_ROWS, Population

from loro_jax.agents import untuned
from loro_jax.departures.phases import ShiftedCollect
from loro_jax.tasks import NAMES, load
from loro_jax.training.phases import AsPrior, Collect, Fit, Forget, Interact, Load, Retarget
from loro_jax.training.population import Layout, advance, begin
from loro_jax.training.world import World
from loro_jax.types import Knowledge, Phase, Run, Transition

EVERY_PHASE: list[tuple[Phase, int]] = [
    (Load(PRIOR_ROWS), 0),
    (Load(PRIOR_ROWS, charged=2 * INTERVAL, queries=-1), 0),
    (Load(0), 0),
    (Fit(3), 0),
    (Fit(0), 0),
    (Forget(), 0),
    (Retarget(7), 0),
    (Collect(40, 0, 2), 2),
    (Collect(40, 0, 0), 0),
    (Collect(40, 3, 3), 3),
    (Collect(40, 3, 0), 0),
    (ShiftedCollect(40, 0, 0), 0),
    (Interact(INTERVAL), 1),
    (Interact(0), 0),
    (AsPrior(Interact(INTERVAL)), 1),
]


@dataclasses.dataclass(frozen=True)
class Constant:
    """A phase whose record is numpy's, made before the program."""

    evaluations: int

    def cost(self, interval: int) -> Any:
        raise NotImplementedError

    def __call__(self, run: Run, world: World, data: Transition) -> tuple[Run, Any]:
        return run, np.zeros(self.evaluations, np.float32)


class Argument(Constant):
    """A phase whose record is an argument of the program."""

    def __call__(self, run: Run, world: World, known: Knowledge) -> tuple[Run, Any]:
        return run, known.rows.reward[: self.evaluations]


def without_elements(phase: Phase, world: World, layout: Layout, runs: Run, known: Knowledge) -> list[str]:
    """Arrays without elements that the compiler would get from outside of the program's `shard_map`."""
    text = advance.lower(phase, world, layout, runs, known).as_text()
    [entry] = [line for line in text.splitlines() if "sdy.manual_computation(" in line]
    entering = re.findall(r"%\w+: (tensor<[^>]*>)", entry)
    assert len(entering) >= len(jax.tree.leaves(runs.agent))
    constants = re.findall(r"dense<> : (tensor<[^>]*>)", text)
    return [shape for shape in entering if re.search(r"[<x]0x", shape)] + constants


@pytest.mark.parametrize(("phase", "evaluations"), EVERY_PHASE, ids=repr)
def test_a_phase_takes_nothing_without_elements_into_its_program(
    phase: Phase, evaluations: int, population: Population
) -> None:
    assert not without_elements(
        phase, population.world, population.layout, population.begun, population.known
    )


ENTIRE = ("frozen_lake", "pendulum")


@pytest.mark.parametrize(
    "name", [n if n in ENTIRE else pytest.param(n, marks=pytest.mark.slow) for n in NAMES]
)
def test_nor_do_an_environments_state_and_its_agent(name: str, population: Population) -> None:
    env = load(name).environment()
    small = dataclasses.replace(
        untuned(env.action_space), hidden=(4,), batch_size=8, learning_starts=16, replay_capacity=70
    )
    world = World(env, small.for_game(env.action_space), population.world.interaction)
    runs = jax.eval_shape(lambda: begin(world, population.layout, 0, MEMBERS, False))
    known = Knowledge(jax.tree.map(lambda x: jnp.zeros((1, *x.shape), x.dtype), world.example))
    for phase in (Load(1), Fit(1), Interact(INTERVAL)):
        assert not without_elements(phase, world, population.layout, runs, known)


@pytest.mark.parametrize("phase", [Constant, Argument])
def test_what_has_no_elements_would_be_seen(phase: type[Constant], population: Population) -> None:
    where = (population.world, population.layout, population.begun)
    nothing = jax.tree.map(lambda x: x[:0], population.known)
    assert without_elements(phase(0), *where, nothing)
    assert not without_elements(phase(1), *where, population.known)


ONE_OF_A_KIND = (Load(PRIOR_ROWS), Fit(3), Forget(), Collect(40, 0, 2), Interact(INTERVAL))


@pytest.mark.parametrize(
    ("phase", "evaluations"),
    [
        pytest.param(*each, marks=() if each[0] in ONE_OF_A_KIND else pytest.mark.slow, id=repr(each[0]))
        for each in EVERY_PHASE
    ],
)
def test_every_phase_compiles_over_two_devices_and_keeps_its_records_shape(
    phase: Phase, evaluations: int, population: Population
) -> None:
    assert population.layout.devices == 2
    _, record = population.play(phase)
    assert record.shape == (MEMBERS, evaluations) and record.dtype == np.float32
