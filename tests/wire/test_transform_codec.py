"""The codecs k8 to k3: bounds, what comes back bit for bit, and hostile bytes.

Legend: B samples, K blocks, d coefficients of a block, V = K·d, G cores.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from mple.per_node import Common
from mple.plan import MorphSettings, WireSettings
from mple.plan.settings import RunChoices
from mple.wire import coefficient_models
from mple.wire.codec import Codec, CodeError, EncodedSamples
from mple.wire.codecs import codec_named
from mple.wire.coding import Coding, CodingError
from mple.wire.coefficient_models import FOURS
from mple.wire.contexts import CLASSES, FEATURES, FirstBand, sub_bands
from mple.wire.gaussian_models import ModelsDifferError
from mple.wire.names import TRANSFORM_CODECS
from tests.support.small_plan import small_plan

STEPS = {name: 2.0 ** (3 - float(name[1:])) for name in TRANSFORM_CODECS}
each_codec = pytest.mark.parametrize("name", ["k8", "k5.5", "k3"])
COLUMNS = 12
DEVIATIONS_d = 4 * 0.6 ** np.arange(COLUMNS)


def coefficients(seed: int, *rows: int) -> NDArray[np.float32]:
    """As a picture's blocks have them: wide ones first, and blocks of unlike contrast."""
    generator = np.random.default_rng(seed)
    contrast = np.exp(generator.normal(0, 0.7, (*rows, 1)))
    return (generator.normal(size=(*rows, COLUMNS)) * contrast * DEVIATIONS_d).astype(np.float32)


@cache
def fitted(name: str, cores: int = 1, grid: tuple[int, int] = (2, 2)) -> Codec:
    samples = [coefficients(core, 400) for core in range(cores)]
    return codec_named(name).fitted(Coding.fit(samples, STEPS[name], grid=grid))


K6 = fitted("k6")
HONEST = K6.encode(coefficients(9, 3, 4))
PACKED = K6.pack(HONEST)


@pytest.mark.parametrize("grid", [(1, 4), (4, 1), (3, 5), (2, 2)])
@pytest.mark.parametrize("columns", [1, 3, 4, 60])
def test_any_grid_and_any_number_of_columns(grid: tuple[int, int], columns: int) -> None:
    blocks = grid[0] * grid[1]
    generator = np.random.default_rng(columns)
    c_BKd = generator.laplace(0, 3 * 0.9 ** np.arange(columns), (20, blocks, columns)).astype(np.float32)
    codec = codec_named("k5.5").fitted(Coding.fit([c_BKd.reshape(-1, columns)], STEPS["k5.5"], grid=grid))
    coded = codec.encode(c_BKd)
    back = codec.unpack(codec.pack(coded), samples=20, blocks=blocks, values=blocks * columns)
    assert back.codes_BV.tobytes() == coded.codes_BV.tobytes()


def test_tiles_that_are_alike_cost_less_beside_each_other() -> None:
    """What is predicted, and classes by what lies around; 16 tiles of a picture share their mean and contrast."""
    generator = np.random.default_rng(2)
    mean, contrast = generator.normal(0, 8, (300, 1, 1)), np.exp(generator.normal(0, 1.2, (300, 1, 1)))
    c_BKd = generator.normal(size=(300, 16, COLUMNS)) * contrast * DEVIATIONS_d
    c_BKd[:, :, :3] = mean + 0.2 * c_BKd[:, :, :3]
    c_BKd = c_BKd.astype(np.float32)
    sizes = []
    for grid in ((1, 1), (4, 4)):
        codec = codec_named("k5.5").fitted(Coding.fit([c_BKd.reshape(-1, COLUMNS)], STEPS["k5.5"], grid=grid))
        sizes.append(len(codec.pack(codec.encode(c_BKd))))
    assert sizes[1] < 0.8 * sizes[0]


