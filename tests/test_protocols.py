"""Protocols: settings by short names over four groups, and versions that never change once they were used."""

from __future__ import annotations

import dataclasses
import itertools
import json
import pathlib

import pytest

from loro_jax import agents, protocols
from loro_jax.agents import A2C, AGENTS, DDQN, PPO, SAC
from loro_jax.errors import UserError
from loro_jax.protocols import GROUPS, PAPER, RELEASED, SAC_PAPER, SAC_RELEASED, Protocol
from loro_jax.spaces import Box, Discrete
from loro_jax.tasks import SUITE, load

HERE = pathlib.Path(__file__).parent / "golden"
GOLDEN = json.loads((HERE / "protocols_1.json").read_text())
"""Every setting of every protocol of version 1. They have published results: the file is never made anew. Its
values were compared with those of commit 070b3ef, one by one, when settings got other names."""
SECOND = json.loads((HERE / "protocols_2.json").read_text())
"""And of `standard@2`, where a task has one."""
EVERY = [(task, name) for task in GOLDEN for name in {**GOLDEN[task], **SECOND.get(task, {})}]
PPO_PAPER, A2C_PAPER = (PAPER.replace(agent=agent) for agent in (PPO(), A2C()))
BY_AGENT = {"ddqn": RELEASED, "sac": SAC_RELEASED, "ppo": PPO_PAPER, "a2c": A2C_PAPER}


@pytest.mark.parametrize("agent", AGENTS)
def test_names_of_settings_are_unique_over_groups(agent: str) -> None:
    names = [name for group in GROUPS for name in BY_AGENT[agent].group(group)]
    assert len(names) == len(set(names)) and not {"name", "game", *GROUPS} & set(names)
    assert list(BY_AGENT[agent].flat()) == names


@pytest.mark.parametrize("agent", AGENTS)
def test_replace_finds_the_group_of_every_setting(agent: str) -> None:
    """Each setting is taken over from a protocol in which it differs, and no other changes."""
    other = {"schedule": {"budget": 4000, "eval_interval": 400, "eval_episodes": 7, "eval_limit": 9,
                          "reset_each_interval": False},
             "prior": {"tau": 3, "fit_steps": 17, "charge": "steps", "fit_learning_rate": 0.25,
                       "fit_polyak": 0.0625, "llm": "answers"},
             "departures": {"alignment": "released", "chained_repeats": 3, "pretrain_target_frequency": 5,
                            "limits_terminal": True, "shared_pretraining": True, "keep_baseline_data": True,
                            "drop_cut": True},
             "agent": {"hidden": (7, 8), "learning_rate": 0.5, "batch_size": 3, "discount": 0.5,
                       "epsilon": 0.7, "train_frequency": 2, "learning_starts": 11, "replay_capacity": 777,
                       "normalise_observations": True, "epsilon_start": 0.6, "epsilon_decay_steps": 8,
                       "learning_rate_end": 0.1, "learning_rate_decay_steps": 9, "gradient_steps": 2,
                       "n_step": 4, "reward_scale": 3.0, "layer_norm": True}}  # fmt: skip
    base = {"ddqn": PAPER, "sac": SAC_PAPER, "ppo": PPO_PAPER, "a2c": A2C_PAPER}[agent]
    own = {
        "ddqn": {"target_network_frequency": 13, "huber_delta": 2.0, "polyak": 0.3},
        "sac": {"polyak": 0.5, "initial_temperature": 2.0, "exploration": "mode", "action_range": "unit"},
        "ppo": {"gae_lambda": 0.5, "games": 4, "rollout": 5, "epochs": 3, "minibatches": 2, "clip": 0.4,
                "entropy_weight": 0.3, "value_weight": 0.1, "max_gradient_norm": 2.0,
                "normalise_advantages": False},
        "a2c": {"gae_lambda": 0.5, "games": 4, "rollout": 25, "entropy_weight": 0.3, "value_weight": 0.1,
                "max_gradient_norm": 2.0, "normalise_advantages": True, "optimiser": "adam"},
    }  # fmt: skip
    if agent in ("ppo", "a2c"):
        own_names = agents.settings(agents.AGENTS[agent]())
        other["agent"] = {k: v for k, v in other["agent"].items() if k in own_names}
    other["agent"] |= own[agent]
    if agent != "ddqn":  # which copy no target network
        del other["departures"]["pretrain_target_frequency"]
    if agent != "sac":  # whose target moves softly
        del other["prior"]["fit_polyak"]
    seen = set()
    for group, name in ((g, n) for g, values in other.items() for n in values):
        changed = base.replace(**{name: other[group][name]})
        assert changed.group(group)[name] == other[group][name] != base.flat()[name]
        assert changed.changes(base) == {name: other[group][name]}
        assert type(changed.agent) is type(base.agent)
        seen.add(name)
    # Of agents that copy their target network; two ways of one thing.
    others = {"pretrain_target_frequency", "fit_target_network_frequency", "fit_polyak"}
    assert base.flat().keys() - seen <= others
    together = base.replace(**{k: v for values in other.values() for k, v in values.items()})
    for group in other.keys() - {"departures"}:
        assert together.group(group) | other[group] == together.group(group)


