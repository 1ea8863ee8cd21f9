"""A site's way through a run: join, agree on the plan, set up, feed, end."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Sequence

import torch

from mple import __version__
from mple.audit import audit, open_audit
from mple.data import Dataset, open_source
from mple.disk.locks import claim
from mple.disk.whole_files import write_whole
from mple.exit_codes import ExitCode
from mple.meter import Ledger
from mple.model.metrics import scores_text
from mple.node import node_app, run_app
from mple.node.certificate_age import watch_certificate
from mple.node.coordinator_client import CoordinatorClient
from mple.node.logs import log, open_log
from mple.node.monitoring import monitored
from mple.node.retry import RetryPolicy, StoppedError
from mple.node.run_events import ended, phase_name, read_plan
from mple.node.stop import Stop
from mple.pki import Vault
from mple.plan import RunPlan, SiteSettings
from mple.plan.run_plan import PROTOCOL_VERSION
from mple.records.log_events import LogEvent
from mple.rpc import ErrorCode, MpleError, Party, Role, TlsFiles, open_channel, own_party, verify_remote
from mple.v1 import common_pb2, coordinator_pb2
from provider_node.feeding.noising import refuse_weaker
from provider_node.feeding.whole_run import Feeding
from provider_node.keys.rotation_client import KeyRotation, KeyWatch
from provider_node.keys.run_keys import RunKeys
from provider_node.keys.setup import SiteSetup
from provider_node.prediction.predict import predict_verb

_LOGGER = logging.getLogger("mple.provider")
_STOP_GRACE_S = 10.0
_SETTLE_S = 5.0


def main(argv: Sequence[str] | None = None) -> int:
    """The command `mple-provider`."""
    app = node_app("mple-provider", "run", SiteSettings, run)
    app.command("predict")(predict_verb)
    return run_app("mple-provider", app, argv)


def run(settings: SiteSettings, stop: Stop) -> ExitCode:
    """Take part in one run until it has ended, alone in the state folder.

    Raises:
        ValueError: Configuration, certificates, vault or data can't be used.
        MpleError: The run failed, or a party refused this site.
        UnreachableError: A party could not be reached.
    """
    with claim(settings.state, "mple-provider"):
        return _run(settings, stop)


def _run(settings: SiteSettings, stop: Stop) -> ExitCode:
    torch.set_num_threads(settings.threads)
    tls = TlsFiles.in_directory(settings.tls)
    me = own_party(tls, Role.SITE)
    open_log(settings.state, me.name)
    watch_certificate(tls, stop)
    open_audit(settings.state, me.label)
    audit("local", "node_start", "ok", verb="run", version=__version__)
    vault = Vault.of(settings.vault, settings.vault_passphrase_file)
    dataset = open_source(settings.data)
    with (
        Ledger(settings.state / "ledger.sqlite", me.label) as ledger,
        monitored(settings.monitoring, me, tls, ledger),
    ):
        retry = RetryPolicy.to(settings.coordinator, tls, stop, settings.idle_timeout_s)
        try:
            coordinator = retry.call(lambda: verify_remote(settings.coordinator, tls, Role.COORDINATOR))
            with open_channel(settings.coordinator, tls, coordinator, ledger) as channel:
                client = CoordinatorClient(channel, retry)
                site = _Site(settings, tls, me, coordinator, vault, dataset, ledger, client, stop)
                try:
                    return site.take_part()
                finally:
                    site.end_watch()
        except StoppedError:
            return ExitCode.INTERRUPTED


class _Site:
    def __init__(
        self,
        settings: SiteSettings,
        tls: TlsFiles,
        me: Party,
        coordinator: Party,
        vault: Vault,
        dataset: Dataset,
        ledger: Ledger,
        client: CoordinatorClient,
        stop: Stop,
    ) -> None:
        self._settings, self._tls, self._me, self._coordinator = settings, tls, me, coordinator
        self._vault, self._dataset, self._ledger, self._client, self._stop = vault, dataset, ledger, client, stop
        self._keys = RunKeys(settings.state)
        self._plan: RunPlan | None = None
        self._made: coordinator_pb2.PlanMade | None = None
        self._feeding: Feeding | None = None
        self._feeder: threading.Thread | None = None
        self._watch: KeyWatch | None = None
        self._news: queue.Queue[coordinator_pb2.WatchResponse | Exception] = queue.Queue()

    def take_part(self) -> ExitCode:
        run_id = self._join()
        self._ledger.set_run(run_id)
        train_images = len(self._dataset.train.labels)
        audit("local", "join", "ok", run=run_id, train_images=train_images)
        log(_LOGGER, logging.INFO, "joined", f"joined run {run_id} with {train_images} training images")
        threading.Thread(target=self._follow, name="events", daemon=True).start()
        while not self._stop.is_set():
            try:
                news = self._news.get(timeout=0.2)
            except queue.Empty:
                continue
            if isinstance(news, Exception):
                self._client.report_failure(news)
                raise news
            try:
                self._on_event(news)
            except StoppedError:
                break
            except Exception as fault:
                self._client.report_failure(fault)
                raise
            if ended(news):
                return self._end(news)
        if self._feeder is not None:
            self._feeder.join(timeout=_STOP_GRACE_S)  # a thread inside torch at the process's end would abort it
        return ExitCode.INTERRUPTED

    def end_watch(self) -> None:
        """Look at the vault no more; a second call does nothing."""
        if self._watch is not None:
            self._watch.end(_STOP_GRACE_S)

    def _join(self) -> str:
        """Join with the current key or, where the run began with an older one, with that one again."""
        epoch = self._vault.current_epoch()
        fingerprint = self._vault.morph_key().fingerprint().hex()
        try:
            run_id = self._client.join(self._join_request(epoch, fingerprint))
        except MpleError as refusal:
            kept = self._keys.kept
            if refusal.code is not ErrorCode.ALREADY_JOINED or kept is None or kept.planned == epoch:
                raise
            epoch, fingerprint = kept.planned, kept.fingerprints[kept.planned]
            run_id = self._client.join(self._join_request(epoch, fingerprint))
        self._keys.begin(run_id, epoch, fingerprint)
        return run_id

    def _join_request(self, epoch: int, fingerprint: str) -> coordinator_pb2.JoinRequest:
        profile = self._profile(epoch, fingerprint)
        return coordinator_pb2.JoinRequest(protocol_version=PROTOCOL_VERSION, site=profile)

    def _follow(self) -> None:
        try:
            for event in self._client.events():
                self._news.put(event)
        except Exception as fault:
            self._news.put(fault)

    def _profile(self, epoch: int, fingerprint: str) -> coordinator_pb2.SiteProfile:
        shape = self._dataset.train.shape
        return coordinator_pb2.SiteProfile(
            channels=shape.channels,
            height=shape.height,
            width=shape.width,
            classes=self._dataset.classes,
            train_images=len(self._dataset.train.labels),
            test_images=len(self._dataset.test.labels),
            key_ref=common_pb2.KeyRef(site=self._me.name, epoch=epoch, fingerprint=bytes.fromhex(fingerprint)),
        )

    def _on_event(self, event: coordinator_pb2.WatchResponse) -> None:
        kind = event.WhichOneof("event")
        if kind == "plan_made":
            self._made = event.plan_made
            self._plan = self._agree(read_plan(event.plan_made))
        elif kind == "phase_changed":
            phase = event.phase_changed.phase
            self._ledger.set_phase(phase_name(event.phase_changed))
            audit("local", "phase", "ok", phase=phase_name(event.phase_changed))
            if phase == coordinator_pb2.PHASE_SETUP:
                self._set_up()
            elif phase == coordinator_pb2.PHASE_TRAINING:
                self._begin_feeding()
        elif kind == "epoch_done":
            done = event.epoch_done
            text = f"epoch {done.epoch}: loss {done.loss:.4f}, {scores_text(done.scores)}"
            scores = {f"test_{name}": value for name, value in done.scores.items()}
            log(_LOGGER, logging.INFO, "epoch", text, epoch=done.epoch, **scores)
        elif kind == "key_ready" and event.key_ready.key_ref.site == self._me.name:
            self._known_feeding().switch(event.key_ready.key_ref)
        elif kind == "key_erased" and self._watch is not None:
            self._watch.rotation.note_erased(event.key_erased)

    def _agree(self, plan: RunPlan) -> RunPlan:
        """Compare the plan with what this site brought, so that nobody can plan other than was offered."""
        epoch = self._keys.notes.planned
        fingerprint = self._keys.notes.fingerprints[epoch]
        mine, profile = plan.site(self._me.name), self._profile(epoch, fingerprint)
        offered = (profile.train_images, profile.test_images, epoch, fingerprint)
        planned = (mine.train_images, mine.test_images, mine.key_epoch, mine.key_fingerprint)
        shape = (profile.channels, profile.height, profile.width, tuple(profile.classes))
        if offered != planned or shape != (plan.channels, plan.height, plan.width, plan.classes):
            text = f"the plan says {planned} for this site, offered was {offered}"
            raise MpleError(ErrorCode.PLAN_HASH_MISMATCH, text)
        refuse_weaker(plan, self._settings.privacy.most_budget_bits)
        kept = self._settings.state / "plan.json"
        if kept.exists():
            before = RunPlan.from_json(kept.read_bytes())
            if before.run_id == plan.run_id and before.sha256() != plan.sha256():
                raise MpleError(
                    ErrorCode.PLAN_HASH_MISMATCH,
                    f"plan {plan.sha256().hex()[:16]} differs from {before.sha256().hex()[:16]}, agreed on before",
                )
        write_whole(kept, plan.to_json())
        audit("local", "plan", "ok", run=plan.run_id, sha256=plan.sha256().hex())
        log(
            _LOGGER, logging.INFO, LogEvent.PLAN, f"agreed on plan {plan.sha256().hex()[:16]}", plan=plan.sha256().hex()
        )
        return plan

    def _set_up(self) -> None:
        plan = self._known_plan()
        if self._made is None:
            raise MpleError(ErrorCode.WRONG_PHASE, "set-up began before there was a plan")
        SiteSetup(
            me=self._me,
            coordinator=self._coordinator,
            vault=self._vault,
            keys=self._keys,
            private_key=self._tls.key,
            ca_pem=self._tls.ca.read_bytes(),
            state=self._settings.state,
            stop=self._stop,
        ).run(self._client, self._made, plan)

    def _begin_feeding(self) -> None:
        plan = self._known_plan()
        self._feeding = Feeding(
            settings=self._settings,
            tls=self._tls,
            site=self._me.name,
            vault=self._vault,
            dataset=self._dataset,
            ledger=self._ledger,
            plan=plan,
            keys=self._keys,
            stop=self._stop,
        )
        self._feeder = threading.Thread(target=self._feed, name="feed", daemon=True)
        self._feeder.start()
        over = Stop()
        retry = RetryPolicy.to(self._settings.coordinator, self._tls, over, self._settings.idle_timeout_s)
        rotation = KeyRotation(
            client=CoordinatorClient(self._client.channel, retry),
            plan=plan,
            site=self._me.name,
            vault=self._vault,
            keys=self._keys,
            state=self._settings.state,
        )
        self._watch = KeyWatch(rotation, over, self._news.put)

    def _feed(self) -> None:
        try:
            self._known_feeding().until_done()
        except Exception as fault:
            self._news.put(fault)

    def _known_plan(self) -> RunPlan:
        if self._plan is None:
            raise MpleError(ErrorCode.WRONG_PHASE, "the coordinator went on before there was a plan")
        return self._plan

    def _known_feeding(self) -> Feeding:
        if self._feeding is None:
            raise MpleError(ErrorCode.WRONG_PHASE, "keys changed before training began")
        return self._feeding

    def _end(self, event: coordinator_pb2.WatchResponse) -> ExitCode:
        if event.phase_changed.phase == coordinator_pb2.PHASE_FAILED:
            raise MpleError(ErrorCode.RUN_FAILED, event.phase_changed.reason)
        if self._feeder is not None:
            self._known_feeding().run_over()
            self._feeder.join(timeout=_STOP_GRACE_S)
        if self._watch is not None:
            self.end_watch()
            client = CoordinatorClient(self._client.channel, self._client.retry.within(_SETTLE_S))
            self._watch.settle(client, event.sequence)
        self._client.report_totals(self._ledger.totals())
        log(_LOGGER, logging.INFO, "finished", "the run has finished")
        return ExitCode.DONE
