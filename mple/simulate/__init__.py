"""Simulation: a whole consortium on one machine, by the very commands and configuration files of a deployment.

`RunFolder` lays out certificates and one configuration per node, `Children` starts and stops the node commands,
`Progress` (pure) makes a state of what the nodes write, `Screen` shows it, `simulate` ties them together.
`mple.simulate.repeat` does a finished run once more, bit for bit; `mple.simulate.chaos` kills, holds and cuts off nodes
by a schedule (`chaos_schedule`, pure) and `chaos_proof` compares the two.
"""
