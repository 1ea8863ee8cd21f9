"""This node's own side: each thing that keeps a node from starting is named before any peer is."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mple.data import Cifar10Source, NpzSource
from mple.data.dicomweb.source import DicomWebSource
from mple.doctor import Severity, examine_node
from mple.doctor.findings import Finding
from mple.doctor.own_files import OwnTls, data, listening, look_at_tls, state_folder, vault
from mple.pki import Authority, Vault
from mple.plan import SettingsError, SiteSettings
from mple.rpc import Role, RpcServer, TlsFiles
from tests.support.certificates import forge
from tests.support.looking import revoke, says
from tests.support.served import PartyTls

Node = Callable[..., RpcServer]


@pytest.fixture
def tls(party_tls: PartyTls, tmp_path: Path) -> Path:
    """A site's TLS folder that a test may spoil."""
    folder = tmp_path / "tls"
    shutil.copytree(party_tls(Role.SITE, "north").key.parent, folder)
    return folder


def only_fault(own: OwnTls) -> Finding:
    (found,) = [finding for finding in own.findings if finding.severity is Severity.FAULT]
    return found


def looked(folder: Path, role: Role = Role.SITE) -> OwnTls:
    return look_at_tls(folder, (role,))


def site(folder: Path, **changes: object) -> SiteSettings:
    given = {"state": folder / "state", "tls": folder / "tls", "vault": folder / "vault", **changes}
    return SiteSettings(coordinator="a:1", compute="b:2", data=Cifar10Source(), **given)  # type: ignore[arg-type]


# Certificates.


def test_sound_folder(tls: Path) -> None:
    own = looked(tls)
    assert [finding.severity for finding in own.findings] == [Severity.OK] * 5
    assert own.usable
    assert own.party is not None
    assert own.party.label == "site/north"


@pytest.mark.parametrize(
    ("name", "words"),
    [("ca.crt", "no authority file"), ("node.crt", "no certificate file"), ("node.key", "no key file")],
)
def test_missing_file(tls: Path, name: str, words: str) -> None:
    (tls / name).unlink()
    own = looked(tls)
    says(only_fault(own), "files", [words, name], ["mple pki"])
    assert own.findings[-1].severity is Severity.SKIPPED
    assert not own.usable


