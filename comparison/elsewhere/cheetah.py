"""CHEETAH (Huang et al., USENIX Security 2022) as SecretFlow's SPU has it: private inference between two processes.

    python -m comparison.elsewhere.cheetah --network FILE --out FILE

The client holds pictures, the server a network; they talk over loopback TCP through counting relays. SPU computes in
fixed point where the quantised network rounds down (see `real_stages`), so logits are compared, not demanded equal.

Legend: N pictures, C channels, H W size, O classes.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from comparison.elsewhere.environment import Requirements, ensure_environment
from comparison.elsewhere.link_details import LinkDetails, link_details
from comparison.elsewhere.outcome import Reason, Skipped, Unavailable, write_row
from comparison.elsewhere.real_stages import RealStage, real_stages, run_real
from comparison.elsewhere.stepped import Said, SteppedChildren, free_port
from comparison.networks.quantised import QuantisedNetwork
from mple.data import DataSource, SourceKind, open_source
from mple.exit_codes import ExitCode
from mple.meter.relay import CountingRelay

SYSTEM = "cheetah"
REQUIREMENTS = Requirements(
    name="spu",
    steps=(("spu==0.9.5", "jax==0.4.34", "jaxlib==0.4.34", "numpy==1.26.4", "safetensors==0.8.0"),),
)
_PARTY = Path(__file__).with_name("cheetah_party.py")
_CLIENT, _SERVER = "client", "server"
_COMPARED = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class CheetahSettings:
    """How to measure."""

    inferences: int = 3
    """Pictures, one after the other, 1 and more. The first one pays for keys and base transfers, too."""
    fraction_bits: int = 18
    """Of fixed-point numbers in the ring of 64 bits, 8 to 24."""
    time_limit_s: float = 3600.0
    """For all inferences together."""
    memory_limit_bytes: int = 20 * 2**30
    """Of both processes together."""
    threads: int = 1
    """Of each process's numeric libraries."""

    def __post_init__(self) -> None:
        if self.inferences < 1 or self.threads < 1:
            raise ValueError(f"inferences = {self.inferences}, threads = {self.threads}; needs 1 or more of each")
        if not 8 <= self.fraction_bits <= 24:
            raise ValueError(f"fraction_bits = {self.fraction_bits}; allowed are 8 to 24")
        if self.time_limit_s <= 0 or self.memory_limit_bytes <= 0:
            raise ValueError("time_limit_s and memory_limit_bytes must be above 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class CheetahInference:
    """One picture."""

    seconds: float
    """From the client's picture to its logits."""
    client_cpu_seconds: float
    server_cpu_seconds: float
    wire_up_bytes: int
    """From client to server as TCP carried them, HTTP framing of the library included."""
    wire_down_bytes: int
    client_link: LinkDetails
    """What the library itself counted at the client."""
    logits: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class CheetahResult:
    """All inferences with one network."""

    network: str
    settings: CheetahSettings
    inferences: tuple[CheetahInference, ...]
    first_seconds: float
    steady_seconds: float | None
    """Mean of all but the first; None where there is one only. So are the bytes."""
    first_wire_bytes: int
    """Up and down."""
    steady_wire_bytes: float | None
    setup_wire_bytes: int
    """Before the first inference: the connection only, since no weight and no share of one crosses."""
    client_peak_bytes: int
    server_peak_bytes: int
    same_class_as_quantised: float
    """Share of pictures for which the largest logit is that of the quantised network."""
    largest_logit_error: float
    """Against the quantised network, in its units."""
    largest_quantised_logit: int
    """Magnitude, for comparison."""
    largest_fixed_point_error: float
    """Against the very numbers that the protocol works on, in float64: what the protocol's arithmetic costs."""
    compared_pictures: int
    """Of the next field, which needs no protocol and so takes more pictures than were inferred."""
    same_class_in_float64: float
    """Share of them for which those numbers and the quantised network agree: what not rounding down costs."""
    packages: tuple[str, ...]
    system: str = SYSTEM
    state: str = "measured"


def measure_cheetah(
    network: QuantisedNetwork, pixels_NCHW: NDArray[np.uint8], settings: CheetahSettings, folder: Path
) -> CheetahResult:
    """Infer these pictures, one after the other.

    Args:
        network: The server's.
        pixels_NCHW: The client's, at least `settings.inferences`; the first ones are inferred, all are compared.
        settings: How.
        folder: For what the parties are given and what they print.

    Raises:
        Unavailable: SPU can't be installed, failed, or passed a limit.
        ValueError: There are fewer pictures than inferences.
    """
    if len(pixels_NCHW) < settings.inferences:
        raise ValueError(f"{len(pixels_NCHW)} pictures for {settings.inferences} inferences; give one for each")
    environment = ensure_environment(REQUIREMENTS)
    stages = real_stages(network.stages)
    x_NCHW = network.quantise(pixels_NCHW)
    quantised_NO, real_NO = network.run(pixels_NCHW), run_real(stages, x_NCHW)
    _hand_over(folder, stages, x_NCHW[: settings.inferences], settings)
    raw = _run_parties(environment.python, folder, settings)
    logits_NO = np.array([inference.logits for inference in raw.inferences])
    same_in_float64 = float(np.mean(real_NO.argmax(1) == quantised_NO.argmax(1)))
    quantised_NO, real_NO = quantised_NO[: settings.inferences], real_NO[: settings.inferences]
    later = raw.inferences[1:]
    bytes_of = [item.wire_up_bytes + item.wire_down_bytes for item in raw.inferences]
    return CheetahResult(
        network=network.name,
        settings=settings,
        inferences=raw.inferences,
        first_seconds=raw.inferences[0].seconds,
        steady_seconds=float(np.mean([item.seconds for item in later])) if later else None,
        first_wire_bytes=bytes_of[0],
        steady_wire_bytes=float(np.mean(bytes_of[1:])) if later else None,
        setup_wire_bytes=raw.setup_wire_bytes,
        client_peak_bytes=raw.client_peak_bytes,
        server_peak_bytes=raw.server_peak_bytes,
        same_class_as_quantised=float(np.mean(logits_NO.argmax(1) == quantised_NO.argmax(1))),
        largest_logit_error=float(np.abs(logits_NO - quantised_NO).max()),
        largest_quantised_logit=int(np.abs(quantised_NO).max()),
        largest_fixed_point_error=float(np.abs(logits_NO - real_NO).max()),
        compared_pictures=len(pixels_NCHW),
        same_class_in_float64=same_in_float64,
        packages=environment.packages,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Raw:
    inferences: tuple[CheetahInference, ...]
    setup_wire_bytes: int
    client_peak_bytes: int
    server_peak_bytes: int


def _hand_over(folder: Path, stages: Sequence[RealStage], x_NCHW: NDArray[np.int64], settings: CheetahSettings) -> None:
    """Write what both parties know, and to each party's own folder what only it knows."""
    for party in (_CLIENT, _SERVER):
        (folder / party).mkdir(parents=True, exist_ok=True)
    x_NHWC = np.ascontiguousarray(x_NCHW.transpose(0, 2, 3, 1), np.float32)
    np.save(folder / _CLIENT / "pictures.npy", x_NHWC, allow_pickle=False)
    tensors = {}
    for place, stage in enumerate(stages):
        tensors[f"weights{place}"] = np.ascontiguousarray(stage.weights_OIpp.transpose(2, 3, 1, 0), np.float32)
        tensors[f"bias{place}"] = stage.bias_O.astype(np.float32)
    save_file(tensors, folder / _SERVER / "weights.safetensors")
    program = {
        "input_HWC": x_NHWC.shape[1:],
        "pictures": len(x_NHWC),
        "fraction_bits": settings.fraction_bits,
        "stages": [
            {
                "weights_ppIO": tensors[f"weights{place}"].shape,
                "last": stage.last,
                "pool": stage.pool,
                "flatten": stage.flatten,
            }
            for place, stage in enumerate(stages)
        ],
    }
    (folder / "program.json").write_text(json.dumps(program, indent=1), encoding="utf-8")


def _run_parties(python: Path, folder: Path, settings: CheetahSettings) -> _Raw:
    ports = {party: free_port() for party in (_CLIENT, _SERVER)}
    relays = {party: CountingRelay("127.0.0.1", port) for party, port in ports.items()}
    try:
        with SteppedChildren(
            folder,
            time_limit_s=settings.time_limit_s,
            memory_limit_bytes=settings.memory_limit_bytes,
            threads=settings.threads,
        ) as parties:
            for party, other in ((_CLIENT, _SERVER), (_SERVER, _CLIENT)):
                address, patience = relays[other].address, str(settings.time_limit_s)
                command = [str(python), "-P", str(_PARTY), str(folder), party, str(ports[party]), address, patience]
                parties.start(party, command)
            parties.step_ends()
            setup = before = _carried(relays)
            steps = []
            for _ in range(settings.inferences):
                parties.go_on()
                said = parties.step_ends()
                after = _carried(relays)
                steps.append((said, after[0] - before[0], after[1] - before[1]))
                before = after
            parties.go_on()
            done = parties.step_ends()
            parties.go_on()
            parties.end()
            counted = link_details(parties.log(_CLIENT).read_text(encoding="utf-8", errors="replace"))
    finally:
        for relay in relays.values():
            relay.close()
    if len(counted) != len(steps):
        raise Unavailable(Reason.RUN_FAILED, f"the client's log tells of {len(counted)} runs, {len(steps)} were made")
    return _Raw(
        inferences=tuple(
            _inference(said, up, down, link) for (said, up, down), link in zip(steps, counted, strict=True)
        ),
        setup_wire_bytes=sum(setup),
        client_peak_bytes=int(done[_CLIENT].real("peak_bytes")),
        server_peak_bytes=int(done[_SERVER].real("peak_bytes")),
    )


def _inference(said: dict[str, Said], up: int, down: int, link: LinkDetails) -> CheetahInference:
    return CheetahInference(
        seconds=said[_CLIENT].real("seconds"),
        client_cpu_seconds=said[_CLIENT].real("cpu_seconds"),
        server_cpu_seconds=said[_SERVER].real("cpu_seconds"),
        wire_up_bytes=up,
        wire_down_bytes=down,
        client_link=link,
        logits=said[_CLIENT].reals("logits"),
    )


def _carried(relays: dict[str, CountingRelay]) -> tuple[int, int]:
    """Bytes from client to server and back; either may have dialled the other."""
    to_client, to_server = relays[_CLIENT], relays[_SERVER]
    return to_server.bytes_up + to_client.bytes_down, to_server.bytes_down + to_client.bytes_up


def cifar10_pictures(count: int, side_px: int) -> NDArray[np.uint8]:
    """Pictures of CIFAR-10's test set (N, 3, H, W), squares of 32 / `side_px` pixels averaged.

    Raises:
        ValueError: The side does not divide 32; or CIFAR-10 is not there.
    """
    if 32 % side_px:
        raise ValueError(f"a network for pictures of {side_px} pixels a side; needs a divisor of 32")
    pixels = open_source(DataSource(kind=SourceKind.CIFAR10, most_train=1, most_test=count)).test.pixels_NCHW
    step = 32 // side_px
    squares = pixels.reshape(len(pixels), 3, side_px, step, side_px, step)
    averaged: NDArray[np.uint8] = squares.mean((3, 5)).round().astype(np.uint8)
    return averaged


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; where the system can't be measured, the JSON says why, and that is no failure."""
    parser = argparse.ArgumentParser(prog="python -m comparison.elsewhere.cheetah", description=__doc__)
    defaults = CheetahSettings()
    parser.add_argument("--network", type=Path, required=True, help="quantised network, a safetensors file")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--inferences", type=int, default=defaults.inferences)
    parser.add_argument("--time-limit", type=float, default=defaults.time_limit_s, help="seconds")
    parser.add_argument("--memory-limit", type=float, default=defaults.memory_limit_bytes / 2**30, help="GiB")
    parser.add_argument("--threads", type=int, default=defaults.threads)
    chosen = parser.parse_args(arguments)
    try:
        row = _row(chosen)
    except ValueError as fault:
        parser.error(str(fault))
    write_row(row, chosen.out)
    print(f"{row.system}: {row.state}, {chosen.out}")
    return int(ExitCode.DONE)


def _row(chosen: argparse.Namespace) -> CheetahResult | Skipped:
    settings = CheetahSettings(
        inferences=chosen.inferences,
        time_limit_s=chosen.time_limit,
        memory_limit_bytes=int(chosen.memory_limit * 2**30),
        threads=chosen.threads,
    )
    network = QuantisedNetwork.load(chosen.network)
    pixels = cifar10_pictures(max(_COMPARED, settings.inferences), network.input_shape.height)
    with tempfile.TemporaryDirectory(prefix="mple-cheetah-") as folder:
        try:
            return measure_cheetah(network, pixels, settings, Path(folder))
        except Unavailable as fault:
            return Skipped(system=SYSTEM, reason=fault.reason, detail=f"{network.name}: {fault.detail}")


if __name__ == "__main__":
    sys.exit(main())
