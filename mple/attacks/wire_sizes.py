"""What sizes and times of messages tell, though all contents are under TLS; and what padding would hide at what cost.

The plan is public, so how many pictures a full message holds is known, and their number follows from that of the
messages. Codes are entropy coded: a message of flat pictures is shorter than one of rich pictures. What a size follows
is the tiles' contrast under `qN`, under `kN` their detail, as of a JPEG file, and more strongly. The layer's size tells
the preset, but for a coded one, whose size tells how many directions a site's pictures have. A message padded to a
multiple of some size tells its size only up to that.

Legend: M messages with pictures, in the order in which they went.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mple.attacks.lab.adversary import SeenMessage, WireObserver
from mple.attacks.lab.attack import Attack, AttackSettings, DoesNotApplyError, Figure, Finding
from mple.attacks.lab.ground_truth import GroundTruth
from mple.attacks.lab.run_views import WIRE_OBSERVER
from mple.attacks.means.blocks import blocks_of
from mple.attacks.means.pixel_values import to_inputs
from mple.morph import PRESETS, expected_weight_shape
from mple.plan import GlobalSampler, RunPlan
from mple.plan.sample_numbering import SampleNumbering
from mple.wire.batch import samples_per_message
from mple.wire.codecs import codec_named
from mple.wire.layer_dtype import weight_bytes
from mple.wire.names import LAYER_DTYPES

PADDINGS = (4096, 65_536, 524_288)
"""Multiples of bytes that padding is reckoned for."""
_BULK_BYTES = 8192
"""Longer messages of a site carry pictures or layers, or are such of few pictures."""
_FILTERS = (8, 16, 32, 64)
_LAYER_HEADER_BYTES = 4096
_SITE, _BYTES = "site", "message_bytes_M"


def run(view: WireObserver, settings: AttackSettings) -> Finding:
    """Read one site's links. Raises DoesNotApplyError: no message of the site is long enough to carry pictures."""
    plan, compute = view.plan, view.plan.compute
    own = f"site/{settings.site}"
    sent = [one for one in view.messages if one.sender == own and one.bytes >= _BULK_BYTES]
    bulk_M = np.array([one.bytes for one in sent if one.receiver.endswith(f"/{compute}")], np.int64)
    if not len(bulk_M):
        raise DoesNotApplyError(f"no message of {settings.site} is long enough to carry pictures")
    layer = sum(one.bytes for one in sent if not one.receiver.endswith(f"/{compute}"))
    each = full_message(plan)
    ends = _segment_ends(bulk_M)
    counts = [pictures_in(bulk_M[low:high], each) for low, high in zip([0, *ends[:-1]], ends, strict=True)]
    returned = [one for one in view.messages if one.receiver == own and one.bytes >= _BULK_BYTES]
    train_M = bulk_M[: ends[0]]
    figures = [
        Figure("pictures for training", counts[0]),
        Figure("pictures for testing", sum(counts[1:])),
        Figure("rounds of answers for the test pictures", _rounds(returned)),
        Figure(
            "layers of this size", ", ".join(presets_of(layer, plan)) or "none: coded, keys in escrow, or another stem"
        ),
        Figure("bytes a picture, of the message with fewest", round(float(train_M[:-1].min(initial=10**9)) / each, 1)),
        Figure("bytes a picture, of the message with most", round(float(train_M.max()) / each, 1)),
    ]
    for multiple in PADDINGS:
        padded_M = padded(bulk_M, multiple)
        cost = padded_M.sum() / bulk_M.sum() - 1
        figures.append(Figure(f"padding to {multiple // 1024} KiB: more bytes", round(100 * float(cost), 2), "%"))
        figures.append(Figure(f"padding to {multiple // 1024} KiB: sizes left", len(np.unique(padded_M))))
    claims = {_SITE: np.array([settings.site]), _BYTES: train_M}
    return Finding(claims=claims, figures=tuple(figures))


