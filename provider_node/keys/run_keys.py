"""Which of the site's keys its run knows, and what has become of each: `run-keys.json` in the state folder.

A restart needs it: to join as before, whatever the site has rotated to since; to morph under the key that the compute
node holds; and not to build a layer again that is released already, which other bits would spoil. It holds no secret.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from mple.disk.json_records import read_record, write_record
from mple.morph import MorphKey
from mple.pki import NOISE_KEY, VaultDamagedError, secret_fingerprint
from mple.v1 import common_pb2

FILE_NAME = "run-keys.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyNotes:
    """What is known of the keys of one run, by epoch."""

    run_id: str
    planned: int
    """The epoch that the site joined with and the plan names."""
    in_use: int
    """The newest epoch whose layer the compute node holds; the site morphs under it."""
    fingerprints: Mapping[int, str] = field(default_factory=dict)
    """Hexadecimal, of every key that the run knows."""
    released: tuple[int, ...] = ()
    """Epochs whose layer the coordinator has released."""
    revoked: tuple[int, ...] = ()
    """Epochs whose revocation the coordinator knows."""
    erased: tuple[int, ...] = ()
    """Epochs whose data the compute node has erased."""
    secrets: Mapping[str, str] = field(default_factory=dict)
    """Fingerprints of the vault's other secrets that the run rests on, by the names of their files."""
    counted: int = 0
    """Releases that the site's book showed when the site began to feed last."""
    counted_sent: int = 0
    """Samples that had left by its ledger then. What was counted and then not sent, as a killed process leaves it,
    makes the one larger than the other for ever; since then they have grown alike, but for what was counted last."""
    built: Mapping[int, str] = field(default_factory=dict)
    """SHA-256 of the layers that were built and not released yet, hexadecimal, by epoch."""
    bases: Mapping[int, str] = field(default_factory=dict)
    """SHA-256 of the keys' bases, hexadecimal, by epoch, where the run's codec has any."""

    def __post_init__(self) -> None:
        for fingerprint in self.fingerprints.values():
            bytes.fromhex(fingerprint)

    def key_ref(self, site: str, epoch: int) -> common_pb2.KeyRef:
        """The message that names the key of an epoch."""
        return common_pb2.KeyRef(site=site, epoch=epoch, fingerprint=bytes.fromhex(self.fingerprints[epoch]))


