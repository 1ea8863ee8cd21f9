"""`mple model`: look at the network that a run has delivered, copy it, check it."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mple.delivered.folder import CARD, ONNX, WEIGHTS, DeliveredNetwork, copy_delivered
from mple.delivered.verification import compare_networks, verify_files
from mple.exit_codes import ExitCode
from mple.extras import missing_extra
from mple.printable import printable
from mple.terminal import echo

app = typer.Typer(no_args_is_help=True, help="Delivered networks: look at one, copy it, check it.")
_Folder = Annotated[Path, typer.Argument(help="A site's state folder, or a folder with model.json.")]


class Part(StrEnum):
    """What can be copied."""

    SAFETENSORS = "safetensors"
    ONNX = "onnx"
    CARD = "card"


_FILES = {Part.SAFETENSORS: WEIGHTS, Part.ONNX: ONNX, Part.CARD: CARD}


@app.command()
def show(
    folder: _Folder, card: Annotated[bool, typer.Option("--card", help="Print the whole model card instead.")] = False
) -> None:
    """Say what a delivered network is, of which run, and how it compares with what was scored."""
    network = DeliveredNetwork.at(folder)
    if card:
        echo(*(printable(line, 10_000) for line in network.card().splitlines()))
        return
    record, about = network.record, network.record.about
    names = ", ".join(about.classes[:20]) + (f" and {len(about.classes) - 20} more" if len(about.classes) > 20 else "")
    lines = [
        f"VGG-16 of width {about.model_width:g}, as it was after epoch {about.epoch} of run {about.run_id}",
        f"delivered to site {record.site} on {record.delivered_at:%Y-%m-%d %H:%M} UTC in {record.dtype}",
        f"pictures: {about.channels} x {about.height} x {about.width}, levels 0 to 255",
        f"{len(about.classes)} {about.task}: {names}",
        f"check: {record.check.text()}",
        *(f"{name}: sha256 {digest}" for name, digest in sorted(record.sha256.items())),
        f"the trunk as it was trained: sha256 {about.model_sha256}",
    ]
    echo(*(printable(line, 10_000) for line in lines))


@app.command()
def export(
    folder: _Folder,
    to: Annotated[Path, typer.Argument(help="A new folder.")],
    only: Annotated[list[Part] | None, typer.Option("--only", help="Copy this and not all; repeat for more.")] = None,
) -> None:
    """Copy a delivered network into a folder that can be handed on: the files that are asked for, and model.json."""
    chosen = [_FILES[part] for part in dict.fromkeys(only or Part)]
    copied = copy_delivered(DeliveredNetwork.at(folder), to, chosen)
    echo(f"{', '.join(copied)} in {to}")


@app.command()
def verify(folder: _Folder) -> int:
    """Compare all files with their digests and, where onnxruntime is installed, the answers of model.onnx with those of
    model.safetensors. Ends with code 3 when the two are not the same network."""
    network = DeliveredNetwork.at(folder)
    verify_files(network)
    echo(f"{', '.join(sorted(network.record.sha256)) or 'no network'}: as delivered")
    echo(f"check at delivery: {printable(network.record.check.text(), 1_000)}")
    try:
        found = compare_networks(network)
    except ImportError:
        echo(
            missing_extra("comparing the answers of model.onnx with those of model.safetensors", "onnxruntime", "onnx")
        )
        return int(ExitCode.DONE)
    if found is None:
        echo("only one of the two networks is here; there is nothing to compare it with")
        return int(ExitCode.DONE)
    how = "the same network" if found.sound else "NOT the same network"
    echo(
        f"model.onnx and model.safetensors are {how}: on {found.pictures} random pictures logits differ by at most "
        f"{found.largest_difference:.1e} (allowed are {found.tolerance:.1e})"
    )
    return int(ExitCode.DONE if found.sound else ExitCode.RUN_FAILED)
