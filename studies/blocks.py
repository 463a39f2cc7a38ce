"""Several tables as one: blocks of answers side by side, so that models, their corruption and known policies
stand in one comparison, and one program serves them all.

A block is n answers about every text that play meets. The texts are those of all the task's fields, so that
tables of different prompts fit, or of some of them; a text that a table was not asked about has its nearest
one's answers there.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from loro_jax.data import answers
from loro_jax.data.answers import Answers, Coding
from loro_jax.errors import UserError
from loro_jax.language import players
from loro_jax.spaces import Discrete
from loro_jax.tasks import Environment, Task
from loro_jax.tasks.base import legal_of
from loro_jax.tasks.reference import preferences
from loro_jax.training.guidance import slots, swept
from loro_jax.types import Among, Knowledge, Run

N = 16
"""Answers that a block has room for."""
EPISODES = 200
"""Of each player, by which texts are found and weighed."""
BEST, WORST, UNIFORM = "reference", "adversary", "uniform"
"""Blocks that are no model's: the reference's actions, the worst ones, and none, for each of which a seed
draws one of those that there are."""
Worth = Callable[[np.ndarray], np.ndarray]


@swept("share", "temperature", "epsilon", whole=("k", "base", "other", "n"))
@dataclasses.dataclass(frozen=True)
class Block:
    """`guidance.Proposals` from one block of the answers, a share of them replaced by another block's.

    Attributes:
        k: answers that are taken of each text, from 1 to `n`. Traced.
        base: which block they are of, by its place. Traced.
        other: the block that replaces. Traced.
        n: answers that the base has of its own, which lie first. Traced.
        share: chance that an answer is replaced, drawn by each seed once for each. Traced.
        own: each seed takes k of the n, drawn once for each text, rather than the first k.
        temperature, epsilon: as `Proposals` has them. Traced.
    """

    k: Any = 4
    base: Any = 0
    other: Any = 0
    n: Any = N
    share: Any = 0.0
    own: bool = False
    temperature: Any = None
    epsilon: Any = None

    def rows(self, run: Run, world: Any, known: Knowledge) -> jax.Array:
        """Slots of each action, int32 (T, A)."""

        def chosen(said: jax.Array, key: chex.PRNGKey) -> tuple[jax.Array, jax.Array]:
            place = jnp.arange(N)
            if self.own:
                lots = jax.random.uniform(jax.random.fold_in(key, 0), (N,))
                place = jnp.argsort(jnp.argsort(jnp.where(place < self.n, lots, 2.0)))
            replaced = jax.random.uniform(jax.random.fold_in(key, 2), (N,)) < self.share
            block = jnp.where(replaced, self.other, self.base)
            return said[block * N + jnp.arange(N)], place < self.k

        return slots(run, world, known, chosen)

    def among(self, rows: jax.Array) -> Among:
        return Among(counts=rows, temperature=self.temperature)

    def readable(self, known: Knowledge) -> jax.Array:
        """Of the base's answers."""
        said = jax.lax.dynamic_slice_in_dim(known.answers.actions, self.base * N, N, axis=1)
        return (said >= 0).all(axis=1)

    def refuses(self, table: Answers | None) -> str:
        blocks = 0 if table is None else table.samples // N
        if not (0 <= self.base < blocks and 0 <= self.other < blocks):
            return f"base = {self.base} and other = {self.other}, of {blocks} blocks"
        if not 1 <= self.k <= self.n <= N:
            return f"k = {self.k}, of n = {self.n} answers, at most {N}"
        return "" if 0 <= self.share <= 1 else f"share = {self.share}, which is no probability"


