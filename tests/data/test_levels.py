"""Stored values to 8 bits, and the word on sets that use few of them."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mple.cli.data import app
from mple.data import DataError, LabelledImages
from mple.data.levels import range_notes, to_levels
from mple.plan import SettingsError

CASES = Path(__file__).parent / "cases"


@pytest.mark.parametrize(
    ("values", "white", "right"),
    [
        ([0, 128, 129, 65535], 65535, [0, 0, 1, 255]),
        ([0, 8, 9, 4095], 4095, [0, 0, 1, 255]),  # 8 and 9 of 4095 are 0.498 and 0.560
        ([0, 1, 2], 2, [0, 128, 255]),  # a half goes up
        ([0, 0.5, 1], 1, [0, 128, 255]),
        ([0, 1], 1, [0, 255]),
        ([], 1, []),
    ],
)
def test_levels_are_rounded_shares_of_white(values: list[float], white: float, right: list[int]) -> None:
    assert to_levels(np.array(values, np.float64), white, "x").tolist() == right


def test_every_value_of_16_bits_comes_to_the_nearest_level() -> None:
    values = np.arange(65536, dtype=np.uint16)
    found = to_levels(values, 65535, "x").astype(np.int64)
    assert (np.abs(values.astype(np.int64) - found * 257) <= 128).all()


def test_nothing_is_clipped() -> None:
    for value, words in ((256, "value 256, above its white level 255"), (-1, "value -1"), (float("nan"), "value nan")):
        with pytest.raises(DataError, match=f"x holds the {words}"):
            to_levels(np.array([0, value]), 255, "x")


def _splits(*pictures: tuple[int, int], test: int = 0) -> tuple[LabelledImages, LabelledImages]:
    """A picture of each lowest and highest level; the last `test` are for testing."""
    pixels = np.array([[[low, high, low]] for low, high in pictures], np.uint8)[:, None]
    images = LabelledImages(pixels, np.zeros(len(pixels), np.int64))
    train, held = np.arange(len(pixels) - test), np.arange(len(pixels) - test, len(pixels))
    return images.take(train), images.take(held)


@pytest.mark.parametrize(
    ("splits", "words"),
    [
        (_splits((0, 255), (10, 200)), ""),
        (_splits((0, 128)), ""),
        (_splits((0, 16), (2, 15)), "all pictures lie within 0 to 16"),
        (_splits((0, 63)), "all pictures lie within 0 to 63"),
        (_splits((128, 255)), "all pictures lie within 128 to 255"),
        (_splits((0, 1)), "all pictures lie within 0 to 1"),
        (_splits((0, 255), (0, 16), (3, 9)), "2 of 3 pictures span less than 32 of 256, up to 16"),
        (_splits((0, 255), (0, 16), test=1), "1 of 2 pictures span less than 32 of 256, up to 16"),
        (_splits((0, 255), (0, 32)), ""),
        (_splits((0, 15), (0, 14), test=1), "all pictures lie within 0 to 15"),
    ],
)
def test_a_set_that_uses_a_fraction_of_its_range_is_told(
    splits: tuple[LabelledImages, LabelledImages], words: str
) -> None:
    found = range_notes(*splits, advice="set white in [data]")
    assert len(found) == bool(words)
    assert all(words in line and "white" in line for line in found)


@pytest.fixture
def twelve_bits(tmp_path: Path) -> Path:
    for name in ("sick", "well"):
        (tmp_path / name).mkdir()
        for number in range(2):
            shutil.copy(CASES / "png_12bit_in_16.png", tmp_path / name / f"{number}.png")
    return tmp_path


def test_show_tells_of_a_dark_set_and_white_cures_it(twelve_bits: Path) -> None:
    arguments = ["show", "--kind", "folder", "--path", str(twelve_bits)]
    dark = CliRunner().invoke(app, arguments).output
    assert "few levels: all pictures lie within 1 to 15 of 0 to 255" in dark
    assert "set white in [data]" in dark
    right = CliRunner().invoke(app, [*arguments, "--set", "white=4095"]).output
    assert "few levels" not in right


def test_white_must_be_above_0_and_belongs_to_files_and_arrays(twelve_bits: Path) -> None:
    arguments = ["show", "--path", str(twelve_bits), "--set"]
    for kind, setting, words in (
        ("folder", "white=0", "white = 0.0; allowed are above 0"),
        ("folder", "white=-1", "allowed are above 0"),
        ("folder", "white=nan", "allowed are above 0"),
        ("dicom", "white=4095", "white is for data of kind npz and folder"),
    ):
        fault = CliRunner().invoke(app, [*arguments, setting, "--kind", kind]).exception
        assert isinstance(fault, SettingsError)
        assert words in str(fault)
