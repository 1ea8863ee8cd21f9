"""Augmented layers as files: what was written comes back, and what was not is refused or has another digest."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from mple.disk.whole_files import file_sha256
from mple.model.first_layer.prepared import prepare_layer
from mple.morph import PRESETS, Arithmetic, ImageShape, MorphKey
from mple.morph.augmented import AugmentedLayer, build_augmented_layer, fold
from mple.morph.basis import Basis
from mple.morph.morpher import Morpher
from mple.wire.coding import Coding
from mple.wire.layer_file import LayerFileError, read_layer, write_layer
from mple.wire.names import LAYER_DTYPES

IMAGE = ImageShape(channels=1, height=8, width=8)
FILTERS, KERNEL = 2, 3
NAME = "augmented.weight"
each_numbers = pytest.mark.parametrize("numbers", LAYER_DTYPES)


def layer_of(preset: str, kernel: int = KERNEL) -> AugmentedLayer:
    stem = np.random.default_rng(1).normal(size=(FILTERS, 1, kernel, kernel)).astype(np.float32)
    return build_augmented_layer(
        PRESETS[preset], IMAGE, stem, MorphKey(bytes(32)), np.array([1, 0]), session=b"s", key_epoch=1
    )


def read(path: Path, preset: str = "compact", **changed: Any) -> AugmentedLayer:
    known: dict[str, Any] = {"scheme": PRESETS[preset], "image": IMAGE, "filters": FILTERS, "kernel": KERNEL}
    return read_layer(path, **(known | {"numbers": "f16"} | changed))


@each_numbers
@pytest.mark.parametrize("preset", PRESETS)
def test_a_layer_comes_back_as_its_numbers_hold_it(tmp_path: Path, preset: str, numbers: str) -> None:
    """Bit for bit in float32, rounded once in binary16, within half a step of 8 bits; float32 to work with always."""
    layer, path = layer_of(preset), tmp_path / "layer.safetensors"
    write_layer(layer, path, numbers)
    back = read(path, preset, numbers=numbers)
    if numbers == "int8":
        np.testing.assert_allclose(back.weight, layer.weight, rtol=0, atol=np.abs(layer.weight).max() / 253)
    else:
        assert np.array_equal(back.weight, layer.weight.astype(np.float16 if numbers == "f16" else np.float32))
    assert back.weight.dtype == np.float32
    assert (back.scheme, back.image_shape, back.kernel, back.filters) == (PRESETS[preset], IMAGE, KERNEL, FILTERS)
    assert [entry.name for entry in tmp_path.iterdir()] == ["layer.safetensors"]
    assert file_sha256(path) == hashlib.sha256(path.read_bytes()).digest()


@each_numbers
def test_equal_layers_give_equal_files(tmp_path: Path, numbers: str) -> None:
    """The digest names the layer, so an interrupted upload can go on with a file that was written anew."""
    for name in ("one", "two"):
        write_layer(layer_of("distinct"), tmp_path / name, numbers)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize(
    "changed",
    [
        {"filters": FILTERS + 1},
        {"kernel": 5},
        {"scheme": PRESETS["paper"]},
        {"scheme": PRESETS["distinct"]},
        {"image": ImageShape(channels=2, height=8, width=8)},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_a_layer_for_something_else_is_refused(tmp_path: Path, changed: dict[str, Any]) -> None:
    write_layer(layer_of("compact"), tmp_path / "layer", "f16")
    with pytest.raises(LayerFileError, match=r"layer in layer has shape .*, the plan needs"):
        read(tmp_path / "layer", **changed)


def test_another_kernel_shows_where_the_shape_does_not_tell(tmp_path: Path) -> None:
    """The dense layer of an image is as large for every kernel."""
    write_layer(layer_of("paper"), tmp_path / "layer", "f16")
    with pytest.raises(LayerFileError, match="kernel"):
        read(tmp_path / "layer", "paper", kernel=5)


@pytest.mark.parametrize(("written", "asked"), [("f16", "f32"), ("f32", "f16")])
def test_other_numbers_than_the_plans_are_refused(tmp_path: Path, written: str, asked: str) -> None:
    write_layer(layer_of("compact"), tmp_path / "layer", written)
    wrong, needed = (numbers.upper() for numbers in (written, asked))
    with pytest.raises(LayerFileError, match=f"layer in layer has dtype {wrong}; the plan needs {needed}"):
        read(tmp_path / "layer", numbers=asked)


@pytest.mark.parametrize("value", [65_520.0, -1e6])
def test_a_weight_beyond_f16_is_refused_before_anything_is_written(tmp_path: Path, value: float) -> None:
    """65,519 still rounds to 65,504, binary16's largest."""
    layer = layer_of("compact")
    layer.weight.reshape(-1)[7] = 65_519.0
    write_layer(layer, tmp_path / "layer", "f16")
    assert read(tmp_path / "layer").weight.reshape(-1)[7] == 65_504.0
    layer.weight.reshape(-1)[7] = value
    with pytest.raises(ValueError, match=r'beyond the range of f16; set wire\.layer to "f32"'):
        write_layer(layer, tmp_path / "another", "f16")
    assert [entry.name for entry in tmp_path.iterdir()] == ["layer"]
    write_layer(layer, tmp_path / "another", "f32")
    assert read(tmp_path / "another", numbers="f32").weight.reshape(-1)[7] == value


