"""The regression benchmark: its false alarms and its power are what it says, and it tells what moved."""

from __future__ import annotations

import copy
import dataclasses
import json
import pathlib
from typing import Any
from xml.etree import ElementTree

import jax
import numpy as np
import pytest

from benchmarks.regression import command, faults, measure, verdict
from benchmarks.regression.cases import CASES, NAME, REFERENCE_KEYS, Case
from loro_jax import files
from loro_jax.agents import DDQN, SAC
from loro_jax.errors import command as as_command
from loro_jax.training.phases import Interact


def test_a_table_of_unchanged_rows_alarms_in_a_hundredth_of_runs_and_a_shift_is_noticed_as_stated() -> None:
    """1,500 tables of 30 rows. Alarms: 0.01, and a share this high has a chance of 1e-4. Power at the stated
    shift: 0.9, within 0.03 of it."""
    rng = np.random.default_rng(0)
    rows, tables, share = 30, 1500, verdict.FALSE_ALARM / 30
    x, y = rng.normal(size=(tables, rows, 256)), rng.normal(size=(tables, rows, 64))
    p = verdict.stats.mannwhitneyu(y, x, axis=2, method="asymptotic").pvalue
    assert (p < share).any(axis=1).mean() < 0.021
    shift = verdict.smallest(256, 64, share)
    p = verdict.stats.mannwhitneyu(y[:, 0] + shift, x[:, 0], axis=1, method="asymptotic").pvalue
    assert abs((p < share).mean() - verdict.POWER) < 0.03


def test_times_alarm_as_seldom_and_notice_as_stated() -> None:
    rng = np.random.default_rng(1)
    share, tables = 0.01, 4000
    found = [verdict.timed("a", "b", rng.normal(size=8), rng.normal(), share) for _ in range(tables)]
    assert sum(row.moved for row in found) / tables < 0.016
    slower = [verdict.timed("a", "b", rng.normal(size=8), rng.normal() + 20, share) for _ in range(50)]
    faster = [verdict.timed("a", "b", rng.normal(size=8), rng.normal() - 20, share) for _ in range(50)]
    assert all(row.moved for row in slower) and not any(row.moved for row in faster)


def test_rows_say_what_they_compare() -> None:
    row = verdict.compared("c", "a", "value", [1.0, 2.0, 3.0], [3.0, 4.0, 5.0], 0.5)
    assert (row.before, row.now, row.shift) == (2.0, 4.0, 2.0) and row.moved
    same = verdict.compared("c", "a", "value", [1.0, 1.0], [1.0, 1.0], 0.5)
    assert same.p == 1.0 and same.shift == 0.0 and not same.moved
    constant = verdict.compared("c", "a", "value", [1.0] * 30, [2.0] * 30, 0.01)
    assert constant.moved and constant.shift == float("inf")
    assert "30 rows" not in verdict.summary([same]) and "nothing moved in 1 rows" in verdict.summary([same])
    told = verdict.as_json([row, constant], {"seed": 1})
    assert json.loads(json.dumps(told, allow_nan=False))["moved"] == 2
    suite = ElementTree.fromstring(verdict.as_junit([row, same]))
    assert suite.attrib["tests"] == "2" and suite.attrib["failures"] == "1"
    assert [len(case) for case in suite] == [1, 0]
    assert "| c | a | value | 2 | 4 | +2.00 |" in verdict.table([row])


def test_time_spent_compiling_counts_once() -> None:
    assert command.covered([]) == 0
    assert command.covered([(4.0, 5.0), (0.0, 3.0), (1.0, 2.0), (2.5, 3.5)]) == pytest.approx(4.5)


def test_the_set_is_what_it_promises() -> None:
    agents = {type(case.protocol.agent) for case in CASES}
    assert agents == {DDQN, SAC} and {case.task for case in CASES} >= {"frozen_lake", "cartpole"}
    assert len({arm for case in CASES for arm in case.arms}) == 4
    assert "dqn_prior" in CASES[0].arms  # the guided one
    assert all(case.protocol.name == NAME for case in CASES)


def test_how_far_weights_moved_is_a_distance_of_each_seed() -> None:
    """Two seeds: one moved by (3, 4) in two arrays, the other by 1 in one weight."""
    before = {"a": np.zeros((2, 1)), "b": np.ones((2, 2))}
    after = {"a": np.array([[3.0], [0.0]]), "b": np.array([[5.0, 1.0], [1.0, 0.0]])}
    assert np.allclose(measure.moved(before, after), [np.log(5.0), 0.0])


def tiny() -> tuple[Case, ...]:
    """The second case, small."""
    case = CASES[1]
    protocol = case.protocol.replace(budget=1600, fit_steps=100)
    return (dataclasses.replace(case, protocol=protocol, seeds=16, arms=("pure_rl", "loro")),)


