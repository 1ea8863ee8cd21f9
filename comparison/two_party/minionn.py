"""MiniONN (Liu, Juuti, Lu, Asokan, CCS 2017): shares of products made in advance, and garbled circuits.

| phase | client | server |
| --- | --- | --- |
| set-up | public key of the lattice encryption | weights encoded |
| offline, linear | draws its share of a layer's input, sends it encrypted; decrypts u | multiplies, adds a random v |
| offline, activation | garbles circuits | requests transfers, stores garbled tables |
| online, linear | nothing: its share of the result is u | weights times its share of the input, plus v and bias |
| online, activation | gives labels of the server's share | evaluates: its share of the activation |

u + v is the product of the weights with the client's share, so both shares of the result add up to the layer's. Online
the client sends what its picture differs by from the share that it drew, and gets the server's share of the logits.

Differences from the published system: products are summed over inputs within a ciphertext's slots as far as that makes
traffic least, rather than by their public code; activations are half-gates circuits with shifts within, so that the
results are those of the quantised network exactly.

Legend: C channels, H W size, O outputs, K classes.
"""

from __future__ import annotations

from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from comparison.lattice import (
    ClientLattice,
    ConvolutionShape,
    LatticeParameters,
    PreparedTriplets,
    ServerLattice,
    TripletConvolution,
)
from comparison.two_party.activations import ActivationEvaluator, ActivationGarbler
from comparison.two_party.contents import Kind, Phase
from comparison.two_party.link import Link, Sending
from comparison.two_party.plain_stages import linear_part
from comparison.two_party.public_network import PublicNetwork, StageForm, as_input, pooled_shares
from comparison.two_party.residues import centred, draw_residues, from_bytes, to_bytes
from comparison.two_party.spool import Spool

if TYPE_CHECKING:
    from comparison.networks.quantised import QuantisedNetwork  # loads torch: the client does without


def triplet_layer(stage: StageForm, parameters: LatticeParameters) -> TripletConvolution:
    """How a stage's products are laid out in ciphertexts; both parties know it."""
    shape = ConvolutionShape(inputs=stage.inputs, outputs=stage.outputs, kernel=stage.kernel, side=stage.side)
    return TripletConvolution(shape, parameters)


class MinionnClient:
    """The client's half; see `comparison.two_party.session`."""

    def __init__(self, link: Link, network: PublicNetwork) -> None:
        self._link, self._network = link, network
        self._parameters = LatticeParameters.with_bits(network.modulus_bits)
        self._modulus = self._parameters.plain_modulus
        self._layers = {stage.name: triplet_layer(stage, self._parameters) for stage in network.stages}
        self._lattice = ClientLattice(self._parameters)
        self._activations = ActivationGarbler(link, network, self._modulus)
        self._input_CHW = np.empty(0, np.int64)
        self._last_OHW = np.empty(0, np.int64)

    def set_up(self) -> None:
        """Send the public key; answer the base transfers."""
        self._link.send(Phase.SETUP, "", Kind.KEYS, self._lattice.public_bytes(()))
        self._activations.set_up()

    def offline(self) -> None:
        """Draw the shares of one inference, have their products made, garble its circuits."""
        stages, modulus = self._network.stages, self._modulus
        self._input_CHW = draw_residues(self._network.input_shape, modulus)
        masks = [draw_residues((s.outputs, s.circuit_side, s.circuit_side), modulus) for s in stages[:-1]]
        shares = [self._input_CHW]
        shares += [pooled_shares(stage, mask, modulus) for stage, mask in zip(stages[:-1], masks, strict=True)]
        products = [Future[NDArray[np.int64]]() for _ in stages]
        with Sending(self._link) as sending:
            # Two uploads ahead of each stage's circuits, so that the server multiplies while this party garbles.
            for number, (stage, share_CHW) in enumerate(zip(stages, shares, strict=True)):
                sending.begin(partial(self._upload, stage, share_CHW))
                if number:
                    before = stages[number - 1]
                    sending.begin(partial(self._garble, before, products[number - 1], masks[number - 1]))
            try:
                for number, stage in enumerate(stages):
                    products[number].set_result(self._product(stage))
                    if number:
                        self._activations.accept_requests(stages[number - 1])
            except BaseException:
                for product in products:
                    product.cancel()  # the thread must not wait for it any more
                raise
        self._last_OHW = products[-1].result()

    def online(self, pixels_CHW: NDArray[np.uint8]) -> NDArray[np.int64]:
        """The logits (K,) of a picture."""
        stages = self._network.stages
        masked_CHW = (self._network.integers_of(pixels_CHW) - self._input_CHW) % self._modulus
        self._link.send(Phase.ONLINE, stages[0].name, Kind.SHARE, to_bytes(masked_CHW), inferences=1)
        for stage in stages[:-1]:
            self._activations.give_labels(stage)
        answer = self._link.receive(Phase.ONLINE, stages[-1].name, Kind.LOGITS)
        theirs_K = from_bytes(answer, (self._network.classes,), self._modulus)
        return centred((theirs_K + self._last_OHW.reshape(-1)) % self._modulus, self._modulus)

    def _upload(self, stage: StageForm, share_CHW: NDArray[np.int64]) -> None:
        encrypted = self._layers[stage.name].encrypt(self._lattice, as_input(stage, share_CHW))
        self._link.send(Phase.OFFLINE, stage.name, Kind.CIPHERTEXT, encrypted)

    def _garble(self, stage: StageForm, product_OHW: Future[NDArray[np.int64]], mask_OHW: NDArray[np.int64]) -> None:
        self._activations.garble(stage, product_OHW.result(), mask_OHW)

    def _product(self, stage: StageForm) -> NDArray[np.int64]:
        download = self._link.receive(Phase.OFFLINE, stage.name, Kind.CIPHERTEXT)
        return self._layers[stage.name].decrypt(self._lattice, download)


