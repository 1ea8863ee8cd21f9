"""One line that says what the settings of a run protect from, worked out from its plan. Pure."""

from mple.morph import Cores, Ensemble, Layout
from mple.plan import Custody, PrivacyMode, RunPlan


def protection(plan: RunPlan) -> str:
    """What the settings of a run protect its pictures from, and what not."""
    count = pairs_that_open(plan)
    known = (
        "a single picture known with its morphed form gives"
        if count == 1
        else (f"{count:,} pictures known with their morphed forms give")
    )
    outsiders = f"Morphed data alone hide pictures from the eye, {_from_statistics(plan)}; {known} a site's key"
    insiders = "the compute node, which holds the layers and the first convolution, recovers every picture"
    if plan.custody is Custody.ESCROW:
        insiders = "the coordinator holds the morph keys, and " + insiders
    if plan.privacy.mode is PrivacyMode.NONE:
        return f"{outsiders}; {insiders}."
    return (
        f"{outsiders}; {insiders}, but only under {plan.privacy.shape} noise: all other parties together get at most "
        f"{plan.privacy.budget_bits:g} bits of each, its label apart."
    )


def _from_statistics(plan: RunPlan) -> str:
    """What an outsider with public pictures of the same kind makes of morphed data: docs/science/attacks.md."""
    scheme = plan.morph.scheme()
    if scheme.ensemble is Ensemble.UNIFORM:
        return "and no attack of the lab opens them without more"
    if scheme.layout is Layout.TILED:
        return "not from statistics of public pictures of the same kind, which open them"
    return "not from statistics of public pictures of the same kind, which bring out blurred ones"


def pairs_that_open(plan: RunPlan) -> int:
    """Pictures known together with their morphed forms from which a core follows by linear algebra. Each picture gives
    one equation for each row of each block that bears the core."""
    geometry = plan.geometry
    bearing = geometry.blocks if plan.morph.scheme().cores is Cores.IDENTICAL else 1
    return -(-geometry.core_side // bearing)