@pytest.fixture
def reference(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setattr(command, "CASES", tiny())
    path = tmp_path / "reference.json"
    assert command.main(["--update", "the first", "--no-speed", "--reference", str(path)]) == 0
    return path


@pytest.mark.long
@pytest.mark.slow
def test_a_reference_is_written_and_a_run_is_held_against_it(
    reference: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A key of its own is called unmoved, a planted fault moved; files say so too."""
    asked = ["--no-speed", "--reference", str(reference)]
    found, junit = tmp_path / "rows.json", tmp_path / "rows.xml"
    assert command.main([*asked, "--json", str(found), "--junit", str(junit)]) == 0
    assert "nothing moved in 10 rows" in capsys.readouterr().out
    rows = json.loads(found.read_text())
    assert rows["moved"] == 0 and rows["protocol"] == NAME and len(rows["rows"]) == 10
    assert ElementTree.parse(junit).getroot().attrib["failures"] == "0"
    jax.clear_caches()
    with faults.FAULTS["discount"].plant(0.95 / 0.99):
        assert command.main([*asked, "--seed", "2"]) == 1
    jax.clear_caches()
    told = capsys.readouterr().out
    assert "| cartpole | pure_rl | value |" in told and "MOVED" in told
    assert command.main(["--update", "again", "--no-speed", "--reference", str(reference)]) == 0
    assert [r["reason"] for r in files.read_json(reference)["reasons"]] == ["the first", "again"]


@pytest.fixture(scope="module")
def small() -> list[tuple[measure.Prepared, str]]:
    """Every case with one seed of pure RL, and its program."""
    cases = [measure.Prepared(dataclasses.replace(case, seeds=1, arms=("pure_rl",))) for case in CASES]
    return [(prepared, program(prepared)) for prepared in cases]


def program(prepared: measure.Prepared) -> str:
    """What is trained in an evaluation interval, traced."""
    e = prepared.ready(1)
    programs, runs, known, _ = prepared.begun(e, e.arms[0])
    one = jax.tree.map(lambda x: x[0], runs)
    phase = Interact(prepared.case.protocol.schedule.eval_interval)
    return str(jax.make_jaxpr(lambda run: phase(run, programs.world, known))(one))


@pytest.mark.parametrize("name", faults.FAULTS)
def test_a_planted_fault_is_in_the_program_that_is_trained(
    name: str, small: list[tuple[measure.Prepared, str]]
) -> None:
    """In every case that it is about."""
    of_one_agent = {"epsilon": "ddqn", "entropy": "sac"}
    for prepared, clean in small:
        with faults.FAULTS[name].plant(faults.FAULTS[name].size):
            planted = program(prepared)
        agent = prepared.case.protocol.agent.name
        assert (planted != clean) is (agent == of_one_agent.get(name, agent)), prepared.case.task


def sound() -> dict[str, Any]:
    """A reference of no runs, which is read all the same."""
    cases: dict[str, Any] = {}
    for case in CASES:
        values = [0.0, 1.0] * (case.seeds * len(REFERENCE_KEYS) // 2)
        cases[case.task] = {
            "identity": {},
            "speeds": {arm: [1.0, 1.1] for arm in case.arms},
            "arms": {arm: {"value": list(values)} for arm in case.arms},
        }
    return {"schema": command.SCHEMA, "protocol": NAME, "cases": cases, "timed_on": {}}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda r: r.update(schema=0), "is no reference of regression@1"),
        (lambda r: r.update(protocol="other"), "is no reference of regression@1"),
        (lambda r: r.update(cases=[]), "damaged; restore it"),
        (lambda r: r["cases"]["pendulum"]["arms"].pop("loro"), "damaged; restore it"),
        (lambda r: r["cases"]["cartpole"]["arms"]["mix"].update(value=["x", "y"]), "damaged; restore it"),
        (lambda r: r["cases"]["cartpole"].pop("speeds"), "damaged; restore it"),
        (lambda r: r.update(schema=True), "is no reference of regression@1"),
        (lambda r: r.update(timed_on=[]), "damaged; restore it"),
        (lambda r: r["cases"].update(other={}), "damaged; restore it"),
        (lambda r: r["cases"]["cartpole"].update(arms=[]), "damaged; restore it"),
        (lambda r: r["cases"]["cartpole"]["arms"].update(mix="value"), "damaged; restore it"),
        (lambda r: r["cases"]["cartpole"]["arms"].update(mix={}), "damaged; restore it"),
        (lambda r: r["cases"]["cartpole"]["arms"]["mix"].update(value=[0.0, 1.0]), "damaged; restore it"),
        (lambda r: r["cases"]["cartpole"]["arms"]["mix"].update(value=[True] * 256), "damaged; restore it"),
        (lambda r: r["cases"]["cartpole"]["speeds"].update(other=[1.0, 2.0]), "damaged; restore it"),
        (lambda r: r["cases"]["cartpole"]["speeds"].update(mix=[]), "damaged; restore it"),
        (lambda r: r["cases"]["cartpole"]["speeds"].update(mix=[1.0, 1.0]), "damaged; restore it"),
        (lambda r: r["cases"]["cartpole"]["speeds"].update(mix=[800.0, 801.0]), "damaged; restore it"),
    ],
)
def test_a_reference_that_is_none_is_one_line(
    change: Any, says: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = copy.deepcopy(sound())
    path = tmp_path / "reference.json"
    files.write_json(path, record)
    assert command.read(path)["cases"]
    change(record)
    files.write_json(path, record)
    assert as_command(lambda: command.main(["--reference", str(path)])) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1


def test_a_reading_that_the_reference_does_not_have_is_left_out_and_named() -> None:
    now = {"cartpole": {"loro": {"value": [0.0, 1.0], "newer": [1.0, 2.0]}}}
    assert [row.reading for row in command.judged(sound(), now, {})] == ["value"]
    kept = {case: of["arms"] for case, of in sound()["cases"].items()}
    assert command.unread(kept, now) == ["newer"]
    nothing: dict[str, Any] = {"cartpole": {"loro": {}}}
    assert command.unread(now, nothing) == [] and command.unread(nothing, now) == ["newer", "value"]


def test_what_is_equal_is_a_tie_also_where_the_run_has_it_in_float32() -> None:
    """0.1 as a reference has it, and as float32 has it: not one is greater."""
    before = sound()
    before["cases"]["cartpole"]["arms"]["loro"]["value"] = [0.1] * 128 + [0.3] * 128
    now = {"cartpole": {"loro": {"value": np.float32([0.1] * 32 + [0.3] * 32)}}}
    (row,) = command.judged(before, now, {})
    assert row.p == 1.0 and row.shift == pytest.approx(0)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("--seed", str(REFERENCE_KEYS[0])), "is a key of the reference; take another"),
        (("--seed", "-1"), "--seed must be at least 0"),
        (("--update", " "), "--update needs a REASON"),
        (("--update", ""), "--update needs a REASON"),
        (("--update", "why", "--json", "x.json"), "--update compares nothing: leave out --json"),
        (("--json", "x", "--junit", "x"), "--json, --junit and --reference must be files of their own"),
        (("--json", "results/regression/reference.json"), "must be files of their own"),
        (("--json", "results"), "results: is a folder; name a file"),
        (("--json", ""), "is a folder; name a file"),
        (("--junit", "/proc/rows.xml"), "cannot write to /proc"),
        (("--reference", "no/such.json"), "no/such.json: no such file; run from the repository"),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    argv: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert as_command(lambda: command.main(argv)) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1


def test_the_page_says_what_was_noticed() -> None:
    """Of two sizes of a fault, the one nearer to none that still moved a row."""
    clearest = [
        {"case": "cartpole", "arm": "loro", "reading": "value", "shift": 1.0, "p": 1e-9, "moved": True}
    ]

    def one(fault: str, size: float, moved: int) -> dict[str, Any]:
        return {"fault": fault, "size": size, "seed": 1, "moved": moved, "rows": 40, "clearest": clearest}

    clean = [one("", 0.0, 0), one("", 0.0, 0) | {"seed": 2}]
    whole = 0.95 / 0.99
    page = faults.markdown(
        [*clean, one("discount", whole, 9), one("discount", 0.99, 2), one("discount", 0.998, 0)]
    )
    assert "Clean runs on 2 other keys: 0 raised an alarm (0 of 80 rows moved)." in page
    assert "| 0.99 | yes | 2 of 40 | cartpole, loro: value | 1e-09 |" in page
    assert "| 0.998 | no | 0 of 40 |" in page
    assert page.endswith(": 0.99\n")


def test_runs_against_another_reference_are_refused(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files.write_json(tmp_path / "faults.json", {"reference_sha256": "another", "runs": []})
    assert as_command(lambda: faults.main(["--clean", "0", "--out", str(tmp_path / "faults.json")])) == 2
    said = capsys.readouterr().err
    assert "its runs were held against another results/regression/reference.json; move it away" in said


def test_no_fault_is_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    assert as_command(lambda: faults.main(["--only", "gravity"])) == 2
    assert "no fault is called 'gravity'; there are: target, discount" in capsys.readouterr().err
