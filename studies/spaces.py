"""Which settings the searches of `studies.tune` try, as data."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from loro_jax import files
from loro_jax.errors import UserError
from loro_jax.protocols import Protocol


@dataclasses.dataclass(frozen=True)
class Log:
    """Numbers between two, each factor as likely."""

    low: float
    high: float


Choice = tuple[Any, ...]
Space = dict[str, Log | Choice]

COMMON: Space = {
    "learning_rate": Log(1e-4, 5e-3),
    "learning_rate_decay": (0.0, 0.5, 1.0),
    "learning_rate_left": (0.0, 0.1),
    "batch_size": (32, 64, 128),
    "discount": (0.97, 0.98, 0.99, 0.995),
    "layer_norm": (False, True),
    "n_step": (1, 3, 5),
    "gradient_steps": (1, 2),
    "learning_starts": (100, 500, 1000),
}
DQN: Space = COMMON | {
    "hidden": ("64-64", "256"),
    "target": ("copy 25", "copy 50", "copy 100", "copy 200", "copy 400", "share 0.005", "share 0.01",
               "share 0.02", "share 0.05"),
    "epsilon": (0.01, 0.02, 0.05, 0.1, 0.2),
    "epsilon_decay": (0.0, 0.1, 0.2, 0.4),
    "huber_delta": (1.0, 10.0, 100.0),
}  # fmt: skip
SAC: Space = {k: v for k, v in COMMON.items() if k not in ("n_step",)} | {
    "hidden": ("64-64", "128-128"),
    "polyak": (0.005, 0.01, 0.02, 0.04),
    "initial_temperature": (0.1, 1.0),
    "reward_scale": (0.1, 0.3, 1.0),
    "n_step": (1, 3),
}
LORO: Space = {
    "fit_steps": (300, 1000, 3000, 10_000),
    "fit_learning_rate_factor": (0.1, 0.3, 1.0, 3.0),
}
LORO_COPIED: Space = LORO | {"fit_target_network_frequency": (3, 10, 30, 100, 300)}
LORO_SOFT: Space = LORO | {"fit_polyak": (0.003, 0.01, 0.03, 0.1)}
"""Shares of a learning rate and of the budget are of the protocol's; `present` says how they are read."""


PPO: Space = {
    "learning_rate": Log(1e-4, 5e-3),
    "learning_rate_decay": (0.0, 1.0),
    "learning_rate_left": (0.0, 0.1),
    "discount": (0.95, 0.97, 0.98, 0.99, 0.995),
    "hidden": ("64-64", "256"),
    "gae_lambda": (0.8, 0.9, 0.95, 0.99),
    "rollout": ("8x5", "4x10", "8x10", "4x25", "8x25", "4x50", "2x100", "8x50"),
    "epochs": (2, 4, 8),
    "minibatches": (2, 4),
    "clip": (0.1, 0.2, 0.3),
    "entropy_weight": (0.0, 0.003, 0.01, 0.03, 0.1),
    "reward_scale": (1.0, 5.0),
}

A2C: Space = {k: v for k, v in PPO.items() if k not in ("epochs", "minibatches", "clip")} | {
    "rollout": ("8x5", "4x5", "4x10", "8x10", "4x25", "8x25"),
    "gae_lambda": (0.9, 0.95, 1.0),
    "normalise_advantages": (False, True),
    "optimiser": ("rmsprop", "adam"),
}
ON_POLICY = {"ppo": PPO, "a2c": A2C}
"""By the arm, which is the agent's name."""

WIDER: Space = DQN | {"hidden": ("64-64", "256", "128-128")}
"""For all but two inputs, MountainCar's: more of them need more, and where the network sees every state once,
whatever the batch is, more is cheap as well."""

LEAN: Space = {"hidden": ("64-64",), "batch_size": (32, 64), "gradient_steps": (1,)}
"""In the place of a space's own choices, where a study of many arms has to pay for what is found."""

