"""Streams of a key are part of the protocol: golden values, independence, uniform orders, and a seed nobody prints.

The golden values were computed with HKDF and ChaCha20 written out in plain Python from RFC 5869 and RFC 8439.
"""

from __future__ import annotations

import logging
import math
import traceback

import numpy as np
import pytest
from numpy.typing import NDArray

from mple.morph import PRESETS, Cores, Ensemble, ImageShape, MorphKey, MorphScheme
from mple.morph.cores import draw_core
from mple.morph.keys import draw_order, gaussians, uniforms, words
from mple.morph.morpher import Morpher
from tests.support.morph_cases import KEY, OTHER_KEY, images, layer, morpher, stem, tiled, unrolled

SEED = bytes(range(32))
WORDS = (
    "6953250ab39d88c5 b224918359346e2a 9da9a01182ccced3 dd0e585580130dbb a5bb34503ef2af0c b3defec44f54fe00 "
    "2f188072a92d4418 06bf83cd0b6ee04b a884576914660519 42430b89f2da759d 59e3b8fa416e0254"
)
UNIFORMS = ("0x1.a54c942ace762p-2", "0x1.64492306b268dp-1", "0x1.3b53402305999p-1", "0x1.ba1cb0ab00261p-1")
GAUSSIANS = (-0.34346507455942793, -0.970635547047649, 0.9049801228025489, -1.0462107791233664, -0.42350455403013615)
ORDER = [4, 6, 0, 7, 14, 1, 15, 9, 8, 11, 3, 2, 12, 13, 10, 5]
FINGERPRINT = "e65b3cbc8f6276a427934ee09ff106e40cfbec172e8f5b0ca7e6fbbea08a7ee8"
ORTHOGONAL = [
    [-0.05811918631842627, -0.6058781117490792, -0.5189398002707377, 0.6001960992709143],
    [0.3441263293092919, 0.5344453551318358, 0.19988171445241915, 0.7456490676462221],
    [-0.6596878292666041, 0.5487996507063359, -0.511188992405271, 0.048132373157817404],
    [0.6655908635004786, 0.2147063563706953, -0.6553125956108368, -0.2854038979980742],
]
UNIFORM_ROW = [0.08055388127914831, 0.7332579163927053, 0.2310172995523223, 0.38715277534870574]


def core(
    scheme: MorphScheme, side: int, *, key: MorphKey = KEY, session: bytes = b"session", epoch: int = 3, block: int = 2
) -> NDArray[np.float64]:
    return draw_core(key, scheme, side, session=session, key_epoch=epoch, block=block).core_QQ


def test_words() -> None:
    assert " ".join(f"{word:016x}" for word in words(SEED, b"label", 11).tolist()) == WORDS


def test_uniforms() -> None:
    assert tuple(value.hex() for value in uniforms(SEED, b"label", 4).tolist()) == UNIFORMS


def test_gaussians() -> None:
    """Logarithm and cosine may differ in the last bit between machines."""
    np.testing.assert_allclose(gaussians(SEED, b"label", 5), GAUSSIANS, rtol=1e-14)


def test_order() -> None:
    assert draw_order(SEED, "channels", 16).tolist() == ORDER


def test_fingerprint() -> None:
    assert MorphKey(SEED).fingerprint().hex() == FINGERPRINT


def test_orthogonal_core() -> None:
    """By Gram and Schmidt from the golden stream's Gaussian values, which makes R's diagonal positive."""
    found = core(tiled(Cores.DISTINCT, 2), 4)
    np.testing.assert_allclose(found, ORTHOGONAL, rtol=0, atol=1e-13)


def test_uniform_core() -> None:
    assert core(tiled(Cores.IDENTICAL, 2, Ensemble.UNIFORM), 4)[0].tolist() == UNIFORM_ROW


