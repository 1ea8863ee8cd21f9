"""MpLe itself on the same network: the client morphs its pictures, the server applies an augmented layer for the first
stage and goes on in the clear.

| phase | client | server |
| --- | --- | --- |
| set-up | draws a key, builds the augmented layer from the stem, sends it | sends the stem, which is public |
| online | its picture morphed and coded | features through the augmented layer, then the other stages: logits |

The stages behind take features in the secret channel order, as a trunk that was trained under it does: whoever lays
out the comparison puts the second stage's inputs and the first one's biases in that order before the server sees them.
Codes have less precision than pixels, so that logits differ a little from the plain network's.

Legend: C channels, H W size, F filters, B pictures (one), K classes.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from comparison.two_party.contents import Kind, Phase
from comparison.two_party.link import Link
from comparison.two_party.plain_stages import activation, run_stages
from comparison.two_party.plain_upload import receive_logits, send_logits
from comparison.two_party.public_network import PublicNetwork
from mple.model.first_layer.prepared import PreparedLayer, prepare_layer
from mple.model.stem import Stem
from mple.morph import PRESETS, Arithmetic, ImageShape, MorphGeometry, MorphKey
from mple.morph.augmented import build_augmented_layer
from mple.morph.morpher import Morpher
from mple.plan import WireSettings
from mple.wire.codecs import codec_named
from mple.wire.layer_file import read_layer, write_layer

if TYPE_CHECKING:
    from comparison.networks.quantised import QuantisedNetwork  # loads torch: the client does without

_PIXELS_A_UNIT = 64
"""Pixel steps of one unit of a morphed picture's values, when normalised: its deviation is about 1 then."""
_MOST_LAYER_BYTES = 2**32
WIRE = WireSettings(codec="q6", layer="int8")
"""Codec of pictures and numbers of layers that need no site's pictures before: a single picture is asked about."""
_KEY_EPOCH = 1


def unit_of(network: PublicNetwork) -> int:
    """How many of the first stage's integers make one unit of the values that are morphed."""
    return max(1, _PIXELS_A_UNIT >> network.pixel_shift)


class MorphedClient:
    """The client's half; see `comparison.two_party.session`."""

    def __init__(self, link: Link, network: PublicNetwork, preset: str, order: NDArray[np.int64], state: Path) -> None:
        """Take part.

        Args:
            link: To the server.
            network: Its public form.
            preset: Of the morphing, `compact` or `paper` for example.
            order: The secret channel order; feature j of the layer is feature `order[j]` of the stem.
            state: Folder for the layer's file while it is sent.
        """
        self._link, self._network, self._order, self._state = link, network, order, state
        self._scheme, self._image = PRESETS[preset], image_of(network)
        self._key, self._session = MorphKey.generate(), secrets.token_bytes(16)
        self._morpher = Morpher(self._scheme, self._image, self._key, session=self._session, key_epoch=_KEY_EPOCH)
        self._codec = codec_named(WIRE.codec)

    def set_up(self) -> None:
        """Build the augmented layer and send it."""
        stem = Stem.from_safetensors(self._link.receive(Phase.SETUP, "", Kind.LAYER))
        layer = build_augmented_layer(
            self._scheme,
            self._image,
            stem.kernels_FCpp,
            self._key,
            self._order,
            session=self._session,
            key_epoch=_KEY_EPOCH,
        )
        path = self._state / "layer.safetensors"
        write_layer(layer, path, WIRE.layer)
        try:
            self._link.send(Phase.SETUP, "", Kind.LAYER, path.read_bytes())
        finally:
            path.unlink()

    def offline(self) -> None:
        """Nothing to do."""

    def online(self, pixels_CHW: NDArray[np.uint8]) -> NDArray[np.int64]:
        """The logits (K,) of a picture."""
        units_BCHW = self._network.integers_of(pixels_CHW)[None].astype(np.float32) / np.float32(unit_of(self._network))
        coded = self._codec.pack(self._codec.encode(self._morpher.morph(units_BCHW)))
        self._link.send(Phase.ONLINE, "", Kind.PICTURE, coded, inferences=1)
        return receive_logits(self._link, self._network)


class MorphedServer:
    """The server's half; see `comparison.two_party.session`."""

    def __init__(self, link: Link, network: QuantisedNetwork, form: PublicNetwork, preset: str, state: Path) -> None:
        """Serve a network whose first stage is the stem and whose further stages are in the secret order.

        Args:
            link: To the client.
            network: The network.
            form: What the client knows of it.
            preset: Of the morphing.
            state: Folder for the layer's file while it is read.
        """
        self._link, self._network, self._form, self._state = link, network, form, state
        self._scheme = PRESETS[preset]
        self._geometry = MorphGeometry.of(self._scheme, image_of(form))
        self._codec = codec_named(WIRE.codec)
        self._layer: PreparedLayer | None = None

    def set_up(self) -> None:
        """Send the stem, take the augmented layer."""
        kernels_FCpp = self._network.stages[0].weights_OIpp.astype(np.float32) * np.float32(unit_of(self._form))
        self._link.send(Phase.SETUP, "", Kind.LAYER, Stem(kernels_FCpp).to_safetensors())
        path = self._state / "layer.safetensors"
        try:
            with path.open("wb") as file:
                for piece in self._link.receive_pieces(Phase.SETUP, "", Kind.LAYER, _MOST_LAYER_BYTES):
                    file.write(piece)
            first = self._form.stages[0]
            layer = read_layer(
                path,
                scheme=self._scheme,
                image=image_of(self._form),
                filters=first.outputs,
                kernel=first.kernel,
                numbers=WIRE.layer,
            )
        finally:
            path.unlink(missing_ok=True)
        self._layer = prepare_layer(layer, Arithmetic.F32)

    def offline(self) -> None:
        """Nothing to do."""

    def online(self) -> None:
        """Answer one picture. Raises ValueError: its bytes are no code of a picture."""
        if self._layer is None:
            raise ValueError("no augmented layer yet; call set_up first")
        packed = self._link.receive(Phase.ONLINE, "", Kind.PICTURE)
        coded = self._codec.unpack(
            packed, samples=1, blocks=self._geometry.blocks, values=self._geometry.morphed_elements
        )
        t_BKQ = torch.from_numpy(self._codec.decode(coded, self._geometry.blocks))
        features_FHW = self._layer.apply(t_BKQ)[0].numpy()
        (first, *forms), (stem, *stages) = self._form.stages, self._network.stages
        sums_FHW = np.rint(features_FHW).astype(np.int64) + stem.bias_O[:, None, None]
        weights, biases = [stage.weights_OIpp for stage in stages], [stage.bias_O for stage in stages]
        send_logits(self._link, run_stages(forms, weights, biases, activation(first, sums_FHW)))


def image_of(network: PublicNetwork) -> ImageShape:
    """The pictures' shape."""
    channels, height, width = network.input_shape
    return ImageShape(channels=channels, height=height, width=width)
