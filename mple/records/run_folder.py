"""The folder of a run whose nodes are all on one machine: where each keeps its things, and what lies at the top.

`nodes/NAME/` is what a deployment has on that node's own machine and may be copied there: `node.toml`, `tls/`, for
sites `vault/`, and, once started, `state/` and `log.txt`, which sites that share a process have in one,
`nodes/FIRST..LAST.txt`. A compute node of several ranks has the state folders of
ranks 1, 2, ... within its own, `state/rank-1`, `state/rank-2`, ... When the run has finished, what it came to is
gathered at the top: plan, metrics, network, all ledgers in one, and `summary.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from pathlib import Path

from mple.disk.bounded import UnsoundFileError, read_bounded, require_within
from mple.disk.damage import DamagedError
from mple.disk.json_records import read_json, structured, write_record
from mple.disk.private import make_private
from mple.pki import Vault
from mple.plan import ComputeSettings, PlanError, RunPlan, SiteSettings, read_settings
from mple.records.plan_file import kept_plan
from mple.records.state_files import LEDGER, PLAN, state_of_rank

COORDINATOR, COMPUTE = "coordinator", "compute"
"""Names of two nodes; the others have their sites' names."""
SIMULATION, SUMMARY = "simulation.toml", "summary.json"
"""Files at the top, beside those that are called as in `mple.records.state_files`."""


class RunFolderError(ValueError):
    """A folder is no run's, or lacks a file that is needed."""


class RunEnd(StrEnum):
    """How a run has ended."""

    FINISHED = "finished"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunNote:
    """What every `summary.json` says; that of a run that has finished holds its figures, too."""

    state: RunEnd
    reason: str = ""
    """Why it has not finished."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of the programs that have summed it up."""
    command: str = ""
    """That started it; empty where that is not known."""
    commit: str = ""
    """Of the source that it ran from; empty where it did not run from a checkout."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths of a run."""

    path: Path
    sites: tuple[str, ...] = ()
    ranks: int = 1
    """Of the compute node."""

    @classmethod
    def begun(cls, path: Path) -> RunFolder:
        """The folder of a run that has got as far as a plan. Somebody else may have made it: what has been looked at
        here has no link out of it, and no name in the plan leads out.

        Raises RunFolderError: there is no plan, or something in the folder leads out of it or is no file.
        """
        folder = cls._sound(path)
        plan = folder.plan()
        return replace(folder, sites=tuple(site.name for site in plan.sites), ranks=plan.training.ranks)

    @classmethod
    def finished(cls, path: Path) -> RunFolder:
        """The folder of a run that has finished and was summed up.

        Raises RunFolderError: it is none; the text says what has become of the run.
        """
        note = cls._sound(path).note()
        if note is not None and note.state is not RunEnd.FINISHED:
            raise RunFolderError(f"the run in {path} is {note.state}: {note.reason}")
        if not (path / PLAN).is_file():
            raise RunFolderError(f"{path} holds no {PLAN}: is it the folder of a finished simulation?")
        return cls.begun(path)

    @classmethod
    def _sound(cls, path: Path) -> RunFolder:
        try:
            require_within(path)
        except UnsoundFileError as fault:
            raise RunFolderError(str(fault)) from None
        except OSError as fault:
            raise RunFolderError(f"{path} is no run's folder: {fault.strerror}") from None
        return cls(path)

    @property
    def nodes(self) -> tuple[str, ...]:
        """All nodes in the order in which they are started."""
        return (COORDINATOR, COMPUTE, *self.sites)

    def node(self, name: str) -> Path:
        """A node's folder."""
        return self.path / "nodes" / name

    def state(self, name: str) -> Path:
        """A node's state folder, of the compute node that of rank 0; `mple.records.state_files` names what is in it."""
        return self.node(name) / "state"

    @property
    def compute_states(self) -> tuple[Path, ...]:
        """The state folders of the compute node's ranks in their order."""
        return tuple(state_of_rank(self.state(COMPUTE), rank) for rank in range(self.ranks))

    @property
    def node_ledgers(self) -> tuple[Path, ...]:
        """Where each process's own ledger lies, whether it is there or not: one a node, and one for each rank."""
        states = [self.state(name) for name in sorted({COORDINATOR, *self.sites})]
        return tuple(state / LEDGER for state in (*self.compute_states, *states))

    def config(self, name: str) -> Path:
        """A node's configuration file."""
        return self.node(name) / "node.toml"

    def log_text(self, name: str) -> Path:
        """What a node printed."""
        return self.node(name) / "log.txt"

    def vault_folder(self, site: str) -> Path:
        """Where a site's vault lies."""
        return self.node(site) / "vault"

    @property
    def ledger(self) -> Path:
        """All nodes' ledgers in one."""
        return self.path / LEDGER

    def plan(self) -> RunPlan:
        """The plan: at the top once the run has finished, before that with the compute node.

        Raises RunFolderError: there is none yet, or it is damaged.
        """
        try:
            plan = kept_plan(self.path) or kept_plan(self.state(COMPUTE))
        except (PlanError, DamagedError, UnsoundFileError) as fault:
            raise RunFolderError(str(fault)) from None
        if plan is None:
            raise RunFolderError(f"{self.path} holds no {PLAN}: is it the folder of a simulation?")
        return plan

    def vault(self, site: str) -> Vault:
        """A site's vault, with the passphrase that its configuration or the environment has.

        Raises SettingsError: the configuration is gone or damaged; RunFolderError: it names a vault or a file with a
        passphrase outside the folder; VaultError: the vault can't be opened.
        """
        settings = read_settings(SiteSettings, self.config(site))
        self._require_inside(site, settings.vault, settings.vault_passphrase_file)
        return Vault.of(settings.vault, settings.vault_passphrase_file)

    def cache_secret(self, rank: int) -> bytes:
        """What the cache of one of the compute node's ranks is encrypted under; errors as `vault`."""
        settings = read_settings(ComputeSettings, self.config(COMPUTE))
        settings = replace(settings, state=state_of_rank(settings.state, rank))
        self._require_inside(COMPUTE, settings.vault_folder, settings.vault_passphrase_file)
        return Vault.of(settings.vault_folder, settings.vault_passphrase_file).cache_secret(new=False)

    def _require_inside(self, node: str, folder: Path, passphrase_file: Path | None) -> None:
        for path in filter(None, (folder, passphrase_file)):
            if not path.resolve().is_relative_to(self.path.resolve()):
                raise RunFolderError(f"{self.config(node)} names {path}, outside the run's folder; copy it there")
        if not folder.is_dir():
            raise RunFolderError(f"no vault at {folder}")

    def note(self) -> RunNote | None:
        """What `summary.json` says of the run's end, None where there is none; ValueError where it is damaged."""
        path = self.path / SUMMARY
        if not path.exists():
            return None
        try:
            summary = read_json(read_bounded(path), str(path))
            known = {one.name: summary[one.name] for one in fields(RunNote) if one.name in summary}
            return structured(RunNote, known, str(path))
        except (ValueError, TypeError) as fault:
            raise RunFolderError(f"{path} is no summary of a run: {fault}") from None

    def note_end(self, state: RunEnd, reason: str) -> None:
        """Write down why a run has no summary."""
        write_record(self.path / SUMMARY, RunNote(state=state, reason=reason))


def new_folder(path: Path) -> None:
    """Make a folder; an empty one may be there already, ValueError where it holds something."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"{path} is not empty; name a new folder with --out, or remove this one")
    make_private(path)
