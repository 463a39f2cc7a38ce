"""Training an arm in pieces: `train`, `Programs`, and what stands between two pieces."""

from __future__ import annotations

import numpy as np
import pytest
from populations import INTERVAL, MEMBERS, PRIOR_ROWS, Population, assert_same

from loro_jax.training.phases import Collect, Fit, Forget, Interact, Load
from loro_jax.training.population import Layout, Progress, pieces, train
from loro_jax.types import Arm

LORO = Arm("loro", (Load(PRIOR_ROWS, queries=7), Fit(8), Forget(), Interact(3 * INTERVAL)), "", "llm")
SENTENCE = pieces(LORO, INTERVAL, fit_piece=4)


def start(population: Population) -> Progress:
    return Progress(0, population.start(), np.zeros((MEMBERS, 0), np.float32))


def test_pieces_say_the_same_as_the_sentence() -> None:
    assert [Load(PRIOR_ROWS, queries=7), Fit(4), Fit(4), Forget(), *[Interact(INTERVAL)] * 3] == SENTENCE
    assert pieces(Arm("flat", (), ""), INTERVAL) == []


def test_after_sees_every_piece_once_and_the_curve_grow(population: Population) -> None:
    seen: list[tuple[int, int]] = []
    end = train(
        SENTENCE, population.programs, start(population), population.known,
        after=lambda p: seen.append((p.done, p.records.shape[1])),
    )  # fmt: skip
    assert seen == [(1, 0), (2, 0), (3, 0), (4, 0), (5, 1), (6, 2), (7, 3)]
    assert end.records.shape == (MEMBERS, 3) and end.records.dtype == np.float32
    assert np.asarray(end.runs.counters.env_steps).tolist() == [3 * INTERVAL] * MEMBERS
    assert np.asarray(end.runs.counters.llm_queries).tolist() == [7] * MEMBERS


def test_training_in_pieces_is_the_sentence_in_one_go(population: Population) -> None:
    end = train(SENTENCE, population.programs, start(population), population.known)
    runs, curve = population.play(*LORO.phases)
    assert_same(end.runs, runs)
    np.testing.assert_array_equal(end.records, curve)


def test_records_of_different_phases_stand_side_by_side(population: Population) -> None:
    arm = Arm("random_data", (Collect(40, 0, 2), Forget(), Interact(INTERVAL)), "", "uniform")
    end = train(pieces(arm, INTERVAL), population.programs, start(population), population.known)
    collected, _ = population.play(Collect(40, 0, 2))
    assert end.records.shape == (MEMBERS, 3)
    np.testing.assert_array_equal(end.records[:, :2], population.play(Collect(40, 0, 2))[1])
    assert np.asarray(collected.counters.prior_steps).tolist() == [40] * MEMBERS


@pytest.mark.parametrize(
    ("devices", "block", "members", "padded"),
    [(2, 2, 1, 4), (2, 2, 4, 4), (2, 2, 5, 8), (1, 8, 17, 24), (2, 8, 256, 256)],
)
def test_padding_fills_every_devices_last_block(devices: int, block: int, members: int, padded: int) -> None:
    assert Layout(devices, block).padded(members) == padded
