"""What studies of several runs have in common: how they run, what is kept of them, and how it is compared."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console

import loro_jax as lj
from loro_jax import agents, files, progress
from loro_jax.analysis import statistics
from loro_jax.analysis.formats import strict
from loro_jax.data import answers
from loro_jax.data.answers import Answers
from loro_jax.errors import UserError, within
from loro_jax.protocols import Protocol
from loro_jax.running import machine
from loro_jax.running.store import Different
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
    """

    work: pathlib.Path
    out: pathlib.Path
    seeds: int = 0
    budget: int = 0


def ran(
    folder: pathlib.Path,
    task: lj.Task,
    chosen: Sequence[str | Sentence],
    protocol: Protocol,
    seeds: int,
    seed: int = SEED,
    **given: Any,
) -> lj.Result:
    """A run, which goes on where it was interrupted.

    Raises:
        UserError: its folder holds another one.
    """
    try:
        return lj.run(
            task, chosen, protocol=protocol, seeds=seeds, seed=seed, out=folder, resume=True, **given
        )  # fmt: skip
    except Different as error:
        raise UserError(f"{folder} holds {error.holds}: remove it, or name another --work") from None


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


def identity(
    task: str, protocol: Protocol, seeds: int, numbers: Mapping[str, Any], blocks: Answers,
    models: Mapping[str, Answers],
) -> dict[str, Any]:  # fmt: skip
    """What decides a part's numbers, but for the program.

    Args:
        numbers: the study's own, by name.
        blocks: the tables side by side, and those that are no model's.
        models: the tables, by tag.
    """
    return {
        "task": task, "protocol": protocol.name, "settings": protocol.flat(), "others": others(protocol),
        "seeds": seeds, "numbers": numbers, "blocks": answers.digest(blocks),
        "models": {tag: answers.identity(table) for tag, table in models.items()},
    }  # fmt: skip


def plain(of: Mapping[str, Any]) -> dict[str, Any]:
    """What decides a part's numbers, as JSON has it."""
    return json.loads(json.dumps(of))  # type: ignore[no-any-return]


def there(stem: pathlib.Path, of: Mapping[str, Any]) -> bool:
    """Whether a part of this very study is finished.

    Raises:
        UserError: one of another study is, which nothing replaces.
    """
    path = stem.with_suffix(".json")
    if not path.exists():
        return False
    kept = files.read_json(path).get("of")
    if different := differences(kept, plain(of)):
        raise UserError(
            f"{path} is finished with other numbers ({different}): name another --out, or move it away"
        )
    return True


def differences(kept: Any, here: Mapping[str, Any]) -> str:
    """In what a finished part's identity differs, by the names of it; empty where in nothing."""
    if not isinstance(kept, Mapping):
        return "it does not say of what"
    return ", ".join(k for k in sorted({*kept, *here}) if kept.get(k) != here.get(k))


