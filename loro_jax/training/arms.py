"""The arms of the suite, each a sentence of phases. To add one, write its sentence and name it in `ARMS`."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from loro_jax.agents import A2C, PPO, OnPolicy
from loro_jax.data.answers import Answers
from loro_jax.departures.arms import depart, loro_chained
from loro_jax.errors import UserError
from loro_jax.protocols import PAPER, Protocol
from loro_jax.training.guidance import (
    Answering,
    Conservative,
    HalfPrior,
    JumpStart,
    Kl,
    Proposals,
    Soft,
    Tutor,
)
from loro_jax.training.phases import (
    AsPrior,
    Collect,
    Evaluate,
    Fit,
    Forget,
    Interact,
    Keep,
    Load,
    Retarget,
    plain,
)
from loro_jax.training.population import parted
from loro_jax.types import Agent, Arm, Phase

On = TypeVar("On", bound=OnPolicy)
K = 5
"""Proposals that an arm chooses among, as in arXiv 2410.07927."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What the sentences are written with.

    Attributes:
        protocol: the protocol.
        rows: transitions of the LLM's prior data, as loaded.
        queries: questions that were put to the LLM for them; -1 where that is not known.
        prior: n, the share of the budget that prior data uses, in environment steps.
        limit: the environment's time limit.
        answers: whether every seed plays LLM episodes of its own, by a table of answers. `rows` and `prior`
            are then what tau episodes take on average.
        samples: n, answers about each text of that table; 0 where there is none.
        own_proposals: each seed takes proposals of its own from the n answers, rather than the first.
    """

    protocol: Protocol
    rows: int
    prior: int
    limit: int
    queries: int = -1
    answers: bool = False
    samples: int = 0
    own_proposals: bool = False

    @property
    def proposals(self) -> Proposals:
        """K of the answers about each text, or all of fewer."""
        return Proposals(min(K, self.samples or K), self.own_proposals)

    @property
    def load(self) -> Load | Collect:
        """The LLM's data, charged: loaded, or played by each seed."""
        if not self.answers:
            return Load(self.rows, self.prior, self.queries)
        prior, evaluations = self.protocol.prior, self.prior // self.protocol.schedule.eval_interval
        own = prior.charge == "steps"
        return Collect(prior.tau * self.limit, prior.tau, evaluations, Answering(), own)

    def fit(self, **doors: Any) -> tuple[Phase, ...]:
        """Pretraining as the protocol has it, with doors of `Fit` opened."""
        prior, agent = self.protocol.prior, self.protocol.agent
        if prior.fit_learning_rate:
            doors = {"learning_rate": prior.fit_learning_rate} | doors
        if prior.fit_polyak:
            doors = {"polyak": prior.fit_polyak} | doors
        fit = Fit(prior.fit_steps, **doors)
        if not prior.fit_target_network_frequency:
            return (fit,)
        then = Retarget(getattr(agent, "target_network_frequency"))  # noqa: B009  (SAC has none)
        return (Retarget(prior.fit_target_network_frequency), fit, then)

    def learner(self, kind: type[On]) -> On:
        """The protocol's own agent of a kind that learns from its own play; where it has none one with common
        settings and the protocol's discount, whose updates fit into an evaluation interval."""
        for agent in (self.protocol.agent, *self.protocol.others):
            if isinstance(agent, kind):
                return agent
        fits = kind.within(self.protocol.schedule.eval_interval)
        return dataclasses.replace(fits, discount=getattr(self.protocol.agent, "discount", fits.discount))

    @property
    def ppo(self) -> PPO:
        """Its PPO (`learner`)."""
        return self.learner(PPO)

    @property
    def a2c(self) -> A2C:
        """Its A2C (`learner`)."""
        return self.learner(A2C)

    @property
    def online(self) -> int:
        """N - n: environment steps left to an arm that starts from prior data."""
        return self.protocol.schedule.budget - self.prior

    @property
    def uniform(self) -> Collect:
        """A uniform policy's data: tau episodes, or as many steps as the LLM's, as prior data is charged."""
        prior, evaluations = self.protocol.prior, self.prior // self.protocol.schedule.eval_interval
        if prior.charge == "episodes":
            return Collect(prior.tau * self.limit, prior.tau, evaluations)
        return Collect(self.rows, 0, evaluations)


