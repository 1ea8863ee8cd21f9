"""Brute force and guessing, by the papers' formulas with the numbers of this run.

These are the figures that the papers rest on (MoLe: 1/64! = 7.9e-90 for the channel order). They count how many keys
there are and say nothing on how one is found: the other attacks need no guess. The formula for the core is
reconstructed, the papers' text could not be had: q² unknown values of so many bits each.
"""

import math

from mple.attacks.lab.adversary import Outsider
from mple.attacks.lab.attack import Attack, AttackSettings, Figure, Finding
from mple.attacks.lab.run_views import OUTSIDER
from mple.morph import Cores
from mple.morph.keys import SEED_BYTES
from mple.privacy.protection import pairs_that_open

_VALUE_BITS = 8
"""Of a core's value, as coarse as pixels are."""


def run(view: Outsider, settings: AttackSettings) -> Finding:
    """Count the choices that a guess has to hit."""
    plan = view.plan
    geometry = plan.geometry
    cores = geometry.blocks if plan.morph.scheme().cores is Cores.DISTINCT else 1
    unknown = cores * geometry.core_side**2
    return Finding(
        figures=(
            Figure("channel order by one guess, 1/F!", _power_of_ten(math.lgamma(plan.filters + 1) / math.log(10))),
            Figure(
                f"cores by one guess, {unknown:,} values of {_VALUE_BITS} bits",
                _power_of_ten(unknown * _VALUE_BITS * math.log10(2)),
            ),
            Figure(
                f"the seed that the cores are drawn from, {8 * SEED_BYTES} bits",
                _power_of_ten(8 * SEED_BYTES * math.log10(2)),
            ),
            Figure("known pairs that the papers count on, q", geometry.core_side),
            Figure("known pairs that linear algebra needs", pairs_that_open(plan)),
        )
    )


def _power_of_ten(digits: float) -> str:
    """10^-digits, also where no float can hold it."""
    whole = math.ceil(digits)
    return f"{10 ** (whole - digits):.1f}e-{whole}"


ATTACK = Attack.by(
    name="guessing", adversary=OUTSIDER, claim="one guess at order, cores or seed, by the papers' formulas", run=run
)
