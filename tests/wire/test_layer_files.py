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
from safetensors.torch import save_file

from mple.morph import PRESETS, AugmentedLayer, ImageShape, MorphKey, build_augmented_layer
from mple.wire import LayerFileError, read_layer, write_layer
from mple.wire.layer_file import file_sha256

IMAGE = ImageShape(channels=1, height=8, width=8)
FILTERS, KERNEL = 2, 3
NAME = "augmented.weight"


def layer_of(preset: str, kernel: int = KERNEL) -> AugmentedLayer:
    stem = torch.randn((FILTERS, 1, kernel, kernel), generator=torch.Generator().manual_seed(1))
    return build_augmented_layer(
        PRESETS[preset], IMAGE, stem, MorphKey(bytes(32)), np.array([1, 0]), session=b"s", key_epoch=1
    )


def read(path: Path, preset: str = "compact", **changed: Any) -> AugmentedLayer:
    known: dict[str, Any] = {"scheme": PRESETS[preset], "image": IMAGE, "filters": FILTERS, "kernel": KERNEL}
    return read_layer(path, **(known | changed))


@pytest.mark.parametrize("preset", PRESETS)
def test_a_layer_comes_back_bit_for_bit(tmp_path: Path, preset: str) -> None:
    layer, path = layer_of(preset), tmp_path / "layer.safetensors"
    write_layer(layer, path)
    back = read(path, preset)
    assert torch.equal(back.weight, layer.weight)
    assert (back.scheme, back.image_shape, back.kernel, back.filters) == (PRESETS[preset], IMAGE, KERNEL, FILTERS)
    assert [entry.name for entry in tmp_path.iterdir()] == ["layer.safetensors"]
    assert file_sha256(path) == hashlib.sha256(path.read_bytes()).digest()


def test_equal_layers_give_equal_files(tmp_path: Path) -> None:
    """The digest names the layer, so an interrupted upload can go on with a file that was written anew."""
    for name in ("one", "two"):
        write_layer(layer_of("distinct"), tmp_path / name)
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
    write_layer(layer_of("compact"), tmp_path / "layer")
    with pytest.raises(LayerFileError, match=r"layer in layer has shape .*, the plan needs"):
        read(tmp_path / "layer", **changed)


def test_another_kernel_shows_where_the_shape_does_not_tell(tmp_path: Path) -> None:
    """The dense layer of an image is as large for every kernel."""
    write_layer(layer_of("paper"), tmp_path / "layer")
    with pytest.raises(LayerFileError, match="kernel"):
        read(tmp_path / "layer", "paper", kernel=5)


WEIGHT = layer_of("compact").weight


@pytest.mark.parametrize(
    ("tensors", "text"),
    [
        ({}, r"holds \[\]"),
        ({"stem.weight": WEIGHT}, "holds"),
        ({NAME: WEIGHT, "more": torch.zeros(1)}, "holds"),
        ({NAME: WEIGHT.flatten()}, "shape"),
        ({NAME: WEIGHT.to(torch.int32)}, "dtype torch.int32"),
    ],
)
def test_a_foreign_file_is_refused(tmp_path: Path, tensors: dict[str, torch.Tensor], text: str) -> None:
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
    write_layer(layer_of("compact"), path)
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
    write_layer(layer_of("compact"), path)
    content, digest = bytearray(path.read_bytes()), file_sha256(path)
    header = 8 + int.from_bytes(content[:8], "little")
    byte = data.draw(st.integers(0, header - 1) | st.integers(0, len(content) - 1))
    content[byte] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    assert file_sha256(path) != digest
    with contextlib.suppress(LayerFileError):
        read(path)
