"""Is it one law? Break test, sequential extrapolation, and what they license."""
