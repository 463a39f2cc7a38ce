"""What a run leaves behind: files that are written aside, moved together, and read back only together.

`run.json` says what ran and holds the SHA-256 of every other file: outputs of two runs are told apart.
"""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from loro_jax.errors import UserError

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
        identity: what ran: benchmark, protocol, arms, seeds, datasets.
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
    write_npz(folder / "curves.npz", {**result.curves, "env_steps": result.env_steps})
    write_npz(folder / "details.npz", details(result))
    if result.policies:
        kept = {f"{arm}/{name}": a for arm, arrays in result.policies.items() for name, a in arrays.items()}
        write_npz(folder / POLICIES, kept)


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

    Among them has to be `index`, a JSON object: it receives the others' SHA-256 as "files", and is moved
    last. What the old one named and the new one does not is removed. If anything fails before all is written,
    `folder` stays as it was; if the moving is interrupted, whoever comes next finishes it (`recover`).

    Raises:
        UserError: the outputs cannot be written, or another process is writing them.
    """
    staging = _staging(folder, index)
    lock = lock_folder(staging)
    written = False
    try:
        _settle(folder, index)
        _empty(staging)
        yield staging
        names = sorted(p for p in staging.rglob("*") if p.is_file() and p.name != index)
        files = {p.relative_to(staging).as_posix(): digest(p) for p in names}
        write_json(staging / index, json.loads((staging / index).read_text()) | {"files": files})
        written = True
        _settle(folder, index)
        shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise UserError(f"results cannot be written to {folder} ({error.strerror or error})") from None
    finally:
        if not written:
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
    lock = lock_folder(staging)
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
    files = _listed(staging / index)
    if files is None:
        return
    for name in files:
        if (staging / name).is_file():  # else it was moved before
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(staging / name, folder / name)
    for name in (_listed(folder / index) or set()) - files:
        (folder / name).unlink(missing_ok=True)
    os.replace(staging / index, folder / index)


def _empty(folder: pathlib.Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def lock_folder(folder: pathlib.Path) -> int:
    """A file descriptor of the folder, which is made and locked until it is closed.

    Raises:
        UserError: it cannot be made or written to, or another process has locked it.
    """
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(0, "permission denied, or a read-only file system")
            lock = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:  # removed in between
            continue
        except OSError as error:
            raise UserError(f"cannot write to {folder}: {error.strerror}; choose another --out") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise UserError(
                f"another run is writing to {folder}; wait for it, or choose another --out"
            ) from None
        except OSError:  # a file system without locks
            print(f"warning: {folder} cannot be locked: let no other run write there", file=sys.stderr)
            return lock
        try:
            current = os.path.samestat(os.fstat(lock), os.stat(folder))
        except FileNotFoundError:
            current = False
        if current:
            return lock
        os.close(lock)  # whoever had it locked has removed it


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


@contextmanager
def claimed(path: pathlib.Path) -> Iterator[None]:
    """Keeps other processes from `path`, a file that the block writes again and again; its folder is made."""
    lock = path.with_name(f"{path.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = open(lock, "a")  # noqa: SIM115  (open, and locked, until the block ends)
    except OSError as error:
        raise UserError(f"cannot write to {path.parent}: {error.strerror}; choose another --out") from None
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another process is writing to {path}; wait for it, or choose another --out"
            ) from None
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _listed(index: pathlib.Path) -> set[str] | None:
    """The files that an index names, none of them outside its folder; None where it does not say."""
    try:
        files = json.loads(index.read_text())["files"]
        return {name for name in files if not pathlib.PurePosixPath(name).is_absolute() and ".." not in name}
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def digest(path: pathlib.Path) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


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
    run = read_json(folder / RUN)
    verify(folder, run)
    curves, details = read_npz(folder / "curves.npz"), read_npz(folder / "details.npz")
    if "env_steps" not in curves:
        raise UserError(f"{folder / 'curves.npz'}: holds no env_steps; it is not the file of a run")
    env_steps = curves.pop("env_steps")
    if any(curve.ndim != 2 or curve.shape[1] != len(env_steps) for curve in curves.values()):
        raise UserError(f"{folder / 'curves.npz'}: curves and env_steps differ in length")
    return Saved(run, curves, env_steps, details)


def verify(folder: pathlib.Path, run: Mapping[str, Any]) -> None:
    """A `UserError` if a file is not the one that `run`, the folder's `run.json`, was written with.

    Runs saved before `run.json` held hashes cannot be told apart and pass.
    """
    files = run.get("files")
    if files is None:
        return
    if not isinstance(files, dict) or not {"curves.npz", "details.npz"} <= files.keys():
        raise UserError(f"{folder / RUN}: does not name the files that it was written with; run it again")
    for name, expected in files.items():
        path = folder / name
        if not path.is_file() or digest(path) != expected:
            what = "is missing" if not path.is_file() else "is another run's, or was changed"
            raise UserError(f"{path}: {what}: {RUN} was written with another; restore it, or run it again")


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """A file's JSON object; a `UserError` if it is damaged, a `FileNotFoundError` if it is not there."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        _refuse_broken_link(path)
        raise
    except (OSError, ValueError, RecursionError) as error:
        why = " ".join(str(error).split())[:100]
        raise UserError(f"{path}: damaged, not readable as JSON ({why})") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: damaged, holds {type(value).__name__}, not a JSON object")
    return value


def read_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
    """A file's arrays; a `UserError` if it is damaged, a `FileNotFoundError` if it is not there."""
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as archive:
            return dict(archive)
    except FileNotFoundError:
        _refuse_broken_link(path)
        raise
    except Exception as error:  # damage surfaces as a dozen types, from zlib's to the tokenizer's
        why = " ".join(str(error).split())[:100]
        raise UserError(f"{path}: damaged or not an .npz file ({type(error).__name__}: {why})") from None


def _refuse_broken_link(path: pathlib.Path) -> None:
    if path.is_symlink():
        raise UserError(f"{path}: a link to a file that is not there")


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
