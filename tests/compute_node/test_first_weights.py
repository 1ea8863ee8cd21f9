"""The compute node's file of weights against the plan: another file, or one that does not fit, ends the run by name."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from compute_node.compute_run import first_trunk
from mple.model.initial_weights import InitialWeights
from mple.model.settings import ModelSettings, WeightsFrom
from mple.model.stem import planned_stem
from mple.plan import RunPlan
from mple.rpc import ErrorCode, MpleError
from tests.support.small_plan import small_plan
from tests.support.torchvision_vgg16 import TorchvisionVgg16, lived_in

WIDTH = 0.125


@pytest.fixture
def weights(tmp_path: Path) -> InitialWeights:
    path = tmp_path / "vgg16_bn.safetensors"
    save_file(lived_in(TorchvisionVgg16(batch_norm=True, width=WIDTH)).state_dict(), path)
    return InitialWeights.from_file(path)


def planned(weights: InitialWeights, **changes: str) -> RunPlan:
    """The plan of a run that begins with these weights, for grey pictures."""
    plan = small_plan(model=ModelSettings(width=WIDTH, weights=WeightsFrom.FEATURES))
    stem = planned_stem(plan.model, filters=plan.filters, channels=1, offered=weights.stem)
    digests = {"stem_digest": stem.digest().hex(), "weights_digest": weights.sha256.hex()}
    return dataclasses.replace(plan, **{**digests, **changes})


def test_the_plans_file_gives_the_trunk(weights: InitialWeights) -> None:
    trunk = first_trunk(planned(weights), weights)
    assert torch.equal(trunk.state_dict()["features.2.weight"], weights.convolutions["features.2.weight"])


def test_any_other_file_is_refused(weights: InitialWeights) -> None:
    plan = planned(weights)
    refused = {
        "plan says 0d0d0d0d": (planned(weights, weights_digest="0d" * 32), weights),
        "the plan's stem is not the one of the file": (planned(weights, stem_digest="0e" * 32), weights),
        "file has digest none": (plan, None),
        "the plan says none": (small_plan(), weights),
    }
    for text, (followed, held) in refused.items():
        with pytest.raises(MpleError, match=text) as caught:
            first_trunk(followed, held)
        assert caught.value.code is ErrorCode.WEIGHTS_REJECTED
