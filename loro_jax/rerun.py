"""Runs again what a `run.json` says ran: `python -m loro_jax.rerun results/cartpole/standard@1/run.json`.

Every setting, arm, seed and dataset is the file's, also where a task's protocols have changed since. At the
end it says whether the numbers are equal to the bit; they are where jax, its backend, the number of devices
and the kind of processor are the same. `python -m loro_jax.compare` says whether two runs differ beyond
chance.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.console import Console

from loro_jax.errors import UserError, arguments, run, within

if TYPE_CHECKING:
    from loro_jax.running.experiment import Experiment


@dataclasses.dataclass(frozen=True)
class Options:
    run: Annotated[pathlib.Path, tyro.conf.Positional]
    """A run.json, or the folder of a finished run."""
    out: pathlib.Path | None = None
    """Folder for the results; the run's own, with "-again" behind its name, when not given."""
    task: str = ""
    """The task, where the file's own name of it does not lead there from here."""
    episodes: str = ""
    """The LLM episodes, where their name does not lead there; they have to be the same."""
    answers: str = ""
    """The table of answers, likewise."""
    seeds: int = 0
    """Another number of seeds; the first ones are then the same."""
    resume: bool = False
    """Go on with an interrupted run in --out."""
    devices: int = 0
    """Devices that share the seeds. 0 takes as many as the run had, if there are as many."""


def main(argv: list[str] | None = None) -> int:
    """The command; -> its exit status."""
    prog = "python -m loro_jax.rerun"
    o = arguments(lambda: tyro.cli(Options, prog=prog, description=__doc__, args=argv))
    from loro_jax.records import results
    from loro_jax.running import command, machine, options

    within("--seeds", o.seeds, 0, options.MOST_SEEDS)
    within("--devices", o.devices, 0, options.MOST_DEVICES)
    folder = o.run.parent if o.run.suffix == ".json" else o.run
    try:
        ran = results.record(folder / o.run.name if o.run.suffix == ".json" else folder / results.RUN)
    except FileNotFoundError as error:
        raise UserError(
            f"{error.filename}: no such file; name a run.json, or a folder that holds one"
        ) from None
    if (folder / "curves.npz").exists():
        results.verify(folder, ran)
    machine.start(o.devices or _devices(ran))
    ready = prepared(ran, o.task, o.episodes, o.seeds, o.answers)
    out = o.out or folder.with_name(f"{folder.resolve().name}-again")
    if out.resolve() == folder.resolve():
        raise UserError(f"--out {out} is the run itself; choose another")
    status = command.train(ready, out, o.resume, Console(stderr=True, highlight=False))
    if status == 0:
        print(compared(folder, out))
    return status


def prepared(
    ran: dict[str, Any], task: str = "", episodes: str = "", seeds: int = 0, answers: str = ""
) -> Experiment:
    """The experiment that a `run.json` describes.

    Raises:
        UserError: the file is damaged, or what it names is not here or is not the same.
    """
    from loro_jax.data import answers as tables
    from loro_jax.data import episodes as datasets
    from loro_jax.records import identity
    from loro_jax.running import experiment
    from loro_jax.tasks import load, recorded
    from loro_jax.training.arms import ARMS

    before = identity.upgraded(ran.get("identity"))
    if missing := set(identity.GROUPS) - set(before["settings"]):
        raise UserError(f"its identity is damaged (settings: no {', '.join(sorted(missing))})")
    found = load(task) if task else recorded(before["task"], ran.get("source"), before.get("task_sha256"))
    own = [name for name in before["arms"] if name not in ARMS]
    if own:
        raise UserError(
            f"the run has arms of its own ({', '.join(own)}), which only their program can run again"
        )
    dataset = episodes or str((before.get("episodes") or {}).get("name") or "")
    if dataset and not episodes:
        try:
            datasets.resolve(dataset, found.name)
        except UserError as error:
            raise UserError(f"{error}; or give their folder by --episodes") from None
    table = answers or str((before.get("answers") or {}).get("name") or "")
    if table and not answers:
        try:
            tables.resolve(table, found.name)
        except UserError as error:
            raise UserError(f"{error}; or give their folder by --answers") from None
    others = tuple(dict.fromkeys(identity.agent_of(before, arm) for arm in before.get("agents") or {}))
    protocol = identity.protocol_of(before).replace(others=others)
    ready = experiment.prepare_experiment(
        found, protocol, tuple(before["arms"]), seeds or int(before["seeds"]),
        int(before["seed"]), dataset, int(before.get("first_seed", 0)), table,
        str((before.get("answers") or {}).get("proposals") or "first"),
    )  # fmt: skip
    other = [
        d for d in identity.differences(before, ready.identity) if not (seeds and d.startswith("seeds "))
    ]
    if other:
        raise UserError(f"what can be run here is not what ran ({'; '.join(other[:3])})")
    return ready


def _devices(ran: dict[str, Any]) -> int:
    from loro_jax.running import machine

    on = ran.get("computed_on")
    there = on.get("devices") if isinstance(on, dict) else None
    return there if isinstance(there, int) and 0 < there <= machine.cores() else 0


def _offline(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Of flat lines those of arms that learn offline, (seeds,) each."""
    from loro_jax.analysis.summary import POLICIES

    return {arm: returns for arm, returns in flat.items() if arm not in POLICIES}


def compared(before: pathlib.Path, after: pathlib.Path) -> str:
    """Whether two runs' curves are equal to the bit, in a sentence."""
    import numpy as np

    from loro_jax.records import results
    from loro_jax.running import machine

    try:
        old, new = results.read(before), results.read(after)
    except FileNotFoundError:
        return "the first run's curves are not beside its run.json, so that nothing can be compared"
    count = min(len(next(iter(r.curves.values()), np.zeros(0))) for r in (old, new))
    theirs, ours = (r.curves | _offline(r.group("flat")) for r in (old, new))
    unequal = [
        arm for arm, found in ours.items()
        if arm not in theirs or not np.array_equal(found[:count], theirs[arm][:count], equal_nan=True)
    ]  # fmt: skip
    if not unequal:
        return f"equal to the bit: {len(ours)} arms, {count} seeds"
    other = machine.differences(old.run.get("computed_on") or {}, new.run.get("computed_on") or {})
    return (
        f"not equal to the bit: {', '.join(unequal)}" + (f" ({other})" if other else "")
        + f"; python -m loro_jax.compare {before} {after} says whether they differ beyond chance"
    )  # fmt: skip


if __name__ == "__main__":
    run(main)
