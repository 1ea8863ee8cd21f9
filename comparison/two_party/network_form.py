"""The public form of a quantised network: what its server tells the client."""

from comparison.networks.quantised import QuantisedNetwork
from comparison.two_party.public_network import PublicNetwork, StageForm


def form_of(network: QuantisedNetwork) -> PublicNetwork:
    """Names, sizes and shifts of a network's stages, no weights."""
    shape = network.input_shape
    side, stages = shape.height, []
    for stage in network.stages:
        outputs, inputs, kernel, _ = stage.weights_OIpp.shape
        form = StageForm(
            name=stage.name,
            inputs=inputs,
            outputs=outputs,
            kernel=kernel,
            side=1 if stage.flatten else side,
            shift=stage.shift,
            pool=stage.pool,
        )
        stages.append(form)
        side = form.side_out
    return PublicNetwork(
        name=network.name,
        input_shape=(shape.channels, shape.height, shape.width),
        modulus_bits=network.modulus_bits,
        pixel_offset=network.pixel_offset,
        pixel_shift=network.pixel_shift,
        stages=tuple(stages),
    )
