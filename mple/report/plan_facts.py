"""A plan's settings as names and texts, for people and for comparing two runs. Pure."""

import dataclasses
from typing import Any

from mple.data.images import PatientSplit
from mple.plan import PrivacyMode, RunPlan
from mple.printable import some_of

Facts = dict[str, dict[str, str]]
"""Groups of settings: names and values."""


def plan_facts(plan: RunPlan) -> Facts:
    """All settings that decide what a run computes; those of the morphing as the preset and its changes mean them."""
    return {
        "run": {"custody": str(plan.custody), "sites": ", ".join(site.name for site in plan.sites)},
        "pictures": {
            "channels": str(plan.channels),
            "height_px": str(plan.height),
            "width_px": str(plan.width),
            "train": f"{sum(site.train_images for site in plan.sites):,}",
            "validation": f"{sum(site.val_images for site in plan.sites):,}",
            "test": f"{sum(site.test_images for site in plan.sites):,}",
            "classes": ", ".join(plan.classes),
            "patients": ", ".join(f"{site.name} {site.patients}" for site in plan.sites),
        },
        **{name: _fields(section) for name, section in plan.sections().items()},
        "morph": {"preset": plan.morph.preset, **_fields(plan.morph.scheme())},
        "privacy": _fields(plan.privacy) if plan.privacy.mode is PrivacyMode.NOISE else {"mode": "none"},
    }


def patients_sentence(plan: RunPlan) -> str:
    """What the sites say of their patients, and so what the accuracy is worth."""
    said = {
        PatientSplit.APART: "no test picture shows a patient of the training pictures at {}",
        PatientSplit.SHARED: "some do at {}, so that the score is partly memory",
        PatientSplit.UNKNOWN: "at {} the pictures do not say whose they are, and nobody can know whether the score is "
        "memory of patients",
    }
    parts = []
    for status, text in said.items():
        sites = [site.name for site in plan.sites if site.patients is status]
        if sites:
            parts.append(text.format(some_of(sites)))
    return f"patients: {'; '.join(parts)}; nobody compares patients over sites"


def differing(first: RunPlan, second: RunPlan) -> list[tuple[str, str, str]]:
    """Settings in which two plans differ: `section.name` and both values."""
    one, other = _flat(plan_facts(first)), _flat(plan_facts(second))
    return [
        (name, one.get(name, "none"), other.get(name, "none"))
        for name in dict.fromkeys([*one, *other])
        if one.get(name) != other.get(name)
    ]


def _flat(facts: Facts) -> dict[str, str]:
    return {f"{group}.{name}": value for group, settings in facts.items() for name, value in settings.items()}


def _fields(settings: Any) -> dict[str, str]:
    return {field.name: _text(getattr(settings, field.name)) for field in dataclasses.fields(settings)}


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
