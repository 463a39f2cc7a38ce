"""Tunes a task's protocol for pure RL or PPO, or LORO's own settings: `python -m studies.tune --help`.

Optuna's search (its tree-structured Parzen estimator), kept in `<out>/<task>-<arm>.log`, so that a second
call goes on and several processes search together (`--jobs`). A setting is looked at after 4, 8 and 16
seeds, and dropped unless it is in the best quarter of those that were looked at as often, or was named
before the search (`studies.spaces`). The best, by score and by the goal in turn, are then trained anew on
other keys with more seeds; LORO's beside its settings in the protocol. `<out>/<task>-<arm>.json` has every
setting, the finalists and the winner: the highest cumulative return among those whose final return reaches
the task's goal (`studies.goals`), the highest final return where none does. A task without a goal is tuned
for its cumulative return. No benchmark run uses these keys.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import itertools
import json
import math
import multiprocessing
import os
import pathlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import tyro
from rich.console import Console

from loro_jax import files, progress
from loro_jax.agents import AGENTS, OnPolicy
from loro_jax.errors import UserError, arguments, run, within
from loro_jax.protocols import Protocol
from loro_jax.running.command import MOST_SEEDS
from loro_jax.tasks import Task, load
from loro_jax.training.arms import Plan
from studies import goals, spaces

LOOKS = (4, 8, 16)
"""Seeds after which a setting is compared with the others."""
KEPT = 25.0
"""Percent of the settings looked at as often that go on."""
MOST_DRAWN = 10
"""Draws for each setting that is asked for, at most: what was drawn before costs nothing."""
WHOLE = {"pure_rl": 8, "loro": 5, "ppo": 8, "a2c": 8}
"""Settings at the start of a search that are looked at to the end, whatever they are."""
SEARCH_KEY, FINAL_KEY = 201, 202


@dataclasses.dataclass(frozen=True)
class Options:
    task: str = "cartpole"
    """The task that is tuned: cartpole and so on, or FILE.py:NAME."""
    protocol: str = ""
    """The protocol that the search begins with, such as standard@1; the task's default one where none is
    named."""
    arm: Literal["pure_rl", "loro", "ppo", "a2c"] = "pure_rl"
    """Whose settings: the learner's, for pure RL; what LORO alone has, everything else as it is; or PPO's or
    A2C's, from common ones."""
    trials: int = 60
    """Settings that are tried, those of earlier calls among them; one drawn twice counts once."""
    finalists: int = 6
    """Settings in the last round; 0 leaves it out."""
    seeds: int = 64
    """Seeds of the last round."""
    budget: int = 0
    """Environment steps, 0 for the protocol's."""
    lean: bool = False
    """Only networks of 64-64, batches of at most 64 and one gradient step, which train faster."""
    jobs: int = 1
    """Processes that search together, each on a core of its own."""
    seconds: float = 0.0
    """Begin no further setting after so long; 0 for no limit."""
    lead: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Settings of yours to try before others, each JSON in the space's words (`space` in <task>-<arm>.json),
    such as '{"learning_rate": 0.001}'; they count among --trials. May be given several times."""
    out: pathlib.Path = pathlib.Path("results/tuning/standard@2")
    """Folder for <task>-<arm>.log and <task>-<arm>.json."""


def main(argv: list[str] | None = None) -> int:
    """The command; -> its exit status."""
    options = arguments(
        lambda: tyro.cli(Options, prog="python -m studies.tune", description=__doc__, args=argv)
    )
    within("--trials", options.trials, 1, 100_000)
    within("--seeds", options.seeds, 2, MOST_SEEDS)
    within("--finalists", options.finalists, 0, 100_000)
    within("--jobs", options.jobs, 1, 1024)
    within("--budget", options.budget, 0, 2**31 - 1)
    if not 0 <= options.seconds < math.inf:
        raise UserError(f"--seconds must be a number from 0 on, got {options.seconds}")
    try:
        import optuna
    except ImportError:
        raise UserError("the search is Optuna's: pip install 'optuna>=5'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    task = load(options.task)
    path = options.out / f"{task.name}-{options.arm}.json"
    from loro_jax.running import machine

    machine.start()  # where JAX cannot, this says so, and not each process of the search
    began = base(options, task)
    if options.arm == "loro" and began.departures.pretrain_target_frequency:
        raise UserError(
            f"{began.name} says how often LORO copies its target, which a search of LORO's settings tries;"
            " begin with another --protocol"
        )
    if options.lean and options.arm == "loro":
        raise UserError(
            "--lean is about networks, batches and gradient steps, which LORO's search leaves alone"
        )
    for text in options.lead:
        spaces.lead(text, began, space_of(options, task))
    with files.claimed(path):
        _kept(path, options, task)  # what cannot be read is refused before hours are spent
        console = Console(stderr=True, highlight=False)
        _again(_opened(options, task, path))
        console.print(
            f"{task.name}, {options.arm}: {options.trials} settings of {began.name},"
            f" {began.schedule.budget:,} steps, {LOOKS} seeds; then {options.finalists} with {options.seeds}",
            soft_wrap=True,
        )
        _together(options, console)
        return _decide(options, task, path, console)


def base(options: Options, task: Task) -> Protocol:
    """What the search begins with."""
    protocol = task.protocol(options.protocol)
    if options.arm in spaces.ON_POLICY:
        # It learns from nothing before, and what is said of pretraining may be for agents with targets alone.
        nothing = {"fit_learning_rate": 0.0, "fit_target_network_frequency": 0, "fit_polyak": 0.0}
        kind = AGENTS[options.arm]
        assert issubclass(kind, OnPolicy)
        common = Plan(protocol.replace(others=()), 1, 0, 1).learner(kind)
        protocol = protocol.replace(agent=common, others=(), **nothing)
    return protocol.replace(budget=options.budget) if options.budget else protocol


def space_of(options: Options, task: Task) -> spaces.Space:
    """What the search tries."""
    return spaces.space(base(options, task), options.arm, inputs(task), options.lean)


def inputs(task: Task) -> int:
    """How many numbers an observation has."""
    return math.prod(task.environment().observation_shape)


def study_of(options: Options, task: Task, worker: int = 0) -> Any:
    """The Optuna study of a task, in its file; each worker draws settings of its own."""
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalStorage

    options.out.mkdir(parents=True, exist_ok=True)
    storage = JournalStorage(JournalFileBackend(str(options.out / f"{task.name}-{options.arm}.log")))
    return optuna.create_study(
        storage=storage,
        study_name=f"{task.name}-{options.arm}",
        direction="maximize",
        load_if_exists=True,
        sampler=optuna.samplers.TPESampler(seed=worker, multivariate=True),
        pruner=optuna.pruners.PercentilePruner(KEPT, n_startup_trials=WHOLE[options.arm]),
    )


def about(options: Options, task: Task) -> dict[str, Any]:
    """What a search is of: trials of another say nothing here."""
    began = base(options, task)
    return {
        "task": task.name, "arm": options.arm, "from": began.name, "budget": began.schedule.budget,
        "file_sha256": task.file_sha256, **({"lean": True} if options.lean else {}),
    }  # fmt: skip


def _opened(options: Options, task: Task, path: pathlib.Path) -> Any:
    """The study, looked through and marked with what it is of; nobody else searches meanwhile.

    Raises:
        UserError: it is damaged, or of another search.
    """
    log = path.with_suffix(".log")
    try:
        _mend(log)
        study = study_of(options, task)
        trials = study.get_trials(deepcopy=False)
        known = study.user_attrs.get("about")
        ended = [t.user_attrs for t in trials if t.state.is_finished() and t.user_attrs]
        began = base(options, task)
        # What had not come so far as to have scores, or was tried before, has settings alone.
        whole = all(_of(began, row.get("settings")) and ("scores" not in row or sound(row)) for row in ended)
    except Exception as error:  # a log is lines of anything
        why = " ".join(str(error).split())[:100]
        raise UserError(f"{log}: damaged ({type(error).__name__}: {why}); move it away") from None
    if not whole:
        raise UserError(f"{log}: damaged, its settings or scores are none; move it away")
    wanted = about(options, task)
    if known is None:  # new, or from before searches were marked
        study.set_user_attr("about", wanted)
    elif known != wanted:
        told = "; ".join(f"{k} {known.get(k)!r}, not {v!r}" for k, v in wanted.items() if known.get(k) != v)
        raise UserError(f"{log}: is of another search ({told}); choose another --out")
    return study


def _mend(log: pathlib.Path) -> None:
    """Cuts off what a kill, or a full disk, left of a last line."""
    if not log.exists():
        return
    files.size(log)
    with open(log, "rb+") as stream:
        data = stream.read()
        stream.truncate(data.rfind(b"\n") + 1)


def _of(began: Protocol, settings: Any) -> bool:
    """Whether settings are ones of a search that began so: the budget and what is evaluated stay."""
    if not isinstance(settings, dict):
        return False
    try:
        return began.replace(**settings).schedule == began.schedule
    except (UserError, TypeError):
        return False


SCORES = ("score", "goal", "cumulative", "cumulative_standard_error", "final_iqm", "final_mean")


def sound(row: Mapping[str, Any]) -> bool:
    """Whether what is kept of a setting can be compared with others."""
    scores = row.get("scores")
    return (
        isinstance(row.get("settings"), dict)
        and type(row.get("seeds")) is int
        and isinstance(scores, dict)
        and all(type(scores.get(k)) in (int, float) and math.isfinite(scores[k]) for k in SCORES)
    )


def _again(study: Any) -> None:
    """What a search that was killed left half done is queued anew; nobody else searches meanwhile."""
    import optuna

    running = optuna.trial.TrialState.RUNNING
    for trial in study.get_trials(deepcopy=False, states=(running,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        study.enqueue_trial(trial.params, skip_if_exists=False)


def _tried(study: Any) -> dict[str, Any]:
    """The first trial that ended of each setting, by the setting."""
    import optuna

    states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    found: dict[str, Any] = {}
    for trial in study.get_trials(deepcopy=False, states=states):
        found.setdefault(_name(trial.user_attrs["settings"]), trial)
    return found


def _name(settings: Mapping[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True)


def _together(options: Options, console: Console) -> None:
    """Searches in as many processes as asked, and waits for them."""
    spawned = multiprocessing.get_context("spawn")  # JAX does not survive a fork
    with progress.waiting(console, "searching"):
        me = os.getpid()
        workers = [spawned.Process(target=_work, args=(options, i, me)) for i in range(options.jobs)]
        for worker in workers:
            worker.start()
        try:
            for worker in workers:
                worker.join()
        except BaseException:
            for worker in workers:
                worker.terminate()
            raise
    if all(worker.exitcode for worker in workers):
        raise UserError("no process could search; what went wrong stands above")


def _work(options: Options, number: int, parent: int) -> None:
    """One process of the search, on one core, while its parent lives."""
    import optuna

    from loro_jax.running import compiled, machine

    _pin(number)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # The waves of a setting share their programs; nobody else will want them.
    with tempfile.TemporaryDirectory() as programs:
        os.environ[compiled.VARIABLE] = programs
        machine.start(1)
        _search(options, number, parent)


def _pin(number: int) -> None:
    """Leaves this process one of its cores."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[number % len(cores)]})


