"""The importer of the study's files, on CartPole's: both readings, the simulator's verdict, hostile input.

The other games' files are in test_interchange_games.py.
"""

from __future__ import annotations

import enum
import pathlib
import pickle
import sys
import types
from typing import Any

import numpy as np
import pytest

from loro_jax import tasks
from loro_jax.data import episodes as dataset
from loro_jax.departures.alignment import realign
from loro_jax.errors import EpisodeError, UserError, command
from loro_jax.interchange import released, rows
from loro_jax.interchange.pickles import read_mdp_dataset
from loro_jax.spaces import Discrete

PAPER = pathlib.Path(__file__).parent.parent.parent.parent / "shared" / "paper"
CARTPOLE = tasks.load("cartpole").environment()


def play(actions_of: Any, episodes: int, seed: int = 0) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    """Episodes of Gymnasium's CartPole with the 200-step limit, as released: (s[t+1], a[t], r[t]) rows.

    -> the study's arrays (every episode flagged terminated), and each episode's states, s[0] included.
    """
    gymnasium = pytest.importorskip("gymnasium")
    game = gymnasium.make("CartPole-v1", max_episode_steps=200)
    rng = np.random.default_rng(seed)
    columns: dict[str, list[Any]] = {"observations": [], "actions": [], "rewards": []}
    lengths, states = [], []
    for index in range(episodes):
        obs, _ = game.reset(seed=seed + index)
        path, over = [obs], False
        while not over:
            action = actions_of(obs, rng)
            obs, reward, terminated, truncated, _ = game.step(action)
            path.append(obs)
            columns["observations"].append(obs)
            columns["actions"].append([action])
            columns["rewards"].append(reward)
            over = terminated or truncated
        lengths.append(len(path) - 1)
        states.append(np.array(path, np.float32))
    arrays = {name: np.array(rows) for name, rows in columns.items()}
    return arrays | {"episode_lengths": np.array(lengths), "terminated": np.ones(episodes, bool)}, states


def uniform(obs: np.ndarray, rng: np.random.Generator) -> int:
    return int(rng.integers(2))


def good(obs: np.ndarray, rng: np.random.Generator) -> int:
    return int(obs[2] + 0.5 * obs[3] + 0.05 * obs[0] + 0.1 * obs[1] > 0)


