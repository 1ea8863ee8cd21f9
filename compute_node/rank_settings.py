"""The configuration of a compute node's ranks: one file for all, of which each has its own folder and ports."""

import json
from dataclasses import replace

import torch

from compute_node.ranks import RankGroup
from mple import __version__
from mple.disk.json_records import record_to_json
from mple.plan import ComputeSettings
from mple.printable import printable
from mple.records.state_files import state_of_rank

_OF_A_MACHINE = {"state", "tls", "listen", "monitoring", "stem_file", "weights_file", "vault", "vault_passphrase_file"}
"""Where things lie and listen, which may differ from machine to machine. What the files of weights hold is the plan's
affair."""


def of_rank(settings: ComputeSettings, rank: int, local_rank: int) -> ComputeSettings:
    """A rank's own: its state folder lies within that of rank 0, and it listens so many ports higher as its number on
    this machine.

    Raises ValueError: there is no such port.
    """
    monitoring = replace(settings.monitoring, listen=_moved(settings.monitoring.listen, local_rank))
    return replace(
        settings,
        state=state_of_rank(settings.state, rank),
        listen=_moved(settings.listen, local_rank),
        monitoring=monitoring,
    )


def require_equal(settings: ComputeSettings, group: RankGroup) -> None:
    """Whether all ranks were started with equal files, by equal programs; all of them come here together.

    Raises ValueError: they were not; the same at all ranks.
    """
    own = {name: value for name, value in json.loads(record_to_json(settings)).items() if name not in _OF_A_MACHINE}
    own |= {"version of mple": __version__, "version of torch": torch.__version__}
    first, *others = (json.loads(told) for told in group.gather(json.dumps(own).encode()))
    for rank, other in enumerate(others, start=1):
        for name in sorted(first.keys() | other.keys()):
            mine, theirs = (printable(json.dumps(one.get(name)), 60) for one in (first, other))
            if mine != theirs:
                raise ValueError(
                    f"rank {rank} was started with {name} = {theirs}, rank 0 with {mine}; give all ranks equal files"
                )


def _moved(address: str, by: int) -> str:
    host, _, port = address.rpartition(":")
    if not by or not port.isdigit() or port == "0":
        return address
    if int(port) + by > 65535:
        raise ValueError(f"rank {by} of this machine would listen at port {int(port) + by}; choose a lower `listen`")
    return f"{host}:{int(port) + by}"