@each_codec
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_the_error_is_at_most_three_quarters_of_a_step(name: str, data: st.DataObject) -> None:
    codec, step = fitted(name), STEPS[name]
    largest = data.draw(st.sampled_from([step, 3.0, 31_000 * step]))
    bound = float(np.float32(largest))
    c_BKd = data.draw(hnp.arrays(np.float32, (2, 3, COLUMNS), elements=st.floats(-bound, bound, width=32)))
    back_BKd = codec.decode(codec.encode(c_BKd), 3)
    assert (back_BKd.dtype, back_BKd.shape) == (np.float32, c_BKd.shape)
    slack = 2.0**-22 * np.abs(c_BKd)  # of float32 products
    assert (np.abs(back_BKd.astype(np.float64) - c_BKd) <= 0.75 * step + slack).all()


@each_codec
@pytest.mark.parametrize("cores", [1, 4])
@pytest.mark.parametrize("grid", [(1, 1), (2, 2)])
@pytest.mark.parametrize("samples", [0, 1, 7])
def test_what_is_packed_comes_back(name: str, cores: int, grid: tuple[int, int], samples: int) -> None:
    codec = fitted(name, cores, grid)
    coded = codec.encode(coefficients(5, samples, 4))
    assert (coded.codes_BV.dtype, coded.codes_BV.shape) == (np.int16, (samples, 4 * COLUMNS))
    assert codec.sample_bytes(blocks=4, values=4 * COLUMNS) == 8 * COLUMNS
    back = codec.unpack(codec.pack(coded), samples=samples, blocks=4, values=4 * COLUMNS)
    assert back.codes_BV.tobytes() == coded.codes_BV.tobytes()
    assert back.exponents_BK.shape == coded.exponents_BK.shape == (samples, 0)


@settings(deadline=None, max_examples=100)
@given(
    codes_BKd=hnp.arrays(np.int16, (2, 4, COLUMNS), elements=st.integers(-32_000, 32_000)),
    largest=st.sampled_from([0, 1, 5, 127, 128, 32_000]),
)
def test_any_codes_come_back(codes_BKd: NDArray[np.int16], largest: int) -> None:
    coded = EncodedSamples(np.clip(codes_BKd, -largest, largest).reshape(2, -1), np.empty((2, 0), np.uint8))
    back = K6.unpack(K6.pack(coded), samples=2, blocks=4, values=4 * COLUMNS)
    assert back.codes_BV.tobytes() == coded.codes_BV.tobytes()


def test_spread_coefficients_take_fewer_bits_than_the_values_that_they_came_from() -> None:
    c_BKd = coefficients(3, 240, 4)
    wide = np.linalg.qr(np.random.default_rng(1).normal(size=(COLUMNS, COLUMNS)))[0]
    q6 = codec_named("q6")
    assert len(K6.pack(K6.encode(c_BKd))) < 0.85 * len(q6.pack(q6.encode((c_BKd @ wide).astype(np.float32))))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 32_001 / 8, -1e30])
def test_what_can_not_be_coded_is_refused(value: float) -> None:
    c_BKd = coefficients(1, 2, 4)
    c_BKd[1, 3, 5] = value
    with pytest.raises(ValueError, match=r"^codec k6: a coefficient is NaN, infinite or beyond the codec's range$"):
        K6.encode(c_BKd)


def test_the_numbers_of_a_key_are_needed_by_these_codecs_and_refused_by_the_others() -> None:
    coding = Coding.fit([coefficients(1, 50)], 1 / 8)
    geometry = small_plan(morph=MorphSettings(), channels=3, side_px=32).geometry
    for name in ("f32", "q6"):
        codec = codec_named(name)
        assert (codec.needs_coding, codec.fitted(None)) == (False, codec)
        assert codec.values(geometry) == geometry.morphed_elements
        with pytest.raises(ValueError, match=f"codec {name} codes morphed values as they are"):
            codec.fitted(coding)
    k6 = codec_named("k6")
    assert k6.needs_coding
    assert k6.fitted(coding).values(geometry) == geometry.blocks * COLUMNS
    assert k6.planned_bytes(geometry) == k6.fitted(coding).planned_bytes(geometry) == geometry.morphed_elements // 2
    with pytest.raises(ValueError, match="codec k6 needs the numbers that come with a key's basis"):
        k6.fitted(None)
    with pytest.raises(ValueError, match="codec k6 needs the numbers that come with a key's basis"):
        k6.pack(HONEST)


