"""Settings are of the types that they say: whoever gives a wrong one is told so in a line."""

from __future__ import annotations

import dataclasses
import functools
import json
import numbers
import types
import typing
from collections.abc import Sequence
from typing import Any

from loro_jax.errors import UserError


@functools.cache
def hints(of: Any) -> dict[str, Any]:
    """The annotations of a class, or of a function's parameters, evaluated."""
    return typing.get_type_hints(of)


def checked(settings: Any) -> None:
    """A `UserError` for the first field of a dataclass whose value is not of its type; numpy's scalars become
    Python's."""
    known: dict[str, Any] = hints(type(settings))  # type: ignore[arg-type]
    for field in dataclasses.fields(settings):
        value, hint = getattr(settings, field.name), known[field.name]
        if hasattr(value, "item") and getattr(value, "shape", None) == ():  # a scalar of numpy's or JAX's
            value = value.item()
            object.__setattr__(settings, field.name, value)
        if not fits(value, hint):
            flag = field.name.replace("_", "-")
            raise UserError(f"{field.name} must be {words(hint)}, got {value!r} (--{flag})")


def fits(value: Any, hint: Any) -> bool:
    """Whether `value` is of the type that `hint` names; True for hints that are not looked into."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return fits(value, parts[0])
    if origin is typing.Literal:
        return any(value is part or (type(value) is type(part) and value == part) for part in parts)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, part) for part in parts)
    if origin is tuple and len(parts) == 2 and parts[1] is ...:
        return isinstance(value, tuple) and all(fits(item, parts[0]) for item in value)
    if hint is type(None):
        return value is None
    if hint is bool:
        return isinstance(value, bool)
    if hint is int:
        return isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if hint is float:
        return isinstance(value, numbers.Real) and not isinstance(value, bool)
    if hint is str:
        return isinstance(value, str)
    return True


def words(hint: Any) -> str:
    """What a hint asks for, in words."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return words(parts[0])
    if origin is typing.Literal:
        return " or ".join(map(str, parts))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(words(part) for part in parts)
    if origin is tuple:
        return f"a tuple of {words(parts[0]).removeprefix('a ')}s"
    named = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "a text",
        type(None): "none",
    }
    return named.get(hint, getattr(hint, "__name__", str(hint)))


PYTHONS = {"True": True, "False": False, "None": None}
"""Spellings that are none of JSON's."""


def _refuse(constant: str) -> None:
    raise ValueError(constant)  # NaN and Infinity are none of JSON's


def parameters(words: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE words as a game's parameters: values are JSON, and what is none is text."""
    found: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key.isidentifier():
            raise UserError(f"--game takes NAME=VALUE, such as slippery=false; got '{word}'")
        if key in found:
            raise UserError(f"--game names {key} twice")
        try:
            read = PYTHONS[value] if value in PYTHONS else json.loads(value, parse_constant=_refuse)
        except ValueError:
            read = value
        found[key] = tuple(read) if isinstance(read, list) else read
    return found
