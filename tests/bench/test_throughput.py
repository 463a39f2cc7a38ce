"""`benchmarks.throughput`: what it counts and leaves out, and one row from end to end. No time is tested."""

from __future__ import annotations

import itertools
import json
import math
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import populations
import pytest

from benchmarks.throughput import command, peers, report, stages
from benchmarks.throughput.cases import Case, chosen
from benchmarks.throughput.work import needed
from loro_jax.agents import DDQN, SAC, ddqn, networks, sac
from loro_jax.errors import UserError
from loro_jax.running import machine
from loro_jax.spaces import Box, Discrete, Space
from loro_jax.training.phases import Interact
from loro_jax.types import Transition

ROOT = pathlib.Path(__file__).parent.parent.parent


def products(jaxpr: Any) -> float:
    """Floating-point operations of the matrix products in a jaxpr, without what is not used."""
    total = 0.0
    for eqn in jaxpr.eqns:
        for value in eqn.params.values():
            for inner in value if isinstance(value, list | tuple) else [value]:
                inner = getattr(inner, "jaxpr", inner)
                total += products(inner) if hasattr(inner, "eqns") else 0.0
        if eqn.primitive.name == "dot_general":
            (contracted, _), _ = eqn.params["dimension_numbers"]
            shape = eqn.invars[0].aval.shape
            total += 2.0 * math.prod(eqn.outvars[0].aval.shape) * math.prod(shape[i] for i in contracted)
    return total


@pytest.mark.parametrize(
    ("agent", "actions", "action"),
    [
        (DDQN(hidden=(8, 16), batch_size=4), Discrete(3), jnp.zeros(4, jnp.int32)),
        (SAC(hidden=(8, 16), batch_size=4), Box((-1.0, -1.0), (1.0, 1.0)), jnp.zeros((4, 2))),
    ],
)
def test_the_work_of_a_gradient_step_is_that_of_its_products(
    agent: DDQN | SAC, actions: Space, action: jax.Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted in the program, less what two losses share and autodiff computes for nobody; with plain layers,
    since a CPU's write some of their products out."""
    monkeypatch.setattr(networks, "affine", lambda x, kernel, bias: x @ kernel + bias)
    for module in (ddqn, sac):  # whose gradients are squared besides
        monkeypatch.setattr(module, "watched", lambda loss, *gradients: loss)
    fitted = agent.for_game(actions)
    numbers = 3 if isinstance(actions, Discrete) else 2
    state = jax.eval_shape(lambda: fitted.init(jax.random.key(0), (5,), actions))
    flags = jnp.zeros(4, bool)
    batch = Transition(jnp.ones((4, 5)), action, jnp.ones(4), jnp.ones((4, 5)), flags, flags)
    counted = products(jax.make_jaxpr(fitted.learn)(state, batch, jax.random.key(1)).jaxpr)
    work = needed(fitted, 5, numbers, 0)
    assert work.gradient_step == pytest.approx(counted, rel=0.12 if isinstance(agent, SAC) else 0.0)
    assert needed(fitted, 5, numbers, 1000).bytes == work.bytes + 2000


def equations(jaxpr: Any) -> int:
    """All equations of a jaxpr, those within others too."""
    within = [getattr(v, "jaxpr", v) for e in jaxpr.eqns for v in e.params.values()]
    return len(jaxpr.eqns) + sum(equations(inner) for inner in within if hasattr(inner, "eqns"))


@pytest.mark.slow
def test_each_stage_leaves_something_out(population: populations.Population) -> None:
    """A stage whose function was renamed would leave out nothing."""
    run = jax.tree.map(lambda x: x[0], population.begun)
    phase, sizes, texts = Interact(populations.INTERVAL), [], []
    for n in range(len(stages.STAGES) + 1):
        without = stages.STAGES[:n]
        with stages.patched(without):
            world = stages.lacking(population.world, without)
            program = jax.make_jaxpr(lambda r, d, world=world: phase(r, world, d))(run, population.known)
        texts.append(str(program))
        sizes.append(equations(program.jaxpr))
    assert all(a != b for a, b in itertools.pairwise(texts)) and sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0] / 3


