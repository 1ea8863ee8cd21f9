"""The folder of a run whose nodes are all on one machine: where each keeps its things, and what lies at the top.

`nodes/NAME/` is what a deployment has on that node's own machine and may be copied there: `node.toml`, `tls/`, for
sites `vault/`, and, once started, `state/` and `log.txt`. When the run has finished, what it came to is gathered at the
top: plan, metrics, network, all ledgers in one, and `summary.json`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path

from mple.disk.json_records import structured, write_record
from mple.pki import Vault
from mple.plan import ComputeSettings, PlanError, RunPlan, SiteSettings, read_settings
from mple.records.plan_file import kept_plan
from mple.records.state_files import LEDGER, METRICS, MODEL, PLAN

COORDINATOR, COMPUTE = "coordinator", "compute"
"""Names of two nodes; the others have their sites' names."""
SUMMARY = "summary.json"


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


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths of a run."""

    path: Path
    sites: tuple[str, ...]

    @classmethod
    def begun(cls, path: Path) -> RunFolder:
        """The folder of a run that has got as far as a plan.

        Raises:
            RunFolderError: There is none.
        """
        return cls(path, tuple(site.name for site in _read_plan(path).sites))

    @classmethod
    def finished(cls, path: Path) -> RunFolder:
        """The folder of a run that has finished and was summed up.

        Raises:
            RunFolderError: The run has not finished, or this is another folder; the text says which.
        """
        note = _read_note(path)
        if note is not None and note.state is not RunEnd.FINISHED:
            raise RunFolderError(f"the run in {path} is {note.state}: {note.reason}")
        if not (path / PLAN).is_file():
            raise RunFolderError(f"{path} holds no {PLAN}: is it the folder of a finished simulation?")
        return cls.begun(path)

    @property
    def nodes(self) -> tuple[str, ...]:
        """All nodes in the order in which they are started."""
        return (COORDINATOR, COMPUTE, *self.sites)

    def node(self, name: str) -> Path:
        """A node's folder."""
        return self.path / "nodes" / name

    def state(self, name: str) -> Path:
        """A node's state folder; `mple.records.state_files` names what is in it."""
        return self.node(name) / "state"

    def config(self, name: str) -> Path:
        """A node's configuration file."""
        return self.node(name) / "node.toml"

    def vault_folder(self, site: str) -> Path:
        """A site's vault as a folder."""
        return self.node(site) / "vault"

    def log_text(self, name: str) -> Path:
        """What a node printed."""
        return self.node(name) / "log.txt"

    @property
    def authority(self) -> Path:
        """Folder of the authority that made the nodes' certificates."""
        return self.path / "authority"

    @property
    def simulation(self) -> Path:
        """The simulation's configuration."""
        return self.path / "simulation.toml"

    @property
    def plan_file(self) -> Path:
        """The plan, at the top."""
        return self.path / PLAN

    @property
    def metrics(self) -> Path:
        """How training went; see `mple.records.training`."""
        return self.path / METRICS

    @property
    def model(self) -> Path:
        """The trained network."""
        return self.path / MODEL

    @property
    def ledger(self) -> Path:
        """All nodes' ledgers in one."""
        return self.path / LEDGER

    @property
    def summary(self) -> Path:
        """The figures of a run, or a note why there are none."""
        return self.path / SUMMARY

    def plan(self) -> RunPlan:
        """The run's plan.

        Raises:
            RunFolderError: There is none yet, or it is damaged.
        """
        return _read_plan(self.path)

    def site_settings(self, site: str) -> SiteSettings:
        """A site's configuration.

        Raises:
            SettingsError: It is gone or damaged.
        """
        return read_settings(SiteSettings, self.config(site))

    def compute_settings(self) -> ComputeSettings:
        """The compute node's configuration.

        Raises:
            SettingsError: It is gone or damaged.
        """
        return read_settings(ComputeSettings, self.config(COMPUTE))

    def vault(self, site: str) -> Vault:
        """A site's vault, with the passphrase that its configuration or the environment has.

        Raises:
            SettingsError: The configuration is gone or damaged.
            VaultError: The vault can't be opened.
        """
        settings = self.site_settings(site)
        return Vault.of(settings.vault, settings.vault_passphrase_file)

    def versions(self) -> Mapping[str, str]:
        """Of the programs that have summed the run up.

        Raises:
            RunFolderError: Nothing has, or the summary is damaged.
        """
        note = _read_note(self.path)
        if note is None:
            raise RunFolderError(f"{self.summary} is missing: the run in {self.path} was not summed up")
        return note.versions

    def note_end(self, state: RunEnd, reason: str) -> None:
        """Write down why a run has no summary."""
        write_record(self.summary, RunNote(state=state, reason=reason))


def new_folder(path: Path) -> None:
    """Make a folder; an empty one may be there already.

    Raises:
        ValueError: It holds something.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"{path} is not empty; name a new folder with --out, or remove this one")
    path.mkdir(parents=True, exist_ok=True)


def _read_plan(folder: Path) -> RunPlan:
    """At the top once a run has finished, before that with the compute node."""
    try:
        plan = kept_plan(folder) or kept_plan(RunFolder(folder, ()).state(COMPUTE))
    except PlanError as fault:
        raise RunFolderError(str(fault)) from None
    if plan is None:
        raise RunFolderError(f"{folder} holds no {PLAN}: is it the folder of a simulation?")
    return plan


def _read_note(folder: Path) -> RunNote | None:
    path = folder / SUMMARY
    if not path.exists():
        return None
    try:
        summary = json.loads(path.read_bytes())
        known = {one.name: summary[one.name] for one in fields(RunNote) if one.name in summary}
    except (ValueError, TypeError) as fault:
        raise RunFolderError(f"{path} is damaged: {fault}") from None
    return structured(RunNote, known, str(path))
