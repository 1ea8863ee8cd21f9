"""The settings of a PACS as a source. Needs the extra `dicomweb` to fetch; a cache that is whole needs no server."""

import ipaddress
import time
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from mple.data.dicom import DicomPictures, DicomSource
from mple.data.images import Catalogue, DataError
from mple.data.names import shown
from mple.data.settings import Told, Wait, untold
from mple.ranges import Between


class Instances(StrEnum):
    """Which instances of a series are taken; a row of the table that names an instance takes that one."""

    ALL = "all"
    MIDDLE = "middle"
    """One of each series: of n in the order of InstanceNumber the one at n // 2, counted from 0."""
    NUMBERED = "numbered"
    """Those with the InstanceNumbers in `instance_numbers`; a series that lacks one is refused."""


class Transport(StrEnum):
    """How the way to the server is protected."""

    TLS = "tls"
    """An address with http:// is taken on this machine only (localhost, 127.0.0.1)."""
    UNENCRYPTED = "unencrypted"
    """An address with http:// is taken for any machine: whoever is on the way reads pictures, names and password."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DicomWebSource(DicomPictures):
    """Instances of a PACS over DICOMweb (QIDO-RS, WADO-RS), fetched once into the folder `path`, with a table of
    labels."""

    kind: Literal["dicomweb"] = "dicomweb"
    url: str
    """Address of the server's DICOMweb services, as https://pacs.example/dicom-web, without user or password."""
    query: tuple[str, ...] = ()
    """What every instance must match, in QIDO-RS's words: "Modality=DX", "StudyDate=20200101-20231231"."""
    label_file: Path | None = None
    """CSV table that names the instances, by one or more of the columns StudyInstanceUID, SeriesInstanceUID,
    SOPInstanceUID, PatientID and AccessionNumber, with label (or a column for each label) and, if wanted, split and
    patient. Without one, what the query finds is fetched and listed, and has no labels yet."""
    instances: Instances = Instances.ALL
    instance_numbers: tuple[Annotated[int, Between(0)], ...] = ()
    """InstanceNumbers, for `instances = "numbered"`."""
    password_file: Path | None = None
    """File with USER:PASSWORD in its first line, open to its owner only."""
    token_file: Path | None = None
    """File with a bearer token in its first line, open to its owner only; it is read anew for each request."""
    ca_file: Path | None = None
    """Certificates, as PEM, that the server's must come from; by default those that the system trusts."""
    client_certificate: Path | None = None
    """This site's certificate for the server, as PEM, where it asks for one."""
    client_key: Path | None = None
    """Its private key, as PEM, open to its owner only."""
    transport: Transport = Transport.TLS
    patience_s: Annotated[float, Between(0, 1e9)] = 600.0
    """How long a server that is away or too busy is tried, in seconds without success."""
    silence_s: Annotated[float, Between(0, 3600, above=True)] = 60.0
    """How long one answer may stand still before it is asked for again, in seconds."""

    def __post_init__(self) -> None:
        DicomPictures.__post_init__(self)
        _check_url(self.url, self.transport)
        if not self.query and self.label_file is None:
            raise ValueError("query and label_file are missing; choose instances by one of them, or both")
        names = [_query_name(text) for text in self.query]
        if len(set(names)) != len(names):
            raise ValueError(f"query = {list(self.query)} names an attribute twice")
        if bool(self.instance_numbers) != (self.instances is Instances.NUMBERED):
            raise ValueError(
                f'instances = "{self.instances}", instance_numbers = {list(self.instance_numbers)}; numbers go with '
                'instances = "numbered"'
            )
        if self.password_file is not None and self.token_file is not None:
            raise ValueError("password_file and token_file are both there; a server asks for one of them")
        if (self.client_certificate is None) != (self.client_key is None):
            raise ValueError("client_certificate and client_key go together")

    def fetch(self, told: Told = untold, wait: Wait = time.sleep) -> tuple[int, Path | None]:
        """Fetch what is missing in the cache; how many instances are chosen, and the table of their labels, if there
        is one.

        Raises DataError: the table or the cache can't be used; the server refuses, answers something else than it was
        asked for, or stays away for `patience_s`.
        """
        from mple.data.dicomweb.fetching import fetch  # it needs this module

        return fetch(self, told, wait)

    def changes(self, told: Told = untold, wait: Wait = time.sleep) -> tuple[str, ...]:
        """What differs between server and cache, as sentences; all is asked for again, and the cache stays as it is.

        Raises DataError: as `fetch`, or not everything has been fetched yet.
        """
        from mple.data.dicomweb.fetching import changes

        return changes(self, told, wait)

    def absent(self) -> str:
        """As of every source; the digests of what is here are looked at."""
        from mple.data.dicomweb.fetching import absent

        return absent(self)

    def fetched(self, told: Told = untold, wait: Wait = time.sleep) -> DicomSource:
        """The DICOM files in the cache with the table of their labels; what is missing there is fetched first.

        Raises DataError: as `fetch`, or there is no table of labels.
        """
        _, labels = self.fetch(told, wait)
        if labels is None:
            raise DataError(
                f"what the query finds is in {shown(self.path)}, without labels; copy one of its tables "
                "instances-*.csv, add a column label, and name the copy as label_file"
            )
        common = {field.name: getattr(self, field.name) for field in fields(DicomPictures) if field.name != "kind"}
        return DicomSource(**common, label_file=labels)

    def catalogue(self) -> Catalogue:
        """As that of the files in the cache. Raises DataError: as `fetched` and `DicomSource.catalogue`."""
        return self.fetched().catalogue()


def _check_url(url: str, transport: Transport) -> None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError(f"url = {url!r} is no address; write https://HOST/PATH") from None
    if parts.scheme not in ("https", "http") or not host or parts.query or parts.fragment or not url.isascii():
        raise ValueError(f"url = {url!r}; write https://HOST/PATH, without ? and #")
    if parts.username is not None or parts.password is not None:
        raise ValueError("url has a user or password in it; put USER:PASSWORD into a file and name it as password_file")
    if parts.scheme == "http" and transport is Transport.TLS and not _is_loopback(host):
        raise ValueError(
            f"url = {url!r} is not encrypted: whoever is on the way could read pictures, names and password; use "
            'https://, or say in words that you want this: transport = "unencrypted"'
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _query_name(text: str) -> str:
    name, sign, value = text.partition("=")
    if not sign or not name.isascii() or not name.isalnum() or not value.isprintable() or not value.strip():
        raise ValueError(f"query has {text!r}; write ATTRIBUTE=VALUE, as Modality=DX")
    if name.lower() in ("limit", "offset", "includefield", "fuzzymatching"):
        raise ValueError(f"query has {text!r}, which is no attribute of DICOM's; the pages are asked for without it")
    return name
