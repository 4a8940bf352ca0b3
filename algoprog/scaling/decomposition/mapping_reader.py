"""Reading a plain mapping, such as a parsed YAML file, key by key, with errors that name the path of the key.

A number may arrive as text: YAML reads ``1e16`` as a string.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from algoprog.scaling.errors import InputError
from algoprog.scaling.runs.load import nearest

SOURCE = "source"  # every section may say where its values come from


class Section:
    """One mapping of a configuration at ``path``; each accessor raises InputError for a missing or malformed value.

    ``keys``: all keys that may occur, ``source`` besides; any other raises InputError with the nearest one.
    """

    def __init__(self, values: object, path: str, keys: tuple[str, ...]) -> None:
        if not isinstance(values, Mapping):
            raise InputError("not a group of keys", where=path, got=_shown(values), expected=f"keys {', '.join(keys)}")
        for key in values:
            if key not in (*keys, SOURCE):
                near = nearest(str(key), keys)
                remedy = f"did you mean {near}?" if near else None
                expected = f"one of {', '.join((*keys, SOURCE))}"
                raise InputError(f"unknown key {key}", where=path, expected=expected, remedy=remedy)
        self._values, self.path = values, path

    def has(self, key: str) -> bool:
        """Whether the key is there with a value."""
        return self._values.get(key) is not None

    def where(self, key: str) -> str:
        """The path of a key, for an error."""
        return f"{self.path}.{key}"

    def raw(self, key: str) -> Any:
        """The value as it came. Raises InputError where the key is missing."""
        if not self.has(key):
            raise InputError("missing", where=self.where(key))
        return self._values[key]

    def number(
        self, key: str, default: float | None = None, *, above: float = -math.inf, least: float = -math.inf
    ) -> float:
        """A finite number greater than ``above`` and not below ``least``; ``default`` where the key is missing."""
        if default is not None and not self.has(key):
            return default
        return number(self.raw(key), self.where(key), above=above, least=least)

    def numbers(self, key: str, count: int | None = None, *, above: float = -math.inf) -> tuple[float, ...]:
        """A list of numbers, of ``count`` if given."""
        return tuple(number(v, f"{self.where(key)}[{i}]", above=above) for i, v in enumerate(self.items(key, count)))

    def items(self, key: str, count: int | None = None) -> list[Any]:
        """A list of any values, of ``count`` if given."""
        value = self.raw(key)
        if not isinstance(value, list | tuple) or (count is not None and len(value) != count):
            expected = "a list" if count is None else f"a list of {count}"
            raise InputError("not such a list", where=self.where(key), got=_shown(value), expected=expected)
        return list(value)

    def text(self, key: str, choices: tuple[str, ...] | None = None) -> str:
        """A text, one of ``choices`` if given."""
        value = self.raw(key)
        if not isinstance(value, str) or not value:
            raise InputError("not a text", where=self.where(key), got=_shown(value))
        if choices is not None:
            require_name(value, choices, self.where(key))
        return value

    def flag(self, key: str, default: bool) -> bool:
        """``true`` or ``false``."""
        value = self._values.get(key, default)
        if not isinstance(value, bool):
            raise InputError("neither true nor false", where=self.where(key), got=_shown(value))
        return value

    def section(self, key: str, keys: tuple[str, ...]) -> Section:
        """The group of keys called ``key``."""
        return Section(self.raw(key), self.where(key), keys)

    def named(self, key: str) -> Mapping[str, Any]:
        """A group whose keys are names of the user's choice."""
        value = self.raw(key)
        if not isinstance(value, Mapping) or not value:
            raise InputError("not a group of names", where=self.where(key), got=_shown(value))
        return {str(name): part for name, part in value.items()}


def number(value: object, where: str, *, above: float = -math.inf, least: float = -math.inf) -> float:
    """``value`` as a finite number greater than ``above`` and not below ``least``. Raises InputError otherwise."""
    bounds = [f"> {above:g}"] * (above > -math.inf) + [f">= {least:g}"] * (least > -math.inf)
    expected = " ".join(["a finite number", *bounds])
    try:
        found = math.nan if isinstance(value, bool) or not isinstance(value, str | int | float) else float(value)
    except ValueError:
        found = math.nan
    if not (math.isfinite(found) and found > above and found >= least):
        raise InputError("bad number", where=where, got=_shown(value), expected=expected)
    return found


def require_name(name: str, choices: tuple[str, ...], where: str) -> None:
    """Raise InputError, with the nearest one, if ``name`` is not among ``choices``."""
    if name not in choices:
        near = nearest(name, choices)
        expected = f"one of {', '.join(choices)}" if choices else "nothing here"
        raise InputError(
            "unknown name", where=where, got=name, expected=expected, remedy=f"did you mean {near}?" if near else None
        )


def _shown(value: object) -> str:
    return value if isinstance(value, str) else repr(value)
