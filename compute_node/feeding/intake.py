"""Where the sites' streams and the trainer meet: windows, cache and scores under one lock.

Streams bring batches and scores in; the trainer waits here for the samples of a step and for the scores of an epoch.
Waiting ends once nothing has come in for `idle_timeout_s`: progress counts, not the wall clock. What then becomes of
the run is its absence policy: it fails, or it goes on without the sites that are silent until they come back.

Legend: a *number* counts a split's samples over all sites in the plan's order; an *id* counts within one site.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from compute_node.feeding.accepted_batch import accept_batch
from compute_node.feeding.mirroring import Mirroring
from compute_node.feeding.network_offers import NetworkOffers
from compute_node.feeding.request_window import Asked, FeedFault, ToScore, windows_of
from compute_node.feeding.sample_cache import SampleCache
from compute_node.feeding.told_counts import told_counts
from compute_node.layers.key_bases import KeyBases
from compute_node.layers.layer_bank import ErasedKeyError, LayerBank
from mple.metrics import Tally
from mple.metrics.messages import from_messages
from mple.model.class_weights import ClassCounts
from mple.node.idle_timer import LOOK_EVERY_S, IdleTimer
from mple.node.logs import warn
from mple.plan import AbsencePolicy, GlobalSampler, RunPlan
from mple.plan.sample_numbering import Numbers, SampleNumbering
from mple.rpc import ErrorCode, MpleError
from mple.rpc.waking import Listeners
from mple.v1 import common_pb2, compute_pb2

_SCORE_GROUP = 1000


class Intake:
    """All that the sites of a run bring to the compute node."""

    def __init__(
        self,
        plan: RunPlan,
        cache: SampleCache,
        bank: LayerBank,
        changed: threading.Condition,
        *,
        in_flight_samples: int,
        idle_timeout_s: float,
        mirroring: Mirroring,
        policy: AbsencePolicy = AbsencePolicy.WAIT,
        rank: int = 0,
        bases: KeyBases | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Ask nothing yet.

        Args:
            plan: The run's plan.
            cache: Keeps what comes in.
            bank: The keys that samples may be morphed under.
            changed: Held by whoever touches the state, notified when it changes, for the trainer; the cache's own.
            in_flight_samples: Most samples that one site is asked for at a time.
            idle_timeout_s: Longest wait without progress, in seconds.
            mirroring: Holds what sites say of mirrored channels.
            policy: What becomes of a run whose sites are silent.
            rank: Of the compute node; sites say which one they mean.
            bases: Keeps the bases that sites send; None where no site has one to send.
            clock: Seconds.
        """
        self._plan, self._cache, self._bank, self._changed = plan, cache, bank, changed
        self._idle_timeout_s, self._policy, self._rank = idle_timeout_s, policy, rank
        self._mirroring, self._bases = mirroring, bases
        self._patience = IdleTimer(idle_timeout_s, clock)
        self._numbering = {
            common_pb2.SPLIT_TRAIN: SampleNumbering({site.name: site.train_images for site in plan.sites}),
            common_pb2.SPLIT_VAL: SampleNumbering({site.name: site.val_images for site in plan.sites}),
            common_pb2.SPLIT_TEST: SampleNumbering({site.name: site.test_images for site in plan.sites}),
        }
        self._windows = windows_of(plan, in_flight_samples)
        self._counts: dict[str, ClassCounts] = {}
        self._offers = NetworkOffers()
        self._streams: set[str] = set()
        self._listeners = Listeners()
        self._absent: set[str] = set()
        self._logits_TC: NDArray[np.float32] = np.empty((0, 0), np.float32)
        self._failure: MpleError | None = None
        self._closed = False

    def want_missing(self, sampler: GlobalSampler, epoch: int) -> None:
        """Ask the sites for what the cache lacks of a rank's share, in the order in which an epoch and then the end
        needs it: samples of training, of validation, of testing."""
        order = sampler.epoch_order(epoch)
        with self._changed:
            self.want_again(common_pb2.SPLIT_TRAIN, order)
            for split in (common_pb2.SPLIT_VAL, common_pb2.SPLIT_TEST):
                self.want_again(split, sampler.share.numbers(self._numbering[split].samples))

    def want_again(self, split: common_pb2.Split, numbers: Numbers) -> None:
        """Ask the sites for those of these samples that the cache lacks; none may be asked for already. Once the sites
        have been told that they are done, nothing is asked any more."""
        with self._changed:
            if self._closed:
                return
            missing = numbers[~self._cache.held(split)[numbers]]
            for site, ids in self._numbering[split].by_site(missing).items():
                self._windows[site].want(split, ids.tolist())
                self._listeners.wake(site)
            self._changed.notify_all()

    @contextmanager
    def stream(self, site: str, wake: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Hold a site's place while its stream lives; `wake` is called when there may be something to send to it.

        Raises MpleError: the plan has no such site (UNKNOWN_PARTY), or it already has a stream (DUPLICATE_STREAM).
        """
        with self._changed:
            if site not in self._windows:
                raise MpleError(ErrorCode.UNKNOWN_PARTY, f"the plan has no site {site}")
            if site in self._streams:
                raise MpleError(ErrorCode.DUPLICATE_STREAM, f"site {site} already feeds")
            self._streams.add(site)
            self._absent.discard(site)
        try:
            with self._listeners.listening(wake, site):
                yield
        finally:
            with self._changed:
                self._streams.discard(site)
                self._windows[site].stream_broke()
                self._offers.stream_broke(site)
                self._changed.notify_all()

    def take_hello(self, site: str, hello: compute_pb2.FeedHello) -> None:
        """Take in what a site says as its stream opens.

        Raises MpleError: MIRRORING_REJECTED, see `Mirroring.take`; MESSAGE_MALFORMED, see `told_counts` and
        `KeyBases.take_hello`, or when its class counts are others than it told before; RANKS_REJECTED when it means
        another rank.
        """
        if hello.rank != self._rank:
            raise MpleError(
                ErrorCode.RANKS_REJECTED,
                f"site {site} means rank {hello.rank} of the compute node, this is rank {self._rank}",
                fix="name the ranks' addresses in their order: compute, then compute_ranks",
            )
        counts = told_counts(self._plan, site, hello)
        if self._bases is not None:
            self._bases.take_hello(site, hello)
        with self._changed:
            self._mirroring.take(hello.mirrored_channels, site)
            if counts is not None and self._counts.setdefault(site, counts) != counts:
                raise MpleError(ErrorCode.MESSAGE_MALFORMED, f"site {site} tells other class counts than before")
            self._changed.notify_all()

    def class_counts(self) -> ClassCounts:
        """The sum over all sites; under the policy `proceed` without those that are absent and have not told theirs.

        Raises MpleError: as `wait_for`; STALLED when no site has told any.
        """
        with self._changed:
            self._patience.renew()
            while due := set(self._windows) - set(self._counts) - self._absent:
                self._wait_for_progress("class counts", due)
            if not self._counts:
                raise MpleError(ErrorCode.STALLED, "no site has told its class counts")
            first, *others = self._counts.values()
            return sum(others, first)

    def next_message(self, site: str) -> compute_pb2.FeedResponse | None:
        """What to send to a site now, or None; it is woken when that may have changed. Raises MpleError: see `fail`."""
        if self._bases is not None and self._bases.asks(site):
            return compute_pb2.FeedResponse(basis_wanted=compute_pb2.BasisWanted())
        with self._changed:
            self._raise_failure()
            item = self._windows[site].next_message()
            if item is None and (ready := self._offers.next(site)) is not None:
                return compute_pb2.FeedResponse(network_ready=ready)
            logits_TC = self._logits_TC
        if isinstance(item, Asked):
            request = compute_pb2.SampleRequest(request_id=item.request_id, split=item.split, sample_ids=item.samples)
            return compute_pb2.FeedResponse(samples=request)
        if isinstance(item, ToScore):
            values_BC = logits_TC[self._numbering[item.split].numbers(site, item.samples)]
            logits = compute_pb2.Logits(
                request_id=item.request_id,
                epoch=item.epoch,
                split=item.split,
                sample_ids=item.samples,
                classes=values_BC.shape[1],
                values=values_BC.astype("<f4").tobytes(),
            )
            return compute_pb2.FeedResponse(logits=logits)
        return None if item is None else compute_pb2.FeedResponse(done=compute_pb2.FeedDone())

    def take_batch(self, site: str, message: common_pb2.MorphedBatch) -> None:
        """Check a batch against its request and keep it.

        Raises MpleError: with the code for what is wrong; nothing is kept then.
        """
        with self._changed:
            try:
                asked = self._windows[site].asked(message.request_id)
            except FeedFault as fault:
                raise MpleError(ErrorCode.UNKNOWN_REQUEST, str(fault)) from None
        split, count = asked.split, len(asked.samples)
        if message.split != split:
            raise MpleError(ErrorCode.MESSAGE_MALFORMED, f"split {message.split} instead of {split}")
        labelled = split == common_pb2.SPLIT_TRAIN
        batch, key = accept_batch(self._plan, self._bank, message, site, samples=count, labelled=labelled)
        try:
            self._cache.append(split, self._numbering[split].numbers(site, asked.samples), batch, key)
        except ErasedKeyError as fault:
            raise MpleError(ErrorCode.UNKNOWN_KEY_REF, str(fault)) from None
        with self._changed:
            self._windows[site].answered(message.request_id)
            self._progressed(site)

    def take_basis(self, site: str, part: compute_pb2.KeyBasis) -> None:
        """Take in a part of a key's basis. Raises MpleError: as `KeyBases.take`, or the plan has no site with one."""
        if self._bases is None:
            raise MpleError(ErrorCode.MESSAGE_MALFORMED, "a basis, where the plan needs none")
        self._bases.take(site, part)
        self.moved()

    def take_score(self, site: str, score: compute_pb2.Score) -> None:
        """Take in a site's score. Raises MpleError: UNKNOWN_REQUEST when it answers nothing or can't be."""
        try:
            tallies = from_messages(score.tallies)  # not under the lock: there are many counts
        except ValueError as fault:
            raise MpleError(ErrorCode.UNKNOWN_REQUEST, str(fault)) from None
        with self._changed:
            try:
                window = self._windows[site]
                window.scored(
                    score.request_id,
                    split=score.split,
                    epoch=score.epoch,
                    samples=score.samples,
                    tallies=tallies,
                    withheld=score.withheld,
                )
            except FeedFault as fault:
                raise MpleError(ErrorCode.UNKNOWN_REQUEST, str(fault)) from None
            self._progressed(site)

    def mirrored_channels(self) -> NDArray[np.int64] | None:
        """Of each channel the one that holds its mirror image, once a site has told; None where the plan does not
        mirror. Raises MpleError: as `wait_for`."""
        if not self._mirroring.wanted:
            return None
        with self._changed:
            self._patience.renew()
            while (channels := self._mirroring.channels) is None:
                self._wait_for_progress("word on mirrored channels", set(self._windows))
            return channels

    def wait_for(self, split: common_pb2.Split, numbers: Numbers) -> Numbers:
        """Those of the numbered samples that training has to do with: all of them, once the cache holds them.

        Under the policy `proceed` those of absent sites that are not here are left out.

        Raises MpleError: STALLED when nothing has come in for too long, or what `fail` was told.
        """
        with self._changed:
            self._patience.renew()
            while not self._cache.holds(split, numbers):
                here = self._cache.held(split)[numbers]
                due = set(self._numbering[split].by_site(numbers[~here])) - self._absent
                if not due:
                    return numbers[here]
                self._wait_for_progress("samples", due)
            return numbers

    def scores(
        self,
        split: common_pb2.Split,
        epoch: int,
        logits_TC: NDArray[np.float32],
        scored_T: NDArray[np.bool_] | None = None,
    ) -> dict[str, dict[str, Tally]]:
        """Have the sites score the logits of a split and return their tallies.

        Args:
            split: Of validation or of testing.
            epoch: The one after which the network was so, counted from 1.
            logits_TC: One row for each number of the split.
            scored_T: Which rows hold logits, all by default; a site is asked when all of its rows do.

        Returns:
            By site and name; under the policy `proceed` those of absent sites are left out.

        Raises MpleError: as `wait_for`.
        """
        spans = {site: self._numbering[split].span(site) for site in self._windows}
        asked = {site for site, span in spans.items() if scored_T is None or scored_T[span].all()}
        most = max(1, min(_SCORE_GROUP, self._plan.wire.message_bytes // (4 * logits_TC.shape[1])))
        with self._changed:
            self._patience.renew()
            self._logits_TC = logits_TC
            for site in asked:
                ids = range(spans[site].stop - spans[site].start)
                self._windows[site].score(
                    split, epoch, [tuple(ids[low : low + most]) for low in range(0, len(ids), most)]
                )
                self._listeners.wake(site)
            self._changed.notify_all()
            while True:
                scores = {name: self._windows[name].tallies_of(split, epoch) for name in asked}
                whole = {name: score for name, score in scores.items() if score is not None}
                due = asked - set(whole) - self._absent
                if not due:
                    return whole
                self._wait_for_progress("scores", due)

    def deliver(self, ready: compute_pb2.NetworkReady) -> tuple[str, ...]:
        """Tell every site of the trained network, and wait until all say that they have it.

        Returns:
            Sites that have not: under the policy `proceed`, absent ones.

        Raises MpleError: as `wait_for`.
        """
        with self._changed:
            self._patience.renew()
            self._offers.begin(ready, set(self._windows))
            self._listeners.wake_all()
            while due := set(self._offers.due - self._absent):
                self._wait_for_progress("word that the network has arrived", due)
            return tuple(sorted(self._offers.due))

    def take_received(self, site: str, received: compute_pb2.NetworkReceived) -> None:
        """A site has the network. Raises MpleError: UNKNOWN_REQUEST when it was not told of it."""
        with self._changed:
            try:
                self._offers.received(site, received.sha256)
            except FeedFault as fault:
                raise MpleError(ErrorCode.UNKNOWN_REQUEST, str(fault)) from None
            self._progressed(site)

    def moved(self) -> None:
        """A site fetches what it was told of: that is progress, too."""
        with self._changed:
            self._patience.renew()
            self._changed.notify_all()

    def leave(self, site: str) -> None:
        """A site has said that it can't go on; under the policy `proceed` nobody waits for it until it comes back."""
        with self._changed:
            if self._policy is AbsencePolicy.PROCEED and site not in self._streams:
                self._absent.add(site)
                self._changed.notify_all()

    def close(self) -> None:
        """Tell every site that it is done."""
        with self._changed:
            self._closed = True
            for window in self._windows.values():
                window.close()
            self._changed.notify_all()
        self._listeners.wake_all()

    def fail(self, failure: MpleError) -> None:
        """End every wait and every stream with this error."""
        with self._changed:
            self._failure = failure
            self._changed.notify_all()
        self._listeners.wake_all()

    def await_streams_closed(self, grace_s: float) -> None:
        """Wait until no stream is open, `grace_s` seconds at most."""
        with self._changed:
            self._changed.wait_for(lambda: not self._streams, grace_s)

    def _progressed(self, site: str) -> None:
        self._patience.renew()
        self._changed.notify_all()
        self._listeners.wake(site)

    def _wait_for_progress(self, what: str, due: set[str]) -> None:
        self._raise_failure()
        left_s = self._patience.left_s()
        if left_s > 0:
            self._changed.wait(min(left_s, LOOK_EVERY_S))
            return
        silent = ", ".join(sorted(due))
        text = f"no {what} came in for {self._idle_timeout_s:g} s; due from {silent}"
        if self._policy is AbsencePolicy.WAIT:
            raise MpleError(ErrorCode.STALLED, text)
        warn("absent", f"{text}; training goes on without until they come back", sites=silent)
        self._absent |= due
        self._patience.renew()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
