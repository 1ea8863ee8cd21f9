"""Codes beside picture files at equal PSNR: what is interpolated, chosen and laid out, without running anything."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.coded_pictures import measured as coded
from benchmarks.coded_pictures import site_coding
from benchmarks.equal_psnr import Measured, bits_at
from benchmarks.fair_table import Crossing, markdown, setting_at
from benchmarks.picture_formats import FORMATS, PNG, PictureFormat, measured, psnr_db
from mple.data.normalise import normalise
from mple.data.settings import NormalisationSettings

NOISE = np.random.default_rng(1).integers(0, 256, (13, 3, 28, 20), dtype=np.uint8)


def test_bits_are_interpolated_within_a_curve_and_the_cheapest_curve_counts() -> None:
    points = [(0, 30.0, 1.0), (0, 40.0, 2.0), (1, 30.0, 0.5), (1, 34.0, 1.1)]
    weighed = [Measured(curve=curve, setting="", psnr_db=db, bits=bits) for curve, db, bits in points]
    assert bits_at(weighed, 32.0) == pytest.approx(0.8)  # the second curve; the first has 1.2
    assert bits_at(weighed, 37.0) == pytest.approx(1.7)  # only the first gets there
    assert bits_at(weighed, 41.0) is None
    exact = Measured(curve=0, setting="", psnr_db=None, bits=4.5)
    assert bits_at([exact], 41.0) == 4.5


def test_pictures_come_back_from_files_and_from_sheets_at_their_own_places() -> None:
    sheet = PictureFormat(name="sheets", curves=PNG.curves, encode=PNG.encode, lossless=True, sheet=True)
    for of in (PNG, sheet):
        files = of.files(NOISE, {})
        assert len(files) == (1 if of.sheet else len(NOISE))
        np.testing.assert_array_equal(of.pictures(files, NOISE), NOISE)


def test_bits_and_psnr_of_files_are_those_of_the_files() -> None:
    grey = np.full((3, 1, 16, 16), 100, np.uint8)
    assert measured(PNG, {}, grey) == (8 * 3 * len(PNG.files(grey[:1], {})[0]) / grey.size, float("inf"))
    assert psnr_db(grey + 5, grey) == pytest.approx(10 * np.log10(255**2 / 25))


@pytest.mark.parametrize("channels", [1, 3])
def test_every_format_gives_back_pictures_of_that_shape(channels: int) -> None:
    pictures = np.linspace(0, 255, 2 * channels * 24 * 24).astype(np.uint8).reshape(2, channels, 24, 24)
    for of in FORMATS:
        if not of.needs():
            _, db = measured(of, of.curves[0][0], pictures)
            assert db == float("inf") if of.lossless else db > 35, of.name


def test_the_coarsest_setting_that_is_exact_enough_is_taken() -> None:
    pictures = np.zeros((1, 1, 8, 8), np.uint8)
    of = PictureFormat(
        name="its error is 100 - quality",
        curves=[[{"quality": 100}, {"quality": 90}, {"quality": 80}]],
        encode=lambda _pixels, setting: bytes([100 - int(str(setting["quality"]))] * 2),
        decode=lambda file: np.full((8, 8), file[0], np.uint8),
    )
    setting, db = setting_at(of, 20 * np.log10(255 / 13.5), pictures)
    assert setting == {"quality": 87}
    assert db == pytest.approx(20 * np.log10(255 / 13))
    assert setting_at(of, 1000.0, pictures)[0] == {"quality": 100}


def test_codes_are_as_exact_as_their_step_says() -> None:
    """Steps of 1/8 of a quarter of the range, 2^-3 * 63.75 grey levels: rounded evenly, and so are pixels after."""
    pictures = NOISE[:, :, :24, :16] // 2 + 64
    expected = 10 * np.log10(255**2 / ((63.75 / 8) ** 2 / 12 + 1 / 12))
    bits, db = coded(site_coding("q6", normalise(pictures, NormalisationSettings())), pictures)
    assert db == pytest.approx(expected, abs=0.2) and 4 < bits < 7
    few, more = coded(site_coding("k6", normalise(pictures, NormalisationSettings())), pictures)
    assert few < bits and more > expected  # fewer blocks than values: the rest of a basis has nothing to round


def test_the_fair_table_tells_the_delivered_network_apart() -> None:
    row = Crossing(
        run="CIFAR-10",
        sites=(10, 10),
        what="morphed pictures",
        setting="q6",
        psnr_db=40.91,
        raw_pixel_bytes=1000,
        codes_bytes=600,
        label_bytes=2,
        layer_bytes=20,
        logits_bytes=3,
        rest_bytes=5,
        transport_bytes=10,
        network_bytes=999,
        worst_ratio=0.7,
    )
    assert (row.all_bytes, row.ratio) == (640, 0.64)
    head, rule, line = markdown([row]).splitlines()
    assert head.count("|") == rule.count("|") == line.count("|")
    assert "| morphed pictures, q6 | 40.9 |" in line and "| **64.00 %** | 70.00 % | 99.90 % |" in line
