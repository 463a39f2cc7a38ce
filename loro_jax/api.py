"""The suite from Python: run arms on a task, read a run back, play a trained policy.

A command and a call with the same settings and the same number of devices give the same numbers.
"""

from __future__ import annotations

import dataclasses
import numbers
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from rich.console import Console

from loro_jax import files, keys, processes
from loro_jax.analysis import figures, outputs, statistics, tables
from loro_jax.analysis.named import NamedArray
from loro_jax.analysis.summary import POLICIES
from loro_jax.data.answers import Answers, resolve
from loro_jax.data.answers import identity as told_of
from loro_jax.errors import UserError
from loro_jax.protocols import Protocol
from loro_jax.records import identity, results
from loro_jax.running import command, experiment, machine, options, policies, trainer
from loro_jax.running.store import Nowhere, opened
from loro_jax.tasks import Environment, Task, load, recorded
from loro_jax.tasks.rollout import rollouts
from loro_jax.training import guidance
from loro_jax.training.arms import ARMS, Sentence
from loro_jax.training.phases import Evaluate
from loro_jax.types import Agent, Among


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run found.

    Attributes:
        task: the task's name.
        returns: learning curves with prior data charged, over arm, seed and env_steps; NaN where a seed has
            diverged.
        free: the same with prior data free: evaluations are counted from the start of online training, and
            every arm is cut to the common length.
        flat: by policy that does not learn, its episode returns, (episodes,).
        summary: every number of the tables, as `summary.json` has it.
        run: what ran: identity, versions, device, seconds.
    """

    task: str
    returns: NamedArray
    free: NamedArray
    flat: Mapping[str, np.ndarray]
    summary: Mapping[str, Any]
    run: Mapping[str, Any]
    _saved: results.Saved = dataclasses.field(repr=False)
    _folder: pathlib.Path | None = dataclasses.field(default=None, repr=False)  # that it was read from

    @property
    def counters(self) -> Mapping[str, Mapping[str, np.ndarray]]:
        """What was counted of each learning arm, by name, (seeds,): environment and gradient steps, and what
        was asked of a model's answers."""
        found: dict[str, dict[str, np.ndarray]] = {}
        for name, values in self._saved.group("counters").items():
            arm, _, counter = name.rpartition("/")
            found.setdefault(arm, {})[counter] = values
        return found

    def __repr__(self) -> str:
        return f"Result({self.task}, {self.summary['protocol']}, {self.returns.sizes})"

    def __str__(self) -> str:
        """The tables, as `summary.md` has them."""
        return tables.render_markdown(self.summary)

    def _repr_markdown_(self) -> str:
        return str(self)

    def compare(
        self, arm: str, baseline: str = "pure_rl", metric: str = "cumulative_return", *, free: bool = False
    ) -> statistics.Contrast:
        """One arm against another, paired by seed: difference, probability of improvement, their 95 %
        intervals, and the p-value of a sign-flip test, not corrected. With `free`, prior data costs nothing.
        Two arms that learn offline are compared by their returns, whatever the metric.

        Raises:
            UserError: an arm or a metric that the run does not have, or one that learns offline beside one
                that does not.

        >>> short = run("frozen_lake", ("pure_rl", "mix"), seeds=2, budget=2000, progress=False)
        >>> 0 <= short.compare("mix", "pure_rl").improvement <= 1
        True
        """
        from loro_jax.analysis.metrics import METRICS

        arms = self._saved.group("llm_free") if free else self._saved.curves
        offline = {name: x for name, x in self.flat.items() if name not in POLICIES}
        if arm in offline and baseline in offline:
            level = self.summary["random_return"] or 0.0  # None where nothing diverged
            pair = [np.where(np.isnan(offline[n]), level, offline[n]) for n in (arm, baseline)]
            return statistics.paired(*pair, seed=0)
        for name in (arm, baseline):
            if name in offline:
                others = ", ".join(n for n in offline if n != name) or "none in this run"
                raise UserError(f"{name} learns offline: compare it with another arm that does ({others})")
            if name not in arms:
                raise UserError(f"no learning arm is called '{name}'; there are: {', '.join(arms)}")
        known = {m.name: m for m in METRICS if not m.needs_threshold or self.summary["threshold"] is not None}
        if metric not in known:
            raise UserError(f"no metric is called '{metric}'; there are: {', '.join(known)}")
        measured = known[metric]
        steps = np.asarray(self._saved.env_steps, np.float64)[: arms[arm].shape[1]]
        values, ranks = [], []
        for name in (arm, baseline):
            curve, lost = statistics.filled(arms[name], self.summary["random_return"])
            values.append(measured.values(curve, lost, steps, self.summary["threshold"]))
            ranks.append(measured.ranks(values[-1], lost))
        return statistics.paired(
            *values, seed=0, lower_is_better=measured.lower_is_better, ranks=(ranks[0], ranks[1]),
            budget=float(steps[-1]) if measured.censored else np.inf,
        )  # fmt: skip

    def plot(self, figure: str = "learning_curves") -> Any:
        """A `matplotlib.figure.Figure`, as `figures/` has it.

        Raises:
            UserError: there is no such figure, or it has nothing to show.

        >>> short = run("frozen_lake", ("pure_rl",), seeds=2, budget=400, progress=False)
        >>> short.plot().get_size_inches()[0]
        np.float64(3.4)
        """
        found = figures.Found(
            self.summary, self._saved.curves, np.asarray(self._saved.env_steps, np.float64), self.flat,
            self.summary["notes"]["prior_steps"], self._interval,
        )  # fmt: skip
        return figures.drawn(figures.named(figure), found)

    def save(self, folder: str | pathlib.Path) -> None:
        """Writes what a command would have left in `folder`: curves, tables, figures, `run.json`, and the
        policies of a run that was read with them.

        >>> import tempfile
        >>> short = run("frozen_lake", ("pure_rl",), seeds=2, budget=400, progress=False)
        >>> short.save(tempfile.mkdtemp() + "/kept")
        """
        kept = None if self._folder is None else self._folder / results.POLICIES
        policies_there = kept.read_bytes() if kept is not None and kept.exists() else b""
        with results.together(pathlib.Path(folder)) as staging:
            saved = self._saved
            if policies_there:
                (staging / results.POLICIES).write_bytes(policies_there)
            files.write_npz(staging / "curves.npz", {**saved.curves, "env_steps": saved.env_steps})
            files.write_npz(staging / "details.npz", saved.details)
            outputs.write(self.summary, staging)
            figures.draw_all(
                self.summary, saved.curves, saved.env_steps, self.flat, staging / "figures",
                prior_steps=self.summary["notes"]["prior_steps"], steps_per_episode=self._interval,
            )  # fmt: skip
            files.write_json(staging / results.RUN, dict(self.run))

    @property
    def _interval(self) -> int:
        return int(identity.upgraded(self.run["identity"])["settings"]["schedule"]["eval_interval"])


