"""The activations of a network under garbled circuits, over a link: the garbler's half and the evaluator's.

| phase | evaluator to garbler | garbler to evaluator |
| --- | --- | --- |
| set-up | offer of base transfers | answer |
| offline, per slice | request of transfers | garbled tables, with the labels of the garbler's share and mask |
| online, per stage | corrections, one bit for each bit of the evaluator's share | labels, 16 bytes for each, by slice |

The garbler's share and mask are drawn before the picture is known, in GAZELLE (server) and in MiniONN (client) alike. A
stage's instances are cut into slices, so that neither party holds a stage's tables at once; the evaluator keeps them in
a file until the picture comes. Both hold 16 bytes for each bit of a share meanwhile.

Legend: I instances, window values of one instance, E the evaluator's bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from comparison.garbled import (
    ActivationCircuit,
    BaseReceiver,
    BaseSender,
    ReceivedTransfers,
    SentTransfers,
    TransferReceiver,
    TransferSender,
    corrections_bytes,
    delta_bits,
    draw_delta,
    evaluate,
    garble,
    pooled_relu_circuit,
    relu_circuit,
)
from comparison.two_party.contents import Kind, Phase
from comparison.two_party.link import Link
from comparison.two_party.public_network import PublicNetwork, StageForm, windows_of
from comparison.two_party.spool import Spool

SLICE_INSTANCES = 16_384
"""Instances of one garbled message: about 30 MB, and long enough rows for fast arithmetic."""


def slices_of(instances: int) -> Iterator[slice]:
    """The slices of a stage."""
    for low in range(0, instances, SLICE_INSTANCES):
        yield slice(low, min(low + SLICE_INSTANCES, instances))


def circuit_of(stage: StageForm, modulus: int) -> ActivationCircuit:
    """The circuit of a stage's activation. Raises ValueError: the stage has none."""
    if stage.shift is None:
        raise ValueError(f"stage {stage.name!r} has no activation")
    if stage.pool == "max":
        return pooled_relu_circuit(modulus, stage.shift, stage.window)
    return relu_circuit(modulus, stage.shift)


class ActivationGarbler:
    """The party that makes the circuits. Offline, `garble` and `accept_requests` may run in two threads: the one only
    sends, the other only receives."""

    def __init__(self, link: Link, network: PublicNetwork, modulus: int) -> None:
        self._link = link
        self._delta = draw_delta()
        self._circuits = {stage.name: circuit_of(stage, modulus) for stage in network.stages[:-1]}
        self._sender: TransferSender | None = None
        self._instances = 0
        self._zeros: dict[str, list[NDArray[np.uint64]]] = {}
        self._transfers: dict[str, list[SentTransfers]] = {}

    def set_up(self) -> None:
        """Answer the base transfers."""
        base = BaseReceiver(delta_bits(self._delta))
        offer = self._link.receive(Phase.SETUP, "", Kind.TRANSFER)
        self._link.send(Phase.SETUP, "", Kind.TRANSFER, base.answer(offer))
        self._sender = TransferSender(self._delta, base.keys)

    def garble(self, stage: StageForm, shares_OHW: NDArray[np.int64], masks_OHW: NDArray[np.int64]) -> None:
        """Garble a stage's circuits and send them.

        Args:
            stage: The stage.
            shares_OHW: This party's share of what the linear part gives, in [0, modulus).
            masks_OHW: What the evaluator's results will be short of, in [0, modulus).
        """
        circuit = self._circuits[stage.name]
        shares_WI, masks_I = windows_of(stage, shares_OHW), masks_OHW.reshape(-1)
        zeros = self._zeros[stage.name] = []
        for some in slices_of(stage.instances):
            bits = circuit.garbler_bits(shares_WI[:, some], masks_I[some])
            garbled = garble(circuit.circuit, bits, self._delta, self._instances)
            self._instances += bits.shape[1]
            self._link.send(Phase.OFFLINE, stage.name, Kind.GARBLED, *garbled.buffers)
            zeros.append(garbled.evaluator_zeros)

    def accept_requests(self, stage: StageForm) -> None:
        """Extend the transfers of a stage as the evaluator requests them."""
        if self._sender is None:
            raise ValueError("no base transfers yet; call set_up first")
        transfers = self._transfers[stage.name] = []
        for some in slices_of(stage.instances):
            request = self._link.receive(Phase.OFFLINE, stage.name, Kind.TRANSFER)
            count = self._circuits[stage.name].circuit.evaluator_inputs * (some.stop - some.start)
            transfers.append(self._sender.extend(count, request))

    def give_labels(self, stage: StageForm) -> None:
        """Let the evaluator have the labels of its share."""
        inputs = self._circuits[stage.name].circuit.evaluator_inputs
        corrections = memoryview(self._link.receive(Phase.ONLINE, stage.name, Kind.TRANSFER))
        kept = zip(
            slices_of(stage.instances), self._transfers.pop(stage.name), self._zeros.pop(stage.name), strict=True
        )
        for some, transfers, zeros in kept:
            size = corrections_bytes(inputs * (some.stop - some.start))
            labels = transfers.answer(corrections[:size], zeros)
            corrections = corrections[size:]
            self._link.send(Phase.ONLINE, stage.name, Kind.LABELS, labels)


