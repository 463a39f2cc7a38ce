"""A row as this suite trains it, in a process of its own: `command` starts it (`peers.lines`).

What is timed is a piece of the arm `pure_rl`, as `population.pieces` cuts it, through `population.Programs`.
"""

from __future__ import annotations

import os
import pathlib
import time
from typing import Any

from benchmarks.throughput.peers.lines import peak_memory, say, told_to_go, work

RATE_SECONDS = 0.3


def main() -> None:
    asked = work()
    from loro_jax.running import machine

    machine.start(asked["devices"])
    if asked.get("about"):
        say(**about())
        return
    import jax
    import numpy as np

    from benchmarks.throughput import rates, stages
    from benchmarks.throughput.cases import Case, sizes
    from benchmarks.throughput.work import needed
    from loro_jax.running import experiment
    from loro_jax.training import memory, population
    from loro_jax.training.phases import Collect

    idle = peak_memory()
    e = Case(asked["task"], asked["protocol"], asked["seeds"]).experiment()
    world, agent = e.world, e.world.agent
    layout, wave, waves = memory.divide(world, e.seeds)
    piece = population.pieces(e.arms[0], e.protocol.schedule.eval_interval)[0]
    known = experiment.knowledge(e, world)
    programs = population.Programs(world, layout)
    runs = population.begin(world, layout, e.seed, wave, False)
    programs.prepare([piece], runs, known)
    compile_seconds = programs.compile_seconds
    program = programs.compiled[piece]
    padded = layout.padded(wave)
    observation, actions = sizes(e)
    env = world.environment
    states, of_agent = env.states if env.indexed else 0, memory.size(runs.agent) // padded
    work_ = needed(agent, observation, actions, of_agent, states)  # type: ignore[arg-type]
    # Half of what the replay comes to hold, so that batches are gathered from as much memory as usual.
    fill = max(agent.learning_starts + 1, min(agent.replay_capacity, e.protocol.schedule.budget) // 2)
    runs, _ = programs(Collect(min(fill, agent.replay_capacity), 0, 0), runs, known)
    start = time.perf_counter()
    if asked["warm"]:
        runs, _ = programs(piece, runs, known)
    warm, peak = time.perf_counter() - start, peak_memory()
    say(
        compile_seconds=compile_seconds,
        warm_up_seconds=warm,
        replay_filled=fill,
        layout={"devices": layout.devices, "block": layout.block, "seeds_trained": padded, "waves": waves},
        bytes_a_seed=memory.of_seed(world),
        memory={"idle": idle, "resident": resident(), **_analysis(program.memory_analysis())},
        needed=work_._asdict(),
        one_step=one_step(world, layout.block),
        program=_cost(program),
    )
    counted = min(e.seeds, wave)
    measured = rates.Rates(layout, states or agent.batch_size, (observation, *agent.hidden, actions))
    while told_to_go():
        found = measured.measure(RATE_SECONDS)
        before, pieces, start = steps(runs, counted), 0, time.perf_counter()
        while not pieces or time.perf_counter() - start < asked["seconds"]:
            runs, _ = programs(piece, runs, known)
            pieces += 1
        seconds = time.perf_counter() - start
        env_steps, gradient_steps = steps(runs, counted) - before
        say(
            seconds=seconds,
            env_steps=int(env_steps),
            gradient_steps=int(gradient_steps),
            rates=found,
        )  # fmt: skip
    device = jax.devices()[0].memory_stats() or {}
    if not np.isfinite(np.asarray(jax.tree.leaves(runs.agent)[0])).all():
        raise FloatingPointError("training diverged, so that what was timed is not what is done")
    bandwidth = measured.bandwidth(RATE_SECONDS)
    say(
        peak_memory=peak,
        device_peak_memory=device.get("peak_bytes_in_use"),
        bandwidth=bandwidth,
        stages=stages.profile(programs, piece, runs, known) if asked.get("profile") else None,
    )


def steps(runs: Any, seeds: int) -> Any:
    """Environment and gradient steps so far, of the seeds that were asked for, (2,)."""
    import numpy as np

    counters = runs.counters
    return np.array(
        [np.asarray(c)[:seeds].sum(dtype=np.int64) for c in (counters.env_steps, counters.gradient_steps)]
    )


def one_step(world: Any, block: int) -> dict[str, float | None]:
    """XLA's own count for a gradient step of one seed: of a program of one step of a block, which has no
    loop, since XLA counts the body of a loop once, however often it is run."""
    import jax

    from loro_jax import keys

    key = keys.of_seed(0, 0)
    state = jax.eval_shape(world.begin, key, key).agent
    many = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((world.agent.batch_size, *x.shape), x.dtype), world.example
    )
    block_of = jax.tree.map(lambda x: jax.ShapeDtypeStruct((block, *x.shape), x.dtype), (state, many, key))
    compiled = jax.jit(jax.vmap(world.agent.learn)).lower(*block_of).compile()
    found = _cost(compiled)
    return {k: None if v is None else v / block for k, v in found.items()}


def _cost(compiled: Any) -> dict[str, float | None]:
    """XLA's `cost_analysis` of a program."""
    found = compiled.cost_analysis() or {}
    found = found[0] if isinstance(found, list) else found
    return {"flops": found.get("flops"), "bytes": found.get("bytes accessed")}


def _analysis(found: Any) -> dict[str, int]:
    """XLA's `memory_analysis` of a program, in bytes; empty where it has none."""
    names = ("argument", "output", "alias", "temp") if found is not None else ()
    return {name: int(getattr(found, f"{name}_size_in_bytes")) for name in names}


def resident() -> int | None:
    """Bytes of memory that this process has now, where Linux says so."""
    try:
        pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def about() -> dict[str, Any]:
    """This machine."""
    import numpy as np

    from loro_jax.running import machine

    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]  # type: ignore[index,call-overload]
    return {
        "computed_on": machine.computed_on(), "cores": machine.cores(),
        "blas": f"{blas['name']} {blas['version']}", "numpy": np.__version__,
    }  # fmt: skip


if __name__ == "__main__":
    main()
