"""Files: what has no end is not read, and two processes never hold one claim."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable
from typing import Any

import pytest

from loro_jax import files
from loro_jax.errors import UserError
from loro_jax.interchange.pickles import read_mdp_dataset
from loro_jax.language import gguf, journal, prompts


@pytest.mark.parametrize(
    "read",
    [files.read_json, files.read_npz, gguf.check, journal.read_transcript, prompts.read, read_mdp_dataset],
    ids=lambda read: read.__name__,
)
def test_pipes_and_devices_are_refused_and_not_waited_for(
    read: Callable[[pathlib.Path], Any], tmp_path: pathlib.Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zeros").symlink_to("/dev/zero")
    for path in (tmp_path / "pipe", tmp_path / "zeros"):
        with pytest.raises(UserError, match="no regular file, but a pipe or a device"):
            read(path)


def test_a_claim_whose_lock_was_removed_in_between_is_made_anew(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between another's opening of the lock and its locking, the holder ends: what it has locked is gone."""
    path, lock, real = tmp_path / "x.json", tmp_path / "x.json.lock", files.fcntl.flock
    removed: list[int] = []

    def flock(stream: Any, how: int) -> None:
        if not removed:
            removed.append(os.fstat(stream.fileno()).st_ino)
            lock.rename(tmp_path / "ended")  # keeps the number, which a new file would get again
        real(stream, how)

    monkeypatch.setattr(files.fcntl, "flock", flock)
    with files.claimed(path):
        assert lock.exists() and lock.stat().st_ino not in removed
        with pytest.raises(UserError, match=r"another process is writing to .*x.json"), files.claimed(path):
            pass
    assert not lock.exists()
