"""Factorial ablations: main effects, interactions, product against joint gain."""
