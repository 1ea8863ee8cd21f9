"""The life of either party's process: a folder of its own first, then log, ledger and spool; at its end what it took.

It is shorter than a node's (`mple.node`): there is no coordinator, and what is not loaded takes no memory, which is
measured.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from comparison.peak_memory import peak_memory_bytes
from comparison.two_party.settings import LEDGER, OUTCOME, ClientSettings, ServerSettings
from comparison.two_party.spool import Spool
from comparison.two_party.stopwatch import PartyOutcome, Stopwatch
from mple.disk.json_records import write_record
from mple.disk.locks import claim
from mple.meter import Ledger
from mple.node.logs import open_log
from mple.rpc import Party, Role, TlsFiles, own_party


@dataclass(frozen=True, kw_only=True, slots=True)
class PartySession:
    """A party that lives; see `open_party`."""

    me: Party
    tls: TlsFiles
    ledger: Ledger
    spool: Spool
    watch: Stopwatch
    settings: ServerSettings | ClientSettings

    def leave(self, logits: Iterable[Iterable[int]] = ()) -> None:
        """Leave in the state folder what the process took, and the logits of each picture where it has them."""
        outcome = PartyOutcome(
            laps=tuple(self.watch.laps),
            peak_memory_bytes=peak_memory_bytes(),
            spool_bytes=self.spool.most_bytes,
            logits_NK=tuple(tuple(map(int, row_K)) for row_K in logits),
        )
        write_record(self.settings.state / OUTCOME, outcome)


@contextmanager
def open_party(settings: ServerSettings | ClientSettings, role: Role, program: str) -> Iterator[PartySession]:
    """Begin a party's life in its state folder; it ends with the block.

    Raises ValueError: another process has the folder, or the certificate can't be used; OSError: the disk refuses.
    """
    with claim(settings.state, program):
        tls = TlsFiles.in_directory(settings.tls)
        me = own_party(tls, role)
        open_log(settings.state, me.label)
        with Ledger(settings.state / LEDGER, me.label) as ledger, Spool(settings.state / "spool") as spool:
            yield PartySession(me=me, tls=tls, ledger=ledger, spool=spool, watch=Stopwatch(), settings=settings)
