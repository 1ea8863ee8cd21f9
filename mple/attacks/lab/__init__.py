"""Where attacks are run: who holds what, what a run folder shows them, the truth they are scored by, and the record."""
