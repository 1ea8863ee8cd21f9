"""MiniONN's triplets: shares u + v = W·rho mod t of products with inputs that were drawn ahead of time, no rotations.

The client encrypts its random rho, for every input and tap the value that each output position meets; the server
multiplies by weights and adds. A ciphertext holds `inputs_together` pairs of input and tap, each repeated for
`outputs_together` outputs, at all positions. So the sum over the first is partly left to the client, which adds the
parts after decrypting; both numbers are chosen to make messages shortest. Every slot of a result is masked; the server
adds its masks in the same way.

Legend: I input and O output channels, H W the side, p taps a side, M pairs of input and tap, X positions,
K ciphertexts, N slots, A upload ciphertexts, B download ciphertexts, D inputs together, G outputs together.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from comparison.lattice.coefficients import draw_residues
from comparison.lattice.encryption import Ciphertext, ClientLattice, LatticeError, Plaintext, ServerLattice
from comparison.lattice.packing import ConvolutionShape
from comparison.lattice.parameters import LatticeParameters


class TripletConvolution:
    """What both parties know of the triplets of one convolution; a dense layer is one of kernel 1 and side 1.

    Raises ValueError: a map has more pixels than a ciphertext has slots.
    """

    def __init__(self, shape: ConvolutionShape, parameters: LatticeParameters) -> None:
        if shape.pixels > parameters.degree:
            raise ValueError(f"a map of {shape.pixels} pixels; a ciphertext of this degree holds {parameters.degree}")
        self.shape, self.parameters = shape, parameters
        self.pairs = shape.inputs * (2 * shape.radius + 1) ** 2
        together = parameters.degree // shape.pixels
        self.inputs_together = min(range(1, min(together, self.pairs) + 1), key=self._message_bytes)
        """Pairs of input and tap in one ciphertext."""
        self.outputs_together = min(together // self.inputs_together, shape.outputs)
        """Outputs in one ciphertext."""

    def _ciphertexts(self, inputs_together: int) -> tuple[int, int]:
        """Up and down."""
        outputs_together = self.parameters.degree // self.shape.pixels // inputs_together
        return -(-self.pairs // inputs_together), -(-self.shape.outputs // outputs_together)

    def _message_bytes(self, inputs_together: int) -> int:
        up, down = self._ciphertexts(inputs_together)
        return up * self.parameters.upload_ciphertext_bytes + down * self.parameters.download_ciphertext_bytes

    @property
    def upload_ciphertexts(self) -> int:
        """Ciphertexts that the client sends for inputs that go together."""
        return self._ciphertexts(self.inputs_together)[0]

    @property
    def download_ciphertexts(self) -> int:
        """Ciphertexts that it gets back for them."""
        return self._ciphertexts(self.inputs_together)[1]

    @property
    def expected_upload_bytes(self) -> int:
        """Of the client's message."""
        return self.upload_ciphertexts * self.parameters.upload_ciphertext_bytes

    @property
    def expected_download_bytes(self) -> int:
        """Of the server's message."""
        return self.download_ciphertexts * self.parameters.download_ciphertext_bytes

    @property
    def expected_multiplications(self) -> int:
        """Ciphertexts that the server multiplies by weights; fewer if some plaintext of weights is all zeros."""
        return self.upload_ciphertexts * self.download_ciphertexts

    @property
    def held_bytes(self) -> int:
        """Memory of the prepared weights."""
        return self.expected_multiplications * self.parameters.plaintext_held_bytes

    def encrypt(self, client: ClientLattice, rho_CHW: NDArray[np.int64]) -> bytes:
        """The client's message: inputs (I, H, W), residues in [0, t) that it drew uniformly.

        Raises ValueError: the inputs are not of this shape.
        """
        met_MX = self._met(rho_CHW)
        padded = np.zeros((self.upload_ciphertexts * self.inputs_together, self.shape.pixels), np.int64)
        padded[: self.pairs] = met_MX
        padded_AD1X = padded.reshape(self.upload_ciphertexts, self.inputs_together, 1, -1)
        return client.encrypt(self._whole(np.repeat(padded_AD1X, self.outputs_together, axis=2)))

    def _met(self, rho_CHW: NDArray[np.int64]) -> NDArray[np.int64]:
        """For every input and tap the value that each output position meets; 0 beyond the border."""
        side, radius = self.shape.side, self.shape.radius
        if rho_CHW.shape != (self.shape.inputs, side, side):
            raise ValueError(f"inputs of shape {rho_CHW.shape}; expected {(self.shape.inputs, side, side)}")
        bordered = np.pad(rho_CHW, ((0, 0), (radius, radius), (radius, radius)))
        windows = np.lib.stride_tricks.sliding_window_view(bordered, (side, side), axis=(1, 2))
        return windows.reshape(self.pairs, self.shape.pixels)

    def _whole(self, parts_KDGX: NDArray[np.int64]) -> NDArray[np.int64]:
        """Slots (K, N); those left over are 0."""
        filled = parts_KDGX.reshape(len(parts_KDGX), -1)
        return np.pad(filled, ((0, 0), (0, self.parameters.degree - filled.shape[1])))

    def decrypt(self, client: ClientLattice, download: bytes | memoryview) -> NDArray[np.int64]:
        """The client's share u, (O, H, W), residues in [0, t).

        Raises LatticeError: the message has not the length that was to be expected.
        """
        if len(download) != self.expected_download_bytes:
            raise LatticeError(f"{len(download)} bytes of results; expected {self.expected_download_bytes}")
        return self.added(client.decrypt(download))

    def added(self, slots_KN: NDArray[np.int64]) -> NDArray[np.int64]:
        """Output maps (O, H, W) mod t, from the parts of their sums in the slots of results."""
        filled = self.inputs_together * self.outputs_together * self.shape.pixels
        parts = slots_KN[:, :filled].reshape(len(slots_KN), self.inputs_together, self.outputs_together, -1)
        maps_OX: NDArray[np.int64] = parts.sum(axis=1).reshape(-1, self.shape.pixels)[: self.shape.outputs]
        return (maps_OX % self.parameters.plain_modulus).reshape(-1, self.shape.side, self.shape.side)

    def weight_slots(self, weights_OM: NDArray[np.int64], up: int, down: int) -> NDArray[np.int64]:
        """The weights, (N,), that an upload ciphertext meets on its way into a download ciphertext."""
        together_D, together_G = self.inputs_together, self.outputs_together
        some = weights_OM[down * together_G : (down + 1) * together_G, up * together_D : (up + 1) * together_D]
        padded_DG = np.zeros((together_D, together_G), np.int64)
        padded_DG[: some.shape[1], : some.shape[0]] = some.T
        slots_1N = self._whole(np.repeat(padded_DG.reshape(1, -1), self.shape.pixels, axis=1))
        return slots_1N.reshape(-1)

    def prepare(
        self, server: ServerLattice, weights_OIpp: NDArray[np.integer], *, keep: bool = True
    ) -> PreparedTriplets:
        """The server's work once for all inferences: its weights as plaintexts.

        Args:
            server: The server's end, of the same parameters.
            weights_OIpp: Signed integers.
            keep: Whether plaintexts are made now and kept, which takes `held_bytes`, or made anew each time.

        Raises ValueError: the weights are not of this convolution's shape.
        """
        return PreparedTriplets(self, server, weights_OIpp, keep=keep)


