"""Settings and plans that are meant to break their reader, or would break what comes after it."""

from __future__ import annotations

import threading

import pytest

from mple.plan import (
    ComputeSettings,
    PlanError,
    Precision,
    RunPlan,
    SettingsError,
    SiteSettings,
    TrainingSettings,
    settings_from,
)

COMPUTE = {"listen": "a:1", "state": "s", "tls": "t", "coordinator": "b:2"}
PROVIDER = {
    "state": "s",
    "tls": "t",
    "vault": "v",
    "coordinator": "b:2",
    "compute": "c:3",
    "data": {"kind": "npz", "path": "x.npz"},
}


@pytest.mark.parametrize("text", [b"[" * 100_000, b'{"a":' * 100_000, b'{"height":' + b"9" * 5000 + b"}"])
def test_a_plan_that_exhausts_its_reader_is_refused(text: bytes) -> None:
    with pytest.raises(PlanError, match="this is no run plan"):
        RunPlan.from_json(text)


@pytest.mark.parametrize(("kind", "raw"), [(ComputeSettings, COMPUTE), (SiteSettings, PROVIDER)])
def test_a_patience_beyond_what_can_be_waited_is_refused(kind: type, raw: dict[str, object]) -> None:
    """The operating system's longest wait is some hundred years; Python raises OverflowError beyond."""
    with pytest.raises(SettingsError, match=r"idle_timeout_s = 1e\+300; allowed are above 0 to 1e9"):
        settings_from(kind, raw, ["idle_timeout_s=1e300"])
    longest: ComputeSettings | SiteSettings = settings_from(kind, raw, ["idle_timeout_s=1e9"])
    assert longest.idle_timeout_s < threading.TIMEOUT_MAX


@pytest.mark.parametrize("text", ["precision=bf16", "precision = bf16", " precision =  'bf16' "])
def test_blanks_around_an_override_do_not_count(text: str) -> None:
    assert settings_from(TrainingSettings, {}, [text]).precision is Precision.BF16


@pytest.mark.parametrize("name", ["weight_decay", "peak_lr", "warmup_share", "momentum"])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_no_setting_of_training_is_without_end(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"{name} = {value}; allowed are"):
        settings_from(TrainingSettings, {}, [f"{name}={value}"])
