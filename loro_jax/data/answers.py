"""What a language model answered about every text that matters: a table, asked once, looked up ever after.

A folder holds `answers.npz` and `card.json`, beside the survey's transcript. `answers.npz` has a row for each
of T texts, in the order of their codes: `texts (T,)`, the changing part of the prompt; `digits (T, F)`, the
place of each field's value; `codes (T,)`, their mixed-radix number as decimal text, since it may exceed 64
bits; `asked (T,)`; `actions (T, n, *action)`, the n answers in the order asked, -1 (NaN where actions are
continuous) where one could not be read; and, if the model was scored, `log_probs (T, A)`, of the game's
actions behind the model's thoughts: finite, a row's probabilities sum to 1; 0 where a text was not asked.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from loro_jax import files
from loro_jax import shipped as places
from loro_jax.data import cards
from loro_jax.data.episodes import stopped
from loro_jax.errors import AnswerError, UserError
from loro_jax.spaces import Discrete, Space
from loro_jax.tasks.words import Field

DENSE = 2**20
"""Texts that fields can make, up to which every one has a place of its own in a program."""
PADDED = 64
"""Rows come in multiples of this, so that tables share programs."""
SHIPPED = places.folder("results/answers")
SURVEYED = pathlib.Path("results") / "answers"
"""Where a survey goes that is told nothing else."""


@dataclasses.dataclass(frozen=True)
class Coding:
    """A number for each text that some fields can make. *Static.*

    >>> from loro_jax.tasks.words import at, sided
    >>> two = Coding((sided("a", at(0)), sided("b", at(1))))
    >>> [int(two.code(np.float32([a, b]))) for a in (-1, 1) for b in (-1, 1)]
    [0, 1, 2, 3]
    """

    fields: tuple[Field, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Values of each field, (F,)."""
        return tuple(len(field.values) for field in self.fields)

    @property
    def space(self) -> int:
        """Texts that the fields can make."""
        return int(np.prod(self.sizes, dtype=object)) if self.fields else 1

    @property
    def dense(self) -> bool:
        return self.space <= DENSE

    def digits(self, obs: Any) -> jax.Array:
        """The place of each field's value for an observation (*obs,): int32 (F,)."""
        return jnp.stack([jnp.asarray(field.index(obs), jnp.int32) for field in self.fields])

    def code(self, obs: Any) -> jax.Array:
        """The text's number: int32 () where `dense`, else its two halves, uint32 (2,), the greater first."""
        return self.number(self.digits(obs))

    def number(self, digits: jax.Array) -> jax.Array:
        """The number of digits (F,): as `code`. Each half has as many of the last fields as fit 32 bits."""
        if self.dense:
            return jnp.asarray(_weights(self.sizes), jnp.int32) @ digits
        split = _split(self.sizes)
        halves = (slice(0, split), slice(split, None))
        return jnp.stack(
            [
                (jnp.asarray(_weights(self.sizes[h]), jnp.uint32) * digits[h].astype(jnp.uint32)).sum()
                for h in halves
            ]
        )

    def legal(self, digits: Sequence[int]) -> tuple[int, ...] | None:
        """The actions that a text lists as those that there are; None where it lists none."""
        told = [f.legal[d] for f, d in zip(self.fields, digits, strict=True) if f.legal]
        return told[0] if told else None

    def texts(self, digits: Sequence[int]) -> dict[str, str]:
        """What stands in a prompt, by field."""
        return {f.name: f.values[d] for f, d in zip(self.fields, digits, strict=True)}


def _weights(sizes: Sequence[int]) -> list[int]:
    """What a step of each digit counts, the last one 1."""
    return [int(np.prod(sizes[i + 1 :], dtype=object)) if sizes[i + 1 :] else 1 for i in range(len(sizes))]


def digits_of(coding: Coding) -> Callable[[np.ndarray], np.ndarray]:
    """Observations (N, *obs) -> their texts' digits (N, F).

    The function raises an `AnswerError` where a field's index is no place of its values.
    """

    def digits(observations: np.ndarray) -> np.ndarray:
        try:
            for field in coding.fields:
                field.index(observations[0])  # where compiled code clamps an index beyond the observation
            found = np.asarray(_all_digits(coding, observations))
        except (TypeError, ValueError, IndexError, AttributeError) as error:
            said = str(error).splitlines()[0]
            raise AnswerError(f"a field's index is not a whole number for an observation: {said}") from None
        for place, field in enumerate(coding.fields):
            wrong = (found[:, place] < 0) | (found[:, place] >= len(field.values))
            if wrong.any():
                raise AnswerError(
                    f"the field '{field.name}' has {len(field.values)} values, and its index is"
                    f" {found[wrong.argmax(), place]} for an observation that was met"
                )
        return found

    return digits


