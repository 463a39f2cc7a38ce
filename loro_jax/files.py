"""Files that are written whole or not at all, read with errors of one line, and locked."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

import numpy as np

from loro_jax.errors import UserError


def digest(path: pathlib.Path) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


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


@contextmanager
def replacing(path: pathlib.Path) -> Iterator[IO[bytes]]:
    """A binary file that takes the place of `path` once all is written; if anything fails, `path` stays."""
    partial = path.with_name(path.name + ".partial")
    try:
        with open(partial, "wb") as stream:
            yield stream
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):  # not there, or on what has become read-only
            partial.unlink()
        raise


def write_npz(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Arrays by name, compressed."""
    with replacing(path) as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]


def write_text(path: pathlib.Path, text: str) -> None:
    """Text as UTF-8."""
    with replacing(path) as stream:
        stream.write(text.encode())


def write_json(path: pathlib.Path, value: Any) -> None:
    """Strict JSON."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


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