@pytest.mark.parametrize("preset", ["compact", "distinct", "paper"])
def test_features_of_an_f16_layer_are_off_by_little(tmp_path: Path, preset: str) -> None:
    """By some 2e-4 of their root mean square: a fifth, at most, of what bf16 arithmetic adds."""
    image = ImageShape(channels=3, height=20, width=20)
    generator = np.random.default_rng(1)
    stem = generator.normal(size=(8, 3, 3, 3)).astype(np.float32)
    key = MorphKey(bytes(range(32)))
    layer = build_augmented_layer(PRESETS[preset], image, stem, key, np.arange(8), session=b"s", key_epoch=1)
    write_layer(layer, tmp_path / "layer", "f16")
    back = read_layer(tmp_path / "layer", scheme=PRESETS[preset], image=image, filters=8, kernel=3, numbers="f16")
    x_BCHW = generator.normal(size=(6, 3, 5, 5)).repeat(4, 2).repeat(4, 3).astype(np.float32)
    t_BKQ = Morpher(PRESETS[preset], image, key, session=b"s", key_epoch=1).morph(x_BCHW)
    exact_BFHW = layer.apply(t_BKQ)
    bf16_BFHW = prepare_layer(layer, Arithmetic.BF16).apply(torch.from_numpy(t_BKQ)).float().numpy()
    off, off_in_bf16 = (
        np.linalg.norm(f_BFHW - exact_BFHW) / np.linalg.norm(exact_BFHW) for f_BFHW in (back.apply(t_BKQ), bf16_BFHW)
    )
    assert 1e-4 < off <= 4e-4
    assert off < off_in_bf16 / 5


WEIGHT = layer_of("compact").weight


@pytest.mark.parametrize(
    ("tensors", "text"),
    [
        ({}, r"holds \[\]"),
        ({"stem.weight": WEIGHT}, "holds"),
        ({NAME: WEIGHT, "more": np.zeros(1, np.float32)}, "holds"),
        ({NAME: WEIGHT.flatten()}, "shape"),
        ({NAME: WEIGHT.astype(np.int32)}, "dtype I32"),
    ],
)
def test_a_foreign_file_is_refused(tmp_path: Path, tensors: dict[str, np.ndarray], text: str) -> None:
    save_file(tensors, tmp_path / "layer")
    with pytest.raises(LayerFileError, match=text):
        read(tmp_path / "layer")


