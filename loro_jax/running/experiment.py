"""A run with every choice made: from a task, a protocol and a list of arms to worlds and sentences."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import jax

from loro_jax import progress
from loro_jax.data import episodes
from loro_jax.data.answers import Answers, resolve
from loro_jax.data.answers import identity as told_of
from loro_jax.errors import UserError
from loro_jax.language import journal, tables
from loro_jax.protocols import Protocol
from loro_jax.records.identity import identify
from loro_jax.running import estimate
from loro_jax.tasks import Environment, Task
from loro_jax.training import memory, population
from loro_jax.training.arms import (
    Plan,
    Sentence,
    build,
    check_agent,
    check_budget,
    check_doors,
    consults,
    opened,
    plays_answers,
    proposes,
)
from loro_jax.training.prior import Prior, played, prepare
from loro_jax.training.world import Interaction, World
from loro_jax.types import Agent, Arm, Knowledge


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A run with every choice made, ready to train.

    Attributes:
        world: what the arms train in, with the protocol's agent (see `world_of`).
        identity: what ran, as JSON; a resumed run must have the same (`records.identity`).
        warnings: sentences about the prior data that whoever reads the results has to see.
        save_policies: whether trained policies are kept.
        first: the first of the seeds, of which there are `seeds` in a row.
        memory_limit: bytes that all seeds together may take; 0 for most of what there is.
        answers: the table that arms look up, and by which every seed plays its LLM episodes, unless they
            are loaded.
        watch: who is told of curves while they grow (`running.watching.Watch`); None for nobody.
    """

    task: Task
    protocol: Protocol
    world: World
    arms: tuple[Arm, ...]
    plan: Plan
    prior: Prior | None
    seeds: int
    seed: int
    identity: dict[str, Any]
    warnings: tuple[str, ...] = ()
    save_policies: bool = False
    first: int = 0
    memory_limit: int = 0
    answers: Answers | None = None
    watch: Any = None

    def world_of(self, arm: Arm) -> World:
        """What an arm trains in: the common world, with an agent of its own where it brings one."""
        return _of(self.world, arm, self.protocol, self.plan)

    @property
    def worlds(self) -> list[World]:
        """The distinct worlds of the learning arms."""
        return list(dict.fromkeys(self.world_of(arm) for arm in self.arms if arm.phases))


PROPOSALS = ("first", "own")


