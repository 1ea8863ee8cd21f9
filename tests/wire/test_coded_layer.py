"""Layers rounded by what they will meet and entropy coded: the errors that are promised, bytes, and hostile bytes."""

import contextlib
import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from mple.morph import PRESETS, Cores, ImageShape, MorphKey, MorphScheme
from mple.morph.augmented import AugmentedLayer, build_augmented_layer
from mple.morph.basis import fit_directions
from mple.morph.morpher import Morpher, to_blocks
from mple.morph.scheme import MorphGeometry
from mple.wire.coded_layer import CodedLayer, CodedLayerError, coded, weights_of
from mple.wire.coding import Coding
from mple.wire.layer_file import LayerFileError, read_layer, write_layer
from tests.morph.test_basis import smooth_images
from tests.support.morph_cases import stem, tiled, unrolled

STEP = 2.0**-3
IMAGE = ImageShape(channels=2, height=16, width=16)
FILTERS = 6
SHAPE = (2, 9, 4, 6, 6)


def flat(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """The plane that is 1 everywhere: a frequency by itself."""
    return np.ones((1, *shape[3:]))


def drawn(seed: int = 1, shape: tuple[int, ...] = SHAPE) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights, and deviations that fall fast."""
    generator = np.random.default_rng(seed)
    deviations = np.broadcast_to(np.geomspace(20, 0.01, shape[1]), shape[:2]).astype(np.float32)
    return generator.normal(size=shape).astype(np.float32), deviations


def test_every_row_adds_the_same_error() -> None:
    """Within half a step of a row in every value's frequency, and spread over them, so uniform to a few percent."""
    weight, deviations = drawn(shape=(2, 9, 4, 16, 16))
    whole = coded(weight, deviations, STEP, flat(weight.shape))
    back = weights_of(whole, weight.shape, flat(weight.shape))
    met = np.maximum(deviations, STEP / 4)[:, :, None]
    error = np.sqrt(np.square(back - weight).mean((3, 4))) * met
    added = STEP / 4 * np.sqrt(np.square(weight).sum((0, 1, 3, 4)) / (2 * 16 * 16) / 9)
    np.testing.assert_allclose(error[:, :5], np.broadcast_to(added / 12**0.5, error[:, :5].shape), rtol=0.15)
    assert (error <= added * 0.6).all()


def test_along_smooth_planes_the_error_is_a_64th() -> None:
    """Of ones and slopes, which the cosine transform alone does not have as frequencies."""
    weight, deviations = drawn(shape=(2, 9, 4, 10, 10))
    slope = np.linspace(-1, 1, 10)
    planes_SYX = np.stack([np.outer(a, b) for a in (np.ones(10), slope) for b in (np.ones(10), slope)])
    whole = coded(weight, deviations, STEP, planes_SYX)
    error = weights_of(whole, weight.shape, planes_SYX) - weight
    along = np.einsum("gdfyx,syx->sgdf", error, planes_SYX / np.linalg.norm(planes_SYX, axis=(1, 2), keepdims=True))
    steps = whole.rows_Gd[:, :, None] * whole.channels_F
    assert (np.abs(along) <= steps / 128 + 1e-6).all()
    assert (np.abs(error).max((3, 4)) > steps / 8).all()


def test_golden_bytes() -> None:
    weight = np.arange(-8, 8, dtype=np.float32).reshape(1, 2, 2, 2, 2)
    whole = coded(weight, np.array([[2.0, 0.5]], np.float32), 1.0, np.ones((1, 2, 2)))
    assert whole.levels_Gd.tolist() == GOLDEN_LEVELS
    assert whole.words.tolist() == GOLDEN_WORDS


GOLDEN_LEVELS = [[6, 2]]
GOLDEN_WORDS = [4294964542, 3891346905, 2560378972, 1638845510, 1487988262]


def test_zeros_and_large_weights_come_back() -> None:
    weight, deviations = drawn()
    weight[:, 3] = 0
    weight[:, 4] *= 1e4
    weight[0, 5, 1, 2, 3] = 1e5
    whole = coded(weight, deviations, 1e-4, flat(SHAPE))
    off = np.sqrt(
        np.square(weights_of(whole, SHAPE, flat(SHAPE)) - weight).sum((3, 4))
    )  # 36 frequencies, half a step each
    assert (off <= 3.001 * whole.rows_Gd[:, :, None] * whole.channels_F + 1e-2).all()
    nothing = coded(weight * 0, deviations, STEP, flat(SHAPE))
    assert not weights_of(nothing, SHAPE, flat(SHAPE)).any()
    assert len(nothing.words) < 40
    with pytest.raises(ValueError, match="NaN"):
        coded(np.full(SHAPE, np.nan, np.float32), deviations, STEP, flat(SHAPE))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 2**32 - 1), max_size=40), st.integers(-128, 127))
