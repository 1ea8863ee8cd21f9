"""A key's basis at its site: fitted to the site's own training pictures once, kept as long as the run.

What leaves under a key is coefficients along its basis, so that one made anew, on another machine or of other pictures,
would give other codes. It lies in the state folder beside what else the run rests on, and its digest in the run's
notes: another one in its place is refused. A key that the site rotates to has a basis of its own.

Legend: N pictures, K blocks, Q core side, d coefficients of a block.
"""

import hashlib
import time
from pathlib import Path

import numpy as np

from mple.audit import audit
from mple.data import LabelledImages
from mple.data.normalise import normalise
from mple.disk.bounded import read_bounded
from mple.disk.damage import DamagedError
from mple.disk.whole_files import write_whole
from mple.morph import MorphKey
from mple.morph.basis import Basis
from mple.node.logs import log
from mple.per_node import IN_TURN
from mple.pki import NOISE_KEY
from mple.plan import Custody, RunPlan
from mple.privacy import PictureNoise
from mple.records.state_files import BASIS
from mple.wire.basis_file import BasisFileError, basis_bytes, basis_of, most_basis_bytes
from mple.wire.basis_fitting import fit_basis
from mple.wire.codecs import codec_named
from mple.wire.transform_codec import TransformCodec
from provider_node.feeding.noising import ready_noise
from provider_node.keys.run_keys import RunKeys
from provider_node.site import Site

_MOST_PICTURES = 3000
_MOST_VALUES = 2**25
"""Of the pictures that a basis is fitted to, 128 MiB: fewer large ones, which have the more blocks."""
_FIX = "put the file back as it was and start the node again; without it, rotate the key: mple keys rotate"


def begin_basis(site: Site, plan: RunPlan, epoch: int) -> Basis | None:
    """The basis of a key, None where the plan's codec has none; fitted, kept and noted at first use.

    Raises ValueError: the site has no training pictures; VaultError: the key is not in the vault; DamagedError: the
    basis that the run rests on is gone, damaged or another.
    """
    codec, keys = codec_named(plan.wire.codec), site.keys
    if not isinstance(codec, TransformCodec):
        return None
    path = _path(plan, keys, epoch)
    relied_on = plan.custody is Custody.ESCROW or epoch in keys.notes.released
    if epoch in keys.notes.bases and (path.exists() or relied_on):
        return kept_basis(plan, keys, epoch)
    began, key = time.monotonic(), site.morph_key(epoch)
    noise = ready_noise(plan, site.settings.state, site.vault, site.dataset.train)
    if noise is not None:
        keys.rest_on(NOISE_KEY, site.vault.noise_secret(new=False))
    with IN_TURN:
        data = basis_bytes(fitted_basis(plan, key, epoch, site.dataset.train, codec, noise))
    write_whole(path, hashlib.sha256(data).digest() + data)
    keys.note_basis(epoch, hashlib.sha256(data).digest())
    basis = kept_basis(plan, keys, epoch)
    assert basis is not None, "the codec has one"
    facts = {"epoch": epoch, "columns": basis.columns, "bytes": len(data)}
    audit("local", "basis", "ok", run=plan.run_id, sha256=hashlib.sha256(data).hexdigest(), **facts)
    text = f"fitted the basis of key {epoch} in {time.monotonic() - began:.2f} s"
    log("basis", f"{text}: {basis.columns} of {basis.core_side} values of a block travel", **facts)
    return basis


def kept_basis(plan: RunPlan, keys: RunKeys, epoch: int) -> Basis | None:
    """The basis that a key of the run has at this site, None where the plan's codec has none.

    Raises DamagedError: it is gone, damaged, or another than the one that the run rests on.
    """
    if not codec_named(plan.wire.codec).needs_coding:
        return None
    path, geometry = _path(plan, keys, epoch), plan.geometry
    cores, side = geometry.cores(plan.morph.scheme()), geometry.core_side
    if not path.exists():
        raise DamagedError(path, f"is gone; what leaves under key {epoch} of run {plan.run_id} rests on it", _FIX)
    content = read_bounded(path, 32 + most_basis_bytes(cores, side))
    digest, data = content[:32], content[32:]
    if hashlib.sha256(data).digest() != digest:
        raise DamagedError(path, "is damaged: its bytes are not those that its checksum is of", _FIX)
    notes = keys.kept
    if notes is not None and notes.run_id == plan.run_id and (known := notes.bases.get(epoch)) != digest.hex():
        text = f"is another ({digest.hex()[:16]}) than the one that run {plan.run_id} rests on ({(known or '')[:16]})"
        raise DamagedError(path, text, _FIX)
    try:
        return basis_of(data, cores=cores, core_side=side)
    except BasisFileError as fault:
        raise DamagedError(path, f"is of another run's pictures: {fault}", _FIX) from None


def forget_basis(plan: RunPlan, keys: RunKeys, epoch: int) -> None:
    """Remove the basis of a key that is revoked."""
    _path(plan, keys, epoch).unlink(missing_ok=True)


def fitted_basis(
    plan: RunPlan,
    key: MorphKey,
    epoch: int,
    train: LabelledImages,
    codec: TransformCodec,
    noise: PictureNoise | None = None,
) -> Basis:
    """A basis and how its coefficients are coded, of some pictures as they leave: normalised, with their noise.

    Raises ValueError: there are no pictures.
    """
    most = max(1, min(_MOST_PICTURES, _MOST_VALUES // plan.geometry.morphed_elements))
    some_N = np.unique(np.linspace(0, len(train) - 1, most).astype(np.int64)) if len(train) else np.empty(0, np.int64)
    pixels_NCHW = train.take(some_N).pixels_NCHW
    x_NCHW = normalise(pixels_NCHW, plan.normalisation)
    if noise is not None:
        x_NCHW = noise.add(x_NCHW, pixels_NCHW)
    return fit_basis(x_NCHW, plan.morph.scheme(), plan.image, key, session=plan.session, key_epoch=epoch, codec=codec)


def _path(plan: RunPlan, keys: RunKeys, epoch: int) -> Path:
    return keys.folder / BASIS.format(plan.run_id, epoch)
