"""`mple data` as it is typed."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mple.cli.data import app
from mple.data import DataError
from mple.plan import SettingsError

EXPECTED = """\
set: 1x28x30, 2 classes

pictures of each class
class  train  val  test
sick       3    0     1
well       2    0     1
all        5    0     2

levels of the training pictures, 0 to 255
channel  least  p5   mean  p95  most  deviation
grey         0  12  125.6  242   255       74.1

patients: unknown, the pictures do not say whose they are; one patient may be in several splits
"""


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "set.npz"
    pixels = np.arange(7 * 28 * 30).reshape(7, 28, 30).astype(np.uint8)
    np.savez(path, x_train=pixels[:5], y_train=[0, 1, 0, 1, 0], x_test=pixels[5:], y_test=[0, 1])
    return path


def test_show_by_options(archive: Path) -> None:
    arguments = ["show", "--kind", "npz", "--path", str(archive), "--set", 'classes=["sick","well"]']
    result = CliRunner().invoke(app, arguments)
    assert result.output == EXPECTED
    assert result.exit_code == 0


def test_show_by_configuration(archive: Path) -> None:
    config = archive.with_name("site.toml")
    data = 'kind = "npz"\npath = "set.npz"\nclasses = ["sick", "well"]\nmost_train = 1\n'
    config.write_text(f'state = "s"\n[data]\n{data}')
    assert CliRunner().invoke(app, ["show", str(config), "--set", "most_train=5"]).output == EXPECTED


def test_show_needs_one_of_both(archive: Path) -> None:
    for arguments in (["show"], ["show", "site.toml", "--kind", "npz"]):
        assert isinstance(CliRunner().invoke(app, arguments).exception, SettingsError)


def test_show_refuses_a_configuration_without_data(tmp_path: Path) -> None:
    config = tmp_path / "site.toml"
    config.write_text("[run]\n")
    fault = CliRunner().invoke(app, ["show", str(config)]).exception
    assert "has no section [data]" in str(fault)


def test_fetch_refuses_an_archive_that_is_not_cifar10(archive: Path) -> None:
    arguments = ["fetch", "cifar10", "--to", str(archive.parent / "to"), "--from", str(archive)]
    fault = CliRunner().invoke(app, arguments).exception
    assert isinstance(fault, DataError)
    assert "set.npz" in str(fault)


def _shown(
    folder: Path, shape: tuple[int, ...], *more: str, train: int = 4, **arrays: object
) -> tuple[str, Exception | None]:
    pixels = np.random.default_rng(0).integers(0, 256, (train + 2, *shape), dtype=np.uint8)
    kept = {"x_train": pixels[:train], "y_train": np.arange(train) % 2, "x_test": pixels[train:], "y_test": [0, 1]}
    np.savez(folder / "set.npz", **(kept | arrays))
    arguments = ["show", "--kind", "npz", "--path", str(folder / "set.npz")]
    arguments += [part for override in more for part in ("--set", override)]
    result = CliRunner().invoke(app, arguments)
    return result.output, result.exception


@pytest.mark.parametrize("shape", [(17, 31), (256, 256), (512, 512, 3), (27, 224), (28, 225), (1, 1)])
def test_sizes_outside_the_trunks_are_refused_after_the_table(tmp_path: Path, shape: tuple[int, ...]) -> None:
    output, fault = _shown(tmp_path, shape)
    assert output.startswith("set: ")
    assert f"{shape[0]} x {shape[1]} pixels; vgg16 takes 28 to 224 a side; set side_px in the sites' [data]" in str(
        fault
    )


@pytest.mark.parametrize("shape", [(28, 28), (224, 224), (28, 224)])
def test_sizes_within_the_trunks_pass(tmp_path: Path, shape: tuple[int, ...]) -> None:
    assert _shown(tmp_path, shape)[1] is None


def test_pictures_that_come_again_in_the_test_split_are_counted(tmp_path: Path) -> None:
    same = np.ones((2, 28, 28), np.uint8)
    output, _ = _shown(
        tmp_path, (28, 28), x_train=np.concatenate([same, same * 2]), x_test=np.stack([same[0], same[0] * 3])
    )
    assert output.splitlines()[-1] == "test pictures that are training or validation pictures, too, to the last bit: 1"


@pytest.mark.parametrize(
    ("patients", "said"),
    [
        (["A", "B", "C", "D"], "patients: none of training is in validation or test"),
        (
            ["A", "B", "Yves", "D"],
            "patients: some of training are in validation or test\npatients in training and in test pictures: 1;",
        ),
    ],
)
def test_patients_are_told_by_count_and_never_by_name(tmp_path: Path, patients: list[str], said: str) -> None:
    output, _ = _shown(tmp_path, (28, 28), patient_train=patients, patient_test=["Yves", "Zoe"])
    assert said in output
    assert "Yves" not in output


def test_more_pictures_than_this_machine_can_hold_are_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mple.machine.memory_bytes", lambda: 6 * 28 * 28 - 1)
    output, fault = _shown(tmp_path, (28, 28))
    assert "6 pictures of set: needs 0.0 MiB of memory, this machine has 0.0 MiB; take fewer (most_train" in str(fault)
    assert not output
    assert _shown(tmp_path, (28, 28), "most_train=3")[1] is None


def test_more_scores_than_a_run_can_hold_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mple.plan.fit.MOST_LOGITS", 3)
    assert "have 4 scores; a run can hold 3: set most_test" in str(_shown(tmp_path, (28, 28))[1])
    monkeypatch.setattr("mple.plan.fit.MOST_IMAGES", 3)
    assert "a run can hold 3 of a split" in str(_shown(tmp_path, (28, 28))[1])


@pytest.mark.parametrize(
    ("sections", "text"),
    [
        (
            '[task]\nkind = "labels"\n',
            'for a task of classes, the run has task.kind = "labels"; set task.kind = "classes"',
        ),
        ('[morph]\npreset = "paper"\nkappa = 9\n', "kappa = 9 does not divide the unrolled length 840"),
        ("[normalisation]\nmean = [0.1, 0.2, 0.3]\nstd = [1.0, 1.0, 1.0]\n", "3 means for 1 channels"),
        ('[morph]\npreset = "compact"\n', ""),
    ],
)
def test_a_simulations_own_choices_count(archive: Path, sections: str, text: str) -> None:
    config = archive.with_name("simulation.toml")
    config.write_text(f'{sections}[data]\nkind = "npz"\npath = "set.npz"\n')
    shown = CliRunner().invoke(app, ["show", str(config)])
    assert text in str(shown.exception)
    assert (shown.exception is None) == (not text)
    assert ("\nthis simulation will need about " in shown.output) == (not text)
