"""Each phase alone: data that says which step it belongs to comes through aligned, and counters are honest.

The game is `environments.Sentinel`, whose observation, reward and ends are functions of (episode, step).
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from environments import SENTINEL_LIMIT, SHORTEST, OneStep, Sentinel, probe
from populations import assert_same

from loro_jax.agents import DDQN
from loro_jax.departures.phases import ShiftedCollect
from loro_jax.tasks.rollout import rollouts
from loro_jax.training import replay
from loro_jax.training.phases import (
    AsPrior,
    Collect,
    Cost,
    Fit,
    Forget,
    Interact,
    Keep,
    Load,
    Retarget,
    split,
)
from loro_jax.training.world import Interaction, World, evaluate
from loro_jax.types import Knowledge, Phase, Run, Transition

INTERVAL, STARTS = 20, 5
HOW = Interaction(eval_interval=INTERVAL, eval_episodes=3, reset_each_interval=False)
AGENT = DDQN(
    (4,), 1e-3, 8, 0.9, epsilon=0.5, learning_starts=STARTS, replay_capacity=200, target_network_frequency=5
)
WORLD = World(probe(Sentinel, SENTINEL_LIMIT), AGENT, HOW)


@functools.cache
def begin(world: World = WORLD) -> Run:
    return jax.jit(lambda: world.begin(jax.random.key(0), jax.random.key(0)))()


def apply(
    phase: Phase, run: Run, world: World = WORLD, data: Transition | None = None
) -> tuple[Run, np.ndarray]:
    known = None if data is None else Knowledge(data)
    run, record = jax.jit(lambda run, known: phase(run, world, known))(run, known)
    return run, np.asarray(record)


def held(run: Run) -> Transition:
    """What the replay holds, in the order of insertion (it must not have wrapped)."""
    n = int(run.replay.insertions)
    assert n <= replay.capacity(run.replay)
    return jax.tree.map(lambda x: np.asarray(x)[:n], run.replay.storage)


def assert_aligned(rows: Transition, cut: np.ndarray | None = None) -> None:
    """Every field of every row belongs to that row's (episode, step).

    `cut` marks rows after which the training loop, not the game, ended the episode.
    """
    tag, time = rows.obs.T
    cut = np.zeros(len(tag), bool) if cut is None else cut
    length = SHORTEST + tag % 5
    np.testing.assert_array_equal(rows.reward, 10 * time + rows.action)
    np.testing.assert_array_equal(rows.next_obs, np.stack([tag, time + 1], -1))  # never the next episode's
    np.testing.assert_array_equal(rows.terminated, time + 1 == length)
    limit = time + 1 == SENTINEL_LIMIT
    np.testing.assert_array_equal(rows.truncated, (limit | cut) & ~rows.terminated)


def assert_episodes_follow(rows: Transition) -> None:
    """Within an episode a row follows the one before; after an end a new episode begins at step 0."""
    over = (rows.terminated | rows.truncated)[:-1]
    np.testing.assert_array_equal(rows.obs[1:][~over], rows.next_obs[:-1][~over])
    np.testing.assert_array_equal(rows.obs[1:][over, 1], 0)
    assert (rows.obs[1:][over, 0] != rows.obs[:-1][over, 0]).all()


def episode_returns(rows: Transition) -> list[float]:
    """Returns of the whole episodes in `rows`, which may break off within one more."""
    ends = np.flatnonzero(rows.terminated | rows.truncated) + 1
    return [float(rows.reward[a:b].sum()) for a, b in zip([0, *ends[:-1]], ends, strict=True)]


def test_interact_stores_each_step_as_it_was() -> None:
    run, record = apply(Interact(3 * INTERVAL), begin())
    rows = held(run)
    assert len(rows.action) == 3 * INTERVAL
    assert_aligned(rows)
    assert_episodes_follow(rows)
    over = rows.terminated | rows.truncated
    assert rows.terminated.any() and rows.truncated.any() and set(rows.action) == {0, 1}
    counters = {k: int(v) for k, v in run.counters._asdict().items()}
    assert counters == {
        "env_steps": 3 * INTERVAL, "gradient_steps": 3 * INTERVAL - STARTS, "prior_steps": 0,
        "llm_queries": 0, "episodes": over.sum(), "collect_draws": 0,
    }  # fmt: skip
    assert int(run.agent.steps) == 3 * INTERVAL - STARTS
    assert record.shape == (3,)


def test_fit_moves_targets_by_a_share_of_its_own() -> None:
    """As an agent of that share would, to the bit; the agent's own share is another."""

    def world(share: float) -> World:
        agent = dataclasses.replace(AGENT, polyak=share, target_network_frequency=1)
        return World(WORLD.environment, agent, HOW)

    run, _ = apply(Interact(INTERVAL), begin(world(0.25)), world(0.25))
    asked, _ = apply(Fit(7, polyak=0.5), run, world(0.25))
    assert_same(asked, apply(Fit(7), run, world(0.5))[0])
    own = apply(Fit(7), run, world(0.25))[0]
    assert not jax.tree.all(jax.tree.map(np.array_equal, asked.agent.target, own.agent.target))


