"""The command: options, the reference, and what is said."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import math
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import tyro
from rich.console import Console

from benchmarks.regression import verdict
from benchmarks.regression.cases import CASES, NAME, REFERENCE_KEYS, Case
from loro_jax import files, progress
from loro_jax.errors import UserError, arguments, within
from loro_jax.running import machine

REFERENCE = pathlib.Path("results/regression/reference.json")
TIMED_RUNS = 8
"""Processes whose speeds the reference has."""
SCHEMA = 1
LONGEST = 50.0
"""Logarithms of times beyond this are no times."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Trains a small fixed set of runs and says whether learning, or speed, is what it was."""

    seed: int = 1
    """Key of the run: any but the reference's."""
    json: pathlib.Path | None = None
    """File for every row, for machines."""
    junit: pathlib.Path | None = None
    """File for every row as a test case, for CI."""
    update: str | None = None
    """Write a new reference, for this REASON, which it keeps: one sentence that says why learning is meant to
    have changed."""
    reference: pathlib.Path = REFERENCE
    """The reference."""
    speed: bool = True
    """Time training beside a kernel too, where the reference was timed on a machine like this one."""


DESCRIPTION = """\
Exit status: 0 nothing moved; 1 something did, and a table names it; 2 the run could not be compared.

examples:
  python -m benchmarks.regression
  python -m benchmarks.regression --junit regression.xml --no-speed
  python -m benchmarks.regression --update "Adam's epsilon is 1e-5 now"

results/regression/README.md says what is noticed, and how large a fault has to be.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command; -> its exit status."""
    options = arguments(
        lambda: tyro.cli(
            Options, prog="python -m benchmarks.regression", description=DESCRIPTION,
            args=list(sys.argv[1:] if argv is None else argv),
        )
    )  # fmt: skip
    within("--seed", options.seed, 0, 2**31 - 1)
    if options.seed in REFERENCE_KEYS:
        raise UserError(f"--seed {options.seed} is a key of the reference; take another")
    before = None if options.update is not None else read(options.reference)
    reasons = _outputs(options)
    machine.start()
    from benchmarks.regression.measure import Prepared

    console = Console(stderr=True, highlight=False)
    cases = [Prepared(case) for case in CASES]
    if options.update is not None:
        return update(options, reasons, cases, console)
    assert before is not None
    for prepared in cases:
        if changed := prepared.changed(before["cases"][prepared.case.task]["identity"]):
            raise UserError(
                f"{prepared.case.task} is not what {options.reference} is of ({'; '.join(changed[:2])}); the"
                " set is frozen: undo the change, or --update REASON"
            )
    began, compiling = time.monotonic(), _compiling()
    found = trained(cases, options.seed, console)
    kept = {case: of["arms"] for case, of in before["cases"].items()}
    if gone := unread(found, kept):
        raise UserError(
            f"{options.reference} has readings that are not taken any more: {', '.join(gone)}; write a new"
            " one: --update REASON"
        )
    timed = speeds(cases) if options.speed and comparable(before) else {}
    rows = judged(before, found, timed)
    took = time.monotonic() - began
    compiled = progress.words(covered(compiling))
    console.print(f"took {progress.words(took)}, {compiled} of it tracing, compiling or loading")
    moved = any(row.moved for row in rows)
    if moved:
        print(verdict.table([row for row in rows if row.moved]))
    if missing := unread(kept, found):
        print(
            f"not in the reference, so not compared: {', '.join(missing)}; write a new one: --update REASON"
        )
    if not timed:
        print(f"speed was not compared: {untimed(options, before)}")
    print(verdict.summary(rows))
    about = {"protocol": NAME, "seed": options.seed, "not_compared": missing, **machine.provenance()}
    if options.json is not None:
        files.write_json(options.json, verdict.as_json(rows, about))
    if options.junit is not None:
        files.write_text(options.junit, verdict.as_junit(rows))
    return 1 if moved else 0


def read(path: pathlib.Path) -> dict[str, Any]:
    """The reference; a `UserError` where it is not there, or is none."""
    try:
        found = files.read_json(path)
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file; run from the repository, or write one: --update REASON"
        ) from None
    schema = found.get("schema")
    if type(schema) is not int or schema != SCHEMA or found.get("protocol") != NAME:
        raise UserError(f"{path}: is no reference of {NAME}; move it away and write one: --update REASON")
    cases = found.get("cases")
    if (
        not isinstance(cases, dict)
        or cases.keys() != {case.task for case in CASES}
        or not isinstance(found.get("timed_on"), dict)
        or not all(_sound(case, cases[case.task]) for case in CASES)
    ):
        raise UserError(f"{path}: damaged; restore it, or move it away and write one: --update REASON")
    return found


