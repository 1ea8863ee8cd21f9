"""A site receives the trained network: fetches the trunk, adds the stem and what it alone knows of orders, compares the
whole with the answers that it was sent, keeps it in its state folder.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import numpy as np

from mple.audit import audit
from mple.delivered.about import NetworkAbout, about_network
from mple.delivered.assembly import network_shapes, plain_network
from mple.delivered.card import model_card
from mple.delivered.check import Check, Verdict, compare_answers
from mple.delivered.folder import CARD, ONNX, WEIGHTS, DeliveredNetwork, DeliveredRecord, write_delivered
from mple.delivered.onnx_file import network_to_onnx
from mple.delivered.running import PlainNetwork
from mple.delivered.tensor_file import network_to_safetensors, tensors_of
from mple.disk.bounded import read_bounded
from mple.disk.whole_files import file_sha256
from mple.model.stem import Stem
from mple.node.logs import log, log_error, warn
from mple.node.stop import Stop
from mple.per_node import IN_TURN
from mple.plan import DeliverTo, RunPlan
from mple.plan.orders import channel_order, label_order
from mple.records.state_files import DELIVERED, NETWORK
from mple.rpc import ErrorCode, MpleError
from mple.rpc.file_transfer import ChunkFile, remove_file, while_torn
from mple.v1 import common_pb2, compute_pb2, compute_pb2_grpc
from provider_node.feeding.kept_logits import KeptLogits
from provider_node.site import Site

_STREAM_TIMEOUT_S = 3600.0
_MOST_HEADER_BYTES = 64 * 1024
"""Of the trunk's file: names, shapes and offsets of some eighty tensors."""
_PICTURES = 16
"""On so many the network is compared. A wrong order or an old network shows on each of them; for every further one all
sites take time as a run ends."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkReceipt:
    """What receiving a network takes."""

    site: Site
    plan: RunPlan
    stem: Callable[[], Stem]
    """Has the plan's first convolution."""
    logits: KeptLogits
    """What the site was told about its pictures."""

    def receive(
        self, ready: compute_pb2.NetworkReady, stub: compute_pb2_grpc.ComputeServiceStub, stop: Stop
    ) -> compute_pb2.NetworkReceived:
        """Have the network that the compute node tells of in the state folder, and say so. Where it is there already,
        nothing is fetched; bytes that an earlier attempt has left are gone on from.

        Raises MpleError: MESSAGE_MALFORMED when it is not one that the plan trains, FILE_DIGEST_MISMATCH when its bytes
        are not those that were announced; grpc.RpcError: the link broke; OSError: the disk refuses; VaultDamagedError:
        the secret of the orders is gone or another.
        """
        about = self._about(ready)
        record = self._kept(ready)
        if record is None:
            path, stem = self._fetch(ready, stub, stop), self.stem()
            with IN_TURN:
                record = self._make(about, ready, path, stem)
        return compute_pb2.NetworkReceived(sha256=ready.sha256, check=record.check.verdict)

    def _about(self, ready: compute_pb2.NetworkReady) -> NetworkAbout:
        plan = self.plan
        if plan.delivery.to is not DeliverTo.SITES:
            raise MpleError(ErrorCode.MESSAGE_MALFORMED, f'a network, though delivery.to = "{plan.delivery.to}"')
        try:
            about = about_network(plan, model_sha256=ready.model_sha256.hex(), epoch=ready.epoch)
        except ValueError as fault:
            raise MpleError(ErrorCode.MESSAGE_MALFORMED, f"a network that can't be: {fault}") from None
        values = sum(math.prod(shape) for shape in network_shapes(about).values())
        most = 4 * values + _MOST_HEADER_BYTES
        if not 0 < ready.total_bytes <= most or not 1 <= ready.epoch <= plan.training.epochs:
            text = f"a network of {ready.total_bytes} bytes after epoch {ready.epoch}"
            raise MpleError(
                ErrorCode.MESSAGE_MALFORMED, f"{text}; the plan's has at most {most} and {plan.training.epochs}"
            )
        return about

    def _kept(self, ready: compute_pb2.NetworkReady) -> DeliveredRecord | None:
        try:
            network = DeliveredNetwork.at(self.site.settings.state / DELIVERED)
            if network.record.network_sha256 != ready.sha256.hex() or network.record.about.run_id != self.plan.run_id:
                return None
            for name in network.record.sha256:
                network.content(name)
        except ValueError:
            return None
        return network.record

    def _fetch(self, ready: compute_pb2.NetworkReady, stub: compute_pb2_grpc.ComputeServiceStub, stop: Stop) -> Path:
        path = self.site.settings.state / NETWORK.format(self.plan.run_id)
        if path.exists() and file_sha256(path) != ready.sha256:
            remove_file(path)

        def download() -> Path:
            file = ChunkFile(path, ready.total_bytes, ready.sha256)
            request = compute_pb2.DownloadNetworkRequest(
                plan_sha256=self.plan.sha256(), sha256=ready.sha256, offset=file.present
            )
            call = stub.DownloadNetwork(request, timeout=_STREAM_TIMEOUT_S)
            withdraw = stop.on_set(call.cancel)
            try:
                for chunk in call:
                    file.take(chunk.offset, chunk.data, chunk.final)
            finally:
                withdraw()
            return file.finish(lasting=False)  # it is gone in a moment, and looked at where it is not

        return while_torn(download)

    def _make(self, about: NetworkAbout, ready: compute_pb2.NetworkReady, path: Path, stem: Stem) -> DeliveredRecord:
        plan, site = self.plan, self.site
        secret = site.vault.consortium_secret(plan.run_id)
        try:
            trunk = tensors_of(read_bounded(path, ready.total_bytes), "it")
            tensors = plain_network(
                about, trunk, stem.kernels_FCpp, channel_order(plan, secret), label_order(plan, secret)
            )
        except ValueError as fault:
            remove_file(path)
            raise MpleError(ErrorCode.MESSAGE_MALFORMED, f"the network that it delivers: {fault}") from None
        files = {WEIGHTS: network_to_safetensors(tensors, about), ONNX: network_to_onnx(tensors, about)}
        record = DeliveredRecord(
            about=about,
            site=site.name,
            check=self._check(PlainNetwork(tensors, about), ready.epoch),
            reading=site.settings.data.reading(),
            dtype=plan.delivery.dtype,
            network_sha256=ready.sha256.hex(),
            sha256={name: sha256(content).hexdigest() for name, content in files.items()},
            delivered_at=datetime.now(UTC),
        )
        folder = site.settings.state / DELIVERED
        write_delivered(folder, record, {**files, CARD: model_card(record, plan).encode()})
        audit("local", "network_received", "ok", run=plan.run_id, check=record.check.verdict, **_digests(record))
        _tell(record, folder)
        remove_file(path)
        return record

    def _check(self, network: PlainNetwork, epoch: int) -> Check:
        """Of test pictures, or where there are none of validation pictures, evenly over the split."""
        dataset, classes = self.site.dataset, len(self.plan.classes)
        name, split, images = ("test", common_pb2.SPLIT_TEST, dataset.test)
        if not len(images):
            name, split, images = ("val", common_pb2.SPLIT_VAL, dataset.val)
        if not len(images):
            return Check(verdict=Verdict.UNCHECKED, reason="the site has neither test nor validation pictures")
        told_NC = self.logits.read(split, epoch, len(images), classes)
        if told_NC is None:
            return Check(verdict=Verdict.UNCHECKED, reason=f"the site's {name} pictures were not scored")
        taken = np.unique(np.linspace(0, len(images) - 1, min(len(images), _PICTURES)).astype(np.int64))
        plain_BC = network.logits(images.take(taken).pixels_NCHW)
        return compare_answers(self.plan, name, plain_BC, told_NC[taken])


def _tell(record: DeliveredRecord, folder: Path) -> None:
    check, text = record.check, f"the trained network is in {folder}; {record.check.text()}"
    if check.verdict is Verdict.DIFFERS:
        log_error("network_differs", text)
    elif check.verdict is Verdict.UNCHECKED:
        warn("network_unchecked", text)
    else:
        log("network_delivered", text)


def _digests(record: DeliveredRecord) -> dict[str, str]:
    return {"network_sha256": record.network_sha256, "weights_sha256": record.sha256[WEIGHTS]}
