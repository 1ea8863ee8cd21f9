"""A child's side of `stepped`. The standard library only: programs in other environments import this."""

import json
import os
import sys
from collections.abc import Callable
from typing import Any


def step_teller() -> Callable[[dict[str, Any]], None]:
    """Say a step's end on the standard output and wait for leave to go on; all else that is printed goes to stderr."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def tell(said: dict[str, Any]) -> None:
        out.write(json.dumps(said) + "\n")
        out.flush()
        sys.stdin.readline()

    return tell
