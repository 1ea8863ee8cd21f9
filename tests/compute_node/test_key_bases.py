"""Bases in escrow custody: asked for once, taken in parts, kept, folded into the layer that the coordinator built."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from compute_node.layers.key_bases import KeyBases, store_layer
from compute_node.layers.layer_bank import LayerBank
from compute_node.layers.restore import listed_layers, restored_bank
from mple.disk.damage import DamagedError
from mple.morph.augmented import build_augmented_layer
from mple.morph.basis import Basis, fit_directions
from mple.morph.morpher import Morpher, to_blocks
from mple.plan import Custody, WireSettings
from mple.records.layer_list import layer_path, list_layers, read_list
from mple.rpc import ErrorCode, MpleError
from mple.v1 import compute_pb2
from mple.wire.basis_file import basis_bytes
from mple.wire.coding import Coding
from mple.wire.layer_file import write_layer
from tests.support.small_plan import key_of, key_ref, small_plan

PLAN = small_plan(custody=Custody.ESCROW, wire=WireSettings(codec="k6", layer="f32"))
NAMES = tuple(site.name for site in PLAN.sites)
ORDER = np.arange(PLAN.filters)[::-1].copy()
STEM = np.random.default_rng(3).normal(size=(PLAN.filters, PLAN.channels, PLAN.model.kernel, PLAN.model.kernel))
X_BCHW = np.random.default_rng(4).normal(size=(6, 1, 8, 8)).cumsum(3).astype(np.float32)


def morpher(site: str, basis: Basis | None = None) -> Morpher:
    return Morpher(PLAN.morph.scheme(), PLAN.image, key_of(site), session=PLAN.session, key_epoch=1, basis=basis)


def basis_of(site: str, step: float = 1e-3) -> Basis:
    scheme = PLAN.morph.scheme()
    x_BKQ = to_blocks(X_BCHW, scheme, PLAN.geometry)
    basis = fit_directions(x_BKQ, scheme, PLAN.image, key_of(site), session=PLAN.session, key_epoch=1, step=step)
    c_BKd = morpher(site, basis).morph(X_BCHW)
    return replace(basis, coding=Coding.fit([c_BKd.reshape(-1, basis.columns)], 2.0**-3).to_bytes())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With the layers as the coordinator builds them, for morphed values."""
    digests = {}
    for site in NAMES:
        layer = build_augmented_layer(
            PLAN.morph.scheme(), PLAN.image, STEM, key_of(site), ORDER, session=PLAN.session, key_epoch=1
        )
        write_layer(layer, tmp_path / "layer", "f32")
        digests[site] = hashlib.sha256((tmp_path / "layer").read_bytes()).digest()
        (tmp_path / "layer").rename(layer_path(tmp_path, digests[site]))
    list_layers(tmp_path, PLAN, digests)
    return tmp_path


def started(folder: Path) -> tuple[LayerBank, KeyBases]:
    """As a node starts: each layer comes with an event, its basis with a stream."""
    bank = restored_bank(folder, PLAN)
    for site, path in zip(NAMES, layers_in(folder), strict=True):
        store_layer(bank, PLAN, key_ref(site), path, folder)
    return bank, KeyBases(PLAN, bank, folder)


def layers_in(folder: Path) -> list[Path]:
    listed = read_list(folder, PLAN)
    return [layer_path(folder, bytes.fromhex(listed.layers[site])) for site in NAMES]


def hello(data: bytes) -> compute_pb2.FeedHello:
    return compute_pb2.FeedHello(basis_sha256=hashlib.sha256(data).digest())


def parts(data: bytes, size: int = 100) -> Iterator[compute_pb2.KeyBasis]:
    for low in range(0, len(data), size):
        yield compute_pb2.KeyBasis(offset=low, data=data[low : low + size], final=low + size >= len(data))


def sent(bases: KeyBases, site: str, data: bytes) -> None:
    bases.take_hello(site, hello(data))
    assert bases.asks(site)
    assert not bases.asks(site), "once a stream"
    for part in parts(data):
        bases.take(site, part)


def test_a_basis_is_folded_into_its_layer_and_still_is_after_a_restart(folder: Path) -> None:
    basis, (bank, bases) = basis_of("north"), started(folder)
    assert bank.complete
    assert bank.usable(key_ref("north"))
    sent(bases, "north", basis_bytes(basis))
    due = build_augmented_layer(
        PLAN.morph.scheme(), PLAN.image, STEM, key_of("north"), ORDER, session=PLAN.session, key_epoch=1, basis=basis
    )
    c_BKd = morpher("north", basis).morph(X_BCHW)
    for held in (bank, started(folder)[0]):
        found = held.layers[0].apply(torch.from_numpy(c_BKd)).numpy()
        assert np.allclose(found, due.apply(c_BKd), atol=1e-5 * np.abs(found).max())
        assert held.codec(0).values(PLAN.geometry) == PLAN.geometry.blocks * basis.columns
        assert 1 not in held.layers
    again = started(folder)[1]
    again.take_hello("north", hello(basis_bytes(basis)))
    assert not again.asks("north"), "it is held"


