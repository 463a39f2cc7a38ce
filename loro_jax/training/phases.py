"""The words that arms are written in. Each is frozen data with a pure `Run -> Run` call.

A call returns the new run and a record: the returns that stand for the phase on the learning curve,
one for each evaluation interval of the budget that it uses, (evaluations,), or an empty one. A long phase
is cut by `split` into equal pieces, so that arms share compiled programs, and progress and checkpoints come
between pieces; `Interact(a) · Interact(b) = Interact(a + b)` and `Fit(a) · Fit(b) = Fit(a + b)` are laws.

Each phase declares what it costs (`Cost`): the readings of a run's curves follow from that.
"""

# Annotations are evaluated here, so that subclasses in other modules show them to documentation.

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from loro_jax import ahead
from loro_jax.agents.base import schedules
from loro_jax.errors import UserError
from loro_jax.keys import Purpose, fold
from loro_jax.training import replay
from loro_jax.training.guidance import CLOSED, Chosen, Doors, Player, Uniform, opened, swept
from loro_jax.training.world import World, evaluate, greedy
from loro_jax.types import Among, Knowledge, Phase, Run, Transition


def nothing() -> jax.Array:
    """A record without evaluations, (0,).

    It is made within the program: an array without elements that enters `shard_map` over several devices
    from outside, as a numpy constant does, crashes jaxlib 0.11.2's compiler (docs/zero-size-constant.md).
    """
    return jnp.zeros((0,), jnp.float32)


def _said(phase: Any) -> str:
    """A phase with its steps and the doors that are open."""
    others = [f.name for f in dataclasses.fields(phase) if getattr(phase, f.name) is not None]
    return f"{type(phase).__name__}({', '.join(f'{k}={getattr(phase, k)!r}' for k in others)})"


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a phase takes of the budget, in environment steps, whole evaluation intervals.

    Attributes:
        prior: spent on prior data.
        online: spent on learning online.
    """

    prior: int = 0
    online: int = 0


@dataclasses.dataclass(frozen=True)
class Load:
    """Puts prior data into the replay.

    Its record is empty: the returns that stand for it come with the data
    (`loro_jax.training.prior.Prior.curve`).

    Attributes:
        rows: transitions that are put in.
        charged: environment steps that they take of the budget, whole intervals.
        queries: questions that were put to a language model for them; -1 where that is not known.
    """

    rows: int
    charged: int = dataclasses.field(default=0, repr=False)  # follows from the rows and the protocol
    queries: int = dataclasses.field(default=0, repr=False)  # follows from the dataset

    def cost(self, interval: int) -> Cost:
        return Cost(prior=self.charged)

    def __call__(self, run: Run, world: World, known: Knowledge) -> tuple[Run, jax.Array]:
        if world.environment.timed:
            raise UserError("played episodes do not say how long each step took; give answers in their place")
        batch = jax.tree.map(lambda x: jnp.asarray(x)[: self.rows], known.rows)
        run = run._replace(replay=replay.add(run.replay, batch, jnp.ones(self.rows, bool)))
        asked = run.counters.llm_queries
        total = jnp.where(asked < 0, asked, asked + self.queries) if self.queries >= 0 else jnp.int32(-1)
        run = count(run, prior_steps=self.rows)
        return run._replace(counters=run.counters._replace(llm_queries=total)), nothing()


@swept("support", "penalty", "batches", "learning_rate")
@dataclasses.dataclass(frozen=True)
class Fit:
    """`steps` gradient steps on the replay as it is, with the doors of `training.guidance`.

    `learning_rate`, traced, and `polyak` stand in the place of the agent's, if they are given.
    """

    steps: int
    support: Any = None
    penalty: Any = None
    batches: Any = None
    learning_rate: Any = None
    polyak: float | None = None

    def __repr__(self) -> str:
        return _said(self)

    def cost(self, interval: int) -> Cost:
        return Cost()

    def __call__(self, run: Run, world: World, known: Knowledge) -> tuple[Run, jax.Array]:
        key, steps = run.fit_key, run.counters.gradient_steps + jnp.arange(self.steps)
        doors = opened(self, run, world, known)
        if self.polyak is not None:
            agent: Any = world.agent
            world = dataclasses.replace(world, agent=dataclasses.replace(agent, polyak=self.polyak))

        def step(run: Run, t: jax.Array) -> tuple[Run, None]:
            return learn(run, world, fold(key, Purpose.FIT, t), jnp.bool_(True), known, doors), None

        return ahead.scan(step, run, steps)[0], nothing()


@dataclasses.dataclass(frozen=True)
class Forget:
    """Empties the replay: LORO's "fresh data only". The agent keeps what it learned."""

    def cost(self, interval: int) -> Cost:
        return Cost()

    def __call__(self, run: Run, world: World, known: Knowledge) -> tuple[Run, jax.Array]:
        return run._replace(replay=replay.empty(run.replay)), nothing()