def pure_rl(p: Plan) -> Arm:
    return Arm("pure_rl", (Interact(p.protocol.schedule.budget),), "no prior data")


def loro(p: Plan) -> Arm:
    sentence = (p.load, *p.fit(), Forget(), Interact(p.online))
    return Arm("loro", sentence, "pretrained on LLM episodes, which are then dropped", "llm")


def mix(p: Plan) -> Arm:
    return Arm("mix", (p.load, Interact(p.online)), "no pretraining; LLM episodes in the replay", "llm")


def loro_keep(p: Plan) -> Arm:
    sentence = (p.load, *p.fit(), Interact(p.online))
    return Arm("loro_keep", sentence, "LORO, its LLM episodes kept in the replay", "llm")


def random_data(p: Plan) -> Arm:
    sentence: tuple[Phase, ...] = (
        p.uniform,
        *p.fit(),
        Forget(),
        Interact(p.online),
    )
    return Arm("random_data", sentence, "LORO on a uniform policy's episodes", "uniform")


def on_policy(p: Plan) -> Arm:
    sentence: tuple[Phase, ...] = (
        AsPrior(Interact(p.prior)),
        *p.fit(),
        Forget(),
        Interact(p.online),
    )
    return Arm("on_policy", sentence, "LORO on its own first episodes", "self")


def half_batches(p: Plan) -> Arm:
    sentence = (p.load, Interact(p.online, batches=HalfPrior()))
    return Arm("half_batches", sentence, "half of every batch is LLM episodes (RLPD's rule)", "llm")


def dqn_prior(p: Plan) -> Arm:
    sentence = (Interact(p.protocol.schedule.budget, support=p.proposals),)
    return Arm("dqn_prior", sentence, f"chooses among {p.proposals.k} of the LLM's answers (DQN-Prior)")


def dqn_prior_softmax(p: Plan) -> Arm:
    support = dataclasses.replace(p.proposals, temperature=0.1, epsilon=0.0)
    sentence = (Interact(p.protocol.schedule.budget, support=support),)
    return Arm("dqn_prior_softmax", sentence, "DQN-Prior, exploring by a softmax over the answers alone")


def dqn_prior_both(p: Plan) -> Arm:
    support = dataclasses.replace(p.proposals, temperature=0.1, epsilon=0.2)
    sentence = (Interact(p.protocol.schedule.budget, support=support),)
    return Arm("dqn_prior_both", sentence, "DQN-Prior, a fifth of its steps uniform, else by softmax")


def soft_prior(p: Plan) -> Arm:
    sentence = (Interact(p.protocol.schedule.budget, support=Soft()),)
    return Arm("soft_prior", sentence, "soft values by the LLM's shares of the actions (LINVIT)")