class MinionnServer:
    """The server's half; see `comparison.two_party.session`."""

    def __init__(
        self, link: Link, network: QuantisedNetwork, form: PublicNetwork, spool: Spool, held_bytes: int
    ) -> None:
        """Serve a network.

        Args:
            link: To the client.
            network: The network.
            form: What the client knows of it.
            spool: For the garbled tables.
            held_bytes: Most bytes of encoded weights to hold; layers beyond are encoded anew for each inference.
        """
        self._link, self._network, self._form, self._room = link, network, form, held_bytes
        self._parameters = LatticeParameters.with_bits(form.modulus_bits)
        self._modulus = self._parameters.plain_modulus
        self._activations = ActivationEvaluator(link, form, self._modulus, spool)
        self._prepared: dict[str, PreparedTriplets] = {}
        self._products: dict[str, NDArray[np.int64]] = {}

    def set_up(self) -> None:
        """Take the client's key, begin the transfers, encode the weights."""
        lattice = ServerLattice(self._parameters, self._link.receive(Phase.SETUP, "", Kind.KEYS))
        self._activations.set_up()
        for stage, layer in zip(self._form.stages, self._network.stages, strict=True):
            triplets = triplet_layer(stage, self._parameters)
            keep = triplets.held_bytes <= self._room
            self._room -= triplets.held_bytes * keep
            self._prepared[stage.name] = triplets.prepare(lattice, layer.weights_OIpp, keep=keep)

    def offline(self) -> None:
        """Make the products with the client's shares; store its circuits."""
        stages = self._form.stages
        self._activations.begin()
        with Sending(self._link) as sending:
            for number, stage in enumerate(stages):
                upload = self._link.receive(Phase.OFFLINE, stage.name, Kind.CIPHERTEXT)
                sending.begin(partial(self._multiply, stage, upload))
                if number:
                    sending.begin(partial(self._activations.request, stages[number - 1]))
                    self._activations.store(stages[number - 1])

    def online(self) -> None:
        """Take part in one inference."""
        stages = self._form.stages
        masked = self._link.receive(Phase.ONLINE, stages[0].name, Kind.SHARE)
        share_CHW = from_bytes(masked, self._form.input_shape, self._modulus)
        for number, stage in enumerate(stages[:-1]):
            share_OHW = self._activations.evaluate(stage, self._linear(number, share_CHW))
            share_CHW = pooled_shares(stage, share_OHW, self._modulus)
        self._link.send(
            Phase.ONLINE, stages[-1].name, Kind.LOGITS, to_bytes(self._linear(len(stages) - 1, share_CHW).reshape(-1))
        )

    def _multiply(self, stage: StageForm, upload: bytes) -> None:
        download, self._products[stage.name] = self._prepared[stage.name].apply(upload)
        self._link.send(Phase.OFFLINE, stage.name, Kind.CIPHERTEXT, download)

    def _linear(self, number: int, share_CHW: NDArray[np.int64]) -> NDArray[np.int64]:
        """This party's share of a layer's result; shares are centred before, which keeps the sums exact."""
        stage = self._form.stages[number]
        layer = self._network.stages[number]
        input_CHW = centred(as_input(stage, share_CHW), self._modulus)
        sums_OHW = linear_part(layer.weights_OIpp, input_CHW) + layer.bias_O[:, None, None]
        return (sums_OHW + self._products.pop(stage.name)) % self._modulus
