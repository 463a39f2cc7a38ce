"""Runs outlive the names of their settings: identities of schema 1 are read, compared and gone on from."""

from __future__ import annotations

import copy
import json
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from loro_jax import files
from loro_jax.agents import DDQN
from loro_jax.analysis import aggregate
from loro_jax.errors import UserError
from loro_jax.protocols import GROUPS
from loro_jax.records import identity, results
from loro_jax.running import experiment, machine
from loro_jax.running.command import main
from loro_jax.running.store import FORMAT
from loro_jax.tasks import SUITE, load
from loro_jax.training.arms import Plan
from loro_jax.training.phases import Interact
from loro_jax.types import Arm

ROOT = pathlib.Path(__file__).parent.parent.parent
RESULTS = ROOT / "results"
STANDARD = sorted(RESULTS.glob("*/standard@1/run.json"))
REPLICATION = {  # what each run was told to change of its protocol
    "cartpole/paper-loro": ("paper@1", {"budget": 6000}),
    "cartpole/released-loro": ("released@1", {"budget": 6000}),
    "cartpole/released-shared-pretraining": ("released@1", {"shared_pretraining": True}),
    "frozen_lake/released-pure-rl": ("released@1", {}),
}
GOLDEN = ROOT / "tests" / "golden" / "run_schema_1"
"""A finished and an interrupted run, written by commit 070b3ef (tests/golden/make_run_schema_1.py)."""
CHANGED = {
    "budget": 1000, "tau": 2, "fit_steps": 20, "hidden": (8,), "batch_size": 8, "learning_starts": 20,
    "replay_capacity": 400,
}  # fmt: skip
FLAGS = (
    "--protocol", "standard@1", "--arms", "pure_rl,loro", "--seeds", "2", "--devices", "2",
    *(w for k, v in CHANGED.items() for w in (f"--{k.replace('_', '-')}", "8" if k == "hidden" else str(v))),
)  # fmt: skip


def saved(path: pathlib.Path) -> dict[str, Any]:
    return json.loads(path.read_text())["identity"]


def prepared(before: dict[str, Any]) -> dict[str, Any]:
    """The identity that the same options make today."""
    now = identity.upgraded(before)
    dataset = (now["episodes"] or {}).get("name", "")
    return experiment.prepare_experiment(
        load(now["task"]),
        identity.protocol_of(before),
        tuple(now["arms"]),
        now["seeds"],
        now["seed"],
        dataset,
    ).identity


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    """The identity of a small run of today's."""
    task = load("cartpole")
    ready = experiment.prepare_experiment(
        task, task.protocol("standard@1").replace(**CHANGED), ("pure_rl", "loro"), 2, 0
    )
    return ready.identity


def test_there_are_saved_runs_of_both_kinds() -> None:
    assert [p.parent.parent.name for p in STANDARD] == sorted(SUITE)
    assert sorted(REPLICATION) == sorted(
        p.parent.relative_to(RESULTS / "replication").as_posix()
        for p in (RESULTS / "replication").glob("**/run.json")
    )


@pytest.mark.parametrize("path", STANDARD, ids=lambda p: p.parent.parent.name)
def test_a_saved_standard_run_is_of_the_tasks_standard(path: pathlib.Path) -> None:
    before, task = saved(path), load(path.parent.parent.name)
    now = identity.upgraded(before)
    assert (now["schema"], now["task"], now["protocol"]) == (2, task.name, "standard@1")
    assert list(now["settings"]) == [*GROUPS, "game"]
    assert identity.protocol_of(before) == task.protocol("standard@1")
    assert not identity.other_settings(before, task.protocol("standard@1"))
    assert identity.upgraded(now) == now
    assert not identity.differences(before, now) and not identity.differences(now, before)


@pytest.mark.parametrize("path", STANDARD, ids=lambda p: p.parent.parent.name)
def test_the_same_options_make_the_same_run_today(path: pathlib.Path) -> None:
    before = saved(path)
    assert before["episodes"]["name"] == load(path.parent.parent.name).episodes  # which is shipped
    now = prepared(before)
    assert identity.differences(before, now) == [] == identity.differences(now, before)
    for name, changed, words in (
        ("seeds", before["seeds"] + 1, f"seeds {before['seeds'] + 1} there, {before['seeds']} here"),
        ("episodes", before["episodes"] | {"arrays_sha256": "x"}, "episodes.arrays_sha256 x there, "),
    ):
        (said,) = identity.differences(before | {name: changed}, now)
        assert said.startswith(words)


