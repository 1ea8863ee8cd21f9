"""The folder of a finished run, made without running one: a plan, all nodes' ledgers, metrics, a model, pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from mple.data import Dataset, LabelledImages
from mple.disk.damage import with_checksum
from mple.disk.json_records import write_record
from mple.meter import Direction, Ledger, LedgerEntry, MessageFacts, MessageKind
from mple.metrics import Tally
from mple.pki import Vault
from mple.plan import RunPlan, TrainingSettings
from mple.records.run_folder import COMPUTE, COORDINATOR, RunFolder
from mple.records.scores import NetworkScores
from mple.records.state_files import LEDGER, METRICS, MODEL, OUTCOME, PLAN, SCORES
from mple.records.training import TrainingMetrics, metrics_line
from mple.report import Summary, summarise
from provider_node.feeding.morphing import MorphedImages
from provider_node.feeding.noising import begin_noise
from provider_node.feeding.sample_pictures import keep_sample_pictures
from tests.support.small_plan import key_of, small_plan
from tests.support.training_records import epoch_metrics, outcome, step_metrics

SECOND = 1_000_000_000
BEGIN = 1_790_000_000 * SECOND
EPOCHS, STEPS = 3, 4


def finished_run(
    folder: Path,
    *,
    accuracy: float = 0.75,
    absent: bool = False,
    data_bytes: int = 200,
    plan: RunPlan | None = None,
    more_scores: Mapping[str, float] = MappingProxyType({}),
    more_tallies: Mapping[str, Tally] = MappingProxyType({}),
) -> Summary:
    """Write the folder and sum it up.

    Args:
        folder: New.
        accuracy: Of the last epoch on validation images, and of its network on test images.
        absent: The second epoch went on without a site, and a batch was sent twice.
        data_bytes: Codes of the training samples of a site.
        plan: By default a small one.
        more_scores: Of every epoch, by other metrics than accuracy and loss.
        more_tallies: Of the network that is kept.
    """
    plan = plan or small_plan(training=TrainingSettings(epochs=EPOCHS), vals={"north": 2, "south": 1})
    run = RunFolder(folder, tuple(site.name for site in plan.sites))
    for node in run.nodes:
        run.state(node).mkdir(parents=True)
    compute = run.state(COMPUTE)
    (compute / PLAN).write_bytes(with_checksum(plan.to_json()))
    (compute / MODEL).write_bytes(b"a network")
    (compute / METRICS).write_text("".join(map(metrics_line, _metrics(accuracy, absent, more_scores))))
    plan_sha256, model_sha256 = plan.sha256().hex(), f"{round(1e6 * accuracy):064x}"
    write_record(
        compute / OUTCOME,
        outcome(run_id=plan.run_id, plan_sha256=plan_sha256, model_sha256=model_sha256, read_ahead_seconds=0.0),
    )
    write_record(compute / SCORES, _scores(plan_sha256, model_sha256, accuracy, plan.sites[0].name, more_tallies))
    ledgers = {site: Ledger(run.state(site) / LEDGER, f"site/{site}") for site in run.sites}
    with (
        Ledger(compute / LEDGER, "compute/compute") as trainer,
        Ledger(run.state(COORDINATOR) / LEDGER, "coordinator/coordinator") as coordinator,
    ):
        for name, ledger in ledgers.items():
            _exchange(ledger, name, {"coordinator": coordinator, "compute": trainer}, data_bytes, absent)
            ledger.close()
    for site in run.sites:
        _keep_pictures(run, plan, site)
    return summarise(folder)


def _exchange(site: Ledger, name: str, servers: dict[str, Ledger], data_bytes: int, absent: bool) -> None:
    """What a site says and hears, entered at both ends."""
    S, R = Direction.SENT, Direction.RECEIVED
    data = MessageFacts(MessageKind.DATA, data_bytes, 10, 5)
    calls = [
        (0, "", "coordinator", "Join", [(S, 72, _facts(MessageKind.SETUP)), (R, 20, _facts(MessageKind.SETUP))]),
        (1, "setup", "coordinator", "UploadLayer", [(S, 30_000, MessageFacts(MessageKind.LAYER, 29_900))]),
        (2, "training", "compute", "Feed", [(R, 40, _facts(MessageKind.REQUEST)), (S, data_bytes + 50, data)]),
        (3, "training", "compute", "Feed", [(S, 130, MessageFacts(MessageKind.TEST_DATA, 100, 0, 3))]),
        (30, "training", "compute", "Feed", [(R, 90, MessageFacts(MessageKind.LOGITS, 36, 0, 3))]),
        (40, "finished", "coordinator", "Report", [(S, 18, _facts(MessageKind.REPORT))]),
    ]
    if absent:
        again = MessageFacts(MessageKind.DATA, data_bytes, 10, 5, "", 5)
        calls.insert(4, (4, "training", "compute", "Feed", [(S, data_bytes + 50, again)]))
    for number, (second, phase, role, method, messages) in enumerate(calls):
        server = servers[role]
        peer = {"coordinator": "coordinator/coordinator", "compute": "compute/compute"}[role]
        for index, (way, size, facts) in enumerate(messages):
            for ledger, direction, other in ((site, way, peer), (server, S if way is R else R, f"site/{name}")):
                ledger.phase = phase
                ledger.record(
                    LedgerEntry(
                        time_unix_ns=BEGIN + second * SECOND + index,
                        direction=direction,
                        peer=other,
                        method=method,
                        call_id=f"{name}-{number}",
                        index=index,
                        facts=facts,
                        serialized_bytes=size,
                    )
                )


def _scores(
    plan_sha256: str, model_sha256: str, accuracy: float, site: str, more: Mapping[str, Tally]
) -> NetworkScores:
    """The first site's tallies make the scores of the last epoch."""
    tallies = {"counts": Tally((10**6, round(1e6 * accuracy))), "loss": Tally((1,), (1.5 / EPOCHS,)), **more}
    by_site = {site: tallies}
    return NetworkScores(
        plan_sha256=plan_sha256,
        model_sha256=model_sha256,
        kept_epoch=EPOCHS,
        epochs=EPOCHS,
        val=by_site,
        test=by_site,
    )


