"""Fixtures of a site's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from provider_node.feeding.whole_run import Feeding
from tests.support.feeding_site import feeding_site


@pytest.fixture
def feeding(tmp_path: Path) -> Iterator[Feeding]:
    """North's feeding, with two keys in the vault and the first in use."""
    with feeding_site(tmp_path) as feeding:
        yield feeding
