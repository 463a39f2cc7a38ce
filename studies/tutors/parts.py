"""The parts of the study: what each trains, and what is kept of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

import loro_jax as lj
from loro_jax.analysis import statistics
from loro_jax.protocols import Protocol
from loro_jax.running import experiment
from loro_jax.training import prior
from loro_jax.training.arms import Sentence
from studies import runs
from studies.blocks import only
from studies.runs import SEED, Kept, curves, described, finals, means
from studies.tutors import arms, measures
from studies.tutors.games import Known


@dataclasses.dataclass(frozen=True)
class How(runs.How):
    """`runs.How`, of a game."""

    def of(self, known: Known) -> int:
        return self.seeds or known.game.seeds

    def protocol(self, known: Known) -> Protocol:
        return known.protocol.replace(budget=self.budget or known.protocol.schedule.budget)


def ran(how: How, known: Known, part: str, chosen: Sequence[str | Sentence], tutor: str = "") -> lj.Result:
    """A run, which goes on where it was interrupted."""
    folder = how.work / known.game.task / (f"{part}-{tutor}" if tutor else part)
    given: dict[str, Any] = {"answers": only(known.blocks, tutor)} if tutor else {}
    return runs.ran(folder, known.task, chosen, how.protocol(known), how.of(known), **given)


def counted(result: lj.Result) -> dict[str, dict[str, float]]:
    """Of each arm with a tutor, what is counted of it, means over seeds."""
    return {
        arm: {name: float(np.mean(values)) for name, values in counts.items()}
        for arm, counts in result.counters.items()
    }


def alone(how: How, known: Known) -> Kept:
    """The learners without a tutor, and the tutors without a learner."""
    result = ran(how, known, "alone", [*(arms.alone(agent) for agent in arms.AGENTS), "random_policy"])
    kept = curves(result)
    found = {
        "arms": described(kept),
        "random_return": float(result.flat["random_policy"].mean()),
        "env_steps": list(result.returns.axes["env_steps"]),
        "best": known.task.under(known.protocol).best,
        "diverged": {arm: len(seeds) for arm, seeds in result.summary["diverged"].items()},
        "tutors": {name: of_tutor(known, name) for name in known.tutors},
    }
    return found, kept


def of_tutor(known: Known, name: str) -> dict[str, Any]:
    """What a tutor is worth alone: the return of its play, and how often a best action is its answer."""
    roomy = known.protocol.replace(charge="episodes", tau=1)
    env = known.task.under(known.protocol)
    played = prior.played(only(known.blocks, name), env, roomy, seed=SEED).returns
    return {
        "return": float(played.mean()),
        "ci95": list(statistics.interval(played, statistics.weighted_mean, seed=SEED)),
        "agreement": known.blocks.covered(name, 1),
    }


def cells(how: How, known: Known) -> Kept:
    """All agents beside all tutors, with reuse and without."""
    return taught(how, known, "cells", {tutor: arms.cells(tutor) for tutor in known.tutors})


def variants(how: How, known: Known) -> Kept:
    """A tutor that falls silent, other rules of reuse, other ways of entering."""
    return taught(how, known, "variants", {t: arms.variants(t) for t in arms.varied(best(known))})


def best(known: Known) -> str:
    """The model whose first answers are best actions most often, weighed by play."""
    return max(known.models, key=lambda model: known.blocks.covered(model, 1))


def taught(how: How, known: Known, part: str, chosen: Mapping[str, Sequence[str | Sentence]]) -> Kept:
    """Runs of a part, one for each tutor."""
    kept: dict[str, np.ndarray] = {}
    found: dict[str, Any] = {"guidance": {}, "diverged": {}, "best": best(known)}
    for tutor, sentences in chosen.items():
        result = ran(how, known, part, sentences, tutor)
        kept |= curves(result)
        found["guidance"] |= counted(result)
        found["diverged"] |= {arm: len(seeds) for arm, seeds in result.summary["diverged"].items()}
    return found | {"arms": described(kept)}, kept


Part = Callable[[How, Known], Kept]
PARTS: dict[str, Part] = {"alone": alone, "cells": cells, "variants": variants}


def identity(how: How, known: Known) -> dict[str, Any]:
    """What decides a part's numbers, but for the program."""
    numbers = {name: getattr(arms, name) for name in arms.NUMBERS}
    return runs.identity(
        known.game.task, how.protocol(known), how.of(known), numbers, known.blocks.table, known.models
    )


def there(how: How, known: Known, part: str) -> bool:
    """Whether a part of this very study is finished."""
    return runs.there(how.out / known.game.task / part, identity(how, known))


