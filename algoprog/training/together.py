"""Several runs at once in one process: each on a program of its own, and on a GPU on a stream of its own.

A small model leaves most of a GPU idle, above all an LSTM, whose steps wait for each other. One host thread sends an interval
of every run in turn and collects them in the same order, so that while one run's numbers are read the others compute. Runs
share nothing but the tokens' order of arrival: every run's losses are those it has alone, bit for bit, and one that diverges
or fails does not touch the others. On a CPU the same turns are taken one after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from algoprog.training.loop import Run
from algoprog.training.outcome import Outcome


@dataclass(frozen=True)
class Ended:
    """How the run called ``name`` ended: with an outcome, or with an error (``Stopped`` if it was asked to stop)."""

    name: str
    outcome: Outcome | None
    error: Exception | None


class Together:
    """The runs under way. :meth:`turn` gives each of them an interval."""

    def __init__(self) -> None:
        self._runs: dict[str, Run] = {}
        self.tokens = 0
        """Training targets of all intervals collected so far."""

    def __len__(self) -> int:
        return len(self._runs)

    def add(self, name: str, make: Callable[[], Run]) -> list[Ended]:
        """Make a run and send its first interval. A run that fails at that is returned as ended."""
        return self._try(name, lambda: self._start(name, make))

    def turn(self) -> list[Ended]:
        """Collect one interval of every run and send the next; runs that have none left are evaluated and returned."""
        ended = []
        for name, run in list(self._runs.items()):
            ended += self._try(name, lambda name=name, run=run: self._advance(name, run))  # type: ignore[misc]
        return ended

    def _start(self, name: str, make: Callable[[], Run]) -> list[Ended]:
        run = make()
        self._runs[name] = run
        return [] if run.launch() else self._finish(name, run)

    def _advance(self, name: str, run: Run) -> list[Ended]:
        run.collect()
        self.tokens += run.launched * run.work.tokens_per_step
        return [] if run.launch() else self._finish(name, run)

    def _finish(self, name: str, run: Run) -> list[Ended]:
        outcome = run.finish()
        del self._runs[name]
        return [Ended(name, outcome, None)]

    def _try(self, name: str, act: Callable[[], list[Ended]]) -> list[Ended]:
        try:
            return act()
        except Exception as error:  # one run's failure is its own
            self._runs.pop(name, None)
            return [Ended(name, None, error)]
