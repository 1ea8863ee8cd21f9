"""Figures of the papers, for the side of our own: quoted, not measured here, and why ours differ.

The tables of the original papers could not be opened; the figures are as later work and notes quote them, so they are
marked as not verified. The totals of GAZELLE agree with the ratio that the papers on morphing print: 1236 MB over a raw
picture of 3072 bytes is 421,888 with binary megabytes.
"""

from dataclasses import dataclass

MIB = 1024 * 1024
PAPERS_DATA_RATIO = 421_000
"""GAZELLE's bytes over a raw picture, as the papers on morphing state it."""
PAPERS_COMPUTE_RATIO = 10_000
"""GAZELLE's seconds over a plain inference's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """One system on MiniONN's network for CIFAR-10."""

    method: str
    offline_s: float
    online_s: float
    offline_mib: float
    online_mib: float
    marked: str = "as quoted, not verified"

    @property
    def total_bytes(self) -> float:
        """Of one inference."""
        return (self.offline_mib + self.online_mib) * MIB


PUBLISHED = (
    Published(method="gazelle", offline_s=9.34, online_s=3.56, offline_mib=940, online_mib=296),
    Published(method="minionn", offline_s=472, online_s=72, offline_mib=3046, online_mib=6226),
)
REASONS: dict[str, tuple[str, ...]] = {
    "gazelle": (
        "Garbled tables: 32 bytes an AND (half-gates), and circuits that need fewer ANDs, because carries give most of "
        "the reductions; the published figure comes to 5.4 kB a ReLU offline, almost twice ours.",
        "The server's share is its own mask, known offline: its labels travel then, as a seed; the published 1.7 kB a "
        "ReLU online has room for them.",
        "Transfers are prepared offline and correlated: a label costs 16 bytes online.",
        "The lattice has degree 4096 with 109 bits where theirs has 2048 with 60: at 2048 the library can't rotate.",
        "Their code is C++ with vector instructions on two machines; ours is Python over compiled libraries, one core "
        "for each party, both on one machine over loopback with TLS.",
    ),
    "minionn": (
        "Activations: half-gates circuits with transfers prepared offline, where the published code uses ABY's; most "
        "of the published online traffic must be activations, for products send nothing then.",
        "Products: inputs are summed within a ciphertext's slots before they are sent back, and fresh ciphertexts "
        "travel as a seed and one polynomial.",
        "All that does not depend on the picture is counted offline here, the garbled tables included.",
    ),
}
