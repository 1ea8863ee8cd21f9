"""Augmented layers as they are applied in training: prepared once for an arithmetic and a device."""
