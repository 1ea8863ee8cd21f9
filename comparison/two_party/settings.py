"""Configuration files of the two parties."""

from dataclasses import dataclass
from pathlib import Path

from comparison.two_party.session import Method

ADDRESS, LEDGER, OUTCOME = "address", "ledger.sqlite", "outcome.json"
"""Files in a state folder: where the server listens, the party's ledgers, what its process took."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerSettings:
    """Of the party with the network."""

    method: Method
    network: Path
    """Quantised network, safetensors."""
    state: Path
    """Folder for ledgers, spool and outcome."""
    tls: Path
    """Folder with the certificate files."""
    listen: str = "127.0.0.1:0"
    idle_timeout_s: float = 600.0
    """Longest wait for a frame that is due, 1 to 1e6 s; a large layer takes the other party a while."""
    held_bytes: int = 6 * 1024**3
    """Most bytes of encoded weights that are held, VGG-16 has 4.5 GiB; what is beyond is encoded anew each time."""

    def __post_init__(self) -> None:
        _check_timeout(self.idle_timeout_s)
        if self.held_bytes < 0:
            raise ValueError(f"held_bytes = {self.held_bytes}; allowed are 0 and above")


@dataclass(frozen=True, kw_only=True, slots=True)
class ClientSettings:
    """Of the party with the pictures."""

    method: Method
    pictures: Path
    """uint8 array (N, C, H, W) in numpy's file format; each one is inferred."""
    state: Path
    """Folder for ledgers, spool and outcome."""
    tls: Path
    """Folder with the certificate files."""
    server: str
    """Address, host:port."""
    channel_order: tuple[int, ...] = ()
    """Secret order of the stem's features, for MpLe."""
    idle_timeout_s: float = 600.0
    """Longest wait for a frame that is due, 1 to 1e6 s."""

    def __post_init__(self) -> None:
        _check_timeout(self.idle_timeout_s)
        if self.method.morphed and not self.channel_order:
            raise ValueError(f"method = {self.method} needs channel_order")


def _check_timeout(idle_s: float) -> None:
    if not 1 <= idle_s <= 1e6:
        raise ValueError(f"idle_timeout_s = {idle_s}; allowed are 1 to 1e6 seconds")
