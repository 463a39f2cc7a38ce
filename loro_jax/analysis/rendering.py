"""A table, written four ways: markdown, rich for the terminal, CSV and LaTeX.

A cell holds the text that people read and the numbers that it stands for, so that a table is laid out once.
CSV has the numbers at full precision, each in a column of its own; an empty field is a number that does not
exist. LaTeX is a `tabular` for the package booktabs, to be read by \\input.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from loro_jax.analysis.formats import between


class Column(NamedTuple):
    """A heading, and the names that the numbers of its cells have in CSV."""

    title: str
    fields: tuple[str, ...]


class Cell(NamedTuple):
    """What is read, and the values that it stands for: as many as its column has fields."""

    text: str
    values: tuple[float | str | None, ...]


class Table(NamedTuple):
    """A titled table; its files are called `name`."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: list[tuple[Cell, ...]]


def estimated(title: str, name: str) -> Column:
    """A column of numbers with intervals, in CSV `name`, `name`_low and `name`_high."""
    return Column(title, (name, f"{name}_low", f"{name}_high"))


def estimate(
    value: float | None, ends: Sequence[float | None], places: int | None = None, sign: str = ""
) -> Cell:
    """A cell of an `estimated` column; `places` and `sign` as `formats.between` has them."""
    return Cell(between(value, ends, places, sign), (value, *ends))


def word(text: str) -> Cell:
    """A cell of text that stands for itself."""
    return Cell(text, (text,))


def markdown(table: Table) -> list[str]:
    """The lines of a table, without its title."""
    lines = [[column.title for column in table.columns], ["---"] * len(table.columns)]
    lines += [[cell.text for cell in row] for row in table.rows]
    return ["| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in lines]


def drawn(table: Table) -> Any:
    """A `rich.table.Table`, whose first column is never narrower than its longest word."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(title=table.title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    name = max((len(word) for row in table.rows for word in row[0].text.split()), default=0)
    for index, column in enumerate(table.columns):
        justify: Any = "left" if _words(table, index) else "right"
        shown.add_column(Text(column.title), justify=justify, min_width=None if index else name)
    for row in table.rows:
        shown.add_row(*(Text(cell.text) for cell in row))
    return shown


def to_csv(table: Table) -> str:
    """A line of field names, and a line for each row.

    Raises:
        ValueError: a cell holds more or fewer values than its column has fields.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field for column in table.columns for field in column.fields])
    for row in table.rows:
        for column, cell in zip(table.columns, row, strict=True):
            if len(cell.values) != len(column.fields):
                raise ValueError(f"{table.name}: a cell of '{column.title}' holds {cell.values}")
        writer.writerow([value for cell in row for value in cell.values])
    return text.getvalue()


def to_latex(table: Table, notes: Sequence[str] = ()) -> str:
    """A `tabular` with booktabs' rules; the title and the `notes` stand above it as comments."""
    comments = [table.title, *notes, r"Needs \usepackage{booktabs}."]
    lines = ["% " + " ".join(comment.split()) for comment in comments]
    sides = "".join("l" if _words(table, index) else "r" for index in range(len(table.columns)))
    lines += [r"\begin{tabular}{" + sides + "}", r"\toprule"]
    lines += [_latex_row([column.title for column in table.columns]), r"\midrule"]
    lines += [_latex_row([cell.text for cell in row]) for row in table.rows]
    lines += [r"\bottomrule", r"\end{tabular}"]
    return "\n".join(lines) + "\n"


def _words(table: Table, index: int) -> bool:
    """Whether a column holds words, which stand left, and not numbers."""
    return index == 0 or all(isinstance(row[index].values[0], str) for row in table.rows)


def _latex_row(texts: Sequence[str]) -> str:
    cells = [escaped(text) for text in texts]
    # After \\ of the row before, a bracket would begin the optional argument of that command.
    if cells[0].startswith("["):
        cells[0] = "{[}" + cells[0][1:]
    return " & ".join(cells) + r" \\"


LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#",
    "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$", "|": "$|$",
}  # fmt: skip
SIGN = re.compile(r"(?<![\w.])([+-])(?=\d)")
"""A sign before a number; in text a LaTeX hyphen is too short for a minus."""


def escaped(text: str) -> str:
    """Text as LaTeX prints it, on one line; signs of numbers are set in mathematics."""
    marked = SIGN.sub(lambda sign: f"\0{sign.group(1)}\0", " ".join(text.replace("\0", "").split()))
    marked = "".join(LATEX.get(character, character) for character in marked)
    return re.sub("\0([+-])\0", r"$\1$", marked)
