"""What a compute node can't have scored is refused."""

from __future__ import annotations

import numpy as np
import pytest

from coordinator.training_reports import check_network
from mple.metrics import Tally, tallies
from mple.metrics.messages import to_messages
from mple.rpc import ErrorCode, MpleError
from mple.v1 import common_pb2, coordinator_pb2
from tests.support.small_plan import small_plan

PLAN = small_plan(sizes={"north": (5, 8), "south": (4, 2)}, vals={"north": 6})
HONEST = tallies(np.zeros((8, 3)), np.arange(8) % 3, PLAN.outputs)


def scored(val: dict[str, Tally], test: dict[str, Tally], **changed: int) -> coordinator_pb2.NetworkScored:
    def wire(told: dict[str, Tally]) -> dict[str, common_pb2.Tally]:
        return to_messages(told)

    known = {"epoch": 1, "scores": {"accuracy": 0.5}, "val_tallies": wire(val), "test_tallies": wire(test)}
    return coordinator_pb2.NetworkScored(**{**known, **changed})  # type: ignore[arg-type]


def test_sums_of_sites_that_withhold_some_are_taken() -> None:
    check_network(scored({}, HONEST), PLAN)
    check_network(scored({}, {"counts": Tally((2, 1))}), PLAN)
    check_network(scored({}, {}), PLAN)


@pytest.mark.parametrize(
    ("message", "named"),
    [
        (scored({}, {}, epoch=0), "epoch 0"),
        (scored({}, {}, epoch=5), "epoch 5 of 4"),
        (scored(HONEST, {}), "over 6 samples"),
        (scored({}, {"counts": Tally((11, 1))}), "tally of counts over 10 samples"),
        (scored({}, {"counts": Tally((8, 9))}), "tally of counts"),
        (scored({}, {"loss": Tally((8,), (float("nan"),))}), "tally of loss"),
        (scored({}, {"names": Tally((8,))}), "'names'"),
    ],
)
def test_what_no_network_can_have_is_refused(message: coordinator_pb2.NetworkScored, named: str) -> None:
    with pytest.raises(MpleError, match=named) as refused:
        check_network(message, PLAN)
    assert refused.value.code is ErrorCode.MESSAGE_MALFORMED
