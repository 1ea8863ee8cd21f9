"""Sealed envelopes that parties leave for each other; the coordinator opens none but those to itself.

Who may send what to whom follows from the plan: in `site` custody the plan's first site sends the consortium secret
to the others; in `escrow` each site sends its morph key to the coordinator, which sends the secret to the sites.
"""

from collections.abc import Iterator, Mapping

from coordinator.memory.state_file import StateFile, as_bytes, as_int, as_text
from mple.plan import Custody, RunPlan
from mple.printable import some_of
from mple.rpc import ErrorCode, MpleError, Party
from mple.v1 import coordinator_pb2

MOST_ENVELOPE_BYTES = 4096
_CERTIFICATES_AT_ONCE = 256
"""Of elliptic curves one has well below 1 KiB, of RSA below 2 KiB: the message stays below 1 MiB."""


def check_envelope(plan: RunPlan, sender: Party, coordinator: str, request: coordinator_pb2.PutSealedRequest) -> None:
    """Check that the plan has a site send this kind of envelope to this recipient.

    Args:
        plan: The run's plan.
        sender: The site, by its certificate.
        coordinator: The coordinator's label.
        request: As received.

    Raises MpleError: ENVELOPE_REJECTED.
    """
    kind, size = request.kind, len(request.envelope)
    if not 1 <= size <= MOST_ENVELOPE_BYTES:
        raise MpleError(
            ErrorCode.ENVELOPE_REJECTED, f"envelope of {size} bytes; allowed are 1 to {MOST_ENVELOPE_BYTES}"
        )
    if plan.custody is Custody.ESCROW:
        if kind != coordinator_pb2.SEALED_KIND_MORPH_KEY or request.recipient != coordinator:
            raise MpleError(
                ErrorCode.ENVELOPE_REJECTED, f"in escrow custody a site sends only its morph key, to {coordinator}"
            )
        return
    if kind != coordinator_pb2.SEALED_KIND_CONSORTIUM_SECRET:
        raise MpleError(ErrorCode.ENVELOPE_REJECTED, f"kind {kind}; in site custody only the consortium secret is sent")
    if sender.name != plan.sites[0].name:
        raise MpleError(
            ErrorCode.ENVELOPE_REJECTED, f"the plan's first site, {plan.sites[0].name}, sends the consortium secret"
        )
    others = [f"site/{site.name}" for site in plan.sites[1:]]
    if request.recipient not in others:
        raise MpleError(
            ErrorCode.ENVELOPE_REJECTED,
            f"recipient {request.recipient[:80]!r}; the secret goes to {some_of(others) or 'nobody'}",
        )


def certificates_for_sealing(
    plan: RunPlan, coordinator: str, held: Mapping[str, bytes]
) -> Iterator[coordinator_pb2.Certificates]:
    """The certificates that each party seals to under the plan, and nobody else's: a thousand of them for a thousand
    sites each would be most of what a run sends. Of DER by label; each message has room for certificates of any kind.
    """
    recipient, needed = "", [coordinator]
    if plan.custody is Custody.SITE:
        recipient, *needed = (f"site/{site.name}" for site in plan.sites)
    for start in range(0, len(needed), _CERTIFICATES_AT_ONCE):
        labels = needed[start : start + _CERTIFICATES_AT_ONCE]
        parties = [coordinator_pb2.PartyCertificate(party=label, der=held[label]) for label in labels]
        yield coordinator_pb2.Certificates(recipient=recipient, parties=parties)


class Envelopes:
    """The envelopes of a run, in the state file; one for each sender, recipient and kind."""

    def __init__(self, file: StateFile) -> None:
        self._file = file

    def put(self, sender: str, recipient: str, kind: int, envelope: bytes) -> bool:
        """Keep an envelope; False when there was one before, which then stays. A site that starts again seals the same
        secret anew, into other bytes; the first envelope remains the one that counts, so that nobody can exchange a
        secret that others may have opened already."""
        with self._file.transaction() as connection:
            cursor = connection.execute(
                "INSERT OR IGNORE INTO envelopes VALUES (?, ?, ?, ?)", (sender, recipient, kind, envelope)
            )
            return cursor.rowcount == 1

    def counts(self, sender: str, recipient: str, kind: int, envelope: bytes) -> bool:
        """Whether this very envelope is the one that counts: a call whose answer was lost brings it once more."""
        query = "SELECT envelope FROM envelopes WHERE sender = ? AND recipient = ? AND kind = ?"
        return self._file.rows(query, sender, recipient, kind) == [(envelope,)]

    def to(self, recipient: str) -> list[coordinator_pb2.SealedEnvelope]:
        """What has been left for a party and not been forgotten, by sender."""
        query = "SELECT sender, kind, envelope FROM envelopes WHERE recipient = ? ORDER BY sender, kind"
        return [
            coordinator_pb2.SealedEnvelope(
                sender=as_text(sender), kind=coordinator_pb2.SealedKind.Name(as_int(kind)), envelope=as_bytes(envelope)
            )
            for sender, kind, envelope in self._file.rows(query, recipient)
            if envelope
        ]

    def forget(self, recipient: str) -> None:
        """Wipe the contents of what was left for a party; that it was left stays known."""
        with self._file.transaction() as connection:
            connection.execute("UPDATE envelopes SET envelope = x'' WHERE recipient = ?", (recipient,))
        self._file.scrub()
