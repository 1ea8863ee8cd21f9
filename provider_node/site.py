"""What a site brings into any run: its node, its data, its keys."""

from dataclasses import dataclass

from mple.data import Dataset
from mple.morph import MorphKey
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

    def morph_key(self, epoch: int) -> MorphKey:
        """A key of the run.

        Raises VaultError: it is not in the vault, or revoked; VaultDamagedError: it is gone, or another.
        """
        return self.keys.require_key(self.vault.morph_key(epoch), epoch)