def golden_coding(cores: int, grid: tuple[int, int]) -> Coding:
    """Made of whole numbers by hand, so that no machine's arithmetic is in it."""
    parts = len(sub_bands(COLUMNS))
    levels = np.arange(160, 160 - 4 * COLUMNS, -4)
    return Coding(
        np.tile(levels, (cores, 1)).astype(np.uint8),
        grid,
        40,
        (1 + np.arange(parts * FEATURES).reshape(parts, FEATURES) % 5 * 4000).astype(np.uint32),
        (np.arange(CLASSES) + 10 + np.arange(parts)[:, None]).clip(0, 59).astype(np.uint8),
    )


GOLDEN = {
    (1, (2, 2)): (
        "903cfa62dc9768893cd9850efecf6ee3d92e7c1f5c26cc0fdccc696f2967a6a049c17f891444359c26d0347306307871"
        "2dd51c87f64982e652190ace130faef7a83017c0ee135de355d17fff91cf7c0724ff7f4d66aba15127eba02d3f05000b"
        "b8f10900"
    ),
    (1, (1, 1)): (
        "130382063e1a4314788361956c1111ea3e5b44815baf74fc15decab14bc1b3d924b55e2e2642487747878dadf5d21a5b"
        "43dac9267ffca32ba4880a48f34cfe44de0500366d416842"
    ),
    (4, (2, 2)): (
        "903cfa62dc9768892d8c94838b99fa7ad4c2768c2070c80fc51d6d16aefe66692b1080e7879a6fd98fbaed6f145597a1"
        "b982251c60287c88fc479ed33e77786b483bc924527e9ed5f79f0ceea896febd6405003c931901df"
    ),
}
"""By cores and grid: packed bytes of `golden_codes`."""


def golden_codes() -> EncodedSamples:
    """Codes -4 to 4, a few large ones, and one that has to be written out."""
    codes_BV = (np.arange(2 * 4 * COLUMNS) * 7 % 9 - 4).astype(np.int16)
    codes_BV[::12] *= 50
    codes_BV[5] = -31_999
    return EncodedSamples(codes_BV.reshape(2, -1), np.empty((2, 0), np.uint8))


@pytest.mark.parametrize(("cores", "grid"), GOLDEN)
def test_golden_bytes(cores: int, grid: tuple[int, int]) -> None:
    """What the released coder made; data on the way between two versions must stay readable."""
    codec, coded = codec_named("k6").fitted(golden_coding(cores, grid)), golden_codes()
    assert codec.pack(coded).hex() == GOLDEN[cores, grid]
    back = codec.unpack(bytes.fromhex(GOLDEN[cores, grid]), samples=2, blocks=4, values=4 * COLUMNS)
    assert back.codes_BV.tobytes() == coded.codes_BV.tobytes()


def test_golden_bytes_of_a_coding() -> None:
    """Form 1, one core, 12 coefficients, 2 x 2 tiles, table 40; levels; weights; tables."""
    coding = golden_coding(1, (2, 2))
    data = coding.to_bytes()
    assert data[:26].hex() == "01010000000c0000000200020028a09c9894908c8884807c7874"
    parts = len(sub_bands(COLUMNS))
    assert len(data) == 26 + parts * (4 * FEATURES + CLASSES)
    assert data[26:34].hex() == "01000000a10f0000"
    assert data[-CLASSES:] == bytes(range(9 + parts, 9 + parts + CLASSES))