@pytest.mark.slow
def test_interact_that_resets_each_interval_cuts_but_does_not_end_episodes() -> None:
    world = dataclasses.replace(WORLD, interaction=dataclasses.replace(HOW, reset_each_interval=True))
    run, _ = apply(Interact(3 * INTERVAL), begin(world), world)
    rows = held(run)
    last = np.arange(3 * INTERVAL) % INTERVAL == INTERVAL - 1
    assert_aligned(rows, cut=last)
    assert_episodes_follow(rows)
    assert (rows.terminated | rows.truncated)[last].all()
    assert (last & rows.truncated & (rows.next_obs[:, 1] < SENTINEL_LIMIT)).any()  # one was cut early


@pytest.mark.slow
def test_interact_can_leave_out_the_last_row_of_cut_episodes() -> None:
    """Beside the same run with every row kept; neither learns, so both take the same steps."""

    def played(drop_cut: bool) -> Transition:
        how = dataclasses.replace(HOW, reset_each_interval=True, drop_cut=drop_cut)
        world = World(WORLD.environment, dataclasses.replace(AGENT, learning_starts=199), how)
        return held(apply(Interact(3 * INTERVAL), begin(world), world)[0])

    every = played(drop_cut=False)
    assert every.truncated.any()
    assert_same(played(drop_cut=True), jax.tree.map(lambda x: x[~every.truncated], every))


@pytest.mark.slow
def test_interact_learns_once_for_so_many_steps() -> None:
    world = dataclasses.replace(WORLD, agent=dataclasses.replace(AGENT, train_frequency=4))
    run, _ = apply(Interact(2 * INTERVAL), begin(world), world)
    assert int(run.counters.env_steps) == 2 * INTERVAL
    assert int(run.counters.gradient_steps) == 2 * INTERVAL // 4 - 1  # after 4 steps the replay holds 4 < 5
    assert_aligned(held(run))


def test_interact_refuses_a_part_of_an_interval() -> None:
    with pytest.raises(ValueError, match="30 steps are not a whole number of intervals of 20"):
        Interact(30)(begin(), WORLD, None)


def test_collect_by_steps() -> None:
    before = begin()
    run, record = apply(Collect(steps=43, episodes=0, evaluations=3), before)
    rows = held(run)
    assert len(rows.action) == 43 == int(run.counters.prior_steps)
    assert_aligned(rows)
    assert_episodes_follow(rows)
    assert (
        10 < rows.action.sum() < 33
    )  # a uniform policy: both actions, either one's share within 3.5 deviations
    np.testing.assert_allclose(record, [np.mean(episode_returns(rows))] * 3, rtol=1e-6)
    assert_same((run.agent, run.game, run.obs), (before.agent, before.game, before.obs))
    assert int(run.counters.env_steps) == int(run.counters.llm_queries) == 0


def test_collect_by_episodes() -> None:
    run, record = apply(Collect(steps=4 * SENTINEL_LIMIT, episodes=4, evaluations=4), begin())
    rows = held(run)
    assert_aligned(rows)
    assert_episodes_follow(rows)
    assert (rows.terminated | rows.truncated).sum() == 4 and (rows.terminated | rows.truncated)[-1]
    assert len(rows.action) == int(run.counters.prior_steps) < 4 * SENTINEL_LIMIT
    np.testing.assert_allclose(record, episode_returns(rows))