def test_no_words_surprise(words: list[int], level: int) -> None:
    """Whatever they hold: weights of the shape, or an error of ours."""
    whole = CodedLayer(
        np.ones((1, 3), np.float32),
        np.ones(2, np.float32),
        np.full((1, 3), level, np.int8),
        np.array(words, np.uint32),
    )
    with contextlib.suppress(CodedLayerError):
        assert np.isfinite(weights_of(whole, (1, 3, 2, 4, 4), np.ones((1, 4, 4)))).all()


CASES = [
    pytest.param(tiled(Cores.IDENTICAL), id="compact"),
    pytest.param(tiled(Cores.DISTINCT), id="distinct"),
    pytest.param(tiled(Cores.IDENTICAL, 5), id="tile 5"),
    pytest.param(unrolled(Cores.DISTINCT), id="paper"),
    pytest.param(unrolled(Cores.IDENTICAL, 4), id="one core 4 times"),
]


def made(scheme: MorphScheme) -> tuple[AugmentedLayer, NDArray[np.float32]]:
    """A site's layer with its coding, and coefficients of other pictures."""
    fit, held, others = np.split(smooth_images(IMAGE, 300), [200, 250])
    key, session = MorphKey(bytes(32)), b"s"
    blocks = to_blocks(fit, scheme, MorphGeometry.of(scheme, IMAGE))
    basis = fit_directions(blocks, scheme, IMAGE, key, session=session, key_epoch=1, step=STEP)
    morpher = Morpher(scheme, IMAGE, key, session=session, key_epoch=1, basis=basis)
    c_NKd = morpher.morph(held.astype(np.float32))
    shared = scheme.cores is Cores.IDENTICAL
    coding = Coding.fit([c_NKd.reshape(-1, basis.columns)] if shared else list(c_NKd.swapaxes(0, 1)), STEP)
    basis = dataclasses.replace(basis, coding=coding.to_bytes())
    layer = build_augmented_layer(
        scheme, IMAGE, stem(FILTERS, 2, 3), key, np.arange(FILTERS), session=session, key_epoch=1, basis=basis
    )
    return layer, morpher.morph(others.astype(np.float32))


@pytest.mark.parametrize("scheme", CASES)
def test_a_coded_layer_comes_back_with_less_error_than_the_codes_have(tmp_path: Path, scheme: MorphScheme) -> None:
    layer, c_NKd = made(scheme)
    path = tmp_path / "layer.safetensors"
    write_layer(layer, path, "coded", STEP)
    back = read(path, scheme)
    assert (back.coefficients, back.coding) == (layer.coefficients, layer.coding)
    features = layer.apply(c_NKd)
    lost = np.sqrt(np.square(back.apply(c_NKd) - features).mean())
    by_codes = np.sqrt(np.square(layer.apply(np.rint(c_NKd / STEP) * STEP - c_NKd)).mean())
    assert lost < by_codes / 3
    assert path.stat().st_size < 0.8 * layer.weight.size


def read(path: Path, scheme: MorphScheme) -> AugmentedLayer:
    return read_layer(path, scheme=scheme, image=IMAGE, filters=FILTERS, kernel=3, numbers="coded", coefficients=True)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"augmented.words": np.zeros(10**6, np.uint32)}, "the plan allows"),
        ({"augmented.words": np.zeros(4, np.int32)}, "I32"),
        ({"augmented.rows": np.ones((1, 200), np.float32)}, "allows 1 to 128"),
        ({"augmented.rows": np.ones((1, 0), np.float32)}, "allows 1 to 128"),
        ({"augmented.channels": np.ones(7, np.float32)}, "augmented.channels of"),
        ({"augmented.channels": np.full(6, np.nan, np.float32)}, "not above 0"),
        ({"augmented.extra": np.ones(6, np.float32)}, "allows 1 to 128|instead of"),
    ],
)
def test_what_is_no_coded_layer_is_refused(
    tmp_path: Path, compact_file: Path, changed: dict[str, NDArray[np.generic]], text: str
) -> None:
    path = tmp_path / "layer.safetensors"
    save_file(load_file(compact_file) | changed, path)
    with pytest.raises(LayerFileError, match=text):
        read(path, PRESETS["compact"])


@pytest.fixture(scope="module")
def compact_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("coded") / "layer.safetensors"
    write_layer(made(PRESETS["compact"])[0], path, "coded", STEP)
    return path
