"""Which function makes which block of the guide's page."""

from __future__ import annotations

from collections.abc import Callable

from tables_gains import anchors, composition, per_decade, reach, shares
from tables_runs import laws, strip, sweep, unit
from tables_tests import breaks, licences, power

BLOCKS: dict[str, Callable[[], str]] = {
    "sweep": sweep,
    "unit": unit,
    "laws": laws,
    "strip": strip,
    "anchors": anchors,
    "per decade": per_decade,
    "reach": reach,
    "breaks": breaks,
    "licences": licences,
    "composition": composition,
    "shares": shares,
    "power": power,
}
"""Every table of the page, by the name between its markers."""
