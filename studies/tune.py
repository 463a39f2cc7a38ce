"""Tunes a task's `standard` protocol for pure RL: `python -m studies.tune --help`.

Three rounds, scored by pure RL's mean cumulative return on seeds that no benchmark run uses: a random
search; its best with more seeds and other keys; and the winner with one setting changed at a time, also
beyond the search's range. LORO's own settings (tau, K) are not searched, so the baseline is tuned harder
than what is compared with it. Rows are saved as they come, and a second call reuses them. The file names the
last round's best as its winner; which row a `standard` took is in results/README.md.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np
import tyro
from rich.console import Console

from loro_jax import progress
from loro_jax.errors import UserError, arguments, run, within
from loro_jax.protocols import Protocol
from loro_jax.running.command import MOST_SEEDS
from loro_jax.tasks import Task, load

Choices = dict[str, tuple[Any, ...]]

DQN_SPACE: Choices = {
    "learning_rate": (3e-4, 5e-4, 1e-3, 2e-3, 4e-3),
    "target_network_frequency": (25, 50, 100, 200, 400),
    "epsilon": (0.02, 0.05, 0.1, 0.2),
    "discount": (0.97, 0.98, 0.99),
    "batch_size": (32, 64),
    "hidden": ((32, 32), (64, 64), (128,)),
    "learning_starts": (100, 500),
}
DQN_NEARBY: Choices = {
    "learning_rate": (1e-3, 4e-3),
    "target_network_frequency": (200, 800),
    "epsilon": (0.1, 0.3),
    "discount": (0.95, 0.98),
    "batch_size": (64,),
    "hidden": ((64, 64), (256,)),
}
SAC_SPACE: Choices = {
    "learning_rate": (3e-4, 1e-3, 2e-3, 4e-3),
    "polyak": (0.005, 0.01, 0.02),
    "initial_temperature": (0.1, 1.0),
    "discount": (0.95, 0.97, 0.98, 0.99),
    "batch_size": (64, 128),
    "hidden": ((64, 64), (128,), (128, 128)),
    "learning_starts": (100, 500),
}
SAC_NEARBY: Choices = {
    "learning_rate": (1e-3, 4e-3),
    "polyak": (0.01, 0.04),
    "discount": (0.95, 0.98),
    "batch_size": (128,),
    "hidden": ((64, 64), (128, 128)),
}
SPACES = {"ddqn": (DQN_SPACE, DQN_NEARBY), "sac": (SAC_SPACE, SAC_NEARBY)}
"""What is searched by the agent that the protocol has."""


@dataclasses.dataclass(frozen=True)
class Options:
    task: str = "cartpole"
    """The task whose first protocol is tuned: cartpole and so on, or FILE.py:NAME."""
    configurations: int = 40
    """Settings drawn at random; the task's present ones are added."""
    seeds: int = 16
    """Seeds of the first round."""
    finalists: int = 6
    """Settings in the second round."""
    final_seeds: int = 64
    """Seeds of the second round."""
    nearby: bool = True
    """Try the winner with one setting changed at a time, too."""
    out: pathlib.Path = pathlib.Path("results/tuning")
    """Folder for <task>.json."""


def main(argv: list[str] | None = None) -> int:
    """The command; -> its exit status."""
    options = arguments(
        lambda: tyro.cli(Options, prog="python -m studies.tune", description=__doc__, args=argv)
    )
    within("--configurations", options.configurations, 0, 100_000)
    within("--seeds", options.seeds, 2, MOST_SEEDS)  # one has no standard error
    within("--final-seeds", options.final_seeds, 2, MOST_SEEDS)
    within("--finalists", options.finalists, 1, 100_000)
    task = load(options.task)
    path = options.out / f"{task.name}.json"
    from loro_jax import files
    from loro_jax.running import machine

    with files.claimed(path):
        rows = _kept(path)
        machine.start(2)
        _check_machine(path)
        return _search(options, task, path, rows)


def _check_machine(path: pathlib.Path) -> None:
    """A `UserError` where the rows in the file were computed elsewhere: their numbers are not comparable."""
    from loro_jax import files
    from loro_jax.running import machine

    before = files.read_json(path).get("computed_on") if path.exists() else None
    if isinstance(before, dict) and (other := machine.differences(before, machine.computed_on())):
        raise UserError(
            f"{path}: its rows were computed on another machine or setup ({other}); choose another --out"
        )


