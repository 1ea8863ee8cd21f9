"""The two parties' ends of the lattice scheme: the only place that touches SEAL.

The client holds the secret key, the server computes on what it can't read. Messages hold bare coefficients, without a
header of SEAL's: a fresh ciphertext is a seed and its first polynomial, a result is both polynomials modulo the first
prime. Their lengths follow from the parameters alone.

Circuit privacy. Before a result leaves, the server masks every slot, adds an encryption of zero under the client's
public key, switches down to one prime, and floods the first polynomial with uniform noise of a quarter of what
decryption bears, which costs no bytes and leaves 1 bit of budget. At degree 4096 and t of 21 bits that is ±2^12, where
noise that depends on the weights is about 2^5 after the largest layers. It hides the weights statistically to 2^-7 a
coefficient, far from the customary 2^-40; at degree 8192 it's 2^-29.

Legend: K ciphertexts, N slots (two rows of N/2), V coefficients.
"""

import secrets
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
import seal
from numpy.typing import NDArray

from comparison.lattice.coefficients import draw_errors, draw_residues, expand_seed, pack, unpack
from comparison.lattice.parameters import SEED_BYTES, LatticeParameters

Ciphertext: TypeAlias = Any
"""SEAL's, encrypted under a client's key."""
Plaintext: TypeAlias = Any
"""SEAL's, encoded slots."""


class LatticeError(ValueError):
    """Bytes of the other party are not what they should be."""


class _Ring:
    """SEAL's context of some parameters, and its objects made from bare coefficients."""

    def __init__(self, parameters: LatticeParameters) -> None:
        settings = seal.EncryptionParameters(seal.scheme_type.bfv)
        settings.set_poly_modulus_degree(parameters.degree)
        settings.set_coeff_modulus(seal.CoeffModulus.Create(parameters.degree, list(parameters.coefficient_bits)))
        settings.set_plain_modulus(parameters.plain_modulus)
        self.parameters = parameters
        self.context = seal.SEALContext(settings)
        self.encoder = seal.BatchEncoder(self.context)
        self.evaluator = seal.Evaluator(self.context)
        self.first, self.last = self.context.first_parms_id(), self.context.last_parms_id()
        primes = self.context.first_context_data().parms().coeff_modulus()
        self.primes = tuple(int(prime.value()) for prime in primes)
        self._first_header = self._header(self.first, len(self.primes))
        self._last_header = self._header(self.last, 1)

    def _header(self, level: Any, primes: int) -> bytes:
        """What SEAL writes ahead of the coefficients of a ciphertext of two polynomials."""
        key = seal.KeyGenerator(self.context).create_public_key()
        saved: bytes = seal.Encryptor(self.context, key).encrypt_zero(level).to_string()
        return saved[: -16 * primes * self.parameters.degree]

    def fresh(self, first_V: NDArray[np.uint64], second_V: NDArray[np.uint64]) -> Ciphertext:
        """A ciphertext of the first level from its two polynomials."""
        return self._loaded(self._first_header + first_V.tobytes() + second_V.tobytes())

    def result(self, both_V: NDArray[np.uint64]) -> Ciphertext:
        """A ciphertext of the last level from its coefficients."""
        return self._loaded(self._last_header + both_V.tobytes())

    def _loaded(self, saved: bytes) -> Ciphertext:
        try:
            return self.context.from_cipher_str(saved)
        except (RuntimeError, ValueError) as fault:
            raise LatticeError(f"these are no coefficients of a ciphertext: {fault}") from None

    def coefficients(self, ciphertext: Ciphertext) -> NDArray[np.uint64]:
        """Of both polynomials, one after the other, each prime by prime."""
        count = 2 * self.parameters.degree * ciphertext.coeff_modulus_size()
        return np.frombuffer(ciphertext.to_string()[-8 * count :], np.uint64)

    def encoded(self, slots_N: NDArray[np.int64]) -> Plaintext:
        """Residues in [0, t) as a plaintext."""
        return self.encoder.encode(slots_N.astype(np.uint64))

    def packed(self, coefficients_V: NDArray[np.uint64]) -> bytes:
        """A polynomial of the first level, each prime's coefficients at the prime's own bits."""
        each = coefficients_V.reshape(len(self.primes), -1)
        return b"".join(pack(part, bits) for part, bits in zip(each, self.parameters.data_bits, strict=True))

    def unpacked(self, packed: memoryview) -> NDArray[np.uint64]:
        """What `packed` packed."""
        parts, start = [], 0
        for bits in self.parameters.data_bits:
            end = start + self.parameters.degree * bits // 8
            parts.append(unpack(packed[start:end], bits))
            start = end
        return np.concatenate(parts)


