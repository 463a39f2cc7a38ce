"""`loro_jax.check` says in words what is wrong with a task, whatever it is."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import loro_jax as lj
from loro_jax import check
from loro_jax.tasks import NAMES, load
from loro_jax.tasks.base import legal_of
from loro_jax.tasks.check import check_task

ROOT = pathlib.Path(__file__).parent.parent.parent
LADDER = f"{ROOT / 'examples' / 'ladder.py'}:TASK"
KEY = f"{ROOT / 'examples' / 'key.py'}:TASK"
PROMPT = 'You are in {place}.\nWrite "Action: left" or "Action: right".'


def reset(key: Any) -> Any:
    place = jax.random.randint(key, (), 0, 3)
    return jnp.float32(place)[None], place


def step(key: Any, place: Any, action: Any) -> Any:
    place = jnp.clip(place + 2 * action - 1, 0, 5)
    return jnp.float32(place)[None], place, jnp.where(place == 5, 1.0, -0.1), place == 5


def task(
    reset: Any = reset, step: Any = step, words: Any = None, prompts: Any = None, **more: Any
) -> lj.Task:
    given: dict[str, Any] = {"observation_shape": (1,), "actions": lj.Discrete(2), "limit": 20} | more
    others = {k: given.pop(k) for k in ("reference", "restore", "protocols") if k in given}
    game = lj.environment(reset, step, **given)
    return lj.Task("walk", game, words=words, prompts=prompts, **others)


def words(describe: Any = lambda obs, life: {"place": str(int(obs[0]))}, **more: Any) -> lj.Description:
    given: dict[str, Any] = {"names": ("place",), "reader": lj.Words(("left", "right"))} | more
    return lj.Description((), given["reader"], history=describe, history_names=given["names"])


SIDED = lj.Field("place", ("here", "there"), lambda obs: 1 if obs[0] > 1 else 0)


LISTED = lj.Field("place", ("left, right",), lambda obs: obs[0].astype(np.int32) * 0, ((0, 1),))


class Own:
    """A reader of a stranger's own, which has words of its own kind, and no `among`."""

    words = ("left", "right")

    def __init__(self, drawn: Any) -> None:
        self.drawn = drawn

    def read(self, answer: str) -> int | None:
        return None

    def grammar(self, begun: str) -> str:
        return ""

    def settle(self, actions: Any) -> int:
        return 0

    def random(self, number: int) -> Any:
        return self.drawn


def problems(found: lj.Task) -> list[str]:
    return [f.says for f in check_task(found) if f.kind == "problem"]


QUICK = ("frozen_lake",)


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in NAMES]
)
def test_the_suites_own_tasks_are_sound(name: str) -> None:
    assert problems(load(name)) == []


def test_the_example_with_legal_moves_is_sound() -> None:
    """Nothing wrong, its reference among the legal actions, and its options those of the mask."""
    key = load(KEY)
    assert problems(key) == []
    seen = np.array([(place, carried) for place in range(6) for carried in (0, 1)], np.float32)
    assert key.reference is not None
    wanted, masks = np.asarray(key.reference(seen)), legal_of(key.environment(), seen)
    assert (wanted <= masks).all() and wanted.any(axis=1).all()
    options = next(f for f in key.words.fields if f.name == "options")  # type: ignore[union-attr]
    assert [set(options.legal[options.index(obs)]) for obs in seen] == [
        set(np.flatnonzero(mask)) for mask in masks
    ]


@pytest.mark.slow
def test_arms_with_a_prior_run_on_the_example() -> None:
    """With a perfect table one answer is enough, untrained: every seed fetches the key and opens the door."""
    key = load(KEY)
    perfect = lj.answers_from_policy(lambda obs: key.reference(obs).argmax(axis=1), key)  # type: ignore[misc]
    arms = ("dqn_prior", "kl_prior", "cql_prior")
    result = lj.run(key, arms, answers=perfect, proposals="own", seeds=2, budget=400, tau=1, fit_steps=2,
                    learning_starts=50, progress=False)  # fmt: skip
    assert (result.returns.sel(arm="dqn_prior").values > 0.75).all()
    assert (result.flat["cql_prior"] > 0.75).all()


def test_a_sound_task_with_words_has_no_problem() -> None:
    found = check_task(task(words=words(), prompts={"cot": PROMPT}, threshold=0.5, best=0.8))
    assert {f.kind for f in found} == {"ok"}, found
    assert any("prompt 'cot'" in f.says for f in found)


