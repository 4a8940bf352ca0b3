"""Synthetic studies with a known truth."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

TRUE_E = 1.9
TRUTH = {"lstm": (2.6, 0.065), "modern": (2.0, 0.09), "retro": (2.2, 0.085)}
"""(a at 1e16 FLOPs in nats, alpha) per architecture."""

Study = Callable[..., pd.DataFrame]


@pytest.fixture
def study() -> Study:
    """Builds a table of runs: ``budgets`` over ``decades`` from 1e15 FLOPs, ``repeats`` runs each, noise ``sigma``.

    ``excess``: how much worse, in ln L, each further run of a budget is than the one before: a wrong width.
    """

    def build(
        budgets: int = 10,
        decades: float = 3.0,
        sigma: float = 0.003,
        repeats: int = 1,
        excess: float = 0.0,
        seed: int = 0,
        archs: tuple[str, ...] = ("lstm", "modern", "retro"),
    ) -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        rows = []
        for arch in archs:
            a, alpha = TRUTH[arch]
            for flops in np.geomspace(1e15, 10 ** (15 + decades), budgets):
                for rank in range(repeats):
                    loss = (TRUE_E + a * (flops / 1e16) ** -alpha) * np.exp(
                        rank * excess + sigma * rng.standard_normal()
                    )
                    rows.append({"arch": arch, "flops": flops, "loss": loss})
        frame = pd.DataFrame(rows)
        return frame.assign(run=[f"run{i}" for i in range(len(frame))])

    return build
