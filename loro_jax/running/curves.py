"""From what training recorded to the curves of a run, in both readings."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from loro_jax import keys
from loro_jax.records.results import Result
from loro_jax.running import policies
from loro_jax.running.experiment import Experiment
from loro_jax.tasks import Environment
from loro_jax.tasks.rollout import rollouts, uniform
from loro_jax.training.arms import charges_each, offline
from loro_jax.training.phases import AsPrior, Load
from loro_jax.training.prior import Prior
from loro_jax.types import Arm

RANDOM_EPISODES = 1000


def result(e: Experiment, raw: dict[str, dict[str, np.ndarray]]) -> Result:
    """Curves in both readings from what each arm left behind (`trainer`): by arm, its arrays."""
    curves, free, repeats, diverged = {}, {}, {}, {}
    evaluations = e.protocol.schedule.evaluations
    for arm in e.arms:
        if not arm.phases or offline(arm):
            continue
        interval = e.protocol.schedule.eval_interval
        curve, prior = laid_out(arm, raw[arm.name]["records"], e.prior, interval)
        if charges_each(arm):
            charged = intervals(raw[arm.name]["counters/prior_steps"], interval)
            free[arm.name] = curve[:, ~prior][:, : max(evaluations - int(charged.max()), 0)]
            curves[arm.name] = charged_each(curve, prior, charged, evaluations)
            at = raw[arm.name]["diverged"]
            diverged[arm.name] = np.where(at < 0, -1, at + charged * interval)
            continue
        if curve.shape[1] > evaluations:  # repeats, one after another, of all that is online
            online = evaluations - int(prior.sum())
            repeats[arm.name] = curve[:, ~prior].reshape(e.seeds, -1, online)
            curve = np.concatenate([curve[:, prior], repeats[arm.name].mean(axis=1)], axis=1)
            prior = prior[:evaluations]
        curves[arm.name], free[arm.name] = curve, curve[:, ~prior]
        at = raw[arm.name]["diverged"]
        diverged[arm.name] = np.where(at < 0, -1, at + uncounted(arm, interval))
    common = min((curve.shape[1] for curve in free.values()), default=0)
    free = {name: curve[:, :common] for name, curve in free.items()}
    flat = {}
    for arm in e.arms:
        if arm.name == "llm_policy":
            assert e.prior is not None
            flat[arm.name] = e.prior.returns  # of episodes as long as recorded, whatever eval_limit is
        elif arm.name == "random_policy":
            flat[arm.name] = random_returns(e.world.evaluation, e.seed)
        elif offline(arm):
            flat[arm.name] = raw[arm.name]["records"][:, -1]
            diverged[arm.name] = raw[arm.name]["diverged"]
    counters = {
        name: {k.removeprefix("counters/"): v for k, v in r.items() if k.startswith("counters/")}
        for name, r in raw.items()
    }
    for name, counted in counters.items():
        if (counted["llm_queries"] < 0).any():  # not known, which is no number
            del counters[name]["llm_queries"]
    env_steps = np.arange(1, evaluations + 1) * e.protocol.schedule.eval_interval
    level = None
    if any((at >= 0).any() for at in diverged.values()):
        returns = flat.get("random_policy")
        level = float((random_returns(e.world.evaluation, e.seed) if returns is None else returns).mean())
    kept = {name: found for name, r in raw.items() if (found := policies.of(r))}
    return Result(curves, free, flat, repeats, env_steps, counters, e.identity, diverged, level, kept)


def laid_out(
    arm: Arm, record: np.ndarray, prior: Prior | None, interval: int
) -> tuple[np.ndarray, np.ndarray]:
    """An arm's whole curve, (seeds, evaluations), and which of its evaluations stand for prior data.

    `record` is what its phases recorded, (seeds, fewer evaluations): loaded data brings its own returns.
    """
    parts, of_prior, taken = [], [], 0
    for phase in arm.phases:
        cost = phase.cost(interval)
        length = (cost.prior + cost.online) // interval
        if phase is arm.phases[-1] and charges_each(arm):  # as long as a seed needs
            length = record.shape[1] - taken
        if isinstance(phase, Load):
            assert prior is not None and length == len(prior.curve)
            parts.append(np.broadcast_to(prior.curve, (len(record), length)))
        else:
            parts.append(record[:, taken : taken + length])
            taken += length
        of_prior += [cost.prior > 0] * length
    return np.concatenate(parts, axis=1), np.array(of_prior, bool)


def intervals(steps: np.ndarray, interval: int) -> np.ndarray:
    """Whole evaluation intervals that so many steps take, (seeds,)."""
    return -(-np.asarray(steps) // interval)


def charged_each(curve: np.ndarray, prior: np.ndarray, charged: np.ndarray, evaluations: int) -> np.ndarray:
    """The curves, (seeds, evaluations), where each seed is charged intervals of its own, (seeds,).

    Args:
        curve: what was recorded, (seeds, more).
        prior: which of it stands for prior data, (more,): a seed's mean return, repeated.
    """
    played, online = curve[:, prior][:, :1], curve[:, ~prior]
    rows = []
    for seed, intervals in enumerate(np.minimum(charged, evaluations)):
        rows.append(
            np.concatenate([np.repeat(played[seed], intervals), online[seed, : evaluations - intervals]])
        )
    return np.stack(rows)


def uncounted(arm: Arm, interval: int) -> int:
    """Environment steps of the budget that `Counters.env_steps` does not count."""
    return sum(p.cost(interval).prior for p in arm.phases if not isinstance(p, AsPrior))


def random_returns(env: Environment, seed: int, episodes: int = RANDOM_EPISODES) -> np.ndarray:
    """Returns of a uniform policy's episodes, (episodes,)."""
    each = jax.vmap(lambda index: keys.fold(keys.of_seed(seed, index), keys.Purpose.EVALUATE))
    return np.asarray(rollouts(env, uniform(env), each(jnp.arange(episodes)))[0])