def test_replace_takes_names_games_and_whole_groups() -> None:
    changed = PAPER.replace(name="mine@1", game={"slippery": False, "limit": 7}, agent=SAC(), tau=3)
    assert changed.name == "mine@1" and changed.agent == SAC() and changed.prior.tau == 3
    assert changed.game == (("limit", 7), ("slippery", False))  # in one order, whichever they came in
    assert changed.changes(PAPER)["agent"] == "sac"
    assert changed.changes(PAPER)["game"] == {"slippery": False, "limit": 7}
    assert hash(changed) == hash(changed.replace()) and changed.replace() == changed
    assert PAPER.replace(hidden=[8, 8]).agent.hidden == (8, 8)  # as JSON has it
    assert PAPER.changes(PAPER) == {}


@pytest.mark.parametrize("name", ["warmup", "soft_update", "taus", "__class__"])
def test_replace_refuses_what_no_setting_is_called(name: str) -> None:
    with pytest.raises(UserError) as refusal:
        PAPER.replace(**{name: 1})
    said = f"no setting is called '{name}'; there are: budget, eval_interval, "
    assert str(refusal.value).startswith(said) and "\n" not in str(refusal.value)


def test_settings_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(UserError, match=r"^train_frequency must divide eval_interval \(--train-frequency\)"):
        PAPER.replace(train_frequency=3)
    PAPER.replace(train_frequency=3, eval_interval=300)  # both at once
    with pytest.raises(UserError, match=r"^budget times chained_repeats, and fit_steps, must be less than"):
        PAPER.replace(budget=1_080_000_000, chained_repeats=2)
    with pytest.raises(UserError, match=r"^--pretrain-target-frequency is for agents that copy .*; sac upd"):
        SAC_PAPER.replace(pretrain_target_frequency=200)


@pytest.mark.parametrize(
    "name", ["standard", "standard@", "standard@0", "@1", "Standard@1", "standard@1 ", "a@1@2"]
)
def test_a_protocols_name_has_a_version(name: str) -> None:
    with pytest.raises(UserError, match="a protocol's name has a version, such as standard@1"):
        Protocol(name)
    with pytest.raises(ValueError, match="a protocol's name has a version, such as standard@1"):
        protocols.version(name)


def test_no_two_protocols_of_a_task_have_one_name() -> None:
    with pytest.raises(ValueError, match="two protocols are called paper@1"):
        protocols.by_name([PAPER, PAPER.replace(tau=3)])


def test_a_name_means_its_newest_version_and_an_exact_one_itself_for_ever() -> None:
    made = [Protocol(name) for name in ("standard@2", "standard@10", "standard@1", "paper@1")]
    for order in itertools.permutations(made):
        known = protocols.by_name(order)
        assert protocols.choose(known, "standard").name == "standard@10"
        assert protocols.choose(known, "paper").name == "paper@1"
        for protocol in made:
            assert protocols.choose(known, protocol.name) is protocol
    for wrong in ("standard@3", "tuned", "stand", ""):
        with pytest.raises(UserError) as refusal:
            protocols.choose(known, wrong)
        assert str(refusal.value) == f"no protocol is called '{wrong}'; there are: {', '.join(known)}"


