"""What a test score is worth when a patient's pictures lie on both sides of the split.

    python -m benchmarks.patients [--sets 10] [--out results/benchmarks]

24 patients of 20 nearly equal slices, the class of each patient by coin: chance is all that can be right. Each set is
dealt to two sites and trained on twice by whole runs, with patients kept together and with `patients = "ignored"`.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

from benchmarks.machine import RESULTS, machine
from benchmarks.slices import draw_slices, save_npz
from benchmarks.whole_runs import measured_run, scratch
from mple.data import NpzSource
from mple.data.patients import Patients
from mple.plan import ModelSettings, TrainingSettings
from mple.simulate.settings import MachineSettings, SimulationSettings

_SIDE_PX = 32


def main() -> None:
    """Run the benchmark and write `patients.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=10)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    accuracies: dict[str, list[float]] = {Patients.AUTO: [], Patients.IGNORED: []}
    with scratch(None, "patients") as folder:
        for seed in range(options.sets):
            path = (folder / f"{seed}.npz").resolve()
            save_npz(draw_slices(seed, _SIDE_PX), path)
            for patients, scores in accuracies.items():
                settings = SimulationSettings(
                    sites=("north", "south"),
                    data=NpzSource(path=path, patients=Patients(patients)),
                    model=ModelSettings(width=0.0625),
                    training=TrainingSettings(epochs=12, batch=32),
                    machine=MachineSettings(trainer_threads=1),
                )
                run = measured_run(settings, folder / f"{seed}-{patients}")
                scores.append(run.summary.scores["accuracy"])
                print(f"set {seed}, patients = {patients}: test accuracy {scores[-1]:.4f}", flush=True)
    about = {
        "command": "python -m benchmarks.patients",
        "machine": machine(),
        "accuracy": accuracies,
        "mean": {patients: statistics.mean(scores) for patients, scores in accuracies.items()},
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "patients.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(about["mean"]))


if __name__ == "__main__":
    main()