def prepare_experiment(
    task: Task,
    protocol: Protocol,
    chosen: Sequence[str | Sentence],
    seeds: int,
    seed: int,
    dataset: str = "",
    first: int = 0,
    answers: str | Answers = "",
    proposals: str = "first",
) -> Experiment:
    """Loads what the arms need and writes their sentences; every refusal is a `UserError`.

    Args:
        chosen: arms, by name or as functions of a `Plan`.
        seeds: seeds of each arm.
        seed: the key that all keys are folded from.
        dataset: LLM episodes, by name or folder; by default the task's.
        first: the first of the seeds.
        answers: a table of a language model's answers, or its name or folder, by which every seed plays LLM
            episodes of its own, unless a dataset is named as well; and which arms look up.
        proposals: which of a text's answers an arm chooses among: the `first`, or each seed's `own`.
    """
    if proposals not in PROPOSALS:
        raise UserError(f"--proposals is {' or '.join(PROPOSALS)}, not {proposals!r}")
    env = task.under(protocol)
    interval = protocol.schedule.eval_interval
    if not protocol.schedule.eval_episodes and env.exact is None:
        raise UserError(f"eval_episodes is 0, and {task.name} has no exact values: name at least 1")
    if not protocol.schedule.eval_episodes and protocol.schedule.eval_limit:
        raise UserError("eval_limit cuts evaluation episodes, and eval_episodes is 0: name one of the two")
    sketch = build(chosen, Plan(protocol, 1, interval, env.limit))
    prior, card, folder = None, None, pathlib.Path(dataset)
    warnings: tuple[str, ...] = ()
    table: Answers | None = None
    asking = any(arm.source == "llm" or consults(arm) or plays_answers(arm) for arm in sketch)
    if protocol.prior.llm == "answers" and not (answers or dataset) and asking:
        if not task.answers:
            raise UserError(
                f"{protocol.name} lets every seed play LLM episodes of its own, and {task.name} has no table"
                " for that: name --answers, or --episodes"
            )
        answers = task.answers
    dataset = dataset or ("" if answers else task.episodes)
    plays = bool(answers) and not dataset  # each seed its own LLM episodes
    plan = Plan(protocol, 1, 0, env.limit, answers=plays)
    departed = [d for d in ("shared_pretraining", "limits_terminal") if getattr(protocol.departures, d)]
    if plays and departed:
        raise UserError(
            f"--{departed[0].replace('_', '-')}, which the protocol released has, is for episodes that were"
            " played: name them with --episodes beside --answers"
        )
    if isinstance(answers, Answers):
        table = tables.checked(answers, task, env)
    elif answers:
        table = tables.checked(tables.read(resolve(answers, task.name), task), task, env)
    elif told := [arm.name for arm in sketch if consults(arm) or plays_answers(arm)]:
        raise UserError(
            f"{told[0]} looks a model's answers up: name --answers, or survey one (python -m"
            f" loro_jax.language.survey --task {task.source or task.name} --model NAME)"
        )
    if any(arm.source == "llm" for arm in sketch) and not (dataset or answers):
        raise UserError(
            f"no LLM has played {task.name} yet: name --episodes, or let one play (python -m"
            f" loro_jax.language.collect --task {task.source or task.name} --model NAME)"
        )
    if any(arm.source and arm.phases for arm in sketch) or any(arm.source == "llm" for arm in sketch):
        if table is not None and plays:
            prior = played(table, env, protocol, seed)
            rows = round(prior.mean_steps * protocol.prior.tau)
            plan = Plan(protocol, max(rows, 1), prior.steps, env.limit, answers=True)
            card = None
        elif dataset:
            folder = episodes.resolve(dataset, task.name)
            data = episodes.load(folder, task.name, env.observation_shape, env.action_space)
            prior = prepare(data, protocol)
            journal.check(folder, data.card)
            asked = journal.questions(folder, protocol.prior.tau)
            assert prior.rows is not None
            plan = Plan(protocol, len(prior.rows.reward), prior.steps, env.limit, asked)
            card = {k: data.card.get(k) for k in ("name", "model", "prompt", "alignment", "arrays_sha256")}
            card["arrays_sha256"] = episodes.digest(data)
            warnings = (*episodes.warnings(data.card), *_of_another_game(task, protocol))
        else:  # as much as tau evaluation intervals
            steps = protocol.prior.tau * interval
            if steps >= protocol.schedule.budget:
                raise UserError(
                    f"tau = {protocol.prior.tau} intervals of {interval} steps use up the --budget"
                )
            plan = Plan(protocol, steps, steps, env.limit)
    if table is not None:
        warnings = tuple(dict.fromkeys((*warnings, *_of_another_game(task, protocol, "answers were given"))))
        plan = dataclasses.replace(plan, samples=table.samples, own_proposals=proposals == "own")
    arms = build(chosen, plan)
    if proposals == "own" and not any(map(proposes, arms)):
        named = ", ".join(arm.name for arm in arms)
        raise UserError(f"--proposals own is for arms that choose among a model's answers: not for {named}")
    whose = None if table is None else told_of(table)
    if whose is not None and plan.own_proposals:
        whose["proposals"] = proposals
    identity = identify(task, protocol, seeds, seed, card, arms, first, whose)
    by: dict[str, Any] = {} if table is None else {"coding": table.coding, "texts": table.length}
    world = World(env, fitted(protocol.agent, env, _most(protocol, plan)), _interaction(protocol), **by)
    for arm in arms:
        check_budget(arm, plan)
        own = _of(world, arm, protocol, plan)  # refuses an agent that cannot play this game
        if arm.phases:
            _check_rhythm(arm, own.agent, protocol)
        check_doors(arm, table)
        check_agent(arm, own.agent, env.legal is not None, env.timed, env.states)
        most = _most(protocol, plan)
        if opened(arm, "batches") and own.agent.replay_capacity < most:
            raise UserError(f"{arm.name} samples all prior rows: --replay-capacity must be at least {most}")
    _written_down(card, f"{folder / 'card.json'}: name, model or prompt", "mend the card")
    ran = _written_down(identity, "a setting", "give it another value")
    return Experiment(
        task, protocol, world, arms, plan, prior, seeds, seed, ran, warnings, first=first, answers=table
    )


