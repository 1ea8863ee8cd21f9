"""A network small enough for tests of whole protocols: 8 x 8 pictures and every kind of stage, random weights."""

import numpy as np

from comparison.networks.quantised import LinearStage, Pool, QuantisedNetwork
from mple.morph import ImageShape

_MOST_BIAS = 200


def small_network(seed: int = 1, *, modulus_bits: int = 20) -> QuantisedNetwork:
    """Convolution, max pool, convolution, sum pool, dense layer: 3 x 8 x 8 pixels to 5 logits.

    Guarantees: equal seeds give equal networks; no picture leads a sum out of the residues of 20 bits.

    Args:
        seed: Of the weights.
        modulus_bits: Of t, 20 to 30.
    """
    random = np.random.Generator(np.random.PCG64(seed))

    def stage(
        name: str, shape: tuple[int, int, int, int], most: int, shift: int | None, pool: Pool = "none"
    ) -> LinearStage:
        weights = random.integers(-most, most + 1, size=shape)
        return LinearStage(
            name=name,
            weights_OIpp=weights.astype(np.int32),
            bias_O=random.integers(-_MOST_BIAS, _MOST_BIAS + 1, size=shape[0]),
            shift=shift,
            pool=pool,
            flatten=shift is None,
        )

    return QuantisedNetwork(
        name="small",
        input_shape=ImageShape(channels=3, height=8, width=8),
        # Sums are at most 27 · 7 · 128, 36 · 7 · 762 and 24 · 3 · 4 · 1501, each plus the bias.
        stages=(
            stage("conv1", (4, 3, 3, 3), 7, 5, "max"),
            stage("conv2", (6, 4, 3, 3), 7, 7, "sum"),
            stage("dense", (5, 24, 1, 1), 3, None),
        ),
        modulus_bits=modulus_bits,
    )
