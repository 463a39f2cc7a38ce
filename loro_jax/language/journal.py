"""The record of a collection: append-only while it runs, a compressed transcript when it is done.

The journal's first line is the collection's identity; every further line is one round: the steps that
were decided together, in one write, flushed to the disk. A run that is killed loses at most the round
it was in. The transcript has the same identity and steps, one step a line, sorted by episode.

Every round says by a hash what it and all rounds before it hold, and the card beside a transcript what that
holds. Of records from before there were hashes, the card's counts do, or `published`, where they came with
the suite.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import hashlib
import io
import json
import os
import pathlib
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from loro_jax import files
from loro_jax.data.episodes import JOURNAL
from loro_jax.errors import UserError
from loro_jax.language.published import PUBLISHED

Step = dict[str, Any]
"""A decided step: `episode`, `step`, `state` (fields), `action`, `random`, `attempts`, `seconds`."""

TRANSCRIPT = "transcript.jsonl.gz"
HASH = "transcript_sha256"
"""In a card: what `digest` gives of the steps."""


def by_episode(step: Step) -> Any:
    """Where a step of a collection stands in the transcript."""
    return step["episode"], step["step"]


class Journal:
    """The steps recorded in a folder so far, and the only writer to it (`close` lets others in).

    Nothing is written before the first `append`.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        identity: dict[str, Any],
        order: Callable[[Step], Any] = by_episode,
    ) -> None:
        """Reads the record in `folder`, if there is one; the transcript's steps stand in `order`.

        A `UserError` if the record is damaged, in use, or another collection's.
        """
        self.folder, self._identity, self._order = folder, identity, order
        self.steps: list[Step] = []
        self._chain = ""
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
                self._check_card(found)
            elif (folder / "card.json").exists() or (folder / "episodes.npz").exists():
                raise UserError(f"{folder}: holds episodes without a {TRANSCRIPT}; choose another --out")

    def _check_card(self, found: Mapping[str, Any]) -> None:
        """Refuses a transcript that is not the one of the card beside it, if there is a sound one."""
        path = self.folder / "card.json"
        try:
            card = files.read_json(path)
            files.check_seal(path, card)
        except (UserError, FileNotFoundError):
            return
        check(self.folder, card, (found, self.steps))

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
        chain = _chained(self._chain, list(steps))
        self._write({"steps": list(steps), "sha256": chain})
        self._chain = chain
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
        try:
            self._read(path)
        except BaseException:
            self.close()
            raise

    def _read(self, path: pathlib.Path) -> None:
        assert self._file is not None
        self._file.seek(0)
        data = self._file.readall()
        whole = data[: data.rfind(b"\n") + 1]
        self._file.truncate(len(whole))
        self.steps, self._chain = [], ""
        if not whole:
            self._write(self._identity)
            return
        try:
            found, *rounds = [files.parse_json(line.decode()) for line in whole.splitlines()]
            for round_ in rounds:
                self.steps += self._checked(round_)
        except (ValueError, TypeError, KeyError, RecursionError):
            raise UserError(f"{path}: damaged; remove it to begin anew") from None
        _check_identity(path, found, self._identity)

    def _checked(self, round_: Any) -> list[Step]:
        """A round's steps; a `ValueError`, or what Python raises, where it is none, or not in its place.

        Older rounds are lists without a hash, which the next one that has one covers.
        """
        steps = round_ if isinstance(round_, list) else round_["steps"]
        if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
            raise ValueError
        self._chain = _chained(self._chain, steps)
        if round_ is not steps and round_["sha256"] != self._chain:
            raise ValueError
        return steps

    def _write(self, value: Any) -> None:
        assert self._file is not None
        line, end = _line(value), self._file.seek(0, os.SEEK_END)
        with writing(self.folder):
            try:
                while line:  # without a buffer: what a full disk does not take is not written later, torn
                    line = line[self._file.write(line) :]
                os.fsync(self._file.fileno())
            except OSError:
                with contextlib.suppress(OSError):  # else the next one to open it cuts off what has no end
                    self._file.truncate(end)
                raise


