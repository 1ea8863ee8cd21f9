"""The processes that train together, ranks 0, 1, ...: what they tell one another, and how one's end becomes all's.

`torchrun` starts them and says in the environment who each is; without it there is one rank, which talks to nobody, by
the same code. Ranks that talk do so in turns: each calls the same methods of the same group in the same order. Two
threads of a node talk, and each has a group of its own: the one that follows the run, and the trainer.

What is told travels as a frame of fixed size first, with a long message behind it. So a rank that can't go on says that
in place of whatever was due, and all others end with its words.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from mple.model.weights import state_sha256
from mple.node.retry import StoppedError, UnreachableError
from mple.node.stop import Stop
from mple.plan.shares import Share
from mple.printable import printable
from mple.rpc import ErrorCode, MpleError

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

RANK, SIZE, LOCAL_RANK = "RANK", "WORLD_SIZE", "LOCAL_RANK"
"""What `torchrun` sets: the number of this process, of all of them, and of this one on its machine."""
_ROUND, _KEPT_STORE = "TORCHELASTIC_RESTART_COUNT", "TORCHELASTIC_USE_AGENT_STORE"
"""How often `torchrun` has started the ranks again, and whether those of all rounds meet in one store of its own. The
launchers of several machines may count differently; deployment.md has them keep no store."""
_FRAME_BYTES = 256
_FRAME = struct.Struct("<BI")
_MOST_INLINE = _FRAME_BYTES - _FRAME.size
_SAID, _FAULT, _STOPPED = 0, 1, 2
_TELLING_S = 2.0
"""How long a rank that ends waits for the others to hear why."""
_PATIENCE = timedelta(days=7)
"""For what is due from another rank, which may be waiting for a site. One that has died is noticed at once."""
_DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of Linux."""


class RankEndedError(UnreachableError):
    """Another rank has ended, or can't be reached; the text says why as far as that is known."""


