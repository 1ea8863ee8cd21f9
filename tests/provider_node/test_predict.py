"""`mple-provider predict`: what the network says of plain pictures, asked by morphed ones; every way to be refused."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from compute_node.service import ComputeService
from mple.exit_codes import ExitCode
from mple.plan import RunPlan
from mple.plan.orders import channel_order, label_order
from provider_node.node import main as mple_provider
from tests.support.predicting import (
    PER_MESSAGE,
    SECRET,
    SIDE_PX,
    TESTS_PER_CLASS,
    Site,
    compute_node,
    finished_plan,
    opinionated_trunk,
    picture,
    plain_probabilities,
    predictor_of,
    save,
)
from tests.support.served import PartyTls
from tests.support.small_plan import CLASSES, key_of

TESTS = TESTS_PER_CLASS * len(CLASSES)
PLAN = finished_plan()
Serve = Callable[..., None]


@pytest.fixture(scope="module")
def trunk() -> nn.Module:
    return opinionated_trunk(PLAN)


@pytest.fixture
def site(tmp_path: Path, party_tls: PartyTls) -> Site:
    """The site; nobody serves yet."""
    return Site(tmp_path / "north", party_tls, PLAN)


@pytest.fixture
def serve(tmp_path: Path, party_tls: PartyTls, site: Site) -> Iterator[Serve]:
    """Starts the compute node, with a network or without, and points the site at it."""
    running = []

    def start(trunk: nn.Module | None, plan: RunPlan = PLAN, name: str = "compute") -> None:
        service = ComputeService("test")
        if trunk is not None:
            service.open_predictions(plan, predictor_of(plan, trunk))
        running.append(compute_node(party_tls, tmp_path / name, service, name))
        site.dials(running[-1].__enter__())

    yield start
    for one in running:
        one.__exit__(None, None, None)


@pytest.fixture
def ask(site: Site, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, object]]:
    """Predicts and gives the printed JSON."""

    def run(*arguments: str | Path) -> dict[str, object]:
        code = mple_provider(["predict", str(site.config), "--json", *map(str, arguments)])
        printed = capsys.readouterr()
        assert code == ExitCode.DONE, printed.err
        whole: dict[str, object] = json.loads(printed.out)
        return whole

    return run


@pytest.fixture
def refusal(site: Site, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Predicts what can't be: the exit code and stderr; nothing is printed as a result."""

    def run(*arguments: str | Path) -> tuple[int, str]:
        code = mple_provider(["predict", str(site.config), *map(str, arguments)])
        printed = capsys.readouterr()
        assert printed.out == ""
        return code, printed.err

    return run


def probabilities_of(whole: dict[str, object]) -> np.ndarray:
    rows = whole["predictions"]
    assert isinstance(rows, list)
    return np.array([[row["probabilities"][name] for name in CLASSES] for row in rows])


def test_the_orders_of_these_tests_show_a_mistake() -> None:
    """Undoing an order the wrong way round would go unseen if it were its own inverse."""
    for order in (label_order(PLAN, SECRET), channel_order(PLAN, SECRET)):
        assert order.tolist() != np.argsort(order).tolist()


def test_probabilities_are_those_of_the_plain_pictures(
    site: Site, serve: Serve, ask: Callable[..., dict[str, object]], trunk: nn.Module
) -> None:
    serve(trunk)
    whole = ask("--test", TESTS)
    plain_NC = plain_probabilities(PLAN, trunk, site.tests_NHW)
    assert np.ptp(plain_NC, axis=0).min() > 0.05, "pictures that all look alike to the network show nothing"
    np.testing.assert_allclose(probabilities_of(whole), plain_NC, rtol=0, atol=1e-4)
    labels = np.repeat(np.arange(len(CLASSES)), TESTS_PER_CLASS)
    correct = int((plain_NC.argmax(axis=1) == labels).sum())
    assert whole["scores"]["accuracy"] == correct / TESTS
    assert whole["run_id"] == "run1"
    assert whole["plan_sha256"] == PLAN.sha256().hex()


def test_test_images_are_the_first_ones(
    site: Site, serve: Serve, ask: Callable[..., dict[str, object]], trunk: nn.Module
) -> None:
    serve(trunk)
    whole = ask("--test", 2)
    np.testing.assert_allclose(
        probabilities_of(whole), plain_probabilities(PLAN, trunk, site.tests_NHW[:2]), rtol=0, atol=1e-4
    )


def test_files_and_folders(
    site: Site, serve: Serve, ask: Callable[..., dict[str, object]], trunk: nn.Module, tmp_path: Path
) -> None:
    serve(trunk)
    single = save(tmp_path / "single.png", picture(1))
    folder = [save(tmp_path / "more" / name, picture(seed)) for seed, name in ((2, "b/z.png"), (3, "c.bmp"))]
    (tmp_path / "more" / ".hidden").write_bytes(b"no picture")
    whole = ask(tmp_path / "more", single)
    rows = whole["predictions"]
    assert isinstance(rows, list)
    assert [row["image"] for row in rows] == [str(path) for path in (*folder, single)]
    pixels_NHW = np.stack([picture(seed) for seed in (2, 3, 1)])
    plain_NC = plain_probabilities(PLAN, trunk, pixels_NHW)
    np.testing.assert_allclose(probabilities_of(whole), plain_NC, rtol=0, atol=1e-4)
    assert [row["class"] for row in rows] == [CLASSES[place] for place in plain_NC.argmax(axis=1)]
    assert "scores" not in whole


