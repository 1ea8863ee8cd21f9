"""A plan's samples on this node: how they come in, where they lie, under which keys, and in which order they train."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from compute_node.feeding.cache_key import cache_secret
from compute_node.feeding.intake import Intake
from compute_node.feeding.mirroring import Mirroring
from compute_node.feeding.sample_cache import SampleCache
from compute_node.layers.key_bases import KeyBases
from compute_node.layers.layer_bank import LayerBank
from compute_node.layers.restore import restored_bank
from mple.model.device import CPU, Device
from mple.plan import ComputeSettings, GlobalSampler, RunPlan
from mple.plan.shares import WHOLE, Share
from mple.records.cache_records import CacheShape
from mple.records.state_files import CACHE, LAYERS, MIRRORING


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSamples:
    """What feeding, key changes and training of one plan share."""

    plan: RunPlan
    bank: LayerBank
    cache: SampleCache
    intake: Intake
    sampler: GlobalSampler

    @classmethod
    def of(cls, plan: RunPlan, settings: ComputeSettings, device: Device = CPU, share: Share = WHOLE) -> RunSamples:
        """A rank's, with the keys, layers and samples of the plan that the state folder has already.

        Raises ValueError: a file in the state folder is damaged; OSError: the disk refuses.
        """
        bank = restored_bank(settings.state / LAYERS, plan, device)
        changed = threading.Condition()
        path = settings.state / CACHE.format(plan.run_id)
        cache = SampleCache(path, CacheShape.of(plan), cache_secret(settings, path), changed)
        intake = Intake(
            plan,
            cache,
            bank,
            changed,
            in_flight_samples=settings.in_flight_samples,
            idle_timeout_s=plan.absence.patience_s,
            policy=plan.absence.policy,
            rank=share.rank,
            mirroring=Mirroring(settings.state / MIRRORING, plan),
            bases=KeyBases(plan, bank, settings.state / LAYERS),
        )
        train_images = [site.train_images for site in plan.sites]
        sampler = GlobalSampler(train_images, plan.training.batch, plan.training.seed, share)
        return cls(plan=plan, bank=bank, cache=cache, intake=intake, sampler=sampler)
