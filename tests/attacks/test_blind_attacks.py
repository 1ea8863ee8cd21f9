"""Near-duplicates, feature maps without the stem, noise, and sizes of messages: successes, and controls that fail."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from mple.attacks import linkage, noise_removal, stemless_features, wire_sizes
from mple.attacks.lab.adversary import SeenMessage, WireObserver, without_stem
from mple.attacks.lab.attack import AttackSettings, DoesNotApplyError, Finding
from mple.attacks.means.denoising_network import NetworkSettings
from mple.attacks.means.pixel_values import to_inputs, to_pixels
from mple.plan import MorphSettings, NormalisationSettings, PrivacyMode, PrivacySettings
from mple.privacy import NoiseDistribution, PictureNoise, measure_spectrum
from mple.privacy.picture_scores import psnr, ssim
from mple.wire.codecs import codec_named
from tests.support.lopsided_pictures import lopsided_pixels
from tests.support.morphed_world import MorphedWorld, morphed_world, natural_pixels

SETTINGS = AttackSettings(site="north", pictures=24)


def values_of(finding: Finding) -> dict[str, float | int | str]:
    return {one.name: one.value for one in finding.figures}


def mean_ssim(world: MorphedWorld, finding: Finding, way: int = -1) -> float:
    recovered = finding.recovered[way]
    real = world.truth.sites[recovered.site].train.pixels_NCHW[recovered.numbers_N]
    return float(ssim(recovered.pixels_NCHW, real).mean())


def test_near_duplicates_are_found_through_rounded_codes() -> None:
    pixels = natural_pixels(240, seed=4)
    specks = np.random.default_rng(1).integers(-9, 10, pixels[:30].shape)
    copies = np.clip(pixels[:30].astype(np.int64) + specks, 0, 255)
    half = np.concatenate([pixels[:90], copies.astype(np.uint8)])
    world = morphed_world(np.concatenate([half, pixels[90:210]]), morph=MorphSettings(tile=8), codec="q5")
    finding = linkage.run(world.outsider("north"), SETTINGS)
    pairs = {tuple(pair) for pair in finding.claims["links_M2"].tolist()}
    assert {(number, number + 90) for number in range(30)} <= pairs
    scored = {one.name: float(one.value) for one in linkage.score(finding, world.truth)}
    assert scored["precision"] > 0.9 and scored["recall"] > 0.9


def test_other_keys_do_not_link() -> None:
    """The same pictures under two keys do not correlate."""
    pixels = natural_pixels(40, seed=4)
    world = morphed_world(np.concatenate([pixels, pixels]), morph=MorphSettings(tile=8))
    both = torch.cat([world.sites[site].t_NKQ.flatten(1) for site in ("north", "south")])
    pairs, _ = linkage.similar_pairs(both, linkage.THRESHOLD)
    assert not any(second - first == 40 for first, second in pairs.tolist())


def test_uniform_cores_keep_no_inner_products() -> None:
    with pytest.raises(DoesNotApplyError):
        linkage.run(morphed_world(morph=MorphSettings(preset="mole")).outsider("north"), SETTINGS)


@pytest.mark.parametrize(("preset", "width"), [("compact", 0.5), ("paper", 0.5), ("compact", 0.25)])
def test_feature_maps_give_pictures_without_the_stem(preset: str, width: float) -> None:
    """32 features determine a patch of 27 values; 16 do so in windows of four places."""
    world = morphed_world(
        lopsided_pixels(240, seed=4, side=24),
        morph=MorphSettings(preset=preset),
        codec="q8",
        layer="int8",
        width=width,
        public_PCHW=lopsided_pixels(200, seed=5, side=24),
    )
    finding = stemless_features.run(world.compute_node(), SETTINGS)
    values = values_of(finding)
    assert float(values["least correlation of a shared pixel's colours"]) > 0.97 > float(values["next correlation"])
    assert mean_ssim(world, finding) > 0.8
    assert mean_ssim(world, finding, 0) < mean_ssim(world, finding)


def test_features_of_noise_share_nothing() -> None:
    """Maps that no convolution made: no combination of features repeats elsewhere."""
    noise = torch.randn(40, 32, 24, 24, generator=torch.Generator().manual_seed(1))
    _, correlations = stemless_features.shared_pixels(noise, channels=3, kernel=3)
    assert correlations[0] < 0.2


def test_eight_features_of_colour_patches_take_windows() -> None:
    assert stemless_features.window_for(64, channels=3, kernel=3) == 1
    assert stemless_features.window_for(16, channels=3, kernel=3) == 2
    assert stemless_features.window_for(8, channels=1, kernel=3) == 2
    with pytest.raises(DoesNotApplyError):
        stemless_features.window_for(3, channels=3, kernel=7)


@pytest.mark.parametrize("budget_bits", [50.0, 2000.0])
def test_denoisers_beat_noise_and_stay_below_what_is_there(budget_bits: float) -> None:
    pixels, public = natural_pixels(60, seed=4), natural_pixels(400, seed=5)
    normalisation = NormalisationSettings()
    privacy = PrivacySettings(mode=PrivacyMode.NOISE, budget_bits=budget_bits)
    distribution = NoiseDistribution(
        spectrum=measure_spectrum(pixels, normalisation), privacy=privacy, normalisation=normalisation
    )
    plan = morphed_world().plan
    x = to_inputs(pixels, plan)
    noisy = torch.from_numpy(PictureNoise(bytes(32), distribution).add(x.numpy(), pixels))
    linear = noise_removal.linear_estimate(noisy, distribution, public)
    learned = noise_removal.denoise(noisy, distribution, public, NetworkSettings(steps=30, width=8))
    mean = to_inputs(public, plan).mean(0).expand_as(x)
    errors = [float((guess - x).square().mean()) for guess in (noisy, mean, linear, learned)]
    assert errors[2] < min(errors[0], errors[1])
    assert errors[3] < 1.1 * errors[2]
    assert psnr(to_pixels(linear, plan.normalisation), pixels).mean() < 40


def test_without_noise_there_is_nothing_to_take_off() -> None:
    with pytest.raises(DoesNotApplyError, match="no noise"):
        noise_removal.run(morphed_world().compute_node_with_stem(), SETTINGS)


def test_a_denoiser_needs_something_to_learn_from() -> None:
    pixels = natural_pixels(40)
    privacy = PrivacySettings(mode=PrivacyMode.NOISE)
    normalisation = NormalisationSettings()
    distribution = NoiseDistribution(
        spectrum=measure_spectrum(pixels, normalisation), privacy=privacy, normalisation=normalisation
    )
    with pytest.raises(ValueError, match="5 public pictures"):
        noise_removal.denoise(torch.zeros(1, 3, 16, 16), distribution, pixels[:5])


def observed(world: MorphedWorld, codec: str) -> WireObserver:
    """The messages that a run would send: full ones in the sampler's order, then a shorter one."""
    coder = codec_named(codec)
    plan = world.plan
    order = wire_sizes._order_sent(plan, "north")
    each = wire_sizes.full_message(plan)
    t_NKQ = world.sites["north"].t_NKQ
    messages = []
    for low in range(0, len(order), each):
        packed = len(coder.pack(coder.encode(t_NKQ[torch.from_numpy(order[low : low + each])].numpy()))) + 40
        messages.append(SeenMessage(time_s=low / 100, sender="site/north", receiver="compute/compute", bytes=packed))
    return WireObserver(plan=without_stem(plan), messages=tuple(messages), public_PCHW=world.public_PCHW)


