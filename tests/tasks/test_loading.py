"""How a command names a task: the suite's own, one of a file's or a module's, a game of gymnax's."""

from __future__ import annotations

import hashlib
import pathlib
import sys

import gymnasium
import jax
import jax.numpy as jnp
import pytest

from loro_jax.errors import UserError
from loro_jax.spaces import Discrete
from loro_jax.tasks import NAMES, SUITE, Task, load, loading

CORRIDOR = """\
\"\"\"A corridor: action 1 goes to its end.\"\"\"
import jax.numpy as jnp
from lengths import LENGTH

from loro_jax.spaces import Discrete
from loro_jax.tasks import Task
from loro_jax.tasks.rules import environment


def reset(key):
    return jnp.int32(0), jnp.int32(0)


def step(key, place, action):
    place = jnp.clip(place + 2 * action - 1, 0, LENGTH)
    return place, place, -1.0, place == LENGTH


def corridor(limit: int = 20):
    return environment(reset, step, states=LENGTH + 1, actions=Discrete(2), limit=limit)


TASK = Task("corridor", corridor)
SHORT = Task("short_corridor", corridor(limit=5))
NUMBER = 3
"""


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """games/corridor.py with its neighbour."""
    games = tmp_path / "games"
    games.mkdir()
    (games / "corridor.py").write_text(CORRIDOR)
    (games / "lengths.py").write_text("LENGTH = 4\n")
    sys.modules.pop("lengths", None)
    return games


def refused(name: str) -> str:
    with pytest.raises(UserError) as refusal:
        load(name)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


@pytest.mark.parametrize("name", NAMES)
def test_the_suites_own_go_by_their_names(name: str) -> None:
    task = load(name)
    assert (task.name, task.source) == (name, name)
    assert load(task) is task and task.file_sha256 == ""
    assert task.environment().name == name
    assert task.words is not None and task.reference is not None
    if name in SUITE:
        assert task.episodes and task.replayed == (task.restore is None)


@pytest.mark.parametrize("name", [n for n in SUITE if n != "pong"])
def test_what_a_task_is_checked_against_is_there(name: str) -> None:
    assert gymnasium.spec(load(name).gymnasium_id).id == load(name).gymnasium_id


def test_a_task_of_a_file_with_an_import_of_its_neighbour(folder: pathlib.Path) -> None:
    before = list(sys.path)
    path = folder / "corridor.py"
    task, short = load(f"{path}:TASK"), load(f"{path}:SHORT")
    assert (task.name, task.source, short.name) == ("corridor", f"{path}:TASK", "short_corridor")
    env = task.environment()
    assert (env.observation_shape, env.limit, env.action_space) == ((5,), 20, Discrete(2))
    assert load(str(path)).game is task.game and load(str(path)).source == str(path)  # TASK, if not named
    assert sys.path == before
    for loaded in (task, load(str(path))):
        assert loaded.file_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_task_of_a_file_in_another_folder(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder.parent / "elsewhere").mkdir()
    monkeypatch.chdir(folder.parent / "elsewhere")
    task = load("../games/corridor.py:SHORT")
    assert task.environment().limit == 5 and task.source == "../games/corridor.py:SHORT"
    assert task.file_sha256
    monkeypatch.chdir(folder)
    assert load("corridor.py").environment().limit == 20


def test_names_that_nothing_goes_by(folder: pathlib.Path) -> None:
    path = folder / "corridor.py"
    assert refused("tennis").startswith(
        f"no task is called 'tennis'; there are: {', '.join(NAMES)}; a task is"
    )
    assert "FILE.py:NAME" in refused("") and "FILE.py:NAME" in refused(":TASK")
    assert refused(f"{path}:GAME") == f"{path}: has no GAME; its tasks are: TASK, SHORT"
    assert refused(f"{path}:NUMBER").startswith(f"{path}:NUMBER: is int, not a Task; a task is")
    assert refused("nowhere.py:TASK").startswith("nowhere.py: no such file; a task is")
    assert refused("no.such.module:TASK").startswith(
        "no.such.module: cannot be imported (No module named 'no'); a task is"
    )
    assert refused("..games:TASK").startswith("..games: cannot be imported (TypeError: ")
    assert (
        refused("loro_jax.tasks.cartpole:GAME") == "loro_jax.tasks.cartpole: has no GAME; its tasks are: TASK"
    )
    (folder / "empty.py").write_text("")
    assert refused(f"{folder / 'empty.py'}").endswith("empty.py: has no TASK; its tasks are: none")


