"""Blackjack against Gymnasium's, and its exact values against play and against value iteration."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from loro_jax.errors import UserError
from loro_jax.protocols import common
from loro_jax.running.experiment import prepare_experiment
from loro_jax.tasks import Environment, load
from loro_jax.tasks.blackjack import LIMIT, SHOWN, TOTALS, blackjack, observations
from loro_jax.tasks.rollout import rollout
from loro_jax.training.world import Interaction, World, evaluate

TASK = load("blackjack")
GAMES = 20_000
RETURNS = (-1.0, 0.0, 1.0, 1.5)
POLICIES: dict[str, Callable[[int, int, int], int]] = {
    "stick at 15": lambda total, shown, ace: int(total < 15),
    "by the dealer": lambda total, shown, ace: int(total < (17 if shown in (1, 7, 8, 9, 10) else 12)),
    "soft hands alone": lambda total, shown, ace: int(total < 19 if ace else total < 12),
}
PARAMETERS = inspect.signature(blackjack).parameters
OPTIONS = [{"sab": True}, {"natural": True, "sab": False}, {"sab": False}]


def theirs(policy: str, options: dict[str, bool]) -> np.ndarray:
    """How often each return came, of Gymnasium's games."""
    game, seen = gymnasium.make("Blackjack-v1", **options).unwrapped, np.zeros(len(RETURNS), int)
    (total, shown, ace), _ = game.reset(seed=0)
    for _ in range(GAMES):
        done = False
        while not done:
            (total, shown, ace), reward, done, _, _ = game.step(POLICIES[policy](total, shown, ace))
        seen[RETURNS.index(float(reward))] += 1
        (total, shown, ace), _ = game.reset()
    return seen


@functools.cache
def acting(policy: str) -> Callable[[jax.Array], jax.Array]:
    every = [[[POLICIES[policy](t, s, a) for a in (0, 1)] for s in range(SHOWN)] for t in range(TOTALS)]
    table = jnp.asarray(every, jnp.int32)

    def act(obs: jax.Array) -> jax.Array:
        shown = obs[TOTALS : TOTALS + SHOWN].argmax()
        return table[obs[:TOTALS].argmax(), shown, obs[TOTALS + SHOWN :].argmax()]

    return act


def ours(policy: str, env: Environment) -> tuple[np.ndarray, np.ndarray]:
    """How often each return came, and the lengths of games."""
    keys = jax.random.split(jax.random.key(0), GAMES)
    act = acting(policy)
    played = jax.jit(jax.vmap(lambda key: rollout(env, lambda obs, _: act(obs), key)))(keys)
    returns, lengths = (np.asarray(x) for x in played[:2])
    return np.array([(returns == r).sum() for r in RETURNS]), lengths


@pytest.mark.parametrize("options", OPTIONS, ids=["sab", "natural", "neither"])
@pytest.mark.parametrize("policy", POLICIES)
def test_returns_are_distributed_as_gymnasiums(policy: str, options: dict[str, bool]) -> None:
    """Two samples of 20,000 games: a test that fails by chance once in 10,000."""
    env = TASK.environment(**options)
    seen, lengths = ours(policy, env)
    counts = np.stack([seen, theirs(policy, options)])
    assert stats.chi2_contingency(counts[:, counts.sum(axis=0) > 0]).pvalue > 1e-4
    assert lengths.max() < LIMIT and (seen[3] > 0) == ("natural" in options)
    # And their mean is what dynamic programming says, within 5 standard errors.
    mean = seen @ np.array(RETURNS) / GAMES
    assert env.exact is not None
    assert float(env.exact(acting(policy))) == pytest.approx(mean, abs=5 / GAMES**0.5)


def test_cards_are_those_of_gymnasiums_deck() -> None:
    """13 cards, of which four count 10: first hands and cards that show, 20,000 games, once in 10,000."""
    env = TASK.environment()
    obs = np.asarray(jax.vmap(lambda key: env.reset(key)[0])(jax.random.split(jax.random.key(1), GAMES)))
    game, counted = gymnasium.make("Blackjack-v1").unwrapped, []
    for seed in range(GAMES):
        (total, shown, ace), _ = game.reset(seed=0 if seed == 0 else None)
        counted.append((total, shown, ace))
    hands = [
        obs[:, :TOTALS].argmax(axis=1) * 2 + obs[:, -1].astype(int),
        np.array([2 * t + a for t, _, a in counted]),
    ]
    shows = [obs[:, TOTALS : TOTALS + SHOWN].argmax(axis=1), np.array([s for _, s, _ in counted])]
    for pair, n in ((hands, 2 * TOTALS), (shows, SHOWN)):
        table = np.stack([np.bincount(x, minlength=n) for x in pair])
        assert stats.chi2_contingency(table[:, table.sum(axis=0) > 20]).pvalue > 1e-4