@pytest.mark.parametrize("folder", REPLICATION)
def test_a_saved_replication_is_of_the_studys_protocol(folder: str) -> None:
    before = saved(RESULTS / "replication" / folder / "run.json")
    name, changed = REPLICATION[folder]
    protocol = load(folder.partition("/")[0]).protocol(name)
    assert identity.protocol_of(before) == protocol.replace(**changed)
    assert identity.protocol_of(before).changes(protocol) == changed
    assert identity.upgraded(before)["task"] == folder.partition("/")[0]
    if before["episodes"] is None:
        assert identity.differences(before, prepared(before)) == []


def test_words_of_schema_1_are_read_in_todays(made: dict[str, Any]) -> None:
    """Also those that the settings of schema 1 had for a uniform policy's data."""
    for alignment, word in (("true", "Collect"), ("released", "ShiftedCollect")):
        old = {
            "benchmark": "cartpole", "protocol": {"name": "paper"}, "seeds": 1, "seed": 0,
            "arms": {"x": [f"Collect(steps=9, episodes=3, chunks=3, alignment='{alignment}')", "Forget()"]},
        }  # fmt: skip
        assert identity.upgraded(old)["arms"] == {
            "x": [f"{word}(steps=9, episodes=3, evaluations=3)", "Forget()"]
        }
    pong = {"benchmark": "pong", "protocol": {"name": "released", "drop_first_half": True}}
    assert identity.protocol_of(pong).game == (("drop_first_half", True),)
    pong = {"benchmark": "pong", "protocol": {"name": "paper", "drop_first_half": False}}
    assert identity.protocol_of(pong).game == ()


@pytest.mark.parametrize("schema", [3, "2", None, 0])
def test_an_unknown_schema_is_refused_in_one_line(made: dict[str, Any], schema: object) -> None:
    foreign = made | {"schema": schema}
    says = f"its identity has schema {schema!r}, which this version of loro_jax does not read"
    for ask in (identity.upgraded, identity.protocol_of):
        with pytest.raises(UserError) as refusal:
            ask(foreign)
        assert str(refusal.value) == says
    assert identity.differences(foreign, made) == [says]


DAMAGED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no mapping": lambda made: [1, 2],
    "nothing": lambda made: {},
    "no settings": lambda made: {k: v for k, v in made.items() if k != "settings"},
    "settings that are none": lambda made: made | {"settings": ["budget"]},
    "a group that is none": lambda made: made | {"settings": made["settings"] | {"agent": 3}},
    "widths that are none": lambda made: changed(made, "agent", hidden=8),
    "a budget in words": lambda made: changed(made, "schedule", budget="many"),
    "no arms": lambda made: {k: v for k, v in made.items() if k != "arms"},
    "arms in a list": lambda made: made | {"arms": ["loro"]},
    "episodes in words": lambda made: made | {"episodes": "hint"},
}


def changed(made: dict[str, Any], group: str, **values: Any) -> dict[str, Any]:
    found = copy.deepcopy(made)
    found["settings"][group] |= values
    return found


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_identity_is_another_run_in_one_line(made: dict[str, Any], case: str) -> None:
    (said,) = identity.differences(DAMAGED[case](made), made)
    assert said and "\n" not in said and len(said) < 200


def test_a_setting_that_is_not_named_has_its_default(made: dict[str, Any]) -> None:
    """As in a run from before there was such a setting; one that was changed from it is named."""
    protocol = identity.protocol_of(made)
    for group in GROUPS:
        for name, value in made["settings"][group].items():
            if name == "name":
                continue
            older = copy.deepcopy(made)
            del older["settings"][group][name]
            default = identity.protocol_of(older).flat()[name]
            default = list(default) if isinstance(default, tuple) else default
            said = identity.differences(older, made)
            if default == value:
                assert said == []
                assert identity.protocol_of(older) == protocol
            else:
                assert said == [f"{name} {default} there, {value} here"]
    older = copy.deepcopy(made)
    for group in ("departures", "game"):
        del older["settings"][group]
    assert identity.differences(older, made) == []


@pytest.mark.parametrize(
    ("group", "values", "words"),
    [
        ("schedule", {"eval_episodes": 7}, ["eval_episodes 7 there, 4 here"]),
        ("agent", {"huber_delta": 2.0}, ["huber_delta 2.0 there, 1.0 here"]),
        ("agent", {"hidden": [9, 9]}, ["hidden [9, 9] there, [8] here"]),
        (
            "prior",
            {"charge": "episodes", "tau": 3},
            ["tau 3 there, 2 here", "charge episodes there, steps here"],
        ),
        ("departures", {"drop_cut": True}, ["drop_cut True there, False here"]),
        ("game", {"layout": ["SG"]}, ["game.layout ['SG'] there, None here"]),
    ],
)
def test_what_changed_is_named(
    made: dict[str, Any], group: str, values: dict[str, Any], words: list[str]
) -> None:
    assert identity.differences(changed(made, group, **values), made) == words


