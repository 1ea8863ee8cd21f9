"""How many bytes a method should take, from the network's public form alone: what measured bytes are held against.

| content | bytes |
| --- | --- |
| ciphertexts | number that the packing needs x size of one |
| garbled tables | 32 for each AND gate of each instance, a seed of 16 for the garbler's labels, decoding bits |
| request of transfers | 128 bits for each bit of the evaluator's shares |
| corrections | 1 bit for each of these bits |
| labels | 16 bytes for each of these bits |
| frames | of 1 MiB, each with its fields and gRPC's prefix |

Pure. Codes of morphed pictures are entropy coded: what they take follows from the pictures, `mple.meter.theory`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from comparison.garbled import ANSWER_BYTES, OFFER_BYTES
from comparison.lattice import LatticeParameters
from comparison.two_party.activations import circuit_of, slices_of
from comparison.two_party.contents import Kind, Phase
from comparison.two_party.gazelle import key_steps, packed_layer
from comparison.two_party.link import FRAME_BYTES, frames_of
from comparison.two_party.minionn import triplet_layer
from comparison.two_party.public_network import PublicNetwork
from comparison.two_party.residues import RESIDUE_BYTES
from mple.meter.ledger import GRPC_PREFIX_BYTES

AND_BYTES, LABEL_BYTES, SEED_BYTES = 32, 16, 16
TRANSFER_BITS = 128
LOGIT_BYTES = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """One content of a session."""

    phase: Phase
    part: str
    """The stage, or empty."""
    kind: Kind
    up: bool
    """From client to server."""
    content_bytes: int
    inferences: int = 0
    """That begin with it."""

    @property
    def framed_bytes(self) -> int:
        """With the fields and prefixes of its frames."""
        whole, rest = divmod(self.content_bytes, FRAME_BYTES)
        frames = frames_of(self.content_bytes)
        last = rest or (FRAME_BYTES if whole else 0)
        sizes = [FRAME_BYTES] * (frames - 1) + [last]
        return sum(
            size + self._around(size, more=place < frames - 1, first=place == 0) for place, size in enumerate(sizes)
        )

    def _around(self, size: int, *, more: bool, first: bool) -> int:
        """Bytes around the data of one frame: what protobuf and gRPC add."""
        fields = 2 + 2 + 2 * more + 2 * (first and self.inferences > 0)  # phase, kind, more, inferences
        if self.part:
            fields += 2 + len(self.part.encode())
        if size:
            fields += 1 + _varint_bytes(size)
        return GRPC_PREFIX_BYTES + 1 + _varint_bytes(fields + size) + fields


def gazelle_contents(network: PublicNetwork, inferences: int) -> Iterator[Content]:
    """All that GAZELLE's parties send but greetings and ends of phases."""
    parameters = LatticeParameters.with_bits(network.modulus_bits)
    keys = parameters.public_bytes(len(key_steps(network, parameters)))
    yield Content(phase=Phase.SETUP, part="", kind=Kind.KEYS, up=True, content_bytes=keys)
    yield from _base_transfers(evaluator_is_client=True)
    for _ in range(inferences):
        yield from _activations(network, parameters.plain_modulus, evaluator_is_client=True)
        for number, stage in enumerate(network.stages):
            layer = packed_layer(stage, parameters)
            for up, size in ((True, layer.expected_upload_bytes), (False, layer.expected_download_bytes)):
                yield Content(
                    phase=Phase.ONLINE,
                    part=stage.name,
                    kind=Kind.CIPHERTEXT,
                    up=up,
                    content_bytes=size,
                    inferences=int(up and number == 0),
                )


def minionn_contents(network: PublicNetwork, inferences: int) -> Iterator[Content]:
    """All that MiniONN's parties send but greetings and ends of phases."""
    parameters = LatticeParameters.with_bits(network.modulus_bits)
    yield Content(phase=Phase.SETUP, part="", kind=Kind.KEYS, up=True, content_bytes=parameters.public_bytes(0))
    yield from _base_transfers(evaluator_is_client=False)
    channels, height, width = network.input_shape
    for _ in range(inferences):
        for stage in network.stages:
            layer = triplet_layer(stage, parameters)
            for up, size in ((True, layer.expected_upload_bytes), (False, layer.expected_download_bytes)):
                yield Content(phase=Phase.OFFLINE, part=stage.name, kind=Kind.CIPHERTEXT, up=up, content_bytes=size)
        yield from _activations(network, parameters.plain_modulus, evaluator_is_client=False)
        yield Content(
            phase=Phase.ONLINE,
            part=network.stages[0].name,
            kind=Kind.SHARE,
            up=True,
            content_bytes=RESIDUE_BYTES * channels * height * width,
            inferences=1,
        )
        yield Content(
            phase=Phase.ONLINE,
            part=network.stages[-1].name,
            kind=Kind.LOGITS,
            up=False,
            content_bytes=RESIDUE_BYTES * network.classes,
        )


