"""Mutated messages over every call; `python -m tests.fuzz`."""
