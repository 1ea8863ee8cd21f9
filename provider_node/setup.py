"""A site's part in setting up a run: the consortium secret, and its augmented layer where the site has custody.

In `site` custody the plan's first site draws the secret and seals it to every other site; each site builds its layer
and uploads it. In `escrow` the site seals its morph key to the coordinator, which does the rest and seals the secret
to every site. The coordinator relays envelopes that it can't open, its own excepted.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mple.model import Stem, StemError
from mple.morph import AugmentedLayer, MorphKey, build_augmented_layer
from mple.node.coordinator_line import CoordinatorLine, StoppedError, certificate_of
from mple.node.logs import log
from mple.pki import Vault, open_sealed, seal
from mple.plan import Custody, RunPlan
from mple.plan.key_refs import key_ref
from mple.plan.orders import channel_order, seal_info
from mple.rpc import ErrorCode, MpleError, Party, Role
from mple.v1 import coordinator_pb2
from mple.wire import write_layer
from mple.wire.layer_file import file_sha256

_LOGGER = logging.getLogger("mple.provider")
_DEADLINE_S = 30.0
_CHUNK_BYTES = 512 * 1024
_POLL_S = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteSetup:
    """What a site needs to take part in setting up a run."""

    me: Party
    coordinator: Party
    vault: Vault
    key: MorphKey
    private_key: Path
    """Key file of the node's certificate."""
    ca_pem: bytes
    state: Path
    stop: threading.Event

    def run(self, line: CoordinatorLine, made: coordinator_pb2.PlanMade, plan: RunPlan) -> None:
        """Take part until the site has the secret and, in `site` custody, its layer is released.

        Raises:
            MpleError: The coordinator refused something, or an envelope or certificate is not genuine.
            StoppedError: The node is to stop.
        """
        first = plan.sites[0].name == self.me.name
        if plan.custody is Custody.ESCROW:
            self._put(line, made, plan, self.coordinator, coordinator_pb2.SEALED_KIND_MORPH_KEY, self.key.seed)
        elif first:
            if not self.vault.has_consortium_secret(plan.run_id):
                self.vault.keep_consortium_secret(plan.run_id, secrets.token_bytes(32))
            secret = self.vault.consortium_secret(plan.run_id)
            for site in plan.sites[1:]:
                party = Party(self.me.consortium, Role.SITE, site.name)
                self._put(line, made, plan, party, coordinator_pb2.SEALED_KIND_CONSORTIUM_SECRET, secret)
        if not self.vault.has_consortium_secret(plan.run_id):
            self._await_secret(line, plan)
        if plan.custody is Custody.SITE:
            self._upload_layer(line, plan)

    def _put(
        self,
        line: CoordinatorLine,
        made: coordinator_pb2.PlanMade,
        plan: RunPlan,
        recipient: Party,
        kind: coordinator_pb2.SealedKind,
        secret: bytes,
    ) -> None:
        certificate = certificate_of(made, recipient, self.ca_pem)
        info = seal_info(plan.run_id, self.me.label, recipient.label, kind)
        request = coordinator_pb2.PutSealedRequest(
            recipient=recipient.label, kind=kind, envelope=seal(certificate, secret, info)
        )
        line.persistence.call(lambda: line.stub.PutSealed(request, timeout=_DEADLINE_S))

    def _await_secret(self, line: CoordinatorLine, plan: RunPlan) -> None:
        kind = coordinator_pb2.SEALED_KIND_CONSORTIUM_SECRET
        first = Party(self.me.consortium, Role.SITE, plan.sites[0].name)
        sender = (self.coordinator if plan.custody is Custody.ESCROW else first).label
        wait_s = _POLL_S
        request = coordinator_pb2.GetSealedRequest()
        while True:
            response = line.persistence.call(lambda: line.stub.GetSealed(request, timeout=_DEADLINE_S))
            for envelope in response.envelopes:
                if envelope.kind == kind and envelope.sender == sender:
                    info = seal_info(plan.run_id, sender, self.me.label, kind)
                    secret = open_sealed(self.private_key, envelope.envelope, info)
                    self.vault.keep_consortium_secret(plan.run_id, secret)
                    return
            if self.stop.wait(wait_s):
                raise StoppedError
            wait_s = min(2.0, wait_s * 1.5)

    def _upload_layer(self, line: CoordinatorLine, plan: RunPlan) -> None:
        path = self.state / f"layer-{plan.run_id}.safetensors"
        if not path.exists():
            began = time.monotonic()
            write_layer(self._build(line, plan), path)
            log(_LOGGER, logging.INFO, "layer_built", f"built the layer in {time.monotonic() - began:.2f} s")
        header = coordinator_pb2.LayerHeader(
            key_ref=key_ref(plan, self.me.name), total_bytes=path.stat().st_size, sha256=file_sha256(path)
        )
        begin = coordinator_pb2.BeginLayerRequest(header=header, plan_sha256=plan.sha256())

        def attempt() -> bool:
            at = line.stub.BeginLayer(begin, timeout=_DEADLINE_S).resume_offset
            if at:
                log(_LOGGER, logging.INFO, "layer_resumed", f"the layer upload goes on at byte {at}")
            chunks = _chunks(path, header, at)
            return bool(line.stub.UploadLayer(chunks, timeout=3600.0).released)

        if not line.persistence.call(attempt):
            raise MpleError(ErrorCode.LAYER_REJECTED, "the coordinator kept the layer but did not release it")
        path.unlink()

    def _build(self, line: CoordinatorLine, plan: RunPlan) -> AugmentedLayer:
        stem = fetch_stem(line, plan)
        order = channel_order(self.vault.consortium_secret(plan.run_id), plan.filters)
        return build_augmented_layer(
            plan.morph.scheme(),
            plan.image,
            stem.kernels_FCpp,
            self.key,
            order,
            session=plan.session,
            key_epoch=plan.site(self.me.name).key_epoch,
        )


def fetch_stem(line: CoordinatorLine, plan: RunPlan) -> Stem:
    """The plan's first convolution: drawn from its published seed, or fetched by its digest.

    Raises:
        MpleError: STEM_REJECTED when what was drawn or fetched has another digest than the plan says.
    """
    if plan.model.stem == "seed":
        stem = Stem.from_seed(
            plan.model.stem_seed, filters=plan.filters, channels=plan.channels, kernel=plan.model.kernel
        )
    else:
        request = coordinator_pb2.GetStemRequest(digest=bytes.fromhex(plan.stem_digest))
        response = line.persistence.call(lambda: line.stub.GetStem(request, timeout=_DEADLINE_S))
        try:
            stem = Stem.from_safetensors(bytes(response.safetensors))
        except StemError as fault:
            raise MpleError(ErrorCode.STEM_REJECTED, str(fault)) from None
    if stem.digest().hex() != plan.stem_digest:
        raise MpleError(ErrorCode.STEM_REJECTED, f"the stem has digest {stem.digest().hex()[:16]}, the plan another")
    return stem


def _chunks(path: Path, header: coordinator_pb2.LayerHeader, at: int) -> Iterator[coordinator_pb2.UploadLayerRequest]:
    with path.open("rb") as file:
        file.seek(at)
        first = True
        while True:
            data = file.read(_CHUNK_BYTES)
            final = at + len(data) == header.total_bytes
            yield coordinator_pb2.UploadLayerRequest(
                sha256=header.sha256 if first else b"", offset=at, data=data, final=final
            )
            if final or not data:
                return
            at, first = at + len(data), False
