"""Simulation: a whole consortium on one machine, by the very commands and configuration files of a deployment.

`RunFolder` lays out certificates and one configuration per node, `Children` starts and stops the node commands,
`Progress` (pure) makes a state of what the nodes write, `Screen` shows it, `simulate` ties them together.
`mple.simulate.repeat` does a finished run once more, bit for bit; `mple.simulate.chaos` kills, holds and cuts off nodes
by a schedule (`chaos_schedule`, pure) and `chaos_proof` compares the two.
"""

from mple.simulate.run_folder import RunFolder, lay_out, new_folder
from mple.simulate.runner import SimulationError, simulate
from mple.simulate.settings import MachineSettings, SimulationSettings

__all__ = [
    "MachineSettings",
    "RunFolder",
    "SimulationError",
    "SimulationSettings",
    "lay_out",
    "new_folder",
    "simulate",
]
