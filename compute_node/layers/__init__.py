"""Augmented layers at the compute node: fetched, held in memory, and read back after a start."""
