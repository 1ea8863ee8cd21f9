"""A site's feeding over a whole run: across broken links, under whichever of its keys the compute node holds.

Each rank of the compute node has a stream, a thread and an address of its own. They break and go on apart from each
other; what is sent over all of them is of one morphing and counted in one book.
"""

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import grpc
import numpy as np
from numpy.typing import NDArray

from mple.audit import audit
from mple.delivered.folder import RECORD
from mple.delivered.scored import add_scores
from mple.disk.json_records import read_record, write_record
from mple.meter import Direction
from mple.metrics.withholding import withheld_text
from mple.model.class_weights import ClassCounts
from mple.model.settings import Augment
from mple.model.stem import mirrored_channels
from mple.node.coordinator_client import CoordinatorClient
from mple.node.logs import log, warn
from mple.node.retry import RetryPolicy, StoppedError
from mple.node.stop import Stop
from mple.per_node import IN_TURN
from mple.pki import NOISE_KEY, consortium_key
from mple.plan import ClassWeights, Custody, RunPlan
from mple.plan.keeping import Judged
from mple.plan.orders import channel_order, label_order
from mple.privacy import PictureNoise
from mple.records.kept_bases import needs_bases
from mple.records.site_scores import SiteScores
from mple.records.state_files import DELIVERED, RELEASES, SCORED_LOGITS, SITE_SCORES
from mple.rpc import AwayError, ErrorCode, MpleError, Role, error_of
from mple.rpc.identity import rank_label
from mple.v1 import common_pb2, compute_pb2, compute_pb2_grpc, coordinator_pb2
from mple.wire.basis_file import basis_bytes
from provider_node.delivery.receipt import NetworkReceipt
from provider_node.feeding.feed import SiteFeed
from provider_node.feeding.kept_logits import KeptLogits
from provider_node.feeding.morphing import MorphedImages
from provider_node.feeding.noising import begin_noise
from provider_node.feeding.release_book import ReleaseBook
from provider_node.feeding.sample_pictures import keep_sample_pictures
from provider_node.feeding.score_record import Split, site_scores
from provider_node.feeding.scoring import SplitScoring
from provider_node.feeding.site_samples import SiteSamples
from provider_node.keys.key_basis import begin_basis, kept_basis
from provider_node.keys.layer_upload import fetch_stem
from provider_node.site import Site

_ITS_OWN = {ErrorCode.INTERNAL, ErrorCode.RUN_FAILED, ErrorCode.STALLED}
"""With what a compute node ends its streams when it itself has failed."""


