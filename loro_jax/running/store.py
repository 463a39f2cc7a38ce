"""The state of an unfinished run in its output folder: finished arms, checkpoints, and what is running.

What cannot be read is refused, never taken for absent: a run goes on with what it had, or not at all.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import pathlib
import shutil
import sys
from collections.abc import Iterator, Mapping
from typing import Any
from typing import Protocol as Interface

import jax
import numpy as np

from loro_jax import files, processes
from loro_jax.errors import UserError, line
from loro_jax.records import identity as identities
from loro_jax.records import results
from loro_jax.running import machine
from loro_jax.training.population import Progress
from loro_jax.types import Run

FORMAT = 3
"""Of checkpoints: counts up when a `Run` gets other arrays (guidance is none where there are no answers), or
another layout."""
IDENTITY = "identity.json"


class Different(UserError):
    """A folder holds something else than the run that was to go on there: what it `holds`, in words."""

    def __init__(self, message: str, holds: str) -> None:
        super().__init__(message)
        self.holds = holds


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over arrays' names, types, shapes and numbers."""
    h = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        h.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        h.update(np.ascontiguousarray(array).tobytes())
    return h.hexdigest()


class Keeper(Interface):
    """What training keeps its progress in."""

    def where(self, arm: str) -> pathlib.Path: ...

    def finished(self, arm: str) -> dict[str, np.ndarray] | None: ...

    def finish(self, arm: str, arrays: dict[str, np.ndarray]) -> None: ...

    def checkpoint(self, arm: str, progress: Progress, seconds: float) -> None: ...

    def restore(self, arm: str, like: Run) -> tuple[Progress, float] | None: ...

    def drop(self, arm: str) -> None: ...


class Nowhere:
    """Keeps nothing: for a run whose result is all that is wanted."""

    def where(self, arm: str) -> pathlib.Path:
        return pathlib.Path(arm)

    def finished(self, arm: str) -> dict[str, np.ndarray] | None:
        return None

    def finish(self, arm: str, arrays: dict[str, np.ndarray]) -> None:
        pass

    def checkpoint(self, arm: str, progress: Progress, seconds: float) -> None:
        pass

    def restore(self, arm: str, like: Run) -> tuple[Progress, float] | None:
        return None

    def drop(self, arm: str) -> None:
        pass


