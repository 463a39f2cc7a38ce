"""Plants faults in the suite and says which are noticed: `python -m benchmarks.regression.faults --help`.

Each run is a process of its own, in which a function of the suite is replaced before anything is compiled;
then `benchmarks.regression` runs as it always does. Clean runs on other keys come first.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

import tyro
from rich.console import Console

from loro_jax import files, progress
from loro_jax.errors import UserError, arguments, run, within

Planted = Callable[[float], AbstractContextManager[Any]]
"""A fault of a size -> the block in which it is there."""


def _sampled(change: Callable[[Any, Any, Any], Any]) -> AbstractContextManager[Any]:
    """Rows that are read, for one step or several, are changed: `change(replay, rows, batch)`."""
    from loro_jax.training import replay

    at = replay.at
    return mock.patch.object(replay, "at", lambda ring, rows: change(ring, rows, at(ring, rows)))


def _stored(change: Callable[[Any, Any], Any]) -> AbstractContextManager[Any]:
    """What is stored while learning online is changed: `change(insertions, transition)`."""
    from loro_jax.training import replay

    push = replay.push
    return mock.patch.object(
        replay, "push", lambda ring, row, *given: push(ring, change(ring.insertions, row), *given)
    )


@contextlib.contextmanager
def _together(*patches: AbstractContextManager[Any]) -> Iterator[None]:
    """Both at once."""
    with contextlib.ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        yield


def _share(place: Any, share: float) -> Any:
    """Whether a row is among the given share, evenly spread over places."""
    import jax.numpy as jnp

    at = jnp.asarray(place, jnp.float32)
    return jnp.floor((at + 1) * share) > jnp.floor(at * share)


def target_one_step_off(share: float) -> AbstractContextManager[Any]:
    """Of a share of the rows, the value that follows is that of the state one step later."""
    import jax.numpy as jnp

    from loro_jax.training import replay

    def change(ring: Any, rows: Any, batch: Any) -> Any:
        later = ring.storage.next_obs[(rows + 1) % replay.capacity(ring)]
        off = _share(rows, share).reshape(-1, *[1] * (later.ndim - 1))
        return batch._replace(next_obs=jnp.where(off, later, batch.next_obs))

    return _sampled(change)


def rewards_of_the_row_before(share: float) -> AbstractContextManager[Any]:
    """Of a share of the rows, the reward is that of the row before: a replay that misaligns rows."""
    import jax.numpy as jnp

    def change(ring: Any, rows: Any, batch: Any) -> Any:
        before = ring.storage.reward[jnp.maximum(rows - 1, 0)]
        actions = ring.storage.action[jnp.maximum(rows - 1, 0)]
        off = _share(rows, share)
        wide = off.reshape(-1, *[1] * (actions.ndim - 1))
        return batch._replace(
            reward=jnp.where(off, before, batch.reward), action=jnp.where(wide, actions, batch.action)
        )

    return _sampled(change)


def discount(factor: float) -> AbstractContextManager[Any]:
    """The discount is this share of what it should be."""
    from loro_jax.agents import ddqn, sac

    error, target = ddqn.td_error, sac.soft_target
    return _together(
        mock.patch.object(
            ddqn, "td_error", lambda q, reward, discount, next_q: error(q, reward, factor * discount, next_q)
        ),
        mock.patch.object(
            sac, "soft_target", lambda reward, discount, *rest: target(reward, factor * discount, *rest)
        ),
    )


def terminations_dropped(share: float) -> AbstractContextManager[Any]:
    """A share of the rows says that nothing terminated."""
    return _stored(lambda place, row: row._replace(terminated=row.terminated & ~_share(place, share)))


def truncations_that_terminate(share: float) -> AbstractContextManager[Any]:
    """In a share of the rows an episode that a limit cut counts as terminated."""
    return _stored(
        lambda place, row: row._replace(terminated=row.terminated | (row.truncated & _share(place, share)))
    )


def steps_lost(share: float) -> AbstractContextManager[Any]:
    """A share of the gradient steps leaves the networks as they were."""
    import jax
    import jax.numpy as jnp

    from loro_jax.agents import DDQN, SAC

    def losing(learn: Any, networks: tuple[str, ...], count: Callable[[Any], Any]) -> Any:
        @functools.wraps(learn)
        def lost(self: Any, state: Any, batch: Any, key: Any, guided: Any = None) -> Any:
            after, loss = learn(self, state, batch, key, guided)
            gone = _share(count(state), share)
            kept = {
                name: jax.tree.map(
                    lambda new, old: jnp.where(gone, old, new), getattr(after, name), getattr(state, name)
                )
                for name in networks
            }
            return after._replace(**kept), loss

        return lost

    of_ddqn = losing(DDQN.learn, ("params",), lambda state: state.steps)
    of_sac = losing(SAC.learn, ("actor", "critics"), lambda state: state.critic_optimiser[0].count)
    return _together(mock.patch.object(DDQN, "learn", of_ddqn), mock.patch.object(SAC, "learn", of_sac))


def epsilon(factor: float) -> AbstractContextManager[Any]:
    """Epsilon is so many times what it should be."""
    import jax.numpy as jnp

    from loro_jax.agents import DDQN

    explore = DDQN.explore

    def often(self: Any, state: Any, obs: Any, key: Any, among: Any = None, epsilon: Any = None) -> Any:
        share = self.epsilon if epsilon is None else epsilon
        return explore(self, state, obs, key, among, jnp.float32(factor * share))

    return mock.patch.object(DDQN, "explore", often)


def entropy_in_targets(share: float) -> AbstractContextManager[Any]:
    """SAC's targets count this share of the entropy term."""
    from loro_jax.agents import sac

    target = sac.soft_target

    def less(reward: Any, discount: Any, next_q: Any, log_prob: Any, temperature: Any) -> Any:
        return target(reward, discount, next_q, log_prob, share * temperature)

    return mock.patch.object(sac, "soft_target", less)


