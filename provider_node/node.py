"""A site's way through a run: join, agree on the plan, set up, feed, end."""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import grpc
import torch

from mple.data import Dataset, open_source
from mple.exit_codes import ExitCode
from mple.meter import Ledger
from mple.morph import MorphKey
from mple.node import Verb, node_verb, run_verbs
from mple.node.coordinator_line import CoordinatorLine, Persistence, StoppedError, ended, read_plan
from mple.node.logs import log, open_log
from mple.pki import Vault
from mple.plan import ProviderSettings, RunPlan
from mple.plan.key_refs import key_ref
from mple.plan.orders import label_order
from mple.plan.run_plan import PROTOCOL_VERSION
from mple.rpc import ErrorCode, MpleError, Party, Role, TlsFiles, open_channel, own_party, verify_remote
from mple.v1 import common_pb2, compute_pb2_grpc, coordinator_pb2
from provider_node.feed import SiteFeed
from provider_node.morphing import MorphedImages
from provider_node.predict import add_arguments, predict
from provider_node.release_book import ReleaseBook
from provider_node.setup import SiteSetup

_LOGGER = logging.getLogger("mple.provider")
_KEY_EPOCH = 1
_STOP_GRACE_S = 10.0


def main(argv: Sequence[str] | None = None) -> int:
    """The command `mple-provider`."""
    prediction = Verb(
        name="predict",
        about="print class probabilities of pictures, by the network of the site's last run",
        settings_type=ProviderSettings,
        body=predict,
        add_arguments=add_arguments,
    )
    return run_verbs("mple-provider", [node_verb("run", ProviderSettings, run), prediction], argv)


def run(settings: ProviderSettings, stop: threading.Event) -> ExitCode:
    """Take part in one run until it has ended.

    Raises:
        ValueError: Configuration, certificates, vault or data can't be used.
        MpleError: The run failed, or a party refused this site.
        UnreachableError: A party could not be reached.
    """
    torch.set_num_threads(settings.threads)
    settings.state.mkdir(parents=True, exist_ok=True)
    tls = TlsFiles.in_directory(settings.tls)
    me = own_party(tls, Role.SITE)
    open_log(settings.state, me.name)
    vault = Vault(settings.vault)
    dataset = open_source(settings.data)
    with Ledger(settings.state / "ledger.sqlite", me.label) as ledger:
        persistence = Persistence(settings.coordinator, tls, stop, settings.idle_timeout_s)
        try:
            coordinator = persistence.call(lambda: verify_remote(settings.coordinator, tls, Role.COORDINATOR))
            with open_channel(settings.coordinator, tls, coordinator, ledger) as channel:
                line = CoordinatorLine(channel, persistence)
                site = _Site(settings, tls, me, coordinator, vault, dataset, ledger, line, stop)
                return site.take_part()
        except StoppedError:
            return ExitCode.INTERRUPTED


