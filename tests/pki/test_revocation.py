"""The authority's index, its signed list of revoked certificates, and renewal with and without a new key."""

from __future__ import annotations

import contextlib
import errno
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from mple.pki import (
    Authority,
    PkiError,
    approve,
    create_authority,
    enter,
    install,
    install_list,
    renew,
    request,
    revoke,
)
from mple.rpc import Party, Role, TlsFiles, own_party
from mple.rpc.revoked import FreshList, read_revoked

NORTH = Party("heart", Role.SITE, "north")


@pytest.fixture
def coordinator(tmp_path: Path) -> Authority:
    return create_authority(tmp_path / "authority", "heart")


def issued(authority: Authority, folder: Path, party: Party = NORTH) -> int:
    """Serial number of a certificate that is installed in a folder."""
    pem = approve(authority, request(folder, party, ["127.0.0.1"]))
    install(folder, pem, authority.certificate_pem)
    return x509.load_pem_x509_certificate(pem).serial_number


def test_a_list_that_finds_no_descriptor_is_read_at_the_next_look(
    coordinator: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serial = issued(coordinator, tmp_path / "north")
    watching = FreshList(tmp_path / "north" / "ca.crt")
    install_list(tmp_path / "north", revoke(coordinator, [serial], "superseded").read_bytes())
    real = Path.read_bytes

    def none_left(path: Path) -> bytes:
        raise OSError(errno.EMFILE, "Too many open files", str(path))

    monkeypatch.setattr(Path, "read_bytes", none_left)
    assert not watching.now().entries
    monkeypatch.setattr(Path, "read_bytes", real)
    assert set(watching.now().entries) == {serial}


def test_the_index_lists_all_that_was_issued(coordinator: Authority, tmp_path: Path) -> None:
    serial = issued(coordinator, tmp_path / "north")
    (one,) = coordinator.index().certificates
    assert (one.serial, one.identity, one.hosts) == (serial, NORTH.uri, ("127.0.0.1",))
    now = datetime.now(UTC)
    assert one.state(now) == "valid, 89 days left"
    assert one.state(now + timedelta(days=91)).startswith("expired on ")
    revoke(coordinator, [serial], "superseded")
    assert coordinator.index().certificates[0].state(now).endswith("(superseded)")


def test_an_authority_of_before_there_was_an_index_goes_on(coordinator: Authority, tmp_path: Path) -> None:
    issued(coordinator, tmp_path / "north")
    (coordinator.directory / "issued.json").unlink()
    issued(coordinator, tmp_path / "south", Party("heart", Role.SITE, "south"))
    assert len(coordinator.index().certificates) == 1


def test_the_list_names_the_revoked_and_grows(coordinator: Authority, tmp_path: Path) -> None:
    serials = [issued(coordinator, tmp_path / name, Party("heart", Role.SITE, name)) for name in ("north", "south")]
    first = read_revoked(revoke(coordinator, serials[:1], "key compromise").read_bytes(), coordinator.certificate_pem)
    second = read_revoked(revoke(coordinator, serials[1:]).read_bytes(), coordinator.certificate_pem)
    assert (first.number, list(first.entries)) == (1, serials[:1])
    assert (second.number, sorted(second.entries)) == (2, sorted(serials))
    assert second.entries[serials[0]].reason == "key compromise"
    assert not second.overdue


def test_a_certificate_of_before_there_was_an_index_can_be_revoked(coordinator: Authority, tmp_path: Path) -> None:
    serial = issued(coordinator, tmp_path / "north")
    (coordinator.directory / "issued.json").unlink()
    pem = (tmp_path / "north" / "node.crt").read_bytes()
    assert [enter(coordinator, pem), enter(coordinator, pem)] == [serial, serial]
    (one,) = coordinator.index().certificates
    assert (one.identity, one.hosts) == (NORTH.uri, ("127.0.0.1",))
    assert list(read_revoked(revoke(coordinator, [serial]).read_bytes(), coordinator.certificate_pem).entries) == [
        serial
    ]


def test_only_what_the_authority_signed_is_entered(coordinator: Authority, tmp_path: Path) -> None:
    other = create_authority(tmp_path / "other", "heart")
    issued(other, tmp_path / "stranger")
    for pem in ((tmp_path / "stranger" / "node.crt").read_bytes(), b"rubbish", coordinator.certificate_pem):
        with pytest.raises(PkiError, match="this is no certificate of the authority"):
            enter(coordinator, pem)
    assert coordinator.index().certificates == ()


def test_approvals_side_by_side_are_all_listed(coordinator: Authority, tmp_path: Path) -> None:
    asked = request(tmp_path / "north", NORTH, [])
    with ThreadPoolExecutor(4) as side_by_side:
        made = set(side_by_side.map(lambda _: approve(coordinator, asked), range(40)))
    listed = {one.serial for one in coordinator.index().certificates}
    assert listed == {x509.load_pem_x509_certificate(pem).serial_number for pem in made}
    assert len(listed) == 40


@pytest.mark.parametrize("serials", [[4711], []])
def test_what_was_not_issued_can_not_be_revoked(coordinator: Authority, serials: list[int]) -> None:
    with pytest.raises(PkiError, match="not in the authority's index; see 'mple pki list'"):
        revoke(coordinator, serials)


def test_an_unknown_reason_is_refused(coordinator: Authority, tmp_path: Path) -> None:
    with pytest.raises(PkiError, match="reason 'anger'; choose one of unspecified"):
        revoke(coordinator, [issued(coordinator, tmp_path / "north")], "anger")


def test_a_node_takes_newer_lists_only(coordinator: Authority, tmp_path: Path) -> None:
    serial = issued(coordinator, tmp_path / "north")
    older = revoke(coordinator, [serial]).read_bytes()
    newer = revoke(coordinator, [serial]).read_bytes()
    assert install_list(tmp_path / "north", newer).number == 2
    assert install_list(tmp_path / "north", newer).number == 2, "the same again is allowed"
    with pytest.raises(PkiError, match="list 1 is older than list 2"):
        install_list(tmp_path / "north", older)
    assert read_revoked((tmp_path / "north" / "ca.crl").read_bytes(), coordinator.certificate_pem).number == 2


def test_a_damaged_list_can_be_replaced(coordinator: Authority, tmp_path: Path) -> None:
    content = revoke(coordinator, [issued(coordinator, tmp_path / "north")]).read_bytes()
    (tmp_path / "north" / "ca.crl").write_bytes(content[:-60])
    assert install_list(tmp_path / "north", content).number == 1


def test_another_authoritys_list_goes_when_the_node_changes_to_a_new_one(
    coordinator: Authority, tmp_path: Path
) -> None:
    folder = tmp_path / "north"
    issued(coordinator, folder)
    install_list(folder, revoke(coordinator, [issued(coordinator, tmp_path / "south")]).read_bytes())
    successor = create_authority(tmp_path / "successor", "heart")
    install(folder, approve(successor, (folder / "node.csr").read_bytes()), successor.certificate_pem)
    assert not (folder / "ca.crl").exists()
    assert own_party(TlsFiles.in_directory(folder), Role.SITE) == NORTH


def test_a_revoked_certificate_is_not_installed(coordinator: Authority, tmp_path: Path) -> None:
    folder = tmp_path / "north"
    issued(coordinator, folder)
    fresh = approve(coordinator, renew(folder))
    serial = x509.load_pem_x509_certificate(fresh).serial_number
    install_list(folder, revoke(coordinator, [serial], "superseded").read_bytes())
    held = (folder / "node.crt").read_bytes()
    with pytest.raises(PkiError, match=r"was revoked on .* \(superseded\)"):
        install(folder, fresh, coordinator.certificate_pem)
    assert (folder / "node.crt").read_bytes() == held


def test_foreign_and_damaged_lists_are_refused(coordinator: Authority, tmp_path: Path) -> None:
    issued(coordinator, tmp_path / "north")
    other = create_authority(tmp_path / "other", "heart")
    foreign = revoke(other, [issued(other, tmp_path / "stranger")]).read_bytes()
    with pytest.raises(PkiError, match="was not signed by this authority"):
        install_list(tmp_path / "north", foreign)
    with pytest.raises(PkiError, match="no list of 'mple pki revoke'"):
        install_list(tmp_path / "north", b"rubbish")
    assert not (tmp_path / "north" / "ca.crl").exists()


def test_a_node_with_a_revoked_certificate_does_not_start(coordinator: Authority, tmp_path: Path) -> None:
    folder = tmp_path / "north"
    install_list(folder, revoke(coordinator, [issued(coordinator, folder)], "key compromise").read_bytes())
    with pytest.raises(ValueError, match=r"was revoked on .* \(key compromise\); request another"):
        own_party(TlsFiles.in_directory(folder), Role.SITE)


@pytest.mark.parametrize("new_key", [False, True])
def test_renewal_keeps_identity_and_hosts(coordinator: Authority, tmp_path: Path, new_key: bool) -> None:
    folder = tmp_path / "north"
    before = issued(coordinator, folder)
    old_key = (folder / "node.key").read_bytes()
    fresh = approve(coordinator, renew(folder, new_key=new_key))
    assert own_party(TlsFiles.in_directory(folder), Role.SITE) == NORTH, "until it is installed nothing has changed"
    assert install(folder, fresh, coordinator.certificate_pem) == NORTH
    assert own_party(TlsFiles.in_directory(folder), Role.SITE) == NORTH
    assert ((folder / "node.key").read_bytes() == old_key) is not new_key
    assert not (folder / "node.key.new").exists()
    kept, renewed = coordinator.index().certificates
    assert (kept.serial, kept.hosts, kept.identity) == (before, renewed.hosts, renewed.identity)


@pytest.mark.parametrize("new_key", [False, True])
@pytest.mark.parametrize("whole", range(4))
def test_an_installation_that_is_cut_short_leaves_a_working_pair(
    coordinator: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: int, new_key: bool
) -> None:
    """The program is killed before its renaming number `whole`; files and authority are all new."""
    folder = tmp_path / "north"
    old = issued(coordinator, folder)
    successor = create_authority(tmp_path / "successor", "heart")
    fresh = approve(successor, renew(folder, new_key=new_key))
    real = os.replace
    done: list[str] = []

    def replace(source: Path, target: Path) -> None:
        if target.name in ("node.key", "node.crt", "ca.crt"):
            if len(done) == whole:
                raise KeyboardInterrupt
            done.append(target.name)
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with contextlib.suppress(KeyboardInterrupt):
        install(folder, fresh, successor.certificate_pem)
    monkeypatch.undo()
    assert own_party(TlsFiles.in_directory(folder), Role.SITE) == NORTH
    held = x509.load_pem_x509_certificate((folder / "node.crt").read_bytes()).serial_number
    assert (held == old) is (whole == 0)
    assert install(folder, fresh, successor.certificate_pem) == NORTH, "and again it can be completed by hand"
    assert {path.name for path in folder.iterdir()} == {"ca.crt", "node.crt", "node.csr", "node.key"}


def test_the_old_certificate_can_be_put_back_while_a_new_key_waits(coordinator: Authority, tmp_path: Path) -> None:
    folder = tmp_path / "north"
    issued(coordinator, folder)
    held = (folder / "node.crt").read_bytes()
    renew(folder, new_key=True)
    assert install(folder, held, coordinator.certificate_pem) == NORTH
    assert (folder / "node.key.new").exists()


def test_there_must_be_something_to_renew(tmp_path: Path) -> None:
    with pytest.raises(PkiError, match="no certificate at"):
        renew(tmp_path)
