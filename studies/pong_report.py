"""The words and tables of results/pong_fidelity.md."""

from __future__ import annotations

from typing import Any

from loro_jax.analysis.formats import between, number, significant
from studies.pong_console import BYTES, OBSERVED


def markdown(found: dict[str, Any]) -> str:
    """The report, results/pong_fidelity.md."""
    replayed, returns = found["replayed"], found["returns"]
    lines = [
        "# How exactly our Pong plays Atari's",
        "",
        f"    python -m studies.pong_fidelity      # ale-py {found['versions']['ale-py']}, jax "
        f"{found['versions']['jax']}, seed {found['options']['seed']}",
        "",
        "## The same actions in both games",
        "",
        "Our game starts from its own reset and is never corrected, so an error in any frame would stay.",
        "Bytes are compared after every frame, observations and rewards after every step of 8 frames.",
        "",
        *_table(
            ("actions of", "frames", "steps", "points", *BYTES, "rewards", "ends"),
            [
                (name, *(f"{r[k]:,}" for k in ("frames", "steps", "points")),
                 *map(_share, (*r["bytes_exact"].values(), r["rewards_exact"], r["ends_exact"])))
                for name, r in replayed.items()
            ],
        ),
        "",
        "Share that is exact, in per cent: of frames for bytes, half steps for rewards, steps for ends.",
        "",
        *_table(
            ("observation", *(f"{name}: exact, mean error" for name in replayed)),
            [
                (field, *(f"{_share(r['fields_exact'][field])}, "
                          f"{significant(r['fields_mean_absolute_error'][field], 3)}"
                          for r in replayed.values()))
                for field in OBSERVED
            ],
        ),
        "",
        "## Points in 200 steps, each game by itself",
        "",
        "Reward of both halves of a step, mean and 95 % interval, other random numbers in each column.",
        "`follow` goes to the ball, and a tenth of its actions are uniform, so that episodes differ.",
        "`reference` is the planner of `loro_jax/tasks/pong.py`, undisturbed after the first serve;",
        "before it, its actions are uniform.",
        "",
        *_table(
            ("policy", *next(iter(returns.values()))),
            [
                (name, *(f"{between(m['mean'], (m['low'], m['high']), 2)}, n = {m['episodes']}"
                         for m in columns.values()))
                for name, columns in returns.items()
            ],
        ),
        "",
        "The best play that a beam search over the rules found "
        f"({found['options']['width']} states wide, not a proof) leads by",
        ", ".join(f"{k} after step {t}" for k, t in found["search"].items()) + ".",
        "",
        *_study_lines(found["study"]),
        *DIFFERENCES,
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _study_lines(found: dict[str, Any]) -> list[str]:
    title = ["## The reference study's recorded episodes", ""]
    if not found:
        return [*title, "Not compared: the study's files were not at hand.", ""]
    return [
        *title,
        "The recorded actions, played from our reset; observations as stored, the one after each action.",
        "",
        *_table(
            ("episodes of", "rows", "observations", "rewards, second half", "rewards, both halves",
             "points won, lost in their rewards", "points won, lost in the replayed games"),
            [
                (name, f"{r['rows']:,}", _share(min(r["fields_exact"].values())),
                 _share(r["rewards_exact_second_half"]), _share(r["rewards_exact_both_halves"]),
                 "{}, {}".format(*r["points_won_lost"]), "{}, {}".format(*r["own_points_won_lost"]))
                for name, r in found.items()
            ],
        ),
        "",
        "Share that is exact in per cent, for observations of the worst of the ten fields. Ranges of the",
        "fields, theirs and (ours):",
        "",
        *_table(
            ("observation", *found),
            [
                (field, *("{} to {} ({} to {})".format(*map(number, r["ranges"][field]))
                          for r in found.values()))
                for field in OBSERVED
            ],
        ),
        "",
    ]  # fmt: skip


DIFFERENCES = [
    "## Where the games differ",
    "",
    "- Gymnasium's `ALE/Pong-v5` repeats an action in a quarter of the frames unless told otherwise (sticky",
    "  actions). Ours never does. The last column above says what that changes.",
    "- The game holds the bytes in the first table, the knob and the button. Sound, colours, picture and the",
    "  bytes that serve them are left out; so are other modes and difficulties than ALE's default.",
    "- Nothing is random, as on the console: two runs with the same actions are the same.",
    "- The rules are those that recorded play and positions written into the memory showed. A state that no",
    "  play reaches may differ.",
]


def _share(value: float) -> str:
    """A share in per cent; only what is exact everywhere says 100."""
    return "100" if value == 1 else f"{min(100 * value, 99.999):.3f}"


def _table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (columns, ("---",) * len(columns), *rows)]
