"""Writes a summary: `summary.json` for programs, `summary.md` for people, every table as CSV and LaTeX."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from loro_jax import files
from loro_jax.analysis import rendering, tables
from loro_jax.analysis.summary import source_line

TABLES = "tables"
"""The folder of the tables beside a summary."""


def write(summary: Mapping[str, Any], folder: pathlib.Path) -> list[pathlib.Path]:
    """Writes a summary and its tables into `folder`, each file atomically -> their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / "summary.json", folder / "summary.md"]
    files.write_json(written[0], summary)
    files.write_text(written[1], tables.render_markdown(summary))
    notes = (f"{summary['benchmark']}: {source_line(summary)}.",)
    return written + write_tables(tables.tables(summary), folder / TABLES, notes)


def write_tables(
    found: Sequence[rendering.Table], folder: pathlib.Path, notes: Sequence[str] = ()
) -> list[pathlib.Path]:
    """Writes each table into `folder` as NAME.csv and NAME.tex, which says the `notes` -> their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for table in found:
        for suffix, text in (("csv", rendering.to_csv(table)), ("tex", rendering.to_latex(table, notes))):
            written.append(folder / f"{table.name}.{suffix}")
            files.write_text(written[-1], text)
    return written
