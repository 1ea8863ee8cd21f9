"""Runs attacks on a run and scores them."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mple.attacks.lab.attack import Attack, AttackSettings, DoesNotApplyError
from mple.attacks.lab.run_views import RunViews
from mple.attacks.lab.scoring import Score, score
from mple.records.run_folder import RunFolderError


@dataclass(frozen=True, kw_only=True, slots=True)
class AttackOutcome:
    """What came of one attack."""

    attack: Attack
    seconds: float
    """Of the attack itself, reading layers included, scoring not."""
    score: Score | None
    """None where the attack does not apply."""
    why_not: str = ""


def attack_run(attacks: Sequence[Attack], views: RunViews, settings: AttackSettings) -> Iterator[AttackOutcome]:
    """Run one attack after the other; each outcome comes as soon as it is there.

    Raises RunFolderError: the folder lacks what an adversary would hold, or an attack can't reckon with it.
    """
    for attack in attacks:
        attempt = attack.against(views)
        began_s = time.monotonic()
        try:
            finding = attempt(settings)
        except DoesNotApplyError as fault:
            yield AttackOutcome(attack=attack, seconds=time.monotonic() - began_s, score=None, why_not=str(fault))
            continue
        except (RuntimeError, ArithmeticError, MemoryError) as fault:  # what torch says of singular or huge matrices
            raise RunFolderError(f"{attack.name} can't work with what the folder holds: {fault}") from fault
        seconds = time.monotonic() - began_s
        del attempt  # and the view with it: the truth is read without
        yield AttackOutcome(attack=attack, seconds=seconds, score=score(attack, finding, views.truth))
