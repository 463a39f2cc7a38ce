"""What a tuned learner has to reach on each task, and how settings are ranked by it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from loro_jax.protocols import Protocol
from loro_jax.tasks import Task

Curves = np.ndarray
"""Returns, (seeds, evaluations)."""


def last(curves: Curves) -> np.ndarray:
    """Each seed's final return, the mean of the last tenth of its evaluations, (seeds,)."""
    from loro_jax.analysis.metrics.final_return import last_mean

    return last_mean(curves)


def iqm(values: Sequence[float] | np.ndarray) -> float:
    """The interquartile mean."""
    from loro_jax.analysis import statistics

    return float(statistics.iqm(np.asarray(values, np.float64)))


@dataclasses.dataclass(frozen=True)
class Goal:
    """What pure RL has to reach.

    Attributes:
        says: in words.
        value: what `of` has to be at least.
        floor: what it is of a random policy, roughly: the shortfall is told as a share of the way.
        of: curves (seeds, evaluations) and exact values (seeds,), where there are any -> the number.
    """

    says: str
    value: float
    floor: float
    of: Callable[[Curves, Sequence[float]], float]


def _final(curves: Curves, values: Sequence[float]) -> float:
    return iqm(last(curves))


GOALS = {
    "cartpole": Goal("IQM of final returns, 195", 195.0, 22.0, _final),
    "cliff_walking": Goal(
        "share of seeds whose last tenth of evaluations all return -13, 0.95", 0.95, 0.0,
        lambda curves, _: float((last(curves) >= -13).mean()),
    ),
    "frozen_lake": Goal(
        "IQM of the greedy policies' exact values, 0.73", 0.73, 0.01, lambda _, values: iqm(values)
    ),
    "mountain_car": Goal("IQM of final returns, -105", -105.0, -200.0, _final),
    "pendulum": Goal("IQM of final returns, -150", -150.0, -1230.0, _final),
    "pong": Goal("IQM of final returns, 0", 0.0, -8.3, _final),
    "blackjack": Goal(
        "IQM of final exact values, -0.0531, 0.01 below the best policy's", -0.0531, -0.41, _final
    ),
    "snake": Goal("IQM of final returns, 12, half of the fruit", 12.0, 6.5, _final),
    "connect_four": Goal("IQM of final returns, 0.8, nine games of ten", 0.8, -0.91, _final),
}  # fmt: skip


def says(task: Task) -> str:
    """A task's goal, in words."""
    return GOALS[task.name].says if task.name in GOALS else "cumulative return alone"


EXACT = ("frozen_lake",)
"""Tasks whose policies' exact values are computed."""


def exact(task: Task, protocol: Protocol, arrays: Mapping[str, np.ndarray], seeds: int) -> list[float]:
    """The exact value of each seed's greedy policy (`running.policies.arrays`), where the game's are."""
    if task.name not in EXACT:
        return []
    import jax
    import jax.numpy as jnp

    from loro_jax.running import policies
    from loro_jax.tasks.frozen_lake import value_of

    env = task.under(protocol)
    agent: Any = protocol.agent.for_game(env.action_space, env.magnitudes)
    begun = jax.eval_shape(
        lambda key: agent.policy(agent.init(key, env.observation_shape, env.action_space)), jax.random.key(0)
    )
    greedy = jax.jit(jax.vmap(agent.act, (None, 0)))
    found = []
    for seed in range(seeds):
        chosen = greedy(policies.rebuilt(begun, arrays, seed), jnp.eye(16))
        found.append(value_of(np.asarray(chosen).tolist()))
    return found


def scores(task: Task, protocol: Protocol, curves: Curves, values: Sequence[float]) -> dict[str, float]:
    """What is said of settings: cumulative and final return, the goal's number, and one score.

    The score, by which the search and its pruning go, is the mean return over the whole curve less twice what
    the goal's number falls short of it, both as shares of the way from a random policy to the best one; of a
    task without a goal, the mean return.
    """
    totals = curves.sum(axis=1)
    if (goal := GOALS.get(task.name)) is None:
        reached, score = _final(curves, values), float(curves.mean())
    else:
        reached, env = goal.of(curves, values), task.under(protocol)
        floor = goal.floor if task.name != "cliff_walking" else -200.0
        best = float(env.best) if env.best is not None else goal.value
        mean = (float(curves.mean()) - floor) / (best - floor)
        score = mean - 2 * max(0.0, goal.value - reached) / (goal.value - goal.floor)
    found = {
        "score": score,
        "goal": reached,
        "cumulative": float(totals.mean()),
        "cumulative_standard_error": float(totals.std(ddof=1) / len(totals) ** 0.5),
        "final_iqm": iqm(last(curves)),
        "final_mean": float(last(curves).mean()),
    }
    return {k: round(v, 6) for k, v in found.items()}


def winner(task: Task, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The highest cumulative return among rows whose goal is reached; where none does, the nearest to it."""
    goal = GOALS.get(task.name)
    reaching = [row for row in rows if goal is None or row["scores"]["goal"] >= goal.value]
    if reaching:
        return max(reaching, key=lambda row: row["scores"]["cumulative"])
    return max(rows, key=lambda row: (row["scores"]["goal"], row["scores"]["final_mean"]))
