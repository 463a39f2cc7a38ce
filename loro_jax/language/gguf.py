"""The header of a GGUF file, looked through before llama.cpp reads it.

llama.cpp ends the process, or asks for all memory, on some headers that are damaged. What is checked here is
the form: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Numbers are little-endian.
"""

from __future__ import annotations

import math
import mmap
import pathlib
import struct
from typing import Any

from loro_jax import files
from loro_jax.errors import UserError

VERSIONS = (2, 3)
TEXT, LIST = 8, 9
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}
"""Types of numbers, as `struct` has them."""
TRUTH = 7
LONGEST = 65_535
"""Bytes of a name."""
BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 10: (256, 84),
    11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 16: (256, 66), 17: (256, 74),
    18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82), 23: (256, 136), 24: (1, 1),
    25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2), 34: (256, 54), 35: (256, 66),
    39: (32, 17),
}  # fmt: skip
"""Numbers of a block, and its bytes, by the type of a tensor; of later types the size is not checked."""


def check(path: pathlib.Path) -> None:
    """A `UserError` where the file's header cannot be a model's, or the file is shorter than it says."""
    try:
        files.size(path)  # a pipe's opening waits for whoever writes
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            _check(_Header(data))
    except (ValueError, struct.error, UnicodeDecodeError) as error:
        raise UserError(f"{path}: damaged, not a GGUF model ({error}); fetch it again") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


class _Header:
    """Reads on from where it has come to; a `ValueError` where the file is too short."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.at, self.size = data, 0, len(data)

    def number(self, kind: str) -> Any:
        step = struct.calcsize(f"<{kind}")
        if self.at + step > self.size:
            raise ValueError("it ends within its header")
        (value,) = struct.unpack_from(f"<{kind}", self.data, self.at)
        self.at += step
        return value

    def count(self, least: int, what: str) -> int:
        """How many there are of what takes `least` bytes each."""
        count = int(self.number("Q"))
        if count > (self.size - self.at) // least:
            raise ValueError(f"it says that it has {count} {what}, more than it has room for")
        return count

    def skip(self, size: int) -> None:
        if self.at + size > self.size:
            raise ValueError("it ends within its header")
        self.at += size

    def text(self) -> bytes:
        size = self.count(1, "characters of a text")
        self.at += size
        return self.data[self.at - size : self.at]

    def name(self) -> str:
        found = self.text().decode()
        if not 0 < len(found) <= LONGEST or not found.isprintable():
            raise ValueError("a name is empty, too long, or holds what cannot be printed")
        return found

    def value(self, kind: int) -> Any:
        if kind == TEXT:
            return self.text()
        value = self.number(_of(kind))
        if kind == TRUTH and value > 1:
            raise ValueError(f"{value} is neither true nor false")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{value} is no finite number")
        return value


def _of(kind: int) -> str:
    if kind not in NUMBERS:
        raise ValueError(f"it has values of the unknown type {kind}")
    return NUMBERS[kind]


def _check(header: _Header) -> None:
    if header.data[:4] != b"GGUF":
        raise ValueError("it does not begin as one")
    header.skip(4)
    if (version := header.number("I")) not in VERSIONS:
        raise ValueError(f"it is of version {version}; llama.cpp reads {' and '.join(map(str, VERSIONS))}")
    tensors, pairs = header.count(24, "tensors"), header.count(13, "settings")
    known: dict[str, Any] = {}
    for _ in range(pairs):
        name, kind = header.name(), header.number("I")
        if name in known:
            raise ValueError(f"it names {name} twice")
        if kind != LIST:
            known[name] = header.value(kind)
            continue
        known[name], inner = None, header.number("I")
        if inner == TEXT:
            for _ in range(header.count(8, f"texts of {name}")):
                header.skip(header.count(1, "characters of a text"))
        else:
            size = struct.calcsize(_of(inner))
            header.skip(size * header.count(size, f"numbers of {name}"))
    if not isinstance(known.get("general.architecture"), bytes):
        raise ValueError("it does not say of what architecture it is")
    step = known.get("general.alignment", 32)
    if type(step) is not int or not 8 <= step <= 1 << 20 or step & (step - 1):
        raise ValueError(f"its tensors are aligned to {step} bytes")
    _check_tensors(header, tensors, step)


def _check_tensors(header: _Header, count: int, step: int) -> None:
    """Tensors' places follow each other, as far as their types' sizes are known, and lie within the file."""
    names: set[str] = set()
    end, sure = 0, True  # of the tensors so far, and whether that is known
    for _ in range(count):
        name, axes = header.name(), header.number("I")
        if name in names:
            raise ValueError(f"it has two tensors {name}")
        names.add(name)
        if not 1 <= axes <= 4:
            raise ValueError(f"{name} has {axes} axes")
        shape, kind, place = [header.number("Q") for _ in range(axes)], header.number("I"), header.number("Q")
        if not all(shape) or math.prod(shape) >= 2**63:
            raise ValueError(f"{name} has the shape {shape}")
        begins = end + -end % step
        if place % step or place < begins or (sure and place != begins):
            raise ValueError(f"{name} does not lie where the tensor before it ends")
        each, size = BLOCKS.get(kind, (1, 0))
        if shape[0] % each:
            raise ValueError(f"{name} has rows of {shape[0]}, not of whole blocks of {each}")
        end, sure = place + math.prod(shape) // each * size, kind in BLOCKS
    if header.at + -header.at % step + end > header.size:
        raise ValueError("it is shorter than its header says")