def run(
    task: str | Task,
    arms: Sequence[str | Sentence] | None = None,
    *,
    protocol: str | Protocol = "",
    seeds: int | None = None,
    seed: int = 0,
    episodes: str = "",
    answers: str | Answers = "",
    proposals: str = "first",
    out: str | pathlib.Path | None = None,
    resume: bool = False,
    save_policies: bool = False,
    progress: bool = True,
    **settings: Any,
) -> Result:
    """Trains arms on a task, every seed in one jitted, vmapped program.

    Args:
        task: a `Task`, or what `load_task` takes.
        arms: names, or functions of a `Plan` that give an `Arm`; all that there is prior data for if None.
        protocol: settings to start from, by name or as a `Protocol`; by default the task's first, its newest
            version.
        seeds: seeds of each arm; by default the task's number.
        seed: the key that all keys are folded from.
        episodes: LLM episodes, by name or folder; by default the task's.
        answers: a table of a model's answers, or its name or folder: every seed plays LLM episodes of its
            own, unless `episodes` are named as well, which are then loaded; arms look answers up in it.
        proposals: which of a text's answers dqn_prior, its variants and cql_prior choose among, and kl_prior
            is kept near: the "first", or of each seed its "own" draw.
        out: folder for results, figures and checkpoints; None keeps nothing on disk.
        resume: go on with an interrupted run in `out`.
        save_policies: keep every seed's trained policy in `out` (`load_policy`).
        progress: show a bar.
        settings: settings of the protocol, by their names (`budget=4000, learning_rate=1e-3`), and `game`,
            the game's parameters by name.

    Raises:
        UserError: something that the caller can mend, in one line.

    >>> quick = run("frozen_lake", ("pure_rl",), seeds=2, budget=400, learning_starts=50, progress=False)
    >>> quick.returns.sizes
    {'arm': 1, 'seed': 2, 'env_steps': 2}
    """
    machine.start()  # before a game is made
    found = load(task)
    if resume and found.source and found != load(found.source):
        raise UserError(
            f"{found.name} is not what '{found.source}' holds now: a run of it cannot be resumed; put it in a"
            " file and load that"
        )
    start = protocol if isinstance(protocol, Protocol) else found.protocol(protocol)
    chosen = start.replace(**settings)
    if arms is None:
        arms = options.named("all", chosen, bool(episodes or answers or found.episodes))
    count = found.seeds if seeds is None else seeds
    for name, number, least in (("seeds", count, 1), ("seed", seed, 0)):
        if isinstance(number, bool) or not isinstance(number, numbers.Integral) or number < least:
            raise UserError(f"{name} must be a whole number of at least {least}, got {number!r}")
    count, seed = int(count), int(seed)
    keys.check(seed)
    if not isinstance(episodes, str | os.PathLike):
        raise UserError(f"episodes must be a name or a folder, got {episodes!r}")
    if not isinstance(answers, str | os.PathLike | Answers):
        raise UserError(f"answers must be a table, or its name or folder, got {answers!r}")
    if out is not None and (not isinstance(out, str | os.PathLike) or not str(out)):
        raise UserError(f"out must be a folder, got {out!r}")
    ready = experiment.prepare_experiment(
        found,
        chosen,
        arms if isinstance(arms, str) else tuple(arms),
        count,
        seed,
        str(episodes),
        answers=answers if isinstance(answers, Answers) else str(answers),
        proposals=proposals,
    )
    ready = dataclasses.replace(ready, save_policies=save_policies)
    console = Console(stderr=True, highlight=False, quiet=not (progress and processes.first()))
    for warning in ready.warnings:
        console.print(f"warning: {warning}", soft_wrap=True, markup=False)
    if out is None:
        if save_policies or resume:
            raise UserError("save_policies and resume need a folder: give out=FOLDER")
        return _result(ready, *_trained(ready, Nowhere(), console))
    folder = pathlib.Path(out)
    with opened(folder, ready.identity, resume, machine.computed_on()) as store:
        if store.complete and save_policies and not processes.told((folder / results.POLICIES).exists()):
            raise UserError(
                f"{folder} holds this run without its policies; without resume it is trained anew"
            )
        if not store.complete:
            result, seconds = _trained(ready, store, console)
            summary = command.summarise(ready, result)
            processes.alone(lambda: command.save(ready, result, summary, seconds, folder))
            store.clear()
    return processes.alone(lambda: read(folder))


