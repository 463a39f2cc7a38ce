"""Ways in which a file may be wrong: pure functions of a random generator and what the file holds.

Each gives back another file's bytes. What is changed inside an archive is packed again, its checksums right:
it is the suite that has to notice.
"""

from __future__ import annotations

import copy
import gzip
import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Rng = np.random.Generator
Bytes = Callable[[Rng, bytes], bytes]

LARGE = 2**62


# Bytes


def flip_a_bit(rng: Rng, data: bytes) -> bytes:
    changed = bytearray(data)
    changed[rng.integers(len(data))] ^= 1 << rng.integers(8)
    return bytes(changed)


def flip_bits(rng: Rng, data: bytes) -> bytes:
    for _ in range(rng.integers(2, 20)):
        data = flip_a_bit(rng, data)
    return data


def cut(rng: Rng, data: bytes) -> bytes:
    return data[: rng.integers(len(data))]


def cut_the_beginning(rng: Rng, data: bytes) -> bytes:
    return data[rng.integers(1, len(data)) :]


def _span(rng: Rng, data: bytes) -> tuple[int, int]:
    begin = int(rng.integers(len(data)))
    return begin, min(len(data), begin + int(rng.integers(1, 200)))


def drop_a_block(rng: Rng, data: bytes) -> bytes:
    begin, end = _span(rng, data)
    return data[:begin] + data[end:]


def double_a_block(rng: Rng, data: bytes) -> bytes:
    begin, end = _span(rng, data)
    return data[:end] + data[begin:]


def insert(rng: Rng, data: bytes) -> bytes:
    at = int(rng.integers(len(data)))
    return data[:at] + rng.bytes(int(rng.integers(1, 50))) + data[at:]


def zero_a_block(rng: Rng, data: bytes) -> bytes:
    begin, end = _span(rng, data)
    return data[:begin] + bytes(end - begin) + data[end:]


