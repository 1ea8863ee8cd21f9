"""What each party learns under each method: the claims beside the figures, for they don't buy the same thing."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Learned:
    """Of one method."""

    title: str
    by_server: str
    """About the picture and what was made of it."""
    by_client: str
    """About the network, beyond the logits and the layers' forms."""
    rests_on: str


_CRYPTOGRAPHIC = (
    "parties that follow the protocol; learning with errors (128-bit parameters), AES as the hash of half-gates, "
    "Diffie-Hellman for base transfers"
)
_MORPHED_SERVER = (
    "the plain feature maps of the first layer in another channel order, and from them the picture: with the stem "
    "known the order falls to linear algebra; logits and classes"
)
_ALMOST_NOTHING = (
    "the layers' forms, which are public; results come masked and flooded with noise, which hides the weights behind "
    "the ciphertexts to 2^-7 a coefficient, not to the customary 2^-40"
)
LEARNED: dict[str, Learned] = {
    "plain": Learned(
        title="plain upload",
        by_server="the picture, every feature, the logits",
        by_client="nothing",
        rests_on="trust in the server; TLS on the way",
    ),
    "compact": Learned(
        title="MpLe, compact",
        by_server=_MORPHED_SERVER,
        by_client="the first layer's kernels",
        rests_on="nothing against the server; whoever has morphed pictures without the layer sees noise-like values",
    ),
    "paper": Learned(
        title="MpLe, paper",
        by_server=_MORPHED_SERVER,
        by_client="the first layer's kernels",
        rests_on="nothing against the server; whoever has morphed pictures without the layer sees noise-like values",
    ),
    "gazelle": Learned(
        title="GAZELLE",
        by_server="nothing but that an inference took place: neither picture nor features nor logits",
        by_client=_ALMOST_NOTHING,
        rests_on=_CRYPTOGRAPHIC,
    ),
    "minionn": Learned(
        title="MiniONN",
        by_server="nothing but that an inference took place: neither picture nor features nor logits",
        by_client=_ALMOST_NOTHING,
        rests_on=_CRYPTOGRAPHIC,
    ),
    "cheetah": Learned(
        title="CHEETAH (SecretFlow SPU)",
        by_server="nothing but that an inference took place",
        by_client="nothing: the layers' forms are public",
        rests_on="parties that follow the protocol; learning with errors, silent transfers; taken from elsewhere",
    ),
}
