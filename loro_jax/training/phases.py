"""The words that arms are written in. Each is frozen data with a pure `Run -> Run` call.

A call returns the new run and a record: the returns that stand for the phase on the learning curve,
one for each chunk of the budget that it uses, shape (chunks,), or an empty one. A long phase is cut by
`split` into equal pieces, so that arms share compiled programs, and progress and checkpoints come
between pieces; `Interact(a) · Interact(b) = Interact(a + b)` and `Fit(a) · Fit(b) = Fit(a + b)` are laws.

Each phase declares what it costs (`Cost`): the readings of a run's curves follow from that.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from loro_jax.keys import Purpose, draw
from loro_jax.training import replay
from loro_jax.training.world import World, evaluate
from loro_jax.types import Phase, Run, Transition


def nothing() -> jax.Array:
    """A record without evaluations, (0,).

    It is made within the program: an array without elements that enters `shard_map` over several devices
    from outside, as a numpy constant does, crashes jaxlib 0.11.2's compiler (docs/zero-size-constant.md).
    """
    return jnp.zeros((0,), jnp.float32)


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a phase takes of the budget, in environment steps, whole chunks.

    Attributes:
        prior: spent on prior data.
        online: spent on learning online.
    """

    prior: int = 0
    online: int = 0


@dataclasses.dataclass(frozen=True)
class Load:
    """Puts prior data into the replay.

    `data` is what the program gets as its prior: transitions, (rows, ...). Its record is empty: the
    returns that stand for it come with the data (`loro_jax.data.prior.Prior.curve`).

    Attributes:
        rows: transitions that are put in.
        charged: environment steps that they take of the budget, whole chunks.
        queries: questions that were put to a language model for them; -1 where that is not known.
    """

    rows: int
    charged: int = dataclasses.field(default=0, repr=False)  # follows from the rows and the protocol
    queries: int = dataclasses.field(default=0, repr=False)  # follows from the dataset

    def cost(self, chunk: int) -> Cost:
        return Cost(prior=self.charged)

    def __call__(self, run: Run, world: World, data: Transition) -> tuple[Run, jax.Array]:
        batch = jax.tree.map(lambda x: jnp.asarray(x)[: self.rows], data)
        run = run._replace(replay=replay.add(run.replay, batch, jnp.ones(self.rows, bool)))
        asked = run.counters.llm_queries
        total = jnp.where(asked < 0, asked, asked + self.queries) if self.queries >= 0 else jnp.int32(-1)
        run = count(run, prior_steps=self.rows)
        return run._replace(counters=run.counters._replace(llm_queries=total)), nothing()


@dataclasses.dataclass(frozen=True)
class Fit:
    """`steps` gradient steps on the replay as it is."""

    steps: int

    def cost(self, chunk: int) -> Cost:
        return Cost()

    def __call__(self, run: Run, world: World, data: Transition) -> tuple[Run, jax.Array]:
        def step(run: Run, _: None) -> tuple[Run, None]:
            key = draw(run.fit_key, Purpose.FIT, run.counters.gradient_steps)
            return learn(run, world, key, jnp.bool_(True)), None

        return jax.lax.scan(step, run, None, self.steps)[0], nothing()


@dataclasses.dataclass(frozen=True)
class Forget:
    """Empties the replay: LORO's "fresh data only". The agent keeps what it learned."""

    def cost(self, chunk: int) -> Cost:
        return Cost()

    def __call__(self, run: Run, world: World, data: Transition) -> tuple[Run, jax.Array]:
        return run._replace(replay=replay.empty(run.replay)), nothing()


@dataclasses.dataclass(frozen=True)
class Retarget:
    """Changes how many gradient steps lie between copies into the target network."""

    interval: int

    def cost(self, chunk: int) -> Cost:
        return Cost()

    def __call__(self, run: Run, world: World, data: Transition) -> tuple[Run, jax.Array]:
        return run._replace(agent=run.agent._replace(target_interval=jnp.int32(self.interval))), nothing()


