"""The machine that a program runs on: starting JAX there, and what of it decides the bits of a result."""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
import platform
import subprocess
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from loro_jax.errors import UserError

if TYPE_CHECKING:
    from loro_jax import processes

PACKAGES = (
    "loro_jax", "jax", "jaxlib", "flax", "optax", "gymnax", "chex", "orbax-checkpoint", "numpy", "scipy",
)  # fmt: skip
EXACT = ("jax", "jaxlib", "flax", "optax", "gymnax")
"""Packages whose versions decide the bits of a result."""


ARITHMETIC = 2
"""Counts up when the suite computes the same settings to other bits (docs/performance.md); what does not say
has 1."""

NUMERIC = (
    "jax_random_seed_offset", "jax_disable_most_optimizations", "jax_high_dynamic_range_gumbel",
    "jax_optimization_level", "jax_memory_fitting_level", "jax_enable_custom_prng", "jax_disable_jit",
    "jax_cpu_enable_fast_math", "jax_default_dtype_bits",
)  # fmt: skip
"""JAX's other settings that decide them, recorded where they are set."""


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def start(devices: int = 0, cache: bool = True, cluster: processes.Cluster | None = None) -> None:
    """Starts JAX, on a CPU with so many devices, 0 for one a core; where it runs already, leaves it as it is.

    A game may start JAX as well, by making an array: call this before one is made. Compiled programs are kept
    for the next start (`running.compiled`) unless `cache` is False.

    Args:
        cluster: the processes that this one is one of, each with so many devices.

    Raises:
        UserError: JAX cannot start, or runs already with another number of devices than `devices`; or the
            other processes cannot be joined.
    """
    import jax

    from loro_jax.running import compiled

    if cache:
        compiled.keep()
    else:
        jax.config.update("jax_enable_compilation_cache", False)
    if cluster is not None:
        from loro_jax import processes

        processes.join(cluster)
    try:
        jax.config.update("jax_num_cpu_devices", devices or cores())
    except RuntimeError:
        if devices and jax.default_backend() == "cpu" and jax.local_device_count() != devices:
            raise UserError(
                f"JAX runs already, on {jax.local_device_count()} devices; ask for {devices} before it starts"
            ) from None
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # it asserts where a known platform has no device
        raise UserError(unavailable(error)) from None
    if cluster is not None:
        processes.check()


def has_device() -> bool:
    """Whether JAX can start."""
    import jax

    try:
        return bool(jax.devices())
    except (RuntimeError, AssertionError):  # the latter for "cuda" where there is no GPU
        return False


def unavailable(error: BaseException) -> str:
    """Why JAX has no device, in one line."""
    why = " ".join(str(error).split()) or "it finds no device"
    asked = os.environ.get("JAX_PLATFORMS", "")
    hint = f"JAX_PLATFORMS is '{asked}': unset it to use what there is" if asked else "try JAX_PLATFORMS=cpu"
    return f"JAX cannot start ({why[:200]}); {hint}"


def computed_on() -> dict[str, Any]:
    """What decides the bits of a result beside its settings, as JSON: `run.json`, and checkpoints.

    Two runs that differ here in anything but the processor are not to be mixed.
    """
    import jax

    return {
        "arithmetic": ARITHMETIC,
        "backend": jax.default_backend(),
        "devices": jax.device_count(),  # of all processes: how many they are does not matter
        "precision": "64 bits" if jax.config.jax_enable_x64 else "32 bits",  # type: ignore[attr-defined]
        "matmul_precision": jax.config.jax_default_matmul_precision or "default",  # type: ignore[attr-defined]
        "random_numbers": jax.config.jax_default_prng_impl  # type: ignore[attr-defined]
        + (" partitionable" if jax.config.jax_threefry_partitionable else ""),  # type: ignore[attr-defined]
        "jax_settings": ", ".join(f"{k}={v}" for k in NUMERIC if (v := jax.config.values.get(k))),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        **{name: version(name) for name in EXACT},
        "processor": processor(),
    }


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """In what but the processor two `computed_on` differ, in words; empty where numbers are the same."""
    before, now = ({"arithmetic": 1, **there} for there in (before, now))
    fixed = [k for k in {**before, **now} if k != "processor" and before.get(k) != now.get(k)]
    return "; ".join(f"{k.replace('_', ' ')} {before.get(k)} there, {now.get(k)} here" for k in fixed)


def processor() -> str:
    """The model of the accelerator, or of the CPU."""
    import jax

    if jax.default_backend() != "cpu":
        return str(jax.devices()[0].device_kind)
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def provenance() -> dict[str, Any]:
    """Versions, device and commit, for `run.json`."""
    import jax

    device = jax.devices()[0]
    return {
        "packages": {name: version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "device": {
            "backend": jax.default_backend(),
            "kind": device.device_kind,
            "count": jax.device_count(),
            "processes": jax.process_count(),
            "cpu_cores": cores(),
            "machine": platform.machine(),
        },
        "computed_on": computed_on(),
        "commit": commit(),
    }


def version(name: str) -> str | None:
    """Of an installed package."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def commit(package: pathlib.Path = pathlib.Path(__file__).parent.parent) -> str | None:
    """The commit of the checkout that `package` lies in, with a `+` if its code was changed since.

    None outside a checkout of this project: an installed package may lie in an environment within somebody
    else's repository, and variables such as GIT_DIR may name another one.
    """
    root = package.parent
    if not (root / "pyproject.toml").is_file():
        return None
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}

    def git(*args: str) -> str:
        done = subprocess.run(
            ["git", *args], cwd=root, env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        if pathlib.Path(git("rev-parse", "--show-toplevel")).resolve() != root.resolve():
            return None
        changed = git("status", "--porcelain", "--", "loro_jax", "benchmarks", "prompts")
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None
