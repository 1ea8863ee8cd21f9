"""Prepared layers against `AugmentedLayer.apply`, which the tests beside this one compare with the definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mple.model.device import CPU, Device
from mple.model.first_layer.prepared import PreparedLayer, prepare_layer
from mple.morph import PRESETS, Arithmetic, Cores, Ensemble, ImageShape, MorphScheme
from mple.morph.augmented import AugmentedLayer
from tests.support.morph_cases import images, layer, morpher, stem, tiled, unrolled

PLAIN = Device(torch.device("cpu"))
"""The processor, but with torch's own products, as another device has them."""
INTEGERS = Device(torch.device("cpu"), multiplies_bytes=True)
"""The same with products of bytes, as a CUDA device has them."""
BOUNDS = {Arithmetic.F32: 1e-6, Arithmetic.BF16: 4e-3, Arithmetic.INT8: 2e-2}
"""Root mean square of the error over that of the features, as the module promises."""
TILED = [pytest.param(tiled(Cores.IDENTICAL), id="tiled"), pytest.param(tiled(Cores.DISTINCT), id="distinct")]
UNROLLED = [
    pytest.param(unrolled(Cores.DISTINCT), id="unrolled"),
    pytest.param(unrolled(Cores.DISTINCT, 2, 1), id="2 cores and a border"),
    pytest.param(unrolled(Cores.IDENTICAL, 3), id="one core 3 times"),
]


def error(found: Tensor, expected: Tensor) -> float:
    """Root mean square, relative."""
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def raw_and_blocks(scheme: MorphScheme, shape: ImageShape, samples: int = 5) -> tuple[AugmentedLayer, Tensor]:
    """A layer of eight filters, and morphed images whose values lie around 0."""
    centred = images(shape, samples) * 4 - 2
    t_BKQ = torch.from_numpy(morpher(scheme, shape).morph(centred))
    return layer(scheme, shape, stem(8, shape.channels, 3)), t_BKQ


def meant(raw: AugmentedLayer, t_BKQ: Tensor) -> Tensor:
    """The features by the layer itself."""
    return torch.from_numpy(np.ascontiguousarray(raw.apply(t_BKQ.numpy())))


@pytest.mark.parametrize("arithmetic", list(Arithmetic))
@pytest.mark.parametrize("scheme", [*TILED, *UNROLLED])
@pytest.mark.parametrize("size", [(16, 24), (15, 12)])
def test_each_form_gives_the_layers_features(
    scheme: MorphScheme, arithmetic: Arithmetic, size: tuple[int, int]
) -> None:
    raw, t_BKQ = raw_and_blocks(scheme, ImageShape(channels=3, height=size[0], width=size[1]))
    prepared, expected = prepare_layer(raw, arithmetic), meant(raw, t_BKQ)
    found = prepared.apply(t_BKQ)
    assert found.dtype == prepared.dtype == (torch.float32 if arithmetic is Arithmetic.F32 else torch.bfloat16)
    assert found.shape == expected.shape
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert error(found, expected) <= BOUNDS[arithmetic]


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize("tile", [1, 2, 3, 8])
@pytest.mark.parametrize("cores", list(Cores))
@pytest.mark.parametrize("size", [(1, 1), (2, 9), (11, 4), (16, 16)])
def test_pieces_that_reach_over_one_tile_or_several(
    kernel: int, tile: int, cores: Cores, size: tuple[int, int]
) -> None:
    scheme, shape = tiled(cores, tile), ImageShape(channels=2, height=size[0], width=size[1])
    raw = layer(scheme, shape, stem(3, 2, kernel))
    t_BKQ = torch.from_numpy(morpher(scheme, shape).morph(images(shape, 3)))
    torch.testing.assert_close(prepare_layer(raw, Arithmetic.F32).apply(t_BKQ), meant(raw, t_BKQ), rtol=0, atol=1e-5)


@pytest.mark.parametrize("arithmetic", list(Arithmetic))
@pytest.mark.parametrize("scheme", [*TILED, *UNROLLED[:1]])
def test_more_samples_than_are_multiplied_at_once(scheme: MorphScheme, arithmetic: Arithmetic) -> None:
    raw, t_BKQ = raw_and_blocks(scheme, ImageShape(channels=1, height=16, width=16), 600)
    assert error(prepare_layer(raw, arithmetic).apply(t_BKQ), meant(raw, t_BKQ)) <= BOUNDS[arithmetic]


@pytest.mark.parametrize("arithmetic", list(Arithmetic))
@pytest.mark.parametrize("scheme", [*TILED, *UNROLLED])
def test_filling_touches_its_own_samples_only_and_repeats_bit_for_bit(
    scheme: MorphScheme, arithmetic: Arithmetic
) -> None:
    raw, t_BKQ = raw_and_blocks(scheme, ImageShape(channels=3, height=16, width=24))
    prepared = prepare_layer(raw, arithmetic)
    whole = torch.full((9, 16, 24, 8), 7.0, dtype=prepared.dtype)
    prepared.fill(whole[2:7], t_BKQ)
    assert torch.equal(whole[2:7].permute(0, 3, 1, 2), prepared.apply(t_BKQ))
    assert bool((whole[:2] == 7).all() and (whole[7:] == 7).all())


@pytest.mark.parametrize("scheme", [*TILED, *UNROLLED])
def test_autocast_changes_nothing(scheme: MorphScheme) -> None:
    raw, t_BKQ = raw_and_blocks(scheme, ImageShape(channels=3, height=16, width=16))
    for arithmetic in Arithmetic:
        prepared = prepare_layer(raw, arithmetic)
        expected = prepared.apply(t_BKQ)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(prepared.apply(t_BKQ), expected)


