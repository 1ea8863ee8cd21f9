"""`mple-provider predict` before a compute node that lies, hangs or breaks off, and with certificates of no use."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from mple.node.retry import StoppedError, UnreachableError
from mple.node.stop import Stop
from mple.pki import Authority, create_authority
from mple.plan import SiteSettings, read_settings
from mple.prediction.options import PredictOptions
from mple.rpc import ErrorCode, MpleError
from mple.v1 import compute_pb2, compute_pb2_grpc
from provider_node.prediction import predict as predicting_site
from provider_node.prediction.predict import predict
from tests.support.certificates import forge
from tests.support.predicting import Site, compute_node, finished_plan, picture, save
from tests.support.served import PartyTls
from tests.support.small_plan import CLASSES

PLAN = finished_plan()
Answers = Callable[[compute_pb2.PredictRequest, grpc.ServicerContext], Iterator[compute_pb2.PredictResponse]]


class Liar(compute_pb2_grpc.ComputeServiceServicer):
    """Answers each request as it is told to, whoever asks."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self.asked = threading.Event()
        self.calls = 0

    def Predict(
        self, request_iterator: Iterator[compute_pb2.PredictRequest], context: grpc.ServicerContext
    ) -> Iterator[compute_pb2.PredictResponse]:
        self.calls += 1
        self.asked.set()
        for request in request_iterator:
            yield from self._answers(request, context)


@pytest.fixture
def site(tmp_path: Path, party_tls: PartyTls) -> Site:
    return Site(tmp_path / "north", party_tls, PLAN)


@pytest.fixture
def ask(tmp_path: Path, site: Site) -> Callable[..., None]:
    """Predicts one picture as the command would, errors and all."""
    path = save(tmp_path / "a.png", picture(1))

    def run(stop: Stop | None = None) -> None:
        settings = read_settings(SiteSettings, site.config)
        predict(settings, PredictOptions(images=(path,)), stop or Stop())

    return run


@pytest.fixture
def lie(tmp_path: Path, party_tls: PartyTls, site: Site) -> Iterator[Callable[[Answers], Liar]]:
    """Starts a compute node that answers so, and points the site at it."""
    running = []

    def start(answers: Answers) -> Liar:
        liar = Liar(answers)
        running.append(compute_node(party_tls, tmp_path / "liar", liar))  # type: ignore[arg-type]
        site.dials(running[-1].__enter__())
        return liar

    yield start
    for one in running:
        one.__exit__(None, None, None)


def answer(
    request: compute_pb2.PredictRequest, values: list[float], *, classes: int = len(CLASSES), after: int = 0
) -> compute_pb2.PredictResponse:
    """These logits, for this request or a later one."""
    data = np.asarray(values, "<f4").tobytes()
    return compute_pb2.PredictResponse(request_id=request.batch.request_id + after, classes=classes, values=data)


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (lambda request, _: iter([answer(request, [1.0, 2.0])]), "8 bytes of logits for 1 samples and 3 classes"),
        (lambda request, _: iter([answer(request, [1.0] * 6)]), "24 bytes of logits for 1 samples and 3 classes"),
        (lambda request, _: iter([answer(request, [])]), "0 bytes of logits"),
        (lambda request, _: iter([answer(request, [1.0, float("nan"), 0.0])]), "NaN or infinity"),
        (lambda request, _: iter([answer(request, [1.0, float("inf"), 0.0])]), "NaN or infinity"),
        (lambda request, _: iter([answer(request, [1.0] * 3, classes=2)]), "answered question 1 with 2 classes"),
        (lambda request, _: iter([answer(request, [1.0] * 3, after=1)]), "answered question 2 with 3 classes"),
        (lambda request, _: iter([answer(request, [1.0] * 3)] * 2), "2 answers of the compute node to one question"),
        (lambda _request, _: iter([]), "0 answers of the compute node to one question"),
    ],
)
def test_an_answer_that_is_none(
    lie: Callable[[Answers], Liar], ask: Callable[..., None], answers: Answers, words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    lie(answers)
    with pytest.raises(MpleError, match=words) as caught:
        ask()
    assert caught.value.code is ErrorCode.MESSAGE_MALFORMED
    assert capsys.readouterr().out == ""


def test_the_largest_logits_that_there_are(
    lie: Callable[[Answers], Liar], ask: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    largest = float(np.finfo(np.float32).max)
    lie(lambda request, _: iter([answer(request, [largest, -largest, 0.0])]))
    ask()
    assert sorted(capsys.readouterr().out.split()[2::2]) == ["0.0000", "0.0000", "1.0000"]


def test_a_compute_node_that_never_answers(
    lie: Callable[[Answers], Liar], ask: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()

    def hang(_request: compute_pb2.PredictRequest, _context: grpc.ServicerContext) -> Iterator[None]:
        over.wait(30)
        return iter([])

    lie(hang)  # type: ignore[arg-type]
    monkeypatch.setattr(predicting_site, "_ANSWER_S", 1.0)
    with pytest.raises(MpleError, match="took longer than 1 s over 1 pictures") as caught:
        ask()
    over.set()
    assert caught.value.code is ErrorCode.STALLED


def test_being_stopped_while_it_waits(
    lie: Callable[[Answers], Liar], ask: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    over, stop = threading.Event(), Stop()

    def hang(_request: compute_pb2.PredictRequest, _context: grpc.ServicerContext) -> Iterator[None]:
        stop.set()
        over.wait(30)
        return iter([])

    lie(hang)  # type: ignore[arg-type]
    with pytest.raises(StoppedError):
        ask(stop)
    over.set()
    assert capsys.readouterr().out == ""


def test_a_link_that_breaks_is_tried_again(
    lie: Callable[[Answers], Liar], ask: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    def second_time(
        request: compute_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> Iterator[compute_pb2.PredictResponse]:
        if liar.calls == 1:
            context.abort(grpc.StatusCode.UNAVAILABLE, "just going down")
        return iter([answer(request, [3.0, 2.0, 1.0])])

    liar = lie(second_time)
    ask()
    assert liar.calls == 2
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_a_compute_node_of_another_authority(
    lie: Callable[[Answers], Liar], site: Site, tmp_path: Path, ask: Callable[..., None]
) -> None:
    lie(lambda request, _: iter([answer(request, [1.0] * 3)]))
    foreign = forge(create_authority(tmp_path / "foreign", "test"), tmp_path / "foreign-north")
    use_tls(site, foreign.key.parent)
    with pytest.raises(UnreachableError, match="certificate of another authority") as caught:
        ask()
    assert "stay = true" not in str(caught.value), "it is up; that is not what is wrong"


def test_an_own_certificate_that_has_expired(
    authority: Authority, site: Site, tmp_path: Path, ask: Callable[..., None]
) -> None:
    use_tls(site, forge(authority, tmp_path / "expired", from_days=-3, to_days=-1).key.parent)
    with pytest.raises(ValueError, match="renew it"):
        ask()


def use_tls(site: Site, folder: Path) -> None:
    """Have the site show another certificate."""
    lines = site.config.read_text(encoding="utf-8").splitlines()
    changed = [f'tls = "{folder}"' if line.startswith("tls =") else line for line in lines]
    site.config.write_text("\n".join(changed) + "\n", encoding="utf-8")
