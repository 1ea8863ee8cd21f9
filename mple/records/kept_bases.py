"""Bases that sites have sent to the compute node in escrow custody, beside the layers that they are folded into.

In escrow the coordinator builds a key's layer from its seed and must not learn what pictures look like; so the basis,
which tells their second moment, goes to the compute node alone. A file is the SHA-256 of a basis, then its bytes.
"""

import hashlib
from pathlib import Path

from mple.disk.bounded import read_bounded
from mple.disk.whole_files import write_whole
from mple.morph.augmented import AugmentedLayer, fold
from mple.morph.basis import Basis
from mple.plan import Custody, RunPlan
from mple.records.layer_list import read_planned_layer
from mple.v1 import common_pb2
from mple.wire.basis_file import basis_of, most_basis_bytes
from mple.wire.codecs import codec_named

_DIGEST_BYTES = 32


def needs_bases(plan: RunPlan) -> bool:
    """Whether the compute node folds bases into a plan's layers; in site custody the sites have done it."""
    return plan.custody is Custody.ESCROW and codec_named(plan.wire.codec).needs_coding


def basis_path(folder: Path, key_ref: common_pb2.KeyRef) -> Path:
    """Where the basis of a key of the plan lies, `folder` being that of the layers."""
    return folder / f"basis-{key_ref.site}-{key_ref.epoch}.bin"


def most_bytes(plan: RunPlan) -> int:
    """Of a basis of the plan."""
    return most_basis_bytes(plan.geometry.cores(plan.morph.scheme()), plan.geometry.core_side)


def planned_basis(plan: RunPlan, data: bytes) -> Basis:
    """A basis of the plan's sizes. Raises BasisFileError: these are no bytes of one."""
    return basis_of(data, cores=plan.geometry.cores(plan.morph.scheme()), core_side=plan.geometry.core_side)


def keep_basis(folder: Path, key_ref: common_pb2.KeyRef, data: bytes) -> None:
    """Keep a basis, whole, on the disk when this returns."""
    write_whole(basis_path(folder, key_ref), hashlib.sha256(data).digest() + data)


def kept_basis(folder: Path, plan: RunPlan, key_ref: common_pb2.KeyRef) -> bytes | None:
    """A key's basis; None where there is none, or its file is damaged: its site is asked for it again."""
    path = basis_path(folder, key_ref)
    if not path.is_file():
        return None
    content = read_bounded(path, _DIGEST_BYTES + most_bytes(plan))
    data = content[_DIGEST_BYTES:]
    return data if hashlib.sha256(data).digest() == content[:_DIGEST_BYTES] else None


def read_key_layer(path: Path, folder: Path, plan: RunPlan, key_ref: common_pb2.KeyRef) -> AugmentedLayer | None:
    """The layer of a key as its samples need it: a layer file, with the kept basis folded into it where the plan needs
    that; None where that basis is not here.

    Raises LayerFileError: the file is another plan's; BasisFileError: the basis is.
    """
    if not needs_bases(plan):
        return read_planned_layer(path, plan)
    data = kept_basis(folder, plan, key_ref)
    return None if data is None else fold(read_planned_layer(path, plan), planned_basis(plan, data))