class RunKeys:
    """The notes of the site's newest run, on the disk before anything rests on them. Threads may change them."""

    def __init__(self, state: Path) -> None:
        """Read the notes of a state folder, if there are any. Raises DamagedError: the file is damaged."""
        self.folder, self._path = state, state / FILE_NAME
        self._lock = threading.Lock()
        self._notes = read_record(KeyNotes, self._path) if self._path.exists() else None

    @property
    def kept(self) -> KeyNotes | None:
        """The notes, None before the site's first run."""
        return self._notes

    @property
    def notes(self) -> KeyNotes:
        """The notes of the run that the site takes part in."""
        assert self._notes is not None, "begin comes first"
        return self._notes

    def begin(self, run_id: str, epoch: int, fingerprint: str) -> None:
        """The site has joined a run with a key; the notes of the same run stay."""
        with self._lock:
            if self._notes is None or self._notes.run_id != run_id:
                noise = {name: one for name, one in self._secrets().items() if name == NOISE_KEY}
                fingerprints = {epoch: fingerprint}
                self._keep(
                    KeyNotes(run_id=run_id, planned=epoch, in_use=epoch, fingerprints=fingerprints, secrets=noise)
                )

    def note_released(self, epoch: int, fingerprint: str) -> None:
        """The layer of a key is released."""
        with self._lock:
            notes = self.notes
            fingerprints = {**notes.fingerprints, epoch: fingerprint}
            self._keep(replace(notes, released=_with(notes.released, epoch), fingerprints=fingerprints))

    def note_ready(self, epoch: int, fingerprint: str) -> bool:
        """The compute node holds a key's layer; False when a key as new is in use already."""
        with self._lock:
            notes = self.notes
            if epoch <= notes.in_use:
                return False
            fingerprints = {**notes.fingerprints, epoch: fingerprint}
            released = _with(notes.released, epoch)
            self._keep(replace(notes, in_use=epoch, released=released, fingerprints=fingerprints))
            return True

    def note_revoked(self, epoch: int) -> bool:
        """The coordinator knows of a revocation; False when that was noted before."""
        with self._lock:
            new = epoch not in self.notes.revoked
            self._keep(replace(self.notes, revoked=_with(self.notes.revoked, epoch)))
            return new

    def note_erased(self, epoch: int) -> bool:
        """The compute node has erased a key's data; False when that was noted before."""
        with self._lock:
            new = epoch not in self.notes.erased
            self._keep(replace(self.notes, erased=_with(self.notes.erased, epoch)))
            return new

    def note_built(self, epoch: int, sha256: bytes) -> None:
        """A layer was built whose file is to be uploaded as it is."""
        with self._lock:
            self._keep(replace(self.notes, built={**self.notes.built, epoch: sha256.hex()}))

    def note_basis(self, epoch: int, sha256: bytes) -> None:
        """A key's basis was fitted; a layer that was built with another is none of it."""
        with self._lock:
            built = {key: digest for key, digest in self.notes.built.items() if key != epoch}
            self._keep(replace(self.notes, bases={**self.notes.bases, epoch: sha256.hex()}, built=built))

    def least_releases(self, sent: int) -> int:
        """How many releases the book must show when this many samples have left by the ledger."""
        return max(sent, self.notes.counted + max(0, sent - self.notes.counted_sent))

    def note_counted(self, counted: int, sent: int) -> None:
        """The site begins to feed with so many releases in its book and sent samples in its ledger."""
        with self._lock:
            self._keep(replace(self.notes, counted=counted, counted_sent=sent))

    def rest_on(self, name: str, secret: bytes) -> None:
        """The run rests on a secret of the vault from now on.

        Raises VaultDamagedError: it has rested on another of this name before.
        """
        with self._lock:
            self.require(name, secret)
            fingerprint = secret_fingerprint(name, secret)
            self._keep(replace(self.notes, secrets={**self.notes.secrets, name: fingerprint}))

    def require(self, name: str, secret: bytes) -> None:
        """Raise VaultDamagedError when the run rests on another secret of this name."""
        known, found = self.notes.secrets.get(name), secret_fingerprint(name, secret)
        if known is not None and known != found:
            text = f"is another ({found[:16]}) than the one that run {self.notes.run_id} rests on ({known[:16]})"
            raise VaultDamagedError(f"the vault's {name}", text)

    def refuse_lost(self, name: str) -> None:
        """Raise VaultDamagedError when the run rests on a secret: for whoever has not found it in the vault."""
        if name in self.notes.secrets:
            text = f"is gone; run {self.notes.run_id} rests on it ({self.notes.secrets[name][:16]})"
            raise VaultDamagedError(f"the vault's {name}", text)

    def require_key(self, key: MorphKey, epoch: int) -> MorphKey:
        """The key. Raises VaultDamagedError: the run knows another of this epoch."""
        known, found = self.notes.fingerprints.get(epoch), key.fingerprint().hex()
        if known is not None and known != found:
            text = f"is {found[:16]}; run {self.notes.run_id} rests on another ({known[:16]})"
            raise VaultDamagedError(f"the vault's morph key of epoch {epoch}", text)
        return key

    def _secrets(self) -> Mapping[str, str]:
        return {} if self._notes is None else self._notes.secrets

    def _keep(self, notes: KeyNotes) -> None:
        if notes == self._notes:
            return
        write_record(self._path, notes)
        self._notes = notes


def _with(epochs: tuple[int, ...], epoch: int) -> tuple[int, ...]:
    return tuple(sorted({*epochs, epoch}))
