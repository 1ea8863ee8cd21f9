"""Transfers of labels: the right label and only that, over many batches; then whole batches of ReLUs."""

from __future__ import annotations

import numpy as np
import pytest

from comparison.garbled import (
    BaseReceiver,
    BaseSender,
    TransferReceiver,
    TransferSender,
    corrections_bytes,
    delta_bits,
    draw_delta,
    evaluate,
    garble,
    pooled_relu_circuit,
    request_bytes,
)
from comparison.garbled.bits import Bits
from comparison.garbled.cipher import Blocks, draw_blocks
from comparison.garbled.half_gates import multiples


def connected() -> tuple[Blocks, TransferSender, TransferReceiver]:
    delta = draw_delta()
    offering, answering = BaseSender(), BaseReceiver(delta_bits(delta))
    answer = answering.answer(offering.offer)
    return delta, TransferSender(delta, answering.keys), TransferReceiver(offering.keys(answer))


def drawn_bits(shape: tuple[int, ...], seed: int = 1) -> Bits:
    return np.random.default_rng(seed).integers(0, 2, shape).astype(np.uint8)


def test_labels_of_the_chosen_bits_over_batches_of_any_size() -> None:
    delta, sender, receiver = connected()
    for shape in [(1,), (7,), (8,), (3, 11), (20, 100)]:
        count = int(np.prod(shape))
        request, received = receiver.extend(count)
        sent = sender.extend(count, request)
        bits, zeros = drawn_bits(shape, count), draw_blocks(shape)
        corrections = received.choose(bits)
        answer = sent.answer(corrections, zeros)
        found = (request.nbytes, len(corrections), answer.nbytes)
        assert found == (request_bytes(count), corrections_bytes(count), 16 * count)
        assert (received.labels(bytes(answer)) == zeros ^ multiples(delta, bits)).all()


def test_batches_under_way_at_once_answered_in_another_order() -> None:
    delta, sender, receiver = connected()
    batches = []
    for _ in range(3):
        request, received = receiver.extend(50)
        batches.append((received, sender.extend(50, request)))
    for received, sent in reversed(batches):
        bits, zeros = drawn_bits((50,)), draw_blocks((50,))
        answer = sent.answer(received.choose(bits), zeros)
        assert (received.labels(answer) == zeros ^ multiples(delta, bits)).all()


def test_the_garbler_sees_bits_that_look_random() -> None:
    """Corrections and requests for all zeros and for all ones are balanced alike, row by row."""
    _, _, receiver = connected()
    for bit in (0, 1):
        request, received = receiver.extend(8000)
        corrections = np.frombuffer(received.choose(np.full(8000, bit, np.uint8)), np.uint8)
        assert abs(np.unpackbits(corrections).mean() - 0.5) < 0.04
        rows = np.frombuffer(request, np.uint8).reshape(128, -1)
        assert np.abs(np.unpackbits(rows, axis=1).mean(1) - 0.5).max() < 0.04


def test_the_evaluator_sees_one_label_of_a_bit() -> None:
    """Even given all it holds, no two blocks differ by the difference."""
    delta, sender, receiver = connected()
    request, received = receiver.extend(500)
    sent = sender.extend(500, request)
    answer = sent.answer(received.choose(drawn_bits((500,))), draw_blocks((500,)))
    labels = received.labels(answer)
    own = np.frombuffer(bytes(answer), "<u8").reshape(-1, 2) ^ labels
    view = {block.tobytes() for blocks in (labels, own, labels ^ own) for block in blocks}
    assert len(view) == 1500
    assert not view & {(np.frombuffer(block, "<u8") ^ delta).tobytes() for block in view}


def test_no_piece_of_a_stream_comes_twice() -> None:
    _, sender, receiver = connected()
    requests = []
    zeros = draw_blocks((64,))
    answers = []
    for _ in range(2):
        request, received = receiver.extend(64)
        requests.append(bytes(request))
        answers.append(bytes(sender.extend(64, request).answer(received.choose(np.zeros(64, np.uint8)), zeros)))
    rows = [np.frombuffer(request, np.uint8).reshape(128, -1) for request in requests]
    ours = np.bitwise_xor(*rows)
    assert len({row.tobytes() for row in ours}) > 120, "the same pads of all rows would differ by the choices alone"
    assert not {answers[0][at : at + 16] for at in range(0, 1024, 16)} & {
        answers[1][at : at + 16] for at in range(0, 1024, 16)
    }


def test_a_batch_is_used_once() -> None:
    _, sender, receiver = connected()
    request, received = receiver.extend(16)
    sent = sender.extend(16, request)
    with pytest.raises(ValueError, match="before their bits were chosen"):
        received.labels(bytes(256))
    corrections = received.choose(drawn_bits((16,)))
    sent.answer(corrections, draw_blocks((16,)))
    with pytest.raises(ValueError, match="a second time"):
        received.choose(drawn_bits((16,)))
    with pytest.raises(ValueError, match="a second time"):
        sent.answer(corrections, draw_blocks((16,)))


def test_counts_that_do_not_fit() -> None:
    delta, sender, receiver = connected()
    request, received = receiver.extend(16)
    with pytest.raises(ValueError, match="a request of transfers of 256 bytes, needs 384"):
        sender.extend(17, request)
    sent = sender.extend(16, request)
    with pytest.raises(ValueError, match="17 bits for a batch of 16 transfers"):
        received.choose(drawn_bits((17,)))
    corrections = received.choose(drawn_bits((16,)))
    with pytest.raises(ValueError, match="labels of 15 wires for a batch of 16"):
        sent.answer(corrections, draw_blocks((15,)))
    with pytest.raises(ValueError, match="corrections of transfers of 3 bytes, needs 2"):
        sent.answer(corrections + b"\0", draw_blocks((16,)))
    answer = sent.answer(corrections, draw_blocks((16,)))
    with pytest.raises(ValueError, match="an answer of transfers of 240 bytes, needs 256"):
        received.labels(answer[16:])
    with pytest.raises(ValueError, match="127 keys of base transfers"):
        TransferSender(delta, [bytes(16)] * 127)
    with pytest.raises(ValueError, match="129 keys of base transfers"):
        TransferReceiver([(bytes(16), bytes(16))] * 129)


@pytest.mark.parametrize("window", [1, 4])
def test_batches_of_activations_between_two_parties(window: int) -> None:
    modulus, instances = 786433, 300
    activation = pooled_relu_circuit(modulus, 7, window)
    circuit, count = activation.circuit, activation.circuit.evaluator_inputs * instances
    delta, sender, receiver = connected()
    draw = np.random.default_rng(window)
    for first_instance in (0, instances):
        ours, theirs = (draw.integers(0, modulus, (window, instances)) for _ in range(2))
        masks = draw.integers(0, modulus, instances)
        garbled = garble(circuit, activation.garbler_bits(ours, masks), delta, first_instance)
        request, received = receiver.extend(count)
        sent = sender.extend(count, request)
        answer = sent.answer(received.choose(activation.evaluator_bits(theirs)), garbled.evaluator_zeros)
        bits = evaluate(circuit, instances, b"".join(garbled.buffers), received.labels(answer), first_instance)
        expected = activation.plain((ours + theirs) % modulus)
        assert ((activation.residues(bits) + masks) % modulus == expected).all()
        assert expected.max() > 0
