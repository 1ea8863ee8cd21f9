"""The server of a Flower federation: federated averaging (McMahan et al., 2017) over gRPC, in Flower's own environment.

    python -m comparison.elsewhere.flower_server FOLDER ADDRESS

After each round it scores the averaged network on the test pictures that it was given; these do not cross the wire, and
the time for them is not the round's.

Legend: N pictures.
"""

import sys
import time
from pathlib import Path
from typing import Any

import flwr.server  # type: ignore[import-not-found]
import numpy as np
import torch
from flwr.common import ndarrays_to_parameters  # type: ignore[import-not-found]
from flwr.server.strategy import FedAvg  # type: ignore[import-not-found]

from comparison.elsewhere.flower_site import Run, exchanged, put
from comparison.elsewhere.steps import step_teller
from comparison.peak_memory import peak_memory_bytes
from mple.model.training import TrunkTrainer

_SCORED_AT_ONCE = 250


def main(folder: Path, address: str) -> None:
    """Serve all rounds; tell each round's end, and at last the use of this process."""
    tell = step_teller()
    run, manager = Run(folder), flwr.server.SimpleClientManager()
    pixels_NCHW, labels_N = np.load(folder / "test_pixels.npy"), torch.from_numpy(np.load(folder / "test_labels.npy"))
    trunk = run.trunk()
    first = ndarrays_to_parameters(exchanged(trunk))
    began = 0.0

    def score(number: int, arrays: Any, _config: dict[str, Any]) -> tuple[float, dict[str, Any]]:
        nonlocal began
        fitted = time.monotonic()
        if number == 0 and not manager.wait_for(len(run.sites)):
            raise TimeoutError("not all sites came")
        put(trunk, arrays)
        trainer = TrunkTrainer(trunk, run.training, 2)
        correct = 0
        for low in range(0, len(labels_N), _SCORED_AT_ONCE):
            logits = trainer.logits(run.features(pixels_NCHW[low : low + _SCORED_AT_ONCE], trainer))
            correct += int((logits.argmax(1) == labels_N[low : low + _SCORED_AT_ONCE]).sum())
        accuracy = correct / len(labels_N)
        tell(
            {
                "step": "round",
                "round": number,
                "seconds": fitted - began if number else 0.0,
                "score_seconds": time.monotonic() - fitted if number else 0.0,
                "test_accuracy": accuracy,
                "loss": strategy.loss,
            }
        )
        began = time.monotonic()
        return 1.0 - accuracy, {}

    strategy = _AllOrNothing(
        fraction_evaluate=0.0,
        min_fit_clients=len(run.sites),
        min_available_clients=len(run.sites),
        initial_parameters=first,
        on_fit_config_fn=lambda number: {"round": number},
        evaluate_fn=score,
    )
    tell({"step": "loaded"})
    flwr.server.start_server(
        server_address=address,
        config=flwr.server.ServerConfig(num_rounds=run.rounds),
        client_manager=manager,
        strategy=strategy,
    )
    tell({"step": "done", "peak_bytes": peak_memory_bytes()})


class _AllOrNothing(FedAvg):  # type: ignore[misc]
    """A round in which a site failed ends the run: its figures would be another federation's."""

    loss: float | None = None
    """Mean over the samples of the last round."""

    def aggregate_fit(self, server_round: int, results: Any, failures: Any) -> Any:
        """Average, weighted by samples."""
        if failures:
            raise RuntimeError(f"round {server_round}: {failures[0]!r}")
        samples = [result.num_examples for _, result in results]
        self.loss = float(np.average([result.metrics["loss"] for _, result in results], weights=samples))
        return super().aggregate_fit(server_round, results, failures)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