def test_what_else_changed_is_named(made: dict[str, Any]) -> None:
    def said(**values: Any) -> list[str]:
        return identity.differences(made | values, made)

    assert said(seed=3) == ["seed 3 there, 0 here"]
    assert said(task="pong") == ["task pong there, cartpole here"]
    assert said(protocol="standard@2") == ["protocol standard@2 there, standard@1 here"]
    assert said(task_sha256="abc") == ["task's file abc there, None here"]
    arms = dict(reversed(made["arms"].items()))
    assert said(arms=arms) == ["arms ['loro', 'pure_rl'] there, ['pure_rl', 'loro'] here"]
    assert said(arms=made["arms"] | {"loro": ["Forget()"]})[0].startswith("arms.loro ['Forget()'] there, ")


@pytest.mark.parametrize(
    ("group", "values", "says"),
    [
        ("prior", {"patience": 3}, "it has a setting 'patience', which this version does not know"),
        ("agent", {"name": "trpo"}, "the run is of the agent 'trpo', which this version does not know"),
    ],
)
def test_what_only_a_later_version_knows_is_refused(
    made: dict[str, Any], group: str, values: dict[str, Any], says: str
) -> None:
    later = changed(made, group, **values)
    with pytest.raises(UserError) as refusal:
        identity.protocol_of(later)
    assert str(refusal.value).startswith(says)
    assert identity.differences(later, made) == [str(refusal.value)]


def test_an_arm_that_brings_its_own_agent_says_so(made: dict[str, Any]) -> None:
    def small(p: Plan) -> Arm:
        whole = (p.load, Interact(p.online))
        return Arm("loro", whole, "another network", "llm", DDQN(hidden=(4,)))

    task = load("cartpole")
    ready = experiment.prepare_experiment(
        task, task.protocol("standard@1").replace(**CHANGED), ("pure_rl", small), 2, 0
    )
    assert ready.identity["arms"]["loro"][1] == "Interact(steps=600)"
    assert identity.agent_of(ready.identity, "loro") == DDQN(hidden=(4,))
    assert identity.agent_of(ready.identity, "pure_rl") == identity.protocol_of(ready.identity).agent
    assert any(d.startswith("agents.loro.") for d in identity.differences(ready.identity, made))
    younger = copy.deepcopy(ready.identity)
    del younger["agents"]["loro"]["huber_delta"]  # as if the field had come later
    assert identity.differences(younger, ready.identity) == []
    younger["agents"]["loro"] = {"name": "mine", "depth": 3}  # an agent of a stranger's
    assert identity.differences(younger, younger) == []
    with pytest.raises(UserError, match="the arm loro is of the agent 'mine', which this version does not"):
        identity.agent_of(younger, "loro")


