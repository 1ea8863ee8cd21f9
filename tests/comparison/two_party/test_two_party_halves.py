"""Both halves of the protocols over a real link in one process: forms of networks that the small one has not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from comparison.networks import QuantisedNetwork, small_network
from comparison.two_party.activations import SLICE_INSTANCES
from comparison.two_party.gazelle import GazelleClient, GazelleServer
from comparison.two_party.link import Link
from comparison.two_party.minionn import MinionnClient, MinionnServer
from comparison.two_party.network_form import form_of
from comparison.two_party.session import Method, answer_greeting, greet, run_client, run_server
from comparison.two_party.spool import Spool
from comparison.two_party.stopwatch import Stopwatch
from mple.morph import ImageShape
from mple.rpc import ErrorCode, MpleError
from tests.support.linked import Pair
from tests.support.served import PartyTls

METHODS = [Method.GAZELLE, Method.MINIONN]
Infer = Callable[..., list[NDArray[np.int64]]]


@pytest.fixture
def pair(tmp_path: Path, party_tls: PartyTls) -> Iterator[Pair]:
    one = Pair(tmp_path, party_tls)
    yield one
    one.close()


@pytest.fixture
def infer(pair: Pair, tmp_path: Path) -> Iterator[Infer]:
    """Logits of pictures by a method."""
    with Spool(tmp_path / "client.spool") as theirs, Spool(tmp_path / "server.spool") as ours:

        def run(
            method: Method, network: QuantisedNetwork, pictures_NCHW: NDArray[np.uint8], held_bytes: int = 10**9
        ) -> list[NDArray[np.int64]]:
            form = form_of(network)

            def serve(link: Link) -> None:
                count = answer_greeting(link, method, form)
                gazelle = method is Method.GAZELLE
                half = (
                    GazelleServer(link, network, form, held_bytes)
                    if gazelle
                    else MinionnServer(link, network, form, ours, held_bytes)
                )
                run_server(link, half, count, Stopwatch())

            pair.serve(serve)
            told = greet(pair.client, method, len(pictures_NCHW))
            half = (
                GazelleClient(pair.client, told, theirs)
                if method is Method.GAZELLE
                else MinionnClient(pair.client, told)
            )
            logits = run_client(pair.client, half, pictures_NCHW, Stopwatch())
            pair.join()
            return logits

        yield run


@pytest.mark.parametrize("method", METHODS)
def test_activations_of_several_slices(method: Method, infer: Infer) -> None:
    random = np.random.default_rng(8)
    first, _, last = small_network().stages
    first = replace(
        first,
        weights_OIpp=random.integers(-3, 4, (20, 3, 3, 3)).astype(np.int32),
        bias_O=random.integers(-9, 9, 20),
        pool="sum",
    )
    last = replace(last, weights_OIpp=random.integers(-1, 2, (3, 20 * 256, 1, 1)).astype(np.int32), bias_O=np.arange(3))
    shape = ImageShape(channels=3, height=32, width=32)
    network = replace(small_network(), name="wide", input_shape=shape, stages=(first, last))
    assert form_of(network).stages[0].instances > SLICE_INSTANCES
    pictures_NCHW = random.integers(0, 256, (1, 3, 32, 32)).astype(np.uint8)
    assert np.array_equal(infer(method, network, pictures_NCHW), network.run(pictures_NCHW))


@pytest.mark.parametrize("method", METHODS)
def test_weights_that_are_encoded_anew_for_each_inference(method: Method, infer: Infer) -> None:
    network = small_network(seed=5)
    pictures_NCHW = np.random.default_rng(1).integers(0, 256, (2, 3, 8, 8)).astype(np.uint8)
    assert np.array_equal(infer(method, network, pictures_NCHW, held_bytes=0), network.run(pictures_NCHW))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bits", [21, 22])
def test_other_moduli(method: Method, bits: int, infer: Infer) -> None:
    network = small_network(seed=3, modulus_bits=bits)
    pictures_NCHW = np.random.default_rng(9).integers(0, 256, (1, 3, 8, 8)).astype(np.uint8)
    assert np.array_equal(infer(method, network, pictures_NCHW), network.run(pictures_NCHW))


def test_a_client_of_another_method_is_refused(pair: Pair) -> None:
    form = form_of(small_network())
    pair.serve(lambda link: link.require_end() if answer_greeting(link, Method.MINIONN, form) else None)
    with pytest.raises(MpleError, match="method gazelle was asked for; this server does minionn") as refused:
        greet(pair.client, Method.GAZELLE, 1)
    assert refused.value.code is ErrorCode.MESSAGE_MALFORMED


def test_more_inferences_than_can_be_are_refused(pair: Pair) -> None:
    form = form_of(small_network())
    pair.serve(lambda link: link.require_end() if answer_greeting(link, Method.PLAIN, form) else None)
    with pytest.raises(MpleError, match="0 inferences; allowed are 1 to"):
        greet(pair.client, Method.PLAIN, 0)
