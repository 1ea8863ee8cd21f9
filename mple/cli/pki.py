"""`mple pki`: an authority for a consortium, and certificates for its nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mple.pki import Authority, approve, create_authority, describe_request, install, request
from mple.rpc import Party, Role

app = typer.Typer(no_args_is_help=True, help="Certificates: an authority per consortium, a certificate per node.")


@app.command()
def init(
    directory: Annotated[Path, typer.Argument(help="Folder for the authority; keep it off the nodes.")],
    consortium: Annotated[str, typer.Option(help="Name of the consortium.")],
    days: Annotated[int, typer.Option(help="Validity in days.")] = 3650,
) -> None:
    """Make the consortium's authority."""
    create_authority(directory, consortium, days)
    typer.echo(f"authority of {consortium} in {directory}; give {directory / 'ca.crt'} to every node, ca.key to nobody")


@app.command("request")
def make_request(
    directory: Annotated[Path, typer.Argument(help="The node's TLS folder.")],
    consortium: Annotated[str, typer.Option(help="Name of the consortium.")],
    role: Annotated[Role, typer.Option(help="What the node does.")],
    name: Annotated[str, typer.Option(help="The node's name.")],
    host: Annotated[list[str] | None, typer.Option(help="Name or address others reach it by; repeat.")] = None,
) -> None:
    """Make the node's key, which stays in the folder, and a signing request."""
    request(directory, Party(consortium, role, name), host or [])
    typer.echo(f"send {directory / 'node.csr'} to the authority; {directory / 'node.key'} stays here")


@app.command("approve")
def sign(
    signing_request: Annotated[Path, typer.Argument(help="The node's node.csr.")],
    authority: Annotated[Path, typer.Option(help="The authority's folder.")],
    out: Annotated[Path, typer.Option(help="File for the certificate.")],
    days: Annotated[int, typer.Option(help="Validity in days.")] = 90,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
) -> None:
    """Look at a signing request and sign it."""
    pem = signing_request.read_bytes()
    asked = describe_request(pem)
    typer.echo(f"identity {asked.party.uri}, hosts {', '.join(asked.hosts) or 'none'}")
    if not yes:
        typer.confirm("sign it?", abort=True)
    out.write_bytes(approve(Authority(authority), pem, days))
    typer.echo(f"wrote {out}; send it back with {authority / 'ca.crt'}")


@app.command("install")
def put(
    directory: Annotated[Path, typer.Argument(help="The node's TLS folder.")],
    certificate: Annotated[Path, typer.Argument(help="The signed certificate.")],
    ca: Annotated[Path, typer.Option(help="The authority's ca.crt.")],
) -> None:
    """Check a certificate against the node's key and put it in place."""
    party = install(directory, certificate.read_bytes(), ca.read_bytes())
    typer.echo(f"{directory} is now {party.uri}")
