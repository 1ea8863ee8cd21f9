"""Unmixing colours: pixels that an unknown matrix has mixed, unmixed by what pixels of public pictures have in common.

Both are whitened, which leaves a rotation of the C colours; of many rotations and reflections the one is taken under
which covariances of pixels with their neighbours and third moments agree best. Means tell nothing: a mixture's zero is
not known.

Legend: B pictures, C channels, H W size, N pixels, L shifts, R candidate rotations.
"""

import torch
from torch import Tensor

_SHIFTS = ((0, 1), (1, 0), (0, 3), (3, 0), (2, 2))
_CANDIDATES = 40_000
_MOST_PICTURES = 2000
_NEAR_WEIGHT = 20.0
"""Of covariances against third moments, which outliers move more."""
_SPREAD = (0.3, 0.1, 0.03, 0.01)
"""Of the random turns about the best candidate, one round after the other."""
_TURNS = 2000


def fit_colours(mixed_BCHW: Tensor, public_PCHW: Tensor) -> Tensor:
    """The pictures in the colours of public ones, x_BCHW."""
    channels = mixed_BCHW.shape[1]
    into, mean, of_mixed = _moments(mixed_BCHW)
    into_public, mean_public, of_public = _moments(public_PCHW[:_MOST_PICTURES])
    dice = torch.Generator().manual_seed(1)
    candidates = torch.linalg.qr(torch.randn(_CANDIDATES, channels, channels, generator=dice))[0]
    candidates = candidates * (torch.randint(0, 2, (_CANDIDATES, 1, channels), generator=dice) * 2.0 - 1)
    best = _nearest(candidates, of_mixed, of_public)
    for spread in _SPREAD:
        about = best + spread * torch.randn(_TURNS, channels, channels, generator=dice)
        left, _, right = torch.linalg.svd(about)
        best = _nearest(torch.cat([best[None], left @ right]), of_mixed, of_public)
    unmix = into @ best @ torch.linalg.inv(into_public)
    centred = mixed_BCHW - mean.view(1, -1, 1, 1)
    return torch.einsum("bchw,cd->bdhw", centred, unmix) + mean_public.view(1, -1, 1, 1)


def _moments(x_BCHW: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Whitening (C, C), mean colour (C), and in white coordinates neighbours' covariances (L, C, C) and third moments
    (C, C, C)."""
    pixels_NC = x_BCHW.permute(0, 2, 3, 1).flatten(0, 2).double()
    mean_C = pixels_NC.mean(0)
    centred_NC = pixels_NC - mean_C
    variance, vectors = torch.linalg.eigh(centred_NC.T @ centred_NC / len(centred_NC))
    into = vectors / variance.sqrt()
    white = torch.einsum("bchw,cd->bdhw", x_BCHW.double() - mean_C.view(1, -1, 1, 1), into)
    height, width = white.shape[2:]
    near = []
    for down, along in _SHIFTS:
        one, other = white[:, :, : height - down, : width - along], white[:, :, down:, along:]
        near.append(torch.einsum("bchw,bdhw->cd", one, other) / one[:, 0].numel())
    white_NC = white.permute(0, 2, 3, 1).flatten(0, 2)
    third = torch.einsum("na,nb,nc->abc", white_NC, white_NC, white_NC) / len(white_NC)
    return into.float(), mean_C.float(), (torch.stack(near).float(), third.float())


def _nearest(turns_RCC: Tensor, of_mixed: tuple[Tensor, Tensor], of_public: tuple[Tensor, Tensor]) -> Tensor:
    """The turn that brings the mixed pictures' moments nearest to the public ones'."""
    near, third = of_mixed
    near_public, third_public = of_public
    turned = torch.einsum("rca,lcd,rdb->rlab", turns_RCC, near, turns_RCC)
    distance_R = _NEAR_WEIGHT * (turned - near_public).square().sum((1, 2, 3))
    cubed = torch.einsum("cde,rca->rdea", third, turns_RCC)
    cubed = torch.einsum("rdea,rdb->reab", cubed, turns_RCC)
    cubed = torch.einsum("reab,rec->rabc", cubed, turns_RCC)
    distance_R += (cubed - third_public).square().sum((1, 2, 3))
    return turns_RCC[int(distance_R.argmin())]