def test_rows_are_what_the_options_name() -> None:
    assert chosen("cartpole", "paper,small", "1,16") == [
        Case("cartpole", protocol, n) for protocol in ("paper@1", "small@1") for n in (1, 16)
    ]
    work = Case("pendulum", "small", 4).work()
    assert (work["hidden"], work["batch_size"], work["agent"]) == ((64, 64), 32, "sac")
    assert json.loads(json.dumps(work))["gymnasium_id"] == "Pendulum-v1"


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("--seeds", "1,x"), "--seeds takes whole numbers, separated by commas, got 'x'"),
        (("--seeds", "0"), "--seeds must be at least 1, got 0"),
        (("--tasks", "cartpole,cartpole"), "--tasks must name what to run, each once"),
        (("--protocols", "none"), "no protocol is called 'none'"),
        (("--peers", "sb3"), "--peers knows no 'sb3'; there are: d3rlpy, rejax"),
        (("--seconds", "nan"), "--seconds must lie between 0 and 3600, got nan"),
    ],
)
def test_mistakes_are_told_in_a_line(
    argv: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from loro_jax.errors import command as told

    assert told(lambda: command.main(["--dry-run", *argv])) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and says in error and error.count("\n") == 1


def a_round(ours: float, other: float, sgemm: float) -> dict[str, Any]:
    return {
        "ours": {
            "env_steps_per_second": ours, "gradient_steps_per_second": ours,
            "rates": {"sgemm": sgemm, "xla": sgemm / 2, "shapes": sgemm / 4},
        },
        "rejax, one process": {"env_steps_per_second": other},
        "rejax, a process a core": {"env_steps_per_second": other / 2},
        "rejax-1000, one process": {"env_steps_per_second": 2 * other},
    }  # fmt: skip


def test_ratios_and_shares_are_of_the_same_round() -> None:
    own = {"needed": {"gradient_step": 1e6, "act": 0.0, "bytes": 1e5}}
    rounds = [a_round(100.0, 50.0, 1e9), a_round(300.0, 60.0, 1e9), a_round(200.0, 20.0, 2e9)]
    found = command.summary(own, {"bandwidth": 1e9}, rounds)
    assert found["env_steps_per_second"] == [200.0, 100.0, 300.0]
    assert found["ratio_rejax"] == [5.0, 2.0, 10.0]  # the faster way of each round
    assert found["ratio_rejax-1000"] == [2.5, 1.0, 5.0]
    assert found["share_of_sgemm"] == pytest.approx([0.1, 0.1, 0.3])
    assert found["intensity"] == 10.0 and found["share_of_roof"] == found["share_of_sgemm"]


def test_a_peer_has_a_folder_of_its_own_and_its_games(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    monkeypatch.setenv("LORO_JAX_PEERS", str(tmp_path))
    assert peers.folder("d3rlpy").parent == tmp_path and "d3rlpy-2.8.1-py3" in peers.folder("d3rlpy").name
    assert peers.teams("rejax", Case("frozen_lake", "paper", 4).work(), 2) == {}


def test_peers_are_not_set_beside_more_work_than_they_do() -> None:
    work = Case("cartpole", "standard@1", 4).work()
    assert peers.unlike(work) == [] == peers.unlike(Case("pendulum", "standard@1", 4).work())
    assert peers.unlike(work | {"n_step": 3, "polyak": 0.5}) == ["n_step 3", "polyak 0.5"]


def test_resuming_leaves_out_what_was_measured_with_as_much_or_more() -> None:
    case = Case("cartpole", "small", 4)
    asked = {"seconds": 5.0, "repeats": 3, "devices": 0, "peers": [], "profile": False}
    had = asked | {"peers": ["d3rlpy"], "repeats": 4}
    row = {"work": json.loads(json.dumps(case.work())), "commit": machine.commit(), "options": had}
    assert command.suffices(row, case, asked)
    assert not command.suffices(row, case, asked | {"peers": ["rejax"]})
    assert not command.suffices(row | {"commit": "another"}, case, asked)
    assert not command.suffices(row, Case("pendulum", "small", 4), asked)
    for other in ({"seconds": 1.0}, {"repeats": 2}, {"devices": 1}):
        assert not command.suffices(row | {"options": had | other}, case, asked)


@pytest.mark.parametrize("text", ["{}", '{"machine": null, "rows": [{"task": "x"}]}', "[1]", "{"])
def test_damaged_rows_are_one_line(tmp_path: pathlib.Path, text: str) -> None:
    (tmp_path / "throughput.json").write_text(text)
    with pytest.raises(UserError, match="damaged"):
        command.load(tmp_path / "throughput.json")


@pytest.mark.parametrize("folder", sorted((ROOT / "results" / "throughput").glob("*/")), ids=lambda f: f.name)
def test_the_pages_that_are_kept_follow_from_their_rows(folder: pathlib.Path) -> None:
    saved = json.loads((folder / "throughput.json").read_text())
    assert (folder / "README.md").read_text().startswith("\n".join(report.lines(saved)))


@pytest.mark.slow
def test_a_row_from_end_to_end(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    out = tmp_path / "out"
    argv = ["--tasks", "examples/ladder.py:TASK", "--protocols", "untuned", "--seeds", "2", "--repeats", "2"]
    argv += ["--seconds", "0.05", "--out", str(out)]
    assert command.main(argv) == 0
    (row,) = json.loads((out / "throughput.json").read_text())["rows"]
    assert row["found"]["env_steps_per_second"][0] > 0 and len(row["rounds"]) == 2
    assert row["rounds"][0]["ours"]["env_steps"] == row["rounds"][0]["ours"]["gradient_steps"] > 0
    assert (
        row["bytes_a_seed"] > 0 and row["compile_seconds"] > 0 and row["peak_memory"] > row["memory"]["idle"]
    )
    said = (out / "README.md").read_text()
    assert "| examples/ladder.py:TASK | untuned@1 | 2 |" in said and capsys.readouterr().out[:100] in said
    assert (out / "figures" / "roofline.png").exists() and (out / "tables" / "throughput.csv").exists()
    before = row["when"], row["rounds"]
    assert command.main([*argv, "--resume"]) == 0
    (row,) = json.loads((out / "throughput.json").read_text())["rows"]
    assert (row["when"], row["rounds"]) == before
    assert report.lines(json.loads((out / "throughput.json").read_text()))[0] == "# Throughput"