def score(finding: Finding, truth: GroundTruth) -> Sequence[Figure]:
    """Whether a message's size follows its pictures' contrast, with and without padding; and the count of pictures."""
    site, train_M = str(finding.claims[_SITE][0]), finding.claims[_BYTES].astype(np.int64)
    plan, train = truth.plan, truth.sites[site].train
    figures = [Figure("pictures for training in truth", len(train))]
    if plan.training.ranks > 1:
        text = "not known: the compute node's ranks ask for samples in orders of their own"
        return [*figures, Figure("correlation of size and contrast", text)]
    numbers_N = _order_sent(plan, site)
    each = full_message(plan)
    full = min(len(train_M), len(numbers_N) // each)
    if full < 3:
        return [*figures, Figure("correlation of size and contrast", "too few full messages")]
    used = train.pixels_NCHW[numbers_N[: full * each]]
    blocks_NKQ = blocks_of(to_inputs(used, plan), plan)
    contrast_M = blocks_NKQ.square().mean(2).clamp(min=1e-6).log2().mean(1).view(full, each).mean(1).numpy()
    within_NKQ = blocks_NKQ - blocks_NKQ.mean(2, keepdim=True)
    detail_M = within_NKQ.square().mean(2).clamp(min=1e-4).log2().mean(1).view(full, each).mean(1).numpy()
    figures.append(Figure("correlation of size and contrast", _correlation(train_M[:full], contrast_M)))
    figures += [
        Figure(
            f"the same, padded to {multiple // 1024} KiB", _correlation(padded(train_M[:full], multiple), contrast_M)
        )
        for multiple in PADDINGS
    ]
    return [*figures, Figure("correlation of size and detail", _correlation(train_M[:full], detail_M))]


def padded(bytes_M: NDArray[np.int64], multiple: int) -> NDArray[np.int64]:
    """Sizes after padding each message to a multiple."""
    return -(-bytes_M // multiple) * multiple


def full_message(plan: RunPlan) -> int:
    """Pictures in a full message under a plan."""
    return samples_per_message(plan.wire.message_bytes, codec_named(plan.wire.codec).planned_bytes(plan.geometry))


def pictures_in(bulk_M: NDArray[np.int64], each: int) -> int:
    """Pictures in a row of messages that are full, but for the last."""
    if len(bulk_M) == 1:
        return each
    last = min(1.0, float(bulk_M[-1]) / float(np.mean(bulk_M[:-1])))
    return (len(bulk_M) - 1) * each + max(1, round(each * last))


def presets_of(layer_bytes: int, plan: RunPlan) -> list[str]:
    """Preset, filters and numbers of the layers that take so many bytes, but for a file's header."""
    found = []
    for name, scheme in PRESETS.items():
        for filters in _FILTERS:
            shape = expected_weight_shape(scheme, plan.image, filters, plan.model.kernel)
            for numbers in LAYER_DTYPES:
                if 0 <= layer_bytes - weight_bytes(shape, numbers) <= _LAYER_HEADER_BYTES:
                    found.append(f"{name}, {filters} filters, {numbers}")
    return found


def _segment_ends(bulk_M: NDArray[np.int64]) -> list[int]:
    """Where a split's messages end: after one that is much shorter than those before it."""
    usual = float(np.median(bulk_M))
    ends = [place + 1 for place, size in enumerate(bulk_M.tolist()) if size < 0.85 * usual]
    return ends if ends and ends[-1] == len(bulk_M) else [*ends, len(bulk_M)]


def _rounds(returned: Sequence[SeenMessage]) -> int:
    """Bursts of long messages to the site, by the pauses between them."""
    if not returned:
        return 0
    times = np.array([one.time_s for one in returned])
    pauses = np.diff(times)
    return 1 + int((pauses > max(0.5, 0.2 * float(pauses.max(initial=0.0)))).sum())


def _order_sent(plan: RunPlan, site: str) -> NDArray[np.int64]:
    """Numbers of a site's samples in the order of the first epoch, in which they are asked for."""
    sizes = {one.name: one.train_images for one in plan.sites}
    sampler = GlobalSampler(list(sizes.values()), plan.training.batch, plan.training.seed)
    return SampleNumbering(sizes).by_site(sampler.epoch_order(0))[site]


def _correlation(bytes_M: NDArray[np.int64], contrast_M: NDArray[np.float32]) -> float | str:
    if np.ptp(bytes_M) == 0:
        return "none: all sizes are equal"
    return round(float(np.corrcoef(bytes_M, contrast_M)[0, 1]), 3)


ATTACK = Attack.by(
    name="wire-sizes",
    adversary=WIRE_OBSERVER,
    claim="tells counts, preset and contrast of pictures from sizes and times of messages alone",
    run=run,
    score=score,
)
