"""Codes of coefficients as one stream of asymmetric numeral systems, written and read in the same order.

A stack gives back last what it took first, so a writer keeps what it is told and pushes it in reverse.

Legend: w columns of a sub-band, n rows of them.
"""

from typing import Any, Protocol

import constriction
import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from mple.wire.codec import CodeError
from mple.wire.coefficient_models import (
    FOURS,
    MOST_BEYOND,
    WRITTEN_OUT,
    CoefficientModels,
    DirectModel,
    coefficient_models,
)

LARGEST_CODE = 32_000
"""Of a code: all fit 16 bits. What is written may be twice as large, for it is a difference."""
_SIGNS_54 = np.array([[s // 27, s // 9 % 3, s // 3 % 3, s % 3] for s in range(81)], np.int32) - 1
_WEIGHTS = np.array([27, 9, 3, 1], np.int32)


_END_BITS = 20
_END = 0x5A3C9
"""What stands at the end: who reads on beyond a stream reads zeros for ever, and would not know."""


class Stream(Protocol):
    """One of the two ends."""

    def codes(self, codes_wn: NDArray[np.int32], tables_n: NDArray[np.uint8]) -> None:
        """Write rows each under its table, or read them into the array."""


class StreamWriter(Stream):
    """Makes bytes."""

    def __init__(self) -> None:
        self._models = coefficient_models()
        self._told: list[tuple[NDArray[np.int32], Any]] = []

    @override
    def codes(self, codes_wn: NDArray[np.int32], tables_n: NDArray[np.uint8]) -> None:
        order_n, parts = _by_table(tables_n)
        sorted_wn = codes_wn if order_n is None else codes_wn.take(order_n, axis=1)
        for table, low, high in parts:
            some = sorted_wn[:, low:high].reshape(-1)
            if table < FOURS:
                self._fours(some, self._models, table)
            else:
                self._direct(some, self._models.direct[table - FOURS])

    def to_bytes(self) -> bytes:
        """All that was written, and an end that a reader knows."""
        coder = constriction.stream.stack.AnsCoder()
        coder.encode_reverse(_END, _uniform(_END_BITS))
        for symbols, model in reversed(self._told):
            coder.encode_reverse(symbols, model)
        words: NDArray[np.uint32] = coder.get_compressed()
        return words.astype("<u4", copy=False).tobytes()

    def _fours(self, codes: NDArray[np.int32], models: CoefficientModels, table: int) -> None:
        signs = np.zeros(-(-len(codes) // 4) * 4, np.int32)
        np.sign(codes, out=signs[: len(codes)])
        self._told.append((signs.reshape(-1, 4) @ _WEIGHTS + np.int32(40), models.signs[table]))
        beyond = np.abs(codes[np.flatnonzero(codes)])
        beyond -= 1
        if len(beyond):
            self._told.append((np.minimum(beyond, MOST_BEYOND + 1), models.beyond[table]))
            if beyond.max() > MOST_BEYOND:
                self._written_out(beyond[beyond > MOST_BEYOND])

    def _direct(self, codes: NDArray[np.int32], table: DirectModel) -> None:
        upper = codes >> table.shift if table.shift else codes
        symbols = upper + np.int32(table.most)
        if symbols.min() < 0 or symbols.max() > 2 * table.most:
            outside = np.abs(upper) > table.most
            symbols[outside] = 2 * table.most + 1
            self._told.append((symbols, table.model))
            self._written_out(upper[outside])
        else:
            self._told.append((symbols, table.model))
        if table.shift:
            self._told.append((codes & np.int32((1 << table.shift) - 1), _uniform(table.shift)))

    def _written_out(self, numbers: NDArray[np.int32]) -> None:
        self._told.append((numbers + np.int32(WRITTEN_OUT // 2), self._models.written_out))


class StreamReader(Stream):
    """Reads bytes from the wire, which are not trusted."""

    def __init__(self, packed: bytes) -> None:
        """Raises CodeError: no stream ends so."""
        if len(packed) % 4:
            raise CodeError(f"{len(packed)} bytes are no whole number of words")
        self._models = coefficient_models()
        try:
            self._coder = constriction.stream.stack.AnsCoder(np.frombuffer(packed, "<u4").astype(np.uint32))
        except ValueError as fault:
            raise CodeError(f"these are no packed codes: {fault}") from None

    @override
    def codes(self, codes_wn: NDArray[np.int32], tables_n: NDArray[np.uint8]) -> None:
        width = len(codes_wn)
        order_n, parts = _by_table(tables_n)
        sorted_wn = codes_wn if order_n is None else np.empty_like(codes_wn)
        for table, low, high in parts:
            count = width * (high - low)
            if table < FOURS:
                some = self._fours(count, table)
            else:
                some = self._direct(count, self._models.direct[table - FOURS])
            sorted_wn[:, low:high] = some.reshape(width, -1)
        if order_n is not None:
            codes_wn[:, order_n] = sorted_wn

    def require_end(self, samples: int) -> None:
        """Raise CodeError: the end was not written here; it was passed, or something is left."""
        if self._coder.decode(_uniform(_END_BITS)) != _END or not self._coder.is_empty():
            raise CodeError(f"these are no packed codes of {samples} samples")

    def _fours(self, count: int, table: int) -> NDArray[np.int32]:
        symbols = self._coder.decode(self._models.signs[table], -(-count // 4))
        codes: NDArray[np.int32] = _SIGNS_54[symbols].reshape(-1)[:count]
        places = np.flatnonzero(codes)
        if len(places):
            beyond = self._coder.decode(self._models.beyond[table], len(places))
            if beyond.max() > MOST_BEYOND:
                self._written_out(beyond, beyond > MOST_BEYOND)
            beyond += 1
            codes[places] *= beyond
        return codes

    def _direct(self, count: int, table: DirectModel) -> NDArray[np.int32]:
        codes: NDArray[np.int32] = self._coder.decode(table.model, count)
        outside = codes > 2 * table.most if codes.max() > 2 * table.most else None
        codes -= np.int32(table.most)
        if outside is not None:
            self._written_out(codes, outside)
        if table.shift:
            codes <<= table.shift
            codes += self._coder.decode(_uniform(table.shift), count)
        return codes

    def _written_out(self, codes: NDArray[np.int32], outside: NDArray[np.bool_]) -> None:
        count = int(outside.sum())
        codes[outside] = self._coder.decode(self._models.written_out, count) - np.int32(WRITTEN_OUT // 2)


def _uniform(bits: int) -> Any:
    return constriction.stream.model.Uniform(1 << bits)


def _by_table(tables_n: NDArray[np.uint8]) -> tuple[NDArray[np.intp] | None, list[tuple[int, int, int]]]:
    """An order of the rows by their tables, None where it is theirs; and the tables that occur, each with where its
    rows begin and end in it."""
    counts = np.bincount(tables_n)
    present = np.flatnonzero(counts)
    ends = np.cumsum(counts[present]).tolist()
    parts = list(zip(present.tolist(), [0, *ends[:-1]], ends, strict=True))
    return (None if len(parts) == 1 else np.argsort(tables_n, kind="stable")), parts
