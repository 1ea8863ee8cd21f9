"""What a site brings into any run: its node, its data, its keys."""

from dataclasses import dataclass

from mple.data import Dataset
from mple.node.session import NodeSession
from mple.pki import Vault
from mple.plan import SiteSettings
from provider_node.keys.run_keys import RunKeys


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """A site that lives."""

    node: NodeSession
    settings: SiteSettings
    vault: Vault
    dataset: Dataset
    keys: RunKeys

    @property
    def name(self) -> str:
        """By its certificate."""
        return self.node.me.name
