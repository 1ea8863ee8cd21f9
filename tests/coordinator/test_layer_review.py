"""Review of layers: what is refused, what is accepted, and which flipped bits show.

One changed value shows by how much it changes, measured in the layer's root mean square (rms). For this layer of 51200
values in float32 a change of 1 rms always shows and one of 2e-4 rms never does: the tolerance of the agreement lies a
factor of 200 above float32 rounding. In between it depends on the probe, and the larger the layer, the less one value
weighs. In binary16 the tolerance is 150 times as large.
"""

from __future__ import annotations

import logging
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file
from torch import Tensor

from coordinator.layers.layer_review import LayerReview, ReferenceLayer
from mple.data import LabelledImages
from mple.model.stem import Stem
from mple.morph.augmented import AugmentedLayer, build_augmented_layer
from mple.morph.verify import CONSISTENCY_TOLERANCE
from mple.plan import MorphSettings, RunPlan, WireSettings
from mple.plan.orders import channel_order
from mple.rpc import ErrorCode, MpleError
from mple.wire.codecs import codec_named
from mple.wire.layer_dtype import tensors_of
from mple.wire.layer_file import write_layer
from mple.wire.names import LAYER_DTYPES
from mple.wire.transform_codec import TransformCodec
from provider_node.keys.key_basis import fitted_basis
from tests.support.small_plan import key_of
from tests.support.small_run import SECRET, layer_for, plan_for, refused, stem_for

PLAN = plan_for(wire=WireSettings(codec="q6", layer="f16"))
F32 = WireSettings(codec="q6", layer="f32")
DTYPES = {"int8": torch.int8, "f16": torch.float16, "f32": torch.float32}
PROBE = bytes(range(32))
NAME = "augmented.weight"


@pytest.fixture(params=LAYER_DTYPES)
def plan(request: pytest.FixtureRequest) -> RunPlan:
    """With layers of each type of numbers."""
    return plan_for(wire=WireSettings(codec="q6", layer=request.param))


def write(
    folder: Path, plan: RunPlan, layer: AugmentedLayer | Tensor, site: str = "south", *, name: str = NAME
) -> Path:
    """A layer's file in the plan's numbers."""
    weight = torch.from_numpy(layer.weight) if isinstance(layer, AugmentedLayer) else layer
    if plan.layer_dtype != "int8":
        return write_tensor(folder, weight.to(DTYPES[plan.layer_dtype]), site, name=name)
    path = folder / f"{site}.safetensors"
    save_arrays(tensors_of(weight.numpy(), "int8"), path)
    return path


def write_tensor(folder: Path, weight: Tensor, site: str = "south", *, name: str = NAME) -> Path:
    path = folder / f"{site}.safetensors"
    save_file({name: weight.contiguous()}, path)
    return path


def reviewed(folder: Path, plan: RunPlan = PLAN) -> tuple[LayerReview, ReferenceLayer]:
    """A review that has accepted site north's honest layer."""
    review = LayerReview(plan, stem_for(), PROBE)
    path = write(folder, plan, layer_for(plan, "north"), "north")
    review.check("north", path, None)
    return review, ReferenceLayer("north", path, accepted=1)


@pytest.mark.parametrize("layer", LAYER_DTYPES)
@pytest.mark.parametrize("preset", ["compact", "distinct", "paper"])
def test_honest_layers_agree(tmp_path: Path, preset: str, layer: str, caplog: pytest.LogCaptureFixture) -> None:
    """With room to spare: 8 bits leave a factor of 2 to the tolerance, binary16 of 3, float32 of 20."""
    plan = plan_for(morph=MorphSettings(preset=preset), wire=WireSettings(codec="q6", layer=layer))
    review, reference = reviewed(tmp_path, plan)
    with caplog.at_level(logging.INFO, "mple.node"):
        review.check("south", write(tmp_path, plan, layer_for(plan, "south")), reference)
    told = re.search("layer of site south agrees with that of north to (.*)", caplog.text)
    assert told is not None
    assert float(told[1]) < CONSISTENCY_TOLERANCE[layer] / {"int8": 2, "f16": 3, "f32": 20}[layer]


def test_a_layer_need_not_agree_with_itself(tmp_path: Path, plan: RunPlan) -> None:
    """The first released layer is its own reference when its site uploads it once more."""
    review, reference = reviewed(tmp_path, plan)
    review.check("north", reference.path, reference)
    review.check("south", write(tmp_path, plan, layer_for(plan, "south")), reference)


