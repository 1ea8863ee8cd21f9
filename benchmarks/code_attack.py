"""What codes of 1, 10, 100 and 1,000 pictures of one key tell an outsider with public pictures, codec by codec.

    python -m benchmarks.code_attack [--npz FILE.npz ...] [--pictures 1 10 100 1000] [--bands 3 24 48]
        [--codec k5.5] [--out results/benchmarks]

CIFAR-10, and each .npz file given (x_train, x_test). Compared are `q6`; the transform codec with its secret rotation
within bands; the same with other bands, as a study, each twice as wide as the one before; and the same without any
bands, so that a code is a plain picture's own coefficient up to its sign. Codes do not depend on the core, which
the basis takes off again: the study computes c = x·U·R, U being the site's own principal directions and R drawn anew.

Attacks are those of `mple attack`: `few-pictures`, with every number of components that it could believe in, and from
100 pictures on `ciphertext-only`; whichever came best by the truth, under the better sign, is what stands here. So
figures are an upper bound on what these attacks give, and a lower bound on what codes tell. Bits are those of packed
codes, without their basis.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.machine import RESULTS, machine
from mple.attacks.ciphertext_only import measured
from mple.attacks.ciphertext_only import opened as opened_by_moments
from mple.attacks.few_pictures import components_of, opened
from mple.attacks.means.block_moments import links_of
from mple.attacks.means.picture_prior import PicturePrior, measure_prior
from mple.attacks.means.pixel_values import to_pixels
from mple.attacks.means.rotation_fit import fit_rotations
from mple.data import Cifar10Source, open_source
from mple.data.normalise import normalise
from mple.data.settings import NormalisationSettings
from mple.morph import PRESETS, ImageShape, MorphGeometry
from mple.morph.basis import bands
from mple.morph.morpher import from_blocks, to_blocks
from mple.privacy.picture_scores import psnr, ssim
from mple.wire.codecs import codec_named
from mple.wire.coding import Coding

mpl.use("Agg")
from matplotlib import pyplot as plt

_SITE, _PUBLIC = 2000, 8000
_DRAWS = {1: 8, 10: 3}
"""How often fewer pictures are attacked, others under another key each time; otherwise once."""
_BY_MOMENTS = 100
_SHOWN = 64
_NORMALISATION = NormalisationSettings()


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One codec's figures on one set."""

    pictures_of: str
    codec: str
    bands: tuple[int, ...]
    """Widths."""
    bits_per_value: float
    ssim_by_pictures: dict[int, float]
    psnr_by_pictures: dict[int, float]
    """Of the way that had the best SSIM, in dB."""
    way_by_pictures: dict[int, str]
    ssim_of_mean_picture: float
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class _Set:
    name: str
    site_NCHW: NDArray[np.uint8]
    public_PCHW: NDArray[np.uint8]

    @property
    def image(self) -> ImageShape:
        _, channels, height, width = self.site_NCHW.shape
        return ImageShape(channels=channels, height=height, width=width)

    @property
    def grid(self) -> tuple[int, int]:
        """Tiles down and along."""
        geometry = MorphGeometry.of(PRESETS["compact"], self.image)
        return geometry.rows, geometry.columns

    def tiles(self, pixels_NCHW: NDArray[np.uint8]) -> NDArray[np.float32]:
        scheme = PRESETS["compact"]
        return to_blocks(normalise(pixels_NCHW, _NORMALISATION), scheme, MorphGeometry.of(scheme, self.image))

    def pixels(self, x_BKQ: torch.Tensor) -> NDArray[np.float32]:
        scheme = PRESETS["compact"]
        whole = from_blocks(x_BKQ.numpy(), scheme, MorphGeometry.of(scheme, self.image), self.image)
        return to_pixels(torch.from_numpy(np.ascontiguousarray(whole)), _NORMALISATION)