def test_collect_in_the_released_alignment() -> None:
    """The rows (s[t+1], a[t], r[t], s[t+2]), zeros after an episode's end, and no last row of a cut one."""
    (plain, returns), (shifted, same) = (
        apply(phase(steps=4 * SENTINEL_LIMIT, episodes=4, evaluations=4), begin())
        for phase in (Collect, ShiftedCollect)
    )
    true, rows = held(plain), held(shifted)
    kept = ~true.truncated
    assert true.truncated.any() and true.terminated.any()
    np.testing.assert_array_equal(same, returns)
    np.testing.assert_array_equal(rows.obs, true.next_obs[kept])
    for name in ("action", "reward", "terminated"):
        np.testing.assert_array_equal(getattr(rows, name), getattr(true, name)[kept])
    after = np.where(true.terminated[:, None], 0, true.next_obs + np.array([0, 1]))[kept]
    np.testing.assert_array_equal(rows.next_obs, after)


def prior(rows: int) -> Transition:
    """Rows that `assert_aligned` accepts: episodes of tags 0, 1, 2, ..."""
    pairs = [(tag, t) for tag in range(rows) for t in range(min(SHORTEST + tag % 5, SENTINEL_LIMIT))][:rows]
    tag, time = np.array(pairs).T
    action = (tag % 2).astype(np.int32)
    obs = np.stack([tag, time], -1).astype(np.float32)
    terminated = time + 1 == SHORTEST + tag % 5
    return Transition(
        obs, action, (10 * time + action).astype(np.float32), obs + np.float32([0, 1]), terminated,
        (time + 1 == SENTINEL_LIMIT) & ~terminated,
    )  # fmt: skip


def test_load_and_sampling_keep_rows_whole() -> None:
    data = prior(37)
    run, record = apply(Load(37, queries=5), begin(), data=data)
    assert_same(held(run), data)
    assert record.shape == (0,)
    assert (int(run.counters.prior_steps), int(run.counters.llm_queries)) == (37, 5)
    batch = jax.tree.map(np.asarray, replay.sample(run.replay, jax.random.key(5), 500))
    assert_aligned(batch)
    assert len({tuple(o) for o in batch.obs.tolist()}) == 37


def test_online_rows_follow_loaded_ones_in_the_replay() -> None:
    run, _ = apply(Load(37), begin(), data=prior(37))
    run, _ = apply(Interact(3 * INTERVAL), run)
    assert_aligned(held(run))
    assert len(held(run).action) == 37 + 3 * INTERVAL
    assert int(run.counters.gradient_steps) == 3 * INTERVAL  # learning starts with the first step


def test_load_takes_the_first_rows() -> None:
    data = prior(10)
    run, _ = apply(Load(4), begin(), data=data)
    assert_same(held(run), jax.tree.map(lambda x: x[:4], data))


def test_forget_empties_the_replay_and_nothing_else() -> None:
    before, _ = apply(Load(10), begin(), data=prior(10))
    after, _ = apply(Forget(), before)
    assert int(replay.size(after.replay)) == 0
    assert_same(after._replace(replay=None), before._replace(replay=None))


def test_retarget_changes_the_interval_and_nothing_else() -> None:
    before = begin()
    after, _ = apply(Retarget(77), before)
    assert int(after.agent.target_interval) == 77
    assert_same(after._replace(agent=None), before._replace(agent=None))
    assert_same(after.agent._replace(target_interval=None), before.agent._replace(target_interval=None))


def test_evaluation_is_the_mean_return_of_greedy_episodes_elsewhere() -> None:
    world = World(probe(OneStep, 5), dataclasses.replace(AGENT, hidden=(1,)), HOW)
    for bias, expected in (([0.0, 1.0], 1.0), ([1.0, 0.0], 0.0)):
        start = begin(world).agent
        last = {"kernel": jnp.zeros((1, 2)), "bias": jnp.array(bias)}
        agent = start._replace(params={"params": {**start.params["params"], "Dense_1": last}})
        assert float(evaluate(world, agent, jax.random.key(0))) == expected  # epsilon plays no part


def test_an_episode_played_out_counts_every_reward_once() -> None:
    """Action 1 throughout pays 10 t + 1: the return tells the episode's length, 3 to 6 steps."""
    env = WORLD.environment
    keys = jax.random.split(jax.random.key(0), 100)
    returns, lengths = rollouts(env, lambda obs, key: jnp.int32(1), keys)
    assert {float(r) for r in returns} == {sum(10.0 * t + 1 for t in range(n)) for n in (3, 4, 5, 6)}
    assert [float(r) for r in returns] == [sum(10.0 * t + 1 for t in range(n)) for n in lengths.tolist()]