def test_the_reference_is_read_again_after_a_restart(tmp_path: Path, plan: RunPlan) -> None:
    _, reference = reviewed(tmp_path, plan)
    review = LayerReview(plan, stem_for(), PROBE)
    review.check("south", write(tmp_path, plan, layer_for(plan, "south")), reference)
    with refused(ErrorCode.LAYER_REJECTED, "deviates from that of site north"):
        review.check("west", write(tmp_path, plan, layer_for(plan, "west", secret=bytes(32)), "west"), reference)


@pytest.mark.parametrize("layer", LAYER_DTYPES)
@pytest.mark.parametrize("preset", ["compact", "distinct", "paper"])
def test_wrong_channel_order_is_refused(tmp_path: Path, preset: str, layer: str) -> None:
    plan = plan_for(morph=MorphSettings(preset=preset), wire=WireSettings(codec="q6", layer=layer))
    review, reference = reviewed(tmp_path, plan)
    wrong = layer_for(plan, "south", secret=SECRET[::-1])
    with refused(ErrorCode.LAYER_REJECTED, "another stem, channel order or scheme; only the keys could show"):
        review.check("south", write(tmp_path, plan, wrong), reference)


@pytest.mark.parametrize("layer", LAYER_DTYPES)
@pytest.mark.parametrize("preset", ["compact", "distinct", "paper"])
def test_one_negated_filter_is_refused(tmp_path: Path, preset: str, layer: str) -> None:
    """Its norm is right; the stem alone tells, before any other layer is there."""
    plan = plan_for(morph=MorphSettings(preset=preset), wire=WireSettings(codec="q6", layer=layer))
    kernels_FCpp = stem_for().kernels_FCpp.copy()
    kernels_FCpp[3] *= -1
    wrong = layer_for(plan, "south", stem=Stem(kernels_FCpp))
    review, reference = reviewed(tmp_path, plan)
    for first in (None, reference):
        with refused(ErrorCode.LAYER_REJECTED, "deviates from what the stem gives under any key"):
            review.check("south", write(tmp_path, plan, wrong), first)


def test_whoever_deviates_from_several_is_told_so(tmp_path: Path) -> None:
    review, reference = reviewed(tmp_path)
    outvoted = ReferenceLayer("north", reference.path, accepted=2)
    wrong = write(tmp_path, PLAN, layer_for(PLAN, "west", secret=SECRET[::-1]), "west")
    with refused(ErrorCode.LAYER_REJECTED, "2 sites' layers agree with each other"):
        review.check("west", wrong, outvoted)


def test_wrong_stem_shows_by_its_norm_and_else_by_itself(tmp_path: Path, plan: RunPlan) -> None:
    review, reference = reviewed(tmp_path, plan)
    wrong = layer_for(plan, "south", stem=stem_for("another"))
    for first in (None, reference):
        with refused(ErrorCode.LAYER_REJECTED, "the layer's norm is"):
            review.check("south", write(tmp_path, plan, wrong), first)
    honest_norm, wrong_norm = (np.linalg.norm(one.weight) for one in (layer_for(plan, "south"), wrong))
    same_norm = torch.from_numpy(wrong.weight * np.float32(honest_norm / wrong_norm))
    for first in (None, reference):
        with refused(ErrorCode.LAYER_REJECTED, "deviates from what the stem gives under any key"):
            review.check("south", write(tmp_path, plan, same_norm), first)


def test_scaled_layer_is_refused(tmp_path: Path, plan: RunPlan) -> None:
    path = write(tmp_path, plan, torch.from_numpy(layer_for(plan, "south").weight) * 1.001)
    with refused(ErrorCode.LAYER_REJECTED, "the layer's norm is"):
        LayerReview(plan, stem_for(), PROBE).check("south", path, None)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("preset", ["compact", "mole"])
def test_one_value_that_is_no_number_is_refused(tmp_path: Path, preset: str, value: float) -> None:
    plan = plan_for(morph=MorphSettings(preset=preset), wire=WireSettings(codec="q6", layer="f16"))
    weight = torch.from_numpy(layer_for(plan, "south").weight).clone()
    weight.view(-1)[12_345] = value
    with refused(ErrorCode.LAYER_REJECTED, "layer of site south: the layer holds NaN or infinity"):
        LayerReview(plan, stem_for(), PROBE).check("south", write(tmp_path, plan, weight), None)


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        (torch.float16, "F16"),
        (torch.float32, "F32"),
        (torch.bfloat16, "BF16"),
        (torch.float64, "F64"),
        (torch.int32, "I32"),
        (torch.bool, "BOOL"),
    ],
)
@pytest.mark.parametrize("layer", ["f16", "f32"])
def test_wrong_dtype_is_refused(tmp_path: Path, layer: str, dtype: torch.dtype, name: str) -> None:
    plan = plan_for(wire=WireSettings(codec="q6", layer=layer))
    review = LayerReview(plan, stem_for(), PROBE)
    path = write_tensor(tmp_path, torch.from_numpy(layer_for(plan, "south").weight).to(dtype))
    if dtype == DTYPES[plan.layer_dtype]:
        review.check("south", path, None)
    else:
        with refused(ErrorCode.LAYER_REJECTED, f"has dtype {name}; the plan needs {layer.upper()}"):
            review.check("south", path, None)


