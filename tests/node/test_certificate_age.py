"""A node warns before its certificate ends."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mple.node.certificate_age import days_left, watch_certificate
from mple.node.stop import Stop
from mple.pki import Authority, approve, install, request
from mple.rpc import Party, Role, TlsFiles


@pytest.mark.parametrize(("days", "warned"), [(13, True), (15, False)])
def test_the_warning_names_the_days_and_the_way_out(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture, days: int, warned: bool
) -> None:
    folder = tmp_path / "north"
    asked = request(folder, Party(authority.consortium, Role.SITE, "north"), [])
    install(folder, approve(authority, asked, days), authority.certificate_pem)
    files, stop = TlsFiles.in_directory(folder), Stop()
    assert days - 1 < days_left(files, datetime.now(UTC)) < days
    assert days_left(files, datetime.now(UTC) + timedelta(days=days + 1)) < 0
    with caplog.at_level(logging.WARNING):
        watch_certificate(files, stop)
    stop.set()
    assert ("ends in 12 days; make another with 'mple pki renew'" in caplog.text) is warned
