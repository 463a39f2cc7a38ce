"""What ran, as JSON that ages: a schema, and comparison by meaning.

A run's identity holds every setting by its group. Two identities are compared after `upgraded` has put both
into the newest schema, and a setting that one of them does not name has its default there: a field that is
added later, with a default that changes nothing, does not orphan older runs. Only what needs a
`Protocol` imports JAX: `identify`, `agent_of`, `protocol_of`, `other_settings`, `differences`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from loro_jax.errors import UserError, line

if TYPE_CHECKING:
    from loro_jax.protocols import Protocol
    from loro_jax.tasks import Task
    from loro_jax.types import Arm

SCHEMA = 2
GROUPS = ("schedule", "agent", "prior", "departures", "game")
"""Of settings; one that a run does not name has its defaults."""

# Schema 1 held the settings flat, under other names, and left out what an agent or a game did not use.
OF_SCHEMA_1 = {
    "schedule": {
        "budget": "budget", "eval_every": "eval_interval", "eval_episodes": "eval_episodes",
        "eval_limit": "eval_limit", "reset_each_chunk": "reset_each_interval",
    },
    "agent": {
        "hidden": "hidden", "learning_rate": "learning_rate", "batch_size": "batch_size",
        "discount": "discount", "epsilon": "epsilon", "train_every": "train_frequency",
        "warmup": "learning_starts", "replay_capacity": "replay_capacity",
        "normalise_observations": "normalise_observations", "target_interval": "target_network_frequency",
        "soft_update": "polyak", "initial_temperature": "initial_temperature", "exploration": "exploration",
        "action_range": "action_range",
    },
    "prior": {"tau": "tau", "fit_steps": "fit_steps", "charge": "charge"},
    "departures": {
        "alignment": "alignment", "chained_repeats": "chained_repeats",
        "pretrain_target_interval": "pretrain_target_frequency", "limits_terminal": "limits_terminal",
        "shared_pretraining": "shared_pretraining", "keep_baseline_data": "keep_baseline_data",
        "drop_cut": "drop_cut",
    },
    "game": {"drop_first_half": "drop_first_half"},
}  # fmt: skip
GAME_DEFAULTS = {"drop_first_half": False}  # schema 1 named it also where it was off


def identify(
    task: Task,
    protocol: Protocol,
    seeds: int,
    seed: int,
    episodes: dict[str, Any] | None,
    arms: tuple[Arm, ...],
    first: int = 0,
    answers: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The identity of a run. The file that a stranger's task comes from is part of it, by its
    SHA-256 when the task was loaded."""
    from loro_jax import protocols

    settings = {name: protocol.group(name) for name in protocols.GROUPS} | {"game": dict(protocol.game)}
    settings["agent"] = {"name": protocol.agent.name, **settings["agent"]}
    own = {arm.name: _agent(arm.agent) for arm in arms if arm.agent is not None}
    return {
        "schema": SCHEMA,
        "task": task.name,
        **({"task_sha256": task.file_sha256} if task.file_sha256 else {}),
        "protocol": protocol.name,
        "settings": settings,
        "seeds": seeds,
        **({"first_seed": first} if first else {}),
        "seed": seed,
        "episodes": episodes,
        **({"answers": answers} if answers else {}),
        "arms": {arm.name: [repr(phase) for phase in arm.phases] for arm in arms},
        **({"agents": own} if own else {}),
    }


def _agent(agent: Any) -> dict[str, Any]:
    """An arm's own agent, the suite's or a stranger's: its name and settings."""
    left_out = getattr(agent, "of_game", ())
    fields = [f.name for f in dataclasses.fields(agent) if f.name not in left_out]
    return {"name": getattr(agent, "name", type(agent).__name__), **{k: getattr(agent, k) for k in fields}}


