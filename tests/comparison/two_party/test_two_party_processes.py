"""Parties as real processes that can't go on; `tests/comparison/rows` has those that can."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from comparison.networks import small_network
from comparison.two_party import client
from comparison.two_party.session import Method
from comparison.two_party.settings import ClientSettings
from comparison.two_processes import ComparisonError, run_two_processes
from mple.exit_codes import ExitCode
from mple.plan import write_settings


def test_a_party_that_fails_is_named_with_its_words(tmp_path: Path) -> None:
    wrong = np.zeros((1, 3, 9, 9), np.uint8)
    words = r"client ended with code 2: .*pictures of \(3, 9, 9\); the server's network takes \(3, 8, 8\)"
    with pytest.raises(ComparisonError, match=words):
        run_two_processes(Method.PLAIN, small_network(), wrong, tmp_path / "run")


@pytest.mark.parametrize(
    ("content", "words"),
    [(np.zeros((1, 3, 8, 8), np.float32), "holds float32"), (np.zeros((0, 3, 8, 8), np.uint8), "needs uint8")],
)
def test_what_are_no_pictures_is_refused(
    content: NDArray[np.generic], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "p.npy", content)
    settings = ClientSettings(
        method=Method.PLAIN, pictures=Path("p.npy"), state=Path("s"), tls=Path("t"), server="127.0.0.1:1"
    )
    (tmp_path / "party.toml").write_text(write_settings(settings))
    assert client.main(["run", str(tmp_path / "party.toml")]) == ExitCode.BAD_USAGE
    assert words in capsys.readouterr().err
