"""An array whose axes have names: what numpy needs to be read without a comment beside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class NamedArray:
    """A numpy array with a name and labels for each of its axes.

    Attributes:
        values: the array.
        axes: by axis name, in order, the labels along it.

    >>> axes = {"arm": ["loro"], "seed": [0, 1], "env_steps": [200, 400, 600]}
    >>> returns = NamedArray(np.arange(6.0).reshape(1, 2, 3), axes)
    >>> returns.sel(arm="loro", env_steps=600).values
    array([2., 5.])
    >>> returns.sizes
    {'arm': 1, 'seed': 2, 'env_steps': 3}
    """

    values: np.ndarray
    axes: Mapping[str, Any]

    def __post_init__(self) -> None:
        lengths = tuple(len(labels) for labels in self.axes.values())
        if lengths != self.values.shape:
            raise ValueError(
                f"axes {dict(zip(self.axes, lengths, strict=True))} do not fit {self.values.shape}"
            )

    def __repr__(self) -> str:
        return f"NamedArray({self.sizes}, {self.values.dtype})"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.values, dtype=dtype) if copy else np.asarray(self.values, dtype=dtype)

    @property
    def sizes(self) -> dict[str, int]:
        """The length of each axis, by name."""
        return {name: len(labels) for name, labels in self.axes.items()}

    @property
    def shape(self) -> tuple[int, ...]:
        """The values' shape."""
        return self.values.shape

    @property
    def dims(self) -> tuple[str, ...]:
        """The axes' names, in order."""
        return tuple(self.axes)

    @property
    def coords(self) -> Mapping[str, Any]:
        """The labels along each axis."""
        return self.axes

    def sel(self, **labels: Any) -> NamedArray:
        """The part at one label of an axis, which disappears, or at several, by name.

        Raises:
            KeyError: no axis, or no label, is called so; lists those there are.

        >>> NamedArray(np.array([[1.0, 2.0]]), {"arm": ["loro"], "seed": [0, 1]}).sel(seed=1).values
        array([2.])
        """
        values, axes = self.values, dict(self.axes)
        for name, wanted in labels.items():
            if name not in axes:
                raise KeyError(f"no axis is called '{name}'; there are: {', '.join(axes)}")
            known, axis = list(axes[name]), list(axes).index(name)
            several = not isinstance(wanted, str | bytes | slice) and hasattr(wanted, "__iter__")
            wanted = list(wanted) if several else wanted
            missing = [x for x in (wanted if several else [wanted]) if x not in known]
            if missing:
                raise KeyError(f"{name} has no {missing[0]!r}; it has {', '.join(map(str, known[:20]))}")
            if several:
                values = np.take(values, [known.index(x) for x in wanted], axis=axis)
                axes[name] = list(wanted)
            else:
                values = np.take(values, known.index(wanted), axis=axis)
                del axes[name]
        return NamedArray(np.asarray(values), axes)

    def to_pandas(self) -> Any:
        """A tidy `pandas.DataFrame`: a column for each axis, and `value`; pandas has to be installed.

        >>> list(NamedArray(np.zeros((1, 2)), {"arm": ["loro"], "seed": [0, 1]}).to_pandas())
        ['arm', 'seed', 'value']
        """
        import pandas

        index = pandas.MultiIndex.from_product(list(self.axes.values()), names=list(self.axes))
        return pandas.DataFrame({"value": self.values.ravel()}, index=index).reset_index()
