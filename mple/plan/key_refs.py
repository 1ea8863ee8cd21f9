"""The message that names a site's key in a plan: every batch and every layer carries one."""

from mple.plan.run_plan import RunPlan
from mple.v1 import common_pb2


def key_ref(plan: RunPlan, site: str) -> common_pb2.KeyRef:
    """Site, key epoch and fingerprint as the plan has them. Raises PlanError: the plan has no such site."""
    part = plan.site(site)
    return common_pb2.KeyRef(site=site, epoch=part.key_epoch, fingerprint=bytes.fromhex(part.key_fingerprint))