LEADS: tuple[dict[str, Any], ...] = (
    {"learning_rate": 1e-3, "learning_rate_decay": 1.0, "learning_rate_left": 0.0, "layer_norm": True,
     "n_step": 3, "epsilon": 0.05, "epsilon_decay": 0.1, "target": "share 0.01", "huber_delta": 10.0},
    {"learning_rate": 5e-4, "learning_rate_decay": 1.0, "learning_rate_left": 0.0, "layer_norm": True,
     "n_step": 3, "epsilon": 0.05, "epsilon_decay": 0.1, "target": "share 0.01", "batch_size": 64,
     "discount": 0.97, "hidden": "128-128"},
    {"learning_rate": 1e-3, "learning_rate_decay": 1.0, "learning_rate_left": 0.0, "layer_norm": True,
     "n_step": 3, "epsilon": 0.05, "epsilon_decay": 0.2, "target": "share 0.01", "batch_size": 64,
     "discount": 0.97, "hidden": "128-128"},
)  # fmt: skip
"""Tried before what a search draws, as far as a space has it, all else as it is: what implementations of the
field commonly have on, in two sizes; the second, and in fewer steps the third, did well on Pong by hand."""


LEADS_SAC: tuple[dict[str, Any], ...] = (
    {"learning_rate": 2.77e-3, "learning_rate_decay": 1.0, "learning_rate_left": 0.0, "layer_norm": True,
     "n_step": 1, "batch_size": 128, "discount": 0.99, "polyak": 0.01, "hidden": "64-64"},
)  # fmt: skip
"""SAC's beside them: one step and a learning rate that falls, which ended higher on Pendulum by hand."""


def space(protocol: Protocol, arm: str, inputs: int, lean: bool = False) -> Space:
    """What is tried of an arm, where observations have so many numbers; `lean`: what costs little."""
    if arm in ON_POLICY:
        found = ON_POLICY[arm] | {"rollout": rollouts(protocol, arm)}
    elif arm == "loro":
        found = LORO_SOFT if getattr(protocol.agent, "polyak", 1.0) < 1 else LORO_COPIED
    else:
        found = SAC if protocol.agent.name == "sac" else WIDER if inputs > 2 else DQN
    return found | {k: v for k, v in LEAN.items() if lean and k in found}


def rollouts(protocol: Protocol, arm: str) -> Choice:
    """Games side by side and steps of each between updates, which fit into an evaluation interval."""
    own = f"{protocol.agent.games}x{protocol.agent.rollout}"  # type: ignore[union-attr]
    wanted = ON_POLICY[arm]["rollout"]
    assert isinstance(wanted, tuple)
    fitting = [w for w in wanted if protocol.schedule.eval_interval % math.prod(map(int, w.split("x"))) == 0]
    return tuple(fitting if own in fitting else [own, *fitting])


def first(protocol: Protocol, space: Space) -> list[dict[str, Any]]:
    """What is tried before a search draws: the protocol's own settings, and the leads."""
    own = present(protocol, space)
    wanted = LEADS + (LEADS_SAC if protocol.agent.name == "sac" else ())
    leads = [own | {k: v for k, v in lead.items() if k in space} for lead in wanted]
    leads = [lead for lead in leads if protocol.agent.name not in ON_POLICY]
    return [own, *(lead for lead in leads if all(_within(lead[k], values) for k, values in space.items()))]


def lead(text: str, protocol: Protocol, space: Space) -> dict[str, Any]:
    """What a person wants tried, JSON in the space's words, all else as the protocol has it.

    Raises:
        UserError: it is no JSON object, or outside the space.
    """
    try:
        wanted = files.parse_json(text)
    except (ValueError, RecursionError):
        wanted = None
    if not isinstance(wanted, dict):
        raise UserError(f'--lead takes JSON such as {{"learning_rate": 0.001}}, got {text[:200]!r}')
    for name, value in wanted.items():
        if name not in space:
            raise UserError(f"--lead: the space has no {name!r}; it has: {', '.join(space)}")
        if not _within(value, space[name]):
            raise UserError(f"--lead: {name} {value!r} is outside {described(space)[name]}")
    return present(protocol, space) | wanted


