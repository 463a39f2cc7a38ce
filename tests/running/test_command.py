"""`python -m benchmarks.cartpole`: bad input is one line and status 2; a small run keeps its contract."""

from __future__ import annotations

import errno
import json
import os
import pathlib
import signal
import subprocess
import sys
from typing import Any

import gymnasium
import jax
import numpy as np
import pytest

from loro_jax import files
from loro_jax.analysis import figures
from loro_jax.data import episodes
from loro_jax.data.episodes import Episodes
from loro_jax.errors import UserError
from loro_jax.records import results
from loro_jax.running import experiment
from loro_jax.running.command import main
from loro_jax.spaces import Discrete
from loro_jax.types import Transition

SEEDS, BUDGET, INTERVAL, TAU, GAMES = 4, 1000, 200, 2, 4
ARMS = ("pure_rl", "loro", "mix", "loro_keep", "random_data", "on_policy", "llm_policy", "random_policy")
LABEL = "standard@1 with budget=1000, hidden=8, batch_size=8, learning_starts=20 and 2 more"
PROTOCOL = ("--protocol", "standard@1")
SETTINGS = (
    "--budget", str(BUDGET), "--seeds", str(SEEDS), "--tau", str(TAU), "--fit-steps", "20", "--hidden", "8",
    "--batch-size", "8", "--learning-starts", "20", "--devices", "2",
)  # fmt: skip
SMALL = (*PROTOCOL, *SETTINGS)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Episodes of a uniform policy in CartPole with the 200-step limit."""
    game, rng = gymnasium.make("CartPole-v1", max_episode_steps=200), np.random.default_rng(0)
    rows, lengths = [], []
    for episode in range(GAMES):
        obs, _ = game.reset(seed=episode)
        start = len(rows)
        ended = False
        while not ended:
            action = int(rng.integers(2))
            after, reward, terminated, truncated, _ = game.step(action)
            rows.append((obs, action, reward, after, terminated, truncated))
            obs, ended = after, terminated or truncated
        lengths.append(len(rows) - start)
    columns = [np.asarray(column) for column in zip(*rows, strict=True)]
    folder = tmp_path_factory.mktemp("episodes") / "uniform-plain"
    card = {
        "name": "uniform-plain",
        "environment": "cartpole",
        "model": {"name": "uniform"},
        "prompt": "plain",
    }
    episodes.save(Episodes(Transition(*columns), np.array(lengths), card), folder)
    return folder


def run(*argv: str) -> int:
    return main("cartpole", list(argv))


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("--arms", "pure_rl,lorro"), "no arm is called 'lorro'; there are: pure_rl, loro,"),
        (("--arms", "loro,loro"), "an arm is named twice"),
        (("--arms", ","), "--arms names no arm; there are: pure_rl"),
        (("--protocol", "papyrus"), "no protocol is called 'papyrus'; there are: standard@1,"),
        (("--seeds", "-4"), "--seeds must be at least 1, got -4"),
        (("--seeds", "0"), "--seeds must be at least 1, got 0"),
        (("--seeds", "99999999999"), "--seeds must be at most 1000000, got 99999999999"),
        (("--devices", "99999999999"), "--devices must be at most 1024, got 99999999999"),
        (("--seeds", "abc"), "--seeds: invalid literal for int() with base 10: 'abc'"),
        (("--seeds",), "Missing value for argument '--seeds'"),
        (("--devices", "-1"), "--devices must be at least 0, got -1"),
        (("--sedes", "4"), "Unrecognized options: --sedes, 4; perhaps you meant --seeds"),
        (("--alignment", "odd"), "invalid choice 'odd' for argument '--alignment'"),
        (("--budget", "1100"), "budget must be a multiple of 200"),
        (("--budget", "0"), "budget must be at least 1"),
        (("--budget", "2147483800"), "budget must be less than 2**31"),
        (("--learning-rate", "inf"), "learning_rate must be a finite number"),
        (("--protocol", "paper@3"), "no protocol is called 'paper@3'; there are: standard@1,"),
        (("--initial-temperature", "1"), "Unrecognized options: --initial-temperature"),  # which is SAC's
        (("--game", "limit"), "--game takes NAME=VALUE, such as slippery=false; got 'limit'"),
        (("--game", "limit=7"), "cartpole takes no parameter 'limit'; there are: none"),
        (("--task", "pong"), "this command runs cartpole; another task: python -m benchmarks.run"),
        (("--learning-rate", "nan"), "learning_rate must be"),
        (("--epsilon", "2"), "epsilon must lie in [0, 1]"),
        (("--tau", "5"), "uniform-plain: holds 4 episodes, but tau asks for 5; collect more or lower --tau"),
        (("--budget", "200"), "leaves nothing after tau = 2 prior episodes, which use 1 intervals"),
        (("--episodes", "no-such-dataset"), "no episodes at 'no-such-dataset'; shipped are:"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_writes_nothing(
    dataset: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str],
    argv: tuple[str, ...], words: str,
) -> None:  # fmt: skip
    out = tmp_path / "out"
    given = [a for a in (*SMALL, "--episodes", str(dataset), "--out", str(out))]
    for flag, value in zip(argv[::2], argv[1::2], strict=False):
        if flag in given:
            given[given.index(flag) + 1] = value
        else:
            given += [flag, value]
    given += argv[-1:] if len(argv) == 1 else ()
    assert run(*given) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert words in captured.err
    assert captured.out == ""
    assert not out.exists()


def missing(folder: pathlib.Path) -> None:
    (folder / "episodes.npz").unlink()


def truncated(folder: pathlib.Path) -> None:
    path = folder / "episodes.npz"
    path.write_bytes(path.read_bytes()[:500])


def foreign(folder: pathlib.Path) -> None:
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(card | {"environment": "pendulum"}))


def unreadable_card(folder: pathlib.Path) -> None:
    (folder / "card.json").write_text('{"name": ')


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (missing, "episodes.npz: no such file"),
        (truncated, "episodes.npz: damaged or not an .npz file"),
        (foreign, "card.json: episodes of 'pendulum', not of 'cartpole'"),
        (unreadable_card, "card.json: damaged, not readable as JSON"),
    ],
)
def test_bad_episodes_are_one_line_and_write_nothing(
    dataset: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], damage: Any, words: str
) -> None:
    folder = tmp_path / "copy"
    folder.mkdir()
    for name, data in contents(dataset).items():
        (folder / name).write_bytes(data)
    damage(folder)
    assert run(*SMALL, "--episodes", str(folder), "--out", str(tmp_path / "out")) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and words in error
    assert not (tmp_path / "out").exists()


def test_an_unwritable_folder_is_one_line(
    dataset: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    out = tmp_path / "file" / "out"
    assert run(*SMALL, "--episodes", str(dataset), "--out", str(out)) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: cannot write to {out}") and error.count("\n") == 1
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": {"name": "x", "temperature": float("nan")}}, "temperature: nan is no finite number"),
        ({"model": {"name": "half \ud83d"}}, "cannot be written down"),
        ({"episode_returns": [1e308] * GAMES}, "episode_returns does not have one number for each"),
        ({"episode_returns": [10**400] * GAMES}, "is larger than 64 bits hold"),
    ],
)
def test_a_card_that_would_spoil_the_results_is_refused_before_training(
    dataset: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str],
    change: dict[str, Any], words: str,
) -> None:  # fmt: skip
    folder = tmp_path / "copy"
    folder.mkdir()
    for name, data in contents(dataset).items():
        (folder / name).write_bytes(data)
    card = json.loads((folder / "card.json").read_text())
    del card[files.SEAL]
    (folder / "card.json").write_text(json.dumps(card | change))
    assert run(*SMALL, "--episodes", str(folder), "--out", str(tmp_path / "out")) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and words in error
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def finished(dataset: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The output of every arm, tiny."""
    out = tmp_path_factory.mktemp("finished") / "out"
    assert run(*SMALL, "--arms", ",".join(ARMS), "--episodes", str(dataset), "--out", str(out)) == 0
    return out