def _search(options: Options, number: int, parent: int) -> None:
    """Settings, until there are as many as asked."""
    import jax
    import optuna

    task = load(options.task)
    study = study_of(options, task, number)
    began = base(options, task)
    # On an accelerator the seeds of the last look take hardly longer than those of the first.
    wave = LOOKS[0] if jax.default_backend() == "cpu" else LOOKS[-1]

    def enough(study: Any, _: Any = None) -> bool:
        # A small space may not have as many settings as asked.
        return len(_tried(study)) >= options.trials or len(study.trials) >= MOST_DRAWN * options.trials

    if enough(study):
        return
    space = space_of(options, task)
    named = [spaces.lead(text, began, space) for text in options.lead]
    if options.arm != "loro":
        named = [*spaces.first(began, space), *named]
    for settings in named:
        study.enqueue_trial(settings, skip_if_exists=True)
    leads = [spaces.read(settings, began) for settings in named]

    def objective(trial: Any) -> float:
        protocol = spaces.suggested(trial, began, space)
        trial.set_user_attr("settings", _json(protocol.changes(began)))
        if (before := _tried(study).get(_name(trial.user_attrs["settings"]))) is not None:
            if before.state == optuna.trial.TrialState.PRUNED:
                raise optuna.TrialPruned
            return float(before.value)
        trial.set_user_attr("backend", jax.default_backend())
        curves, values = np.zeros((0, began.schedule.evaluations)), list[float]()
        scores: dict[str, float] = {}
        for seeds in LOOKS:
            if os.getppid() != parent:
                raise SystemExit
            while len(curves) < seeds:
                more, exact = trained(task, protocol, options.arm, wave, SEARCH_KEY, len(curves))
                curves, values = np.concatenate([curves, more]), values + exact
            scores = goals.scores(task, protocol, curves[:seeds], values[:seeds])
            trial.set_user_attr("scores", scores)
            trial.set_user_attr("seeds", seeds)
            trial.report(scores["score"], seeds)
            if seeds < LOOKS[-1] and protocol not in leads and trial.should_prune():
                raise optuna.TrialPruned
        return scores["score"]

    study.optimize(
        objective, timeout=options.seconds or None, callbacks=[lambda s, t: s.stop() if enough(s) else None]
    )


