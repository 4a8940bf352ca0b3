"""Which LSTM kernel has been measured to be fastest, by (device, type, width, batch).

The rows are in :mod:`algoprog.kernels.lstm_rows`, which :func:`write` makes from measurements. **No GPU has been measured
yet**, so there are none, and :func:`fastest` answers None for everything.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass
from pathlib import Path

from algoprog.kernels.lstm_rows import ROWS

KERNELS = ("library", "tile", "group", "cluster")
NEAREST_BATCH = 2.0
"""A row speaks for batches up to this factor from its own: time per step hardly depends on the batch within that."""


@dataclass(frozen=True)
class Row:
    """Forward plus backward of one layer, input product included, divided by the steps: median and inter-quartile range.

    ``device`` as :func:`torch.cuda.get_device_name` says it, ``dtype`` "float32", "bfloat16" or "float16". ``kernel`` is one
    of :data:`KERNELS`; "library" is PyTorch's own operator.
    """

    device: str
    dtype: str
    hidden: int
    batch: int
    kernel: str
    us_per_step: float
    iqr_us_per_step: float


def rows() -> tuple[Row, ...]:
    """All measured rows."""
    return tuple(Row(*row) for row in ROWS)


def fastest(table: Iterable[Row], device: str, dtype: str, hidden: int, batch: int) -> Row | None:
    """The fastest kernel at this width and the nearest measured batch; None where nothing comparable was measured.

    Comparable means: the library and at least one other kernel were measured there. A difference within the larger of both
    ranges is none, and then the library is preferred.
    """
    here = [r for r in table if (r.device, r.dtype, r.hidden) == (device, dtype, hidden)]
    here = [r for r in here if max(r.batch, batch) <= NEAREST_BATCH * min(r.batch, batch)]
    if not here:
        return None
    nearest = min((r.batch for r in here), key=lambda b: (max(b, batch) / min(b, batch), b))
    times = {r.kernel: r for r in here if r.batch == nearest}
    library = times.pop("library", None)
    if library is None or not times:
        return None
    best = min(times.values(), key=lambda r: r.us_per_step)
    noise = max(best.iqr_us_per_step, library.iqr_us_per_step)
    return best if best.us_per_step + noise < library.us_per_step else library


def write(table: Iterable[Row], path: Path | None = None) -> None:
    """Replace the rows of :mod:`algoprog.kernels.lstm_rows` (or of ``path``) by these.

    Raises:
        ValueError: two rows for the same case, an unknown kernel, or a number that is none.
    """
    ordered = sorted(table, key=astuple)
    cases = [astuple(row)[:5] for row in ordered]
    for row, case in zip(ordered, cases, strict=True):
        if row.kernel not in KERNELS:
            raise ValueError(f"lstm_table: kernel: expected {', '.join(KERNELS)}, got {row.kernel!r}")
        if not (0 < row.us_per_step < float("inf") and 0 <= row.iqr_us_per_step < float("inf")):
            raise ValueError(f"lstm_table: times: expected finite microseconds, got {row}")
        if cases.count(case) > 1:
            raise ValueError(f"lstm_table: rows: expected one per case, got several for {case}")
    lines = "".join(f"    {astuple(row)!r},\n" for row in ordered)
    text = (
        '"""Measured times of LSTM kernels. Written by :func:`algoprog.kernels.lstm_table.write`."""\n\n'
        f"ROWS: tuple[tuple[str, str, int, int, str, float, float], ...] = (\n{lines})\n"
    )
    (path or Path(__file__).with_name("lstm_rows.py")).write_text(text.replace("= (\n)", "= ()"))
