"""Tunes a benchmark's `standard` protocol for pure RL: `python -m benchmarks.tune --help`.

A random search over settings that pure RL learns with, scored by its mean cumulative return, on seeds
that no benchmark run uses. The best by a first round go into a second with more seeds and other keys,
whose winner is written down. LORO's own settings (tau, K) are not searched, so the baseline is tuned
harder than what is compared with it.
"""

from __future__ import annotations

import dataclasses
import importlib
import pathlib
import sys
from typing import Any

import numpy as np
import tyro
from rich.console import Console
from rich.progress import track

from loro_jax.benchmark import Benchmark
from loro_jax.errors import UserError, command
from loro_jax.protocols import Protocol

SPACE: dict[str, tuple[Any, ...]] = {
    "learning_rate": (5e-4, 1e-3, 2e-3, 4e-3),
    "target_interval": (100, 200, 400, 800),
    "epsilon": (0.05, 0.1, 0.2, 0.3),
    "discount": (0.95, 0.97, 0.98, 0.99),
    "batch_size": (32, 64, 128),
    "hidden": ((64, 64), (128,), (256,)),
    "warmup": (100, 500),
}


@dataclasses.dataclass(frozen=True)
class Options:
    benchmark: str = "cartpole"
    """Module in benchmarks/ whose standard protocol is tuned."""
    configurations: int = 40
    """Settings drawn at random; the module's present ones are added."""
    seeds: int = 16
    """Seeds of the first round."""
    finalists: int = 6
    """Settings in the second round."""
    final_seeds: int = 64
    """Seeds of the second round."""
    out: pathlib.Path = pathlib.Path("results/tuning")
    """Folder for <benchmark>.json."""


def main() -> int:
    options = tyro.cli(Options, prog="python -m benchmarks.tune", description=__doc__)
    import jax

    jax.config.update("jax_num_cpu_devices", 2)
    from loro_jax import results

    try:
        module = importlib.import_module(f"benchmarks.{options.benchmark}")
    except ModuleNotFoundError:
        raise UserError(f"benchmarks/ has no module '{options.benchmark}'") from None
    benchmark: Benchmark = getattr(module, options.benchmark.upper())
    standard = benchmark.protocols["standard"]
    rng = np.random.default_rng(0)
    drawn = [
        dataclasses.replace(standard, **{k: v[rng.integers(len(v))] for k, v in SPACE.items()})
        for _ in range(options.configurations)
    ]
    first = [_row(benchmark, p, options.seeds, 101) for p in _bar([standard, *drawn], "first round")]
    first.sort(key=lambda row: -row["cumulative_return_mean"])
    best = [_protocol(standard, row) for row in first[: options.finalists]]
    second = [_row(benchmark, p, options.final_seeds, 102) for p in _bar(best, "second round")]
    second.sort(key=lambda row: -row["cumulative_return_mean"])
    options.out.mkdir(parents=True, exist_ok=True)
    record = {
        "benchmark": benchmark.name,
        "arm": "pure_rl",
        "score": "mean cumulative return, with its standard error",
        "space": SPACE,
        "fixed": {"budget": standard.budget, "eval_every": standard.eval_every},
        "first_round": first,
        "second_round": second,
        **results.provenance(),
    }
    path = options.out / f"{benchmark.name}.json"
    results.write_json(path, record)
    console = Console(highlight=False)
    for row in second:
        console.print(
            f"{row['cumulative_return_mean']:8.0f} +- {row['standard_error']:4.0f}  {row['settings']}"
        )
    console.print(f"both rounds: {path}")
    return 0


def _bar(items: list[Protocol], description: str) -> Any:
    return track(items, description=description, console=Console(stderr=True))


def _row(benchmark: Benchmark, protocol: Protocol, seeds: int, seed: int) -> dict[str, Any]:
    """Trains pure RL -> its score, with the settings that were searched."""
    from loro_jax import experiment, population

    ready = experiment.prepare_experiment(benchmark, protocol, ("pure_rl",), seeds, seed, benchmark.episodes)
    layout = population.layout(seeds, protocol.hidden)
    programs = population.Programs(ready.world, layout)
    runs = population.begin(ready.world, layout, seed, seeds, False)
    start = population.Progress(0, runs, np.zeros((layout.padded(seeds), 0), np.float32))
    sentence = population.pieces(ready.arms[0], protocol.eval_every)
    curves = population.train(sentence, programs, start, experiment.prior_data(ready)).records[:seeds]
    totals = curves.sum(axis=1)
    return {
        "settings": {k: getattr(protocol, k) for k in SPACE},
        "cumulative_return_mean": float(totals.mean()),
        "standard_error": float(totals.std(ddof=1) / seeds**0.5),
        "final_return_mean": float(curves[:, -5:].mean()),
        "seeds": seeds,
        "seed": seed,
    }


def _protocol(standard: Protocol, row: dict[str, Any]) -> Protocol:
    return dataclasses.replace(standard, **row["settings"])


if __name__ == "__main__":
    sys.exit(command(main))
