"""Protocols: all that is fixed before the first seed is drawn, in four groups and the game's parameters.

A protocol has a name and a version, `standard@1`, and never changes once results were published under it: a
better setting is `standard@2`, and `standard` means the newest. Every field of a group is a command-line
flag; names are unique over all groups, so that flags stay short. All of it is static.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import tyro

from loro_jax import agents
from loro_jax.agents import DDQN, SAC, Learner
from loro_jax.departures.settings import Departures
from loro_jax.errors import UserError, require
from loro_jax.validation import checked

Parameters = tuple[tuple[str, Any], ...]


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How long a seed trains, and how it is evaluated."""

    budget: int = 30_000
    """Environment steps of each seed, prior data included as `charge` says; a whole number of evaluation
    intervals."""
    eval_interval: int = 200
    """Environment steps between evaluations."""
    eval_episodes: int = 1
    """Greedy episodes per evaluation, in an environment of their own; 0 takes the policy's expected return,
    where the game has exact ones (`Environment.exact`)."""
    eval_limit: int = 0
    """Steps after which an evaluation episode is cut; 0 for the task's own limit, at which training and prior
    data are cut whatever this says."""
    reset_each_interval: bool = True
    """An evaluation interval begins with a fresh episode, cutting (never terminating) the one before."""

    def __post_init__(self) -> None:
        checked(self)
        for name in ("budget", "eval_interval"):
            require(getattr(self, name) >= 1, name, "must be at least 1")
        require(self.eval_episodes >= 0, "eval_episodes", "must not be negative")
        require(0 <= self.eval_limit < 2**31, "eval_limit", "must lie between 0 and 2**31 - 1")
        require(self.eval_episodes <= 1_000_000, "eval_episodes", "must be at most 1,000,000")
        require(self.budget < 2**31, "budget", "must be less than 2**31, as steps are counted")
        near = max(1, round(self.budget / self.eval_interval)) * self.eval_interval
        whole = f"must be a multiple of {self.eval_interval}, such as {near}"
        require(self.budget % self.eval_interval == 0, "budget", whole)

    @property
    def evaluations(self) -> int:
        """On every learning curve."""
        return self.budget // self.eval_interval