@dataclasses.dataclass(frozen=True)
class Fault:
    """A fault, the size that has to be noticed, and smaller ones, from large to small."""

    says: str
    plant: Planted
    size: float
    smaller: tuple[float, ...] = ()
    none: float = 0.0
    """The size at which nothing is wrong."""


FAULTS = {
    "target": Fault("a target one step off, in a share of the rows", target_one_step_off, 1.0),
    "discount": Fault(
        "a discount of so many times what it is (0.95 for 0.99: 0.96)", discount, 0.95 / 0.99,
        (0.98, 0.99, 0.995, 0.998), none=1.0,
    ),
    "termination": Fault(
        "a share of the terminations dropped", terminations_dropped, 1.0, (0.3, 0.1, 0.03, 0.01)
    ),
    "truncation": Fault("a share of the truncations taken for terminations", truncations_that_terminate, 1.0),
    "optimiser": Fault("a share of the optimiser's steps lost", steps_lost, 0.1),
    "epsilon": Fault("epsilon so many times what it is", epsilon, 2.0, none=1.0),
    "replay": Fault(
        "a share of the rows with the action and reward of the row before", rewards_of_the_row_before, 1.0,
        (0.3, 0.1, 0.03, 0.01),
    ),
    "entropy": Fault("a share left of the entropy term in SAC's targets", entropy_in_targets, 0.0, none=1.0),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Options:
    """Runs clean keys and planted faults, and writes what was noticed."""

    clean: int = 10
    """Clean runs, on keys 1, 2, ..."""
    out: pathlib.Path = pathlib.Path("results/regression/faults.json")
    """File of all runs, and beside it a table of them (.md); those that it has are not run again."""
    only: str = ""
    """One fault; all when not given."""
    plant: str = ""
    """Plant this fault and run `benchmarks.regression` in this process, with the arguments after --."""
    size: float = 1.0
    """Of the fault that is planted."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command; -> its exit status."""
    given = list(sys.argv[1:] if argv is None else argv)
    mine, _, rest = (given, "", []) if "--" not in given else _apart(given)
    options = arguments(
        lambda: tyro.cli(
            Options, prog="python -m benchmarks.regression.faults", description=__doc__, args=mine
        )
    )
    within("--clean", options.clean, 0, 10_000)
    for name in (options.only, options.plant):
        if name and name not in FAULTS:
            raise UserError(f"no fault is called '{name}'; there are: {', '.join(FAULTS)}")
    if options.plant:
        from benchmarks.regression.command import main as regression

        with FAULTS[options.plant].plant(options.size):
            return regression(rest)
    return _all(options)


def _apart(given: list[str]) -> tuple[list[str], str, list[str]]:
    at = given.index("--")
    return given[:at], "--", given[at + 1 :]


def _all(options: Options) -> int:
    """Runs what the file does not hold yet."""
    wanted: list[tuple[str, float, int]] = []
    if not options.only:
        wanted += [("", 0.0, key) for key in range(1, options.clean + 1)]
    for name, fault in FAULTS.items():
        if options.only in ("", name):
            wanted += [(name, size, 1) for size in (fault.size, *fault.smaller)]
    from benchmarks.regression.command import REFERENCE

    against = files.digest(REFERENCE)
    try:
        record = files.read_json(options.out)
    except FileNotFoundError:
        record = {"reference_sha256": against, "runs": []}
    if record.get("reference_sha256") != against:
        raise UserError(f"{options.out}: its runs were held against another {REFERENCE}; move it away")
    done = {(r["fault"], r["size"], r["seed"]) for r in record["runs"]}
    console = Console(stderr=True, highlight=False)
    left = [w for w in wanted if w not in done]
    for name, size, key in progress.track(left, "runs", console):
        found = _one(name, size, key)
        record["runs"].append({"fault": name, "size": size, "seed": key, **found})
        options.out.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(options.out, record)
        console.print(f"{name or 'clean'} {size:g} key {key}: {found['moved']} of {found['rows']} rows moved")
    page = options.out.with_suffix(".md")
    files.write_text(page, markdown(record["runs"]))
    print(f"{len(record['runs'])} runs: {page}")
    return 0


def markdown(runs: Sequence[dict[str, Any]]) -> str:
    """What was noticed, as a page: clean runs, then each fault by size."""
    clean = [r for r in runs if not r["fault"]]
    alarms = sum(r["moved"] > 0 for r in clean)
    lines = [
        "# What the regression benchmark notices", "", "    python -m benchmarks.regression.faults", "",
        f"Clean runs on {len(clean)} other keys: {alarms} raised an alarm"
        f" ({sum(r['moved'] for r in clean)} of {sum(r['rows'] for r in clean)} rows moved).", "",
        "| fault | size | noticed | rows moved | clearest row | p |", "| --- | --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    caught: dict[str, list[float]] = {}
    for name, fault in FAULTS.items():
        for size in (fault.size, *fault.smaller):
            for r in (r for r in runs if (r["fault"], r["size"]) == (name, size)):
                best, noticed = r["clearest"][0], "yes" if r["moved"] else "no"
                lines.append(
                    f"| {fault.says} | {size:.4g} | {noticed} | {r['moved']} of {r['rows']} |"
                    f" {best['case']}, {best['arm']}: {best['reading']} | {best['p']:.1g} |"
                )
                if r["moved"] and fault.smaller:
                    caught.setdefault(name, []).append(size)
    if caught:
        lines += ["", "Smallest size that was noticed, of the faults that were made smaller:", ""]
        for name, sizes in caught.items():
            smallest = min(sizes, key=lambda size: abs(size - FAULTS[name].none))
            lines.append(f"- {FAULTS[name].says}: {smallest:.4g}")
    return "\n".join(lines) + "\n"


def _one(name: str, size: float, key: int) -> dict[str, Any]:
    """A run in a process of its own: how many rows moved, and the clearest of them."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "rows.json"
        asked = ["--no-speed", "--seed", str(key), "--json", str(path)]
        planted = ["-m", "benchmarks.regression.faults", "--plant", name, "--size", str(size), "--"]
        argv = [sys.executable, *(planted if name else ["-m", "benchmarks.regression"]), *asked]
        status = subprocess.run(argv, env=os.environ, stdout=subprocess.DEVNULL).returncode
        if status not in (0, 1):
            raise UserError(f"{name or 'a clean run'} ended with status {status}; why stands above")
        found = files.read_json(path)
    rows = sorted(found["rows"], key=lambda row: row["p"])
    clearest = [{k: row[k] for k in ("case", "arm", "reading", "shift", "p", "moved")} for row in rows[:3]]
    return {"moved": found["moved"], "rows": len(rows), "clearest": clearest, "commit": found.get("commit")}


if __name__ == "__main__":
    run(main)
