"""Puts runs of neighbouring seeds together: `python -m loro_jax.merge OUT PART PART ...`.

For array jobs: each part is a run with its own `--seed-range`, and everything else the same. The merged run
is the one that a single command with all of the seeds would have left: curves, counters and policies to the
bit, tables and figures from them. Parts that differ in anything else, overlap or leave seeds out are refused.
"""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import tyro

from loro_jax import files, report
from loro_jax.analysis import outputs
from loro_jax.analysis.summary import POLICIES
from loro_jax.errors import UserError, arguments, run
from loro_jax.records import identity, results
from loro_jax.running import machine

PER_SEED = ("llm_free/", "repeats/", "counters/", "diverged/")
"""Arrays of `details.npz` with an entry for each seed; the others are the same in every part."""


@dataclasses.dataclass(frozen=True)
class Options:
    out: Annotated[pathlib.Path, tyro.conf.Positional]
    """Folder for the merged run."""
    parts: Annotated[tuple[pathlib.Path, ...], tyro.conf.Positional]
    """Folders of finished runs of neighbouring seeds, in any order."""
    any_processor: bool = False
    """Also merge what different models of processor computed: the distribution is the same, but no single
    machine gives these bits."""


@dataclasses.dataclass(frozen=True)
class Part:
    """A finished run of some of the seeds.

    Attributes:
        saved: its arrays and `run.json`.
        policies: the arrays of `policies.npz`; none where they were not kept.
        summary: `summary.json`.
        ran: its identity, in the newest schema.
    """

    folder: pathlib.Path
    saved: results.Saved
    policies: dict[str, np.ndarray]
    summary: dict[str, Any]
    ran: dict[str, Any]

    @property
    def first(self) -> int:
        """Its first seed."""
        return int(self.ran.get("first_seed", 0))

    @property
    def end(self) -> int:
        """The seed after its last."""
        return self.first + int(self.ran["seeds"])


def load(folders: Sequence[pathlib.Path]) -> list[Part]:
    """The parts, in the order of their seeds.

    Raises:
        UserError: a folder holds no finished run, or one that is damaged.
    """
    unfinished = [str(f) for f in folders if (f / "checkpoints").is_dir() and not (f / results.RUN).exists()]
    if unfinished:
        raise UserError(
            f"not finished: {', '.join(unfinished)}; the command that began each goes on with --resume"
        )
    parts = []
    for folder in folders:
        saved, summary, ran = results.finished(folder)
        kept = folder / results.POLICIES
        parts.append(Part(folder, saved, files.read_npz(kept) if kept.exists() else {}, summary, ran))
    return sorted(parts, key=lambda part: part.first)


def check(parts: Sequence[Part], any_processor: bool = False) -> None:
    """A `UserError` where the parts are not of one run, each of them once and none missing."""
    for before, part in itertools.pairwise(parts):
        if part.first < before.end:
            rest = f", or run it with --seed-range {before.end}:{part.end}" if part.end > before.end else ""
            raise UserError(
                f"{before.folder} has the seeds {before.first}:{before.end} and {part.folder}"
                f" {part.first}:{part.end}, which overlap; leave one out{rest}"
            )
        if part.first > before.end:
            raise UserError(
                f"the seeds {before.end}:{part.first} are missing, between {before.folder} and"
                f" {part.folder}; run them with --seed-range {before.end}:{part.first}"
            )
    head = parts[0]
    for part in parts[1:]:
        names = f"{head.folder} (there) and {part.folder} (here) are not parts of one run"
        if other := identity.differences(_but_seeds(head.ran), _but_seeds(part.ran)):
            raise UserError(f"{names} ({_few(other)}); run one of them again with the other's options")
        there, here = ({**_version(p), **(p.saved.run.get("computed_on") or {})} for p in (head, part))
        if elsewhere := machine.differences(there, here):
            raise UserError(f"{names}: {elsewhere}; run one of them again where the other ran")
        models = [on.get("processor") for on in (there, here)]
        if models[0] != models[1] and not any_processor:
            raise UserError(
                f"{names}: computed by {models[1]} and {models[0]}, which round differently; run them on one"
                " kind (SLURM: --constraint), or merge with --any-processor"
            )
        if part.policies.keys() != head.policies.keys():
            raise UserError(f"{names}: only one has {results.POLICIES}, or they have other arms' policies")


