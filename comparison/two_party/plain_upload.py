"""The plain alternative: the client sends its pictures as they are, the server answers with logits.

Legend: C channels, H W size, K classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from comparison.two_party.contents import Kind, Phase
from comparison.two_party.link import Link
from comparison.two_party.plain_stages import run_stages
from comparison.two_party.public_network import PublicNetwork

if TYPE_CHECKING:
    from comparison.networks.quantised import QuantisedNetwork  # loads torch: the client does without

LOGIT_BYTES = 4


class PlainClient:
    """The client's half; see `comparison.two_party.session`."""

    def __init__(self, link: Link, network: PublicNetwork) -> None:
        self._link, self._network = link, network

    def set_up(self) -> None:
        """Nothing to do."""

    def offline(self) -> None:
        """Nothing to do."""

    def online(self, pixels_CHW: NDArray[np.uint8]) -> NDArray[np.int64]:
        """The logits (K,) of a picture."""
        self._link.send(Phase.ONLINE, "", Kind.PICTURE, pixels_CHW.tobytes(), inferences=1)
        return receive_logits(self._link, self._network)


class PlainServer:
    """The server's half; see `comparison.two_party.session`."""

    def __init__(self, link: Link, network: QuantisedNetwork, form: PublicNetwork) -> None:
        self._link, self._network, self._form = link, network, form

    def set_up(self) -> None:
        """Nothing to do."""

    def offline(self) -> None:
        """Nothing to do."""

    def online(self) -> None:
        """Answer one picture. Raises ValueError: it has another size."""
        data = self._link.receive(Phase.ONLINE, "", Kind.PICTURE)
        if len(data) != int(np.prod(self._form.input_shape)):
            raise ValueError(f"a picture of {len(data)} bytes; needs {self._form.input_shape}, one byte a value")
        pixels_CHW = np.frombuffer(data, np.uint8).reshape(self._form.input_shape)
        stages = self._network.stages
        logits = run_stages(
            self._form.stages,
            [stage.weights_OIpp for stage in stages],
            [stage.bias_O for stage in stages],
            self._form.integers_of(pixels_CHW),
        )
        send_logits(self._link, logits)


def send_logits(link: Link, logits: NDArray[np.int64]) -> None:
    """Answer with the logits of a picture."""
    link.send(Phase.ONLINE, "", Kind.LOGITS, logits.astype("<i4").tobytes())


def receive_logits(link: Link, network: PublicNetwork) -> NDArray[np.int64]:
    """The logits (K,) of a picture. Raises ValueError: another number came."""
    data = link.receive(Phase.ONLINE, "", Kind.LOGITS)
    if len(data) != LOGIT_BYTES * network.classes:
        raise ValueError(f"{len(data)} bytes of logits; needs {LOGIT_BYTES * network.classes}")
    return np.frombuffer(data, "<i4").astype(np.int64)
