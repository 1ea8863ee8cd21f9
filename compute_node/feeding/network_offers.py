"""Which sites are to have the trained network and which of them have it, as pure state.

An offer outlives streams: a site is told once on each, until it says that it has the network. Callers serialise access.
"""

from compute_node.feeding.request_window import FeedFault
from mple.v1 import compute_pb2


class NetworkOffers:
    """Of one network, to every site of a run."""

    def __init__(self) -> None:
        self._ready = compute_pb2.NetworkReady()
        self._due: set[str] = set()
        self._told: set[str] = set()

    @property
    def due(self) -> frozenset[str]:
        """Sites that have not said that they have it; none before `begin`."""
        return frozenset(self._due)

    def begin(self, ready: compute_pb2.NetworkReady, sites: set[str]) -> None:
        """The network can be fetched; these sites shall have it."""
        self._ready, self._due = ready, set(sites)

    def next(self, site: str) -> compute_pb2.NetworkReady | None:
        """What to tell a site, None where it has been told on this stream or has the network."""
        if site not in self._due or site in self._told:
            return None
        self._told.add(site)
        return self._ready

    def received(self, site: str, sha256: bytes) -> None:
        """A site says that it has the network. Raises FeedFault: it was not told of it, or it names another."""
        if site not in self._told or site not in self._due:
            raise FeedFault("the site has received a network of which it was not told")
        if sha256 != self._ready.sha256:
            told = self._ready.sha256.hex()[:16]
            raise FeedFault(f"the site has received network {sha256[:32].hex()[:16]}, it was told of {told}")
        self._due.discard(site)

    def stream_broke(self, site: str) -> None:
        """The site is told again on its next stream."""
        self._told.discard(site)