def test_only_long_phases_are_split_and_nothing_is_lost() -> None:
    assert split(Interact(60), 20, 100) == split(AsPrior(Interact(60)), 20, 100) == (Interact(20),) * 3
    assert split(Fit(250), 20, 100) == (Fit(100), Fit(100), Fit(50))
    for phase in (
        Fit(100),
        Interact(20),
        Load(500),
        Collect(500, 2, 2),
        ShiftedCollect(500, 2, 2),
        Forget(),
        Retarget(200),
    ):
        assert split(phase, 20, 100) == (phase,)


def test_every_phase_declares_what_it_costs() -> None:
    """In environment steps: prior data where it causes some, learning online otherwise."""
    free = (Fit(100), Forget(), Retarget(200), Load(500))
    assert [phase.cost(INTERVAL) for phase in free] == [Cost()] * 4
    assert Load(500, charged=520).cost(INTERVAL) == Cost(prior=520)
    for collect in (Collect, ShiftedCollect):
        assert collect(43, episodes=0, evaluations=3).cost(INTERVAL) == Cost(prior=3 * INTERVAL)
    assert Interact(60).cost(INTERVAL) == Cost(online=60)
    assert AsPrior(Interact(60)).cost(INTERVAL) == Cost(prior=60)


def test_interact_as_prior_data_is_interact() -> None:
    assert_same(apply(AsPrior(Interact(3 * INTERVAL)), begin()), apply(Interact(3 * INTERVAL), begin()))
    assert repr(AsPrior(Interact(40))) == "Interact(steps=40)"


def test_questions_are_counted_and_unknown_ones_stay_unknown() -> None:
    data = prior(4)
    run, _ = apply(Load(4, queries=3), apply(Load(4, queries=2), begin(), data=data)[0], data=data)
    assert int(run.counters.llm_queries) == 5
    run, _ = apply(Load(4, queries=2), apply(Load(4, queries=-1), run, data=data)[0], data=data)
    assert int(run.counters.llm_queries) == -1


def test_two_collects_draw_different_numbers() -> None:
    """Also where the first used fewer steps than it might have."""
    first = Collect(steps=4 * SENTINEL_LIMIT, episodes=2, evaluations=2)
    once, _ = apply(first, begin())
    assert int(once.counters.prior_steps) < first.steps
    twice, _ = apply(first, once._replace(replay=replay.empty(once.replay)))
    one, other = held(once), held(twice)
    tags = [set(rows.obs[:, 0].tolist()) for rows in (one, other)]
    assert not tags[0] & tags[1]  # a sentinel's tag is drawn at its reset
    length = min(len(one.action), len(other.action))
    assert (one.action[:length] != other.action[:length]).any()


@pytest.mark.parametrize("every", [2, 10])
def test_a_loop_over_environment_steps_is_no_longer_program(every: int) -> None:
    """Compilation takes as long for 200 steps per gradient step as for 2."""

    def size(train_frequency: int) -> int:
        world = dataclasses.replace(WORLD, agent=dataclasses.replace(AGENT, train_frequency=train_frequency))
        program = jax.make_jaxpr(lambda run: Interact(20)(run, world, None))(begin(world))
        return len(str(program))

    assert size(every) == pytest.approx(size(20), rel=0.02)


def test_kept_rows_are_whole_and_each_seeds_own() -> None:
    """`Keep` leaves so many rows, aligned; seeds draw different ones; more than there are keeps all."""
    run, _ = apply(Collect(100, 0, 5), begin())
    few, record = apply(Keep(12), run)
    assert record.shape == (0,) and int(few.replay.insertions) == 12
    tag, time = held(few).obs.T
    np.testing.assert_array_equal(held(few).reward, 10 * time + held(few).action)
    places = set(zip(tag.tolist(), time.tolist(), strict=True))
    assert len(places) == 12 and places <= set(map(tuple, held(run).obs.tolist()))
    other, _ = apply(Keep(12), run._replace(key=jax.random.key(7)))
    assert held(other).obs.tolist() != held(few).obs.tolist()
    whole, _ = apply(Keep(1000), run)
    assert_same(held(whole), held(run))
