"""The strongest reader of noisy releases: whoever has the key, or has found it, and knows what pictures look like.

Opened pictures are x + n with noise of a known distribution. The best linear estimate of x (Wiener, 1949) needs mean
and covariance of pictures, which public ones give; a network trained on public pictures under the same noise, fed with
the noisy picture and the linear estimate, is about the best that can be had of a mean square. `denoise` serves the
attack and the frontier of accuracy against recovery.

Legend: B pictures, P public pictures, C channels, H W size, V = C·H·W.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mple.attacks import layer_key
from mple.attacks.lab.adversary import ComputeNodeWithStem
from mple.attacks.lab.attack import Attack, AttackSettings, DoesNotApplyError, Figure, Finding
from mple.attacks.lab.run_views import COMPUTE_NODE_WITH_STEM
from mple.attacks.means.denoising_network import NetworkSettings, trained_network
from mple.attacks.means.opening import open_pictures, recovered_pictures
from mple.attacks.means.pixel_values import estimated_distribution
from mple.data.normalise import normalise
from mple.plan import PrivacyMode
from mple.privacy import NoiseDistribution
from mple.privacy.bands import band_numbers, from_cosines, to_cosines

_MOST_DENSE = 4096
"""Values of a picture up to which its whole covariance is used; above it, variances of cosines alone."""


def run(view: ComputeNodeWithStem, settings: AttackSettings) -> Finding:
    """Find the key, open, and take the noise off. Raises DoesNotApplyError: the run adds no noise."""
    if view.plan.privacy.mode is PrivacyMode.NONE:
        raise DoesNotApplyError("the run adds no noise; opened pictures are as good as they get")
    distribution = estimated_distribution(view.public_PCHW, view.plan)
    assert distribution is not None
    opened = layer_key.run(view, settings)
    morphed = view.sites[settings.site]
    noisy_BCHW = open_pictures(morphed.t_NKQ[: settings.pictures], opened.inverse_cores[settings.site], view.plan)
    linear_BCHW = linear_estimate(noisy_BCHW, distribution, view.public_PCHW)
    learned_BCHW = denoise(noisy_BCHW, distribution, view.public_PCHW, NetworkSettings(seed=settings.seed))
    ways = (("as opened", noisy_BCHW), ("best linear estimate", linear_BCHW), ("learned denoiser", learned_BCHW))
    return Finding(
        recovered=recovered_pictures(morphed, ways, view.plan),
        figures=(
            Figure("budget", distribution.privacy.budget_bits, "bits a picture"),
            Figure("noise, root mean square", round(distribution.deviation_px(), 1), "grey levels"),
        ),
    )


def denoise(
    noisy_BCHW: Tensor,
    distribution: NoiseDistribution,
    public_PCHW: NDArray[np.uint8],
    network: NetworkSettings | None = None,
) -> Tensor:
    """The learned estimate of pictures behind noise.

    Args:
        noisy_BCHW: Network inputs with noise, float32.
        distribution: Of the noise.
        public_PCHW: Pictures of the same kind, 32 or more; the network sees no others.
        network: How long it trains.

    Raises ValueError: there are too few public pictures.
    """
    if len(public_PCHW) < 32:
        raise ValueError(f"{len(public_PCHW)} public pictures; a denoiser needs 32 or more to learn from")
    clean_PCHW = torch.from_numpy(normalise(public_PCHW, distribution.normalisation))
    # The covariance and the network learn from different pictures: linear estimates of those that a covariance was
    # measured on are better than those of others, and the network would trust them too much.
    filtered = _LinearFilter(clean_PCHW[::2], distribution)
    trained = trained_network(clean_PCHW[1::2], distribution, filtered, network or NetworkSettings())
    with torch.no_grad():
        parts = [trained(some, filtered(some)) for some in torch.split(noisy_BCHW, 128)]
    return torch.cat(parts)


def linear_estimate(noisy_BCHW: Tensor, distribution: NoiseDistribution, public_PCHW: NDArray[np.uint8]) -> Tensor:
    """The best linear estimate by mean and covariance of public pictures, float32."""
    clean_PCHW = torch.from_numpy(normalise(public_PCHW, distribution.normalisation))
    return _LinearFilter(clean_PCHW, distribution)(noisy_BCHW)


class _LinearFilter:
    """x ↦ mean + Σ·(Σ + Σ_noise)⁻¹·(x - mean), in cosines, where the noise is diagonal."""

    def __init__(self, clean_PCHW: Tensor, distribution: NoiseDistribution) -> None:
        z_PV = _cosines(clean_PCHW)
        noise_V = torch.from_numpy(distribution.variance_K()[band_numbers(distribution.spectrum.image)].reshape(-1))
        self._mean_V = z_PV.mean(0)
        centred_PV = (z_PV - self._mean_V).double()
        variance_V = centred_PV.square().mean(0)
        if z_PV.shape[1] > _MOST_DENSE:
            self._gain_VV = None
            self._gain_V = (variance_V / (variance_V + noise_V)).float()
            return
        alone = z_PV.shape[1] / sum(z_PV.shape)  # few pictures say little about covariances, enough about variances
        covariance_VV = (1 - alone) * (centred_PV.T @ centred_PV / len(centred_PV))
        covariance_VV.diagonal().add_(alone * variance_V)
        total_VV = covariance_VV.clone()
        total_VV.diagonal().add_(noise_V)
        self._gain_VV = torch.linalg.solve(total_VV, covariance_VV).float()

    def __call__(self, x_BCHW: Tensor) -> Tensor:
        centred_BV = _cosines(x_BCHW) - self._mean_V
        kept_BV = centred_BV * self._gain_V if self._gain_VV is None else centred_BV @ self._gain_VV
        whole_BCHW = (kept_BV + self._mean_V).view(x_BCHW.shape).double().numpy()
        return torch.from_numpy(from_cosines(whole_BCHW)).float()


def _cosines(x_BCHW: Tensor) -> Tensor:
    return torch.from_numpy(to_cosines(x_BCHW.double().numpy())).float().flatten(1)


ATTACK = Attack.by(
    name="noise-removal",
    adversary=COMPUTE_NODE_WITH_STEM,
    claim="takes the noise of the hardened mode off opened pictures, as far as public pictures teach it",
    run=run,
)
