"""The benchmark of transform codecs: what it times is a whole message."""

from __future__ import annotations

import numpy as np

from benchmarks.transform_codec import time_codec


def test_a_full_message_is_timed() -> None:
    """64 x 64 values, half a byte planned for each: 512 KiB hold 256 pictures."""
    smooth = np.random.default_rng(1).integers(0, 256, (300, 1, 16, 16)).repeat(4, 2).repeat(4, 3).astype(np.uint8)
    timed = time_codec("k5", smooth, fitted_to=40)
    assert (timed.codec, timed.message_pictures) == ("k5", 256)
    assert 0 < timed.message_bytes < 256 * 64 * 64
    assert min(timed.encode_pack_us, timed.unpack_decode_us) > 0
