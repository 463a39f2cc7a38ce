"""Tables of any function: perfect and adversarial models."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import loro_jax as lj
from loro_jax.data import answers
from loro_jax.language import show, tables
from loro_jax.tasks.reference import preferences

LAKE = lj.load_task("frozen_lake")


def best(obs: np.ndarray) -> np.ndarray:
    return preferences(LAKE, obs).argmax(axis=1)


def test_a_policys_table_is_saved_and_read_like_a_models(tmp_path: pathlib.Path) -> None:
    perfect = tables.from_policy(best, LAKE, "map", "perfect")
    lj.save_answers(perfect, "frozen_lake", str(tmp_path / "perfect"))
    read = tables.read(tmp_path / "perfect", LAKE)
    assert answers.digest(read) == answers.digest(perfect) and read.name == "perfect"
    texts = np.load(tmp_path / "perfect/answers.npz")["texts"]
    assert len(texts) == 11 and all(text.startswith("You are in row ") for text in texts)
    cells = np.eye(16, dtype=np.float32)[[0, 1, 2, 4]]
    rows = perfect.nearest(np.asarray(answers.digits_of(perfect.coding)(cells)))
    np.testing.assert_array_equal(perfect.actions[rows, 0], best(cells))


@pytest.mark.slow
def test_a_table_is_given_to_a_run_as_it_is() -> None:
    """A perfect model's own play is better than its opposite's."""
    perfect = tables.from_policy(best, LAKE, "map", "perfect")
    worst = tables.from_policy(lambda obs: (best(obs) + 2) % 4, LAKE, "map", "worst")
    settings = {"seeds": 2, "budget": 600, "tau": 2, "learning_starts": 20, "progress": False}
    returns = {}
    for table in (perfect, worst):
        found = lj.run("frozen_lake", ("pure_rl", "llm_policy"), answers=table, **settings)  # type: ignore[arg-type]
        returns[table.name] = found.flat["llm_policy"].mean()
        assert found.run["identity"]["answers"]["name"] == table.name
    assert returns["perfect"] > 0.6 and returns["worst"] < 0.1


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        (lambda obs: np.full(len(obs), 4), "the policy: "),
        (lambda obs: 1, "the policy gives int64 of shape .* observations"),
        (lambda obs: np.zeros(3, int), "the policy gives int64 of shape"),
        (lambda obs: np.zeros((len(obs), 0), int), "the policy: actions has shape"),
        (lambda obs: np.full(len(obs), 2**32), "the policy: actions must be whole numbers"),
        (lambda obs: np.full(len(obs), 0.5), "the policy: actions must be whole numbers"),
        (lambda obs: np.full(len(obs), np.nan), "the policy: actions must be whole numbers"),
        (lambda obs: np.full(len(obs), "1"), "the policy gives <U1 of shape"),
        (lambda obs: np.zeros(len(obs), complex), "the policy gives complex128 of shape"),
        (lambda obs: None, "the policy gives object of shape"),
        (lambda obs: [[1], [1, 2]], "the policy gives no actions for observations"),
        (lambda obs: np.zeros((len(obs), 3, 2)), "the policy: actions has shape"),
    ],
)
def test_a_policy_of_another_game_is_refused(policy: object, says: str) -> None:
    with pytest.raises(lj.UserError, match=says):
        tables.from_policy(policy, LAKE, "map")  # type: ignore[arg-type]


def test_whole_numbers_may_be_floats(tmp_path: pathlib.Path) -> None:
    """They are kept as actions are, so that programs take them and a saved table is read."""
    floats = tables.from_policy(lambda obs: np.full((len(obs), 3), 1.0), LAKE, "cell", "floats")
    assert floats.actions.dtype == np.int32
    tables.save(floats, LAKE, tmp_path / "floats")
    assert answers.digest(tables.read(tmp_path / "floats", LAKE)) == answers.digest(floats)
    given = dataclasses.replace(floats, actions=floats.actions.astype(np.float32))
    assert tables.checked(given, LAKE, LAKE.environment()).actions.dtype == np.int32


def test_a_task_is_named_or_given() -> None:
    named = lj.answers_from_policy(best, "frozen_lake", "cell")
    assert answers.digest(named) == answers.digest(lj.answers_from_policy(best, LAKE, "cell"))


@pytest.mark.parametrize(
    ("index", "says"),
    [
        (lambda obs: obs.argmax(), "the field 'row' has 4 values, and its index is "),
        (lambda obs: obs[99] > 0, "a field's index is not a whole number for an observation: index 99"),
    ],
)
def test_a_field_that_uniform_play_leaves_is_refused(index: Callable[[Any], Any], says: str) -> None:
    """Also where the policy's own play never meets what its index has no place for."""
    assert LAKE.words is not None
    fields = tuple(dataclasses.replace(f, index=index) if f.name == "row" else f for f in LAKE.words.fields)
    task = dataclasses.replace(LAKE, words=dataclasses.replace(LAKE.words, fields=fields))
    with pytest.raises(lj.UserError, match=says):
        tables.from_policy(lambda obs: np.zeros(len(obs), int), task, "cell")


