"""A site under a plan with noise: nothing leaves without it, a restart draws the same, and budgets add up."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from mple.audit import close_audit, open_audit, read_entries
from mple.audit import verify as verify_trail
from mple.data import Dataset, LabelledImages
from mple.morph import MorphKey
from mple.morph.arithmetic import Floats
from mple.morph.morpher import Morpher
from mple.pki import Vault
from mple.plan import NoiseShape, PrivacyMode, PrivacySettings, RunPlan, WireSettings
from mple.v1 import common_pb2
from mple.wire.codecs import codec_named
from provider_node.feeding.morphing import MorphedImages, PictureMorpher
from provider_node.feeding.noising import begin_noise, kept_noise, refuse_weaker, runs_without_noise
from provider_node.feeding.sample_pictures import keep_sample_pictures
from tests.support.small_plan import CLASSES, TEST, TRAIN, key_of, small_plan

ORDER = np.arange(3)
PRIVACY = PrivacySettings(mode=PrivacyMode.NOISE, budget_bits=30.0)


def pictures(count: int, seed: int) -> LabelledImages:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 1, 8, 8), dtype=np.uint8)
    return LabelledImages(pixels, np.arange(count) % len(CLASSES))


DATASET = Dataset(name="north", classes=CLASSES, train=pictures(60, 1), test=pictures(6, 2))
PLAN = dataclasses.replace(
    small_plan(sizes={"north": (60, 6), "south": (4, 2)}, wire=WireSettings(codec="f32")), privacy=PRIVACY
)


def noisy(plan: RunPlan, folder: Path, key: MorphKey, key_epoch: int) -> MorphedImages:
    """As a process of the site makes it when it starts."""
    folder.mkdir(exist_ok=True)
    noise = begin_noise(plan, folder, Vault(folder / "vault"), DATASET.train)
    return MorphedImages(DATASET, plan, "north", key, ORDER, key_epoch, noise)


def unmorphed(
    images: MorphedImages, plan: RunPlan, key: MorphKey, key_epoch: int, split: common_pb2.Split = TRAIN
) -> Floats:
    coded = images.batch(split, [0, 1, 2, 5]).coded
    morpher = Morpher(plan.morph.scheme(), plan.image, key, session=plan.session, key_epoch=key_epoch)
    return morpher.unmorph(codec_named("f32").decode(coded, plan.geometry.blocks))


def test_what_leaves_is_the_picture_with_the_noise_of_its_distribution(tmp_path: Path) -> None:
    images = noisy(PLAN, tmp_path, key_of("north"), 1)
    noise = kept_noise(PLAN, tmp_path, Vault(tmp_path / "vault"))
    assert noise is not None
    for split, pixels in ((TRAIN, DATASET.train.pixels_NCHW), (TEST, DATASET.test.pixels_NCHW)):
        seen = unmorphed(images, PLAN, key_of("north"), 1, split)
        x = (pixels[[0, 1, 2, 5]] / 255 - 0.5) / 0.25
        drawn = np.stack([noise.draw(one) for one in pixels[[0, 1, 2, 5]]])
        np.testing.assert_allclose(seen, x + drawn, atol=2**-12)
        assert np.std(seen - x) > 0.5


def test_a_restart_a_new_key_and_another_run_of_the_same_distribution_draw_the_same(tmp_path: Path) -> None:
    first = noisy(PLAN, tmp_path, key_of("north"), 1)
    codes = first.batch(TRAIN, range(60)).coded.codes_BV
    assert noisy(PLAN, tmp_path, key_of("north"), 1).batch(TRAIN, range(60)).coded.codes_BV.tobytes() == codes.tobytes()
    seen = unmorphed(first, PLAN, key_of("north"), 1)
    rotated = noisy(PLAN, tmp_path, key_of("other"), 2)
    np.testing.assert_allclose(unmorphed(rotated, PLAN, key_of("other"), 2), seen, atol=1e-4, rtol=0)
    again = dataclasses.replace(PLAN, run_id="second")
    later = noisy(again, tmp_path, key_of("north"), 1)
    np.testing.assert_allclose(unmorphed(later, again, key_of("north"), 1), seen, atol=1e-4, rtol=0)


def test_another_site_draws_other_noise_on_the_same_picture(tmp_path: Path) -> None:
    north = unmorphed(noisy(PLAN, tmp_path / "north", key_of("north"), 1), PLAN, key_of("north"), 1)
    south = unmorphed(noisy(PLAN, tmp_path / "south", key_of("north"), 1), PLAN, key_of("north"), 1)
    assert np.abs(north - south).min() > 0


def test_a_restart_keeps_the_distribution_though_pictures_have_changed(tmp_path: Path) -> None:
    distribution = begin_noise(PLAN, tmp_path, Vault(tmp_path / "vault"), DATASET.train)
    darker = LabelledImages(DATASET.train.pixels_NCHW // 8, DATASET.train.labels)
    again = begin_noise(PLAN, tmp_path, Vault(tmp_path / "vault"), darker)
    assert distribution is not None and again is not None
    assert again.distribution == distribution.distribution


def test_without_its_noise_nothing_is_morphed_under_such_a_plan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"privacy\.mode = noise, but the noise is None"):
        PictureMorpher(PLAN, "north", key_of("north"))
    noise = begin_noise(PLAN, tmp_path, Vault(tmp_path / "vault"), DATASET.train)
    with pytest.raises(ValueError, match=r"privacy\.mode = none"):
        PictureMorpher(small_plan(), "north", key_of("north"), None, noise)
    other = dataclasses.replace(PLAN, privacy=dataclasses.replace(PRIVACY, budget_bits=31.0))
    with pytest.raises(ValueError, match="the plan asks for"):
        PictureMorpher(other, "north", key_of("north"), None, noise)


def test_a_plan_without_noise_makes_no_distribution_and_no_secret(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "vault")
    assert begin_noise(small_plan(), tmp_path, vault, DATASET.train) is None
    assert kept_noise(small_plan(), tmp_path, vault) is None
    assert [path.name for path in tmp_path.rglob("*")] == ["vault"]


def test_a_distribution_that_is_gone_damaged_or_foreign_stops_predictions(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "vault")
    with pytest.raises(ValueError, match=r"no noise distribution at .*noise-small-run\.json"):
        kept_noise(PLAN, tmp_path, vault)
    begin_noise(PLAN, tmp_path, vault, DATASET.train)
    path = tmp_path / "noise-small-run.json"
    assert path.stat().st_mode & 0o077 == 0
    isotropic = dataclasses.replace(PRIVACY, shape=NoiseShape.ISOTROPIC)
    with pytest.raises(ValueError, match="made for other settings"):
        kept_noise(dataclasses.replace(PLAN, privacy=isotropic), tmp_path, vault)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match=r"noise-small-run\.json is damaged"):
        kept_noise(PLAN, tmp_path, vault)


def test_the_level_is_audited_and_budgets_of_other_distributions_add_up(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "vault")
    open_audit(tmp_path, "site/north")
    try:
        for run, bits in (("one", 30.0), ("two", 30.0), ("three", 8.0)):
            privacy = dataclasses.replace(PRIVACY, budget_bits=bits)
            begin_noise(dataclasses.replace(PLAN, run_id=run, privacy=privacy), tmp_path, vault, DATASET.train)
    finally:
        close_audit()
    trail = tmp_path / "audit.jsonl"
    assert verify_trail(trail).sound
    facts = [entry.facts for entry in read_entries(trail) if entry.what == "noise"]
    assert [(one["run"], one["budget_bits"], one["earlier_bits"]) for one in facts] == [
        ("one", 30.0, 0),
        ("two", 30.0, 0),
        ("three", 8.0, 30.0),
    ]
    assert facts[0]["distribution"] == facts[1]["distribution"] != facts[2]["distribution"]
    assert float(facts[0]["deviation_px"]) < float(facts[2]["deviation_px"])
    assert vault.noise_secret().hex() not in trail.read_text()


def test_earlier_runs_without_noise_are_counted(tmp_path: Path) -> None:
    begin_noise(dataclasses.replace(PLAN, run_id="noisy"), tmp_path, Vault(tmp_path / "vault"), DATASET.train)
    for run in ("noisy", "bare", "small-run"):
        (tmp_path / f"releases-{run}.bin").write_bytes(b"")
    assert runs_without_noise(tmp_path, PLAN) == 1


@pytest.mark.parametrize(("most", "refused"), [(None, False), (30.0, False), (29.9, True)])
def test_a_site_refuses_a_plan_that_lets_more_leave_than_it_allows(most: float | None, refused: bool) -> None:
    if refused:
        with pytest.raises(
            ValueError, match=r"privacy\.most_budget_bits is 29\.9, the run is one of privacy\.budget_bits = 30"
        ):
            refuse_weaker(PLAN, most)
    else:
        refuse_weaker(PLAN, most)
    refuse_weaker(small_plan(), None)
    with pytest.raises(ValueError, match="the run is one without noise"):
        refuse_weaker(small_plan(), 1e6)


def test_sample_pictures_travel_with_their_noise(tmp_path: Path) -> None:
    images = noisy(PLAN, tmp_path, key_of("north"), 1)
    keep_sample_pictures(tmp_path, DATASET.train, PLAN, images, 8)
    with np.load(tmp_path / "pictures-small-run.npz", allow_pickle=False) as kept:
        travelling = kept["travelling_NCHW"]
        plain_plan = dataclasses.replace(PLAN, privacy=PrivacySettings())
        plain = MorphedImages(DATASET, plain_plan, "north", key_of("north"), ORDER)
        coded = plain.batch(TRAIN, kept["travelling_N"].tolist()).coded
    assert np.std(travelling) > 1.2 * np.std(codec_named("f32").decode(coded, PLAN.geometry.blocks))


def test_too_few_pictures_stop_the_site(tmp_path: Path) -> None:
    few = LabelledImages(DATASET.train.pixels_NCHW[:2], DATASET.train.labels[:2])
    with pytest.raises(ValueError, match="2 training pictures"):
        begin_noise(PLAN, tmp_path, Vault(tmp_path / "vault"), few)
    assert not list(tmp_path.glob("noise-*"))
    assert json.loads(PLAN.to_json())["privacy"]["mode"] == "noise"
