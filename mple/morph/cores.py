"""Drawing cores: the secret blocks on the diagonal of M, with their inverses, in float64.

Legend: Q core side.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mple.morph.keys import MorphKey, gaussians, uniforms
from mple.morph.scheme import Cores, Ensemble, MorphScheme

_LARGE_SIDE, _PANEL = 1024, 192


@dataclass(frozen=True, slots=True)
class BlockCore:
    """One core and its inverse, float64 (Q, Q). The inverse of an orthogonal core is its transpose, no copy."""

    core_QQ: NDArray[np.float64]
    inverse_QQ: NDArray[np.float64]


def draw_core(
    key: MorphKey, scheme: MorphScheme, core_side: int, *, session: bytes, key_epoch: int, block: int
) -> BlockCore:
    """The core of one block.

    With identical cores every `block` gives the same. Orthogonal cores follow the Haar measure: QR of a Gaussian
    matrix with the signs of R's diagonal moved into Q (Mezzadri, 2007). Two machines may differ in the last bits.

    Raises ValueError: a uniform core is singular to working precision (practically never).
    """
    number = 0 if scheme.cores is Cores.IDENTICAL else block
    label = b"\0".join(
        [
            b"core",
            scheme.ensemble.encode(),
            len(session).to_bytes(4, "big") + session,
            b"%d" % key_epoch,
            b"%d" % number,
        ]
    )
    if scheme.ensemble is Ensemble.UNIFORM:
        core_QQ = uniforms(key.seed, label, core_side * core_side).reshape(core_side, core_side)
        try:
            return BlockCore(core_QQ, np.linalg.inv(core_QQ).astype(np.float64, copy=False))
        except np.linalg.LinAlgError:
            raise ValueError(f"the core of block {number} is singular; rotate the morph key") from None
    core_QQ = random_orthogonal(key.seed, label, core_side)
    return BlockCore(core_QQ, core_QQ.T)


def random_orthogonal(secret: bytes, label: bytes, side: int) -> NDArray[np.float64]:
    """An orthogonal matrix by the Haar measure, of the stream that `secret` and `label` name."""
    drawn_QQ = gaussians(secret, label, side * side).reshape(side, side)
    if side >= _LARGE_SIDE:
        return _large_orthogonal(drawn_QQ)
    orthogonal_QQ, upper_QQ = np.linalg.qr(drawn_QQ)
    return np.asarray(orthogonal_QQ * np.sign(np.diagonal(upper_QQ)))


def _large_orthogonal(a_QQ: NDArray[np.float64]) -> NDArray[np.float64]:
    """Q of A = Q·R with R's diagonal positive; overwrites A. As LAPACK's, but for wider panels: the products that most
    of the time goes into are twice as fast. Each panel's reflections are one matrix I - V·T·V' (Schreiber and Van Loan,
    1989)."""
    side, reflections = len(a_QQ), []
    signs_Q = np.empty(side)
    for low in range(0, side, _PANEL):
        packed, factors = np.linalg.qr(a_QQ[low:, low : low + _PANEL], mode="raw")
        signs_Q[low : low + _PANEL] = np.sign(np.diagonal(packed))
        v = np.tril(packed.T, -1)
        np.fill_diagonal(v, 1.0)
        t = np.linalg.solve(np.eye(len(factors)) + factors[:, None] * np.triu(v.T @ v, 1), np.diag(factors))
        rest = a_QQ[low:, low + _PANEL :]
        rest -= v @ (t.T @ (v.T @ rest))
        reflections.append((low, v, t))
    q_QQ = np.eye(side)
    for low, v, t in reversed(reflections):
        rest = q_QQ[low:, low:]
        rest -= v @ (t @ (v.T @ rest))
    q_QQ *= signs_Q
    return q_QQ
