"""A site's feeding, with two keys in the vault, and what its compute node may ask."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import grpc

from mple.data import NpzSource
from mple.meter import Ledger
from mple.node.coordinator_client import CoordinatorClient
from mple.node.retry import RetryPolicy
from mple.node.session import NodeSession
from mple.node.stop import Stop
from mple.pki import Vault
from mple.plan import SiteSettings
from mple.rpc import Party, Role, TlsFiles
from mple.v1 import common_pb2, compute_pb2
from provider_node.feeding.whole_run import Feeding
from provider_node.keys.run_keys import RunKeys
from provider_node.site import Site
from tests.support.coloured_site import DATASET, plan_with
from tests.support.small_plan import TRAIN

SITE = "north"


@contextlib.contextmanager
def feeding_site(tmp_path: Path) -> Iterator[Feeding]:
    """North's feeding, with two keys in the vault and the first in use."""
    settings = SiteSettings(
        state=tmp_path,
        tls=tmp_path,
        vault=tmp_path / "vault",
        coordinator="coordinator:1",
        compute="compute:2",
        data=NpzSource(path=tmp_path / "set.npz"),
    )
    plan = plan_with("compact")
    north = dataclasses.replace(plan.site(SITE), train_images=40, test_images=6)
    plan = dataclasses.replace(plan, run_id="run1", sites=(north, *plan.sites[1:]))
    vault = Vault(settings.vault)
    vault.morph_key()
    vault.new_epoch()
    vault.keep_consortium_secret("run1", bytes(32))
    keys = RunKeys(tmp_path)
    keys.begin("run1", 1, vault.morph_key(1).fingerprint().hex())
    with Ledger(tmp_path / "ledger.sqlite", f"site/{SITE}") as ledger:
        node = NodeSession(
            me=Party("test", Role.SITE, SITE),
            tls=TlsFiles.in_directory(tmp_path),
            ledger=ledger,
            registry=None,
            stop=Stop(),
        )
        site = Site(node=node, settings=settings, vault=vault, dataset=DATASET, keys=keys)
        retry = RetryPolicy.to("coordinator:1", node.tls, node.stop, 1.0)
        yield Feeding(site=site, plan=plan, client=CoordinatorClient(grpc.insecure_channel("coordinator:1"), retry))


def second(feeding: Feeding) -> common_pb2.KeyRef:
    """The site's second key."""
    return common_pb2.KeyRef(site=SITE, epoch=2, fingerprint=feeding.site.vault.morph_key(2).fingerprint())


def asked(*samples: int) -> compute_pb2.FeedResponse:
    """A request for training samples."""
    return compute_pb2.FeedResponse(samples=compute_pb2.SampleRequest(request_id=1, split=TRAIN, sample_ids=samples))
