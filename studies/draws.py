"""How much of LORO's variance the draw of its LLM episodes makes: `python -m studies.draws --help`.

Seeds of LORO under one table of answers, once with episodes of their own, and once for each of several draws
with the same episodes for all seeds, as studies with one played dataset have them. Where seeds share a draw,
their spread leaves out what another draw would have given.
"""

from __future__ import annotations

import dataclasses
import pathlib
import tempfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console

import loro_jax as lj
from loro_jax import files, keys, progress
from loro_jax.data import episodes
from loro_jax.data.answers import Answers, find, resolve
from loro_jax.data.episodes import Episodes
from loro_jax.errors import UserError, arguments, run, within
from loro_jax.keys import Purpose
from loro_jax.language import tables
from loro_jax.tasks import Environment, Task
from loro_jax.tasks.rollout import recorded
from loro_jax.training.guidance import drawn
from loro_jax.types import Transition

RESAMPLES = 2000
LEVEL = 0.95


@dataclasses.dataclass(frozen=True)
class Options:
    """Tells how much of LORO's variance the draw of its LLM episodes makes."""

    answers: str
    """A table of a model's answers, by name or folder."""
    task: str = "frozen_lake"
    """The task, by name or as FILE.py:NAME."""
    protocol: str = ""
    """By default the task's first."""
    draws: int = 16
    """Draws of tau episodes that all seeds share in turn."""
    seeds: int = 64
    """Seeds of each run whose seeds share a draw."""
    own_seeds: int = 256
    """Seeds of the run whose seeds play episodes of their own."""
    recount: bool = False
    """Train nothing: tell again what the returns saved in --out say."""
    out: pathlib.Path = pathlib.Path("results/guidance/draws")
    """Folder for TASK.json, which has every run's cumulative returns."""


def main(argv: list[str] | None = None) -> int:
    """The command; -> its exit status."""
    prog = "python -m studies.draws"
    o = arguments(lambda: tyro.cli(Options, prog=prog, description=__doc__, args=argv))
    within("--draws", o.draws, 2, 1000)
    within("--seeds", o.seeds, 2, 100_000)
    within("--own-seeds", o.own_seeds, 2, 100_000)
    task = lj.load_task(o.task)
    if not hasattr(task.environment().action_space, "n"):
        raise UserError("draws are played for discrete actions")
    if o.recount:
        path = o.out / f"{task.name}.json"
        found = files.read_json(path) if path.exists() else {}
        if not {"shared", "own"} <= found.keys():
            raise UserError(f"{path}: holds no returns; run the study first")
        found |= components(np.array(found["shared"]), np.array(found["own"]))
        files.write_json(path, found)
        print(told(found))
        return 0
    protocol = task.protocol(o.protocol)
    table = tables.read(resolve(o.answers, task.name), task)
    console = Console(stderr=True, highlight=False)
    runs = f"a run of {o.own_seeds} seeds of LORO on {task.name}, then {o.draws} of {o.seeds}"
    console.print(runs, markup=False)
    given: dict[str, Any] = {"protocol": protocol, "progress": False}
    own = cumulative(lj.run(task, ("loro",), answers=table, seeds=o.own_seeds, **given))
    shared = []
    with tempfile.TemporaryDirectory(prefix="loro_jax-draws-") as folder:
        for draw in progress.track(range(o.draws), "draws", console):
            place = pathlib.Path(folder) / str(draw)
            episodes.save(played(table, task, task.under(protocol), protocol.prior.tau, draw), place)
            shared.append(cumulative(lj.run(task, ("loro",), episodes=str(place), seeds=o.seeds, **given)))
    found = {
        "task": task.name,
        "protocol": protocol.name,
        "answers": table.name,
        "own": own.tolist(),
        "shared": np.stack(shared).tolist(),
        **components(np.stack(shared), own),
    }
    o.out.mkdir(parents=True, exist_ok=True)
    files.write_json(o.out / f"{task.name}.json", found)
    print(told(found))
    return 0


def cumulative(result: lj.Result) -> np.ndarray:
    """Sum of all evaluations, (seeds,)."""
    return np.asarray(result.returns.sel(arm="loro").values, np.float64).sum(axis=-1)


def played(table: Answers, task: Task, env: Environment, tau: int, draw: int) -> Episodes:
    """`tau` episodes that the answers play, as a dataset."""
    looked_up = table.table()

    def act(obs: jax.Array, key: jax.Array) -> jax.Array:
        return drawn(looked_up, find(looked_up, table.coding, table.coding.digits(obs)), env, obs, key).action

    key = keys.fold(keys.of_seed(2**31, draw), Purpose.COLLECT)
    each = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(tau))
    rows = jax.tree.map(np.asarray, jax.jit(jax.vmap(lambda k: recorded(env, act, k, env.limit)))(each))
    kept = rows.played
    steps = Transition(
        rows.obs[:, :-1][kept], rows.actions[kept].astype(env.action_space.dtype), rows.rewards[kept],
        rows.obs[:, 1:][kept], rows.terminated[kept], rows.truncated[kept],
    )  # fmt: skip
    card = {"environment": task.name, "name": f"draw-{draw}", "model": table.card["model"], "prompt": "table"}
    return Episodes(steps, kept.sum(axis=1), card)


def components(shared: np.ndarray, own: np.ndarray) -> dict[str, Any]:
    """What draws and seeds add to the variance of a cumulative return, with bootstrap intervals.

    One-way analysis of variance of `shared` (draws, seeds): the variance between draws is that of their means
    less what seeds make of it, and is not below nought; intervals resample draws, with the seeds that they
    have. `own` (seeds,) has both in one.
    """
    rng = np.random.default_rng(0)
    draws = len(shared)

    def split(x: np.ndarray) -> tuple[float, float]:
        inner = float(x.var(axis=1, ddof=1).mean())
        return max(float(x.mean(axis=1).var(ddof=1)) - inner / x.shape[1], 0.0), inner

    between, inside = split(shared)
    resampled = []
    for _ in range(RESAMPLES):
        b, i = split(shared[rng.integers(draws, size=draws)])
        resampled.append(b / (b + i) if b + i else 0.0)
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    alone = [float(rng.choice(own, len(own)).var(ddof=1)) for _ in range(RESAMPLES)]
    return {
        "variance_between_draws": between,
        "variance_within_a_draw": inside,
        "share_of_draws": between / (between + inside) if between + inside else 0.0,
        "share_of_draws_ci95": [float(low), float(high)],
        "variance_with_own_draws": float(own.var(ddof=1)),
        "variance_with_own_draws_ci95": np.quantile(alone, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist(),
    }


def told(found: dict[str, Any]) -> str:
    """A sentence."""
    low, high = found["share_of_draws_ci95"]
    one, own = (found[f"variance_{which}"] ** 0.5 for which in ("within_a_draw", "with_own_draws"))
    return (
        f"{found['task']}: the draw of the episodes makes {found['share_of_draws']:.0%}"
        f" [{low:.0%}, {high:.0%}] of the variance of LORO's cumulative return (standard deviation"
        f" {one:.4g} among seeds that share a draw, {own:.4g} among seeds with their own)"
    )


if __name__ == "__main__":
    run(main)
