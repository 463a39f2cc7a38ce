"""Arrays whose axes have names."""

from __future__ import annotations

import numpy as np
import pytest

from loro_jax.analysis.named import NamedArray

AXES = {"arm": ["a", "b"], "seed": [0, 1, 2], "env_steps": [200, 400]}


@pytest.fixture
def array() -> NamedArray:
    return NamedArray(np.arange(12.0).reshape(2, 3, 2), AXES)


def test_selection(array: NamedArray) -> None:
    np.testing.assert_array_equal(array.sel(arm="b", env_steps=400).values, [7, 9, 11])
    assert array.sel(seed=[2, 0]).sizes == {"arm": 2, "seed": 2, "env_steps": 2}
    np.testing.assert_array_equal(array.sel(seed=[2, 0], arm="a").values, [[4, 5], [0, 1]])
    assert np.asarray(array).shape == (2, 3, 2) and np.mean(array) == 5.5  # type: ignore[call-overload]
    assert repr(array) == "NamedArray({'arm': 2, 'seed': 3, 'env_steps': 2}, float64)"


def test_selection_of_what_is_not_there(array: NamedArray) -> None:
    with pytest.raises(KeyError, match="no axis is called 'member'; there are: arm, seed, env_steps"):
        array.sel(member=0)
    with pytest.raises(KeyError, match="env_steps has no 300; it has 200, 400"):
        array.sel(env_steps=300)


def test_labels_have_to_fit() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        NamedArray(np.zeros((2, 3)), {"arm": ["a"], "seed": [0, 1, 2]})


def test_tidy_frame(array: NamedArray) -> None:
    pytest.importorskip("pandas")
    frame = array.to_pandas()
    assert list(frame.columns) == ["arm", "seed", "env_steps", "value"] and len(frame) == 12
    row = frame[(frame.arm == "b") & (frame.seed == 1) & (frame.env_steps == 400)]
    assert row.value.item() == 9
