"""`mple keys`: a site's morph keys. Every verb takes the site's configuration; none ever shows a secret.

A running provider looks at its vault about once a second: it brings a new key into its run and has a revoked one's
data erased. Without a running one, the next start does.
"""

import os
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from mple import pki
from mple.audit import FILE_NAME, AuditTrail
from mple.disk.damage import DamagedError
from mple.disk.private import make_private
from mple.pki import Vault, VaultError
from mple.plan import Custody, PlanError, SiteSettings, read_settings
from mple.records.plan_file import kept_plan
from mple.rpc import Role, TlsFiles, own_party
from mple.terminal import echo

BACKUP_VARIABLE = "MPLE_BACKUP_PASSPHRASE"
app = typer.Typer(no_args_is_help=True, help="A site's morph keys: make, show, rotate, revoke, back up.")
Config = Annotated[Path, typer.Argument(help="The site's configuration, such as north.toml.")]


@app.command()
def new(config: Config) -> None:
    """Make the site's first key, which its first run would make as well."""
    settings, vault = _opened(config)
    if vault.has_morph_key():
        raise VaultError(f"there is a key of epoch {vault.current_epoch()}; to make the next one: mple keys rotate")
    vault.morph_key()
    _note(settings, "key_made", epoch=vault.current_epoch())
    _show(vault)


@app.command()
def show(config: Config) -> None:
    """List the keys by epoch: fingerprint, when made, whether current, kept or revoked."""
    _, vault = _opened(config, make=False)
    _show(vault)


@app.command()
def rotate(config: Config) -> None:
    """Make the next key. A running provider takes it up within its run, the older ones stay until they are revoked."""
    settings, vault = _opened(config)
    _note(settings, "key_made", epoch=vault.new_epoch())
    _show(vault)
    if _last_custody(settings) is Custody.ESCROW:
        echo("in escrow custody a run keeps the key that it began with; the next run takes this one")


@app.command()
def revoke(
    config: Config,
    epoch: Annotated[int | None, typer.Argument(help="The key's epoch.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every key but the current one.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
) -> None:
    """Destroy a key that is not the current one, and have the compute node erase what was made under it."""
    if (epoch is None) == (not every):
        raise typer.BadParameter("name an epoch, or --all for every key but the current one")
    settings, vault = _opened(config)
    kept = [record.epoch for record in vault.epochs() if record.revoked is None]
    chosen = [one for one in kept if one != vault.current_epoch()] if epoch is None else [epoch]
    if chosen and not yes:
        typer.confirm(f"destroy the key of epoch {', '.join(map(str, chosen))} for ever?", abort=True)
    for one in chosen:
        vault.forget(one)
        _note(settings, "key_destroyed", epoch=one)
    _show(vault)


@app.command()
def backup(
    config: Config, out: Annotated[Path, typer.Argument(help="File for the backup; keep it off this machine.")]
) -> None:
    """Write all keys and secrets into one encrypted file."""
    settings, vault = _opened(config, make=False)
    count = pki.back_up(vault, out, _backup_passphrase(confirm=True))
    _note(settings, "keys_backed_up", secrets=count)
    echo(f"{count} secrets in {out}; who has the file and its passphrase has the keys")


@app.command()
def restore(config: Config, file: Annotated[Path, typer.Argument(help="The backup.")]) -> None:
    """Put a backup's keys into the vault; other keys are not overwritten, revoked ones stay revoked."""
    settings, vault = _opened(config)
    done = pki.restore(vault, file, _backup_passphrase(confirm=False))
    _note(settings, "keys_restored", secrets=len(done.taken))
    echo(f"{len(done.taken)} secrets are in the vault")
    for name in done.revoked:
        echo(f"left out {name}: revoked since the backup; destroy the backup and make a new one")


def _opened(config: Path, *, make: bool = True) -> tuple[SiteSettings, Vault]:
    """A site's settings and its vault, which is made where there is none unless it must be there."""
    settings = read_settings(SiteSettings, config, ())
    if not make and not settings.vault.is_dir():
        raise VaultError(f"no vault at {settings.vault}; make the site's first key: mple keys new {config}")
    return settings, Vault.of(settings.vault, settings.vault_passphrase_file)


def _note(settings: SiteSettings, what: str, **facts: int) -> None:
    """Append to the node's audit trail, which a running provider writes too."""
    make_private(settings.state)
    tls = TlsFiles.in_directory(settings.tls)
    node = own_party(tls, Role.SITE).label if tls.certificate.exists() else Role.SITE.value
    with closing(AuditTrail(settings.state / FILE_NAME, node)) as trail:
        trail.append("local", what, "ok", **facts)


def _show(vault: Vault) -> None:
    records = vault.epochs()
    if not records:
        echo("no key yet")
    for record in records:
        state = f"revoked {record.revoked}" if record.revoked else "kept"
        if record.revoked is None and record.epoch == vault.current_epoch():
            state = "current"
        echo(f"epoch {record.epoch}  {record.fingerprint[:16]}  made {record.made}  {state}")
    echo(f"vault: {'under a passphrase' if vault.encrypted else 'file permission only'}")


def _last_custody(settings: SiteSettings) -> Custody | None:
    """The custody of the run that the site takes part in, or took part in last."""
    try:
        plan = kept_plan(settings.state)
    except (OSError, PlanError, DamagedError):
        return None
    return None if plan is None else plan.custody


def _backup_passphrase(*, confirm: bool) -> str:
    told = os.environ.get(BACKUP_VARIABLE)
    return (
        told
        if told is not None
        else str(typer.prompt("passphrase of the backup", hide_input=True, confirmation_prompt=confirm))
    )
