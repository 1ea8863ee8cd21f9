"""A site's part in a run's training: it feeds the compute node, and its keys may change meanwhile."""

import dataclasses
from functools import partial

from mple.metrics import epoch_text, scores_text
from mple.node.coordinator_client import CoordinatorClient
from mple.node.logs import log
from mple.node.run_follower import RunFollower
from mple.node.stop import Stop
from mple.node.worker import Worker
from mple.plan import RunPlan
from mple.v1 import coordinator_pb2
from provider_node.feeding.whole_run import Feeding
from provider_node.keys.layer_upload import bring_again
from provider_node.keys.rotation_client import KeyRotation, KeyWatch
from provider_node.site import Site

_GRACE_S = 10.0
_SETTLE_S = 5.0


class SiteRun:
    """One plan, as this site follows it once its layer is there."""

    def __init__(self, site: Site, client: CoordinatorClient, plan: RunPlan) -> None:
        self._site, self._client, self._plan = site, client, plan
        self._feeding = Feeding(site=site, plan=plan, client=client)
        self._over = Stop()
        self._scores: Worker | None = None
        patient = CoordinatorClient(client.channel, dataclasses.replace(client.retry, stop=self._over))
        self._keys = KeyWatch(KeyRotation(client=patient, site=site, plan=plan))

    def take_part(self, events: RunFollower) -> None:
        """Feed every rank and watch the vault while the run's events come, up to its end.

        Raises Exception: as `RunFollower.__next__`, and what went wrong here.
        """
        ranks = range(self._plan.training.ranks)
        feeders = [events.start(f"feed {rank}", partial(self._feeding.until_done, rank)) for rank in ranks]
        end_watch = self._keys.begin(events.start)
        try:
            for event in events:
                self.take(event, events)
            self._feeding.run_over()
            for feeder in feeders:
                feeder.join(_GRACE_S)
        finally:
            self._over.set()
            end_watch()

    def end(self, sequence: int) -> None:
        """Tell the coordinator of keys that were revoked since, and the ledger's sums; complete the network's card.

        Args:
            sequence: Number of the event that ended the run.
        """
        if self._scores is not None:
            self._scores.join()  # seconds, of many pictures
        hasty = CoordinatorClient(self._client.channel, self._client.retry.within(_SETTLE_S))
        self._keys.settle(hasty, sequence)
        self._client.report_totals(self._site.node.ledger.totals())
        self._feeding.finish()
        log("finished", "the run has finished")

    def take(self, event: coordinator_pb2.WatchResponse, events: RunFollower) -> None:
        """Do what an event asks for; what takes long is a worker's of `events`."""
        kind = event.WhichOneof("event")
        if kind == "layer_wanted":
            wanted = event.layer_wanted.header
            events.start("layer", lambda: bring_again(self._client, self._plan, self._site, wanted))
        if kind == "epoch_done":
            done = event.epoch_done
            scores = {f"val_{name}": value for name, value in done.scores.items()}
            self._feeding.note_epoch(done)
            log("epoch", f"epoch {done.epoch}: {epoch_text(done.loss, done.scores)}", epoch=done.epoch, **scores)
        elif kind == "network_scored":
            scored = event.network_scored
            scores = {f"test_{name}": value for name, value in scored.scores.items()}
            log("network_scored", f"the network of epoch {scored.epoch}: {scores_text(scored.scores)}", **scores)
            self._scores = events.start("scores", lambda: self._feeding.keep_scores(scored))
        elif kind == "key_ready" and event.key_ready.key_ref.site == self._site.name:
            self._feeding.switch(event.key_ready.key_ref)
        elif kind == "key_erased":
            self._keys.rotation.note_erased(event.key_erased)