class Store:
    """`folder/checkpoints`, claimed for one configuration on one kind of machine, and for one process.

    Nothing is written before there is something to keep. `close` it, or use it as a context manager.

    Raises:
        UserError: the folder cannot be written, is in use, holds an interrupted run that is not to be
            resumed, one of another configuration or machine that is, a finished run of another task, or state
            that cannot be read.

    Attributes:
        complete: the folder holds this very run, finished, and it is to be resumed: nothing is left.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        identity: dict[str, Any],
        resume: bool,
        computed_on: Mapping[str, Any] | None = None,
    ) -> None:
        self.out, self.folder = folder, folder / "checkpoints"
        self._record: dict[str, Any] = {
            "format": FORMAT,
            "identity": identity,
            "computed_on": dict(computed_on or {}),
        }
        self._lock: int | None = files.lock_folder(folder)
        self.complete = False
        try:
            shutil.rmtree(self._cleared, ignore_errors=True)
            if any(not path.name.endswith(".partial") for path in self._entries()):
                if not resume:
                    raise UserError(
                        f"{folder} holds an interrupted run; add --resume to go on, or delete {self.folder}"
                    )
                self._check()
            elif resume:
                self.complete = self._finished_run()
            else:
                self._replaceable()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets other processes in; an output folder that nothing was written to is removed."""
        if self._lock is not None:
            with contextlib.suppress(OSError):  # not empty
                self.folder.rmdir()
            with contextlib.suppress(OSError):
                self.out.rmdir()
            os.close(self._lock)
            self._lock = None

    def where(self, arm: str) -> pathlib.Path:
        """The file that `finish` writes."""
        return self.folder / f"{arm}.npz"

    def finished(self, arm: str) -> dict[str, np.ndarray] | None:
        """What `finish` kept of an arm, or None; a `UserError` if it is damaged or of another run."""
        path = self.folder / f"{arm}.npz"
        try:
            arrays = files.read_npz(path)
            name, _, hashed = str(arrays.pop("of", "")).partition(" ")
            if name != self._name(arm):
                raise UserError(f"{path}: is of another run or arm")
            if hashed and hashed != digest(arrays):  # which older ones do not have
                raise UserError(f"{path}: its arrays are not those that were written")
        except FileNotFoundError:
            return None
        except UserError as error:
            raise UserError(f"{error}; delete it to train {arm} anew") from None
        return arrays

    def finish(self, arm: str, arrays: dict[str, np.ndarray]) -> None:
        """Keeps a finished arm and drops its checkpoints."""
        with self._writing():
            of = f"{self._name(arm)} {digest(arrays)}"
            files.write_npz(self.folder / f"{arm}.npz", {**arrays, "of": np.asarray(of)})
        shutil.rmtree(self.folder / arm, ignore_errors=True)

    def drop(self, arm: str) -> None:
        """Leaves an arm's checkpoints behind, of several arms' that are finished now."""
        shutil.rmtree(self.folder / arm, ignore_errors=True)
        (self.folder / f"{arm}.json").unlink(missing_ok=True)

    def checkpoint(self, arm: str, progress: Progress, seconds: float) -> None:
        """Keeps an arm's progress, and the seconds spent on it so far."""
        from loro_jax.training.checkpoints import Checkpoints  # orbax, which a short run can do without

        with self._writing():
            checkpoints = Checkpoints(self.folder / arm, self._name(arm))
            try:
                checkpoints.save(progress)
            finally:
                checkpoints.close()
            said = files.sealed({"done": progress.done, "seconds": seconds})
            files.write_json(self.folder / f"{arm}.json", said)

    def restore(self, arm: str, like: Run) -> tuple[Progress, float] | None:
        """The newest checkpoint of an arm and the seconds spent so far, or None if there is none."""
        folder = self.folder / arm
        if not folder.is_dir():
            if os.path.lexists(folder):
                raise UserError(f"{folder}: is no folder of checkpoints; delete it to train {arm} anew")
            return None
        from loro_jax.training.checkpoints import Checkpoints

        checkpoints = Checkpoints(folder, self._name(arm))
        # A run that was killed while it wrote its first checkpoint has left a folder of orbax's own.
        there = [path for path in folder.iterdir() if path.suffix not in (".orbax-checkpoint-tmp", ".json")]
        progress = checkpoints.newest(like)
        checkpoints.close()
        if progress is None:
            if there:
                raise UserError(f"{folder}: no checkpoint can be read; delete it to train {arm} anew")
            return None
        try:
            said = files.read_json(self.folder / f"{arm}.json")
            files.check_seal(self.folder / f"{arm}.json", said)
            seconds = said["seconds"]
            if type(seconds) not in (int, float) or not (math.isfinite(seconds) and seconds >= 0):
                raise ValueError
        except FileNotFoundError:  # killed before it was written
            seconds = 0.0
        except (UserError, LookupError, ValueError):
            raise UserError(
                f"{folder}.json: damaged; delete it to go on without the seconds spent so far"
            ) from None
        return progress, float(seconds)

    def _name(self, arm: str) -> str:
        """Of an arm of this very configuration."""
        identity = json.dumps(self._record["identity"], sort_keys=True)
        return hashlib.sha256(f"{arm} {identity}".encode()).hexdigest()

    def clear(self) -> None:
        """Deletes everything, once the results are written: in one move, since half of it is no run."""
        with contextlib.suppress(OSError):
            self.folder.rename(self._cleared)
        for folder in (self._cleared, self.folder):
            shutil.rmtree(folder, ignore_errors=True)

    @property
    def _cleared(self) -> pathlib.Path:
        """Checkpoints that are being deleted; if that is interrupted, the next run here does it."""
        return self.out / "checkpoints.partial"

    def _entries(self) -> list[pathlib.Path]:
        try:
            return list(self.folder.iterdir())
        except OSError as error:
            if not os.path.lexists(self.folder):
                return []
            raise UserError(
                f"{self.folder}: cannot be read ({error.strerror}); delete it to train anew"
            ) from None

    def _check(self) -> None:
        """Refuses an interrupted run of another configuration or machine, or one that does not say which."""
        path = self.folder / IDENTITY
        try:
            there = files.read_json(path)
            known = type(there.get("format")) is int or {"benchmark", "task"} & there.keys()
            if not known:  # the latter of before there were formats
                raise UserError(f"{path}: damaged")
        except (UserError, FileNotFoundError):
            raise UserError(
                f"{path} cannot be read, so that nobody knows what the checkpoints beside it are of;"
                f" restore it, or delete {self.folder} to train anew"
            ) from None
        if there.get("format") != FORMAT:
            raise UserError(
                f"{self.folder} was begun by another version of loro_jax; go on with that one, or delete it"
            )
        here = self._record
        if different := identities.differences(there.get("identity"), here["identity"]):
            self._refuse(different)
        here["identity"] = there["identity"]  # by which what is kept is named
        before, now = there.get("computed_on"), here["computed_on"]
        if not isinstance(before, dict):
            raise UserError(f"{path}: damaged; delete {self.folder} to train anew")
        if other := machine.differences(before, now):
            raise Different(
                f"{self.out} was begun on another machine or setup ({other}), whose numbers differ: go on"
                " there, or choose another --out",
                f"a run of another machine or setup ({other})",
            )
        if before.get("processor") != now.get("processor"):
            print(
                f"warning: {self.out} was begun on another processor ({line(before.get('processor'), 100)});"
                " its numbers may round differently from here on",
                file=sys.stderr,
            )

    def _finished_run(self) -> bool:
        """Whether the folder holds this run, finished; another one, or a damaged one, is refused."""
        results.recover(self.out)
        try:
            run = results.record(self.out / results.RUN)
        except FileNotFoundError:
            return False
        if different := identities.differences(run.get("identity"), self._record["identity"]):
            self._refuse(different, ", or leave out --resume to run this one in its place")
        before = run.get("computed_on")  # which older runs do not say
        if isinstance(before, dict) and (other := machine.differences(before, self._record["computed_on"])):
            raise Different(
                f"{self.out} holds this run, computed on another machine or setup ({other}); choose another"
                " --out, or leave out --resume to run it anew",
                f"this run of another machine or setup ({other})",
            )
        results.verify(self.out, run)
        return True

    def _replaceable(self) -> None:
        """A `UserError` where the folder holds a finished run of another task, which no run replaces."""
        try:
            there = results.record(self.out / results.RUN).get("identity")
        except (FileNotFoundError, UserError):
            return
        other = there.get("task") if isinstance(there, dict) else None
        if isinstance(other, str) and other != self._record["identity"].get("task"):
            raise UserError(f"{self.out} holds a finished run of {other}; choose another --out, or remove it")

    def _refuse(self, different: list[str], otherwise: str = "") -> None:
        named = "; ".join(different[:2]) + ("; ..." if len(different) > 2 else "")
        raise Different(
            f"{self.out} holds another configuration ({named}); resume with the same options, or choose"
            f" another --out{otherwise}",
            f"another configuration ({named})",
        )

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Claims the folder before what is written within; what cannot be written is a `UserError`."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not (self.folder / IDENTITY).exists():
                files.write_json(self.folder / IDENTITY, self._record)
            yield
        except OSError as error:
            raise UserError(
                f"cannot write to {self.folder} ({error.strerror or error}); what was kept before is whole:"
                " make room, then the same command with --resume goes on"
            ) from None


