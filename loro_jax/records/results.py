"""What a run leaves behind: files that are written aside, moved together, and read back only together.

`run.json` says what ran and holds the SHA-256 of every other file: outputs of two runs are told apart.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from loro_jax import files
from loro_jax.errors import UserError
from loro_jax.records import identity

RUN = "run.json"
POLICIES = "policies.npz"


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
        identity: what ran: task, protocol, arms, seeds, datasets.
        diverged: by learning arm, the environment step at which each seed diverged, -1 for those that did
            not, (seeds,). Their curves are NaN from the next evaluation on.
        random_return: the random policy's mean return, where a seed diverged.
        policies: by learning arm, the trained policies' arrays, (seeds, ...), where they are kept.
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
    policies: dict[str, dict[str, np.ndarray]] = dataclasses.field(default_factory=dict)


def save(result: Result, folder: pathlib.Path) -> None:
    """`curves.npz` (one array per arm, and `env_steps`), `details.npz` (all the rest) and, where policies are
    kept, `policies.npz`."""
    files.write_npz(folder / "curves.npz", {**result.curves, "env_steps": result.env_steps})
    files.write_npz(folder / "details.npz", details(result))
    if result.policies:
        kept = {f"{arm}/{name}": a for arm, arrays in result.policies.items() for name, a in arrays.items()}
        files.write_npz(folder / POLICIES, kept)


def details(result: Result) -> dict[str, np.ndarray]:
    """All but the curves, by the names that `details.npz` has."""
    found = {f"llm_free/{arm}": a for arm, a in result.llm_free.items()}
    found |= {f"flat/{arm}": a for arm, a in result.flat.items()}
    found |= {f"repeats/{arm}": a for arm, a in result.repeats.items()}
    found |= {f"counters/{arm}/{c}": a for arm, cs in result.counters.items() for c, a in cs.items()}
    found |= {f"diverged/{arm}": a for arm, a in result.diverged.items()}
    return found


@contextmanager
def together(folder: pathlib.Path, index: str = RUN) -> Iterator[pathlib.Path]:
    """A folder to write outputs into, which are then moved into `folder` together.

    Among them has to be `index`, a JSON object: it receives the others' SHA-256 as "files", `run.json` also
    its own, and is moved last. What the old one named and the new one does not is removed. If anything fails
    before all is written, `folder` stays as it was; if the moving is interrupted, whoever comes next finishes
    it (`recover`).

    Raises:
        UserError: the outputs cannot be written, or another process is writing them.
    """
    staging = _staging(folder, index)
    lock = files.lock_folder(staging)
    whole = False
    try:
        _settle(folder, index)
        _empty(staging)
        yield staging
        names = sorted(p for p in staging.rglob("*") if p.is_file() and p.name != index)
        hashes = {p.relative_to(staging).as_posix(): files.digest(p) for p in names}
        written = json.loads((staging / index).read_text()) | {"files": hashes}
        files.write_json(staging / index, files.sealed(written) if index == RUN else written)
        whole = True
        _settle(folder, index)
        shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise UserError(f"results cannot be written to {folder} ({error.strerror or error})") from None
    finally:
        if not whole:
            shutil.rmtree(staging, ignore_errors=True)
        os.close(lock)


def recover(folder: pathlib.Path, index: str = RUN) -> None:
    """Finishes what an interrupted `together` had written whole and was moving; drops what it had not.

    Raises:
        UserError: another process is writing it at this moment.
    """
    staging = _staging(folder, index)
    if not staging.is_dir():
        return
    lock = files.lock_folder(staging)
    try:
        _settle(folder, index)
        shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise UserError(f"results cannot be written to {folder} ({error.strerror or error})") from None
    finally:
        os.close(lock)


def _staging(folder: pathlib.Path, index: str) -> pathlib.Path:
    return folder / f"{pathlib.PurePath(index).stem}.partial"


def _settle(folder: pathlib.Path, index: str) -> None:
    """Moves what is written whole, which the index's "files" say it is, the index last."""
    staging = _staging(folder, index)
    named = _listed(staging / index)
    if named is None:
        return
    files.check_seal(staging / index, files.read_json(staging / index))
    for name in named:
        if (staging / name).is_file():  # else it was moved before
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(staging / name, folder / name)
    for name in (_listed(folder / index) or set()) - named:
        (folder / name).unlink(missing_ok=True)
    os.replace(staging / index, folder / index)