def trained(
    task: Task, protocol: Protocol, arm: str, seeds: int, key: int, first: int = 0
) -> tuple[np.ndarray, list[float]]:
    """Curves (seeds, evaluations) of an arm, what diverged playing as a random policy from there on; and the
    exact values of the last greedy policies, where a game's are computed."""
    from loro_jax.analysis import statistics
    from loro_jax.running import experiment, store, trainer

    e = experiment.prepare_experiment(task, protocol, (arm,), seeds, key, first=first)
    e = dataclasses.replace(e, save_policies=task.name in goals.EXACT)
    result, _ = trainer.run(e, store.Nowhere(), Console(quiet=True))
    curves, _ = statistics.filled(result.curves[arm], result.random_return)
    return curves, goals.exact(task, protocol, result.policies.get(arm, {}), seeds)


def _decide(options: Options, task: Task, path: pathlib.Path, console: Console) -> int:
    """The last round, and the file that says all; -> the exit status."""
    from loro_jax.running import machine

    study = study_of(options, task)
    space = space_of(options, task)
    trials = list(_tried(study).values())
    whole = [t for t in trials if t.user_attrs["seeds"] == LOOKS[-1]]
    final = finalists([t.user_attrs for t in whole], options.finalists)
    if options.arm == "loro" and final:
        final.append({})  # as the protocol has it, to be compared with
    kept = {_name(r["settings"]): r for r in _kept(path, options, task)}
    record: dict[str, Any] = {
        **about(options, task),
        "goal": goals.says(task), "space": spaces.described(space),
        "looks": LOOKS, "keys": [SEARCH_KEY, FINAL_KEY], "final_seeds": options.seeds,
        "trials": [
            {"number": t.number, "state": t.state.name.lower(), **t.user_attrs} for t in trials
        ],
        "finalists": list(kept.values()),
        **machine.provenance(),
    }  # fmt: skip
    left = [settings for settings in final if _name(settings) not in kept]
    for row in progress.track(_finals(options, left), "finalists", console, total=len(left)):
        record["finalists"].append(row)
        files.write_json(path, record)
    if record["finalists"]:
        record["winner"] = goals.winner(task, record["finalists"])
    files.write_json(path, record)
    for row in sorted(record["finalists"], key=lambda r: -r["scores"]["score"]):
        print(json.dumps(row["scores"]), json.dumps(row["settings"]))
    print(f"{len(trials)} settings, winner and finalists: {path}")
    return 0


