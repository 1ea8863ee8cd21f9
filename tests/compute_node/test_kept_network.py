"""The network that is kept: the same one whatever is killed when, on real checkpoints; and damaged files of it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from compute_node.training.checkpoint import Checkpoint, CheckpointFolder
from compute_node.training.kept_network import KeptNetwork
from compute_node.training.metrics_file import MetricsFile
from compute_node.training.network_scoring import Scored
from compute_node.training.read_ahead import ReadySamples, Wanted
from compute_node.training.training_run import CheckpointRule, TrainingRun
from mple.disk.damage import DamagedError
from mple.meter import Ledger
from mple.metrics import Outputs, Tally, values
from mple.model.device import CPU
from mple.model.settings import Keep, TaskKind
from mple.model.training import TrunkTrainer
from mple.node.retry import StoppedError
from mple.node.stop import Stop
from mple.plan import GlobalSampler, RunPlan, TrainingSettings
from mple.records.scores import NetworkScores
from mple.records.training import EpochMetrics, epochs_of, read_metrics
from mple.v1 import common_pb2
from tests.support.checkpoints import PLAN, POSITION
from tests.support.small_plan import TEST, TRAIN, VAL, small_plan

EPOCHS = 5


@dataclass
class Told:
    """Stands for intake, cache and layers: samples are functions of their numbers, validation says what is written."""

    losses: list[float]
    kill_at: int | None
    """How many steps are trained before the process is killed."""
    trainer: TrunkTrainer
    trained: list[int]
    busy_seconds: float = 0.0

    def in_turn(self, items: Iterator[Wanted]) -> Iterator[Future[ReadySamples]]:
        for item in items:
            future: Future[ReadySamples] = Future()
            labels = torch.from_numpy(item.numbers % 3)
            keys = np.zeros(len(item.numbers), np.int64)
            future.set_result(ReadySamples(item, item.numbers, keys, CPU.send(torch.empty(0), labels)))
            yield future

    def wanted(self, split: common_pb2.Split) -> Iterator[Wanted]:
        yield Wanted(split, np.arange(2, dtype=np.int64))

    def next(self, coming: Iterator[Future[ReadySamples]]) -> ReadySamples:
        samples = next(coming).result()
        assert samples.wanted.split == TRAIN
        if self.kill_at is not None:
            if self.kill_at == 0:
                raise StoppedError
            self.kill_at -= 1
        self.trained += samples.numbers.tolist()
        return samples

    def features(self, samples: ReadySamples) -> torch.Tensor:
        return torch.sin(torch.arange(4.0)[None] * (1.0 + torch.from_numpy(samples.numbers)[:, None]))

    def score(self, split: common_pb2.Split, epoch: int, coming: Iterator[Future[ReadySamples]]) -> Scored:
        assert next(coming).result().wanted.split == split
        weights = float(sum(tensor.double().sum() for tensor in self.trainer.trunk.state_dict().values()))
        loss = self.losses[epoch - 1] if split == VAL else abs(weights)
        tallies = {"north": {"loss": Tally((1,), (loss,)), "counts": Tally((2, epoch % 2))}}
        return Scored(tallies=tallies, values=values(tallies["north"], Outputs(3, TaskKind.CLASSES)))


def one_process(folder: Path, plan: RunPlan, losses: list[float], kill_at: int | None, every: int) -> Any:
    """What a process comes to, None when it is killed; and the samples that it has trained on."""
    torch.manual_seed(3)
    trunk = nn.Sequential(nn.Linear(4, 3))
    sampler = GlobalSampler([site.train_images for site in plan.sites], plan.training.batch, plan.training.seed)
    trainer = TrunkTrainer(trunk, plan.training, sampler.steps_per_epoch * plan.training.epochs)
    metrics = MetricsFile(folder / "metrics.jsonl")
    samples: Any = SimpleNamespace(plan=plan, sampler=sampler, intake=None, bank=None, cache=None)
    checkpoints = CheckpointFolder(folder / "checkpoints", plan.sha256().hex())
    told = Told(losses, kill_at, trainer, [])
    with Ledger(folder / "ledger.sqlite", "compute/compute") as ledger:
        rule = CheckpointRule(every_s=1e9, every_steps=every)
        run = TrainingRun(samples, trainer, metrics, checkpoints, rule, ledger, Stop())
        run._scoring, run._ahead = told, _Ahead(told)  # type: ignore[assignment]
        try:
            return run.run(lambda _: None), told.trained, trainer.trunk.state_dict()
        except StoppedError:
            return None, told.trained, {}
        finally:
            metrics.close()


class _Ahead(nullcontext[None]):
    def __init__(self, told: Told) -> None:
        super().__init__()
        self.in_turn, self.busy_seconds = told.in_turn, 0.0


def planned(**training: Any) -> RunPlan:
    known = TrainingSettings(epochs=EPOCHS, batch=3, peak_lr=0.5)
    return small_plan(training=replace(known, **training), vals={"north": 2})


@settings(max_examples=8, deadline=None)
@example([1.0, 0.25, 0.5, 0.75, 1.0], None, None, [10], 1)  # killed behind the best epoch, which none after it equals
@example([1.0, 0.25, 0.5, 0.75, 1.0], 2, None, [10, 1], 2)
@given(
    st.lists(st.sampled_from([0.25, 0.5, 0.75, 1.0]), min_size=EPOCHS, max_size=EPOCHS),
    st.sampled_from([None, 1, 2]),
    st.sampled_from([None, Keep.LAST]),
    st.lists(st.integers(0, 14), max_size=3),
    st.sampled_from([1, 2, 4, 100]),
)
def test_kills_change_neither_the_kept_network_nor_the_end(
    tmp_path_factory: pytest.TempPathFactory,
    losses: list[float],
    patience: int | None,
    keep: Keep | None,
    kills: list[int],
    every: int,
) -> None:
    folder, plan = tmp_path_factory.mktemp("run"), planned(patience_epochs=patience, keep=keep)
    (folder / "whole").mkdir()
    whole, trained, weights = one_process(folder / "whole", plan, losses, None, every)
    for kill_at in [*kills, None]:
        found, _, ended = one_process(folder, plan, losses, kill_at, every)
        kept = list((folder / "checkpoints").glob("kept/*.safetensors"))
        assert len(kept) <= 3, "at most those of two checkpoints and the newest"
        if found is not None:
            break
    assert isinstance(found, NetworkScores)
    assert found == whole
    assert all(torch.equal(ended[name], tensor) for name, tensor in weights.items())
    epochs = epochs_of(read_metrics(folder / "metrics.jsonl"))
    assert [epoch.epoch for epoch in epochs] == list(range(1, whole.epochs + 1))
    assert figures(epochs) == figures(epochs_of(read_metrics(folder / "whole" / "metrics.jsonl")))
    best = losses[: whole.epochs].index(min(losses[: whole.epochs])) + 1
    assert whole.kept_epoch == (whole.epochs if keep is Keep.LAST else best)
    if patience is not None:
        assert whole.epochs == min(EPOCHS, next(
            (n for n in range(1, EPOCHS + 1) if n - 1 - losses[:n].index(min(losses[:n])) >= patience), EPOCHS
        ))  # fmt: skip
    assert len(trained) == 9 * whole.epochs, "each of nine training samples once an epoch, and no other"
    assert set(trained) == set(range(9))


def figures(epochs: tuple[EpochMetrics, ...]) -> list[tuple[float, dict[str, float]]]:
    return [(epoch.loss, epoch.scores) for epoch in epochs]


def test_without_validation_the_last_network_is_tested_once(tmp_path: Path) -> None:
    plan = small_plan(training=TrainingSettings(epochs=2, batch=3))
    asked: list[common_pb2.Split] = []
    score = Told.score

    def scored(told: Told, split: common_pb2.Split, epoch: int, coming: Any) -> Scored:
        asked.append(split)
        return Scored() if split == VAL else score(told, split, epoch, coming)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Told, "score", scored)
        patch.setattr(
            Told, "wanted", lambda told, split: iter(()) if split == VAL else iter([Wanted(TEST, np.arange(1))])
        )
        found, _, _ = one_process(tmp_path, plan, [], None, 100)
    assert (found.kept_epoch, found.epochs, found.val) == (2, 2, {})
    assert asked == [VAL, VAL, TEST]
    assert not (tmp_path / "checkpoints" / "kept").exists()


def kept_network(epoch: int) -> KeptNetwork:
    tallies = {"north": {"loss": Tally((3,), (0.1 * epoch,))}}
    return KeptNetwork(epoch=epoch, weights={"a": torch.full((2, 3), float(epoch))}, val=tallies)


def test_a_kept_network_comes_back_and_others_go(tmp_path: Path) -> None:
    kept = CheckpointFolder(tmp_path, PLAN).kept
    first = kept.write(kept_network(1), ())
    second = kept.write(kept_network(2), {first})
    assert kept.sound(first)
    third = kept.write(kept_network(3), {second})
    assert [kept.sound(name) for name in (first, second, third)] == [False, True, True]
    found = kept.read(third)
    assert (found.epoch, found.val) == (3, kept_network(3).val)
    assert torch.equal(found.weights["a"], torch.full((2, 3), 3.0))
    with pytest.raises(DamagedError, match="is gone or damaged"):
        kept.read(first)


def test_a_checkpoint_whose_kept_network_is_damaged_is_not_used(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, PLAN)
    names = [folder.kept.write(kept_network(1), ())]
    names.append(folder.kept.write(kept_network(2), names))
    for steps, name in enumerate(names, start=1):
        folder.write(Checkpoint(replace(POSITION, steps_done=steps, kept=name), {"weights": torch.zeros(1)}))
    assert folder.kept_names() == set(names)
    path = tmp_path / "kept" / f"{names[1]}.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    found = CheckpointFolder(tmp_path, PLAN).newest()
    assert found is not None
    assert (found.position.steps_done, found.position.kept) == (1, names[0])
    folder.clear()
    assert not list(tmp_path.rglob("*.safetensors"))
