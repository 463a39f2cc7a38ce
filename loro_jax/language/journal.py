"""The record of a collection: append-only while it runs, a compressed transcript when it is done.

The journal's first line is the collection's identity; every further line is one round: the steps that
were decided together, in one write, flushed to the disk. A run that is killed loses at most the round
it was in. The transcript has the same identity and steps, one step a line, sorted by episode.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import io
import json
import os
import pathlib
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from loro_jax import files
from loro_jax.data.episodes import JOURNAL
from loro_jax.errors import UserError

Step = dict[str, Any]
"""A decided step: `episode`, `step`, `state` (fields), `action`, `random`, `attempts`, `seconds`."""

TRANSCRIPT = "transcript.jsonl.gz"


class Journal:
    """The steps recorded in a folder so far, and the only writer to it (`close` lets others in).

    Nothing is written before the first `append`.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        identity: dict[str, Any],
        order: Callable[[Step], Any] = lambda step: (step["episode"], step["step"]),
    ) -> None:
        """Reads the record in `folder`, if there is one; the transcript's steps stand in `order`.

        A `UserError` if the record is damaged, in use, or another collection's.
        """
        self.folder, self._identity, self._order = folder, identity, order
        self.steps: list[Step] = []
        self._file: io.FileIO | None = None
        transcript = folder / TRANSCRIPT
        with writing(folder):
            self.finished = transcript.exists() and not (folder / JOURNAL).exists()
            if (folder / JOURNAL).exists():
                self._open()
                if not self.steps and transcript.exists():  # killed before it had taken over what was there
                    found, steps = read_transcript(transcript)
                    _check_identity(transcript, found, identity)
                    self.append(steps)
            elif self.finished:
                found, self.steps = read_transcript(transcript)
                _check_identity(transcript, found, identity)
            elif (folder / "card.json").exists() or (folder / "episodes.npz").exists():
                raise UserError(f"{folder}: holds episodes without a {TRANSCRIPT}; choose another --out")

    def close(self) -> None:
        """Closes the file; its lock goes with it."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def check_writable(self) -> None:
        """A `UserError` if the folder could not be made or written to; makes nothing."""
        nearest = next(path for path in (self.folder, *self.folder.absolute().parents) if path.exists())
        if not nearest.is_dir():
            raise UserError(f"{nearest}: cannot be written to; it is not a folder; choose another --out")
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise UserError(f"{nearest}: cannot be written to; permission denied; choose another --out")

    def begin(self) -> None:
        """Makes sure that steps can be recorded, before any is asked for."""
        if self._file is not None:
            return
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            recorded = self.steps
            self._open()
            if not self.steps:
                transcript = self.folder / TRANSCRIPT
                if (read_transcript(transcript)[1] if transcript.exists() else []) != recorded:
                    self.close()
                    raise UserError(
                        f"{self.folder}: another collection has just finished here; run this again"
                    )
                if recorded:
                    self.append(recorded)

    def append(self, steps: Sequence[Step]) -> None:
        """Records one round, for good."""
        self.begin()
        self._write(list(steps))
        self.steps = [*self.steps, *steps]
        self.finished = False

    def finish(self) -> None:
        """Writes the transcript and removes the journal."""
        with (
            writing(self.folder),
            files.replacing(self.folder / TRANSCRIPT) as raw,
            gzip.GzipFile("", "wb", 9, raw, mtime=0) as out,
        ):
            for line in (self._identity, *sorted(self.steps, key=self._order)):
                out.write(_line(line))
        with writing(self.folder):
            (self.folder / JOURNAL).unlink(missing_ok=True)
        self.close()
        self.finished = True

    def _open(self) -> None:
        """Opens and locks the journal, reads it, and cuts off a last line that was not written whole."""
        path = self.folder / JOURNAL
        self._file = open(path, "a+b", buffering=0)  # noqa: SIM115  (open, and locked, until close)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            current = os.path.samestat(os.fstat(self._file.fileno()), os.stat(path))
        except (BlockingIOError, FileNotFoundError):
            current = False  # another holds the lock, or has just finished and removed the file
        if not current:
            self.close()
            raise UserError(
                f"{self.folder}: another collection is writing here; wait, or choose another --out"
            )
        self._file.seek(0)
        data = self._file.readall()
        whole = data[: data.rfind(b"\n") + 1]
        self._file.truncate(len(whole))
        if not whole:
            self.steps = []
            self._write(self._identity)
            return
        try:
            found, *rounds = [json.loads(line) for line in whole.splitlines()]
            self.steps = [step for round_ in rounds for step in round_]
        except (ValueError, TypeError):
            self.close()
            raise UserError(f"{path}: damaged; remove it to begin anew") from None
        _check_identity(path, found, self._identity)

    def _write(self, value: Any) -> None:
        assert self._file is not None
        line = _line(value)
        with writing(self.folder):
            while line:  # without a buffer: what a full disk does not take is not written later, torn
                line = line[self._file.write(line) :]
            os.fsync(self._file.fileno())


def _line(value: Any) -> bytes:
    """`value` as a line of JSON; what UTF-8 cannot hold, half a surrogate pair, is escaped as JSON has it."""
    return (json.dumps(value, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def read_transcript(path: pathlib.Path) -> tuple[dict[str, Any], list[Step]]:
    """-> the identity and the steps in a transcript; a `UserError` if it is damaged."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            identity, *steps = [json.loads(line) for line in lines]
    except (ValueError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path}: damaged ({error}); restore it, or choose another --out") from None
    return identity, steps


def questions(folder: pathlib.Path, episodes: int) -> int:
    """Questions put to the model whose answers the first `episodes` episodes in `folder` use.

    An answer that is reused is counted once, whichever episode asked for it. -1 without a transcript that
    says so.
    """
    try:
        _, steps = read_transcript(folder / TRANSCRIPT)
        asked: Counter[str] = Counter()
        used: set[str] = set()
        played: set[int] = set()
        for place, step in enumerate(steps):
            kept = None if step.get("sample") is None else [step["state"], step["sample"]]
            question = json.dumps(place if kept is None else kept, sort_keys=True)
            asked[question] += len(step["attempts"])
            if step["episode"] < episodes:
                used.add(question)
                played.add(step["episode"])
    except (OSError, UserError, LookupError, TypeError, ValueError, AttributeError):
        return -1
    return sum(asked[question] for question in used) if len(played) == episodes else -1


@contextlib.contextmanager
def writing(folder: pathlib.Path) -> Iterator[None]:
    """What cannot be written within is a `UserError`: the record as it stands is whole."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{error.filename or folder}: cannot be written ({error.strerror or error}); what was"
            " recorded is whole: make room, or let it be written, then the same command goes on"
        ) from None


def _check_identity(path: pathlib.Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Refuses to mix two collections in one folder."""
    if not isinstance(found, dict):
        raise UserError(f"{path}: not a collection's record; choose another --out")
    different = sorted(k for k in {*found, *wanted} if found.get(k) != wanted.get(k))
    if different:
        raise UserError(
            f"{path}: begun with another {', '.join(different)}; choose another --out or the same settings"
        )
