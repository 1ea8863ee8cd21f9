"""How much noise each site of a run has added, from the distributions that the sites keep in their state folders."""

from dataclasses import dataclass

from mple.disk.bounded import read_bounded
from mple.disk.damage import without_checksum
from mple.plan import PrivacyMode, RunPlan
from mple.privacy import NoiseDistribution
from mple.records.run_folder import RunFolder
from mple.records.state_files import NOISE


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


def noise_levels(folder: RunFolder, plan: RunPlan) -> list[NoiseLevel]:
    """Of the sites whose distribution is in the run folder, in the plan's order; none where the plan has no noise.

    Raises ValueError: a distribution is damaged.
    """
    if plan.privacy.mode is PrivacyMode.NONE:
        return []
    paths = {site.name: folder.state(site.name) / NOISE.format(plan.run_id) for site in plan.sites}
    distributions = {
        site: NoiseDistribution.from_json(without_checksum(read_bounded(path), path))
        for site, path in paths.items()
        if path.is_file()
    }
    return [
        NoiseLevel(
            site=site,
            deviation_px=distribution.deviation_px(),
            measured=distribution.spectrum.pictures,
            dependent=distribution.spectrum.dependent,
        )
        for site, distribution in distributions.items()
    ]


def noise_sentence(levels: list[NoiseLevel]) -> str:
    """Deviations by site."""
    sites = ", ".join(f"{level.site} {level.deviation_px:.1f}" for level in levels)
    return f"noise added, deviation in grey levels of 255: {sites}"
