"""Compares a run's learning curves with curves that the reference study published.

    python -m loro_jax.interchange.published RESULTS CartPole_Neps_10.npz --arm pure_rl --key online

Prints the mean of the evaluations in blocks of ten, ours and theirs, with standard errors over seeds and
over published runs. Where several files are given, their runs are taken together.
"""

from __future__ import annotations

import dataclasses
import pathlib
import sys
from collections.abc import Mapping
from typing import Annotated

import numpy as np
import tyro

from loro_jax import files
from loro_jax.analysis import statistics
from loro_jax.errors import UserError, arguments, command, within
from loro_jax.records import results


@dataclasses.dataclass(frozen=True)
class Options:
    results: Annotated[pathlib.Path, tyro.conf.Positional]
    """Folder of a run, with curves.npz."""
    published: Annotated[tuple[pathlib.Path, ...], tyro.conf.Positional]
    """The study's files of curves: an array (runs, evaluations) under each key."""
    arm: str = "pure_rl"
    """Arm of the run."""
    key: str = "online"
    """Key in the study's files."""
    run: int | None = None
    """One published run, counted from 0; all when not given."""
    skip: int = 0
    """Evaluations of the run to leave out first: tau, where the study's curve starts after the prior
    episodes."""
    block: int = 10
    """Evaluations in a block."""


def blocks(curves: np.ndarray, block: int) -> np.ndarray:
    """Curves (runs, evaluations) -> means of whole blocks, (runs, evaluations // block)."""
    whole = curves.shape[1] // block * block
    return curves[:, :whole].reshape(len(curves), -1, block).mean(axis=2)


def compare(ours: np.ndarray, theirs: np.ndarray, block: int = 10) -> list[dict[str, float]]:
    """A row for each block of (runs, evaluations): means, standard errors, and their difference in them.

    Compared over the evaluations that both have. A standard error of a single run is NaN.
    """
    common = min(ours.shape[1], theirs.shape[1])
    rows = []
    a, b = (blocks(c[:, :common], block) for c in (ours, theirs))
    for i in range(a.shape[1]):
        x, y = a[:, i], b[:, i]
        ex, ey = (v.std(ddof=1) / len(v) ** 0.5 if len(v) > 1 else float("nan") for v in (x, y))
        # One published run is one draw from the population whose spread our seeds show.
        spread = float(np.hypot(ex, ey)) if len(y) > 1 else float(x.std(ddof=1) * (1 + 1 / len(x)) ** 0.5)
        z = (x.mean() - y.mean()) / spread if spread else 0.0
        rows.append({"ours": x.mean(), "ours_se": ex, "published": y.mean(), "published_se": ey, "z": z})
    return rows


def main(argv: list[str] | None = None) -> int:
    """The command; -> its exit status."""
    prog = "python -m loro_jax.interchange.published"
    o = arguments(lambda: tyro.cli(Options, prog=prog, description=__doc__, args=argv))
    within("--skip", o.skip, 0, 2**31)
    within("--block", o.block, 1, 2**31)
    ours, lost = own(o.results, o.arm)
    if o.skip >= ours.shape[1]:
        raise UserError(f"--skip {o.skip} leaves nothing of {o.arm}, which has {ours.shape[1]} evaluations")
    ours, lost = ours[:, o.skip :], lost[:, o.skip :]
    published = [theirs_of(path, o.key) for path in o.published]
    if len({curves.shape[1] for curves in published}) > 1:
        lengths = ", ".join(str(curves.shape[1]) for curves in published)
        raise UserError(f"the published files differ in length ({lengths} evaluations); compare one by one")
    theirs = np.concatenate(published)
    if o.run is not None:
        if not 0 <= o.run < len(theirs):
            raise UserError(f"--run {o.run}: there are {len(theirs)} published runs, counted from 0")
        theirs = theirs[o.run : o.run + 1]
    print(
        f"{o.arm}: {len(ours)} seeds; published {o.key}: {len(theirs)} runs; blocks of {o.block} evaluations"
    )
    common = min(ours.shape[1], theirs.shape[1])
    if diverged := int(lost[:, :common].any(axis=1).sum()):
        print(f"{diverged} of our seeds diverged: from there on they count as the random policy's return")
    print(f"{'block':>5}  {'ours':>15}  {'published':>15}  {'difference / error':>18}")
    blocks = compare(ours, theirs, o.block)
    blocks.append(compare(ours, theirs, common)[0])
    places = 1 if max(abs(r["ours"]) for r in blocks) >= 10 else 3
    for i, r in enumerate(blocks, 1):
        cells = (f"{r[k]:6.{places}f} +- {r[k + '_se']:5.{places}f}" for k in ("ours", "published"))
        name = str(i) if i < len(blocks) else "all"
        print(f"{name:>5}  {'  '.join(f'{c:>15}' for c in cells)}  {r['z']:>18.1f}")
    return 0


def own(folder: pathlib.Path, arm: str) -> tuple[np.ndarray, np.ndarray]:
    """An arm's curves (seeds, evaluations) in a finished run, and where its seeds had diverged, as bool.

    There the curves hold the random policy's return.
    """
    try:
        run = results.read(folder)
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: no such file; give the folder of a finished run") from None
    curves = _numbers(folder / "curves.npz", run.curves, arm)
    lost = np.isnan(curves)
    level = _random_return(folder, run) if lost.any() else None
    try:
        return statistics.filled(curves, level)[0], lost
    except ValueError as error:
        raise UserError(f"{folder / 'curves.npz'}: {arm}: {error}; run it again") from None


def _random_return(folder: pathlib.Path, run: results.Saved) -> float:
    """What a seed that diverged counts as: from the run's random policy, or as its summary has it."""
    if (returns := run.details.get("flat/random_policy")) is not None:
        return float(returns.mean())
    try:
        return float(files.read_json(folder / "summary.json")["random_return"])
    except (OSError, LookupError, TypeError, ValueError):
        raise UserError(
            f"{folder}: seeds diverged, and summary.json does not say what random play returns; run it again"
        ) from None


def theirs_of(path: pathlib.Path, key: str) -> np.ndarray:
    """Published curves (runs, evaluations)."""
    try:
        arrays = files.read_npz(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    curves = _numbers(path, arrays, key)
    if not np.isfinite(curves).all():
        raise UserError(f"{path}: '{key}' holds values that are not finite")
    return curves


def _numbers(path: pathlib.Path, arrays: Mapping[str, np.ndarray], key: str) -> np.ndarray:
    """The curves under `key`, float64 (runs, evaluations)."""
    if key not in arrays:
        raise UserError(f"{path}: has no curve '{key}'; there are: {', '.join(arrays)}")
    curves = arrays[key]
    if curves.dtype.kind not in "fiu" or curves.ndim != 2 or not curves.size:
        raise UserError(f"{path}: '{key}' holds no curves but {curves.dtype} of shape {curves.shape}")
    return curves.astype(np.float64)


if __name__ == "__main__":
    sys.exit(command(main))