def keep(how: How, known: Known, part: str) -> bool:
    """Runs a part, unless it is there; -> whether it ran."""
    stem, here = how.out / known.game.task / part, identity(how, known)
    if there(how, known, part):
        return False
    runs.keep(stem, here, PARTS[part](how, known))
    return True


def seconds(how: How, known: Known, part: str) -> float:
    """What a part will take here, roughly, without compiling."""
    chosen: dict[str, list[str | Sentence]] = {}
    if part == "cells":
        chosen = {tutor: arms.cells(tutor) for tutor in known.tutors}
    elif part == "variants":
        chosen = {tutor: arms.variants(tutor) for tutor in arms.varied(best(known))}
    else:
        chosen = {known.tutors[0]: [arms.alone(agent) for agent in arms.AGENTS]}
    total = 0.0
    for tutor, sentences in chosen.items():
        e = experiment.prepare_experiment(
            known.task, how.protocol(known), sentences, how.of(known), SEED,
            answers=only(known.blocks, tutor),
        )  # fmt: skip
        total += experiment.expected_seconds(e, e.arms)
    return total


def compared(
    alone: Mapping[str, Any], untutored: Mapping[str, np.ndarray], tutored: Mapping[str, np.ndarray]
) -> dict[str, dict[str, Any]]:
    """Of each arm beside a tutor what it gains on its agent alone: how many times sooner it converges, and
    mean and final return and the spread after convergence, each less the agent's, paired by seed.

    Args:
        alone: what is kept of the learners without a tutor.
        untutored: their curves (seeds, evaluations) by agent.
        tutored: those of arms beside tutors, whose names begin with the agent's.
    """
    steps = np.asarray(alone["env_steps"])
    found: dict[str, dict[str, Any]] = {}
    bases: dict[str, dict[str, Any]] = {}
    for agent, curve in untutored.items():
        end = statistics.iqm(finals({agent: curve})[agent])
        level = measures.wanted(alone["random_return"], end)
        times = measures.converged(curve, steps, level)
        bases[agent] = {"level": level, "times": times, "spread": measures.spread(curve, steps, times)}
    for arm, curve in tutored.items():
        agent = arm.partition("-")[0]
        base, pair = bases[agent], {agent: untutored[agent], arm: curve}
        times = measures.converged(curve, steps, base["level"])
        spread = measures.spread(curve, steps, times)
        found[arm] = {
            "agent": agent,
            "speed_up": measures.speed_up(base["times"], times, float(steps[-1]), SEED),
            "mean": runs.against(means(pair), [(arm, agent)])[0],
            "final": runs.against(finals(pair), [(arm, agent)])[0],
            "spread": both(spread, base["spread"]),
        }
    for kind in ("speed_up", "mean", "final"):
        corrected = statistics.holm([found[arm][kind]["p"] for arm in found])
        for arm, p in zip(found, corrected, strict=True):
            found[arm][kind]["holm"] = float(p)
    return found


def both(spread: np.ndarray, base: np.ndarray) -> dict[str, Any]:
    """The difference of spreads of seeds that converged with either, their mean and its interval."""
    there = np.isfinite(spread) & np.isfinite(base)
    if there.sum() < 2:
        return {"seeds": int(there.sum()), "difference": None, "ci95": None}
    less = spread[there] - base[there]
    ends = statistics.interval(less, statistics.weighted_mean, seed=SEED)
    return {"seeds": int(there.sum()), "difference": float(less.mean()), "ci95": list(ends)}


def reused(
    curves_of: Mapping[str, np.ndarray], level: Mapping[str, float], steps: np.ndarray
) -> dict[str, dict[str, Any]]:
    """Of each arm that reuses advice what it gains on the same tutor without reuse, as `compared` has it.

    Args:
        curves_of: of the cells, (seeds, evaluations) by arm.
        level: the return at which each agent has converged.
    """
    found: dict[str, dict[str, Any]] = {}
    for again in (arm for arm in curves_of if arm.endswith("-reuse")):
        first = again.removesuffix("-reuse")
        both_of = [curves_of[name] for name in (first, again)]
        times = [measures.converged(x, steps, level[first.partition("-")[0]]) for x in both_of]
        spreads = [measures.spread(x, steps, t) for x, t in zip(both_of, times, strict=True)]
        found[again] = {
            "speed_up": measures.speed_up(times[0], times[1], float(steps[-1]), SEED),
            "spread": both(spreads[1], spreads[0]),
        }
    if found:
        corrected = statistics.holm([x["speed_up"]["p"] for x in found.values()])
        for x, p in zip(found.values(), corrected, strict=True):
            x["speed_up"]["holm"] = float(p)
    return found