def test_a_strangers_task_is_known_by_its_file(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "game.py"
    text = "import dataclasses\nfrom loro_jax.tasks import load\n"
    path.write_text(f"{text}TASK = dataclasses.replace(load('pendulum'), name='mine', source='')\n")
    task = load(str(path))
    ready = experiment.prepare_experiment(task, task.protocol(), ("pure_rl",), 2, 0)
    assert ready.identity["task"] == "mine"
    path.write_text(path.read_text() + "# edited\n")
    loaded = experiment.prepare_experiment(task, task.protocol(), ("pure_rl",), 2, 0)
    assert loaded.identity == ready.identity  # what runs is what was loaded
    task = load(str(path))
    edited = experiment.prepare_experiment(task, task.protocol(), ("pure_rl",), 2, 0)
    (said,) = identity.differences(ready.identity, edited.identity)
    assert said.startswith(f"task's file {ready.identity['task_sha256'][:57]}... there, ")


@pytest.fixture
def finished(tmp_path: pathlib.Path) -> pathlib.Path:
    """The former code's finished run, as if this machine had computed it."""
    folder = pathlib.Path(shutil.copytree(GOLDEN / "finished", tmp_path / "finished"))
    ran = files.read_json(folder / "run.json")
    files.write_json(folder / "run.json", ran | {"computed_on": machine.computed_on()})
    return folder


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_finished_run_of_schema_1_is_read_and_known(
    finished: pathlib.Path, made: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run = results.read(GOLDEN / "finished")
    assert run.run["identity"]["protocol"]["warmup"] == 20 and "schema" not in run.run["identity"]
    assert {name: curve.shape for name, curve in run.curves.items()} == {"pure_rl": (2, 5), "loro": (2, 5)}
    assert identity.differences(run.run["identity"], made) == []
    before = contents(finished)
    assert main("cartpole", [*FLAGS, "--resume", "--out", str(finished)]) == 0
    assert "holds this run already, complete" in capsys.readouterr().out
    assert main("cartpole", [*FLAGS, "--seed", "1", "--resume", "--out", str(finished)]) == 2
    assert "holds another configuration (seed 0 there, 1 here)" in capsys.readouterr().err
    assert contents(finished) == before


def test_a_finished_run_of_schema_1_is_aggregated() -> None:
    protocol = load("cartpole").protocol("standard@1").replace(**CHANGED)

    def read(wanted: Any) -> aggregate.Task:
        return aggregate.load(
            GOLDEN / "finished", "cartpole", 200.0, lambda ran: identity.other_settings(ran, wanted),
            lambda seed: np.full(10, 20.0 + seed),
        )  # fmt: skip

    task = read(protocol)
    assert (task.name, sorted(task.curves)) == ("cartpole", ["loro", "pure_rl"])
    np.testing.assert_array_equal(task.curves["loro"], results.read(GOLDEN / "finished").curves["loro"])
    assert aggregate.aggregate([task], "pure_rl")["seeds"] == 2
    with pytest.raises(
        UserError, match=r"was run under other settings \(learning_starts 20 there, 30 here\)"
    ):
        read(protocol.replace(learning_starts=30))


@pytest.mark.slow
def test_a_finished_run_of_schema_1_is_remade(finished: pathlib.Path) -> None:
    before = files.read_json(finished / "summary.json")
    code = "from loro_jax import errors, report; errors.run(report.main)"
    for line in (["-m", "loro_jax.report", str(finished)], ["-c", code, str(finished), "--no-draw"]):
        done = subprocess.run(
            [sys.executable, *line],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert (finished / "figures" / "learning_curves.pdf").exists()
        after = files.read_json(finished / "summary.json")
        assert after["protocol"] == "standard@1" and before["protocol"] == "standard"
        assert {k: v for k, v in after.items() if k != "protocol"} == {
            k: v for k, v in before.items() if k != "protocol"
        }
        assert results.read(finished).run["identity"] == saved(GOLDEN / "finished" / "run.json")


def test_an_interrupted_run_of_schema_1_is_known_and_not_gone_on_with(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its checkpoint is of another form (`store.FORMAT`) and another arithmetic (`machine.ARITHMETIC`)."""
    out = tmp_path / "run"
    with zipfile.ZipFile(GOLDEN / "interrupted.zip") as archive:
        archive.extractall(out)
    record = files.read_json(out / "checkpoints" / "identity.json")
    assert record["format"] == 2 and record["identity"] == saved(GOLDEN / "finished" / "run.json")
    before = contents(out)
    for more in (["--tau", "3"], []):
        assert main("cartpole", [*FLAGS, *more, "--resume", "--out", str(out)]) == 2
        said = capsys.readouterr().err
        assert "was begun by another version of loro_jax; go on with that one, or delete it" in said
    # Of this form, it is looked at further.
    files.write_json(out / "checkpoints" / "identity.json", record | {"format": FORMAT})
    before = contents(out)
    assert main("cartpole", [*FLAGS, "--tau", "3", "--resume", "--out", str(out)]) == 2
    assert "holds another configuration (tau 2 there, 3 here; " in capsys.readouterr().err
    assert main("cartpole", [*FLAGS, "--out", str(out)]) == 2
    assert "holds an interrupted run; add --resume to go on" in capsys.readouterr().err
    assert main("cartpole", [*FLAGS, "--resume", "--out", str(out)]) == 2
    assert "arithmetic 1 there, 2 here" in capsys.readouterr().err
    assert contents(out) == before


def test_a_run_of_today_under_the_names_of_schema_1_goes_on(
    tmp_path: pathlib.Path, made: dict[str, Any]
) -> None:
    """On any machine to the bit: what was kept is named by the identity that it was begun under."""
    from loro_jax.running.store import Store

    old = saved(GOLDEN / "finished" / "run.json")
    with Store(tmp_path, old, resume=False, computed_on={"backend": "cpu"}) as store:
        store.finish("pure_rl", {"records": np.arange(6.0).reshape(2, 3)})
    with Store(tmp_path, made, resume=True, computed_on={"backend": "cpu"}) as store:
        again = store.finished("pure_rl")
        assert again is not None
        np.testing.assert_array_equal(again["records"], np.arange(6.0).reshape(2, 3))
        store.finish("loro", {"records": np.ones((2, 3))})
    with Store(tmp_path, old, resume=True, computed_on={"backend": "cpu"}) as store:
        assert store.finished("loro") is not None