class Shared:
    """A store of several processes: the first one's, of which it tells the others. See `Store`.

    What it keeps does not show how many processes there were: a run goes on in any number of them that has as
    many devices.
    """

    def __init__(
        self, folder: pathlib.Path, identity: dict[str, Any], resume: bool, computed_on: Mapping[str, Any]
    ) -> None:
        self.out, self.folder = folder, folder / "checkpoints"
        agree(identity, computed_on)
        self._store: Any = None  # in the others
        self.complete = processes.alone(lambda: self._open(folder, identity, resume, computed_on))

    def _open(self, *given: Any) -> bool:
        self._store = Store(*given)
        return self._store.complete

    def __enter__(self) -> Shared:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._store is not None:
            self._store.close()

    def where(self, arm: str) -> pathlib.Path:
        return self.folder / f"{arm}.npz"

    def finished(self, arm: str) -> dict[str, np.ndarray] | None:
        return processes.alone(lambda: self._store.finished(arm))

    def finish(self, arm: str, arrays: dict[str, np.ndarray]) -> None:
        processes.alone(lambda: self._store.finish(arm, arrays))

    def checkpoint(self, arm: str, progress: Progress, seconds: float) -> None:
        whole = dataclasses.replace(progress, runs=processes.gathered(progress.runs, everywhere=False))
        processes.alone(lambda: self._store.checkpoint(arm, whole, seconds))

    def restore(self, arm: str, like: Run) -> tuple[Progress, float] | None:
        data = jax.tree.map(lambda x: jax.random.key_data(x) if processes.is_key(x) else x, like)
        blank = jax.tree.map(lambda x: np.broadcast_to(np.zeros((), x.dtype), x.shape), data)
        if (found := processes.alone(lambda: self._store.restore(arm, blank))) is None:
            return None
        progress, seconds = found
        runs = jax.tree.map(processes.placed, progress.runs, like)
        return dataclasses.replace(progress, runs=runs), seconds

    def drop(self, arm: str) -> None:
        processes.alone(lambda: self._store.drop(arm))

    def clear(self) -> None:
        processes.alone(lambda: self._store.clear())


def opened(
    folder: pathlib.Path, identity: dict[str, Any], resume: bool, computed_on: Mapping[str, Any]
) -> Store | Shared:
    """The store of a run in one process, or in several."""
    kind = Store if jax.process_count() == 1 else Shared
    return kind(folder, identity, resume, computed_on)


def agree(identity: Mapping[str, Any], computed_on: Mapping[str, Any]) -> None:
    """A `UserError`, the same in all processes, where they would not run the same thing."""
    said = processes.each((identity, computed_on))
    for process, (ran, on) in enumerate(said):
        other = identities.differences(said[0][0], ran)
        if elsewhere := machine.differences(said[0][1], on):
            other.append(elsewhere)
        if other:
            raise UserError(
                f"process {process} would run something else than process 0 ({'; '.join(other[:2])}); start"
                " all processes with the same command, files and versions"
            )