@pytest.mark.parametrize("name", ["ca.crt", "node.crt", "node.key"])
def test_damaged_file(tls: Path, name: str) -> None:
    content = (tls / name).read_bytes()
    (tls / name).write_bytes(content[: len(content) // 2])
    says(only_fault(looked(tls)), "files", [name, "damaged"], ["install it anew"])


def test_own_certificate_with_a_malformed_extension(tmp_path: Path, authority: Authority) -> None:
    forge(authority, tmp_path, garbled=True)
    says(only_fault(looked(tmp_path)), "files", ["node.crt", "damaged"], ["install it anew"])


def test_key_that_others_can_read(tls: Path) -> None:
    (tls / "node.key").chmod(0o644)
    says(only_fault(looked(tls)), "key", ["mode 0644", "open to others"], ["chmod go="])


def test_another_role_than_the_configuration(tls: Path) -> None:
    says(only_fault(looked(tls, Role.COMPUTE)), "identity", ["site/north", "role compute"], ["which TLS folder"])


@pytest.mark.parametrize("role", [Role.COORDINATOR, Role.COMPUTE])
def test_own_certificate_of_a_node_that_listens_without_a_host(
    tmp_path: Path, authority: Authority, role: Role
) -> None:
    forge(authority, tmp_path, uris=(f"mple://test/{role}/bureau",), hosts=(), to_days=30)
    cause = ["is made out for no host", f"{role}/bureau listens"]
    says(only_fault(looked(tmp_path, role)), "host name", cause, ["mple pki request --host"])


@pytest.mark.parametrize("role", [Role.COORDINATOR, Role.COMPUTE])
def test_own_certificate_without_the_name_for_tls(tmp_path: Path, authority: Authority, role: Role) -> None:
    forge(authority, tmp_path, uris=(f"mple://test/{role}/bureau",), server_names=(), to_days=30)
    cause = [f"lacks the name bureau.{role}.test.mple.internal"]
    says(only_fault(looked(tmp_path, role)), "identity", cause, ["mple pki renew"])


def test_own_certificate_is_revoked(tls: Path, authority: Authority) -> None:
    revoke(authority, [tls / "node.crt"], [tls / "ca.crl"])
    says(only_fault(looked(tls)), "revocation", ["was revoked on"], ["mple pki request"])


def test_list_of_revoked_that_is_damaged(tls: Path) -> None:
    (tls / "ca.crl").write_bytes(b"rubbish")
    says(only_fault(looked(tls)), "revocation", ["ca.crl"], ["mple pki install-crl"])


# Vault, state folder, port.


def test_vault_that_is_well_or_not_there_yet(tmp_path: Path) -> None:
    settings = site(tmp_path)
    assert vault(settings).severity is Severity.OK
    assert not settings.vault.exists(), "looking makes nothing"
    Vault(settings.vault).morph_key()
    assert vault(settings).severity is Severity.OK


@pytest.mark.parametrize("inside", [False, True])
def test_vault_that_others_can_read(tmp_path: Path, inside: bool) -> None:
    settings = site(tmp_path)
    Vault(settings.vault).morph_key()
    (settings.vault / "morph.key" if inside else settings.vault).chmod(0o644 if inside else 0o755)
    says(vault(settings), "vault", ["open to others"], ["consider its keys known", "mple keys rotate"])


def test_encrypted_vault_without_passphrase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MPLE_VAULT_PASSPHRASE", raising=False)
    settings = site(tmp_path)
    Vault(settings.vault, "a long passphrase").morph_key()
    says(vault(settings), "vault", ["is encrypted and no passphrase"], ["MPLE_VAULT_PASSPHRASE"])
    file = tmp_path / "passphrase"
    file.touch(0o600)
    file.write_text("a long passphrase\n")
    assert vault(site(tmp_path, vault_passphrase_file=file)).severity is Severity.OK
    file.chmod(0o644)
    says(vault(site(tmp_path, vault_passphrase_file=file)), "vault", ["open to others"], ["owner alone"])


def test_state_folder_is_looked_at_and_not_made(tmp_path: Path) -> None:
    found = state_folder(tmp_path / "deep" / "state")
    assert "can be written" in found.cause
    assert list(tmp_path.iterdir()) == []


def test_state_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("in the way")
    says(state_folder(tmp_path / "state"), "state", ["can't be written"], ["name another folder"])


def test_port_that_is_free(tls: Path) -> None:
    assert "is free" in listening("127.0.0.1:0", looked(tls)).cause


def test_port_that_another_program_has(tls: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        found = listening(f"127.0.0.1:{taken.getsockname()[1]}", looked(tls))
    says(found, "listen", ["is taken by another program"], ["take another port"])


def test_port_that_the_node_itself_serves_at(node: Node, party_tls: PartyTls) -> None:
    files: TlsFiles = party_tls(Role.COORDINATOR, "coordinator")
    there = node(files)
    assert "this node serves at" in listening(there.address, looked(files.key.parent, Role.COORDINATOR)).cause


@pytest.mark.parametrize("listen", ["192.0.2.1:7400", "no-such-host.invalid:7400"])
def test_address_of_another_machine(tls: Path, listen: str) -> None:
    says(listening(listen, looked(tls)), "listen", ["can't listen on"], ["this machine's"])


@pytest.mark.parametrize("listen", ["7400", "host:x"])
def test_malformed_address(tls: Path, listen: str) -> None:
    says(listening(listen, looked(tls)), "listen", ["write host:port"], ["'listen'"])


# Whole configurations.


def test_configuration_of_a_coordinator_names_no_peer(party_tls: PartyTls, tmp_path: Path) -> None:
    folder = party_tls(Role.COORDINATOR, "coordinator").key.parent
    config = tmp_path / "coordinator.toml"
    config.write_text(f'listen = "127.0.0.1:0"\nstate = "state"\ntls = "{folder}"\n[run]\nsites = ["north"]\n')
    (own,) = examine_node(config)
    assert own.severity in (Severity.OK, Severity.WARN)
    assert [finding.step for finding in own.findings][-2:] == ["state", "listen"]


def test_what_is_no_configuration(tmp_path: Path) -> None:
    config = tmp_path / "x.toml"
    with pytest.raises(SettingsError, match="no configuration file"):
        list(examine_node(config))
    config.write_text("a = 1\n")
    with pytest.raises(SettingsError, match="no node's configuration"):
        list(examine_node(config))
    config.write_text("a = \n")
    with pytest.raises(SettingsError, match="not valid TOML"):
        list(examine_node(config))


def _set(folder: Path, side_px: int, **arrays: object) -> SiteSettings:
    pixels = np.zeros((4, side_px, side_px), np.uint8)
    kept = {"x_train": pixels, "y_train": [0, 1, 0, 1], "x_test": pixels[:2], "y_test": [0, 1]}
    np.savez(folder / "set.npz", **(kept | arrays))
    site = {"state": folder, "tls": folder, "vault": folder, "coordinator": "a:1", "compute": "a:2"}
    return SiteSettings(**site, data=NpzSource(path=folder / "set.npz"))  # type: ignore[arg-type]


def test_pictures_that_can_be_trained_on(tmp_path: Path) -> None:
    (found,) = data(_set(tmp_path, 28))
    assert (found.severity, found.cause) == (
        Severity.OK,
        "set: 4 training, 0 validation and 2 test pictures of 1x28x28, 2 classes, patients unknown",
    )


@pytest.mark.parametrize(
    ("side_px", "arrays", "words"),
    [
        (17, {}, "images of 17 x 17 pixels; vgg16 takes 28 to 224 a side; set side_px"),
        (256, {}, "images of 256 x 256 pixels"),
        (28, {"y_train": [0, 1, 2, 255]}, "labels go up to 255, but no image has 3, 4, 5"),
        (28, {"y_train": [0, 20231105, 0, 1]}, "label 20231105 is out of range"),
    ],
)
def test_pictures_that_no_run_takes(tmp_path: Path, side_px: int, arrays: dict[str, object], words: str) -> None:
    (found,) = data(_set(tmp_path, side_px, **arrays))
    assert found.severity is Severity.FAULT
    assert words in found.cause
    assert "mple data show" in found.fix


def test_more_pictures_than_the_machine_can_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mple.machine.memory_bytes", lambda: 6 * 28 * 28 - 1)
    (found,) = data(_set(tmp_path, 28))
    assert (found.severity, found.cause[:20]) == (Severity.FAULT, "6 pictures of set: n")


def test_patients_in_both_splits_are_a_warning(tmp_path: Path) -> None:
    _, found = data(_set(tmp_path, 28, patient_train=["Ann", "Bob", "Cy", "Dan"], patient_test=["Bob", "Eve"]))
    assert found.severity is Severity.WARN
    assert found.cause.startswith("patients in training and in test pictures: 1;")
    assert "Bob" not in found.cause + found.fix


def test_a_pacs_is_not_asked(tmp_path: Path) -> None:
    source = DicomWebSource(url="https://pacs.example", path=tmp_path / "cache", query=("Modality=DX",))
    (found,) = data(replace(site(tmp_path), data=source))
    assert found.cause == "https://pacs.example has not been asked for what [data] chooses"
    assert "mple data fetch" in found.fix
    assert not source.path.exists()
