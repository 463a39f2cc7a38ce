"""The offline dataset: one folder with `card.json` and `episodes.npz`, checked on every load.

`episodes.npz` holds true transitions, episode after episode: `observations` and `next_observations`
(N, *obs) float32, `actions` (N,) int32 or (N, k) float32, `rewards` (N,) float32, `terminated` and
`truncated` (N,) bool, and `episode_lengths` (E,). `card.json` says where they come from, and holds
`environment`, `alignment`, the arrays' SHA-256 and its own (`files.sealed`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from loro_jax import files
from loro_jax import shipped as places
from loro_jax.data import cards
from loro_jax.errors import EpisodeError, UserError
from loro_jax.spaces import Space
from loro_jax.types import Transition

ARRAYS = ("observations", "actions", "rewards", "next_observations", "terminated", "truncated")
ALIGNMENTS = ("true", "released")
RANDOM_SHARE = 0.05
"""Share of actions drawn at random from which on a dataset is said not to be the model's own play alone.

Small next to what a model's play differs by, and above the accidents of one that can be read; in CartPole
episodes of 20 steps, one step of each."""
JOURNAL = "journal.jsonl"
"""What a collection, or a survey, keeps beside its files until it is done."""
SHIPPED = places.folder("results/episodes")
COLLECTED = pathlib.Path("results") / "episodes"
"""Where a collection goes that is told nothing else: below the working directory, which may be a checkout."""


@dataclasses.dataclass(frozen=True)
class Episodes:
    """E episodes of N steps in all, as numpy arrays, with their card."""

    transitions: Transition
    episode_lengths: np.ndarray
    card: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.card.get("name", "unnamed"))

    @property
    def ends(self) -> np.ndarray:
        """Row after each episode's last, (E,)."""
        return np.cumsum(self.episode_lengths)

    @property
    def returns(self) -> np.ndarray:
        """Undiscounted return of each episode as it was played, (E,).

        The card's `episode_returns` come first: a change of alignment loses rows, but not what an
        episode was worth.
        """
        if (known := self.card.get("episode_returns")) is not None:
            return np.asarray(known, np.float64)
        rewards = self.transitions.reward.astype(np.float64)
        return np.add.reduceat(rewards, self.ends - self.episode_lengths)

    def first(self, episodes: int) -> Episodes:
        """The first `episodes` episodes; asking for more than there are is an `EpisodeError`."""
        if episodes > len(self.episode_lengths):
            raise EpisodeError(
                f"{self.name}: holds {len(self.episode_lengths)} episodes, but tau asks for {episodes};"
                " collect more or lower --tau"
            )
        rows = int(self.episode_lengths[:episodes].sum())
        card = {**self.card, "episode_returns": self.returns[:episodes].tolist()}
        transitions = Transition(*(a[:rows] for a in self.transitions))
        return Episodes(transitions, self.episode_lengths[:episodes], card)


def digest(episodes: Episodes) -> str:
    """SHA-256 over the arrays' names, shapes, types and bytes; independent of compression."""
    h = hashlib.sha256()
    for name, array in _arrays(episodes).items():
        h.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        h.update(np.ascontiguousarray(array).tobytes())
    return h.hexdigest()


def save(episodes: Episodes, folder: pathlib.Path) -> None:
    """Writes `episodes.npz` and `card.json` into `folder`, each atomically, the card last."""
    folder.mkdir(parents=True, exist_ok=True)
    episodes = _from_arrays(_arrays(episodes), episodes.card)
    card = {**episodes.card, **_measured(episodes), "arrays_sha256": digest(episodes)}
    files.write_npz(folder / "episodes.npz", _arrays(episodes))
    files.write_json(folder / "card.json", files.sealed(card))


def _measured(episodes: Episodes) -> dict[str, Any]:
    """What a card says of its arrays."""
    returns = episodes.returns
    return {
        "episodes": len(episodes.episode_lengths),
        "steps": int(episodes.episode_lengths.sum()),
        "returns": {
            "mean": float(returns.mean()),
            "std": float(returns.std(ddof=1)) if len(returns) > 1 else 0.0,
            "min": float(returns.min()),
            "median": float(np.median(returns)),
            "max": float(returns.max()),
        },
    }


