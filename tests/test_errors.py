"""What the user can mend is one line, in a command and before it: while its modules are imported."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

from loro_jax.errors import UserError, command, within
from loro_jax.running import machine

ROOT = pathlib.Path(__file__).parent.parent


def shell(
    *argv: str, path: pathlib.Path = ROOT, platforms: str = "cpu", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs Python with `path` before the checkout on its path."""
    found = {"PYTHONPATH": f"{path}{os.pathsep}{ROOT}", "JAX_PLATFORMS": platforms, **environment}
    return subprocess.run(
        [sys.executable, *argv], env=os.environ | found, cwd=ROOT, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    "argv",
    [
        ("benchmarks.suite", "--aggregate-only"),
        pytest.param(("benchmarks.run", "--task", "pendulum"), marks=pytest.mark.slow),
        pytest.param(("studies.tune",), marks=pytest.mark.slow),
        pytest.param(("studies.best_returns",), marks=pytest.mark.slow),
        pytest.param(("studies.llm_policies",), marks=pytest.mark.slow),
        pytest.param(("studies.prompt_sensitivity",), marks=pytest.mark.slow),
        pytest.param(("studies.decoding",), marks=pytest.mark.slow),
        pytest.param(("studies.pong_fidelity",), marks=pytest.mark.slow),
        ("loro_jax.language.collect", "--model", "none", "--backend", "http"),
        pytest.param(("loro_jax.interchange.released", "none.npz"), marks=pytest.mark.slow),
    ],
    ids=lambda argv: argv[0],
)
def test_a_jax_without_a_device_is_one_line(argv: tuple[str, ...], tmp_path: pathlib.Path) -> None:
    """Also where modules start JAX as they are imported, before the command is entered."""
    out = () if argv[0].endswith("best_returns") else ("--out", str(tmp_path / "out"))
    done = shell("-m", *argv, *out, platforms="nonsense")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: JAX cannot start (Unable to initialize backend 'nonsense'")
    assert "JAX_PLATFORMS is 'nonsense'" in done.stderr and done.stderr.count("\n") == 1


def test_an_assertion_without_words_is_a_jax_without_a_device(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As JAX raises it for JAX_PLATFORMS=cuda where there is no GPU; any other assertion is a fault."""

    def fails() -> int:
        raise AssertionError

    with pytest.raises(AssertionError):
        command(fails)
    monkeypatch.setattr(machine, "has_device", lambda: False)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    assert command(fails) == 2
    said = "JAX cannot start (it finds no device); JAX_PLATFORMS is 'cuda': unset it to use what there is"
    assert capsys.readouterr().err == f"error: {said}\n"


@pytest.mark.parametrize(
    "module", ["benchmarks.suite", "loro_jax.language.collect", "loro_jax.interchange.published"]
)
def test_ctrl_c_while_modules_are_imported_is_one_line(module: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "tyro.py").write_text("raise KeyboardInterrupt")
    done = shell("-m", module, path=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "stopped\n")


@pytest.mark.parametrize("way", ["-c", "-m"])
def test_other_programs_keep_their_own_errors(way: str, tmp_path: pathlib.Path) -> None:
    """Those that import the package, and those that do so while `python -m` imports them."""
    code = "import benchmarks, loro_jax, loro_jax.language\nraise KeyboardInterrupt"
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "__init__.py").write_text(code)
    (tmp_path / "theirs" / "program.py").touch()
    done = shell(way, code if way == "-c" else "theirs.program", path=tmp_path)
    assert "Traceback" in done.stderr and "stopped" not in done.stderr


def test_not_enough_memory_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> int:
        raise MemoryError("Unable to allocate 9 EiB")

    assert command(fails) == 2
    assert capsys.readouterr().err.startswith(
        "error: not enough memory (Unable to allocate 9 EiB); use fewer"
    )


def test_numbers_that_mean_nothing_are_refused() -> None:
    within("--n", 1, 1, 3)
    within("--n", 3, 1, 3)
    with pytest.raises(UserError, match=r"^--n must be at least 1, got 0$"):
        within("--n", 0, 1, 3)
    with pytest.raises(UserError, match=r"^--n must be at most 3, got 4$"):
        within("--n", 4, 1, 3)
