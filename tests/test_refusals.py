"""What a user can mend is told in one line, whatever way the mistake takes."""

from __future__ import annotations

import copy
import json
import pathlib
import shutil
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import loro_jax as lj
from loro_jax import compare, rerun
from loro_jax.errors import command
from loro_jax.records import identity
from loro_jax.running.command import main
from loro_jax.tasks import load
from loro_jax.tasks.check import check_task
from loro_jax.training.phases import Interact

RUN = pathlib.Path(__file__).parent.parent / "results" / "frozen_lake" / "standard@1"
GAME = load("cartpole").game
DRY = ["--dry-run", "--seeds", "2", "--arms", "pure_rl"]


@pytest.mark.parametrize(
    ("name", "argv", "says"),
    [
        ("frozen_lake", ["--game", "slippery=maybe"], "slippery must be true or false, got 'maybe'"),
        ("frozen_lake", ["--game", "slippery=1"], "slippery must be true or false, got 1"),
        ("frozen_lake", ["--game", "limit=1.5"], "limit must be a whole number or none, got 1.5"),
        ("frozen_lake", ["--game", "limit=true"], "limit must be a whole number or none, got True"),
        ("frozen_lake", ["--game", "limit=99999999999"], "an episode needs at least one step"),
        ("frozen_lake", ["--game", "slippery=false", "slippery=true"], "--game names slippery twice"),
        ("frozen_lake", ["--game", "slippery=false", "--game", "limit=9"], "give --game once"),
        ("frozen_lake", ["--game", "limit"], "--game takes NAME=VALUE, such as slippery=false; got 'limit'"),
        ("cartpole", ["--game", "gravity=1"], "cartpole takes no parameter 'gravity'; there are: none"),
        ("cartpole", ["--hidden", "99999999999999999999"], "hidden must list widths from 1 to 1,000,000"),
        ("cartpole", ["--batch-size", "99999999999999999999"], "batch_size must be at most 1,000,000"),
        ("cartpole", ["--tau", "99999999999"], "tau must lie between 1 and 1,000,000"),
        ("cartpole", ["--protocol", "standard@99"], "no protocol is called 'standard@99'; there are"),
    ],
)  # fmt: skip
def test_flags(name: str, argv: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(name, [*DRY, *argv]) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1


def test_pythons_spelling_of_true_and_false_is_read() -> None:
    from loro_jax.running.options import parse

    for word in ("slippery=False", "slippery=false"):
        _, options = parse("frozen_lake", ["--game", word])
        assert load("frozen_lake").under(options.settings).best == 1.0


def test_the_last_of_a_flag_counts() -> None:
    from loro_jax.running.options import parse

    _, options = parse("cartpole", ["--protocol", "standard", "--protocol", "paper"])
    assert options.settings.name == "paper@1" and options.protocol == "paper"


def arm(name: Any = "mine", phases: Any = None, agent: Any = None) -> Any:
    return lambda plan: lj.Arm(name, phases or (Interact(plan.protocol.schedule.budget),), "", agent=agent)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (arm("../../escaped"), "an arm's name is letters, digits, _ and -"),
        (arm("env_steps"), "an arm's name is letters, digits, _ and -"),
        (arm(""), "an arm's name is letters, digits, _ and -"),
        (arm(phases=(Interact(800),)), "mine uses 800 environment steps of a budget of 400"),
        (arm(phases=(Interact(200),)), "mine uses 200 environment steps of a budget of 400"),
        (arm(phases=(Interact(333),)), "mine: 333 steps are not whole evaluation intervals of 200"),
        (arm(agent="sac"), "mine: agent must be an agent, such as DDQN(), got 'sac'"),
        (arm(agent=lj.SAC()), "SAC cannot choose among Discrete(n=2)"),
        (lambda plan: 5, "an arm's function returns an Arm; got 5"),
        (5, "an arm is a name, or a function of a Plan"),
    ],
)
def test_arms_of_ones_own(given: Any, says: str) -> None:
    with pytest.raises(lj.UserError) as refused:
        lj.run("cartpole", (given,), seeds=2, budget=400, progress=False)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"seeds": 2.0}, "seeds must be a whole number of at least 1, got 2.0"),
        ({"seeds": "2"}, "seeds must be a whole number"),
        ({"seed": None}, "seed must be a whole number"),
        ({"budget": "400"}, "budget must be a whole number, got '400'"),
        ({"budget": 400.0}, "budget must be a whole number, got 400.0"),
        ({"learning_rate": "x"}, "learning_rate must be a number, got 'x'"),
        ({"hidden": "ab"}, "hidden must be a tuple of whole numbers, got 'ab'"),
        ({"charge": "zz"}, "charge must be episodes or steps, got 'zz'"),
        ({"limits_terminal": "yes"}, "limits_terminal must be true or false, got 'yes'"),
        ({"game": 5}, "game must be a dictionary of the game's parameters"),
        ({"agent": "trpo"}, "no agent is called 'trpo'; there are: ddqn, sac, ppo, a2c"),
        ({"agent": 5}, "agent must be an agent, such as DDQN(), got 5"),
        ({"schedule": 5}, "schedule must be a Schedule, got 5"),
        ({"episodes": 5}, "episodes must be a name or a folder, got 5"),
        ({"out": ""}, "out must be a folder, got ''"),
        ({"arms": "pure_rl"}, "arms is a list of names or functions"),
        ({"arms": ()}, "arms is a list of names or functions"),
    ],
)
def test_calls(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(lj.UserError) as refused:
        lj.run("cartpole", **{"arms": ("pure_rl",), "seeds": 2, "progress": False} | settings)
    assert says in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: lj.Discrete(0), "Discrete takes a number of actions"),
        (lambda: lj.Discrete("2"), "Discrete takes a number of actions"),
        (lambda: lj.Box(1.0, -1.0), "Box needs finite bounds, low below high"),
        (lambda: lj.Box(-np.inf, np.inf), "Box needs finite bounds"),
        (lambda: lj.Box((-1.0,), (1.0, 1.0)), "Box takes a low and a high for each entry"),
        (lambda: lj.Box(("a",), ("b",)), "Box takes numbers"),
        (lambda: lj.Task("x" * 65, GAME), "a task's name is lower-case"),
        (lambda: lj.Task("x", GAME, episodes=5), "x: episodes must be a text, got 5"),
        (lambda: lj.Task("x", GAME, protocols={"mine": lj.Protocol("a@1")}), "by name and version"),
        (lambda: lj.Task("x", GAME, protocols={"a@1": 5}), "by name and version"),
        (lambda: lj.Task("x", lambda: 1 / 0).environment(), "its game cannot be made"),
        (lambda: lj.Task("x", 5).environment(), "game is int; it has to be an Environment"),
        (lambda: lj.load_task(None), "a task is a text or a Task, got None"),
        (lambda: lj.environment(*[None] * 2, states=2, actions=2, limit=5), "actions must be Discrete"),
        (lambda: lj.Protocol("mine"), "a protocol's name has a version"),
    ],
)  # fmt: skip
def test_tasks(make: Any, says: str) -> None:
    with pytest.raises(lj.UserError) as refused:
        make()
    assert says in str(refused.value) and "\n" not in str(refused.value)


