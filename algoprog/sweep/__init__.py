"""Sweeps: a plan of runs, a pool of workers, and the store that holds what they leave."""
