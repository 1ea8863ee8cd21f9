"""GAZELLE (Juvekar, Vaikuntanathan, Chandrakasan, USENIX Security 2018): packed encryption and garbled circuits.

| phase | client | server |
| --- | --- | --- |
| set-up | sends keys of the lattice encryption, rotation keys among them | encodes its weights |
| offline | requests transfers, stores garbled tables | draws masks, garbles circuits |
| online, linear | encrypts its share; decrypts its share of the result | adds its own, applies the layer, masks |
| online, activation | evaluates the circuits: its share of the activation | gives labels of the client's share |

The server's share of a linear result is the mask that it has drawn, and its share of an activation is another. The last
layer has no mask: what the client decrypts are the logits.

Differences from the published system: the lattice has degree 4096 where theirs has 2048 and an own modulus; the labels
of the server's share are sent offline, within the garbled message, as that share is known then; shifts within the
circuit make the results those of the quantised network exactly.

Legend: C channels, H W size, O outputs, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from comparison.lattice import (
    ClientLattice,
    ConvolutionShape,
    LatticeParameters,
    PackedConvolution,
    PackedProduct,
    PreparedConvolution,
    PreparedProduct,
    ServerLattice,
)
from comparison.two_party.activations import ActivationEvaluator, ActivationGarbler
from comparison.two_party.contents import Kind, Phase
from comparison.two_party.link import Link, Sending
from comparison.two_party.public_network import PublicNetwork, StageForm, as_input, pooled_shares
from comparison.two_party.residues import centred, draw_residues
from comparison.two_party.spool import Spool

if TYPE_CHECKING:
    from comparison.networks.quantised import QuantisedNetwork  # loads torch: the client does without

Packed: TypeAlias = PackedConvolution | PackedProduct


def packed_layer(stage: StageForm, parameters: LatticeParameters) -> Packed:
    """How a stage's linear part is laid out in ciphertexts; both parties know it."""
    if stage.side == 1 and stage.kernel == 1:
        return PackedProduct(stage.inputs, stage.outputs, parameters)
    shape = ConvolutionShape(inputs=stage.inputs, outputs=stage.outputs, kernel=stage.kernel, side=stage.side)
    return PackedConvolution(shape, parameters)


def key_steps(network: PublicNetwork, parameters: LatticeParameters) -> frozenset[int]:
    """Rotations that the network's layers need keys for."""
    return frozenset().union(*(packed_layer(stage, parameters).key_steps for stage in network.stages))


class GazelleClient:
    """The client's half; see `comparison.two_party.session`."""

    def __init__(self, link: Link, network: PublicNetwork, spool: Spool) -> None:
        self._link, self._network = link, network
        self._parameters = LatticeParameters.with_bits(network.modulus_bits)
        self._modulus = self._parameters.plain_modulus
        self._layers = {stage.name: packed_layer(stage, self._parameters) for stage in network.stages}
        self._lattice = ClientLattice(self._parameters)
        self._activations = ActivationEvaluator(link, network, self._modulus, spool)

    def set_up(self) -> None:
        """Send the keys; begin the transfers."""
        keys = self._lattice.public_bytes(key_steps(self._network, self._parameters))
        self._link.send(Phase.SETUP, "", Kind.KEYS, keys)
        self._activations.set_up()

    def offline(self) -> None:
        """Get the circuits of one inference."""
        stages = self._network.stages[:-1]
        self._activations.begin()
        with Sending(self._link) as sending:
            for stage in stages:
                sending.begin(partial(self._activations.request, stage))
            for stage in stages:
                self._activations.store(stage)

    def online(self, pixels_CHW: NDArray[np.uint8]) -> NDArray[np.int64]:
        """The logits (K,) of a picture."""
        share_CHW = self._network.integers_of(pixels_CHW) % self._modulus
        begun = 1  # by the first ciphertexts
        for stage in self._network.stages[:-1]:
            share_OHW = self._activations.evaluate(stage, self._linear(stage, share_CHW, begun))
            share_CHW, begun = pooled_shares(stage, share_OHW, self._modulus), 0
        last = self._network.stages[-1]
        return centred(self._linear(last, share_CHW, begun), self._modulus).reshape(-1)

    def _linear(self, stage: StageForm, share_CHW: NDArray[np.int64], begun: int) -> NDArray[np.int64]:
        layer, share = self._layers[stage.name], as_input(stage, share_CHW)
        if isinstance(layer, PackedProduct):
            share = share.reshape(-1)
        upload = layer.encrypt(self._lattice, share)
        self._link.send(Phase.ONLINE, stage.name, Kind.CIPHERTEXT, upload, inferences=begun)
        result = layer.decrypt(self._lattice, self._link.receive(Phase.ONLINE, stage.name, Kind.CIPHERTEXT))
        return result.reshape(stage.outputs, stage.side, stage.side)


