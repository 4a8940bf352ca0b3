"""Intervals: bootstrap, profile likelihood."""
