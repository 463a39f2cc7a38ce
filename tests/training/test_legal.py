"""Legal moves and steps of different lengths: what is chosen, what is learned, what is refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

import loro_jax as lj
from loro_jax.agents import DDQN, PPO
from loro_jax.data.answers import Answers, Coding
from loro_jax.errors import UserError
from loro_jax.language import players
from loro_jax.spaces import Discrete
from loro_jax.tasks import rules
from loro_jax.tasks.base import Environment
from loro_jax.tasks.words import Field
from loro_jax.training import replay
from loro_jax.training.arms import check_agent
from loro_jax.training.guidance import Answering, JumpStart, Kl, Proposals, Soft, Tutor
from loro_jax.training.phases import Collect, Fit, Interact, Load
from loro_jax.training.world import Interaction, World
from loro_jax.types import Among, Arm, Knowledge, Run, Transition

LEGAL = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [1, 0, 0, 1]], bool)
"""Of three states: what is not legal pays 100 and ends the episode."""
PAYS = np.array([[0.0, 1.0, 0, 0], [0, 0.5, 2.0, 0], [1.0, 0, 0, 0.25]])
STEPS = 40


def mask(obs: jax.Array) -> jax.Array:
    return jnp.asarray(LEGAL)[obs.argmax()]


def game(**settings: Any) -> Environment:
    """The next state is the action's number, of three."""

    def reset(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jnp.int32(0), jnp.int32(0)

    def step(key: jax.Array, state: jax.Array, action: jax.Array) -> Any:
        legal = jnp.asarray(LEGAL)[state, action]
        reward = jnp.where(legal, jnp.asarray(PAYS, jnp.float32)[state, action], 100.0)
        after = action % 3
        return after, after, reward, ~legal

    return rules.environment(reset, step, states=3, actions=Discrete(4), limit=7, legal=mask, **settings)


CODING = Coding((Field("state", ("0", "1", "2"), lambda obs: obs.argmax()),))
AGENT = DDQN(
    hidden=(16,), batch_size=16, learning_starts=8, replay_capacity=500, epsilon=0.5, learning_rate=1e-2,
    discount=0.8, target_network_frequency=10,
)  # fmt: skip


def world(agent: Any = AGENT, env: Environment | None = None) -> World:
    env = game() if env is None else env
    return World(env, agent.for_game(env.action_space), Interaction(STEPS // 2, 2, False), CODING)


def known(w: World, actions: Any) -> Knowledge:
    """A table of answers (3, n)."""
    said = np.asarray(actions, np.int32)
    table = Answers(CODING, np.arange(3, dtype=np.int32)[:, None], said, np.ones(3, bool), {}).table()
    rows = jax.tree.map(lambda x: jnp.zeros((1, *x.shape), x.dtype), w.example)
    return Knowledge(rows, table)


ILLEGAL = [[2, 3, 2, 3], [0, 3, 0, 3], [1, 2, 1, 2]]
MIXED = [[2, 1, 2, 1], [0, 3, 2, 3], [1, 2, -1, 2]]


def after(w: World, k: Knowledge | None, *phases: Any, seed: int = 0) -> Run:
    key = jax.random.key(seed)
    phases_ = tuple(p for p in phases if getattr(p, "override", None) is not None)

    @jax.jit
    def run() -> Run:
        begun = w.begin(key, key, k, phases_)
        for phase in phases:
            begun, _ = phase(begun, w, k)
        return begun

    return run()


def taken(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """States (N,) and actions (N,) of all that is in the replay."""
    n = int(replay.size(run.replay))
    obs = np.asarray(run.replay.storage.obs)[:n]
    return (obs if obs.ndim == 1 else obs.argmax(axis=1)), np.asarray(run.replay.storage.action)[:n]


SENTENCES = {
    "alone": (Interact(STEPS),),
    "uniform data": (Collect(STEPS, 0, 2),),
    "answers": (Collect(STEPS, 0, 2, Answering()),),
    "proposals": (Interact(STEPS, support=Proposals(k=4)),),
    "proposals by softmax": (Interact(STEPS, support=Proposals(k=4, temperature=1.0, epsilon=0.0)),),
    "soft": (Interact(STEPS, support=Soft(temperature=0.5)),),
    "tutor": (Interact(STEPS, override=Tutor(1.0, 1.0, 10, 2)),),
    "jsrl": (Interact(STEPS, override=JumpStart(5, 2)),),
}


@pytest.mark.parametrize("says", [ILLEGAL, MIXED], ids=["illegal", "mixed"])
@pytest.mark.parametrize("sentence", SENTENCES)
def test_nothing_illegal_is_ever_taken(sentence: str, says: Any) -> None:
    """Whatever the answers are, illegal or unreadable; and each legal one is, that may be."""
    w = world()
    states, actions = taken(after(w, known(w, says), *SENTENCES[sentence]))
    assert LEGAL[states, actions].all() and len(states) == STEPS
    if sentence == "proposals" and says is MIXED:
        assert (actions[states == 0] == 1).all() and (actions[states == 1] == 2).all()


def test_parallel_games_take_legal_moves_only() -> None:
    agent = PPO(hidden=(8,), games=2, rollout=5, minibatches=2)
    for penalty in (None, Kl(prior=Proposals(4)), Kl(prior=Proposals(4), estimator="reverse")):
        w = world(agent)
        states, actions = taken(after(w, known(w, MIXED), Interact(STEPS, penalty=penalty)))
        assert LEGAL[states, actions].all() and len(states) == 10


def test_values_are_those_of_value_iteration_over_legal_moves() -> None:
    q = np.zeros((3, 4))
    for _ in range(300):
        value = np.where(LEGAL, q, -np.inf).max(axis=1)
        q = PAYS + 0.8 * value[np.arange(4) % 3]
    how = {"hidden": (64,), "batch_size": 64, "learning_rate": 1e-3, "huber_delta": 100.0}
    w = world(dataclasses.replace(AGENT, **how))
    pairs = np.argwhere(LEGAL)
    one_hot = np.eye(3, dtype=np.float32)
    rows = Transition(
        one_hot[pairs[:, 0]], pairs[:, 1], PAYS[LEGAL].astype(np.float32), one_hot[pairs[:, 1] % 3],
        np.zeros(len(pairs), bool), np.zeros(len(pairs), bool),
    )  # fmt: skip
    data = Knowledge(w.rows(rows))
    run = after(w, data, Load(len(pairs)), Fit(10_000))
    states = jnp.arange(3) if w.environment.indexed else jnp.eye(3)
    values = np.asarray(w.agent.values(run.agent.params, states))  # type: ignore[attr-defined]
    assert np.abs(values - q)[LEGAL].max() < 0.05


def test_uniform_play_is_uniform_over_what_is_legal() -> None:
    """Of 4,000 draws between two, by six standard deviations: an error rate of 2e-9."""
    env = game()
    one_hot = jnp.eye(3)
    draws = jax.vmap(lambda key: env.sample(key, one_hot[1]))(jax.random.split(jax.random.key(0), 4000))
    assert set(np.unique(draws).tolist()) == {1, 2} and abs((np.asarray(draws) == 1).mean() - 0.5) < 0.048
    chance = np.random.default_rng(0)
    acts = [
        players.uniform(env),
        players.answering(env, CODING, {(i,): np.array(ILLEGAL[i]) for i in range(3)}),
    ]
    for act in acts:
        seen = np.repeat(np.eye(3, dtype=np.float32), 50, axis=0)
        chosen = act(seen, chance).astype(int)
        assert LEGAL[seen.argmax(axis=1), chosen].all()


def test_an_answer_that_its_text_does_not_list_is_drawn_anew() -> None:
    """Of those that it lists, and counted among what could not be read: it is not left out."""
    coding = Coding((dataclasses.replace(CODING.fields[0], legal=((0, 1), (1, 2), (0, 3))),))
    w = World(game(), AGENT.for_game(Discrete(4)), Interaction(STEPS // 2, 2, False), coding)
    said = np.array([[2, 1], [1, 2], [-1, 2]], np.int32)
    table = Answers(coding, np.arange(3, dtype=np.int32)[:, None], said, np.ones(3, bool), {}).table()
    k = Knowledge(jax.tree.map(lambda x: jnp.zeros((1, *x.shape), x.dtype), w.example), table)
    begun = w.begin(jax.random.key(0), jax.random.key(0), k)
    rows = np.asarray(Proposals(k=2).rows(begun, w, k))[:3]
    assert (rows.sum(axis=1) == 2).all() and not rows[~LEGAL].any()
    assert rows[0, 1] >= 1 and rows[1].tolist() == [0, 1, 1, 0]
    assert Proposals(k=2).readable(k)[:3].tolist() == [False, True, False]
    drawn = [
        np.asarray(Proposals(k=1).rows(begun._replace(key=jax.random.key(i)), w, k))[0] for i in range(200)
    ]
    assert 60 < sum(row[0] for row in drawn) < 140  # of 200 fair draws; beyond that in one of ten million


def test_an_end_may_have_nothing_legal() -> None:
    """Nobody acts there; what is told of it is everything, so that its values are finite."""
    env = rules.environment(
        lambda key: (jnp.int32(0), jnp.int32(0)),
        lambda key, state, action: (jnp.int32(1), jnp.int32(1), jnp.float32(action == 1), state >= 0),
        states=2, actions=Discrete(3), limit=5, legal=lambda obs: (obs[0] > 0) & (jnp.arange(3) < 2),
    )  # fmt: skip
    assert env.allowed(jnp.eye(2)[0]).tolist() == [True, True, False]  # type: ignore[union-attr]
    assert env.allowed(jnp.eye(2)[1]).tolist() == [True] * 3  # type: ignore[union-attr]
    words = lj.Description((lj.Field("at", ("here", "there"), lambda obs: obs.argmax()),), lj.Words("abc"))
    task = lj.Task("ends", env, words=words, prompts={"cot": "Action: a, b or c.\n\n{at}"})
    told = lj.answers_from_policy(lambda obs: np.ones(len(obs), int), task)
    found = lj.run(
        task, ("soft_prior", "dqn_prior"), answers=told, seeds=2, budget=400, learning_starts=50,
        progress=False,
    )  # fmt: skip
    assert np.isfinite(found.returns.values).all()


@pytest.mark.parametrize(
    ("mask", "found"),
    [
        (lambda obs: jnp.ones(6, bool), r"bool\(6,\)"),
        (lambda obs: jnp.zeros(4), r"float32\(4,\)"),
        (lambda obs: True, r"bool\(\)"),
    ],
)
def test_what_is_no_mask_is_refused(mask: Any, found: str) -> None:
    task = lj.Task("masked", dataclasses.replace(game(), legal=mask))
    with pytest.raises(UserError, match=rf"^legal gives {found}; a mask is needed, bool \(4,\)"):
        lj.run(task, ("random_policy",), seeds=1, budget=400, learning_starts=50, progress=False)


def test_a_support_without_anything_legal_is_every_legal_move() -> None:
    legal = jnp.array([[False, True, True], [True, False, False]])
    counts = Among(counts=jnp.array([[2, 0, 0], [1, 0, 4]], jnp.int32)).within(legal)
    assert counts.counts.tolist() == [[0, 1, 1], [1, 0, 0]]  # type: ignore[union-attr]
    logs = Among(log_weights=jnp.log(jnp.array([[1.0, 0, 0], [0.2, 0.3, 0.5]]))).within(legal)
    np.testing.assert_allclose(np.exp(logs.logs), [[0, 1, 1], [0.2, 0, 0]], rtol=1e-6)


def test_an_agent_that_cannot_be_told_is_refused() -> None:
    class Deaf:
        name = "deaf"

        def learn(self, state: Any, batch: Any, key: Any) -> Any:
            return state, jnp.float32(0)

    arm = Arm("pure_rl", (Interact(STEPS),), "")
    with pytest.raises(UserError, match="not all actions are legal everywhere, which the agent deaf"):
        check_agent(arm, Deaf(), masked=True)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="different lengths"):
        check_agent(arm, Deaf(), timed=True)  # type: ignore[arg-type]
    check_agent(arm, Deaf())  # type: ignore[arg-type]


# Steps of different lengths


@struct.dataclass
class Ticks:
    time: jax.Array


class Slow:
    """One state; action a takes 1 + 2 a ticks and pays 1; cut after 9 ticks."""

    shape = (1,)

    def observation_space(self, params: Any) -> Any:
        return self

    def action_space(self, params: Any) -> Discrete:
        return Discrete(2)

    def reset_env(self, key: jax.Array, params: Any) -> tuple[jax.Array, Ticks]:
        return jnp.ones(1), Ticks(jnp.int32(0))

    def step_env(self, key: jax.Array, state: Ticks, action: jax.Array, params: Any) -> Any:
        return jnp.ones(1), Ticks(state.time + 1 + 2 * action), jnp.float32(1), jnp.bool_(False), {}

    def is_truncated(self, state: Ticks, params: Any) -> jax.Array:
        return state.time >= params.max_steps_in_episode


@pytest.mark.parametrize("n_step", [1, 2])
def test_values_are_discounted_by_the_clock(n_step: int) -> None:
    """Q(a) = 1 + 0.8^(1 + 2a) V with V = Q(0) = 5; and 1 + 0.512 x 5 = 3.56 of the slow action."""
    env = Environment(Slow(), rules.Limit(9), timed=True)
    agent = dataclasses.replace(AGENT, n_step=n_step, batch_size=64, learning_rate=3e-3, epsilon=0.3)
    w = World(env, agent.for_game(env.action_space), Interaction(2000, 1, False))
    run = after(w, None, Interact(4000))
    n = int(replay.size(run.replay))
    actions = np.asarray(run.replay.storage.action)[:n]
    np.testing.assert_array_equal(np.asarray(run.replay.durations)[:n], 1 + 2 * actions)
    values = np.asarray(w.agent.values(run.agent.params, jnp.ones((1, 1))))[0]  # type: ignore[attr-defined]
    if n_step == 1:
        np.testing.assert_allclose(values, [5.0, 3.56], atol=0.1)
    assert values[0] > values[1]


def test_rows_of_several_steps_multiply_their_discounts() -> None:
    example = Transition(*(jnp.float32(0),) * 4, jnp.bool_(False), jnp.bool_(False))
    ring = replay.create(8, example, timed=True)
    for t, duration in enumerate([2, 3, 1]):
        row = Transition(*map(jnp.float32, (t, 0, 1, t + 1)), jnp.bool_(False), jnp.bool_(False))
        ring = replay.push(ring, row, jnp.bool_(True), jnp.int32(duration))
    row, discounts = replay.several(ring, jnp.array([0, 1]), 2, 0.5)
    np.testing.assert_allclose(discounts, [0.5**5, 0.5**4])
    np.testing.assert_allclose(row.reward, [1 + 0.5**2, 1 + 0.5**3])


def test_played_episodes_tell_no_durations() -> None:
    env = Environment(Slow(), rules.Limit(9), timed=True)
    w = World(env, AGENT.for_game(env.action_space), Interaction(20, 1, False))
    rows = jax.tree.map(lambda x: jnp.zeros((4, *x.shape), x.dtype), w.example)
    with pytest.raises(UserError, match="do not say how long each step took"):
        after(w, Knowledge(rows), Load(4))


def test_advice_that_is_taken_again_is_legal_where_it_is_taken() -> None:
    """States that share a text, and what was advised in one of them is not there in another."""
    coding = Coding((Field("all", ("the same",), lambda obs: obs.argmax() * 0),))
    w = dataclasses.replace(world(), coding=coding)
    table = Answers(coding, np.zeros((1, 1), int), np.array([[0, 1, 2, 3]]), np.ones(1, bool), {})
    told = known(w, MIXED)._replace(answers=table.table())
    states, actions = taken(after(w, told, Interact(STEPS, override=Tutor(1.0, 1.0, 10, 3))))
    assert LEGAL[states, actions].all() and len(np.unique(states)) > 1