def _empty(folder: pathlib.Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


@contextmanager
def report(out: pathlib.Path) -> Iterator[pathlib.Path]:
    """Where to write a report's .json, .md and figures, by `with_suffix`; they replace `out`'s together.

    Raises:
        UserError: `out` names no file, or the report cannot be written.
    """
    if not out.name:
        raise UserError(f"--out must name the report, such as results/report, got '{out}'")
    with together(out.parent, out.with_suffix(".json").name) as folder:
        yield folder / out.name


def _listed(index: pathlib.Path) -> set[str] | None:
    """The files that an index names, none of them outside its folder; None where it does not say."""
    try:
        named = files.read_json(index)["files"]
        return {name for name in named if is_inside(name)}
    except (OSError, UserError, LookupError, TypeError):
        return None


def is_inside(name: object) -> bool:
    """Whether it names a file below the folder that it is said of."""
    if not isinstance(name, str) or not name.isprintable() or len(name) > 1000:
        return False
    path = pathlib.PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts


@dataclasses.dataclass(frozen=True)
class Saved:
    """A finished run, as read back.

    Attributes:
        run: `run.json`.
        curves: by learning arm, (seeds, evaluations); NaN where a seed has diverged.
        env_steps: budget used at each evaluation, (evaluations,).
        details: the arrays of `details.npz` by their names, such as `flat/random_policy`.
    """

    run: dict[str, Any]
    curves: dict[str, np.ndarray]
    env_steps: np.ndarray
    details: dict[str, np.ndarray]

    def group(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of `details` called `name/...`, by the rest of their names."""
        return {k.removeprefix(f"{name}/"): a for k, a in self.details.items() if k.startswith(f"{name}/")}


def read(folder: pathlib.Path) -> Saved:
    """The finished run in `folder`.

    Raises:
        FileNotFoundError: there is none.
        UserError: a file is damaged, or is not the one that `run.json` was written with.
    """
    recover(folder)
    run = record(folder / RUN)
    verify(folder, run)
    curves, details = files.read_npz(folder / "curves.npz"), files.read_npz(folder / "details.npz")
    if "env_steps" not in curves:
        raise UserError(f"{folder / 'curves.npz'}: holds no env_steps; it is not the file of a run")
    env_steps = curves.pop("env_steps")
    if env_steps.ndim != 1 or env_steps.dtype.kind not in "iuf":
        raise UserError(f"{folder / 'curves.npz'}: env_steps are not a row of numbers")
    if any(curve.ndim != 2 or curve.shape[1] != len(env_steps) for curve in curves.values()):
        raise UserError(f"{folder / 'curves.npz'}: curves and env_steps differ in length")
    if strange := [name for name in (*curves, *details) if not name.isprintable()]:
        raise UserError(f"{folder}: an array is called '{strange[0]}'; run it again")
    return Saved(run, curves, env_steps, details)


RECORDED: dict[str, type | tuple[type, ...]] = {
    "packages": dict, "computed_on": dict, "device": dict, "seconds": dict, "throughput": dict,
    "merged": list, "source": str, "commit": str, "python": str,
}  # fmt: skip
"""What else `run.json` holds where it says it at all, and of what kind that is."""


def record(path: pathlib.Path) -> dict[str, Any]:
    """A `run.json`, as it was written.

    Raises:
        FileNotFoundError: there is none.
        UserError: it is damaged, or was changed since.
    """
    run = files.read_json(path)
    files.check_seal(path, run)
    wrong = [k for k, kind in RECORDED.items() if run.get(k) is not None and not isinstance(run[k], kind)]
    numbers = run.get("seconds") or {}
    if "seconds" not in wrong and not all(type(n) in (int, float) and n >= 0 for n in numbers.values()):
        wrong.append("seconds")
    if wrong:
        raise UserError(f"{path}: damaged ({', '.join(wrong)}); restore it, or run it again")
    return run


def finished(folder: pathlib.Path) -> tuple[Saved, dict[str, Any], dict[str, Any]]:
    """The finished run in `folder`, its `summary.json`, and its identity in the newest schema.

    Raises:
        UserError: there is none, or one that is damaged.
    """
    try:
        saved, summary = read(folder), files.read_json(folder / "summary.json")
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: no such file; {folder} holds no finished run") from None
    try:
        ran = identity.upgraded(saved.run.get("identity"))
    except UserError as error:
        raise UserError(f"{folder}: {error}") from None
    if other := _unlike(saved, summary, ran):
        raise UserError(f"{folder}: its files do not fit together ({other}); run it again")
    return saved, summary, ran


def _unlike(saved: Saved, summary: Mapping[str, Any], ran: Mapping[str, Any]) -> str:
    """In what a run's identity is not that of its arrays and its summary, a few words; empty if in nothing.

    For runs without a seal. What the other files do not say, nothing tells of them.
    """
    for name, array in (saved.curves | saved.details).items():
        if array.dtype.kind not in "biuf" or not array.ndim:
            return f"{name} holds no rows of numbers"
    schedule = ran["settings"].get("schedule") or {}
    told = {
        "task": (ran["task"], summary.get("benchmark", ran["task"])),
        "seeds": (ran.get("seeds"), next((len(c) for c in saved.curves.values()), ran.get("seeds"))),
    }
    if len(saved.env_steps) and "budget" in schedule:
        told["budget"] = (schedule["budget"], float(saved.env_steps[-1]))
    if len(saved.env_steps) > 1 and "eval_interval" in schedule:
        told["eval_interval"] = (schedule["eval_interval"], float(saved.env_steps[1] - saved.env_steps[0]))
    differ = [f"{name} {one} and {other}" for name, (one, other) in told.items() if one != other]
    return "; ".join(differ)


def verify(folder: pathlib.Path, run: Mapping[str, Any]) -> None:
    """A `UserError` if a file is not the one that `run`, the folder's `run.json`, was written with.

    Runs saved before `run.json` held hashes cannot be told apart and pass.
    """
    hashes = run.get("files")
    if hashes is None:
        return
    known = isinstance(hashes, dict) and {"curves.npz", "details.npz"} <= hashes.keys()
    if not known or not all(map(is_inside, hashes)):
        raise UserError(f"{folder / RUN}: does not name the files that it was written with; run it again")
    for name, expected in hashes.items():
        path = folder / name
        if not path.is_file() or files.digest(path) != expected:
            what = "is missing" if not path.is_file() else "is another run's, or was changed"
            raise UserError(f"{path}: {what}: {RUN} was written with another; restore it, or run it again")
