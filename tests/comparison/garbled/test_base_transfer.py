"""Base transfers: the chosen keys and no others, and answers that no receiver makes."""

from __future__ import annotations

import numpy as np
import pytest

from comparison.garbled import ANSWER_BYTES, BASE_TRANSFERS, OFFER_BYTES, BaseReceiver, BaseSender
from comparison.garbled.base_transfer import POINT_BYTES


def choices(seed: int = 1) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 2, BASE_TRANSFERS).astype(np.uint8)


def test_the_receiver_has_the_chosen_keys() -> None:
    sender, receiver = BaseSender(), BaseReceiver(choices())
    answer = receiver.answer(sender.offer)
    pairs = sender.keys(answer)
    assert len(sender.offer) == OFFER_BYTES and len(answer) == ANSWER_BYTES
    assert receiver.keys == [pair[choice] for pair, choice in zip(pairs, choices(), strict=True)]
    assert len({key for pair in pairs for key in pair}) == 2 * BASE_TRANSFERS
    assert {len(key) for pair in pairs for key in pair} == {16}


def test_two_runs_share_no_key_or_point() -> None:
    sender = BaseSender()
    one, other = BaseReceiver(choices()), BaseReceiver(choices())
    assert one.answer(sender.offer) != other.answer(sender.offer)
    assert not set(one.keys) & set(other.keys)
    assert sender.offer != BaseSender().offer


def test_what_is_no_point_is_refused() -> None:
    sender, receiver = BaseSender(), BaseReceiver(choices())
    answer = receiver.answer(sender.offer)
    no_point = b"\x02" + b"\xff" * 32
    with pytest.raises(ValueError, match=r"02ffff.* is no point of P-256"):
        receiver.answer(no_point)
    with pytest.raises(ValueError, match="is no point of P-256"):
        sender.keys(no_point + answer[POINT_BYTES:])
    with pytest.raises(ValueError, match="is no point of P-256"):
        sender.keys(bytes(POINT_BYTES) + answer[POINT_BYTES:])
    with pytest.raises(ValueError, match="an answer of base transfers of 4191 bytes, needs 4224"):
        sender.keys(answer[POINT_BYTES:])


def test_the_senders_own_point_is_refused() -> None:
    sender, receiver = BaseSender(), BaseReceiver(choices())
    answer = receiver.answer(sender.offer)
    with pytest.raises(ValueError, match="the other side's own"):
        sender.keys(sender.offer + answer[POINT_BYTES:])


def test_the_number_of_choices() -> None:
    with pytest.raises(ValueError, match=r"choices of shape \(127,\), needs \(128,\)"):
        BaseReceiver(choices()[1:])
