"""Arms times seeds: every seed of an arm trains in one jitted, vmapped program.

The population is laid out over devices (`jax.shard_map`) and, on a CPU, walked in blocks whose
working set stays in cache. Neither changes what a seed computes: a seed's draws depend on its own
key alone, and the block's size, which fixes the order of floating-point sums, does not depend on how
many seeds there are.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import time
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from loro_jax import keys, processes
from loro_jax.errors import UserError
from loro_jax.training.phases import plain, split
from loro_jax.training.world import World
from loro_jax.types import Arm, Knowledge, Phase, Run

AXIS = "seed"

OPTIONS: dict[str, str | bool] = {
    "xla_cpu_copy_insertion_use_region_analysis": True,  # an optimiser's state is changed where it lies
    "xla_cpu_enable_concurrency_optimized_scheduler": False,  # one core has nothing to do side by side
}
"""XLA's, on a CPU; a tenth faster, and to the bit the same (docs/performance.md)."""


def options() -> dict[str, str | bool] | None:
    """What programs of populations are compiled with here."""
    return OPTIONS if jax.default_backend() == "cpu" else None


@dataclasses.dataclass(frozen=True)
class Layout:
    """How seeds lie on the machine. Static.

    Attributes:
        devices: devices that share the seeds evenly.
        block: seeds that one device trains side by side; it walks its blocks in turn.
    """

    devices: int
    block: int

    def padded(self, seeds: int) -> int:
        """Seeds with those added that fill the last block of every device."""
        whole = self.devices * self.block
        return -(-seeds // whole) * whole

    @property
    def mesh(self) -> Mesh:
        auto = (jax.sharding.AxisType.Auto,)
        return jax.make_mesh((self.devices,), (AXIS,), auto, devices=jax.devices()[: self.devices])


def layout(seeds: int, hidden: tuple[int, ...]) -> Layout:
    """Blocks that fit a core's cache on a CPU; all seeds at once on an accelerator.

    On a CPU blocks of 4 to 8 seeds of small networks give the same bits, which fewer or 16 do not; larger
    networks are always trained two by two. One device alone does not give the bits of several either, so all
    are used, however few the seeds are.
    """
    devices = jax.device_count()  # of all processes
    small = sum(a * b for a, b in itertools.pairwise(hidden)) < 10_000  # weights that stay in a core's cache
    if jax.default_backend() != "cpu":
        return Layout(devices, -(-seeds // devices))
    return Layout(devices, max(4, min(8, -(-seeds // devices))) if small else 2)


def begin(
    world: World,
    layout: Layout,
    seed: int,
    seeds: int,
    shared_pretraining: bool,
    first: int = 0,
    known: Knowledge | None = None,
    phases: tuple[Phase, ...] = (),
    arms: int = 1,
) -> Run:
    """The population's start: a `Run` whose leaves have a leading seed axis, placed on its devices.

    Its seeds are `first`, `first` + 1, ... of those whose keys come from `seed`; `known` if it has answers,
    and the `phases` of its arm, whose overrides remember. With several `arms` side by side all seeds come
    once for each.
    """
    indices = first + np.arange(layout.padded(seeds * arms), dtype=np.int32)
    if arms > 1:
        indices = first + (indices - first) % seeds
    return _beginning(world, layout, seed, shared_pretraining, remembering(phases))(indices, known)


def remembering(phases: Sequence[Phase]) -> tuple[Phase, ...]:
    """The first phase of a sentence that is overridden, by which its seeds remember; () if there is none."""
    return tuple(p for p in plain(phases) if getattr(p, "override", None) is not None)[:1]


@lru_cache(maxsize=8)
def _beginning(
    world: World, layout: Layout, seed: int, shared_pretraining: bool, phases: tuple[Phase, ...] = ()
) -> Callable[..., Run]:
    """The compiled part of `begin`, which arms share."""

    def one(index: jax.Array, known: Knowledge | None) -> Run:
        key = keys.of_seed(seed, index)
        return world.begin(key, keys.of_seed(seed, 0) if shared_pretraining else key, known, phases)

    return jax.jit(jax.vmap(one, (0, None)), out_shardings=NamedSharding(layout.mesh, PartitionSpec(AXIS)))


def shared(known: Knowledge) -> Knowledge:
    """Knowledge that every process has, as one array on the devices of all; in one process, as it is."""
    if jax.process_count() == 1:
        return known
    everywhere = NamedSharding(Layout(jax.device_count(), 1).mesh, PartitionSpec())

    def placed(x: jax.Array) -> jax.Array:
        return jax.make_array_from_callback(x.shape, everywhere, lambda index: np.asarray(x)[index])

    return jax.tree.map(placed, known)


def parted(phase: Phase) -> tuple[Phase, list[np.ndarray]]:
    """A phase with zeros in the place of numbers that programs take as arguments, and these numbers.

    Raises:
        UserError: what is in the place of such a number is none.
    """
    found, structure = jax.tree_util.tree_flatten_with_path(phase)
    if jax.tree_util.treedef_is_leaf(structure):  # a phase that has no such numbers
        return phase, []
    if strange := [path for path, _ in found if not all(hasattr(key, "name") for key in path)]:
        name = next(key.name for key in reversed(strange[0]) if hasattr(key, "name"))
        raise UserError(f"{type(phase).__name__}: {name} is one number, not several")
    numbers = [_number(phase, [key.name for key in path], value) for path, value in found]
    return jax.tree.unflatten(structure, [0] * len(numbers)), numbers


def side_by_side(phases: Sequence[Phase], seeds: int, members: int) -> tuple[Phase, list[np.ndarray]]:
    """What `parted` gives for a phase of several arms, which differ in their numbers alone: these by member,
    (members,), of whom the first `seeds` are the first arm's, and so on.

    Raises:
        ValueError: they differ in more.
    """
    parts = [parted(phase) for phase in phases]
    if any(skeleton != parts[0][0] for skeleton, _ in parts):
        raise ValueError("phases side by side differ in more than numbers that are swept")
    arm = np.minimum(np.arange(members) // seeds, len(phases) - 1)
    return parts[0][0], [np.stack(column)[arm] for column in zip(*(n for _, n in parts), strict=True)]


def _number(phase: Phase, path: list[str], value: Any) -> np.ndarray:
    """A number of a phase, at the end of a path of attributes, in the type that its place says."""
    owner = functools.reduce(getattr, path[:-1], phase)
    name, whole = path[-1], path[-1] in getattr(owner, "whole_numbers", ())
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise UserError(
            f"{type(phase).__name__}: {name} = {value!r} is no number that can be swept; a door of one's own"
            " is a frozen dataclass under @swept(), which names its numbers (loro_jax.training.guidance)"
        )
    size = abs(float(value))
    if not math.isfinite(size) or (whole and (size != int(size) or size >= 2**31)):
        kind = "a whole number that 32 bits hold" if whole else "a finite number"
        raise UserError(f"{type(owner).__name__}: {name} is {kind}, not {value!r}")
    if whole:
        return np.asarray(value, np.int32)
    with np.errstate(over="ignore", under="ignore"):
        number = np.asarray(value, np.float32)
    if not np.isfinite(number) or (value and not number):
        raise UserError(f"{type(owner).__name__}: {name} = {value!r} is beyond what float32 holds")
    return number


@partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=3)
def advance(
    phase: Phase,
    world: World,
    layout: Layout,
    runs: Run,
    known: Knowledge,
    numbers: Sequence[jax.Array] = (),
) -> tuple[Run, jax.Array]:
    """One phase for every seed: -> the runs, and the records (seeds, evaluations).

    `numbers`: those of the phase that are traced (`parted`), () each; (seeds,) where arms are side by side.
    """
    own = any(np.ndim(number) for number in numbers)

    def shard(runs: Run, known: Knowledge, numbers: Any) -> tuple[Run, jax.Array]:
        def one(run: Run, numbers: Any) -> tuple[Run, jax.Array]:
            phase = jax.tree.unflatten(jax.tree.structure(skeleton), numbers) if numbers else skeleton
            return phase(run, world, known)

        each = (runs, numbers) if own else runs
        blocks = jax.tree.map(lambda x: x.reshape(-1, layout.block, *x.shape[1:]), each)
        if own:
            outcome = jax.lax.map(lambda block: jax.vmap(one)(*block), blocks)
        else:
            outcome = jax.lax.map(jax.vmap(lambda run: one(run, numbers)), blocks)
        # `map`'s own `batch_size` cannot flatten a record without evaluations: its rows cannot be inferred.
        return jax.tree.map(lambda x: x.reshape(x.shape[0] * x.shape[1], *x.shape[2:]), outcome)

    skeleton, spec, same = phase, PartitionSpec(AXIS), PartitionSpec()
    return jax.shard_map(
        shard, mesh=layout.mesh, in_specs=(spec, same, spec if own else same), out_specs=spec, check_vma=False
    )(runs, known, tuple(numbers))


class Programs:
    """Compiled phases, one for each shape, shared by the arms; and the seconds compiling took."""

    def __init__(self, world: World, layout: Layout) -> None:
        self.world, self.layout = world, layout
        self.compiled: dict[Any, Any] = {}
        self.compile_seconds = 0.0

    def prepare(
        self, phases: Iterable[Phase | Sequence[Phase]], runs: Any, known: Knowledge, seeds: int = 0
    ) -> None:
        """Compiles what is not compiled yet."""
        for phase in phases:
            self._compiled(*_parted(phase, runs, seeds), runs, known)

    def __call__(
        self, phase: Phase | Sequence[Phase], runs: Run, known: Knowledge, seeds: int = 0
    ) -> tuple[Run, np.ndarray]:
        """A phase, or one of several arms that are trained side by side, with so many `seeds` of each."""
        skeleton, numbers = _parted(phase, runs, seeds)
        runs, record = self._compiled(skeleton, numbers, runs, known)(runs, known, numbers)
        return runs, processes.gathered(record)

    def _compiled(self, skeleton: Phase, numbers: Sequence[np.ndarray], runs: Any, known: Knowledge) -> Any:
        """The program of a phase that is `parted`."""
        start, key = time.monotonic(), _key(skeleton, runs, numbers)
        if key not in self.compiled:
            lowered = advance.lower(skeleton, self.world, self.layout, runs, known, numbers)
            self.compiled[key] = lowered.compile(options())
        self.compile_seconds += time.monotonic() - start
        return self.compiled[key]


def _parted(phase: Phase | Sequence[Phase], runs: Any, seeds: int) -> tuple[Phase, list[np.ndarray]]:
    """A phase, or one of several arms, as `parted` and `side_by_side` have them."""
    if isinstance(phase, Sequence):
        return side_by_side(phase, seeds, len(runs.diverged))
    return parted(phase)


def _key(phase: Phase, runs: Any, numbers: Sequence[np.ndarray] = ()) -> Any:
    """Of a program: the phase; what seeds remember, which differs among arms that are overridden; and how
    many members have numbers of their own."""
    memory = getattr(runs.guidance, "memory", ())
    members = [len(number) for number in numbers if np.ndim(number)][:1]
    if memory == () and not members:
        return phase
    return (phase, jax.tree.structure(memory), *members)


def pieces(arm: Arm, interval: int, fit_piece: int = 200) -> list[Phase]:
    """The arm's sentence, cut so that arms share programs and a piece takes seconds."""
    return [part for phase in arm.phases for part in split(phase, interval, fit_piece)]


@dataclasses.dataclass
class Progress:
    """Where an arm's training stands: what a checkpoint holds."""

    done: int
    runs: Run
    records: np.ndarray


def train(
    sentence: Sequence[Phase | Sequence[Phase]],
    programs: Programs,
    start: Progress,
    known: Knowledge,
    after: Callable[[Progress], None] = lambda _: None,
    seeds: int = 0,
) -> Progress:
    """Takes an arm from `start` to its end, or several side by side, a piece of each and so many `seeds` of
    each; `after` sees each piece's outcome, and may stop by raising.

    Returns:
        The end: the runs, and the records of all pieces side by side, (seeds, evaluations).
    """
    progress = start
    for phase in sentence[start.done :]:
        runs, record = programs(phase, progress.runs, known, seeds)
        progress = Progress(
            progress.done + 1, runs, np.concatenate([progress.records, record], axis=1, dtype=np.float32)
        )
        after(progress)
    return progress