def branching(key: Any, place: Any, action: Any) -> Any:
    if place > 0:
        action = 1
    return step(key, place, action)


def nan_later(key: Any, place: Any, action: Any) -> Any:
    obs, after, reward, ended = step(key, place, action)
    return obs, after, jnp.where(after == 4, jnp.nan, reward), ended


def wider(key: Any, place: Any, action: Any) -> Any:
    obs, after, reward, ended = step(key, place, action)
    return jnp.concatenate([obs, obs]), after, reward, ended


def lifts(key: Any, place: Any, action: Any) -> Any:
    obs, after, reward, ended = step(key, place, action)
    return obs, jnp.float32(after), reward, ended


def two_rewards(key: Any, place: Any, action: Any) -> Any:
    obs, after, reward, ended = step(key, place, action)
    return obs, after, jnp.stack([reward, reward]), ended


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (task(step=branching), "a Python `if`, `while`, `int()` or `and` depends on an array"),
        (task(step=nan_later), "uniform play meets a reward that is infinite or NaN"),
        (task(step=wider), "step gives an observation of shape (2,); the game declares (1,)"),
        (task(step=lifts), "step changes the form of the state"),
        (task(step=two_rewards), "step's reward has shape (2,); one number is needed"),
        (task(again=lambda key, place: 1 / 0), "again cannot be compiled: ZeroDivisionError"),
        (task(again=lambda key, place: jnp.zeros(2)), "again cannot be compiled: TypeError: again returns"),
        (task(again=lambda key, place: (jnp.zeros(2), place)), "again gives an observation of shape (2,)"),
        (task(again=lambda key, place: (jnp.zeros(1), 0.5)), "again changes the form of the state"),
        (task(step=lambda key, place: None), "step cannot be compiled: TypeError"),
        (task(reset=lambda key: 1 / 0), "reset cannot be compiled: ZeroDivisionError"),
        (task(observation_shape=(3,)), "reset gives an observation of shape (1,); the game declares (3,)"),
        (task(threshold=0.5, best=0.2), "best is 0.2, below the threshold of 0.5"),
        (task(best=-50.0), "and best says -50"),
        (task(magnitudes=(1.0, 2.0)), "magnitudes has 2 entries; observations are (1,)"),
        (task(magnitudes=(0.0,)), "magnitudes must be positive"),
        (task(words=words(), prompts={"cot": "Where? {room}"}), "unknown placeholder {room}"),
        (task(words=words(), prompts={"cot": "Where?"}), "names no placeholder"),
        (task(words=words(), prompts={}), "no prompts: give Task(prompts="),
        (task(words=words(names=("place", "mood")), prompts={"cot": PROMPT}), "words.names lists"),
        (task(words=words(lambda obs, life: {"place": 3}), prompts={"cot": PROMPT}), "no text for place"),
        (
            task(words=lj.Description((SIDED,), lj.Words(("left", "right"))), prompts={"cot": PROMPT}),
            "words' field 'place': JAX cannot trace its index: a Python `if`",
        ),
        (task(words=words(lambda obs, life: 1 / 0), prompts={"cot": PROMPT}), "words fail"),
        (
            task(words=words(reader=lj.Words(("a", "b", "c"))), prompts={"cot": PROMPT}),
            "words.reader names actions that the game does not have: actions must be whole numbers from 0",
        ),
        (task(words=words(reader=None), prompts={"cot": PROMPT}), "words.reader draws no action"),
        (task(words=words(reader=Own(None)), prompts={"cot": PROMPT}), "words.reader draws no action"),
        (
            task(words=lj.Description((LISTED,), Own(0)), prompts={"cot": PROMPT}),
            "words.reader has no among(legal)",
        ),
        (task(reference=lambda obs: np.zeros(3)), "the reference gives (3,)"),
        (
            task(reference=lambda obs: np.zeros((len(obs), 2), bool)),
            "must give a mask, bool, with at least one",
        ),
        (task(reference=lambda obs: 1 / 0), "the reference policy fails: ZeroDivisionError"),
        (task(restore=lambda env, obs, time: None), "restore fails"),
        (
            task(protocols={"a@1": lj.Protocol("b@1")}),
            "the protocol 'b@1' stands under the name 'a@1'",
        ),
        (
            task(protocols={"a@1": lj.Protocol("a@1", agent=lj.SAC())}),
            "SAC cannot choose among Discrete(n=2)",
        ),
        (
            lj.Task("walk", lambda: 1 / 0),  # type: ignore[arg-type,return-value]
            "the game cannot be made: walk: its game cannot be made",
        ),
    ],
    ids=lambda x: x[:40] if isinstance(x, str) else "",
)
def test_what_is_wrong_is_said(broken: lj.Task, says: str) -> None:
    found = problems(broken)
    assert any(says in problem for problem in found), found
    assert all("\n" not in problem for problem in found)