def agent_of(identity: Mapping[str, Any], arm: str) -> Any:
    """What an arm learned with, not yet fitted to its game: the protocol's agent, or its own.

    Raises:
        UserError: it names an agent or a setting that this version does not know.
    """
    from loro_jax.agents import AGENTS

    own = dict((upgraded(identity).get("agents") or {}).get(arm) or {})
    if not own:
        return protocol_of(identity).agent
    name = own.pop("name", "")
    if name not in AGENTS:
        raise UserError(f"the arm {arm} is of the agent '{name}', which this version does not know")
    settings: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in own.items()}
    try:
        return AGENTS[name](**settings)
    except TypeError as error:
        raise UserError(f"the agent of {arm} is damaged ({_short(error)})") from None


def upgraded(identity: Any) -> dict[str, Any]:
    """The identity in the newest schema.

    Raises:
        UserError: it is of a schema that this version does not know, is damaged, or no identity at all.
    """
    if not isinstance(identity, Mapping) or not identity:
        raise UserError("its identity is missing: nobody knows what it is of")
    schema = identity.get("schema", 1)
    if schema == SCHEMA and not isinstance(schema, bool):
        return _sound(identity)
    if schema != 1:
        raise UserError(f"its identity has schema {schema!r}, which this version of loro_jax does not read")
    if not isinstance(identity.get("protocol"), dict) or "benchmark" not in identity:
        raise UserError("its identity is damaged")
    flat = identity["protocol"]
    settings: dict[str, dict[str, Any]] = {
        group: {new: flat[old] for old, new in names.items() if old in flat}
        for group, names in OF_SCHEMA_1.items()
    }
    settings["agent"]["name"] = "sac" if "polyak" in settings["agent"] else "ddqn"
    settings["game"] = {k: v for k, v in settings["game"].items() if v != GAME_DEFAULTS[k]}
    found = {
        "schema": SCHEMA,
        "task": identity["benchmark"],
        "protocol": f"{flat.get('name')}@1",
        "settings": settings,
        **{k: identity[k] for k in ("seeds", "seed", "episodes") if k in identity},
        "arms": identity.get("arms") or {},
    }
    sound = _sound(found)
    return sound | {"arms": {name: [_renamed(p) for p in arm] for name, arm in sound["arms"].items()}}


def _sound(identity: Mapping[str, Any]) -> dict[str, Any]:
    """An identity of the newest schema; a `UserError` names what of it cannot be."""

    def whole(name: str, least: int) -> bool:
        value = identity.get(name, least)
        return isinstance(value, int) and not isinstance(value, bool) and value >= least

    settings, arms, card = (identity.get(name) for name in ("settings", "arms", "episodes"))
    problems = {
        "task": not isinstance(identity.get("task"), str),
        "protocol": not isinstance(identity.get("protocol"), str),
        "settings": not isinstance(settings, Mapping)
        or not all(isinstance(group, Mapping) for group in settings.values()),
        "seeds": not whole("seeds", 1),
        "first_seed": not whole("first_seed", 0),
        "seed": not whole("seed", 0),
        "episodes": card is not None and not isinstance(card, Mapping),
        "answers": not isinstance(identity.get("answers", {}), Mapping),
        "arms": not isinstance(arms, Mapping)
        or not all(isinstance(v, list) and all(isinstance(p, str) for p in v) for v in arms.values()),
        "agents": not isinstance(identity.get("agents", {}), Mapping),
    }
    if wrong := [name for name, is_wrong in problems.items() if is_wrong]:
        raise UserError(f"its identity is damaged ({', '.join(wrong)}); restore it, or run it again")
    return dict(identity)


def _renamed(phase: str) -> str:
    """A phase as schema 1 wrote it, in today's words."""
    if found := re.fullmatch(r"Collect\((steps=\d+, episodes=\d+), chunks=(\d+), alignment='(\w+)'\)", phase):
        word = "ShiftedCollect" if found[3] == "released" else "Collect"
        return f"{word}({found[1]}, evaluations={found[2]})"
    return phase


