"""Layers at the coordinator: uploaded or built from sealed keys, reviewed, and released."""
