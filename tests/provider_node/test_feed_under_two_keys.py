"""A feed whose key changes while it answers: each answer names its key, and a late one that is refused is no fault."""

from __future__ import annotations

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mple.disk.damage import DamagedError
from mple.meter import Direction, LedgerEntry, MessageFacts, MessageKind
from mple.model.settings import Augment
from mple.model.stem import Stem, mirror_images, planned_stem
from mple.node.retry import RetryPolicy, StoppedError
from mple.pki import VaultError
from mple.plan import Custody
from mple.plan.orders import channel_order
from mple.rpc import ErrorCode, MpleError
from mple.v1 import common_pb2
from provider_node.feeding.whole_run import Feeding
from provider_node.keys.run_keys import RunKeys
from tests.support.feeding_site import SITE, asked, second


def test_answers_go_by_the_key_in_use(feeding: Feeding) -> None:
    feed = feeding._begin()
    before = feed._answer(asked(3, 4)).batch
    assert not feed.key_changed
    feeding.switch(second(feeding))
    assert feed.key_changed
    after = feed._answer(asked(3, 4)).batch
    assert (before.key_ref.epoch, after.key_ref) == (1, second(feeding))
    assert before.codes != after.codes
    assert after.labels == before.labels, "the order of the labels is the consortium's, not the key's"
    assert after.resent_samples == 2, "what is sent again under another key counts as sent again"
    feeding.switch(second(feeding))  # the event again, after a restart
    assert RunKeys(feeding.site.settings.state).notes.in_use == 2


def test_only_a_refusal_of_what_went_out_under_an_older_key_is_passed_over(feeding: Feeding) -> None:
    feed = feeding._begin()
    retry = RetryPolicy.to("compute:2", feeding.site.node.tls, feeding.site.node.stop, 1.0)
    refusals = [MpleError(ErrorCode.UNKNOWN_KEY_REF, "revoked")]

    def stream() -> bool:
        if refusals:
            raise refusals.pop()
        return True

    feed._answer(asked(1))
    with pytest.raises(MpleError, match="revoked"):
        feeding._feed_on(feed, retry, stream)
    feeding.switch(second(feeding))
    refusals.append(MpleError(ErrorCode.UNKNOWN_KEY_REF, "revoked"))
    assert feeding._feed_on(feed, retry, stream)
    refusals.append(MpleError(ErrorCode.MESSAGE_MALFORMED, "another fault"))
    with pytest.raises(MpleError, match="another fault"):
        feeding._feed_on(feed, retry, stream)


def test_a_restart_begins_under_the_key_in_use(feeding: Feeding) -> None:
    feeding.switch(second(feeding))
    assert feeding._begin()._answer(asked(0)).batch.key_ref == second(feeding)


def test_where_the_key_in_use_was_revoked_its_successor_is_waited_for(feeding: Feeding) -> None:
    feeding.site.vault.forget(1)
    timer = threading.Timer(0.5, lambda: feeding.switch(second(feeding)))
    timer.start()
    assert feeding._begin()._answer(asked(0)).batch.key_ref.epoch == 2
    timer.join()


def test_in_escrow_custody_no_successor_is_waited_for(feeding: Feeding) -> None:
    feeding.site.vault.forget(1)
    feeding.plan = dataclasses.replace(feeding.plan, custody=Custody.ESCROW)
    with pytest.raises(VaultError, match="the morph key of epoch 1 was revoked at"):
        feeding._begin()


@pytest.mark.parametrize("what", ["the run's end", "the node's end"])
def test_waiting_for_a_key_ends_with_the_run_and_with_the_node(feeding: Feeding, what: str) -> None:
    feeding.site.vault.forget(1)
    end = feeding.run_over if what == "the run's end" else feeding.site.node.stop.set
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(feeding._begin)
        end()
        assert isinstance(waiting.exception(timeout=30), StoppedError)
    with pytest.raises(StoppedError):
        feeding._begin()


def test_a_key_that_is_not_this_sites_is_not_used(feeding: Feeding) -> None:
    with pytest.raises(MpleError, match="epoch 2 of this site is") as fault:
        feeding.switch(common_pb2.KeyRef(site=SITE, epoch=2, fingerprint=bytes(32)))
    assert fault.value.code is ErrorCode.UNKNOWN_KEY_REF
    feeding.switch(common_pb2.KeyRef(site=SITE, epoch=3, fingerprint=bytes(32)))
    assert feeding.site.keys.notes.in_use == 1


def test_a_compute_node_that_has_received_more_than_the_site_has_counted_gets_nothing(feeding: Feeding) -> None:
    feed = feeding._begin()
    feed._answer(asked(3, 4))
    request = asked(5)
    request.samples.received_samples = 2
    feed._answer(request)
    request.samples.received_samples = 4
    with pytest.raises(DamagedError, match=r"counts 3 samples sent, compute/.* has received 4"):
        feed._answer(request)


def test_a_site_counts_no_less_than_its_ledger_has_sent(feeding: Feeding) -> None:
    feeding._begin()._answer(asked(3, 4))
    sent(feeding, 2)
    assert counted_after_a_restart(feeding) == 2
    sent(feeding, 1)
    with pytest.raises(DamagedError, match="counts 2 samples sent, the site's ledger has 3"):
        counted_after_a_restart(feeding)


def test_what_was_counted_and_never_sent_hides_no_later_cut(feeding: Feeding) -> None:
    """Killed behind the count and before the sending: from then on the book shows more than the ledger."""
    feeding._begin()._answer(asked(3, 4))
    path = feeding.site.settings.state / f"releases-{feeding.plan.run_id}.bin"
    assert counted_after_a_restart(feeding) == 2
    feeding._begin()._answer(asked(5))
    sent(feeding, 1)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(DamagedError, match="counts 2 samples sent, the site's ledger has 3"):
        counted_after_a_restart(feeding)
    path.write_bytes(whole)
    assert counted_after_a_restart(feeding) == 3


def test_a_stream_opens_with_mirrored_channels_where_the_plan_mirrors_alone(feeding: Feeding) -> None:
    plan = feeding.plan
    assert list(feeding._begin()._hello.mirrored_channels) == []
    model = dataclasses.replace(plan.model, stem_mirrored=True)
    stem = planned_stem(model, filters=8, channels=3)
    training = dataclasses.replace(plan.training, augment=(Augment.MIRROR,))
    digest = stem.digest().hex()
    feeding.plan = dataclasses.replace(plan, model=model, training=training, stem_digest=digest)
    hello = feeding._begin()._hello
    assert hello.plan_sha256 == feeding.plan.sha256() != plan.sha256()
    permuted = Stem(stem.kernels_FCpp[channel_order(feeding.plan, bytes(32))])
    assert np.array_equal(hello.mirrored_channels, mirror_images(permuted))


def counted_after_a_restart(feeding: Feeding) -> int:
    """Releases in the site's book."""
    feeding._samples = None
    feeding._begin()
    assert feeding._samples is not None
    return feeding._samples._releases.total


def sent(feeding: Feeding, samples: int) -> None:
    """A batch has left, by the site's ledger."""
    ledger, facts = feeding.site.node.ledger, MessageFacts(MessageKind.DATA, samples=samples)
    ledger.run, peer = feeding.plan.run_id, f"compute/{feeding.plan.compute}"
    ledger.record(LedgerEntry(1, Direction.SENT, peer, "Feed", "call", ledger.totals().messages_sent, facts, 10))
