"""Adversaries in words, for tables and pages."""

from __future__ import annotations

from mple.attacks.lab import adversary

_WORDS: dict[type, str] = {
    adversary.WireObserver: "observer of sizes and times",
    adversary.Outsider: "outsider with morphed pictures",
    adversary.OutsiderWithPairs: "outsider with known pairs",
    adversary.ComputeNode: "compute node, stem unknown",
    adversary.ComputeNodeWithStem: "compute node, stem known",
    adversary.ColludingCompute: "compute node and one site",
}


def in_words(kind: type) -> str:
    """An adversary's name for people."""
    return _WORDS[kind]
