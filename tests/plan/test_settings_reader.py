"""TOML files to settings and back, for every node's configuration and the examples of a deployment."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mple.data import NpzSource, Partition, PartitionKind
from mple.plan import (
    Augment,
    ComputeSettings,
    CoordinatorSettings,
    Custody,
    ModelSettings,
    MorphSettings,
    NormalisationSettings,
    Precision,
    RunSettings,
    SettingsError,
    SiteSettings,
    TrainingSettings,
    WireSettings,
    read_settings,
    settings_from,
    write_settings,
)
from mple.printable import printable
from mple.simulate.settings import EndpointSettings, SimulationSettings

S = TypeVar("S")
EXAMPLES = Path(__file__).parents[2] / "examples" / "deployment"
HERE = Path("/srv/mple")
COORDINATOR = CoordinatorSettings(
    listen="0.0.0.0:7400",
    state=HERE / "state",
    tls=HERE / "tls",
    run=RunSettings(sites=("north", "south"), compute="gpu", custody=Custody.ESCROW),
    morph=MorphSettings(preset="paper", kappa=4),
    wire=WireSettings(codec="f16", releases=9),
    model=ModelSettings(width=0.5, kernel=5, stem="seed", stem_seed='with "quotes", a \\ and\na line'),
    training=TrainingSettings(weight_decay=1e-7, precision=Precision.BF16, augment=(Augment.SHIFT,), seed=2**62),
    normalisation=NormalisationSettings(mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0)),
    stay=True,
)
COMPUTE = ComputeSettings(
    listen="[::]:1", state=HERE / "s", tls=HERE / "t", coordinator="a:1", stem_file=HERE / "stem", stay=True
)
PROVIDER = SiteSettings(
    state=HERE / "state",
    tls=HERE / "tls",
    vault=HERE / "vault",
    coordinator="coordinator:7400",
    compute="compute:7401",
    data=NpzSource(
        path=HERE / "set.npz",
        classes=("healthy", "ill"),
        partition=Partition(kind=PartitionKind.IID, parts=3, part=1),
        most_train=10,
    ),
)


@pytest.mark.parametrize("settings", [COORDINATOR, COMPUTE, PROVIDER], ids=["coordinator", "compute", "provider"])
def test_written_settings_read_back_equal(settings: object, tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text(write_settings(settings), encoding="utf-8")
    assert read_settings(type(settings), path) == settings


@given(text=st.text(), texts=st.lists(st.text()))
def test_any_text_survives_the_file(text: str, texts: list[str]) -> None:
    settings = SimulationSettings(
        sites=tuple(f"s{number}" for number in range(len(texts) + 1)),
        monitoring=EndpointSettings(coordinator=text, sites=(text, *texts)),
    )
    written = write_settings(settings)
    assert settings_from(SimulationSettings, tomllib.loads(written)) == settings
    assert printable(written.replace("\n", "")) == written.replace("\n", "")


@given(value=st.floats(min_value=0, allow_nan=False, allow_infinity=False))
def test_any_number_survives_the_file(value: float) -> None:
    settings = TrainingSettings(weight_decay=value)
    assert settings_from(TrainingSettings, tomllib.loads(write_settings(settings))) == settings


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("coordinator", CoordinatorSettings),
        ("compute", ComputeSettings),
        ("north", SiteSettings),
        ("south", SiteSettings),
    ],
)
def test_examples_of_a_deployment_read(name: str, kind: type[S]) -> None:
    settings = read_settings(kind, EXAMPLES / f"{name}.toml")
    assert settings_from(kind, tomllib.loads(write_settings(settings))) == settings


@pytest.mark.parametrize("ranks", [["compute:7401"], ["compute:7402", "compute:7402"]])
def test_each_rank_has_an_address_of_its_own(ranks: list[str]) -> None:
    with pytest.raises(ValueError, match=rf"compute_ranks = .*{ranks[-1]} stands there twice"):
        replace(PROVIDER, compute_ranks=tuple(ranks))


def test_the_example_sites_share_one_set() -> None:
    north, south = (read_settings(SiteSettings, EXAMPLES / f"{name}.toml").data for name in ("north", "south"))
    assert (north.partition.part, south.partition.part) == (0, 1)
    assert north.partition.parts == south.partition.parts == 2


def test_relative_paths_start_at_the_files_folder(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text('listen = "a:1"\nstate = "state"\ntls = "/etc/tls"\ncoordinator = "b:1"\n')
    settings = read_settings(ComputeSettings, path)
    assert (settings.state, settings.tls) == (tmp_path / "state", Path("/etc/tls"))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"epoch": 3}, "test: unknown key epoch; did you mean epochs?"),
        ({"zzz": 3}, "test: unknown key zzz; known keys: epochs, batch"),
        ({"epochs": "3"}, "test: epochs = '3' is not a whole number"),
        ({"epochs": 3.0}, "test: epochs = 3.0 is not a whole number"),
        ({"epochs": True}, "test: epochs = True is not a whole number"),
        ({"peak_lr": "high"}, "test: peak_lr = 'high' is not a number"),
        ({"peak_lr": True}, "test: peak_lr = True is not a number"),
        ({"precision": "f64"}, "test: precision = 'f64'; choose one of f32, bf16"),
        ({"precision": 32}, "test: precision = 32; choose one of f32, bf16"),
        ({"epochs": 0}, "epochs = 0; allowed are 1 to 10000"),
        ({"peak_lr": float("nan")}, "peak_lr = nan; allowed are above 0 to 10"),
        ({"weight_decay": float("nan")}, "weight_decay = nan; allowed are 0 and above"),
        ({"weight_decay": float("inf")}, "weight_decay = inf; allowed are 0 and above"),
        ({"augment": "features"}, "test: augment = 'features' is not a list"),
        ({"augment": ["flip"]}, "test: augment[0] = 'flip'; choose one of shift, mirror, erase"),
        ({"augment": ["erase", "erase"]}, "augment = ['erase', 'erase']; name each kind once"),
        ({"shift_px": 3}, 'shift_px = 3 without "shift" in augment would change nothing; add it'),
        ({"augment": ["shift"], "erase_most": 0.5}, 'erase_most = 0.5 without "erase" in augment'),
        ({"augment": ["erase"], "erase_least": 0.5}, "erase_least = 0.5 is above erase_most = 0.25"),
        ({"augment": ["erase"], "erase_share": 0}, "erase_share = 0.0; allowed are above 0 to 1"),
        ({"optimiser": "adam"}, "test: optimiser = 'adam'; choose one of sgd, adamw"),
        ({"optimiser": "adamw", "peak_lr": 0.1}, "as long as the rate itself: allowed are up to 0.05"),
        ({"label_smoothing": 1.0}, "label_smoothing = 1.0; allowed are 0 to below 1"),
    ],
)
def test_what_is_wrong_is_named(raw: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError) as fault:
        settings_from(TrainingSettings, raw, where="test")
    assert message in str(fault.value)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({}, "state is missing"),
        ({"lisen": "a:1", "listen": None}, "unknown key lisen; did you mean listen?"),
        ({"run": 3}, "run = 3 is not a section"),
        ({"run": {"sites": "north"}}, "run.sites = 'north' is not a list"),
        ({"run": {"sites": ["north", 3]}}, "run.sites[1] = 3 is not a text"),
        ({"run": {}}, "run.sites is missing"),
        ({"run": {"sites": ["a", "a"]}}, "[run] sites = ['a', 'a']; name one at least, each once"),
        ({"training": {"augment": ["mirror"]}}, "stem_mirrored = false; set it to true"),
        ({"training": {"momentun": 1}}, "unknown key training.momentun; did you mean training.momentum?"),
        ({"state": 3}, "state = 3 is not a text"),
        ({"stay": 1}, "stay = 1 is not true or false"),
    ],
)
def test_what_is_wrong_is_named_with_its_section(raw: dict[str, object], message: str) -> None:
    whole = {"listen": "a:1", "state": "s", "tls": "t", "run": {"sites": ["north"]}, **raw} if raw else {}
    whole = {key: value for key, value in whole.items() if value is not None}
    with pytest.raises(SettingsError) as fault:
        settings_from(CoordinatorSettings, whole)
    assert message in str(fault.value)


@pytest.mark.parametrize("text", ["nan", "inf"])
@pytest.mark.parametrize("kind", [ComputeSettings, SiteSettings])
def test_a_patience_without_end_is_refused(kind: type[S], text: str) -> None:
    settings = COMPUTE if kind is ComputeSettings else PROVIDER
    raw = tomllib.loads(write_settings(settings))
    with pytest.raises(SettingsError, match=f"idle_timeout_s = {text}; allowed are above 0 to 1e9"):
        settings_from(kind, raw, [f"idle_timeout_s={text}"])


@pytest.mark.parametrize("raw", [{"mean": [float("nan")]}, {"std": [float("inf")]}, {"std": [0.0]}, {"mean": []}])
def test_a_normalisation_that_spoils_every_pixel_is_refused(raw: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match="need equal counts, finite, std above 0"):
        settings_from(NormalisationSettings, raw)


def test_a_whole_number_does_for_a_number() -> None:
    assert settings_from(TrainingSettings, {"peak_lr": 1}).peak_lr == 1.0


def test_overrides_come_last_and_reach_into_sections() -> None:
    raw = {"listen": "a:1", "state": "s", "tls": "t", "run": {"sites": ["north"]}, "training": {"epochs": 3}}
    overrides = [
        "training.epochs=5",
        "training.peak_lr = 0.2",
        "wire.codec=f32",
        'run.compute="gpu"',
        "run.sites=['a', 'b']",
        "stay=true",
        "listen=host:1",
    ]
    settings = settings_from(CoordinatorSettings, raw, overrides)
    assert (settings.training.epochs, settings.training.peak_lr, settings.wire.codec) == (5, 0.2, "f32")
    assert (settings.run.compute, settings.run.sites, settings.stay) == ("gpu", ("a", "b"), True)
    assert settings.listen == "host:1"
    assert raw["training"] == {"epochs": 3}  # what was given is left as it was


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epochs", "has no '='"),
        ("training.epoch=3", "did you mean training.epochs?"),
        ("listen.port=3", "'listen' is a value, not a section"),
        ("training.epochs=three", "training.epochs = 'three' is not a whole number"),
    ],
)
def test_wrong_overrides_are_named(override: str, message: str) -> None:
    raw = {"listen": "a:1", "state": "s", "tls": "t", "run": {"sites": ["a"]}}
    with pytest.raises(SettingsError) as fault:
        settings_from(CoordinatorSettings, raw, [override])
    assert message in str(fault.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"listen = ", "is not valid TOML"), (b"\xff\xfe", "is not valid TOML"), (b"a = 1\na = 2", "is not valid TOML")],
)
def test_what_is_no_toml_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_bytes(content)
    with pytest.raises(SettingsError, match=message):
        read_settings(ComputeSettings, tmp_path / "node.toml")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no configuration file at"):
        read_settings(ComputeSettings, tmp_path / "absent.toml")
    with pytest.raises(SettingsError, match="can't be read"):
        read_settings(ComputeSettings, tmp_path)
