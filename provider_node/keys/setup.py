"""A site's part in setting up a run: the consortium secret, and its augmented layer where the site has custody.

In `site` custody the plan's first site draws the secret and seals it to every other site; each site builds its layer
and uploads it. In `escrow` the site seals its morph key to the coordinator, which does the rest and seals the secret
to every site. The coordinator relays envelopes that it can't open, its own excepted.
"""

import secrets
from dataclasses import dataclass

from mple.audit import audit
from mple.morph import MorphKey
from mple.node.coordinator_client import CoordinatorClient
from mple.node.run_events import certificate_of
from mple.node.run_follower import RunFollower
from mple.pki import VaultDamagedError, consortium_key, open_sealed, seal
from mple.plan import Custody, RunPlan
from mple.plan.key_refs import key_ref
from mple.plan.orders import seal_info
from mple.rpc import Party, Role
from mple.v1 import coordinator_pb2
from provider_node.keys.key_basis import begin_basis
from provider_node.keys.layer_upload import bring_layer, layer_file
from provider_node.site import Site


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteSetup:
    """What setting up a run takes."""

    site: Site
    coordinator: Party
    client: CoordinatorClient
    events: RunFollower
    """In set-up, with the certificates that came before the plan."""
    plan: RunPlan

    def run(self) -> None:
        """Take part until the site has the secret and, in `site` custody, its layer is released.

        Raises MpleError: the coordinator refused something, or an envelope or certificate is not genuine; VaultError:
        the plan's key is needed and not in the vault, or revoked; VaultDamagedError: a secret that the run rests on is
        gone or another; StoppedError: the node is to stop.
        """
        plan, vault, me = self.plan, self.site.vault, self.site.node.me
        secret_kind = coordinator_pb2.SEALED_KIND_CONSORTIUM_SECRET
        name = consortium_key(plan.run_id)
        if plan.custody is Custody.ESCROW:
            if not vault.has_consortium_secret(plan.run_id):  # it comes once the coordinator has opened the key
                self._put(self.coordinator, coordinator_pb2.SEALED_KIND_MORPH_KEY, self._planned_key().seed)
        elif plan.sites[0].name == me.name:
            drawn = not vault.has_consortium_secret(plan.run_id)
            if drawn:
                vault.refuse_lost(name)
                self.site.keys.refuse_lost(name)
                vault.keep_consortium_secret(plan.run_id, secrets.token_bytes(32))
            secret = vault.consortium_secret(plan.run_id)
            for other in plan.sites[1:]:
                earlier = self._put(Party(me.consortium, Role.SITE, other.name), secret_kind, secret)
                if earlier and drawn:  # the others have opened another one: data under two secrets would train rubbish
                    vault.withdraw_consortium_secret(plan.run_id)
                    text = f"is gone; site {other.name} has got it in this run, and none is drawn a second time"
                    raise VaultDamagedError(f"the vault's {name}", text)
        if not vault.has_consortium_secret(plan.run_id):
            self._await_secret()
        self.site.keys.rest_on(name, vault.consortium_secret(plan.run_id))
        if plan.custody is Custody.SITE:
            self._bring_layer()

    def _put(self, recipient: Party, kind: coordinator_pb2.SealedKind, secret: bytes) -> bool:
        """Leave a secret for a party; whether one was left for it before, which is the one that counts."""
        node = self.site.node
        certificate = certificate_of(self.events.certificates, recipient, node.tls.ca.read_bytes())
        info = seal_info(self.plan.run_id, node.me.label, recipient.label, kind)
        request = coordinator_pb2.PutSealedRequest(
            recipient=recipient.label, kind=kind, envelope=seal(certificate, secret, info)
        )
        earlier = bool(self.client.ask(self.client.stub.PutSealed, request).earlier)
        audit("local", "envelope_left", "ok", recipient=recipient.label, kind=int(kind), earlier=earlier)
        return earlier

    def _await_secret(self) -> None:
        plan, client, node = self.plan, self.client, self.site.node
        kind = coordinator_pb2.SEALED_KIND_CONSORTIUM_SECRET
        first = Party(node.me.consortium, Role.SITE, plan.sites[0].name)
        sender = (self.coordinator if plan.custody is Custody.ESCROW else first).label
        while True:
            self.events.envelope_left()
            response = client.ask(client.stub.GetSealed, coordinator_pb2.GetSealedRequest())
            for envelope in response.envelopes:
                if envelope.kind == kind and envelope.sender == sender:
                    info = seal_info(plan.run_id, sender, node.me.label, kind)
                    secret = open_sealed(node.tls.key, envelope.envelope, info)
                    self.site.vault.keep_consortium_secret(plan.run_id, secret)
                    audit(sender, "envelope_opened", "ok", run=plan.run_id)
                    return

    def _bring_layer(self) -> None:
        plan, keys, state = self.plan, self.site.keys, self.site.settings.state
        reference = key_ref(plan, self.site.name)
        if reference.epoch in keys.notes.released:
            layer_file(state, plan, reference).unlink(missing_ok=True)
            return
        secret = self.site.vault.consortium_secret(plan.run_id)
        basis = begin_basis(self.site, plan, reference.epoch)
        path = bring_layer(self.client, plan, self._planned_key(), reference, secret, keys, basis)
        keys.note_released(reference.epoch, reference.fingerprint.hex())
        path.unlink()

    def _planned_key(self) -> MorphKey:
        return self.site.morph_key(self.plan.site(self.site.name).key_epoch)
