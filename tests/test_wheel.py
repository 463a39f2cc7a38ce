"""The wheel: what it holds, that an sdist makes the same one, and that it works from an empty folder."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parent.parent
DATA = {kind: ("card.json", f"{kind}.npz", "transcript.jsonl.gz") for kind in ("episodes", "answers")}
OTHER = (
    ".git",
    ".venv",
    "*.egg-info",
    "__pycache__",
    ".*_cache",
    ".hypothesis",
    "build",
    "dist",
    "site",
    "checkpoints",
)
LEFT_OUT = shutil.ignore_patterns(*OTHER)


def run(*command: str | os.PathLike[str], cwd: pathlib.Path, path: str = "") -> str:
    """What a command prints, in an environment that knows of no checkout."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    if path:
        environment["PYTHONPATH"] = path
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def contents(wheel: pathlib.Path) -> dict[str, int]:
    """Its files and their checksums, without what describes the distribution."""
    with zipfile.ZipFile(wheel) as archive:
        return {i.filename: i.CRC for i in archive.infolist() if ".dist-info/" not in i.filename}


def pip_wheel(source: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    run(
        *(sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"),
        *("--no-deps", "--no-build-isolation", "--wheel-dir", out, "."),
        cwd=source,
    )
    (wheel,) = out.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with a copy of the tree in `tree`, so that a build leaves nothing behind here."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, folder / "tree", ignore=LEFT_OUT)
    return folder


@pytest.fixture(scope="module")
def wheel(folder: pathlib.Path) -> pathlib.Path:
    return pip_wheel(folder / "tree", folder / "dist")


def test_it_holds_every_module_prompt_and_dataset_and_nothing_else(wheel: pathlib.Path) -> None:
    modules = [p for name in ("loro_jax", "benchmarks") for p in (ROOT / name).rglob("*.py")]
    prompts = list((ROOT / "prompts").rglob("*.txt"))
    datasets = [
        card.parent / file
        for kind, files in DATA.items()
        for card in (ROOT / "results" / kind).glob("*/*/card.json")
        for file in files
    ]
    assert prompts and {path.name for path in datasets} >= {"episodes.npz", "answers.npz"}
    expected = {p.relative_to(ROOT).as_posix() for p in modules}
    expected |= {f"loro_jax/{p.relative_to(ROOT).as_posix()}" for p in (*prompts, *datasets)}
    assert set(contents(wheel)) == expected


def test_its_top_holds_two_packages(wheel: pathlib.Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"loro_jax", "benchmarks"}
    assert len(tops) == 3 and any(name.endswith("licenses/LICENSE") for name in names)


def test_an_sdist_makes_the_same_wheel(wheel: pathlib.Path, folder: pathlib.Path) -> None:
    code = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    run(sys.executable, "-c", code, folder / "sdist", cwd=folder / "tree")
    (archive,) = (folder / "sdist").glob("*.tar.gz")
    with tarfile.open(archive) as files:
        files.extractall(folder / "sdist", filter="data")
    (source,) = (p for p in (folder / "sdist").iterdir() if p.is_dir())
    assert contents(pip_wheel(source, folder / "sdist")) == contents(wheel)


def test_it_works_from_an_empty_folder(wheel: pathlib.Path, folder: pathlib.Path) -> None:
    site, empty = folder / "site", folder / "empty"
    empty.mkdir()
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    run(*pip, "--no-deps", "--no-index", "--no-compile", "--target", site, wheel, cwd=empty)
    code = (
        "import loro_jax as lj\n"
        "from loro_jax.data import answers, episodes\n"
        "from loro_jax.language import tables\n"
        "from loro_jax.language import prompts\n"
        "task = lj.load_task('frozen_lake')\n"
        "prompt = prompts.load(task, 'cot')\n"
        "game = task.environment()\n"
        "name = 'qwen2.5-coder-0.5b-instruct-cot'\n"
        "folder = episodes.resolve(name, 'frozen_lake')\n"
        "data = episodes.load(folder, 'frozen_lake', game.observation_shape, game.action_space)\n"
        "said = answers.resolve('qwen2.5-coder-0.5b-instruct-map', 'frozen_lake')\n"
        "table = tables.read(said, task)\n"
        "print(lj.__file__, prompt.name, folder, len(data.episode_lengths), sep='\\n')\n"
        "print(said, len(table.digits), sep='\\n')"
    )
    module, prompt, found, count, said, texts = run(
        sys.executable, "-c", code, cwd=empty, path=str(site)
    ).splitlines()
    assert pathlib.Path(module) == site / "loro_jax" / "__init__.py" and prompt == "cot"
    assert pathlib.Path(found).is_relative_to(site / "loro_jax") and int(count) >= 30
    assert pathlib.Path(said).is_relative_to(site / "loro_jax") and int(texts) > 0
    usage = run(sys.executable, "-m", "benchmarks.cartpole", "--help", cwd=empty, path=str(site))
    assert "qwen2.5-coder-0.5b-instruct-hint" in usage
    # A stranger's game beside nothing else.
    shutil.copy(ROOT / "examples" / "ladder.py", empty / "my_game.py")
    argv = ("-m", "benchmarks.run", "--task", "my_game.py:TASK", "--seeds", "8", "--dry-run")
    plan = run(sys.executable, *argv, cwd=empty, path=str(site))
    assert "ladder, untuned@1" in plan and "Nothing was trained." in plan
    assert [p.name for p in empty.iterdir() if p.name != "__pycache__"] == ["my_game.py"]
