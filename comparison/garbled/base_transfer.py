"""128 base oblivious transfers of random keys: the start of the extension, once a connection.

Chou and Orlandi, "The Simplest Protocol for Oblivious Transfer" (LATINCRYPT 2015), on NIST P-256. The sender offers
A = a G; for each choice c the receiver answers B = b G + c A; the keys are SHA-256 of the x coordinates of a B and
a (B - A), of which the receiver can make one, b A.

Secure against parties who follow the protocol, in the random-oracle model. The receiver's choices are hidden from
everybody, since B is a uniform point (but for identities, of probability 2**-256) in either case; the sender's other
key rests on the computational Diffie-Hellman assumption. The receiver adds A for both choices and then picks; the
addition, of points that go over the wire, is in plain Python, and times of this process are not hidden.

The party that will evaluate circuits is the sender here, the garbler the receiver.
"""

import hashlib

import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from numpy.typing import NDArray

from comparison.garbled.bits import check_length
from comparison.garbled.cipher import BLOCK_BYTES, Buffer

BASE_TRANSFERS = 128
POINT_BYTES = 33
"""Of a compressed point."""
OFFER_BYTES = POINT_BYTES
ANSWER_BYTES = BASE_TRANSFERS * POINT_BYTES
_CURVE = ec.SECP256R1()
_FIELD = 2**256 - 2**224 + 2**192 + 2**96 - 1


class BaseSender:
    """Ends with both keys of every transfer."""

    def __init__(self) -> None:
        self._secret = ec.generate_private_key(_CURVE)
        self.offer = _encoded(self._secret.public_key())

    def keys(self, answer: Buffer) -> list[tuple[bytes, bytes]]:
        """The pairs of 16-byte keys, of choice 0 and 1.

        Raises ValueError: the answer is not 128 points, or one is A itself, which no receiver makes.
        """
        check_length(answer, ANSWER_BYTES, "an answer of base transfers")
        ours = self._secret.public_key()
        pairs = []
        for number in range(BASE_TRANSFERS):
            encoded = bytes(answer[number * POINT_BYTES : (number + 1) * POINT_BYTES])
            theirs = _decoded(encoded)
            shared = [self._secret.exchange(ec.ECDH(), point) for point in (theirs, _sum(theirs, _negative(ours)))]
            zero, one = (_key(number, self.offer, encoded, x) for x in shared)
            pairs.append((zero, one))
        return pairs


class BaseReceiver:
    """Ends with the chosen key of every transfer.

    Args:
        choices: 128 of 0 and 1.
    """

    def __init__(self, choices: NDArray[np.uint8]) -> None:
        if choices.shape != (BASE_TRANSFERS,):
            raise ValueError(f"choices of shape {choices.shape}, needs ({BASE_TRANSFERS},)")
        self._choices = choices
        self.keys: list[bytes] = []
        """The chosen 16-byte keys, once answered."""

    def answer(self, offer: Buffer) -> bytes:
        """The answer to an offer. Raises ValueError: the offer is no point."""
        check_length(offer, OFFER_BYTES, "an offer of base transfers")
        theirs = _decoded(bytes(offer))
        answers = []
        self.keys = []
        for number, choice in enumerate(self._choices):
            secret = ec.generate_private_key(_CURVE)
            ours = secret.public_key()
            encoded = [_encoded(ours), _encoded(_sum(ours, theirs))][int(choice)]
            answers.append(encoded)
            self.keys.append(_key(number, bytes(offer), encoded, secret.exchange(ec.ECDH(), theirs)))
        return b"".join(answers)


def _key(number: int, offer: bytes, answer: bytes, shared_x: bytes) -> bytes:
    return hashlib.sha256(bytes([number]) + offer + answer + shared_x).digest()[:BLOCK_BYTES]


def _encoded(point: ec.EllipticCurvePublicKey) -> bytes:
    return point.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)


def _decoded(encoded: bytes) -> ec.EllipticCurvePublicKey:
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, encoded)
    except ValueError as error:
        raise ValueError(f"{encoded.hex()} is no point of P-256") from error


def _negative(point: ec.EllipticCurvePublicKey) -> ec.EllipticCurvePublicKey:
    numbers = point.public_numbers()
    return ec.EllipticCurvePublicNumbers(numbers.x, _FIELD - numbers.y, _CURVE).public_key()


def _sum(one: ec.EllipticCurvePublicKey, other: ec.EllipticCurvePublicKey) -> ec.EllipticCurvePublicKey:
    """Sum of two points that are neither equal nor opposite, as random points never are.

    Raises ValueError: they are.
    """
    left, right = one.public_numbers(), other.public_numbers()
    if left.x == right.x:
        raise ValueError("a point of the base transfers is the other side's own; points must be drawn at random")
    slope = (right.y - left.y) * pow(right.x - left.x, -1, _FIELD)
    x = (slope * slope - left.x - right.x) % _FIELD
    y = (slope * (left.x - x) - left.y) % _FIELD
    return ec.EllipticCurvePublicNumbers(x, y, _CURVE).public_key()
