"""Makes a finished run's tables and figures anew from what it saved; nothing is trained, and JAX not needed.

python -m loro_jax.report results/cartpole/standard@1
"""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import tyro

from loro_jax import files
from loro_jax.analysis import figures, outputs, summary
from loro_jax.errors import UserError, arguments, command
from loro_jax.records import results


@dataclasses.dataclass(frozen=True)
class Options:
    folders: Annotated[tuple[pathlib.Path, ...], tyro.conf.Positional]
    """Folders of finished runs."""
    draw: bool = True
    """Draw the figures, too; without, they stay as they are."""


def remake(folder: pathlib.Path, draw: bool = True) -> dict[str, Any]:
    """Writes tables and, with `draw`, figures of the run in `folder` -> its `summary.json`.

    Raises:
        UserError: the folder holds no finished run, or one that is damaged.
    """
    saved, before, ran = results.finished(folder)
    found = summarised(saved, before, ran, folder)
    with results.together(folder) as staging:
        for name in ("curves.npz", "details.npz", results.POLICIES):
            if (folder / name).exists():
                shutil.copyfile(folder / name, staging / name)
        outputs.write(found, staging)
        if not draw and (folder / "figures").is_dir():
            shutil.copytree(folder / "figures", staging / "figures")
        elif draw:
            drawn(found, saved, ran, staging / "figures")
        files.write_json(staging / results.RUN, saved.run)
    return found


def summarised(
    saved: results.Saved, before: Mapping[str, Any], ran: Mapping[str, Any], folder: pathlib.Path
) -> dict[str, Any]:
    """`summary.json` of a saved run whose identity is `ran`; what curves do not hold, `before` does.

    Raises:
        UserError: the files in `folder` do not fit together.
    """
    try:
        prior, interval = before["notes"]["prior_steps"], ran["settings"]["schedule"]["eval_interval"]
        if type(interval) is not int or interval < 1 or type(prior) is not int:
            raise ValueError("prior_steps and eval_interval must be whole numbers")
        return summary.summarise(
            benchmark=before["benchmark"],
            # Older runs name no version: theirs was the first.
            protocol=before["protocol"] if "@" in before["protocol"] else ran["protocol"],
            curves=saved.curves,
            env_steps=saved.env_steps,
            flat=saved.group("flat"),
            baseline=before["baseline"],
            threshold=before["threshold"],
            llm_free=saved.group("llm_free"),
            notes=before["notes"],
            random_return=before.get("random_return"),
            diverged=saved.group("diverged"),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder}: its files do not fit together ({error}); run it again") from None


def drawn(found: dict[str, Any], saved: results.Saved, ran: Mapping[str, Any], out: pathlib.Path) -> None:
    """Draws the figures of a saved run, whose summary is `found` and identity `ran`, into `out`."""
    figures.draw_all(
        found, saved.curves, saved.env_steps, saved.group("flat"), out,
        prior_steps=found["notes"]["prior_steps"],
        steps_per_episode=ran["settings"]["schedule"]["eval_interval"],
    )  # fmt: skip


def main() -> int:
    prog = "python -m loro_jax.report"
    options = arguments(lambda: tyro.cli(Options, prog=prog, description=__doc__))
    if not options.folders:
        raise UserError("name the folder of a finished run, or several (--help lists the options)")
    for folder in options.folders:
        remake(folder, options.draw)
        print(f"{folder}: tables and figures made anew" if options.draw else f"{folder}: tables made anew")
    return 0


if __name__ == "__main__":
    sys.exit(command(main))
