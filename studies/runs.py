"""What studies of several runs have in common: how they run, what is kept of them, and how it is compared."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import loro_jax as lj
from loro_jax import agents, files
from loro_jax.analysis import statistics
from loro_jax.analysis.formats import strict
from loro_jax.protocols import Protocol
from loro_jax.training.arms import Sentence

SEED = 0

Kept = tuple[dict[str, Any], dict[str, np.ndarray]]
"""What is written as JSON, and arrays by name."""


@dataclasses.dataclass(frozen=True)
class How:
    """What a command says of all parts.

    Attributes:
        work: where runs are while they are not finished, and their policies.
        out: where what is kept of them goes.
        seeds: of each arm; 0 for the study's own number.
        budget: environment steps; 0 for the protocol's.
        dry: train nothing.
    """

    work: pathlib.Path
    out: pathlib.Path
    seeds: int = 0
    budget: int = 0
    dry: bool = False


def ran(
    folder: pathlib.Path,
    task: lj.Task,
    chosen: Sequence[str | Sentence],
    protocol: Protocol,
    seeds: int,
    seed: int = SEED,
    **given: Any,
) -> lj.Result:
    """A run, which goes on where it was interrupted."""
    return lj.run(
        task, chosen, protocol=protocol, seeds=seeds, seed=seed, out=folder, resume=True, **given
    )  # fmt: skip


def curves(result: lj.Result) -> dict[str, np.ndarray]:
    """Returns of learning arms, (seeds, evaluations), what diverged playing as a random policy from there."""
    found = {}
    for name in result.returns.axes["arm"]:
        values = np.asarray(result.returns.sel(arm=name).values)
        found[str(name)] = statistics.filled(values, result.summary["random_return"])[0].astype(np.float32)
    return found


def against(values: Mapping[str, np.ndarray], pairs: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """Each pair's difference, of values (seeds,) by arm, paired by seed and corrected as one family."""
    found = [statistics.paired(values[arm], values[base], seed=SEED) for arm, base in pairs]
    corrected = statistics.holm([c.p_value for c in found])
    return [
        {
            "arm": arm, "baseline": base, "difference": c.difference, "ci95": list(c.difference_ci),
            "improvement": c.improvement, "improvement_ci95": list(c.improvement_ci), "p": c.p_value,
            "holm": float(p),
        }
        for (arm, base), c, p in zip(pairs, found, corrected, strict=True)
    ]  # fmt: skip


def means(curves: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Mean return over all evaluations, (seeds,) by arm: the cumulative return by its number."""
    return {name: curve.astype(np.float64).mean(axis=1) for name, curve in curves.items()}


def finals(curves: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Mean return over the last tenth of the evaluations, (seeds,) by arm."""
    from loro_jax.analysis.metrics.final_return import last_mean

    return {name: last_mean(curve.astype(np.float64)) for name, curve in curves.items()}


def described(curves: Mapping[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """Of each arm the IQM of its mean and of its final returns, with intervals over seeds."""
    found: dict[str, dict[str, Any]] = {name: {} for name in curves}
    for kind, values in (("mean", means(curves)), ("final", finals(curves))):
        for name, each in values.items():
            ends = statistics.interval(each, seed=SEED)
            found[name][kind] = {"iqm": statistics.iqm(each), "ci95": list(ends)}
    return found


def others(protocol: Protocol) -> list[dict[str, Any]]:
    """The agents beside a protocol's own, each by what it changes of its class's settings: a setting that
    comes later, and changes nothing, leaves what was run the same."""
    found = []
    for agent in protocol.others:
        usual = agents.settings(type(agent)())
        changed = {k: v for k, v in agents.settings(agent).items() if v != usual[k]}
        found.append({"agent": agent.name, **changed})
    return found


def plain(of: Mapping[str, Any]) -> dict[str, Any]:
    """What decides a part's numbers, as JSON has it."""
    return json.loads(json.dumps(of))  # type: ignore[no-any-return]


def there(stem: pathlib.Path, of: Mapping[str, Any]) -> bool:
    """Whether a part of this very study is finished."""
    path = stem.with_suffix(".json")
    return path.exists() and files.read_json(path).get("of") == plain(of)


def keep(stem: pathlib.Path, of: Mapping[str, Any], kept: Kept) -> None:
    """Writes a finished part: its numbers last, since they say that it is there."""
    found, arrays = kept
    stem.parent.mkdir(parents=True, exist_ok=True)
    files.write_npz(stem.with_suffix(".npz"), arrays or {"nothing": np.zeros(0)})
    files.write_json(stem.with_suffix(".json"), strict({"of": plain(of), "part": stem.name, **found}))
