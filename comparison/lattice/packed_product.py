"""GAZELLE's hybrid product of a matrix and a vector, for a network's last layer.

A vector is a map of one pixel, so this is the packed convolution with one tap: the vector is repeated over both rows,
each place gathers its share of an output in a few diagonals, and rotations fold the shares together.

Legend: I inputs, O outputs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from comparison.lattice.encryption import ClientLattice, ServerLattice
from comparison.lattice.packed_convolution import PackedConvolution, PreparedConvolution
from comparison.lattice.packing import ConvolutionShape
from comparison.lattice.parameters import LatticeParameters


class PackedProduct:
    """What both parties know of one product; see `PackedConvolution` for costs and messages, which `layer` holds."""

    def __init__(self, inputs: int, outputs: int, parameters: LatticeParameters) -> None:
        self.layer = PackedConvolution(ConvolutionShape(inputs=inputs, outputs=outputs, kernel=1, side=1), parameters)

    @property
    def key_steps(self) -> frozenset[int]:
        """See `PackedConvolution.key_steps`."""
        return self.layer.key_steps

    @property
    def expected_upload_bytes(self) -> int:
        """Of the client's message."""
        return self.layer.expected_upload_bytes

    @property
    def expected_download_bytes(self) -> int:
        """Of the server's message."""
        return self.layer.expected_download_bytes

    @property
    def expected_rotations(self) -> int:
        """Rotations and swaps of rows that the server makes."""
        return self.layer.expected_rotations

    @property
    def expected_multiplications(self) -> int:
        """See `PackedConvolution.expected_multiplications`."""
        return self.layer.expected_multiplications

    @property
    def held_bytes(self) -> int:
        """Memory of the prepared weights."""
        return self.layer.held_bytes

    def encrypt(self, client: ClientLattice, x_I: NDArray[np.int64]) -> bytes:
        """The client's message: its share of the input, residues in [0, t)."""
        return self.layer.encrypt(client, x_I[:, None, None])

    def decrypt(self, client: ClientLattice, download: bytes | memoryview) -> NDArray[np.int64]:
        """What the client gets, (O,): the product with both shares' sum, plus bias, less the mask, mod t."""
        return self.layer.decrypt(client, download)[:, 0, 0]

    def prepare(self, server: ServerLattice, weights_OI: NDArray[np.integer], *, keep: bool = True) -> PreparedProduct:
        """The server's work ahead of time; see `PackedConvolution.prepare`."""
        return PreparedProduct(self.layer.prepare(server, weights_OI[:, :, None, None], keep=keep))


class PreparedProduct:
    """The server's end of one product."""

    def __init__(self, prepared: PreparedConvolution) -> None:
        """See `PackedProduct.prepare`."""
        self._prepared = prepared

    def apply(
        self,
        upload: bytes | memoryview,
        share_I: NDArray[np.int64] | None,
        bias_O: NDArray[np.int64],
        mask_O: NDArray[np.int64],
    ) -> bytes:
        """The server's answer; see `PreparedConvolution.apply`."""
        share_CHW = None if share_I is None else share_I[:, None, None]
        return self._prepared.apply(upload, share_CHW, bias_O, mask_O[:, None, None])
