"""From the configuration and what the parties brought to the run plan: pure."""

from collections.abc import Mapping

from mple.data.images import PatientSplit
from mple.model.stem import Stem, StemError, planned_stem
from mple.morph import ImageShape, expected_weight_shape
from mple.plan import CoordinatorSettings, PlanError, RunPlan, SitePlan
from mple.plan.fit import check_images
from mple.rpc import ErrorCode, MpleError
from mple.v1 import coordinator_pb2
from mple.wire.basis_file import most_coding_bytes
from mple.wire.layer_dtype import weight_bytes
from mple.wire.names import LAYER_DTYPES

_MOST_PLAN_BYTES = 512 * 1024
"""The plan travels in one message, with a certificate for each party."""


def make_plan(
    settings: CoordinatorSettings,
    profiles: Mapping[str, coordinator_pb2.SiteProfile],
    *,
    consortium: str,
    run_id: str,
    offered: Stem | None,
    weights_digest: bytes = b"",
) -> tuple[RunPlan, Stem]:
    """The plan and its stem.

    Args:
        settings: The coordinator's configuration.
        profiles: Of every configured site, checked against each other.
        consortium: From the coordinator's certificate.
        run_id: Of this run.
        offered: The compute node's stem; required exactly when it is to bring one.
        weights_digest: Of its file of first weights, where it has one.

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
                weights_digest=weights_digest.hex(),
                **settings.sections(),
            )
        except PlanError:
            raise
        except ValueError as fault:
            raise PlanError(str(fault)) from None

    check_images(image_of(first), settings)
    draft = plan_with(bytes(32))
    try:
        stem = planned_stem(draft.model, filters=draft.filters, channels=draft.channels, offered=offered)
    except StemError as fault:
        raise MpleError(ErrorCode.STEM_REJECTED, str(fault)) from None
    plan = plan_with(stem.digest())
    if len(plan.to_json()) > _MOST_PLAN_BYTES:
        raise PlanError(
            f"the plan has {len(plan.to_json())} bytes, allowed are {_MOST_PLAN_BYTES}; shorten the names of its "
            f"{len(plan.classes)} classes, or take fewer than its {len(plan.sites)} sites"
        )
    return plan, stem


def image_of(profile: coordinator_pb2.SiteProfile) -> ImageShape:
    """The shape of a site's images."""
    return ImageShape(channels=profile.channels, height=profile.height, width=profile.width)


def layer_weight_bytes(plan: RunPlan) -> tuple[int, int]:
    """The least and the most bytes of a layer's tensors under the plan, without the file's header: of a layer for
    coefficients nobody but its site knows how many it has."""

    def weight(coefficients: int | None) -> int:
        shape = expected_weight_shape(scheme, plan.image, plan.filters, plan.model.kernel, coefficients)
        return weight_bytes(shape, plan.layer_dtype if plan.layer_dtype in LAYER_DTYPES else "f32")

    scheme, geometry = plan.morph.scheme(), plan.geometry
    if not plan.coefficient_layers:
        return weight(None), weight(None)
    most_coding = most_coding_bytes(geometry.cores(scheme), geometry.core_side)
    return weight(1) if plan.layer_dtype in LAYER_DTYPES else 0, weight(None) + most_coding


def _site(name: str, profile: coordinator_pb2.SiteProfile) -> SitePlan:
    return SitePlan(
        name=name,
        train_images=profile.train_images,
        test_images=profile.test_images,
        val_images=profile.val_images,
        key_epoch=profile.key_ref.epoch,
        key_fingerprint=profile.key_ref.fingerprint.hex(),
        patients=PatientSplit(profile.patients),
    )