def _trained(
    ready: experiment.Experiment, store: Any, console: Console
) -> tuple[results.Result, dict[str, float]]:
    try:
        return trainer.run(ready, store, console)
    except trainer.Interrupted:
        raise KeyboardInterrupt from None


def _result(ready: experiment.Experiment, found: results.Result, seconds: dict[str, float]) -> Result:
    ran = command.record(ready, found, seconds)
    saved = results.Saved(ran, found.curves, found.env_steps, results.details(found))
    return _of(saved, command.summarise(ready, found))


def read(folder: str | pathlib.Path) -> Result:
    """A finished run, as a command or `run` left it in `folder`.

    Raises:
        UserError: there is none, or a file is damaged or not the run's.

    >>> import tempfile
    >>> folder = tempfile.mkdtemp() + "/run"
    >>> _ = run("frozen_lake", ("pure_rl",), seeds=2, budget=400, out=folder, progress=False)
    >>> read(folder).returns.sel(arm="pure_rl").sizes
    {'seed': 2, 'env_steps': 2}
    """
    folder = pathlib.Path(folder)
    saved, summary, _ = results.finished(folder)
    return _of(saved, summary, folder)


def _of(saved: results.Saved, summary: Mapping[str, Any], folder: pathlib.Path | None = None) -> Result:
    free, first = saved.group("llm_free"), int(saved.run["identity"].get("first_seed", 0))
    return Result(
        task=str(summary["benchmark"]),
        returns=_curves(saved.curves, saved.env_steps, first),
        free=_curves(free, saved.env_steps[: min((c.shape[1] for c in free.values()), default=0)], first),
        flat=saved.group("flat"),
        summary=summary,
        run=saved.run,
        _saved=saved,
        _folder=folder,
    )