def test_wrong_size_is_refused(tmp_path: Path) -> None:
    review = LayerReview(PLAN, stem_for(), PROBE)
    weight = torch.from_numpy(layer_for(PLAN, "south").weight)
    for other in (weight[1:], weight.flatten(), weight.transpose(0, 1)):
        with refused(ErrorCode.LAYER_REJECTED, r"has shape .*, the plan needs \(64, 8, 10, 10\)"):
            review.check("south", write(tmp_path, PLAN, other), None)


def test_what_is_no_layer_file_is_refused(tmp_path: Path) -> None:
    review = LayerReview(PLAN, stem_for(), PROBE)
    with refused(ErrorCode.LAYER_REJECTED, "holds .'another'. instead of"):
        review.check("south", write(tmp_path, PLAN, layer_for(PLAN, "south"), name="another"), None)
    path = tmp_path / "noise"
    for content in (b"", b"noise", bytes(1000), b"\xff" * 1000, b"\x02" + bytes(7) + b"{}" + bytes(1000)):
        path.write_bytes(content)
        with refused(ErrorCode.LAYER_REJECTED):
            review.check("south", path, None)


def test_uniform_cores_are_accepted_unchecked_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plan = plan_for(morph=MorphSettings(preset="mole"))
    review = LayerReview(plan, stem_for(), PROBE)
    path = write(tmp_path, plan, layer_for(plan, "north"), "north")
    review.check("north", path, None)
    review.check("south", write(tmp_path, plan, layer_for(plan, "south")), ReferenceLayer("north", path, accepted=1))
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 2
    assert "layer of site south: uniform cores, so norm and agreement with other sites can't be checked" in warnings


def flipped(weight: Tensor, at: int, bit: int) -> Tensor:
    """The weight with one bit of one value flipped.

    In float32 31 is the sign and 23 to 30 the exponent, in binary16 15 and 10 to 14.
    """
    changed = weight.clone()
    sign, integers = {torch.float32: (31, torch.int32), torch.float16: (15, torch.int16)}[weight.dtype]
    bits = changed.view(-1).view(integers)
    bits[at] ^= -(2**sign) if bit == sign else 1 << bit
    return changed


def refuses(review: LayerReview, path: Path, reference: ReferenceLayer) -> bool:
    try:
        review.check("south", path, reference)
    except MpleError as fault:
        return fault.code is ErrorCode.LAYER_REJECTED
    return False


def flips_that_show(
    folder: Path,
    weight: Tensor,
    review: LayerReview,
    reference: ReferenceLayer,
    *,
    always_rms: float,
    never_rms: float,
) -> dict[int, int]:
    """How many of 16 flips of each bit are refused; changes so large always must be, and smaller ones never."""
    rms = float(weight.double().square().mean().sqrt())
    draws = torch.Generator().manual_seed(1)
    seen = dict.fromkeys(range(8 * weight.element_size()), 0)
    for bit in seen:
        for at in torch.randint(weight.numel(), (16,), generator=draws).tolist():
            changed = flipped(weight, at, bit)
            change = abs(float(changed.view(-1)[at]) - float(weight.view(-1)[at])) / rms
            shows = refuses(review, write_tensor(folder, changed), reference)
            assert shows or change < always_rms
            assert not shows or not change < never_rms
            seen[bit] += shows
    return seen


def test_flipped_bits_show_by_how_much_they_change(tmp_path: Path) -> None:
    plan = plan_for(wire=F32)
    review, reference = reviewed(tmp_path, plan)
    weight = torch.from_numpy(layer_for(plan, "south").weight)
    seen = flips_that_show(tmp_path, weight, review, reference, always_rms=1, never_rms=2e-4)
    assert [seen[bit] for bit in (31, 30)] == [16, 16]
    assert sum(seen[bit] for bit in range(23, 30)) >= 0.9 * 7 * 16
    assert sum(seen[bit] for bit in range(12)) == 0