@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("x = 1\n\ny = x / 0\n", 3, "ZeroDivisionError: division by zero"),
        ("def game():\n    return {}['ball']\n\n\nTASK = game()\n", 2, "KeyError: 'ball'"),
        ("import loro_jax\nimport lenghts\n", 2, "ModuleNotFoundError: No module named 'lenghts'"),
        ("x = 1\ny = = 2\n", 2, "SyntaxError: invalid syntax"),
    ],
)
def test_a_file_that_cannot_be_run_is_told_with_its_line(
    text: str, line: int, why: str, absolute: bool, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "game.py" if absolute else pathlib.Path("game.py")
    path.write_text(text)
    before = list(sys.path)
    assert refused(f"{path}:TASK").startswith(f"{path}:{line}: cannot be run ({why}")
    assert sys.path == before
    path.write_text("from loro_jax.tasks import load\nTASK = load('pendulum')\n")
    assert load(f"{path}:TASK").name == "pendulum"  # mended, it is read anew


def test_what_a_file_does_wrong_with_a_task_is_told_as_it_is(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "game.py"
    path.write_text("from loro_jax.tasks import Task\nTASK = Task('My Game', None)\n")
    assert refused(str(path)) == (
        "a task's name is lower-case letters, digits and underscores, 64 at most, such as my_game; got"
        " 'My Game'"
    )


def test_a_task_of_a_module(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = load("loro_jax.tasks.pong:TASK")
    assert (task.name, task.source) == ("pong", "loro_jax.tasks.pong:TASK")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "corridor", raising=False)
    task = load("corridor:SHORT")
    assert (task.name, task.source) == ("short_corridor", "corridor:SHORT")
    assert task.file_sha256 == hashlib.sha256((folder / "corridor.py").read_bytes()).hexdigest()
    (folder / "broken.py").write_text("1 / 0\n")
    assert refused("broken:TASK").startswith("broken: cannot be imported (ZeroDivisionError: ")


@pytest.mark.parametrize(
    ("game", "name", "shape", "states"),
    [
        ("Catch-bsuite", "gymnax_catch_bsuite", (10, 5), 0),
        ("FrozenLake-misc", "gymnax_frozenlake_misc", (16,), 16),
        ("Reacher-misc", "gymnax_reacher_misc", (8,), 0),
    ],
)
def test_a_game_of_gymnaxs(game: str, name: str, shape: tuple[int, ...], states: int) -> None:
    task = load(f"gymnax:{game}")
    assert (task.name, task.source) == (name, f"gymnax:{game}")
    assert task.words is None and task.reference is None and not task.episodes
    env = task.environment()
    assert (env.observation_shape, env.states, env.threshold, env.best) == (shape, states, None, None)
    assert list(task.settings()) == ["untuned@1", "paper@1", "released@1"]
    task.protocol().agent.for_game(env.action_space)  # which can play it

    def step(state: object, t: jax.Array) -> tuple:
        act, move = jax.random.split(jax.random.fold_in(jax.random.key(0), t))
        obs, state, reward, terminated, truncated = env.step(move, state, env.action_space.sample(act))
        return state, (obs, reward, terminated, truncated)

    obs, state = jax.tree.map(jnp.asarray, env.reset(jax.random.key(1)))
    assert obs.shape == shape and obs.dtype == jnp.float32
    _, (seen, reward, terminated, truncated) = jax.lax.scan(step, state, jnp.arange(5))
    assert seen.shape == (5, *shape) and seen.dtype == reward.dtype == jnp.float32
    assert terminated.dtype == truncated.dtype == jnp.bool_ and not (terminated & truncated).any()


def test_a_game_that_gymnax_does_not_have_is_refused_with_those_near_it() -> None:
    near = refused("gymnax:Catch-suite")
    assert near.startswith("gymnax has no game 'Catch-suite'; it has for instance Catch-bsuite")
    near = refused("gymnax:cartpole")
    assert near.startswith("gymnax has no game 'cartpole'; it has for instance CartPole-v1")
    everything = refused("gymnax:")
    assert "CartPole-v1" in everything and "Catch-bsuite" in everything


@pytest.mark.parametrize("name", ["My Game", "my-game", "", "1up", 7])
def test_names_that_make_no_folder_are_refused(name: object) -> None:
    with pytest.raises(UserError, match=r"a task's name is lower-case letters.*; got "):
        Task(name, load("cartpole").game)  # type: ignore[arg-type]


def test_parameters_that_a_game_does_not_take_are_refused_by_name() -> None:
    lake = load("frozen_lake")
    assert lake.environment(limit=7).limit == 7
    with pytest.raises(UserError) as refusal:
        lake.environment(ice=3)
    assert str(refusal.value) == (
        "frozen_lake takes no parameter 'ice'; there are: layout, slippery, success_rate, limit"
    )
    with pytest.raises(UserError, match=r"^cartpole takes no parameter 'gravity'; there are: none$"):
        load("cartpole").environment(gravity=3)
    fixed = Task("fixed", lake.environment())
    assert fixed.environment().name == "fixed" and fixed.environment().limit == 100
    with pytest.raises(UserError, match=r"^fixed takes no parameter 'limit': its game is made already"):
        fixed.environment(limit=7)


def test_a_protocol_names_the_games_parameters() -> None:
    lake = load("frozen_lake")
    assert lake.under(lake.protocol()).limit == 100
    assert lake.under(lake.protocol().replace(game={"limit": 7})).limit == 7
    for name in SUITE:
        given = {p.name: dict(p.game) for p in load(name).settings().values()}
        dropped = {"drop_first_half": True} if name == "pong" else {}
        assert given.pop("standard@2", {}) == {}
        assert given == {"standard@1": {}, "paper@1": {}, "released@1": dropped}


def test_a_task_that_was_an_object_is_found_by_nobody() -> None:
    with pytest.raises(UserError, match="the task mine was given from Python as an object"):
        loading.recorded("mine", None, None)
    assert loading.recorded("cartpole", None, None).name == "cartpole"