@dataclasses.dataclass(frozen=True)
class PriorUse:
    """What is done with prior data, and what it costs."""

    tau: int = 10
    """Prior episodes an arm starts from."""
    fit_steps: int = 3000
    """K: gradient steps of pretraining on the prior data."""
    fit_learning_rate: float = 0.0
    """Adam's learning rate while pretraining; 0 for the agent's."""
    fit_target_network_frequency: int = 0
    """Gradient steps between copies into the target network while pretraining; 0 for the agent's."""
    fit_polyak: float = 0.0
    """Share that targets move to the networks while pretraining, each time that they are moved
    (`fit_target_network_frequency`; SAC: each gradient step); 0 for the agent's."""
    llm: Literal["episodes", "answers"] = "episodes"
    """Where LLM episodes come from when neither --episodes nor --answers names any: "episodes" are the task's
    own, the same for all seeds; with "answers" every seed plays some, by the task's table."""
    charge: Literal["episodes", "steps"] = "episodes"
    """What prior data costs: "episodes" one evaluation interval for each prior episode, as the study plots
    it; "steps" the environment steps it took, rounded up to whole intervals."""

    def __post_init__(self) -> None:
        checked(self)
        require(1 <= self.tau <= 1_000_000, "tau", "must lie between 1 and 1,000,000")
        for name in ("fit_steps", "fit_target_network_frequency"):
            require(0 <= getattr(self, name) < 2**31, name, "must lie between 0 and 2**31 - 1")
        require(0 <= self.fit_learning_rate <= 1e30, "fit_learning_rate", "must lie between 0 and 1e30")
        require(0 <= self.fit_polyak < 1, "fit_polyak", "must lie in [0, 1)")


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Settings that every arm shares. The reference study is arXiv 2505.10861 with its released code.

    Raises:
        UserError: a setting that means nothing, or two that do not go together.
    """

    name: Annotated[str, tyro.conf.Suppress]
    """Name and version of the protocol that these settings started from, such as standard@1."""
    schedule: Schedule = dataclasses.field(default=Schedule())
    agent: tyro.conf.AvoidSubcommands[Learner] = dataclasses.field(default=DDQN())
    """Of every arm that brings none of its own."""
    prior: PriorUse = dataclasses.field(default=PriorUse())
    departures: Departures = dataclasses.field(default=Departures())
    game: Annotated[Parameters, tyro.conf.Suppress] = ()
    """Parameters that the task's game is made with, by name."""
    others: Annotated[tuple[Learner, ...], tyro.conf.Suppress] = ()
    """Tuned agents of other kinds, for arms that bring one; a run says what such an arm learned with."""

    def __post_init__(self) -> None:
        for name, kind in (("schedule", Schedule), ("prior", PriorUse), ("departures", Departures)):
            if not isinstance(getattr(self, name), kind):
                raise UserError(f"{name} must be a {kind.__name__}, got {getattr(self, name)!r}")
        if isinstance(self.agent, type) or not hasattr(self.agent, "for_game"):
            raise UserError(f"agent must be an agent, such as DDQN(), got {self.agent!r}")
        if not isinstance(self.others, tuple) or not all(hasattr(one, "for_game") for one in self.others):
            raise UserError(f"others must be a tuple of agents, such as (PPO(),), got {self.others!r}")
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name):
            raise UserError(f"a protocol's name has a version, such as standard@1; got {self.name!r}")
        interval, agent = self.schedule.eval_interval, self.agent
        if getattr(agent, "games", 0):
            whole = f"times games must divide eval_interval ({interval})"
            require(interval % agent.train_frequency == 0, "rollout", whole)
        require(interval % agent.train_frequency == 0, "train_frequency", "must divide eval_interval")
        steps = self.schedule.budget * self.departures.chained_repeats + self.prior.fit_steps
        require(steps < 2**31, "budget", "times chained_repeats, and fit_steps, must be less than 2**31")
        asked = {
            "--pretrain-target-frequency": self.departures.pretrain_target_frequency,
            "--fit-target-network-frequency": self.prior.fit_target_network_frequency,
        }
        for flag in (flag for flag, value in asked.items() if value):
            if not hasattr(agent, "target_network_frequency"):
                why = "updates its targets softly" if hasattr(agent, "polyak") else "has none"
                raise UserError(f"{flag} is for agents that copy their target network; {agent.name} {why}")
        if all(asked.values()):
            raise UserError(f"{' and '.join(asked)} both say when targets are copied; name one")
        if self.prior.fit_polyak and not getattr(agent, "polyak", 1) < 1:
            raise UserError(
                f"--fit-polyak is for agents that update their targets softly; this {agent.name} copies them:"
                " --fit-target-network-frequency"
            )

    def replace(self, **settings: Any) -> Protocol:
        """The protocol with some settings changed, whichever group they are in, or `agent` (an agent, or its
        name), `others`, `name` or `game`. A discount is that of the `others` too; all else of theirs stays.

        Raises:
            UserError: no setting is called so, or its value means nothing.

        >>> PAPER.replace(budget=10_000, learning_rate=1e-3).changes(PAPER)
        {'budget': 10000, 'learning_rate': 0.001}
        """
        agent: Any = settings.pop("agent", self.agent)
        if isinstance(agent, str):
            if agent not in agents.AGENTS:
                raise UserError(f"no agent is called '{agent}'; there are: {', '.join(agents.AGENTS)}")
            agent = agents.AGENTS[agent]()
        if isinstance(agent, type) or not hasattr(agent, "for_game"):
            raise UserError(f"agent must be an agent, such as DDQN(), got {agent!r}")
        changed: dict[str, Any] = {"agent": agent}
        named: dict[str, dict[str, Any]] = {group: {} for group in GROUPS}
        groups = {group: self.group(group) for group in GROUPS} | {"agent": agents.settings(agent)}
        for name, value in settings.items():
            if name == "game":
                if not isinstance(value, Mapping) or not all(isinstance(k, str) for k in value):
                    raise UserError(f"game must be a dictionary of the game's parameters, got {value!r}")
                changed[name] = tuple(
                    sorted((k, tuple(v) if isinstance(v, list) else v) for k, v in value.items())
                )
            elif name in ("name", "others", *GROUPS):
                changed[name] = value
            elif (group := next((g for g, values in groups.items() if name in values), None)) is None:
                known = [k for values in groups.values() for k in values]
                raise UserError(f"no setting is called '{name}'; there are: {', '.join(known)}")
            else:
                named[group][name] = tuple(value) if isinstance(value, list) else value
        if "discount" in settings and "others" not in changed:  # what is to be learned is the same for all
            told = {"discount": settings["discount"]}
            changed["others"] = tuple(
                dataclasses.replace(one, **told) if "discount" in agents.settings(one) else one
                for one in self.others
            )
        for group, values in named.items():
            if values:
                changed[group] = dataclasses.replace(changed.get(group, getattr(self, group)), **values)
        return dataclasses.replace(self, **changed)

    def group(self, name: str) -> dict[str, Any]:
        """The settings of one group, by name."""
        value = getattr(self, name)
        return agents.settings(value) if name == "agent" else dataclasses.asdict(value)

    def flat(self) -> dict[str, Any]:
        """Every setting by its name, over all groups."""
        return {k: v for name in GROUPS for k, v in self.group(name).items()}

    def changes(self, other: Protocol) -> dict[str, Any]:
        """The settings in which this differs from `other`, with the values that they have here."""
        there, here = other.flat(), self.flat()
        found = {k: v for k, v in here.items() if k not in there or there[k] != v}
        if self.agent.name != other.agent.name:
            found = {"agent": self.agent.name, **found}
        return found | ({"game": dict(self.game)} if self.game != other.game else {})


