"""A table of answers: what is looked up is what was asked, wherever the text lies, and damage is refused."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loro_jax import files
from loro_jax.data import answers
from loro_jax.data.answers import Answers, Coding, distance, find
from loro_jax.errors import AnswerError
from loro_jax.spaces import Discrete
from loro_jax.tasks.words import Field

SMALL, LARGE = (4, 3, 5), (5000, 4, 3000)


def coding(sizes: tuple[int, ...]) -> Coding:
    return Coding(
        tuple(Field(f"f{i}", tuple(map(str, range(n))), lambda obs, i=i: obs[i]) for i, n in enumerate(sizes))
    )


def answered(sizes: tuple[int, ...], texts: int = 30, samples: int = 3, scored: bool = False) -> Answers:
    """Answers about some texts, every third of which was met and not asked about."""
    code, rng = coding(sizes), np.random.default_rng(1)
    digits = np.unique(np.stack([rng.integers(n, size=texts) for n in sizes], axis=1), axis=0).astype(
        np.int32
    )
    asked = np.arange(len(digits)) % 3 != 0
    said = np.where(asked[:, None], rng.integers(-1, 4, (len(digits), samples)), -1).astype(np.int32)
    card = {"environment": "walk", "prompt": {"text": "{f0} {f1} {f2}"}}
    likely = rng.dirichlet(np.ones(4), len(digits))
    scores = np.where(asked[:, None], np.log(likely), 0).astype(np.float32)
    return Answers(code, digits, said, asked, card, scores if scored else None)


@pytest.mark.parametrize("sizes", [SMALL, LARGE])
def test_a_lookup_is_the_texts_own_answer_or_the_nearest_ones(sizes: tuple[int, ...]) -> None:
    kept, rng = answered(sizes), np.random.default_rng(2)
    table = kept.table()
    assert kept.coding.dense == (table.rows is not None) and len(table.actions) % answers.PADDED == 0
    others = np.stack([rng.integers(n, size=40) for n in sizes], axis=1).astype(np.int32)
    texts = np.concatenate([kept.digits, others])
    found = jax.jit(jax.vmap(lambda d: find(table, kept.coding, d)))(texts)
    asked = {tuple(d): row for row, d in enumerate(kept.digits.tolist()) if kept.asked[row]}
    for text, row, own in zip(texts.tolist(), found.row.tolist(), found.own.tolist(), strict=True):
        assert own == (tuple(text) in asked)
        if own:
            assert row == asked[tuple(text)]
        far = distance(kept.digits[kept.asked], np.array(text))
        assert kept.asked[row] and distance(kept.digits[row], np.array(text)) == far.min()


def test_a_policys_table_says_what_the_policy_does() -> None:
    code = coding(SMALL)
    observations = np.stack(np.meshgrid(*map(np.arange, SMALL), indexing="ij"), -1).reshape(-1, 3)
    made = answers.from_policy(lambda obs: (obs.sum(axis=1) % 2)[:, None], code, observations)
    table = made.table()
    for obs in observations[::7]:
        row, own = find(table, code, code.digits(jnp.asarray(obs)))
        assert own and int(table.actions[row, 0]) == obs.sum() % 2


def written(
    tmp_path: pathlib.Path, sizes: tuple[int, ...] = SMALL, scored: bool = False
) -> tuple[Answers, pathlib.Path]:
    kept = answered(sizes, scored=scored)
    answers.save(kept, [" ".join(map(str, d)) for d in kept.digits.tolist()], tmp_path / "table")
    return kept, tmp_path / "table"


def read(folder: pathlib.Path, environment: str = "walk", sizes: tuple[int, ...] = SMALL) -> Answers:
    return answers.load(folder, environment, lambda text: coding(sizes), Discrete(4))


@pytest.mark.parametrize("sizes", [SMALL, LARGE])
def test_what_is_saved_is_read(tmp_path: pathlib.Path, sizes: tuple[int, ...]) -> None:
    kept, folder = written(tmp_path, sizes)
    found = read(folder, sizes=sizes)
    for name in ("digits", "actions", "asked"):
        np.testing.assert_array_equal(getattr(found, name), getattr(kept, name))
    assert (found.name, found.samples, found.card["asked"]) == ("table", 3, int(kept.asked.sum()))


def test_scores_are_read(tmp_path: pathlib.Path) -> None:
    kept, folder = written(tmp_path, scored=True)
    found = read(folder)
    np.testing.assert_array_equal(found.log_probs, kept.log_probs)
    table = found.table()
    assert table.log_probs is not None and table.log_probs.shape == (len(table.actions), 4)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda x: x[:, :3], "log-probabilities of each action"),
        (lambda x: x.astype(np.float64), "log-probabilities of each action"),
        (lambda x: x - 0.01, "log-probabilities of each action"),
        (lambda x: np.where(x == x.min(), -np.inf, x), "log-probabilities of each action"),
        (lambda x: np.where(x == x.min(), np.nan, x), "log-probabilities of each action"),
        (lambda x: np.where(x == 0, np.float32(-1), x), "not asked about has log_probs"),
        (lambda x: x[:, ::-1], "not those that card.json was written for"),
    ],
)
def test_scores_that_cannot_be_are_refused(
    tmp_path: pathlib.Path, damage: Callable[[np.ndarray], np.ndarray], says: str
) -> None:
    _, folder = written(tmp_path, scored=True)
    changed(log_probs=damage)(folder)
    with pytest.raises(AnswerError, match=says):
        read(folder)


def changed(**arrays: Callable[[np.ndarray], np.ndarray]) -> Callable[[pathlib.Path], None]:
    def change(folder: pathlib.Path) -> None:
        with np.load(folder / "answers.npz") as archive:
            found = {k: archive[k] for k in archive.files}
        np.savez(folder / "answers.npz", **found | {k: f(found[k]) for k, f in arrays.items()})

    return change


def in_card(**values: object) -> Callable[[pathlib.Path], None]:
    def change(folder: pathlib.Path) -> None:
        card = json.loads((folder / "card.json").read_text())
        del card[files.SEAL]
        (folder / "card.json").write_text(json.dumps(card | values))

    return change


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: (folder / "card.json").unlink(), "no such file"),
        (lambda folder: (folder / "card.json").write_text("[1]"), "holds list"),
        (lambda folder: (folder / "answers.npz").write_bytes(b"PK\x03\x04"), "damaged"),
        (in_card(environment="run"), "about 'run', not about 'walk'"),
        (in_card(fields={"f0": 4}), "the words of 'f0' have changed"),
        (in_card(prompt=None), "does not say what was asked"),
        (changed(actions=lambda x: x + 1), "actions"),
        (changed(actions=lambda x: np.where(x == 3, 2, x)), "not those that card.json was written for"),
        (changed(actions=lambda x: x[:, :, None]), "has shape"),
        (changed(digits=lambda x: x[::-1]), "order of their codes"),
        (changed(digits=lambda x: x + 9), "values that the fields do not have"),
        (changed(digits=lambda x: x[:, :2]), "a place for each field"),
        (changed(asked=lambda x: ~x), "answers"),
        (changed(asked=lambda x: np.zeros_like(x)), "one of them set"),
    ],
)
def test_damage_is_refused_in_one_line(
    tmp_path: pathlib.Path, damage: Callable[[pathlib.Path], None], says: str
) -> None:
    _, folder = written(tmp_path)
    damage(folder)
    with pytest.raises(AnswerError) as caught:
        read(folder)
    assert says in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"coverage": "all"}, "coverage are not what a survey writes"),
        ({"coverage": {"uniform": "most"}}, "coverage are not what a survey writes"),
        ({"model": "Tiny"}, "model and prompt are not what a survey writes"),
        ({"model": {"name": float("nan")}}, "name: nan is no finite number"),
        ({"seconds": "long"}, "seconds are not what a survey writes"),
        ({"prompt_tokens": float("inf")}, "prompt_tokens: inf is no finite number"),
    ],
)
def test_an_edited_card_is_one_line(tmp_path: pathlib.Path, change: dict[str, Any], says: str) -> None:
    card = {"environment": "frozen_lake", "model": {"name": "Tiny"}, "prompt": {"name": "map", "text": ""}}
    (tmp_path / "answers.npz").write_bytes(b"")
    (tmp_path / "card.json").write_text(json.dumps(card | change))
    with pytest.raises(AnswerError, match=says):
        answers.card_of(tmp_path)