def _check_rhythm(arm: Arm, agent: Agent, protocol: Protocol) -> None:
    """A `UserError` where an agent does not learn as often as an evaluation interval has room for."""
    interval, name = protocol.schedule.eval_interval, getattr(agent, "name", type(agent).__name__)
    if interval % agent.train_frequency:
        raise UserError(
            f"{arm.name}: its agent {name} learns every {agent.train_frequency} environment steps, which must"
            f" divide the evaluation interval of {interval}"
        )
    if getattr(agent, "games", 0) and protocol.departures.drop_cut:
        raise UserError(f"{arm.name}: {name} learns from every step that it plays: leave --drop-cut out")


def _written_down(value: Any, what: str, remedy: str) -> Any:
    """A value as JSON gives it back, so that it equals what is read; a `UserError` if JSON cannot hold it."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        text.encode()
    except (TypeError, ValueError) as error:
        raise UserError(f"{what} cannot be written down ({error}); {remedy}") from None
    return json.loads(text)


def _of_another_game(task: Task, protocol: Protocol, what: str = "prior data was played") -> list[str]:
    """A warning where the game's parameters were changed by hand: its episodes were played without that."""
    usual = dict(task.settings()[protocol.name].game) if protocol.name in task.settings() else {}
    changed = {k: v for k, v in protocol.game if usual.get(k) != v}
    if not changed:
        return []
    words = ", ".join(f"{k}={v}" for k, v in changed.items())
    return [f"the {what} without the parameters that the game has here ({words})"]


def announced(e: Experiment, arms: Sequence[Arm]) -> str:
    """A line that says what the learning `arms` will take: seeds, steps, machine, time."""
    expected = progress.words(expected_seconds(e, arms))
    learning = sum(bool(arm.phases) for arm in e.arms)
    waves = max((memory.divide(world, e.seeds, e.memory_limit).waves for world in e.worlds), default=1)
    in_waves = f"; {waves} groups of seeds one after the other, as memory allows" if waves > 1 else ""
    several = f" in {jax.process_count()} processes" if jax.process_count() > 1 else ""
    return (
        f"{jax.default_backend()}: {jax.devices()[0].device_kind} x {jax.device_count()}{several}; {e.seeds}"
        f" seeds x {learning} learning arms of {e.protocol.schedule.budget:,} steps; about {expected} of"
        f" training, and {compiling(arms)} of compiling" + in_waves
    )


def compiling(arms: Sequence[Arm]) -> str:
    """At most how long compiling takes, in words: half a dozen learning arms need a minute on two cores."""
    minutes = 1 + (sum(bool(arm.phases) for arm in arms) - 1) // 6
    return f"up to {minutes} minutes" if minutes > 1 else "up to a minute"


def expected_seconds(e: Experiment, arms: Sequence[Arm]) -> float:
    """Of training `arms`, without compilation; right within a factor of about two."""
    total = 0.0
    for world in e.worlds:
        layout = population.layout(e.seeds, world.agent.hidden)
        phases = [p for arm in arms if e.world_of(arm) == world for p in arm.phases]
        total += estimate.seconds(phases, world, layout, e.seeds) if phases else 0.0
    return total


def fitted(agent: Any, env: Environment, most: int) -> Agent:
    """An agent for this game, its replay no larger than the `most` transitions that it can hold."""
    suited = agent.for_game(env.action_space, env.magnitudes)
    if getattr(suited, "on_policy", False):
        return suited
    return dataclasses.replace(suited, replay_capacity=min(suited.replay_capacity, most))


def _most(p: Protocol, plan: Plan) -> int:
    online = p.schedule.budget * p.departures.chained_repeats
    return online + max(plan.rows, p.prior.tau * plan.limit)


def _interaction(p: Protocol) -> Interaction:
    s = p.schedule
    return Interaction(
        s.eval_interval, s.eval_episodes, s.reset_each_interval, p.departures.drop_cut, s.eval_limit
    )


def _of(world: World, arm: Arm, protocol: Protocol, plan: Plan) -> World:
    """The world of an arm: with its own agent, where it brings one."""
    if arm.agent is None:
        return world
    own = fitted(arm.agent, world.environment, _most(protocol, plan))
    return dataclasses.replace(world, agent=own)


def knowledge(e: Experiment, world: World) -> Knowledge:
    """What a world's programs are given: prior data, one row of zeros where no arm loads any; answers."""
    answers = None if e.answers is None else e.answers.table()
    if e.prior is None or e.prior.rows is None:
        return Knowledge(jax.tree.map(lambda x: x[None], world.example), answers)
    return Knowledge(world.rows(e.prior.rows), answers)
