"""What a compute node tells Prometheus beyond other nodes: samples, the training, where the trainer's time goes."""

from collections.abc import Iterator

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from compute_node.feeding.sample_cache import SampleCache
from compute_node.training.trainer_time import IDLE
from compute_node.training.training_run import TrainingRun
from mple.meter import Direction, Ledger, MessageKind
from mple.v1 import common_pb2

_SPLITS = {
    "train": (MessageKind.DATA, common_pb2.SPLIT_TRAIN),
    "val": (MessageKind.VAL_DATA, common_pb2.SPLIT_VAL),
    "test": (MessageKind.TEST_DATA, common_pb2.SPLIT_TEST),
}


class SampleMetrics(Collector):
    """Samples that have come in, by the ledger, and that are here, by the cache."""

    def __init__(self, ledger: Ledger, cache: SampleCache) -> None:
        self._ledger, self._cache = ledger, cache

    def collect(self) -> Iterator[Metric]:
        """Both, with the values of now."""
        received = CounterMetricFamily(
            "mple_received_samples", "Samples in received messages, each time counted.", labels=["split"]
        )
        cached = GaugeMetricFamily("mple_cached_samples", "Different samples in the cache.", labels=["split"])
        tallies = self._ledger.tallies().items()
        for name, (kind, split) in _SPLITS.items():
            came = (tally for of, tally in tallies if of.kind == kind and of.direction is Direction.RECEIVED)
            received.add_metric([name], sum(tally.samples for tally in came))
            cached.add_metric([name], float(self._cache.held(split).sum()))
        yield received
        yield cached


class TrainingMetrics(Collector):
    """One training. Its counters go back to those of the checkpoint when the node was killed and goes on."""

    def __init__(self, run: TrainingRun) -> None:
        self._run = run

    def collect(self) -> Iterator[Metric]:
        """All families, with the values of now."""
        state = self._run.state
        yield CounterMetricFamily("mple_trained_samples", "Samples in steps of training.", value=state.samples_trained)
        yield CounterMetricFamily("mple_training_steps", "Steps of training.", value=state.steps_done)
        yield GaugeMetricFamily("mple_training_epoch", "Epoch, counted from 1.", value=state.epoch)
        yield GaugeMetricFamily("mple_training_learning_rate", "Of the next step.", value=state.learning_rate)
        if state.loss is not None:
            yield GaugeMetricFamily("mple_training_step_loss", "Mean loss of the last step in nats.", value=state.loss)
        text = "Of validation after the last whole epoch, by the sites' tallies."
        scores = GaugeMetricFamily("mple_val_score", text, labels=["metric"])
        for name, value in state.scores.items():
            scores.add_metric([name], value)
        yield scores
        text = "Of the network that is kept, at the end, by the sites' tallies."
        scores = GaugeMetricFamily("mple_test_score", text, labels=["metric"])
        for name, value in state.test_scores.items():
            scores.add_metric([name], value)
        yield scores
        yield from self._time()

    def _time(self) -> Iterator[Metric]:
        run, spent = self._run, self._run.time.seconds()
        idle = CounterMetricFamily(
            "mple_trainer_idle_seconds", "Time in which the trainer waited, by what for.", labels=["cause"]
        )
        for use in IDLE:
            idle.add_metric([use.value], spent[use])
        yield idle
        text = "Time of the trainer in augmented layers."
        yield CounterMetricFamily("mple_augmented_layer_seconds", text, value=run.time.first_layer_seconds)
        text = "Time in reading and decoding samples, beside the trainer."
        yield CounterMetricFamily("mple_read_ahead_seconds", text, value=run.read_ahead_seconds)
        if run.over:
            return
        text = "Between the last two lines of metrics.jsonl."
        yield GaugeMetricFamily("mple_training_samples_per_second", text, value=run.state.samples_per_second)
        text = "Training that would have to be done again if the node were killed now."
        yield GaugeMetricFamily("mple_checkpoint_age_seconds", text, value=run.checkpoint_age_s)
