"""Keys that change within a run, at the compute node: layers of rotated keys come in, data under revoked ones go.

Events come in the order of the run's log and come again after a restart; what was done before is then only looked at.
Of several ranks each sees to its own samples and layers, and rank 0 reports what all have done.
"""

import struct
from dataclasses import dataclass, replace
from pathlib import Path

from compute_node.layers.layer_fetch import fetch_layer
from compute_node.ranks import ALONE, RankEndedError, RankGroup
from compute_node.run_samples import RunSamples
from mple.audit import audit
from mple.disk.whole_files import fsync_folder
from mple.node.coordinator_client import CoordinatorClient
from mple.node.logs import log
from mple.node.retry import StoppedError, UnreachableError
from mple.node.stop import Stop
from mple.records.layer_list import RevokedKey, layer_path, read_list, write_list
from mple.rpc import MpleError
from mple.rpc.file_transfer import remove_file
from mple.v1 import common_pb2, coordinator_pb2

_ROUND_S, _PAUSE_S = 2.0, 60.0
"""How long a coordinator that has ended is tried for after the run, and how long it is then left alone."""
_ERASED = struct.Struct("<qq")
KEY_EVENTS = {"key_rotated", "key_revoked"}
"""The events that `KeyChanges.take` wants."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyChanges:
    """What a change of keys touches."""

    client: CoordinatorClient
    samples: RunSamples
    folder: Path
    """Of the layers."""
    ranks: RankGroup = ALONE.main

    def take(self, event: coordinator_pb2.WatchResponse) -> None:
        """Carry out a rotation or a revocation and report it.

        Raises MpleError: a layer is not what was announced, or the coordinator refused a report; OSError: the disk
        refused; started again, the node goes on with it.
        """
        if event.WhichOneof("event") == "key_rotated":
            self._rotate(event.key_rotated.header)
        elif event.WhichOneof("event") == "key_revoked":
            self._revoke(event.key_revoked.key_ref)

    def follow_after_end(self, sequence: int, stop: Stop) -> None:
        """Carry out revocations that come behind the run's end, while the coordinator serves; returns at `stop`.

        Raises RankEndedError: another rank has gone.
        """
        client = CoordinatorClient(self.client.channel, self.client.retry.within(_ROUND_S))
        while not stop.is_set():
            try:
                for event in client.events(sequence):
                    self.take(event)
                    sequence = event.sequence
            except StoppedError:
                return
            except RankEndedError:
                raise
            except (MpleError, UnreachableError):
                pass  # the coordinator may have ended; another look comes
            stop.wait(_PAUSE_S)

    def _rotate(self, header: coordinator_pb2.LayerHeader) -> None:
        key = header.key_ref
        self.samples.bank.add(key)
        listed = read_list(self.folder, self.samples.plan)
        fetch_layer(self.client, header, self.samples.plan, self.samples.bank, self.folder)
        if listed.with_rotated(header) != listed:
            write_list(self.folder, listed.with_rotated(header))
            audit(f"site/{key.site}", "key_rotated", "ok", epoch=key.epoch, fingerprint=key.fingerprint.hex())
        usable = all(self.ranks.gather(b"usable" if self.samples.bank.usable(key) else b""))
        if usable and self.ranks.leads:
            self.client.report(coordinator_pb2.ReportRequest(key_stored=coordinator_pb2.KeyStored(key_ref=key)))

    def _revoke(self, key: common_pb2.KeyRef) -> None:
        number = self.samples.bank.refuse(key)
        if number is None:
            return
        noted = self._noted(key, number)
        if not noted.erased:
            # Samples first: while any is here, training may still need the layer.
            erased = self.samples.cache.erase(number)
            for split, numbers in erased.lost.items():
                self.samples.intake.want_again(split, numbers)
            self.samples.bank.drop(number)
            self._delete_layer(key)
            noted = replace(noted, erased=True)
            audit(
                "local",
                "key_erased",
                "ok",
                site=key.site,
                epoch=key.epoch,
                fingerprint=key.fingerprint.hex(),
                samples=noted.samples,
                layer_bytes=noted.layer_bytes,
            )
            write_list(self.folder, read_list(self.folder, self.samples.plan).with_revoked(noted))
            text = f"erased {noted.samples} samples and the layer of key {key.epoch} of {key.site}"
            log("key_erased", text, site=key.site, epoch=key.epoch, samples=noted.samples)
        of_all = [_ERASED.unpack(one) for one in self.ranks.gather(_ERASED.pack(noted.samples, noted.layer_bytes))]
        if self.ranks.leads:
            samples, layer_bytes = map(sum, zip(*of_all, strict=True))
            report = coordinator_pb2.KeyErased(key_ref=key, samples=samples, layer_bytes=layer_bytes)
            self.client.report(coordinator_pb2.ReportRequest(key_erased=report))

    def _noted(self, key: common_pb2.KeyRef, number: int) -> RevokedKey:
        """What is to be erased, written down before it is: a restart could not count it any more."""
        listed = read_list(self.folder, self.samples.plan)
        noted = listed.revocation(key.site, key.epoch)
        if noted is None:
            noted = RevokedKey(
                key.site, key.epoch, self.samples.cache.count(number), self._layer_bytes(key), erased=False
            )
            write_list(self.folder, listed.with_revoked(noted))
            audit(f"site/{key.site}", "key_revoked", "ok", epoch=key.epoch, fingerprint=key.fingerprint.hex())
        return noted

    def _layer_bytes(self, key: common_pb2.KeyRef) -> int:
        path = self._layer_path(key)
        return path.stat().st_size if path is not None and path.exists() else 0

    def _delete_layer(self, key: common_pb2.KeyRef) -> None:
        path = self._layer_path(key)
        if path is not None:
            remove_file(path)
            fsync_folder(self.folder)

    def _layer_path(self, key: common_pb2.KeyRef) -> Path | None:
        digest = read_list(self.folder, self.samples.plan).digest(self.samples.plan, key)
        return None if digest is None else layer_path(self.folder, digest)
