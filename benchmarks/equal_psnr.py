"""What pictures weigh at equal PSNR: codes of morphed pictures beside files of the plain ones, set by set.

A set's basis, where the codec has one, is fitted to other pictures of the set than those that are measured, or to the
same ones where there are too few. Files hold a picture each; sheets (see `benchmarks.picture_formats`) as many as a
message of codes. Between two settings of an encoder bits are interpolated over dB.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

from benchmarks.coded_pictures import FITTED_TO, site_coding
from benchmarks.coded_pictures import measured as measured_codes
from benchmarks.fetch_pictures import MADE_SETS, fetch, pictures_file
from benchmarks.picture_formats import FORMATS, PictureFormat, measured
from mple.data import Cifar10Source, open_source
from mple.data.normalise import normalise
from mple.data.settings import NormalisationSettings

mpl.use("Agg")
from matplotlib import pyplot as plt

TARGETS_DB = (33.0, 37.0, 41.0)
_LARGE_PX = 128
_COLOURS = ("#bbbbbb", "#000000", "#4477aa", "#66ccee", "#228833", "#ccbb44", "#ee6677", "#aa3377", "#999933")


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """One setting of one codec on one set."""

    curve: int
    """Settings of one curve are interpolated between."""
    setting: str
    bits: float
    """Of a pixel value."""
    psnr_db: float | None
    """None: without any error."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Weighed:
    """A codec on a set."""

    codec: str
    points: tuple[Measured, ...]
    bits_at: tuple[float | None, ...]
    """At each of `TARGETS_DB`; None where the codec does not get there, of a lossless one always its bits."""
    basis_bytes: int = 0
    """Sent once a key, at the finest step; not in the bits."""
    missing: str = ""
    """Why it could not be measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WeighedSet:
    """All codecs on one set."""

    name: str
    pictures: int
    fitted_to: int
    shape: tuple[int, int, int]
    codecs: tuple[Weighed, ...]


def weigh(
    name: str,
    pixels_NCHW: NDArray[np.uint8],
    most: int,
    steps: Sequence[str],
    formats: Sequence[PictureFormat] = FORMATS,
) -> WeighedSet:
    """Measure formats and our codecs, `steps` from fine to coarse as one curve, on at most so many pictures, a tenth of
    them if they are large."""
    if pixels_NCHW.shape[2] > _LARGE_PX:
        most = -(-most // 10)
    taken, fitted_to = _taken(pixels_NCHW, most)
    ours = [_ours(names, fitted_to, taken) for names in (("q8", "q7", "q6", "q5", "q4"), tuple(steps)) if names]
    return WeighedSet(
        name=name,
        pictures=len(taken),
        fitted_to=len(fitted_to),
        shape=tuple(map(int, taken.shape[1:])),  # type: ignore[arg-type]
        codecs=(*ours, *(_format(one, taken) for one in formats)),
    )


def picture_sets(names: Iterable[str], mri: Path | None) -> dict[str, NDArray[np.uint8]]:
    """Pictures (N, C, H, W) by the set's name.

    Raises DataError: CIFAR-10 is not there, or a package that ships pictures can't be had.
    """
    sets: dict[str, NDArray[np.uint8]] = {}
    for name in names:
        if name == "cifar10":
            train = open_source(Cifar10Source()).train
            sets[name] = train.take(np.arange(len(train))).pixels_NCHW
        elif name == "mri64":
            if mri is None:
                raise ValueError("mri64: name its file with --mri")
            with np.load(mri) as file:
                sets[name] = _channels_first(file["x_train"])
        else:
            fetch([name])
            with np.load(pictures_file(name)) as file:
                sets[name] = _channels_first(file["x"])
    return sets


SETS = ("cifar10", "mri64", *MADE_SETS)


def bits_at(points: Sequence[Measured], target_db: float) -> float | None:
    """The least bits of a value at which a PSNR is reached, over all curves; None where none gets there."""
    found = [point.bits for point in points if point.psnr_db is None]
    for curve in {point.curve for point in points}:
        lossy = [(point.psnr_db, point.bits) for point in points if point.curve == curve and point.psnr_db is not None]
        for (low_db, low), (high_db, high) in pairwise(sorted(lossy)):
            if low_db <= target_db <= high_db:
                part = (target_db - low_db) / (high_db - low_db) if high_db > low_db else 0.0
                found.append(low + part * (high - low))
    return min(found, default=None)


def markdown(sets: Sequence[WeighedSet]) -> str:
    """Bits of a value at each of the targets, codec by codec and set by set."""
    targets = ", ".join(f"{target:g}" for target in TARGETS_DB)
    lines = [
        f"| bits a value at {targets} dB | " + " | ".join(one.name for one in sets) + " |",
        "| --- |" + " --- |" * len(sets),
    ]
    for place, of in enumerate(sets[0].codecs):
        cells = [_cell(one.codecs[place]) for one in sets]
        lines.append(f"| {of.codec} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(of: Weighed) -> str:
    if of.missing:
        return of.missing
    if len(set(of.bits_at)) == 1 and of.bits_at[0] is not None:
        return f"{of.bits_at[0]:.2f} (exact)"
    return ", ".join("-" if bits is None else f"{bits:.2f}" for bits in of.bits_at)


def _taken(pixels_NCHW: NDArray[np.uint8], most: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Those that are measured, evenly from all, and those that a basis is fitted to."""
    every = np.unique(np.linspace(0, len(pixels_NCHW) - 1, min(most, len(pixels_NCHW))).round().astype(int))
    rest = np.setdiff1d(np.arange(len(pixels_NCHW)), every)
    if len(rest) < FITTED_TO:
        rest = np.arange(len(pixels_NCHW))
    chosen = rest[np.linspace(0, len(rest) - 1, min(FITTED_TO, len(rest))).round().astype(int)]
    return pixels_NCHW[every], pixels_NCHW[chosen]


