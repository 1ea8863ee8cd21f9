"""Transform codecs' bases, and morphing and layers with them, against the definition written out."""

import numpy as np
import pytest
from numpy.typing import NDArray

from mple.morph import Cores, Ensemble, ImageShape, MorphScheme
from mple.morph import basis as basis_module
from mple.morph.augmented import build_augmented_layer, fold
from mple.morph.basis import Basis, bands, fit_directions, require_transformable
from mple.morph.morpher import Morpher, to_blocks
from mple.morph.scheme import MorphGeometry
from tests.support.morph_cases import (
    KEY,
    OTHER_KEY,
    SESSION,
    channel_order,
    layer,
    plain_features,
    stem,
    tiled,
    unrolled,
)
from tests.support.naive import convolution_matrix, morph_matrix, order_matrix, unroll

STEP = 2.0**-3


def smooth_images(shape: ImageShape, count: int, seed: int = 3) -> NDArray[np.float64]:
    """Images with the falling spectrum of natural ones, of unit variance."""
    drawn = np.random.default_rng(seed).normal(size=(count, shape.channels, shape.height, shape.width))
    rows, columns = np.fft.fftfreq(shape.height)[:, None], np.fft.rfftfreq(shape.width)[None]
    shaped = np.fft.irfft2(np.fft.rfft2(drawn) / (rows**2 + columns**2 + 1e-2) ** 1.5, s=(shape.height, shape.width))
    return np.asarray(shaped / shaped.std())


def fitted(scheme: MorphScheme, shape: ImageShape, x_BCHW: NDArray[np.float64], step: float = STEP) -> Basis:
    blocks = to_blocks(x_BCHW, scheme, MorphGeometry.of(scheme, shape))
    return fit_directions(blocks, scheme, shape, KEY, session=SESSION, key_epoch=1, step=step)


def morpher(scheme: MorphScheme, shape: ImageShape, basis: Basis) -> Morpher:
    return Morpher(scheme, shape, KEY, session=SESSION, key_epoch=1, basis=basis)


CASES = [
    pytest.param(tiled(Cores.IDENTICAL), ImageShape(channels=3, height=12, width=16), id="compact"),
    pytest.param(tiled(Cores.IDENTICAL, 4), ImageShape(channels=1, height=14, width=9), id="tile 4"),
    pytest.param(tiled(Cores.DISTINCT, 5), ImageShape(channels=2, height=10, width=12), id="distinct, padded"),
    pytest.param(unrolled(Cores.DISTINCT), ImageShape(channels=1, height=12, width=12), id="paper"),
    pytest.param(unrolled(Cores.DISTINCT, 4, 1), ImageShape(channels=1, height=10, width=10), id="cores with a border"),
    pytest.param(unrolled(Cores.IDENTICAL, 6), ImageShape(channels=3, height=12, width=8), id="one core 6 times"),
    pytest.param(unrolled(Cores.DISTINCT), ImageShape(channels=2, height=12, width=10), id="paper, separable"),
    pytest.param(unrolled(Cores.DISTINCT, 4), ImageShape(channels=2, height=20, width=10), id="cores, separable"),
    pytest.param(tiled(Cores.DISTINCT, 11), ImageShape(channels=2, height=11, width=20), id="tiles, separable"),
]


