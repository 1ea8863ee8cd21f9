"""Making the plan from the run's settings and what the parties brought. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from mple.model import Stem
from mple.plan import CoordinatorSettings, RunPlan, SitePlan
from mple.rpc import ErrorCode, MpleError
from mple.v1 import coordinator_pb2


def make_plan(
    settings: CoordinatorSettings,
    consortium: str,
    run_id: str,
    profiles: Mapping[str, coordinator_pb2.SiteProfile],
    offered: Stem | None,
) -> tuple[RunPlan, Stem]:
    """The plan and its stem, once every party has joined.

    Args:
        settings: The run's.
        consortium: Its consortium.
        run_id: Its id.
        profiles: By site name.
        offered: The stem that the compute node brought, if any.

    Raises:
        MpleError: STEM_REJECTED when the offered stem is missing or does not fit.
        ValueError: Settings and images contradict each other.
    """
    first = profiles[settings.run.sites[0]]
    filters = max(8, round(64 * settings.model.width))
    stem = _stem(settings, filters, first.channels, offered)
    plan = RunPlan(
        run_id=run_id,
        consortium=consortium,
        compute=settings.run.compute,
        channels=first.channels,
        height=first.height,
        width=first.width,
        classes=tuple(first.classes),
        sites=tuple(
            SitePlan(
                name=name,
                train_images=profiles[name].train_images,
                test_images=profiles[name].test_images,
                key_epoch=profiles[name].key_ref.epoch,
                key_fingerprint=profiles[name].key_ref.fingerprint.hex(),
            )
            for name in settings.run.sites
        ),
        custody=settings.run.custody,
        stem_digest=stem.digest().hex(),
        morph=settings.morph,
        wire=settings.wire,
        model=settings.model,
        training=settings.training,
        normalisation=settings.normalisation,
    )
    return plan, stem


def _stem(settings: CoordinatorSettings, filters: int, channels: int, offered: Stem | None) -> Stem:
    kernel = settings.model.kernel
    if settings.model.stem == "seed":
        return Stem.from_seed(settings.model.stem_seed, filters=filters, channels=channels, kernel=kernel)
    if offered is None:
        raise MpleError(ErrorCode.STEM_REJECTED, "the plan takes an offered stem, the compute node brought none")
    found = tuple(offered.kernels_FCpp.shape)
    if found != (filters, channels, kernel, kernel):
        raise MpleError(
            ErrorCode.STEM_REJECTED, f"the offered stem is {found}, the run needs {(filters, channels, kernel, kernel)}"
        )
    return offered
