"""The suite from Python does what the commands do."""

from __future__ import annotations

import dataclasses
import pathlib
import subprocess
import sys
from typing import Any

import jax
import numpy as np
import pytest

import loro_jax as lj
from loro_jax import rerun
from loro_jax.errors import command
from loro_jax.records import results
from loro_jax.running import experiment
from loro_jax.running.command import main
from loro_jax.training.guidance import Proposals
from loro_jax.training.phases import Interact

SMALL: dict[str, Any] = {
    "budget": 3000, "hidden": (8,), "batch_size": 8, "fit_steps": 20, "learning_starts": 20,
    "eval_episodes": 1,
}  # fmt: skip
FLAGS = [
    word
    for k, v in SMALL.items()
    for word in (f"--{k.replace('_', '-')}", *map(str, v if k == "hidden" else [v]))
]
ARMS, PROTOCOL = ("pure_rl", "loro", "random_policy"), "standard@1"
MINE = lj.load_task("cartpole").protocol("paper").replace(name="mine@1", **SMALL | {"budget": 400})
"""A protocol of one's own, with one rate of the tests' own, so that their programs are shared."""
RATE = 0.5


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A small run by the command, its policies kept."""
    out = tmp_path_factory.mktemp("api") / "run"
    argv = ["--protocol", PROTOCOL, "--seeds", "2", "--arms", ",".join(ARMS), "--out", str(out)]
    argv += ["--save-policies", *FLAGS]
    assert main("cartpole", argv) == 0
    return out


def test_a_call_and_a_command_give_the_same_numbers(saved: pathlib.Path) -> None:
    ours = lj.run("cartpole", ARMS, protocol=PROTOCOL, seeds=2, progress=False, **SMALL)
    theirs = lj.read(saved)
    np.testing.assert_array_equal(ours.returns.values, theirs.returns.values)
    np.testing.assert_array_equal(ours.free.values, theirs.free.values)
    assert ours.returns.axes == theirs.returns.axes
    np.testing.assert_array_equal(ours.flat["random_policy"], theirs.flat["random_policy"])
    assert ours.summary == theirs.summary
    assert str(theirs) == (saved / "summary.md").read_text()
    with np.load(saved / "curves.npz") as archive:
        np.testing.assert_array_equal(theirs.returns.sel(arm="loro").values, archive["loro"])
    assert theirs.returns.sizes == {"arm": 2, "seed": 2, "env_steps": 15}


def test_a_comparison_is_the_tables(saved: pathlib.Path) -> None:
    result = lj.read(saved)
    for row in result.summary["comparisons"]:
        found = result.compare(row["arm"], row["baseline"], row["metric"])
        assert found.difference == row["difference_mean"] and found.p_value == row["p_value"]
        assert list(found.improvement_ci) == row["probability_of_improvement_ci95"]
    with pytest.raises(
        lj.UserError, match="no learning arm is called 'random_policy'; there are: pure_rl, loro"
    ):
        result.compare("random_policy")
    with pytest.raises(lj.UserError, match="no metric is called 'speed'; there are: cumulative_return"):
        result.compare("loro", metric="speed")


def test_a_figure_is_matplotlibs(saved: pathlib.Path) -> None:
    figure = lj.read(saved).plot("probability_of_improvement")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["LORO"]
    with pytest.raises(lj.UserError, match="no figure is called 'pie'; there are: learning_curves, main"):
        lj.read(saved).plot("pie")


def greedy(policy: lj.Policy) -> Any:
    return lambda obs, _: policy.agent.act(policy.state, obs)


def test_a_kept_policy_plays(saved: pathlib.Path) -> None:
    """The last evaluation of a run is a greedy episode of the policy that is kept."""
    from loro_jax import keys
    from loro_jax.tasks.rollout import rollouts

    result = lj.read(saved)
    for seed in (0, 1):
        policy = lj.load_policy(saved, "loro", seed)
        obs = np.random.default_rng(seed).uniform(-0.1, 0.1, (5, 4)).astype(np.float32)
        np.testing.assert_array_equal(policy(obs), [policy(o) for o in obs])
        with np.load(saved / "details.npz") as details:  # the rest is the LLM's
            steps = int(details["counters/loro/env_steps"][seed])
        key = keys.fold(keys.of_seed(0, seed), keys.Purpose.EVALUATE, steps)
        first = jax.random.fold_in(key, 0)[None]
        value = rollouts(policy.environment, greedy(policy), first)[0]
        assert float(value[0]) == result.returns.sel(arm="loro", seed=seed, env_steps=3000).values
    with pytest.raises(ValueError, match="observations have shape"):
        policy(np.zeros(3))


def test_a_run_that_is_saved_again_keeps_its_policies(saved: pathlib.Path, tmp_path: pathlib.Path) -> None:
    lj.read(saved).save(tmp_path / "kept")
    names = {p.relative_to(saved) for p in saved.rglob("*") if p.is_file()}
    assert {p.relative_to(tmp_path / "kept") for p in (tmp_path / "kept").rglob("*") if p.is_file()} == names
    one, two = (lj.load_policy(folder, "loro", 1).play(3) for folder in (saved, tmp_path / "kept"))
    np.testing.assert_array_equal(one, two)


@pytest.mark.slow
def test_a_protocol_and_numpys_numbers_are_taken() -> None:
    result = lj.run(
        "cartpole", ("pure_rl",), protocol=MINE, seeds=np.int64(2), seed=np.uint8(3),
        learning_rate=np.float32(RATE), progress=False,
    )  # fmt: skip
    assert result.run["identity"]["protocol"] == "mine@1" and result.run["identity"]["seed"] == 3
    assert result.run["identity"]["settings"]["agent"]["learning_rate"] == RATE
    assert result.run["throughput"]["env_steps_per_second"] > 0


@pytest.mark.slow
def test_a_task_that_its_source_does_not_hold_is_not_resumed(tmp_path: pathlib.Path) -> None:
    lj.run("gymnax:Catch-bsuite", ("pure_rl",), seeds=2, budget=400, out=tmp_path, progress=False)
    again = lj.run(
        "gymnax:Catch-bsuite", ("pure_rl",), seeds=2, budget=400, out=tmp_path, resume=True, progress=False
    )
    assert again.returns.sizes["seed"] == 2
    other = dataclasses.replace(lj.load_task("gymnax:Catch-bsuite"), game=lj.load_task("cartpole").game)
    with pytest.raises(lj.UserError, match="is not what 'gymnax:Catch-bsuite' holds now"):
        lj.run(other, ("pure_rl",), seeds=2, budget=400, out=tmp_path, resume=True, progress=False)


@pytest.mark.parametrize(
    ("arm", "seed", "says"),
    [
        ("mix", 0, "has no policies of 'mix'; it has pure_rl, loro"),
        ("loro", 2, "has seeds 0 to 1 of loro, not 2"),
    ],
)
def test_policies_that_are_not_there(saved: pathlib.Path, arm: str, seed: int, says: str) -> None:
    with pytest.raises(lj.UserError, match=says):
        lj.load_policy(saved, arm, seed)


@pytest.mark.slow
def test_a_run_is_kept_and_resumed(tmp_path: pathlib.Path) -> None:
    out = tmp_path / "run"
    given: dict[str, Any] = {
        "protocol": MINE, "learning_rate": RATE, "seeds": 2, "seed": 3, "out": out, "progress": False,
    }  # fmt: skip  # as the test above, so that both have the same programs
    first = lj.run("cartpole", ("pure_rl",), **given)
    before = (out / "run.json").stat().st_mtime_ns
    again = lj.run("cartpole", ("pure_rl",), resume=True, **given)
    np.testing.assert_array_equal(first.returns.values, again.returns.values)
    assert (out / "run.json").stat().st_mtime_ns == before
    with pytest.raises(lj.UserError, match="budget 400 there, 600 here"):
        lj.run("cartpole", ("pure_rl",), budget=600, resume=True, **given)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: lj.run("cartpole", ("loro", "lorro")), "no arm is called 'lorro'"),
        (lambda: lj.run("cartpole", ("pure_rl",), seeds=0), "seeds must be a whole number of at least 1"),
        (lambda: lj.run("cartpole", ("pure_rl",), seed=-1), "seed must be a whole number of at least 0"),
        (lambda: lj.run("cartpole", ("pure_rl",), budgets=3), "no setting is called 'budgets'; there are"),
        (lambda: lj.run("cartpole", ("pure_rl",), budget=3), "budget must be a multiple of 200"),
        (lambda: lj.run("cartpole", ("pure_rl",), protocol="best"), "no protocol is called 'best'"),
        (lambda: lj.run("cartpole", ("pure_rl",), game={"x": 1}), "cartpole takes no parameter 'x'"),
        (lambda: lj.run("cartpole", ("pure_rl",), save_policies=True), "need a folder: give out=FOLDER"),
        (lambda: lj.run("tennis"), "no task is called 'tennis'; there are: cartpole"),
        (lambda: lj.run("gymnax:Catch-bsuite", ("loro",)), "no LLM has played gymnax_catch_bsuite yet"),
        (lambda: lj.read("nowhere"), "nowhere holds no finished run"),
        (lambda: lj.load_policy("nowhere", "loro"), "run with --save-policies"),
    ],
)  # fmt: skip
def test_what_a_caller_can_mend_is_one_line(call: Any, says: str) -> None:
    with pytest.raises(lj.UserError) as refused:
        call()
    assert says in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.slow
def test_an_arm_of_ones_own_stands_beside_the_suites() -> None:
    def quick(plan: lj.Plan) -> lj.Arm:
        agent = dataclasses.replace(plan.protocol.agent, learning_rate=RATE)
        return lj.Arm("quick", (Interact(plan.protocol.schedule.budget),), "a higher rate", agent=agent)

    result = lj.run("cartpole", ("pure_rl", quick), protocol=MINE, seeds=2, progress=False)
    assert result.returns.axes["arm"] == ["pure_rl", "quick"]
    alone = lj.run("cartpole", ("pure_rl",), protocol=MINE, seeds=2, progress=False)
    np.testing.assert_array_equal(result.returns.sel(arm=["pure_rl"]).values, alone.returns.values)


@pytest.mark.long
@pytest.mark.slow
def test_a_run_is_run_again_to_the_bit(saved: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    again = saved.with_name("again")
    assert rerun.main([str(saved / "run.json"), "--out", str(again)]) == 0
    assert "equal to the bit: 2 arms, 2 seeds" in capsys.readouterr().out
    assert results.read(again).run["identity"] == results.read(saved).run["identity"]


def test_a_run_again_says_what_is_in_its_way(saved: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = "what can be run here is not what ran"
    for argv, says in (
        ([str(saved.parent / "none")], "no such file; name a run.json"),
        ([str(saved), "--out", str(saved)], "is the run itself"),
        ([str(saved), "--task", "pendulum"], "no episodes at 'qwen2.5-coder-0.5b-instruct-hint'"),
        ([str(saved), "--episodes", "smollm2-135m-instruct-hint"], other),
        (
            [str(saved), "--answers", "qwen2.5-coder-0.5b-instruct-rate"],
            "what can be run here is not what ran",
        ),
    ):
        assert command(lambda argv=argv: rerun.main(argv)) == 2  # type: ignore[misc]
        said = capsys.readouterr().err
        assert says in said and said.count("\n") == 1


def test_the_package_is_light_until_it_is_used() -> None:
    code = (
        "import sys, loro_jax as lj; assert 'run' in dir(lj);"
        "print(sorted({'jax', 'numpy', 'tyro'} & set(sys.modules))); lj.Discrete; print('jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "True"]
    with pytest.raises(AttributeError, match="has no attribute 'runn'"):
        lj.runn  # noqa: B018


def test_every_public_name_is_there_and_every_function_has_an_example() -> None:
    assert sorted(lj.__all__) == sorted(lj.WHERE)
    for name in lj.__all__:
        found = getattr(lj, name)
        assert found.__doc__, name
        if callable(found) and not isinstance(found, type):
            assert ">>>" in found.__doc__, f"{name} has no example"
    for name in ("compare", "plot"):
        assert ">>>" in (getattr(lj.Result, name).__doc__ or "")


@pytest.mark.slow
def test_a_policy_of_an_arms_own_agent_is_played_as_it_was_trained(tmp_path: pathlib.Path) -> None:
    """An agent of the same widths that sees observations otherwise is another policy."""

    def scaled(plan: lj.Plan) -> lj.Arm:
        agent = dataclasses.replace(plan.protocol.agent, normalise_observations=False)
        return lj.Arm("scaled", (Interact(plan.protocol.schedule.budget),), "as it comes", agent=agent)

    small = SMALL | {"budget": 800, "normalise_observations": True}
    lj.run("mountain_car", ("pure_rl", scaled), seeds=2, out=tmp_path / "run", save_policies=True,
           progress=False, **small)  # fmt: skip
    assert lj.load_policy(tmp_path / "run", "pure_rl").agent.magnitudes == (0.6, 0.035)
    assert lj.load_policy(tmp_path / "run", "scaled").agent.magnitudes == ()
    again = lj.run("mountain_car", ("pure_rl", scaled), seeds=2, out=tmp_path / "run", resume=True,
                   progress=False, **small)  # fmt: skip
    assert again.returns.axes["arm"] == ["pure_rl", "scaled"]


def test_a_policy_chooses_among_what_it_was_trained_among(tmp_path: pathlib.Path) -> None:
    """Untrained, among a perfect policy's answers it walks to the goal; among all actions it does not."""
    lake = lj.load_task("frozen_lake_nonslippery")
    assert lake.reference is not None
    told = lj.answers_from_policy(lambda obs: lake.reference(obs).argmax(axis=1), lake)  # type: ignore[misc]

    def own(p: lj.Plan) -> lj.Arm:
        return lj.Arm("own", (Interact(80, support=Proposals(k=1)),), "one answer")

    given: dict[str, Any] = {"seeds": 2, "budget": 80, "learning_starts": 79, "progress": False}
    folder = tmp_path / "run"
    lj.run(lake, ("dqn_prior", "pure_rl", own), answers=told, out=folder, save_policies=True, **given)
    for arm, settings in (("dqn_prior", {}), ("own", {"support": Proposals(k=1)})):
        policy = lj.load_policy(folder, arm, 1, answers=told, **settings)
        assert policy.play(5).tolist() == [1.0] * 5, arm
        assert policy(np.eye(16)).shape == (16,)
    assert lj.load_policy(folder, "pure_rl", 1).play(5).max() == 0
    wrong = lj.answers_from_policy(lambda obs: np.zeros(len(obs), int), lake)
    for call, says in (
        (
            lambda: lj.load_policy(folder, "own", answers=told),
            "own chooses among a model's answers and is no",
        ),
        (
            lambda: lj.load_policy(folder, "dqn_prior", answers=wrong),
            "are not those that dqn_prior was trained",
        ),
        (lambda: lj.load_policy(folder, "dqn_prior"), "dqn_prior's answers are not here: give answers="),
        (
            lambda: lj.run(lake, ("pure_rl",), answers=told, proposals="own", **given),
            "--proposals own is for arms that choose among a model's answers: not for pure_rl",
        ),
    ):
        with pytest.raises(lj.UserError, match=says):
            call()


