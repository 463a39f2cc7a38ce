"""Files that are written whole or not at all, read with errors of one line, and locked."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import math
import os
import pathlib
import stat
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

import numpy as np

from loro_jax.errors import UserError

SEAL = "own_sha256"
"""In a JSON object: the SHA-256 of all else that it holds (see `sealed`)."""
LARGEST_JSON = 1 << 28
"""Bytes of a JSON file; the largest that the suite writes have a megabyte."""
FREE, RATIO = 1 << 26, 200
"""Bytes that a compressed file may hold whatever its size, and beyond them, times its size."""


def digest(path: pathlib.Path) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def size(path: pathlib.Path) -> int:
    """Bytes of a file, before it is read.

    Raises:
        FileNotFoundError: it is not there.
        OSError: it is a folder, or a pipe or a device, whose reading may never end.
    """
    found = path.stat()
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, "Is a directory")
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "no regular file, but a pipe or a device")
    return found.st_size


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """A file's JSON object; a `UserError` if it is damaged, a `FileNotFoundError` if it is not there."""
    try:
        if size(path) > LARGEST_JSON:
            raise ValueError(f"larger than {LARGEST_JSON >> 20} MiB")
        value = parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        _refuse_broken_link(path)
        raise
    except (OSError, ValueError, RecursionError) as error:
        why = " ".join(str(error).split())[:100]
        raise UserError(
            f"{path}: damaged, not readable as JSON ({why}); restore it, or make it anew"
        ) from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: damaged, holds {type(value).__name__}, not a JSON object")
    return value


def parse_json(text: str | bytes) -> Any:
    """A value of strict JSON: names are unique, numbers finite and no larger than 64 bits hold.

    Raises:
        ValueError: it is none.
        RecursionError: it is nested too deeply.
    """
    value = json.loads(text, object_pairs_hook=_object, parse_int=_of_64_bits)
    _check_numbers("the file", value)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"it names {next(n for n in names if names.count(n) > 1)[:40]!r} twice")
    for name, value in pairs:
        _check_numbers(name, value)
    return found


def _check_numbers(name: str, value: Any) -> None:
    """Refuses what Python reads beyond JSON, NaN and infinity, and numbers that become infinite."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name[:40]}: {value} is no finite number")
    if isinstance(value, list):
        for item in value:
            _check_numbers(name, item)


def _of_64_bits(text: str) -> int:
    if len(text) > 20 or abs(int(text)) >= 2**64:
        raise ValueError(f"{text[:20]}... is larger than 64 bits hold")
    return int(text)


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with the hash of what it holds, so that `check_seal` notices what is changed later.

    >>> check_seal(pathlib.Path("x.json"), sealed({"seeds": 2}))
    >>> check_seal(pathlib.Path("x.json"), sealed({"seeds": 2}) | {"seeds": 3})
    Traceback (most recent call last):
    ...
    loro_jax.errors.UserError: x.json: was changed since it was written (own_sha256); restore it
    """
    rest = {k: v for k, v in value.items() if k != SEAL}
    return {**rest, SEAL: json_digest(rest)}


def check_seal(path: pathlib.Path, value: Mapping[str, Any]) -> None:
    """A `UserError` where the object in `path` was sealed and is not as it was.

    What was written before there were seals, or by hand, has none and passes: whoever edits a file on purpose
    takes the line out.
    """
    if SEAL in value and value[SEAL] != sealed(value)[SEAL]:
        raise UserError(f"{path}: was changed since it was written ({SEAL}); restore it")


def json_digest(value: Any) -> str:
    """SHA-256 of a JSON value, however it is written down."""
    plain = json.loads(json.dumps(value))  # tuples are lists there, and names are text
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def read_npz(path: pathlib.Path, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """A file's arrays, or those called `names`; no object is made of anything in it.

    Raises:
        UserError: it is damaged, or lacks one of `names`.
        FileNotFoundError: it is not there.
    """
    try:
        room = allowance(size(path))
        with warnings.catch_warnings(), open(path, "rb") as stream, zipfile.ZipFile(stream) as archive:
            warnings.simplefilter("error")  # NumPy mends some headers, and says so
            entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
            if len(entries) < len(archive.infolist()):
                raise ValueError("two arrays have one name")
            if sum(entry.file_size for entry in entries.values()) > room:
                raise ValueError(f"it says that it unpacks to more than {room >> 20} MiB")
            if missing := [name for name in names or () if name not in entries]:
                raise UserError(f"{path}: lacks the arrays {', '.join(missing)}")
            return {name: _array(archive, entries[name]) for name in (entries if names is None else names)}
    except FileNotFoundError:
        _refuse_broken_link(path)
        raise
    except UserError:
        raise
    except Exception as error:  # damage surfaces as a dozen types, from zlib's to the tokenizer's
        why = " ".join(str(error).split())[:100]
        raise UserError(f"{path}: damaged or not an .npz file ({type(error).__name__}: {why})") from None


def allowance(packed: int) -> int:
    """Bytes that a compressed file of so many may unpack to: a few kilobytes can stand for gigabytes."""
    return FREE + RATIO * packed


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    """An array of plain numbers or text, whose shape is what the archive has room for."""
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError("it is packed in another way than NumPy packs arrays")
    with archive.open(entry) as file:
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:
            raise ValueError(f"it has arrays of version {version}")
        shape, _, kind = _HEADERS[version](file)
        if kind.hasobject or not kind.itemsize:
            raise ValueError(f"arrays of {kind} are not loaded: they hold no plain numbers")
        if any(type(n) is not int or n < 0 for n in shape):
            raise ValueError(f"an array of shape {shape}")
        if file.tell() + math.prod(shape) * kind.itemsize != entry.file_size:
            raise ValueError(f"an array of shape {shape} is not what the archive has room for")
    with archive.open(entry) as file:
        found = np.lib.format.read_array(file, allow_pickle=False)
        file.read(1)  # to the end, where the checksum is looked at
    return np.asarray(found)


_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
"""How arrays begin; later versions are for records with names, of which the suite has none."""


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
            stream.flush()
            os.fsync(stream.fileno())  # a full disk may say so only here; a power cut loses what is not there
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


TRIES = 100
"""Times that a folder is made anew which is removed as soon as it is made."""


def lock_folder(folder: pathlib.Path) -> int:
    """A file descriptor of the folder, which is made and locked until it is closed.

    Raises:
        UserError: it cannot be made or written to, or another process has locked it.
    """
    for left in reversed(range(TRIES)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(0, "permission denied, or a read-only file system")
            lock = os.open(folder, os.O_RDONLY)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and left:  # removed in between
                continue
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
    raise UserError(f"cannot write to {folder}: it is removed all the time; choose another --out")


def check_writable(folder: pathlib.Path) -> None:
    """A `UserError` where no file can be made in a folder that is there, whoever asks."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}; choose another") from None


@contextmanager
def claimed(path: pathlib.Path) -> Iterator[None]:
    """Keeps other processes from `path`, a file that the block writes again and again; its folder is made."""
    lock = path.with_name(f"{path.name}.lock")
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            stream = open(lock, "a")  # noqa: SIM115  (open, and locked, until the block ends)
        except OSError as error:
            raise UserError(
                f"cannot write to {path.parent}: {error.strerror}; choose another --out"
            ) from None
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.close()
            raise UserError(
                f"another process is writing to {path}; wait for it, or choose another --out"
            ) from None
        try:
            current = os.path.samestat(os.fstat(stream.fileno()), os.stat(lock))
        except FileNotFoundError:
            current = False
        if current:
            break
        stream.close()  # whoever had it locked has removed it
    with stream:
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
