"""Bases as they come in over the sites' streams, in escrow custody: each is folded into its key's layer, and kept.

A stream's hello names the digest of the site's basis; one that is not held is asked for before any sample.
"""

import hashlib
import threading
from pathlib import Path

from compute_node.layers.layer_bank import LayerBank
from mple.audit import audit
from mple.disk.damage import DamagedError
from mple.morph.augmented import AugmentedLayer, fold
from mple.node.logs import log
from mple.plan import RunPlan
from mple.plan.key_refs import key_ref
from mple.records.kept_bases import keep_basis, kept_basis, most_bytes, needs_bases, planned_basis, read_key_layer
from mple.records.layer_list import layer_path, read_list, read_planned_layer, whole_layer
from mple.rpc import ErrorCode, MpleError
from mple.v1 import common_pb2, compute_pb2
from mple.wire.basis_file import BasisFileError
from mple.wire.coding import CodingError


def store_layer(bank: LayerBank, plan: RunPlan, key: common_pb2.KeyRef, path: Path, folder: Path) -> None:
    """Have the layer of a key in the bank out of its file; where its basis is not here yet, that it is awaited.

    Raises LayerFileError, BasisFileError, CodingError: a file is another plan's.
    """
    layer = read_key_layer(path, folder, plan, key)
    if layer is None:
        bank.await_basis(key)
    else:
        bank.store(key, layer)


class KeyBases:
    """What has come of each site's basis. In escrow custody a run keeps the keys that it began with, so that a site has
    one. Streams may use it at the same time."""

    def __init__(self, plan: RunPlan, bank: LayerBank, folder: Path) -> None:
        """Of a plan's keys; `folder` holds the layers."""
        self._plan, self._bank, self._folder = plan, bank, folder
        self._needed = needs_bases(plan)
        self._wanted: set[str] = set()
        self._coming: dict[str, tuple[bytes, bytearray]] = {}
        """By site the digest that its hello has named, and what has come over that stream."""
        self._lock = threading.Lock()

    def take_hello(self, site: str, hello: compute_pb2.FeedHello) -> None:
        """See which basis a site has; it is asked for where it is not here.

        Raises MpleError: MESSAGE_MALFORMED when it names none where one is needed, one where none is, or another than
        that its samples here were coded by.
        """
        if self._needed != bool(hello.basis_sha256):
            named, due = ("no basis", "one") if self._needed else ("a basis", "none")
            raise MpleError(ErrorCode.MESSAGE_MALFORMED, f"site {site} names {named}, and the plan needs {due}")
        if not self._needed:
            return
        with self._lock:
            kept = kept_basis(self._folder, self._plan, key_ref(self._plan, site))
            if kept is None:
                self._wanted.add(site)
                self._coming[site] = hello.basis_sha256, bytearray()
            elif hashlib.sha256(kept).digest() != hello.basis_sha256:
                text = f"site {site} has another basis than the one that it sent in this run before"
                raise MpleError(ErrorCode.MESSAGE_MALFORMED, text, fix="put the site's basis-*.bin back as it was")

    def asks(self, site: str) -> bool:
        """Whether to ask a site for its basis now; once a stream."""
        with self._lock:
            wanted = site in self._wanted
            self._wanted.discard(site)
        return wanted

    def take(self, site: str, part: compute_pb2.KeyBasis) -> None:
        """Take in a part of a basis; with the last it is kept, and its layer can be used.

        Raises MpleError: UNKNOWN_REQUEST for one that was not asked for; MESSAGE_MALFORMED, FILE_OFFSET,
        STREAM_TRUNCATED or FILE_DIGEST_MISMATCH for a part that is not what is due; OSError: the disk refused.
        """
        with self._lock:
            data = self._whole(site, part)
            if data is None:
                return
            reference = key_ref(self._plan, site)
            try:
                basis = planned_basis(self._plan, data)
                self._bank.store(reference, fold(self._layer(site), basis))
            except (BasisFileError, CodingError) as fault:
                raise MpleError(ErrorCode.MESSAGE_MALFORMED, f"the basis of site {site}: {fault}") from None
            keep_basis(self._folder, reference, data)
        sha256 = hashlib.sha256(data).hexdigest()
        audit(f"site/{site}", "basis_stored", "ok", epoch=reference.epoch, sha256=sha256)
        text = f"holds the basis of {site}, {len(data):,} bytes: {basis.columns} of {basis.core_side} values a block"
        log("basis_stored", text, site=site, epoch=reference.epoch)

    def _whole(self, site: str, part: compute_pb2.KeyBasis) -> bytes | None:
        """All bytes of a basis, once its last part is here."""
        if site not in self._coming:
            raise MpleError(ErrorCode.UNKNOWN_REQUEST, f"site {site} sends a basis that it was not asked for")
        sha256, data = self._coming[site]
        most = most_bytes(self._plan)
        if part.offset != len(data):
            raise MpleError(ErrorCode.FILE_OFFSET, f"part of a basis at byte {part.offset}, expected {len(data)}")
        if not part.data or len(data) + len(part.data) > most:
            text = f"{len(part.data)} bytes of a basis behind {len(data)}; the plan allows {most}"
            raise MpleError(ErrorCode.MESSAGE_MALFORMED, text)
        data += part.data
        if not part.final:
            return None
        del self._coming[site]
        if hashlib.sha256(data).digest() != sha256:
            text = f"the basis of site {site} is another than its stream has announced"
            raise MpleError(ErrorCode.FILE_DIGEST_MISMATCH, text)
        return bytes(data)

    def _layer(self, site: str) -> AugmentedLayer:
        digest = read_list(self._folder, self._plan).digest(self._plan, key_ref(self._plan, site)) or b""
        path = whole_layer(self._folder, digest)
        if path is None:
            named, fix = layer_path(self._folder, digest), "start the node again: it is fetched anew"
            raise DamagedError(named, f"is the layer of site {site}, and is gone or damaged", fix)
        return read_planned_layer(path, self._plan)
