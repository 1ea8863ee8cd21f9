"""Keys that change while the site takes part in a run: other processes change the vault, so it is looked at.

A new key is announced to the coordinator and its layer brought; the site morphs under it once the compute node holds
that layer, which an event says. A revoked key is withdrawn as soon as the site morphs under a newer one.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import grpc

from mple.audit import audit
from mple.node.coordinator_client import CoordinatorClient
from mple.node.logs import log, warn
from mple.node.retry import StoppedError, UnreachableError
from mple.node.worker import Worker
from mple.pki import KeyRecord, VaultError
from mple.plan import RunPlan
from mple.rounds import each_second
from mple.rpc import MpleError
from mple.v1 import common_pb2, coordinator_pb2
from provider_node.keys.key_basis import begin_basis, forget_basis
from provider_node.keys.layer_upload import bring_layer, layer_file
from provider_node.site import Site

_GRACE_S = 10.0
_ERASED_WITHIN_S = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyRotation:
    """What it takes to tell the coordinator of keys."""

    client: CoordinatorClient
    site: Site
    plan: RunPlan

    def rotate(self, epoch: int) -> None:
        """Announce a key and bring its layer, unless its layer is released already.

        Raises MpleError: the coordinator refused the key or the layer; VaultError: the key is not in the vault;
        StoppedError, UnreachableError: as `mple.node.retry.RetryPolicy.call`.
        """
        if epoch in self.site.keys.notes.released:
            return
        key = self.site.morph_key(epoch)
        reference = common_pb2.KeyRef(site=self.site.name, epoch=epoch, fingerprint=key.fingerprint())
        request = coordinator_pb2.RotateKeyRequest(key_ref=reference, plan_sha256=self.plan.sha256())
        self.client.ask(self.client.stub.RotateKey, request)
        log("key_announced", f"announced key {epoch}; its layer follows", epoch=epoch)
        secret = self.site.vault.consortium_secret(self.plan.run_id)
        basis = begin_basis(self.site, self.plan, epoch)
        path = bring_layer(self.client, self.plan, key, reference, secret, self.site.keys, basis)
        self.site.keys.note_released(epoch, reference.fingerprint.hex())
        path.unlink()

    def revocations_due(self, *, over: bool = False) -> list[KeyRecord]:
        """Keys of the run that the vault has forgotten and the coordinator does not know of.

        Args:
            over: Whether the run has ended; until then the key in use waits for its successor.
        """
        notes = self.site.keys.notes
        due = {notes.planned, *notes.released} - set(notes.revoked)
        if not over:
            due.discard(notes.in_use)
        return [record for record in self.site.vault.epochs() if record.revoked is not None and record.epoch in due]

    def revoke(self, epoch: int) -> None:
        """Withdraw a key.

        Raises MpleError: the coordinator refused; StoppedError, UnreachableError: as
        `mple.node.retry.RetryPolicy.call`.
        """
        reference = self.site.keys.notes.key_ref(self.site.name, epoch)
        request = coordinator_pb2.RevokeKeyRequest(key_ref=reference, plan_sha256=self.plan.sha256())
        self.client.ask(self.client.stub.RevokeKey, request)
        layer_file(self.site.settings.state, self.plan, reference).unlink(missing_ok=True)
        forget_basis(self.plan, self.site.keys, epoch)
        if self.site.keys.note_revoked(epoch):
            audit("local", "key_revoked", "ok", epoch=epoch, fingerprint=reference.fingerprint.hex())
            log("key_revoked", f"the coordinator knows that key {epoch} is revoked", epoch=epoch)

    def note_erased(self, erased: coordinator_pb2.KeyErased) -> None:
        """The compute node has erased what it held under one of the site's keys."""
        epoch = erased.key_ref.epoch
        if erased.key_ref.site == self.site.name and self.site.keys.note_erased(epoch):
            facts = {"epoch": epoch, "samples": erased.samples, "layer_bytes": erased.layer_bytes}
            audit(f"compute/{self.plan.compute}", "key_erased", "ok", **facts)
            text = f"the compute node has erased its layer and {erased.samples} samples of key {epoch}"
            log("key_erased", text, **facts)

    def await_erasures(self, sequence: int) -> None:
        """Wait for the erasures that are due, as the events behind a sequence number tell of them.

        Raises grpc.RpcError: they did not come in time.
        """
        request = coordinator_pb2.WatchRequest(after_sequence=sequence)
        if set(self.site.keys.notes.revoked) <= set(self.site.keys.notes.erased):
            return
        stream = self.client.stub.Watch(request, timeout=_ERASED_WITHIN_S)
        for event in stream:
            if event.WhichOneof("event") == "key_erased":
                self.note_erased(event.key_erased)
            if set(self.site.keys.notes.revoked) <= set(self.site.keys.notes.erased):
                stream.cancel()
                return


