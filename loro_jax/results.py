"""What a run leaves behind, with its identity inside the files; every file is written atomically."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
from typing import Any

import numpy as np

PACKAGES = (
    "loro_jax", "jax", "jaxlib", "flax", "optax", "gymnax", "chex", "orbax-checkpoint", "numpy", "scipy",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Result:
    """Learning curves of a population.

    Attributes:
        curves: by learning arm, (seeds, evaluations): prior data charged to the budget, its share of
            the curve holding the prior episodes' returns.
        llm_free: the same with LLM episodes as free: evaluations counted from the start of online
            training, every arm cut to the common length, (seeds, fewer evaluations).
        flat: by flat line, returns of its episodes, (episodes,).
        repeats: by chained arm, (seeds, repeats, evaluations).
        env_steps: budget used at each evaluation, (evaluations,).
        counters: by learning arm and counter, (seeds,).
        identity: what ran: benchmark, protocol, arms, seeds, datasets.
        diverged: by learning arm, the environment step at which each seed diverged, -1 for those that did
            not, (seeds,). Their curves are NaN from the next evaluation on.
        random_return: the random policy's mean return, where a seed diverged.
    """

    curves: dict[str, np.ndarray]
    llm_free: dict[str, np.ndarray]
    flat: dict[str, np.ndarray]
    repeats: dict[str, np.ndarray]
    env_steps: np.ndarray
    counters: dict[str, dict[str, np.ndarray]]
    identity: dict[str, Any]
    diverged: dict[str, np.ndarray]
    random_return: float | None = None


def save(result: Result, folder: pathlib.Path) -> None:
    """`curves.npz` (one array per arm, and `env_steps`) and `details.npz` (all the rest)."""
    write_npz(folder / "curves.npz", {**result.curves, "env_steps": result.env_steps})
    details = {f"llm_free/{arm}": a for arm, a in result.llm_free.items()}
    details |= {f"flat/{arm}": a for arm, a in result.flat.items()}
    details |= {f"repeats/{arm}": a for arm, a in result.repeats.items()}
    details |= {f"counters/{arm}/{c}": a for arm, cs in result.counters.items() for c, a in cs.items()}
    details |= {f"diverged/{arm}": a for arm, a in result.diverged.items()}
    write_npz(folder / "details.npz", details)


def write_npz(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as f:
        np.savez_compressed(f, **arrays)  # type: ignore[arg-type]
    os.replace(partial, path)


def write_text(path: pathlib.Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    os.replace(partial, path)


def write_json(path: pathlib.Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def provenance() -> dict[str, Any]:
    """Versions, device and commit, for `run.json`."""
    import jax

    device = jax.devices()[0]
    return {
        "packages": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "device": {
            "backend": jax.default_backend(),
            "kind": device.device_kind,
            "count": jax.device_count(),
            "cpu_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "machine": platform.machine(),
        },
        "commit": _commit(),
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The checkout's commit, with a `+` if it was changed since; None outside a checkout."""
    here = pathlib.Path(__file__).parent

    def git(*args: str) -> str:
        return subprocess.run(["git", *args], cwd=here, capture_output=True, text=True, check=True).stdout

    try:
        return git("rev-parse", "HEAD").strip() + (
            "+" if git("status", "--porcelain", "--", ".").strip() else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return None
