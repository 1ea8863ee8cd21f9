"""GAZELLE's convolution: the client's packed maps, rotated, multiplied by weights, added, and masked by the server.

Both parties make a `PackedConvolution` from the shape alone. The client encrypts its share of the input; the server
adds its own share, convolves, adds the bias, subtracts a mask and returns what the client decrypts. All is exact
modulo t. Every slot that holds no result leaves under a mask that nobody keeps.

Legend: I input and O output channels, H W the side, p taps a side, K ciphertexts, N slots.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from comparison.lattice.coefficients import draw_residues
from comparison.lattice.encryption import Ciphertext, ClientLattice, LatticeError, Plaintext, ServerLattice
from comparison.lattice.packing import ConvolutionShape, packing_of
from comparison.lattice.parameters import LatticeParameters
from comparison.lattice.rotations_plan import SWAP, Meeting, cheapest_plan


class PackedConvolution:
    """What both parties know of one convolution: where values sit, in which order the server rotates, what it costs.

    Raises ValueError: a map is larger than half of the slots.
    """

    def __init__(self, shape: ConvolutionShape, parameters: LatticeParameters) -> None:
        self.shape, self.parameters = shape, parameters
        self.packing = packing_of(shape, parameters.degree)
        self.plan = cheapest_plan(self.packing)

    @property
    def key_steps(self) -> frozenset[int]:
        """Rotation steps that the server needs keys for; 0 is the swap of rows."""
        return self.plan.key_steps

    @property
    def expected_upload_bytes(self) -> int:
        """Of the client's message."""
        return self.packing.input_ciphertexts * self.parameters.upload_ciphertext_bytes

    @property
    def expected_download_bytes(self) -> int:
        """Of the server's message."""
        return self.packing.output_ciphertexts * self.parameters.download_ciphertext_bytes

    @property
    def expected_rotations(self) -> int:
        """Rotations and swaps of rows that the server makes."""
        return self.plan.rotations

    @property
    def expected_multiplications(self) -> int:
        """Ciphertexts that the server multiplies by weights; fewer if some plaintext of weights is all zeros."""
        return self.plan.multiplications

    @property
    def held_bytes(self) -> int:
        """Memory of the prepared weights."""
        return self.expected_multiplications * self.parameters.plaintext_held_bytes

    def encrypt(self, client: ClientLattice, x_CHW: NDArray[np.int64]) -> bytes:
        """The client's message: its share of the input, residues in [0, t)."""
        return client.encrypt(self.packing.pack(x_CHW))

    def decrypt(self, client: ClientLattice, download: bytes | memoryview) -> NDArray[np.int64]:
        """What the client gets, (O, H, W): the convolution of both shares' sum, plus bias, less the mask, mod t.

        Raises LatticeError: the message has not the length that was to be expected.
        """
        if len(download) != self.expected_download_bytes:
            raise LatticeError(f"{len(download)} bytes of results; expected {self.expected_download_bytes}")
        return self.packing.unpack(client.decrypt(download))

    def prepare(
        self, server: ServerLattice, weights_OIpp: NDArray[np.integer], *, keep: bool = True
    ) -> PreparedConvolution:
        """The server's work ahead of time: its weights as plaintexts that ciphertexts are multiplied by.

        Args:
            server: The server's end, of the same parameters.
            weights_OIpp: Signed integers.
            keep: Whether plaintexts are made now and kept, which takes `held_bytes`, or made anew for every input,
                which takes about 0.15 ms for each of `expected_multiplications`.

        Raises ValueError: the weights are not of this convolution's shape.
        """
        return PreparedConvolution(self, server, weights_OIpp, keep=keep)