class RankGroup:
    """What one thread of each rank says to the same thread of all others.

    Guarantees: every method but `tell` is called by all ranks in the same order, and returns, or raises, at all. Raised
    are RankEndedError: another rank said why it can't go on, or has gone; StoppedError: another one was told to stop,
    or, in a group that heeds it, this one.
    """

    def __init__(self, share: Share, group: ProcessGroup | None = None, stop: Stop | None = None) -> None:
        """Of a rank.

        Args:
            share: Which rank, of how many.
            group: Of torch, with main memory's backend; None for the only rank.
            stop: Breaks off every wait; None where what all do together must be done together.
        """
        self.rank, self.size, self._group, self._stop = share.rank, share.ranks, group, stop

    @property
    def leads(self) -> bool:
        """Whether this is rank 0, which speaks for all."""
        return self.rank == 0

    def gather(self, mine: bytes = b"") -> tuple[bytes, ...]:
        """What each rank says, at all of them."""
        if self._group is None:
            return (mine,)
        lengths, inline = self._frames(_SAID, mine)
        most = max(lengths)
        if most <= _MOST_INLINE:
            return inline
        padded = [torch.empty(most, dtype=torch.uint8) for _ in lengths]
        self._wait(_distributed().all_gather(padded, _bytes_tensor(mine, most), self._group, async_op=True))
        return tuple(bytes(one.numpy()[:length]) for one, length in zip(padded, lengths, strict=True))

    def collect(self, mine: bytes) -> tuple[bytes, ...]:
        """What each rank says, at rank 0; nothing at the others."""
        if self._group is None:
            return (mine,)
        lengths, inline = self._frames(_SAID, mine)
        most = max(lengths)
        if most <= _MOST_INLINE:
            return inline if self.leads else ()
        padded = [torch.empty(most, dtype=torch.uint8) for _ in lengths] if self.leads else None
        own = _bytes_tensor(mine, most)
        self._wait(_distributed().gather(own, padded, group=self._group, group_dst=0, async_op=True))
        return tuple(bytes(one.numpy()[:length]) for one, length in zip(padded or (), lengths, strict=self.leads))

    def broadcast(self, mine: bytes = b"") -> bytes:
        """What rank 0 says; what others bring is left alone."""
        if self._group is None:
            return mine
        lengths, inline = self._frames(_SAID, mine if self.leads else b"")
        if lengths[0] <= _MOST_INLINE:
            return inline[0]
        said = _bytes_tensor(mine if self.leads else b"", lengths[0])
        self._wait(_distributed().broadcast(said, group=self._group, group_src=0, async_op=True))
        return bytes(said.numpy())

    def tell(self, fault: Exception) -> None:
        """Say to the others that this rank ends, in place of whatever is due; they have a few seconds to hear it."""
        if self._group is None or isinstance(fault, RankEndedError):
            return
        kind, text = (_STOPPED, "") if isinstance(fault, StoppedError) else (_FAULT, printable(str(fault), 200))
        with suppress(RankEndedError, StoppedError):
            self._frames(kind, text.encode()[:_MOST_INLINE], _TELLING_S)

    def _frames(self, kind: int, said: bytes, patience_s: float | None = None) -> tuple[list[int], tuple[bytes, ...]]:
        """The lengths of what all ranks say, and the beginnings of it, which are the whole where it is short."""
        own = _bytes_tensor(_FRAME.pack(kind, len(said)) + said[:_MOST_INLINE], _FRAME_BYTES)
        all_frames = [torch.empty(_FRAME_BYTES, dtype=torch.uint8) for _ in range(self.size)]
        self._wait(_distributed().all_gather(all_frames, own, self._group, async_op=True), patience_s)
        lengths, parts = [], []
        for rank, frame in enumerate(bytes(one.numpy()) for one in all_frames):
            of, length = _FRAME.unpack_from(frame)
            part = frame[_FRAME.size : _FRAME.size + length]
            if of == _STOPPED:
                raise StoppedError
            if of == _FAULT and kind != _FAULT:
                raise RankEndedError(f"rank {rank} of the compute node has ended: {part.decode('utf-8', 'replace')}")
            lengths.append(length)
            parts.append(part)
        return lengths, tuple(parts)

    def _wait(self, work: Any, patience_s: float | None = None) -> None:
        over = threading.Event()
        future = work.get_future()
        future.add_done_callback(lambda _: over.set())
        withdraw = self._stop.on_set(over.set) if self._stop is not None else None
        try:
            over.wait(patience_s)
        finally:
            if withdraw is not None:
                withdraw()
        if not future.done():
            raise StoppedError
        with link_faults(self.rank, self.size):
            future.wait()


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranks:
    """This process among those that train together."""

    share: Share
    """Which rank it is, of how many."""
    local: int
    """Its number on this machine."""
    main: RankGroup
    """Of the threads that follow the run."""
    trainer: RankGroup
    """Of the threads that train."""
    gradients: ProcessGroup | None = None
    """What gradients are added up by; None for the only rank."""

    def wrapped(self, trunk: nn.Module) -> nn.Module:
        """What a step goes through in place of the trunk: after its way back each gradient is the mean over all ranks,
        which begin with the weights of rank 0.

        Guarantees: behind `TrunkTrainer.settle` sums are of equal order in every step and after a restart, so equal
        runs have equal weights.
        """
        if self.gradients is None:
            return trunk
        from torch.nn.parallel import DistributedDataParallel

        warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated")  # its heir shares them at times
        with link_faults(self.share.rank, self.share.ranks):
            return DistributedDataParallel(
                trunk,
                process_group=self.gradients,
                broadcast_buffers=False,
                gradient_as_bucket_view=True,
            )

    def take_one_network(self, trunk: nn.Module) -> None:
        """Have all ranks hold the network of rank 0, whose statistics of batch norms are those that count.

        Raises RankEndedError, StoppedError: as `RankGroup`; MpleError: RANKS_REJECTED when weights have come apart.
        """
        if self.share.ranks == 1:
            return
        trunk.load_state_dict(self.shared(dict(trunk.named_buffers())), strict=False)
        digests = self.trainer.gather(state_sha256(trunk).encode())
        apart = [rank for rank, digest in enumerate(digests) if digest != digests[0]]
        if apart:
            text = f"ranks {', '.join(map(str, apart))} hold other weights than rank 0: their machines round otherwise"
            raise MpleError(ErrorCode.RANKS_REJECTED, text, fix="train on machines of one kind")

    def shared(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of rank 0 by name, at all ranks, in main memory there; what others bring is left alone."""
        if self.share.ranks == 1:
            return dict(tensors)
        content = b""
        if self.trainer.leads:
            content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
        return load(self.trainer.broadcast(content))

    @contextmanager
    def faults(self) -> Iterator[None]:
        """Around what torch does with other ranks. Raises RankEndedError: one has gone meanwhile."""
        with link_faults(self.share.rank, self.share.ranks):
            yield


def _alone() -> Ranks:
    share = Share()
    return Ranks(share=share, local=0, main=RankGroup(share), trainer=RankGroup(share))


ALONE = _alone()
"""The only rank."""


@contextmanager
def joined_ranks(stop: Stop, backend: str, *, meeting_s: float = 120.0) -> Iterator[Ranks]:
    """This process among the ranks that the environment speaks of; what ends the block is told to the others.

    Args:
        stop: Breaks off what the main threads wait for.
        backend: What gradients are added up by, as torch.distributed names it.
        meeting_s: How long the ranks may take to find one another.

    Raises ValueError: the environment contradicts itself; RankEndedError: a rank is missing.
    """
    share, local = own_share()
    if share.ranks == 1:
        yield ALONE
        return
    _end_with_parent()
    distributed = _distributed()
    _meet(share, meeting_s)
    try:
        with link_faults(share.rank, share.ranks):
            main, trainer = (distributed.new_group(backend="gloo", timeout=_PATIENCE) for _ in range(2))
            gradients = distributed.new_group(backend=backend, timeout=_PATIENCE)
        ranks = Ranks(
            share=share,
            local=local,
            main=RankGroup(share, main, stop),
            trainer=RankGroup(share, trainer),
            gradients=gradients,
        )
        try:
            yield ranks
        except StoppedError:
            raise
        except Exception as fault:
            ranks.main.tell(fault)
            raise
    finally:
        with suppress(RuntimeError):
            distributed.destroy_process_group()


def own_share(environment: Mapping[str, str] = os.environ) -> tuple[Share, int]:
    """Which rank of how many this process is, and its number on this machine, as the environment says.

    Raises ValueError: it contradicts itself.
    """
    told = {name: environment[name] for name in (RANK, SIZE, LOCAL_RANK) if name in environment}
    if not told:
        return Share(), 0
    try:
        size = int(told[SIZE])
        share = Share(int(told[RANK]), size)
        return share, int(told.get(LOCAL_RANK, share.rank))
    except (KeyError, ValueError) as fault:
        said = ", ".join(f"{name} = {printable(value, 20)}" for name, value in told.items())
        raise ValueError(
            f"the environment says {said}: {fault}; ranks are started by torchrun, which sets {RANK}, {SIZE} and "
            f"{LOCAL_RANK}; for a single process unset them"
        ) from None


@contextmanager
def link_faults(rank: int, size: int) -> Iterator[None]:
    """What torch raises when another rank has gone becomes RankEndedError."""
    try:
        yield
    except RuntimeError as fault:
        text = str(fault).splitlines()[0] if str(fault) else type(fault).__name__
        if size == 1 or not any(word in str(fault) for word in ("gloo", "NCCL", "nccl", "onnect", "Socket")):
            raise
        raise RankEndedError(f"a rank has gone, noticed by rank {rank} of {size}: {printable(text, 160)}") from None


def _meet(share: Share, meeting_s: float) -> None:
    where = f"{os.environ.get('MASTER_ADDR', '?')}:{os.environ.get('MASTER_PORT', '?')}"
    try:
        timeout = timedelta(seconds=meeting_s)
        store, _, _ = next(_distributed().rendezvous("env://", timeout=timeout))
        if os.environ.get(_KEPT_STORE) == "True":
            # Ranks that are started again find there what those before them have left.
            store = _distributed().PrefixStore(f"mple/{os.environ.get(_ROUND, '0')}", store)
        _distributed().init_process_group("gloo", store=store, rank=share.rank, world_size=share.ranks, timeout=timeout)
    except (RuntimeError, ValueError) as fault:
        text = str(fault).splitlines()[0]
        raise RankEndedError(
            f"rank {share.rank} of {share.ranks} has not met all others within {meeting_s:g} s at {where}: "
            f"{printable(text, 160)}; start {share.ranks} ranks with equal torchrun commands, on machines that reach "
            "one another"
        ) from None


def _end_with_parent() -> None:
    """Ranks whose torchrun was killed would hold their ports and folders."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)


def _bytes_tensor(said: bytes, length: int) -> Tensor:
    return torch.frombuffer(bytearray(said.ljust(length, b"\0")), dtype=torch.uint8)


def _distributed() -> Any:
    import torch.distributed

    return torch.distributed