def plain_contents(network: PublicNetwork, inferences: int) -> Iterator[Content]:
    """Pictures up, logits down."""
    channels, height, width = network.input_shape
    for _ in range(inferences):
        yield _picture(channels * height * width)
        yield _logits(network)


def morphed_contents(network: PublicNetwork, layer_bytes: int, code_bytes: Sequence[float]) -> Iterator[Content]:
    """The stem down and a layer up once, codes up and logits down for each picture.

    Args:
        network: Its form.
        layer_bytes: Of the augmented layer's numbers.
        code_bytes: Of each picture.
    """
    first = network.stages[0]
    stem = 4 * first.inputs * first.outputs * first.kernel**2
    yield Content(phase=Phase.SETUP, part="", kind=Kind.LAYER, up=False, content_bytes=stem)
    yield Content(phase=Phase.SETUP, part="", kind=Kind.LAYER, up=True, content_bytes=layer_bytes)
    for size in code_bytes:
        yield _picture(round(size))
        yield _logits(network)


def phase_bytes(contents: Iterator[Content]) -> dict[Phase, int]:
    """Framed bytes by phase, both directions."""
    sums = dict.fromkeys(Phase, 0)
    for content in contents:
        sums[content.phase] += content.framed_bytes
    return sums


EXPECTED: dict[str, Callable[[PublicNetwork, int], Iterator[Content]]] = {
    "plain": plain_contents,
    "gazelle": gazelle_contents,
    "minionn": minionn_contents,
}
"""By method, those that follow from the network alone."""


def _picture(size: int) -> Content:
    return Content(phase=Phase.ONLINE, part="", kind=Kind.PICTURE, up=True, content_bytes=size, inferences=1)


def _logits(network: PublicNetwork) -> Content:
    size = LOGIT_BYTES * network.classes
    return Content(phase=Phase.ONLINE, part="", kind=Kind.LOGITS, up=False, content_bytes=size)


def _base_transfers(*, evaluator_is_client: bool) -> Iterator[Content]:
    for up, size in ((evaluator_is_client, OFFER_BYTES), (not evaluator_is_client, ANSWER_BYTES)):
        yield Content(phase=Phase.SETUP, part="", kind=Kind.TRANSFER, up=up, content_bytes=size)


def _activations(network: PublicNetwork, modulus: int, *, evaluator_is_client: bool) -> Iterator[Content]:
    """Of one inference."""
    to_garbler, to_evaluator = evaluator_is_client, not evaluator_is_client
    bits = modulus.bit_length()
    for stage in network.stages[:-1]:
        ands = circuit_of(stage, modulus).circuit.ands
        for some in slices_of(stage.instances):
            instances = some.stop - some.start
            transfers = stage.window * bits * instances
            tables = AND_BYTES * ands * instances + SEED_BYTES + -(-bits * instances // 8)
            request = TRANSFER_BITS * -(-transfers // 8)
            for phase, kind, up, size in (
                (Phase.OFFLINE, Kind.GARBLED, to_evaluator, tables),
                (Phase.OFFLINE, Kind.TRANSFER, to_garbler, request),
                (Phase.ONLINE, Kind.LABELS, to_evaluator, LABEL_BYTES * transfers),
            ):
                yield Content(phase=phase, part=stage.name, kind=kind, up=up, content_bytes=size)
        slices = [some.stop - some.start for some in slices_of(stage.instances)]
        corrections = sum(-(-stage.window * bits * instances // 8) for instances in slices)
        yield Content(phase=Phase.ONLINE, part=stage.name, kind=Kind.TRANSFER, up=to_garbler, content_bytes=corrections)


def _varint_bytes(number: int) -> int:
    return max(1, -(-number.bit_length() // 7))
