"""The ``mple`` command: one file per group of verbs, no logic of its own."""
