"""Oblivious transfer of wire labels: any number of them from 128 base transfers, with the choices known late.

Ishai, Kilian, Nissim and Petrank, "Extending Oblivious Transfers Efficiently" (CRYPTO 2003), in its correlated form
(Asharov, Lindell, Schneider, Zohner, CCS 2013): offline the evaluator asks for random bits p and holds T, the garbler
holds Q = T ^ p * delta. The rows' own difference, which the base transfers fix, is the garbler's free-XOR delta, so Q
and T are labels of a wire that carries p, and no hash is needed.

Online the evaluator tells the correction d = p ^ b (Beaver, CRYPTO 1995), and the garbler answers with the label of d
on a wire of its own. XOR is free, so the two labels' XOR is the label of b. A bit costs 16 bytes offline, and one bit
up and 16 bytes down online.

Secure against parties who follow the protocol: the requests hide the choices and tell the evaluator nothing of delta
if AES in counter mode is a generator and the base transfers hold; d is b under a pad used once; the answer is the one
label of a wire whose 0 is a fresh random block. A party that deviates could learn delta: this is not for such.

Legend: a batch of `count` transfers; blocks (..., 2) uint64.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import numpy as np

from comparison.garbled.base_transfer import BASE_TRANSFERS
from comparison.garbled.bits import Bits, blocks_in, check_length, columns_of, pack, packed_bytes, unpack
from comparison.garbled.cipher import Blocks, Buffer, Keystream, bytes_of
from comparison.garbled.half_gates import delta_bits, multiples


def request_bytes(count: int) -> int:
    """Length of a request of so many transfers."""
    return BASE_TRANSFERS * packed_bytes(count)


def corrections_bytes(count: int) -> int:
    """Length of the corrections of so many transfers."""
    return packed_bytes(count)


class TransferReceiver:
    """The evaluator's end.

    Args:
        pairs: Both keys of each base transfer.
    """

    def __init__(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        _check_keys(len(pairs))
        self._streams = [(Keystream(zero), Keystream(one)) for zero, one in pairs]

    def extend(self, count: int) -> tuple[memoryview, ReceivedTransfers]:
        """Start a batch: the request to the garbler, and the transfers, for bits that are named later."""
        size = packed_bytes(count)
        pads = np.frombuffer(secrets.token_bytes(size), np.uint8)
        rows = np.empty((BASE_TRANSFERS, size), np.uint8)
        request = np.empty_like(rows)
        for row, asked, (zero, one) in zip(rows, request, self._streams, strict=True):
            row[:] = np.frombuffer(zero.take(size), np.uint8)
            np.bitwise_xor(row, np.frombuffer(one.take(size), np.uint8), out=asked)
        request ^= pads
        pad_bits = np.unpackbits(pads, count=count, bitorder="little")
        return bytes_of(request), ReceivedTransfers(columns_of(rows)[:count], pad_bits)


class TransferSender:
    """The garbler's end.

    Args:
        delta: The garbler's difference.
        keys: The key of each base transfer that the difference's bits chose.
    """

    def __init__(self, delta: Blocks, keys: Sequence[bytes]) -> None:
        _check_keys(len(keys))
        self._delta = delta
        self._keeps = -delta_bits(delta)[:, None]
        """0xff for rows of choice 1."""
        self._streams = [Keystream(key) for key in keys]

    def extend(self, count: int, request: Buffer) -> SentTransfers:
        """The garbler's half of a batch. Raises ValueError: the request is of another count."""
        check_length(request, request_bytes(count), "a request of transfers")
        size = packed_bytes(count)
        rows = np.frombuffer(request, np.uint8).reshape(BASE_TRANSFERS, size) & self._keeps
        for row, stream in zip(rows, self._streams, strict=True):
            row ^= np.frombuffer(stream.take(size), np.uint8)
        return SentTransfers(columns_of(rows)[:count], self._delta)


class ReceivedTransfers:
    """A batch at the evaluator: bits to labels, once."""

    def __init__(self, blocks: Blocks, pads: Bits) -> None:
        self._blocks = blocks
        self._pads: Bits | None = pads
        self._shape: tuple[int, ...] | None = None

    def choose(self, bits: Bits) -> bytes:
        """The corrections that make the batch one of these bits.

        Raises ValueError: there are more or fewer bits than transfers, or the batch was used before.
        """
        if self._pads is None:
            raise ValueError("transfers are used a second time; a pad hides one bit only, ask for a new batch")
        if bits.size != self._pads.size:
            raise ValueError(f"{bits.size} bits for a batch of {self._pads.size} transfers")
        corrections = pack(bits.ravel() ^ self._pads)
        self._pads, self._shape = None, bits.shape
        return corrections

    def labels(self, answer: Buffer) -> Blocks:
        """Labels of the chosen bits, of their shape and (2,).

        Raises ValueError: no bits were chosen, or the answer is of another count.
        """
        if self._shape is None:
            raise ValueError("an answer to transfers before their bits were chosen")
        return blocks_in(answer, self._shape, "an answer of transfers") ^ self._blocks.reshape(*self._shape, 2)


class SentTransfers:
    """A batch at the garbler: answers once."""

    def __init__(self, blocks: Blocks, delta: Blocks) -> None:
        self._blocks: Blocks | None = blocks
        self._delta = delta

    def answer(self, corrections: Buffer, zeros: Blocks) -> memoryview:
        """What gives the evaluator its labels.

        Args:
            corrections: The evaluator's.
            zeros: Labels of 0 of its wires, (..., 2), fresh ones of `garble`.

        Raises ValueError: counts differ, or the batch was used before.
        """
        if self._blocks is None:
            raise ValueError("transfers are answered a second time, which would give away both labels of a wire")
        count = len(self._blocks)
        if zeros.size != 2 * count:
            raise ValueError(f"labels of {zeros.size // 2} wires for a batch of {count} transfers")
        bits = unpack(corrections, (count,), "corrections of transfers")
        answer = zeros.reshape(-1, 2) ^ self._blocks
        answer ^= multiples(self._delta, bits)
        self._blocks = None
        return bytes_of(answer)


def _check_keys(found: int) -> None:
    if found != BASE_TRANSFERS:
        raise ValueError(f"{found} keys of base transfers, needs {BASE_TRANSFERS}")
