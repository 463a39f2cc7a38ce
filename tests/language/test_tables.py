"""Tables of any function: perfect and adversarial models."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest

import loro_jax as lj
from loro_jax.data import answers
from loro_jax.language import players, tables
from loro_jax.tasks.reference import preferences

LAKE = lj.load_task("frozen_lake")


def best(obs: np.ndarray) -> np.ndarray:
    return preferences(LAKE, obs).argmax(axis=1)


def test_a_policys_table_is_saved_and_read_like_a_models(tmp_path: pathlib.Path) -> None:
    perfect = tables.from_policy(best, LAKE, "map", "perfect")
    tables.save(perfect, LAKE, tmp_path / "perfect")
    read = tables.read(tmp_path / "perfect", LAKE)
    assert answers.digest(read) == answers.digest(perfect) and read.name == "perfect"
    texts = np.load(tmp_path / "perfect/answers.npz")["texts"]
    assert len(texts) == 11 and all(text.startswith("You are in row ") for text in texts)
    cells = np.eye(16, dtype=np.float32)[[0, 1, 2, 4]]
    rows = perfect.nearest(np.asarray(players.digits_of(perfect.coding)(cells)))
    np.testing.assert_array_equal(perfect.actions[rows, 0], best(cells))


def test_a_table_is_given_to_a_run_as_it_is() -> None:
    """A perfect model's own play is better than its opposite's."""
    perfect = tables.from_policy(best, LAKE, "map", "perfect")
    worst = tables.from_policy(lambda obs: (best(obs) + 2) % 4, LAKE, "map", "worst")
    returns = {}
    for table in (perfect, worst):
        found = lj.run("frozen_lake", ("llm_policy",), answers=table, progress=False)
        returns[table.name] = found.flat["llm_policy"].mean()
        assert found.run["identity"]["answers"]["name"] == table.name
    assert returns["perfect"] > 0.6 and returns["worst"] < 0.1


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        (lambda obs: np.full(len(obs), 4), "the policy: "),
        (lambda obs: 1, "the policy gives int64 of shape .* observations"),
        (lambda obs: np.zeros(3, int), "the policy gives int64 of shape"),
        (lambda obs: np.zeros((len(obs), 0), int), "texts need actions of shape"),
        (lambda obs: np.full(len(obs), 2**32), "the policy: actions must be whole numbers"),
        (lambda obs: np.full(len(obs), 0.5), "the policy: actions must be whole numbers"),
        (lambda obs: np.full(len(obs), np.nan), "the policy: actions must be whole numbers"),
        (lambda obs: np.full(len(obs), "1"), "the policy gives <U1 of shape"),
        (lambda obs: np.zeros(len(obs), complex), "the policy gives complex128 of shape"),
        (lambda obs: None, "the policy gives object of shape"),
        (lambda obs: [[1], [1, 2]], "the policy gives no actions for observations"),
        (lambda obs: np.zeros((len(obs), 3, 2)), "the policy's actions have shape"),
    ],
)
def test_a_policy_of_another_game_is_refused(policy: object, says: str) -> None:
    with pytest.raises(lj.UserError, match=says):
        tables.from_policy(policy, LAKE, "map")  # type: ignore[arg-type]
