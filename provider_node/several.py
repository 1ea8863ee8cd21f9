"""Several sites in one process, each with what is its own: none may share a folder or a name with another."""

from collections.abc import Callable, Sequence
from pathlib import Path

from cryptography import x509

from mple.node.stop import Stop
from mple.node.together import OneNode, run_together
from mple.plan import SettingsError, SiteSettings, read_settings
from mple.rpc import TlsFiles
from mple.rpc.tls import party_of_certificate


def run_sites(configs: Sequence[Path], overrides: Sequence[str], body: Callable[[SiteSettings, Stop], None]) -> int:
    """Run the sites of these files as all that this process does from here on; see `run_together`.

    Raises SettingsError: a file can't be read, or two sites have in common what each must have alone; ExitError: the
    process may not open enough files for so many.
    """
    sites = {}
    for config in configs:
        if config in sites:
            raise SettingsError(f"{config} is given twice; name each site once")
        sites[config] = read_settings(SiteSettings, config, overrides)
    refuse_shared(sites)
    return run_together("mple-provider", [OneNode(name=_name(*site), settings=site[1]) for site in sites.items()], body)


def refuse_shared(sites: dict[Path, SiteSettings]) -> None:
    """Refuse sites, by their files, of which two have the same state folder, vault or certificate, or other threads:
    the numeric libraries' are the process's.

    Raises SettingsError: so it is.
    """
    for name in ("state", "vault", "tls"):
        first: dict[Path, Path] = {}
        for config, settings in sites.items():
            folder: Path = getattr(settings, name)
            other = first.setdefault(folder.resolve(), config)
            if other is not config:
                raise SettingsError(f"{other} and {config} have the same {name} = {folder}; each site needs its own")
    named: dict[str, Path] = {}
    for config, settings in sites.items():
        other = named.setdefault(_name(config, settings), config)
        if other is not config:
            raise SettingsError(f"{other} and {config} are both {_name(config, settings)}: start each site once")
    (config, settings), *others = sites.items()
    for other, of_other in others:
        if of_other.threads != settings.threads:
            text = f"threads = {settings.threads} in {config}, {of_other.threads} in {other}"
            raise SettingsError(f"{text}; sites of one process share its threads: give all the same")


def _name(config: Path, settings: SiteSettings) -> str:
    """By its certificate, or where that can't be read, which the site itself then says, by its file."""
    try:
        shown = x509.load_pem_x509_certificate(TlsFiles.in_directory(settings.tls).certificate.read_bytes())
        return f"site {party_of_certificate(shown).name}"
    except (OSError, ValueError):
        return str(config)