def test_a_box_takes_numbers_tuples_and_arrays() -> None:
    boxes = {lj.Box(-1.0, 1.0), lj.Box((-1.0,), (1.0,)), lj.Box(np.array([-1]), jnp.array([1.0]))}
    assert len(boxes) == 1 and boxes.pop().shape == (1,)


def test_a_file_that_ends_the_program_is_told(tmp_path: pathlib.Path) -> None:
    (tmp_path / "ends.py").write_text("import sys\nsys.exit(0)\n")
    with pytest.raises(lj.UserError, match=r"ends.py: ends the program \(sys.exit\) when it is imported"):
        lj.load_task(f"{tmp_path / 'ends.py'}:TASK")


def test_a_file_that_was_changed_is_read_again(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "game.py"
    text = "import dataclasses\nfrom loro_jax.tasks import load\n"
    text += "TASK = dataclasses.replace(load('pong'), seeds={})\n"
    for seeds in (3, 4):
        path.write_text(text.format(seeds))
        assert lj.load_task(path).seeds == seeds


@pytest.mark.long
@pytest.mark.slow
def test_words_of_every_game_are_seen_by_the_check() -> None:
    """Four words share no factor with what the check draws: none is missed."""
    notes = {
        name: [f.says for f in check_task(load(name)) if "no word stands for" in f.says]
        for name in ("frozen_lake", "pong")
    }
    (said,) = notes.pop("pong")
    assert said.startswith("no word stands for the actions [1, 4, 5]") and notes == {"frozen_lake": []}


def edited(tmp_path: pathlib.Path, change: Any) -> pathlib.Path:
    """A copy of a saved run, its identity in the newest schema and then changed."""
    folder = tmp_path / "run"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(RUN, folder, ignore=shutil.ignore_patterns("figures", "tables"))
    run = json.loads((folder / "run.json").read_text())
    run["identity"] = identity.upgraded(run["identity"])
    run = change(copy.deepcopy(run)) or run
    (folder / "run.json").write_text(json.dumps(run))
    return folder


def set_(*path: Any) -> Any:
    *keys, value = path

    def change(run: Any) -> Any:
        at = run["identity"]
        for key in keys[:-1]:
            at = at[key]
        at[keys[-1]] = value
        return run

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda run: run | {"identity": [1]}, lambda run: run | {"identity": "x"},
        lambda run: run | {"identity": None},
        set_("schema", "2"), set_("schema", 3), set_("arms", None), set_("arms", {"pure_rl": 5}),
        set_("seeds", 0), set_("seeds", "two"), set_("seeds", True), set_("seed", -1), set_("seed", "x"),
        set_("episodes", "x"), set_("protocol", 5), set_("protocol", "mine"), set_("task", 5),
        set_("settings", {}), set_("settings", "agent", None), set_("settings", "prior", "name", "zz"),
        set_("settings", "prior", "charge", "xx"), set_("settings", "prior", "tau", 2.5),
        set_("settings", "departures", "limits_terminal", "yes"), set_("settings", "agent", "name", "ppo"),
        set_("settings", "schedule", "budget", "many"),
    ],
)  # fmt: skip
def test_a_damaged_identity(change: Any, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No command goes on with it, and each says so in one line."""
    folder = edited(tmp_path, change)
    assert command(lambda: rerun.main([str(folder), "--out", str(tmp_path / "again"), "--seeds", "2"])) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1
    assert not (tmp_path / "again").exists()
    status = command(lambda: compare.main([str(RUN), str(folder)]))
    said = capsys.readouterr().err
    assert status in (0, 1, 2) and "Traceback" not in said and said.count("\n") <= 1
