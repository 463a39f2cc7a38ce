"""Blackjack: draw cards to come nearer to 21 than the dealer, without going beyond (Gymnasium's Blackjack-v1;
Sutton and Barto, 2018, example 5.1)."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from loro_jax.agents import A2C, PPO
from loro_jax.errors import UserError
from loro_jax.protocols import by_name, common
from loro_jax.spaces import Discrete
from loro_jax.tasks import rules
from loro_jax.tasks.actions import Words
from loro_jax.tasks.base import Environment, Task
from loro_jax.tasks.planning import Floats
from loro_jax.tasks.words import Description, Field

STICK, HIT = 0, 1
CARDS = np.arange(1, 11)
"""An ace, and what the others count; a ten, jack, queen and king are all 10."""
CHANCES = np.where(CARDS == 10, 4, 1) / 13
"""Of each, from a deck without end."""
LIMIT = 25
"""More cards than any hand takes: nothing is cut."""
WITHIN = 0.01
"""Of the best return: what counts as solved. The field names no such return, and this one is ours."""
TOTALS, SHOWN, SIZE = 32, 11, 32 + 11 + 2
"""Of an observation's three parts, as Gymnasium's spaces have them."""


class Hand(NamedTuple):
    """Of a game: the player's total, an ace that counts 11 in it among it, (); whether there is such an ace;
    whether it is two cards; and the dealer's two."""

    total: jax.Array
    ace: jax.Array
    two: jax.Array
    shown: jax.Array
    hidden: jax.Array


@functools.cache  # the same game is the same object: programs are shared
def blackjack(natural: bool = False, sab: bool = True) -> Environment:
    """Gymnasium's Blackjack-v1; reward 1 for a game that is won, -1 for one that is lost, else 0.

    Observation: the player's total, the dealer's card that shows, and whether an ace counts 11, one-hot one
    after the other as Gymnasium flattens them, float32 (45,). Actions 0 stick, 1 hit. The dealer hits below
    17. Policies are evaluated exactly, where no episodes are asked for (`--eval-episodes 0`).

    Args:
        natural: a natural, an ace and a ten at once, that wins, wins 1.5; not beside `sab`.
        sab: Sutton and Barto's rule: a natural wins 1 but against a dealer's natural.

    Raises:
        UserError: both are asked for.
    """
    if natural and sab:
        raise UserError("blackjack: natural=true is paid where sab is false; name sab=false beside it")

    best = _solved(natural, sab)[1]

    def reset(key: chex.PRNGKey) -> tuple[jax.Array, Hand]:
        first, second, shown, hidden = (_card(jax.random.fold_in(key, i)) for i in range(4))
        ace = (first == 1) | (second == 1)
        total = first + second + 10 * ace.astype(jnp.int32)
        hand = Hand(total, ace, jnp.bool_(True), shown, hidden)
        return _told(hand), hand

    def step(
        key: chex.PRNGKey, hand: Hand, action: jax.Array
    ) -> tuple[jax.Array, Hand, jax.Array, jax.Array]:
        hit, ace = action == HIT, jnp.asarray(hand.ace)
        total, ace = _with(hand.total, ace, _card(jax.random.fold_in(key, 0)))
        taken = Hand(total, ace, jnp.bool_(False), hand.shown, hand.hidden)
        after: Hand = jax.tree.map(lambda a, b: jnp.where(hit, a, b), taken, hand)
        won = _paid(hand, _dealt(jax.random.fold_in(key, 1), hand), natural, sab)
        lost = after.total > 21
        return _told(after), after, jnp.where(hit, -lost.astype(jnp.float32), won), ~hit | lost

    worth = functools.partial(value, natural, sab)
    return dataclasses.replace(
        rules.environment(
            reset, step, observation_shape=(SIZE,), actions=Discrete(2), limit=LIMIT,
            threshold=best - WITHIN, best=best,
        ),
        exact=worth,
    )  # fmt: skip


def _card(key: chex.PRNGKey) -> jax.Array:
    """One card, ()."""
    return jnp.minimum(jax.random.randint(key, (), 1, 14), 10)


def _with(total: Any, ace: Any, card: Any) -> tuple[jax.Array, jax.Array]:
    """A hand's total and whether an ace counts 11, with one card more, ()."""
    low = jnp.where(ace, total - 10, total) + card
    eleven = (ace | (card == 1)) & (low + 10 <= 21)
    return jnp.where(eleven, low + 10, low), eleven


def _dealt(key: chex.PRNGKey, hand: Hand) -> tuple[jax.Array, jax.Array]:
    """The dealer's total at the end, and whether it is a natural, ()."""
    ace = (hand.shown == 1) | (hand.hidden == 1)
    total = hand.shown + hand.hidden + 10 * ace.astype(jnp.int32)
    natural = total == 21

    def more(carry: Any) -> Any:
        total, ace, n = carry
        return *_with(total, ace, _card(jax.random.fold_in(key, n))), n + 1

    total, _, _ = jax.lax.while_loop(lambda carry: carry[0] < 17, more, (total, ace, jnp.int32(0)))
    return total, natural