@dataclass(frozen=True, slots=True)
class _Masks:
    """What the server draws for a stage of one inference."""

    linear_OHW: NDArray[np.int64]
    activation_OHW: NDArray[np.int64]


class GazelleServer:
    """The server's half; see `comparison.two_party.session`."""

    def __init__(self, link: Link, network: QuantisedNetwork, form: PublicNetwork, held_bytes: int) -> None:
        """Serve a network.

        Args:
            link: To the client.
            network: The network.
            form: What the client knows of it.
            held_bytes: Most bytes of encoded weights to hold; layers beyond are encoded anew for each inference.
        """
        self._link, self._network, self._form, self._room = link, network, form, held_bytes
        self._parameters = LatticeParameters.with_bits(form.modulus_bits)
        self._modulus = self._parameters.plain_modulus
        self._activations = ActivationGarbler(link, form, self._modulus)
        self._prepared: dict[str, PreparedConvolution | PreparedProduct] = {}
        self._biases = {stage.name: layer.bias_O for stage, layer in zip(form.stages, network.stages, strict=True)}
        self._masks: dict[str, _Masks] = {}

    def set_up(self) -> None:
        """Take the client's keys and encode the weights."""
        keys = self._link.receive(Phase.SETUP, "", Kind.KEYS)
        lattice = ServerLattice(self._parameters, keys)
        self._activations.set_up()
        for stage, layer in zip(self._form.stages, self._network.stages, strict=True):
            self._prepared[stage.name] = self._encoded(lattice, stage, layer.weights_OIpp)

    def offline(self) -> None:
        """Draw the masks of one inference and garble its circuits."""
        stages, activations = self._form.stages[:-1], self._activations
        with Sending(self._link) as sending:
            for stage in stages:
                side, after = stage.side, stage.circuit_side
                masks = _Masks(
                    draw_residues((stage.outputs, side, side), self._modulus),
                    draw_residues((stage.outputs, after, after), self._modulus),
                )
                self._masks[stage.name] = masks
                sending.begin(partial(activations.garble, stage, masks.linear_OHW, masks.activation_OHW))
            for stage in stages:
                activations.accept_requests(stage)

    def online(self) -> None:
        """Take part in one inference."""
        share_CHW: NDArray[np.int64] | None = None
        for stage in self._form.stages[:-1]:
            masks = self._masks.pop(stage.name)
            self._linear(stage, share_CHW, masks.linear_OHW)
            self._activations.give_labels(stage)
            share_CHW = pooled_shares(stage, masks.activation_OHW, self._modulus)
        last = self._form.stages[-1]
        self._linear(last, share_CHW, np.zeros((last.outputs, last.side, last.side), np.int64))

    def _encoded(
        self, lattice: ServerLattice, stage: StageForm, weights_OIpp: NDArray[np.int32]
    ) -> PreparedConvolution | PreparedProduct:
        layer = packed_layer(stage, self._parameters)
        keep = layer.held_bytes <= self._room
        self._room -= layer.held_bytes * keep
        if isinstance(layer, PackedProduct):
            return layer.prepare(lattice, weights_OIpp[:, :, 0, 0], keep=keep)
        return layer.prepare(lattice, weights_OIpp, keep=keep)

    def _linear(self, stage: StageForm, share_CHW: NDArray[np.int64] | None, mask_OHW: NDArray[np.int64]) -> None:
        upload = self._link.receive(Phase.ONLINE, stage.name, Kind.CIPHERTEXT)
        prepared, bias_O = self._prepared[stage.name], self._biases[stage.name]
        share = None if share_CHW is None else as_input(stage, share_CHW)
        if isinstance(prepared, PreparedProduct):
            flat = None if share is None else share.reshape(-1)
            download = prepared.apply(upload, flat, bias_O, mask_OHW.reshape(-1))
        else:
            download = prepared.apply(upload, share, bias_O, mask_OHW)
        self._link.send(Phase.ONLINE, stage.name, Kind.CIPHERTEXT, download)
