"""A delivered network beside the run that made it: 10,000 plain pictures in environments that have nothing of mple.

    python -m benchmarks.delivered_network [--train 6000] [--epochs 4] [--whole 1500] [--large 48] [--runs DIR]

CIFAR-10 over three sites: a narrow network with everything in float32, the same with the settings' defaults, and one
of VGG-16's own width for one epoch; then, on a few pictures of 224 pixels in colour and in grey, short runs whose first
weights are the convolutions which that one has delivered. Each leaves its compute node with all test pictures in
morphed form, and each site with the network. The trunk's classes of the morphed pictures, worked out of the compute
node's state folder as it scores, stand beside those that site north's files give of the plain ones: by torchvision's
module (of width 1) and by plain torch, in an environment of torch, torchvision and safetensors; by onnxruntime, in one
of onnxruntime and numpy. The lines that load them are those of the delivered card, as they stand.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.machine import RESULTS, machine
from benchmarks.pictures import upscaled_cifar
from benchmarks.whole_runs import scratch
from comparison.elsewhere.environment import Requirements, ensure_environment
from compute_node.feeding.sample_cache import SampleCache
from compute_node.layers.restore import listed_layers
from compute_node.training.features import features
from mple.data import Cifar10Source, Partition, PartitionKind, open_source
from mple.delivered.folder import WEIGHTS, DeliveredNetwork
from mple.model.weights import build_trunk, load_trunk
from mple.plan import ModelSettings, RunPlan, TrainingSettings, WeightsFrom, WireSettings
from mple.plan.orders import label_order
from mple.records.cache_records import CacheShape
from mple.records.run_folder import COMPUTE, SUMMARY, RunFolder
from mple.records.state_files import CACHE, DELIVERED, LAYERS, MODEL
from mple.simulate.runner import simulate
from mple.simulate.settings import SimulationSettings
from mple.terminal import wide_console
from mple.v1 import common_pb2
from mple.wire.codecs import codec_named

_SITES = ("north", "east", "south")
_AT_ONCE = 250
_TORCH = Requirements(
    name="torchvision", steps=(("torch==2.14.1", "torchvision==0.29.1", "safetensors==0.8.0", "numpy==2.4.6"),)
)
_ONNX = Requirements(name="onnxruntime", steps=(("onnxruntime==1.32.0", "numpy==2.4.6"),))
_SCRIPT = """\
import importlib.util
import numpy as np
assert not [name for name in {absent} if importlib.util.find_spec(name)]
{load}
answers = []
for part in np.array_split(np.load("pixels.npy"), 40):
{use}
np.save("answers.npy", np.concatenate(answers))
"""


def main() -> None:
    """Make the runs and write `delivered_network.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=int, default=6000, help="training pictures of the narrow runs")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--whole", type=int, default=1500, help="training pictures of the run of width 1")
    parser.add_argument("--large", type=int, default=48, help="pictures of 224 pixels, a sixth of them for testing")
    parser.add_argument("--asked", type=int, help="pictures that networks of width 1 are asked about; by default all")
    parser.add_argument("--runs", type=Path, help="folder to keep the runs in; what is there is not made anew")
    parser.add_argument("--out", type=Path, default=RESULTS.parent)
    options = parser.parse_args()
    rows = []
    with scratch(options.runs, "delivered") as folder:
        environments = {one.name: ensure_environment(one, folder / "environments").python for one in (_TORCH, _ONNX)}
        for name, settings in _runs(options, folder):
            if not (folder / name / SUMMARY).exists():
                assert simulate(settings, folder / name, wide_console(), plain=True) is not None
            row = folder / f"{name}.json"
            if not row.exists():
                most = options.asked if settings.model.width == 1 else None
                found = _compared(RunFolder.finished(folder / name), settings, environments, most)
                row.write_text(json.dumps({"run": name, **found}, indent=1), encoding="utf-8")
            rows.append(json.loads(row.read_text(encoding="utf-8")))
    options.out.mkdir(parents=True, exist_ok=True)
    given = {name: getattr(options, name) for name in ("train", "epochs", "whole", "large", "asked")}
    figures = " ".join(f"--{name} {value}" for name, value in given.items() if value is not None)
    about = {"command": f"python -m benchmarks.delivered_network {figures}", "machine": machine(), "runs": rows}
    (options.out / "delivered_network.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def _runs(options: argparse.Namespace, folder: Path) -> Iterator[tuple[str, SimulationSettings]]:
    narrow = SimulationSettings(
        sites=_SITES,
        data=_cifar(options.train),
        wire=WireSettings(codec="f32", layer="f32"),
        model=ModelSettings(width=0.25),
        training=TrainingSettings(epochs=options.epochs, batch=64),
    )
    yield "narrow-exact", narrow
    yield "narrow-defaults", replace(narrow, wire=WireSettings())
    short = replace(narrow.training, epochs=1, peak_lr=0.02)
    whole = replace(narrow, data=_cifar(options.whole), model=ModelSettings(), training=short)
    yield "whole-exact", whole
    weights = RunFolder(folder / "whole-exact").state(_SITES[0]) / DELIVERED / WEIGHTS
    for name, channels in (("colour-224", 3), ("grey-224", 1)):
        yield name, _large(whole, folder / f"{name}.npz", weights, channels, options.large)


def _cifar(train: int) -> Cifar10Source:
    """Training pictures, so many over all sites, and all test pictures."""
    return Cifar10Source(partition=Partition(kind=PartitionKind.IID), most_train=train // len(_SITES))


def _large(like: SimulationSettings, path: Path, weights: Path, channels: int, images: int) -> SimulationSettings:
    """A short run on few pictures of 224 pixels; its first weights are convolutions that the first run delivered."""
    data = upscaled_cifar(224, images, path)
    if channels == 1:
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
        for name in ("x_train", "x_test"):
            arrays[name] = arrays[name].mean(axis=-1).astype(np.uint8)
        np.savez(path, **arrays)
    return replace(
        like,
        data=replace(data, classes=tuple(map(str, range(10)))),
        model=replace(like.model, weights=WeightsFrom.FEATURES),
        weights_file=weights,
        training=replace(like.training, batch=12, peak_lr=0.001),
    )


def _compared(
    run: RunFolder, settings: SimulationSettings, environments: dict[str, Path], most: int | None
) -> dict[str, Any]:
    plan = run.plan()
    tests = [open_source(settings.site_source(place)).test for place in range(len(_SITES))]
    pixels = np.concatenate([test.pixels_NCHW for test in tests])
    labels = np.concatenate([test.labels for test in tests])
    asked = np.unique(np.linspace(0, len(pixels) - 1, min(len(pixels), most or len(pixels))).astype(np.int64))
    pixels, labels = pixels[asked], labels[asked]
    morphed = _morphed_answers(run, plan, asked)
    network = DeliveredNetwork.at(run.state(_SITES[0]))
    by_torchvision, by_torch, use, by_onnx = _lines(network)
    torch_part = "pixels = torch.from_numpy(part)\nwith torch.no_grad():\n" + _indented(use)
    ways: dict[str, Callable[[], NDArray[np.float32]]] = {
        name: lambda load=load, use=use, of=of, absent=absent: _asked(  # type: ignore[misc]
            environments[of], network.folder, pixels, load=load, use=use, absent=absent
        )
        for name, load, use, of, absent in (
            ("torchvision", by_torchvision, torch_part + "answers.append(logits.numpy())", "torchvision", ["mple"]),
            ("torch", by_torch, torch_part + "answers.append(logits.numpy())", "torchvision", ["mple"]),
            (
                "onnxruntime",
                "",
                f"pixels = part\n{by_onnx}answers.append(logits)",
                "onnxruntime",
                ["mple", "torch", "safetensors", "onnx"],
            ),
        )
        if load or name == "onnxruntime"
    }
    margin = np.diff(np.sort(morphed, axis=1)[:, -2:], axis=1)[:, 0]
    found: dict[str, Any] = {
        "pictures": len(pixels),
        "accuracy_of_morphed": float(np.mean(morphed.argmax(axis=1) == labels)),
        "check": network.record.check.text(),
    }
    for name, ask in ways.items():
        answers = ask()
        other = answers.argmax(axis=1) != morphed.argmax(axis=1)
        found[name] = {
            "other_classes": int(other.sum()),
            "largest_margin_of_those": float(margin[other].max(initial=0.0)),
            "largest_difference": float(np.abs(answers - morphed).max()),
            "accuracy": float(np.mean(answers.argmax(axis=1) == labels)),
        }
    return found


@torch.no_grad()
def _morphed_answers(run: RunFolder, plan: RunPlan, asked: NDArray[np.int64]) -> NDArray[np.float32]:
    """The trunk's logits of test pictures as they came, by their numbers over all sites; classes in plain order."""
    state = run.state(COMPUTE)
    bank, codec = listed_layers(state / LAYERS, plan), codec_named(plan.wire.codec)
    trunk = build_trunk(plan.model, len(plan.classes), plan.training.seed)
    load_trunk(trunk, state / MODEL)
    trunk.eval()
    cache = SampleCache(state / CACHE.format(plan.run_id), CacheShape.of(plan), run.cache_secret(0))
    parts = []
    for low in range(0, len(asked), _AT_ONCE):
        found = cache.read(common_pb2.SPLIT_TEST, asked[low : low + _AT_ONCE])
        t_BKQ = torch.from_numpy(codec.decode(found.coded, plan.geometry.blocks))
        parts.append(trunk(features(t_BKQ, found.keys_B, bank.layers).float()).numpy())
    permuted = np.concatenate(parts)
    plain = np.empty_like(permuted)
    plain[:, label_order(plan, run.vault(_SITES[0]).consortium_secret(plan.run_id))] = permuted
    return plain


def _lines(network: DeliveredNetwork) -> tuple[str, str, str, str]:
    """The card's blocks of Python: loading by torchvision, empty for narrow networks, and by torch; asking either;
    onnxruntime."""
    blocks = re.findall(r"```python\n(.*?)```", network.card(), re.DOTALL)
    first = [""] if len(blocks) == 3 else []
    by_torchvision, by_torch, use, by_onnx = [*first, *blocks]
    return by_torchvision, by_torch, use, by_onnx


def _asked(
    python: Path, folder: Path, pixels: NDArray[np.uint8], *, load: str, use: str, absent: list[str]
) -> NDArray[np.float32]:
    """What a program in another environment says of the pictures; it lies beside the network's files."""
    np.save(folder / "pixels.npy", pixels)
    script = _SCRIPT.format(absent=absent, load=load, use=_indented(use))
    subprocess.run([str(python), "-I", "-c", script], cwd=folder, check=True)
    answers: NDArray[np.float32] = np.load(folder / "answers.npy")
    for name in ("pixels.npy", "answers.npy"):
        (folder / name).unlink()
    return answers


def _indented(lines: str) -> str:
    return "".join(f"    {line}\n" for line in lines.splitlines())


if __name__ == "__main__":
    main()
