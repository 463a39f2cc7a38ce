"""Compiled programs kept from one start to the next: where, how much, and that numbers stay the same."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Iterator

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from loro_jax.running import compiled, machine

ROOT = pathlib.Path(__file__).parent.parent.parent
SETTINGS = (
    "jax_compilation_cache_dir",
    "jax_enable_compilation_cache",
    "jax_persistent_cache_min_compile_time_secs",
)


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A JAX that was not told of any cache, and where ours is going to be."""
    before = {name: jax.config.values[name] for name in SETTINGS}
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setenv(compiled.VARIABLE, str(tmp_path / "cache"))
    yield tmp_path / "cache" / compiled.kind()
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def cached() -> str | None:
    return jax.config.values["jax_compilation_cache_dir"]


def test_it_lies_where_the_variable_says_or_in_the_users_cache(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    machine.start()
    assert cached() == str(folder) and folder.is_dir()
    monkeypatch.delenv(compiled.VARIABLE)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if sys.platform == "linux":
        assert compiled.root() == tmp_path / ".cache" / "loro_jax" / "compiled"
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
        assert compiled.root() == tmp_path / "elsewhere" / "loro_jax" / "compiled"


def test_a_folder_of_jaxs_own_stays_and_the_flag_turns_it_off(
    folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "own"))
    machine.start()
    assert cached() == str(tmp_path / "own") and not folder.exists()
    jax.config.update("jax_compilation_cache_dir", None)
    machine.start(cache=False)
    assert cached() is None and not jax.config.values["jax_enable_compilation_cache"]
    machine.start()  # which JAX_ENABLE_COMPILATION_CACHE=0 does as well
    assert cached() is None and not folder.exists()


def test_where_nothing_can_be_kept_nothing_is(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "cache").write_text("a file")
    machine.start()
    assert cached() is None
    (tmp_path / "cache").unlink()
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=compiled.LEAST_FREE - 1))
    machine.start()
    assert cached() is None


def test_another_processor_has_another_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    read, here = pathlib.Path.read_text, compiled.kind()
    assert here == compiled.kind() and here.startswith("jaxlib-")
    if sys.platform == "linux":
        for field, same in (("flags\t\t:", False), ("cpu MHz\t\t:", True)):

            def changed(path: pathlib.Path, field: str = field, **options: str) -> str:
                return read(path, **options).replace(field, f"{field} 9")

            monkeypatch.setattr(pathlib.Path, "read_text", changed)
            assert (compiled.kind() == here) == same
            monkeypatch.undo()
    monkeypatch.setattr(machine, "cores", lambda: 4096)
    assert compiled.kind() != here


def test_what_was_not_used_for_longest_goes(tmp_path: pathlib.Path) -> None:
    for age, name in enumerate(("new-cache", "old-cache", "older-cache", "notes.txt")):
        path = tmp_path / "jaxlib-1-abc" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(100))
        os.utime(path, (1e9 - age, 1e9 - age))
    compiled.trim(tmp_path, 300)
    assert len(list(path.parent.iterdir())) == 4
    compiled.trim(tmp_path, 150)
    assert {p.name for p in path.parent.iterdir()} == {"new-cache", "notes.txt"}


@pytest.mark.parametrize("damage", ["cut", "changed", "emptied"])
def test_a_damaged_entry_is_compiled_anew_in_silence(
    folder: pathlib.Path, capfd: pytest.CaptureFixture[str], damage: str
) -> None:
    compilation_cache.reset_cache()
    machine.start()
    x = np.linspace(0, 1, 37, dtype=np.float32)

    def program() -> np.ndarray:
        return np.asarray(jax.jit(lambda x: jax.numpy.sin(x) @ x + 4711)(x))

    expected = program()
    entries = list(folder.glob("*-cache"))
    assert entries
    for entry in entries:
        data = bytearray(entry.read_bytes())
        middle = len(data) // 2
        data[middle] ^= 255
        entry.write_bytes({"cut": data[:middle], "changed": data, "emptied": b""}[damage])
    jax.clear_caches()
    np.testing.assert_array_equal(program(), expected)
    assert capfd.readouterr().err == ""


START = """
import sys, jax
seen = {"cache_hits": 0, "cache_misses": 0}
def count(event, **_):
    name = event.rpartition("/")[2]
    seen[name] = seen.get(name, 0) + 1
jax.monitoring.register_event_listener(count)
from loro_jax.running.command import main
assert main("cliff_walking", sys.argv[1:]) == 0
print("counted", seen["cache_hits"], seen["cache_misses"], "gymnax" in sys.modules)
"""


@pytest.mark.long
@pytest.mark.slow
def test_the_second_start_compiles_nothing_and_gets_the_same_bits(tmp_path: pathlib.Path) -> None:
    """On two devices, as in any run: without a cache, with an empty one, and with what that one left."""
    small = "--protocol standard@1 --seeds 2 --devices 2 --budget 600 --tau 1 --fit-steps 10 --hidden 8"
    small += " --arms pure_rl,loro"
    environment = {k: v for k, v in os.environ.items() if "CACHE" not in k}
    environment |= {compiled.VARIABLE: str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    found = {}
    for name, more in (("without", ["--no-cache"]), ("first", []), ("second", [])):
        line = [sys.executable, "-c", START, *small.split(), *more, "--out", str(tmp_path / name)]
        done = subprocess.run(line, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        *_, hits, misses, gymnax = done.stdout.splitlines()[-1].split()
        found[name] = int(hits), int(misses)
        assert gymnax == "False"  # which this game does without
        assert "rror" not in done.stderr
    assert found["without"] == (0, 0)
    assert found["first"][1] > 10
    assert found["second"][0] > 10 and found["second"][1] == 0
    assert len({(tmp_path / name / "curves.npz").read_bytes() for name in found}) == 1