@pytest.fixture(autouse=True)
def small_dense_sides(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Separable directions for cores that the definition can be written out for."""
    if "separable" in request.node.name:
        monkeypatch.setattr(basis_module, "LARGEST_DENSE_SIDE", 64)


@pytest.mark.parametrize(("scheme", "shape"), CASES)
def test_coefficients_and_layer_by_the_definition(scheme: MorphScheme, shape: ImageShape) -> None:
    """c.W~' is nearest to t among all that W~ spans, and c's features are those of c.W~'."""
    kernels, x = stem(3, shape.channels, 3).astype(np.float64), smooth_images(shape, 40)
    basis, held = fitted(scheme, shape, x), x[:2]
    geometry = MorphGeometry.of(scheme, shape)
    t = (unroll(scheme, shape, held) @ (m := morph_matrix(scheme, shape, KEY, SESSION, 1))).reshape(
        2, geometry.blocks, geometry.core_side
    )
    codes, scales = basis.synthesis_GdQ.astype(np.float64), basis.scales_Gd.astype(np.float64)
    c, near = np.empty((2, geometry.blocks, basis.columns)), np.empty_like(t)
    for block in range(geometry.blocks):
        g = block if len(codes) > 1 else 0
        w_Qd = (codes[g] * scales[g][:, None]).T
        c[:, block] = np.linalg.lstsq(w_Qd, t[:, block].T, rcond=None)[0].T
        near[:, block] = c[:, block] @ w_Qd.T
    found = morpher(scheme, shape, basis).morph(held)
    np.testing.assert_allclose(found, c, rtol=0, atol=1e-10)
    order = channel_order(3)
    features = near.reshape(2, -1) @ np.linalg.inv(m) @ convolution_matrix(scheme, shape, kernels)
    features = features @ order_matrix(order, shape.height * shape.width)
    made = build_augmented_layer(
        scheme, shape, kernels, KEY, order, session=SESSION, key_epoch=1, basis=basis, dtype=np.float64
    )
    assert made.coefficients == basis.columns
    np.testing.assert_allclose(made.apply(found).reshape(2, -1), features, rtol=0, atol=1e-10)
    folded = fold(layer(scheme, shape, kernels, dtype=np.float64), basis)
    np.testing.assert_allclose(folded.weight, made.weight, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("scheme", "shape"), CASES)
def test_a_whole_basis_is_exact(scheme: MorphScheme, shape: ImageShape) -> None:
    kernels, x = stem(3, shape.channels, 3).astype(np.float64), smooth_images(shape, 3)
    basis = fitted(scheme, shape, x, step=1e-9)
    geometry = MorphGeometry.of(scheme, shape)
    if geometry.morphed_elements == shape.elements:  # else what pads them is always 0, and cut
        assert basis.columns == geometry.core_side
    sites = morpher(scheme, shape, basis)
    np.testing.assert_allclose(sites.unmorph(sites.morph(x)), x, rtol=0, atol=1e-11)
    made = build_augmented_layer(
        scheme, shape, kernels, KEY, channel_order(3), session=SESSION, key_epoch=1, basis=basis, dtype=np.float64
    )
    expected = plain_features(x, kernels)[:, channel_order(3)]
    np.testing.assert_allclose(made.apply(sites.morph(x)), expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize(("scheme", "shape"), CASES)
def test_what_is_cut_is_small(scheme: MorphScheme, shape: ImageShape) -> None:
    """Of pictures that the basis was not fitted to."""
    fit, others = np.split(smooth_images(shape, 400), [300])
    sites = morpher(scheme, shape, fitted(scheme, shape, fit))
    lost = sites.unmorph(sites.morph(others)) - others
    assert np.sqrt(np.square(lost).mean()) < STEP / 5


def test_directions_are_compact_and_some_are_cut() -> None:
    scheme, shape = tiled(Cores.IDENTICAL), ImageShape(channels=1, height=32, width=32)
    fit, others = np.split(smooth_images(shape, 200), [150])
    basis = fitted(scheme, shape, fit, 4 * STEP)
    assert 4 <= basis.columns < 60
    c = morpher(scheme, shape, basis).morph(others).reshape(-1, basis.columns)
    rms = np.sqrt(np.square(c).mean(0))
    assert np.square(rms[:3]).sum() > 0.7 * np.square(rms).sum()
    assert (rms[:-1] > 0.5 * rms[1:]).all()


@pytest.mark.parametrize(
    ("variances", "expected"),
    [
        ([1.0], [(0, 1)]),
        ([4.0, 1.0, 0.2, 0.1, 0.0], [(0, 5)]),
        ([9.0, 8.0, 7.0, 6.0, 4.4, 4.0, 3.0, 0.0, 0.0, 0.0], [(0, 4), (4, 7), (7, 10)]),
        ([9.0, 1.0, 1.0, 1.0, 0.9, 0.5, 0.4, 0.3, 0.2], [(0, 3), (3, 6), (6, 9)]),
    ],
)
def test_bands(variances: list[float], expected: list[tuple[int, int]]) -> None:
    assert bands(np.array(variances)) == expected


def test_values_do_not_depend_on_companions() -> None:
    scheme, shape = tiled(Cores.DISTINCT), ImageShape(channels=3, height=16, width=16)
    x = smooth_images(shape, 130).astype(np.float32)
    sites = morpher(scheme, shape, fitted(scheme, shape, x))
    whole = sites.morph(x)
    assert whole.dtype == np.float32
    for low, high in ((0, 1), (5, 102), (129, 130)):
        assert np.array_equal(sites.morph(x[low:high]), whole[low:high])


def test_the_rotation_is_the_keys_own() -> None:
    scheme, shape = tiled(Cores.IDENTICAL, 4), ImageShape(channels=1, height=16, width=16)
    blocks = to_blocks(smooth_images(shape, 50), scheme, MorphGeometry.of(scheme, shape))
    one, again, other, later = (
        fit_directions(blocks, scheme, shape, key, session=SESSION, key_epoch=epoch, step=STEP)
        for key, epoch in ((KEY, 1), (KEY, 1), (OTHER_KEY, 1), (KEY, 2))
    )
    assert np.array_equal(one.synthesis_GdQ, again.synthesis_GdQ)
    plain = [
        Morpher(scheme, shape, key, session=SESSION, key_epoch=epoch, basis=basis)
        for basis, key, epoch in ((one, KEY, 1), (other, OTHER_KEY, 1), (later, KEY, 2))
    ]
    first, second, third = (one.morph(smooth_images(shape, 5, seed=9)) for one in plain)
    for stranger in (second, third):  # no sign makes them equal
        assert np.abs(np.abs(first) - np.abs(stranger)).max() > 10 * STEP


def test_few_pictures_cut_nothing() -> None:
    scheme, shape = tiled(Cores.IDENTICAL, 16), ImageShape(channels=1, height=16, width=16)
    assert fitted(scheme, shape, smooth_images(shape, 200)).columns == 256


def test_what_has_no_basis_is_refused() -> None:
    shape = ImageShape(channels=3, height=32, width=32)
    with pytest.raises(ValueError, match=r'uniform ones set wire.codec = "q6"'):
        require_transformable(unrolled(Cores.IDENTICAL, 12, 1, Ensemble.UNIFORM), shape)
    with pytest.raises(ValueError, match=r"morph.kappa = 2 makes cores of 1536 values, no whole rows"):
        require_transformable(unrolled(Cores.DISTINCT, 2), shape)
    with pytest.raises(ValueError, match="there are none"):
        fitted(tiled(Cores.IDENTICAL), shape, np.empty((0, 3, 32, 32)))
    basis = fitted(tiled(Cores.IDENTICAL), shape, smooth_images(shape, 3))
    with pytest.raises(ValueError, match=r"1 cores of side 192; the scheme needs \(16, 192\)"):
        morpher(tiled(Cores.DISTINCT), shape, basis)
    codes = basis.synthesis_GdQ
    with pytest.raises(ValueError, match="not above 0"):
        Basis(codes, basis.scales_Gd * 0)
    with pytest.raises(ValueError, match="columns that depend"):
        Basis(codes[:, [0, 0]], basis.scales_Gd[:, [0, 0]]).analysis(0)