def test_rounding_by_hand() -> None:
    """Steps of 1/8. Deviations of 16 and more steps round to the nearest; of a quarter of a step at 3/4, as late as can
    be."""
    coding = replace(golden_coding(1, (1, 1)), levels_Gd=np.array([[8 * 20, 8 * 11]], np.uint8))
    codec = codec_named("k6").fitted(coding)
    c_BKd = np.array([[[0.51, 0.74]], [[-0.51, -0.76]], [[7.49, 1.74]], [[7.6, -1.76]]], np.float32) / 8
    assert codec.encode(c_BKd).codes_BV.tolist() == [[1, 0], [-1, -1], [7, 1], [8, -2]]


def test_a_prediction_by_hand() -> None:
    """Of 2 x 2 tiles: nothing; the west; (12 north + 4 north-east) / 16; (8 west + 10 north - 2 north-west) / 16."""
    first = FirstBand(1, (2, 2), 1)
    every = np.arange(4)
    first.fill(every, np.array([[[100], [60], [80], [7]]], np.int32), np.zeros((1, 4, 1), np.int32))
    means, features = first.predictions(every)
    assert means.ravel().tolist() == [0, 100, (12 * 100 + 4 * 60 + 8) // 16, 65]
    assert features[0].ravel().tolist() == [0, 0, 0, abs(80 - 100) + abs(60 - 100)]
    assert [wave.tolist() for wave in first.near.waves] == [[0], [1], [2], [3]]


def test_another_machines_tables_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coefficient_models, "_DIGEST", "0" * 64)
    monkeypatch.setattr(coefficient_models, "_models", Common())
    with pytest.raises(ModelsDifferError, match=r"set wire.codec to f32 or f16"):
        K6.pack(HONEST)


