"""The `mple` command: one file per group of verbs, no logic of its own."""

from mple.cli.app import main

__all__ = ["main"]