@pytest.mark.parametrize("arithmetic", list(Arithmetic))
@pytest.mark.parametrize("scheme", [*TILED, *UNROLLED])
@pytest.mark.parametrize("device", [PLAIN, INTEGERS], ids=["plain", "integers"])
def test_the_form_for_any_device_gives_what_the_packed_one_gives(
    scheme: MorphScheme, arithmetic: Arithmetic, device: Device
) -> None:
    """On the processor all can be had; they round at the same places, and sum in another order."""
    raw, t_BKQ = raw_and_blocks(scheme, ImageShape(channels=3, height=15, width=16))
    packed, plain = (prepare_layer(raw, arithmetic, each) for each in (CPU, device))
    found, expected = plain.apply(t_BKQ), packed.apply(t_BKQ)
    assert (found.dtype, found.shape, found.stride()) == (expected.dtype, expected.shape, expected.stride())
    assert error(found, meant(raw, t_BKQ)) <= BOUNDS[arithmetic]
    assert error(found, expected) <= (1e-6 if arithmetic is Arithmetic.F32 else 4e-3)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(plain.apply(t_BKQ), found)


@pytest.mark.parametrize(
    ("device", "vnni"), [(CPU, True), (CPU, False), (INTEGERS, False)], ids=["vnni", "wide", "integers"]
)
def test_int8_rounds_nothing_that_was_8_bit_before(device: Device, vnni: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if vnni and not torch.cpu._is_vnni_supported():
        pytest.skip("this processor has no VNNI instructions")
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: vnni)
    shape = ImageShape(channels=3, height=16, width=16)
    raw, t_BKQ = raw_and_blocks(PRESETS["paper"], shape)
    scale_O = np.abs(raw.weight).max(0) / 127
    raw.weight[:] = np.rint(raw.weight / scale_O) * scale_O
    for step, levels in ((2.0**-5, 127), (2.0**-1, 7)):
        coded = (t_BKQ / step).round().clamp(-levels, levels) * step
        found, expected = prepare_layer(raw, Arithmetic.INT8, device).apply(coded), meant(raw, coded)
        rounding = 2.0**-8 if vnni or device.multiplies_bytes else 2.0**-7
        torch.testing.assert_close(found.float(), expected, rtol=rounding, atol=1e-6)


def test_int8_stays_within_its_bound() -> None:
    raw, t_BKQ = raw_and_blocks(PRESETS["paper"], ImageShape(channels=3, height=16, width=16))
    expected_BO = meant(raw, t_BKQ).flatten(1)
    x_BI, w_IO = t_BKQ.flatten(1), torch.from_numpy(raw.weight)
    s_B1 = 2 * x_BI.abs().amax(1, keepdim=True) / 127
    peak_O = w_IO.abs().amax(0)
    bound = s_B1 / 2 * w_IO.abs().sum(0) + peak_O / 254 * (x_BI.abs() + s_B1 / 2).sum(1, keepdim=True)
    found_BO = prepare_layer(raw, Arithmetic.INT8).apply(t_BKQ).flatten(1)
    assert bool(((found_BO - expected_BO).abs() <= bound + 2**-7 * expected_BO.abs()).all())


@pytest.mark.parametrize("arithmetic", [Arithmetic.BF16, Arithmetic.INT8])
def test_samples_and_filters_of_zeros_give_zeros(arithmetic: Arithmetic) -> None:
    shape = ImageShape(channels=1, height=8, width=8)
    kernels = stem(4, 1, 3)
    kernels[2] = 0
    raw = layer(PRESETS["paper"], shape, kernels)
    t_BKQ = torch.from_numpy(morpher(PRESETS["paper"], shape).morph(images(shape, 3)))
    t_BKQ[1] = 0
    found, expected = prepare_layer(raw, arithmetic).apply(t_BKQ), meant(raw, t_BKQ)
    assert bool((found[1] == 0).all())
    assert torch.equal(found == 0, expected == 0)


@pytest.mark.parametrize("arithmetic", list(Arithmetic))
def test_uniform_cores_compute_in_float32_whatever_is_asked_for(arithmetic: Arithmetic) -> None:
    scheme = unrolled(Cores.IDENTICAL, 2, 1, Ensemble.UNIFORM)
    raw, t_BKQ = raw_and_blocks(scheme, ImageShape(channels=3, height=14, width=14))
    assert error(prepare_layer(raw, arithmetic).apply(t_BKQ), meant(raw, t_BKQ)) <= 4e-3


def test_what_is_held_is_the_weight_once() -> None:
    raw, _ = raw_and_blocks(PRESETS["paper"], ImageShape(channels=1, height=16, width=16))
    values, outputs = raw.weight.shape[0] * raw.weight.shape[1], raw.weight.shape[1]
    held = {arithmetic: prepare_layer(raw, arithmetic).held_bytes for arithmetic in Arithmetic}
    code_bytes = 1 if torch.cpu._is_vnni_supported() else 2
    assert held == {
        Arithmetic.F32: 4 * values,
        Arithmetic.BF16: 2 * values,
        Arithmetic.INT8: code_bytes * values + 4 * outputs,
    }


@pytest.mark.parametrize("scheme", [*TILED, *UNROLLED])
def test_blocks_of_another_shape_are_refused(scheme: MorphScheme) -> None:
    raw, t_BKQ = raw_and_blocks(scheme, ImageShape(channels=3, height=16, width=16))
    prepared: PreparedLayer = prepare_layer(raw, Arithmetic.F32)
    with pytest.raises(ValueError, match=r"morphed blocks of shape \(\d+, \d+\), needs \(\d+, \d+\)"):
        prepared.apply(t_BKQ[:, :, 1:])
