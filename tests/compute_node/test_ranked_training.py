"""Steps that ranks take together equal those of a naive reference: one process that has all batches, each with batch
norms of its own, and takes the mean over all samples. Whole trainings end equal, whatever is killed meanwhile."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from compute_node.ranks import RankEndedError, Ranks
from compute_node.training.checkpoint import CheckpointFolder
from compute_node.training.joint_steps import JointSteps
from compute_node.training.metrics_file import MetricsFile
from compute_node.training.read_ahead import ReadySamples
from compute_node.training.training_run import CheckpointRule, TrainingRun
from mple.meter import Ledger
from mple.metrics import Tally
from mple.model.device import CPU
from mple.model.optimiser import Optimiser
from mple.model.settings import TrainingSettings
from mple.model.training import DivergenceError, StepLoss, TrunkTrainer
from mple.node.retry import StoppedError
from mple.node.stop import Stop
from mple.plan import GlobalSampler
from mple.plan.shares import Share
from mple.records.state_files import state_of_rank
from mple.records.training import epochs_of, read_metrics
from tests.support.ranked import run_ranks, start_server
from tests.support.small_plan import small_plan

SETTINGS = TrainingSettings(peak_lr=0.2)
BATCHES = [(5, 4, 4), (3, 0, 6), (0, 0, 0), (2, 7, 3), (0, 2, 0)]
"""Samples of each rank in five steps; where a rank has none it takes part all the same."""


@pytest.fixture(scope="module", autouse=True)
def server() -> None:
    start_server()


def small_trunk() -> nn.Module:
    torch.manual_seed(5)
    trunk = nn.Sequential()
    trunk.add_module("features", nn.Sequential(nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten()))
    trunk.add_module("classifier", nn.Linear(6 * 4, 3))
    return trunk


def batch(step: int, rank: int, samples: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(10 * step + rank)
    return torch.randn(samples, 2, 4, 4, generator=generator), torch.arange(samples) % 3


def trained(ranks: Ranks, batches: list[tuple[int, ...]], spoiled: int = -1) -> Any:
    """The network after these steps, and their losses; in step `spoiled` that of rank 1 is no number."""
    rank, size = ranks.share.rank, ranks.share.ranks
    trainer = TrunkTrainer(small_trunk(), SETTINGS, 10, rank=rank, ranks=size, wrapped=ranks.wrapped)
    trainer.settle(torch.zeros(1, 2, 4, 4))
    losses = []
    for step, sizes in enumerate(batches):
        features, labels = batch(step, rank, sizes[rank])
        begun = trainer.forward(features, labels) if sizes[rank] else trainer.nothing(torch.zeros(1, 2, 4, 4))
        part = replace(begun.part, nats=np.nan) if step == spoiled and rank == 1 else begun.part
        parts = [pickle.loads(part) for part in ranks.trainer.gather(pickle.dumps(part))]
        total = StepLoss.over(parts)
        losses.append(total.nats)
        if total.samples:
            trainer.backward(begun, total)
    ranks.take_one_network(trainer.trunk)
    return {name: tensor.numpy() for name, tensor in trainer.trunk.state_dict().items()}, losses


def reference(batches: list[tuple[int, ...]]) -> Any:
    trunk = small_trunk()
    optimiser = Optimiser(trunk, SETTINGS, 10)
    losses = []
    for step, sizes in enumerate(batches):
        total = torch.zeros(())
        trunk.train()
        for rank, samples in enumerate(sizes):
            if samples:
                features, labels = batch(step, rank, samples)
                # running statistics are those of rank 0
                buffers = {name: tensor.clone() for name, tensor in trunk.named_buffers()} if rank else {}
                logits = torch.func.functional_call(trunk, buffers, features)
                total = total + functional.cross_entropy(logits, labels) * samples / sum(sizes)
        losses.append(total.item())
        if sum(sizes):
            optimiser.clear_gradients()
            total.backward()
            optimiser.step()
    return {name: tensor.numpy() for name, tensor in trunk.state_dict().items()}, losses


def test_three_ranks_take_the_mean_over_all_samples_in_every_step() -> None:
    weights, losses = reference(BATCHES)
    for found, told in run_ranks(3, trained, BATCHES):
        assert told == pytest.approx(losses, abs=1e-5)
        for name, tensor in weights.items():
            assert found[name] == pytest.approx(tensor, rel=1e-4, abs=1e-5), name


def test_divergence_at_one_rank_ends_all_alike() -> None:
    first, second = run_ranks(2, trained, [(4, 4), (4, 4)], 1)
    assert isinstance(first, DivergenceError)
    assert isinstance(second, DivergenceError)
    assert str(first) == str(second)
    assert "the loss of step 1 is" in str(first)


def talk(ranks: Ranks) -> Any:
    """What a rank hears, of short and of long words."""
    own = [bytes([65 + ranks.share.rank]) * length for length in (3, 3_000 * (1 + ranks.share.rank))]
    heard = [(ranks.main.gather(mine), ranks.trainer.collect(mine), ranks.main.broadcast(mine)) for mine in own]
    return heard, {name: tensor.tolist() for name, tensor in ranks.shared(own_tensors(ranks.share.rank)).items()}


def own_tensors(rank: int) -> dict[str, Tensor]:
    return {"a": torch.full((300,), float(rank)), "b": torch.tensor(rank)} if rank == 0 else {}


def test_ranks_hear_one_another() -> None:
    short, long = ((b"A" * 3, b"B" * 3, b"C" * 3), (b"A" * 3_000, b"B" * 6_000, b"C" * 9_000))
    for rank, (heard, tensors) in enumerate(run_ranks(3, talk)):
        collected = (short, long) if rank == 0 else ((), ())
        assert heard == [(short, collected[0], short[0]), (long, collected[1], long[0])]
        assert tensors == {"a": [0.0] * 300, "b": 0}


def end_early(ranks: Ranks, fault: Exception | None = None, group: str = "main") -> Any:
    if fault is not None and group == "trainer":
        ranks.trainer.tell(fault)
    if fault is not None:
        raise fault
    (ranks.main if group == "main" else ranks.trainer).gather()


def test_what_ends_one_rank_is_told_by_all() -> None:
    taken = ValueError("port 7402 is taken")
    first, second = run_ranks(2, end_early, own={1: {"fault": taken}})
    assert isinstance(first, RankEndedError)
    assert str(first) == "rank 1 of the compute node has ended: port 7402 is taken"
    assert str(second) == str(taken)


def test_a_trainer_that_is_told_to_stop_stops_all() -> None:
    ends = run_ranks(2, end_early, group="trainer", own={1: {"fault": StoppedError()}})
    assert [type(end) for end in ends] == [StoppedError, StoppedError]


class _Others:
    """A group in which the others say what is written down."""

    def __init__(self, *said: bytes) -> None:
        self.said = said

    def gather(self, mine: bytes) -> tuple[bytes, ...]:
        return (mine, *self.said)


def test_a_step_has_the_samples_of_all_ranks_but_those_that_one_lacked() -> None:
    plan = small_plan(training=TrainingSettings(batch=6, ranks=2), sizes={"north": (7, 0), "south": (5, 0)})
    own, other = (GlobalSampler([7, 5], 6, 1, Share(rank, 2)) for rank in (0, 1))
    wanted, theirs = own.step(3, 1), other.step(3, 1)
    said: list[bytes] = []
    for samples, nats, numbers in [(2, 0.5, theirs[:2]), (0, 0.0, theirs[:1])]:
        part = StepLoss(samples=samples, weight=float(samples), nats=nats)
        JointSteps(plan, other, _Recorder(said)).taken(3, 1, part, numbers)  # type: ignore[arg-type]
    mine = StepLoss(samples=3, weight=3.0, nats=2.0)
    with_some = JointSteps(plan, own, _Others(said[0])).taken(3, 1, mine, wanted)  # type: ignore[arg-type]
    assert with_some.total == StepLoss(samples=5, weight=5.0, nats=(3 * 2.0 + 2 * 0.5) / 5)
    assert sorted(with_some.numbers.tolist()) == sorted([*wanted.tolist(), *theirs[:2].tolist()])
    with_none = JointSteps(plan, own, _Others(said[1])).taken(3, 1, mine, wanted)  # type: ignore[arg-type]
    assert with_none.total == StepLoss(samples=3, weight=3.0, nats=2.0)
    assert with_none.numbers.tolist() == wanted.tolist()


class _Recorder:
    def __init__(self, said: list[bytes]) -> None:
        self.said = said

    def gather(self, mine: bytes) -> tuple[bytes, ...]:
        self.said.append(mine)
        return (mine, mine)


PLAN = small_plan(
    training=TrainingSettings(epochs=3, batch=7, ranks=3, peak_lr=0.5),
    sizes={"north": (13, 5), "south": (8, 6)},
    vals={"north": 4, "south": 3},
)


class _Intake:
    """Sites that score what they are sent; a sample's class is its number's."""

    def scores(self, split: Any, epoch: int, logits_TC: Any, scored_T: Any) -> dict[str, dict[str, Tally]]:
        assert scored_T.all()
        return {"north": {"loss": Tally((len(logits_TC),), (loss_of(logits_TC),))}}


def loss_of(logits_TC: Any) -> float:
    return float(functional.cross_entropy(torch.as_tensor(logits_TC), torch.arange(len(logits_TC)) % 3)) * len(
        logits_TC
    )


def features_of(numbers: Any) -> Tensor:
    angles = torch.from_numpy(np.asarray(numbers))[:, None] * torch.arange(1.0, 33.0)[None]
    return torch.sin(angles).reshape(-1, 2, 4, 4)


def whole_training(ranks: Ranks, folder: Path, kill_at: int | None = None) -> Any:
    """A training from the newest checkpoint on; the process dies when it wants its next samples for that time."""
    state = state_of_rank(folder, ranks.share.rank)
    state.mkdir(exist_ok=True)
    sampler = GlobalSampler([site.train_images for site in PLAN.sites], 7, PLAN.training.seed, ranks.share)
    trainer = TrunkTrainer(small_trunk(), PLAN.training, 9, rank=ranks.share.rank, ranks=3, wrapped=ranks.wrapped)
    samples: Any = SimpleNamespace(plan=PLAN, sampler=sampler, intake=_Intake(), bank=None, cache=None)
    checkpoints = CheckpointFolder(state / "checkpoints", PLAN.sha256().hex())
    metrics, rule = MetricsFile(state / "metrics.jsonl"), CheckpointRule(every_s=1e9, every_steps=2)
    with Ledger(state / "ledger.sqlite", "compute/compute") as ledger:
        run = TrainingRun(samples, trainer, metrics, checkpoints, rule, ledger, Stop(), ranks)
        run._ahead = _Ahead(kill_at)  # type: ignore[assignment]
        run._scoring.no_features = lambda: torch.zeros(1, 2, 4, 4)  # type: ignore[method-assign]
        run._scoring.features = lambda ready: features_of(ready.numbers)  # type: ignore[method-assign]
        scores = run.run(lambda _: None)
    return scores, {name: tensor.numpy() for name, tensor in trainer.trunk.state_dict().items()}


class _Ahead(nullcontext[None]):
    def __init__(self, kill_at: int | None) -> None:
        super().__init__()
        self.kill_at, self.busy_seconds = kill_at, 0.0

    def in_turn(self, items: Any) -> Iterator[Future[ReadySamples]]:
        for place, item in enumerate(items):
            if place == self.kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            future: Future[ReadySamples] = Future()
            labels = torch.from_numpy(item.numbers % 3)
            sent = CPU.send(torch.empty(0), labels)
            future.set_result(ReadySamples(item, item.numbers, np.zeros(len(labels), np.int64), sent))
            yield future


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    folder = tmp_path_factory.mktemp("whole")
    return folder, run_ranks(3, whole_training, folder)


def test_all_ranks_end_with_one_network_and_rank_0_with_the_scores_of_all_samples(
    undisturbed: tuple[Path, list[Any]],
) -> None:
    folder, [(scores, weights), *others] = undisturbed
    for _, theirs in others:
        assert all(np.array_equal(theirs[name], tensor) for name, tensor in weights.items())
    trunk = small_trunk()
    trunk.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in weights.items()})
    with torch.no_grad():
        logits = trunk.eval()(features_of(range(11)))
    assert scores.test["north"]["loss"].sums[0] == pytest.approx(loss_of(logits), rel=1e-5)
    epochs = epochs_of(read_metrics(folder / "metrics.jsonl"))
    assert [epoch.samples for epoch in epochs] == [21, 21, 21]
    assert not (folder / "rank-1" / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize("kills", [[(1, 4)], [(0, 7), (2, 0)]])
def test_a_rank_that_is_killed_changes_nothing(
    undisturbed: tuple[Path, list[Any]], kills: list[tuple[int, int]], tmp_path: Path
) -> None:
    for rank, kill_at in kills:
        ends = run_ranks(3, whole_training, tmp_path, own={rank: {"kill_at": kill_at}})
        assert ends[rank] is None
        assert all(isinstance(end, RankEndedError) for place, end in enumerate(ends) if place != rank)
    folder, whole = undisturbed
    for (scores, weights), (scores_whole, weights_whole) in zip(
        run_ranks(3, whole_training, tmp_path), whole, strict=True
    ):
        assert scores == scores_whole
        assert all(np.array_equal(weights[name], tensor) for name, tensor in weights_whole.items())
    losses = [[epoch.loss for epoch in epochs_of(read_metrics(one / "metrics.jsonl"))] for one in (folder, tmp_path)]
    assert losses[0] == losses[1]