def _line(value: Any) -> bytes:
    """`value` as a line of JSON; what UTF-8 cannot hold, half a surrogate pair, is escaped as JSON has it."""
    return (json.dumps(value, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def _chained(before: str, steps: Sequence[Step]) -> str:
    """The hash of a round that comes after rounds with the hash `before`."""
    return files.json_digest([before, list(steps)])


def digest(steps: Sequence[Step]) -> str:
    """SHA-256 of steps in the order in which they stand, however they are written down."""
    h = hashlib.sha256()
    for step in steps:
        h.update(files.json_digest(step).encode())
    return h.hexdigest()


def read_transcript(path: pathlib.Path) -> tuple[dict[str, Any], list[Step]]:
    """-> the identity and the steps in a transcript; a `UserError` if it is damaged."""
    try:
        most = files.allowance(files.size(path))
        with gzip.open(path) as lines:
            data = lines.read(most + 1)
        if len(data) > most:
            raise ValueError(f"it unpacks to more than {most >> 20} MiB")
        identity, *steps = [files.parse_json(line.decode()) for line in data.splitlines()]
        if not all(isinstance(line, dict) for line in (identity, *steps)):
            raise ValueError("not a line of JSON objects each")
    except FileNotFoundError:
        raise
    except (ValueError, EOFError, OSError, zlib.error, RecursionError) as error:
        raise UserError(f"{path}: damaged; restore it, or choose another --out ({error})") from None
    return identity, steps


Record = tuple[Mapping[str, Any], Sequence[Step]]
"""An identity, and the steps."""


def check(folder: pathlib.Path, card: Mapping[str, Any], record: Record | None = None) -> None:
    """A `UserError` where the transcript in a folder is damaged, or not the one of the card beside it.

    A folder without one passes, and so does one where the transcript is about to be replaced.

    Args:
        record: what is in the transcript, where it was read before.
    """
    path = folder / TRANSCRIPT
    if not path.exists() or (folder / JOURNAL).exists():
        return
    identity, steps = record or read_transcript(path)
    if not fits(identity, steps, card) or not _played(folder, steps):
        raise UserError(
            f"{path}: is not what card.json was written with, and one of them is damaged; restore it, or"
            " choose another --out"
        )


def is_step(step: Step) -> bool:
    """Whether an entry of a record is a step that can have been decided; says nothing of its action."""
    try:
        attempts, sample = step["attempts"], step.get("sample")
        if not isinstance(attempts, list):
            return False
        counts = [step["episode"], step["step"]] + ([] if sample is None else [sample])
        counts += [attempt[k] for attempt in attempts for k in ("prompt_tokens", "answer_tokens")]
        flags = [step["random"], step.get("reused", False), *(attempt["asked"] for attempt in attempts)]
        texts = [*step["state"].values(), *(attempt["answer"] for attempt in attempts)]
        read = [attempt["action"] for attempt in attempts if attempt["action"] is not None]
        return (
            all(type(n) is int and n >= 0 for n in counts)
            and all(type(flag) is bool for flag in flags)
            and all(type(text) is str for text in texts)
            and all(type(n) in (int, float) for n in read)
            and type(step["seconds"]) in (int, float)
        )
    except (KeyError, TypeError, AttributeError):
        return False


def _played(folder: pathlib.Path, steps: Sequence[Step]) -> bool:
    """Whether the steps of a collection are those of the episodes beside them, where these can be read."""
    try:
        kept = files.read_npz(folder / "episodes.npz", ("actions", "episode_lengths"))
    except (UserError, FileNotFoundError):
        return True
    actions, lengths = kept["actions"], kept["episode_lengths"].tolist()
    if not all(map(is_step, steps)):
        return False
    try:
        ordered = sorted(steps, key=by_episode)
        counts = Counter(step["episode"] for step in ordered)
        if len(counts) != len(lengths):  # it has begun more than it has finished
            return True
        taken = np.asarray([step["action"] for step in ordered], actions.dtype).reshape(actions.shape)
        return list(counts.values()) == lengths and bool(np.array_equal(taken, actions))
    except (KeyError, TypeError, ValueError, OverflowError):
        return False


def fits(identity: Mapping[str, Any], steps: Sequence[Step], card: Mapping[str, Any]) -> bool:
    """Whether a record is the one that a card was written with, as far as the card says."""
    if any(card.get(k) != v for k, v in identity.items()):
        return False
    if wanted := card.get(HASH, PUBLISHED.get(str(card.get("arrays_sha256")))):
        return bool(wanted == digest(steps))
    counts = card.get("answers")  # of the answers alone, where the card is a survey's
    counts = counts if isinstance(counts, Mapping) else card
    try:
        made = [attempt for step in steps for attempt in step.get("attempts", ())]
        found = {k: sum(attempt[k] for attempt in made) for k in ("answer_tokens", "prompt_tokens")}
        found["answers"] = len(made) - counts.get("judgements", 0)
        if counts is not card:
            if len({step["episode"] for step in steps}) > card.get("episodes", 0):
                return True  # it has begun more than it has finished, of which alone the card counts
            found["steps"] = len(steps)
            found["random_actions"] = sum(step["random"] for step in steps)
            found["steps_with_a_reused_answer"] = sum(step["reused"] for step in steps)
            unread = [a.get("role", "answer") == "answer" and a["action"] is None for a in made]
            found["unparsable_answers"] = sum(unread)
    except (KeyError, TypeError, AttributeError):
        return False
    return all(counts.get(k, n) == n for k, n in found.items())


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