@dataclasses.dataclass(frozen=True)
class Blocks:
    """A table of blocks, by name, and what play meets.

    Attributes:
        table: T texts, (T, blocks * `N`) answers; a block of fewer repeats them.
        sizes: answers that each block has of its own, by name, in their order.
        weights: the share of the play that each text is of, (T,); play is uniform, the reference's and each
            table's own, a like share of each.
        wanted: actions that the reference holds for the best where play meets the text, bool (T, A).
        legal: actions that there are, bool (T, A).
    """

    table: Answers
    sizes: Mapping[str, int]
    weights: np.ndarray
    wanted: np.ndarray
    legal: np.ndarray

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.sizes)

    def place(self, name: str) -> int:
        return self.names.index(name)

    def block(self, name: str, k: int, **settings: Any) -> Block:
        """So many of a block's answers as proposals, or all that it has; `other` by its name."""
        if "other" in settings:
            settings["other"] = self.place(settings["other"])
        return Block(min(k, self.sizes[name]), self.place(name), n=self.sizes[name], **settings)

    def said(self, name: str) -> np.ndarray:
        """A block's own answers, (T, n)."""
        at = self.place(name) * N
        return self.table.actions[:, at : at + self.sizes[name]]

    def covered(
        self, name: str, k: int, share: float = 0.0, other: str = UNIFORM, own: bool = False
    ) -> float:
        """P(a best action is among k answers), a share of them being replaced: expected over what is drawn,
        weighed by play. Of the first k; with `own` of any k of them, each as likely."""
        at = self.place(other) * N
        instead = self.table.actions[:, at : at + self.sizes[name]]
        hit = (1 - share) * self._hit(self.said(name)) + share * self._hit(instead)
        return float(
            self.weights @ (1.0 - (without(1.0 - hit, k) if own else np.prod(1.0 - hit[:, :k], axis=1)))
        )

    def _hit(self, said: np.ndarray) -> np.ndarray:
        """The chance that each answer is a best action, (T, n); one that is drawn, by its chance."""
        chance = (self.wanted & self.legal).sum(axis=1) / self.legal.sum(axis=1)
        right = np.take_along_axis(self.wanted, np.maximum(said, 0), axis=1)
        return np.where(said < 0, chance[:, None], right)


def without(misses: np.ndarray, k: int) -> np.ndarray:
    """The mean over all sets of k of the n columns of their product, (T, n) -> (T,): the elementary symmetric
    polynomial over the number of sets."""
    sums = np.zeros((len(misses), k + 1))
    sums[:, 0] = 1.0
    for column in misses.T:
        sums[:, 1:] += column[:, None] * sums[:, :-1]
    return np.asarray(sums[:, k] / math.comb(misses.shape[1], k))


def drawn(log_probs: np.ndarray, legal: np.ndarray, n: int, seed: int = 0) -> np.ndarray:
    """n actions of each text by a model's scores (T, A), of those that there are: p_dist, (T, n)."""
    scores = np.where(legal, log_probs, -np.inf)
    chance = np.exp(scores - scores.max(axis=1, keepdims=True))
    ends = np.cumsum(chance / chance.sum(axis=1, keepdims=True), axis=1)
    lots = np.random.default_rng(seed).random((len(scores), n, 1))
    found = (lots >= ends[:, None, :]).sum(axis=2)
    # Rounding may leave the last end below 1: what is beyond it is the last action that there is.
    last = legal.shape[1] - 1 - legal[:, ::-1].argmax(axis=1)
    return np.minimum(found, last[:, None]).astype(np.int32)


