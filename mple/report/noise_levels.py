"""How much noise each site of a run has added, from the laws that the sites keep in their state folders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mple.plan import PrivacyMode, RunPlan
from mple.privacy import NoiseLaw


@dataclass(frozen=True, kw_only=True, slots=True)
class NoiseLevel:
    """The noise of one site."""

    site: str
    deviation_px: float
    """Root mean square in grey levels of 255."""
    measured: int
    """Pictures that it was calibrated on."""
    dependent: int
    """How many of them would have changed it by their absence."""


def noise_levels(folder: Path, plan: RunPlan) -> list[NoiseLevel]:
    """Of the sites whose law is in the run folder, in the plan's order; none where the plan has no noise.

    Raises:
        ValueError: A law is damaged.
    """
    if plan.privacy.mode is PrivacyMode.NONE:
        return []
    paths = {site.name: folder / "nodes" / site.name / "state" / f"noise-{plan.run_id}.json" for site in plan.sites}
    laws = {site: NoiseLaw.from_json(path.read_bytes()) for site, path in paths.items() if path.is_file()}
    return [
        NoiseLevel(
            site=site,
            deviation_px=law.deviation_px(),
            measured=law.spectrum.pictures,
            dependent=law.spectrum.dependent,
        )
        for site, law in laws.items()
    ]


def noise_sentence(levels: list[NoiseLevel]) -> str:
    """Deviations by site."""
    return "noise added, deviation in grey levels of 255: " + ", ".join(
        f"{level.site} {level.deviation_px:.1f}" for level in levels
    )
