"""Modules that libraries import only when they need them: imported at a node's start.

An import opens files. One that comes late finds no descriptors when there are none left, and may leave half a module
behind, which no later try mends. `tests/system/test_descriptors.py` holds whole runs to it.
"""

import importlib
from collections.abc import Sequence
from contextlib import suppress

OF_ALL = (
    "encodings.ascii",
    "encodings.idna",
    "grpc.experimental",
    "grpc._channel",
    "grpc._simple_stubs",
    "numpy.ctypeslib",
    "numpy.ma",
)
"""What looking up a host's name, the first channel, and arithmetic on bytes import in any node."""


def preload(modules: Sequence[str]) -> None:
    """Import these modules now, and what they import; those that this release of a library lacks are left out."""
    for name in modules:
        with suppress(ModuleNotFoundError):
            importlib.import_module(name)
