"""`mple-provider predict`: class probabilities for pictures, without showing the pictures.

Pictures are normalised and morphed here under the plan and the key of a run that this site took part in; the compute
node answers with logits in the permuted class order; the order is undone here, where the consortium secret is.

Legend: N pictures, B of one message, C classes.
"""

import functools
import itertools
from pathlib import Path

import grpc
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from mple.morph import MorphKey
from mple.morph.basis import Basis
from mple.node.logs import log
from mple.node.retry import UnreachableError
from mple.node.session import NodeSession, open_node
from mple.node.stop import Stop
from mple.pki import Vault, VaultError, consortium_key
from mple.plan import RunPlan, SiteSettings
from mple.plan.key_refs import key_ref as planned_key_ref
from mple.plan.orders import label_order
from mple.prediction.options import PredictOptions
from mple.prediction.pictures import Pictures, listed_files, picture_files, test_images
from mple.prediction.predictions import Predictions
from mple.privacy import PictureNoise
from mple.records.plan_file import kept_plan
from mple.rpc import ErrorCode, MpleError, Party, Role, error_of, probe
from mple.v1 import common_pb2, compute_pb2, compute_pb2_grpc
from mple.wire.batch import Batch, batch_to_message, samples_per_message
from provider_node.feeding.morphing import PictureMorpher
from provider_node.feeding.noising import kept_noise
from provider_node.feeding.scoring import LogitsError, plain_logits
from provider_node.keys.key_basis import kept_basis
from provider_node.keys.run_keys import RunKeys

_PATIENCE_S = 30.0
"""Somebody waits in front of the terminal."""
_ANSWER_S = 60.0
"""Longest wait for the answer to one message, which holds 1 MiB or a single picture."""


def predict(settings: SiteSettings, options: PredictOptions, stop: Stop) -> None:
    """Print class probabilities of pictures, all of them or none.

    Raises ValueError: arguments, configuration, certificates, vault or pictures can't be used, or there was no run;
    MpleError: the compute node refused, has no trained network, or its answer can't be; UnreachableError: it could not
    be reached; StoppedError: the command was told to end.
    """
    threadpool_limits(settings.threads)
    with open_node(settings, Role.SITE, "predict", stop, beside=True) as node:
        plan = _plan_of_last_run(settings.state, node.me)
        key, key_ref, secret = _kept_secrets(settings, plan, node.me)
        noise = kept_noise(plan, settings.state, Vault.of(settings.vault, settings.vault_passphrase_file))
        pictures = _pictures(settings, options, plan)
        options.require_room(len(pictures))
        basis = kept_basis(plan, RunKeys(settings.state), key_ref.epoch)
        questions = _Questions(plan, key, key_ref, label_order(plan, secret), noise, basis)
        logits_NC = _ask_compute(node, settings, questions, pictures)
    predictions = Predictions(
        run_id=plan.run_id,
        plan_sha256=plan.sha256().hex(),
        classes=plan.classes,
        task=plan.task.kind,
        names=pictures.names,
        logits_NC=logits_NC,
        labels=pictures.labels,
    )
    options.write(predictions)
    if options.page is not None:
        from mple.prediction.page import write_page

        write_page(options.page, predictions, ((pictures.read(slice(n, n + 1))[0], {}) for n in range(len(pictures))))


def _pictures(settings: SiteSettings, options: PredictOptions, plan: RunPlan) -> Pictures:
    if options.test is not None:
        return test_images(settings.data, options.test, plan.image, plan.classes, plan.task.kind)
    reading = settings.data.reading()
    if options.labels is not None:
        return listed_files(reading, options.labels, plan.classes, plan.task.kind, plan.image, resize=options.resize)
    return picture_files(reading, options.images, plan.image, resize=options.resize)


def _plan_of_last_run(state: Path, me: Party) -> RunPlan:
    plan = kept_plan(state)
    if plan is None:
        raise ValueError(f"no plan in {state}; take part in a run first: mple-provider run CONFIG")
    plan.site(me.name)
    if plan.consortium != me.consortium:
        raise ValueError(
            f"the plan in {state} is of consortium {plan.consortium}, this site's certificate of {me.consortium}"
        )
    return plan


def _kept_secrets(settings: SiteSettings, plan: RunPlan, me: Party) -> tuple[MorphKey, common_pb2.KeyRef, bytes]:
    """The newest morph key that the compute node holds the layer of, its name, and the consortium secret of a run; none
    is drawn anew."""
    folder = settings.vault
    if not folder.is_dir():
        raise VaultError(f"no vault at {folder}; name the one that run {plan.run_id} was made with")
    vault = Vault.of(settings.vault, settings.vault_passphrase_file)
    secret = vault.consortium_secret(plan.run_id)
    if not vault.has_morph_key():
        raise VaultError(f"no morph key in {folder}; restore the one that run {plan.run_id} was made with")
    keys, reference = RunKeys(settings.state), planned_key_ref(plan, me.name)
    notes = keys.kept
    if notes is not None and notes.run_id == plan.run_id:
        keys.require(consortium_key(plan.run_id), secret)
        reference = notes.key_ref(me.name, notes.in_use)
    key = vault.morph_key(reference.epoch)
    if key.fingerprint() != reference.fingerprint:
        raise VaultError(
            f"the morph key in {folder} is {key.fingerprint().hex()[:8]}, run {plan.run_id} was made with "
            f"{reference.fingerprint.hex()[:8]}; name the vault of that run"
        )
    return key, reference, secret


