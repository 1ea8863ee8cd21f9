"""Benchmarks: one command each, each compares in one run and writes JSON and a plot."""