@pytest.mark.parametrize(("options", "told"), list(zip(OPTIONS, (-0.0431, -0.0257, -0.0466), strict=True)))
def test_the_reference_earns_the_best_return(options: dict[str, bool], told: float) -> None:
    """Exactly, which docs/games.md tells; and no change in one hand earns more, which is what best means."""
    env = TASK.environment(**options)
    assert TASK.reference is not None and env.exact is not None and env.best is not None
    every = observations()
    wanted = jnp.asarray(TASK.reference(every.astype(np.float64))[:, 1].astype(np.int32))

    @jax.jit
    def worth(actions: jax.Array) -> jax.Array:
        assert env.exact is not None
        return env.exact(lambda obs: actions[(jnp.asarray(every) @ obs).argmax()])

    best = float(worth(wanted))
    assert best == pytest.approx(env.best, abs=1e-6) and round(best, 4) == told
    changed = jax.vmap(lambda i: worth(wanted.at[i].set(1 - wanted[i])))(jnp.arange(len(every)))
    assert float(changed.max()) <= best + 1e-6
    assert float(changed.min()) < best - 1e-3


def test_the_best_policy_is_the_published_one() -> None:
    """Figure 5.2 of Sutton and Barto (2018): where it sticks without an ace that counts 11, and with one."""
    assert TASK.reference is not None
    every = observations().astype(np.float64)
    hits = TASK.reference(every)[:, 1] & ~TASK.reference(every)[:, 0]
    for obs, hit in zip(every, hits, strict=True):
        total, shown, ace = (int(p.argmax()) for p in (obs[:TOTALS], obs[TOTALS : TOTALS + SHOWN], obs[-2:]))
        if ace:
            least = 19 if shown in (1, 9, 10) else 18
        elif shown in (4, 5, 6):
            least = 12
        else:
            least = 13 if shown in (2, 3) else 17
        assert hit == (total < least), (total, shown, ace)


def test_rules_are_gymnasiums_own_where_none_are_named() -> None:
    known = gymnasium.spec("Blackjack-v1").kwargs
    assert known == {"natural": False, "sab": True} == {k: p.default for k, p in PARAMETERS.items()}
    with pytest.raises(UserError, match="name sab=false beside it"):
        TASK.environment(natural=True)


def test_what_is_told_is_the_state() -> None:
    assert TASK.words is not None
    texts = {tuple(TASK.words.tell(obs, []).values()) for obs in observations()}
    assert len(texts) == 280
    assert ("16", "an ace", "no ace that counts 11") in texts


def test_exact_evaluation_draws_nothing() -> None:
    env = TASK.environment()
    agent = common(1000, 100, 0).agent.for_game(env.action_space)
    world = World(env, agent, Interaction(100, 0, False))
    state = world.agent.init(jax.random.key(3), env.observation_shape, env.action_space)
    exact = [float(evaluate(world, state, jax.random.key(i))) for i in range(2)]
    assert exact[0] == exact[1]
    played = World(env, agent, Interaction(100, GAMES, False))
    assert exact[0] == pytest.approx(float(evaluate(played, state, jax.random.key(0))), abs=5 / GAMES**0.5)


def test_no_episodes_cannot_be_cut() -> None:
    protocol = TASK.protocol().replace(eval_limit=5)
    with pytest.raises(UserError, match="eval_limit cuts evaluation episodes, and eval_episodes is 0"):
        prepare_experiment(TASK, protocol, ("pure_rl",), 1, 0)


def test_a_game_without_exact_values_needs_episodes() -> None:
    task = load("cartpole")
    protocol = task.protocol("standard").replace(eval_episodes=0)
    with pytest.raises(
        UserError, match="eval_episodes is 0, and cartpole has no exact values: name at least 1"
    ):
        prepare_experiment(task, protocol, ("pure_rl",), 1, 0)
