"""Episodes in Minari's format: `python -m loro_jax.interchange.minari --help`.

A dataset of this suite has rows, each with the state after it; Minari has one observation more than actions
in each episode. Both say the same where an episode's rows follow from each other, which is checked.
"""

# Annotations are evaluated here, so that the command shows them.

import dataclasses
import os
import pathlib
import re
import sys
import warnings
from typing import Any

import numpy as np
import tyro
from rich.console import Console

from loro_jax import errors, progress
from loro_jax.data import episodes
from loro_jax.data.episodes import Episodes
from loro_jax.errors import EpisodeError, UserError
from loro_jax.spaces import Box, Discrete, Space
from loro_jax.tasks import load

ID = re.compile(r"(?:[\w-][\w/-]*[\w-]+/)?[\w-]+-v\d+", re.ASCII)
"""Of a Minari dataset: names without points, with slashes between them, and a version."""


def export(data: Episodes, actions: Space, out: pathlib.Path, name: str) -> pathlib.Path:
    """Writes a dataset into a folder of Minari datasets; -> where it lies, `out`/`name`.

    Args:
        data: true transitions of whole episodes.
        actions: the task's.
        out: what `MINARI_DATASETS_PATH` is to name when it is loaded.
        name: Minari's name of it, such as loro-jax/cartpole/my-episodes-v0.

    Raises:
        UserError: Minari is not installed, the name is none, something lies there, or it cannot be written.
        EpisodeError: the rows of an episode do not follow from each other.
    """
    minari = _minari()
    if not ID.fullmatch(name):
        raise UserError(f"--name is such as loro-jax/cartpole/my-episodes-v0, got {name!r}")
    where = out / name
    if where.exists():
        raise UserError(f"{where}: exists; give --out another folder, or --name another version")
    buffers = [_buffer(minari, data, i) for i in range(len(data.episode_lengths))]
    shape = data.transitions.obs.shape[1:]
    before = os.environ.get("MINARI_DATASETS_PATH")
    try:
        out.mkdir(parents=True, exist_ok=True)
        os.environ["MINARI_DATASETS_PATH"] = str(out.resolve())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of links and addresses that it would like to have
            minari.create_dataset_from_buffers(
                name,
                buffers,
                algorithm_name=str(data.card.get("model", {}).get("name", "")) or "unknown",
                observation_space=_box(np.full(shape, -np.inf), np.full(shape, np.inf)),
                action_space=_space(actions),
                description=described(data),
            )
    except OSError as error:
        raise UserError(f"{where}: cannot be written ({error.strerror or error})") from None
    finally:
        if before is None:
            os.environ.pop("MINARI_DATASETS_PATH", None)
        else:
            os.environ["MINARI_DATASETS_PATH"] = before
    return where


def described(data: Episodes) -> str:
    """What Minari's reader is told: what was played, by whom, and which dataset of the suite it is."""
    card = data.card
    who, how = card.get("model", {}).get("name"), card.get("prompt", {}).get("name")
    said = f"{card['environment']}, {len(data.episode_lengths)} episodes"
    said += f", played by {who}" if who else ""
    said += f" ({how})" if how else ""
    return f"{said}. Written by loro_jax of its dataset {data.name}, arrays {episodes.digest(data)}."


def _minari() -> Any:
    try:
        import h5py  # noqa: F401  (Minari's own format, which it imports when it writes)
        import minari
    except ImportError:
        raise UserError("Minari is not installed: pip install 'loro_jax[minari]'") from None
    return minari


def _buffer(minari: Any, data: Episodes, place: int) -> Any:
    """One episode as Minari takes it."""
    from minari.data_collector import EpisodeBuffer

    end, length = int(data.ends[place]), int(data.episode_lengths[place])
    t = type(data.transitions)(*(np.asarray(x[end - length : end]) for x in data.transitions))
    if not np.array_equal(t.obs[1:], t.next_obs[:-1]):
        raise EpisodeError(
            f"{data.name}: rows of episode {place} do not follow from each other; Minari has"
            " whole episodes of true transitions alone"
        )
    done = t.terminated | t.truncated
    if done[:-1].any():
        raise EpisodeError(f"{data.name}: episode {place} ends before its last row")
    return EpisodeBuffer(
        id=place,
        observations=np.concatenate([t.obs, t.next_obs[-1:]]),
        actions=t.action,
        rewards=t.reward.astype(np.float64),
        terminations=t.terminated,
        truncations=t.truncated,
    )


def _space(actions: Space) -> Any:
    from gymnasium import spaces

    if isinstance(actions, Discrete):
        return spaces.Discrete(actions.n)
    assert isinstance(actions, Box)
    return _box(np.asarray(actions.low), np.asarray(actions.high))


def _box(low: np.ndarray, high: np.ndarray) -> Any:
    from gymnasium import spaces

    return spaces.Box(low.astype(np.float32), high.astype(np.float32), dtype=np.float32)


@dataclasses.dataclass(frozen=True)
class Options:
    """Writes a dataset of LLM episodes in Minari's format."""

    dataset: tyro.conf.Positional[str]
    """A dataset: a folder with card.json and episodes.npz, or the name of a shipped one."""
    out: pathlib.Path
    """Folder for Minari datasets, which MINARI_DATASETS_PATH then names."""
    task: str = "cartpole"
    """What the episodes were played in."""
    name: str = ""
    """Minari's name of it; by default loro-jax/TASK/DATASET-v0."""


def main(argv: list[str] | None = None) -> int:
    """The command; -> its exit status."""
    prog = "python -m loro_jax.interchange.minari"
    options = errors.arguments(lambda: tyro.cli(Options, prog=prog, description=__doc__, args=argv))
    task = load(options.task)
    env = task.environment()
    folder = episodes.resolve(options.dataset, task.name)
    data = episodes.load(folder, task.name, env.observation_shape, env.action_space)
    name = options.name or f"loro-jax/{task.name}/{re.sub('[^A-Za-z0-9_-]', '_', data.name)}-v0"
    with progress.waiting(Console(stderr=True, highlight=False), f"writing {name}"):
        export(data, env.action_space, options.out, name)
    print(f"wrote {options.out / name}; MINARI_DATASETS_PATH={options.out} minari.load_dataset({name!r})")
    return 0


if __name__ == "__main__":
    sys.exit(errors.command(main))