@functools.partial(jax.jit, static_argnums=0)
def _all_digits(coding: Coding, observations: np.ndarray) -> jax.Array:
    return jax.vmap(coding.digits)(observations)


def check_size(coding: Coding) -> None:
    """An `AnswerError` where there can be more texts than codes tell apart."""
    _split(coding.sizes)


def _split(sizes: Sequence[int]) -> int:
    """The first field of the lesser half, which has as many as 32 bits hold."""
    first = len(sizes)
    while first and int(np.prod(sizes[first - 1 :], dtype=object)) <= 2**32:
        first -= 1
    if int(np.prod(sizes[:first], dtype=object) if first else 1) > 2**32:
        raise AnswerError(
            f"a prompt's fields can make more texts than two numbers of 32 bits can tell apart: {list(sizes)}"
        )
    return first


class Table(NamedTuple):
    """Answers as a program takes them, the same for all seeds. *Traced.*

    Attributes:
        actions: (T, n, *action); -1, or NaN, where an answer could not be read.
        log_probs: the model's log-probabilities of the actions, (T, A); None if it was not scored.
        rows: where codes are dense, the row for each, int32 (space,): the text's own if it was asked about,
            else the nearest one's that was.
        own: whether it is the text's own, bool (space,).
        codes: where they are not, the codes of the texts that were met, ascending, uint32 (T, 2).
        digits: those texts' digits, int32 (T, F); None where codes are dense.
        asked: bool (T,).
        nearest: the row of the nearest text that was asked about, int32 (T,).
        legal: which actions the texts list as those that there are, bool (T, A); None where they list none.
    """

    actions: jax.Array
    log_probs: jax.Array | None
    rows: jax.Array | None
    own: jax.Array | None
    codes: jax.Array | None
    digits: jax.Array | None
    asked: jax.Array
    nearest: jax.Array
    legal: jax.Array | None = None


class Found(NamedTuple):
    """Where the answer about a text lies: its row, int32 (), and whether it is the text's own, bool ()."""

    row: jax.Array
    own: jax.Array


def find(table: Table, coding: Coding, digits: jax.Array) -> Found:
    """The row of the text with these digits (F,), or of the nearest one that was asked about."""
    code = coding.number(digits)
    if table.rows is not None and table.own is not None:
        return Found(table.rows[code], table.own[code])
    assert table.codes is not None and table.digits is not None
    row = _search(table.codes, code)
    met = (table.codes[row] == code).all()
    far = jnp.where(table.asked, distance(table.digits, digits), jnp.iinfo(jnp.int32).max)
    return Found(jnp.where(met, table.nearest[row], far.argmin().astype(jnp.int32)), met & table.asked[row])


def _search(codes: jax.Array, code: jax.Array) -> jax.Array:
    """The last row whose code (2,) is not greater, among ascending codes (T, 2); row 0 if none is."""
    high, low = codes[:, 0], codes[:, 1]
    below = (high < code[0]) | ((high == code[0]) & (low <= code[1]))
    return jnp.maximum(below.sum(dtype=jnp.int32) - 1, 0)


def distance(digits: Any, other: Any) -> Any:
    """How far texts are apart: the sum over fields of the steps between their values. (..., F) -> (...)."""
    return abs(digits - other).sum(axis=-1)