@pytest.fixture
def file(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "CartPole_Some-Model-7B_Neps_30_2025.npz"
    np.savez(path, **play(uniform, 12)[0])
    return path


def load(folder: pathlib.Path) -> dataset.Episodes:
    return dataset.load(folder, "cartpole", (4,), Discrete(2))


def test_true_reading_recovers_the_transitions(file: pathlib.Path, tmp_path: pathlib.Path) -> None:
    arrays, states = play(uniform, 12)
    card = released.convert_file(file, "cartpole", "true", tmp_path / "out")
    assert card["share_reproduced"]["true"] == 1.0
    assert 0.2 < card["share_reproduced"]["released"] < 0.8  # a random action is right half of the time
    found = load(tmp_path / "out")
    expected = [path[1:] for path in states]  # s[0] was never stored
    np.testing.assert_array_equal(found.transitions.obs, np.concatenate([p[:-1] for p in expected]))
    np.testing.assert_array_equal(found.transitions.next_obs, np.concatenate([p[1:] for p in expected]))
    starts = np.cumsum(arrays["episode_lengths"]) - arrays["episode_lengths"]
    np.testing.assert_array_equal(found.transitions.action, np.delete(arrays["actions"][:, 0], starts))
    np.testing.assert_array_equal(found.episode_lengths, arrays["episode_lengths"] - 1)
    assert found.transitions.terminated.sum() == 12 and not found.transitions.truncated.any()
    assert (card["model"], card["prompt"], card["source"]) == ("Some-Model-7B", "study", file.name)
    np.testing.assert_array_equal(found.returns, arrays["episode_lengths"])  # as played, first step included


def test_released_reading_is_d3rlpys(file: pathlib.Path, tmp_path: pathlib.Path) -> None:
    arrays = dict(np.load(file))
    arrays["terminated"][3] = False
    np.savez(file, **arrays)
    released.convert_file(file, "cartpole", "released", tmp_path / "out")
    found = load(tmp_path / "out")
    row, lengths = 0, arrays["episode_lengths"]
    for index, length in enumerate(lengths):
        start = int(lengths[:index].sum())
        for t in range(length):  # BasicTransitionPicker, row by row
            last = t == length - 1
            if last and not arrays["terminated"][index]:
                continue
            following = np.zeros(4) if last else arrays["observations"][start + t + 1]
            np.testing.assert_array_equal(found.transitions.obs[row], arrays["observations"][start + t])
            np.testing.assert_array_equal(found.transitions.next_obs[row], following)
            assert found.transitions.action[row] == arrays["actions"][start + t, 0]
            assert found.transitions.terminated[row] == last
            row += 1
    assert row == len(found.transitions.action) == lengths.sum() - 1


def test_realigning_the_released_reading_gives_the_true_one(
    file: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    for alignment in ("true", "released"):
        released.convert_file(file, "cartpole", alignment, tmp_path / alignment)
    true = load(tmp_path / "true")
    realigned = realign(load(tmp_path / "released"), "true")
    assert dataset.digest(realigned) == dataset.digest(true)


def test_time_limits_are_told_from_terminations(tmp_path: pathlib.Path) -> None:
    arrays, _ = play(good, 4)
    assert (arrays["episode_lengths"] == 200).sum() >= 2, "the controller should hold the pole"
    path = tmp_path / "CartPole_x.npz"
    np.savez(path, **arrays)
    card = released.convert_file(path, "cartpole", "true", tmp_path / "true")
    cut = int((arrays["episode_lengths"] == 200).sum())
    assert card["flags"]["truncated_by_limit"] == card["flags"]["episodes_that_differ"] == cut
    found = load(tmp_path / "true").transitions
    assert found.truncated.sum() == cut and found.terminated.sum() == 4 - cut
    released.convert_file(path, "cartpole", "released", tmp_path / "released")
    found = load(tmp_path / "released").transitions
    assert found.terminated.sum() == 4 and not found.truncated.any()  # the file's own flags


def test_same_conversion_twice_is_fine_and_anything_else_is_kept(
    file: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    out = tmp_path / "out"
    released.convert_file(file, "cartpole", "true", out)
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    released.convert_file(file, "cartpole", "true", out)
    with pytest.raises(UserError, match="holds something else"):
        released.convert_file(file, "cartpole", "released", out)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("keep me")
    with pytest.raises(UserError, match="holds something else"):
        released.convert_file(file, "cartpole", "true", tmp_path / "notes")
    assert [p.name for p in (tmp_path / "notes").iterdir()] == ["mine.txt"]
    with pytest.raises(UserError, match="cannot be written"):
        released.convert_file(file, "cartpole", "true", file / "below-a-file")


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "other dimension": ({"observations": np.zeros((5, 3))}, "cartpole needs"),
    "actions of another game": ({"actions": np.full((5, 1), 3)}, "whole numbers from 0 to 1"),
    "continuous actions": ({"actions": np.full((5, 1), 0.5)}, "whole numbers"),
    "two actions a row": ({"actions": np.zeros((5, 2), int)}, "actions have shape"),
    "NaN": ({"observations": np.full((5, 4), np.nan)}, "not finite"),
    "lengths too short": ({"episode_lengths": np.array([2, 2])}, "observations have shape"),
    "an empty episode": ({"episode_lengths": np.array([5, 0])}, "positive whole number"),
    "float lengths": ({"episode_lengths": np.array([2.0, 3.0])}, "positive whole number"),
    "lengths that wrap around": (
        {"episode_lengths": np.array([2**63, 2**63, 5], np.uint64), "terminated": np.ones(3, bool)},
        "observations have shape",
    ),
    "rewards": ({"rewards": np.zeros((5, 2))}, "rewards have shape"),
    "flags": ({"terminated": np.ones(3, bool)}, "terminated has shape"),
    "text": ({"rewards": np.array(["a"] * 5)}, "expected numbers"),
    "objects": ({"rewards": np.array([{}] * 5)}, "damaged or not an .npz"),
    "not this game": ({"observations": np.arange(20.0).reshape(5, 4)}, "reproduces only 0.0%"),
    "single rows": (
        {"episode_lengths": np.ones(5, int), "terminated": np.ones(5, bool)},
        "nothing to check",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arrays_are_refused_in_one_line(case: str, tmp_path: pathlib.Path) -> None:
    changes, why = BAD[case]
    fine = {
        "observations": np.zeros((5, 4)),
        "actions": np.zeros((5, 1), int),
        "rewards": np.ones(5),
        "episode_lengths": np.array([2, 3]),
        "terminated": np.ones(2, bool),
    }
    path = tmp_path / "CartPole_x.npz"
    np.savez(path, allow_pickle=True, **fine | changes)
    with pytest.raises(EpisodeError) as caught:
        released.convert_file(path, "cartpole", "true", tmp_path / "out")
    assert str(path) in str(caught.value) and why in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_the_command(
    file: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["released", *arguments])
        return command(released.main)

    for flag in ("--task", "--environment"):  # its former name
        assert run(str(file), flag, "cartpole", "--out", str(tmp_path / "out")) == 0
        assert "reading 'true': the simulator reproduces 100.00% of the rows" in capsys.readouterr().out
    (tmp_path / "text.npz").write_text("not an archive")
    for arguments in (
        (str(tmp_path / "absent.npz"),),
        (str(tmp_path / "text.npz"),),
        (str(file), "--task", "chess"),
    ):
        assert run(*arguments, "--out", str(tmp_path / "other")) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1 and lines[0].startswith("error: ")
    assert run(str(file), "--alignment", "crooked", "--out", str(tmp_path / "other")) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and "'crooked'" in lines[0]
    assert not (tmp_path / "other").exists()


@pytest.fixture
def d3rlpy(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """Classes under d3rlpy's names, so that pickles can be written without d3rlpy."""
    made: dict[str, Any] = {}
    for package in ("d3rlpy", "d3rlpy.dataset"):
        monkeypatch.setitem(sys.modules, package, types.ModuleType(package))
    for module, names in {
        "d3rlpy.dataset.components": ("Episode",),
        "d3rlpy.dataset.compat": ("MDPDataset",),
        "d3rlpy.dataset.buffers": ("InfiniteBuffer",),
    }.items():
        monkeypatch.setitem(sys.modules, module, types.ModuleType(module))
        for name in names:
            made[name] = type(name, (), {"__module__": module})
            setattr(sys.modules[module], name, made[name])
    monkeypatch.setitem(sys.modules, "d3rlpy.constants", types.ModuleType("d3rlpy.constants"))
    made["ActionSpace"] = enum.Enum("ActionSpace", "DISCRETE", module="d3rlpy.constants")
    sys.modules["d3rlpy.constants"].ActionSpace = made["ActionSpace"]  # type: ignore[attr-defined]
    return types.SimpleNamespace(**made)


def pickled(d3rlpy: types.SimpleNamespace, arrays: dict[str, np.ndarray]) -> Any:
    """An MDPDataset of the arrays, as an object to pickle."""
    root, root._buffer = d3rlpy.MDPDataset(), d3rlpy.InfiniteBuffer()
    root._space, root._buffer._episodes = d3rlpy.ActionSpace.DISCRETE, []
    ends = np.cumsum(arrays["episode_lengths"])
    for end, length, terminated in zip(ends, arrays["episode_lengths"], arrays["terminated"], strict=True):
        episode = d3rlpy.Episode()
        episode.observations = arrays["observations"][end - length : end]
        episode.actions = np.asfortranarray(arrays["actions"][end - length : end])
        episode.rewards = arrays["rewards"][end - length : end].reshape(-1, 1)
        episode.terminated = bool(terminated)
        root._buffer._episodes.append(episode)
    return root


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_pickled_dataset_reads_as_the_npz(
    file: pathlib.Path, tmp_path: pathlib.Path, d3rlpy: types.SimpleNamespace, protocol: int
) -> None:
    arrays = dict(np.load(file))
    path = tmp_path / "CartPole_Some-Model-7B_Neps_30_2025.pkl"
    path.write_bytes(pickle.dumps(pickled(d3rlpy, arrays), protocol))
    if protocol != 4:  # the study's protocol; others build arrays by calling functions of numpy or codecs
        with pytest.raises(EpisodeError, match="which is not part of a dataset"):
            read_mdp_dataset(path)
        return
    found = read_mdp_dataset(path)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype.kind == array.dtype.kind


class Malicious:
    """Pickles to a call of `function(*arguments)`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def test_malicious_pickles_are_refused_and_not_run(
    tmp_path: pathlib.Path, d3rlpy: types.SimpleNamespace, file: pathlib.Path
) -> None:
    import os

    mark = tmp_path / "ran"
    hidden = pickled(d3rlpy, dict(np.load(file)))
    hidden._extra = Malicious(os.system, f"touch {mark}")
    bad: dict[str, bytes] = {
        "system": pickle.dumps(Malicious(os.system, f"touch {mark}"), 4),
        "eval": pickle.dumps(Malicious(eval, f"open({str(mark)!r}, 'w')"), 4),
        "getattr": pickle.dumps(Malicious(getattr, "", "join"), 4),
        "deep inside a good dataset": pickle.dumps(hidden, 4),
        # A dotted name: Episode.__init__.__globals__ would lead to everything this process has loaded.
        "dotted name": b"\x80\x04\x8c\x19d3rlpy.dataset.components\x8c\x10Episode.__init__\x93.",
        "module of ours": b"cloro_jax.interchange.pickles\nALLOWED\n.",
        "extension registry": b"\x82\x01.",
        "persistent id": b"Pid\n.",
        "object array": pickle.dumps(np.array([Malicious(os.system, f"touch {mark}")], object), 4),
        "empty": b"",
        "not a pickle": b"PK\x03\x04",
        "only a list": pickle.dumps([1, 2, 3]),
        "huge shape": pickle.dumps(np.zeros(3), 4).replace(b"K\x03\x85", b"\x8a\x05\xff\xff\xff\xff\x00\x85"),
        "nested": b"\x80\x04" + b"(" * 100_000 + b"." + b"t" * 100_000,
    }
    for name, data in bad.items():
        path = tmp_path / "bad.pkl"
        path.write_bytes(data)
        with pytest.raises(EpisodeError, match=r"bad\.pkl: refused as a pickled dataset") as caught:
            read_mdp_dataset(path)
        assert "\n" not in str(caught.value), name
    assert not mark.exists()


def test_truncated_and_flipped_pickles_are_refused_or_read(
    tmp_path: pathlib.Path, d3rlpy: types.SimpleNamespace, file: pathlib.Path
) -> None:
    data = pickle.dumps(pickled(d3rlpy, dict(np.load(file))), 4)
    path = tmp_path / "bad.pkl"
    rng = np.random.default_rng(0)
    for cut in rng.integers(0, len(data) - 1, 60):
        path.write_bytes(data[:cut])
        with pytest.raises(EpisodeError):
            read_mdp_dataset(path)
    for _ in range(200):
        flipped = bytearray(data)
        flipped[rng.integers(len(data))] ^= 1 << rng.integers(8)
        path.write_bytes(bytes(flipped))
        try:  # a flipped bit among the numbers is another number: the simulator's check is for those
            rows.checked(path, read_mdp_dataset(path), CARTPOLE)
        except EpisodeError:
            continue


@pytest.mark.skipif(not PAPER.is_dir(), reason="the study's files are not beside this checkout")
def test_the_studys_own_files(tmp_path: pathlib.Path) -> None:
    npz = PAPER / "datasets" / "CartPole_Qwen2.5-7B-Instruct.npz"
    pkl = next((PAPER / "pickles").glob("CartPole_*.pkl"))
    card = released.convert_file(npz, "cartpole", "true", tmp_path / "npz")
    assert card["share_reproduced"] == {"true": 1.0, "released": pytest.approx(0.36, abs=0.005)}
    assert card["flags"]["episodes_that_differ"] == 0
    released.convert_file(pkl, "cartpole", "true", tmp_path / "pkl")
    assert dataset.digest(load(tmp_path / "npz")) == dataset.digest(load(tmp_path / "pkl"))
    found = load(tmp_path / "npz")
    assert (len(found.episode_lengths), len(found.transitions.action)) == (30, 1028 - 30)
    with pytest.raises(EpisodeError, match="cartpole needs"):
        pendulum = PAPER / "datasets" / "Pendulum_Qwen2.5-7B-Instruct.npz"
        released.convert_file(pendulum, "cartpole", "true", tmp_path / "other")