class ClientLattice:
    """The end that can decrypt. A new one has a new secret key, which never leaves it."""

    def __init__(self, parameters: LatticeParameters) -> None:
        self.parameters = parameters
        self._ring = _Ring(parameters)
        self._keys = seal.KeyGenerator(self._ring.context)
        secret = self._keys.secret_key()
        self._decryptor = seal.Decryptor(self._ring.context, secret)
        self._secret = self._as_factor(secret.to_string())

    def _as_factor(self, saved: bytes) -> Plaintext:
        """The secret as a plaintext in NTT form, by which uniform polynomials are multiplied."""
        ring, degree = self._ring, self.parameters.degree
        count = degree * len(ring.primes)
        like = ring.evaluator.transform_to_ntt(ring.encoded(np.arange(degree, dtype=np.int64)), ring.first)
        all_primes = saved[-8 * degree * len(self.parameters.coefficient_bits) :]
        return ring.context.from_plain_str(like.to_bytes()[: -8 * count] + all_primes[: 8 * count])

    def public_bytes(self, steps: Iterable[int] = ()) -> bytes:
        """The public key, and keys for rotations: what the server needs, once.

        Args:
            steps: By how many slots rows will rotate to the left; 0 is for swapping the two rows.
        """
        public: bytes = self._keys.create_public_key().to_string()
        wanted, rotations = sorted(set(steps)), b""
        if wanted:
            keys = seal.GaloisKeys()
            self._keys.create_galois_keys(wanted, keys)
            rotations = keys.to_string()
        return public + rotations

    def encrypt(self, slots_KN: NDArray[np.int64]) -> bytes:
        """Rows of residues in [0, t), each as a fresh ciphertext of `upload_ciphertext_bytes`."""
        return b"".join(self._encrypted(slots_N) for slots_N in slots_KN)

    def _encrypted(self, slots_N: NDArray[np.int64]) -> bytes:
        """A seed that expands to a, and -a·s + e + Δ·m."""
        ring, degree = self._ring, self.parameters.degree
        seed = secrets.token_bytes(SEED_BYTES)
        uniform_V = expand_seed(seed, ring.primes, degree)
        product = ring.evaluator.transform_to_ntt(ring.fresh(uniform_V, uniform_V))
        ring.evaluator.multiply_plain_inplace(product, self._secret)
        product_V = ring.coefficients(ring.evaluator.transform_from_ntt(product))[: len(uniform_V)]
        primes_P1 = np.array(ring.primes, np.int64)[:, None]
        masked_V = (draw_errors(degree) - product_V.view(np.int64).reshape(-1, degree)) % primes_P1
        ciphertext = ring.fresh(masked_V.reshape(-1).astype(np.uint64), uniform_V)
        ring.evaluator.add_plain_inplace(ciphertext, ring.encoded(slots_N))
        return seed + ring.packed(ring.coefficients(ciphertext)[: len(uniform_V)])

    def decrypt(self, download: bytes | memoryview) -> NDArray[np.int64]:
        """Slots (K, N) of the results in a message, residues in [0, t).

        Raises LatticeError: the bytes are no whole number of results.
        """
        slots = [
            self._ring.encoder.decode_uint64(self._decryptor.decrypt(each)).astype(np.int64)
            for each in self._results(download)
        ]
        return np.stack(slots) if slots else np.empty((0, self.parameters.degree), np.int64)

    def budget(self, download: bytes | memoryview) -> int:
        """Bits of noise that the results in a message would still bear; the least of all."""
        return min(int(self._decryptor.invariant_noise_budget(each)) for each in self._results(download))

    def _results(self, download: bytes | memoryview) -> list[Ciphertext]:
        bits = self.parameters.coefficient_bits[0]
        parts = _cut(download, self.parameters.download_ciphertext_bytes)
        return [self._ring.result(unpack(part, bits)) for part in parts]


