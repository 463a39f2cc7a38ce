"""What a measured process and its parent say to each other: one JSON object a line. Knows no package.

The process says when it is ready, then waits. For each "go" it trains for a while and says what it did; at
"end", or when its parent is gone, it says its last and ends.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from typing import Any

_OUT = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what anybody else prints is no message


def work() -> dict[str, Any]:
    """What is to be trained: the first argument, as JSON."""
    found: dict[str, Any] = json.loads(sys.argv[1])
    if (core := found.get("core")) is not None:
        os.sched_setaffinity(0, {core})
    return found


def say(**message: Any) -> None:
    """Tells the parent."""
    print(json.dumps(message), file=_OUT, flush=True)


def told_to_go() -> bool:
    """Waits for the parent's word: "go", or anything else for the end."""
    return sys.stdin.readline().strip() == "go"


def peak_memory() -> int:
    """Most bytes of memory that this process has had so far.

    Linux's `ru_maxrss` would begin with what the parent had when it started this one.
    """
    try:
        with open("/proc/self/status") as status:
            return 1024 * next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