class PreparedTriplets:
    """The server's end of the triplets of one convolution."""

    def __init__(
        self, layer: TripletConvolution, server: ServerLattice, weights_OIpp: NDArray[np.integer], *, keep: bool
    ) -> None:
        """See `TripletConvolution.prepare`."""
        self.layer, self._server = layer, server
        reaching = layer.shape.reaching(weights_OIpp) % layer.parameters.plain_modulus
        self._weights_OM = reaching.reshape(layer.shape.outputs, -1)
        self._kept: list[list[tuple[int, Plaintext]]] = []
        if keep:
            self._kept = [list(self._factors(down)) for down in range(layer.download_ciphertexts)]

    def _factors(self, down: int) -> Iterator[tuple[int, Plaintext]]:
        """Plaintexts of weights of one result, each with the number of the ciphertext that it multiplies."""
        for up in range(self.layer.upload_ciphertexts):
            slots_N = self.layer.weight_slots(self._weights_OM, up, down)
            if slots_N.any():
                yield up, self._server.factor(slots_N)

    def apply(self, upload: bytes | memoryview) -> tuple[bytes, NDArray[np.int64]]:
        """The server's answer, and its own share v, (O, H, W), residues in [0, t), of fresh masks.

        Raises LatticeError: the message is not of this convolution.
        """
        layer, server, modulus = self.layer, self._server, self.layer.parameters.plain_modulus
        if len(upload) != layer.expected_upload_bytes:
            raise LatticeError(f"{len(upload)} bytes of ciphertexts; expected {layer.expected_upload_bytes}")
        inputs: list[Ciphertext] = [server.to_ntt(each) for each in server.load(upload)]
        sums = []
        for down in range(layer.download_ciphertexts):
            factors = self._kept[down] if self._kept else self._factors(down)
            sums.append(server.sum_of_products((inputs[up], factor) for up, factor in factors))
        masks_KN = draw_residues((len(sums), layer.parameters.degree), modulus)
        return server.results(sums, masks_KN), layer.added(-masks_KN)