def stopped(folder: pathlib.Path) -> str:
    """What to do about files in `folder` that do not fit together, where that is known; else nothing."""
    return "; the command that was stopped here goes on" if (folder / JOURNAL).exists() else ""


def load(folder: pathlib.Path, environment: str, obs_shape: tuple[int, ...], actions: Space) -> Episodes:
    """The episodes in `folder`, checked; an `EpisodeError` says which file is wrong and why."""
    card_path, path = folder / "card.json", folder / "episodes.npz"
    for file in (card_path, path):
        if not file.is_file():
            what = "a dataset is a folder with card.json and episodes.npz"
            raise EpisodeError(f"{file}: no such file; {what}{stopped(folder)}")
    try:
        card = files.read_json(card_path)
    except UserError as error:
        raise EpisodeError(error) from None
    if card.get("environment") != environment:
        raise EpisodeError(f"{card_path}: episodes of '{card.get('environment')}', not of '{environment}'")
    if card.get("alignment", "true") not in ALIGNMENTS:
        raise EpisodeError(f"{card_path}: alignment '{card['alignment']}' is none of {', '.join(ALIGNMENTS)}")
    try:
        arrays = files.read_npz(path, (*ARRAYS, "episode_lengths"))
    except UserError as error:
        raise EpisodeError(error) from None
    _check(path, arrays, obs_shape, actions)
    known = card.get("episode_returns")
    if known is not None and not _numbers(known, len(arrays["episode_lengths"])):
        raise EpisodeError(f"{card_path}: episode_returns does not have one number for each episode")
    episodes = _from_arrays(arrays, {"name": folder.name, **card})
    expected = card.get("arrays_sha256")
    if expected is not None and expected != digest(episodes):
        raise EpisodeError(
            f"{path}: its arrays are not those that {card_path.name} was written for{stopped(folder)}"
        )
    _check_card(card_path, card, episodes)
    return episodes


def _check_card(path: pathlib.Path, card: Mapping[str, Any], episodes: Episodes) -> None:
    """Refuses a card that says of its episodes what they are not, or that was changed since it was written.

    The arrays' hash covers neither the alignment nor `episode_returns`, which decide results too: a card that
    has one of the two, and a hash, has to be sealed. A stranger's, without any hash, is taken at its word.
    """
    try:
        cards.check(path, card)
    except UserError as error:
        raise EpisodeError(error) from None
    if files.SEAL in card or "arrays_sha256" not in card:
        return
    if card.get("alignment", "true") != "true" or "episode_returns" in card:
        raise EpisodeError(
            f"{path}: no hash says that its alignment and episode_returns are as they were written"
            f" ({files.SEAL}); convert the episodes again"
        )
    found = _measured(episodes)
    said = {k: card[k] for k in found if k in card}
    if not cards.same(said, {k: found[k] for k in said}):
        raise EpisodeError(
            f"{path}: its numbers of episodes, steps and returns are not those of {path.parent}"
        )


def warnings(card: Mapping[str, Any]) -> list[str]:
    """What a reader of results from this dataset should know of it, a sentence each; empty if all is well.

    Says nothing of what a card does not hold, or not as a collection writes it.
    """
    found: list[str] = []
    answers = card.get("answers")
    share = answers.get("random_action_share") if isinstance(answers, Mapping) else None
    if share is not None and not (type(share) in (int, float) and 0 <= share <= 1):
        found.append(
            "how many of the prior data's actions were drawn at random is not known: its card is damaged"
            " (card.json: answers.random_action_share)"
        )
    elif share is not None and share >= RANDOM_SHARE:
        found.append(
            f"{100 * share:.3g} % of the prior data's actions were drawn at random, since the model's answers"
            " could not be read (card.json: answers.random_action_share)"
        )
    if card.get("complete", True) is not True:
        found.append(
            "the prior data is of a collection that is not complete (card.json: complete);"
            " the card's command goes on with it"
        )
    return found


