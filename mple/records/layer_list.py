"""Which layers belong to a run: `run.json` beside them, so that they can be used again without a coordinator.

It names the plan's layers by site, rotated keys in the order in which they were numbered, and revoked keys with what
was erased under them. It is written before anything rests on it: before a rotated key is used, before a revoked key's
data are erased.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from mple.disk.json_records import read_record, write_record
from mple.disk.private import make_private
from mple.disk.whole_files import file_sha256
from mple.morph.augmented import AugmentedLayer
from mple.plan import RunPlan
from mple.plan.key_refs import key_ref
from mple.printable import printable
from mple.v1 import common_pb2, coordinator_pb2
from mple.wire.layer_file import read_layer

_LIST = "run.json"
_FIX = "put the file back as it was, or remove it: the list is made anew of the coordinator's events"


@dataclass(frozen=True, slots=True)
class RotatedLayer:
    """A key that followed on another, and its layer."""

    site: str
    epoch: int
    fingerprint: str
    """Hexadecimal."""
    sha256: str
    """Of the layer, hexadecimal."""

    def __post_init__(self) -> None:
        _require_hexadecimal(self.fingerprint, self.sha256)

    @property
    def key_ref(self) -> common_pb2.KeyRef:
        """The key."""
        return common_pb2.KeyRef(site=self.site, epoch=self.epoch, fingerprint=bytes.fromhex(self.fingerprint))


@dataclass(frozen=True, slots=True)
class RevokedKey:
    """A key whose data are erased, or about to be."""

    site: str
    epoch: int
    samples: int
    layer_bytes: int
    erased: bool
    """Whether all is gone."""


@dataclass(frozen=True, slots=True)
class LayerList:
    """The content of `run.json`."""

    plan_sha256: str
    layers: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of the plan's layers by site, hexadecimal."""
    rotated: tuple[RotatedLayer, ...] = ()
    revoked: tuple[RevokedKey, ...] = ()

    def __post_init__(self) -> None:
        _require_hexadecimal(self.plan_sha256, *self.layers.values())

    def revocation(self, site: str, epoch: int) -> RevokedKey | None:
        """What is noted of a revoked key."""
        return next((key for key in self.revoked if (key.site, key.epoch) == (site, epoch)), None)

    def digest(self, plan: RunPlan, reference: common_pb2.KeyRef) -> bytes | None:
        """SHA-256 of the layer of a key, None when the list does not have it."""
        found = self.layers.get(reference.site) if reference == key_ref(plan, reference.site) else None
        for layer in self.rotated:
            if layer.key_ref == reference:
                found = layer.sha256
        return None if found is None else bytes.fromhex(found)

    def layer_of(self, site: str, epoch: int) -> bytes:
        """SHA-256 of the layer of a site's key: a rotated one's of this epoch, else the plan's."""
        rotated = [layer.sha256 for layer in self.rotated if (layer.site, layer.epoch) == (site, epoch)]
        return bytes.fromhex((rotated or [self.layers[site]])[-1])

    def with_rotated(self, header: coordinator_pb2.LayerHeader) -> LayerList:
        """The list with a rotated key at its end; one that is there already stays where it is."""
        key = header.key_ref
        layer = RotatedLayer(key.site, key.epoch, key.fingerprint.hex(), header.sha256.hex())
        return self if layer in self.rotated else replace(self, rotated=(*self.rotated, layer))

    def with_revoked(self, revoked: RevokedKey) -> LayerList:
        """The list with a revoked key, in the place of what was noted of it before."""
        others = (key for key in self.revoked if (key.site, key.epoch) != (revoked.site, revoked.epoch))
        return replace(self, revoked=(*others, revoked))


def read_list(folder: Path, plan: RunPlan) -> LayerList:
    """The list of a plan; an empty one where there is none, or another plan's.

    Raises DamagedError: the file is damaged; ValueError: it is of another version.
    """
    path, ours = folder / _LIST, plan.sha256().hex()
    if path.exists():
        found = read_record(LayerList, path, _FIX)
        if found.plan_sha256 == ours:
            return found
    return LayerList(ours)


def list_of_finished(folder: Path, plan: RunPlan) -> LayerList:
    """The list of a plan whose layers must be there: its run has finished.

    Raises ValueError: the file is missing, damaged or another plan's, lacks a site, or has a key of another.
    """
    path, ours = folder / _LIST, plan.sha256().hex()
    try:
        found = read_record(LayerList, path)
    except OSError as fault:
        raise ValueError(f"{path} can't be read: {fault.strerror}; it lists a run's layers") from None
    if found.plan_sha256 != ours:
        raise ValueError(f"{path} lists the layers of plan {found.plan_sha256[:16]}, not of {ours[:16]}")
    for site in plan.sites:
        if site.name not in found.layers:
            raise ValueError(f"{path} does not list this plan's layers: site {site.name} is missing")
    for rotated in found.rotated:
        plan.site(rotated.site)
    return found


def write_list(folder: Path, listed: LayerList) -> None:
    """Write the list, whole, on the disk when this returns."""
    make_private(folder)
    write_record(folder / _LIST, listed)


def list_layers(folder: Path, plan: RunPlan, digests: Mapping[str, bytes]) -> None:
    """Write down which layers belong to a plan, their SHA-256 by site; what is noted of other keys stays."""
    layers = {site: digest.hex() for site, digest in digests.items()}
    write_list(folder, replace(read_list(folder, plan), layers=layers))


def layer_path(folder: Path, digest: bytes) -> Path:
    """Where a layer lies."""
    return folder / f"{digest.hex()}.safetensors"


def whole_layer(folder: Path, digest: bytes) -> Path | None:
    """Where a layer lies whose bytes are those of its digest; None where there is none, or it is damaged.

    A change of one bit in a layer trains another network, and nothing behind would notice: every use of a file after
    a start goes through here.
    """
    path = layer_path(folder, digest)
    return path if path.is_file() and file_sha256(path) == digest else None


def read_planned_layer(path: Path, plan: RunPlan) -> AugmentedLayer:
    """A layer file of the plan's shape. Raises LayerFileError: it is another."""
    return read_layer(
        path,
        scheme=plan.morph.scheme(),
        image=plan.image,
        filters=plan.filters,
        kernel=plan.model.kernel,
        numbers=plan.layer_dtype,
        coefficients=plan.coefficient_layers,
    )


def _require_hexadecimal(*texts: str) -> None:
    for text in texts:
        if not re.fullmatch("(?:[0-9a-f]{2})+", text):
            raise ValueError(f"{printable(repr(text), 80)} is not hexadecimal in lower case")
