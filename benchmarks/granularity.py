"""One step for all pictures, or steps fitted to each picture or block: bits a value at equal squared error.

    python -m benchmarks.granularity [--images 2000] [--out results/benchmarks]

Real pictures of CIFAR-10, `compact` cores. For each N the squared error is that of `qN`; the other choices get steps
that make the same error, found by bisection. All are coded block by block under the same Gaussian models;
scales that travel cost 16 bits each.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.machine import RESULTS, machine
from mple.data import Cifar10Source, open_source
from mple.data.normalise import normalise
from mple.data.settings import NormalisationSettings
from mple.morph import PRESETS, MorphKey
from mple.morph.morpher import Morpher

mpl.use("Agg")
from matplotlib import pyplot as plt

_SCALE_BITS = 16
_Steps = NDArray[np.float64]


def main() -> None:
    """Run the benchmark and write `granularity.json` and `granularity.png`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    train = open_source(Cifar10Source(most_train=options.images, most_test=1)).train
    pictures = train.take(np.arange(options.images))
    morpher = Morpher(PRESETS["compact"], train.shape, MorphKey.generate(), session=b"granularity", key_epoch=1)
    t_BKQ = morpher.morph(normalise(pictures.pixels_NCHW, NormalisationSettings())).astype(np.float64)
    choices: dict[str, tuple[_Steps, float]] = {
        "one step": (np.ones((1, 1, 1)), 0.0),
        "peak of a picture": (np.abs(t_BKQ).max((1, 2), keepdims=True), _SCALE_BITS / t_BKQ[0].size),
        "peak of a block": (np.abs(t_BKQ).max(2, keepdims=True), _SCALE_BITS / t_BKQ.shape[2]),
        "root mean square of a block": (np.sqrt((t_BKQ**2).mean(2, keepdims=True)), _SCALE_BITS / t_BKQ.shape[2]),
    }
    rows = []
    for bits in (8, 7, 6, 5, 4):
        error = _squared_error(t_BKQ, np.full((1, 1, 1), 2.0 ** (3 - bits)))
        found = {}
        for name, (scale, side_bits) in choices.items():
            step = _bisected(lambda factor, scale=scale: _squared_error(t_BKQ, scale * factor), error)
            found[name] = side_bits + _code_bits(t_BKQ, scale * step)
        rows.append({"codec": f"q{bits}", "squared_error": error, "bits_per_value": found})
        print(f"q{bits}: " + ", ".join(f"{name} {value:.3f}" for name, value in found.items()))
    about = {
        "command": f"python -m benchmarks.granularity --images {options.images}",
        "machine": machine(),
        "rows": rows,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "granularity.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    figure, axis = plt.subplots(figsize=(6.4, 3.0), layout="constrained")
    for place, name in enumerate(choices):
        more = [row["bits_per_value"][name] - row["bits_per_value"]["one step"] for row in rows]
        axis.bar(np.arange(len(rows)) + 0.2 * place, more, 0.2, label=name)
    axis.set_xticks(np.arange(len(rows)) + 0.3, [row["codec"] for row in rows])
    axis.set_ylabel("bits a value more\nthan with one step")
    axis.legend(fontsize=8)
    figure.savefig(options.out / "granularity.png", dpi=120)


def _squared_error(t_BKQ: NDArray[np.float64], step: _Steps) -> float:
    return float(((np.round(t_BKQ / step) * step - t_BKQ) ** 2).mean())


def _bisected(error_of: Callable[[float], float], wanted: float) -> float:
    low, high = 1e-6, 4.0
    for _ in range(40):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if error_of(middle) < wanted else (low, middle)
    return low


def _code_bits(t_BKQ: NDArray[np.float64], step: _Steps) -> float:
    """Mean cost of the codes under Gaussians a factor 2^(1/4) apart, one chosen for each block by its mean square."""
    codes_BKQ = torch.from_numpy(np.round(t_BKQ / step))
    mean_square_BK1 = (codes_BKQ.square().mean(2, keepdim=True) - 1 / 12).clamp_(min=2.0**-6)
    scaled = torch.exp2((2 * torch.log2(mean_square_BK1)).round() / 4) * 2**0.5
    mass_BKQ = 0.5 * (torch.erf((codes_BKQ + 0.5) / scaled) - torch.erf((codes_BKQ - 0.5) / scaled))
    return float(-torch.log2(mass_BKQ.clamp_(min=2.0**-22)).mean())


if __name__ == "__main__":
    main()
