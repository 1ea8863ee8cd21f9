"""A site's feeding over a whole run: across broken links, under whichever of its keys the compute node holds."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mple.audit import audit
from mple.data import Dataset
from mple.meter import Ledger
from mple.node.logs import log
from mple.node.retry import RetryPolicy, StoppedError
from mple.node.stop import Stop
from mple.pki import Vault
from mple.plan import Custody, RunPlan, SiteSettings
from mple.plan.orders import label_order
from mple.privacy import PictureNoise
from mple.rpc import ErrorCode, MpleError, Role, TlsFiles, open_channel, verify_remote
from mple.v1 import common_pb2, compute_pb2_grpc
from provider_node.feeding.feed import SiteFeed
from provider_node.feeding.morphing import MorphedImages
from provider_node.feeding.noising import begin_noise
from provider_node.feeding.release_book import ReleaseBook
from provider_node.feeding.sample_pictures import keep_sample_pictures
from provider_node.keys.run_keys import RunKeys

_LOGGER = logging.getLogger("mple.provider")
_LOOK_EVERY_S = 0.2


@dataclass(kw_only=True, slots=True)
class Feeding:
    """Feeds until the compute node is done; `switch` may be called meanwhile."""

    settings: SiteSettings
    tls: TlsFiles
    site: str
    vault: Vault
    dataset: Dataset
    ledger: Ledger
    plan: RunPlan
    keys: RunKeys
    stop: Stop
    _feed: SiteFeed | None = None
    _noise: PictureNoise | None = None
    _over: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def until_done(self) -> None:
        """Feed, over as many streams as it takes.

        Raises:
            MpleError: The compute node asked for what the plan does not allow, or refused what it got.
            UnreachableError: It stayed away for too long.
            StoppedError: The node is to stop.
        """
        settings = self.settings
        with self._lock:
            self._noise = begin_noise(self.plan, settings.state, self.vault, self.dataset.train)
        feed = self._begin()
        retry = RetryPolicy.to(settings.compute, self.tls, self.stop, settings.idle_timeout_s)
        compute = retry.call(lambda: verify_remote(settings.compute, self.tls, Role.COMPUTE))
        with open_channel(settings.compute, self.tls, compute, self.ledger) as channel:
            stub = compute_pb2_grpc.ComputeServiceStub(channel)
            log(_LOGGER, logging.INFO, "feeding", f"feeding {compute.label}")
            began = time.monotonic()
            if self._feed_on(feed, retry, lambda: feed.run(stub, self.stop)):
                log(_LOGGER, logging.INFO, "fed", f"the compute node is done after {time.monotonic() - began:.1f} s")

    def switch(self, key_ref: common_pb2.KeyRef) -> None:
        """Morph under another key of the site from now on: the compute node holds its layer.

        An older key than the one in use, as events tell of again after a restart, changes nothing, and neither does one
        that the vault does not hold because it was revoked meanwhile: its successor follows.

        Raises:
            MpleError: UNKNOWN_KEY_REF for a key that is not the site's.
        """
        with self._lock:
            if key_ref.epoch <= self.keys.notes.in_use:
                return
            if not self.vault.has_morph_key(key_ref.epoch):
                text = f"key {key_ref.epoch} could be used, but is not in the vault any more"
                log(_LOGGER, logging.WARNING, "key_passed_over", text, epoch=key_ref.epoch)
                return
            fingerprint = self.vault.morph_key(key_ref.epoch).fingerprint()
            if fingerprint != key_ref.fingerprint:
                text = f"epoch {key_ref.epoch} of this site is {fingerprint.hex()[:8]}, not "
                raise MpleError(ErrorCode.UNKNOWN_KEY_REF, text + key_ref.fingerprint.hex()[:8])
            if self._feed is not None:
                self._feed.use(key_ref, self._images(key_ref.epoch))
            self.keys.note_ready(key_ref.epoch, key_ref.fingerprint.hex())
        audit("local", "key_rotated", "ok", epoch=key_ref.epoch, fingerprint=key_ref.fingerprint.hex())
        log(_LOGGER, logging.INFO, "key_in_use", f"morphs under key {key_ref.epoch} from now on", epoch=key_ref.epoch)

    def run_over(self) -> None:
        """The run has ended: no key is waited for any more."""
        self._over = True

    def _begin(self) -> SiteFeed:
        """The feed under the key in use; where that was revoked meanwhile, under its successor once it is in use.

        Raises:
            VaultError: It was revoked, and in escrow custody there will be no successor.
            StoppedError: The node is to stop, or the run is over.
        """
        plan, mine = self.plan, self.plan.site(self.site)
        while True:
            with self._lock:
                epoch = self.keys.notes.in_use
                if self.vault.has_morph_key(epoch) or plan.custody is Custody.ESCROW:
                    images = self._images(epoch)
                    keep_sample_pictures(self.settings.state, self.dataset.train, plan, images)
                    self._feed = SiteFeed(
                        plan,
                        self.keys.notes.key_ref(self.site, epoch),
                        images,
                        self.dataset.test.labels,
                        self._order(),
                        ReleaseBook(
                            self.settings.state / f"releases-{plan.run_id}.bin",
                            train=mine.train_images,
                            test=mine.test_images,
                            most=plan.wire.releases,
                        ),
                    )
                    return self._feed
            if self.stop.wait(_LOOK_EVERY_S) or self._over:
                raise StoppedError

    def _feed_on(self, feed: SiteFeed, retry: RetryPolicy, stream: Callable[[], bool]) -> bool:
        while True:
            try:
                return retry.call(stream)
            except MpleError as refusal:
                # What was on its way under a key that has been revoked since is refused; it is asked for anew.
                if refusal.code is not ErrorCode.UNKNOWN_KEY_REF or not feed.key_changed:
                    raise
                log(_LOGGER, logging.INFO, "feed_again", f"feeding anew under the current key: {refusal}")

    def _images(self, epoch: int) -> MorphedImages:
        key = self.vault.morph_key(epoch)
        return MorphedImages(self.dataset, self.plan, self.site, key, self._order(), epoch, self._noise)

    def _order(self) -> NDArray[np.int64]:
        return label_order(self.vault.consortium_secret(self.plan.run_id), len(self.plan.classes))
