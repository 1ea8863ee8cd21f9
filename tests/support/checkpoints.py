"""A place in a training, for tests of checkpoints and of what goes on from them."""

from compute_node.training.checkpoint import Position
from mple.plan.keeping import Judged

PLAN = "ab" * 32
POSITION = Position(
    plan_sha256=PLAN,
    epoch=1,
    step=2,
    steps_done=12,
    train_seconds=3.5,
    epoch_seconds=0.1,
    spent_seconds={"first_layer": 0.25, "samples": 0.125},
    read_ahead_seconds=0.5,
    samples_trained=120,
    metrics_bytes=77,
    ledger_messages=5,
    judged=Judged(),
    kept="",
)