@pytest.mark.parametrize("content", [b"", b"PK\3\4" + bytes(100), b"\xff" * 64, bytes(8), b"\x80\x02}q\x00."])
def test_what_is_no_safetensors_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "layer").write_bytes(content)
    with pytest.raises(LayerFileError, match="no readable layer file"):
        read(tmp_path / "layer")


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_truncated_file_is_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("cut") / "layer"
    write_layer(layer_of("compact"), path, "f16")
    content = path.read_bytes()
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(LayerFileError):
        read(path)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_flipped_bit_is_refused_or_changes_the_digest(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("flipped") / "layer"
    write_layer(layer_of("compact"), path, "f16")
    content, digest = bytearray(path.read_bytes()), file_sha256(path)
    header = 8 + int.from_bytes(content[:8], "little")
    byte = data.draw(st.integers(0, header - 1) | st.integers(0, len(content) - 1))
    content[byte] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    assert file_sha256(path) != digest
    with contextlib.suppress(LayerFileError):
        read(path)


def coefficient_layer(preset: str) -> AugmentedLayer:
    """For the first 20 of 64 values of a block; the presets have one core each for such small images."""
    basis = Basis(np.eye(64, dtype=np.int8)[None, :20], np.ones((1, 20), np.float32), CODING.to_bytes())
    return fold(layer_of(preset), basis)


CODING = Coding.fit([np.linspace(-1, 1, 4000, dtype=np.float32).reshape(-1, 20)], 1 / 8)


@each_numbers
@pytest.mark.parametrize("preset", ["compact", "distinct", "paper"])
def test_a_layer_for_coefficients_comes_back_with_its_coding(tmp_path: Path, preset: str, numbers: str) -> None:
    layer, path = coefficient_layer(preset), tmp_path / "layer.safetensors"
    write_layer(layer, path, numbers)
    back = read(path, preset, numbers=numbers, coefficients=True)
    assert (back.coefficients, back.coding) == (20, CODING.to_bytes())
    np.testing.assert_allclose(back.weight, layer.weight, rtol=0, atol=np.abs(layer.weight).max() / 253)
    with pytest.raises(LayerFileError, match="coding"):
        read(path, preset, numbers=numbers)
    write_layer(layer_of(preset), path, numbers)
    with pytest.raises(LayerFileError, match="has no coding"):
        read(path, preset, numbers=numbers, coefficients=True)


@pytest.mark.parametrize(
    ("tensors", "text"),
    [
        ({"augmented.coding": np.zeros(6000, np.uint8)}, r"U8 coding of shape \(6000,\)"),
        ({"augmented.coding": np.zeros(4, np.int8)}, "I8 coding"),
        ({"augmented.coding": np.zeros(4, np.uint8)}, "4 bytes are no coding"),
        ({NAME: np.zeros((19, 2, 10, 10), np.float16)}, "19 coefficients a block, its coding 20"),
        ({NAME: np.zeros((65, 2, 10, 10), np.float16)}, "allows 1 to 64 coefficients"),
        ({NAME: np.zeros((0, 2, 10, 10), np.float16)}, "allows 1 to 64 coefficients"),
        ({NAME: np.zeros(64, np.float16)}, "allows 1 to 64 coefficients"),
        ({NAME: np.zeros((20, 2, 10, 9), np.float16)}, r"the plan needs \(20, 2, 10, 10\)"),
    ],
)
def test_no_layer_for_coefficients(tmp_path: Path, tensors: dict[str, Any], text: str) -> None:
    path = tmp_path / "layer.safetensors"
    sound = {
        NAME: np.zeros((20, 2, 10, 10), np.float16),
        "augmented.coding": np.frombuffer(CODING.to_bytes(), np.uint8),
    }
    save_file(sound | tensors, path)
    with pytest.raises(LayerFileError, match=text):
        read(path, coefficients=True)