def resolve(name: str, environment: str) -> pathlib.Path:
    """A path as it is; or the folder of a dataset by its name, one's own (`COLLECTED`) before a shipped one.

    An `EpisodeError` lists the shipped names.
    """
    for folder in (pathlib.Path(name), COLLECTED / environment / name, SHIPPED / environment / name):
        if folder.is_dir():
            return folder
    raise EpisodeError(f"no episodes at '{name}'; shipped are: {', '.join(shipped(environment)) or 'none'}")


def shipped(environment: str) -> list[str]:
    """Names of the datasets that come with the suite."""
    return sorted(card.parent.name for card in (SHIPPED / environment).glob("*/card.json"))


def _arrays(episodes: Episodes) -> dict[str, np.ndarray]:
    t = episodes.transitions
    columns = (t.obs, t.action, t.reward, t.next_obs, t.terminated, t.truncated)
    return dict(zip(ARRAYS, columns, strict=True)) | {"episode_lengths": episodes.episode_lengths}


def _from_arrays(arrays: dict[str, np.ndarray], card: dict[str, Any]) -> Episodes:
    """Episodes with the contract's types, which the digest is taken of."""
    kind = np.int32 if arrays["actions"].ndim == 1 else np.float32  # vectors are continuous actions
    types = (np.float32, kind, np.float32, np.float32, np.bool_, np.bool_)
    columns: list[np.ndarray] = [arrays[name].astype(kind) for name, kind in zip(ARRAYS, types, strict=True)]
    return Episodes(Transition(*columns), arrays["episode_lengths"].astype(np.int64), card)


def _numbers(values: Any, count: int) -> bool:
    """`values` is a list of `count` finite numbers."""
    if not isinstance(values, list) or len(values) != count:
        return False
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    return numbers and all(abs(v) <= float(np.finfo(np.float32).max) for v in values)  # NaN is not


def _check(
    path: pathlib.Path, arrays: dict[str, np.ndarray], obs_shape: tuple[int, ...], actions: Space
) -> None:
    """Refuses arrays that cannot be transitions of this environment."""

    def refuse(why: str) -> None:
        raise EpisodeError(f"{path}: {why}")

    lengths = arrays["episode_lengths"]
    if lengths.ndim != 1 or not np.issubdtype(lengths.dtype, np.integer) or len(lengths) == 0:
        refuse("episode_lengths must be a list of integers, one per episode")
    if (lengths < 1).any():
        refuse("an episode has no steps")
    rows = sum(int(n) for n in lengths)  # numpy's own sum can wrap around
    shapes: dict[str, tuple[int, ...]] = {name: (rows,) for name in ARRAYS}
    shapes["observations"] = shapes["next_observations"] = (rows, *obs_shape)
    shapes["actions"] = (rows, *actions.shape)
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            refuse(f"{name} has shape {arrays[name].shape}, expected {shape}")
        if arrays[name].dtype.kind not in "fiub":
            refuse(f"{name} has type {arrays[name].dtype}, expected numbers")
        # Beyond float32's range a value would become infinite below; NaN fails the comparison as well.
        if not (np.abs(arrays[name].astype(np.float64)) <= np.finfo(np.float32).max).all():
            refuse(f"{name} holds values that are not finite as float32")
    for name in ("terminated", "truncated"):
        if not np.isin(arrays[name], (0, 1)).all():
            refuse(f"{name} must hold flags, true or false")
    if why := actions.refuses(arrays["actions"]):
        refuse(why)
    last = np.zeros(rows, bool)
    last[np.cumsum(lengths) - 1] = True
    if ((arrays["terminated"].astype(bool) | arrays["truncated"].astype(bool)) & ~last).any():
        refuse("an episode goes on after it terminated or was truncated")
    inner = np.flatnonzero(~last)
    if not np.array_equal(arrays["next_observations"][inner], arrays["observations"][inner + 1]):
        refuse("within an episode, next_observations is not the following row's observations")
