"""From a site's images to coded morphed batches, on the fly; nothing morphed is kept.

Legend: B samples, C channels, H W size, K blocks, Q core side.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mple.data import Dataset, LabelledImages
from mple.data.normalise import normalise
from mple.morph import MorphKey
from mple.morph.basis import Basis
from mple.morph.morpher import ROWS, Morpher
from mple.plan import PrivacyMode, RunPlan
from mple.privacy import PictureNoise
from mple.v1 import common_pb2
from mple.wire.batch import NO_LABELS, Batch
from mple.wire.codec import Codec, EncodedSamples
from mple.wire.codecs import codec_named
from mple.wire.coding import Coding
from mple.wire.label_form import permuted_labels


class MorphedImages:
    """A site's images as the plan wants them sent.

    Guarantees: a sample's codes are the same at every release under one key; labels leave in permuted form and for the
    train split only; under a plan with noise no picture leaves without.
    """

    def __init__(
        self,
        dataset: Dataset,
        plan: RunPlan,
        site: str,
        key: MorphKey,
        label_order: NDArray[np.int64],
        key_epoch: int | None = None,
        noise: PictureNoise | None = None,
        basis: Basis | None = None,
    ) -> None:
        self._splits = {
            common_pb2.SPLIT_TRAIN: dataset.train,
            common_pb2.SPLIT_VAL: dataset.val,
            common_pb2.SPLIT_TEST: dataset.test,
        }
        self._pictures = PictureMorpher(plan, site, key, key_epoch, noise, basis)
        self._label_order = label_order

    @property
    def codec(self) -> Codec:
        """What the samples are coded with, fitted to the key."""
        return self._pictures.codec

    def batch(self, split: common_pb2.Split, samples: Sequence[int]) -> Batch:
        """Coded samples of a split, by their numbers within it, with permuted labels for the train split."""
        images: LabelledImages = self._splits[split].take(np.asarray(samples, np.int64))
        coded = self._pictures.coded(images.pixels_NCHW)
        if split != common_pb2.SPLIT_TRAIN:
            return Batch(coded, NO_LABELS)
        return Batch(coded, permuted_labels(images.labels, self._label_order))


class PictureMorpher:
    """Pictures under a plan and a site's key, whichever pictures they are."""

    def __init__(
        self,
        plan: RunPlan,
        site: str,
        key: MorphKey,
        key_epoch: int | None = None,
        noise: PictureNoise | None = None,
        basis: Basis | None = None,
    ) -> None:
        """Morph under a key.

        Args:
            plan: The run's plan.
            site: The site's name.
            key: One of its keys.
            key_epoch: The key's epoch, by default the plan's.
            noise: The site's noise, exactly where the plan asks for it.
            basis: The key's, exactly where the plan's codec needs one.

        Raises ValueError: the plan asks for noise and there is none, or other noise, or the other way round; or so with
        the basis.
        """
        if (noise is not None) != (plan.privacy.mode is PrivacyMode.NOISE):
            raise ValueError(f"privacy.mode = {plan.privacy.mode}, but the noise is {noise}")
        if noise is not None and noise.distribution.privacy != plan.privacy:
            raise ValueError(f"the plan asks for {plan.privacy}, the noise is for {noise.distribution.privacy}")
        self._noise = noise
        self._normalisation = plan.normalisation
        scheme, coding = plan.morph.scheme(), None
        if basis is not None:
            coding = Coding.from_bytes(basis.coding, cores=basis.cores, core_side=basis.core_side)
        self.codec = codec_named(plan.wire.codec).fitted(coding)
        """What pictures are coded with, fitted to the key."""
        epoch = plan.site(site).key_epoch if key_epoch is None else key_epoch
        self._morpher = Morpher(scheme, plan.image, key, session=plan.session, key_epoch=epoch, basis=basis)

    def coded(self, pixels_BCHW: NDArray[np.uint8]) -> EncodedSamples:
        """Normalise, add noise where the plan asks for it, morph and code pictures, some at a time."""
        parts = [self._coded(pixels_BCHW[low : low + ROWS]) for low in range(0, len(pixels_BCHW) or 1, ROWS)]
        if len(parts) == 1:
            return parts[0]
        return EncodedSamples(
            np.concatenate([part.codes_BV for part in parts]), np.concatenate([part.exponents_BK for part in parts])
        )

    def _coded(self, pixels_BCHW: NDArray[np.uint8]) -> EncodedSamples:
        x_BCHW = normalise(pixels_BCHW, self._normalisation)
        if self._noise is not None:
            x_BCHW = self._noise.add(x_BCHW, pixels_BCHW)
        return self.codec.encode(self._morpher.morph(x_BCHW))