def test_tables_are_laplacian() -> None:
    """Masses under the table's density, integrated by hand: exp(-√2·|x| / s), from u on for a code that is not 0."""
    for table in (0, 9, 16, 20, 30, 47, 59):
        theta = math.exp(-math.sqrt(2) / 2 ** (table / 4 - 5))
        zero, one, three = (1 - theta**0.62), theta**0.62 * (1 - theta) / 2, theta**2.62 * (1 - theta) / 2
        bits = coefficient_models.table_bits(1, 0, 0)[table], coefficient_models.table_bits(0, 1, 2)[table]
        assert bits == pytest.approx((-math.log2(zero), -math.log2(three)))
        if table < FOURS:
            masses = coefficient_models._sign_table(table) / 2**22
            assert masses[40] == pytest.approx(zero**4, abs=1e-6)
            assert coefficient_models._beyond_table(table)[0] / 2**22 == pytest.approx(1 - theta, abs=1e-6)
        else:
            whole, most, shift = coefficient_models._direct_table(table)
            assert shift == max(0, table // 4 - 7)
            centre = zero + sum(one * theta**n for n in range(2**shift - 1))
            assert whole[most] / 2**22 == pytest.approx(centre, abs=1e-6)


@pytest.mark.parametrize(("named", "taken"), [("k5.5", "q6"), ("k6", "q6"), ("k3", "q4"), ("k8", "q8"), ("f16", "f16")])
def test_uniform_cores_take_a_codec_of_values_as_they_are(named: str, taken: str) -> None:
    wire = WireSettings(codec=named)
    assert RunChoices(morph=MorphSettings(preset="mole"), wire=wire).wire.codec == taken
    assert RunChoices(wire=wire).wire.codec == named


def refused_or_sound(packed: bytes, samples: int = 3, blocks: int = 4) -> bool:
    """Whether bytes are refused, by the one exception that is for it; else their values are ones that can be."""
    try:
        coded = K6.unpack(packed, samples=samples, blocks=blocks, values=blocks * COLUMNS)
    except CodeError:
        return True
    assert (coded.codes_BV.dtype, coded.codes_BV.shape) == (np.int16, (samples, blocks * COLUMNS))
    assert int(np.abs(coded.codes_BV.astype(int)).max(initial=0)) <= 32_000
    return False


def test_every_truncated_and_extended_stream_is_refused() -> None:
    for size in range(len(PACKED)):
        assert refused_or_sound(PACKED[:size]), size
    for more in (b"\0", bytes(4), b"\xff" * 4, b"\1\0\0\0", bytes(4000), PACKED):
        assert refused_or_sound(PACKED + more)
    assert refused_or_sound(b"")
    assert not refused_or_sound(b"", samples=0)


def test_every_flipped_bit_is_refused_or_gives_codes_that_can_be() -> None:
    for bit in range(0, 8 * len(PACKED), 5):
        damaged = bytearray(PACKED)
        damaged[bit // 8] ^= 1 << bit % 8
        refused_or_sound(bytes(damaged))


@settings(max_examples=200, deadline=None)
@given(noise=st.binary(max_size=200), samples=st.integers(0, 4), blocks=st.integers(1, 5))
def test_noise_is_refused_or_gives_codes_that_can_be(noise: bytes, samples: int, blocks: int) -> None:
    refused_or_sound(noise, samples, blocks)


@pytest.mark.parametrize("cores", [1, 4])
def test_a_coding_comes_back_and_packs_the_same_bytes(cores: int) -> None:
    coding = Coding.fit([coefficients(core, 300) for core in range(cores)], 1 / 8)
    back = Coding.from_bytes(coding.to_bytes(), cores=cores, core_side=48)
    assert (back.cores, back.columns, back.to_bytes()) == (cores, COLUMNS, coding.to_bytes())
    coded = K6.encode(coefficients(9, 3, 4))
    assert codec_named("k6").fitted(back).pack(coded) == codec_named("k6").fitted(coding).pack(coded)


def test_deviations_are_the_root_mean_squares_of_the_sample() -> None:
    samples = [coefficients(core, 4000) for core in range(2)]
    rms_Gd = np.sqrt([np.square(c_Rd.astype(np.float64)).mean(0) for c_Rd in samples])
    np.testing.assert_allclose(Coding.fit(samples, 1 / 8).deviations_Gd, rms_Gd, rtol=0.05)


def test_a_sample_without_blocks_or_with_a_value_that_is_none_is_refused() -> None:
    for bad in ([], [np.zeros((0, 4), np.float32)], [np.zeros((4, 3), np.float32), np.zeros((4, 2), np.float32)]):
        with pytest.raises(ValueError, match="sample coefficients"):
            Coding.fit(bad, 1 / 8)
    with pytest.raises(ValueError, match="NaN or infinite"):
        Coding.fit([np.full((3, 2), np.nan, np.float32)], 1 / 8)


def test_bytes_that_are_no_coding_of_the_plan_are_refused() -> None:
    data = Coding.fit([coefficients(1, 50)], 1 / 8).to_bytes()
    for bad in (b"", data[:5], data[:-1], data + b"\0", b"\xff" + data[1:]):
        with pytest.raises(CodingError):
            Coding.from_bytes(bad, cores=1, core_side=48)
    for cores, side in ((2, 48), (1, COLUMNS - 1)):
        with pytest.raises(CodingError, match="due are form"):
            Coding.from_bytes(data, cores=cores, core_side=side)


@settings(max_examples=200, deadline=None)
@given(noise=st.binary(max_size=60))
def test_noise_is_no_coding_or_one_that_packs(noise: bytes) -> None:
    try:
        coding = Coding.from_bytes(noise, cores=1, core_side=48)
    except CodingError:
        return
    codec = codec_named("k6").fitted(coding)
    coded = EncodedSamples(np.zeros((1, 2 * coding.columns), np.int16), np.empty((1, 0), np.uint8))
    assert not codec.unpack(codec.pack(coded), samples=1, blocks=2, values=2 * coding.columns).codes_BV.any()