def _finals(options: Options, left: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """A row for each setting of the last round, as they end; as many processes as the search has."""
    if options.jobs == 1 or len(left) < 2:
        yield from (_final(options, settings) for settings in left)
        return
    spawned = multiprocessing.get_context("spawn")
    numbers = spawned.SimpleQueue()
    for number in range(options.jobs):
        numbers.put(number)
    with concurrent.futures.ProcessPoolExecutor(options.jobs, spawned, _claim, (numbers,)) as pool:
        rows = [pool.submit(_final, options, settings) for settings in left]
        try:
            for row in concurrent.futures.as_completed(rows):
                yield row.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _claim(numbers: Any) -> None:
    """Starts a process of the last round."""
    from loro_jax.running import machine

    _pin(numbers.get())
    machine.start(1, cache=False)


def _final(options: Options, settings: dict[str, Any]) -> dict[str, Any]:
    """Settings trained anew, on other keys, as a row of the file."""
    import jax

    task = load(options.task)
    protocol = base(options, task).replace(**settings)
    scores = goals.scores(task, protocol, *trained(task, protocol, options.arm, options.seeds, FINAL_KEY))
    return {
        "settings": settings, "seeds": options.seeds, "backend": jax.default_backend(), "scores": scores,
    }  # fmt: skip


def finalists(rows: Sequence[Mapping[str, Any]], number: int) -> list[dict[str, Any]]:
    """Settings for the last round: in turn the next by score, and the next by the goal's number, since the
    winner earns most among those that reach the goal."""
    by = ("score", "goal")
    queues = [iter(sorted(rows, key=lambda row: -row["scores"][k])) for k in by]
    chosen: list[dict[str, Any]] = []
    for queue in itertools.islice(itertools.cycle(queues), 2 * len(rows)):
        settings = next(queue)["settings"]
        if settings not in chosen and len(chosen) < number:
            chosen.append(settings)
    return chosen


def _kept(path: pathlib.Path, options: Options, task: Task) -> list[dict[str, Any]]:
    """Finalists that an earlier call trained with as many seeds.

    Raises:
        UserError: the file cannot be read, or is of another search.
    """
    try:
        record = files.read_json(path)
    except FileNotFoundError:
        return []
    rows, wanted = record.get("finalists"), about(options, task)
    fields = {"settings", "seeds", "backend", "scores"}
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and fields <= row.keys() and sound(row) for row in rows
    ):
        raise UserError(f"{path}: holds no rows of a tuning; move it away, or choose another --out")
    if any(record.get(k, v) != v for k, v in wanted.items()):
        raise UserError(f"{path}: is of another search; move it away, or choose another --out")
    return [row for row in rows if row["seeds"] == options.seeds]


def _json(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as JSON gives them back."""
    return json.loads(json.dumps(settings))  # type: ignore[no-any-return]


if __name__ == "__main__":
    run(main)
