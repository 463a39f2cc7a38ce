"""Tables as CSV and LaTeX: every number once, and nothing that TeX would trip over."""

from __future__ import annotations

import csv
import io
import json
import pathlib
import re
from typing import Any

import pytest
from test_summary import TABLES, arguments, diverging

from loro_jax.analysis import outputs, rendering, summary, tables
from loro_jax.analysis.rendering import Cell, Column, Table, estimate, estimated, word

RESULTS = pathlib.Path(__file__).parent.parent.parent / "results"
COMMANDS = {"textbackslash", "textasciitilde", "textasciicircum"}


def cells_of(line: str) -> list[str]:
    """The cells of a row, each without what TeX reads as a command; fails where TeX would."""
    assert line.endswith(r" \\"), line
    body = line.removesuffix(r" \\")
    if "\\\\" in body:
        raise AssertionError(f"a second line break: {line}")
    cells = re.split(r"(?<!\\) & ", body)
    for cell in cells:
        left = re.sub(r"\\([&%$#_{}])", "", cell)
        for command in re.findall(r"\\([a-zA-Z]+)", left):
            assert command in COMMANDS, cell
        left = re.sub(r"\\[a-zA-Z]+\{\}", "", left)
        left = re.sub(r"\$[-+<>|]\$", "", left)
        left = left.replace("{[}", "")
        assert not re.search(r"[\\{}&%$#_~^<>|]", left), cell
    assert not body.startswith("["), line
    return cells


def check_latex(text: str, sides: str, rows: int) -> list[list[str]]:
    """The rows' cells, headings first, of one `tabular` of booktabs; strict about every line."""
    lines = text.splitlines()
    while lines[0].startswith("% "):
        lines.pop(0)
    assert text.endswith("\n") and "\t" not in text and "\0" not in text
    assert lines[0] == r"\begin{tabular}{" + sides + "}"
    assert [lines[i] for i in (1, 3, -2, -1)] == [r"\toprule", r"\midrule", r"\bottomrule", r"\end{tabular}"]
    found = [cells_of(line) for line in (lines[2], *lines[4:-2])]
    assert len(found) == rows + 1 and {len(cells) for cells in found} == {len(sides)}
    return found


def read(text: str) -> list[dict[str, str]]:
    rows = list(csv.DictReader(io.StringIO(text), strict=True))
    assert all(None not in row and None not in row.values() for row in rows)
    return rows


NASTY = r"a_b & 50 % of {x} #1 $y$ \z ~ ^ < > | [q4] -3"


def nasty() -> Table:
    columns = (Column(NASTY, ("name",)), estimated("difference [95 %]", "difference"))
    rows = [
        (word(NASTY), estimate(-1331.25, (-2000.5, 0.125))),
        (Cell("[first]", ('comma, "quote"\nline',)), estimate(None, (None, None))),
    ]
    return Table("nasty", "Title of 5 %\n& more", columns, rows)


def test_latex_of_what_is_special() -> None:
    heading, first, second = check_latex(rendering.to_latex(nasty(), ["a note\n\\evil"]), "lr", 2)
    assert heading[0] == first[0] == (
        r"a\_b \& 50 \% of \{x\} \#1 \$y\$ \textbackslash{}z \textasciitilde{} \textasciicircum{} $<$ $>$ $|$"
        r" [q4] $-$3"
    )  # fmt: skip
    assert first[1] == "$-$1,331 [$-$2,000, 0]" and second == ["{[}first]", ""]
    comments = [
        line for line in rendering.to_latex(nasty(), ["a note\n\\evil"]).splitlines() if line[0] == "%"
    ]
    assert comments == ["% Title of 5 % & more", r"% a note \evil", r"% Needs \usepackage{booktabs}."]


@pytest.mark.parametrize(
    ("text", "latex"),
    [("-1", "$-$1"), ("+0.5 [-2, +3]", "$+$0.5 [$-$2, $+$3]"), ("0.5b-instruct-2", "0.5b-instruct-2"),
     ("q4-0, seed-3", "q4-0, seed-3"), ("a\0-1", r"a-1")],
)  # fmt: skip
def test_signs(text: str, latex: str) -> None:
    assert rendering.escaped(text) == latex