def _ours(names: Sequence[str], fitted_to: NDArray[np.uint8], taken: NDArray[np.uint8]) -> Weighed:
    points, basis_bytes = [], 0
    for name in names:
        coding = site_coding(name, normalise(fitted_to, NormalisationSettings()))
        bits, psnr_db = measured_codes(coding, taken)
        points.append(Measured(curve=0, setting=name, bits=bits, psnr_db=psnr_db))
        basis_bytes = max(basis_bytes, coding.basis_bytes)
    title = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
    return Weighed(codec=title, points=tuple(points), bits_at=_at(points), basis_bytes=basis_bytes)


def _format(of: PictureFormat, taken: NDArray[np.uint8]) -> Weighed:
    if reason := of.needs():
        return Weighed(codec=of.name, points=(), bits_at=(None,) * len(TARGETS_DB), missing=reason)
    points = []
    grey = taken.shape[1] == 1 and not of.lossless  # no colour to halve: curves are equal
    for number, curve in enumerate(of.curves[:1] if grey else of.curves):
        for setting in curve:
            bits, psnr_db = measured(of, setting, taken)
            exact = math.isinf(psnr_db)
            points.append(
                Measured(curve=number, setting=str(dict(setting)), bits=bits, psnr_db=None if exact else psnr_db)
            )
            if psnr_db < TARGETS_DB[0]:
                break
    return Weighed(codec=of.name, points=tuple(points), bits_at=_at(points))


def _at(points: Sequence[Measured]) -> tuple[float | None, ...]:
    return tuple(bits_at(points, target) for target in TARGETS_DB)


def _channels_first(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return pixels[:, None] if pixels.ndim == 3 else np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))


def plot(sets: Sequence[WeighedSet], path: Path) -> None:
    """Bits over PSNR, a panel for each set."""
    figure, panels = plt.subplots(1, len(sets), figsize=(3.2 * len(sets), 3.6), layout="constrained", squeeze=False)
    for axes, one in zip(panels[0], sets, strict=True):
        lossy = [of for of in one.codecs if any(point.psnr_db is not None for point in of.points)]
        for of, colour in zip(lossy, _COLOURS, strict=False):
            ours = not any(of.codec.startswith(form.name) for form in FORMATS)
            for curve in sorted({point.curve for point in of.points}):
                points = [point for point in of.points if point.curve == curve]
                style = {
                    "color": colour,
                    "linewidth": 2 if ours else 1,
                    "linestyle": ":" if "sheets" in of.codec else "-",
                }
                axes.plot(
                    [point.psnr_db for point in points],
                    [point.bits for point in points],
                    label=of.codec if curve == 0 else None,
                    **style,  # type: ignore[arg-type]
                )
        axes.set_title(f"{one.name}, {one.shape[1]} x {one.shape[2]}", fontsize=9)
        axes.set_xlim(30, 45)
        axes.set_ylim(
            0, max((point.bits for of in lossy for point in of.points if (point.psnr_db or 0) < 45), default=1)
        )
        axes.set_xlabel("PSNR, dB")
    panels[0][0].set_ylabel("bits a pixel value")
    figure.legend(*panels[0][0].get_legend_handles_labels(), fontsize=7, loc="outside lower center", ncols=5)
    figure.savefig(path, dpi=120)
    plt.close(figure)
