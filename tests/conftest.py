"""Two CPU devices, strict dtype promotion, and warnings as errors, for every test."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

# LLVM's optimisations and XLA's newer code generator take two thirds of the time that programs take to
# compile, and tests run theirs for a moment. `.ci/run` sets the variable to nothing: there programs are
# compiled as everybody's are.
TWO_GENERATORS = [int(n) for n in importlib.metadata.version("jaxlib").split(".")[:2]] < [0, 11]
"""Later ones have the newer one alone, and know of no option to choose."""
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    + " --xla_cpu_use_fusion_emitters=false" * TWO_GENERATORS,
)

import jax  # noqa: E402
import pytest  # noqa: E402

from loro_jax.running import compiled  # noqa: E402

jax.config.update("jax_num_cpu_devices", 2)  # before gymnax, whose import starts the backend
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_traceback_in_locations_limit", 0)  # a fifteenth of the time of tests that compile

# A program that two tests share is compiled once, in whichever comes first: pytest's workers, and commands
# that tests start, inherit the folder.
_CACHE = tempfile.TemporaryDirectory(prefix="loro_jax-tests-")
os.environ.setdefault(compiled.VARIABLE, _CACHE.name)
compiled.keep()

import optax.tree  # noqa: E402
import populations  # noqa: E402

from loro_jax.training.population import OPTIONS  # noqa: E402

# The older generator rounds a value that two places need in each of them as it likes: populations, of which
# laws hold to the bit, are trained by programs of the newer one.
if TWO_GENERATORS:
    OPTIONS["xla_cpu_use_fusion_emitters"] = True

WARNINGS = (
    "error",
    "ignore::DeprecationWarning:tensorflow_probability.*",  # which rlax imports
)


def pytest_configure(config: pytest.Config) -> None:
    for line in WARNINGS:
        config.addinivalue_line("filterwarnings", line)


def _with_standard_promotion(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"):
            return function(*args, **kwargs)

    return wrapped


# optax raises a decay to the power of the integer step count: it alone is promoted as usual, beside gymnax's
# games, for which `Environment.step` sees to it.
optax.tree.bias_correction = _with_standard_promotion(optax.tree.bias_correction)


MAPS = pathlib.Path("/proc/self/maps")
MANY_MAPS = 20_000
"""Linux allows a process 65,530 mapped regions, and compiled programs have a dozen or two each: the compiler
ends with a segmentation fault where there is no more."""


@pytest.fixture(scope="module", autouse=True)
def programs_are_let_go() -> Iterator[None]:
    """After a module, where this process holds many programs."""
    yield
    if MAPS.exists() and MAPS.read_bytes().count(b"\n") > MANY_MAPS:
        jax.clear_caches()


@pytest.fixture(scope="session")
def population() -> populations.Population:
    """Shared by all tests, so that each phase is compiled once."""
    return populations.small()