def _within(value: Any, values: Log | Choice) -> bool:
    """Whether a space has a value, a choice in its own type."""
    if isinstance(values, Log):
        return type(value) in (int, float) and values.low <= value <= values.high
    return any(type(value) is type(choice) and value == choice for choice in values)


def described(space: Space) -> dict[str, Any]:
    """A space as JSON."""
    return {k: [v.low, v.high, "log"] if isinstance(v, Log) else list(v) for k, v in space.items()}


def suggested(trial: Any, protocol: Protocol, space: Space) -> Protocol:
    """The protocol with the settings of a space that an Optuna trial suggests."""
    drawn = {
        name: trial.suggest_float(name, values.low, values.high, log=True)
        if isinstance(values, Log)
        else trial.suggest_categorical(name, values)
        for name, values in space.items()
    }
    return read(drawn, protocol)


def read(drawn: dict[str, Any], protocol: Protocol) -> Protocol:
    """The protocol with settings as the space names them: a decay is a share of the budget, what is left of
    the learning rate a share of it, `hidden` and `target` are in words."""
    settings = dict(drawn)
    budget = protocol.schedule.budget
    if "learning_rate" in settings:
        settings["learning_rate"] = float(f"{settings['learning_rate']:.3g}")
    left = settings.pop("learning_rate_left", 0.0)
    if "learning_rate_decay" in settings:
        decay = settings.pop("learning_rate_decay")
        settings["learning_rate_decay_steps"] = round(decay * budget)
        rate = settings.get("learning_rate", protocol.agent.learning_rate)
        settings["learning_rate_end"] = float(f"{rate * left:.3g}") if decay else 0.0
    if "epsilon_decay" in settings:
        settings["epsilon_decay_steps"] = round(settings.pop("epsilon_decay") * budget)
    if "hidden" in settings:
        settings["hidden"] = tuple(int(width) for width in settings["hidden"].split("-"))
    if "rollout" in settings:
        settings["games"], settings["rollout"] = map(int, settings["rollout"].split("x"))
    if "target" in settings:
        kind, value = settings.pop("target").split()
        copies = {"target_network_frequency": int(value), "polyak": 1.0} if kind == "copy" else {}
        settings |= copies or {"target_network_frequency": 1, "polyak": float(value)}
    if factor := settings.pop("fit_learning_rate_factor", 0.0):
        settings["fit_learning_rate"] = float(f"{protocol.agent.learning_rate * factor:.3g}")
    return protocol.replace(**settings)


def present(protocol: Protocol, space: Space) -> dict[str, Any]:
    """A protocol's own settings as the space names them, the nearest choice where it has none of them."""
    agent: Any = protocol.agent
    shares = {
        "learning_rate_decay": agent.learning_rate_decay_steps / protocol.schedule.budget,
        "learning_rate_left": agent.learning_rate_end / agent.learning_rate,
        "epsilon_decay": getattr(agent, "epsilon_decay_steps", 0) / protocol.schedule.budget,
    }
    found: dict[str, Any] = {}
    for name, values in space.items():
        if name == "hidden":
            wanted: Any = "-".join(map(str, agent.hidden))
        elif name == "rollout":
            wanted = f"{agent.games}x{agent.rollout}"
        elif name == "target":
            copied = agent.polyak == 1
            wanted = f"copy {agent.target_network_frequency}" if copied else f"share {agent.polyak}"
        elif name in shares:
            wanted = shares[name]
        else:
            wanted = getattr(agent, name)
        if isinstance(values, Log):
            found[name] = min(max(wanted, values.low), values.high)
        elif wanted in values:
            found[name] = wanted
        elif isinstance(wanted, str):
            found[name] = values[0]
        else:
            found[name] = min(values, key=lambda v: abs(v - wanted))
    return found
