"""Transform codecs beside JPEG and WebP files of the plain pictures: bits a value at equal PSNR, and time a picture.

    python -m benchmarks.transform_codec [--mri FILE] [--sets cifar10 xray28] [--pictures 500] [--out FOLDER]

Bits and PSNR are measured as in the fair table (`benchmarks.equal_psnr`), bases fitted to other pictures. Times are of
one core, the least of some rounds, for messages as large as the product makes them: coding a picture's coefficients
into bytes, and bytes into coefficients; morphing is not in them.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from benchmarks import equal_psnr
from benchmarks.coded_pictures import site_coding
from benchmarks.machine import RESULTS, machine
from benchmarks.picture_formats import FORMATS
from mple.data.normalise import normalise
from mple.data.settings import NormalisationSettings
from mple.plan import WireSettings
from mple.wire.batch import samples_per_message

T = TypeVar("T")
_BESIDE = ("JPEG", "WebP")
_STEPS = ("k6.5", "k6", "k5.5", "k5", "k4.5", "k4", "k3.5")
_TIMED = ("k6", "k5.5", "k5")
_ROUNDS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Timed:
    """Microseconds of one core for a picture."""

    codec: str
    message_pictures: int
    message_bytes: int
    encode_pack_us: float
    unpack_decode_us: float


def main() -> None:
    """Run the benchmark and write `transform_codec.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mri", type=Path, help="archive of brain MRI for the set mri64")
    parser.add_argument("--sets", nargs="*", default=["cifar10", "mri64", "xray28"], choices=equal_psnr.SETS)
    parser.add_argument("--pictures", type=int, default=500, help="most of each set that are weighed")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    names = [name for name in options.sets if name != "mri64" or options.mri]
    beside = [of for of in FORMATS if of.name in _BESIDE]
    weighed, timed = [], {}
    for name, pixels_NCHW in equal_psnr.picture_sets(names, options.mri).items():
        weighed.append(equal_psnr.weigh(name, pixels_NCHW, options.pictures, _STEPS, beside))
        timed[name] = [time_codec(codec, pixels_NCHW) for codec in _TIMED]
        for one in timed[name]:
            print(f"{name} {one.codec}: {one.encode_pack_us:.0f} us to pack, {one.unpack_decode_us:.0f} to unpack")
    print(equal_psnr.markdown(weighed))
    about = {
        "command": f"python -m benchmarks.transform_codec --sets {' '.join(names)} --pictures {options.pictures}",
        "machine": machine(),
        "targets_db": equal_psnr.TARGETS_DB,
        "equal_psnr": [asdict(one) for one in weighed],
        "times": {name: [asdict(one) for one in some] for name, some in timed.items()},
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "transform_codec.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def time_codec(codec: str, pixels_NCHW: NDArray[np.uint8], fitted_to: int = 1000) -> Timed:
    """Code one full message and read it back, a few times each."""
    x_NCHW = normalise(pixels_NCHW[: fitted_to + 1024], NormalisationSettings())
    coding = site_coding(codec, x_NCHW[:fitted_to])
    each = samples_per_message(WireSettings().message_bytes, coding.codec.planned_bytes(coding.morpher.geometry))
    c_BKd = coding.morpher.morph(x_NCHW[-each:])
    samples, blocks, columns = c_BKd.shape
    pack_s, packed = _least(lambda: coding.codec.pack(coding.codec.encode(c_BKd)))
    unpack_s, _ = _least(
        lambda: coding.codec.decode(
            coding.codec.unpack(packed, samples=samples, blocks=blocks, values=blocks * columns), blocks
        )
    )
    return Timed(
        codec=codec,
        message_pictures=samples,
        message_bytes=len(packed),
        encode_pack_us=1e6 * pack_s / samples,
        unpack_decode_us=1e6 * unpack_s / samples,
    )


def _least(body: Callable[[], T], rounds: Sequence[int] = range(_ROUNDS)) -> tuple[float, T]:
    """Least processor time of some rounds, and what the last returned."""
    found = []
    for _ in rounds:
        start = time.process_time()
        result = body()
        found.append(time.process_time() - start)
    return min(found), result


if __name__ == "__main__":
    main()
