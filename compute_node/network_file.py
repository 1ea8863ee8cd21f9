"""The trained trunk as a file for the sites: what they download, in the numbers that the plan says."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from mple.disk.whole_files import file_sha256
from mple.model.weights import save_tensors
from mple.plan import DeliveredDtype, RunPlan
from mple.v1 import compute_pb2


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkFile:
    """A trunk in a file of its own."""

    path: Path
    total_bytes: int
    sha256: bytes

    def ready(self, *, epoch: int, model_sha256: str) -> compute_pb2.NetworkReady:
        """What sites are told of it. `epoch`: after which it was kept, counted from 1; `model_sha256`: hexadecimal
        digest of the trunk as it was trained."""
        return compute_pb2.NetworkReady(
            total_bytes=self.total_bytes, sha256=self.sha256, epoch=epoch, model_sha256=bytes.fromhex(model_sha256)
        )


def write_network(trunk: nn.Module, plan: RunPlan, path: Path) -> NetworkFile:
    """Write the trunk's weights and statistics, whole and on the disk; equal trunks give equal bytes.

    Raises OSError: the disk refuses.
    """
    narrow = plan.delivery.dtype is DeliveredDtype.BF16
    tensors = {
        name: tensor.to(torch.bfloat16) if narrow and tensor.is_floating_point() else tensor
        for name, tensor in trunk.state_dict().items()
    }
    save_tensors(tensors, path, {})
    return NetworkFile(path=path, total_bytes=path.stat().st_size, sha256=file_sha256(path))