def _paid(hand: Hand, dealer: tuple[jax.Array, jax.Array], natural: bool, sab: bool) -> jax.Array:
    """What a player who sticks is paid, ()."""
    score = jnp.where(dealer[0] > 21, 0, dealer[0])
    paid = jnp.sign(hand.total - score).astype(jnp.float32)
    mine = hand.two & (hand.total == 21)
    if sab:
        return jnp.where(mine & ~dealer[1], 1.0, paid)
    return jnp.where(mine & (paid == 1), 1.5, paid) if natural else paid


def _told(hand: Hand) -> jax.Array:
    """The observation, (45,)."""
    parts = ((hand.total, TOTALS), (hand.shown, SHOWN), (hand.ace.astype(jnp.int32), 2))
    return jnp.concatenate([jax.nn.one_hot(number, n, dtype=jnp.float32) for number, n in parts])


# What policies are worth, by dynamic programming: float64 where it is known ahead, float32 in programs.


@functools.cache
def _dealers() -> tuple[Floats, Floats]:
    """The dealer's end by the card that shows: chances of 0 (bust), 17 to 21, (11, 22), and of a natural,
    (11,)."""

    def ends(total: int, ace: bool) -> Floats:
        if total >= 17:
            return np.eye(22)[total if total <= 21 else 0]
        found = np.zeros(22)
        for card, chance in zip(CARDS, CHANCES, strict=True):
            low = total - 10 * ace + card
            eleven = (ace or card == 1) and low + 10 <= 21
            found += chance * ends(int(low + 10 * eleven), bool(eleven))
        return found

    every, natural = np.zeros((SHOWN, 22)), np.zeros(SHOWN)
    for shown in CARDS:
        for card, chance in zip(CARDS, CHANCES, strict=True):
            ace = 1 in (shown, card)
            total = int(shown + card + 10 * ace)
            every[shown] += chance * ends(total, ace)
            natural[shown] += chance * (total == 21)
    return every, natural


@functools.cache
def _sticking(natural: bool, sab: bool) -> tuple[Floats, Floats]:
    """What sticking is worth by card that shows and total, (11, 22), and with a natural, (11,)."""
    ends, dealt = _dealers()
    scores, totals = np.arange(22), np.arange(22)
    worth = ends @ np.sign(totals[None, :] - scores[:, None])
    if sab:
        return worth, 1.0 - dealt
    wins = ends[:, :21].sum(axis=1)
    return worth, wins * 1.5 if natural else worth[:, 21]


ORDER = [*((t, False) for t in range(21, 10, -1)), *((t, True) for t in range(21, 11, -1)),
         *((t, False) for t in range(10, 3, -1))]  # fmt: skip
"""Hands, total and whether an ace counts 11, such that a card leads to one before."""
PLACES = {hand: place for place, hand in enumerate(ORDER)}


@functools.cache
def _led() -> np.ndarray:
    """Where each card leads from each hand, places in `ORDER`, or its length for a bust, int (28, 10)."""
    found = np.full((len(ORDER), len(CARDS)), len(ORDER))
    for place, (total, ace) in enumerate(ORDER):
        for i, card in enumerate(CARDS):
            low = int(total - 10 * ace + card)
            eleven = bool((ace or card == 1) and low + 10 <= 21)
            if low <= 21:
                found[place, i] = PLACES[low + 10 * eleven, eleven]
    return found


@functools.cache
def _first() -> tuple[Floats, float]:
    """Chances of each hand of two cards, (28,), and of a natural among them."""
    found = np.zeros(len(ORDER))
    for a, p in zip(CARDS, CHANCES, strict=True):
        for b, q in zip(CARDS, CHANCES, strict=True):
            ace = 1 in (a, b)
            found[PLACES[int(a + b + 10 * ace), ace]] += p * q
    return found, float(found[PLACES[21, True]])


@functools.cache
def observations() -> np.ndarray:
    """Of every hand and card that shows, float32 (28 * 10, 45)."""
    found = np.zeros((len(ORDER), len(CARDS), SIZE), np.float32)
    for place, (total, ace) in enumerate(ORDER):
        for i, card in enumerate(CARDS):
            for entry in (total, TOTALS + card, TOTALS + SHOWN + ace):
                found[place, i, entry] = 1
    return found.reshape(-1, SIZE)


