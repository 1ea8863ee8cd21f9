"""Numbers that both parties of a lattice protocol agree on, and the sizes of messages that follow from them. Pure.

The scheme is BFV (Brakerski; Fan and Vercauteren) with batching: a plaintext is a vector of `degree` residues mod t,
laid out as two rows that rotate separately. A ciphertext is two polynomials modulo a product of primes; the last prime
of `coefficient_bits` serves key switching only. Results travel after switching down to the first prime alone.
"""

from __future__ import annotations

from dataclasses import dataclass

MOST_COEFFICIENT_BITS = {4096: 109, 8192: 218}
"""Of 128-bit security with ternary secrets, by the homomorphic encryption standard (2018)."""
DEFAULT_COEFFICIENT_BITS = {4096: (36, 36, 37), 8192: (60, 60, 60)}
SEED_BYTES = 32
_SAVED_BYTES = 113
"""Of a saved key beside its coefficients: SEAL's headers."""
_SAVED_KEYS_BYTES = 56
_PLAIN_BITS = range(16, 31)


@dataclass(frozen=True, kw_only=True, slots=True)
class LatticeParameters:
    """A ring, its moduli, and the plaintext modulus.

    Degree 4096 is the smallest at which SEAL can rotate at 128-bit security (GAZELLE's own code uses 2048). It leaves
    7 bits of flooding above the noise of large layers; 8192 leaves 29, for 1.7 times the bytes a slot.

    Raises ValueError: the degree is not 4096 or 8192, the primes are too few or too large for 128-bit security, or the
    plaintext modulus is no prime of 16 to 30 bits that is 1 modulo twice the degree.
    """

    plain_modulus: int
    """Of the numbers in the slots, t."""
    degree: int = 4096
    """Slots of a plaintext."""
    coefficient_bits: tuple[int, ...] = (36, 36, 37)
    """Bits of each prime of the ciphertext modulus; the last is for key switching."""

    def __post_init__(self) -> None:
        if self.degree not in MOST_COEFFICIENT_BITS:
            raise ValueError(f"degree is {self.degree}; allowed are 4096 and 8192")
        most = MOST_COEFFICIENT_BITS[self.degree]
        if len(self.coefficient_bits) < 2 or sum(self.coefficient_bits) > most:
            raise ValueError(f"coefficient_bits {self.coefficient_bits}; two or more, of at most {most} bits in all")
        t = self.plain_modulus
        if t.bit_length() not in _PLAIN_BITS or t % (2 * self.degree) != 1 or not _is_prime(t):
            raise ValueError(
                f"plain_modulus {t} must be a prime of 16 to 30 bits that is 1 modulo {2 * self.degree}; "
                "LatticeParameters.with_bits finds one"
            )

    @classmethod
    def with_bits(cls, bits: int, degree: int = 4096) -> LatticeParameters:
        """Those of the largest plaintext modulus of a bit length.

        Raises ValueError: there is no such prime, or the degree is not one of those allowed.
        """
        if degree not in DEFAULT_COEFFICIENT_BITS:
            raise ValueError(f"degree is {degree}; allowed are 4096 and 8192")
        return cls(
            plain_modulus=batching_prime(bits, degree), degree=degree, coefficient_bits=DEFAULT_COEFFICIENT_BITS[degree]
        )

    @property
    def data_bits(self) -> tuple[int, ...]:
        """Bits of the primes of a fresh ciphertext."""
        return self.coefficient_bits[:-1]

    @property
    def upload_ciphertext_bytes(self) -> int:
        """Of a fresh ciphertext: a seed and one polynomial."""
        return SEED_BYTES + self.degree * sum(self.data_bits) // 8

    @property
    def download_ciphertext_bytes(self) -> int:
        """Of a result: two polynomials modulo the first prime."""
        return 2 * self.degree * self.coefficient_bits[0] // 8

    @property
    def plaintext_held_bytes(self) -> int:
        """Of a plaintext in NTT form in memory."""
        return 8 * self.degree * len(self.data_bits)

    def public_bytes(self, rotation_keys: int) -> int:
        """Length of what a client publishes: the public key and so many rotation keys."""
        one = _SAVED_BYTES + 16 * self.degree * len(self.coefficient_bits)
        keys = rotation_keys * len(self.data_bits) * one
        return one + (_SAVED_KEYS_BYTES + 8 * self.degree + keys if rotation_keys else 0)


def batching_prime(bits: int, degree: int) -> int:
    """The largest prime of a bit length that is 1 modulo 2·degree, so that plaintexts have slots.

    Raises ValueError: the bit length is not within 16 to 30, or there is none.
    """
    if bits not in _PLAIN_BITS:
        raise ValueError(f"a plaintext modulus of {bits} bits; allowed are 16 to 30")
    step = 2 * degree
    for candidate in range((1 << bits) - step + 1, 1 << (bits - 1), -step):
        if _is_prime(candidate):
            return candidate
    raise ValueError(f"no prime of {bits} bits is 1 modulo {step}; take more bits")


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))