def together(
    task: Task,
    env: Environment,
    tables: Mapping[str, Answers],
    also: Mapping[str, Answers] | None = None,
    everywhere: Environment | None = None,
    worth: Worth | None = None,
    coding: Coding | None = None,
) -> Blocks:
    """The tables as blocks; those of their scores, "NAME p_dist", where they have scores; `also` other
    readings of them; and the reference's, its adversary's and the uniform one.

    Args:
        env: the game that is played to weigh texts, by `tables` and not by what is `also` there.
        everywhere: a game that has more texts, which weigh nothing.
        worth: observations (N, *obs) -> what each action is worth, (N, A), of which the adversary takes the
            least; without it, the first action that the reference would not take.
        coding: of the texts, where they are not those of all the task's fields.

    Raises:
        UserError: the task has no words or no reference, or its actions are continuous.
    """
    space = env.action_space
    if task.words is None or task.reference is None or not isinstance(space, Discrete):
        raise UserError(
            f"{task.name}: priors are compared where actions are discrete, with words and a reference"
        )
    coding = coding or Coding(task.words.fields)
    seen, shares = met(task, env, tables)
    if everywhere is not None:
        more, _ = met(task, everywhere, tables)
        seen, shares = np.concatenate([seen, more]), np.concatenate([shares, np.zeros(len(more))])
    digits = np.asarray(answers.digits_of(coding)(seen))
    texts, first, row = np.unique(digits, axis=0, return_index=True, return_inverse=True)
    row, weigh = row.ravel(), shares + 1e-12 / len(seen)  # by which looks of a text are weighed

    def mean(values: np.ndarray) -> np.ndarray:
        """Of something of each observation and action, (N, A), by text, (T, A)."""
        total = np.bincount(row, weigh, len(texts))
        return np.stack([np.bincount(row, weigh * v, len(texts)) for v in values.T], axis=1) / total[:, None]

    legal = legal_of(env, seen[first])
    # Where a text stands for states with different best actions: those that are best most often.
    often = np.where(legal, mean(preferences(task, seen)), -1.0)
    wanted = (often >= often.max(axis=1, keepdims=True) - 1e-9) & legal
    blocks: dict[str, np.ndarray] = {}
    for name, table in (dict(tables) | dict(also or {})).items():
        at = table.nearest(np.asarray(answers.digits_of(table.coding)(seen[first])))
        said = table.actions[at][:, :N]
        there = np.take_along_axis(legal, np.maximum(said, 0), axis=1)
        blocks[name] = np.where((said >= 0) & there, said, -1)
        if table.log_probs is not None:
            blocks[f"{name} p_dist"] = drawn(table.log_probs[at], legal, said.shape[1])
    if worth is None:
        against = _worst(wanted, legal)
    else:
        least = np.where(legal, mean(np.nan_to_num(worth(seen), neginf=0.0)), np.inf)
        against = least <= least.min(axis=1, keepdims=True) + 1e-9
    blocks |= {BEST: _of(wanted), WORST: _of(against), UNIFORM: np.full((len(texts), N), -1)}
    said = np.concatenate([_repeated(block) for block in blocks.values()], axis=1).astype(np.int32)
    card = {
        "name": "blocks", "environment": task.name, "model": {"name": " | ".join(blocks)},
        "prompt": {"name": "fields", "text": " ".join(f"{{{f.name}}}" for f in coding.fields)},
    }  # fmt: skip
    table = Answers(coding, texts.astype(np.int32), said, np.ones(len(texts), bool), card)
    weights = np.bincount(row, shares, len(texts))
    return Blocks(table, {k: v.shape[1] for k, v in blocks.items()}, weights / weights.sum(), wanted, legal)


def met(task: Task, env: Environment, tables: Mapping[str, Answers]) -> tuple[np.ndarray, np.ndarray]:
    """Observations (N, *obs) that uniform play, the reference's and each table's own meet, and their shares
    of all play, (N,)."""
    acts = [players.uniform(env), players.reference(task)]
    for table in tables.values():
        said = table.actions[table.asked]
        known = dict(zip(map(tuple, table.digits[table.asked].tolist()), said, strict=True))
        acts.append(players.answering(env, table.coding, known))
    seen = [players.observations(env, act, EPISODES, seed) for seed, act in enumerate(acts)]
    shares = np.concatenate([np.full(len(s), 1 / len(s) / len(seen)) for s in seen])
    return np.concatenate(seen), shares


def _repeated(said: np.ndarray) -> np.ndarray:
    """(T, n) -> (T, N)."""
    return np.tile(said, (1, -(-N // said.shape[1])))[:, :N]


def _of(wanted: np.ndarray) -> np.ndarray:
    """`N` answers that are the wanted actions in turn, (T, A) -> (T, N)."""
    found = np.zeros((len(wanted), N), np.int32)
    for row, mask in enumerate(wanted):
        found[row] = np.resize(np.flatnonzero(mask), N)
    return found


def _worst(wanted: np.ndarray, legal: np.ndarray) -> np.ndarray:
    """The first action of each text that the reference would not take; where it would take all, any."""
    left = legal & ~wanted
    left = np.where(left.any(axis=1, keepdims=True), left, legal)
    return np.asarray(np.cumsum(left, axis=1) * left == 1)


def only(blocks: Blocks, name: str) -> Answers:
    """One block as a table of its own."""
    card = blocks.table.card | {"name": name, "model": {"name": name}}
    return dataclasses.replace(blocks.table, actions=blocks.said(name), card=card)
