"""`mple attack` as it is typed, on a run of real processes: table, record, galleries, and the run's page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mple.attacks.lab.run_views import RunViews
from mple.cli import main
from mple.data.normalise import normalise
from mple.exit_codes import ExitCode
from mple.records.run_folder import RunFolderError
from tests.support.morphed_world import natural_pixels
from tests.support.typed_command import Said, small_simulation


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two sites on pictures of 3 x 28 x 28, of whose test pictures the sites hold few."""
    folder = tmp_path_factory.mktemp("attacked")
    file = small_simulation(folder)
    labels = np.arange(120) % 2
    pixels = natural_pixels(120, side=28).transpose(0, 2, 3, 1)
    np.savez(
        folder / "set.npz",
        x_train=pixels[:80],
        y_train=labels[:80],
        x_test=pixels[80:],
        y_test=labels[80:],
    )
    text = file.read_text(encoding="utf-8").replace('path = "set.npz"', 'path = "set.npz"\nmost_test = 4')
    text = text.replace("epochs = 2", "epochs = 1") + "\n[report]\nsample_pictures = 3\n"
    file.write_text(text, encoding="utf-8")
    assert main(["simulate", str(file), "--out", str(folder / "run"), "--plain"]) == ExitCode.DONE
    return folder / "run"


def test_a_run_is_attacked_and_its_page_says_so(mple: Said, run: Path, tmp_path: Path) -> None:
    code, text, complaints = mple("attack", "layer-key", "guessing", "--run", run, "--pictures", "16")
    assert (code, complaints) == (ExitCode.DONE, "")
    assert "attacks on site north" in text and "8/8" in text
    record = json.loads((run / "attacks.json").read_text(encoding="utf-8"))
    entries = {entry["name"]: entry for entry in record["attacks"]}
    assert list(entries) == ["guessing", "layer-key"]
    best = entries["layer-key"]["pictures"][-1]
    assert best["count"] == 16 and best["ssim_mean"] > 0.95
    assert entries["layer-key"]["seconds"] > 0 and entries["guessing"]["gallery"] is None
    gallery = run / entries["layer-key"]["gallery"]
    assert Image.open(gallery).size[0] > 3 * 96
    assert gallery.stat().st_mode & 0o077 == 0
    for arguments, shown in (((), True), (("--no-pictures",), False)):
        page = tmp_path / "page.html"
        assert mple("report", run, "--out", page, *arguments)[0] == ExitCode.DONE
        html = page.read_text(encoding="utf-8")
        assert "Attacks on this run" in html and f"{best['ssim_mean']:.4f}" in html
        assert ("recovered pictures of layer-key" in html) == shown
        assert html.count("picture 3 of north") == 2 * shown
    kept = [path.unlink() for path in run.glob("nodes/north/state/pictures-*.npz")]
    assert len(kept) == 1
    mple("report", run, "--out", page)
    html = page.read_text(encoding="utf-8")
    assert "recovered pictures" not in html, "nor is a gallery shown of a site that keeps none"
    assert "picture 3 of south" in html


def test_an_attack_that_is_run_again_replaces_its_entry(mple: Said, run: Path, tmp_path: Path) -> None:
    for pictures in ("4", "6"):
        mple("attack", "known-pairs", "--run", run, "--out", tmp_path, "--pictures", pictures, "--site", "south")
    mple("attack", "translation", "--run", run, "--out", tmp_path)
    record = json.loads((tmp_path / "attacks.json").read_text(encoding="utf-8"))
    assert [entry["name"] for entry in record["attacks"]] == ["known-pairs", "translation"]
    assert {one["count"] for one in record["attacks"][0]["pictures"]} == {6}
    assert record["attacks"][0]["settings"]["site"] == "south"


def test_a_page_without_attacks_has_no_such_section(mple: Said, run: Path, tmp_path: Path) -> None:
    kept = (run / "attacks.json").rename(tmp_path / "kept") if (run / "attacks.json").exists() else None
    mple("report", run, "--out", tmp_path / "page.html")
    assert "Attacks on this run" not in (tmp_path / "page.html").read_text(encoding="utf-8")
    (run / "attacks.json").write_text('{"plan_hash": "of another run", "attacks": []}', encoding="utf-8")
    mple("report", run, "--out", tmp_path / "page.html")
    assert "Attacks on this run" not in (tmp_path / "page.html").read_text(encoding="utf-8")
    if kept:
        kept.rename(run / "attacks.json")


def test_public_pictures_are_none_of_the_sites(run: Path) -> None:
    views = RunViews(run, site="north")
    public = {picture.tobytes() for picture in views.public.pixels_PCHW}
    assert "32 test pictures of the set that no site holds" in views.public.source
    for site in views.truth.sites.values():
        assert not public & {picture.tobytes() for picture in site.train.pixels_NCHW}


def test_the_views_of_a_run_are_what_its_sites_sent(run: Path) -> None:
    """Under the key, the codes are the pictures that they are numbered as, and labels are permuted."""
    views = RunViews(run, site="north")
    held = views.compute_node()
    truth = views.truth
    for name, morphed in held.sites.items():
        train = truth.sites[name].train
        x_NCHW = truth.morpher(name).unmorph(morphed.t_NKQ.numpy())
        assert np.abs(x_NCHW - normalise(train.pixels_NCHW[morphed.numbers_N], views.plan.normalisation)).mean() < 0.05
        assert (truth.label_order[morphed.labels_N] == train.labels[morphed.numbers_N]).all()
    assert sum(len(morphed) for morphed in held.sites.values()) == 80
    seen = views.wire_observer()
    assert len(seen.messages) > 10 and min(message.bytes for message in seen.messages) > 0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("nothing", "--run", "RUN"), "there is no attack 'nothing'"),
        (("--run", "EMPTY"), "holds no plan.json"),
        (("--run", "RUN", "--site", "west"), "site = 'west'; the run has north, south"),
        ((), "--run DIR"),
    ],
)
def test_what_can_not_be_attacked(
    mple: Said, run: Path, tmp_path: Path, arguments: tuple[str, ...], complaint: str
) -> None:
    places = {"RUN": str(run), "EMPTY": str(tmp_path)}
    code, _, complaints = mple("attack", *(places.get(one, one) for one in arguments))
    assert code == ExitCode.BAD_USAGE
    assert complaint in complaints


def test_a_folder_without_the_compute_nodes_cache_is_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_bytes((run / "plan.json").read_bytes())
    with pytest.raises(RunFolderError):
        RunViews(tmp_path, site="north").outsider()


def test_the_attacks_are_listed(mple: Said) -> None:
    code, text, _ = mple("attack", "--list")
    assert code == ExitCode.DONE
    assert "layer-key" in text and "compute node, stem known" in text