def tutor(p: Plan) -> Arm:
    budget = p.protocol.schedule.budget
    sentence = (Interact(budget, override=Tutor(decay_steps=budget // 2)),)
    return Arm("tutor", sentence, "the LLM's answers replace actions, ever less often")


def tutor_reuse(p: Plan) -> Arm:
    budget = p.protocol.schedule.budget
    sentence = (Interact(budget, override=Tutor(decay_steps=budget // 2, reuses=3)),)
    return Arm("tutor_reuse", sentence, "the tutor, each advice taken four times before it is drawn anew")


def jsrl(p: Plan) -> Arm:
    sentence = (Interact(p.protocol.schedule.budget, override=JumpStart(start=p.limit)),)
    return Arm("jsrl", sentence, "the LLM begins every episode, for ever fewer steps (JSRL)")


def ppo(p: Plan) -> Arm:
    sentence = (Interact(p.protocol.schedule.budget),)
    return Arm("ppo", sentence, "PPO, on its own play", agent=p.ppo)


def a2c(p: Plan) -> Arm:
    sentence = (Interact(p.protocol.schedule.budget),)
    return Arm("a2c", sentence, "A2C, on its own play", agent=p.a2c)


def kl_prior(p: Plan) -> Arm:
    penalty = Kl(prior=p.proposals)
    sentence = (Interact(p.protocol.schedule.budget, penalty=penalty),)
    says = f"PPO, kept near {p.proposals.k} of the LLM's answers (a KL term)"
    return Arm("kl_prior", sentence, says, agent=p.ppo)


def cql(p: Plan) -> Arm:
    fit = p.fit(penalty=Conservative())
    sentence = (p.load, p.uniform, *fit, Evaluate(OFFLINE_EPISODES))
    return Arm("cql", sentence, "offline on LLM and uniform episodes, conservative (CQL)", "llm")


def cql_prior(p: Plan) -> Arm:
    fit = p.fit(support=p.proposals, penalty=Conservative())
    sentence = (p.load, p.uniform, *fit, Evaluate(OFFLINE_EPISODES, support=p.proposals))
    return Arm("cql_prior", sentence, f"CQL among {p.proposals.k} of the LLM's answers (CQL-Prior)", "llm")


def llm_policy(p: Plan) -> Arm:
    return Arm("llm_policy", (), "the LLM itself, no learning", "llm")


def random_policy(p: Plan) -> Arm:
    return Arm("random_policy", (), "uniform actions, no learning", "uniform")


Sentence = Callable[[Plan], Arm]

ARMS: dict[str, Sentence] = {
    "pure_rl": pure_rl,
    "loro": loro,
    "mix": mix,
    "loro_keep": loro_keep,
    "random_data": random_data,
    "on_policy": on_policy,
    "loro_chained": loro_chained,
    "llm_policy": llm_policy,
    "random_policy": random_policy,
    "half_batches": half_batches,
    "dqn_prior": dqn_prior,
    "dqn_prior_softmax": dqn_prior_softmax,
    "dqn_prior_both": dqn_prior_both,
    "soft_prior": soft_prior,
    "tutor": tutor,
    "tutor_reuse": tutor_reuse,
    "jsrl": jsrl,
    "cql": cql,
    "cql_prior": cql_prior,
    "ppo": ppo,
    "a2c": a2c,
    "kl_prior": kl_prior,
}
FIRST = tuple(ARMS)[:9]
"""Those of the reference study, which `all` stands for."""
OFFLINE_EPISODES = 100
"""That each seed's policy plays where nothing is learned online."""
BASELINE = "pure_rl"


def names(protocol: Protocol, prior_episodes: bool = True) -> tuple[str, ...]:
    """The arms that run when none are named: all, but the chained one only where the protocol chains, and
    those on LLM episodes only where there are some."""
    chained = protocol.departures.chained_repeats > 1
    return tuple(
        n for n in FIRST if (n != "loro_chained" or chained) and (prior_episodes or not needs_llm(n))
    )


def needs_llm(name: str) -> bool:
    """Whether the arm called `name` plays, or learns from, LLM episodes."""
    sketch = Plan(PAPER, 1, PAPER.schedule.eval_interval, 1)
    return ARMS[name](sketch).source == "llm"


def consults(arm: Arm) -> bool:
    """Whether the arm looks answers up while it learns."""
    priors = [penalty for penalty in opened(arm, "penalty") if hasattr(penalty, "rows")]
    return bool(opened(arm, "support") or opened(arm, "override") or priors)


def proposes(arm: Arm) -> bool:
    """Whether the arm chooses among a model's answers, or is kept near them."""
    doors = [*opened(arm, "support"), *(getattr(x, "prior", None) for x in opened(arm, "penalty"))]
    return any(hasattr(door, "own") for door in doors)


def plays_answers(arm: Arm) -> bool:
    """Whether a phase of the arm plays by answers."""
    return any(isinstance(getattr(phase, "player", None), Answering) for phase in arm.phases)


def opened(arm: Arm, door: str) -> list[Any]:
    """The values at a door of the arm's phases."""
    values = (getattr(phase, door, None) for phase in plain(arm.phases))
    return [value for value in values if value is not None]


def charges_each(arm: Arm) -> bool:
    """Whether each seed of the arm is charged its own prior data, and learns online with what is left."""
    return any(getattr(phase, "own_charge", False) for phase in arm.phases) and not offline(arm)


def offline(arm: Arm) -> bool:
    """Whether the arm learns nothing online: a flat line."""
    return any(isinstance(phase, Evaluate) for phase in arm.phases)


def build(chosen: Sequence[str | Sentence], plan: Plan) -> tuple[Arm, ...]:
    """The arms, by name or by function, in the order given, as the protocol departs from them.

    Raises:
        UserError: a name that there is not, which lists those there are; or a name that comes twice.
    """
    if isinstance(chosen, str) or not chosen:
        raise UserError(f"arms is a list of names or functions, such as ('pure_rl', 'loro'); got {chosen!r}")
    unknown = [n for n in chosen if isinstance(n, str) and n not in ARMS]
    if unknown:
        raise UserError(f"no arm is called '{unknown[0]}'; there are: {', '.join(ARMS)}")
    arms = tuple(depart(_written(n, plan), plan.protocol) for n in chosen)
    if len({arm.name for arm in arms}) < len(arms):
        raise UserError(f"an arm is named twice: {', '.join(arm.name for arm in arms)}")
    return arms


NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
RESERVED = ("env_steps",)  # beside the arms in curves.npz


def _written(arm: str | Sentence, plan: Plan) -> Arm:
    """The arm that a name or a function stands for; a `UserError` for what is none."""
    if isinstance(arm, str):
        return ARMS[arm](plan)
    if not callable(arm):
        raise UserError(f"an arm is a name, or a function of a Plan that returns an Arm; got {arm!r}")
    found = arm(plan)
    if not isinstance(found, Arm):
        raise UserError(f"an arm's function returns an Arm; got {found!r}")
    if not isinstance(found.name, str) or not NAME.fullmatch(found.name) or found.name in RESERVED:
        raise UserError(f"an arm's name is letters, digits, _ and -, such as my_arm; got {found.name!r}")
    if not found.phases:
        raise UserError(f"{found.name} has no phases: an arm of one's own learns")
    if found.agent is not None and (isinstance(found.agent, type) or not hasattr(found.agent, "for_game")):
        raise UserError(f"{found.name}: agent must be an agent, such as DDQN(), got {found.agent!r}")
    return found


def check_agent(arm: Arm, agent: Agent, masked: bool = False, timed: bool = False, states: int = 0) -> None:
    """A `UserError` where an arm opens doors that its agent does not know.

    Args:
        masked: not all actions of the game are legal everywhere, which an agent is told as a support is.
        timed: steps are of different lengths, which it is told by discounts.
        states: of a game whose states are numbered, how many; else 0.
    """
    name = getattr(agent, "name", type(agent).__name__)
    told = "guided" in inspect.signature(agent.learn).parameters
    takes = getattr(agent, "takes", ()) if told else ()
    several = getattr(agent, "n_step", 1) > 1
    if not told and (several or getattr(agent, "learning_rate_decay_steps", 0)):
        setting = "n_step" if several else "learning_rate_decay_steps"
        raise UserError(
            f"{setting}: the agent {name} has a `learn` that takes no `guided`, by which it is told"
        )
    if getattr(agent, "on_policy", False):
        for phase in plain(arm.phases):
            if not isinstance(phase, Interact):
                raise UserError(
                    f"{name} learns from its own play alone: {arm.name} has {type(phase).__name__}"
                )
            if phase.batches is not None:
                raise UserError(f"{arm.name}: {name} takes no batch rule")
            if not getattr(phase.override, "side_by_side", phase.override is None):
                kind = type(phase.override).__name__
                raise UserError(f"{arm.name}: {name} plays several games, in which {kind} is not at home")
    for override in opened(arm, "override"):
        if why := getattr(override, "unfit", lambda *_: "")(agent, states):
            raise UserError(f"{arm.name}'s {type(override).__name__} cannot stand beside {name}: {why}")
    if masked and arm.phases and "support" not in takes:
        raise UserError(f"not all actions are legal everywhere, which the agent {name} cannot be told")
    if timed and arm.phases and not told:
        raise UserError(f"steps are of different lengths, which the agent {name} cannot be told")
    for rule in opened(arm, "batches"):
        if timed and not hasattr(rule, "rows"):
            raise UserError(f"{arm.name}'s {type(rule).__name__} does not say `rows`, places in the replay")
        if several and not hasattr(rule, "rows"):
            raise UserError(
                f"n_step: {arm.name}'s {type(rule).__name__} does not say `rows`, places in the replay"
            )
    for support in opened(arm, "support"):
        if getattr(support, "temperature", None) is not None and getattr(agent, "on_policy", False):
            raise UserError(f"{arm.name}: its support has a temperature, by which {name} does not explore")
        if getattr(support, "epsilon", None) is not None and not hasattr(agent, "epsilon"):
            raise UserError(
                f"{arm.name}: its support has an epsilon, which the agent {name} does not explore by"
            )
    if "prior" not in takes and any(hasattr(penalty, "rows") for penalty in opened(arm, "penalty")):
        raise UserError(
            f"{arm.name} has a penalty with a prior, which is told a policy's probabilities: {name} has none"
        )
    for door in ("support", "penalty", "learning_rate"):
        named = opened(arm, door)
        if named and door not in takes:
            known = ", ".join(takes) or "none"
            raise UserError(
                f"{arm.name} has a {door}, which the agent {name} does not take (of such doors it takes"
                f" {known}{'; a support is one of discrete actions' if door == 'support' else ''})"
            )
        if door == "learning_rate" and any(not 0 < x <= 1e30 for x in named):
            raise UserError(f"{arm.name}: learning_rate must be positive, at most 1e30; got {named}")


DOORS = {"support": "rows", "override": "choose", "penalty": "__call__", "batches": "sample"}
"""The doors that values stand at, and what such a value can be told to do."""


def check_doors(arm: Arm, answers: Answers | None) -> None:
    """A `UserError` where the values at an arm's doors have numbers that cannot be."""
    for door, does in DOORS.items():
        for value in opened(arm, door):
            if isinstance(value, type | int | float) or not callable(getattr(value, does, None)):
                raise UserError(f"{arm.name}: {value!r} is no {door} (loro_jax.training.guidance)")
    for phase in arm.phases:
        parted(phase)  # refuses numbers that are none
    for value in (v for door in DOORS for v in opened(arm, door) if hasattr(v, "refuses")):
        if why := value.refuses(answers):
            raise UserError(f"{arm.name}: {type(value).__name__} has {why}")
    if len({type(value) for value in opened(arm, "override")}) > 1:
        raise UserError(f"{arm.name} has overrides of several kinds, which remember different things")


def check_budget(arm: Arm, plan: Plan) -> None:
    """A `UserError` where an arm's sentence does not use the budget, whole evaluation intervals of it, or
    loads what is not there."""
    if not arm.phases:
        return
    protocol = plan.protocol
    if opened(arm, "batches") and (
        protocol.departures.alignment == "released" or protocol.departures.drop_cut
    ):
        raise UserError(f"{arm.name} counts prior rows, which the released alignment leaves some of out")
    for phase in arm.phases:
        if isinstance(phase, Keep) and (type(phase.rows) is not int or phase.rows < 1):
            raise UserError(f"{arm.name}: Keep keeps so many rows, at least one, not {phase.rows!r}")
        steps, within = getattr(phase, "steps", 1), getattr(phase, "phase", None)
        if isinstance(phase, AsPrior) and not isinstance(within, Interact):
            raise UserError(f"{arm.name}: AsPrior is of an Interact, not of {within!r}")
        least = 1 if isinstance(phase, Collect) else 0
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < least:
            raise UserError(f"{arm.name}: {type(phase).__name__} takes whole steps, not {steps!r}")
        if isinstance(phase, Collect) and phase.evaluations < 1:
            raise UserError(f"{arm.name}: {phase!r} is charged nothing; evaluations is at least 1")
        if isinstance(phase, Evaluate) and phase.episodes < 1:
            raise UserError(f"{arm.name}: Evaluate plays at least one episode")
    for i, phase in enumerate(plain(arm.phases)):
        if getattr(phase, "batches", None) is not None:
            before = arm.phases[:i]
            for dropped in (Forget, Keep):
                if any(isinstance(p, dropped) for p in before):
                    raise UserError(
                        f"{arm.name} samples prior rows after {dropped.__name__}, which dropped them"
                    )
            if not any(isinstance(p, Load | Collect) for p in before):
                raise UserError(f"{arm.name} samples prior rows, and no phase before puts any in")
    if offline(arm):
        if any(phase.cost(1).online for phase in arm.phases) or not isinstance(arm.phases[-1], Evaluate):
            raise UserError(f"{arm.name} ends with Evaluate, so that nothing of it may be online")
        return
    loads = [phase for phase in arm.phases if isinstance(phase, Load)]
    if loads and arm.source != "llm":
        raise UserError(f"{arm.name} loads LLM episodes: its Arm needs source='llm'")
    if plan.answers and protocol.departures.chained_repeats > 1 and arm.name == "loro_chained":
        raise UserError("loro_chained is the released pipeline's, on played episodes: leave --answers out")
    if charges_each(arm):
        prior = [phase for phase in arm.phases if phase.cost(1).prior]
        online = [phase for phase in arm.phases if phase.cost(1).online]
        if len(prior) > 1 or len(online) > 1 or not isinstance(arm.phases[-1], Interact):
            raise UserError(
                f"{arm.name}: where each seed is charged what its own LLM episodes take, they are all of its"
                " prior data, and it ends with Interact; --charge episodes takes other sentences"
            )
    if loads and (len(loads) > 1 or loads[0].charged != plan.prior):
        raise UserError(f"{arm.name}: prior data is loaded once, with its whole charge: plan.load")
    if loads and plan.answers:
        raise UserError(f"{arm.name}: with --answers each seed plays: plan.load in the place of Load")
    if loads and loads[0].rows > plan.rows:
        raise UserError(f"{arm.name} loads {loads[0].rows:,} rows of {plan.rows:,}: plan.load")
    interval, evaluations = protocol.schedule.eval_interval, protocol.schedule.evaluations
    costs = [phase.cost(interval) for phase in arm.phases]
    if odd := [c for c in costs if c.prior % interval or c.online % interval]:
        steps = odd[0].prior + odd[0].online
        raise UserError(f"{arm.name}: {steps} steps are not whole evaluation intervals of {interval}")
    prior, online = (sum(getattr(c, k) for c in costs) // interval for k in ("prior", "online"))
    left = evaluations - prior
    if online not in (left, left * protocol.departures.chained_repeats):
        raise UserError(
            f"{arm.name} uses {(prior + online) * interval:,} environment steps of a budget of"
            f" {protocol.schedule.budget:,}; plan.online is what is left after prior data"
        )