def curves(out: pathlib.Path) -> dict[str, np.ndarray]:
    with np.load(out / "curves.npz") as archive:
        return dict(archive)


def test_every_output_is_there_and_nothing_else(finished: pathlib.Path) -> None:
    names = set(contents(finished))
    figures = {name for name in names if name.startswith("figures")}
    tables = {
        f"tables/{n}{r}.{s}"
        for n in ("arms", "comparisons")
        for r in ("", "_llm_free")
        for s in ("csv", "tex")
    }
    assert names - figures - tables == {"curves.npz", "details.npz", "run.json", "summary.json", "summary.md"}
    assert tables <= names
    stems = {kind: {pathlib.Path(n).stem for n in figures if n.endswith(kind)} for kind in (".png", ".pdf")}
    assert stems[".png"] and stems[".png"] == stems[".pdf"]


def test_curves_are_seeds_by_evaluations(finished: pathlib.Path) -> None:
    arrays = curves(finished)
    assert arrays.pop("env_steps").tolist() == [200, 400, 600, 800, 1000]
    learning = set(ARMS) - {"llm_policy", "random_policy"}
    assert learning <= set(arrays) <= set(ARMS)
    for arm in arrays:
        assert arrays[arm].shape == (SEEDS, BUDGET // INTERVAL), arm
        assert (arrays[arm] >= 1).all() and (arrays[arm] <= 200).all()
    assert len(np.unique(arrays["pure_rl"], axis=0)) > 1


def test_prior_data_is_charged_to_the_first_evaluations(
    finished: pathlib.Path, dataset: pathlib.Path
) -> None:
    data = episodes.load(dataset, "cartpole", (4,), Discrete(2))
    arrays = curves(finished)
    for arm in ("loro", "mix", "loro_keep"):
        np.testing.assert_allclose(arrays[arm][:, 0], data.returns[:TAU].mean(), rtol=1e-6)
    with np.load(finished / "details.npz") as details:
        steps = {
            arm: details[f"counters/{arm}/env_steps"].tolist() for arm in ("pure_rl", "loro", "on_policy")
        }
        assert "counters/loro/llm_queries" not in details  # the card does not say how many were asked
        prior = details["counters/loro_keep/prior_steps"].tolist()
        free = details["llm_free/loro"]
        flat = details["flat/llm_policy"]
    assert steps == {"pure_rl": [1000] * SEEDS, "loro": [800] * SEEDS, "on_policy": [1000] * SEEDS}
    assert prior == [int(data.episode_lengths[:TAU].sum())] * SEEDS
    np.testing.assert_array_equal(free, arrays["loro"][:, 1:])
    np.testing.assert_array_equal(flat, data.returns)
    np.testing.assert_array_equal(arrays["on_policy"][:, 0], arrays["pure_rl"][:, 0])  # the same first steps


def test_with_prior_data_free_no_curve_holds_prior_data(finished: pathlib.Path) -> None:
    """Nor a uniform policy's evaluations, nor what an agent learned before it was pretrained."""
    arrays = curves(finished)
    with np.load(finished / "details.npz") as details:
        free = {arm: details[f"llm_free/{arm}"] for arm in arrays if arm != "env_steps"}
    for arm, curve in free.items():
        first = 0 if arm == "pure_rl" else 1
        np.testing.assert_array_equal(
            curve, arrays[arm][:, first : first + BUDGET // INTERVAL - 1], err_msg=arm
        )


@pytest.mark.slow
def test_diverged_seeds_are_named_and_count_as_random_play(
    dataset: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("--episodes", str(dataset), "--out", str(tmp_path), "--learning-rate", "1e30")
    assert run(*SMALL, "--arms", "pure_rl,loro,random_policy", *given) == 0
    said = capsys.readouterr().out
    assert "warning: diverged: 4 of 4 of pure_rl (seed 0 at step 2" in said
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert [lost["seed"] for lost in summary["diverged"]["pure_rl"]] == list(range(SEEDS))
    assert {lost["env_step"] for lost in summary["diverged"]["loro"]} == {INTERVAL}  # in pretraining
    arrays, saved = curves(tmp_path), results.read(tmp_path)
    assert np.isnan(arrays["pure_rl"]).all()
    assert np.isfinite(arrays["loro"][:, 0]).all() and np.isnan(arrays["loro"][:, 1:]).all()
    assert (saved.details["diverged/loro"] == INTERVAL).all()
    level = saved.details["flat/random_policy"].mean()
    assert summary["random_return"] == pytest.approx(level)
    assert summary["arms"]["pure_rl"]["diverged"] == SEEDS
    assert summary["arms"]["pure_rl"]["cumulative_return"]["mean"] == pytest.approx(
        BUDGET // INTERVAL * level
    )
    again = contents(tmp_path)
    assert run(*SMALL, "--arms", "pure_rl,loro,random_policy", *given, "--resume") == 0
    assert contents(tmp_path) == again


@pytest.mark.slow
def test_outputs_of_two_runs_do_not_mix(
    dataset: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """A disk that is full when figures are drawn leaves the run before as it was, and nothing is lost."""
    given = (*SMALL, "--arms", "pure_rl", "--episodes", str(dataset), "--out", str(tmp_path))
    assert run(*given) == 0
    before = contents(tmp_path)
    draw_all = figures.draw_all

    def full(*args: Any, **more: Any) -> None:
        draw_all(*args, **more)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(figures, "draw_all", full)
    capsys.readouterr()
    assert run(*given, "--seed", "1") == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: results cannot be written") and "No space left on device" in said
    assert "nothing is lost: make room, then the same command with --resume" in said
    kept = {name: data for name, data in contents(tmp_path).items() if not name.startswith("checkpoints")}
    assert kept == before
    monkeypatch.undo()
    assert run(*given, "--seed", "1", "--resume") == 0
    after = contents(tmp_path)
    assert set(after) == set(before) and after["curves.npz"] != before["curves.npz"]
    results.read(tmp_path)
    (tmp_path / "curves.npz").write_bytes(before["curves.npz"])
    with pytest.raises(UserError, match=r"curves.npz: is another run's, or was changed"):
        results.read(tmp_path)
    assert run(*given, "--seed", "1", "--resume") == 2
    assert "curves.npz: is another run's" in capsys.readouterr().err


@pytest.mark.slow
def test_ctrl_c_while_compiling_is_one_line_and_the_next_start_begins_anew(
    dataset: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = tmp_path / "out"
    given = (*SMALL, "--arms", "pure_rl", "--episodes", str(dataset), "--out", str(out))

    def pressed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(experiment.population.Programs, "prepare", pressed)
    assert run(*given) == 130
    said = capsys.readouterr().err.splitlines()
    assert said[-1] == "stopped; nothing was trained yet, and nothing is kept"
    assert not out.exists()
    monkeypatch.undo()
    assert run(*given) == 0


def test_precision_is_part_of_what_a_run_resumes_on(
    dataset: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    given = (*SMALL, "--arms", "pure_rl", "--episodes", str(dataset), "--out", str(tmp_path))

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(figures, "draw_all", full)
    assert run(*given) == 2
    monkeypatch.undo()
    capsys.readouterr()
    with jax.enable_x64(True):
        assert run(*given, "--resume") == 2
    assert "(precision 32 bits there, 64 bits here), whose numbers differ" in capsys.readouterr().err
    assert run(*given, "--resume") == 0
    ran = json.loads((tmp_path / "run.json").read_text())
    assert ran["computed_on"]["precision"] == "32 bits" and ran["computed_on"]["processor"]


@pytest.mark.parametrize("seed", [str(2**32), "-1", str(2**70)])
def test_a_seed_that_would_wrap_is_refused(
    dataset: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], seed: str
) -> None:
    out = tmp_path / "out"
    assert run(*SMALL, "--episodes", str(dataset), "--out", str(out), "--seed", seed) == 2
    assert "--seed must lie between 0 and 4294967295" in capsys.readouterr().err
    assert not out.exists()


def test_summary_keeps_the_contract(finished: pathlib.Path) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    assert (summary["benchmark"], summary["protocol"]) == ("cartpole", LABEL)
    assert (summary["seeds"], summary["baseline"]) == (SEEDS, "pure_rl")
    assert set(summary["arms"]) == set(ARMS)
    arrays = curves(finished)
    for arm in set(ARMS) - {"llm_policy", "random_policy"}:
        metrics = summary["arms"][arm]
        assert {"cumulative_return", "final_return", "steps_to_threshold"} <= set(metrics)
        assert {"mean", "iqm", "iqm_ci95", "median", "std"} <= set(metrics["cumulative_return"])
        assert metrics["cumulative_return"]["mean"] == pytest.approx(arrays[arm].sum(1).mean(), rel=1e-5)
    fields = {
        "arm", "baseline", "metric", "difference_mean", "difference_ci95", "probability_of_improvement",
        "probability_of_improvement_ci95", "p_value", "p_holm",
    }  # fmt: skip
    pairs = [c for c in summary["comparisons"] if c["metric"] == "cumulative_return" and fields <= set(c)]
    assert {c["arm"] for c in pairs} >= {"loro", "mix", "loro_keep", "random_data", "on_policy"}
    assert {c["baseline"] for c in pairs} == {"pure_rl"}


def test_run_json_says_what_ran(finished: pathlib.Path, dataset: pathlib.Path) -> None:
    ran = json.loads((finished / "run.json").read_text())
    identity, card = ran["identity"], json.loads((dataset / "card.json").read_text())
    assert (identity["task"], identity["seeds"], identity["seed"]) == ("cartpole", SEEDS, 0)
    assert (identity["schema"], identity["protocol"]) == (2, "standard@1")
    settings = identity["settings"]
    assert list(settings) == ["schedule", "agent", "prior", "departures", "game"]
    assert settings["schedule"]["budget"] == BUDGET and settings["prior"]["fit_steps"] == 20
    assert (settings["agent"]["name"], settings["agent"]["hidden"]) == ("ddqn", [8])
    assert "task_sha256" not in identity and ran["source"] == "cartpole"
    assert list(identity["arms"]) == list(ARMS)
    assert identity["arms"]["loro"][1:] == ["Fit(steps=20)", "Forget()", "Interact(steps=800)"]
    assert identity["episodes"]["arrays_sha256"] == card["arrays_sha256"]
    assert ran["packages"]["jax"] and ran["device"]["count"] == 2
    assert len(ran["commit"].rstrip("+")) == 40
    assert ran["seconds"]["training"] > 0 and ran["throughput"]["env_steps_per_second"] > 0


def test_fewer_seeds_and_fewer_arms_give_the_same_curves(
    finished: pathlib.Path, dataset: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    argv = [*SMALL, "--arms", "loro", "--episodes", str(dataset), "--out", str(tmp_path)]
    argv[argv.index("--seeds") + 1] = "3"
    assert run(*argv) == 0
    np.testing.assert_array_equal(curves(tmp_path)["loro"], curves(finished)["loro"][:3])


@pytest.mark.slow
def test_interrupted_and_resumed_writes_the_same_files(
    finished: pathlib.Path, dataset: pathlib.Path, tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Ctrl-C in the second arm; another configuration and a fresh run are kept off meanwhile."""
    argv = (*SMALL, "--arms", ",".join(ARMS), "--episodes", str(dataset), "--out", str(tmp_path))
    train = experiment.population.train

    def pressed(sentence: Any, programs: Any, start: Any, data: Any, after: Any) -> Any:
        def then(progress: Any) -> None:
            if progress.done == 4 and (tmp_path / "checkpoints" / "pure_rl.npz").exists():
                os.kill(os.getpid(), signal.SIGINT)
            after(progress)

        return train(sentence, programs, start, data, then)

    monkeypatch.setattr(experiment.population, "train", pressed)
    assert run(*argv) == 130
    monkeypatch.undo()
    assert "--resume" in capsys.readouterr().err
    assert not (tmp_path / "curves.npz").exists()
    assert (tmp_path / "checkpoints" / "loro").is_dir()
    before = contents(tmp_path)
    for wrong, words in (
        (argv, "add --resume"),
        ((*argv, "--resume", "--seed", "1"), "seed 0 there, 1 here"),
    ):
        assert run(*wrong) == 2
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1
    assert contents(tmp_path) == before
    assert run(*argv, "--resume") == 0
    assert not (tmp_path / "checkpoints").exists()
    for name, array in curves(finished).items():
        np.testing.assert_array_equal(curves(tmp_path)[name], array, err_msg=name)
    assert contents(tmp_path)["summary.json"] == contents(finished)["summary.json"]


@pytest.mark.slow
def test_paper_plots_the_prior_episodes_first(dataset: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Under `paper` an LLM episode takes the place of an evaluation, one for one."""
    given = ("--protocol", "paper", "--episodes", str(dataset), "--out", str(tmp_path))
    argv = (*SETTINGS, *given, "--arms", "pure_rl,loro,random_data")
    assert run(*argv) == 0
    arrays, data = curves(tmp_path), episodes.load(dataset, "cartpole", (4,), Discrete(2))
    np.testing.assert_array_equal(arrays["loro"][:, :TAU], np.tile(data.returns[:TAU], (SEEDS, 1)))
    played = arrays["random_data"][:, :TAU]
    assert len(np.unique(played, axis=0)) > 1 and (played >= 8).all()  # each member's own uniform episodes
    assert {a.shape for n, a in arrays.items() if n != "env_steps"} == {(SEEDS, BUDGET // INTERVAL)}


def test_a_finished_run_of_another_configuration_is_not_resumed(
    finished: pathlib.Path, dataset: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(finished)
    argv = (*SMALL, "--arms", "pure_rl", "--episodes", str(dataset), "--out", str(finished), "--resume")
    assert run(*argv) == 2
    error = capsys.readouterr().err
    assert "holds another configuration" in error and error.count("\n") == 1
    assert contents(finished) == before


def test_a_finished_run_of_another_task_is_not_replaced(
    finished: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (finished / "run.json").read_bytes()
    assert main("frozen_lake", [*PROTOCOL, "--seeds", "2", "--arms", "pure_rl", "--out", str(finished)]) == 2
    error = capsys.readouterr().err
    assert "holds a finished run of cartpole; choose another --out, or remove it" in error
    assert error.count("\n") == 1 and (finished / "run.json").read_bytes() == before


def test_the_help_text_names_arms_protocols_and_flags(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        run("--help")
    usage = capsys.readouterr().out
    assert end.value.code == 0
    for word in (*ARMS, "--seeds", "--protocol", "--tau", "--fit-steps", "--learning-rate", "example:"):
        assert word in usage, word


@pytest.mark.slow
def test_the_command_in_a_process_of_its_own(tmp_path: pathlib.Path) -> None:
    """Exit status and streams as a shell sees them."""
    root = pathlib.Path(__file__).parent.parent.parent

    def shell(*argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "benchmarks.cartpole", *argv], cwd=root, capture_output=True, text=True
        )

    wrong = shell("--arms", "nope", "--out", str(tmp_path / "out"))
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("error: no arm is called 'nope'") and wrong.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