def test_states_out_of_range_are_noticed() -> None:
    def start(key: Any) -> Any:
        return jnp.int32(0), jnp.int32(0)

    def go(key: Any, place: Any, action: Any) -> Any:
        place = place + action
        return place, place, jnp.float32(0), place > 12

    found = problems(task(start, go, observation_shape=(), states=4))
    assert found == ["an observation is not from 0 to 3 (states=4)"]


def test_notes_say_what_is_worth_knowing() -> None:
    def far(key: Any, place: Any, action: Any) -> Any:
        obs, after, reward, ended = step(key, place, action)
        return 100 * obs, after, jnp.zeros_like(reward), ended

    notes = " ".join(f.says for f in check_task(task(step=far)) if f.kind == "note")
    for says in ("networks learn better near one", "nothing to learn was seen", "no words", "no threshold"):
        assert says in notes


@pytest.mark.slow
def test_the_command_trains_a_sound_task_for_a_moment(capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main([LADDER]) == 0
    said = capsys.readouterr().out
    assert "ddqn trains: two seeds return" in said and said.endswith("ladder: ready\n")


def test_the_command_refuses_a_broken_task(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With status 1."""
    source = (ROOT / "examples" / "ladder.py").read_text()
    (tmp_path / "broken.py").write_text(source.replace("climbed = rung +", "climbed = 1 / 0 +"))
    assert check.main([f"{tmp_path / 'broken.py'}:TASK"]) == 1
    said = capsys.readouterr().out
    assert "problem: step cannot be compiled: ZeroDivisionError" in said and "to mend" in said


def test_the_example_is_short_and_its_best_cannot_be_beaten() -> None:
    """Four jumps are the shortest way, and three of them cost a twentieth each."""
    assert len((ROOT / "examples" / "ladder.py").read_text().splitlines()) < 80
    env = load(LADDER).environment()
    assert env.best == pytest.approx(1 - 3 * 0.05)
    with pytest.raises(lj.UserError, match="a task's name is lower-case"):
        dataclasses.replace(load(LADDER), name="My Ladder")


def masked(legal: Any, **more: Any) -> lj.Task:
    """The walk, of which the way to the left is not legal in the first place."""
    return task(legal=legal, **more)


def step_or_stay(obs: Any) -> Any:
    return jnp.stack([obs[0] > 0, jnp.bool_(True)])


def test_masks_are_looked_at_first() -> None:
    """And where they are wrong nothing is said of what was played."""
    assert problems(masked(step_or_stay)) == []
    wrong = {
        "a mask is needed": lambda obs: jnp.ones(3, bool),
        "legal cannot be compiled: a Python `if`": lambda obs: step_or_stay(obs) if obs[0] > 0 else None,
        "no action is legal in the observation": lambda obs: jnp.stack([obs[0] > 1, obs[0] > 0]),
    }
    for says, legal in wrong.items():
        found = check_task(masked(legal))
        assert [f.kind for f in found] == ["ok", "problem"] and says in found[-1].says, found


def test_a_reference_that_takes_what_is_not_legal_is_found() -> None:
    def left(obs: np.ndarray) -> np.ndarray:
        return np.tile([True, False], (len(obs), 1))

    (said,) = problems(masked(step_or_stay, reference=left))
    assert said == "the reference takes an action that is not legal in the observation [0.0]"


def test_a_list_of_actions_is_held_against_the_mask() -> None:
    def listed(*legal: tuple[int, ...]) -> list[str]:
        field = lj.Field("options", ("right", "both"), lambda obs: (obs[0] > 0).astype("int32"), legal)
        described = lj.Description((field,), lj.Words(("left", "right")))
        return problems(masked(step_or_stay, words=described, prompts={"cot": "Action: x\n{options}"}))

    assert listed((1,), (0, 1)) == []
    (said,) = listed((0, 1), (0, 1))
    assert said.startswith(
        "words' field 'options' lists the actions [0, 1]; legal are [1] in the observation"
    )
    (said,) = listed((1,), (0, 9))
    assert said == "words' field 'options' lists the action 9, of 2"
