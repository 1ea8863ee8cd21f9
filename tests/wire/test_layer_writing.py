"""Layer files that were crafted, or whose writing was interrupted: refused, or never there."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from mple.morph import PRESETS, ImageShape, MorphScheme, expected_weight_shape
from mple.morph.augmented import AugmentedLayer
from mple.wire.layer_file import LayerFileError, read_layer, write_layer

SHAPE = ImageShape(channels=1, height=12, width=9)
FILTERS, KERNEL = 2, 3
COMPACT = PRESETS["compact"]
TENSOR = "augmented.weight"
in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def layer(scheme: MorphScheme = COMPACT, seed: int = 1) -> AugmentedLayer:
    shape = expected_weight_shape(scheme, SHAPE, FILTERS, KERNEL)
    weight = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return AugmentedLayer(scheme, SHAPE, KERNEL, FILTERS, weight)


def read(path: Path, scheme: MorphScheme = COMPACT) -> AugmentedLayer:
    return read_layer(path, scheme=scheme, image=SHAPE, filters=FILTERS, kernel=KERNEL, numbers="f32")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A written layer."""
    written = tmp_path / "layer.safetensors"
    write_layer(layer(), written, "f32")
    return written


@pytest.mark.parametrize(("numbers", "dtype"), [("f16", "<f2"), ("f32", "<f4")])
def test_the_file_says_what_it_was_built_for_and_holds_nothing_more(path: Path, numbers: str, dtype: str) -> None:
    write_layer(layer(), path, numbers)
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    assert json.loads(header["__metadata__"]["augmented_layer"]) == {"filters": FILTERS, "kernel": KERNEL}
    assert set(header) == {"__metadata__", TENSOR}
    assert header[TENSOR]["dtype"] == numbers.upper()
    assert data[8 + length :] == layer().weight.astype(dtype).tobytes()


def test_a_view_is_written_as_its_values(tmp_path: Path) -> None:
    made = layer()
    view = AugmentedLayer(COMPACT, SHAPE, KERNEL, FILTERS, np.asfortranarray(made.weight))
    write_layer(view, tmp_path / "layer", "f32")
    assert np.array_equal(read(tmp_path / "layer").weight, made.weight)


@in_one_folder
@given(content=st.one_of(st.binary(max_size=300), st.binary(max_size=80).map(lambda tail: bytes(8) + tail)))
def test_foreign_files_are_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(LayerFileError):
        read(path)


def with_header(header: bytes, tail: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + tail


@pytest.mark.parametrize(
    "content",
    [
        pytest.param((2**63).to_bytes(8, "little") + b"{}", id="header longer than any file"),
        pytest.param((200_000_000).to_bytes(8, "little") + b"{}", id="header of 200 MB"),
        pytest.param(with_header(b"{}"), id="no tensor"),
        pytest.param(with_header(b'{"augmented.weight": 1}'), id="a tensor that is none"),
        pytest.param(
            with_header(b'{"augmented.weight":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}'),
            id="a shape that overflows",
        ),
        pytest.param(
            with_header(b'{"augmented.weight":{"dtype":"F32","shape":[64,2,10,10],"data_offsets":[0,51200]}}', b"1234"),
            id="data beyond the end",
        ),
        pytest.param(b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix", id="a pickle"),
    ],
)
def test_crafted_files_are_refused(content: bytes, path: Path) -> None:
    path.write_bytes(content)
    with pytest.raises(LayerFileError):
        read(path)


def test_trailing_bytes_are_refused(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(LayerFileError, match="no readable layer file"):
        read(path)


@pytest.mark.parametrize("shape", [(64, 2, 10, 9), (64, 200, 10), (64, 2, 10, 10, 1), (0,), ()])
def test_other_shapes_are_refused(shape: tuple[int, ...], path: Path) -> None:
    save_file({TENSOR: torch.zeros(shape)}, path)
    with pytest.raises(LayerFileError, match=r"has shape .*, the plan needs \(64, 2, 10, 10\)"):
        read(path)


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        (torch.float64, "F64"),
        (torch.float16, "F16"),
        (torch.bfloat16, "BF16"),
        (torch.int32, "I32"),
        (torch.int8, "I8"),
        (torch.bool, "BOOL"),
        (torch.float8_e4m3fn, "F8_E4M3"),
    ],
)
def test_other_dtypes_are_refused(dtype: torch.dtype, name: str, path: Path) -> None:
    """Also those that numpy does not have."""
    save_file({TENSOR: torch.from_numpy(layer().weight).to(dtype)}, path)
    with pytest.raises(LayerFileError, match=f"has dtype {name}; the plan needs F32"):
        read(path)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As on a disk that has so many bytes left: a longer write fails halfway."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_an_interrupted_write_leaves_no_file(tmp_path: Path) -> None:
    with files_of_at_most(20_000), pytest.raises(OSError, match=r"layer can't be written"):
        write_layer(layer(), tmp_path / "layer", "f32")
    assert os.listdir(tmp_path) == []


def test_an_interrupted_write_leaves_the_file_of_before(path: Path) -> None:
    before = path.read_bytes()
    with files_of_at_most(20_000), pytest.raises(OSError, match="can't be written"):
        write_layer(layer(seed=2), path, "f32")
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_what_a_killed_write_left_is_written_over(path: Path) -> None:
    path.with_name(path.name + ".part").write_bytes(b"half")
    write_layer(layer(seed=2), path, "f32")
    assert np.array_equal(read(path).weight, layer(seed=2).weight)
    assert os.listdir(path.parent) == [path.name]


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read(tmp_path / "nowhere")
    with pytest.raises(OSError, match="nowhere"):
        write_layer(layer(), tmp_path / "nowhere" / "layer", "f32")
