"""What is wrong with a task, in words, for whoever writes one: `python -m loro_jax.check FILE.py:NAME`."""

from __future__ import annotations

import pathlib
import traceback
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from loro_jax.errors import UserError
from loro_jax.spaces import Discrete
from loro_jax.tasks.actions import Spoken
from loro_jax.tasks.base import Environment, Task, legal_of
from loro_jax.tasks.rollout import Recorded, recorded, uniform
from loro_jax.tasks.words import Description

EPISODES = 64
STEPS = 2000
"""Steps of a check's episodes at most."""
NUMBERS = 50_000_000
"""Of observations that a check keeps at once at most."""
LARGE = 10.0
"""Observations beyond this are far from one, which networks learn badly from."""


class Finding(NamedTuple):
    """One line of a check. A `problem` keeps the task from running or makes its results wrong; a `note` is
    worth knowing; `ok` says what was looked at."""

    kind: Literal["problem", "note", "ok"]
    says: str


def problem(says: str) -> Finding:
    return Finding("problem", says)


def note(says: str) -> Finding:
    return Finding("note", says)


def ok(says: str) -> Finding:
    return Finding("ok", says)


class Played(Recorded):
    """Episodes of a uniform policy, numpy: the fields of `Recorded` with a leading axis of episodes."""

    @property
    def visited(self) -> np.ndarray:
        """Observations in which an action was taken, (N, *obs)."""
        return self.obs[:, :-1][self.played]

    @property
    def returns(self) -> np.ndarray:
        return np.where(self.played, self.rewards, 0.0).sum(axis=1)


def check_task(task: Task) -> list[Finding]:
    """Everything that can be said of `task` without training, in the order in which to mend it.

    >>> from loro_jax.tasks import load
    >>> [finding for finding in check_task(load("frozen_lake")) if finding.kind == "problem"]
    []
    """
    findings: list[Finding] = []
    try:
        env = task.environment()
    except Exception as error:
        return [problem(f"the game cannot be made: {_why(error)}")]
    findings += _rules(env)
    if any(f.kind == "problem" for f in findings):
        return findings
    masks = [*_mask(env)]
    if masks:
        return findings + masks
    played = play(env)
    masks = [*_legal(env, played)]
    findings += masks
    if any(f.kind == "problem" for f in masks):
        return findings  # what was played is not this game
    findings += [
        *_episodes(env, played),
        *_levels(env, played),
        *_words(task, env, played),
    ]
    findings += [*_reference(task, env, played), *_restore(task, env, played), *_protocols(task, env)]
    return findings


def _why(error: BaseException) -> str:
    """An error in words, and the line of the stranger's own code in which it arose."""
    text = " ".join(str(error).split())[:300]
    if isinstance(error, UserError):
        return text
    ours = (str(pathlib.Path(__file__).parent.parent), str(pathlib.Path(jax.__file__).parent))
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(ours)]
    where = f" at {frames[-1].filename}:{frames[-1].lineno}, `{frames[-1].line}`" if frames else ""
    if isinstance(error, jax.errors.ConcretizationTypeError | jax.errors.TracerBoolConversionError):
        return (
            "a Python `if`, `while`, `int()` or `and` depends on an array; inside JAX write jnp.where,"
            f" jax.lax.while_loop and `&`{where}"
        )
    if isinstance(error, NotImplementedError) and not text:
        text = f"{frames[-1].name} is not implemented" if frames else "a method is not implemented"
    return f"{type(error).__name__}: {text}{where}"


def _rules(env: Environment) -> Iterator[Finding]:
    """Whether reset and step can be compiled, and give what the suite needs."""
    key = jax.random.key(0)
    try:
        space = env.action_space
        shape = env.observation_shape
    except Exception as error:
        yield problem(f"its spaces cannot be read: {_why(error)}")
        return
    if env.limit < 1:
        yield problem(f"its limit is {env.limit}; an episode needs at least one step")
        return
    try:
        obs, state = jax.eval_shape(env.reset, key)
    except Exception as error:
        yield problem(f"reset cannot be compiled: {_why(error)}")
        return
    if obs.shape != shape:
        yield problem(f"reset gives an observation of shape {obs.shape}; the game declares {shape}")
    action = jax.ShapeDtypeStruct(space.shape, space.dtype)
    try:
        after, later, reward, terminated, _ = jax.eval_shape(env.step, key, state, action)
    except Exception as error:
        yield problem(f"step cannot be compiled: {_why(error)}")
        return
    if after.shape != shape:
        yield problem(f"step gives an observation of shape {after.shape}; the game declares {shape}")
    for name, value in (("reward", reward), ("terminated", terminated)):
        if value.shape != ():
            yield problem(f"step's {name} has shape {value.shape}; one number is needed, ()")
    try:
        begun, anew = jax.eval_shape(env.anew, key, state)
    except Exception as error:
        yield problem(f"again cannot be compiled: {_why(error)}")
        return
    if begun.shape != shape:
        yield problem(f"again gives an observation of shape {begun.shape}; the game declares {shape}")
    different = [
        f"{name} changes the form of the state: {how}; a compiled loop needs the same parts, shapes and types"
        f" in reset and {name} (jnp.int32(0), jnp.float32(0.0) where the other gives these)"
        for name, given in (("step", later), ("again", anew))
        if (how := _structure(state, given, name)) is not None
    ]
    if different:
        yield problem(different[0])
    else:
        yield ok(f"observations {shape}, actions {space}, limit {env.limit}; reset and step compile")


