"""Says what is wrong with a task, and what is not: `python -m loro_jax.check my_game.py:TASK`.

Plays episodes of a uniform policy, looks at rules, words, prompts, reference and protocols, then trains two
seeds for a moment. Exit status 1 if there is a problem.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import tyro

from loro_jax.errors import UserError, arguments, run


@dataclasses.dataclass(frozen=True)
class Options:
    task: Annotated[str, tyro.conf.Positional]
    """FILE.py:NAME, PACKAGE.MODULE:NAME, gymnax:NAME, or one of the suite's own."""
    no_train: bool = False
    """Leave out the training of two seeds for two evaluations."""


def main(argv: list[str] | None = None) -> int:
    """The command; -> its exit status."""
    prog = "python -m loro_jax.check"
    config = (tyro.conf.FlagCreatePairsOff,)
    o = arguments(lambda: tyro.cli(Options, prog=prog, description=__doc__, args=argv, config=config))
    from loro_jax.running import machine

    machine.start()
    from loro_jax.tasks import load
    from loro_jax.tasks.check import check_task

    task = load(o.task)
    findings = check_task(task)
    for finding in findings:
        print(f"{finding.kind:>8}: {finding.says}", flush=True)
    problems = [f for f in findings if f.kind == "problem"]
    if not problems and not o.no_train:
        trained = _trained(o.task)
        print(f"{trained.kind:>8}: {trained.says}")
        problems += [trained] if trained.kind == "problem" else []
    print(f"{task.name}: " + (f"{len(problems)} to mend" if problems else "ready"))
    return 1 if problems else 0


def _trained(name: str) -> Any:
    """What comes of training two seeds for two evaluations."""
    from rich.console import Console

    from loro_jax.running import experiment, trainer
    from loro_jax.running.store import Nowhere
    from loro_jax.tasks import load
    from loro_jax.tasks.check import Finding

    task = load(name)
    protocol = task.protocol()
    interval = protocol.schedule.eval_interval
    short = protocol.replace(budget=2 * interval, learning_starts=min(interval, 100))
    try:
        ready = experiment.prepare_experiment(task, short, ("pure_rl",), 2, 0)
        result, _ = trainer.run(ready, Nowhere(), Console(quiet=True))
    except UserError as error:
        return Finding("problem", f"training: {error}")
    if (result.diverged["pure_rl"] >= 0).any():
        return Finding("problem", f"training diverged at step {result.diverged['pure_rl'].max()}")
    level = result.curves["pure_rl"][:, -1].mean()
    steps = 2 * interval
    return Finding("ok", f"{protocol.agent.name} trains: two seeds return {level:.4g} after {steps} steps")


if __name__ == "__main__":
    run(main)
