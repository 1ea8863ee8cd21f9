"""The attack lab: every claim on what morphing hides, run against what a stated adversary holds of a real run.

`adversary` says who holds what, `run_views` takes that out of a run folder and, apart from it, the `truth` that only
`scoring` gets. Each attack is a pure function in a module of its own; `registry` lists them, `lab` runs them, `record`
and `gallery` write what came of it.
"""