@pytest.mark.parametrize("draw", [words, uniforms, gaussians])
def test_a_longer_draw_extends_a_shorter_one(draw: object) -> None:
    assert callable(draw)
    longer = draw(SEED, b"label", 101)
    for count in (0, 1, 2, 7, 8, 100):
        np.testing.assert_array_equal(draw(SEED, b"label", count), longer[:count])


def test_uniforms_and_gaussians_have_the_moments_of_their_names() -> None:
    count = 200_000
    flat, normal = uniforms(SEED, b"moments", count), gaussians(SEED, b"moments", count)
    assert 0.0 <= flat.min() and flat.max() < 1.0
    assert abs(flat.mean() - 0.5) < 5 * math.sqrt(1 / 12 / count)
    assert abs(normal.mean()) < 5 / math.sqrt(count)
    assert abs(normal.var() - 1) < 5 * math.sqrt(2 / count)
    assert abs((normal**4).mean() - 3) < 5 * math.sqrt(96 / count)
    assert abs((normal[::2] * normal[1::2]).mean()) < 5 / math.sqrt(count / 2)


def test_other_keys_sessions_epochs_and_blocks_draw_other_cores() -> None:
    scheme = tiled(Cores.DISTINCT, 4)
    drawn = [
        core(scheme, 16),
        core(scheme, 16, key=OTHER_KEY),
        core(scheme, 16, session=b"another session"),
        core(scheme, 16, session=b""),
        core(scheme, 16, session=b"session\x003", epoch=2),
        core(scheme, 16, epoch=4),
        core(scheme, 16, block=3),
        core(scheme, 16, epoch=32, block=0),
        core(scheme, 16, epoch=3, block=20),
        core(tiled(Cores.DISTINCT, 4, Ensemble.UNIFORM), 16),
    ]
    for i, first in enumerate(drawn):
        for second in drawn[:i]:
            assert np.linalg.norm(first - second) > 1


def test_identical_cores_are_identical_and_repeat() -> None:
    scheme = tiled(Cores.IDENTICAL, 4)
    assert all(np.array_equal(core(scheme, 16), core(scheme, 16, block=block)) for block in range(4))


def test_morphers_of_other_sessions_and_epochs_morph_otherwise() -> None:
    shape = ImageShape(channels=1, height=16, width=16)
    x = images(shape)
    morphed = [
        Morpher(PRESETS["compact"], shape, key, session=session, key_epoch=epoch).morph(x)
        for key, session, epoch in ((KEY, b"1", 1), (OTHER_KEY, b"1", 1), (KEY, b"2", 1), (KEY, b"1", 2))
    ]
    for i, first in enumerate(morphed):
        for second in morphed[:i]:
            assert np.linalg.norm(first - second) / np.linalg.norm(first) > 0.5


@pytest.mark.parametrize("side", [1, 2, 3, 64, 300])
def test_cores_are_orthogonal(side: int) -> None:
    drawn = draw_core(KEY, unrolled(Cores.DISTINCT), side, session=b"s", key_epoch=1, block=0)
    unit = np.eye(side)
    np.testing.assert_allclose(drawn.core_QQ @ drawn.core_QQ.T, unit, rtol=0, atol=1e-13)
    assert np.array_equal(drawn.inverse_QQ, drawn.core_QQ.T)


def test_cores_follow_the_haar_measure() -> None:
    """Under it the trace of a core of side n has mean 0 and variance 1; QR without the signs has mean far below 0.
    Both determinants are equally likely."""
    count, scheme = 2000, tiled(Cores.DISTINCT, 2)
    cores = np.stack([core(scheme, 4, block=block) for block in range(count)])
    traces = np.trace(cores, axis1=1, axis2=2)
    assert abs(float(traces.mean())) < 5 / math.sqrt(count)
    assert abs(float(traces.var()) - 1) < 0.2
    assert abs(int((np.linalg.det(cores) > 0).sum()) - count / 2) < 5 * math.sqrt(count / 4)
    assert np.abs(cores.mean(0)).max() < 5 * math.sqrt(1 / 4 / count)


