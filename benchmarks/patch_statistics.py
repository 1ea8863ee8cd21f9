"""The statistics of natural patches that a whitening stem is made of, from public photographs.

    python -m benchmarks.patch_statistics

writes `mple/model/patch_statistics.json`; a test holds the file to what this gives. The photographs are two that
scikit-learn brings (a Chinese temple, a flower) and one of matplotlib's (Grace Hopper): public, and of no data set that
networks are trained on here. Each is made smaller, to some sides from 32 pixels on, for data sets hold small pictures.

Patches are taken apart by colour, row and column, each by the eigenvectors of its own covariance. Left and right, top
and bottom, rows and columns count alike, so that each eigenvector is its own mirror image or the negative of it.

Legend: N patches of a picture, C channels, p side of a patch, D directions of a side, H W size.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import sklearn
from numpy.typing import NDArray
from PIL import Image

TABLE = Path(__file__).resolve().parents[1] / "mple" / "model" / "patch_statistics.json"
_SIDES = (1, 3, 5, 7)
_SHORT_SIDES_PX = (32, 48, 64)
_DIGITS = 5


def photographs() -> list[Path]:
    """The files that the statistics are of."""
    samples = Path(sklearn.__file__).parent / "datasets" / "images"
    return [samples / "china.jpg", samples / "flower.jpg", Path(mpl.get_data_path()) / "sample_data/grace_hopper.jpg"]


def statistics(pictures: Sequence[NDArray[np.float64]]) -> dict[str, Any]:
    """What the file holds, of pictures (H, W, 3).

    `colours` (3, C) and, by side, `directions` (D, p) are orthonormal rows, the largest variance first, each beginning
    with a positive number; `variances` (3, D, D) are those of their products in patches, where a channel has 1.
    """
    patches = {side: [_patches(picture, side) for picture in pictures] for side in _SIDES}
    colours = _eigenvectors(_mean(np.einsum("ncyx,ndyx->cd", w, w) / len(w) for w in patches[1]))
    directions, variances = {}, {}
    for side in _SIDES:
        rows = _mean(np.einsum("ncyx,nczx->yz", w, w) / len(w) for w in patches[side])
        columns = _mean(np.einsum("ncyx,ncyz->xz", w, w) / len(w) for w in patches[side])
        both = rows + columns
        made = _eigenvectors(both + both[::-1, ::-1])
        sums = _mean(_variances(w, colours, made) for w in patches[side])
        directions[str(side)] = _rounded(made)
        variances[str(side)] = _rounded((sums + sums.transpose(0, 2, 1)) / 2)
    return {"colours": _rounded(colours), "directions": directions, "variances": variances}


def shrunk(photograph: Path) -> Iterator[NDArray[np.float64]]:
    """A photograph in several sizes (H, W, 3), each of mean variance 1 in a channel."""
    with Image.open(photograph) as file:
        whole = file.convert("RGB")
    for short in _SHORT_SIDES_PX:
        factor = short / min(whole.size)
        size = (round(whole.width * factor), round(whole.height * factor))
        pixels_HWC = np.asarray(whole.resize(size, Image.Resampling.BOX), np.float64)
        yield pixels_HWC / np.sqrt(pixels_HWC.var(axis=(0, 1)).mean())


def main() -> None:
    """Write the table."""
    made = statistics([picture for photograph in photographs() for picture in shrunk(photograph)])
    about = {"made_by": "python -m benchmarks.patch_statistics", "of": [path.name for path in photographs()]}
    TABLE.write_text(json.dumps({**about, **made}, indent=1) + "\n", encoding="utf-8")


def _patches(picture_HWC: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """All of a picture's patches (N, C, p, p), less their mean."""
    found = np.lib.stride_tricks.sliding_window_view(picture_HWC, (side, side), (0, 1))
    patches_NCpp = found.reshape(-1, *found.shape[2:])
    return patches_NCpp - patches_NCpp.mean(axis=0)


def _variances(
    patches_NCpp: NDArray[np.float64], colours_DC: NDArray[np.float64], directions_Dp: NDArray[np.float64]
) -> NDArray[np.float64]:
    along = patches_NCpp @ directions_Dp.T
    along = np.einsum("ncyj,iy->ncij", along, directions_Dp)
    return np.asarray(np.einsum("ncij,ac->naij", along, colours_DC).var(axis=0))


def _mean(parts: Iterator[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.mean(list(parts), axis=0)


def _eigenvectors(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """As rows, the largest eigenvalue first, each with a positive first element."""
    rows = np.linalg.eigh(covariance)[1][:, ::-1].T
    return np.asarray(rows * np.sign(rows[:, :1]))


def _rounded(values: NDArray[np.float64]) -> list[Any]:
    return list((np.round(values, _DIGITS) + 0.0).tolist())  # no -0.0


if __name__ == "__main__":
    main()