def _search(options: Options, task: Task, path: pathlib.Path, rows: list[dict[str, Any]]) -> int:
    """The rounds, each row written as it comes."""
    from loro_jax import files
    from loro_jax.running import machine

    standard = task.protocol()
    space, nearby_space = SPACES[standard.agent.name]
    rng = np.random.default_rng(0)
    drawn = [
        standard.replace(**{k: v[rng.integers(len(v))] for k, v in space.items()})
        for _ in range(options.configurations)
    ]
    console = Console(stderr=True, highlight=False)
    record: dict[str, Any] = {
        "task": task.name,
        "protocol": standard.name,
        "arm": "pure_rl",
        "score": "mean cumulative return, with its standard error",
        "space": space,
        "nearby": nearby_space,
        "fixed": {
            "budget": standard.schedule.budget,
            "eval_interval": standard.schedule.eval_interval,
        },
        "rows": rows,
        **machine.provenance(),
    }

    def round_of(protocols: list[Protocol], seeds: int, seed: int, title: str) -> list[Protocol]:
        """The protocols, best first; rows that the file has already are not trained again."""
        known = {_key(r): r for r in record["rows"]}
        for protocol in progress.track(protocols, title, console):
            row = {"settings": _settings(protocol, space), "seeds": seeds, "seed": seed}
            if _key(row) not in known:
                known[_key(row)] = row | _score(task, protocol, seeds, seed)
                record["rows"].append(known[_key(row)])
                files.write_json(path, record)
        found = [
            known[_key({"settings": _settings(p, space), "seeds": seeds, "seed": seed})] for p in protocols
        ]
        order = ranked(found)
        for i in order[:3]:
            row = found[i]
            score = f"{row['cumulative_return_mean']:8.0f} +- {row['standard_error']:3.0f}"
            print(f"{title}: {score}  {json.dumps(row['settings'])}", flush=True)
        return [protocols[i] for i in order]

    best = round_of([standard, *drawn], options.seeds, 101, "search")[: options.finalists]
    best = round_of(best, options.final_seeds, 102, "finalists")
    nearby = [best[0].replace(**{k: v}) for k, values in nearby_space.items() for v in values]
    winner = best[0]
    if options.nearby:
        winner = round_of([winner, *nearby], options.final_seeds, 102, "nearby")[0]
    files.write_json(path, record | {"winner": _settings(winner, space)})
    print(f"winner and all rows: {path}")
    return 0


def _kept(path: pathlib.Path) -> list[dict[str, Any]]:
    """The rows that an earlier call saved, or none; a `UserError` where they cannot be read."""
    from loro_jax import files

    try:
        rows = files.read_json(path).get("rows")
    except FileNotFoundError:
        return []
    fields = {"settings", "seeds", "seed", "cumulative_return_mean", "standard_error"}
    if not isinstance(rows, list) or not all(isinstance(row, dict) and fields <= row.keys() for row in rows):
        raise UserError(f"{path}: holds no rows of a tuning; move it away, or choose another --out")
    return [row | {"settings": {OLD_NAMES.get(k, k): v for k, v in row["settings"].items()}} for row in rows]


OLD_NAMES = {
    "target_interval": "target_network_frequency", "warmup": "learning_starts", "soft_update": "polyak",
}  # fmt: skip
"""Names of settings in files from before they were renamed."""


def _settings(protocol: Protocol, space: Choices) -> dict[str, Any]:
    """The searched settings, as JSON gives them back."""
    values = {k: v for k, v in protocol.flat().items() if k in space}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def _key(row: dict[str, Any]) -> str:
    return json.dumps([row["settings"], row["seeds"], row["seed"]], sort_keys=True)


def ranked(rows: list[dict[str, Any]]) -> list[int]:
    """Places in `rows`, best first; settings under which every seed diverged come last, as random play may
    score better than settings that learn."""
    lost = [row.get("diverged", 0) == row["seeds"] for row in rows]
    return sorted(range(len(rows)), key=lambda i: (lost[i], -rows[i]["cumulative_return_mean"]))


def _score(task: Task, protocol: Protocol, seeds: int, seed: int) -> dict[str, float]:
    """Trains pure RL and scores it; a seed that diverged scores as a random policy from there on."""
    from loro_jax.analysis import statistics
    from loro_jax.running import experiment
    from loro_jax.running.curves import random_returns
    from loro_jax.training import population

    ready = experiment.prepare_experiment(task, protocol, ("pure_rl",), seeds, seed)
    layout = population.layout(seeds, protocol.agent.hidden)
    programs = population.Programs(ready.world, layout)
    runs = population.begin(ready.world, layout, seed, seeds, False)
    start = population.Progress(0, runs, np.zeros((layout.padded(seeds), 0), np.float32))
    sentence = population.pieces(ready.arms[0], protocol.schedule.eval_interval)
    known = experiment.knowledge(ready, ready.world)
    curves = population.train(sentence, programs, start, known).records[:seeds]
    diverged = 0
    if np.isnan(curves).any():
        random = random_returns(ready.world.evaluation, seed)
        curves, lost = statistics.filled(curves, float(random.mean()))
        diverged = int(lost.sum())
    totals = curves.sum(axis=1)
    row = {
        "cumulative_return_mean": float(totals.mean()),
        "standard_error": float(totals.std(ddof=1) / seeds**0.5),
        "final_return_mean": float(curves[:, -5:].mean()),
    }
    return row | {"diverged": diverged} if diverged else row


if __name__ == "__main__":
    run(main)