@dataclasses.dataclass(frozen=True)
class Answers:
    """A table as it is kept: T texts, as NumPy arrays, with their card.

    Attributes:
        coding: of the prompt's fields.
        digits: the texts, int32 (T, F), ascending by code.
        actions: (T, n, *action); -1, or NaN, where unreadable, and in rows that were not asked about.
        asked: bool (T,).
        log_probs: (T, A), float32, 0 in rows that were not asked about; or None.
    """

    coding: Coding
    digits: np.ndarray
    actions: np.ndarray
    asked: np.ndarray
    card: dict[str, Any]
    log_probs: np.ndarray | None = None

    @property
    def name(self) -> str:
        return str(self.card.get("name", "unnamed"))

    @property
    def samples(self) -> int:
        """n: answers about each text."""
        return int(self.actions.shape[1])

    def nearest(self, digits: np.ndarray) -> np.ndarray:
        """For texts (N, F) the rows of the nearest that were asked about, their own if they were; (N,)."""
        rows = np.flatnonzero(self.asked)[_nearest(digits, self.digits[self.asked])]
        return rows.astype(np.int32)

    @property
    def legal(self) -> np.ndarray | None:
        """Which actions the texts list as those that there are, bool (T, A); None where they list none."""
        fields = [(place, field.legal) for place, field in enumerate(self.coding.fields) if field.legal]
        if not fields:
            return None
        place, told = fields[0]
        masks = np.zeros((len(told), 1 + max(map(max, told))), bool)
        for mask, actions in zip(masks, told, strict=True):
            mask[list(actions)] = True
        return masks[self.digits[:, place]]

    @property
    def length(self) -> int:
        """Texts, with those added that make tables share programs."""
        return -(-len(self.digits) // PADDED) * PADDED

    def table(self) -> Table:
        """The answers for programs, padded."""
        rows = self.length

        def padded(x: np.ndarray) -> jax.Array:
            return jnp.asarray(np.concatenate([x, np.repeat(x[-1:], rows - len(x), axis=0)]))

        scores = None if self.log_probs is None else padded(self.log_probs)
        near_rows = padded(self.nearest(self.digits))
        listed = self.legal
        found = Table(
            padded(self.actions), scores, None, None, None, None, padded(self.asked), near_rows,
            None if listed is None else padded(listed),
        )  # fmt: skip
        if self.coding.dense:
            every = np.indices(self.coding.sizes, np.int32).reshape(len(self.coding.sizes), -1).T
            near = self.nearest(every)
            is_own = (every == self.digits[near]).all(axis=1)
            return found._replace(rows=jnp.asarray(near), own=jnp.asarray(is_own))
        codes = np.asarray(jax.vmap(self.coding.number)(jnp.asarray(self.digits)))
        return found._replace(codes=padded(codes), digits=padded(self.digits))


def _nearest(digits: np.ndarray, among: np.ndarray, at_once: int = 4096) -> np.ndarray:
    """For each row of `digits` (N, F) the first of the nearest of `among` (M, F): (N,)."""
    parts = [digits[i : i + at_once] for i in range(0, len(digits), at_once)]
    return np.concatenate([distance(part[:, None], among[None]).argmin(axis=1) for part in parts])


ARRAYS = ("texts", "digits", "codes", "asked", "actions")


def save(answers: Answers, texts: Sequence[str], folder: pathlib.Path) -> None:
    """Writes `answers.npz` and `card.json`, each atomically, the card last; `texts` are prompts' ends."""
    arrays = _arrays(answers) | {"texts": np.array(texts, dtype=np.str_)}
    card = {
        **answers.card,
        "fields": _fields(answers.coding),
        **_counted(answers),
        "arrays_sha256": digest(answers),
    }
    folder.mkdir(parents=True, exist_ok=True)
    files.write_npz(folder / "answers.npz", arrays)
    files.write_json(folder / "card.json", files.sealed(card))


def _fields(coding: Coding) -> dict[str, list[str]]:
    return {f.name: list(f.values) for f in coding.fields}


def digest(answers: Answers) -> str:
    """SHA-256 over the arrays' names, shapes, types and bytes; independent of compression."""
    h = hashlib.sha256()
    for name, array in _arrays(answers).items():
        h.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        h.update(np.ascontiguousarray(array).tobytes())
    return h.hexdigest()


def _arrays(answers: Answers) -> dict[str, np.ndarray]:
    scored = {} if answers.log_probs is None else {"log_probs": answers.log_probs}
    codes = np.array([str(code_of(answers.coding, d)) for d in answers.digits.tolist()], dtype=np.str_)
    return {
        "digits": answers.digits,
        "codes": codes,
        "asked": answers.asked,
        "actions": answers.actions,
        **scored,
    }


def code_of(coding: Coding, digits: Sequence[int]) -> int:
    """A text's number, as Python counts."""
    return sum(w * d for w, d in zip(_weights(coding.sizes), digits, strict=True))


def load(
    folder: pathlib.Path,
    environment: str,
    coding_of: Callable[[str], Coding],
    actions: Space,
    texts_of: Callable[[str, Coding, np.ndarray], Sequence[str]] | None = None,
) -> Answers:
    """The answers in `folder`, checked; an `AnswerError` says which file is wrong and why.

    Args:
        coding_of: a prompt's text -> the coding of its fields.
        texts_of: a prompt's text and the digits of texts -> these texts, prompts' ends, which the file's are
            then compared with.
    """
    card, card_path, path = card_of(folder), folder / "card.json", folder / "answers.npz"
    if card.get("environment") != environment:
        raise AnswerError(
            f"{card_path}: answers about '{card.get('environment')}', not about '{environment}'"
        )
    prompt = card.get("prompt")
    if not isinstance(prompt, dict) or not isinstance(prompt.get("text"), str):
        raise AnswerError(f"{card_path}: does not say what was asked (prompt.text)")
    coding = coding_of(prompt["text"])
    before, now = card.get("fields"), _fields(coding)
    if before != now:
        kept: dict[str, Any] = before if isinstance(before, dict) else {}
        changed = [k for k in now if kept.get(k) != now[k]] + [k for k in kept if k not in now]
        raise AnswerError(f"{card_path}: the words of '{changed[0]}' have changed since; survey anew")
    try:
        arrays = files.read_npz(path)
    except UserError as error:
        raise AnswerError(error) from None
    if missing := [k for k in ARRAYS if k not in arrays]:
        raise AnswerError(f"{path}: lacks the arrays {', '.join(missing)}")
    answers = _checked(path, arrays, coding, {"name": folder.name, **card}, actions)
    if card.get("arrays_sha256") != digest(answers):
        raise AnswerError(
            f"{path}: its arrays are not those that {card_path.name} was written for{stopped(folder)}"
        )
    texts = arrays["texts"].tolist()
    # A table that is no survey's may leave them empty.
    if (
        texts_of is not None
        and any(texts)
        and texts != list(texts_of(prompt["text"], coding, answers.digits))
    ):
        raise AnswerError(f"{path}: its texts are not those of its digits")
    counted = _counted(answers)
    if not cards.same(said := {k: card[k] for k in counted if k in card}, {k: counted[k] for k in said}):
        raise AnswerError(f"{card_path}: its numbers of texts and answers are not those of {path.name}")
    return answers


def _counted(answers: Answers) -> dict[str, int]:
    """What a card says of its arrays."""
    return {
        "texts": len(answers.digits),
        "asked": int(answers.asked.sum()),
        "answers_about_each": answers.samples,
    }


def resolve(name: str, environment: str) -> pathlib.Path:
    """Where the table called `name` lies: a folder, one of our own surveys, or one that comes with the suite.

    Raises:
        AnswerError: there is none; lists those there are.
    """
    ways = (pathlib.Path(name), SURVEYED / environment / name, SHIPPED / environment / name)
    for folder in ways:
        if (folder / "card.json").is_file():
            return folder
    known = ", ".join(shipped(environment)) or "none"
    raise AnswerError(f"no answers are called '{name}' for {environment}; there are: {known}")


def shipped(environment: str) -> list[str]:
    """Names of the tables about a task that come with the suite."""
    return sorted(path.parent.name for path in (SHIPPED / environment).glob("*/card.json"))


def identity(answers: Answers) -> dict[str, Any]:
    """What of a table decides a run."""
    known = {k: answers.card.get(k) for k in ("name", "model", "prompt")}
    sizes = {"texts": len(answers.digits), "samples": answers.samples}
    return known | sizes | {"arrays_sha256": digest(answers)}


def environment_of(folder: pathlib.Path) -> str:
    """The name of the task that the answers in `folder` are about."""
    name = card_of(folder).get("environment")
    if not isinstance(name, str):
        raise AnswerError(f"{folder / 'card.json'}: does not say what the answers are about (environment)")
    return name


def unreadable(actions: np.ndarray, space: Space) -> np.ndarray:
    """Which of the answers (..., *action) could not be read, bool (...)."""
    return actions == -1 if isinstance(space, Discrete) else np.isnan(actions).any(axis=-1)


NUMBERS = ("prompt_tokens", "read_tokens", "tail_tokens", "answer_tokens", "answers", "seconds")
"""Of a survey's card."""


def card_of(folder: pathlib.Path) -> dict[str, Any]:
    """The card of a folder that holds answers; what it has is of the kind that a survey writes."""
    card_path, path = folder / "card.json", folder / "answers.npz"
    for file in (card_path, path):
        if not file.is_file():
            what = "answers are a folder with card.json and answers.npz"
            raise AnswerError(f"{file}: no such file; {what}{stopped(folder)}")
    try:
        card = files.read_json(card_path)
        cards.check(card_path, card)
    except UserError as error:
        raise AnswerError(error) from None
    covered = card.get("coverage", {})
    named = [x for key in ("model", "prompt") if (x := card.get(key)) is not None]
    sound = {
        "model and prompt": all(isinstance(x, dict) and isinstance(x.get("name", ""), str) for x in named),
        "coverage": isinstance(covered, dict)
        and all(map(_is_number, covered.values()))
        and all(player.isprintable() for player in covered),
        ", ".join(NUMBERS): all(_is_number(card[key]) for key in NUMBERS if card.get(key) is not None),
    }
    if wrong := [what for what, holds in sound.items() if not holds]:
        raise AnswerError(f"{card_path}: {wrong[0]} are not what a survey writes; mend it, or survey again")
    return card


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")


def _checked(
    path: pathlib.Path, arrays: dict[str, np.ndarray], coding: Coding, card: dict[str, Any], actions: Space
) -> Answers:
    """Refuses arrays that cannot be answers about this game."""

    def refuse(why: str) -> None:
        raise AnswerError(f"{path}: {why}")

    digits, asked, said = arrays["digits"], arrays["asked"], arrays["actions"]
    scores = arrays.get("log_probs")
    if why := why_not(coding, digits, asked, said, scores, actions):
        refuse(why)
    if arrays["codes"].tolist() != [str(code_of(coding, row)) for row in digits.tolist()]:
        refuse("its codes are not those of its digits")
    kind = np.int32 if isinstance(actions, Discrete) else np.float32
    return Answers(coding, digits.astype(np.int32), said.astype(kind), asked, card, scores)


def why_not(
    coding: Coding, digits: np.ndarray, asked: np.ndarray, said: np.ndarray, scores: np.ndarray | None,
    space: Space,
) -> str:  # fmt: skip
    """Why arrays, as `Answers` has them, cannot be answers about a game with these actions; empty if they
    can."""
    kinds = digits.dtype.kind == "i" and asked.dtype == np.bool_ and said.dtype.kind in "if"
    if not kinds or digits.ndim != 2 or digits.shape[1] != len(coding.fields) or not len(digits):
        return "digits must be whole numbers, a row for each text, with a place for each field"
    if (digits < 0).any() or (digits >= np.array(coding.sizes)).any():
        return "digits name values that the fields do not have"
    numbers = [code_of(coding, row) for row in digits.tolist()]
    if any(b <= a for a, b in itertools.pairwise(numbers)):
        return "its texts are not in the order of their codes"
    if asked.shape != (len(digits),) or not asked.any():
        return "asked must be a flag for each text, one of them set at least"
    if said.ndim < 2 or said.shape[0] != len(digits) or said.shape[2:] != space.shape or not said.shape[1]:
        expected = ", ".join(map(str, ("texts", "answers", *space.shape)))
        return f"actions has shape {said.shape}, expected ({expected})"
    unread = unreadable(said, space)
    if why := space.refuses(said[~unread]):
        return why
    if not unread[~asked].all():
        return "a text that was not asked about has answers"
    if scores is not None:
        each = (len(digits), space.n) if isinstance(space, Discrete) else None
        if scores.shape != each or scores.dtype != np.float32 or not _are_log_probs(scores[asked]):
            return "log_probs must be log-probabilities of each action, float32, a row for each text"
        if scores[~asked].any():
            return "a text that was not asked about has log_probs"
    return ""


def _are_log_probs(scores: np.ndarray) -> bool:
    """Whether the rows of (T, A) are finite, and their probabilities sum to 1 as far as float32 tells."""
    if not (np.isfinite(scores).all() and (scores <= 0).all()):
        return False
    sums = np.exp(scores.astype(np.float64)).sum(axis=1)
    return bool((abs(sums - 1) < 1e-4).all())


def from_policy(
    policy: Callable[[np.ndarray], np.ndarray], coding: Coding, observations: np.ndarray, name: str = "policy"
) -> Answers:
    """A table of any function of observations (N, *obs) -> actions (N, n, *action), such as a perfect tutor.

    Each text has the answers of the first of the `observations` that it stands for.
    """
    texts, first = np.unique(digits_of(coding)(observations), axis=0, return_index=True)
    said = np.asarray(policy(observations[first]))
    kind = np.float32 if said.dtype.kind == "f" else np.int32
    asked = np.ones(len(texts), bool)
    return Answers(coding, texts.astype(np.int32), said.astype(kind), asked, {"name": name})
