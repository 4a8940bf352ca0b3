"""What the design of a set of runs keeps its frontier from being, in sentences."""

from __future__ import annotations

import pandas as pd

SIZES = ("params", "width")


def design_warnings(points: pd.DataFrame) -> tuple[str, ...]:
    """A sentence per architecture whose runs all have one size, over several budgets.

    ``points``: one row per run with ``arch``, ``flops`` and, where known, ``params`` or ``width``. One model trained for
    longer and longer is a training curve: no budget has a choice of sizes, so its best loss is not the architecture's.
    """
    found = []
    for arch, rows in points.groupby("arch", sort=True):
        size = next((name for name in SIZES if name in rows and rows[name].notna().all()), None)
        if size is not None and rows[size].nunique() == 1 and rows["flops"].nunique() > 1:
            found.append(
                f"All {len(rows)} runs of {arch} have {size} {rows[size].iloc[0]:g}: its frontier is one model trained "
                "for longer, not the best size at each compute."
            )
    return tuple(found)