def test_a_task_runs_its_first_protocol_in_its_newest_version() -> None:
    better = load("cartpole").protocol("standard").replace(name="standard@3", tau=3)
    task = load("cartpole")
    task = dataclasses.replace(task, protocols=protocols.by_name([*task.protocols.values(), better]))
    assert task.protocol() is better and task.protocol("standard") is better
    assert task.protocol("standard@2") == load("cartpole").protocol()


@pytest.mark.parametrize(("actions", "agent"), [(Discrete(3), DDQN), (Box((-1.0,), (1.0,)), SAC)])
def test_a_task_without_protocols_has_untuned_ones_and_the_studys(actions: object, agent: type) -> None:
    known = protocols.of_agent(agents.untuned(actions))
    assert list(known) == ["untuned@1", "paper@1", "released@1"]
    assert {type(p.agent) for p in known.values()} == {agent}
    assert known["untuned@1"].prior.charge == "steps" and known["paper@1"].prior.charge == "episodes"


def test_untuned_never_changes() -> None:
    schedule = {
        "budget": 20_000, "eval_interval": 200, "eval_episodes": 4, "eval_limit": 0,
        "reset_each_interval": False,
    }  # fmt: skip
    agent = {
        "hidden": (64, 64), "learning_rate": 1e-3, "batch_size": 64, "discount": 0.99, "epsilon": 0.1,
        "train_frequency": 1, "learning_starts": 500, "replay_capacity": 100_000,
        "normalise_observations": False, "epsilon_start": 1.0, "epsilon_decay_steps": 0,
        "learning_rate_end": 0.0, "learning_rate_decay_steps": 0, "gradient_steps": 1, "n_step": 1,
        "reward_scale": 1.0, "layer_norm": False,
    }  # fmt: skip
    ddqn = agent | {"target_network_frequency": 100, "huber_delta": 1.0, "polyak": 1.0}
    sac = agent | {
        "polyak": 0.005, "initial_temperature": 1.0, "exploration": "policy", "action_range": "environment"
    }  # fmt: skip
    for actions, learner in ((Discrete(3), ddqn), (Box((-1.0,), (1.0,)), sac)):
        untuned = protocols.of_agent(agents.untuned(actions))["untuned@1"]
        assert untuned.group("schedule") == schedule
        assert untuned.group("agent") == learner
        assert untuned.group("prior") == {
            "tau": 10, "fit_steps": 2000, "charge": "steps", "fit_learning_rate": 0.0,
            "fit_target_network_frequency": 0, "fit_polyak": 0.0, "llm": "episodes",
        }  # fmt: skip
        assert untuned.departures == Protocol("plain@1").departures and not untuned.game


@pytest.mark.parametrize(("task", "name"), EVERY)
def test_published_protocols_never_change(task: str, name: str) -> None:
    protocol = load(task).protocol(name)
    here = {group: protocol.group(group) for group in GROUPS} | {"game": dict(protocol.game)}
    here["agent"]["name"] = protocol.agent.name
    for group, values in (GOLDEN[task] | SECOND.get(task, {}))[name].items():
        # A setting that is added later does not change what it was, if its default changes nothing.
        kept = {k: v for k, v in json.loads(json.dumps(here[group])).items() if k in values}
        assert kept == values, group
        if group in ("schedule", "prior", "departures"):
            fresh = dataclasses.asdict(getattr(Protocol(name), group))
        else:
            fresh = agents.settings(AGENTS[protocol.agent.name]()) if group == "agent" else {}
        added = here[group].keys() - values.keys()
        assert {k: here[group][k] for k in added} == {k: fresh[k] for k in added}


def test_the_golden_file_holds_them_all() -> None:
    assert list(GOLDEN) == list(SUITE)
    for task in SUITE:
        assert list(GOLDEN[task]) == ["standard@1", "paper@1", "released@1"]
        frozen = GOLDEN[task] | SECOND.get(task, {})
        assert frozen.keys() == load(task).protocols.keys()
        for groups in frozen.values():
            assert list(groups) == [*GROUPS, "game"]
            assert len({k for group in groups.values() for k in group}) >= 26