def test_flipped_bits_of_binary16_show_by_how_much_they_change(tmp_path: Path) -> None:
    review, reference = reviewed(tmp_path)
    weight = torch.from_numpy(layer_for(PLAN, "south").weight).half()
    seen = flips_that_show(tmp_path, weight, review, reference, always_rms=12, never_rms=3e-2)
    assert seen[14] == 16
    assert sum(seen[bit] for bit in range(5)) == 0


@pytest.mark.parametrize("preset", ["compact", "distinct", "paper"])
def test_the_first_layer_is_measured_by_the_stem_alone(tmp_path: Path, preset: str) -> None:
    plan = plan_for(morph=MorphSettings(preset=preset), wire=F32)
    review = LayerReview(plan, stem_for(), PROBE)
    weight = torch.from_numpy(layer_for(plan, "north").weight)
    with refused(ErrorCode.LAYER_REJECTED, "deviates from what the stem gives under any key"):
        review.check("north", write(tmp_path, plan, flipped(weight, int(weight.abs().argmax()), 31), "north"), None)
    review.check("north", write(tmp_path, plan, weight, "north"), None)


def test_without_a_reference_any_channel_order_passes(tmp_path: Path, plan: RunPlan) -> None:
    """The order is the consortium's secret; then the second, honest layer is refused, and the text leaves it open."""
    review = LayerReview(plan, stem_for(), PROBE)
    weight = torch.from_numpy(layer_for(plan, "north").weight).clone()
    weight.view(-1)[int(weight.abs().argmax())] *= 16
    with refused(ErrorCode.LAYER_REJECTED, "the layer's norm is"):
        review.check("north", write(tmp_path, plan, weight, "north"), None)
    path = write(tmp_path, plan, layer_for(plan, "north", secret=SECRET[::-1]), "north")
    review.check("north", path, None)
    honest = write(tmp_path, plan, layer_for(plan, "south"))
    with refused(ErrorCode.LAYER_REJECTED, "only the keys could show which of the two is wrong"):
        review.check("south", honest, ReferenceLayer("north", path, accepted=1))


def coefficients_file(
    folder: Path, plan: RunPlan, site: str, *, stem: Stem | None = None, secret: bytes = SECRET
) -> Path:
    """A site's layer for coefficients as it travels: its own pictures, basis and coding."""
    places = np.linspace(0, 1, 28)
    waves = np.random.default_rng(key_of(site).seed[0]).normal(size=(120, 4, 1, 1))
    pictures = (
        waves[:, :1]
        + waves[:, 1:2] * places
        + waves[:, 2:3] * places[:, None]
        + 0.2 * waves[:, 3:] * np.cos(40 * places)
    )
    train = LabelledImages((60 * pictures + 128).clip(0, 255).astype(np.uint8), np.arange(120) % 2)
    codec = codec_named(plan.wire.codec)
    assert isinstance(codec, TransformCodec)
    basis = fitted_basis(plan, key_of(site), 1, train, codec)
    assert basis.columns < 64
    layer = build_augmented_layer(
        plan.morph.scheme(),
        plan.image,
        (stem or stem_for()).kernels_FCpp,
        key_of(site),
        channel_order(plan, secret),
        session=plan.session,
        key_epoch=1,
        basis=basis,
    )
    path = folder / f"{site}.safetensors"
    write_layer(layer, path, plan.layer_dtype, codec.step)
    return path


@pytest.mark.parametrize("preset", ["compact", "distinct"])
def test_layers_for_coefficients(tmp_path: Path, preset: str) -> None:
    plan = plan_for(morph=MorphSettings(preset=preset), wire=WireSettings(codec="k5.5"))
    assert plan.layer_dtype == "coded"
    review = LayerReview(plan, stem_for(), PROBE)
    path = coefficients_file(tmp_path, plan, "north")
    review.check("north", path, None)
    reference = ReferenceLayer("north", path, accepted=1)
    review.check("south", coefficients_file(tmp_path, plan, "south"), reference)
    with refused(ErrorCode.LAYER_REJECTED, "another stem, channel order or scheme"):
        review.check("south", coefficients_file(tmp_path, plan, "south", secret=SECRET[::-1]), reference)
    negated = stem_for().kernels_FCpp.copy()
    negated[3] *= -1
    with refused(ErrorCode.LAYER_REJECTED, "deviates from what the stem gives under any key"):
        review.check("south", coefficients_file(tmp_path, plan, "south", stem=Stem(negated)), reference)
    with refused(ErrorCode.LAYER_REJECTED, "coding"):
        review.check("south", write_tensor(tmp_path, torch.zeros(64, 8, 10, 10)), reference)