def swap_blocks(rng: Rng, data: bytes) -> bytes:
    size = max(1, len(data) // int(rng.integers(3, 20)))
    parts = [data[i : i + size] for i in range(0, len(data), size)]
    one, other = rng.choice(len(parts), 2, replace=False) if len(parts) > 1 else (0, 0)
    parts[one], parts[other] = parts[other], parts[one]
    return b"".join(parts)


def invert(rng: Rng, data: bytes) -> bytes:
    return bytes(255 - b for b in data)


def empty(rng: Rng, data: bytes) -> bytes:
    return b""


def noise(rng: Rng, data: bytes) -> bytes:
    return rng.bytes(len(data))


def append(rng: Rng, data: bytes) -> bytes:
    return data + rng.bytes(int(rng.integers(1, 300)))


BYTES: tuple[Bytes, ...] = (
    flip_a_bit, flip_bits, cut, cut_the_beginning, drop_a_block, double_a_block, insert, zero_a_block,
    swap_blocks, invert, empty, noise, append,
)  # fmt: skip


# JSON

Place = tuple[Any, Any]
"""An object or a list, and a name or a number in it."""
MARK = "here-the-text-is-changed"


def _places(value: Any) -> list[Place]:
    """Everything that is in something."""
    found: list[Place] = []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found.append((value, key))
        found += _places(item)
    return found


def _some(rng: Rng, value: Any, kind: type | tuple[type, ...]) -> Place | None:
    """A place at random that holds something of a kind."""
    found = [
        (box, key)
        for box, key in _places(value)
        if isinstance(box[key], kind) and not (isinstance(box[key], bool) and kind in ((int, float), str))
    ]
    return found[rng.integers(len(found))] if found else None


def _set(kind: type | tuple[type, ...], change: Callable[[Rng, Any], Any]) -> Callable[[Rng, Any], Any]:
    def changed(rng: Rng, value: Any) -> Any:
        value = copy.deepcopy(value)
        if (place := _some(rng, value, kind)) is not None:
            box, key = place
            box[key] = change(rng, box[key])
        return value

    return changed


EVERY = (dict, list, str, int, float, bool, type(None))
NUMBER = (int, float)


def _another_type(rng: Rng, item: Any) -> Any:
    others: list[Any] = [None, True, 7, 0.5, "x", [], [1, 2], {}, {"name": 3}, str(item)[:50], [item]]
    fit = [other for other in others if type(other) is not type(item)]
    return fit[rng.integers(len(fit))]


def _nudged(rng: Rng, item: Any) -> Any:
    return item + 1 if isinstance(item, int) else item * (1 + 1e-6) + 1e-9


STRANGE = (
    "two\nlines", "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "nul\x00", "back\b\b\b", "bell\x07", "\r over",
    "../../../etc/passwd", "/dev/zero", "~root", "$(touch ran)", "; touch ran", "{0.__class__}", "%n%n",
    "\u202egnp.exe", "\ud800", "\u2028", "x" * 100_000, "[bold red]x", "__import__('os').system('x')",
)  # fmt: skip
"""Texts that a program may stumble over, or a terminal follow."""


def _strange(rng: Rng, item: Any) -> str:
    text = STRANGE[rng.integers(len(STRANGE))]
    return text if rng.random() < 0.5 or not isinstance(item, str) else f"{item}{text}"


def drop_a_name(rng: Rng, value: Any) -> Any:
    value = copy.deepcopy(value)
    found = [(box, key) for box, key in _places(value) if isinstance(box, dict)]
    if found:
        box, key = found[rng.integers(len(found))]
        del box[key]
    return value


def rename(rng: Rng, value: Any) -> Any:
    value = copy.deepcopy(value)
    found = [(box, key) for box, key in _places(value) if isinstance(box, dict)]
    if found:
        box, key = found[rng.integers(len(found))]
        box[_strange(rng, key)[:1000] if rng.random() < 0.5 else f"{key}_"] = box.pop(key)
    return value


def swap_two(rng: Rng, value: Any) -> Any:
    value = copy.deepcopy(value)
    if len(found := _places(value)) > 1:
        (one, a), (other, b) = (found[i] for i in rng.choice(len(found), 2, replace=False))
        one_item, other_item = copy.deepcopy(one[a]), copy.deepcopy(other[b])
        one[a] = other_item
        if isinstance(other, list) or b in other:
            other[b] = one_item
    return value


def nest(rng: Rng, value: Any) -> Any:
    value = copy.deepcopy(value)
    box, key = _some(rng, value, EVERY) or (value, None)
    deep: Any = box[key] if key is not None else 0
    for _ in range(50):
        deep = [deep]
    if key is not None:
        box[key] = deep
    return value


VALUES: dict[str, Callable[[Rng, Any], Any]] = {
    "another type": _set(EVERY, _another_type),
    "null": _set(EVERY, lambda rng, item: None),
    "a number nudged": _set(NUMBER, _nudged),
    "a number negated": _set(NUMBER, lambda rng, item: -item - 1),
    "a huge number": _set(NUMBER, lambda rng, item: [10**9, 10**18, 10**400, 1e300, 2**63][rng.integers(5)]),
    "not finite": _set(
        NUMBER, lambda rng, item: [float("nan"), float("inf"), -float("inf")][rng.integers(3)]
    ),
    "a strange text": _set(str, _strange),
    "another text": _set(str, lambda rng, item: item[::-1] + "x"),
    "true is false": _set(bool, lambda rng, item: not item),
    "emptied": _set((dict, list, str), lambda rng, item: type(item)()),
    "cut short": _set((list, str), lambda rng, item: item[:-1]),
    "doubled": _set((list, str), lambda rng, item: item + item),
    "a name dropped": drop_a_name,
    "a name changed": rename,
    "two swapped": swap_two,
    "nested": nest,
}
"""What may become of a JSON value."""


def _named_twice(rng: Rng, value: Any) -> str:
    value = copy.deepcopy(value)
    found = [(box, key) for box, key in _places(value) if isinstance(box, dict)]
    if not found:
        return json.dumps(value)
    box, key = found[rng.integers(len(found))]
    old, box[key] = box[key], MARK
    pair = f"{json.dumps(old)}, {json.dumps(key)}: {json.dumps(_another_type(rng, old))}"
    return json.dumps(value).replace(f'"{MARK}"', pair)


TEXTS: dict[str, Callable[[Rng, Any], str]] = {
    "a name twice": _named_twice,
    "no object": lambda rng, value: json.dumps([value, "x", 3, None][rng.integers(1, 4)]),
    "in a list": lambda rng, value: json.dumps([value]),
    "nested too deeply": lambda rng, value: "[" * 100_000,
    "with a comment": lambda rng, value: json.dumps(value) + " // so",
    "in UTF-16": lambda rng, value: json.dumps(value).encode("utf-16").decode("latin-1"),
    "with 1e999": lambda rng, value: _set(NUMBER, lambda r, x: MARK)(rng, value).__repr__(),
}
"""What may become of its text."""


def of_json(kind: str) -> Bytes:
    """A mutation of a JSON file, by its name in `VALUES` or `TEXTS`."""

    def change(rng: Rng, data: bytes) -> bytes:
        value = json.loads(data)
        if kind == "with 1e999":
            changed = _set(NUMBER, lambda r, x: MARK)(rng, value)
            return json.dumps(changed).replace(f'"{MARK}"', "1e999").encode()
        text = TEXTS[kind](rng, value) if kind in TEXTS else json.dumps(VALUES[kind](rng, value), indent=2)
        return text.encode("latin-1" if kind == "in UTF-16" else "utf-8")

    change.__name__ = kind
    return change


JSON = tuple(of_json(kind) for kind in (*VALUES, *TEXTS))


# Lines of JSON, packed or not


def of_lines(kind: str, packed: bool) -> Bytes:
    """A mutation of a file of lines: of a line by its name in `VALUES`, or of their order."""

    def change(rng: Rng, data: bytes) -> bytes:
        lines = (gzip.decompress(data) if packed else data).splitlines()
        at = int(rng.integers(len(lines)))
        other = int(rng.integers(len(lines)))
        if kind == "a line dropped":
            del lines[at]
        elif kind == "a line twice":
            lines.insert(other, lines[at])
        elif kind == "lines swapped":
            lines[at], lines[other] = lines[other], lines[at]
        elif kind == "an empty line":
            lines.insert(at, b"")
        else:
            lines[at] = json.dumps(VALUES[kind](rng, json.loads(lines[at]))).encode()
        text = b"\n".join(lines) + b"\n"
        return gzip.compress(text, mtime=0) if packed else text

    change.__name__ = f"of a line: {kind}"
    return change


ORDERS = ("a line dropped", "a line twice", "lines swapped", "an empty line")
LINES = tuple(of_lines(kind, packed=False) for kind in (*VALUES, *ORDERS))
PACKED_LINES = tuple(of_lines(kind, packed=True) for kind in (*VALUES, *ORDERS))


def bomb(rng: Rng, data: bytes) -> bytes:
    """Gzip that unpacks to a gigabyte of one line."""
    return gzip.compress(b"[" + b" " * (1 << 20)) * 1024


# Arrays

Arrays = dict[str, np.ndarray]


class Touch:
    """Makes a file where it is unpickled."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return open, (self.mark, "w")


def pack(arrays: Mapping[str, np.ndarray]) -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, allow_pickle=True, **arrays)  # type: ignore[arg-type]
    return out.getvalue()


def unpack(data: bytes) -> Arrays:
    with np.load(io.BytesIO(data)) as archive:
        return dict(archive)


def _name(rng: Rng, arrays: Arrays) -> str:
    return list(arrays)[rng.integers(len(arrays))]


def _one_value(change: Callable[[Rng, np.ndarray], Any]) -> Callable[[Rng, Arrays], Arrays]:
    """Changes one number, or text, of one array."""

    def changed(rng: Rng, arrays: Arrays) -> Arrays:
        name = _name(rng, arrays)
        array = np.array(arrays[name])
        if array.size:
            flat = array.reshape(-1)
            at = rng.integers(array.size)
            flat[at] = change(rng, flat[at])
            array = flat.reshape(array.shape)
        return arrays | {name: array}

    return changed


def _other(rng: Rng, value: Any) -> Any:
    kind = value.dtype.kind
    if kind == "b":
        return not value
    if kind in "iu":
        return value + 1
    return value * np.float32(1.0000002) + np.float32(1e-6) if kind == "f" else f"{value}"[::-1]


def _whole(change: Callable[[Rng, np.ndarray], np.ndarray]) -> Callable[[Rng, Arrays], Arrays]:
    def changed(rng: Rng, arrays: Arrays) -> Arrays:
        name = _name(rng, arrays)
        return arrays | {name: change(rng, arrays[name])}

    return changed


TYPES = ("f8", "f4", "f2", "i8", "i4", "i1", "u1", "?", "c8", "U5", ">f4", "V4", "M8[s]")


def _typed(rng: Rng, array: np.ndarray) -> np.ndarray:
    kind = TYPES[rng.integers(len(TYPES))]
    try:
        with np.errstate(all="ignore"):
            return array.astype(kind)
    except (TypeError, ValueError):
        return np.zeros(array.shape, kind)


def _shaped(rng: Rng, array: np.ndarray) -> np.ndarray:
    shapes = [array.reshape(-1), array[None], array[..., None], array.T, array.reshape(array.shape[::-1])]
    return shapes[rng.integers(len(shapes))]


def _rows(rng: Rng, array: np.ndarray) -> np.ndarray:
    """Rows in another order, one dropped, or one twice."""
    if not array.ndim or len(array) < 2:
        return array
    order = [np.roll(np.arange(len(array)), 1), np.arange(len(array) - 1), np.r_[0, np.arange(len(array))]]
    return array[order[rng.integers(3)]]


def _renamed(rng: Rng, arrays: Arrays) -> Arrays:
    name = _name(rng, arrays)
    other = ("../../escaped", f"{name}_", "", "\x1b[31m", "a/b")[rng.integers(5)]
    return {(other if k == name else k): v for k, v in arrays.items()}


def _without(arrays: Arrays, name: str) -> Arrays:
    return {k: v for k, v in arrays.items() if k != name}


def _exchanged(rng: Rng, arrays: Arrays) -> Arrays:
    one, other = _name(rng, arrays), _name(rng, arrays)
    return arrays | {one: arrays[other], other: arrays[one]}


ARRAYS: dict[str, Callable[[Rng, Arrays], Arrays]] = {
    "a value changed": _one_value(_other),
    "a value of another row": _one_value(lambda rng, value: np.zeros((), value.dtype)[()]),
    "a value not finite": _one_value(lambda rng, value: np.nan if value.dtype.kind == "f" else value),
    "a huge value": _one_value(lambda rng, value: np.float32(3e38) if value.dtype.kind == "f" else value),
    "another type": _whole(_typed),
    "another shape": _whole(_shaped),
    "other rows": _whole(_rows),
    "in Fortran's order": _whole(lambda rng, array: np.asfortranarray(array)),
    "backwards": _whole(lambda rng, array: array[::-1] if array.ndim else array),
    "an array dropped": lambda rng, arrays: _without(arrays, _name(rng, arrays)),
    "an array renamed": _renamed,
    "two arrays exchanged": _exchanged,
    "an array more": lambda rng, arrays: arrays | {"more": np.arange(3)},
    "empty": _whole(lambda rng, array: array[:0] if array.ndim else array),
}
"""What may become of arrays."""


def of_arrays(kind: str) -> Bytes:
    def change(rng: Rng, data: bytes) -> bytes:
        return pack(ARRAYS[kind](rng, unpack(data)))

    change.__name__ = f"of arrays: {kind}"
    return change


def objects(mark: str) -> Bytes:
    """An array of objects, which make a file where they are loaded."""

    def an_array_of_objects(rng: Rng, data: bytes) -> bytes:
        arrays = unpack(data)
        name = _name(rng, arrays)
        return pack(
            arrays | {name: np.array([Touch(mark)] * max(1, len(np.atleast_1d(arrays[name]))), object)}
        )

    return an_array_of_objects


def _raw(data: bytes, name: str, entry: bytes, more: str = "") -> bytes:
    """The archive with an entry replaced, or added under another name."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            if info.filename != name or more:
                new.writestr(info.filename, old.read(info))
        new.writestr(more or name, entry)
    return out.getvalue()


def _header(shape: str, kind: str, version: bytes = b"\x01\x00") -> bytes:
    text = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    size = struct.pack("<H" if version == b"\x01\x00" else "<I", len(text))
    return b"\x93NUMPY" + version + size + text


def a_header_of_another_shape(rng: Rng, data: bytes) -> bytes:
    """Of terabytes, or of sizes that are none."""
    shape = (f"({LARGE},)", "(1099511627776,)", "(2147483648, 4)", "(-1,)", "(True,)", "(3L,)")[
        rng.integers(6)
    ]
    return _raw(data, f"{_name(rng, unpack(data))}.npy", _header(shape, "<f4") + bytes(64))


def a_header_of_another_type(rng: Rng, data: bytes) -> bytes:
    kinds = ("|O", "<U1000000000", "|V0", "|S0", "f4, (3,)O", "<f4\\x00", "__import__('os')")
    return _raw(data, f"{_name(rng, unpack(data))}.npy", _header("(3,)", kinds[rng.integers(len(kinds))]))


def a_header_of_another_version(rng: Rng, data: bytes) -> bytes:
    version = (b"\x03\x00", b"\x02\x00", b"\x09\x00")[rng.integers(3)]
    return _raw(data, f"{_name(rng, unpack(data))}.npy", _header("(3,)", "<f4", version) + bytes(12))


def an_entry_that_is_no_array(rng: Rng, data: bytes) -> bytes:
    entry = (b"", b"import os", pickle.dumps([1, 2]))[rng.integers(3)]
    return _raw(data, f"{_name(rng, unpack(data))}.npy", entry)


def an_entry_twice(rng: Rng, data: bytes) -> bytes:
    """Under the name with and without its suffix, of which readers choose as they like."""
    name = _name(rng, unpack(data))
    other = io.BytesIO()
    np.save(other, _typed(rng, unpack(data)[name]))
    return _raw(data, "", other.getvalue(), more=name)


def a_bomb(rng: Rng, data: bytes) -> bytes:
    """Zeros for an array, a thousand for each byte."""
    out, name = io.BytesIO(), f"{_name(rng, unpack(data))}.npy"
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new, new.open(name, "w") as file:
        file.write(_header("(50000000,)", "<f4"))
        for _ in range(200):
            file.write(bytes(1_000_000))
    return out.getvalue()


RAW: tuple[Bytes, ...] = (
    a_header_of_another_shape, a_header_of_another_type, a_header_of_another_version,
    an_entry_that_is_no_array, an_entry_twice,
)  # fmt: skip
NPZ: tuple[Bytes, ...] = (*(of_arrays(kind) for kind in ARRAYS), *RAW)


# Pickles


def programs(mark: str) -> dict[str, bytes]:
    """Pickles that make a file where they are loaded, each in another way."""
    name = mark.encode()
    call = f"open({mark!r}, 'w')"
    system = b"cos\nsystem\n(S'touch " + name + b"'\ntR."
    evaluate = b"c__builtin__\neval\n(V" + call.encode() + b"\ntR."
    return {
        "os.system": system,
        "posix.system": system.replace(b"cos\n", b"cposix\n"),
        "eval": evaluate,
        "builtins.exec": b"cbuiltins\nexec\n(V" + call.encode() + b"\ntR.",
        "open": pickle.dumps(Touch(mark), 4),
        "an instance": b"(S'touch " + name + b"'\nios\nsystem\n.",
        "an object": b"(cos\nsystem\nS'touch " + name + b"'\no.",
        "build": b"cd3rlpy.dataset.components\nEpisode\n)R}(S'__class__'\ncos\nsystem\nsb.",
        "getattr": b"c__builtin__\ngetattr\n(cd3rlpy.dataset.components\nEpisode\nS'__init__'\ntR.",
        "a dotted name": b"\x80\x04\x8c\x19d3rlpy.dataset.components"
        b"\x8c\x1bEpisode.__init__.__globals__\x93.",
        "a module of the suite": b"cloro_jax.interchange.pickles\npickle\n.",
        "numpy's loader": b"cnumpy\nload\n(S'" + name + b"'\ntR.",
        "an extension": b"\x82\x01.",
        "a persistent name": b"Pid\n.",
        "a new object": b"cos\nsystem\n(S'touch " + name + b"'\nt\x81.",
        "runpy": b"crunpy\nrun_path\n(S'" + name + b"'\ntR.",
    }


def of_programs(mark: str) -> tuple[Bytes, ...]:
    def of(name: str, inside: bool) -> Bytes:
        def change(rng: Rng, data: bytes) -> bytes:
            program = programs(mark)[name]
            if not inside:
                return program
            if program.startswith(b"\x80"):
                program = program[2:]
            if rng.random() < 0.5:
                return data[:-1] + b"0" + program
            return data[:2] + program[:-1] + b"0" + data[2:]

        change.__name__ = f"{name}{', in a dataset' if inside else ''}"
        return change

    return tuple(of(name, inside) for name in programs(mark) for inside in (False, True))


def a_place_far_away(rng: Rng, data: bytes) -> bytes:
    """Python's reader would make room for every object up to there."""
    far = (b"r" + struct.pack("<I", 2**32 - 1), b"p99999999999\n")[rng.integers(2)]
    return data[:2] + b"N" + far + b"0" + data[2:]


def a_length_of_terabytes(rng: Rng, data: bytes) -> bytes:
    code = (b"\x8e", b"\x8d", b"\x96", b"B", b"X")[rng.integers(5)]
    size = struct.pack("<Q", 2**41) if code in b"\x8e\x8d\x96" else struct.pack("<I", 2**32 - 1)
    return data[:2] + code + size + b"abc0" + data[2:]


def deep(rng: Rng, data: bytes) -> bytes:
    return b"\x80\x04" + b"(" * 100_000 + b"." + b"t" * 100_000


PICKLES: tuple[Bytes, ...] = (a_place_far_away, a_length_of_terabytes, deep)


# GGUF


def _patch(at: int, kind: str, value: int) -> Bytes:
    def change(rng: Rng, data: bytes) -> bytes:
        changed = bytearray(data)
        struct.pack_into(f"<{kind}", changed, at, value)
        return bytes(changed)

    return change


def _named(name: str, change: Bytes) -> Bytes:
    change.__name__ = name
    return change


def in_the_header(end: int) -> Bytes:
    def bits_of_the_header(rng: Rng, data: bytes) -> bytes:
        return flip_bits(rng, data[:end]) + data[end:]

    return bits_of_the_header


def lengths(end: int) -> Bytes:
    """A number of the header becomes huge: a length, a count, a size."""

    def a_huge_length(rng: Rng, data: bytes) -> bytes:
        at = int(rng.integers(8, end - 8))
        huge = (2**64 - 1, 2**63, 2**40, 2**32, 0)[rng.integers(5)]
        return data[:at] + struct.pack("<Q", huge) + data[at + 8 :]

    return a_huge_length


MAGIC = (b"GGML", b"gguf", b"FUGG", b"\x7fELF")


def of_gguf(end: int) -> tuple[Bytes, ...]:
    """Of a model's file whose header is `end` bytes long."""
    huge = ((2**64 - 1, "every"), (2**40, "terabytes of"), (2**20, "a million"))
    counts = [
        _named(f"{word} {what}", _patch(at, "Q", value))
        for at, what in ((8, "tensors"), (16, "settings"))
        for value, word in huge
    ]
    versions = [_named(f"version {v}", _patch(4, "I", v)) for v in (0, 1, 4, 2**24 * 3, 2**32 - 1)]
    return (
        _named("another magic", lambda rng, data: MAGIC[rng.integers(4)] + data[4:]),
        *versions, *counts, in_the_header(end), lengths(end),
        _named("cut in the header", lambda rng, data: data[: rng.integers(end)]),
        _named("cut in the tensors", lambda rng, data: data[: rng.integers(end, len(data) - 64)]),
    )  # fmt: skip