def _but_seeds(ran: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in ran.items() if k not in ("seeds", "first_seed")}


def _version(part: Part) -> dict[str, Any]:
    """Of this package."""
    run = part.saved.run
    return {"loro_jax": (run.get("packages") or {}).get("loro_jax"), "commit": run.get("commit")}


def _few(phrases: Sequence[str]) -> str:
    return "; ".join(phrases[:2]) + ("; ..." if len(phrases) > 2 else "")


def _offline(name: str) -> bool:
    """Whether an array is of an arm that learns offline: a number for each seed."""
    kind, _, arm = name.partition("/")
    return kind == "flat" and arm not in POLICIES


def merged(parts: Sequence[Part]) -> tuple[results.Saved, dict[str, np.ndarray], dict[str, Any]]:
    """The run that checked parts make up: what it saves, its policies, and what `report.summarised` needs.

    Raises:
        UserError: their files do not fit together.
    """
    head = parts[0]
    arrays: dict[str, dict[str, np.ndarray]] = {"curves": {}, "details": {}, "policies": {}}
    for group, found in arrays.items():
        own = [p.policies if group == "policies" else getattr(p.saved, group) for p in parts]
        for name in dict.fromkeys(name for part in own for name in part):
            values = [part[name] for part in own if name in part]
            if name.startswith("llm_free/"):  # cut where a part's seeds, charged each their own, needed that
                width = min(v.shape[1] for part in own for k, v in part.items() if k.startswith("llm_free/"))
                values = [v[:, :width] for v in values]
            if group == "details" and not (name.startswith(PER_SEED) or _offline(name)):  # the same in all
                whole, sound = values[0], all(np.array_equal(v, values[0]) for v in values)
            else:
                sound = [len(v) for v in values] == [p.end - p.first for p in parts]
                sound = sound and len({v.shape[1:] for v in values}) == 1
                whole = np.concatenate(values) if sound else values[0]
            if not sound or len(values) < len(parts):
                raise UserError(f"the parts do not fit together: {group} {name} differs; run them again")
            found[name] = whole
    run = head.saved.run
    seconds = [p.saved.run.get("seconds") or {} for p in parts]
    record = {k: v for k, v in run.items() if k not in ("files", "throughput")} | {
        "identity": dict(run["identity"]) | {"seeds": parts[-1].end - head.first},
        "seconds": {k: round(sum(s.get(k, 0.0) for s in seconds), 2) for k in seconds[0]},
        "merged": [
            {
                "seeds": [p.first, p.end],
                "processor": (p.saved.run.get("computed_on") or {}).get("processor"),
                "seconds": s,
            }
            for p, s in zip(parts, seconds, strict=True)
        ],
    }
    levels = [level for p in parts if (level := p.summary.get("random_return")) is not None]
    saved = results.Saved(record, arrays["curves"], head.saved.env_steps, arrays["details"])
    return saved, arrays["policies"], head.summary | {"random_return": levels[0] if levels else None}


def main(argv: list[str] | None = None) -> int:
    """The command; -> its exit status."""
    prog = "python -m loro_jax.merge"
    o = arguments(lambda: tyro.cli(Options, prog=prog, description=__doc__, args=argv))
    if len(o.parts) < 2:
        raise UserError("name the folder to write, then at least two parts (--help lists the options)")
    if o.out.resolve() in {part.resolve() for part in o.parts}:
        raise UserError(f"{o.out} is one of the parts; name the folder for the merged run first")
    if (o.out / "checkpoints").is_dir():
        raise UserError(f"{o.out} holds an interrupted run; choose another folder for the merged run")
    parts = load(o.parts)
    check(parts, o.any_processor)
    saved, policies, before = merged(parts)
    ran = identity.upgraded(saved.run["identity"])
    found = report.summarised(saved, before, ran, o.out)
    with results.together(o.out) as folder:
        files.write_npz(folder / "curves.npz", {**saved.curves, "env_steps": saved.env_steps})
        files.write_npz(folder / "details.npz", saved.details)
        if policies:
            files.write_npz(folder / results.POLICIES, policies)
        outputs.write(found, folder)
        report.drawn(found, saved, ran, folder / "figures")
        files.write_json(folder / results.RUN, saved.run)
    print(f"{o.out}: seeds {parts[0].first} to {parts[-1].end - 1}, of {len(parts)} parts")
    return 0


if __name__ == "__main__":
    run(main)