def test_a_finished_run_answers_by_the_bases_that_were_kept(folder: Path) -> None:
    bases = started(folder)[1]
    sent(bases, "north", basis_bytes(basis_of("north")))
    with pytest.raises(DamagedError, match=r"basis-south-1\.bin holds the basis of site south, and is missing"):
        listed_layers(folder, PLAN)
    sent(bases, "south", basis_bytes(basis_of("south")))
    assert set(listed_layers(folder, PLAN).layers) == {0, 1}


def test_a_damaged_basis_is_asked_for_again(folder: Path) -> None:
    data = basis_bytes(basis_of("north"))
    sent(started(folder)[1], "north", data)
    path = folder / "basis-north-1.bin"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    bank, bases = started(folder)
    assert 0 not in bank.layers
    sent(bases, "north", data)
    assert 0 in bank.layers
    assert path.read_bytes() == content


def test_another_basis_than_before_is_refused(folder: Path) -> None:
    bases = started(folder)[1]
    sent(bases, "north", basis_bytes(basis_of("north")))
    with pytest.raises(MpleError, match="has another basis than the one that it sent in this run before") as refused:
        bases.take_hello("north", hello(b"another"))
    assert "basis-*.bin" in refused.value.fix


def test_a_stream_that_breaks_begins_anew(folder: Path) -> None:
    data, (bank, bases) = basis_bytes(basis_of("north")), started(folder)
    bases.take_hello("north", hello(data))
    bases.take("north", next(parts(data)))
    sent(bases, "north", data)
    assert 0 in bank.layers


FAULTS = {
    "unasked": (ErrorCode.UNKNOWN_REQUEST, lambda data: list(parts(data)), "south"),
    "out of order": (ErrorCode.FILE_OFFSET, lambda data: list(parts(data))[1:], "north"),
    "empty": (ErrorCode.MESSAGE_MALFORMED, lambda _: [compute_pb2.KeyBasis()], "north"),
    "too long": (ErrorCode.MESSAGE_MALFORMED, lambda _: [compute_pb2.KeyBasis(data=bytes(100_000))], "north"),
    "another": (ErrorCode.FILE_DIGEST_MISMATCH, lambda data: list(parts(data[:-1] + b"\xff")), "north"),
    "cut short": (ErrorCode.FILE_DIGEST_MISMATCH, lambda data: list(parts(data[:300])), "north"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_no_part_of_the_basis_is_refused(name: str, folder: Path) -> None:
    code, said, site = FAULTS[name]
    data, (bank, bases) = basis_bytes(basis_of("north")), started(folder)
    bases.take_hello("north", hello(data))
    *before, last = said(data)
    if code is ErrorCode.FILE_OFFSET:
        before, last = [], before[0]
    for part in before if code is not ErrorCode.UNKNOWN_REQUEST else []:
        bases.take(site, part)
    with pytest.raises(MpleError) as refused:
        bases.take(site, last)
    assert refused.value.code is code
    assert not bank.layers
    assert not list(folder.glob("basis-*"))


@pytest.mark.parametrize("content", [b"x", b"MPB1" + bytes(16), b"x" * 500])
def test_bytes_that_are_no_basis_are_refused(content: bytes, folder: Path) -> None:
    bases = started(folder)[1]
    bases.take_hello("north", hello(content))
    with pytest.raises(MpleError, match="the basis of site north") as refused:
        bases.take("north", next(parts(content, 500)))
    assert refused.value.code is ErrorCode.MESSAGE_MALFORMED


def test_a_hello_names_a_basis_exactly_where_the_plan_needs_one(folder: Path) -> None:
    with pytest.raises(MpleError, match="site north names no basis, and the plan needs one"):
        started(folder)[1].take_hello("north", compute_pb2.FeedHello())
    for plan in (replace(PLAN, custody=Custody.SITE), replace(PLAN, wire=WireSettings(codec="q6"))):
        with pytest.raises(MpleError, match="site north names a basis, and the plan needs none"):
            KeyBases(plan, LayerBank(plan), folder).take_hello("north", hello(b"x"))


def test_the_bytes_of_the_messages() -> None:
    """Golden: both ends rest on them."""
    part = compute_pb2.FeedRequest(basis=compute_pb2.KeyBasis(offset=300, data=b"MPB1", final=True))
    assert part.SerializeToString(deterministic=True).hex() == "2a0b08ac0212044d5042311801"
    asked = compute_pb2.FeedResponse(basis_wanted=compute_pb2.BasisWanted())
    assert asked.SerializeToString(deterministic=True).hex() == "2a00"
    said = compute_pb2.FeedHello(basis_sha256=b"\x01\x02")
    assert said.SerializeToString(deterministic=True).hex() == "32020102"
