"""What a site has lost between set-up and a restart: its secret is not drawn twice, its layer is built again."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mple.node.coordinator_client import CoordinatorClient
from mple.node.layer_building import build_layer_file
from mple.node.run_follower import RunFollower
from mple.pki import Vault, VaultDamagedError, consortium_key
from mple.rpc import Party, Role
from mple.v1 import coordinator_pb2
from provider_node.keys import setup
from provider_node.keys.layer_upload import bring_layer, fetch_stem, layer_file
from provider_node.keys.run_keys import RunKeys
from provider_node.keys.setup import SiteSetup
from provider_node.site import Site
from tests.support.small_plan import key_of, key_ref, small_plan

PLAN = dataclasses.replace(small_plan(), run_id="run1")
SECRET = bytes(range(32))


class Coordinator:
    """Takes what a site brings, and says whether an envelope was left before."""

    def __init__(self, *, earlier: bool = False) -> None:
        self.earlier, self.uploaded, self.begun = earlier, b"", coordinator_pb2.LayerHeader()
        self.stub, self.retry = self, SimpleNamespace(call=lambda attempt, *_: attempt())
        self.PutSealed = None

    def ask(self, *_: Any) -> coordinator_pb2.PutSealedResponse:
        return coordinator_pb2.PutSealedResponse(earlier=self.earlier)

    def BeginLayer(
        self, request: coordinator_pb2.BeginLayerRequest, timeout: float
    ) -> coordinator_pb2.BeginLayerResponse:
        self.begun, self.uploaded = request.header, b""
        return coordinator_pb2.BeginLayerResponse(resume_offset=0)

    def UploadLayer(
        self, messages: Iterator[coordinator_pb2.UploadLayerRequest], timeout: float
    ) -> coordinator_pb2.UploadLayerResponse:
        self.uploaded = b"".join(message.data for message in messages)
        return coordinator_pb2.UploadLayerResponse(released=True)


@pytest.fixture
def keys(tmp_path: Path) -> RunKeys:
    found = RunKeys(tmp_path)
    found.begin("run1", 1, key_of("north").fingerprint().hex())
    return found


@pytest.fixture
def first_site(tmp_path: Path, keys: RunKeys, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr(setup, "certificate_of", lambda *_: b"")
    monkeypatch.setattr(setup, "seal", lambda *_: b"sealed")
    ca = tmp_path / "ca.pem"
    ca.write_bytes(b"")
    node = SimpleNamespace(me=Party("test", Role.SITE, PLAN.sites[0].name), tls=SimpleNamespace(ca=ca))
    site = SimpleNamespace(
        node=node, vault=Vault(tmp_path / "vault"), keys=keys, settings=SimpleNamespace(state=tmp_path)
    )
    monkeypatch.setattr(SiteSetup, "_bring_layer", lambda _: None)
    return cast(Site, site)


def set_up(site: Site, *, earlier: bool = False) -> None:
    client = cast(CoordinatorClient, Coordinator(earlier=earlier))
    events = cast(RunFollower, SimpleNamespace(certificates={}))
    coordinator = Party("test", Role.COORDINATOR, "c")
    SiteSetup(site=site, coordinator=coordinator, client=client, events=events, plan=PLAN).run()


def test_a_first_site_that_has_lost_its_secret_draws_none_that_others_do_not_have(first_site: Site) -> None:
    with pytest.raises(VaultDamagedError, match=r"consortium-run1\.key is gone; site south has got it in this run"):
        set_up(first_site, earlier=True)
    assert not first_site.vault.has_consortium_secret("run1")
    first_site.vault.keep_consortium_secret("run1", SECRET)
    set_up(first_site, earlier=True)
    assert first_site.keys.notes.secrets.keys() == {consortium_key("run1")}


@pytest.mark.parametrize("with_records", [True, False])
def test_a_run_that_rests_on_a_secret_is_given_no_other(first_site: Site, tmp_path: Path, with_records: bool) -> None:
    set_up(first_site)
    secret = first_site.vault.consortium_secret("run1")
    (tmp_path / "vault" / "consortium-run1.key").unlink()
    if not with_records:
        (tmp_path / "vault" / "keys.json").unlink()
    with pytest.raises(VaultDamagedError, match=r"consortium-run1\.key is gone"):
        set_up(first_site)
    first_site.vault.keep_consortium_secret("run1", secret)
    set_up(first_site)


@pytest.mark.parametrize("damage", ["bit", "cut", "none"])
def test_a_damaged_layer_is_built_again_before_it_is_uploaded(keys: RunKeys, tmp_path: Path, damage: str) -> None:
    here, key, reference = Coordinator(), key_of("north"), key_ref("north")
    client = cast(CoordinatorClient, here)
    path = layer_file(tmp_path, PLAN, reference)
    header = build_layer_file(PLAN, key, reference, SECRET, fetch_stem(client, PLAN), path)
    keys.note_built(1, header.sha256)
    whole = path.read_bytes()
    path.write_bytes({"bit": whole[:-2] + bytes([whole[-2] ^ 1]) + whole[-1:], "cut": whole[:-9]}.get(damage, whole))
    bring_layer(client, PLAN, key, reference, SECRET, keys)
    assert (here.uploaded, here.begun) == (whole, header)