class _Site:
    def __init__(
        self,
        settings: ProviderSettings,
        tls: TlsFiles,
        me: Party,
        coordinator: Party,
        vault: Vault,
        dataset: Dataset,
        ledger: Ledger,
        line: CoordinatorLine,
        stop: threading.Event,
    ) -> None:
        self._settings, self._tls, self._me, self._coordinator = settings, tls, me, coordinator
        self._vault, self._dataset, self._ledger, self._line, self._stop = vault, dataset, ledger, line, stop
        self._key: MorphKey = vault.morph_key()
        self._plan: RunPlan | None = None
        self._made: coordinator_pb2.PlanMade | None = None
        self._feeding: threading.Thread | None = None
        self._news: queue.Queue[coordinator_pb2.WatchResponse | Exception] = queue.Queue()

    def take_part(self) -> ExitCode:
        profile = self._profile()
        run_id = self._line.join(coordinator_pb2.JoinRequest(protocol_version=PROTOCOL_VERSION, site=profile))
        self._ledger.set_run(run_id)
        log(_LOGGER, logging.INFO, "joined", f"joined run {run_id} with {profile.train_images} training images")
        threading.Thread(target=self._follow, name="events", daemon=True).start()
        while not self._stop.is_set():
            try:
                news = self._news.get(timeout=0.2)
            except queue.Empty:
                continue
            if isinstance(news, Exception):
                if not isinstance(news, StoppedError | grpc.RpcError):
                    self._line.report_failure(news)
                raise news
            try:
                self._on_event(news)
            except StoppedError:
                break
            except Exception as fault:
                self._line.report_failure(fault)
                raise
            if ended(news):
                return self._end(news)
        if self._feeding is not None:
            self._feeding.join(timeout=_STOP_GRACE_S)  # a thread inside torch at the process's end would abort it
        return ExitCode.INTERRUPTED

    def _follow(self) -> None:
        try:
            for event in self._line.events():
                self._news.put(event)
        except Exception as fault:
            self._news.put(fault)

    def _profile(self) -> coordinator_pb2.SiteProfile:
        shape = self._dataset.train.shape
        return coordinator_pb2.SiteProfile(
            channels=shape.channels,
            height=shape.height,
            width=shape.width,
            classes=self._dataset.classes,
            train_images=len(self._dataset.train.labels),
            test_images=len(self._dataset.test.labels),
            key_ref=common_pb2.KeyRef(site=self._me.name, epoch=_KEY_EPOCH, fingerprint=self._key.fingerprint()),
        )

    def _on_event(self, event: coordinator_pb2.WatchResponse) -> None:
        kind = event.WhichOneof("event")
        if kind == "plan_made":
            self._made = event.plan_made
            self._plan = self._agree(read_plan(event.plan_made))
        elif kind == "phase_changed":
            phase = event.phase_changed.phase
            self._ledger.set_phase(coordinator_pb2.Phase.Name(phase).removeprefix("PHASE_").lower())
            if phase == coordinator_pb2.PHASE_SETUP:
                self._set_up()
            elif phase == coordinator_pb2.PHASE_TRAINING:
                self._feeding = threading.Thread(target=self._feed, name="feed", daemon=True)
                self._feeding.start()
        elif kind == "epoch_done":
            done = event.epoch_done
            text = f"epoch {done.epoch}: loss {done.loss:.4f}, test accuracy {done.test_accuracy:.4f}"
            log(_LOGGER, logging.INFO, "epoch", text, epoch=done.epoch, test_accuracy=done.test_accuracy)

    def _agree(self, plan: RunPlan) -> RunPlan:
        """Compare the plan with what this site brought, so that nobody can plan other than was offered."""
        mine, profile = plan.site(self._me.name), self._profile()
        offered = (profile.train_images, profile.test_images, _KEY_EPOCH, self._key.fingerprint().hex())
        planned = (mine.train_images, mine.test_images, mine.key_epoch, mine.key_fingerprint)
        shape = (profile.channels, profile.height, profile.width, tuple(profile.classes))
        if offered != planned or shape != (plan.channels, plan.height, plan.width, plan.classes):
            text = f"the plan says {planned} for this site, offered was {offered}"
            raise MpleError(ErrorCode.PLAN_HASH_MISMATCH, text)
        kept = self._settings.state / "plan.json"
        if kept.exists():
            before = RunPlan.from_json(kept.read_bytes())
            if before.run_id == plan.run_id and before.sha256() != plan.sha256():
                raise MpleError(
                    ErrorCode.PLAN_HASH_MISMATCH,
                    f"plan {plan.sha256().hex()[:16]} differs from {before.sha256().hex()[:16]}, agreed on before",
                )
        _write_atomically(kept, plan.to_json())
        log(_LOGGER, logging.INFO, "plan", f"agreed on plan {plan.sha256().hex()[:16]}", plan=plan.sha256().hex())
        return plan

    def _set_up(self) -> None:
        if self._plan is None or self._made is None:
            raise MpleError(ErrorCode.WRONG_PHASE, "set-up began before there was a plan")
        SiteSetup(
            me=self._me,
            coordinator=self._coordinator,
            vault=self._vault,
            key=self._key,
            private_key=self._tls.key,
            ca_pem=self._tls.ca.read_bytes(),
            state=self._settings.state,
            stop=self._stop,
        ).run(self._line, self._made, self._plan)

    def _feed(self) -> None:
        try:
            self._feed_until_done()
        except Exception as fault:
            self._news.put(fault)

    def _feed_until_done(self) -> None:
        if self._plan is None:
            raise MpleError(ErrorCode.WRONG_PHASE, "training began before there was a plan")
        plan, settings = self._plan, self._settings
        order = label_order(self._vault.consortium_secret(plan.run_id), len(plan.classes))
        feed = SiteFeed(
            plan,
            key_ref(plan, self._me.name),
            MorphedImages(self._dataset, plan, self._me.name, self._key, order),
            self._dataset.test.labels,
            order,
            ReleaseBook(
                settings.state / f"releases-{plan.run_id}.bin",
                train=plan.site(self._me.name).train_images,
                test=plan.site(self._me.name).test_images,
                most=plan.wire.releases,
            ),
        )
        persistence = Persistence(settings.compute, self._tls, self._stop, settings.idle_timeout_s)
        compute = persistence.call(lambda: verify_remote(settings.compute, self._tls, Role.COMPUTE))
        with open_channel(settings.compute, self._tls, compute, self._ledger) as channel:
            stub = compute_pb2_grpc.ComputeServiceStub(channel)
            log(_LOGGER, logging.INFO, "feeding", f"feeding {compute.label}")
            began = time.monotonic()
            if persistence.call(lambda: feed.run(stub, self._stop)):
                log(_LOGGER, logging.INFO, "fed", f"the compute node is done after {time.monotonic() - began:.1f} s")

    def _end(self, event: coordinator_pb2.WatchResponse) -> ExitCode:
        if event.phase_changed.phase == coordinator_pb2.PHASE_FAILED:
            raise MpleError(ErrorCode.RUN_FAILED, event.phase_changed.reason)
        if self._feeding is not None:
            self._feeding.join(timeout=_STOP_GRACE_S)
        self._ledger.flush()
        totals = self._ledger.totals()
        self._line.report(
            coordinator_pb2.ReportRequest(
                ledger_totals=coordinator_pb2.LedgerTotals(
                    messages_sent=totals.messages_sent,
                    messages_received=totals.messages_received,
                    bytes_sent=totals.bytes_sent,
                    bytes_received=totals.bytes_received,
                )
            )
        )
        log(_LOGGER, logging.INFO, "finished", "the run has finished")
        return ExitCode.DONE


def _write_atomically(path: Path, content: bytes) -> None:
    temporary = path.with_name(path.name + ".part")
    temporary.write_bytes(content)
    os.replace(temporary, path)