def _structure(before: Any, after: Any, name: str) -> str | None:
    """How the state that `name` gives differs from reset's; None where it does not."""
    a, b = (str(jax.tree.structure(x)) for x in (before, after))
    if a != b:
        return f"its parts are others: {a} in reset, {b} in {name}"[:300]
    leaves = zip(jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True)
    for (path, x), y in leaves:
        if (x.shape, x.dtype) != (y.shape, y.dtype):
            return f"{jax.tree_util.keystr(path)} is {x.dtype}{x.shape} and becomes {y.dtype}{y.shape}"
    return None


def play(env: Environment, episodes: int = EPISODES) -> Played:
    """Uniform episodes, side by side, to their end or `STEPS`; fewer where observations are large."""
    size = max(int(np.prod(env.observation_shape)), 1)
    steps = max(2, min(env.limit, STEPS, NUMBERS // size // 2))
    episodes = max(2, min(episodes, NUMBERS // (steps * size)))

    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(0), i))(jnp.arange(episodes))
    played = jax.jit(jax.vmap(lambda key: recorded(env, uniform(env), key, steps)))(keys)
    return Played(*map(np.asarray, played))


def _episodes(env: Environment, p: Played) -> Iterator[Finding]:
    lengths = p.played.sum(axis=1)
    seen, rewards = p.obs[:, 1:][p.played], p.rewards[p.played]
    for name, values in (("observation", seen), ("reward", rewards)):
        if not np.isfinite(values).all():
            yield problem(f"uniform play meets a {name} that is infinite or NaN")
            return
    ended = (p.terminated & p.played).any(axis=1)
    cut = (p.truncated & p.played).any(axis=1)
    if p.played.shape[1] >= env.limit and (~ended & ~cut).any():
        yield problem(f"episodes go on past their limit of {env.limit} steps")
    yield ok(
        f"uniform play, {len(lengths)} episodes: {lengths.mean():.4g} steps, return"
        f" {p.returns.mean():.4g} +- {p.returns.std(ddof=1):.2g} (SD); {ended.mean():.0%} terminated,"
        f" {cut.mean():.0%} reached the limit",
    )
    if not (rewards != rewards[:1]).any():
        yield note(f"every reward of uniform play was {rewards[0]:g}: nothing to learn was seen")
    if env.states:
        if (seen.sum(axis=-1) != 1).any():
            yield problem(f"an observation is not from 0 to {env.states - 1} (states={env.states})")
    elif seen.size and np.abs(seen).max() > LARGE and not env.magnitudes:
        yield note(
            f"observations reach {np.abs(seen).max():.4g}: networks learn better near one; give"
            " magnitudes, and run with --normalise-observations",
        )
    if env.magnitudes and (len(env.magnitudes),) != env.observation_shape:
        yield problem(
            f"magnitudes has {len(env.magnitudes)} entries; observations are {env.observation_shape}",
        )
    elif env.magnitudes and min(env.magnitudes) <= 0:
        yield problem("magnitudes must be positive")


def _mask(env: Environment) -> Iterator[Finding]:
    """Whether the mask is one, and can be compiled."""
    if env.legal is None:
        return
    try:
        jax.eval_shape(env.allowed, env.blank)
    except UserError as error:
        yield problem(str(error))
    except Exception as error:
        yield problem(f"legal cannot be compiled: {_why(error)}")


def _legal(env: Environment, p: Played) -> Iterator[Finding]:
    """Whether there is always an action to take."""
    if env.legal is None:
        return
    space = env.action_space
    assert isinstance(space, Discrete)
    seen = jnp.asarray(p.visited[:STEPS])
    masks = np.asarray(jax.jit(jax.vmap(env.legal))(seen))
    if not masks.any(axis=1).all():
        yield problem(
            f"no action is legal in the observation {seen[int(masks.any(axis=1).argmin())].tolist()}"
        )
    else:
        never = np.flatnonzero(~masks.any(axis=0)).tolist()
        yield ok(f"{masks.sum(axis=1).mean():.3g} of {space.n} actions are legal, on average")
        if never:
            yield note(f"uniform play never met a state in which the actions {never} are legal")


def _levels(env: Environment, p: Played) -> Iterator[Finding]:
    random = float(p.returns.mean())
    if env.threshold is None:
        yield note("no threshold: tables leave out the steps to it")
    elif random >= env.threshold:
        yield note(f"uniform play already has {random:.4g}, and the threshold is {env.threshold:g}")
    if env.best is None:
        yield note("no best known return: scores over several tasks cannot be scaled with this one")
    else:
        if env.threshold is not None and env.best < env.threshold:
            yield problem(f"best is {env.best:g}, below the threshold of {env.threshold:g}")
        if random >= env.best:
            yield problem(f"uniform play has {random:.4g}, and best says {env.best:g}")


def _words(task: Task, env: Environment, p: Played) -> Iterator[Finding]:
    from loro_jax.language import prompts

    if (words := task.words) is None:
        yield note("no words: no language model can play it; arms without LLM episodes run")
        return
    texts: set[str] = set()
    for obs in p.visited[:STEPS]:
        try:
            fields = words.tell(obs, [])
        except Exception as error:
            yield problem(f"words fail on the observation {obs.tolist()}: {_why(error)}")
            return
        if set(fields) != set(words.names):
            yield problem(f"words tell {sorted(fields)}; words.names lists {sorted(words.names)}")
            return
        if wrong := [k for k, v in fields.items() if not isinstance(v, str)]:
            yield problem(f"words.history gives no text for {', '.join(wrong)}")
            return
        texts.add("|".join(fields[k] for k in sorted(fields)))
    yield ok(f"{len(texts)} different descriptions in {min(len(p.visited), STEPS)} steps")
    yield from _fields(words, list(p.visited[:STEPS]))
    yield from _listed(words, env, p.visited[:STEPS])
    yield from _reader(words, env)
    names = prompts.available(task)
    if not names:
        yield problem("no prompts: give Task(prompts={'cot': TEXT}), or a folder of .txt files")
    for name in names:
        try:
            prompt = prompts.load(task, name)
        except UserError as error:
            yield problem(str(error))
            continue
        if "action:" not in (prompt.text).lower():
            yield note(f"prompt '{name}' never asks for a line 'Action: ...', which is what is read")
        asked = prompt.head + prompt.tail(words.tell(p.visited[0], []))
        yield ok(f"prompt '{name}': {len(asked)} characters, {len(prompt.head)} of them the same always")
    if names and not {"cot", "direct"} & set(names):
        yield note(f"no prompt is called cot or direct: name one with --prompt {names[0]}")


def _fields(words: Description, observations: Sequence[np.ndarray]) -> Iterator[Finding]:
    """Whether a field's place is the same in a compiled program, where tables of answers are looked up."""
    seen = np.stack(observations)
    for field in words.fields:
        try:
            compiled = np.asarray(jax.jit(jax.vmap(lambda obs, of=field.index: jnp.asarray(of(obs))))(seen))
        except Exception as error:
            yield problem(f"words' field '{field.name}': JAX cannot trace its index: {_why(error)}")
            continue
        plain = np.array([int(field.index(obs)) for obs in seen])
        if compiled.shape != plain.shape or (compiled != plain).any():
            yield problem(f"words' field '{field.name}': its index is another one in a compiled program")
        elif plain.min() < 0 or plain.max() >= len(field.values):
            beyond = plain[(plain < 0) | (plain >= len(field.values))][0]
            yield problem(
                f"words' field '{field.name}' has {len(field.values)} values, and its index is {beyond} for"
                " an observation that was met"
            )


def _listed(words: Description, env: Environment, observations: np.ndarray) -> Iterator[Finding]:
    """Whether a field that lists actions lists those that there are."""
    if not isinstance(space := env.action_space, Discrete):
        return
    masks = legal_of(env, observations)
    for field in words.fields:
        if not field.legal:
            continue
        if beyond := [a for told in field.legal for a in told if not 0 <= a < space.n]:
            yield problem(f"words' field '{field.name}' lists the action {beyond[0]}, of {space.n}")
            continue
        for obs, mask in zip(observations, masks, strict=True):
            place = int(field.index(obs))
            if 0 <= place < len(field.legal) and set(field.legal[place]) != set(np.flatnonzero(mask)):
                yield problem(
                    f"words' field '{field.name}' lists the actions {list(field.legal[place])}; legal are"
                    f" {np.flatnonzero(mask).tolist()} in the observation {obs.tolist()}"
                )
                break


def _reader(words: Description, env: Environment) -> Iterator[Finding]:
    reader, space = words.reader, env.action_space
    numbers = np.random.default_rng(0).integers(0, 2**31, 1000)
    try:
        drawn = np.array([reader.random(int(n)) for n in numbers])
        drawn = drawn.reshape(-1, *space.shape).astype(space.dtype)
    except Exception as error:
        yield problem(f"words.reader draws no action with random(n): {_why(error)}")
        return
    if any(field.legal for field in words.fields) and not hasattr(reader, "among"):
        yield problem(
            "words.reader has no among(legal), by which answers are read where texts list the actions"
        )
    if why := space.refuses(drawn):
        yield problem(f"words.reader names actions that the game does not have: {why}")
    if isinstance(space, Discrete) and isinstance(reader, Spoken):
        for i, word in enumerate(reader.words):
            if reader.read(f"Action: {word}") != reader.action(i):
                yield problem(f"words.reader does not read its own word '{word}'")
        if missing := sorted(set(range(space.n)) - set(drawn.tolist())):
            yield note(f"no word stands for the actions {missing}: a language model cannot take them")


def _reference(task: Task, env: Environment, p: Played) -> Iterator[Finding]:
    from loro_jax.tasks import reference

    if task.reference is None:
        return
    try:
        wanted = reference.preferences(task, p.visited[:100])
    except Exception as error:
        yield problem(f"the reference policy fails: {_why(error)}")
        return
    space = env.action_space
    rows = min(100, len(p.visited))
    shape = (rows, space.n) if isinstance(space, Discrete) else (rows, *space.shape)
    if np.shape(wanted) != shape:
        yield problem(f"the reference gives {np.shape(wanted)}; {shape} is needed")
        return
    if isinstance(space, Discrete) and not (wanted.dtype == bool and wanted.any(axis=1).all()):
        yield problem("the reference must give a mask, bool, with at least one action in each row")
        return
    if isinstance(space, Discrete) and env.legal is not None:
        asked = np.asarray(task.reference(np.asarray(p.visited[:100], np.float64)))  # type: ignore[misc]
        without = ~(asked & legal_of(env, p.visited[:100])).any(axis=1)
        if without.any():
            where = p.visited[int(without.argmax())].tolist()
            yield problem(f"the reference takes an action that is not legal in the observation {where}")
            return
    level = reference.returns(task, min(task.reference_episodes, 32)).mean()
    found = ok if level > p.returns.mean() else note
    yield found(f"the reference policy's return is {level:.4g}; uniform play has {p.returns.mean():.4g}")


def _restore(task: Task, env: Environment, p: Played) -> Iterator[Finding]:
    if (restore := task.restore) is None:
        return
    rows = p.visited[:: max(1, len(p.visited) // 50)][:50]

    def after(obs: jax.Array) -> Any:
        return env.step(jax.random.key(0), restore(env, obs, jnp.int32(1)), _any(env))

    shown = jax.jit(jax.vmap(after))
    try:
        if not np.isfinite(np.asarray(shown(rows)[0])).all():
            yield problem("restore gives states from which a step is not finite")
    except Exception as error:
        yield problem(f"restore fails: {_why(error)}")


def _any(env: Environment) -> jax.Array:
    return env.action_space.sample(jax.random.key(1))


def _protocols(task: Task, env: Environment) -> Iterator[Finding]:
    try:
        known = task.settings()
    except UserError as error:
        yield problem(str(error))
        return
    for name, protocol in known.items():
        if protocol.name != name:
            yield problem(f"the protocol '{protocol.name}' stands under the name '{name}'")
        try:
            task.under(protocol)
            protocol.agent.for_game(env.action_space, env.magnitudes)
        except UserError as error:
            yield problem(f"protocol {name}: {error}")
    tuned = "" if task.protocols else " (none of its own: untuned settings)"
    yield ok(f"protocols: {', '.join(known)}{tuned}")