EVEN = np.full(4, np.log(0.25), np.float32)


@pytest.mark.parametrize(
    "changed, says",
    [
        (lambda t: {"digits": t.digits + 4}, "digits name values that the fields do not have"),
        (lambda t: {"digits": t.digits[::-1]}, "its texts are not in the order of their codes"),
        (lambda t: {"digits": t.digits[:0], "actions": t.actions[:0]}, "digits must be whole numbers"),
        (lambda t: {"asked": ~t.asked}, "asked must be a flag for each text, one of them set"),
        (lambda t: {"asked": t.asked[1:]}, "asked must be a flag for each text"),
        (lambda t: {"actions": t.actions[1:]}, "actions has shape"),
        (lambda t: {"log_probs": np.tile(EVEN, (3, 1))}, "log_probs must be log-probabilities"),
        (lambda t: {"log_probs": np.full((len(t.digits), 4), np.nan, np.float32)}, "log_probs must be"),
        (lambda t: {"log_probs": np.tile(EVEN[:3], (len(t.digits), 1))}, "log_probs must be"),
    ],
)  # fmt: skip
def test_arrays_that_are_no_table_are_refused(changed: Callable[[Any], Any], says: str) -> None:
    """A table from Python as one from a file."""
    table = tables.from_policy(best, LAKE, "cell")
    tables.checked(
        dataclasses.replace(table, log_probs=np.tile(EVEN, (len(table.digits), 1))), LAKE, LAKE.environment()
    )
    wrong = dataclasses.replace(table, **changed(table))
    with pytest.raises(lj.UserError, match=f"the answers: {says}"):
        tables.checked(wrong, LAKE, LAKE.environment())


@pytest.mark.slow
def test_continuous_actions_are_asked_for_in_their_form() -> None:
    pendulum = lj.load_task("pendulum")
    with pytest.raises(lj.UserError, match=r"numbers, \(N, 1\) for one answer or \(N, n, 1\) for n"):
        tables.from_policy(lambda obs: -obs[:, 2], pendulum, "cot")


@pytest.mark.slow
def test_of_several_texts_the_viewer_shows_the_commonest(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the other table's prompt tells more."""
    (tmp_path / "row.txt").write_text("You walk on ice.\n\nYou are in row {row}. Write Action: left.\n")
    own = tables.from_policy(lambda obs: np.zeros(len(obs), int), LAKE, str(tmp_path / "row.txt"), "rows")
    more = tables.from_policy(lambda obs: np.where(obs[:, 3] == 1, 2, 0), LAKE, "cell", "cells")
    for table in (own, more):
        tables.save(table, LAKE, tmp_path / table.name)
    assert show.main([str(tmp_path / "rows"), "--against", str(tmp_path / "cells"), "--episodes", "20"]) == 0
    (first,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("1 ")]
    assert "left 1 (in the commonest of 4 texts)" in first and "right" not in first