class PreparedConvolution:
    """The server's end of one convolution."""

    def __init__(
        self, layer: PackedConvolution, server: ServerLattice, weights_OIpp: NDArray[np.integer], *, keep: bool
    ) -> None:
        """See `PackedConvolution.prepare`."""
        self.layer, self._server = layer, server
        self._weights, self._input_stride, self._output_stride = self._padded(weights_OIpp)
        self._kept: dict[tuple[int, int, int], list[tuple[int, Plaintext]]] = {}
        if keep:
            plan = layer.plan
            for output_swap in range(plan.output_swaps):
                for large in range(plan.large):
                    self._keep(output_swap, large)

    def _padded(self, weights_OIpp: NDArray[np.integer]) -> tuple[NDArray[np.int64], int, int]:
        """The weights mod t with channels padded to whole ciphertexts, flat; slots from ciphertext to ciphertext."""
        packing, modulus = self.layer.packing, self.layer.parameters.plain_modulus
        reaching = packing.shape.reaching(weights_OIpp) % modulus
        outputs, inputs = reaching.shape[:2]
        taps = reaching.shape[2] * reaching.shape[3]
        padded = np.zeros(
            (packing.output_ciphertexts, packing.output_period, packing.input_ciphertexts, packing.input_period, taps),
            np.int64,
        )
        flat = padded.reshape(packing.output_ciphertexts * packing.output_period, -1, taps)
        flat[:outputs, :inputs] = reaching.reshape(outputs, inputs, taps)
        # One block of weights for each pair of ciphertexts, in the order that a meeting counts in.
        blocks = np.ascontiguousarray(padded.transpose(0, 2, 1, 3, 4))
        block = packing.output_period * packing.input_period * taps
        return blocks.reshape(-1), block, packing.input_ciphertexts * block

    def _keep(self, output_swap: int, large: int) -> None:
        meetings = list(self.layer.plan.meetings_of(output_swap, large))
        for output in range(self.layer.packing.output_ciphertexts):
            self._kept[output, output_swap, large] = list(self._factors(meetings, output))

    def _factors_of(self, output: int, output_swap: int, large: int) -> Iterable[tuple[int, Plaintext]]:
        if self._kept:
            return self._kept[output, output_swap, large]
        return self._factors(list(self.layer.plan.meetings_of(output_swap, large)), output)

    def _factors(self, meetings: list[Meeting], output: int) -> Iterator[tuple[int, Plaintext]]:
        """Plaintexts of weights of one sum, each with the number of the rotated input that it multiplies."""
        for source in range(self.layer.packing.input_ciphertexts):
            start = output * self._output_stride + source * self._input_stride
            block = self._weights[start : start + self._input_stride]
            for number, meeting in enumerate(meetings):
                slots_N = block[meeting.weight_N] * meeting.meets_N
                if slots_N.any():
                    yield source * len(meetings) + number, self._server.factor(slots_N)

    def apply(
        self,
        upload: bytes | memoryview,
        share_CHW: NDArray[np.int64] | None,
        bias_O: NDArray[np.int64],
        mask_OHW: NDArray[np.int64],
    ) -> bytes:
        """The server's answer to the client's message.

        Args:
            upload: What `PackedConvolution.encrypt` gave.
            share_CHW: The server's share of the input, residues in [0, t); None for nothing.
            bias_O: Signed integers or residues.
            mask_OHW: Residues in [0, t), drawn afresh for every call.

        Raises LatticeError: the message is not of this convolution, or the client sent no key for a rotation.
        """
        layer, server = self.layer, self._server
        if len(upload) != layer.expected_upload_bytes:
            raise LatticeError(f"{len(upload)} bytes of ciphertexts; expected {layer.expected_upload_bytes}")
        inputs = server.load(upload)
        if share_CHW is not None:
            for ciphertext, slots_N in zip(inputs, layer.packing.pack(share_CHW), strict=True):
                server.add_slots(ciphertext, slots_N)
        rotated = [each for ciphertext in inputs for each in self._rotated(ciphertext)]
        sums = [self._sum(rotated, output) for output in range(layer.packing.output_ciphertexts)]
        modulus = layer.parameters.plain_modulus
        slots_KN = draw_residues((len(sums), layer.parameters.degree), modulus)
        layer.packing.spread((bias_O[:, None, None] - mask_OHW) % modulus, slots_KN)
        return server.results(sums, slots_KN)

    def _rotated(self, ciphertext: Ciphertext) -> Iterator[Ciphertext]:
        """All small rotations of an input, then of its swap if need be, in NTT form."""
        plan, server = self.layer.plan, self._server
        for swap in range(plan.input_swaps):
            start = server.rotated(ciphertext, SWAP) if swap else ciphertext
            made: list[Ciphertext] = []
            for rotation in plan.small:
                made.append(start if rotation.parent < 0 else server.rotated(made[rotation.parent], rotation.step))
            yield from map(server.to_ntt, made)

    def _sum(self, rotated: list[Ciphertext], output: int) -> Ciphertext | None:
        """One output ciphertext: products summed, rotated by Horner's rule, and folded."""
        plan, server = self.layer.plan, self._server
        total = self._sum_unswapped(rotated, output, 0)
        if plan.output_swaps == 2:
            swapped = self._sum_unswapped(rotated, output, 1)
            total = server.add(total, None if swapped is None else server.rotated(swapped, SWAP))
        for step in plan.fold_steps:
            total = None if total is None else server.add(total, server.rotated(total, step))
        return total

    def _sum_unswapped(self, rotated: list[Ciphertext], output: int, output_swap: int) -> Ciphertext | None:
        plan, server = self.layer.plan, self._server
        total: Ciphertext | None = None
        for large in reversed(range(plan.large)):
            if total is not None:
                total = server.rotated(total, plan.large_step)
            factors = self._factors_of(output, output_swap, large)
            products = server.sum_of_products((rotated[number], factor) for number, factor in factors)
            total = server.add(total, products)
        return total
