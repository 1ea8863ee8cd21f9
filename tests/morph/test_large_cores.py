"""Large orthogonal cores are made panel by panel: the same that QR with a positive diagonal of R gives."""

from __future__ import annotations

import numpy as np
import pytest

from mple.morph import MorphKey, cores
from mple.morph.scheme import PRESETS


@pytest.mark.parametrize("side", [1, 4, 7, 8, 21, 64])
def test_a_large_core_is_that_of_the_whole_factorisation(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def core() -> cores.BlockCore:
        return cores.draw_core(MorphKey(bytes(32)), PRESETS["paper"], side, session=b"s", key_epoch=1, block=0)

    whole = core()
    monkeypatch.setattr(cores, "_LARGE_SIDE", 1)
    monkeypatch.setattr(cores, "_PANEL", 4)
    by_panels = core()
    np.testing.assert_allclose(by_panels.core_QQ, whole.core_QQ, rtol=0, atol=1e-13)
    np.testing.assert_allclose(by_panels.core_QQ @ by_panels.inverse_QQ, np.eye(side), rtol=0, atol=1e-14)