@dataclasses.dataclass(frozen=True)
class Collect:
    """A uniform policy plays into the replay.

    Attributes:
        steps: environment steps at most.
        episodes: stop after so many episodes; 0 for none, which fills all `steps`.
        chunks: chunks of the budget that this uses, hence the length of the record. With
            `episodes` equal to `chunks` the record holds their returns; otherwise the mean return
            of the episodes that ended, repeated.
        alignment: "released" stores (s[t+1], a[t], r[t], s[t+2]) as the reference study does.
    """

    steps: int
    episodes: int
    chunks: int
    alignment: str = "true"

    def cost(self, chunk: int) -> Cost:
        return Cost(prior=self.chunks * chunk)

    def __call__(self, run: Run, world: World, data: Transition) -> tuple[Run, jax.Array]:
        env, used = world.environment, run.counters.collect_draws
        obs, game = env.reset(draw(run.key, Purpose.COLLECT, used))

        def step(carry: Any, t: jax.Array) -> tuple[Any, Any]:
            obs, game, ended = carry
            key = draw(run.key, Purpose.COLLECT, used + t + 1)
            action = env.action_space.sample(jax.random.fold_in(key, 0))
            next_obs, game, reward, terminated, truncated = env.step(jax.random.fold_in(key, 1), game, action)
            transition = Transition(obs, action, reward, next_obs, terminated, truncated)
            done = terminated | truncated
            fresh = env.reset(jax.random.fold_in(key, 2))
            obs, game = jax.tree.map(lambda a, b: jnp.where(done, a, b), fresh, (next_obs, game))
            return (obs, game, ended + done.astype(jnp.int32)), (transition, ended)

        start = (obs, jax.tree.map(jnp.asarray, game), jnp.int32(0))
        _, (rows, episode) = jax.lax.scan(step, start, jnp.arange(self.steps))
        wanted = episode < self.episodes if self.episodes else jnp.ones(self.steps, bool)
        kept, stored = wanted, rows
        if self.alignment == "released":  # a row with no observation after it is kept only where terminated
            followed = ~rows.truncated & (jnp.arange(self.steps) < self.steps - 1)
            kept, stored = wanted & (rows.terminated | followed), misalign(rows)
        run = run._replace(replay=replay.add(run.replay, stored, kept))
        bins = max(self.episodes, 1) if self.episodes == self.chunks else self.steps
        returns = jnp.zeros(bins).at[episode].add(rows.reward, mode="drop")
        if self.episodes != self.chunks:
            whole = jnp.zeros(bins, bool).at[episode].max(rows.terminated | rows.truncated, mode="drop")
            mean = jnp.where(whole, returns, 0.0).sum() / jnp.maximum(whole.sum(dtype=jnp.float32), 1)
            returns = jnp.full(self.chunks, mean)
        run = count(run, prior_steps=wanted.sum(), collect_draws=1 + self.steps)
        return run, returns[: self.chunks]


