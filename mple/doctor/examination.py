"""The whole way of a diagnosis: this node first, then each peer step by step, as far as a step makes sense."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import grpc
from cryptography import x509

from mple.doctor import certificates, diagnosis, own_files
from mple.doctor.diagnosis import CallFailed, ShakeSeen
from mple.doctor.findings import Examination, Finding, fault, faulty, ok, skipped
from mple.doctor.own_files import OwnTls
from mple.doctor.probing import ask, dial, look_up, measure_speed, probe_calls, shake_hands
from mple.plan import ComputeSettings, CoordinatorSettings, SettingsError, SiteSettings, read_settings
from mple.plan.reader import read_toml
from mple.plan.run_plan import PROTOCOL_VERSION
from mple.rpc import AwayError, Party, Role, TlsError, probe
from mple.rpc.tls import split_address
from mple.rpc.tls_files import UNSOUND

TIMEOUT_S = 5.0
_SERVING = (Role.COORDINATOR, Role.COMPUTE)
_STEPS = ("name", "port", "tls", "certificate", "admission", "answer", "clock", "protocol", "throughput")
_BECAUSE = {
    "name": "without an address there is nothing to dial",
    "port": "without a connection there is nothing to look at",
    "tls": "without TLS there is no certificate",
    "certificate": "no node would talk to a party with this certificate",
    "admission": "a node that refuses the connection answers no call",
    "answer": "they take an answered call",
}
"""Why the later steps are pointless after a fault at this one."""


def examine_node(config: Path, timeout_s: float = TIMEOUT_S) -> Iterator[Examination]:
    """Look at the node of a configuration file, then at each peer that it names.

    Raises SettingsError: the file can't be read, or is no node's.
    """
    role, settings = _read_node(config)
    tls = own_files.look_at_tls(settings.tls, (role,))
    findings = [ok("settings", f"{config} is a sound configuration of a {role} node"), *tls.findings]
    peers: list[tuple[str, Role]] = []
    if not isinstance(settings, CoordinatorSettings):  # which is dialled and dials nobody
        peers.append((settings.coordinator, Role.COORDINATOR))
    if isinstance(settings, SiteSettings):
        peers += [(address, Role.COMPUTE) for address in settings.compute_addresses]
        findings.append(own_files.vault(settings))
        findings += own_files.data(settings)
    findings.append(own_files.state_folder(settings.state))
    if not isinstance(settings, SiteSettings):
        findings.append(own_files.listening(settings.listen, tls))
    yield Examination("this node", True, tuple(findings))
    for address, needed in peers:
        yield _examine_peer(address, (needed,), tls, timeout_s)


def examine_one(address: str, role: Role | None, folder: Path, timeout_s: float = TIMEOUT_S) -> Iterator[Examination]:
    """Look at a TLS folder, then by it at the peer at an address, of that role if one is given."""
    tls = own_files.look_at_tls(folder, tuple(Role))
    yield Examination("this node", True, tls.findings)
    yield _examine_peer(address, _SERVING if role is None else (role,), tls, timeout_s)


def _read_node(config: Path) -> tuple[Role, CoordinatorSettings | ComputeSettings | SiteSettings]:
    try:
        keys = set(read_toml(config))
    except SettingsError:
        keys = {"listen"}  # the reader says what is wrong with it
    if "data" in keys or ("vault" in keys and "listen" not in keys):
        return Role.SITE, read_settings(SiteSettings, config)
    if "listen" not in keys:
        raise SettingsError(f"{config} is no node's configuration: it has neither 'listen' nor 'vault'")
    if "coordinator" in keys:
        return Role.COMPUTE, read_settings(ComputeSettings, config)
    return Role.COORDINATOR, read_settings(CoordinatorSettings, config)


def _examine_peer(address: str, roles: Sequence[Role], own: OwnTls, timeout_s: float) -> Examination:
    findings: list[Finding] = []
    ended = _go(address, roles, own, timeout_s, findings)
    if ended in _BECAUSE:
        findings.append(skipped(_STEPS[_STEPS.index(ended) + 1 :], _BECAUSE[ended]))
    return Examination(f"{' or '.join(roles)} at {address}", False, tuple(findings))


def _go(address: str, roles: Sequence[Role], own: OwnTls, timeout_s: float, findings: list[Finding]) -> str:
    """Add findings and return the step that made the later ones pointless; "throughput" when all were gone."""
    try:
        host, port = split_address(address)
    except ValueError as malformed:
        findings.append(fault("name", str(malformed), "mend the address in the configuration"))
        return "name"
    addresses = look_up(host)
    findings.append(diagnosis.name(host, addresses))
    if not isinstance(addresses, tuple):
        return "name"
    dialled = {one: dial(one, port, timeout_s) for one in addresses}
    findings.append(diagnosis.port(address, dialled, timeout_s))
    open_address = next((one for one, failure in dialled.items() if failure is None), None)
    if open_address is None:
        return "port"
    shaken = shake_hands(host, open_address, port, own.files if own.usable else None, timeout_s)
    findings.append(diagnosis.shake(address, shaken, timeout_s))
    if not isinstance(shaken, ShakeSeen):
        return "tls"
    judged, party = _certificate(shaken.certificate_der, address, host, roles, own)
    findings += judged
    if party is None or faulty(judged):
        return "certificate"
    if not own.usable:
        cause = f"{address} lets nobody in without a certificate, and this node has none to show"
        fixes = [one.fix for one in own.findings if faulty([one])]
        findings.append(fault("admission", cause, fixes[0] if fixes else "mend this node's files first"))
        return "admission"
    findings.append(diagnosis.admission(address, probe(address, own.files, timeout_s), own.findings))
    if faulty(findings):
        return "admission"
    return _call(address, party, own, timeout_s, findings)


def _certificate(
    der: bytes, address: str, host: str, roles: Sequence[Role], own: OwnTls
) -> tuple[list[Finding], Party | None]:
    named = f"the certificate of {address}"
    try:
        held = certificates.Held(certificates.parsed(x509.load_der_x509_certificate(der)), named, "there")
    except UNSOUND as unsound:
        return [fault("chain", f"{named} can't be read: {unsound}", "have it issued by mple pki approve")], None
    who, party = certificates.identity(held, roles, None if own.party is None else own.party.consortium)
    found = (
        None if own.authority is None else certificates.chain(held, own.authority, own.files.ca),
        certificates.dates(held, datetime.now(UTC)),
        certificates.host(held, host),
        certificates.usage(held, serving=True),
        who,
        None if party is None else certificates.serving_names(held, party),
        certificates.revocation(held, own.revoked),
    )
    return [finding for finding in found if finding is not None], party


def _call(address: str, party: Party, own: OwnTls, timeout_s: float, findings: list[Finding]) -> str:
    try:
        with probe_calls(address, own.files, party) as stub:
            seen = ask(stub, timeout_s)
            findings.append(diagnosis.answer(address, party.label, seen))
            if isinstance(seen, CallFailed):
                return "answer"
            findings.append(diagnosis.clock(address, seen))
            findings.append(diagnosis.protocol(address, seen, PROTOCOL_VERSION))
            findings.append(diagnosis.throughput(measure_speed(stub, max(timeout_s, 30.0))))
    except (TlsError, AwayError, grpc.RpcError) as refusal:
        findings.append(fault("answer", f"{address}: {refusal}", "see the steps above"))
        return "answer"
    return "throughput"
