"""Shipped files are found in a checkout and in a wheel, and a stranger's folder is not taken for them."""

from __future__ import annotations

import pathlib

import pytest

from loro_jax import shipped

ROOT = pathlib.Path(__file__).parent.parent


@pytest.mark.parametrize("name", ["prompts", "results/episodes"])
def test_a_checkout_has_them_at_the_top(name: str) -> None:
    assert shipped.folder(name, ROOT / "loro_jax") == ROOT / name
    assert not (ROOT / "loro_jax" / name).exists()  # it would hide the one at the top


@pytest.mark.parametrize("name", ["prompts", "results/episodes"])
def test_a_wheel_has_them_inside(name: str, tmp_path: pathlib.Path) -> None:
    package = tmp_path / "site-packages" / "loro_jax"
    (package / name).mkdir(parents=True)
    (package.parent / name).mkdir(parents=True)  # of another package
    assert shipped.folder(name, package) == package / name