class ServerLattice:
    """The end that computes on ciphertexts of one client.

    Raises LatticeError: the public bytes are not those of a client of the same parameters.
    """

    def __init__(self, parameters: LatticeParameters, public: bytes, *, flooded: bool = True) -> None:
        """From what `ClientLattice.public_bytes` gave.

        Args:
            parameters: The client's.
            public: The client's public key and rotation keys.
            flooded: False only to measure how much noise results would bear.
        """
        self.parameters = parameters
        self._ring = ring = _Ring(parameters)
        end, first_key_end = parameters.public_bytes(0), parameters.public_bytes(1)
        one_key = parameters.public_bytes(2) - first_key_end
        if len(public) != end and (len(public) < first_key_end or (len(public) - first_key_end) % one_key):
            raise LatticeError(f"{len(public)} bytes are no public key and whole number of rotation keys")
        try:
            key = ring.context.from_public_str(public[:end])
            self._rotation_keys = ring.context.from_galois_str(public[end:]) if len(public) > end else None
        except (RuntimeError, ValueError) as fault:
            raise LatticeError(f"these are no public keys of these parameters: {fault}") from None
        self._encryptor = seal.Encryptor(ring.context, key)
        most = ring.primes[0] // (8 * parameters.plain_modulus)
        self._flood = most if flooded else 0

    def load(self, upload: bytes | memoryview) -> list[Ciphertext]:
        """The fresh ciphertexts of a message.

        Raises LatticeError: the bytes are no whole number of ciphertexts, or a coefficient is not below its prime.
        """
        ring = self._ring
        return [
            ring.fresh(
                ring.unpacked(part[SEED_BYTES:]),
                expand_seed(bytes(part[:SEED_BYTES]), ring.primes, self.parameters.degree),
            )
            for part in _cut(upload, self.parameters.upload_ciphertext_bytes)
        ]

    def factor(self, slots_N: NDArray[np.int64]) -> Plaintext:
        """Residues in [0, t), ready to multiply by: encoded, in NTT form. Not all are 0."""
        return self._ring.evaluator.transform_to_ntt(self._ring.encoded(slots_N), self._ring.first)

    def add_slots(self, ciphertext: Ciphertext, slots_N: NDArray[np.int64]) -> None:
        """Add residues to a ciphertext, in place."""
        self._ring.evaluator.add_plain_inplace(ciphertext, self._ring.encoded(slots_N))

    def to_ntt(self, ciphertext: Ciphertext) -> Ciphertext:
        """In the form in which ciphertexts are multiplied."""
        return self._ring.evaluator.transform_to_ntt(ciphertext)

    def sum_of_products(self, terms: Iterable[tuple[Ciphertext, Plaintext]]) -> Ciphertext | None:
        """Of ciphertexts in NTT form with `factor`s; back in the form in which they rotate. None for no term."""
        evaluator, total = self._ring.evaluator, None
        for ciphertext, factor in terms:
            product = evaluator.multiply_plain(ciphertext, factor)
            if total is None:
                total = product
            else:
                evaluator.add_inplace(total, product)
        return None if total is None else evaluator.transform_from_ntt(total)

    def add(self, left: Ciphertext | None, right: Ciphertext | None) -> Ciphertext | None:
        """The sum; None stands for zero."""
        if left is None or right is None:
            return left if right is None else right
        return self._ring.evaluator.add(left, right)

    def rotated(self, ciphertext: Ciphertext, step: int) -> Ciphertext:
        """Both rows rotated to the left, or swapped with step 0.

        Raises LatticeError: the client sent no key for this step.
        """
        if self._rotation_keys is None:
            raise LatticeError(f"the client sent no rotation keys; one for step {step} is needed")
        try:
            if step == 0:
                return self._ring.evaluator.rotate_columns(ciphertext, self._rotation_keys)
            return self._ring.evaluator.rotate_rows(ciphertext, step, self._rotation_keys)
        except (RuntimeError, ValueError) as fault:
            raise LatticeError(f"the client sent no key for rotation step {step}: {fault}") from None

    def results(self, sums: Sequence[Ciphertext | None], slots_KN: NDArray[np.int64]) -> bytes:
        """Ciphertexts plus residues, made fit to leave: see the module on circuit privacy.

        Args:
            sums: One for each row; None stands for zero.
            slots_KN: Residues in [0, t), uniform in every slot that the client should learn nothing of.
        """
        return b"".join(self._result(each, slots_N) for each, slots_N in zip(sums, slots_KN, strict=True))

    def _result(self, total: Ciphertext | None, slots_N: NDArray[np.int64]) -> bytes:
        ring, degree = self._ring, self.parameters.degree
        ciphertext = self.add(total, self._encryptor.encrypt_zero())
        self.add_slots(ciphertext, slots_N)
        lowered_V = ring.coefficients(ring.evaluator.mod_switch_to(ciphertext, ring.last)).copy()
        if self._flood:
            noise_N = draw_residues((degree,), 2 * self._flood + 1) - self._flood
            lowered_V[:degree] = (lowered_V[:degree].view(np.int64) + noise_N) % ring.primes[0]
        return pack(lowered_V, self.parameters.coefficient_bits[0])


def _cut(message: bytes | memoryview, length: int) -> list[memoryview]:
    if len(message) % length:
        raise LatticeError(f"{len(message)} bytes are no whole number of ciphertexts of {length}")
    whole = memoryview(message)
    return [whole[start : start + length] for start in range(0, len(whole), length)]
