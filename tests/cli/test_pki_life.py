"""A certificate's life by commands: issued, listed, renewed, revoked, and the list brought to a node."""

from __future__ import annotations

from pathlib import Path

import pytest

from mple.cli import main


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_from_request_to_revocation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def mple(text: str) -> int:
        return main(text.split())

    assert mple("pki init authority --consortium heart") == 0
    assert mple("pki request north --consortium heart --role site --name north") == 0
    for renewal in ("", "pki renew north", "pki renew north --new-key"):
        if renewal:
            assert mple(renewal) == 0
        assert mple("pki approve north/node.csr --authority authority --out north.crt --yes") == 0
        assert mple("pki install north north.crt --ca authority/ca.crt") == 0
    capsys.readouterr()
    assert mple("pki list authority") == 0
    listed = lines(capsys)
    assert len(listed) == 3
    assert all("mple://heart/site/north  valid, 89 days left  no hosts" in line for line in listed)
    oldest = listed[0].split()[0]
    assert mple(f"pki revoke authority --serial {oldest} --reason superseded") == 0
    said = lines(capsys)
    assert said[0].startswith(f"{oldest}  mple://heart/site/north  revoked on ")
    assert said[1].startswith("revoked 1; give authority/ca.crl to every node")
    assert mple("pki install-crl north authority/ca.crl") == 0
    assert lines(capsys)[0].startswith("list 1 is in place: 1 revoked, next by ")
    assert mple("pki revoke authority --party site/north") == 0
    assert lines(capsys)[-1].startswith("revoked 2;")
    assert mple("pki revoke authority --party site/north --days 90") == 0, "only the list's date is new"
    assert lines(capsys)[-1].startswith("revoked 0;")
    assert mple("pki list authority") == 0
    shown = lines(capsys)
    assert sum("(superseded)" in line for line in shown) == 1
    assert sum("(unspecified)" in line for line in shown) == 2


def test_a_certificate_that_is_in_no_index_is_revoked_by_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for text in (
        "pki init authority --consortium heart",
        "pki request north --consortium heart --role site --name north",
        "pki approve north/node.csr --authority authority --out north.crt --yes",
    ):
        assert main(text.split()) == 0
    Path("authority/issued.json").unlink()
    assert main(["pki", "list", "authority"]) == 0
    capsys.readouterr()
    assert main(["pki", "revoke", "authority", "--certificate", "north.crt", "--reason", "superseded"]) == 0
    assert lines(capsys)[-1].startswith("revoked 1;")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("pki revoke authority", "name what to revoke by --party, --serial or --certificate"),
        ("pki revoke authority --serial xyz", "'xyz' is no serial number"),
        ("pki revoke authority --serial 12:ab", "serial numbers 12ab are not in the authority's index"),
        ("pki revoke authority --party site/south", "site/south has no certificate that has not ended"),
        ("pki revoke authority --party south", "is no identity"),
        ("pki install-crl authority authority/ca.crt", "no list of 'mple pki revoke'"),
        ("pki renew nowhere", "no certificate at nowhere/node.crt"),
        ("pki request new --consortium heart --role compute --name compute", "make the request with --host NAME"),
        (
            "pki request new --consortium heart --role site --name north --host c.coordinator.heart.mple.internal",
            "say who a server is",
        ),
    ],
)
def test_mistakes_are_sentences(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: str, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["pki", "init", "authority", "--consortium", "heart"]) == 0
    assert main(arguments.split()) == 2
    assert text in capsys.readouterr().err
