"""Certificates renewed and revoked by commands while a consortium trains: the run goes on with who may take part."""

from __future__ import annotations

from pathlib import Path

from mple.audit import FILE_NAME, AuditEntry, read_entries
from mple.cli import main
from mple.exit_codes import ExitCode
from mple.pki import Authority
from mple.records.run_folder import COMPUTE, COORDINATOR, RunFolder
from mple.simulate.children import Children
from mple.simulate.laying_out import lay_out
from tests.support.small_consortium import (
    epochs_done,
    small_settings,
    start_node,
    wait_for_end,
    wait_until,
    write_pictures,
)

SITE = "north"
HELD = "south"
"""A site that is held now and then: no epoch can be scored without it, so that the run does not end meanwhile."""


def test_a_site_renews_is_revoked_and_comes_back_with_another_certificate(tmp_path: Path) -> None:
    folder = lay_out(
        tmp_path / "run", small_settings(write_pictures(tmp_path / "set.npz"), codec="q8", epochs=16, most_val=8)
    )
    with Children(10.0) as children:
        for name in (COORDINATOR, COMPUTE, *folder.sites):
            start_node(children, folder, name)
        wait_until(lambda: epochs_done(folder) >= 1)

        assert children.pause(HELD)
        first = serials(folder)
        renew(folder)
        revoke(folder, "--serial", f"{first[0]:x}")
        wait_until(lambda: cuts(folder, COMPUTE) == 1 and cuts(folder, COORDINATOR) == 1)
        children.go_on(HELD)
        done = epochs_done(folder)
        wait_until(lambda: epochs_done(folder) > done)
        assert SITE in children.running, "the site went on with its new certificate"

        assert children.pause(HELD)
        revoke(folder, "--party", f"site/{SITE}")
        assert wait_for_end(children, {SITE}) == {SITE: ExitCode.UNREACHABLE}
        assert "CERTIFICATE_REVOKED" in folder.log_text(SITE).read_text(encoding="utf-8")
        start_node(children, folder, SITE)
        assert wait_for_end(children, {SITE}) == {SITE: ExitCode.UNREACHABLE}, "it is still out"
        renew(folder)
        start_node(children, folder, SITE)
        children.go_on(HELD)
        codes = wait_for_end(children, {COORDINATOR, COMPUTE, *folder.sites}, timeout_s=80.0)
    assert set(codes.values()) == {ExitCode.DONE}
    assert len(serials(folder)) == 3


def renew(folder: RunFolder) -> None:
    """A new key and a new certificate for the site, as its people and the authority's would do it."""
    tls, authority, out = folder.node(SITE) / "tls", folder.path / "authority", folder.path / "fresh.crt"
    for verb in (
        ["renew", str(tls), "--new-key"],
        ["approve", str(tls / "node.csr"), "--authority", str(authority), "--out", str(out), "--yes"],
        ["install", str(tls), str(out), "--ca", str(authority / "ca.crt")],
    ):
        assert main(["pki", *verb]) == ExitCode.DONE


def revoke(folder: RunFolder, *which: str) -> None:
    """Revoke, and bring the list to those who serve."""
    authority = folder.path / "authority"
    assert main(["pki", "revoke", str(authority), *which]) == ExitCode.DONE
    for name in (COORDINATOR, COMPUTE):
        assert main(["pki", "install-crl", str(folder.node(name) / "tls"), str(authority / "ca.crl")]) == ExitCode.DONE


def serials(folder: RunFolder) -> list[int]:
    """Serial numbers of the site's certificates, in the order in which they were issued."""
    issued = Authority(folder.path / "authority").index().certificates
    return [one.serial for one in issued if one.identity.endswith(f"/site/{SITE}")]


def cuts(folder: RunFolder, node: str) -> int:
    """Open calls of the site that a node has cut."""

    def is_cut(entry: AuditEntry) -> bool:
        return (entry.who, entry.what) == (f"site/{SITE}", "call_cut")

    return sum(is_cut(entry) for entry in read_entries(folder.state(node) / FILE_NAME))
