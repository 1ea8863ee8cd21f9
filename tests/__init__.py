"""Tests; `support` holds what several of them share."""