def _curves(curves: Mapping[str, np.ndarray], env_steps: np.ndarray, first: int) -> NamedArray:
    shape = (0, 0, len(env_steps))
    values = np.stack(list(curves.values())) if curves else np.zeros(shape, np.float32)
    seeds = range(first, first + values.shape[1])
    axes = {"arm": list(curves), "seed": list(seeds), "env_steps": env_steps.tolist()}
    return NamedArray(values, axes)


@dataclasses.dataclass(frozen=True)
class Policy:
    """A trained policy of one seed: call it with an observation.

    Attributes:
        task: what it was trained on.
        environment: the game.
        agent: what acts.
        state: the numbers that it acts by.
        among: of an arm that chooses among a model's answers: observation (*obs,) -> those that there are.
    """

    task: Task
    environment: Environment
    agent: Agent
    state: Any
    among: Callable[[jax.Array], Among | None] | None = dataclasses.field(default=None, repr=False)

    def __repr__(self) -> str:
        return f"Policy({self.task.name}, {type(self.agent).__name__})"

    def __call__(self, obs: Any) -> np.ndarray:
        """The greedy action in an observation (*obs,), or in many, (N, *obs) -> (*action,) or (N, *action).

        Raises:
            ValueError: observations of another shape.
        """
        obs, shape = np.asarray(obs, np.float32), self.environment.observation_shape
        if obs.shape == shape:
            return np.asarray(self._act(jax.numpy.asarray(obs)))
        if obs.shape[1:] != shape:
            raise ValueError(f"observations have shape {shape}, or (N, *{shape}); got {obs.shape}")
        return np.asarray(jax.vmap(self._act)(jax.numpy.asarray(obs)))

    def _act(self, obs: jax.Array) -> jax.Array:
        """The greedy action of those that there are in an observation (*obs,)."""
        told: tuple[Any, ...] = ()
        if self.among is not None:
            told = (self.among(obs),)
        elif (legal := self.environment.allowed(obs)) is not None:
            told = (Among(counts=legal.astype(jax.numpy.int32)),)
        return self.agent.act(self.state, obs, *told)

    def play(self, episodes: int = 100, seed: int = 0) -> np.ndarray:
        """Undiscounted returns of greedy episodes, (episodes,); a `UserError` for no whole number of them."""
        if isinstance(episodes, bool) or not isinstance(episodes, numbers.Integral) or episodes < 1:
            raise UserError(f"episodes must be a whole number of at least 1, got {episodes!r}")

        def act(obs: jax.Array, key: jax.Array) -> jax.Array:
            return self._act(obs)

        each = jax.vmap(lambda index: keys.fold(keys.of_seed(seed, index), keys.Purpose.EVALUATE))
        return np.asarray(rollouts(self.environment, act, each(jax.numpy.arange(episodes)))[0])