GROUPS = ("schedule", "agent", "prior", "departures")

NAME = re.compile(r"(?P<name>[a-z][a-z0-9_-]*)@(?P<version>[1-9][0-9]*)")


def version(name: str) -> tuple[str, int]:
    """ "standard@1" -> "standard", 1; a `ValueError` for what is no such name."""
    if not (found := NAME.fullmatch(name)):
        raise ValueError(f"a protocol's name has a version, such as standard@1; got '{name}'")
    return found["name"], int(found["version"])


def by_name(protocols: Iterable[Protocol]) -> dict[str, Protocol]:
    """Protocols by their names; a `ValueError` for a name that comes twice."""
    found = {}
    for protocol in protocols:
        if protocol.name in found:
            raise ValueError(f"two protocols are called {protocol.name}")
        found[protocol.name] = protocol
    return found


def choose(protocols: Mapping[str, Protocol], name: str) -> Protocol:
    """The protocol called `name`, the newest version where it names none.

    Raises:
        UserError: there is none; lists those there are.
    """
    if name in protocols:
        return protocols[name]
    versions = {version(known)[1]: known for known in protocols if version(known)[0] == name}
    if not versions:
        raise UserError(f"no protocol is called '{name}'; there are: {', '.join(protocols)}")
    return protocols[versions[max(versions)]]


PAPER = Protocol("paper@1")
"""The reference study as its paper describes the method; the defaults above are its settings."""

RELEASED = PAPER.replace(
    name="released@1",
    alignment="released",
    chained_repeats=5,
    pretrain_target_frequency=200,
    limits_terminal=True,
    keep_baseline_data=True,
    drop_cut=True,
)
"""Bug-compatible with the released code. A seed stands for one replicate of the whole study: its own
pretraining, which the repeats of `loro_chained` share and go on from (departures 2 and 5), and of which
`loro` is run 0. `shared_pretraining` would give all replicates one draw of it, and stays off."""

SAC_PAPER = PAPER.replace(agent=SAC())
"""`paper` for continuous actions: SAC with the study's settings, which are the class's defaults."""

SAC_RELEASED = RELEASED.replace(
    pretrain_target_frequency=0, agent=SAC(exploration="mode", action_range="unit")
)
"""`released` for continuous actions; SAC copies no target network, so that departure 3 does not apply."""


STUDY = {"ddqn": (PAPER, RELEASED), "sac": (SAC_PAPER, SAC_RELEASED)}
"""The study's protocols by the agent that learns."""


def common(budget: int, eval_interval: int, eval_episodes: int, **settings: Any) -> Protocol:
    """`common@1` of a task whose prior data every seed plays by a table: its budget and evaluations, which
    its tuned protocols share, with Double DQN's and PPO's common settings, from which their searches began.

    Pretraining takes a tenth of the budget's steps.
    """
    return Protocol(
        "common@1",
        schedule=Schedule(budget, eval_interval, eval_episodes, reset_each_interval=False),
        agent=DDQN.untuned(),
        prior=PriorUse(fit_steps=budget // 10, charge="steps", llm="answers"),
    ).replace(**settings)


def of_agent(agent: Learner) -> dict[str, Protocol]:
    """What a task runs under that names no protocols, by name: `untuned`, common settings that were tuned for
    nothing, with `agent`; then the study's, where it used such an agent."""
    untuned = Protocol(
        "untuned@1",
        schedule=Schedule(budget=20_000, eval_episodes=4, reset_each_interval=False),
        agent=agent,
        prior=PriorUse(fit_steps=2000, charge="steps"),
    )
    return by_name([untuned, *STUDY.get(agent.name, ())])
