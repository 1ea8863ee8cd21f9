"""How a network is judged: tallies that add up over sites, the metrics made of them, and their texts; numpy alone.

A site has logits and labels; what leaves it are tallies (`TALLIES`); whoever has their sums has the metrics
(`METRICS`). Both tables go by name.
"""

from mple.metrics.outputs import Outputs, probabilities
from mple.metrics.settings import MetricSettings
from mple.metrics.tallies import TALLIES, Tally, merged, reordered, require_tallies, tallies
from mple.metrics.text import epoch_text, score_text, scores_text, summary_scores
from mple.metrics.values import METRICS, Metric, require_scores, thresholds, values, values_by_class

__all__ = [
    "METRICS",
    "TALLIES",
    "Metric",
    "MetricSettings",
    "Outputs",
    "Tally",
    "epoch_text",
    "merged",
    "probabilities",
    "reordered",
    "require_scores",
    "require_tallies",
    "score_text",
    "scores_text",
    "summary_scores",
    "tallies",
    "thresholds",
    "values",
    "values_by_class",
]