def test_arms_that_learn_offline_are_compared_with_each_other() -> None:
    """By their returns: a perfect prior's walks to the goal."""
    lake = lj.load_task("frozen_lake_nonslippery")
    assert lake.reference is not None
    told = lj.answers_from_policy(lambda obs: lake.reference(obs).argmax(axis=1), lake)  # type: ignore[misc]
    given: dict[str, Any] = {"seeds": 2, "budget": 400, "fit_steps": 2, "tau": 2, "progress": False}
    result = lj.run(lake, ("pure_rl", "cql", "cql_prior"), answers=told, **given)
    found = result.compare("cql_prior", "cql")
    assert result.flat["cql_prior"].tolist() == [1.0, 1.0]
    assert found.difference == pytest.approx(1 - result.flat["cql"].mean())
    with pytest.raises(lj.UserError, match=r"cql_prior learns offline: compare it with another arm .*cql"):
        result.compare("cql_prior", "pure_rl")


def test_a_discount_is_everybodys() -> None:
    """What is to be learned is the same for PPO, its own settings or common ones."""
    for name in ("frozen_lake_nonslippery", "cartpole"):
        protocol = lj.load_task(name).protocol().replace(discount=0.9)
        ready = experiment.prepare_experiment(lj.load_task(name), protocol, ("pure_rl", "ppo"), 1, 0)
        assert {world.agent.discount for world in ready.worlds} == {0.9}
