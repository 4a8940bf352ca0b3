"""How fast a sweep goes: runs per hour, and what the hours were spent on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

ENDED = ("done", "diverged")


def runs_per_hour(attempts: Sequence[Mapping[str, Any]]) -> float | None:
    """Runs that ended per hour in which any was under way; None before the first one has ended.

    Hours between a stop and the next start do not count, those of attempts that failed do.
    """
    over = sorted((a["started"], a["ended"]) for a in attempts if a["ended"] is not None)
    ended = sum(a["outcome"] in ENDED for a in attempts)
    seconds = busy_seconds(over)
    return 3600 * ended / seconds if ended and seconds > 0 else None


def busy_seconds(spans: Sequence[tuple[float, float]]) -> float:
    """Length of the union of spans (start, end), sorted by start, in seconds."""
    total, until = 0.0, float("-inf")
    for start, end in spans:
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def phase_seconds(results: Iterable[Mapping[str, Any] | None]) -> dict[str, float]:
    """Seconds of all finished runs by phase, as :data:`algoprog.training.clock.PHASES` names them; summed over workers."""
    total: dict[str, float] = {}
    for result in results:
        for phase, seconds in ((result or {}).get("seconds") or {}).items():
            total[phase] = total.get(phase, 0.0) + seconds
    return total
