"""The stem: from its published seed, from a file, and what is no stem."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file
from torch.nn import functional

from mple.model.first_layer.plain import plain_features
from mple.model.settings import ModelSettings
from mple.model.stem import Stem, StemError, mirror_images, mirrored_channels, planned_stem
from mple.model.weights import build_trunk


def test_the_published_seed_gives_the_published_kernels() -> None:
    """Golden: all parties draw this stem for themselves, so it may never change."""
    stem = Stem.from_seed("mple-stem-1", filters=64, channels=3, kernel=3)
    assert stem.digest().hex() == "84cf31fa97e45d2a6aa7451a941a6cbc3e15a4ee3db1b4a65cb2f7dc03bbe94a"


def test_drawn_kernels_have_he_variance() -> None:
    kernels = Stem.from_seed("any", filters=64, channels=3, kernel=7).kernels_FCpp
    assert kernels.shape == (64, 3, 7, 7)
    assert float(kernels.var()) == pytest.approx(2 / (3 * 49), rel=0.05)
    assert abs(float(kernels.mean())) < 0.01


def test_another_seed_or_shape_is_another_stem() -> None:
    made = [
        Stem.from_seed("a", filters=8, channels=1, kernel=3),
        Stem.from_seed("b", filters=8, channels=1, kernel=3),
        Stem.from_seed("a", filters=9, channels=1, kernel=3),
        Stem.from_seed("a", filters=8, channels=3, kernel=1),
    ]
    assert len({stem.digest() for stem in made}) == len(made)


def test_a_stem_survives_its_file(tmp_path: Path) -> None:
    stem = Stem.from_seed("file", filters=8, channels=2, kernel=5)
    path = tmp_path / "stem.safetensors"
    path.write_bytes(stem.to_safetensors())
    assert Stem.from_safetensors(path).digest() == stem.digest()
    assert Stem.from_safetensors(stem.to_safetensors()).digest() == stem.digest()
    assert (stem.filters, stem.channels, stem.kernel) == (8, 2, 5)


def test_takes_the_first_layer_of_an_imagenet_vgg16(tmp_path: Path) -> None:
    """Names as torchvision gives them; other convolutions and biases lie in the same file."""
    kernels = torch.randn(64, 3, 3, 3)
    tensors = {
        "features.0.weight": kernels,
        "features.0.bias": torch.randn(64),
        "features.2.weight": torch.randn(64, 64, 3, 3),
        "classifier.0.weight": torch.randn(10, 8),
    }
    save_file(tensors, tmp_path / "vgg16.safetensors")
    assert np.array_equal(Stem.from_safetensors(tmp_path / "vgg16.safetensors").kernels_FCpp, kernels.numpy())


def test_leaving_the_bias_out_changes_nothing_in_training() -> None:
    """Batch normalisation takes a constant per channel away."""
    model = ModelSettings(width=0.0625)
    trunk = build_trunk(model, 3, seed=1).double()
    stem = Stem.from_seed("bias", filters=model.filters, channels=1, kernel=3)
    f_BFHW = plain_features(stem, torch.rand(4, 1, 28, 28, dtype=torch.float64))
    bias_F11 = torch.randn(model.filters, 1, 1, dtype=torch.float64)
    assert torch.allclose(trunk(f_BFHW), trunk(f_BFHW + bias_F11), rtol=0, atol=1e-9)


def test_takes_the_only_kernel_whatever_its_name() -> None:
    kernels = torch.randn(8, 1, 3, 3)
    found = Stem.from_safetensors(save({"conv": kernels, "b": torch.zeros(8)}))
    assert np.array_equal(found.kernels_FCpp, kernels.numpy())


def test_half_precision_kernels_become_float32() -> None:
    stem = Stem.from_safetensors(save({"stem.weight": torch.ones(8, 1, 3, 3, dtype=torch.float16)}))
    assert stem.kernels_FCpp.dtype == np.float32


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no safetensors", "no safetensors file"),
        (b"", "no safetensors file"),
        (save({"stem.weight": torch.zeros(8, 1, 2, 2)}), "odd p"),
        (save({"stem.weight": torch.zeros(8, 1, 3, 5)}), "odd p"),
        (save({"stem.weight": torch.zeros(8, 9)}), "odd p"),
        (save({"stem.weight": torch.full((8, 1, 3, 3), float("nan"))}), "NaN or infinity"),
        (save({"stem.weight": torch.full((8, 1, 3, 3), float("inf"))}), "NaN or infinity"),
        (save({"a": torch.zeros(8, 1, 3, 3), "b": torch.zeros(8, 8, 3, 3)}), "one 4-d tensor"),
        (save({"a": torch.zeros(8)}), "one 4-d tensor"),
        (save({"stem.weight": torch.zeros(8, 1, 3, 3, dtype=torch.bfloat16)}), "BF16.*save it as float32"),
    ],
)
def test_bad_stems_are_refused(content: bytes, reason: str) -> None:
    with pytest.raises(StemError, match=reason):
        Stem.from_safetensors(content)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StemError, match=r"no stem file at .*absent"):
        Stem.from_safetensors(tmp_path / "absent")


def test_an_empty_kernel_is_refused() -> None:
    with pytest.raises(StemError, match="needs"):
        Stem(np.zeros((0, 1, 3, 3), np.float32))


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
def test_convolves_with_stride_one_and_same_size(kernel: int) -> None:
    stem = Stem.from_seed("conv", filters=8, channels=2, kernel=kernel)
    x_BCHW = torch.rand(2, 2, 9, 11)
    expected = functional.conv2d(x_BCHW, torch.from_numpy(stem.kernels_FCpp), stride=1, padding=kernel // 2)
    found = plain_features(stem, x_BCHW)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert found.shape == (2, 8, 9, 11)
    assert found.is_contiguous(memory_format=torch.channels_last), "the trunk trains fastest in this order"


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize("filters", [8, 9, 64])
def test_a_mirrored_stem_holds_each_kernels_mirror_image(filters: int, kernel: int) -> None:
    stem = Stem.from_seed("pairs", filters=filters, channels=3, kernel=kernel, mirrored=True)
    images = mirror_images(stem)
    assert np.array_equal(stem.kernels_FCpp[images], stem.kernels_FCpp[..., ::-1])
    assert np.array_equal(images[images], np.arange(filters))
    assert (images == np.arange(filters)).sum() == (filters if kernel == 1 else filters % 2)
    assert len({kernel.tobytes() for kernel in stem.kernels_FCpp}) == filters
    assert float(stem.kernels_FCpp.var()) == pytest.approx(2 / (3 * kernel**2), rel=0.5)


def test_the_last_kernel_of_an_odd_number_has_the_variance_of_the_others() -> None:
    made = [Stem.from_seed(f"{i}", filters=9, channels=2, kernel=5, mirrored=True).kernels_FCpp[8] for i in range(200)]
    assert np.array(made).var(axis=(0, 1, 2)) == pytest.approx([2 / 50] * 5, rel=0.15)


def test_the_published_seed_gives_the_published_mirrored_kernels() -> None:
    """Golden, as the others; the first of each pair are the first of those."""
    stem = Stem.from_seed("mple-stem-1", filters=64, channels=3, kernel=3, mirrored=True)
    plain = Stem.from_seed("mple-stem-1", filters=64, channels=3, kernel=3)
    assert np.array_equal(stem.kernels_FCpp[::2], plain.kernels_FCpp[:32])
    assert stem.digest().hex() == "50a164bf6cdea83ed9c12561395a79f7090b50d5d2e4a1b2455feab7c97a0d37"


def test_an_offered_stem_may_hold_its_mirror_images_in_any_order() -> None:
    """With kernels that are their own, twice the same ones, and zeros of either sign."""
    made = Stem.from_seed("offered", filters=9, channels=2, kernel=3, mirrored=True).kernels_FCpp
    kernels = np.concatenate([made, made, np.zeros((1, 2, 3, 3), np.float32)])
    kernels[-1, :, :, 0] = -0.0
    stem = Stem(np.random.default_rng(5).permutation(kernels))
    images = mirror_images(stem)
    assert np.array_equal(stem.kernels_FCpp[images], stem.kernels_FCpp[..., ::-1])
    assert np.array_equal(images[images], np.arange(19))
    model = ModelSettings(stem="offered", stem_mirrored=True)
    assert planned_stem(model, filters=19, channels=2, offered=stem) is stem


def test_an_offered_stem_without_a_mirror_image_is_refused_with_the_cure() -> None:
    kernels = Stem.from_seed("offered", filters=8, channels=1, kernel=3, mirrored=True).kernels_FCpp.copy()
    kernels[3, 0, 1, 1] = np.nextafter(kernels[3, 0, 1, 1], np.float32(9))
    words = r"lacks the mirror image of kernel 2; give it one.*bit for bit, or set model.stem_mirrored = false"
    with pytest.raises(StemError, match=words):
        planned_stem(ModelSettings(stem="offered", stem_mirrored=True), filters=8, channels=1, offered=Stem(kernels))


def test_pairs_of_permuted_channels_are_the_permuted_pairs() -> None:
    stem = Stem.from_seed("order", filters=8, channels=1, kernel=3, mirrored=True)
    order = np.random.default_rng(3).permutation(8)
    assert np.array_equal(mirrored_channels(stem, order), mirror_images(Stem(stem.kernels_FCpp[order])))


def test_a_runs_stem_is_the_seeds_or_the_offered_one() -> None:
    offered = Stem.from_seed("another", filters=8, channels=1, kernel=3)
    seeded = planned_stem(ModelSettings(stem="seed", stem_seed="one"), filters=8, channels=1)
    assert seeded.digest() == Stem.from_seed("one", filters=8, channels=1, kernel=3).digest()
    assert planned_stem(ModelSettings(stem="offered"), filters=8, channels=1, offered=offered) is offered
    with pytest.raises(StemError, match="none has been offered"):
        planned_stem(ModelSettings(stem="offered"), filters=8, channels=1)
    with pytest.raises(StemError, match="pictures of 1 channel, the sites' have 3 channels; bring"):
        planned_stem(ModelSettings(stem="offered"), filters=8, channels=3, offered=offered)
