"""Who failed is who is named: what a site makes of the ways in which its stream to the compute node can end."""

from __future__ import annotations

from collections.abc import Callable

import grpc
import pytest

from mple.node.stop import Stop
from mple.rpc import AwayError, ErrorCode, MpleError
from mple.rpc.errors import METADATA_KEY
from provider_node.feeding.whole_run import _one_stream


class Ended(grpc.RpcError, grpc.Call):  # type: ignore[misc]
    def __init__(self, code: ErrorCode | None) -> None:
        self._code = code

    def trailing_metadata(self) -> object:
        return () if self._code is None else ((METADATA_KEY, self._code.value),)

    def details(self) -> str:
        return "the loss of step 7 is nan"


class Feed:
    """Ends as the test says."""

    def __init__(self, fault: Exception) -> None:
        self._fault = fault

    def run(self, _stub: object, _stop: Stop) -> bool:
        raise self._fault


def ended(fault: Exception) -> Callable[[], bool]:
    return lambda: _one_stream(Feed(fault), None, Stop(), "compute/compute")  # type: ignore[arg-type]


@pytest.mark.parametrize("code", [ErrorCode.INTERNAL, ErrorCode.RUN_FAILED, ErrorCode.STALLED])
def test_a_failure_of_the_compute_node_is_no_failure_of_the_site(code: ErrorCode) -> None:
    with pytest.raises(AwayError, match=f"compute/compute has failed: {code}: .*the loss of step 7 is nan"):
        ended(Ended(code))()


def test_a_stream_that_ends_without_a_word_is_a_broken_link() -> None:
    with pytest.raises(AwayError, match="STREAM_TRUNCATED"):
        ended(MpleError(ErrorCode.STREAM_TRUNCATED, "early"))()


@pytest.mark.parametrize("code", [ErrorCode.MESSAGE_MALFORMED, ErrorCode.SAMPLE_NOT_PLANNED, ErrorCode.RELEASE_LIMIT])
def test_a_request_that_a_site_refuses_names_who_made_it(code: ErrorCode) -> None:
    with pytest.raises(MpleError, match=f"{code}: .*: compute/compute sent what this site can't answer: why") as told:
        ended(MpleError(code, "why"))()
    assert told.value.code is code


@pytest.mark.parametrize("code", [None, ErrorCode.UNKNOWN_KEY_REF, ErrorCode.CHECKSUM_MISMATCH, ErrorCode.GOING_DOWN])
def test_the_rest_is_left_as_it_is(code: ErrorCode | None) -> None:
    with pytest.raises(grpc.RpcError):
        ended(Ended(code))()