@dataclass(kw_only=True, slots=True)
class Feeding:
    """Feeds each rank of the compute node until it is done, a thread for each; `switch` may be called meanwhile."""

    site: Site
    plan: RunPlan
    client: CoordinatorClient
    """Asked for the stem, where the plan mirrors feature maps or delivers the network."""
    _samples: SiteSamples | None = None
    _noise: PictureNoise | None = None
    _judged: Judged = field(default_factory=Judged)
    _over: bool = False
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def until_done(self, rank: int = 0) -> None:
        """Feed a rank, over as many streams as it takes.

        Raises MpleError: the rank asked for what the plan does not allow, or refused what it got; UnreachableError: it
        stayed away for too long; StoppedError: the node is to stop.
        """
        node, settings = self.site.node, self.site.settings
        feed = self._begin(rank)
        address = settings.compute_addresses[rank]
        compute = node.find(address, Role.COMPUTE, settings.idle_timeout_s, name=self.plan.compute)
        with node.channel(compute) as channel:
            stub = compute_pb2_grpc.ComputeServiceStub(channel)
            who = rank_label(compute.party.label, rank)
            log("feeding", f"feeding {who}")
            began = time.monotonic()
            if self._feed_on(feed, compute.retry, lambda: _one_stream(feed, stub, node.stop, who)):
                log("fed", f"{who} is done after {time.monotonic() - began:.1f} s")

    def switch(self, key_ref: common_pb2.KeyRef) -> None:
        """Morph under another key of the site from now on: the compute node holds its layer.

        An older key than the one in use, as events tell of again after a restart, changes nothing, and neither does one
        that the vault does not hold because it was revoked meanwhile: its successor follows.

        Raises MpleError: UNKNOWN_KEY_REF for a key that is not the site's.
        """
        with self._changed:
            if key_ref.epoch <= self.site.keys.notes.in_use:
                return
            if not self.site.vault.has_morph_key(key_ref.epoch):
                text = f"key {key_ref.epoch} could be used, but is not in the vault any more"
                warn("key_passed_over", text, epoch=key_ref.epoch)
                return
            fingerprint = self.site.vault.morph_key(key_ref.epoch).fingerprint()
            if fingerprint != key_ref.fingerprint:
                text = f"epoch {key_ref.epoch} of this site is {fingerprint.hex()[:8]}, not "
                raise MpleError(ErrorCode.UNKNOWN_KEY_REF, text + key_ref.fingerprint.hex()[:8])
            if self._samples is not None:
                self._samples.use(key_ref, self._images(key_ref.epoch))
            self.site.keys.note_ready(key_ref.epoch, key_ref.fingerprint.hex())
            self._changed.notify_all()
        audit("local", "key_rotated", "ok", epoch=key_ref.epoch, fingerprint=key_ref.fingerprint.hex())
        log("key_in_use", f"morphs under key {key_ref.epoch} from now on", epoch=key_ref.epoch)

    def note_epoch(self, done: coordinator_pb2.EpochDone) -> None:
        """An epoch has been judged: of earlier ones only what was said after the best one is kept."""
        rule, epoch = self.plan.keep_rule, done.epoch
        value = done.scores[name] if (name := self.plan.training.keep_by) in done.scores else None
        self._judged = rule.after(self._judged, epoch, value)
        self._logits().keep_only((rule.best and self._judged.best_epoch) or epoch, epoch)

    def keep_scores(self, scored: coordinator_pb2.NetworkScored) -> None:
        """Write the site's file of scores; it may take some seconds.

        Raises MpleError: the sums over all sites can't be; OSError: the disk refused.
        """
        plan, site, logits, classes = self.plan, self.site, self._logits(), len(self.plan.classes)
        splits: dict[str, Split | None] = {}
        for name, split, images in (
            ("val", common_pb2.SPLIT_VAL, site.dataset.val),
            ("test", common_pb2.SPLIT_TEST, site.dataset.test),
        ):
            logits_NC = logits.read(split, scored.epoch, len(images), classes) if len(images) else None
            splits[name] = None if logits_NC is None else (logits_NC, images.labels)
        path = site.settings.state / SITE_SCORES.format(plan.run_id)
        if all(one is None for one in splits.values()) and path.exists():
            return  # it was written before this node was started again
        try:
            order = self._order()
            with IN_TURN:
                record = site_scores(plan, site.name, scored, order, val=splits["val"], test=splits["test"])
        except ValueError as fault:
            raise MpleError(ErrorCode.MESSAGE_MALFORMED, f"scores of all sites with {fault}") from None
        write_record(path, record)

    def finish(self) -> None:
        """The run is over: what the file of scores has goes to the delivered network, where both are there; the logits
        that were kept for both are removed.

        Raises OSError: the disk refused; ValueError: one of them is damaged.
        """
        state = self.site.settings.state
        path, folder = state / SITE_SCORES.format(self.plan.run_id), state / DELIVERED
        if path.exists() and (folder / RECORD).exists():
            add_scores(folder, read_record(SiteScores, path), self.plan)
        self._logits().clear()

    def run_over(self) -> None:
        """The run has ended: no key is waited for any more."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def _begin(self, rank: int = 0) -> SiteFeed:
        """The feed of a rank; the first one that begins opens the book, for all.

        Raises DamagedError: releases are miscounted, see `ReleaseBook`; VaultError: the key was revoked, and in escrow
        custody there will be no successor; StoppedError: the node is to stop, or the run is over.
        """
        hello = self._hello(rank)
        with self._changed:
            samples = self._samples = self._samples or self._open_samples()
        basis = self._basis() if needs_bases(self.plan) else b""
        if basis:
            hello.basis_sha256 = hashlib.sha256(basis).digest()
        if rank:
            return SiteFeed(samples, hello, basis=basis)
        return SiteFeed(samples, hello, self._scoring(), self._receipt(), basis)

    def _open_samples(self) -> SiteSamples:
        """Samples under the key in use; where that was revoked meanwhile, under its successor once it is in use. While
        that is waited for the lock is free, and another rank's stream may have opened them."""
        plan, site, stop = self.plan, self.site, self.site.node.stop
        mine = plan.site(site.name)
        withdraw = stop.on_set(self._wake)
        usable = self._changed.wait_for(lambda: self._usable() or self._over or stop.is_set()) and self._usable()
        withdraw()
        if not usable:
            raise StoppedError
        if self._samples is not None:
            return self._samples
        self._noise = begin_noise(plan, site.settings.state, site.vault, site.dataset.train)
        if self._noise is not None:
            site.keys.rest_on(NOISE_KEY, site.vault.noise_secret(new=False))
        epoch = site.keys.notes.in_use
        images = self._images(epoch)
        keep_sample_pictures(
            site.settings.state, site.dataset.train, plan, images, site.settings.report.sample_pictures
        )
        sent = site.node.ledger.samples(plan.run_id, f"compute/{plan.compute}", Direction.SENT)
        book = ReleaseBook(
            site.settings.state / RELEASES.format(plan.run_id),
            train=mine.train_images,
            val=mine.val_images,
            test=mine.test_images,
            most=plan.wire.releases,
            sent=site.keys.least_releases(sent),
        )
        site.keys.note_counted(book.total, sent)
        return SiteSamples(plan, site.keys.notes.key_ref(site.name, epoch), images, book)

    def _receipt(self) -> NetworkReceipt:
        stem = partial(fetch_stem, self.client, self.plan)
        return NetworkReceipt(site=self.site, plan=self.plan, stem=stem, logits=self._logits())

    def _scoring(self) -> SplitScoring:
        plan, site, least = self.plan, self.site, self.site.settings.metrics.least_count
        for split, images in {"validation": site.dataset.val, "test": site.dataset.test}.items():
            text = withheld_text(images.labels, plan.outputs, plan.metrics.tallies, least, plan.classes)
            if len(images) and text:
                text = f"of its {len(images)} {split} pictures this site tells {text}: metrics.least_count = {least}"
                warn("withheld", text, split=split)
        return SplitScoring(
            {common_pb2.SPLIT_VAL: site.dataset.val.labels, common_pb2.SPLIT_TEST: site.dataset.test.labels},
            self._order(),
            names=plan.metrics.tallies,
            least_count=least,
            epochs=plan.training.epochs,
            most={
                common_pb2.SPLIT_VAL: plan.training.epochs * plan.wire.releases,
                common_pb2.SPLIT_TEST: plan.wire.releases,
            },
            keep=self._logits().keep,
        )

    def _logits(self) -> KeptLogits:
        return KeptLogits(self.site.settings.state / SCORED_LOGITS.format(self.plan.run_id))

    def _usable(self) -> bool:
        """Whether the key in use is in the vault; in escrow custody it must be."""
        return self.plan.custody is Custody.ESCROW or self.site.vault.has_morph_key(self.site.keys.notes.in_use)

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _feed_on(self, feed: SiteFeed, retry: RetryPolicy, stream: Callable[[], bool]) -> bool:
        while True:
            try:
                return retry.call(stream, lasting=True)
            except MpleError as refusal:
                # What was on its way under a key that has been revoked since is refused; it is asked for anew.
                if refusal.code is not ErrorCode.UNKNOWN_KEY_REF or not feed.key_changed:
                    raise
                log("feed_again", f"feeding anew under the current key: {refusal}")

    def _images(self, epoch: int) -> MorphedImages:
        site, plan, key = self.site, self.plan, self.site.morph_key(epoch)
        basis = begin_basis(site, plan, epoch)
        return MorphedImages(site.dataset, plan, site.name, key, self._order(), epoch, self._noise, basis)

    def _basis(self) -> bytes:
        """Of the plan's key, which is the only one in escrow custody; samples have been opened under it."""
        basis = kept_basis(self.plan, self.site.keys, self.plan.site(self.site.name).key_epoch)
        return b"" if basis is None else basis_bytes(basis)

    def _hello(self, rank: int) -> compute_pb2.FeedHello:
        """How a rank's streams open: what it needs to know before the first step, and nothing that it does not."""
        plan, hello = self.plan, compute_pb2.FeedHello(plan_sha256=self.plan.sha256(), rank=rank)
        if Augment.MIRROR in plan.training.augment:
            order = channel_order(plan, self._secret())
            hello.mirrored_channels.extend(mirrored_channels(fetch_stem(self.client, plan), order).tolist())
        if plan.task.class_weights is not ClassWeights.NONE:
            counts = ClassCounts.of(self.site.dataset.train.labels, len(plan.classes)).in_order(self._order())
            hello.class_counts.extend(counts.having)
            hello.known_counts.extend(counts.known)
        return hello

    def _order(self) -> NDArray[np.int64]:
        return label_order(self.plan, self._secret())

    def _secret(self) -> bytes:
        secret = self.site.vault.consortium_secret(self.plan.run_id)
        self.site.keys.rest_on(consortium_key(self.plan.run_id), secret)
        return secret


def _one_stream(feed: SiteFeed, stub: compute_pb2_grpc.ComputeServiceStub, stop: Stop, compute: str) -> bool:
    """As `SiteFeed.run`, with every fault told as whose it is. One of the compute node's own is not this site's to
    report: it is as if that were away, until the coordinator says what becomes of the run."""
    try:
        return feed.run(stub, stop)
    except MpleError as fault:
        if fault.code is ErrorCode.STREAM_TRUNCATED:
            raise AwayError(str(fault)) from None
        raise MpleError(fault.code, f"{compute} sent what this site can't answer: {fault.detail}", fault.fix) from None
    except grpc.RpcError as broken:
        said = error_of(broken)
        if said is None or said.code not in _ITS_OWN:
            raise
        raise AwayError(f"{compute} has failed: {said}") from None