@swept(whole=("rows",))
@dataclasses.dataclass(frozen=True)
class Keep:
    """Keeps so many transitions of the replay, drawn by each seed for itself without replacement, and drops
    the others: learning from a share of what was loaded.

    Attributes:
        rows: traced; more than there are keeps all.
    """

    rows: Any

    def cost(self, interval: int) -> Cost:
        return Cost()

    def __call__(self, run: Run, world: World, known: Knowledge) -> tuple[Run, jax.Array]:
        return run._replace(
            replay=replay.drawn(run.replay, fold(run.key, Purpose.KEEP), self.rows)
        ), nothing()


@dataclasses.dataclass(frozen=True)
class Retarget:
    """Changes how many gradient steps lie between copies into the target network."""

    interval: int

    def cost(self, interval: int) -> Cost:
        return Cost()

    def __call__(self, run: Run, world: World, known: Knowledge) -> tuple[Run, jax.Array]:
        return run._replace(agent=run.agent._replace(target_interval=jnp.int32(self.interval))), nothing()


@dataclasses.dataclass(frozen=True)
class Collect:
    """A player, uniform if nobody else is named, plays into the replay.

    Attributes:
        steps: environment steps at most.
        episodes: stop after so many episodes; 0 for none, which fills all `steps`.
        evaluations: evaluation intervals of the budget that this uses, hence the length of the record. With
            `episodes` equal to `evaluations` the record holds their returns; otherwise the mean return
            of the episodes that ended, repeated.
        player: who plays.
        own_charge: each seed is charged the whole intervals that its own steps take, and not the
            `evaluations`, which are what seeds take on average (`running.curves`); the record then holds
            the mean return.
    """

    steps: int
    episodes: int
    evaluations: int
    player: Player = dataclasses.field(default=Uniform(), repr=False)
    own_charge: bool = dataclasses.field(default=False, repr=False)

    def __repr__(self) -> str:
        said = [f"{k}={getattr(self, k)}" for k in ("steps", "episodes", "evaluations")]
        if self.player != Uniform():
            said += [f"player={self.player}"] + ["own_charge=True"] * self.own_charge
        return f"{type(self).__name__}({', '.join(said)})"

    def cost(self, interval: int) -> Cost:
        return Cost(prior=self.evaluations * interval)

    def stored(self, rows: Transition) -> tuple[Transition, jax.Array]:
        """The rows (steps, ...) as the replay gets them, and which of them, bool (steps,): all."""
        return rows, jnp.ones(self.steps, bool)

    def __call__(self, run: Run, world: World, known: Knowledge) -> tuple[Run, jax.Array]:
        env, used = world.environment, run.counters.collect_draws
        obs, game = env.reset(fold(run.key, Purpose.COLLECT, used))

        def step(carry: Any, t: jax.Array) -> tuple[Any, Any]:
            obs, game, guidance, ended = carry
            key = fold(run.key, Purpose.COLLECT, used + t + 1)
            wanted = ended < self.episodes if self.episodes else jnp.bool_(True)
            action, guidance = self.player(world, known, guidance, obs, jax.random.fold_in(key, 0), wanted)
            before = game
            next_obs, game, reward, terminated, truncated = env.step(jax.random.fold_in(key, 1), game, action)
            duration = env.duration(before, game)
            transition = Transition(obs, action, reward, next_obs, terminated, truncated)
            done = terminated | truncated
            fresh = env.anew(jax.random.fold_in(key, 2), game)
            obs, game = jax.tree.map(lambda a, b: jnp.where(done, a, b), fresh, (next_obs, game))
            return (obs, game, guidance, ended + done.astype(jnp.int32)), (transition, duration, ended)

        start = (obs, jax.tree.map(jnp.asarray, game), run.guidance, jnp.int32(0))
        (_, _, guidance, _), (rows, durations, episode) = jax.lax.scan(step, start, jnp.arange(self.steps))
        wanted = episode < self.episodes if self.episodes else jnp.ones(self.steps, bool)
        stored, kept = self.stored(rows)
        added = replay.add(run.replay, stored, wanted & kept, durations)
        run = run._replace(replay=added, guidance=guidance)
        each = self.episodes == self.evaluations and not self.own_charge
        bins = max(self.episodes, 1) if each else self.steps
        returns = jnp.zeros(bins).at[episode].add(jnp.where(wanted, rows.reward, 0), mode="drop")
        if not each:
            ends = wanted & (rows.terminated | rows.truncated)
            whole = jnp.zeros(bins, bool).at[episode].max(ends, mode="drop")
            mean = jnp.where(whole, returns, 0.0).sum() / jnp.maximum(whole.sum(dtype=jnp.float32), 1)
            returns = jnp.full(self.evaluations, mean)
        run = count(run, prior_steps=wanted.sum(), collect_draws=1 + self.steps)
        return run, returns[: self.evaluations]


