"""The one exception of this folder for bad input."""

from __future__ import annotations


class InputError(ValueError):
    """Bad input from a user: one line that says what, where, got, expected and remedy. The CLI exits with code 2.

    Same constructor as ``algoprog.config.InputError``, which this folder must not import.
    """

    def __init__(
        self, what: str, *, where: object = None, got: object = None, expected: object = None, remedy: str | None = None
    ):
        parts = [what if where is None else f"{where}: {what}"]
        if got is not None:
            parts.append(f"got {got!r}" if isinstance(got, str) else f"got {got}")
        if expected is not None:
            parts.append(f"expected {expected}")
        if remedy is not None:
            parts.append(remedy)
        super().__init__("; ".join(" ".join(str(part).split()) for part in parts))
