"""`mple data stats` and `mple data pool`: exact sums, coarse cells, and nothing that few have contributed to."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from mple.cli.data import app
from mple.data import DataError, NpzSource
from mple.data.dicom import DicomSource
from mple.data.source import choose_part, read_part
from mple.disk.damage import DamagedError
from mple.disk.json_records import record_from_json, record_to_json
from mple.pictures.pooling import Span, pooled
from mple.pictures.statistics import SetStatistics, set_statistics
from mple.pictures.value_grid import CELLS, bounds_of, cells_of
from mple.pictures.withheld import by_contributor, withheld_cells
from tests.support.dicom_files import write_dicom


def _statistics(path: Path, pixels: np.ndarray, *, least: int = 5, **more: object) -> SetStatistics:
    arrays = {"x_train": pixels, "y_train": np.arange(len(pixels)) % 2, "x_test": pixels[:2] * 0, "y_test": [0, 1]}
    np.savez(path, **(arrays | more))
    source = NpzSource(path=path)
    part = choose_part(source)
    return set_statistics(source, part, read_part(source, part), least)


@pytest.mark.parametrize("shape", [(8, 9), (6, 6, 3)])
def test_pooled_is_what_numpy_says_of_all_pictures_together(tmp_path: Path, shape: tuple[int, ...]) -> None:
    draw = np.random.default_rng(1)
    parts = [draw.normal(90 + 20 * n, 30, (6 + n, *shape)).clip(0, 255).astype(np.uint8) for n in range(3)]
    files = {f"{n}": _statistics(tmp_path / f"{n}.npz", part, least=2) for n, part in enumerate(parts)}
    found = pooled({name: record_from_json(SetStatistics, record_to_json(one), name) for name, one in files.items()})
    together = np.concatenate(parts).reshape(sum(map(len, parts)), *shape[:2], -1)
    assert (found.files, found.pictures, len(found.channels)) == (3, 21, together.shape[-1])
    for channel, one in enumerate(found.channels):
        values = together[..., channel]
        assert one.mean == pytest.approx((values / 255).mean(), rel=1e-12)
        assert one.std == pytest.approx((values / 255).std(), rel=1e-12)
        for share, span in ((5, one.p5), (95, one.p95)):
            exact = np.percentile(values, share, method="inverted_cdf")
            assert span.low <= exact <= span.high
            assert one.withheld or span.high - span.low == 7
    assert {name: count.pictures for name, count in found.classes.items()} == {"0": 11, "1": 10}


def test_of_one_site_percentiles_are_numpys_and_cells_add_up(tmp_path: Path) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (9, 8, 8), dtype=np.uint8)
    (channel,) = _statistics(tmp_path / "set.npz", pixels).channels
    assert [channel.p5, channel.p95] == np.percentile(pixels, [5, 95], method="inverted_cdf").tolist()
    assert list(channel.cells) == np.histogram(pixels, bins=32, range=(0, 256))[0].tolist()
    assert (channel.total, channel.squares) == (int(pixels.sum(dtype=int)), int((pixels.astype(int) ** 2).sum()))


def test_a_bright_picture_among_others_leaves_no_trace_but_in_the_sums(tmp_path: Path) -> None:
    pixels = np.random.default_rng(3).integers(64, 128, (7, 8, 8), dtype=np.uint8)
    pixels[0, 0, 0] = 201
    (channel,) = _statistics(tmp_path / "set.npz", pixels).channels
    # cell 25 is of one picture; the sums are three equations, so three cells more are withheld
    assert channel.cells[25] is None
    assert channel.cells.count(None) == 4
    assert [count for count in channel.cells if count] == [
        int(count) for cell, count in enumerate(np.histogram(pixels, bins=32, range=(0, 256))[0])
        if count and channel.cells[cell] is not None
    ]  # fmt: skip
    assert channel.cells[24] == 0


def test_an_extreme_that_few_pictures_reach_is_no_percentile(tmp_path: Path) -> None:
    pixels = np.full((10, 4, 4), 100, np.uint8)
    pixels[0] = 250  # a tenth of all values, in one picture
    (channel,) = _statistics(tmp_path / "set.npz", pixels).channels
    assert (channel.p5, channel.p95) == (100, None)
    assert set(channel.cells) == {0, None}


def test_patients_are_counted_where_the_set_names_them(tmp_path: Path) -> None:
    pixels = np.random.default_rng(4).integers(64, 128, (8, 4, 4), dtype=np.uint8)
    pixels[:6, 0, 0] = 201  # six pictures, of two patients
    who = {"patient_train": list("AAABBBCD"), "patient_test": ["E", "F"]}
    found = _statistics(tmp_path / "set.npz", pixels, least=3, **who)
    assert (found.counted, found.patients, found.channels[0].cells[25]) == ("patients", 4, None)
    # four patients have both classes but C and D; each class has three patients
    assert found.classes == {"0": 4, "1": 4}
    with pytest.raises(DataError, match="training pictures of 4 patients, least_count = 5: statistics of so few"):
        _statistics(tmp_path / "set.npz", pixels, **who)
    assert _statistics(tmp_path / "set.npz", pixels).counted == "pictures"


def test_a_class_of_few_takes_a_second_one_with_it(tmp_path: Path) -> None:
    labels = [0] * 9 + [1] * 2 + [2] * 6
    pixels = np.zeros((17, 4, 4), np.uint8)
    found = _statistics(tmp_path / "set.npz", pixels, y_train=labels)
    assert found.classes == {"0": 9, "1": None, "2": None}
    assert pooled({"a": found}).classes["1"].silent == 1


def test_a_label_that_nearly_all_have_tells_of_those_without(tmp_path: Path) -> None:
    labels = np.zeros((12, 3), int)
    labels[:6, 0] = labels[:10, 1] = labels[:2, 2] = 1
    found = _statistics(tmp_path / "set.npz", np.zeros((12, 4, 4), np.uint8), y_train=labels, y_test=labels[[0, 11]])
    # two have not the second, two have the third; the first is six to six
    assert found.classes == {"0": 6, "1": None, "2": None}


@given(st.integers(0, 2**32 - 1), st.integers(2, 9), st.integers(0, 3))
def test_what_is_withheld_can_not_be_told_by_difference(seed: int, least: int, sums: int) -> None:
    draw = np.random.default_rng(seed)
    has_UK = draw.random((draw.integers(least, 40), 12)) < draw.random(12) ** 3
    has_UK[:, 0] = True
    hidden = withheld_cells(has_UK, least, sums)
    support = has_UK.sum(axis=0)
    assert not hidden[support == 0].any()
    assert hidden[(support > 0) & (support < least)].all()
    if hidden.any():
        assert hidden.sum() > sums or hidden[support > 0].all()
        assert has_UK[:, hidden].any(axis=1).sum() >= least
    else:
        assert (support[support > 0] >= least).all()


def test_a_patient_contributes_what_any_picture_of_it_does() -> None:
    has_NK = np.array([[1, 0], [0, 1], [0, 1]], bool)
    assert by_contributor(has_NK, np.array([7, 7, 3])).tolist() == [[False, True], [True, True]]
    assert by_contributor(has_NK, None) is has_NK


def test_the_grid_of_values_is_ordered_and_holds_what_it_says() -> None:
    values = np.array([-3e12, -1024.0, -1000.5, -1.0, -1e-4, 0.0, 2**-10, 0.01, 1.0, 40.0, 3071.0])
    cells = cells_of(values)
    assert (np.diff(cells) >= 0).all()
    assert bounds_of(int(cells_of(np.zeros(1))[0])) == (0.0, 0.0)
    for value, cell in zip(values[1:], cells[1:], strict=True):
        low, high = bounds_of(int(cell))
        assert 0 <= cell < CELLS
        assert value == pytest.approx(0, abs=2**-10) if low == high else low <= value <= high
    assert [bounds_of(cell)[0] for cell in range(CELLS)] == sorted(bounds_of(cell)[0] for cell in range(CELLS))


def test_hounsfield_units_give_a_window(tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    rows = ["file,label,split"]
    for number in range(8):
        pixels = np.full((32, 32), 1024 + 40 + number, np.uint16)
        pixels[:8] = 24  # air: -1000 units
        pixels[31, :8] = 4000  # padding, which takes no part
        write_dicom(tmp_path / f"{number}.dcm", pixels, RescaleSlope=1, RescaleIntercept=-1024, PixelPaddingValue=4000)
        rows.append(f"{number}.dcm,{'ab'[number % 2]},{'test' if number > 5 else 'train'}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    source = DicomSource(path=tmp_path, window=(40, 400))
    part = choose_part(source)
    found = set_statistics(source, part, read_part(source, part), 3)
    assert found.read_as == {"window": "(40, 400)"}
    assert found.stored is not None
    assert (found.stored.pictures, found.stored.values) == (6, 6 * (32 * 32 - 8))
    both = pooled({"a": found})
    # a quarter is air; the rest is 40 to 45 units
    assert both.stored["p5"].low <= -1000 <= both.stored["p5"].high
    for name in ("p50", "p75", "p95"):
        assert both.stored[name].low <= 45 and both.stored[name].high >= 40
    assert both.stored["p5"].high - both.stored["p5"].low < 100
    low, high = -1024, 2 ** (44 / 8)  # the cells of -1000 and of 45 end there
    assert both.window == f"window = [{(low + high) / 2:.6g}, {high - low:.6g}]"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"pictures": 4}, "4 pictures of 4 pictures, least_count = 5"),
        ({"height": 5000}, "height = 5000"),
        ({"least_count": 0}, "least_count = 0"),
        ({"classes": {"a": 1}}, "1 channels of 1 classes can't be"),
        ({"classes": {"a": 1, "\u202eb": 1}}, "class "),
        ({"channels": []}, "0 channels"),
        ({"counted": "patients"}, "None patients of 6 pictures"),
        ({"total": 10**9}, "can't be"),
        ({"squares": 1}, "can't be"),
        ({"p5": 256}, "p5 the lower one"),
        ({"cells": [1] * 32}, "cells count 32 of 96 values"),
        ({"cells": [96]}, "cells = 1 counts"),
        ({"cells": [-1] + [3] * 31}, "none below 0"),
    ],
)
def test_files_of_strangers_are_read_strictly(tmp_path: Path, change: dict[str, object], text: str) -> None:
    pixels = np.random.default_rng(5).integers(0, 256, (6, 4, 4), dtype=np.uint8)
    raw = json.loads(record_to_json(_statistics(tmp_path / "set.npz", pixels)))
    if set(change) & set(raw["channels"][0]):
        raw["channels"][0] |= change
    else:
        raw |= change
    with pytest.raises(ValueError, match="x is damaged: ") as fault:
        record_from_json(SetStatistics, json.dumps(raw), "x")
    assert text in str(fault.value)


def test_what_does_not_go_together_is_said(tmp_path: Path) -> None:
    draw = np.random.default_rng(6)
    grey = _statistics(tmp_path / "a.npz", draw.integers(0, 256, (6, 4, 4), dtype=np.uint8))
    other = _statistics(tmp_path / "b.npz", draw.integers(0, 256, (6, 5, 4), dtype=np.uint8), y_train=[0, 1, 2] * 2)
    colour = _statistics(tmp_path / "c.npz", draw.integers(0, 256, (6, 4, 4, 3), dtype=np.uint8))
    notes = pooled({"a": grey, "b": other}).notes
    assert any("4 x 4, 4 x 5; a run needs one size" in note for note in notes)
    assert any("name other classes" in note for note in notes)
    windowed = replace(grey, read_as={"window": "(40, 400)"})
    assert (
        "sites read with different window (a: none; b: (40, 400)): equal levels do not mean the same"
        in pooled({"a": other, "b": windowed}).notes
    )
    with pytest.raises(ValueError, match="a is of 1 channels, c of 3; set channels"):
        pooled({"a": grey, "c": colour})
    with pytest.raises(ValueError, match="a and again are of the same pictures"):
        pooled({"a": grey, "again": grey})


def test_withheld_values_widen_the_span_of_a_percentile(tmp_path: Path) -> None:
    pixels = np.full((10, 4, 4), 100, np.uint8)
    pixels[0] = 250
    (channel,) = pooled({"a": _statistics(tmp_path / "set.npz", pixels)}).channels
    # of the two cells nothing is told; each value may be in either
    assert (channel.p5, channel.p95, channel.withheld) == (Span(low=96, high=255), Span(low=96, high=255), 1.0)


@pytest.mark.parametrize(
    ("sections", "least"),
    [("", 5), ("[metrics]\nleast_count = 2\n", 5), ("vault = 'v'\n[metrics]\nleast_count = 2\n", 2)],
)
def test_a_sites_own_least_count_holds(tmp_path: Path, sections: str, least: int) -> None:
    pixels = np.zeros((6, 4, 4), np.uint8)
    np.savez(tmp_path / "a.npz", x_train=pixels, y_train=[0, 1] * 3, x_test=pixels[:1], y_test=[0])
    (tmp_path / "site.toml").write_text(f'{sections}[data]\nkind = "npz"\npath = "a.npz"\n')
    made = CliRunner().invoke(app, ["stats", str(tmp_path / "site.toml"), "--out", str(tmp_path / "a.json")])
    assert f"withheld for fewer than {least} pictures: " in made.output


def test_as_it_is_typed(tmp_path: Path) -> None:
    draw = np.random.default_rng(7)
    files = []
    for name in "ab":
        pixels = draw.integers(0, 256, (6, 4, 4), dtype=np.uint8)
        np.savez(tmp_path / f"{name}.npz", x_train=pixels, y_train=[0, 1] * 3, x_test=pixels[:1], y_test=[0])
        files.append(str(tmp_path / f"{name}.json"))
        arguments = ["stats", "--kind", "npz", "--path", str(tmp_path / f"{name}.npz"), "--out", files[-1]]
        made = CliRunner().invoke(app, [*arguments, "--least-count", "3"])
        assert "sums of 6 training pictures\nwithheld for fewer than 3 pictures: " in made.output
    shown = CliRunner().invoke(app, ["pool", *files], env={"COLUMNS": "80"})
    assert shown.output.startswith("12 training pictures in 2 files\n")
    mean = float(shown.output.split("mean = [")[1].split("]")[0])
    values = np.concatenate([np.load(tmp_path / f"{name}.npz")["x_train"] for name in "ab"]) / 255
    assert mean == pytest.approx(values.mean(), abs=5e-7)
    as_json = json.loads(CliRunner().invoke(app, ["pool", *files, "--json"]).output)
    assert as_json["channels"][0]["std"] == pytest.approx(values.std(), rel=1e-12)
    Path(files[0]).write_text("{}")
    fault = CliRunner().invoke(app, ["pool", *files]).exception
    assert isinstance(fault, DamagedError)
    assert fault.fix == "ask its site for it again"
