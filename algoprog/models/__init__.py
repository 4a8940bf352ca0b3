"""Architectures as modules; :func:`build_model` is the way in."""

from algoprog.models.registry import FAMILIES, build_model, model_flops, parameter_count

__all__ = ["FAMILIES", "build_model", "model_flops", "parameter_count"]
