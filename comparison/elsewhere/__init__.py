"""Other people's systems, each in a virtual environment of its own: their dependencies do not go with ours.

`cheetah` is private inference with SecretFlow's SPU, `flower` is federated averaging. Both run real processes, count
what TCP carries, and write JSON; what can't be installed or run here is a skipped row with its reason.
"""
