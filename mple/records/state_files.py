"""What nodes keep in their state folders, by name; `mple.disk.locks` and `mple.audit` have files of their own there."""

from __future__ import annotations

PLAN = "plan.json"
LEDGER = "ledger.sqlite"
LOG = "log.jsonl"
METRICS = "metrics.jsonl"
OUTCOME = "outcome.json"
MODEL = "model.safetensors"
TENSORBOARD = "tensorboard"
CHECKPOINTS = "checkpoints"
LAYERS = "layers"


def cache_file(run_id: str) -> str:
    """Of the compute node: the codes that came."""
    return f"cache-{run_id}.bin"


def noise_file(run_id: str) -> str:
    """Of a site: the distribution of its noise."""
    return f"noise-{run_id}.json"


def pictures_file(run_id: str) -> str:
    """Of a site: a few pictures for its own eyes and for reports."""
    return f"pictures-{run_id}.npz"


def releases_file(run_id: str) -> str:
    """Of a site: which samples it has sent."""
    return f"releases-{run_id}.bin"
