"""Both parties of a method as real processes: laid out, started, awaited, and gone at the end, whatever happens.

The folder of a run has `client/` and `server/`, each with configuration, log, certificates and state, as two machines
would have them; `pictures.npy` is the client's, `network.safetensors` the server's.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from comparison.networks.quantised import QuantisedNetwork
from comparison.two_party.session import Method
from comparison.two_party.settings import ADDRESS, LEDGER, OUTCOME, ClientSettings, ServerSettings
from comparison.two_party.stopwatch import PartyOutcome
from mple.disk.json_records import read_record
from mple.meter.reconciliation import balance, merge
from mple.pki import throwaway
from mple.plan import write_settings
from mple.rpc import Party, Role
from mple.simulate.children import Children, Ended, root_cause

CLIENT, SERVER = "client", "server"
_CONSORTIUM = "comparison"
_HOSTS = ("127.0.0.1", "localhost")
_POLL_S = 0.05
_LISTENS_WITHIN_S = 120.0
_GRACE_S = 10.0
_LAST_LINES = 3


class ComparisonError(Exception):
    """A method's run failed, or its results are not what they must be."""


@dataclass(frozen=True, slots=True)
class PartyFolders:
    """Paths of one method's run."""

    path: Path

    def party(self, name: str) -> Path:
        """A party's folder."""
        return self.path / name

    def state(self, name: str) -> Path:
        """A party's state folder."""
        return self.path / name / "state"

    def ledger(self, name: str) -> Path:
        """A party's ledgers."""
        return self.state(name) / LEDGER

    def outcome(self, name: str) -> PartyOutcome:
        """What a party's process took."""
        return read_record(PartyOutcome, self.state(name) / OUTCOME)


def run_two_processes(
    method: Method,
    network: QuantisedNetwork,
    pictures_NCHW: NDArray[np.uint8],
    folder: Path,
    *,
    channel_order: Sequence[int] = (),
    held_bytes: int | None = None,
) -> PartyFolders:
    """Run a method on some pictures.

    Args:
        method: The method.
        network: As the server has it.
        pictures_NCHW: As the client has them.
        folder: A new folder.
        channel_order: The client's secret, for MpLe.
        held_bytes: Of the server's encoded weights; by default as its settings say.

    Raises ComparisonError: a party failed, or their ledgers don't balance; OSError: the disk refuses.
    """
    run = PartyFolders(folder.resolve())
    parties = (Party(_CONSORTIUM, Role.SITE, CLIENT), Party(_CONSORTIUM, Role.COMPUTE, SERVER))
    tls = [run.party(party.name) / "tls" for party in parties]
    throwaway(run.path / "authority", parties, _HOSTS, tls)
    for name in (CLIENT, SERVER):
        run.state(name).mkdir(parents=True)
    network.save(run.party(SERVER) / "network.safetensors")
    np.save(run.party(CLIENT) / "pictures.npy", pictures_NCHW, allow_pickle=False)
    server = ServerSettings(method=method, network=Path("network.safetensors"), state=Path("state"), tls=Path("tls"))
    if held_bytes is not None:
        server = ServerSettings(
            method=method, network=server.network, state=server.state, tls=server.tls, held_bytes=held_bytes
        )
    with Children(_GRACE_S) as children:
        _start(children, run, SERVER, "serve", write_settings(server))
        client = ClientSettings(
            method=method,
            pictures=Path("pictures.npy"),
            state=Path("state"),
            tls=Path("tls"),
            server=_listening(children, run),
            channel_order=tuple(channel_order),
        )
        _start(children, run, CLIENT, "run", write_settings(client))
        ended: list[Ended] = []
        while children.running:
            time.sleep(_POLL_S)
            ended += children.ended()
            _require_well(run, ended, children)
    _require_balance(run)
    return run


def _start(children: Children, run: PartyFolders, name: str, verb: str, configuration: str) -> None:
    config = run.party(name) / "party.toml"
    config.write_text(configuration, encoding="utf-8")
    module = f"comparison.two_party.{name}"
    arguments = [sys.executable, "-m", module, verb, str(config)]
    children.start(name, arguments, log_text=run.party(name) / "log.txt", threads=1)


def _listening(children: Children, run: PartyFolders) -> str:
    address = run.state(SERVER) / ADDRESS
    give_up_at = time.monotonic() + _LISTENS_WITHIN_S
    while time.monotonic() < give_up_at:
        if address.exists():
            return address.read_text(encoding="ascii")
        _require_well(run, children.ended(), children)
        time.sleep(_POLL_S)
    raise ComparisonError(f"the server does not listen within {_LISTENS_WITHIN_S:g} s; {_words(run, SERVER)}")


def _require_well(run: PartyFolders, ended: list[Ended], children: Children) -> None:
    if root_cause(ended) is None:
        return
    failed = root_cause([*ended, *children.stop()])
    assert failed is not None
    raise ComparisonError(f"the {failed.name} ended with code {failed.code}: {_words(run, failed.name)}")


def _words(run: PartyFolders, name: str) -> str:
    log = run.party(name) / "log.txt"
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    own = [line for line in lines if line.startswith("mple-")] or lines
    return "\n  ".join(own[-_LAST_LINES:] or ["it printed nothing"]) + f"\nits whole log is {log}"


def _require_balance(run: PartyFolders) -> None:
    """The two ends' ledgers, merged and matched message by message."""
    merged = run.path / LEDGER
    merge([run.ledger(CLIENT), run.ledger(SERVER)], merged)
    found = balance(merged)
    if not found.whole:
        raise ComparisonError(f"the parties' ledgers in {merged} don't balance: {'; '.join(found.offenders)}")
