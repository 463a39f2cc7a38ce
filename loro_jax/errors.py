"""Errors that are the user's to mend: commands print them as one line and exit with status 2."""

from __future__ import annotations

import sys
from collections.abc import Callable


class UserError(Exception):
    """One line that says what is wrong and what to do about it."""


class EpisodeError(UserError):
    """A file of episodes that cannot be used: missing, truncated, corrupted or foreign."""


def command(main: Callable[[], int | None]) -> int:
    """Runs a command's `main`; a `UserError` becomes one line on stderr and exit status 2."""
    try:
        return main() or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
