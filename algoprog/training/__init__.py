"""Training one run: :func:`algoprog.training.loop.train` over an engine."""
