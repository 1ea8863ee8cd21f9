"""Review of a layer before its release: readable, of the plan's shape, finite, from the plan's stem, and in agreement
with the layer that was released first, all without knowing a key: a site's next key gives other values, yet agrees.

A layer for coefficients is probed with smooth vectors alone, see `mple.morph.verify`: what it makes of fine detail is
not seen.

Not caught: differences below the rounding of the layers' numbers (a flipped low bit of a value), and a layer that is
right but belongs to another key than its site morphs with. Layers of uniform cores are checked for shape and finiteness
only.
"""

import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mple.model.stem import Stem
from mple.morph import Ensemble
from mple.morph.augmented import AugmentedLayer
from mple.morph.verify import (
    CONSISTENCY_TOLERANCE,
    SMOOTH_STEM_TOLERANCE,
    SMOOTH_TOLERANCE,
    consistency_response,
    layer_faults,
    layers_deviation,
    stem_deviation,
)
from mple.node.logs import log, warn
from mple.plan import RunPlan
from mple.records.layer_list import read_planned_layer
from mple.rpc import ErrorCode, MpleError
from mple.wire.layer_file import LayerFileError


@dataclass(frozen=True, slots=True)
class ReferenceLayer:
    """The layer that was released first, and how many have been released."""

    site: str
    path: Path
    accepted: int


class LayerReview:
    """The review of one run's layers; the reference's response is made once."""

    def __init__(self, plan: RunPlan, stem: Stem, probe: bytes) -> None:
        """Review under a plan.

        Args:
            plan: The run's plan.
            stem: The plan's stem.
            probe: Secret of the run that the compared vector is drawn from: who knew it could please it.
        """
        self._plan, self._stem, self._probe = plan, stem, probe
        self._response: tuple[Path, NDArray[np.float64]] | None = None
        self.lock = threading.Lock()
        """Held from `check` to the release, so that layers are compared in the order of their release."""

    def check(self, site: str, path: Path, reference: ReferenceLayer | None) -> None:
        """Check a site's layer file. Raises MpleError: LAYER_REJECTED; the text says why."""
        layer = self._read(path)
        faults = layer_faults(layer, self._stem.kernels_FCpp, self._plan.layer_dtype)
        if faults:
            raise MpleError(ErrorCode.LAYER_REJECTED, f"layer of site {site}: {'; '.join(faults)}")
        if layer.scheme.ensemble is not Ensemble.ORTHOGONAL:
            text = f"layer of site {site}: uniform cores, so norm and agreement with other sites can't be checked"
            warn("layer_unchecked", text, site=site)
            return
        for_coefficients = layer.coefficients is not None
        allowed = SMOOTH_STEM_TOLERANCE if for_coefficients else CONSISTENCY_TOLERANCE[self._plan.layer_dtype]
        deviation = stem_deviation(layer, self._stem.kernels_FCpp, self._probe)
        if not deviation <= allowed:
            text = f"layer of site {site} deviates from what the stem gives under any key by {deviation:.1e}"
            raise MpleError(ErrorCode.LAYER_REJECTED, f"{text} (allowed {allowed:.0e}): another stem, or none")
        response = consistency_response(layer, self._probe)
        if reference is None or reference.path == path:
            self._response = (path, response)
            return
        allowed = SMOOTH_TOLERANCE if for_coefficients else allowed
        deviation = layers_deviation(layer, self._reference_response(reference), response)
        if not deviation <= allowed:
            raise MpleError(ErrorCode.LAYER_REJECTED, disagreement(site, deviation, allowed, reference))
        log(
            "layer_consistent",
            f"layer of site {site} agrees with that of {reference.site} to {deviation:.1e}",
            site=site,
        )

    def _reference_response(self, reference: ReferenceLayer) -> NDArray[np.float64]:
        if self._response is None or self._response[0] != reference.path:
            self._response = (reference.path, consistency_response(self._read(reference.path), self._probe))
        return self._response[1]

    def _read(self, path: Path) -> AugmentedLayer:
        try:
            return read_planned_layer(path, self._plan)
        except LayerFileError as fault:
            raise MpleError(ErrorCode.LAYER_REJECTED, str(fault)) from None


def disagreement(site: str, deviation: float, allowed: float, reference: ReferenceLayer) -> str:
    """What a deviating layer's site is told."""
    text = f"layer of site {site} deviates from that of site {reference.site} by {deviation:.1e}"
    text += f" (allowed {allowed:.0e}): another stem, channel order or scheme"
    if reference.accepted > 1:
        return f"{text}; {reference.accepted} sites' layers agree with each other"
    return f"{text}; only the keys could show which of the two is wrong; the later one is refused"