@pytest.mark.parametrize(("codec", "tells"), [("q6", True), ("f16", False)])
def test_sizes_tell_count_and_with_entropy_coding_contrast(codec: str, tells: bool) -> None:
    world = morphed_world(natural_pixels(1000, seed=4), morph=MorphSettings(tile=8), codec=codec)
    kept = codec_named(codec).sample_bytes(blocks=world.plan.geometry.blocks, values=768)
    wire = dataclasses.replace(world.plan.wire, message_bytes=max(kept * 40, 65_536))
    plan = dataclasses.replace(world.plan, wire=wire)
    world = dataclasses.replace(world, truth=dataclasses.replace(world.truth, plan=plan))
    finding = wire_sizes.run(observed(world, codec), SETTINGS)
    values = values_of(finding)
    assert abs(int(values["pictures for training"]) - 500) <= 3
    scored = {one.name: one.value for one in wire_sizes.score(finding, world.truth)}
    if tells:
        assert float(scored["correlation of size and contrast"]) > 0.9
    else:
        assert "equal" in str(scored["correlation of size and contrast"])
    assert "equal" in str(scored["the same, padded to 512 KiB"])


def test_padding_rounds_up() -> None:
    assert wire_sizes.padded(np.array([1, 4096, 4097]), 4096).tolist() == [4096, 4096, 8192]


def test_a_silent_site_tells_nothing() -> None:
    world = morphed_world()
    view = WireObserver(plan=without_stem(world.plan), messages=(), public_PCHW=world.public_PCHW)
    with pytest.raises(DoesNotApplyError, match="no message"):
        wire_sizes.run(view, SETTINGS)