@functools.cache
def _solved(natural: bool, sab: bool) -> tuple[Floats, float]:
    """Values of sticking and hitting of every hand and card that shows, (28, 10, 2), a hand of 21 being no
    natural; and what the best policy earns that sees what is observed."""
    worth, special = _sticking(natural, sab)
    values = np.zeros((len(ORDER) + 1, len(CARDS), 2))
    values[-1] = -1.0
    for place, (total, _) in enumerate(ORDER):
        values[place, :, STICK] = worth[CARDS, total]
        values[place, :, HIT] = CHANCES @ values[_led()[place]].max(axis=2)
    first, chance = _first()
    # Whether 21 are two cards is not seen: sticking is best with either.
    best = values[:-1].max(axis=2) @ CHANCES
    gained = (special - worth[:, 21])[CARDS] @ CHANCES
    return values[:-1], float(first @ best + chance * gained)


def value(natural: bool, sab: bool, act: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """The expected return of a policy, observation (45,) -> action, (): exactly, but for rounding."""
    hits = jax.vmap(act)(jnp.asarray(observations())).reshape(len(ORDER), len(CARDS)) == HIT
    worth, special = _sticking(natural, sab)
    chances = jnp.asarray(CHANCES, jnp.float32)
    sticking = jnp.asarray(worth[CARDS][:, [total for total, _ in ORDER]].T, jnp.float32)

    def one(found: jax.Array, x: Any) -> tuple[jax.Array, None]:
        place, led, hit, sticking = x
        return found.at[place].set(jnp.where(hit, chances @ found[led], sticking)), None

    lost = jnp.full((len(ORDER) + 1, len(CARDS)), -1.0, jnp.float32)
    each = (jnp.arange(len(ORDER)), jnp.asarray(_led()), hits, sticking)
    found, _ = jax.lax.scan(one, lost, each)
    first, chance = _first()
    gained = jnp.asarray(special - worth[:, 21], jnp.float32)[CARDS]
    more = jnp.where(hits[PLACES[21, True]], 0.0, gained) @ chances
    return jnp.asarray(first, jnp.float32) @ (found[:-1] @ chances) + jnp.float32(chance) * more


def reference(obs: Floats) -> np.ndarray:
    """The best policy, whatever a natural is paid, (N, 45) -> (N, 2)."""
    total, shown = obs[:, :TOTALS].argmax(axis=1), obs[:, TOTALS : TOTALS + SHOWN].argmax(axis=1)
    ace = obs[:, -1] > 0
    values, _ = _solved(False, False)
    # Beyond 21, and in an observation of zeros, nobody acts: there both are as good.
    known = np.zeros((TOTALS, 2, SHOWN, 2))
    for (t, a), worth in zip(ORDER, values, strict=True):
        known[t, int(a), 1:] = worth
    each = known[total, ace.astype(int), shown]
    return np.asarray(each >= each.max(axis=1, keepdims=True) - 1e-9)


def _card_name(card: int) -> str:
    return "an ace" if card == 1 else str(card)


DESCRIPTION = Description(
    fields=(
        Field(
            "total",
            tuple(map(str, range(4, 22))),
            lambda obs: (obs[:TOTALS].argmax() - 4).clip(0, 17),
        ),
        Field(
            "dealer",
            tuple(map(_card_name, range(1, 11))),
            lambda obs: (obs[TOTALS : TOTALS + SHOWN].argmax() - 1).clip(0, 9),
        ),
        Field(
            "ace",
            ("no ace that counts 11", "an ace that counts 11"),
            lambda obs: obs[TOTALS + SHOWN :].argmax(),
        ),
    ),
    reader=Words(("stick", "hit")),
)

COMMON = common(budget=100_000, eval_interval=1000, eval_episodes=0, train_frequency=4)

# The winners of 20 settings each (results/tuning/games).
STANDARD = COMMON.replace(
    name="standard@1",
    learning_rate=0.000154,
    discount=0.97,
    epsilon=0.01,
    epsilon_decay_steps=40_000,
    learning_rate_end=1.54e-05,
    learning_rate_decay_steps=50_000,
    learning_starts=100,
    target_network_frequency=1,
    polyak=0.02,
    huber_delta=100.0,
    others=(
        PPO(
            learning_rate=0.000361,
            learning_rate_decay_steps=100_000,
            gae_lambda=0.8,
            games=4,
            rollout=50,
            entropy_weight=0.1,
            reward_scale=5.0,
            epochs=8,
            clip=0.1,
        ),
        A2C(
            learning_rate=0.000676,
            discount=0.95,
            gae_lambda=0.95,
            games=4,
            entropy_weight=0.03,
            normalise_advantages=True,
            optimiser="adam",
        ),
    ),
)

TASK = Task(
    name="blackjack",
    game=blackjack,
    protocols=by_name([STANDARD, COMMON]),
    words=DESCRIPTION,
    reference=reference,
    reference_episodes=20_000,
    gymnasium_id="Blackjack-v1",
)
