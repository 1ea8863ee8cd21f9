"""From the configuration and what the parties brought to the run plan: pure."""

from collections.abc import Mapping

from mple.model.stem import Stem, StemError, planned_stem
from mple.model.trunks import TRUNKS
from mple.morph import expected_weight_shape
from mple.plan import CoordinatorSettings, PlanError, RunPlan, SitePlan
from mple.rpc import ErrorCode, MpleError
from mple.v1 import coordinator_pb2
from mple.wire.layer_dtype import weight_bytes

_MOST_LAYER_BYTES = 16 * 1024**3
_MOST_PLAN_BYTES = 512 * 1024
"""The plan travels in one message, with a certificate for each party."""


def make_plan(
    settings: CoordinatorSettings,
    profiles: Mapping[str, coordinator_pb2.SiteProfile],
    *,
    consortium: str,
    run_id: str,
    offered: Stem | None,
) -> tuple[RunPlan, Stem]:
    """The plan and its stem.

    Args:
        settings: The coordinator's configuration.
        profiles: Of every configured site, checked against each other.
        consortium: From the coordinator's certificate.
        run_id: Of this run.
        offered: The compute node's stem; required exactly when `model.stem` is "offered".

    Raises MpleError: STEM_REJECTED when the offered stem does not fit the images; PlanError: the settings do not fit
    the images, layers would be beyond any machine, or the plan beyond a message.
    """
    first = profiles[settings.run.sites[0]]
    sites = tuple(_site(name, profiles[name]) for name in settings.run.sites)

    def plan_with(digest: bytes) -> RunPlan:
        try:
            return RunPlan(
                run_id=run_id,
                consortium=consortium,
                compute=settings.run.compute,
                channels=first.channels,
                height=first.height,
                width=first.width,
                classes=tuple(first.classes),
                sites=sites,
                custody=settings.run.custody,
                stem_digest=digest.hex(),
                **settings.sections(),
            )
        except PlanError:
            raise
        except ValueError as fault:
            raise PlanError(str(fault)) from None

    trunk = TRUNKS[settings.model.trunk]
    if not all(trunk.least_px <= side <= trunk.most_px for side in (first.height, first.width)):
        raise PlanError(
            f"images of {first.height} x {first.width} pixels; {settings.model.trunk} takes {trunk.least_px} to "
            f"{trunk.most_px} a side; set side_px in the sites' [data]"
        )
    border, kernel = settings.morph.scheme().border, settings.model.kernel
    if border > kernel // 2:
        raise PlanError(f"morph.border = {border} is wider than half of model.kernel = {kernel}; lower it")
    draft = plan_with(bytes(32))
    try:
        stem = planned_stem(draft.model, filters=draft.filters, channels=draft.channels, offered=offered)
    except StemError as fault:
        raise MpleError(ErrorCode.STEM_REJECTED, str(fault)) from None
    shape = expected_weight_shape(draft.morph.scheme(), draft.image, draft.filters, draft.model.kernel)
    needed = weight_bytes(shape, "f32")  # as whoever builds or reads it holds it in memory
    if needed > _MOST_LAYER_BYTES:
        raise PlanError(
            f'each layer would have {needed / 1024**3:.0f} GiB; choose the tiled layout (morph.preset = "compact")'
        )
    plan = plan_with(stem.digest())
    if len(plan.to_json()) > _MOST_PLAN_BYTES:
        raise PlanError(
            f"the plan has {len(plan.to_json())} bytes, allowed are {_MOST_PLAN_BYTES}; shorten the names of its "
            f"{len(plan.classes)} classes"
        )
    return plan, stem


def layer_weight_bytes(plan: RunPlan) -> int:
    """Bytes of a layer's weight under the plan, without the file's header."""
    shape = expected_weight_shape(plan.morph.scheme(), plan.image, plan.filters, plan.model.kernel)
    return weight_bytes(shape, plan.layer_dtype)


def _site(name: str, profile: coordinator_pb2.SiteProfile) -> SitePlan:
    return SitePlan(
        name=name,
        train_images=profile.train_images,
        test_images=profile.test_images,
        key_epoch=profile.key_ref.epoch,
        key_fingerprint=profile.key_ref.fingerprint.hex(),
    )