@swept("support", "override", "penalty", "batches", "learning_rate")
@dataclasses.dataclass(frozen=True)
class Interact:
    """`steps` environment steps of learning online, whole intervals with an evaluation after each.

    The doors of `training.guidance`, which are closed unless one is named:

    Attributes:
        support: which actions there are to choose from.
        override: who may take another action than the learner.
        penalty: what is added to losses.
        batches: where batches come from.
        learning_rate: in place of the agent's. Traced.
    """

    steps: int
    support: Any = None
    override: Any = None
    penalty: Any = None
    batches: Any = None
    learning_rate: Any = None

    def __repr__(self) -> str:
        return _said(self)

    def cost(self, interval: int) -> Cost:
        return Cost(online=self.steps)

    def __call__(self, run: Run, world: World, known: Knowledge) -> tuple[Run, jax.Array]:
        how, train_frequency = world.interaction, world.agent.train_frequency
        if self.steps % how.eval_interval:
            raise ValueError(f"{self.steps} steps are not a whole number of intervals of {how.eval_interval}")

        key, doors = run.key, opened(self, run, world, known)
        at_once = getattr(world.agent, "games", 1)

        def among(obs: jax.Array) -> Among | None:
            return doors.among(world, known, obs)

        def interval(run: Run, _: None) -> tuple[Run, jax.Array]:
            steps = run.counters.env_steps + jnp.arange(0, how.eval_interval, at_once)

            def step(run: Run, t: jax.Array) -> tuple[Run, None]:
                # As they are, but known before the loop: what is drawn by them is drawn ahead.
                run = run._replace(key=key, counters=run.counters._replace(env_steps=t))
                return step_environment(run, world, t == steps[-1], known, doors), None

            def block(run: Run, t: jax.Array) -> tuple[Run, None]:
                run, _ = ahead.scan(step, run, t, unroll=train_frequency == at_once)
                ready = replay.size(run.replay) > world.agent.learning_starts
                at = fold(key, Purpose.SAMPLE, t[-1] + at_once)
                for i in range(getattr(world.agent, "gradient_steps", 1)):
                    own = jax.random.fold_in(at, i + 1) if i else at  # `learn` folds 0 and 1 into a key
                    run = learn(run, world, own, ready, known, doors)
                return run, None

            run, _ = ahead.scan(block, run, steps.reshape(-1, train_frequency // at_once))
            at = fold(run.key, Purpose.EVALUATE, run.counters.env_steps)
            value = evaluate(world, run.agent, at, among)
            if self.override is not None:
                policy = greedy(world, run.agent, among)
                memory = self.override.evaluated(run.guidance.memory, run, world, known, policy)
                run = run._replace(guidance=run.guidance._replace(memory=memory))
            run = watch(run, finite((run.agent, value)))
            return run, jnp.where(run.diverged < 0, value, jnp.nan)

        return jax.lax.scan(interval, run, None, self.steps // how.eval_interval)


@swept("support")
@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Plays `episodes` greedy episodes of what was learned offline; its record is their mean return, (1,)."""

    episodes: int
    support: Any = None

    def __repr__(self) -> str:
        return _said(self)

    def cost(self, interval: int) -> Cost:
        return Cost()

    def __call__(self, run: Run, world: World, known: Knowledge) -> tuple[Run, jax.Array]:
        doors = opened(self, run, world, known)
        how = dataclasses.replace(world.interaction, eval_episodes=self.episodes)
        played = dataclasses.replace(world, interaction=how)
        key = fold(run.key, Purpose.EVALUATE, run.counters.env_steps)
        key = jax.random.fold_in(key, run.counters.gradient_steps)  # other episodes after another `Fit`
        value = evaluate(played, run.agent, key, lambda obs: doors.among(world, known, obs))
        run = watch(run, finite((run.agent, value)))
        return run, jnp.where(run.diverged < 0, value, jnp.nan)[None]


@dataclasses.dataclass(frozen=True)
class AsPrior:
    """The phase as it is, its environment steps counted as prior data."""

    phase: Interact

    def __repr__(self) -> str:
        return repr(self.phase)

    def cost(self, interval: int) -> Cost:
        return Cost(prior=self.phase.cost(interval).online)

    def __call__(self, run: Run, world: World, known: Knowledge) -> tuple[Run, jax.Array]:
        return self.phase(run, world, known)


@swept("phase")
@dataclasses.dataclass(frozen=True)
class Remainder:
    """The phase for a seed that has budget left, each being charged its own prior data; else nothing.

    Attributes:
        phase: one interval of it.
        budget: environment steps, prior data's whole intervals among them.
    """

    phase: Interact
    budget: int

    def cost(self, interval: int) -> Cost:
        return self.phase.cost(interval)

    def __call__(self, run: Run, world: World, known: Knowledge) -> tuple[Run, jax.Array]:
        interval = world.interaction.eval_interval
        charged = -(-run.counters.prior_steps // interval) * interval
        due = run.counters.env_steps + charged < self.budget
        after, record = self.phase(run, world, known)
        kept = jax.tree.map(lambda new, old: jnp.where(due, new, old), after, run)
        return kept, jnp.where(due, record, jnp.nan)


def plain(phases: Sequence[Phase]) -> tuple[Phase, ...]:
    """The phases, those that stand within another without it: what opens doors."""
    return tuple(p.phase if isinstance(p, AsPrior | Remainder) else p for p in phases)


def step_environment(
    run: Run,
    world: World,
    interval_ends: jax.Array,
    known: Knowledge | None = None,
    doors: Doors = CLOSED,
) -> Run:
    """One exploring step, of each game if an agent plays several side by side, stored; the next episode
    begins where one ended."""
    env, how, t = world.environment, world.interaction, run.counters.env_steps
    override = doors.override
    games = getattr(world.agent, "games", 0)
    now = {k: v for k, v in schedules(world.agent, t).items() if k == "epsilon"}
    if (share := getattr(doors.support, "epsilon", None)) is not None:
        now = {"epsilon": jnp.asarray(share, jnp.float32)}

    def chosen(obs: jax.Array, t: jax.Array) -> jax.Array:
        among = doors.among(world, known, obs)
        told = () if among is None else (among,)
        return world.agent.explore(run.agent, obs, fold(run.key, Purpose.EXPLORE, t), *told, **now)

    if games:
        return step_games(run, world, chosen, interval_ends, known, doors)
    action = chosen(run.obs, t)
    if doors.asks:
        run = run._replace(guidance=doors.looked_up(world, known, run.guidance, run.obs))
    if override is not None:
        action, guidance = overridden(run, world, known, override, action)
        run = run._replace(guidance=guidance)
    obs, game, reward, terminated, truncated = env.step(fold(run.key, Purpose.STEP, t), run.game, action)
    duration = env.duration(run.game, game)
    truncated |= interval_ends & how.reset_each_interval & ~terminated
    stored = ~truncated if how.drop_cut else jnp.bool_(True)
    transition = Transition(run.obs, action, reward, obs, terminated, truncated)
    done = terminated | truncated
    fresh = env.anew(fold(run.key, Purpose.RESET, t + 1), game)
    obs, game = jax.tree.map(lambda a, b: jnp.where(done, a, b), fresh, (obs, game))
    run = run._replace(replay=replay.push(run.replay, transition, stored, duration), obs=obs, game=game)
    if override is not None:
        memory = override.stepped(run.guidance.memory, done)
        run = run._replace(guidance=run.guidance._replace(memory=memory))
    return count(run, env_steps=1, episodes=done)


def overridden(run: Run, world: World, known: Any, override: Any, action: jax.Array) -> Chosen:
    """What is done in `run.obs` in place of the learner's `action`, (*action,)."""
    found: Chosen = override.choose(
        run, world, known, action, fold(run.key, Purpose.GUIDE, run.counters.env_steps)
    )
    space = world.environment.action_space
    shape, kind = jnp.shape(found.action), jnp.result_type(found.action)
    if shape != space.shape or kind != space.dtype:
        raise UserError(
            f"{type(override).__name__} takes an action of shape {shape} and type {kind}; the"
            f" game's have shape {space.shape} and type {jnp.dtype(space.dtype)}"
        )
    return found


def step_games(
    run: Run,
    world: World,
    chosen: Callable[[jax.Array, jax.Array], jax.Array],
    interval_ends: jax.Array,
    known: Knowledge | None,
    doors: Doors,
) -> Run:
    """`step_environment` of games side by side: game g plays environment step t + g.

    Args:
        chosen: observation (*obs,), environment step () -> the action that is taken, (*action,).
    """
    env, how = world.environment, world.interaction
    steps = run.counters.env_steps + jnp.arange(len(run.obs))

    def one(obs: jax.Array, game: Any, action: jax.Array, t: jax.Array) -> Any:
        after, later, reward, terminated, truncated = env.step(fold(run.key, Purpose.STEP, t), game, action)
        truncated |= interval_ends & how.reset_each_interval & ~terminated
        row = Transition(obs, action, reward, after, terminated, truncated)
        done, duration = terminated | truncated, env.duration(game, later)
        fresh = env.anew(fold(run.key, Purpose.RESET, t + 1), later)
        return row, duration, jax.tree.map(lambda a, b: jnp.where(done, a, b), fresh, (after, later))

    if doors.asks:
        guidance, _ = jax.lax.scan(
            lambda told, obs: (doors.looked_up(world, known, told, obs), None), run.guidance, run.obs
        )
        run = run._replace(guidance=guidance)
    actions = jax.vmap(chosen)(run.obs, steps)
    if doors.override is not None:

        def advise(guidance: Any, x: Any) -> tuple[Any, jax.Array]:
            action, obs, t = x
            told = run._replace(guidance=guidance, obs=obs, counters=run.counters._replace(env_steps=t))
            action, guidance = overridden(told, world, known, doors.override, action)
            return guidance, action

        guidance, actions = jax.lax.scan(advise, run.guidance, (actions, run.obs, steps))
        run = run._replace(guidance=guidance)
    rows, durations, (obs, game) = jax.vmap(one)(run.obs, run.game, actions, steps)
    stored = replay.add(run.replay, rows, jnp.ones(len(steps), bool), durations)
    ended = (rows.terminated | rows.truncated).sum(dtype=jnp.int32)
    return count(run._replace(replay=stored, obs=obs, game=game), env_steps=len(steps), episodes=ended)


def learn(
    run: Run,
    world: World,
    key: jax.Array,
    ready: jax.Array,
    known: Knowledge | None = None,
    doors: Doors = CLOSED,
) -> Run:
    """One gradient step on a batch from the replay, where `ready`, (), and the run has not diverged.

    A step that is not finite is not taken, nor any after it.
    """
    batch, discounts = doors.sample(run, jax.random.fold_in(key, 0), world.agent)
    guided = doors.guided(run, world, known, batch, discounts)
    told = () if guided is None else (guided,)
    agent, loss = world.agent.learn(run.agent, batch, jax.random.fold_in(key, 1), *told)
    tells = getattr(world.agent, "loss_tells", False)
    watched = watch(run, finite(loss if tells else (agent, loss)) | ~ready)
    taken = ready & (watched.diverged < 0)
    agent, counters = jax.tree.map(
        lambda new, old: jnp.where(taken, new, old),
        (agent, count(run, gradient_steps=getattr(world.agent, "gradient_steps_taken", 1)).counters),
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


def count(run: Run, **more: Any) -> Run:
    """The run with `more` added to its counters."""
    added = {name: getattr(run.counters, name) + jnp.int32(value) for name, value in more.items()}
    return run._replace(counters=run.counters._replace(**added))


def split(phase: Phase, interval: int, fit: int) -> tuple[Phase, ...]:
    """The phase as equal pieces of at most `interval` environment or `fit` gradient steps, and a rest."""
    if isinstance(phase, AsPrior):  # which runs the same programs
        return split(phase.phase, interval, fit)
    if not isinstance(phase, Interact | Fit):
        return (phase,)
    piece = interval if isinstance(phase, Interact) else fit
    if phase.steps <= piece:
        return (phase,)
    whole, rest = divmod(phase.steps, piece)
    parts = (piece,) * whole + ((rest,) if rest else ())
    return tuple(dataclasses.replace(phase, steps=steps) for steps in parts)