def _sound(case: Case, kept: Any) -> bool:
    """Whether what a reference has of a case can be compared with."""
    if not isinstance(kept, dict) or not isinstance(kept.get("identity"), dict):
        return False
    arms, speeds, seeds = kept.get("arms"), kept.get("speeds"), case.seeds * len(REFERENCE_KEYS)
    if not isinstance(arms, dict) or not isinstance(speeds, dict) or arms.keys() != set(case.arms):
        return False
    if not speeds.keys() <= set(case.arms):
        return False
    read = [values for arm in arms.values() if isinstance(arm, dict) and arm for values in arm.values()]
    return (
        all(isinstance(arm, dict) and arm for arm in arms.values())
        and all(_numbers(values) and len(values) == seeds for values in read)
        and all(
            _numbers(values) and len(set(values)) > 1 and max(map(abs, values)) < LONGEST
            for values in speeds.values()
        )
    )


def _numbers(values: Any) -> bool:
    """Whether it is a list of numbers."""
    return isinstance(values, list) and all(type(x) in (int, float) for x in values)


def _outputs(options: Options) -> list[Any]:
    """Looks at where results will go, before hours are spent; -> the reasons of the reference so far."""
    written = [path for path in (options.json, options.junit) if path is not None]
    if options.update is not None:
        if not options.update.strip():
            raise UserError("--update needs a REASON: one sentence that says why learning is meant to differ")
        if written:
            raise UserError("--update compares nothing: leave out --json and --junit")
        written = [options.reference]
        with contextlib.suppress(OSError):  # what follows says that it is not there
            options.reference.parent.mkdir(parents=True, exist_ok=True)
    elif len({path.resolve() for path in (*written, options.reference)}) < len(written) + 1:
        raise UserError("--json, --junit and --reference must be files of their own")
    for path in written:
        if path.is_dir() or not path.name:
            raise UserError(f"{path}: is a folder; name a file")
        if not path.parent.is_dir():
            raise UserError(f"{path.parent}: no such folder")
        files.check_writable(path.parent)
    if options.update is None or not options.reference.exists():
        return []
    reasons = files.read_json(options.reference).get("reasons")
    if not isinstance(reasons, list) or not all(isinstance(r, dict) for r in reasons):
        raise UserError(f"{options.reference}: damaged, its reasons are none; restore it, or move it away")
    return reasons


def trained(cases: Sequence[Any], key: int, console: Console) -> dict[str, dict[str, Any]]:
    """By case and arm, what the seeds of a key came to."""
    found: dict[str, dict[str, Any]] = {}
    total, at = sum(len(c.case.arms) for c in cases), [0]

    def done(arm: str) -> None:
        at[0] += 1

    with progress.lines(console, lambda: f"{at[0]} of {total} arms trained"), console.status("training"):
        for prepared in cases:
            found[prepared.case.task] = prepared.train(key, done)
    return found


def speeds(cases: Sequence[Any]) -> dict[str, dict[str, float]]:
    """By case and arm, log-ratios of training's time to the kernel's."""
    from benchmarks.regression.measure import speeds as measured

    return {prepared.case.task: dict(measured(prepared)) for prepared in cases}


def comparable(before: dict[str, Any]) -> bool:
    """Whether the reference was timed, on a machine like this one."""
    if not all(case["speeds"] for case in before["cases"].values()):
        return False
    there, here = before["timed_on"], machine.computed_on()
    return not machine.differences(there, here) and there.get("processor") == here.get("processor")


def untimed(options: Options, before: dict[str, Any]) -> str:
    """Why speeds were not compared."""
    if not options.speed:
        return "--no-speed"
    if not all(case["speeds"] for case in before["cases"].values()):
        return "the reference was not timed"
    other = machine.differences(before["timed_on"], machine.computed_on())
    other = other or before["timed_on"].get("processor")
    return f"the reference was timed on another machine or setup ({other})"