def test_csv_holds_raw_numbers_and_any_text() -> None:
    rows = read(rendering.to_csv(nasty()))
    assert rows[0] == {
        "name": NASTY,
        "difference": "-1331.25",
        "difference_low": "-2000.5",
        "difference_high": "0.125",
    }
    assert rows[1]["name"] == 'comma, "quote"\nline' and rows[1]["difference_low"] == ""
    broken = nasty()._replace(rows=[(word("a"), word("b"))])
    with pytest.raises(ValueError, match="a cell of 'difference"):
        rendering.to_csv(broken)


@pytest.mark.parametrize("changes", [{}, {"threshold": None}, {"seeds": 1}, {"flat": {}}])
def test_the_tables_of_a_run(changes: dict[str, Any], tmp_path: pathlib.Path) -> None:
    found = summary.summarise(**arguments(**changes))
    outputs.write(found, tmp_path)
    written = {p.name for p in (tmp_path / outputs.TABLES).iterdir()}
    assert written == {f"{name}.{suffix}" for name in TABLES for suffix in ("csv", "tex")}
    for reading, suffix in ((found, ""), (found["readings"]["llm_free"], "_llm_free")):
        arms = read((tmp_path / "tables" / f"arms{suffix}.csv").read_text())
        assert [row["arm"] for row in arms] == list(reading["arms"])
        for row in arms:
            value = reading["arms"][row["arm"]]["cumulative_return"]
            assert float(row["cumulative_return_iqm"]) == value["iqm"]
            ends = [row[f"cumulative_return_iqm_{end}"] for end in ("low", "high")]
            assert ends == ["" if end is None else str(end) for end in value["iqm_ci95"]]
        compared = read((tmp_path / "tables" / f"comparisons{suffix}.csv").read_text())
        for row, c in zip(compared, reading["comparisons"], strict=True):
            assert (row["arm"], row["metric"], float(row["p_holm"])) == (c["arm"], c["metric"], c["p_holm"])
            assert float(row["difference"]) == c["difference_mean"]
    for table in tables.tables(found):
        text = (tmp_path / "tables" / f"{table.name}.tex").read_text()
        sides = "llrrrr" if "comparisons" in table.name else "l" + "r" * (len(table.columns) - 1)
        cells = check_latex(text, sides, len(table.rows))
        assert "6 seeds; protocol 'standard'" in text or "1 seed; protocol 'standard'" in text
        plain = [re.sub(r"[\\${}]", "", cell) for row in cells for cell in row]
        assert plain == [c.title for c in table.columns] + [c.text for row in table.rows for c in row]


def test_runs_that_diverged_are_counted_in_csv() -> None:
    arms, compared, *_ = tables.tables(summary.summarise(**diverging()))
    assert [row["diverged"] for row in read(rendering.to_csv(arms))] == ["0", "1", "", ""]
    first = read(rendering.to_csv(compared))[0]
    assert (first["arm"], first["diverged"], first["diverged_baseline"]) == ("loro", "1", "0")
    check_latex(rendering.to_latex(compared), "llrrrr", 3)


@pytest.mark.parametrize(
    "path", sorted(RESULTS.glob("**/tables/*.tex")), ids=lambda p: f"{p.parts[-4]}-{p.stem}"
)
def test_every_shipped_table(path: pathlib.Path) -> None:
    rows = read(path.with_suffix(".csv").read_text())
    columns = path.read_text().split(r"\begin{tabular}{")[1].split("}")[0]
    check_latex(path.read_text(), columns, len(rows))
    assert set(columns) == {"l", "r"} and columns[0] == "l"
    folder = path.parent.parent
    if "throughput" not in path.parts:  # whose tables follow from rows (tests/bench/test_throughput.py)
        index = folder / ("suite.json" if "suite" in path.parts else "run.json")
        assert f"tables/{path.name}" in json.loads(index.read_text())["files"]


def test_markdown_escapes_its_own_bars() -> None:
    assert rendering.markdown(nasty())[0].count(r"\|") == 1
