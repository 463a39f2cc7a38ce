"""Puts runs of neighbouring seeds together: `python -m loro_jax.merge OUT PART PART ...`.

For array jobs: each part is a run with its own `--seed-range`, and everything else the same. The merged run
is the one that a single command with all of the seeds would have left: curves, counters and policies to the
bit, tables and figures from them. Parts that differ in anything else, overlap or leave seeds out are refused.
"""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import tyro

from loro_jax import files, report
from loro_jax.analysis import outputs
from loro_jax.errors import UserError, arguments, run
from loro_jax.records import identity, results
from loro_jax.running import machine


@dataclasses.dataclass(frozen=True)
class Options:
    out: Annotated[pathlib.Path, tyro.conf.Positional]
    """Folder for the merged run."""
    parts: Annotated[tuple[pathlib.Path, ...], tyro.conf.Positional]
    """Folders of finished runs."""


@dataclasses.dataclass(frozen=True)
class Part:
    """A finished run of some of the seeds."""

    folder: pathlib.Path
    saved: results.Saved
    policies: dict[str, np.ndarray]
    summary: dict[str, Any]
    ran: dict[str, Any]

    @property
    def first(self) -> int:
        return int(self.ran.get("first_seed", 0))

    @property
    def end(self) -> int:
        return self.first + int(self.ran["seeds"])


PER_SEED = ("llm_free/", "repeats/", "counters/", "diverged/")
"""Arrays of `details.npz` with an entry for each seed; the others are the same in every part."""


def load(folder: pathlib.Path) -> Part:
    """The part in `folder`; a `UserError` if there is none."""
    saved, summary, ran = results.finished(folder)
    kept = folder / results.POLICIES
    return Part(folder, saved, files.read_npz(kept) if kept.exists() else {}, summary, ran)


def merged(parts: Sequence[Part]) -> tuple[results.Saved, dict[str, np.ndarray], dict[str, Any]]:
    """The run that the parts make up: what it saves, its policies, and its summary.

    Raises:
        UserError: they do not make one up.
    """
    parts = sorted(parts, key=lambda part: part.first)
    head = parts[0]
    for before, part in itertools.pairwise(parts):
        if part.first != before.end:
            what = "overlap" if part.first < before.end else "leave seeds out"
            raise UserError(
                f"{before.folder} has the seeds {before.first} to {before.end - 1} and {part.folder} those"
                f" from {part.first}: they {what}"
            )
    for part in parts[1:]:
        own = {k: v for k, v in part.ran.items() if k not in ("seeds", "first_seed")}
        if other := identity.differences(own, {k: head.ran.get(k) for k in own}):
            raise UserError(f"{part.folder} is another run than {head.folder} ({'; '.join(other[:2])})")
        on = [p.saved.run.get("computed_on") or {} for p in (head, part)]
        if other_machine := machine.differences(*on):
            raise UserError(f"{part.folder} was computed elsewhere than {head.folder} ({other_machine})")
    curves = {arm: np.concatenate([p.saved.curves[arm] for p in parts]) for arm in head.saved.curves}
    details = {}
    for name in dict.fromkeys(name for p in parts for name in p.saved.details):
        arrays = [p.saved.details.get(name) for p in parts]
        there = [a for a in arrays if a is not None]
        if name.startswith(PER_SEED):
            if len(there) < len(parts):
                raise UserError(f"{name} is not in every part; run the parts with the same version")
            details[name] = np.concatenate(there)
        elif any(not np.array_equal(a, there[0]) for a in there):
            raise UserError(f"{name} differs between the parts, which are not of one run")
        else:
            details[name] = there[0]
    kept = {name: np.concatenate([p.policies[name] for p in parts]) for name in head.policies}
    whole = dict(head.saved.run["identity"]) | {"seeds": sum(int(p.ran["seeds"]) for p in parts)}
    record = {k: v for k, v in head.saved.run.items() if k != "files"} | {
        "identity": whole,
        "seconds": _sums([p.saved.run.get("seconds") or {} for p in parts]),
        "merged": [{"seeds": [p.first, p.end], "commit": p.saved.run.get("commit")} for p in parts],
    }
    saved = results.Saved(record, curves, head.saved.env_steps, details)
    levels = [level for p in parts if (level := p.summary.get("random_return")) is not None]
    return saved, kept, head.summary | {"random_return": levels[0] if levels else None}


def _sums(seconds: Sequence[dict[str, float]]) -> dict[str, float]:
    return {k: round(sum(s.get(k, 0.0) for s in seconds), 2) for k in seconds[0]}


def main(argv: list[str] | None = None) -> int:
    """The command; -> its exit status."""
    prog = "python -m loro_jax.merge"
    o = arguments(lambda: tyro.cli(Options, prog=prog, description=__doc__, args=argv))
    if len(o.parts) < 2:
        raise UserError("name the folder to write, and at least two parts (--help lists the options)")
    if o.out.resolve() in {part.resolve() for part in o.parts}:
        raise UserError(f"{o.out} is one of the parts; choose another folder for the merged run")
    saved, kept, before = merged([load(part) for part in o.parts])
    with results.together(o.out) as folder:
        files.write_npz(folder / "curves.npz", {**saved.curves, "env_steps": saved.env_steps})
        files.write_npz(folder / "details.npz", saved.details)
        if kept:
            files.write_npz(folder / results.POLICIES, kept)
        found = report.summarised(saved, before, o.out)
        outputs.write(found, folder)
        report.drawn(found, saved, folder / "figures")
        files.write_json(folder / results.RUN, saved.run)
    print(f"{len(o.parts)} parts, {found['seeds']} seeds: {o.out}")
    return 0


if __name__ == "__main__":
    run(main)
