"""A pytest plugin, `-p tests.support.without_torch`: a file of tests, or a test, that imports torch is skipped.

So what runs on the other supported Pythons, where torch is not installed, needs no list of files.
"""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from typing import Any

import pytest


class _NoTorch(MetaPathFinder):
    def find_spec(self, fullname: str, *_: Any) -> None:
        if fullname == "torch":
            pytest.skip("needs torch", allow_module_level=True)


sys.meta_path.insert(0, _NoTorch())
