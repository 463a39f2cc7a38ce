"""The arms' sentences, literally, and the protocols they are written under."""

from __future__ import annotations

from typing import Any

import pytest

from loro_jax.agents import A2C, DDQN, PPO
from loro_jax.departures.arms import shares_pretraining
from loro_jax.departures.phases import ShiftedCollect
from loro_jax.errors import UserError
from loro_jax.protocols import PAPER, RELEASED, SAC_PAPER, Protocol
from loro_jax.running.experiment import prepare_experiment
from loro_jax.tasks import load
from loro_jax.training import arms
from loro_jax.training.arms import ARMS, FIRST, Plan, build, check_agent, check_budget
from loro_jax.training.guidance import (
    Answering,
    Conservative,
    HalfPrior,
    JumpStart,
    Kl,
    Proposals,
    Soft,
    Tutor,
)
from loro_jax.training.phases import AsPrior, Collect, Evaluate, Fit, Forget, Interact, Keep, Load, Retarget
from loro_jax.types import Arm, Phase

ROWS, LIMIT, PRIOR, QUERIES = 321, 200, 2000, 45
"""321 transitions in tau = 10 episodes, which cost one interval of 200 steps each."""

LOAD = Load(ROWS, charged=PRIOR, queries=QUERIES)
Sentence = tuple[Phase, ...]


def sentences(protocol: Protocol) -> dict[str, Sentence]:
    plan = Plan(protocol, ROWS, PRIOR, LIMIT, QUERIES)
    return {name: build((name,), plan)[0].phases for name in FIRST}


def test_the_table_under_paper() -> None:
    uniform = Collect(steps=10 * LIMIT, episodes=10, evaluations=10)
    expected: dict[str, Sentence] = {
        "pure_rl": (Interact(30_000),),
        "loro": (LOAD, Fit(3000), Forget(), Interact(28_000)),
        "mix": (LOAD, Interact(28_000)),
        "loro_keep": (LOAD, Fit(3000), Interact(28_000)),
        "random_data": (uniform, Fit(3000), Forget(), Interact(28_000)),
        "on_policy": (AsPrior(Interact(2000)), Fit(3000), Forget(), Interact(28_000)),
        "loro_chained": (LOAD, Fit(3000), Forget(), Interact(28_000)),
        "llm_policy": (),
        "random_policy": (),
    }
    assert sentences(PAPER) == expected


def test_the_table_of_arms_with_a_model_beside_them() -> None:
    """With a table of answers: 10 episodes of each seed's own, charged one interval each."""
    uniform = Collect(steps=10 * LIMIT, episodes=10, evaluations=10)
    played = Collect(10 * LIMIT, 10, 10, Answering())
    among, conservative = Proposals(k=5), Conservative(1.0)
    expected: dict[str, Sentence] = {
        "loro": (played, Fit(3000), Forget(), Interact(28_000)),
        "half_batches": (played, Interact(28_000, batches=HalfPrior())),
        "dqn_prior": (Interact(30_000, support=among),),
        "dqn_prior_softmax": (Interact(30_000, support=Proposals(5, temperature=0.1, epsilon=0.0)),),
        "dqn_prior_both": (Interact(30_000, support=Proposals(5, temperature=0.1, epsilon=0.2)),),
        "ppo": (Interact(30_000),),
        "a2c": (Interact(30_000),),
        "kl_prior": (Interact(30_000, penalty=Kl(0.1, among, 0.5, "forward")),),
        "soft_prior": (Interact(30_000, support=Soft(0.1, 0.5)),),
        "tutor": (Interact(30_000, override=Tutor(1.0, 0.1, 15_000, 0)),),
        "tutor_reuse": (Interact(30_000, override=Tutor(1.0, 0.1, 15_000, 3)),),
        "jsrl": (Interact(30_000, override=JumpStart(LIMIT, 10, 0.0)),),
        "cql": (played, uniform, Fit(3000, penalty=conservative), Evaluate(100)),
        "cql_prior": (
            played, uniform, Fit(3000, support=among, penalty=conservative), Evaluate(100, support=among),
        ),
    }  # fmt: skip
    plan = Plan(PAPER, ROWS, PRIOR, LIMIT, answers=True)
    assert {name: build((name,), plan)[0].phases for name in expected} == expected
    assert set(ARMS) - set(FIRST) == set(expected) - {"loro"}
    built = build(tuple(expected), plan)
    for arm in built:
        check_budget(arm, plan)
    told = {"dqn_prior", "dqn_prior_softmax", "dqn_prior_both", "kl_prior", "soft_prior"}
    told |= {"tutor", "tutor_reuse", "jsrl", "cql_prior"}
    assert {arm.name for arm in built if isinstance(arm.agent, PPO)} == {"ppo", "kl_prior"}
    assert [arm.name for arm in built if isinstance(arm.agent, A2C)] == ["a2c"]
    assert {arm.name for arm in built if arms.consults(arm)} == told