def protocol_of(identity: Mapping[str, Any]) -> Protocol:
    """The settings that a run had, as a `Protocol`.

    Raises:
        UserError: it names a setting or an agent that this version does not know, or is damaged.
    """
    from loro_jax.agents import AGENTS
    from loro_jax.protocols import Protocol

    now = upgraded(identity)
    try:
        groups = {name: dict(values) for name, values in now["settings"].items()}
        agent = groups.get("agent", {}).pop("name", "ddqn")
        if agent not in AGENTS:
            raise UserError(f"the run is of the agent '{agent}', which this version does not know")
        base = Protocol(now["protocol"], agent=AGENTS[agent]())  # type: ignore[arg-type]
        flat: dict[str, Any] = {}
        for name, values in groups.items():
            if name == "game":
                continue
            if foreign := set(values) - set(base.group(name)):
                raise UserError(f"it has a setting '{min(foreign)}', which this version does not know")
            flat |= values
        return base.replace(game=groups.get("game", {}), **flat)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"its identity is damaged ({type(error).__name__}: {_short(error)})") from None


def other_settings(there: Mapping[str, Any], protocol: Protocol) -> list[str]:
    """In what the settings of a run differ from `protocol`, a phrase each."""
    ran = protocol_of(there)
    found = [] if ran.name == protocol.name else [f"protocol {ran.name} there, {protocol.name} here"]
    before, now = ran.flat(), protocol.flat()
    found += [
        f"{k} {_short(v)} there, {_short(now.get(k))} here" for k, v in before.items() if v != now.get(k)
    ]
    if ran.game != protocol.game:
        found.append(f"game {_short(dict(ran.game))} there, {_short(dict(protocol.game))} here")
    return found


def differences(there: Any, here: Mapping[str, Any]) -> list[str]:
    """In what two runs differ, a phrase each, settings that one does not name having their defaults."""
    if not isinstance(there, Mapping):
        return ["what is there names no run"]
    try:
        before, now = _flat(there), _flat(here)
    except UserError as error:
        return [str(error)]
    except (AttributeError, KeyError, TypeError, ValueError):
        return ["its identity is damaged"]
    names = [*before, *(k for k in now if k not in before)]
    return [
        f"{name} {_short(before.get(name))} there, {_short(now.get(name))} here"
        for name in names
        if before.get(name) != now.get(name)
    ]


def _flat(identity: Mapping[str, Any]) -> dict[str, Any]:
    """An identity as a flat dictionary of JSON's types, defaults filled in."""
    from loro_jax.agents import AGENTS

    now = upgraded(identity)
    protocol = protocol_of(identity)
    rows: dict[str, Any] = {"task": now["task"], "protocol": protocol.name, "agent": protocol.agent.name}
    rows |= {k: list(v) if isinstance(v, tuple) else v for k, v in protocol.flat().items()}
    rows |= {f"game.{k}": list(v) if isinstance(v, tuple) else v for k, v in protocol.game}
    rows |= {"task's file": now.get("task_sha256"), "seeds": now.get("seeds"), "seed": now.get("seed")}
    rows["first_seed"] = now.get("first_seed", 0)
    for k, v in (now.get("episodes") or {}).items():
        rows[f"episodes.{k}"] = v
    for k, v in (now.get("answers") or {}).items():
        rows[f"answers.{k}"] = v
    rows |= {f"arms.{name}": phases for name, phases in now["arms"].items()}
    for arm, own in (now.get("agents") or {}).items():
        known = own.get("name") in AGENTS  # whose defaults are known, too
        settings = _agent(agent_of(identity, arm)) if known else own
        rows |= {f"agents.{arm}.{k}": list(v) if isinstance(v, tuple) else v for k, v in settings.items()}
    return rows | {"arms": list(now["arms"])}


def _short(value: Any) -> str:
    """A value in one line of no more than a few words."""
    said = line(" ".join(str(value).split()), most=1000)
    return said if len(said) <= 60 else f"{said[:57]}..."
