"""The surface L(N, D): law, fit, intervals."""