def _facts(kind: MessageKind) -> MessageFacts:
    return MessageFacts(kind)


def _metrics(accuracy: float, absent: bool, more_scores: Mapping[str, float]) -> Iterator[TrainingMetrics]:
    for epoch in range(1, EPOCHS + 1):
        losses = tuple(2.0 / epoch - 0.05 * step for step in range(STEPS))
        yield step_metrics(
            epoch=epoch,
            step=STEPS,
            steps=STEPS,
            losses=losses,
            loss=losses[-1],
            samples_per_second=20.0,
            idle_share=0.01 * epoch,
        )
        gone = absent and epoch == 2
        yield epoch_metrics(
            epoch=epoch,
            loss=sum(losses) / STEPS,
            scores={"accuracy": accuracy * epoch / EPOCHS, "loss": 1.5 / epoch, **more_scores},
            seconds=13.0,
            samples=9,
            missing={"south": "0-3"} if gone else {},
            unscored=("south",) if gone else (),
        )


def _keep_pictures(run: RunFolder, plan: RunPlan, site: str) -> None:
    train = pictures_of(plan, site)
    dataset = Dataset(name="small", classes=plan.classes, train=train, test=train.take(np.arange(1)))
    noise = begin_noise(plan, run.state(site), Vault(run.vault_folder(site)), train)
    images = MorphedImages(dataset, plan, site, key_of(site), np.arange(len(plan.classes)), 1, noise)
    keep_sample_pictures(run.state(site), train, plan, images, 8)


def pictures_of(plan: RunPlan, site: str) -> LabelledImages:
    """The same training pictures for the same site."""
    count = plan.site(site).train_images
    dice = np.random.Generator(np.random.PCG64(len(site)))
    pixels = dice.integers(0, 256, (count, plan.channels, plan.height, plan.width)).astype(np.uint8)
    return LabelledImages(pixels, np.arange(count) % len(plan.classes))