def judged(
    before: dict[str, Any], found: dict[str, dict[str, Any]], timed: dict[str, dict[str, float]]
) -> list[verdict.Row]:
    """Every row that the reference has a reading for, the false alarms shared evenly among them."""
    pairs = [
        (case, arm, reading, before["cases"][case]["arms"][arm][reading], rounded(now))
        for case, arms in found.items()
        for arm, readings in arms.items()
        for reading, now in readings.items()
        if reading in before["cases"][case]["arms"][arm]
    ]
    speeds = [
        (case, arm, before["cases"][case]["speeds"][arm], now)
        for case, arms in timed.items()
        for arm, now in arms.items()
        if arm in before["cases"][case]["speeds"]
    ]
    share = verdict.FALSE_ALARM / (len(pairs) + len(speeds))
    rows = [verdict.compared(*pair, share) for pair in pairs]
    return rows + [verdict.timed(*pair, share) for pair in speeds]


def rounded(values: Any) -> list[float]:
    """Readings as a reference keeps them, (n,): where both are rounded alike, equal ones are ties."""
    return [float(f"{x:.6g}") for x in np.asarray(values, np.float64).tolist()]


def unread(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """Readings, by case and arm, that are here and not there."""
    read = {(case, arm, reading) for case, arms in here.items() for arm in arms for reading in arms[arm]}
    return sorted({reading for case, arm, reading in read if reading not in there[case][arm]})


def _compiling() -> list[tuple[float, float]]:
    """From when until when JAX traces, compiles or loads something from now on, as it goes."""
    import jax

    spans: list[tuple[float, float]] = []
    events = ("jaxpr_trace_duration", "jaxpr_to_mlir_module_duration", "backend_compile_duration")

    def heard(event: str, duration_secs: float, **_: Any) -> None:
        if event.rsplit("/", 1)[-1] in events:
            now = time.monotonic()
            spans.append((now - duration_secs, now))

    jax.monitoring.register_event_duration_secs_listener(heard)
    return spans


def covered(spans: Sequence[tuple[float, float]]) -> float:
    """Seconds that spans cover together: what is traced within a trace counts once."""
    seconds, until = 0.0, -math.inf
    for begin, end in sorted(spans):
        seconds += max(0.0, end - max(begin, until))
        until = max(until, end)
    return seconds


def update(options: Options, reasons: Sequence[Any], cases: Sequence[Any], console: Console) -> int:
    """Writes a reference, with its reason after those that it had; -> the exit status."""
    assert options.update is not None
    arms: dict[str, dict[str, dict[str, list[float]]]] = {c.case.task: {} for c in cases}
    for i, key in enumerate(REFERENCE_KEYS):
        console.print(f"reference: key {i + 1} of {len(REFERENCE_KEYS)}")
        for case, found in trained(cases, key, console).items():
            for arm, readings in found.items():
                for reading, values in readings.items():
                    arms[case].setdefault(arm, {}).setdefault(reading, []).extend(rounded(values))
    timed: dict[str, dict[str, list[float]]] = {c.case.task: {} for c in cases}
    for i in range(TIMED_RUNS if options.speed else 0):
        console.print(f"reference: timing, process {i + 1} of {TIMED_RUNS}")
        for case, found in elsewhere().items():
            for arm, value in found.items():
                timed[case].setdefault(arm, []).append(round(value, 5))
    now = datetime.datetime.now(datetime.UTC).date().isoformat()
    record = {
        "schema": SCHEMA,
        "protocol": NAME,
        "reasons": [*reasons, {"date": now, "reason": options.update.strip()}],
        "keys": REFERENCE_KEYS,
        "timed_on": machine.computed_on(),
        "cases": {
            c.case.task: {
                "identity": c.identity, "arms": arms[c.case.task], "speeds": timed[c.case.task],
            }
            for c in cases
        },
        **machine.provenance(),
    }  # fmt: skip
    files.write_json(options.reference, record)
    processes = TIMED_RUNS if options.speed else 0
    print(f"{options.reference}: {len(REFERENCE_KEYS)} keys, {processes} timed processes: {options.update}")
    return 0


def elsewhere() -> dict[str, dict[str, float]]:
    """Speeds in a process of its own, as every run has them."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "speeds.json"
        argv = [sys.executable, "-m", "benchmarks.regression.timing", str(path)]
        if (status := subprocess.run(argv, env=os.environ).returncode) or not path.exists():
            raise UserError(f"timing failed with status {status}; what went wrong stands above")
        found = files.read_json(path)
    if not all(math.isfinite(x) for arms in found.values() for x in arms.values()):
        raise UserError("timing gave no numbers")
    return found