def kept(folder: pathlib.Path, parts: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What a task's folder has of each part that is finished, by its name.

    Raises:
        UserError: a file is not as `keep` writes it.
    """
    found = {}
    for part in parts:
        if (path := folder / f"{part}.json").exists():
            found[part] = files.read_json(path)
            if found[part].get("part") != part or not path.with_suffix(".npz").exists():
                raise UserError(f"{path}: damaged, not as the study keeps it; move it away")
    return found


def keep(stem: pathlib.Path, of: Mapping[str, Any], kept: Kept) -> None:
    """Writes a finished part: its numbers last, since they say that it is there."""
    found, arrays = kept
    stem.parent.mkdir(parents=True, exist_ok=True)
    files.write_npz(stem.with_suffix(".npz"), arrays or {"nothing": np.zeros(0)})
    files.write_json(stem.with_suffix(".json"), strict({"of": plain(of), "part": stem.name, **found}))


@dataclasses.dataclass(frozen=True)
class Options:
    """Flags of a study; `parts`, `out` and `work` are its own."""

    parts: tuple[str, ...] = ()
    """In this order, and what is finished is not run again."""
    seeds: int = 0
    """Of each arm; 0 for the study's own numbers."""
    budget: int = 0
    """Environment steps; 0 for each protocol's."""
    tables: pathlib.Path | None = None
    """Folder with TASK/NAME of each table of answers; the suite's where none is named."""
    out: pathlib.Path = pathlib.Path("results")
    """Folder for TASK/PART.json and .npz, README.md and figures."""
    work: pathlib.Path = pathlib.Path("build")
    """Folder for runs, their checkpoints and policies; nothing of it is needed once a task is finished."""
    dry_run: bool = False
    """Say what would run and how long it takes; train nothing."""
    page_only: bool = False
    """Write the page and the figures of all that is finished in --out; of other flags there are none then."""


def listed(names: Sequence[str]) -> tuple[str, ...]:
    """Names, separated by spaces or commas.

    >>> listed(["frozen_lake,household", "cartpole"])
    ('frozen_lake', 'household', 'cartpole')
    """
    return tuple(name for one in names for name in one.split(",") if name)


def check(o: Options, parts: Any) -> None:
    """A `UserError` where numbers mean nothing, or there is no such part."""
    within("--seeds", o.seeds, 0, 100_000)
    within("--budget", o.budget, 0, 2**31 - 1)
    if unknown := [part for part in o.parts if part not in parts.PARTS]:
        raise UserError(f"the study has no part '{unknown[0]}'; there are: {', '.join(parts.PARTS)}")
    if o.page_only:
        usual = type(o)(page_only=True, out=o.out)
        if said := [f.name for f in dataclasses.fields(o) if getattr(o, f.name) != getattr(usual, f.name)]:
            raise UserError(f"--page-only is of all in --out: leave out --{said[0].replace('_', '-')}")
    if o.tables is not None and not o.tables.is_dir():
        raise UserError(f"--tables: {o.tables} is no folder")


def carry_out(o: Options, parts: Any, opened: Callable[[], Sequence[Any]], page: Any, besides: str) -> int:
    """Says what a study would run, runs it, and writes its page; -> the command's exit status.

    Args:
        parts: the study's module of parts: `How`, `PARTS`, `there`, `keep`, `seconds`.
        opened: -> what is known of each task: its `task` and `models`.
        page: the study's module with `write`.
        besides: what the estimate leaves out, in words.
    """
    console, how = Console(stderr=True, highlight=False), parts.How(o.work, o.out, o.seeds, o.budget)
    if not o.page_only:
        machine.start()
        known = opened()
        for one in known:
            for part in parts.PARTS:
                parts.there(how, one, part)  # a page of parts with different numbers would mislead
        announce(how, parts, known, o.parts, besides, console)
        if o.dry_run:
            return 0
        for one in known:
            with files.claimed(o.out / one.task.name / "study"):
                for part in o.parts:
                    made = parts.keep(how, one, part)
                    console.print(f"{one.task.name}, {part}: {'done' if made else 'there'}", markup=False)
    print(f"{page.write(o.out)}: the page")
    return 0


def announce(
    how: Any, parts: Any, known: Sequence[Any], chosen: Sequence[str], besides: str, console: Console
) -> None:
    """Says what will run, and about how long it takes."""
    total = 0.0
    for one in known:
        left = [part for part in chosen if not parts.there(how, one, part)]
        expected = {part: parts.seconds(how, one, part) for part in left}
        total += sum(expected.values())
        said = ", ".join(f"{part} {progress.words(s)}" for part, s in expected.items() if s)
        what = f"left: {', '.join(left) or 'nothing'}; {said or 'nothing to train'}"
        console.print(
            f"{one.task.name}: {how.of(one)} seeds, {how.protocol(one).schedule.budget:,} steps; models"
            f" {', '.join(one.models)}; {what}",
            markup=False, soft_wrap=True,
        )  # fmt: skip
    console.print(f"about {progress.words(total)} of training; {besides} on top", markup=False)
