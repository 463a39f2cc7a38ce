"""Arms that differ in swept numbers alone, trained side by side: each is what it is when trained alone."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from loro_jax.errors import UserError
from loro_jax.language import tables
from loro_jax.records import results
from loro_jax.running import experiment, store, trainer
from loro_jax.tasks import load
from loro_jax.tasks.reference import preferences
from loro_jax.training import population
from loro_jax.training.arms import Plan
from loro_jax.training.guidance import Kl, Proposals
from loro_jax.training.phases import Fit, Interact
from loro_jax.types import Arm

SETTINGS: dict[str, Any] = {
    "budget": 200, "eval_interval": 100, "hidden": (8,), "batch_size": 8, "learning_starts": 20,
    "eval_episodes": 2,
}  # fmt: skip


def swept(name: str, **doors: Any) -> Any:
    def sentence(p: Plan) -> Arm:
        agent = p.ppo if "penalty" in doors else None
        return Arm(name, (Interact(p.protocol.schedule.budget, **doors),), "", agent=agent)

    return sentence


def made(*chosen: Any, seeds: int = 6) -> experiment.Experiment:
    task = load("frozen_lake")
    table = tables.from_policy(
        lambda obs: preferences(task, obs).argmax(axis=1)[:, None].repeat(4, 1), task, "cell"
    )
    protocol = task.protocol("standard@1").replace(**SETTINGS)
    return experiment.prepare_experiment(task, protocol, chosen, seeds, 0, answers=table)


CHOSEN = (
    "pure_rl",
    *(swept(f"k{k}", support=Proposals(k)) for k in (1, 2, 4)),
    *(swept(f"kl{i}", penalty=Kl(weight, Proposals(4))) for i, weight in enumerate((0.0, 5.0))),
    swept("rate", learning_rate=1e-3),
)


def ran(e: experiment.Experiment, kept: Any = None) -> results.Result:
    return trainer.run(e, kept or store.Nowhere(), Console(quiet=True))[0]


@pytest.mark.slow
def test_arms_side_by_side_are_what_they_are_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Curves and counters of six seeds of seven arms, of which two groups are trained together."""
    e = made(*CHOSEN)
    alone = ran(e)
    monkeypatch.setattr(trainer, "gains", lambda: True)
    groups = trainer.together(e, list(e.arms), {arm.name: trainer.sentence(e, arm) for arm in e.arms})
    assert [[arm.name for arm in group] for group in groups] == [["k1", "k2", "k4"], ["kl0", "kl1"]]
    both = ran(e)
    assert list(both.curves) == list(alone.curves)
    for name, curve in alone.curves.items():
        np.testing.assert_allclose(both.curves[name], curve, atol=1e-5)
        for count, values in alone.counters[name].items():
            np.testing.assert_array_equal(both.counters[name][count], values)
    assert not np.array_equal(both.curves["kl0"], both.curves["kl1"])
    assert (both.counters["k1"]["consultations"] == 200).all() and (
        both.counters["kl0"]["consultations"] == 200
    ).all()


@pytest.mark.slow
def test_a_sweep_goes_on_from_its_checkpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    """Stopped after its first interval, with a checkpoint: what follows is as if uninterrupted."""
    e = made(*CHOSEN[1:4])
    monkeypatch.setattr(trainer, "gains", lambda: True)
    whole = ran(e)
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 0.0)
    checkpoint = store.Store.checkpoint

    def stopping(self: store.Store, *given: Any) -> None:
        checkpoint(self, *given)
        raise KeyboardInterrupt

    with store.Store(tmp_path, e.identity, False) as kept:
        monkeypatch.setattr(store.Store, "checkpoint", stopping)
        with pytest.raises(KeyboardInterrupt):
            ran(e, kept)
        monkeypatch.setattr(store.Store, "checkpoint", checkpoint)
    (folder,) = (path for path in (tmp_path / "checkpoints").iterdir() if path.is_dir())
    assert folder.name.startswith("k1.and-2-more-")
    pieces: list[Any] = []
    call = population.Programs.__call__
    monkeypatch.setattr(
        population.Programs, "__call__", lambda *given: pieces.append(given[1]) or call(*given)
    )
    with store.Store(tmp_path, e.identity, True) as kept:
        after = ran(e, kept)
        assert len(pieces) == 1 and not folder.exists()  # the first of two intervals was not trained again
        assert all(kept.finished(name) is not None for name in ("k1", "k2", "k4"))
    for name, curve in whole.curves.items():
        np.testing.assert_array_equal(after.curves[name], curve)


def test_members_are_every_seed_of_one_arm_then_of_the_next() -> None:
    phases = [Interact(40, support=Proposals(k)) for k in (1, 3)]
    skeleton, numbers = population.side_by_side(phases, 3, 8)
    assert skeleton == population.parted(phases[0])[0]
    assert [n.tolist() for n in numbers] == [[1, 1, 1, 3, 3, 3, 3, 3]]  # the last two fill a block
    with pytest.raises(ValueError, match="differ in more than numbers"):
        population.side_by_side([Interact(40), Fit(40)], 3, 8)
    with pytest.raises(UserError, match="k is a whole number"):
        population.side_by_side([Interact(40, support=Proposals(1.5))] * 2, 3, 8)
