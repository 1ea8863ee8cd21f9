"""Signing requests that lie to the eyes of whoever approves them: what is shown, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from mple.cli import main
from mple.exit_codes import ExitCode
from mple.pki import Authority, PkiError, describe_request, request
from mple.rpc import Party, Role

NORTH = Party("test", Role.SITE, "north")
FORGED = "x\r\x1b[2K\x1b[1Aidentity mple://test/site/north, hosts north.example"
LIES = {
    "escape": FORGED,
    "line end": "a.example\nhosts none",
    "return": "a.example\rb.example",
    "wildcard": "*.example",
    "any": "*",
    "underscore": "a_b.example",
    "blank": "a.example b.example",
    "comma": "a.example,b.example",
    "port": "a.example:443",
    "path": "a.example/x",
    "zero": "a.example\0.evil.example",
    "tab": "a.example\t",
    "delete": "a.example\x7f",
    "long label": "x" * 64 + ".example",
    "long name": "a." * 130 + "example",
    "empty label": "a..example",
    "dash": "-a.example",
}


def asked(hosts: Sequence[str], uri: str = NORTH.uri) -> bytes:
    """A request made by another program than ours; nothing of it is checked."""
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri)]
    for host in hosts:
        name = x509.DNSName.__new__(x509.DNSName)
        name._value = host
        names.append(name)
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "north\x1b[2J")])
    )
    key = ec.generate_private_key(ec.SECP256R1())
    return (
        builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, SHA256())
        .public_bytes(Encoding.PEM)
    )


@pytest.mark.parametrize("host", LIES.values(), ids=LIES)
def test_a_host_that_is_none_is_refused_and_nothing_is_asked(
    host: str, authority: Authority, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "node.csr"
    file.write_bytes(asked(["fine.example", host]))
    with pytest.raises(PkiError, match="neither a name nor an address"):
        describe_request(file.read_bytes())
    out = tmp_path / "node.crt"
    code = main(["pki", "approve", str(file), "--authority", str(authority.directory), "--out", str(out), "--yes"])
    assert code == ExitCode.BAD_USAGE
    assert not out.exists()
    told = capsys.readouterr()
    assert "identity" not in told.out
    assert all(line.isprintable() for line in told.err.split("\n"))


def test_a_list_that_fills_the_screen_is_refused() -> None:
    with pytest.raises(PkiError, match="1000 hosts"):
        describe_request(asked([f"h{number}.example" for number in range(1000)]))


@pytest.mark.parametrize("uri", [f"mple://test/site/{FORGED}", "mple://test/site/north%1b", "mple://test/site/nor\x1b"])
def test_an_identity_that_is_none_is_refused_printably(uri: str) -> None:
    with pytest.raises(PkiError) as refused:
        describe_request(asked([], uri))
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("host", [*LIES.values(), "", "fe80::1%\x1b[2J", "münchen.example"])
def test_a_node_cannot_ask_for_them_either(host: str, tmp_path: Path) -> None:
    with pytest.raises(PkiError, match="neither a name nor an address"):
        request(tmp_path / "tls", NORTH, [host])
    assert not (tmp_path / "tls" / "node.key").exists()


def test_names_and_addresses_are_shown_as_they_are(tmp_path: Path) -> None:
    hosts = ("gpu.hospital.example", "xn--mnchen-3ya.example", "10.0.0.7", "::1")
    pem = request(tmp_path / "tls", NORTH, hosts)
    assert describe_request(pem).hosts == hosts
