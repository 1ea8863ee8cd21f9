"""`mple compare`: every way to an inference on one network, measured alike.

Private inference takes minutes for a large network, and its parties' ledgers are kept: the folder holds them all.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from mple.data import Cifar10Source, default_data_folder, open_source
from mple.exit_codes import ExitCode
from mple.extras import require_extra
from mple.node.ending import say_fault
from mple.report.tables import say
from mple.terminal import echo, wide_console

if TYPE_CHECKING:
    from comparison.compare import Comparison, Pictures
    from comparison.networks import QuantisedNetwork

NETWORKS = ("minionn", "vgg16", "small")
_CALIBRATION_PICTURES = 2_000
_RANDOM_PICTURES = 200


def compare_methods(
    out: Annotated[Path, typer.Option("--out", help="New folder for ledgers, figures and tables.")],
    network: Annotated[
        str, typer.Option(help="minionn, vgg16 or small, or a file of a quantised network (safetensors).")
    ] = "minionn",
    inferences: Annotated[int, typer.Option(help="Pictures that each method infers.")] = 1,
    rows: Annotated[
        str, typer.Option(help="Methods, separated by commas; by default all, CHEETAH from elsewhere included.")
    ] = "",
    run: Annotated[
        Path | None, typer.Option(help="Folder of a finished simulation, to make vgg16 from where it is not yet made.")
    ] = None,
    accuracy_pictures: Annotated[
        int, typer.Option(help="Test pictures that accuracies are measured on, at most.")
    ] = 10_000,
) -> int:
    """Run plain upload, MpLe, GAZELLE, MiniONN and CHEETAH on one network: bytes, seconds, memory, accuracy."""
    require_extra("mple compare", "compare", "torch", "seal")
    from comparison.compare import ROWS, compare
    from comparison.two_processes import ComparisonError
    from mple.records.run_folder import new_folder

    chosen = tuple(name.strip() for name in rows.split(",") if name.strip()) or ROWS
    quantised = quantised_network(network, run)
    pictures = _pictures(quantised, max(accuracy_pictures, inferences))
    new_folder(out)
    console = wide_console()
    try:
        comparison = compare(
            quantised,
            pictures,
            out,
            rows=chosen,
            inferences=inferences,
            accuracy_pictures=accuracy_pictures,
            say=lambda text: say(console, text),
        )
    except ComparisonError as fault:
        say_fault("mple", fault)
        return int(ExitCode.RUN_FAILED)
    _leave(comparison, out)
    return int(ExitCode.DONE)


def quantised_network(name: str, run: Path | None) -> QuantisedNetwork:
    """A network by its name or file; what is not there yet is made, once, and kept with the data sets.

    Raises ValueError: there is no such network, and none can be made.
    """
    from comparison.networks import QuantisedNetwork, small_network

    if name == "small":
        return small_network()
    if name not in NETWORKS:
        path = Path(name)
        if not path.is_file():
            raise ValueError(f"network {name!r} is no file; choose one of {', '.join(NETWORKS)}, or name a file")
        return QuantisedNetwork.load(path)
    kept = default_data_folder() / "networks" / f"{name}.safetensors"
    if not kept.is_file():
        made = _made_minionn() if name == "minionn" else _made_vgg16(run)
        kept.parent.mkdir(parents=True, exist_ok=True)
        made.save(kept)
        echo(f"{kept} holds the network from now on")
    return QuantisedNetwork.load(kept)


def _made_minionn() -> QuantisedNetwork:
    from comparison.networks import folded_minionn, quantise, train_minionn

    echo("training MiniONN's network on CIFAR-10: about ten minutes on two cores")
    data = open_source(Cifar10Source())
    outcome = train_minionn(
        data,
        on_epoch=lambda epoch: echo(
            f"epoch {epoch.epoch}: loss {epoch.loss:.4f}, test accuracy {epoch.test_accuracy:.4f}"
        ),
    )
    return quantise(folded_minionn(outcome.network), data.train.pixels_NCHW[:_CALIBRATION_PICTURES])


def _made_vgg16(run: Path | None) -> QuantisedNetwork:
    from comparison.networks import quantise, vgg16_of_run

    if run is None:
        raise ValueError("vgg16 is not made yet; name the folder of a finished simulation on CIFAR-10 with --run")
    data = open_source(Cifar10Source(most_test=1))
    return quantise(vgg16_of_run(run), data.train.pixels_NCHW[:_CALIBRATION_PICTURES])


def _pictures(network: QuantisedNetwork, most: int) -> Pictures:
    """Test pictures of CIFAR-10. The small network, whose weights are random, gets random ones and its own labels."""
    from comparison.compare import Pictures

    if network.name == "small":
        shape = (min(most, _RANDOM_PICTURES), *_input_sizes(network))
        pixels_NCHW = np.random.Generator(np.random.PCG64(1)).integers(0, 256, shape).astype(np.uint8)
        labels_N = network.run(pixels_NCHW).argmax(1)
        return Pictures(pixels_NCHW=pixels_NCHW, labels_N=labels_N, name="random pictures and the network's own labels")
    test = open_source(Cifar10Source(most_train=1, most_test=most)).test
    if _input_sizes(network) != (test.shape.channels, test.shape.height, test.shape.width):
        raise ValueError(f"network {network.name} takes {network.input_shape}; CIFAR-10 has {test.shape}")
    return Pictures(pixels_NCHW=test.pixels_NCHW, labels_N=test.labels, name="CIFAR-10, test pictures")


def _input_sizes(network: QuantisedNetwork) -> tuple[int, int, int]:
    """C, H, W of a network's pictures."""
    shape = network.input_shape
    return shape.channels, shape.height, shape.width


def _leave(comparison: Comparison, out: Path) -> None:
    """Figures, tables and page in the folder, the tables on the screen."""
    from rich.markdown import Markdown

    from comparison.page import page
    from comparison.tables import markdown
    from mple.disk.whole_files import write_whole

    comparison.write(out / "comparison.json")
    text = markdown(comparison)
    write_whole(out / "comparison.md", text.encode())
    write_whole(out / "comparison.html", page(comparison).encode())
    console = wide_console()
    console.print(Markdown(text))
    say(console, f"figures, tables and a page are comparison.json, .md and .html in {out}")
