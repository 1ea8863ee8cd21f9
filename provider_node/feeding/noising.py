"""A site's noise for a run: measured of its training pictures once, kept in its state folder, drawn from its vault.

The distribution is kept so that a restart draws the same noise whatever this machine's arithmetic does by then. It is
the site's: nothing sends it.
"""

from pathlib import Path

from mple.audit import audit
from mple.data import LabelledImages
from mple.disk.damage import with_checksum, without_checksum
from mple.disk.whole_files import write_whole
from mple.node.logs import log, warn
from mple.pki import Vault
from mple.plan import PrivacyMode, RunPlan
from mple.privacy import NoiseDistribution, PictureNoise, measure_spectrum
from mple.records.state_files import NOISE


def refuse_weaker(plan: RunPlan, most_bits: float | None) -> None:
    """Refuse a plan that lets more leave of a picture than the site allows.

    Raises ValueError: it has no noise, or a larger budget.
    """
    planned = plan.privacy.budget_bits if plan.privacy.mode is PrivacyMode.NOISE else float("inf")
    if most_bits is not None and planned > most_bits:
        bound = "without noise" if planned == float("inf") else f"of privacy.budget_bits = {planned:g}"
        raise ValueError(
            f"this site's privacy.most_budget_bits is {most_bits:g}, the run is one {bound}; it takes no part"
        )


def begin_noise(plan: RunPlan, state: Path, vault: Vault, train: LabelledImages) -> PictureNoise | None:
    """The noise that a plan asks for, None where it asks for none; measured and recorded at first use.

    Raises ValueError: the pictures are too few to calibrate on, or the kept distribution is damaged or of other
    settings; VaultError: the vault can't be read; VaultDamagedError: the secret that pictures have left under is gone.
    """
    if plan.privacy.mode is PrivacyMode.NONE:
        return None
    noise = ready_noise(plan, state, vault, train)
    assert noise is not None, "the plan asks for it"
    _record(plan, noise.distribution, earlier_bits(state, noise.distribution), runs_without_noise(state, plan))
    return noise


def ready_noise(plan: RunPlan, state: Path, vault: Vault, train: LabelledImages) -> PictureNoise | None:
    """As `begin_noise`, before anything leaves: nothing is recorded."""
    if plan.privacy.mode is PrivacyMode.NONE:
        return None
    path = _path(plan, state)
    vault.noise_secret(new=not _kept(state))  # before there is a distribution: with one, the secret is in use
    if not path.exists():
        spectrum = measure_spectrum(train.pixels_NCHW, plan.normalisation)
        distribution = NoiseDistribution(spectrum=spectrum, privacy=plan.privacy, normalisation=plan.normalisation)
        write_whole(path, with_checksum(distribution.to_json()))
    return kept_noise(plan, state, vault)


def kept_noise(plan: RunPlan, state: Path, vault: Vault) -> PictureNoise | None:
    """The noise of a run that the site has taken part in, None where its plan asks for none.

    Raises ValueError: the distribution is not in the state folder, damaged, or of other settings; VaultError: the vault
    can't be read.
    """
    if plan.privacy.mode is PrivacyMode.NONE:
        return None
    path = _path(plan, state)
    if not path.exists():
        raise ValueError(
            f"no noise distribution at {path}; without it nothing leaves under run {plan.run_id}, restore the file"
        )
    distribution = _read(path)
    if (distribution.privacy, distribution.normalisation, distribution.spectrum.image) != (
        plan.privacy,
        plan.normalisation,
        plan.image,
    ):
        raise ValueError(f"{path} was made for other settings than those of run {plan.run_id}; remove it")
    return PictureNoise(vault.noise_secret(new=False), distribution)


def earlier_bits(state: Path, distribution: NoiseDistribution) -> float:
    """Sum of the budgets of earlier noise, of other distributions, in bits: they add to the present budget.

    Runs under an equal distribution draw equal noise and add nothing.

    Raises ValueError: a kept distribution is damaged.
    """
    distributions = {kept.digest(): kept for kept in map(_read, _kept(state))}
    return sum(kept.privacy.budget_bits for digest, kept in distributions.items() if digest != distribution.digest())


def runs_without_noise(state: Path, plan: RunPlan) -> int:
    """Earlier runs of the site, by its release books, in which pictures left without noise."""
    fed = {path.stem.removeprefix("releases-") for path in state.glob("releases-*.bin")}
    noisy = {path.stem.removeprefix("noise-") for path in _kept(state)}
    return len(fed - noisy - {plan.run_id})


def _record(plan: RunPlan, distribution: NoiseDistribution, earlier: float, bare: int) -> None:
    facts: dict[str, str | int | float] = {
        "shape": str(distribution.privacy.shape),
        "budget_bits": distribution.privacy.budget_bits,
        "deviation_px": round(distribution.deviation_px(), 2),
        "measured": distribution.spectrum.pictures,
        "dependent": distribution.spectrum.dependent,
        "earlier_bits": earlier,
        "runs_without_noise": bare,
    }
    audit("local", "noise", "ok", run=plan.run_id, distribution=distribution.digest().hex(), **facts)
    text = (
        f"every picture gets {distribution.privacy.shape} noise of deviation {distribution.deviation_px():.1f} "
        f"grey levels: at most {distribution.privacy.budget_bits:g} bits of it leave"
    )
    log("noise", text, **facts)
    if earlier:
        text = f"earlier runs under other noise have released up to {earlier:g} bits of a picture: budgets add up"
        warn("noise_adds_up", text, **facts)
    if bare:
        text = f"pictures of this site have left without noise in {bare} earlier runs; for those, noise comes too late"
        warn("noise_too_late", text, **facts)
    if distribution.spectrum.dependent:
        text = (
            f"{distribution.spectrum.dependent} of {distribution.spectrum.pictures} training pictures would change "
            "the noise by their absence, so that the noise itself may tell of them; more pictures help"
        )
        warn("noise_dependent", text, **facts)


def _path(plan: RunPlan, state: Path) -> Path:
    return state / NOISE.format(plan.run_id)


def _read(path: Path) -> NoiseDistribution:
    return NoiseDistribution.from_json(without_checksum(path.read_bytes(), path))


def _kept(state: Path) -> list[Path]:
    return sorted(state.glob("noise-*.json"))
