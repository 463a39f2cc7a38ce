"""Compares two finished runs of one task, arm by arm; nothing is trained, and JAX not needed.

python -m loro_jax.compare BEFORE AFTER --error-rate 0.01

Prints a row for every learning arm that both have and for every metric, prior data charged: the difference
B - A of means with a 95 % interval, the probability that a run of B is better, p, and p corrected by Holm
over the whole table. Where both runs were given the same --seed, the runs of a seed are compared pair by
pair, else group by group.

Exit status: 1 if any row differs at the error rate, 0 if none does, 2 for what has to be mended first, such
as so few seeds that no difference could be found. The error rate is that of the whole table: two runs from
the same distribution are called different so often at most. A status of 0 is no proof of equality: the column
"would find" says how large a difference would have been found with a probability of 80 %, and a change that
leaves the means as they are is not found at all.
"""

from __future__ import annotations

import dataclasses
import pathlib
import sys
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import tyro
from rich.console import Console

from loro_jax import files
from loro_jax.analysis import comparison, rendering, statistics
from loro_jax.analysis.formats import significant
from loro_jax.errors import UserError, arguments, command, line
from loro_jax.records import identity as identities
from loro_jax.records import results

WIDTH = 160
"""Characters of a table that is written to a file or a pipe."""
SAID = 3
"""Settings that are named where two runs differ; `--json` has them all."""


@dataclasses.dataclass(frozen=True)
class Options:
    a: Annotated[pathlib.Path, tyro.conf.Positional]
    """Folder of a finished run."""
    b: Annotated[pathlib.Path, tyro.conf.Positional]
    """Folder of another."""
    error_rate: float = 0.01
    """The chance that any row is called different although both runs came from the same distribution."""
    json: pathlib.Path | None = None
    """File that the table is written to, as JSON."""


@dataclasses.dataclass(frozen=True)
class Finished:
    """A finished run: its curves, and what has to be the same in another to compare with it.

    Attributes:
        runs: curves and environment steps.
        task: the task's name.
        seed: the key that its runs' keys are folded from.
        first: the first of its seeds.
        threshold: the return at which the task counts as solved; None where it names none.
        settings: `run.json`'s identity, nested names joined by dots.
    """

    runs: comparison.Runs
    task: str
    seed: int
    first: int
    threshold: float | None
    settings: dict[str, Any]


def main(argv: list[str] | None = None) -> int:
    """The command; -> its exit status."""
    prog = "python -m loro_jax.compare"
    options = arguments(lambda: tyro.cli(Options, prog=prog, description=__doc__, args=argv))
    if not 0 < options.error_rate < 1:
        raise UserError(f"--error-rate must lie between 0 and 1, got {options.error_rate:g}")
    a, b = load(options.a), load(options.b)
    if a.task != b.task:
        raise UserError(f"{options.a} is a run of {a.task}, {options.b} of {b.task}: only one task's compare")
    threshold = a.threshold if a.threshold == b.threshold else None
    found = comparison.compare(
        a.runs,
        b.runs,
        threshold,
        paired=(a.seed, a.first) == (b.seed, b.first),
        error_rate=options.error_rate,
    )
    other = differences(a.settings, b.settings)
    notes = [*_thresholds(a, b), *_settings(other), *_seeds(a, b), *comparison.only(found)]
    if options.json is not None:
        folders = {"a": str(options.a), "b": str(options.b), "task": a.task, "settings": other}
        files.write_json(options.json, folders | comparison.as_json(found) | {"notes": notes})
    _print(options, found, notes)
    if found.blind and not found.equal:
        raise UserError(
            f"no difference could be found: the smallest p that these tests give is {found.smallest_p:.2g},"
            f" and {len(found.rows)} rows at an error rate of {options.error_rate:g} need"
            f" {options.error_rate / len(found.rows):.2g}; {found.remedy}"
        )
    return int(found.differs)


def load(folder: pathlib.Path) -> Finished:
    """The finished run in `folder`.

    Raises:
        UserError: it holds none, or one that is damaged.
    """
    saved, summary, identity = results.finished(folder)
    try:
        level = summary.get("random_return")
        if (random := saved.group("flat").get("random_policy")) is not None:
            level = float(random.mean())
        threshold = summary["threshold"]
        task, seed = str(identity["task"]), int(identity["seed"])
        kept = {k: v for k, v in identity.items() if k not in ("task", "seed", "seeds", "first_seed")}
        settings = dict(_flat(kept)) | {"schema": saved.run["identity"].get("schema", 1)}
        if not saved.curves:
            raise ValueError("no learning arm")
        for curve in saved.curves.values():
            statistics.filled(curve, level)  # refuses what no run leaves behind
        return Finished(
            comparison.Runs(saved.curves, saved.env_steps, level),
            task,
            seed,
            int(identity.get("first_seed", 0)),
            None if threshold is None else float(threshold),
            settings,
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder}: its files do not fit together ({error}); run it again") from None


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The settings that differ, by name: of A and of B, None where one lacks it.

    An arm that only one of them has is no setting, nor is what a run of an older schema does not name: it had
    its default. Parameters of the game count wherever they are named.
    """
    older = {a.get("schema"), b.get("schema")} != {identities.SCHEMA}

    def left_out(name: str) -> bool:
        one_sided = (name in a) != (name in b) and not name.startswith("settings.game.")
        return name == "schema" or (one_sided and (name.startswith("arms.") or (older and "." in name)))

    return {
        name: [a.get(name), b.get(name)]
        for name in {**a, **b}
        if a.get(name) != b.get(name) and not left_out(name)
    }


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, Mapping):
            yield from _flat(item, f"{name}.")
        else:
            yield name, item


def _thresholds(a: Finished, b: Finished) -> list[str]:
    if a.threshold == b.threshold:
        return []
    one, two = ("none" if x.threshold is None else significant(x.threshold, 6) for x in (a, b))
    return [f"The threshold is {one} in A and {two} in B: metrics that need it are left out."]


def _settings(other: Mapping[str, list[Any]]) -> list[str]:
    if not other:
        return []
    said = []
    for name, values in list(other.items())[:SAID]:
        one, two = (line(value) for value in values)
        long = max(len(one), len(two)) > 40
        said.append(line(name) if long else f"{line(name)} {one} in A, {two} in B")
    more = f"; {len(other) - SAID} more" if len(other) > SAID else ""
    return [f"Settings differ: {'; '.join(said)}{more}."]


def _seeds(a: Finished, b: Finished) -> list[str]:
    if a.seed != b.seed:
        return [f"Seeds are of --seed {a.seed} in A and {b.seed} in B: they do not pair."]
    if a.first != b.first:
        return [f"A begins with seed {a.first} and B with {b.first}: they do not pair."]
    sizes = [len(next(iter(run.runs.curves.values()))) for run in (a, b)]
    if sizes[0] != sizes[1]:
        return [f"A has {sizes[0]} seeds and B {sizes[1]}: the first {min(sizes)} of both are paired."]
    return []


def _print(options: Options, found: comparison.Comparison, notes: list[str]) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, WIDTH)
    print(f"A: {options.a}\nB: {options.b}")
    console.print(rendering.drawn(comparison.table(found)))
    for said in (*notes, *comparison.guide(found), comparison.verdict(found)):
        console.print(said, markup=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(command(main))
