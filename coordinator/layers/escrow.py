"""Escrow custody: the coordinator opens the sites' sealed keys, draws the channel order and builds every layer.

A key is in this process's memory while its layer is built, one at a time; on the disk keys stay sealed, and the
envelopes are wiped once all layers are released or the run has ended otherwise.
"""

import logging
import secrets
import threading
from pathlib import Path

from coordinator.layers.layer_releases import LayerReleases
from coordinator.run import Run
from mple.disk.scarcity import scarcity_of
from mple.disk.storage_faults import storage_fault_of
from mple.model.stem import Stem
from mple.morph import MorphKey
from mple.node.layer_building import build_layer_file
from mple.node.worker import Worker
from mple.pki import SealError, open_sealed, seal
from mple.plan import Custody, RunPlan
from mple.plan.key_refs import key_ref
from mple.plan.orders import seal_info
from mple.rpc import ErrorCode, MpleError
from mple.v1 import coordinator_pb2

_LOGGER = logging.getLogger("mple.coordinator")


class EscrowWorker:
    """Builds the layers of a run in escrow custody, in a thread of its own, as soon as all keys are here."""

    def __init__(self, run: Run, releases: LayerReleases, private_key: Path) -> None:
        self._run, self._releases, self._private_key = run, releases, private_key
        self._stopped = threading.Event()
        self._worker: Worker | None = None
        self.fault: Exception | None = None
        """What ended the worker, if it could not even end the run: nobody would build the layers."""

    def resume(self) -> None:
        """Wait for the keys from now on; in `site` custody there is nothing to do."""
        if self._run.settings.run.custody is Custody.ESCROW:
            self._worker = Worker("escrow", self._serve, self._fail)

    def stop(self) -> None:
        """Build no further layer, and wait for the one in work."""
        self._stopped.set()
        self._run.log.wake()
        if self._worker is not None:
            self._worker.join()

    def _serve(self) -> None:
        while self._layers_due():
            self._build_or_fail()
        if not self._stopped.is_set():
            self._run.envelopes.forget(self._run.me.label)

    def _layers_due(self) -> bool:
        """Wait until there are layers to build; False when there won't be any more, or the worker is to stop."""
        changed = self._run.file.changed
        with changed:
            while not self._stopped.is_set():
                state = self._run.state()
                if state.ended or state.all_released:
                    return False
                if state.layers_due:
                    return True
                changed.wait()
        return False

    def _fail(self, fault: Exception) -> None:
        with self._run.file.changed:
            self.fault = fault
            self._run.file.changed.notify_all()

    def _build_or_fail(self) -> None:
        try:
            self._build_layers()
        except MpleError as fault:
            self._run.fail(self._run.me.label, str(fault))
        except Exception as fault:
            if storage_fault_of(fault) is not None or scarcity_of(fault) is not None:
                raise  # the run goes on when there is room, or enough of the rest
            _LOGGER.error("building the layers failed", exc_info=True)
            self._run.fail(self._run.me.label, f"building the layers failed: {type(fault).__name__}")

    def _build_layers(self) -> None:
        run = self._run
        plan, stem = run.plan, run.stem
        for site in plan.sites:
            self._open_key(plan, site.name)  # one that can't be used shows before any layer is built
        secret = self._consortium_secret()
        for site in plan.sites:
            self._seal_secret(plan, site.name, secret)
        for site in plan.sites:
            if self._stopped.is_set():
                return
            if site.name not in run.state().released:
                self._build_layer(plan, stem, site.name, secret)

    def _consortium_secret(self) -> bytes:
        file = self._run.file
        with file.transaction():
            secret = file.fact("consortium_secret") or secrets.token_bytes(32)
            file.keep_fact("consortium_secret", secret)
        return secret

    def _open_key(self, plan: RunPlan, site: str) -> MorphKey:
        run, kind, label = self._run, coordinator_pb2.SEALED_KIND_MORPH_KEY, f"site/{site}"
        envelope = next(left.envelope for left in run.envelopes.to(run.me.label) if left.sender == label)
        try:
            seed = open_sealed(self._private_key, envelope, seal_info(plan.run_id, label, run.me.label, kind))
            key = MorphKey(seed)
        except (SealError, ValueError) as fault:
            raise MpleError(ErrorCode.ENVELOPE_REJECTED, f"the morph key of {label}: {fault}") from None
        if key.fingerprint().hex() != plan.site(site).key_fingerprint:
            raise MpleError(ErrorCode.UNKNOWN_KEY_REF, f"{label} sealed another key than the one it joined with")
        return key

    def _seal_secret(self, plan: RunPlan, site: str, secret: bytes) -> None:
        run, kind, label = self._run, coordinator_pb2.SEALED_KIND_CONSORTIUM_SECRET, f"site/{site}"
        info = seal_info(plan.run_id, run.me.label, label, kind)
        run.leave_envelope(run.me.label, label, kind, seal(run.registry.certificate_of(label), secret, info))

    def _build_layer(self, plan: RunPlan, stem: Stem, site: str, secret: bytes) -> None:
        layers = self._run.layers
        path = layers.building(site)
        header = build_layer_file(plan, self._open_key(plan, site), key_ref(plan, site), secret, stem, path)
        layers.adopt(header, path)
        self._releases.release(header, layers.path(header.sha256))
