"""Architectures as modules; :func:`build_model` is the way in."""

from algoprog.models.registry import FAMILIES, build_model, build_skeleton, flop_facts, model_flops, parameter_count

__all__ = ["FAMILIES", "build_model", "build_skeleton", "flop_facts", "model_flops", "parameter_count"]