def test_what_is_offline_ends_with_an_evaluation_and_is_nothing_else() -> None:
    def half(p: Plan) -> Arm:
        return Arm("half", (Interact(p.protocol.schedule.budget), Evaluate(5)), "no")

    plan = Plan(PAPER, ROWS, PRIOR, LIMIT)
    with pytest.raises(UserError, match="half ends with Evaluate, so that nothing of it may be online"):
        check_budget(build((half,), plan)[0], plan)


def test_half_batches_need_all_prior_rows() -> None:
    plan = Plan(RELEASED, ROWS, PRIOR, LIMIT)
    with pytest.raises(UserError, match="half_batches counts prior rows, which the released alignment"):
        check_budget(build(("half_batches",), plan)[0], plan)


def test_pretraining_has_settings_of_its_own() -> None:
    """Every arm that pretrains does so by them, and goes on as the agent is set."""
    protocol = PAPER.replace(fit_learning_rate=1e-3, fit_target_network_frequency=10, fit_steps=50)
    found = sentences(protocol)
    fit = (Retarget(10), Fit(50, learning_rate=1e-3), Retarget(1000))
    for name in ("loro", "loro_keep", "random_data", "on_policy"):
        phases = found[name]
        at = phases.index(fit[0])
        assert phases[at : at + 3] == fit and phases[at + 3 :] in (
            (Forget(), Interact(28_000)), (Interact(28_000),),
        )  # fmt: skip
    plain = sentences(PAPER)
    assert all(found[name] == plain[name] for name in ("pure_rl", "mix"))
    assert sentences(PAPER.replace(fit_steps=50))["loro"] == (LOAD, Fit(50), Forget(), Interact(28_000))
    [cql] = build(("cql",), Plan(protocol, ROWS, PRIOR, LIMIT, QUERIES))
    assert Fit(50, penalty=Conservative(1.0), learning_rate=1e-3) in cql.phases
    with pytest.raises(UserError, match=r"^--fit-target-network-frequency is for agents that copy"):
        SAC_PAPER.replace(fit_target_network_frequency=10)
    with pytest.raises(UserError, match="both say when targets are copied; name one"):
        RELEASED.replace(fit_target_network_frequency=10)
    soft = SAC_PAPER.replace(fit_polyak=0.02, fit_steps=50)
    assert Fit(50, polyak=0.02) in sentences(soft)["loro"]
    with pytest.raises(UserError, match=r"^--fit-polyak is for agents that update their targets softly"):
        PAPER.replace(fit_polyak=0.1)
    with pytest.raises(UserError, match=r"fit_polyak must lie in \[0, 1\)"):
        SAC_PAPER.replace(fit_polyak=1.0)
    with pytest.raises(UserError, match="fit_learning_rate must lie between 0 and 1e30"):
        PAPER.replace(fit_learning_rate=-1.0)


def test_the_departures_under_released() -> None:
    uniform = ShiftedCollect(steps=10 * LIMIT, episodes=10, evaluations=10)
    expected: dict[str, Sentence] = {
        "pure_rl": (Interact(30_000),),
        "loro": (Retarget(200), LOAD, Fit(3000), Forget(), Interact(28_000)),
        "mix": (LOAD, Interact(28_000)),
        "loro_keep": (Retarget(200), LOAD, Fit(3000), Interact(28_000)),
        "random_data": (uniform, Fit(3000), Interact(28_000)),
        "on_policy": (AsPrior(Interact(2000)), Fit(3000), Interact(28_000)),
        "loro_chained": (Retarget(200), LOAD, Fit(3000), *(Forget(), Interact(28_000)) * 5),
        "llm_policy": (),
        "random_policy": (),
    }
    assert sentences(RELEASED) == expected


@pytest.mark.parametrize(
    ("departure", "changed"),
    [
        ({"alignment": "released"}, {"random_data"}),  # the LLM's rows change as data, not as a sentence
        ({"chained_repeats": 5}, {"loro_chained"}),
        ({"pretrain_target_frequency": 200}, {"loro", "loro_keep", "loro_chained"}),
        ({"limits_terminal": True}, set()),
        ({"shared_pretraining": True}, set()),
        ({"keep_baseline_data": True}, {"random_data", "on_policy"}),
        ({"drop_cut": True}, set()),
    ],
)
def test_a_departure_changes_its_own_sentences_only(departure: dict, changed: set[str]) -> None:
    before, after = sentences(PAPER), sentences(PAPER.replace(**departure))
    assert {name for name in FIRST if before[name] != after[name]} == changed


def test_released_is_paper_with_the_departures_and_nothing_else() -> None:
    paper, released = PAPER.flat(), RELEASED.flat()
    assert {k for k in paper if paper[k] != released[k]} == {
        "alignment", "chained_repeats", "pretrain_target_frequency", "limits_terminal", "keep_baseline_data",
        "drop_cut",
    }  # fmt: skip
    assert RELEASED.replace(name=PAPER.name, departures=PAPER.departures) == PAPER


