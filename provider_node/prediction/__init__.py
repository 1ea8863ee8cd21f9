"""Asking the compute node about new pictures."""
