"""A real PACS for tests: Orthanc as Debian packages it, with DICOMweb, on a free port in a folder of its own.

Over plain HTTP: the one of Debian 12 (1.10.1) crashes at the first request over TLS.
"""

from __future__ import annotations

import base64
import json
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mple.simulate.laying_out import free_addresses

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
USER, PASSWORD = "mple", "a pass: wörd"
_START_S = 30.0


def missing_orthanc() -> str:
    """Why there is no Orthanc with DICOMweb here, and the way out; empty where there is one."""
    if shutil.which("Orthanc") is None or not PLUGIN.exists():
        return "no Orthanc with DICOMweb here; on Debian, as root: apt-get install orthanc orthanc-dicomweb"
    return ""


class Orthanc:
    """A server that can be killed and started again on the same data."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        address = free_addresses(1)[0]
        self.root = f"http://{address}"
        settings = {
            "Name": "test",
            "StorageDirectory": str(folder / "db"),
            "IndexDirectory": str(folder / "db"),
            "HttpPort": int(address.rpartition(":")[2]),
            "DicomServerEnabled": False,
            "AuthenticationEnabled": True,
            "RegisteredUsers": {USER: PASSWORD},
            "Plugins": [str(PLUGIN)],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "EnableWado": False},
        }
        (folder / "orthanc.json").write_text(json.dumps(settings), encoding="utf-8")
        self.password_file = folder / "password"
        self.password_file.touch(0o600)
        self.password_file.write_text(f"{USER}:{PASSWORD}\n", encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Of its DICOMweb services."""
        return f"{self.root}/dicom-web"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.folder / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(["Orthanc", str(self.folder / "orthanc.json")], stdout=log, stderr=log)
        give_up_at = time.monotonic() + _START_S
        while True:
            try:
                self.ask("/system")
                return
            except (urllib.error.URLError, ConnectionError):
                assert self._process.poll() is None and time.monotonic() < give_up_at, self.log()
                time.sleep(0.05)

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def ask(self, path: str, content: bytes | None = None, method: str | None = None) -> bytes:
        """Call Orthanc's own interface; `content` is posted."""
        asked = urllib.request.Request(self.root + path, content, method=method)
        token = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        asked.add_header("Authorization", f"Basic {token}")
        with urllib.request.urlopen(asked, timeout=20) as answer:
            return bytes(answer.read())

    def upload(self, *paths: Path) -> None:
        """Put files in."""
        for path in paths:
            self.ask("/instances", path.read_bytes())

    def log(self) -> str:
        """What it said."""
        return (self.folder / "log.txt").read_text(encoding="utf-8", errors="replace")[-2000:]


@contextmanager
def running_orthanc(folder: Path) -> Iterator[Orthanc]:
    """A server that is killed at the end."""
    server = Orthanc(folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()
