"""What tensors are computed on: the processor with its packed forms, or a CUDA device. All that differs between the two
is here; whoever makes, moves or keeps tensors asks here, and nobody else names CUDA.

On the processor copies are none and nothing is asynchronous: the same calls hand tensors back as they are.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mple.model.settings import DeviceName, Precision

_LOCAL_RANK = "LOCAL_RANK"
"""What `torchrun` tells each process of a machine: its number there."""
_INTEGER_PRODUCTS_FROM = (7, 5)
"""Compute capability that multiplies matrices of bytes into 32-bit sums."""


class DeviceError(ValueError):
    """A device that is not there, or can't do what is asked; the text names the way out."""


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """Of a device that has a memory of its own, in bytes."""

    total: int
    free: int
    """Now; what this process holds is not in it."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device, and whether there are products on it that are faster than torch's own."""

    torch_device: torch.device
    packs: bool = False
    """Fixed matrices are laid out for oneDNN, where it is there; for processors only."""
    multiplies_bytes: bool = False
    """Torch multiplies matrices of 8-bit integers here, faster than wider ones."""

    @classmethod
    def named(cls, name: DeviceName, local_rank: int | None = None) -> Device:
        """The device that a configuration names; `auto` is CUDA where torch finds it, else the processor.

        From then on the process uses kernels on CUDA that give equal sums on re-run, where torch has such.

        Args:
            name: Of the configuration.
            local_rank: Number of this process on its machine, which is that of its CUDA device; by default what
                `torchrun` says, 0 without it.

        Raises DeviceError: `cuda` is named and torch finds none; there are fewer than processes on this machine.
        """
        if name is DeviceName.CPU:
            return CPU
        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not found:
            if name is DeviceName.AUTO:
                return CPU
            raise DeviceError(_why_none())
        if local_rank is None:
            local_rank = int(os.environ.get(_LOCAL_RANK, "0"))
        if local_rank >= found:
            raise DeviceError(
                f"process {local_rank} of this machine ({_LOCAL_RANK}, from 0) has no CUDA device: there are {found}; "
                f'start as many processes a machine (torchrun --nproc-per-node={found}), or set device = "cpu"'
            )
        _prefer_deterministic()
        torch.cuda.set_device(local_rank)
        capability = torch.cuda.get_device_capability(local_rank)
        return cls(torch.device("cuda", local_rank), multiplies_bytes=capability >= _INTEGER_PRODUCTS_FROM)

    @property
    def name(self) -> str:
        """For texts."""
        if not self._is_cuda:
            return "the processor"
        return f"{self.torch_device} ({torch.cuda.get_device_name(self.torch_device)})"

    @property
    def backend(self) -> str:
        """What ranks on such devices add their gradients with, as torch.distributed names it."""
        return "nccl" if self._is_cuda else "gloo"

    def memory(self) -> DeviceMemory | None:
        """Its own memory; None for the processor, whose memory is the machine's."""
        if not self._is_cuda:
            return None
        free, total = torch.cuda.mem_get_info(self.torch_device)
        return DeviceMemory(total=total, free=free)

    def require_precision(self, precision: Precision) -> None:
        """Raises DeviceError: it has no arithmetic in bfloat16, and that is asked for."""
        if self._is_cuda and precision is Precision.BF16 and not _has_bfloat16(self.torch_device):
            raise DeviceError(
                f'{self.name} has no arithmetic in bfloat16, which the plan trains in; set training.precision = "f32" '
                'in the run, or device = "cpu" here'
            )

    def enter_thread(self) -> None:
        """Make it the device of the calling thread, for what names none itself."""
        if self._is_cuda:
            torch.cuda.set_device(self.torch_device)

    def place(self, tensor: Tensor) -> Tensor:
        """The tensor in the device's memory, itself if it is there."""
        return tensor.to(self.torch_device)

    def place_module(self, module: nn.Module) -> nn.Module:
        """The module itself, its weights now in the device's memory, in their order there as before."""
        return module.to(self.torch_device)

    def send(self, *tensors: Tensor) -> Sent:
        """Begin to copy tensors from main memory, beside whatever the device computes meanwhile; for any thread.

        The processor has them already.
        """
        if not self._is_cuda:
            return Sent(tensors)
        with torch.cuda.stream(_copying(self.torch_device)):
            placed = tuple(tensor.pin_memory().to(self.torch_device, non_blocking=True) for tensor in tensors)
            done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            done.record()
        return Sent(placed, done)

    def autocast(self, dtype: torch.dtype) -> torch.autocast:
        """To be entered around arithmetic in bfloat16; with float32 it keeps that."""
        return torch.autocast(self.torch_device.type, torch.bfloat16, enabled=dtype == torch.bfloat16)

    @property
    def _is_cuda(self) -> bool:
        return self.torch_device.type == "cuda"


@dataclass(frozen=True, slots=True)
class Sent:
    """Tensors on their way to a device."""

    _tensors: tuple[Tensor, ...]
    _done: torch.cuda.Event | None = None

    def received(self) -> tuple[Tensor, ...]:
        """They, on the device: what the caller's thread computes with them from now on waits there for the copies; the
        thread itself does not."""
        if self._done is not None:
            computing = torch.cuda.current_stream(self._tensors[0].device)
            computing.wait_event(self._done)
            for tensor in self._tensors:
                tensor.record_stream(computing)  # so that its memory is not given away before it was used
        return self._tensors


class HostCopies:
    """Copies in main memory of tensors as they are now, from whichever device they are on.

    The tensors may be changed as soon as this has been made, by the thread that made it: on CUDA the changes queue up
    behind the copies.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        """Begin to copy."""
        self._copies = {name: _begun_copy(tensor) for name, tensor in tensors.items()}
        self._done: list[torch.cuda.Event] = []
        for device in {tensor.device for tensor in tensors.values() if tensor.is_cuda}:
            self._done.append(torch.cuda.Event())  # type: ignore[no-untyped-call]
            self._done[-1].record(torch.cuda.current_stream(device))

    def wait(self) -> dict[str, Tensor]:
        """The copies, whole; for any thread."""
        for event in self._done:
            event.synchronize()
        return self._copies


CPU = Device(torch.device("cpu"), packs=True)


def _begun_copy(tensor: Tensor) -> Tensor:
    if not tensor.is_cuda:
        return tensor.clone()
    return torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)


@functools.cache
def _copying(device: torch.device) -> torch.cuda.Stream:
    """The one stream on which samples go to a device: they come in the order in which they were sent."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _why_none() -> str:
    if torch.version.cuda is None:
        why = f"torch {torch.__version__} is built without CUDA; install a build with CUDA (docs/guide/devices.md)"
    else:
        why = "torch finds no CUDA device; nvidia-smi and CUDA_VISIBLE_DEVICES say which this process may see"
    return f'device = "cuda", but {why}, or set device = "cpu"'


def _has_bfloat16(device: torch.device) -> bool:
    with torch.cuda.device(device):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def _prefer_deterministic() -> None:
    """Kernels that give equal sums on re-run, and sums in float32; to be called before the first use of CUDA."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Whatever is made empty here is written whole.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
