"""A site and its consortium agree: what it offers when it joins, and a plan that must say the same."""

from mple.audit import audit
from mple.machine import usable_cores
from mple.node.coordinator_client import CoordinatorClient
from mple.node.foresight import foresee_memory
from mple.node.logs import log
from mple.node.run_events import read_plan
from mple.node.together import nodes_here
from mple.plan import RunPlan, SitePlan, SiteSettings
from mple.plan.memory import RunSize, site_memory
from mple.plan.run_plan import PROTOCOL_VERSION
from mple.records.log_events import LogEvent
from mple.records.plan_file import keep_plan, kept_plan
from mple.rpc import ErrorCode, MpleError
from mple.v1 import common_pb2, coordinator_pb2
from provider_node.feeding.noising import refuse_weaker
from provider_node.site import Site


def join(site: Site, client: CoordinatorClient) -> None:
    """Join with the current key or, where the run began with an older one, with that one again.

    Raises MpleError: the coordinator refused; VaultError: the vault has no key; VaultDamagedError: its key
    is gone, or another than the one that the run rests on.
    """
    epoch = site.vault.current_epoch()
    fingerprint = site.vault.morph_key().fingerprint().hex()
    try:
        run_id = client.join(_join_request(site, epoch, fingerprint))
    except MpleError as refusal:
        kept = site.keys.kept
        if refusal.code is not ErrorCode.ALREADY_JOINED or kept is None:
            raise
        site.keys.require_key(site.vault.morph_key(), epoch)
        if kept.planned == epoch:
            raise
        epoch, fingerprint = kept.planned, kept.fingerprints[kept.planned]
        run_id = client.join(_join_request(site, epoch, fingerprint))
    site.keys.begin(run_id, epoch, fingerprint)
    site.node.ledger.run = run_id
    train_images = len(site.dataset.train.labels)
    audit("local", "join", "ok", run=run_id, train_images=train_images)
    log("joined", f"joined run {run_id} with {train_images} training images")


def agree(site: Site, made: coordinator_pb2.PlanMade) -> RunPlan:
    """The run's plan, kept in the state folder: nobody can plan other than the site has offered.

    Raises MpleError: PLAN_HASH_MISMATCH when it is another than was offered, announced, or agreed on before,
    RANKS_REJECTED when this site has not one address for each of its ranks;
    ValueError: it protects pictures less than the site asks for, or takes more memory than this machine has.
    """
    plan, settings = read_plan(made), site.settings
    epoch = site.keys.notes.planned
    fingerprint = site.keys.notes.fingerprints[epoch]
    mine, profile = plan.site(site.name), _profile(site, epoch, fingerprint)
    offered = (*_images(profile), profile.patients, epoch, fingerprint)
    planned = (*_images(mine), mine.patients, mine.key_epoch, mine.key_fingerprint)
    shape = (profile.channels, profile.height, profile.width, tuple(profile.classes), profile.task)
    if offered != planned or shape != (plan.channels, plan.height, plan.width, plan.classes, plan.task.kind):
        text = f"the plan says {planned} for this site, offered was {offered}"
        if profile.task != plan.task.kind:
            text = f"the plan is for a task of {plan.task.kind}, this site's data are for a task of {profile.task}"
        raise MpleError(ErrorCode.PLAN_HASH_MISMATCH, text)
    _require_addresses(plan, settings)
    refuse_weaker(plan, settings.privacy.most_budget_bits)
    sites = nodes_here()
    dataset, images = site.dataset, sites * sum(_images(mine))
    held = sites * sum(split.held_bytes for split in (dataset.train, dataset.val, dataset.test))
    foresee_memory(
        site_memory(plan, RunSize.of(plan), images, held, sites=sites, at_once=usable_cores()),
        "a site with its pictures" if sites == 1 else f"a process of {sites} sites like this one with their pictures",
        "take fewer pictures (most_train), name fewer sites a process, or have the run choose the tiled layout "
        "(morph.preset)",
    )
    before = kept_plan(settings.state)
    if before is not None and before.run_id == plan.run_id and before.sha256() != plan.sha256():
        raise MpleError(
            ErrorCode.PLAN_HASH_MISMATCH,
            f"plan {plan.sha256().hex()[:16]} differs from {before.sha256().hex()[:16]}, agreed on before",
        )
    keep_plan(settings.state, plan)
    audit("local", "plan", "ok", run=plan.run_id, sha256=plan.sha256().hex())
    text = f"agreed on plan {plan.sha256().hex()[:16]}"
    log(LogEvent.PLAN, text, plan=plan.sha256().hex())
    return plan


def _require_addresses(plan: RunPlan, settings: SiteSettings) -> None:
    """Refuse a plan that trains with more ranks than this site knows addresses of, or fewer."""
    ranks, known = plan.training.ranks, len(settings.compute_addresses)
    if known != ranks:
        addresses = f"{known} address{'es' * (known > 1)} of the compute node, compute and compute_ranks"
        raise MpleError(
            ErrorCode.RANKS_REJECTED,
            f"the plan has training.ranks = {ranks}, this site's file has {addresses}",
            fix=f"name those of ranks 1 to {ranks - 1} in compute_ranks" if ranks > 1 else "leave compute_ranks out",
        )


def _images(part: SitePlan | coordinator_pb2.SiteProfile) -> tuple[int, int, int]:
    return part.train_images, part.val_images, part.test_images


def _join_request(site: Site, epoch: int, fingerprint: str) -> coordinator_pb2.JoinRequest:
    profile = _profile(site, epoch, fingerprint)
    return coordinator_pb2.JoinRequest(protocol_version=PROTOCOL_VERSION, site=profile)


def _profile(site: Site, epoch: int, fingerprint: str) -> coordinator_pb2.SiteProfile:
    dataset = site.dataset
    return coordinator_pb2.SiteProfile(
        channels=dataset.train.shape.channels,
        height=dataset.train.shape.height,
        width=dataset.train.shape.width,
        classes=dataset.classes,
        task=dataset.task,
        train_images=len(dataset.train.labels),
        test_images=len(dataset.test.labels),
        val_images=len(dataset.val.labels),
        patients=dataset.patients,
        key_ref=common_pb2.KeyRef(site=site.name, epoch=epoch, fingerprint=bytes.fromhex(fingerprint)),
    )