def main() -> None:
    """Attack and write `code_attack.json` and `code_attack.png`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--npz", nargs="*", type=Path, default=[], help="other sets of pictures")
    parser.add_argument("--pictures", nargs="*", type=int, default=[1, 10, 100, 1000])
    parser.add_argument("--bands", nargs="*", type=int, default=[3, 24, 48], help="first bands' widths, as a study")
    parser.add_argument("--codec", default="k5.5", help="the transform codec")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for one in (_cifar(), *map(_npz, options.npz)):
        for name, codec, widths_of in _cases(options.codec, options.bands):
            rows.append(_attacked(one, name, codec, widths_of, options.pictures))
            row = rows[-1]
            found = "  ".join(f"{count:,}: {value:.3f}" for count, value in row.ssim_by_pictures.items())
            print(f"{row.pictures_of} {row.codec:22} {row.bits_per_value:.2f} bits  SSIM of {found}", flush=True)
    about = {
        "command": "python -m benchmarks.code_attack" + (" --npz" * bool(options.npz)) + " FILE.npz" * len(options.npz),
        "machine": machine(),
        "public_pictures_at_most": _PUBLIC,
        "rows": [asdict(row) for row in rows],
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "code_attack.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    _plot(rows, options.out / "code_attack.png")


_WidthsOf = Callable[[NDArray[np.float64]], list[int]]
"""Of columns of these variances, falling."""


def _cases(codec: str, first_bands: Sequence[int]) -> list[tuple[str, str, _WidthsOf]]:
    wider = [
        (f"{codec}, bands of {first}, {2 * first}, ...", codec, partial(doubling, first=first)) for first in first_bands
    ]
    return [
        ("q6", "q6", lambda variance_d: [len(variance_d)]),
        *wider[::-1],
        (codec, codec, lambda variance_d: [high - low for low, high in bands(variance_d)]),
        (f"{codec}, no bands", codec, lambda variance_d: [1] * len(variance_d)),
    ]


def doubling(variance_d: NDArray[np.float64], first: int) -> list[int]:
    """Widths of bands, each twice as wide as the one before; the last one holds what is left."""
    columns, widths, width = len(variance_d), list[int](), first
    while sum(widths) + 3 * width <= columns:
        widths.append(width)
        width *= 2
    return [*widths, columns - sum(widths)]


def _attacked(one: _Set, name: str, codec: str, widths_of: _WidthsOf, counts: Sequence[int]) -> Row:
    began = time.perf_counter()
    x_NKQ, public_PKQ = one.tiles(one.site_NCHW), torch.from_numpy(one.tiles(one.public_PCHW))
    rows_RQ = x_NKQ.reshape(-1, x_NKQ.shape[2]).astype(np.float64)
    variance_Q, into_QQ = np.linalg.eigh(rows_RQ.T @ rows_RQ / len(rows_RQ))
    noise = codec_named(codec).rounding_deviation
    columns = len(variance_Q)
    if codec_named(codec).needs_coding:  # what is far below a step is left out
        columns = int((variance_Q > (noise * 12**0.5 / 6) ** 2).sum())
    widths, directions_Qd = widths_of(variance_Q[::-1][:columns]), into_QQ[:, ::-1][:, :columns]
    prior, bits = None, []
    ssims: dict[int, float] = {}
    psnrs: dict[int, float] = {}
    ways: dict[int, str] = {}
    for count in (count for count in counts if count <= len(x_NKQ)):
        by_way: dict[str, list[tuple[float, float]]] = {}
        for draw in range(_DRAWS.get(count, 1)):
            dice = np.random.default_rng([count, draw])
            numbers_N = dice.permutation(len(x_NKQ))[:count]
            c_NKd = (x_NKQ @ (directions_Qd @ _rotation(widths, dice))).astype(np.float32)
            decoded_NKd, spent = _coded(c_NKd, numbers_N, codec, one.grid)
            bits.append(spent * columns / x_NKQ.shape[2])
            c_BKQ = torch.zeros(count, *x_NKQ.shape[1:])
            c_BKQ[:, :, :columns] = torch.from_numpy(decoded_NKd)
            if prior is None:
                prior = measure_prior(public_PKQ, components=components_of(c_BKQ, widths), code_noise=noise**2)
            real_NCHW = one.site_NCHW[numbers_N[:_SHOWN]]
            for way, shown_NCHW in _ways(one, c_BKQ, public_PKQ, prior, widths, noise**2):
                by_way.setdefault(way, []).append(_better_sign(shown_NCHW, real_NCHW))
        best = max(by_way, key=lambda way: np.mean([alike for alike, _ in by_way[way]]))
        ssims[count], psnrs[count] = (float(value) for value in np.mean(by_way[best], 0))
        ways[count] = best
    mean_NCHW = np.broadcast_to(one.public_PCHW.mean(0, dtype=np.float32), one.site_NCHW[:256].shape)
    return Row(
        pictures_of=one.name,
        codec=name,
        bands=tuple(widths),
        bits_per_value=float(np.mean(bits)),
        ssim_by_pictures=ssims,
        psnr_by_pictures=psnrs,
        way_by_pictures=ways,
        ssim_of_mean_picture=float(ssim(np.ascontiguousarray(mean_NCHW), one.site_NCHW[:256]).mean()),
        seconds=round(time.perf_counter() - began, 1),
    )


def _ways(
    one: _Set, c_BKQ: torch.Tensor, public_PKQ: torch.Tensor, prior: PicturePrior, widths: Sequence[int], noise: float
) -> list[tuple[str, NDArray[np.float32]]]:
    """What attacks make of it, the first pictures."""
    found = [
        (f"{count} components", one.pixels(prior.tiles(z_BKr[:_SHOWN], count)))
        for count, z_BKr in opened(c_BKQ, prior, widths, seed=1).items()
    ]
    if len(c_BKQ) >= _BY_MOMENTS:
        scheme = PRESETS["compact"]
        links = links_of(scheme, MorphGeometry.of(scheme, one.image))
        public, morphed = measured(public_PKQ, c_BKQ, links, noise)
        turn_GRR = fit_rotations(public, morphed, links)
        found.append(("moments", one.pixels(opened_by_moments(c_BKQ[:_SHOWN], turn_GRR, public, morphed, links))))
    return found


def _better_sign(shown_NCHW: NDArray[np.float32], real_NCHW: NDArray[np.uint8]) -> tuple[float, float]:
    """SSIM and PSNR of the pictures or of their negatives."""
    either = [
        (float(ssim(shown, real_NCHW).mean()), float(psnr(shown, real_NCHW).mean()))
        for shown in (shown_NCHW, 255 - shown_NCHW)
    ]
    return max(either)


def _rotation(widths: Sequence[int], dice: np.random.Generator) -> NDArray[np.float64]:
    """Random within bands."""
    turn_dd, low = np.zeros((sum(widths), sum(widths))), 0
    for width in widths:
        turn_ww, upper_ww = np.linalg.qr(dice.standard_normal((width, width)))
        turn_dd[low : low + width, low : low + width] = turn_ww * np.sign(np.diag(upper_ww))
        low += width
    return turn_dd


def _coded(
    c_NKd: NDArray[np.float32], numbers_N: NDArray[np.int64], name: str, grid: tuple[int, int]
) -> tuple[NDArray[np.float32], float]:
    """Values as they come out of the codec, of some pictures; and bits a value of all of them, whose tiles lie so."""
    codec = codec_named(name)
    if codec.needs_coding:
        step = codec.rounding_deviation * 12**0.5
        codec = codec.fitted(Coding.fit([c_NKd.reshape(-1, c_NKd.shape[2])], step, grid=grid))
    coded = codec.encode(c_NKd)
    bits = 8 * len(codec.pack(coded)) / c_NKd.size
    return codec.decode(codec.encode(np.ascontiguousarray(c_NKd[numbers_N])), c_NKd.shape[1]), bits


def _cifar() -> _Set:
    whole = open_source(Cifar10Source())
    return _Set(
        name="CIFAR-10",
        site_NCHW=whole.train.take(np.arange(_SITE)).pixels_NCHW,
        public_PCHW=whole.test.take(np.arange(_PUBLIC)).pixels_NCHW,
    )


def _npz(path: Path) -> _Set:
    with np.load(path) as held:
        train, test = (held[f"x_{part}"] for part in ("train", "test"))
    train, test = (pixels[..., None] if pixels.ndim == 3 else pixels for pixels in (train, test))
    chosen = np.random.default_rng(1).permutation(len(train))[:_SITE]
    return _Set(
        name=path.stem,
        site_NCHW=np.ascontiguousarray(train[chosen].transpose(0, 3, 1, 2)),
        public_PCHW=np.ascontiguousarray(test[:_PUBLIC].transpose(0, 3, 1, 2)),
    )


def _plot(rows: Sequence[Row], path: Path) -> None:
    names = list(dict.fromkeys(row.pictures_of for row in rows))
    figure, axes = plt.subplots(1, len(names), figsize=(4.6 * len(names), 3.6), layout="constrained", squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        for row in (row for row in rows if row.pictures_of == name):
            style = "k--" if row.codec == "q6" else "-"
            label = f"{row.codec}: {row.bits_per_value:.2f} bits"
            axis.plot(list(row.ssim_by_pictures), list(row.ssim_by_pictures.values()), style, marker="o", label=label)
            axis.axhline(row.ssim_of_mean_picture, color="#999999", linewidth=1, linestyle=":")
        axis.set_xscale("log")
        axis.set_ylim(0, 1)
        axis.set_title(f"{name} (dotted: the mean picture)", fontsize=9)
        axis.set_xlabel("pictures of one key whose codes are known")
        axis.set_ylabel("best SSIM of an outsider")
        axis.legend(fontsize=7, loc="lower right")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
