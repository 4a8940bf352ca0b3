"""The rows of a run in ``metrics.jsonl``: whole lines only, written again later if the disk is full or the folder gone."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from algoprog.config import InputError


class MetricsFile:
    """Appends rows to ``path``, which starts empty. All rows are kept (a run has some thousands at most), so that what could
    not be written, or what somebody removed with its folder, is written with the next row."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._text = b""
        self._written = 0
        self._warned = False
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")

    def append(self, row: Mapping[str, Any]) -> None:
        """Write a row, and the rows before it that are not in the file."""
        self._text += (json.dumps(row, allow_nan=False) + "\n").encode()
        try:
            self._write()
        except OSError as error:
            if not self._warned:
                print(
                    f"warning: {self.path}: {error.strerror}; its rows will be written later",
                    file=sys.stderr,
                    flush=True,
                )
            self._warned = True

    def close(self) -> None:
        """The last chance for rows that are not in the file.

        Raises:
            InputError: they still cannot be written.
        """
        try:
            self._write()
        except OSError as error:
            raise InputError(
                f"metric rows cannot be written ({error.strerror})",
                where=self.path,
                remedy="make room and repeat the command: it continues from its last checkpoint",
            ) from None

    def _write(self) -> None:
        """Bring the file to the whole text: cut off what a failed write left, start anew if it is not what was written."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "ab", buffering=0) as file:
            if os.fstat(file.fileno()).st_size < self._written:
                self._written = 0
            os.ftruncate(file.fileno(), self._written)
            rest = self._text[self._written :]
            while rest:
                rest = rest[file.write(rest) :]
            self._written = len(self._text)
        self._warned = False


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The whole rows of an earlier attempt; a last line that was cut off is left out, a missing file has none."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    rows = []
    for line in lines[:-1]:  # a row ends with a line break; what follows the last one was cut off
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows
