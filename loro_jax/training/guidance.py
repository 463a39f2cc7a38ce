"""What a language model's answers, or prior data, do beside a learner: the doors of `Interact` and `Fit`.

A *support* says which actions there are to choose from in a state, and how readily; acting and the target's
best next action keep to it. An *override* may take another action in place of the chosen one. A *penalty* is
added to each transition's loss. A *batch rule* says where batches come from. Each is a value: frozen data
whose numbers may be swept within one program (`swept`), and what is left out (None) is not in the program.

Answers are a table that all seeds share (`data.answers`); what a seed has looked up, was told and remembers
is its own (`Guidance`, in `Run.guidance`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, TypeVar
from typing import Protocol as Interface

import chex
import jax
import jax.numpy as jnp

from loro_jax.agents.base import schedules
from loro_jax.data.answers import Answers, Found, Table
from loro_jax.errors import UserError
from loro_jax.keys import Purpose, fold
from loro_jax.spaces import Discrete
from loro_jax.training import replay
from loro_jax.types import AdvisedRows, Among, Guided, Knowledge, Run, Transition

if TYPE_CHECKING:
    from loro_jax.tasks.base import Environment
    from loro_jax.training.world import World


T = TypeVar("T")


def swept(*numbers: str, whole: tuple[str, ...] = ()) -> Callable[[type[T]], type[T]]:
    """Marks the fields of a frozen dataclass that are traced: one program serves all their values.

    `numbers` are float32, or hold such fields themselves; `whole` are int32.
    """

    def register(cls: type[T]) -> type[T]:
        traced = [*numbers, *whole]
        static = [f.name for f in dataclasses.fields(cls) if f.name not in traced]  # type: ignore[arg-type]
        cls.whole_numbers = whole  # type: ignore[attr-defined]
        return jax.tree_util.register_dataclass(cls, traced, static)

    return register


def _positive(name: str, value: Any) -> str:
    """What is wrong with a number that must be positive, or nothing; None is left out."""
    return "" if value is None or 0 < value < float("inf") else f"{name} = {value}, which must be positive"


class Consulted(NamedTuple):
    """What a seed's lookups have come to, each count an int32 (). *Traced.*

    Attributes:
        consultations: texts that were looked up to act by, in LLM episodes of the seed's own and while
            learning, advice that was taken again among them; not those of gradient steps' next states, nor of
            evaluations.
        first_met: those whose row this seed had not looked up before: what a model would have been asked,
            if its answers were kept. A text that nobody asked about has the row of the nearest.
        nearest: those about texts that nobody asked about, for which the nearest text's answer stands.
        random_draws: those that could not be read, for which a uniform action stands; of a support, those of
            which some could not.
        met: the rows looked up so far, bool (T,).
    """

    consultations: jax.Array
    first_met: jax.Array
    nearest: jax.Array
    random_draws: jax.Array
    met: jax.Array


class Guidance(NamedTuple):
    """What a seed remembers of what it was told. *Traced.*

    Attributes:
        consulted: what its lookups have come to; () where there are no answers.
        memory: its override's; () where it has none.
    """

    consulted: Any = ()
    memory: Any = ()


COUNTS = ("consultations", "first_met", "nearest", "random_draws")


def begun(world: World, known: Knowledge, phases: tuple[Any, ...] = ()) -> Any:
    """`Run.guidance` of a seed that was told nothing yet; () where nobody will tell it anything."""
    overrides = [p.override for p in phases if getattr(p, "override", None) is not None]
    if known.answers is None and not overrides:
        return ()
    zero = jnp.int32(0)
    consulted: Any = ()
    if known.answers is not None:
        consulted = Consulted(zero, zero, zero, zero, jnp.zeros(known.answers.asked.shape, bool))
    return Guidance(consulted, overrides[0].begin(world, known) if overrides else ())


def counts(guidance: Any) -> dict[str, jax.Array]:
    """What is counted of lookups and advice, by name; empty where there is none."""
    if guidance == ():
        return {}
    looked_up = {} if guidance.consulted == () else {k: getattr(guidance.consulted, k) for k in COUNTS}
    return looked_up | dict(getattr(guidance.memory, "counts", {}))


def consulted(before: Consulted, found: Found, readable: jax.Array, kept: jax.Array) -> Consulted:
    """One answer more was looked up, if it is `kept`, ()."""

    def more(count: jax.Array, which: jax.Array) -> jax.Array:
        return count + (kept & which).astype(jnp.int32)

    return Consulted(
        more(before.consultations, jnp.bool_(True)),
        more(before.first_met, ~before.met[found.row]),
        more(before.nearest, ~found.own),
        more(before.random_draws, ~readable),
        before.met.at[found.row].max(kept),
    )


class Answer(NamedTuple):
    """An answer as it is acted on: the action, where it was found, and whether it could be read, ()."""

    action: jax.Array
    found: Found
    readable: jax.Array


def drawn(answers: Table, found: Found, env: Environment, obs: jax.Array, key: chex.PRNGKey) -> Answer:
    """One of the n answers about a text, each as likely; a uniform action if it could not be read, or names
    one that there is not in `obs`, (*obs,)."""
    which = jax.random.randint(jax.random.fold_in(key, 0), (), 0, answers.actions.shape[1])
    said, space, legal = answers.actions[found.row, which], env.action_space, env.allowed(obs)
    readable = said >= 0 if isinstance(space, Discrete) else ~jnp.isnan(said).any()
    if legal is not None:
        readable &= legal[said]
    uniform = env.sample(jax.random.fold_in(key, 1), obs)
    return Answer(jnp.where(readable, said, uniform).astype(space.dtype), found, readable)


class Player(Interface):
    """Who plays in `Collect`: frozen data, *static*."""

    def __hash__(self) -> int:
        """Programs are keyed by it."""

    def __call__(
        self,
        world: World,
        known: Knowledge,
        guidance: Any,
        obs: jax.Array,
        key: chex.PRNGKey,
        kept: jax.Array,
    ) -> tuple[jax.Array, Any]:
        """Observation (*obs,) -> the action, (*action,), and the seed's `Run.guidance` after it.

        `kept`, (): whether what is played is kept; what is not is not counted.
        """


@dataclasses.dataclass(frozen=True)
class Uniform:
    """Draws every action uniformly."""

    def __call__(
        self,
        world: World,
        known: Knowledge,
        guidance: Any,
        obs: jax.Array,
        key: chex.PRNGKey,
        kept: jax.Array,
    ) -> tuple[jax.Array, Any]:
        return world.environment.sample(key, obs), guidance


@dataclasses.dataclass(frozen=True)
class Answering:
    """Takes one of the language model's answers about what it sees, drawn at each step."""

    def __call__(
        self,
        world: World,
        known: Knowledge,
        guidance: Any,
        obs: jax.Array,
        key: chex.PRNGKey,
        kept: jax.Array,
    ) -> tuple[jax.Array, Any]:
        found = world.find(known, obs)
        said = drawn(known.answers, found, world.environment, obs, key)
        after = consulted(guidance.consulted, found, said.readable, kept)
        return said.action, guidance._replace(consulted=after)


def actions(world: World) -> int:
    """How many actions there are; a `UserError` where they are not discrete."""
    space = world.environment.action_space
    if not isinstance(space, Discrete):
        raise UserError("a support is one of discrete actions, which this task does not have")
    return space.n


def among_listed(known: Knowledge, n: int) -> jax.Array | None:
    """Which of n actions the texts list, bool (T, n), as many as there are in the game; None where they list
    none."""
    listed = known.answers.legal
    return None if listed is None else jnp.pad(listed, ((0, 0), (0, n - listed.shape[1])))


def there(known: Knowledge) -> jax.Array:
    """Whether each answer could be read, and is an action that its text lists, bool (T, n)."""
    said, listed = known.answers.actions, known.answers.legal
    if listed is None:
        return jnp.asarray(said >= 0)
    known_of = (said >= 0) & (said < listed.shape[1])
    return known_of & jnp.take_along_axis(listed, jnp.where(known_of, said, 0), axis=1)


def slots(
    run: Run,
    world: World,
    known: Knowledge,
    chosen: Callable[[jax.Array, chex.PRNGKey], tuple[jax.Array, jax.Array]],
) -> jax.Array:
    """How often each action was proposed about each text, int32 (T, A), for one seed.

    An answer that could not be read, or names what the text does not list, stands for an action that the seed
    draws, of those that it lists.

    Args:
        chosen: a text's answers, (n,), and the seed's key for it -> some answers, (m,), and which of them are
            proposals. It may fold any number but 1 into the key.
    """
    n = actions(world)
    key, listed = fold(run.key, Purpose.PROPOSE), among_listed(known, n)
    texts = known.answers.actions.shape[0]
    legal = jnp.ones((texts, n), bool) if listed is None else listed

    def one(said: jax.Array, legal: jax.Array, row: jax.Array) -> jax.Array:
        mine = jax.random.fold_in(key, row)
        told, taken = chosen(said, mine)
        own = jax.random.fold_in(mine, 1)
        uniform = jax.random.randint(own, told.shape, 0, n)
        if listed is not None:
            uniform = jax.vmap(lambda key: Discrete(n).sample(key, legal))(jax.random.split(own, len(told)))
        meant = jnp.where((told >= 0) & legal[told], told, uniform)
        return jnp.zeros(n, jnp.int32).at[meant].add(taken.astype(jnp.int32))

    return jax.vmap(one)(known.answers.actions, legal, jnp.arange(texts))


# Supports


class Support(Interface):
    """Which actions there are to choose from: frozen data, with numbers that are traced."""

    def __hash__(self) -> int: ...

    def rows(self, run: Run, world: World, known: Knowledge) -> Any:
        """What it says about each text of the table, arrays (T, A), for one seed; looked up by row."""

    def among(self, rows: Any) -> Among:
        """What it says about one text, or about some, of the rows that were looked up."""

    def readable(self, known: Knowledge) -> jax.Array:
        """Whether no drawn action stands for an answer about each text, bool (T,)."""


@swept("temperature", "epsilon", whole=("k",))
@dataclasses.dataclass(frozen=True)
class Proposals:
    """The first k of a text's n answers, an action as many slots as it was given answers.

    Sampled with replacement, as in arXiv 2410.07927: a softmax over slots weights each action by how often it
    was proposed. An answer that could not be read, or names what its text does not list, stands for an action
    that the seed drew once. Where texts list no actions, a slot of what is not legal in a state is closed
    there, and where all are, every legal action is open.

    Attributes:
        k: answers that are taken of each text, from 1 to n. Traced.
        own: each seed takes k of the n, drawn once for each text, rather than the first k.
        temperature: where given, the seed explores by slots' softmax of Q / temperature. Traced.
        epsilon: in the place of the agent's, (), where given: the share of uniform slots. Traced.
    """

    k: Any = 5
    own: bool = False
    temperature: Any = None
    epsilon: Any = None

    def __repr__(self) -> str:
        """As runs name it: a field that came later is there where it says something."""
        last = "" if self.epsilon is None else f", epsilon={self.epsilon!r}"
        return f"Proposals(k={self.k!r}, own={self.own!r}, temperature={self.temperature!r}{last})"

    def rows(self, run: Run, world: World, known: Knowledge) -> jax.Array:
        """Slots of each action, int32 (T, A)."""

        def chosen(said: jax.Array, key: chex.PRNGKey) -> tuple[jax.Array, jax.Array]:
            place = jnp.arange(len(said))
            if self.own:
                place = jax.random.permutation(jax.random.fold_in(key, 0), len(said))
            return said, place < self.k

        return slots(run, world, known, chosen)

    def among(self, rows: jax.Array) -> Among:
        return Among(counts=rows, temperature=self.temperature)

    def readable(self, known: Knowledge) -> jax.Array:
        said = known.answers.actions
        taken = jnp.bool_(True) if self.own else jnp.arange(said.shape[1]) < self.k
        return (~taken | there(known)).all(axis=1)

    def refuses(self, answers: Answers | None) -> str:
        n = 0 if answers is None else answers.samples
        if self.k is None or not 1 <= self.k <= n:
            return f"k = {self.k}, of {n} answers about each text"
        if self.epsilon is not None and not 0 <= self.epsilon <= 1:
            return f"epsilon = {self.epsilon}, which is no probability"
        return _positive("temperature", self.temperature)


@swept("temperature", "smoothing")
@dataclasses.dataclass(frozen=True)
class Soft:
    """The model's probabilities of the actions, by which values are soft (LINVIT, arXiv 2402.16181).

    V(s) = T log sum_a p(a|s) exp(Q(s, a) / T), acted on by p exp(Q / T): the soft counterpart of keeping to
    proposals. p is the model's score of each action if the table has scores, else the share of its answers,
    `smoothing` answers added to each action.

    Attributes:
        temperature: T, in units of return. Traced.
        smoothing: traced.
        scored: take the table's scores.
    """

    temperature: Any = 0.1
    smoothing: Any = 0.5
    scored: bool = False

    def rows(self, run: Run, world: World, known: Knowledge) -> jax.Array:
        """Log-probabilities, (T, A)."""
        if self.scored:
            if known.answers.log_probs is None:
                raise UserError(
                    "these answers were not scored: survey again with --score, or leave scored out"
                )
            return known.answers.log_probs
        said, n = known.answers.actions, actions(world)
        given = (said[..., None] == jnp.arange(n)).sum(axis=1).astype(jnp.float32) + self.smoothing
        if (listed := among_listed(known, n)) is not None:
            given = jnp.where(listed, given, 0.0)
        return jnp.log(given / given.sum(axis=1, keepdims=True))

    def among(self, rows: jax.Array) -> Among:
        temperature = jnp.asarray(self.temperature, jnp.float32)
        return Among(log_weights=rows, temperature=temperature, soft=temperature)

    def readable(self, known: Knowledge) -> jax.Array:
        return jnp.ones(known.answers.asked.shape, bool)  # an answer that is none has no share

    def refuses(self, answers: Answers | None) -> str:
        return _positive("temperature", self.temperature) or _positive("smoothing", self.smoothing)


# Overrides


class Chosen(NamedTuple):
    """What an override decides: the action that is taken, (*action,), and the seed's guidance after it."""

    action: jax.Array
    guidance: Any


Greedy = Callable[[jax.Array], jax.Array]
"""Observation (*obs,) -> the action that a learner takes where it does not explore, (*action,)."""


class Override(Interface):
    """Who may take another action than the learner: frozen data, with numbers that are traced."""

    def __hash__(self) -> int: ...

    def begin(self, world: World, known: Knowledge) -> Any:
        """What it remembers, before the first step; its `counts`, by name, are reported."""

    def choose(
        self, run: Run, world: World, known: Knowledge, action: jax.Array, key: chex.PRNGKey
    ) -> Chosen:
        """In place of the learner's `action`, in `run.obs`, at `run.counters.env_steps`."""

    def stepped(self, memory: Any, done: jax.Array) -> Any:
        """What it remembers after the step, which ended an episode if `done`, ()."""

    def evaluated(self, memory: Any, run: Run, world: World, known: Knowledge, greedy: Greedy) -> Any:
        """What it remembers after an evaluation; `greedy` is the learner's policy in it."""

    def entered(self, memory: Any) -> AdvisedRows | None:
        """Which rows of a rollout were not the policy's own, as its loss is to see them. May be left out."""

    def unfit(self, agent: Any, states: int) -> str:
        """Why it cannot stand beside an agent in a game of so many numbered states; or nothing. May be left
        out. One that is `side_by_side` may stand beside agents that play several games: it is asked for each
        of them in turn, and not told of steps."""


class Advised(NamedTuple):
    """What a tutor's student remembers. *Traced.*

    Attributes:
        advice: the action that was advised last, by text or state, (T, *action).
        left: how often it may be taken again, int32 (T,); with the rule "decay" how often it was taken since
            it was drawn, with "q_change" whether there is any.
        draws, reuses: advice that was drawn from the answers, and that was taken again, ().
        agreements: advice that was the student's own action, ().
        values: what advised actions were worth to the student as they were drawn, (T,), of the rule
            "q_change"; else ().
        chances: of each row of an on-policy agent's rollout the chance with which the tutor was asked, where
            its action is the tutor's, and 0 else, (rollout,); () where nothing depends on it.
    """

    advice: jax.Array
    left: jax.Array
    draws: jax.Array
    reuses: jax.Array
    agreements: jax.Array
    values: Any = ()
    chances: Any = ()

    @property
    def counts(self) -> dict[str, jax.Array]:
        return {
            "advice_draws": self.draws,
            "advice_reuses": self.reuses,
            "advice_agreements": self.agreements,
        }


ENTRIES = ("naive", "mixture", "masked", "cloned")
RULES = ("budget", "decay", "q_change")


@swept("first", "last", "share", "weight", whole=("decay_steps", "reuses"))
@dataclasses.dataclass(frozen=True)
class Tutor:
    """An answer replaces the student's action with a probability that falls (arXiv 2509.08329).

    P = P0 - (t / theta) (P0 - P1) after t environment steps of learning online, P1 from theta on. Advice
    about a text is drawn from its answers, and may be taken again before it is drawn anew, by one of three
    rules: so many times ("budget", the study's); with probability share^n after n times ("decay"), or while
    the student values it above what it did as it was drawn ("q_change": an action value that grew per step),
    both after Zhu et al. (2023, doi 10.1007/s10458-022-09595-1), whose formulas were not found.

    Off-policy agents store what was done. In the loss of a policy, which takes its actions for its own,
    advice enters in one of four ways: "naive", as if the policy had drawn it; "mixture", as drawn from
    (1 - P) pi + P at what was advised; "masked", it does not enter the policy's objective, the critic's
    alone; "cloned", masked, and `weight` times its log-probability is made great.

    Attributes:
        first: P0. Traced.
        last: P1. Traced.
        decay_steps: theta, in environment steps. Traced.
        reuses: of the rule "budget"; 0 draws anew at each consultation. Traced.
        rule: when advice is taken again.
        share: of the rule "decay". Traced.
        by: whether advice is kept by text, or by the exact state of a game whose states are numbered.
        enters: how a policy's loss sees advice.
        weight: of cloning. Traced.
    """

    first: Any = 1.0
    last: Any = 0.1
    decay_steps: Any = 5000
    reuses: Any = 0
    rule: Literal["budget", "decay", "q_change"] = "budget"
    share: Any = 0.5
    by: Literal["text", "state"] = "text"
    enters: Literal["naive", "mixture", "masked", "cloned"] = "naive"
    weight: Any = 1.0

    side_by_side: ClassVar[bool] = True
    """It knows what to do where a seed plays several games."""

    def __repr__(self) -> str:
        """As runs name it: a field that came later is there where it says something."""
        every = dataclasses.fields(self)
        said = [f for f in every[:4]] + [f for f in every[4:] if getattr(self, f.name) != f.default]
        return f"Tutor({', '.join(f'{f.name}={getattr(self, f.name)!r}' for f in said)})"

    def begin(self, world: World, known: Knowledge) -> Advised:
        env, agent = world.environment, world.agent
        many = env.states if self.by == "state" else known.answers.asked.shape[0]
        zero, space = jnp.int32(0), env.action_space
        advice = jnp.zeros((many, *space.shape), space.dtype)
        values = jnp.zeros(many, jnp.float32) if self.rule == "q_change" else ()
        chances = () if self.enters == "naive" else jnp.zeros(agent.replay_capacity, jnp.float32)
        return Advised(advice, jnp.zeros(many, jnp.int32), zero, zero, zero, values, chances)

    def probability(self, t: jax.Array) -> jax.Array:
        """Of being consulted at step t, ()."""
        share = jnp.clip(t.astype(jnp.float32) / jnp.asarray(self.decay_steps, jnp.float32), 0, 1)
        return self.first - share * (self.first - self.last)

    def choose(
        self, run: Run, world: World, known: Knowledge, action: jax.Array, key: chex.PRNGKey
    ) -> Chosen:
        before: Advised = run.guidance.memory
        env, chance = world.environment, self.probability(run.counters.env_steps)
        asks = jax.random.uniform(jax.random.fold_in(key, 0)) < chance
        found = world.find(known, run.obs)
        said = drawn(known.answers, found, env, run.obs, jax.random.fold_in(key, 1))
        at = found.row
        if self.by == "state":
            at = run.obs if env.indexed else run.obs.argmax().astype(jnp.int32)
        kept, left = before.advice[at], before.left[at]
        if self.rule == "q_change":
            now = world.agent.values_of(run.agent, run.obs)  # type: ignore[attr-defined]  # else it is `unfit`
            again = (left > 0) & (now[kept] > before.values[at])
        elif self.rule == "decay":
            lot = jax.random.uniform(jax.random.fold_in(key, 2))
            times = (left - 1).astype(jnp.float32)
            again = (left > 0) & (lot < jnp.asarray(self.share, jnp.float32) ** times)
        else:
            again = left > 0
        # Texts that nobody asked about share a row: what was advised in one may not be there in another.
        if (legal := env.allowed(run.obs)) is not None:
            again &= legal[kept]
        advice = jnp.where(again, kept, said.action)
        if self.rule == "budget":
            left = jnp.where(again, left - 1, jnp.int32(self.reuses))
        else:
            left = jnp.where(again, left + 1, 1)
        same = (advice == action).all()

        def more(count: jax.Array, which: jax.Array) -> jax.Array:
            return count + which.astype(jnp.int32)

        row = jnp.where(asks, at, before.left.shape[0])  # out of range: dropped
        values, chances = before.values, before.chances
        if self.rule == "q_change":
            values = values.at[row].set(jnp.where(again, values[at], now[advice]), mode="drop")
        if self.enters != "naive":
            place = run.counters.env_steps % chances.shape[0]
            chances = chances.at[place].set(jnp.where(asks, chance, 0.0))
        memory = Advised(
            before.advice.at[row].set(advice, mode="drop"),
            before.left.at[row].set(left, mode="drop"),
            more(before.draws, asks & ~again),
            more(before.reuses, asks & again),
            more(before.agreements, asks & same),
            values,
            chances,
        )
        looked_up = consulted(run.guidance.consulted, found, said.readable | again, asks)
        return Chosen(jnp.where(asks, advice, action), Guidance(looked_up, memory))

    def entered(self, memory: Advised) -> AdvisedRows | None:
        """Which rows of a rollout were advised, as a policy's loss is to see them; None if it is not to."""
        return None if self.enters == "naive" else AdvisedRows(memory.chances, self.enters, self.weight)

    def refuses(self, answers: Answers | None) -> str:
        if not (0 <= self.first <= 1 and 0 <= self.last <= 1):
            return f"first = {self.first} and last = {self.last}, which are no probabilities"
        if self.rule not in RULES or self.enters not in ENTRIES or self.by not in ("text", "state"):
            return (
                f"rule = {self.rule!r}, enters = {self.enters!r}, by = {self.by!r}; there are the rules"
                f" {', '.join(RULES)}, the ways to enter {', '.join(ENTRIES)}, and text and state"
            )
        if not 0 <= self.share <= 1:
            return f"share = {self.share}, which is no probability"
        if not 0 <= self.weight < float("inf"):
            return f"weight = {self.weight}"
        return f"reuses = {self.reuses}" if self.reuses < 0 else _positive("decay_steps", self.decay_steps)

    def unfit(self, agent: Any, states: int) -> str:
        """Why it cannot stand beside an agent in a game of so many numbered states; or nothing."""
        if self.rule == "q_change" and not hasattr(agent, "values_of"):
            return "its rule q_change needs action values (`values_of`)"
        if self.enters != "naive" and not getattr(agent, "on_policy", False):
            return f"enters = {self.enters!r} is for agents that learn from their own play"
        return "by = 'state' is for games of numbered states" if self.by == "state" and not states else ""

    def stepped(self, memory: Advised, done: jax.Array) -> Advised:
        return memory

    def evaluated(self, memory: Advised, run: Run, world: World, known: Knowledge, greedy: Greedy) -> Advised:
        return memory


class Started(NamedTuple):
    """What a learner that is started by a guide remembers. *Traced.*

    Attributes:
        step: of the episode, counted from 0, ().
        guided: h, steps of an episode that the guide takes, ().
        best: the best mean return of guide and learner together so far, ().
        guide_steps: steps that the guide took, ().
    """

    step: jax.Array
    guided: jax.Array
    best: jax.Array
    guide_steps: jax.Array

    @property
    def counts(self) -> dict[str, jax.Array]:
        return {"guide_steps": self.guide_steps, "guided_at_the_end": self.guided}


@swept("tolerance", whole=("start", "stages"))
@dataclasses.dataclass(frozen=True)
class JumpStart:
    """The guide, one of the answers about each text, takes the first h steps of episodes (arXiv 2204.02372).

    h begins at `start` and falls by a `stages`-th of it after each evaluation in which guide and learner
    together are as good as they ever were, less `tolerance`; they play as many further episodes for that as
    the evaluation has, which nobody is charged. An episode that began in a phase without a guide counts from
    the first phase with one.

    Attributes:
        start: H, in environment steps. Traced.
        stages: traced.
        tolerance: as a share of the best mean return's size. Traced.
    """

    start: Any = 100
    stages: Any = 10
    tolerance: Any = 0.0

    def begin(self, world: World, known: Knowledge) -> Started:
        return Started(jnp.int32(0), jnp.int32(self.start), jnp.float32(-jnp.inf), jnp.int32(0))

    def choose(
        self, run: Run, world: World, known: Knowledge, action: jax.Array, key: chex.PRNGKey
    ) -> Chosen:
        before: Started = run.guidance.memory
        guides = before.step < before.guided
        found = world.find(known, run.obs)
        said = drawn(known.answers, found, world.environment, run.obs, key)
        looked_up = consulted(run.guidance.consulted, found, said.readable, guides)
        memory = before._replace(guide_steps=before.guide_steps + guides.astype(jnp.int32))
        return Chosen(jnp.where(guides, said.action, action), Guidance(looked_up, memory))

    def refuses(self, answers: Answers | None) -> str:
        if self.start < 0 or self.tolerance < 0:
            return f"start = {self.start} and tolerance = {self.tolerance}, which must not be negative"
        return "" if self.stages >= 1 else f"stages = {self.stages}"

    def stepped(self, memory: Started, done: jax.Array) -> Started:
        return memory._replace(step=jnp.where(done, 0, memory.step + 1))

    def evaluated(self, memory: Started, run: Run, world: World, known: Knowledge, greedy: Greedy) -> Started:
        together = mixed_return(run, world, known, memory.guided, greedy)
        good = together >= memory.best - self.tolerance * jnp.abs(memory.best)
        good |= jnp.isneginf(memory.best)
        fall = jnp.maximum(jnp.int32(self.start) // jnp.int32(self.stages), 1)
        return memory._replace(
            guided=jnp.where(good, jnp.maximum(memory.guided - fall, 0), memory.guided),
            best=jnp.maximum(memory.best, together),
        )


def mixed_return(run: Run, world: World, known: Knowledge, guided: jax.Array, greedy: Greedy) -> jax.Array:
    """Mean undiscounted return of evaluation episodes whose first `guided` steps the answers play, (); of one
    where evaluations are exact."""
    env = world.evaluation
    key = fold(run.key, Purpose.EVALUATE_GUIDED, run.counters.env_steps)

    def episode(key: chex.PRNGKey) -> jax.Array:
        obs, state = env.reset(jax.random.fold_in(key, 0))

        def step(carry: Any) -> Any:
            obs, state, total, _, t = carry
            at = jax.random.fold_in(key, t)
            said = drawn(known.answers, world.find(known, obs), env, obs, jax.random.fold_in(at, 1)).action
            action = jnp.where(t <= guided, said, greedy(obs).astype(said.dtype))
            obs, state, reward, terminated, truncated = env.step(jax.random.fold_in(at, 2), state, action)
            return obs, state, total + reward, terminated | truncated, t + 1

        start = (obs, jax.tree.map(jnp.asarray, state), jnp.float32(0), jnp.bool_(False), jnp.int32(1))
        return jax.lax.while_loop(lambda carry: ~carry[3], step, start)[2]

    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(max(world.interaction.eval_episodes, 1)))
    return jax.vmap(episode)(keys).mean()


# Penalties


class Penalty(Interface):
    """What is added to a transition's loss: frozen data, with numbers that are traced."""

    def __hash__(self) -> int: ...

    def __call__(
        self, q: jax.Array, t: Transition, among: Among | None, told: Among | None = None
    ) -> jax.Array:
        """Action values (A,) in the transition's state, of agents with a policy its log-probabilities, the
        actions that there are in it, and what the penalty's own prior says of it -> ().

        A penalty with a prior has `rows` and `among`, as a `Support` has them; `told` is None for others.
        """

    def drawn(self, values: jax.Array, own: jax.Array) -> jax.Array:
        """Of continuous actions: values of drawn ones less their log-densities (S,), `samples` of each of
        three kinds (`SAC.penalised`), and the value of the data's own, () -> (). May be left out."""


@swept("weight")
@dataclasses.dataclass(frozen=True)
class Conservative:
    """CQL's penalty: weight (logsumexp_a Q(s, a) - Q(s, a_data)) (arXiv 2006.04779, equation 4).

    The sum is over the actions that there are; the data's own is one of them, without which the penalty has
    no lower bound. Of continuous actions it is over drawn ones, importance-weighted.

    Attributes:
        weight: traced.
        samples: of continuous actions, so many each of the policy in s, of that in s', and uniform ones.
    """

    weight: Any = 1.0
    samples: int = 10

    def __call__(
        self, q: jax.Array, t: Transition, among: Among | None, told: Among | None = None
    ) -> jax.Array:
        if among is not None:
            inside = among.allowed | (jnp.arange(q.shape[0]) == t.action)
            q = jnp.where(inside, q, -jnp.inf)
        return self.weight * (jax.nn.logsumexp(q) - q[t.action])

    def refuses(self, answers: Answers | None) -> str:
        if not 0 <= self.weight < float("inf"):
            return f"weight = {self.weight}"
        return "" if self.samples >= 1 else f"samples = {self.samples}"

    def drawn(self, values: jax.Array, own: jax.Array) -> jax.Array:
        return self.weight * (jax.nn.logsumexp(values) - own)


@swept("weight", "prior", "smoothing")
@dataclasses.dataclass(frozen=True)
class Kl:
    """Keeps a policy near the language model's answers, weighted (arXiv 2410.07927's GFlan-Prior, whose
    estimator is not published: both below are ours).

    "forward": sum_a pi(a|s) log(pi(a|s) / p(a|s)), the divergence KL(pi || p), exactly, where p gives each
    action its share of the proposals, `smoothing` of them added to each that there is. "reverse": the mean of
    -log pi over the proposals, which is KL(p || pi) but for a constant, and needs no smoothing.

    Attributes:
        weight: traced.
        prior: which of the answers are the proposals: `Proposals`, or another support that counts.
        smoothing: traced.
        estimator: which of the two.
    """

    weight: Any = 0.1
    prior: Any = Proposals()
    smoothing: Any = 0.5
    estimator: Literal["forward", "reverse"] = "forward"

    def rows(self, run: Run, world: World, known: Knowledge) -> jax.Array:
        """How often each action was proposed, int32 (T, A)."""
        rows: jax.Array = self.prior.rows(run, world, known)
        if not jnp.issubdtype(rows.dtype, jnp.integer):
            raise UserError(f"Kl: prior = {self.prior!r} does not count answers, as Proposals does")
        return rows

    def readable(self, known: Knowledge) -> jax.Array:
        """Whether no drawn action stands for an answer about each text, bool (T,)."""
        told: jax.Array = self.prior.readable(known)
        return told

    def among(self, rows: jax.Array) -> Among:
        return Among(counts=rows)

    def __call__(
        self, log_probs: jax.Array, t: Transition, among: Among | None, told: Among | None = None
    ) -> jax.Array:
        """The policy's log-probabilities (A,), and what the answers say, -> ()."""
        assert told is not None and told.counts is not None
        legal = jnp.ones(log_probs.shape, bool) if among is None else among.allowed
        counts = jnp.where(legal, told.counts, 0).astype(jnp.float32)
        # What the policy cannot do is left out, also of gradients.
        logs = jnp.where(legal, log_probs, 0.0)
        if self.estimator == "reverse":
            return -self.weight * (counts * logs).sum() / jnp.maximum(counts.sum(), 1.0)
        given = jnp.where(legal, counts + self.smoothing, 1.0)
        prior = jnp.log(given / jnp.where(legal, given, 0.0).sum())
        return self.weight * jnp.where(legal, jnp.exp(logs) * (logs - prior), 0.0).sum()

    def refuses(self, answers: Answers | None) -> str:
        if not 0 <= self.weight < float("inf"):
            return f"weight = {self.weight}"
        if self.estimator not in ("forward", "reverse"):
            return f"estimator = {self.estimator!r}; there are: forward, reverse"
        if not callable(getattr(self.prior, "rows", None)):
            return f"prior = {self.prior!r}, which proposes nothing"
        if isinstance(self.prior, Proposals) and (self.prior.temperature, self.prior.epsilon) != (None, None):
            return f"prior = {self.prior!r}, whose temperature or epsilon no penalty explores by"
        refuses = getattr(self.prior, "refuses", lambda _: "")
        return refuses(answers) or _positive("smoothing", self.smoothing)


# Batch rules


class Batches(Interface):
    """Where a batch comes from: frozen data."""

    def __hash__(self) -> int: ...

    def sample(self, run: Run, key: chex.PRNGKey, size: int) -> Transition:
        """(size, ...) transitions."""

    def rows(self, run: Run, key: chex.PRNGKey, size: int) -> jax.Array:
        """The places of these in the replay, (size,). May be left out, if no agent takes several steps."""


@swept()
@dataclasses.dataclass(frozen=True)
class HalfPrior:
    """Half of each batch is prior data, half what was played since (RLPD, arXiv 2302.02948, section 4.1).

    Prior data lies at the replay's beginning, which must not have been overwritten. Of an odd size prior data
    gets the smaller half; before anything was played it gets all.
    """

    def sample(self, run: Run, key: chex.PRNGKey, size: int) -> Transition:
        return replay.at(run.replay, self.rows(run, key, size))

    def rows(self, run: Run, key: chex.PRNGKey, size: int) -> jax.Array:
        prior = jnp.minimum(run.counters.prior_steps, run.replay.insertions)
        played = run.replay.insertions - prior
        half = jnp.arange(size) < size // 2
        first = jnp.where(half | (played == 0), 0, prior)
        many = jnp.where(half | (played == 0), jnp.maximum(prior, 1), played)
        many = jnp.where(half & (prior == 0), jnp.maximum(played, 1), many)
        return first + jax.random.randint(key, (size,), 0, many)


@dataclasses.dataclass(frozen=True)
class Doors:
    """The doors of a phase, as its program has them: looked up once for all of its steps.

    Attributes:
        support, override, penalty, batches: None where there is none.
        learning_rate: in place of the agent's own, (); None for that.
        rows: what the support says about each text; of a world of numbered states, about each state.
        priors: what the penalty's prior says, likewise; () where it has none.
    """

    support: Any = None
    penalty: Any = None
    batches: Any = None
    learning_rate: Any = None
    rows: Any = ()
    priors: Any = ()
    override: Any = None

    def among(self, world: World, known: Any, obs: jax.Array) -> Among | None:
        """The actions that there are in `obs`, (*obs,): the legal ones, and of them those that the support
        has, if it has one."""
        legal = world.environment.allowed(obs)
        if self.support is None:
            return None if legal is None else Among(counts=legal.astype(jnp.int32))
        row = obs if world.environment.indexed else world.find(known, obs).row
        found: Among = self.support.among(jax.tree.map(lambda x: x[row], self.rows))
        return found if legal is None else found.within(legal)

    def chooses(self, world: World) -> bool:
        """Whether there are not all actions in all states."""
        return self.support is not None or world.environment.legal is not None

    @property
    def asks(self) -> bool:
        """Whether what is said about each state that is played is looked up."""
        return self.support is not None or hasattr(self.penalty, "rows")

    def looked_up(self, world: World, known: Any, guidance: Any, obs: jax.Array) -> Any:
        """The seed's guidance after it was told which actions there are in `obs`, (*obs,), or after a
        penalty's prior is asked about it."""
        found = world.find(known, obs)
        readable = (self.penalty if self.support is None else self.support).readable(known)[found.row]
        after = consulted(guidance.consulted, found, readable, jnp.bool_(True))
        return guidance._replace(consulted=after)

    def guided(
        self, run: Run, world: World, known: Any, batch: Transition, discounts: jax.Array | None
    ) -> Guided | None:
        """What a gradient step on `batch` is told; `discounts` (B,) if its rows stand for several."""
        env_steps = run.counters.env_steps
        rate = schedules(world.agent, env_steps, self.learning_rate).get("learning_rate", self.learning_rate)
        chooses, entered = self.chooses(world), getattr(self.override, "entered", None)
        advised = None if entered is None else entered(run.guidance.memory)
        if not chooses and all(told is None for told in (self.penalty, rate, discounts, advised)):
            return None
        each = jax.vmap(lambda obs: self.among(world, known, obs))
        on_policy, prior = getattr(world.agent, "on_policy", False), hasattr(self.penalty, "rows")
        return Guided(
            each(batch.obs) if chooses and (on_policy or self.penalty is not None) else None,
            each(batch.next_obs) if chooses and not on_policy else None,
            self.penalty,
            rate,
            discounts,
            jax.vmap(lambda obs: self.prior(world, known, obs))(batch.obs) if prior else None,
            advised,
        )

    def prior(self, world: World, known: Any, obs: jax.Array) -> Among:
        """What the penalty has its prior say in `obs`, (*obs,)."""
        row = obs if world.environment.indexed else world.find(known, obs).row
        told: Among = self.penalty.among(jax.tree.map(lambda x: x[row], self.priors))
        return told

    def sample(self, run: Run, key: chex.PRNGKey, agent: Any) -> tuple[Transition, jax.Array | None]:
        """A batch of an agent, (batch_size, ...); if its rows stand for several steps, what they discount the
        value of their next states by, (batch_size,)."""
        size, steps = agent.batch_size, getattr(agent, "n_step", 1)
        timed = isinstance(run.replay.durations, jax.Array)
        if getattr(agent, "on_policy", False):  # all that was played since, in its order
            rollout, order = run.replay.storage, jnp.arange(size)
            return rollout, replay.several(run.replay, order, 1, agent.discount)[1] if timed else None
        if steps > 1 or timed:
            if self.batches is None:
                rows = replay.rows(run.replay, key, size)
            else:
                rows = self.batches.rows(run, key, size)
            return replay.several(run.replay, rows, steps, agent.discount)
        if self.batches is None:
            return replay.sample(run.replay, key, size), None
        return self.batches.sample(run, key, size), None


CLOSED = Doors()


class _Keyed(NamedTuple):
    key: chex.PRNGKey


def keyed(key: chex.PRNGKey) -> Run:
    """What a support reads of a seed's run, which is its key alone, where there is no run."""
    return _Keyed(key)  # type: ignore[return-value]


def opened(phase: Any, run: Run, world: World, known: Knowledge) -> Doors:
    """A phase's doors, for one seed."""
    support = getattr(phase, "support", None)
    doors = ("override", "penalty", "batches", "learning_rate")
    others = {door: getattr(phase, door, None) for door in doors}

    def said(by: Any) -> Any:
        """What it says about each text, or each state."""
        if not hasattr(by, "rows"):
            return ()
        rows = by.rows(run, world, known)
        if world.environment.indexed:
            numbers = jnp.arange(world.environment.states)
            at = jax.vmap(lambda state: world.find(known, state).row)(numbers)
            rows = jax.tree.map(lambda x: x[at], rows)
        return rows

    return Doors(support, rows=said(support), priors=said(others["penalty"]), **others)