def test_a_message_holds_what_the_plan_allows_and_is_metered(
    site: Site, serve: Serve, ask: Callable[..., dict[str, object]], trunk: nn.Module
) -> None:
    serve(trunk)
    ask("--test", TESTS)
    columns = "SELECT run, phase, kind, direction, samples, label_bytes FROM messages WHERE method LIKE '%Predict'"
    with sqlite3.connect(site.state / "ledger.sqlite") as ledgers:
        rows = ledgers.execute(f"{columns} ORDER BY time_unix_ns").fetchall()
    assert {row[:3] for row in rows} == {("run1", "predict", "predict")}
    sent = [row[4] for row in rows if row[3] == "sent"]
    assert sent == [PER_MESSAGE, PER_MESSAGE, TESTS - 2 * PER_MESSAGE]
    assert sum(row[3] == "received" for row in rows) == len(sent)
    assert not any(row[5] for row in rows), "labels never leave"


def test_text_shows_the_likeliest_classes(
    site: Site, serve: Serve, trunk: nn.Module, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    serve(trunk)
    path = save(tmp_path / "a.png", picture(1))
    chances = plain_probabilities(PLAN, trunk, picture(1)[None])[0]
    first, second, _ = np.argsort(-chances)
    assert mple_provider(["predict", str(site.config), str(path), "--top", "2"]) == 0
    words = capsys.readouterr().out.split()
    assert words[:4:2] == [str(path), words[2]]
    assert [words[1], words[3]] == [CLASSES[first], CLASSES[second]]
    assert float(words[2]) == pytest.approx(chances[first], abs=1e-3)
    assert mple_provider(["predict", str(site.config), "--test", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("test/0  is cyst")
    assert lines[5].startswith("accuracy ")
    assert lines[-1].startswith("over 3 pictures")


def test_resize(
    site: Site, serve: Serve, ask: Callable[..., dict[str, object]], refusal: Callable[..., tuple[int, str]],
    trunk: nn.Module, tmp_path: Path,
) -> None:  # fmt: skip
    serve(trunk)
    path = save(tmp_path / "large.png", picture(1, (56, 40)))
    code, text = refusal(path)
    assert code == ExitCode.BAD_USAGE
    assert f"{path} is 1x40x56" in text
    assert "1x28x28; give --resize" in text
    resized = Image.fromarray(picture(1, (56, 40))).resize((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR)
    plain_NC = plain_probabilities(PLAN, trunk, np.asarray(resized)[None])
    np.testing.assert_allclose(probabilities_of(ask("--resize", path)), plain_NC, rtol=0, atol=1e-4)


def test_pictures_that_cannot_be_read_are_named(
    serve: Serve, refusal: Callable[..., tuple[int, str]], trunk: nn.Module, tmp_path: Path
) -> None:
    serve(trunk)
    good = save(tmp_path / "good.png", picture(1))
    noise, cut, colour = (tmp_path / name for name in ("noise.png", "cut.png", "colour.png"))
    noise.write_bytes(b"no picture at all")
    cut.write_bytes(good.read_bytes()[:-60])
    save(colour, np.stack([picture(1), picture(2), picture(3)], axis=2))
    (tmp_path / "empty").mkdir()
    for path, words in (
        (noise, f"picture {noise} can't be read"),
        (cut, f"picture {cut} can't be read"),
        (colour, f"picture {colour} is in colour"),
        (tmp_path / "nowhere.png", f"no picture file or folder at {tmp_path / 'nowhere.png'}"),
        (tmp_path / "empty", f"folder {tmp_path / 'empty'} holds no picture"),
    ):
        code, text = refusal(good, path)
        assert code == ExitCode.BAD_USAGE, text
        assert words in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name picture files or folders, or --labels FILE for those"),
        (["a.png", "--test", "3"], "name picture files or folders, or --labels FILE for those"),
        (["--test", "0"], "--test 0: needs 1 or more"),
        (["--test", "3", "--resize"], "--resize is for picture files"),
        (["a.png", "--top", "0"], "--top 0: needs 1 or more"),
    ],
)
def test_arguments_that_make_no_sense(
    refusal: Callable[..., tuple[int, str]], arguments: list[str], words: str
) -> None:
    code, text = refusal(*arguments)
    assert code == ExitCode.BAD_USAGE
    assert words in text


def test_a_site_without_a_run(site: Site, refusal: Callable[..., tuple[int, str]]) -> None:
    (site.vault / "consortium-run1.key").unlink()
    code, text = refusal("--test", 1)
    assert code == ExitCode.DAMAGED
    assert "consortium-run1.key is gone, a secret that was used" in text
    (site.state / "plan.json").unlink()
    code, text = refusal("--test", 1)
    assert code == ExitCode.BAD_USAGE
    assert "take part in a run first: mple-provider run" in text


def test_another_morph_key(site: Site, refusal: Callable[..., tuple[int, str]]) -> None:
    (site.vault / "morph.key").write_bytes(key_of("south").seed)
    code, text = refusal("--test", 1)
    assert code == ExitCode.BAD_USAGE
    assert "name the vault of that run" in text
    (site.vault / "morph.key").unlink()
    code, text = refusal("--test", 1)
    assert code == ExitCode.BAD_USAGE
    assert f"no morph key in {site.vault}" in text
    assert not (site.vault / "morph.key").exists(), "a key that is drawn now could never be the run's"


def test_other_data_than_the_runs(site: Site, refusal: Callable[..., tuple[int, str]]) -> None:
    with site.config.open("a", encoding="utf-8") as config:
        config.write("side_px = 32\n")
    code, text = refusal("--test", 1)
    assert code == ExitCode.BAD_USAGE
    assert "1x32x32" in text
    assert "point [data] at what the run was made with" in text


def test_nobody_answers(site: Site, refusal: Callable[..., tuple[int, str]]) -> None:
    site.dials("127.0.0.1:1", patience_s=0.5)
    code, text = refusal("--test", 1)
    assert code == ExitCode.UNREACHABLE
    assert "gave up on 127.0.0.1:1 after 0.5 s" in text
    assert "stay = true" in text


def test_a_compute_node_without_a_trained_network(serve: Serve, refusal: Callable[..., tuple[int, str]]) -> None:
    serve(None)
    code, text = refusal("--test", 1)
    assert code == ExitCode.RUN_FAILED
    assert "WRONG_PHASE" in text
    assert "start the compute node again on its state folder, with stay = true" in text


def test_a_compute_node_of_another_run(serve: Serve, refusal: Callable[..., tuple[int, str]], trunk: nn.Module) -> None:
    serve(trunk, replace(PLAN, run_id="run2"))
    code, text = refusal("--test", 1)
    assert code == ExitCode.RUN_FAILED
    assert "this site last took part in run run1, the compute node serves another" in text


def test_another_compute_node(serve: Serve, refusal: Callable[..., tuple[int, str]], trunk: nn.Module) -> None:
    serve(trunk, name="other")
    code, text = refusal("--test", 1)
    assert code == ExitCode.BAD_USAGE
    assert "is compute/other, run run1 trained on compute/compute" in text


def test_logits_that_are_no_numbers(serve: Serve, refusal: Callable[..., tuple[int, str]]) -> None:
    broken = opinionated_trunk(PLAN)
    with torch.no_grad():
        broken.get_parameter("classifier.3.bias")[1] = torch.nan
    serve(broken)
    code, text = refusal("--test", 1)
    assert code == ExitCode.RUN_FAILED
    assert "DIVERGED" in text
    assert "the network answers these pictures with NaN or infinity" in text


def test_logits_of_other_classes(serve: Serve, refusal: Callable[..., tuple[int, str]]) -> None:
    serve(opinionated_trunk(PLAN, classes=4))
    code, text = refusal("--test", 1)
    assert code == ExitCode.RUN_FAILED
    assert "answered question 1 with 4 classes; asked was 1 with 3" in text


def test_a_network_answers_by_its_own_plan_while_the_next_run_feeds(
    serve: Serve, ask: Callable[..., dict[str, object]], trunk: nn.Module, site: Site, party_tls: PartyTls,
    tmp_path: Path,
) -> None:  # fmt: skip
    """A compute node that stays is started again for the next run: the last run's sites can still ask."""
    service = ComputeService("test")
    service.open_predictions(PLAN, predictor_of(PLAN, trunk))
    service.open_feed(replace(PLAN, run_id="run2"), None)  # type: ignore[arg-type]  # nobody feeds here
    with compute_node(party_tls, tmp_path / "two-runs", service) as address:
        site.dials(address)
        assert len(probabilities_of(ask("--test", 1))) == 1


def test_mple_predict_hands_over(site: Site, serve: Serve, trunk: nn.Module, tmp_path: Path) -> None:
    def typed(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "import sys; from mple.cli import main; sys.exit(main())", "predict"]
        return subprocess.run(
            [*command, str(site.config), "--remote", *map(str, arguments)], capture_output=True, text=True, check=False
        )

    serve(trunk)
    ended = typed(save(tmp_path / "a.png", picture(1)), "--json", "--top", "3")
    assert ended.returncode == ExitCode.DONE, ended.stderr
    whole = json.loads(ended.stdout)
    plain_NC = plain_probabilities(PLAN, trunk, picture(1)[None])
    np.testing.assert_allclose(probabilities_of(whole), plain_NC, rtol=0, atol=1e-4)
    ended = typed(tmp_path / "nowhere.png")
    assert ended.returncode == ExitCode.BAD_USAGE
    assert ended.stderr.startswith("mple-provider: no picture file or folder at")
