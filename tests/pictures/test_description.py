"""`mple data show`: counts by class, split and patient, sizes, ranges, and the page of pictures."""

import base64
import io
import json
import re
import stat
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from mple.cli.data import app
from mple.data.npz import NpzSource
from mple.data.source import choose_part, read_part
from mple.pictures.description import PatientCounts, described

SHAPE = (28, 28)


def _archive(folder: Path, shape: tuple[int, ...] = SHAPE, **more: object) -> Path:
    """Five training pictures of three patients, three of testing; two classes."""
    pixels = np.random.default_rng(3).integers(10, 250, (8, *shape), dtype=np.uint8)
    kept: dict[str, object] = {
        "x_train": pixels[:5], "y_train": [0, 1, 0, 1, 0], "patient_train": ["A", "A", "B", "C", "A"],
        "x_test": pixels[5:], "y_test": [0, 1, 1], "patient_test": ["D", "D", "E"],
    }  # fmt: skip
    np.savez(folder / "set.npz", **(kept | more))
    return folder / "set.npz"


def _shown(path: Path, *more: str) -> str:
    result = CliRunner().invoke(app, ["show", "--kind", "npz", "--path", str(path), *more], env={"COLUMNS": "80"})
    assert result.exception is None, result.exception
    return result.output


def test_counts_are_those_of_the_set(tmp_path: Path) -> None:
    source = NpzSource(path=_archive(tmp_path), classes=("sick", "well"))
    part = choose_part(source)
    found = described(part, read_part(source, part))
    train, _, test = found.splits
    assert (train.name, train.pictures, train.by_class, train.unknown) == ("train", 5, (3, 2), None)
    assert (test.name, test.pictures, test.by_class) == ("test", 3, (1, 2))
    # A has two pictures of the first class and one of the second, B one of the first, C one of the second
    assert train.patients == PatientCounts(
        patients=3, by_class=(2, 2), fewest_pictures=1, median_pictures=1.0, most_pictures=3
    )
    assert test.patients == PatientCounts(
        patients=2, by_class=(1, 2), fewest_pictures=1, median_pictures=1.5, most_pictures=2
    )


@pytest.mark.parametrize("shape", [SHAPE, (28, 30, 3)])
def test_levels_are_numpys_own(tmp_path: Path, shape: tuple[int, ...]) -> None:
    source = NpzSource(path=_archive(tmp_path, shape))
    part = choose_part(source)
    dataset = read_part(source, part)
    for channel, one in enumerate(described(part, dataset).levels):
        values = dataset.train.pixels_NCHW[:, channel]
        p5, p95 = np.percentile(values, [5, 95], method="inverted_cdf")
        assert (one.least, one.most, one.p5, one.p95) == (values.min(), values.max(), p5, p95)
        assert (one.mean, one.deviation) == pytest.approx((values.mean(), values.std()), rel=1e-12)


def test_tables_fit_into_80_columns_and_name_no_patient(tmp_path: Path) -> None:
    names = [f"a rather long name of a class, number {number}, which nobody can read at a glance" for number in (0, 1)]
    patients = [f"Yves{number}" for number in range(5)]
    output = _shown(_archive(tmp_path, patient_train=patients), "--set", f"classes={json.dumps(names)}")
    assert max(map(len, output.split("\npatients:")[0].splitlines())) <= 80
    assert "Yves" not in output
    assert "pictures of a patient  1 (1 to 1)  -  1.5 (1 to 2)" in re.sub("  +", "  ", output)


def test_json_is_the_same_for_programs(tmp_path: Path) -> None:
    found = json.loads(_shown(_archive(tmp_path), "--json"))
    assert [(one["name"], one["by_class"], one["patients"]["patients"]) for one in found["splits"]] == [
        ("train", [3, 2], 3), ("val", [0, 0], 0), ("test", [1, 2], 2)
    ]  # fmt: skip
    assert (found["channels"], found["height"], found["width"], found["patients"]) == (1, 28, 28, "apart")


def test_sizes_of_files_and_what_becomes_of_them(tmp_path: Path) -> None:
    for number in range(6):
        file = tmp_path / "set" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (40 + number, 60 - number)).save(file)
    arguments = ["show", "--kind", "folder", "--path", str(tmp_path / "set")]
    output = CliRunner().invoke(app, [*arguments, "--set", "side_px=32"]).output
    assert "size: 6 files of 6 sizes, 40 to 45 pixels wide and 55 to 60 high; each is resized to 32 x 32" in output


def test_the_page_shows_pictures_of_each_class_and_is_its_owners_alone(tmp_path: Path) -> None:
    path, page = _archive(tmp_path, (40, 28)), tmp_path / "pictures.html"
    output = _shown(path, "--page", str(page), "--each", "2")
    assert "shows patients' pictures in the clear" in output
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    text = page.read_text()
    assert "shows patients' pictures in the clear" in text
    assert not re.search(r"https?://|<script|src=\"(?!data:)", text)
    found = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(uri)))) for uri in re.findall('png;base64,([^"]+)', text)
    ]
    with np.load(path) as arrays:
        train, test = arrays["x_train"], arrays["x_test"]
    # of three pictures of a class the first and the last
    wanted = [train[0], train[4], test[0], train[1], train[3], test[1], test[2]]
    assert len(found) == len(wanted)
    assert all(map(np.array_equal, found, wanted))


def test_a_page_is_html(tmp_path: Path) -> None:
    fault = CliRunner().invoke(app, ["show", "--kind", "npz", "--path", str(_archive(tmp_path)), "--page", "x.pdf"])
    assert "let its name end in .html" in str(fault.exception)


def test_labels_of_which_some_are_unknown(tmp_path: Path) -> None:
    labels = np.array([[1, 0], [0, -1], [1, -1], [0, 0], [1, 1]])
    path = _archive(tmp_path, y_train=labels, y_test=[[0, 1], [1, 1], [-1, 0]])
    output = re.sub("  +", "  ", _shown(path, "--set", 'classes=["mass","effusion"]'))
    assert output.startswith("set: 1x28x28, 2 labels, several to a picture\n\npictures with each label\n")
    assert "mass  3  0  1\neffusion  1  0  2\nall  5  0  3\n" in output
    assert "pictures of which nobody knows it\nlabel  train  val  test\nmass  0  0  1\neffusion  2  0  0\n" in output
