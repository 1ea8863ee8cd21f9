"""The folder of a run that a stranger has made: whatever is in it, `report`, `export`, `attack` and a comparison end
soon, with a sentence, and touch nothing outside the folder."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import sqlite3
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from mple.cli import main
from mple.disk.damage import with_checksum
from mple.exit_codes import ExitCode
from mple.meter.ledger import INDEX, SCHEMA
from mple.meter.ledger_reading import opened_ledger
from mple.records import sample_pictures
from mple.records.run_folder import RunFolder, RunFolderError
from mple.records.state_files import LEDGER, METRICS, PICTURES
from mple.records.training import metrics_from_line, metrics_line
from mple.report import read_summary
from mple.report.page import page
from tests.support.finished_run import finished_run
from tests.support.ledger_rows import ledger_row

TERABYTE = 1 << 40
OUTCOME = "nodes/compute/state/outcome.json"
NPZ = f"nodes/north/state/{PICTURES.format('small-run')}"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as it should be."""
    folder = tmp_path_factory.mktemp("run") / "run"
    finished_run(folder)
    return folder


@pytest.fixture
def run(sound: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of it, for a stranger to change."""
    shutil.copytree(sound, tmp_path / "run")
    yield tmp_path / "run"
    assert not (tmp_path / "outside").exists() or (tmp_path / "outside").read_text() == "mine"


def replaced(path: Path, content: bytes = b"") -> Path:
    path.unlink(missing_ok=True)
    if content:
        path.write_bytes(content)
    return path


def outside(run: Path) -> Path:
    path = run.parent / "outside"
    path.write_text("mine")
    return path


def sparse(path: Path) -> None:
    os.truncate(replaced(path, b"{"), TERABYTE)


def edited(path: Path, **changes: object) -> None:
    """A record with other fields and the checksum that fits."""
    record = json.loads(path.read_bytes())
    record.pop("checksum", None)
    path.write_bytes(with_checksum(json.dumps({**record, **changes}, indent=2).encode()))


def plan(run: Path, **changes: object) -> None:
    edited(run / "plan.json", **changes)


def raw_plan(run: Path, text: bytes) -> None:
    replaced(run / "plan.json", with_checksum(text))


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        place = os.getcwd()
        os.chdir(path.parent)  # such a path has at most 107 bytes
        try:
            server.bind(path.name)
        finally:
            os.chdir(place)


def ledger_of(run: Path, *statements: str) -> None:
    with closing(sqlite3.connect(replaced(run / LEDGER))) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()


def endless_view() -> str:
    columns = ", ".join(
        f"{1 if 'INTEGER' in part else chr(39) + 'a' + chr(39)} AS {part.split()[0]}"
        for part in SCHEMA.partition("(")[2].rpartition(")")[0].split(",")
    )
    return (
        "CREATE VIEW messages AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
        f"SELECT {columns} FROM n"
    )


ACTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "link to a file": (lambda run: replaced(run / METRICS).symlink_to(outside(run)), "outside"),
    "relative link": (lambda run: replaced(run / METRICS).symlink_to("../outside"), "leads nowhere"),
    "link to a folder": (lambda run: (run / "attacks").symlink_to(run.parent), "outside"),
    "link to the root": (lambda run: (run / "nodes" / "a").symlink_to("/"), "outside"),
    "link to nothing": (lambda run: (run / "report.html").symlink_to(run.parent / "new"), "leads nowhere"),
    "link to itself": (lambda run: (run / "loop").symlink_to("loop"), "leads nowhere"),
    "link to a device": (lambda run: replaced(run / "plan.json").symlink_to("/dev/zero"), "outside"),
    "pipe as plan": (lambda run: os.mkfifo(replaced(run / "plan.json")), "neither a file nor a folder"),
    "pipe as metrics": (lambda run: os.mkfifo(replaced(run / METRICS)), "neither a file nor a folder"),
    "pipe somewhere": (lambda run: os.mkfifo(run / "nodes" / "north" / "pipe"), "neither a file nor a folder"),
    "socket": (lambda run: listening(run / "s"), "neither a file nor a folder"),
    "folder as plan": (lambda run: replaced(run / "plan.json").mkdir(), "plan.json"),
    "folder as metrics": (lambda run: replaced(run / METRICS).mkdir(), "metrics.jsonl"),
    "terabyte of plan": (lambda run: sparse(run / "plan.json"), "has 1,099,511,627,776 bytes"),
    "terabyte of summary": (lambda run: sparse(run / "summary.json"), "has 1,099,511,627,776 bytes"),
    "terabyte of metrics": (lambda run: sparse(run / METRICS), "has 1,099,511,627,776 bytes"),
    "terabyte of outcome": (lambda run: sparse(run / OUTCOME), "has 1,099,511,627,776 bytes"),
    "terabyte of ledger": (lambda run: sparse(run / LEDGER), "has 1,099,511,627,776 bytes"),
    "deep summary": (lambda run: replaced(run / "summary.json", b"[" * 100_000), "nested too deep"),
    "deep objects": (lambda run: replaced(run / "summary.json", b'{"a":' * 100_000), "nested too deep"),
    "list as summary": (lambda run: replaced(run / "summary.json", b"[1]"), "no summary"),
    "text as summary": (lambda run: replaced(run / "summary.json", b'"state"'), "no summary"),
    "summary of no text": (lambda run: replaced(run / "summary.json", b"\xff\xfe\xff"), "not valid JSON"),
    "digits in a summary": (lambda run: replaced(run / "summary.json", b"1" * 10_000), "not valid JSON"),
    "state that steers": (lambda run: replaced(run / "summary.json", b'{"state": "\\u001b[2J"}'), "choose one of"),
    "reason that steers": (
        lambda run: replaced(run / "summary.json", b'{"state": "failed", "reason": "\\u001b[2J\\u202e"}'),
        "is failed",
    ),
    "deep plan": (lambda run: raw_plan(run, b'{"a": ' + b"[" * 100_000 + b"}"), "nested too deep"),
    "run id that leads out": (lambda run: plan(run, run_id="../../x"), "use 1 to 63"),
    "run id of NUL": (lambda run: plan(run, run_id="a\0b"), "use 1 to 63"),
    "site that leads out": (lambda run: plan(run, sites=[{"name": "../x"}]), "plan"),
    "consortium that steers": (lambda run: plan(run, consortium="a\x1b[2J"), "use 1 to 63"),
    "class that steers": (lambda run: plan(run, classes=["a\x1b[2J", "b", "c"]), "can be printed"),
    "class of a megabyte": (lambda run: plan(run, classes=["a" * 1_000_000, "b", "c"]), "1000000 characters"),
    "stem digest that leads out": (lambda run: plan(run, stem_digest="../../x"), "64 hexadecimal"),
    "infinite size": (lambda run: plan(run, height=float("inf")), "not a whole number"),
    "size of 4,000 digits": (lambda run: plan(run, height=10**4_000), "height"),
    "negative size": (lambda run: plan(run, height=-8), "height"),
    "no time": (lambda run: edited(run / OUTCOME, train_seconds=0), "train_seconds"),
    "time that is no number": (lambda run: edited(run / OUTCOME, train_seconds=float("nan")), "train_seconds"),
    "time without end": (lambda run: edited(run / OUTCOME, train_seconds=float("inf")), "train_seconds"),
    "outcome of another kind": (lambda run: edited(run / OUTCOME, model_sha256=["a"]), "model_sha256"),
    "endless line": (lambda run: replaced(run / METRICS, b"1" * 20_000_000), "no line of metrics"),
    "deep line": (lambda run: replaced(run / METRICS, b"[" * 100_000 + b"\n"), "no line of metrics"),
    "lines of nothing": (lambda run: replaced(run / METRICS, b"\n" * 1_000_000), "no line of metrics"),
    "rubbish as ledger": (lambda run: replaced(run / LEDGER, os.urandom(5_000)), "can't be read"),
    "text as ledger": (lambda run: replaced(run / LEDGER, b"a,b\n"), "can't be read"),
    "empty ledger": (lambda run: replaced(run / LEDGER).touch(), "other tables"),
    "ledger without rows": (lambda run: ledger_of(run, SCHEMA, INDEX), "no message of a site"),
    "view without end": (lambda run: ledger_of(run, endless_view()), "other tables"),
    "trigger": (
        lambda run: ledger_of(
            run, SCHEMA, ledger_row(), "CREATE TRIGGER t AFTER INSERT ON messages BEGIN DELETE FROM messages; END"
        ),
        "other tables",
    ),
    "table of others beside": (lambda run: ledger_of(run, SCHEMA, ledger_row(), "CREATE TABLE a (b)"), "other tables"),
    "column too many": (lambda run: ledger_of(run, SCHEMA.replace("key_ref", "x, key_ref")), "other tables"),
    "text for a number": (lambda run: ledger_of(run, SCHEMA, ledger_row(framed_bytes="'a'")), "no node writes"),
    "real for a number": (lambda run: ledger_of(run, SCHEMA, ledger_row(framed_bytes="1.5")), "no node writes"),
    "negative size in a row": (lambda run: ledger_of(run, SCHEMA, ledger_row(framed_bytes=-1)), "no node writes"),
    "size of 2^62": (lambda run: ledger_of(run, SCHEMA, *[ledger_row(framed_bytes=2**62)] * 4), "no node writes"),
    "time before 1970": (lambda run: ledger_of(run, SCHEMA, ledger_row(time_unix_ns=-(2**63))), "no node writes"),
    "blob for a text": (lambda run: ledger_of(run, SCHEMA, ledger_row(kind="x'1b5b324a'")), "no node writes"),
    "direction of its own": (lambda run: ledger_of(run, SCHEMA, ledger_row(direction="'up'")), "no node writes"),
    "long text in a row": (
        lambda run: ledger_of(run, SCHEMA, ledger_row(kind="printf('%.*c', 300, 'a')")),
        "no node writes",
    ),
    "text of 2 MB": (
        lambda run: ledger_of(run, SCHEMA, ledger_row(kind="printf('%.*c', 2000000, 'a')")),
        "can't be read",
    ),
    "a thousand kinds": (
        lambda run: ledger_of(run, SCHEMA, *[ledger_row(kind=f"'k{number}'") for number in range(1_000)]),
        "more than 100",
    ),
    "text that is no UTF-8": (
        lambda run: ledger_of(run, SCHEMA, ledger_row(kind="CAST(x'ff' AS TEXT)")),
        "can't be read",
    ),
}


def refused(command: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command) in (ExitCode.BAD_USAGE, ExitCode.DAMAGED), command
    told = capsys.readouterr().err
    assert said in told
    assert "Traceback" not in told
    assert len(told) < 2_000
    assert all(line.isprintable() for line in told.split("\n"))


@pytest.mark.parametrize(("act", "said"), ACTS.values(), ids=ACTS)
def test_a_hostile_folder_gets_a_sentence(
    act: Callable[[Path], object], said: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    act(run)
    files = {path for path in run.parent.rglob("*") if not path.is_relative_to(run)}
    refused(["report", str(run)], said, capsys)
    assert {path for path in run.parent.rglob("*") if not path.is_relative_to(run)} == files


LINKED = ("link to a file", "link to the root", "pipe somewhere", "run id that leads out", "terabyte of summary")


@pytest.mark.parametrize("name", LINKED)
def test_every_command_refuses_it(
    name: str, run: Path, sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    act, said = ACTS[name]
    act(run)
    refused(["report", str(sound), str(run)], said, capsys)
    refused(["export", str(run), "--csv", str(tmp_path / "ledger.csv")], said, capsys)
    refused(["attack", "--run", str(run)], said, capsys)
    if name != "terabyte of summary":  # which a run that is repeated need not have
        refused(["simulate", "--repeat", str(run), "--out", str(tmp_path / "again")], said, capsys)
    assert not (tmp_path / "again").exists()
    assert not (tmp_path / "ledger.csv").exists()


NODE = 'state = "state"\ntls = "tls"\nvault = "{}"\ncoordinator = "a:1"\ncompute = "b:1"\n[data]\nkind = "cifar10"\n'


@pytest.mark.parametrize("vault", ["../../../vault", "/nonexistent/vault", "../south/../../../vault"])
def test_a_vault_outside_the_folder_is_not_opened(vault: str, run: Path, tmp_path: Path) -> None:
    (run / "nodes" / "north" / "node.toml").write_text(NODE.format(vault), encoding="utf-8")
    with pytest.raises(RunFolderError, match="outside the run's folder"):
        RunFolder.begun(run).vault("north")
    assert not (tmp_path / "vault").exists()


def test_nor_is_a_passphrase_read_elsewhere(run: Path, tmp_path: Path) -> None:
    (tmp_path / "phrase").write_text("secret")
    text = f'vault_passphrase_file = "{tmp_path / "phrase"}"\n' + NODE.format("vault")
    (run / "nodes" / "north" / "node.toml").write_text(text, encoding="utf-8")
    with pytest.raises(RunFolderError, match="outside the run's folder"):
        RunFolder.begun(run).vault("north")


def test_a_vault_that_is_not_there_is_not_made(run: Path) -> None:
    (run / "nodes" / "north" / "node.toml").write_text(NODE.format("new"), encoding="utf-8")
    with pytest.raises(RunFolderError, match="no vault at"):
        RunFolder.begun(run).vault("north")
    assert not (run / "nodes" / "north" / "new").exists()


# What is odd and does no harm.


def test_a_link_within_the_folder_is_followed(run: Path) -> None:
    (run / METRICS).rename(run / "elsewhere")
    (run / METRICS).symlink_to("elsewhere")
    assert page(read_summary(run))


def bomb(run: Path, *, shape: tuple[int, ...], content: bytes) -> None:
    """A few kilobytes that unpack to much, or say that they do."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(replaced(run / NPZ), "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("seen_N", "pixels_NCHW", "travelling_N", "travelling_NCHW"):
            archive.writestr(f"{name}.npy", header.getvalue() + content)


BOMBS = {
    "header that lies": {"shape": (1, 1, 10**7, 10**7), "content": b""},
    "empty without end": {"shape": (10**18, 0), "content": b""},
    "negative": {"shape": (-1, 8), "content": b""},
    "unpacks to 2 MB": {"shape": (1, 1, 1_000, 2_000), "content": b"\0" * 2_000_000},
    "pictures of another size": {"shape": (1, 1, 900, 900), "content": b"\0" * 810_000},
}


@pytest.mark.parametrize("what", BOMBS.values(), ids=BOMBS)
def test_pictures_that_lie_are_left_out(what: dict[str, object], run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_pictures, "_MOST_ARRAY_BYTES", 1_000_000)
    before = page(read_summary(run))
    bomb(run, **what)  # type: ignore[arg-type]
    after = page(read_summary(run))
    assert 0 < after.count("data:image/png") < before.count("data:image/png")


def test_pickled_pictures_are_left_out(run: Path) -> None:
    np.savez(run / NPZ, seen_N=np.array([{}], dtype=object))
    assert page(read_summary(run))


def test_losses_that_are_no_numbers_are_not_drawn(run: Path) -> None:
    lines = [metrics_from_line(line) for line in (run / METRICS).read_bytes().splitlines()]
    odd = [float("nan"), float("inf"), -float("inf"), 1e308, 5e-324, -1e300]
    changed = []
    for line, loss in zip(lines, odd, strict=False):
        fields = {name: getattr(line, name) for name in line.__slots__}
        losses = {"losses": (loss, float("nan"), 1.0)} if "losses" in fields else {"scores": {"accuracy": loss}}
        changed.append(type(line)(**{**fields, "loss": loss, **losses}))
    (run / METRICS).write_text("".join(map(metrics_line, changed)))
    summary = read_summary(run)
    text = page(summary)
    assert "nan" not in text.split("<svg")[1].split("</svg>")[0]
    assert main(["report", str(run), str(run)]) == ExitCode.DONE


def test_what_a_page_shows_is_printable(run: Path) -> None:
    edited(run / OUTCOME, idle_seconds_by_cause={"a\x1b[2J\u202eb": 5.0})
    summary = json.loads((run / "summary.json").read_bytes())
    summary["versions"] = {"mple\u202e": "1\u2028<b>\x1b"}
    (run / "summary.json").write_text(json.dumps(summary))
    text = page(read_summary(run))
    assert "mple\\u202e" in text
    assert not {"\x1b", "\u202e", "\u2028"} & set(text)


def test_reading_writes_nothing(run: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    with opened_ledger(run / LEDGER) as ledger, pytest.raises(sqlite3.OperationalError, match="readonly"):
        ledger.execute("DELETE FROM messages")
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
