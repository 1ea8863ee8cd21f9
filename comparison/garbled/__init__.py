"""Garbled circuits and oblivious transfer between two parties who follow the protocol: what a private ReLU takes.

Pure: objects take and give bytes, and whoever has a link sends them. One party garbles, the other evaluates; see
`comparison.garbled.activation_circuits` for what they compute, `half_gates` and `transfer_extension` for how, what
it costs, and what its secrecy rests on. In order: base transfers (evaluator's offer, garbler's answer), once; for a
batch, offline, the evaluator's request of transfers and the garbler's circuits; online, the evaluator's corrections and
the garbler's answer.
"""

from comparison.garbled.activation_circuits import ActivationCircuit, pooled_relu_circuit, relu_circuit
from comparison.garbled.base_transfer import ANSWER_BYTES, BASE_TRANSFERS, OFFER_BYTES, BaseReceiver, BaseSender
from comparison.garbled.circuit import Circuit, CircuitBuilder
from comparison.garbled.half_gates import Garbled, delta_bits, draw_delta, evaluate, garble, garbled_bytes
from comparison.garbled.transfer_extension import (
    ReceivedTransfers,
    SentTransfers,
    TransferReceiver,
    TransferSender,
    corrections_bytes,
    request_bytes,
)

__all__ = [
    "ANSWER_BYTES",
    "BASE_TRANSFERS",
    "OFFER_BYTES",
    "ActivationCircuit",
    "BaseReceiver",
    "BaseSender",
    "Circuit",
    "CircuitBuilder",
    "Garbled",
    "ReceivedTransfers",
    "SentTransfers",
    "TransferReceiver",
    "TransferSender",
    "corrections_bytes",
    "delta_bits",
    "draw_delta",
    "evaluate",
    "garble",
    "garbled_bytes",
    "pooled_relu_circuit",
    "relu_circuit",
    "request_bytes",
]
