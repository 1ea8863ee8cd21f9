"""CHEETAH (Huang et al., USENIX Security 2022) as SecretFlow's SPU has it: private inference between two processes.

The client holds pictures, the server a network; they talk over loopback TCP through counting relays. SPU computes in
fixed point where the quantised network rounds down (see `real_stages`), so logits are compared, not demanded equal.

Legend: N pictures, C channels, H W size, O classes.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from comparison.elsewhere.environment import Requirements, ensure_environment
from comparison.elsewhere.link_details import LinkDetails, link_details
from comparison.elsewhere.real_stages import RealStage, real_stages, run_real
from comparison.elsewhere.stepped import Said, SteppedChildren
from comparison.elsewhere.unavailable import Reason, Unavailable
from comparison.networks.quantised import QuantisedNetwork
from mple.meter.relay import CountingRelay
from mple.rpc.tls import split_address
from mple.simulate.laying_out import free_addresses

REQUIREMENTS = Requirements(
    name="spu", steps=(("spu==0.9.5", "jax==0.4.34", "jaxlib==0.4.34", "numpy==1.26.4", "safetensors==0.8.0"),)
)
_PARTY = "comparison.elsewhere.cheetah_party"
_CLIENT, _SERVER = "client", "server"


@dataclass(frozen=True, kw_only=True, slots=True)
class CheetahSettings:
    """How to measure."""

    fraction_bits: int = 18
    """Of fixed-point numbers in the ring of 64 bits, 8 to 24."""
    time_limit_s: float = 3600.0
    """For all inferences together."""
    memory_limit_bytes: int = 20 * 2**30
    """Of both processes together."""
    threads: int = 1
    """Of each process's numeric libraries."""

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ValueError(f"threads = {self.threads}; needs 1 or more")
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
    packages: tuple[str, ...]


def measure_cheetah(
    network: QuantisedNetwork, pixels_NCHW: NDArray[np.uint8], settings: CheetahSettings, folder: Path
) -> CheetahResult:
    """Infer these pictures, one after the other. The first one pays for keys and base transfers, too.

    Args:
        network: The server's.
        pixels_NCHW: The client's, one or more.
        settings: How.
        folder: For what the parties are given and what they print.

    Raises Unavailable: SPU can't be installed, failed, or passed a limit; ValueError: there is no picture.
    """
    if not len(pixels_NCHW):
        raise ValueError("no pictures; needs one or more")
    environment = ensure_environment(REQUIREMENTS)
    stages = real_stages(network.stages)
    x_NCHW = network.quantise(pixels_NCHW)
    quantised_NO, real_NO = network.run(pixels_NCHW), run_real(stages, x_NCHW)
    _hand_over(folder, stages, x_NCHW, settings)
    raw = _run_parties(environment.python, folder, len(x_NCHW), settings)
    logits_NO = np.array([inference.logits for inference in raw.inferences])
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


def _run_parties(python: Path, folder: Path, inferences: int, settings: CheetahSettings) -> _Raw:
    addresses = dict(zip((_CLIENT, _SERVER), free_addresses(2), strict=True))
    relays = {party: CountingRelay(*split_address(address)) for party, address in addresses.items()}
    try:
        with SteppedChildren(
            folder,
            time_limit_s=settings.time_limit_s,
            memory_limit_bytes=settings.memory_limit_bytes,
            threads=settings.threads,
        ) as parties:
            for party, other in ((_CLIENT, _SERVER), (_SERVER, _CLIENT)):
                arguments = (folder, party, addresses[party], relays[other].address, settings.time_limit_s)
                parties.start_module(party, python, _PARTY, *arguments)
            parties.step_ends()
            setup = before = _carried(relays)
            steps = []
            for _ in range(inferences):
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
