"""Runs in: tables of runs from anywhere, checked once at the door."""
