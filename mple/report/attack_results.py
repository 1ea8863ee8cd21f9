"""What `mple attack` has left in a run's folder, for its page: the records of `attacks.json` and the galleries."""

import base64
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from mple.plan import RunPlan
from mple.records.attack_results import ATTACKS, AttackFigure, AttackRecord, read_attacks

_MOST_GALLERY_BYTES = 2_000_000


@dataclass(frozen=True, slots=True)
class AttackResults:
    """All attacks on a run; none where nobody has attacked it, or the file is damaged or another run's."""

    attacks: tuple[AttackRecord, ...]
    galleries: Mapping[str, str]
    """Data URIs by the attack's name."""

    @property
    def sites(self) -> str:
        """Names of the sites under attack."""
        return ", ".join(dict.fromkeys(attack.settings.site for attack in self.attacks))


def attack_results(folder: Path, plan: RunPlan, shown: Collection[str]) -> AttackResults:
    """The results in a run's folder, and galleries of attacks on the sites whose pictures may be `shown`: in a gallery
    they are in the clear and morphed, too."""
    attacks = read_attacks(folder / ATTACKS, plan).attacks
    drawn = {attack.name: attack.gallery for attack in attacks if attack.settings.site in shown and attack.gallery}
    return AttackResults(attacks, {name: _gallery(folder, gallery) for name, gallery in drawn.items()})


def figure_text(figure: AttackFigure) -> str:
    """A figure's value with its unit."""
    value = figure.value
    text = f"{value:.4g}" if isinstance(value, float) else "infinite" if value is None else str(value)
    return f"{text} {figure.unit}".strip()


def _gallery(folder: Path, name: str) -> str:
    """Only from below the folder, whatever the file says."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()) or path.suffix != ".png" or not path.is_file():
        return ""
    if path.stat().st_size > _MOST_GALLERY_BYTES:
        return ""
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
