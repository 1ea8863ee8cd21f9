"""`mple pki`: an authority for a consortium, and certificates for its nodes."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from mple import pki
from mple.disk.bounded import MEBIBYTE, read_bounded
from mple.disk.private import private_file
from mple.rpc import Party, Role
from mple.terminal import echo

app = typer.Typer(no_args_is_help=True, help="Certificates: an authority per consortium, a certificate per node.")
_MOST_BYTES = 16 * MEBIBYTE
"""Of a list of revoked certificates; others are far smaller."""
TlsFolder = Annotated[Path, typer.Argument(help="The node's TLS folder.")]


@app.command()
def init(
    directory: Annotated[Path, typer.Argument(help="Folder for the authority; keep it off the nodes.")],
    consortium: Annotated[str, typer.Option(help="Name of the consortium.")],
    days: Annotated[int, typer.Option(help="Validity in days.")] = 3650,
) -> None:
    """Make the consortium's authority."""
    pki.create_authority(directory, consortium, days)
    echo(f"authority of {consortium} in {directory}; give {directory / 'ca.crt'} to every node, ca.key to nobody")


@app.command()
def request(
    directory: TlsFolder,
    consortium: Annotated[str, typer.Option(help="Name of the consortium.")],
    role: Annotated[Role, typer.Option(help="What the node does.")],
    name: Annotated[str, typer.Option(help="The node's name.")],
    host: Annotated[list[str] | None, typer.Option(help="Name or address others reach it by; repeat.")] = None,
) -> None:
    """Make the node's key, which stays in the folder, and a signing request."""
    pki.request(directory, Party(consortium, role, name), host or [])
    echo(f"send {directory / 'node.csr'} to the authority; {directory / 'node.key'} stays here")


@app.command()
def approve(
    signing_request: Annotated[Path, typer.Argument(help="The node's node.csr.")],
    authority: Annotated[Path, typer.Option(help="The authority's folder.")],
    out: Annotated[Path, typer.Option(help="File for the certificate.")],
    days: Annotated[int, typer.Option(help="Validity in days.")] = 90,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
) -> None:
    """Look at a signing request and sign it."""
    pem = _read(signing_request)
    asked = pki.describe_request(pem)
    echo(f"identity {asked.party.uri}", f"hosts {', '.join(asked.hosts) or 'none'}")
    if not yes:
        typer.confirm("sign it?", abort=True)
    private_file(out).write_bytes(pki.approve(pki.Authority(authority), pem, days))
    echo(f"wrote {out}; send it back with {authority / 'ca.crt'}")


@app.command()
def install(
    directory: TlsFolder,
    certificate: Annotated[Path, typer.Argument(help="The signed certificate.")],
    ca: Annotated[Path, typer.Option(help="The authority's ca.crt.")],
) -> None:
    """Check a certificate against the node's key and put it in place."""
    party = pki.install(directory, _read(certificate), _read(ca))
    echo(f"{directory} is now {party.uri}")


@app.command()
def renew(
    directory: TlsFolder,
    new_key: Annotated[bool, typer.Option("--new-key", help="Make a new key, too; it waits for 'install'.")] = False,
) -> None:
    """Make a signing request for the same identity and hosts; the node may go on running."""
    pki.renew(directory, new_key=new_key)
    key = f"its new key waits in {directory / 'node.key.new'}" if new_key else "its key stays the same"
    echo(f"send {directory / 'node.csr'} to the authority; {key}")


@app.command()
def revoke(
    directory: Annotated[Path, typer.Argument(help="The authority's folder.")],
    party: Annotated[str, typer.Option(help='All certificates of a party: "site/north".')] = "",
    serial: Annotated[list[str] | None, typer.Option(help="A serial number as 'list' prints it; repeat.")] = None,
    certificate: Annotated[
        list[Path] | None, typer.Option(help="A certificate that 'list' does not know, as a file; repeat.")
    ] = None,
    reason: Annotated[str, typer.Option(help=f"One of: {', '.join(pki.REASONS)}.")] = "unspecified",
    days: Annotated[int, typer.Option(help="Until the list should be replaced by a newer one.")] = 30,
) -> None:
    """Revoke certificates and sign the list that every node needs; for one revoked before, the list is signed anew."""
    authority = pki.Authority(directory)
    serials = [_serial(text) for text in serial or ()]
    serials += [pki.enter(authority, _read(path)) for path in certificate or ()]
    if party:
        serials += _of_party(authority, party)
    if not serials:
        raise typer.BadParameter("name what to revoke by --party, --serial or --certificate")
    before = {one.serial for one in authority.index().certificates if one.revoked_at is not None}
    path = pki.revoke(authority, serials, reason, days)
    for one in authority.index().certificates:
        if one.serial in serials:
            echo(f"{one.serial:040x}  {one.identity}  {one.state(datetime.now(UTC))}")
    count = len(set(serials) - before)
    echo(f"revoked {count}; give {path} to every node: mple pki install-crl TLSDIR ca.crl")


@app.command()
def install_crl(directory: TlsFolder, crl: Annotated[Path, typer.Argument(help="The authority's ca.crl.")]) -> None:
    """Check a list of revoked certificates and put it in place; a running node takes it up within a second."""
    fresh = pki.install_list(directory, _read(crl))
    echo(f"list {fresh.number} is in place: {len(fresh.entries)} revoked, next by {fresh.next_update:%Y-%m-%d}")


@app.command("list")
def show(directory: Annotated[Path, typer.Argument(help="The authority's folder.")]) -> None:
    """Show every certificate that the authority has issued."""
    now = datetime.now(UTC)
    for one in pki.Authority(directory).index().certificates:
        echo(f"{one.serial:040x}  {one.identity}  {one.state(now)}  {', '.join(one.hosts) or 'no hosts'}")


def _read(path: Path) -> bytes:
    """A file that somebody has sent."""
    return read_bounded(path, _MOST_BYTES, named=True)


def _of_party(authority: pki.Authority, label: str) -> list[int]:
    """Serial numbers of a party's certificates that have not ended."""
    consortium, now = authority.consortium, datetime.now(UTC)
    uri = Party.parse(f"mple://{consortium}/{label}").uri
    found = [one.serial for one in authority.index().certificates if one.identity == uri and one.not_after > now]
    if not found:
        raise typer.BadParameter(f"{label} has no certificate that has not ended; see 'mple pki list'")
    return found


def _serial(text: str) -> int:
    try:
        return int(text.replace(":", ""), 16)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no serial number; copy one from 'mple pki list'") from None
