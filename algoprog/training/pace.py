"""How many steps go between two looks at the host's flags: about a second's worth, however long a step takes."""

from __future__ import annotations

LOOK_EVERY_S = 1.0


class Pace:
    """Steps until the next look. It starts at one and at most doubles, so that a slow first step delays nothing.

    Ranks that hand in the same seconds agree on the number without talking to each other.
    """

    def __init__(self, longest: int) -> None:
        self.steps, self._longest = 1, longest

    def note(self, steps: int, seconds: float) -> None:
        """``steps`` steps took ``seconds`` in the mean over ranks."""
        fitting = int(LOOK_EVERY_S * steps / max(seconds, 1e-9))
        self.steps = max(1, min(fitting, 2 * self.steps, self._longest))
