"""Other packages that do the same work, each in an environment of its own, for ratios.

The scripts in this folder are run by the Python of that environment, and know nothing of loro_jax: what to
train comes as JSON, as the first argument (`cases.Case.work`), and what came out goes back as JSON, a line a
message (`lines`).
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import platformdirs

from benchmarks.throughput.child import Child, Team, script
from loro_jax.errors import UserError

PINNED: dict[str, tuple[str, ...]] = {
    "d3rlpy": ("d3rlpy==2.8.1", "torch==2.13.0", "gymnasium==1.0.0"),
    "rejax": ("rejax==0.1.3", "gymnax==0.0.9", "jax==0.10.2"),
}
"""What is installed for each; the first names it. On a GPU rejax gets the jax for it."""
TASKS = {"d3rlpy": None, "rejax": {"CartPole-v1", "Pendulum-v1"}}
"""Games that a peer has, by Gymnasium's name; None for all of Gymnasium's."""


def named(words: str) -> tuple[str, ...]:
    """The peers that `--peers` names."""
    names = tuple(word.strip() for word in words.split(",") if word.strip())
    for name in names:
        if name not in PINNED:
            raise UserError(f"--peers knows no '{name}'; there are: {', '.join(PINNED)}")
    return tuple(dict.fromkeys(names))


DONE = {"gradient_steps": 1, "n_step": 1, "layer_norm": False}
"""What peers are not told: the value of these that they have."""


def unlike(work: dict[str, Any]) -> list[str]:
    """Settings of a row that peers do not follow, so that theirs would be less work."""
    done = DONE | ({"polyak": 1.0} if work["agent"] == "ddqn" else {})
    return [f"{k} {work[k]}" for k, value in done.items() if work.get(k, value) != value]


def folder(name: str) -> pathlib.Path:
    """The environment of a peer, in the user's cache."""
    base = os.environ.get("LORO_JAX_PEERS") or platformdirs.user_cache_path("loro_jax", False) / "peers"
    python = f"py{sys.version_info.major}.{sys.version_info.minor}"
    return pathlib.Path(base) / f"{PINNED[name][0].replace('==', '-')}-{python}"


def install(name: str, backend: str) -> None:
    """Makes a peer's environment, unless it is there."""
    where = folder(name)
    mark = where / "installed"
    wanted = [w.replace("jax==", "jax[cuda12]==", 1) if w.startswith("jax==") and backend == "gpu" else w
              for w in PINNED[name]]  # fmt: skip
    if mark.exists() and mark.read_text().split() == wanted:
        return
    for line in (
        [sys.executable, "-m", "venv", "--clear", str(where)],
        [str(where / "bin" / "python"), "-m", "pip", "install", "--quiet", *wanted],
    ):
        done = subprocess.run(line, capture_output=True, text=True)
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
            raise UserError(f"{name} cannot be installed into {where}: {said[-1][:300]}")
    mark.write_text("\n".join(wanted))


def teams(name: str, work: dict[str, Any], cores: int, on_cpu: bool = True) -> dict[str, Team]:
    """A peer's ways to do the work, by "NAME, WAY": one process with the whole machine, and a process a core,
    which share the seeds, unless an accelerator does the work; none where it does not have the game.

    rejax under `vmap` copies its whole replay at every step, so that it is also measured with a replay of
    1,000 transitions in the place of the protocol's: less than the same work, under a name of its own.
    """
    known = TASKS[name]
    if not work["gymnasium_id"] or (known is not None and work["gymnasium_id"] not in known):
        return {}

    def child(**more: Any) -> Child:
        line = [str(folder(name) / "bin" / "python"), script(f"{name}_peer"), json.dumps(work | more)]
        return Child(name, line, more["threads"], foreign=True)

    kinds: dict[str, dict[str, int]] = {name: {}}
    if name == "rejax":
        kinds["rejax-1000"] = {"replay_capacity": 1000}
    mine = sorted(os.sched_getaffinity(0)) if on_cpu and hasattr(os, "sched_getaffinity") else []
    mine = mine[: work["seeds"]]
    each = -(-work["seeds"] // max(len(mine), 1))
    found = {}
    for called, more in kinds.items():
        found[f"{called}, one process"] = Team([child(threads=cores, **more)])
        if len(mine) > 1:
            found[f"{called}, a process a core"] = Team(
                [child(threads=1, core=core, seeds=each, **more) for core in mine]
            )
    return found
