"""Prompts: text files under `prompts/<task>/`, with `{field}` where the state goes.

A file is the user message. Everything before the line of the first placeholder is the same at every
step, and llama.cpp evaluates it once: keep the rules first and the state last. What stands below a
line `---`, if there is one, begins the model's answer: small models keep to a form that was begun. It is
taken as it stands, and holds no placeholder. Files are UTF-8; a byte-order mark, the kind of line ends, and
blanks beside the three dashes do not matter.
"""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
import re
import string
from collections.abc import Collection, Mapping

from loro_jax import files, shipped
from loro_jax.errors import UserError
from loro_jax.tasks.base import Task

FOLDER = shipped.folder("prompts")
SUFFIX = ".txt"
SEPARATOR = re.compile(r"^[^\S\n]*---[^\S\n]*$", re.MULTILINE)
LARGEST = 1 << 20
"""Bytes of a prompt's file; no context of any model has room for more."""
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_PLACEHOLDER = re.compile(r"\{\s*\w[^{}\n]*\}")


@dataclasses.dataclass(frozen=True)
class Prompt:
    """A template, split where the changing part begins.

    Attributes:
        name: its file's name without the suffix.
        text: the template as it stands in the file, without blank lines at its ends.
        head: the part before the first line with a placeholder; braces already unescaped.
        tail_template: the rest of the message.
        start: how the answer begins, without placeholders; may be empty.
    """

    name: str
    text: str
    head: str
    tail_template: str
    start: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    def tail(self, fields: Mapping[str, str]) -> str:
        """The changing part, with the state's fields filled in."""
        return self.tail_template.format_map(fields)


def placeholders(prompt: Prompt) -> list[str]:
    """The fields that a prompt names, in the order of their places, each once."""
    fields = (field for _, field, _, _ in string.Formatter().parse(prompt.tail_template))
    return list(dict.fromkeys(field for field in fields if field))


def available(task: Task) -> list[str]:
    """Names of the prompts there are for `task`."""
    if isinstance(task.prompts, Mapping):
        return sorted(task.prompts)
    return sorted(path.stem for path in folder(task).glob(f"*{SUFFIX}"))


def folder(task: Task) -> pathlib.Path:
    """Where a task's prompts lie, unless it holds them itself."""
    return task.prompts if isinstance(task.prompts, pathlib.Path) else FOLDER / task.name


def load(task: Task, name: str) -> Prompt:
    """The prompt called `name`, or in the .txt file of that path, checked to use the task's fields only.

    Raises:
        UserError: there is none, the task has no words, or the text is to be mended; one line.
    """
    if task.words is None:
        raise UserError(f"{task.name} has no words: no language model can play it (Task.words)")
    fields = task.words.names
    if name.endswith(SUFFIX):
        return parse(read(pathlib.Path(name)), pathlib.Path(name).stem, fields, name)
    if isinstance(task.prompts, Mapping) and name in task.prompts:
        return parse(task.prompts[name].strip(), name, fields, f"{task.name}'s prompt '{name}'")
    path = folder(task) / f"{name}{SUFFIX}"
    if isinstance(task.prompts, Mapping) or pathlib.Path(name).name != name or not path.is_file():
        names = ", ".join(available(task)) or "none"
        raise UserError(f"no prompt '{name}' for {task.name}; there are: {names}; or give a {SUFFIX} file")
    return parse(read(path), name, fields, str(path))


def read(path: pathlib.Path) -> str:
    """A prompt file's text; a `UserError` where it cannot be read."""
    try:
        if files.size(path) > LARGEST:
            raise UserError(f"{path}: larger than {LARGEST >> 10} KiB; it is no prompt")
        return path.read_text(encoding="utf-8-sig").strip()  # with any line ends, and without a mark
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: cannot be read as text ({error}); save it as UTF-8") from None
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read as text ({error})") from None


def parse(text: str, name: str, fields: Collection[str], where: str) -> Prompt:
    """Splits and checks a template; `where` names it in messages."""
    if "\x00" in text:
        raise UserError(f"{where}: holds a NUL character, which no prompt may; save it as UTF-8")
    if found := _CONTROL.search(text):
        raise UserError(f"{where}: holds the control character {found[0]!r}, which no prompt may; remove it")
    if "\ufeff" in text:
        raise UserError(f"{where}: holds a byte-order mark behind its beginning; remove it")
    message, *starts = (part.strip() for part in SEPARATOR.split(text))
    if len(starts) > 1:
        raise UserError(f"{where}: holds {len(starts)} lines ---; leave one, above the answer's start")
    start = starts[0] if starts else ""
    if starts and not message:
        raise UserError(f"{where}: the message is missing; it stands above the line ---")
    if found := _PLACEHOLDER.search(start):
        raise UserError(
            f"{where}: {found[0]} stands below the line ---, where nothing is filled in; move it above"
        )
    try:
        parts = list(string.Formatter().parse(message))
    except ValueError as error:
        raise UserError(
            f"{where}: {error}; write {{{{ and }}}} for braces that are not a placeholder"
        ) from None
    head = ""
    used: list[str] = []
    for literal, field, spec, conversion in parts:
        if not used:
            head += literal
        if field is None:
            continue
        if field not in fields or spec or conversion:
            raise UserError(
                f"{where}: unknown placeholder {{{field}}}; there are: {', '.join(sorted(fields))}"
            )
        used.append(field)
    if not used:
        raise UserError(f"{where}: names no placeholder, so it would ask the same at every step")
    head = head[: head.rfind("\n") + 1]
    return Prompt(name, text, head, message[_source_length(message, head) :], start)


def _source_length(text: str, head: str) -> int:
    """Length in the file of a head whose doubled braces were read as single ones."""
    length = 0
    for character in head:
        length += 2 if character in "{}" else 1
    assert text[:length].replace("{{", "{").replace("}}", "}") == head
    return length
