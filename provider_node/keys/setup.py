"""A site's part in setting up a run: the consortium secret, and its augmented layer where the site has custody.

In `site` custody the plan's first site draws the secret and seals it to every other site; each site builds its layer
and uploads it. In `escrow` the site seals its morph key to the coordinator, which does the rest and seals the secret
to every site. The coordinator relays envelopes that it can't open, its own excepted.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from mple.audit import audit
from mple.morph import MorphKey
from mple.node.coordinator_client import CoordinatorClient
from mple.node.retry import StoppedError
from mple.node.run_events import certificate_of
from mple.node.stop import Stop
from mple.pki import Vault, open_sealed, seal
from mple.plan import Custody, RunPlan
from mple.plan.key_refs import key_ref
from mple.plan.orders import seal_info
from mple.rpc import Party, Role
from mple.v1 import coordinator_pb2
from provider_node.keys.layer_upload import bring_layer, layer_file
from provider_node.keys.run_keys import RunKeys

_DEADLINE_S = 30.0
_POLL_S = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteSetup:
    """What a site needs to take part in setting up a run."""

    me: Party
    coordinator: Party
    vault: Vault
    keys: RunKeys
    private_key: Path
    """Key file of the node's certificate."""
    ca_pem: bytes
    state: Path
    stop: Stop

    def run(self, client: CoordinatorClient, made: coordinator_pb2.PlanMade, plan: RunPlan) -> None:
        """Take part until the site has the secret and, in `site` custody, its layer is released.

        Raises:
            MpleError: The coordinator refused something, or an envelope or certificate is not genuine.
            VaultError: The plan's key is needed and not in the vault, or revoked.
            StoppedError: The node is to stop.
        """
        first = plan.sites[0].name == self.me.name
        if plan.custody is Custody.ESCROW:
            if not self.vault.has_consortium_secret(plan.run_id):  # it comes once the coordinator has opened the key
                seed = self._planned_key(plan).seed
                self._put(client, made, plan, self.coordinator, coordinator_pb2.SEALED_KIND_MORPH_KEY, seed)
        elif first:
            if not self.vault.has_consortium_secret(plan.run_id):
                self.vault.keep_consortium_secret(plan.run_id, secrets.token_bytes(32))
            secret = self.vault.consortium_secret(plan.run_id)
            for site in plan.sites[1:]:
                party = Party(self.me.consortium, Role.SITE, site.name)
                self._put(client, made, plan, party, coordinator_pb2.SEALED_KIND_CONSORTIUM_SECRET, secret)
        if not self.vault.has_consortium_secret(plan.run_id):
            self._await_secret(client, plan)
        if plan.custody is Custody.SITE:
            self._bring_layer(client, plan)

    def _put(
        self,
        client: CoordinatorClient,
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
        client.retry.call(lambda: client.stub.PutSealed(request, timeout=_DEADLINE_S))
        audit("local", "envelope_left", "ok", recipient=recipient.label, kind=int(kind))

    def _await_secret(self, client: CoordinatorClient, plan: RunPlan) -> None:
        kind = coordinator_pb2.SEALED_KIND_CONSORTIUM_SECRET
        first = Party(self.me.consortium, Role.SITE, plan.sites[0].name)
        sender = (self.coordinator if plan.custody is Custody.ESCROW else first).label
        wait_s = _POLL_S
        request = coordinator_pb2.GetSealedRequest()
        while True:
            response = client.retry.call(lambda: client.stub.GetSealed(request, timeout=_DEADLINE_S))
            for envelope in response.envelopes:
                if envelope.kind == kind and envelope.sender == sender:
                    info = seal_info(plan.run_id, sender, self.me.label, kind)
                    secret = open_sealed(self.private_key, envelope.envelope, info)
                    self.vault.keep_consortium_secret(plan.run_id, secret)
                    audit(sender, "envelope_opened", "ok", run=plan.run_id)
                    return
            if self.stop.wait(wait_s):
                raise StoppedError
            wait_s = min(2.0, wait_s * 1.5)

    def _bring_layer(self, client: CoordinatorClient, plan: RunPlan) -> None:
        reference = key_ref(plan, self.me.name)
        if reference.epoch in self.keys.notes.released:
            layer_file(self.state, plan, reference).unlink(missing_ok=True)
            return
        secret = self.vault.consortium_secret(plan.run_id)
        path = bring_layer(client, plan, self._planned_key(plan), reference, secret, self.state)
        self.keys.note_released(reference.epoch, reference.fingerprint.hex())
        path.unlink()

    def _planned_key(self, plan: RunPlan) -> MorphKey:
        return self.vault.morph_key(plan.site(self.me.name).key_epoch)