def load_policy(
    folder: str | pathlib.Path,
    arm: str,
    seed: int = 0,
    task: str | Task | None = None,
    *,
    answers: str | pathlib.Path | Answers = "",
    support: Any = None,
) -> Policy:
    """A policy that a run with `--save-policies` kept. One that was trained among a model's answers, such as
    `dqn_prior`'s, chooses among them as it did then.

    Args:
        folder: the run's.
        arm: which arm's.
        seed: which seed's; the first is 0, unless the run has another range of seeds.
        task: the task, where the run's own name of it does not lead there from here.
        answers: the table that it chooses among, where the run's own name of it does not lead there.
        support: what an arm of one's own chooses by, as its last phase has it.

    Raises:
        UserError: no policies were kept, or not of this arm or seed, or they do not fit the task; or what it
            chooses among is not here, or is not the same.

    >>> import tempfile
    >>> folder = tempfile.mkdtemp() + "/run"
    >>> _ = run(
    ...     "frozen_lake", ("pure_rl",), seeds=2, budget=400, out=folder, save_policies=True, progress=False
    ... )
    >>> policy = load_policy(folder, "pure_rl", seed=1)
    >>> policy.play(episodes=5).shape
    (5,)
    """
    folder = pathlib.Path(folder)
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral):
        raise UserError(f"seed must be a whole number, got {seed!r}")
    try:
        saved = results.read(folder)
        kept = files.read_npz(folder / results.POLICIES)
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: no such file; run with --save-policies") from None
    arms = list(dict.fromkeys(name.split("/", 1)[0] for name in kept))
    if arm not in arms:
        raise UserError(f"{folder}: has no policies of '{arm}'; it has {', '.join(arms)}")
    arrays = {k.split("/", 1)[1]: v for k, v in kept.items() if k.split("/", 1)[0] == arm}
    ran = identity.upgraded(saved.run["identity"])
    first, count = int(ran.get("first_seed", 0)), len(next(iter(arrays.values())))
    if not first <= seed < first + count:
        raise UserError(f"{folder}: has seeds {first} to {first + count - 1} of {arm}, not {seed}")
    if task is not None:
        found = load(task)
    else:
        found = recorded(ran["task"], saved.run.get("source"), ran.get("task_sha256"))
    protocol = identity.protocol_of(ran)
    env = found.under(protocol)
    agent = identity.agent_of(ran, arm).for_game(env.action_space, env.magnitudes)
    like = jax.eval_shape(partial(_initial, agent, env), jax.random.key(0))
    try:
        state = policies.rebuilt(like, arrays, int(seed) - first)
    except ValueError as error:
        raise UserError(f"{folder}: {error}; was the task changed?") from None
    among, phases = None, ran["arms"].get(arm) or [""]
    if "support=" in phases[-1]:
        among = _among(ran, arm, int(seed), found, agent, answers, support)
    return Policy(found, env.limited(protocol.schedule.eval_limit), agent, state, among)


def _among(
    ran: Mapping[str, Any], arm: str, seed: int, task: Task, agent: Any, answers: Any, support: Any
) -> Callable[[jax.Array], Among | None]:
    """What a seed of an arm chooses among in an observation."""
    whose = ran.get("answers") or {}
    told = answers or str(whose.get("name") or "")
    if support is None and arm not in ARMS:
        raise UserError(f"{arm} chooses among a model's answers and is no arm of the suite: give its support")
    others = tuple(dict.fromkeys(identity.agent_of(ran, name) for name in ran.get("agents") or {}))
    if not answers:
        try:
            resolve(str(told), task.name)
        except UserError as error:
            raise UserError(f"{arm}'s answers are not here: give answers= ({error})") from None
    ready = experiment.prepare_experiment(
        task, identity.protocol_of(ran).replace(others=others), (arm if support is None else "pure_rl",),
        1, int(ran["seed"]), str((ran.get("episodes") or {}).get("name") or ""),
        answers=told if isinstance(told, Answers) else str(told),
        proposals=str(whose.get("proposals") or "first"),
    )  # fmt: skip
    assert ready.answers is not None
    if told_of(ready.answers)["arrays_sha256"] != whose.get("arrays_sha256"):
        raise UserError(f"the answers '{told}' are not those that {arm} was trained among")
    world = dataclasses.replace(ready.world, agent=agent)
    known = experiment.knowledge(ready, world)
    last = ready.arms[0].phases[-1] if support is None else Evaluate(1, support=support)
    doors = guidance.opened(last, guidance.keyed(keys.of_seed(int(ran["seed"]), seed)), world, known)
    if world.environment.indexed:  # by the number of a state, which is given one-hot here
        return lambda obs: doors.among(world, known, obs.argmax())
    return lambda obs: doors.among(world, known, obs)


def _initial(agent: Any, env: Environment, key: jax.Array) -> Any:
    return agent.policy(agent.init(key, env.observation_shape, env.action_space))
