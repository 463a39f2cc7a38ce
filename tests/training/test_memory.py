"""What seeds take of the memory; and seeds in groups, which give the bits of all at once."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import jax
import numpy as np
import populations
import pytest
from environments import SENTINEL_LIMIT, Sentinel, probe
from rich.console import Console

from loro_jax.errors import UserError
from loro_jax.records.results import Result
from loro_jax.running import machine, trainer
from loro_jax.running.experiment import Experiment, announced, prepare_experiment
from loro_jax.running.store import Keeper, Nowhere, Store
from loro_jax.tasks import Task
from loro_jax.training import memory, population
from loro_jax.training.population import Layout

SEEDS = 6
PROBE = Task("probe", probe(Sentinel, SENTINEL_LIMIT))


def prepared(seeds: int = SEEDS) -> Experiment:
    """A small run whose network is wide enough for blocks of two seeds: four at a time on two devices."""
    protocol = PROBE.protocol().replace(
        budget=60, eval_interval=20, eval_episodes=1, hidden=(100, 100), batch_size=4, learning_starts=5
    )
    return prepare_experiment(PROBE, protocol, ("pure_rl",), seeds, 0)


def limited(e: Experiment, seeds: int) -> Experiment:
    """The same, with room for so many seeds."""
    layout = population.layout(e.seeds, e.world.agent.hidden)
    return dataclasses.replace(e, memory_limit=memory.needed(e.world, layout, seeds))


def trained(e: Experiment, store: Keeper) -> Result:
    return trainer.run(e, store, Console(quiet=True))[0]


@pytest.fixture(scope="module")
def at_once() -> Result:
    return trained(prepared(), Nowhere())


def assert_equal(one: Result, other: Result) -> None:
    np.testing.assert_array_equal(one.curves["pure_rl"], other.curves["pure_rl"])
    for name, counted in one.counters["pure_rl"].items():
        np.testing.assert_array_equal(counted, other.counters["pure_rl"][name], err_msg=name)
    np.testing.assert_array_equal(one.diverged["pure_rl"], other.diverged["pure_rl"])


def test_what_a_seed_takes_is_what_its_arrays_hold(population: populations.Population) -> None:
    held = sum(x.nbytes for x in jax.tree.leaves(populations.numbers(population.begun)))
    assert memory.of_seed(population.world) * populations.MEMBERS == held


def test_seeds_are_divided_into_whole_blocks_that_fit() -> None:
    e = prepared()
    world, most = e.world, limited(e, 4).memory_limit
    assert memory.divide(world, SEEDS, limited(e, SEEDS).memory_limit).waves == 1
    for seeds, waves in ((SEEDS, 2), (8, 2), (9, 3), (100, 25)):
        found = memory.divide(world, seeds, most)
        assert found == memory.Division(Layout(2, 2), 4, waves)
        assert memory.needed(world, found.layout, found.wave) <= most
    with pytest.raises(UserError, match=r"4 seeds, as many .* take .* --memory-limit \S+ is enough"):
        memory.divide(world, SEEDS, most - 1)
    assert (memory.there_is() or 0) > 2**28


def test_an_accelerator_trains_fewer_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it trains them in groups."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    world = prepared().world
    state, working = memory.COPIES * memory.of_seed(world), memory.working(world)
    assert memory.divide(world, 1024, 2**40) == memory.Division(Layout(2, 512), 1024, 1)
    found = memory.divide(world, 1024, 1024 * state + 2 * 128 * working)
    assert found == memory.Division(Layout(2, 128), 1024, 1)
    found = memory.divide(world, 1024, 512 * state + 2 * 64 * working)
    assert found == memory.Division(Layout(2, 64), 512, 2)
    assert memory.divide(world, 1024, 8 * (state + working)) == memory.Division(Layout(2, 4), 8, 128)


@pytest.mark.slow
def test_groups_give_the_bits_of_all_seeds_at_once(at_once: Result) -> None:
    e = limited(prepared(), 4)
    assert "2 groups of seeds one after the other" in announced(e, e.arms)
    assert_equal(trained(e, Nowhere()), at_once)


@pytest.mark.slow
def test_a_run_goes_on_with_the_group_that_it_was_stopped_in(
    at_once: Result, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    e = limited(prepared(), 4)
    began: list[int] = []
    train = population.train

    def stopped(*given: Any) -> Any:
        """The second group ends after its first piece."""
        began.append(given[2].done)
        after = given[4]

        def stop(progress: population.Progress) -> None:
            if len(began) == 2:
                monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", -1.0)
            after(progress)
            if len(began) == 2:
                raise trainer.Interrupted

        return train(*given[:4], stop)

    monkeypatch.setattr(population, "train", stopped)
    with (
        Store(tmp_path, e.identity, False, machine.computed_on()) as store,
        pytest.raises(trainer.Interrupted),
    ):
        trained(e, store)
    with Store(tmp_path, e.identity, True, machine.computed_on()) as store:
        assert_equal(trained(e, store), at_once)
    assert began == [0, 0, 1]  # the first group was not trained again, the second not from its start