def test_data_charged_by_steps_is_as_much_uniform_play() -> None:
    protocol = PAPER.replace(charge="steps")
    plan = Plan(protocol, ROWS, prior=400, limit=LIMIT)
    assert build(("random_data",), plan)[0].phases[0] == Collect(steps=ROWS, episodes=0, evaluations=2)
    assert build(("loro",), plan)[0].phases[-1] == Interact(29_600)


def test_names_and_sources_in_the_order_given() -> None:
    built = build(tuple(reversed(FIRST)), Plan(PAPER, ROWS, PRIOR, LIMIT))
    assert [arm.name for arm in built] == list(reversed(FIRST))
    assert {arm.name: arm.source for arm in built} == {
        "pure_rl": "", "loro": "llm", "mix": "llm", "loro_keep": "llm", "loro_chained": "llm",
        "llm_policy": "llm", "random_data": "uniform", "random_policy": "uniform", "on_policy": "self",
    }  # fmt: skip
    assert all(arm.says for arm in built)


def test_the_chained_arm_runs_only_where_the_protocol_chains() -> None:
    assert set(FIRST) - set(arms.names(PAPER)) == {"loro_chained"}
    assert set(arms.names(RELEASED)) == set(FIRST)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (("pure_rl", "lorro"), "no arm is called 'lorro'; there are: pure_rl, loro, "),
        (("loro", "loro"), "an arm is named twice: loro, loro"),
    ],
)
def test_arms_that_cannot_be_are_refused(chosen: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(chosen, Plan(PAPER, ROWS, PRIOR, LIMIT))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("budget", 0), ("budget", 30_100), ("budget", -200), ("eval_interval", 0), ("tau", 0),
        ("fit_steps", -1), ("train_frequency", 3), ("epsilon", 1.5), ("epsilon", float("nan")),
        ("discount", -0.1), ("batch_size", 0), ("learning_rate", 0.0), ("hidden", ()), ("hidden", (64, 0)),
        ("target_network_frequency", 0), ("replay_capacity", 0), ("learning_starts", -1),
        ("chained_repeats", 0), ("pretrain_target_frequency", -200), ("eval_limit", -1),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused_by_their_flag(field: str, value: object) -> None:
    with pytest.raises(UserError) as refusal:
        PAPER.replace(**{field: value})
    assert f"(--{field.replace('_', '-')})" in str(refusal.value)


def test_only_arms_that_pretrain_on_llm_episodes_share_a_pretraining() -> None:
    sharing = RELEASED.replace(shared_pretraining=True)
    built = build(tuple(FIRST), Plan(sharing, ROWS, PRIOR, LIMIT))
    shared = [arm.name for arm in built if shares_pretraining(arm, sharing)]
    assert shared == ["loro", "loro_keep", "loro_chained"]
    assert not any(shares_pretraining(arm, RELEASED) for arm in built)


def test_what_does_not_fit_an_interval_or_a_replay_is_refused() -> None:
    """An arm's own agent learns as often as an interval has room for; prior rows are there to be sampled."""
    task = load("cartpole")
    settings = {"budget": 1000, "eval_interval": 100}

    def refused(arm: Arm, says: str, **more: Any) -> None:
        protocol = task.protocol("standard@1").replace(**settings, **more)
        with pytest.raises(UserError, match=says):
            prepare_experiment(task, protocol, (lambda plan: arm,), 2, 0)

    online = (Interact(1000),)
    refused(Arm("mine", online, "", agent=PPO(games=8, rollout=13)), "ppo learns every 104 environment steps")
    refused(Arm("mine", online, "", agent=PPO()), "learns every 200 environment steps, which must divide")
    refused(Arm("mine", online, "", agent=DDQN(train_frequency=3)), "ddqn learns every 3 environment steps")
    refused(Arm("mine", online, "", agent=PPO.within(100)), "leave --drop-cut out", drop_cut=True)
    first = (Collect(100, 0, 1), Keep(10))
    refused(Arm("mine", (*first, Interact(900, batches=HalfPrior())), ""), "after Keep, which dropped them")
    refused(Arm("mine", (Collect(100, 0, 1), Keep("3"), Interact(900)), ""), "Keep keeps so many rows")
    soft = Arm("mine", (Interact(1000, support=Proposals(1, temperature=0.1)),), "", agent=PPO.within(100))
    with pytest.raises(UserError, match="has a temperature, by which ppo does not explore"):
        check_agent(soft, soft.agent)


@pytest.mark.parametrize("interval", [1, 4, 40, 100, 101, 200, 202, 394, 509, 1018])
def test_common_ppo_fits_any_interval(interval: int) -> None:
    agent = PPO.within(interval)
    assert interval % agent.train_frequency == 0
    rows = agent.batch_size // agent.minibatches
    assert rows >= 2 or not agent.normalise_advantages
    with pytest.raises(UserError, match="minibatches must have two steps each"):
        PPO(games=2, rollout=2, minibatches=4)
