"""Which layers belong to a run: `run.json` beside them, so that they can be used again without a coordinator.

It names the plan's layers by site, rotated keys in the order in which they were numbered, and revoked keys with what
was erased under them. It is written before anything rests on it: before a rotated key is used, before a revoked key's
data are erased.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from compute_node.layers.layer_bank import LayerBank
from mple.disk.whole_files import file_sha256, write_whole
from mple.morph.augmented import AugmentedLayer
from mple.plan import RunPlan
from mple.plan.key_refs import key_ref
from mple.v1 import common_pb2, coordinator_pb2
from mple.wire.layer_file import read_layer

_LIST = "run.json"


@dataclass(frozen=True, slots=True)
class RotatedLayer:
    """A key that followed on another, and the SHA-256 of its layer; all in hexadecimal."""

    site: str
    epoch: int
    fingerprint: str
    sha256: str

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

    Raises:
        ValueError: The file is damaged.
    """
    path = folder / _LIST
    if not path.exists():
        return LayerList(plan.sha256().hex())
    found = _read(path)
    return found if found.plan_sha256 == plan.sha256().hex() else LayerList(plan.sha256().hex())


def write_list(folder: Path, listed: LayerList) -> None:
    """Write the list, whole, on the disk when this returns."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / _LIST, json.dumps(asdict(listed), indent=2).encode() + b"\n")


def list_layers(folder: Path, plan: RunPlan, digests: Mapping[str, bytes]) -> None:
    """Write down which layers belong to a plan, their SHA-256 by site; what is noted of other keys stays."""
    layers = {site: digest.hex() for site, digest in digests.items()}
    write_list(folder, replace(read_list(folder, plan), layers=layers))


def restored_bank(folder: Path, plan: RunPlan) -> LayerBank:
    """A plan's bank with the rotated and revoked keys that the list knows, each under the number that it had.

    A rotated key's layer is in it if its file is whole, that of a revoked one too while it is there: samples under it
    may not be erased yet. The plan's own layers come with the run's events.

    Raises:
        ValueError: The list is damaged.
    """
    bank, listed = LayerBank(plan), read_list(folder, plan)
    for layer in listed.rotated:
        bank.add(layer.key_ref)
        path = layer_path(folder, bytes.fromhex(layer.sha256))
        if path.is_file() and file_sha256(path).hex() == layer.sha256:
            bank.store(layer.key_ref, read_listed(path, plan))
    for key in listed.revoked:
        planned = key_ref(plan, key.site)
        rotated = [layer.key_ref for layer in listed.rotated if (layer.site, layer.epoch) == (key.site, key.epoch)]
        for reference in [planned] if planned.epoch == key.epoch else rotated:
            digest = listed.digest(plan, reference)
            path = layer_path(folder, digest or b"")
            if not key.erased and path.is_file():
                bank.store(reference, read_listed(path, plan))
            bank.refuse(reference)
    return bank


def listed_layers(folder: Path, plan: RunPlan) -> LayerBank:
    """All layers of a plan as the list has them, for a run that has finished.

    Raises:
        ValueError: The list is missing, damaged or another plan's, or a layer's file is missing or damaged.
    """
    listed = _read(folder / _LIST)
    if listed.plan_sha256 != plan.sha256().hex():
        raise ValueError(
            f"{folder / _LIST} lists the layers of plan {listed.plan_sha256[:16]}, not of {plan.sha256().hex()[:16]}"
        )
    bank = restored_bank(folder, plan)
    for reference in [*(key_ref(plan, site.name) for site in plan.sites), *(one.key_ref for one in listed.rotated)]:
        if bank.refused(reference):
            continue
        digest = listed.digest(plan, reference)
        if digest is None:
            raise ValueError(f"{folder / _LIST} does not list this plan's layers: site {reference.site} is missing")
        path = layer_path(folder, digest)
        if not path.is_file() or file_sha256(path) != digest:
            raise ValueError(f"the layer of site {reference.site} in {path} is missing or damaged")
        if not bank.usable(reference):
            bank.store(reference, read_listed(path, plan))
    return bank


def layer_path(folder: Path, digest: bytes) -> Path:
    """Where a layer lies."""
    return folder / f"{digest.hex()}.safetensors"


def read_listed(path: Path, plan: RunPlan) -> AugmentedLayer:
    """A layer file of the plan's shape.

    Raises:
        LayerFileError: It is another.
    """
    return read_layer(
        path,
        scheme=plan.morph.scheme(),
        image=plan.image,
        filters=plan.filters,
        kernel=plan.model.kernel,
        numbers=plan.layer_dtype,
    )


def _read(path: Path) -> LayerList:
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        return LayerList(
            plan_sha256=str(about["plan_sha256"]),
            layers={str(site): bytes.fromhex(digest).hex() for site, digest in about["layers"].items()},
            rotated=tuple(RotatedLayer(**one) for one in about.get("rotated", [])),
            revoked=tuple(RevokedKey(**one) for one in about.get("revoked", [])),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as fault:
        raise ValueError(f"{path} does not list a run's layers: {fault!r}") from None