class ActivationEvaluator:
    """The party that evaluates the circuits on its share of the linear part's results. Offline, `request` and `store`
    may run in two threads: the one only sends, the other only receives."""

    def __init__(self, link: Link, network: PublicNetwork, modulus: int, spool: Spool) -> None:
        self._link, self._spool = link, spool
        self._circuits = {stage.name: circuit_of(stage, modulus) for stage in network.stages[:-1]}
        self._receiver: TransferReceiver | None = None
        self._instances = 0
        self._transfers: dict[str, list[ReceivedTransfers]] = {}
        self._stored: dict[str, list[_Stored]] = {}

    def set_up(self) -> None:
        """Offer the base transfers."""
        base = BaseSender()
        self._link.send(Phase.SETUP, "", Kind.TRANSFER, base.offer)
        self._receiver = TransferReceiver(base.keys(self._link.receive(Phase.SETUP, "", Kind.TRANSFER)))

    def begin(self) -> None:
        """A new inference: the tables of the one before are dropped."""
        self._spool.empty()

    def request(self, stage: StageForm) -> None:
        """Request a stage's transfers."""
        if self._receiver is None:
            raise ValueError("no base transfers yet; call set_up first")
        transfers = self._transfers[stage.name] = []
        for some in slices_of(stage.instances):
            count = self._circuits[stage.name].circuit.evaluator_inputs * (some.stop - some.start)
            request, received = self._receiver.extend(count)
            transfers.append(received)
            self._link.send(Phase.OFFLINE, stage.name, Kind.TRANSFER, request)

    def store(self, stage: StageForm) -> None:
        """Keep a stage's tables until its share is known."""
        stored = self._stored[stage.name] = []
        for some in slices_of(stage.instances):
            number = self._spool.append(self._link.receive_pieces(Phase.OFFLINE, stage.name, Kind.GARBLED))
            stored.append(_Stored(number, self._instances + some.start))
        self._instances += stage.instances

    def evaluate(self, stage: StageForm, shares_OHW: NDArray[np.int64]) -> NDArray[np.int64]:
        """This party's share of a stage's activations (O, H, W): the results less the garbler's masks.

        Args:
            stage: The stage.
            shares_OHW: Its share of what the linear part gave, in [0, modulus).
        """
        circuit, shares_WI = self._circuits[stage.name], windows_of(stage, shares_OHW)
        transfers = self._transfers.pop(stage.name)
        bits_EI = [circuit.evaluator_bits(shares_WI[:, some]) for some in slices_of(stage.instances)]
        corrections = [one.choose(bits) for one, bits in zip(transfers, bits_EI, strict=True)]
        self._link.send(Phase.ONLINE, stage.name, Kind.TRANSFER, *corrections)
        results = []
        for one, stored, some in zip(transfers, self._stored.pop(stage.name), slices_of(stage.instances), strict=True):
            labels = one.labels(self._link.receive(Phase.ONLINE, stage.name, Kind.LABELS))
            tables, instances = self._spool.read(stored.number), some.stop - some.start
            outputs = evaluate(circuit.circuit, instances, tables, labels, stored.first_instance)
            results.append(circuit.residues(outputs))
        return np.concatenate(results).reshape(stage.outputs, stage.circuit_side, stage.circuit_side)


@dataclass(frozen=True, slots=True)
class _Stored:
    """Where the tables of a slice are in the spool."""

    number: int
    first_instance: int