class _Questions:
    """What is asked of the compute node, and how its answers read in this site's own class order."""

    def __init__(
        self,
        plan: RunPlan,
        key: MorphKey,
        key_ref: common_pb2.KeyRef,
        order: NDArray[np.int64],
        noise: PictureNoise | None,
        basis: Basis | None,
    ) -> None:
        self.plan, self._order = plan, order
        self._key_ref = key_ref
        self._morpher = PictureMorpher(plan, key_ref.site, key, key_ref.epoch, noise, basis)
        self._codec = self._morpher.codec

    @property
    def samples_per_message(self) -> int:
        """As many as the plan's message size allows, one at least."""
        return samples_per_message(self.plan.wire.message_bytes, self._codec.planned_bytes(self.plan.geometry))

    def question(self, number: int, pixels_BCHW: NDArray[np.uint8]) -> compute_pb2.PredictRequest:
        """The message for some pictures. It does not tell whose or of which split they are."""
        batch = batch_to_message(
            Batch(self._morpher.coded(pixels_BCHW), np.empty(0, np.uint16)),
            request_id=number,
            key_ref=self._key_ref,
            split=common_pb2.SPLIT_UNSPECIFIED,
            codec=self._codec,
        )
        return compute_pb2.PredictRequest(plan_sha256=self.plan.sha256(), batch=batch)

    def read(
        self, question: compute_pb2.PredictRequest, answers: list[compute_pb2.PredictResponse]
    ) -> NDArray[np.float64]:
        """Class scores (B, C) from the answer to a question.

        Raises MpleError: MESSAGE_MALFORMED when it is no answer to it, or holds NaN or infinity.
        """
        asked, classes = question.batch, len(self._order)
        if len(answers) != 1:
            raise MpleError(ErrorCode.MESSAGE_MALFORMED, f"{len(answers)} answers of the compute node to one question")
        if answers[0].request_id != asked.request_id or answers[0].classes != classes:
            raise MpleError(
                ErrorCode.MESSAGE_MALFORMED,
                f"the compute node answered question {answers[0].request_id} with {answers[0].classes} classes; "
                f"asked was {asked.request_id} with {classes}",
            )
        try:
            return plain_logits(answers[0].values, asked.samples, self._order)
        except LogitsError as fault:
            raise MpleError(ErrorCode.MESSAGE_MALFORMED, f"the compute node gave no valid answer: {fault}") from None


def _ask_compute(
    node: NodeSession, settings: SiteSettings, questions: _Questions, pictures: Pictures
) -> NDArray[np.float64]:
    plan, ledger = questions.plan, node.ledger
    try:
        compute = node.find(settings.compute, Role.COMPUTE, min(_PATIENCE_S, settings.idle_timeout_s))
    except UnreachableError as fault:
        if not probe(settings.compute, node.tls).away:
            raise
        raise UnreachableError(f"{fault} After its run a compute node answers only with stay = true.") from None
    who = compute.party
    if who.name != plan.compute:
        raise ValueError(f"{settings.compute} is {who.label}, run {plan.run_id} trained on compute/{plan.compute}")
    logits_NC = np.empty((len(pictures), len(plan.classes)))
    with node.channel(compute) as channel:
        ledger.run = plan.run_id
        ledger.phase = "predict"
        stub = compute_pb2_grpc.ComputeServiceStub(channel)
        size = questions.samples_per_message
        for number, low in enumerate(range(0, len(pictures), size), start=1):
            part = slice(low, min(low + size, len(pictures)))
            question = questions.question(number, pictures.read(part))
            answers = compute.retry.call(functools.partial(_answers, stub, question, plan, node.stop))
            logits_NC[part] = questions.read(question, answers)
    text = f"pictures predicted by {who.label}: {len(pictures)}"
    log("predicted", text, images=len(pictures))
    return logits_NC


def _answers(
    stub: compute_pb2_grpc.ComputeServiceStub, question: compute_pb2.PredictRequest, plan: RunPlan, stop: Stop
) -> list[compute_pb2.PredictResponse]:
    """All answers to one question, but not more than two: a call for each, so that each has a deadline of its own."""
    call = stub.Predict(iter((question,)), timeout=_ANSWER_S)
    withdraw = stop.on_set(call.cancel)
    try:
        return list(itertools.islice(call, 2))
    except grpc.RpcError as fault:
        final = _final(fault, question, plan)
        if final is None:
            raise
        raise final from None
    finally:
        withdraw()


def _final(fault: grpc.RpcError, question: compute_pb2.PredictRequest, plan: RunPlan) -> MpleError | None:
    """What to tell the user where trying again won't help, or None."""
    refusal = error_of(fault)
    if refusal is not None and refusal.code is ErrorCode.WRONG_PHASE:
        return MpleError(
            refusal.code,
            refusal.detail,
            fix=f"ask again when run {plan.run_id} has finished; if it has, start the compute node again on its state "
            "folder, with stay = true in its configuration",
        )
    if refusal is not None and refusal.code is ErrorCode.PLAN_HASH_MISMATCH:
        return MpleError(
            refusal.code,
            f"{refusal.detail}; this site last took part in run {plan.run_id}, the compute node serves another",
        )
    if isinstance(fault, grpc.Call) and fault.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        text = f"the compute node took longer than {_ANSWER_S:g} s over {question.batch.samples} pictures"
        return MpleError(ErrorCode.STALLED, text)
    return None