@dataclasses.dataclass(frozen=True)
class Interact:
    """`steps` environment steps of learning online, a whole number of chunks, each then evaluated."""

    steps: int

    def cost(self, chunk: int) -> Cost:
        return Cost(online=self.steps)

    def __call__(self, run: Run, world: World, data: Transition) -> tuple[Run, jax.Array]:
        how = world.interaction
        if self.steps % how.eval_every:
            raise ValueError(f"{self.steps} steps are not a whole number of chunks of {how.eval_every}")

        def block(run: Run, t: jax.Array) -> tuple[Run, None]:
            def step(i: jax.Array, run: Run) -> Run:
                return step_environment(run, world, t * how.train_every + i == how.eval_every - 1)

            run = jax.lax.fori_loop(0, how.train_every, step, run, unroll=how.train_every == 1)
            ready = replay.size(run.replay) > how.warmup
            return learn(run, world, draw(run.key, Purpose.SAMPLE, run.counters.env_steps), ready), None

        def chunk(run: Run, _: None) -> tuple[Run, jax.Array]:
            run, _ = jax.lax.scan(block, run, jnp.arange(how.eval_every // how.train_every))
            value = evaluate(world, run.agent, draw(run.key, Purpose.EVALUATE, run.counters.env_steps))
            run = watch(run, finite((run.agent, value)))
            return run, jnp.where(run.diverged < 0, value, jnp.nan)

        return jax.lax.scan(chunk, run, None, self.steps // how.eval_every)


@dataclasses.dataclass(frozen=True)
class AsPrior:
    """The phase as it is, its environment steps counted as prior data."""

    phase: Interact

    def __repr__(self) -> str:
        return repr(self.phase)

    def cost(self, chunk: int) -> Cost:
        return Cost(prior=self.phase.cost(chunk).online)

    def __call__(self, run: Run, world: World, data: Transition) -> tuple[Run, jax.Array]:
        return self.phase(run, world, data)


def step_environment(run: Run, world: World, chunk_ends: jax.Array) -> Run:
    """One exploring step, stored; the next episode begins where one ended."""
    env, how, t = world.environment, world.interaction, run.counters.env_steps
    action = world.agent.explore(run.agent, run.obs, draw(run.key, Purpose.EXPLORE, t), how.epsilon)
    obs, game, reward, terminated, truncated = env.step(draw(run.key, Purpose.STEP, t), run.game, action)
    truncated |= chunk_ends & how.reset_each_chunk & ~terminated
    stored = ~truncated if how.drop_cut else jnp.bool_(True)
    transition = Transition(run.obs, action, reward, obs, terminated, truncated)
    done = terminated | truncated
    fresh = env.reset(draw(run.key, Purpose.RESET, t + 1))
    obs, game = jax.tree.map(lambda a, b: jnp.where(done, a, b), fresh, (obs, game))
    run = run._replace(replay=replay.push(run.replay, transition, stored), obs=obs, game=game)
    return count(run, env_steps=1, episodes=done)


def learn(run: Run, world: World, key: jax.Array, ready: jax.Array) -> Run:
    """One gradient step on a batch from the replay, where `ready`, (), and the run has not diverged.

    A step that is not finite is not taken, nor any after it.
    """
    batch = replay.sample(run.replay, jax.random.fold_in(key, 0), world.agent.batch_size)
    agent, loss = world.agent.learn(run.agent, batch, jax.random.fold_in(key, 1))
    watched = watch(run, finite((agent, loss)) | ~ready)
    taken = ready & (watched.diverged < 0)
    agent, counters = jax.tree.map(
        lambda new, old: jnp.where(taken, new, old),
        (agent, count(run, gradient_steps=1).counters),
        (run.agent, run.counters),
    )
    return watched._replace(agent=agent, counters=counters)


def watch(run: Run, sound: jax.Array) -> Run:
    """The run, which has diverged at this environment step if it is not `sound`, (), and had not before."""
    now = (run.diverged < 0) & ~sound
    return run._replace(diverged=jnp.where(now, run.counters.env_steps, run.diverged))


def finite(tree: Any) -> jax.Array:
    """Whether all floating-point numbers of the tree are finite, ()."""
    numbers = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(x), jnp.inexact)]
    return jnp.all(jnp.stack([jnp.isfinite(x).all() for x in numbers]))


def misalign(rows: Transition) -> Transition:
    """Rows (T, ...) of whole episodes in the reference study's alignment (`episodes.realign`)."""
    after = jnp.concatenate([rows.next_obs[1:], jnp.zeros_like(rows.next_obs[:1])])
    ends = rows.terminated | rows.truncated
    after = jnp.where(ends.reshape(-1, *[1] * (after.ndim - 1)), 0.0, after)
    return rows._replace(obs=rows.next_obs, next_obs=after)


def count(run: Run, **more: Any) -> Run:
    """The run with `more` added to its counters."""
    added = {name: getattr(run.counters, name) + jnp.int32(value) for name, value in more.items()}
    return run._replace(counters=run.counters._replace(**added))


def split(phase: Phase, chunk: int, fit: int) -> tuple[Phase, ...]:
    """The phase as equal pieces of at most `chunk` environment or `fit` gradient steps, and a rest."""
    if isinstance(phase, AsPrior):  # which runs the same programs
        return split(phase.phase, chunk, fit)
    if not isinstance(phase, Interact | Fit):
        return (phase,)
    piece = chunk if isinstance(phase, Interact) else fit
    if phase.steps <= piece:
        return (phase,)
    whole, rest = divmod(phase.steps, piece)
    parts = (piece,) * whole + ((rest,) if rest else ())
    return tuple(dataclasses.replace(phase, steps=steps) for steps in parts)
