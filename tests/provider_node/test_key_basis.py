"""A key's basis at its site: fitted once, kept, and no other one in its place."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mple.data.normalise import normalise
from mple.disk.damage import DamagedError
from mple.morph.augmented import build_augmented_layer
from mple.morph.morpher import Morpher
from mple.plan import Custody, RunPlan, WireSettings
from mple.v1 import common_pb2
from mple.wire.batch import batch_from_message
from mple.wire.codecs import codec_named
from mple.wire.coding import Coding
from provider_node.feeding.whole_run import Feeding
from provider_node.keys.key_basis import begin_basis, forget_basis, kept_basis
from provider_node.keys.run_keys import RunKeys
from tests.support.coloured_site import DATASET
from tests.support.feeding_site import asked, feeding_site, second

STEP = 2.0**-3


@pytest.fixture
def feeding(tmp_path: Path) -> Iterator[Feeding]:
    """North, under a plan with a transform codec."""
    with feeding_site(tmp_path) as made:
        made.plan = dataclasses.replace(made.plan, wire=WireSettings(codec="k6"))
        yield made


def files(feeding: Feeding) -> list[str]:
    return sorted(path.name for path in feeding.site.settings.state.glob("basis-*"))


def test_a_basis_is_fitted_once_and_found_again(feeding: Feeding) -> None:
    first = begin_basis(feeding.site, feeding.plan, 1)
    assert first is not None
    assert files(feeding) == ["basis-run1-1.bin"]
    state = feeding.site.settings.state
    assert (state / "basis-run1-1.bin").stat().st_mode & 0o077 == 0
    restarted = RunKeys(state)
    for again in (begin_basis(feeding.site, feeding.plan, 1), kept_basis(feeding.plan, restarted, 1)):
        assert again is not None
        assert np.array_equal(again.synthesis_GdQ, first.synthesis_GdQ)
        assert again.coding == first.coding
    rotated = begin_basis(feeding.site, feeding.plan, 2)
    assert rotated is not None
    assert not np.array_equal(rotated.synthesis_GdQ, first.synthesis_GdQ)
    assert files(feeding) == ["basis-run1-1.bin", "basis-run1-2.bin"]
    forget_basis(feeding.plan, feeding.site.keys, 1)
    assert files(feeding) == ["basis-run1-2.bin"]


def test_other_codecs_have_none(feeding: Feeding) -> None:
    plan = dataclasses.replace(feeding.plan, wire=WireSettings(codec="q6"))
    assert begin_basis(feeding.site, plan, 1) is None
    assert kept_basis(plan, feeding.site.keys, 1) is None
    assert files(feeding) == []


@pytest.mark.parametrize("custody", list(Custody))
def test_what_codes_have_left_under_is_not_made_again(feeding: Feeding, custody: Custody) -> None:
    plan, keys = dataclasses.replace(feeding.plan, custody=custody), feeding.site.keys
    begin_basis(feeding.site, plan, 1)
    begin_basis(feeding.site, plan, 2)
    if custody is Custody.SITE:
        keys.note_released(1, "ab")
    state = feeding.site.settings.state
    path, other = (state / f"basis-run1-{epoch}.bin" for epoch in (1, 2))
    whole = path.read_bytes()
    for damaged, text in (
        (other.read_bytes(), "is another"),
        (whole[:-1], "is damaged"),
        (whole[:40] + bytes([whole[40] ^ 1]) + whole[41:], "is damaged"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(DamagedError, match=f"basis-run1-1.bin {text}"):
            begin_basis(feeding.site, plan, 1)
    path.unlink()
    with pytest.raises(DamagedError, match="is gone; what leaves under key 1 of run run1 rests on it") as gone:
        begin_basis(feeding.site, plan, 1)
    assert "mple keys rotate" in gone.value.fix
    path.write_bytes(whole)
    begin_basis(feeding.site, plan, 1)


def test_before_the_layer_is_released_it_is_fitted_anew(feeding: Feeding) -> None:
    """And the layer that was built with the lost one is not uploaded."""
    keys, state = feeding.site.keys, feeding.site.settings.state
    begin_basis(feeding.site, feeding.plan, 1)
    keys.note_built(1, bytes(32))
    (state / "basis-run1-1.bin").unlink()
    begin_basis(feeding.site, feeding.plan, 1)
    assert not keys.notes.built


def test_samples_are_coded_under_the_keys_basis(feeding: Feeding) -> None:
    """By the definition: coefficients nearest to the morphed picture, within 3/4 of a step; features of the layer."""
    samples = feeding._samples = feeding._open_samples()
    for epoch in (1, 2):
        if epoch == 2:
            feeding.switch(second(feeding))
        message = samples.answer(asked(epoch, 7).samples, 0)
        basis = kept_basis(feeding.plan, feeding.site.keys, epoch)
        assert basis is not None
        c_BKd = decoded(feeding.plan, message, basis.coding)
        key, plan = feeding.site.morph_key(epoch), feeding.plan
        scheme, session = plan.morph.scheme(), plan.session
        x_BCHW = normalise(DATASET.train.pixels_NCHW[[epoch, 7]], plan.normalisation)
        t_BKQ = Morpher(scheme, plan.image, key, session=session, key_epoch=epoch).morph(x_BCHW).astype(np.float64)
        w_dQ = basis.synthesis_GdQ[0] * basis.scales_Gd[0].astype(np.float64)[:, None]
        nearest = np.linalg.lstsq(w_dQ.T, t_BKQ.reshape(-1, t_BKQ.shape[2]).T, rcond=None)[0].T
        assert np.abs(c_BKd.reshape(nearest.shape) - nearest).max() <= 0.75 * STEP + 1e-4
        layer = build_augmented_layer(
            scheme, plan.image, np.ones((1, 3, 1, 1)), key, np.zeros(1, np.int64), session=session, key_epoch=epoch,
            basis=basis,
        )  # fmt: skip
        assert np.abs(layer.apply(c_BKd)[:, 0] - x_BCHW.sum(1)).max() < 6 * STEP


def decoded(plan: RunPlan, message: common_pb2.MorphedBatch, coding: bytes) -> np.ndarray:
    geometry = plan.geometry
    codec = codec_named("k6").fitted(Coding.from_bytes(coding, cores=1, core_side=geometry.core_side))
    batch = batch_from_message(
        message,
        samples=2,
        blocks=geometry.blocks,
        values=codec.values(geometry),
        codec=codec,
        labels=plan.label_form,
    )
    return codec.decode(batch.coded, geometry.blocks)
