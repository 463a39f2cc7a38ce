"""What agents have in common: settings that are refused by their flag, and how one is fitted to a game."""

from __future__ import annotations

import math

import pytest

from loro_jax import agents
from loro_jax.agents import A2C, AGENTS, DDQN, PPO, SAC
from loro_jax.errors import UserError
from loro_jax.spaces import Box, Discrete

TORQUE = Box((-2.0,), (2.0,))
BOTH = [DDQN, SAC]


@pytest.mark.parametrize("agent", BOTH)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", 0), ("train_frequency", 0), ("replay_capacity", 0), ("replay_capacity", 2**31),
        ("learning_starts", -1), ("learning_starts", 2**31), ("learning_rate", 0.0),
        ("learning_rate", math.nan), ("discount", 1.1), ("epsilon", -0.1), ("hidden", ()), ("hidden", (8, 0)),
    ],
)  # fmt: skip
def test_a_setting_that_cannot_be_is_refused_by_its_flag(agent: type, name: str, value: object) -> None:
    with pytest.raises(UserError, match=rf"^{name} .* \(--{name.replace('_', '-')}\)$"):
        agent(**{name: value})


@pytest.mark.parametrize(
    ("agent", "name", "value"),
    [
        (DDQN, "target_network_frequency", 0), (DDQN, "target_network_frequency", 2**31),
        (DDQN, "huber_delta", 0.0), (DDQN, "huber_delta", math.inf), (DDQN, "huber_delta", math.nan),
        (DDQN, "huber_delta", 1e39), (DDQN, "huber_delta", 1e-46), (DDQN, "polyak", 1e-46),
        (SAC, "polyak", 0.0), (SAC, "polyak", 1.5), (SAC, "polyak", math.nan), (SAC, "polyak", 1e-46),
        (SAC, "initial_temperature", 0.0), (SAC, "initial_temperature", math.inf),
        (SAC, "initial_temperature", 1e39), (SAC, "initial_temperature", 1e-46),
    ],
)  # fmt: skip
def test_so_is_one_of_its_own(agent: type, name: str, value: object) -> None:
    with pytest.raises(UserError, match=rf"^{name} .* \(--{name.replace('_', '-')}\)$"):
        agent(**{name: value})


@pytest.mark.parametrize("agent", [DDQN, SAC])
def test_a_replay_that_never_holds_what_learning_starts_with_is_refused(agent: type) -> None:
    with pytest.raises(UserError, match=r"^learning_starts must be less than replay_capacity"):
        agent(replay_capacity=100, learning_starts=100)
    assert agent(replay_capacity=100, learning_starts=99).learning_starts == 99


def test_an_agent_is_fitted_to_a_games_actions_and_sizes() -> None:
    fitted = SAC(normalise_observations=True).for_game(TORQUE, (1.0, 8.0))
    assert (fitted.actions, fitted.magnitudes) == (TORQUE, (1.0, 8.0))
    assert DDQN().for_game(Discrete(3), (1.0, 8.0)) == DDQN()  # which sees observations as they are
    assert DDQN(normalise_observations=True).for_game(Discrete(3), (2.0,)).magnitudes == (2.0,)


@pytest.mark.parametrize(("agent", "actions"), [(DDQN(), TORQUE), (SAC(), Discrete(3))])
def test_an_agent_that_cannot_choose_among_the_actions_is_refused(agent: DDQN | SAC, actions: object) -> None:
    with pytest.raises(UserError) as refusal:
        agent.for_game(actions)
    assert str(refusal.value) == f"{type(agent).__name__} cannot choose among {actions}; name another agent"


def test_what_follows_from_the_game_is_no_setting() -> None:
    fitted = SAC(normalise_observations=True).for_game(TORQUE, (1.0, 8.0))
    assert agents.settings(fitted) == agents.settings(SAC(normalise_observations=True))
    assert not {"actions", "magnitudes"} & agents.settings(fitted).keys()


def test_agents_go_by_their_names_and_an_untuned_one_fits_the_actions() -> None:
    assert {"ddqn": DDQN, "sac": SAC, "ppo": PPO, "a2c": A2C} == AGENTS
    for actions, agent in ((Discrete(2), DDQN), (TORQUE, SAC)):
        untuned = agents.untuned(actions)
        assert isinstance(untuned, agent)
        assert (untuned.hidden, untuned.learning_rate, untuned.learning_starts) == ((64, 64), 1e-3, 500)
