"""A normal prior on the irreducible loss E: off unless asked for, and named in the result when used."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from algoprog.scaling.errors import InputError
from algoprog.scaling.solve import Prior, Problem

GPT2_WEB_PRIOR = (1.70, 0.15)
"""Mean and sd of E, nats per token, for web text in GPT-2-like byte pairs: Hoffmann et al. 2022 have 1.69, Besiroglu et
al. 2024 1.82, Porian et al. 2024 1.63. Nothing uses it unasked; another tokenizer has another E per token."""


def check_prior(prior: tuple[float, float] | None, irreducible: str | float) -> None:
    """Raise InputError for a prior on a fixed E, or one that is not a finite mean >= 0 with a finite sd > 0."""
    if prior is None:
        return
    if not isinstance(irreducible, str):
        raise InputError("a prior on an E that is fixed", got=f"E = {irreducible}", expected="E shared or profile")
    if not (all(math.isfinite(part) for part in prior) and prior[0] >= 0 and prior[1] > 0):
        raise InputError("bad prior on E", got=str(prior), expected="(mean >= 0, sd > 0) in nats per token")


def with_prior(problem: Problem, prior: tuple[float, float] | None, weight: float) -> Problem:
    """The problems with the same prior each; unchanged without one."""
    if prior is None:
        return problem
    return replace(problem, prior=Prior(np.full(problem.y.shape[0], prior[0]), weight))