def test_uniform_cores_are_inverted() -> None:
    drawn = draw_core(KEY, tiled(Cores.DISTINCT, 8, Ensemble.UNIFORM), 64, session=b"s", key_epoch=1, block=0)
    assert 0.0 <= float(drawn.core_QQ.min()) and float(drawn.core_QQ.max()) < 1.0
    unit = np.eye(64)
    np.testing.assert_allclose(drawn.core_QQ @ drawn.inverse_QQ, unit, rtol=0, atol=1e-9)


@pytest.mark.parametrize("length", [1, 2, 3, 64, 513])
def test_an_order_is_a_permutation(length: int) -> None:
    assert sorted(draw_order(SEED, "channels", length).tolist()) == list(range(length))


def test_orders_are_uniform() -> None:
    """Chi-square over all 24 orders of 4 things: 23 degrees of freedom, 58.6 is exceeded once in 16 000 keys."""
    draws = 4800
    counts: dict[tuple[int, ...], int] = {}
    for number in range(draws):
        order = tuple(draw_order(SEED, f"order {number}", 4).tolist())
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 24
    assert sum((count - draws / 24) ** 2 for count in counts.values()) / (draws / 24) < 58.6


def test_every_thing_comes_to_every_place_equally_often() -> None:
    """Chi-square over 64 x 64 thing and place; 63² degrees of freedom, bound at five standard deviations."""
    draws, length = 1280, 64
    counts = np.zeros((length, length))
    for number in range(draws):
        counts[np.arange(length), draw_order(SEED, f"place {number}", length)] += 1
    freedom = (length - 1) ** 2
    statistic = float(((counts - draws / length) ** 2).sum() / (draws / length)) * (length - 1) / length
    assert abs(statistic - freedom) < 5 * math.sqrt(2 * freedom)


def test_orders_depend_on_secret_and_purpose() -> None:
    orders = {
        tuple(draw_order(secret, purpose, 64).tolist())
        for secret in (SEED, SEED[::-1])
        for purpose in ("channels", "labels", "")
    }
    assert len(orders) == 6


def test_orders_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="an order of 0 things; needs 1 or more"):
        draw_order(SEED, "channels", 0)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_seeds_of_another_length_are_refused_without_showing_them(length: int) -> None:
    with pytest.raises(ValueError, match=f"has 32 bytes, this one has {length}") as refused:
        MorphKey(b"\xab" * length)
    assert "ab" * 8 not in str(refused.value) and "\\xab" not in str(refused.value)


def test_generated_keys_differ() -> None:
    keys = {MorphKey.generate() for _ in range(50)}
    assert len(keys) == 50
    assert len({key.fingerprint() for key in keys}) == 50


def test_keys_are_equal_by_their_seed() -> None:
    assert MorphKey(SEED) == MorphKey(bytearray(SEED)) and hash(MorphKey(SEED)) == hash(KEY)
    assert MorphKey(SEED) != OTHER_KEY and MorphKey(SEED) != SEED


def test_nothing_printed_shows_the_seed() -> None:
    """Not the key, nor what is made with it, nor a container, a log record or a traceback's values."""
    shape = ImageShape(channels=1, height=8, width=8)
    seed = b"secret-seed-secret-seed-secret-s"
    key = MorphKey(seed)
    record = logging.LogRecord("n", logging.INFO, __file__, 1, "key %s %r", (key, key), None)
    try:
        raise ValueError(key)
    except ValueError as fault:
        trace = "".join(traceback.TracebackException.from_exception(fault, capture_locals=False).format())
    made = layer(PRESETS["compact"], shape, stem(2, 1, 3), key)
    printed = [repr(key), str(key), f"{key}", repr([{"key": key}]), record.getMessage(), trace, repr(made)]
    printed.append(repr(morpher(PRESETS["compact"], shape, key)))
    for text in printed:
        assert "secret-seed" not in text and seed.hex()[:16] not in text
    assert not hasattr(key, "__dict__")
    assert repr(key) == f"MorphKey({key.fingerprint().hex()[:8]})"