class KeyWatch:
    """Looks at the vault. What the coordinator refuses is logged and audited, and the run goes on."""

    def __init__(self, rotation: KeyRotation) -> None:
        self.rotation = rotation
        self._refused: set[tuple[str, int, int]] = set()
        self._seen: object = None
        self._looking: Worker | None = None

    def begin(self, start: Callable[[str, Callable[[], None]], Worker]) -> Callable[[], None]:
        """Look about once a second from now on, in a worker that `start` begins whenever vault or notes have changed.

        Returns:
            What ends it and waits a while for the worker; the rotation's client must have given up by then.
        """

        def look() -> None:
            if (self._looking is None or self._looking.ended) and self._state() != self._seen:
                self._looking = start("keys", self._look_once)

        withdraw = each_second(look)

        def end() -> None:
            withdraw()
            if self._looking is not None:
                self._looking.join(_GRACE_S)

        return end

    def _state(self) -> object:
        return self.rotation.site.vault.stamp(), self.rotation.site.keys.notes

    def _look_once(self) -> None:
        before = self._state()
        with contextlib.suppress(StoppedError):
            if self.look():
                self._seen = before

    def settle(self, client: CoordinatorClient, sequence: int) -> None:
        """After the run's end: tell the coordinator of what has been revoked, and wait a little for the erasure.

        Args:
            client: Gives up soon: the coordinator may have ended.
            sequence: Of the event that ended the run.
        """
        rotation = replace(self.rotation, client=client)
        try:
            for record in rotation.revocations_due(over=True):
                rotation.revoke(record.epoch)
            rotation.await_erasures(sequence)
        except (VaultError, UnreachableError, MpleError, grpc.RpcError) as fault:
            text = "a revocation is not known to be carried out; start again while the coordinator serves"
            warn("keys_unsettled", f"{text}: {fault}")

    def look(self) -> bool:
        """Take up what has changed in the vault; whether all of it could be. Raises StoppedError: the node is to
        stop."""
        try:
            current = self.rotation.site.vault.current_epoch()
            if current > max(self.rotation.site.keys.notes.fingerprints):
                self._try("key_rotated", current, self.rotation.rotate)
            for record in self.rotation.revocations_due():
                self._try("key_revoked", record.epoch, self.rotation.revoke)
        except (VaultError, UnreachableError) as fault:
            warn("keys_unseen", f"can't take up a change of keys now: {fault}")
            return False
        return True

    def _try(self, what: str, epoch: int, change: Callable[[int], None]) -> None:
        asked = (what, epoch, self.rotation.site.keys.notes.in_use)
        if asked in self._refused:
            return
        try:
            change(epoch)
        except MpleError as refusal:
            self._refused.add(asked)
            audit("local", what, refusal.code.value, epoch=epoch)
            text = f"the run goes on under key {self.rotation.site.keys.notes.in_use}; key {epoch}: {refusal}"
            warn(f"{what}_refused", text, epoch=epoch)
