"""Where the files lie that come with the suite: prompts, and episodes that language models played.

They stand at the top of the repository, to be read and edited; a wheel holds them inside the package, under
the same names (`setup.py`).
"""

from __future__ import annotations

import pathlib

PACKAGE = pathlib.Path(__file__).parent


def folder(name: str, package: pathlib.Path = PACKAGE) -> pathlib.Path:
    """The folder called `name`: a wheel's own, else the checkout's, that an editable install uses as well.

    The wheel's comes first: beside an installed package, `site-packages/prompts` may be anybody's. Files are
    read from here; what a command writes goes below the working directory.

    Args:
        name: "prompts", or "results/episodes".
        package: the folder of the package that they come with.

    >>> sorted(path.name for path in (folder("prompts") / "frozen_lake").iterdir())
    ['cell.txt', 'cot.txt', 'direct.txt', 'map.txt']
    """
    inside = package / name
    return inside if inside.is_dir() else package.parent / name
