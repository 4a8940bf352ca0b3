"""Result rows: what identifies one, and the JSON-lines file that holds them.

A row is one JSON object on one line. Its ``id`` is a hash of what it measured: script, key, source hash, device, versions.
A second start therefore skips exactly the rows that would come out of the same code on the same machine.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "results"


def canonical(value: object) -> str:
    """JSON with sorted keys and no spaces: equal objects give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def sources(script: str) -> list[Path]:
    """The script, every file beside it that it imports, directly or not, and every ``.cu`` file that those name."""
    found: set[Path] = set()
    waiting = [HERE / script]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        if path.suffix == ".py":
            waiting += [HERE / name for name in _mentions(path) if (HERE / name).is_file()]
    return sorted(found)


def _mentions(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (f"{alias.name}.py" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield f"{node.module}.py"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.endswith(".cu"):
            yield node.value


def source_hash(script: str) -> str:
    """16 hex digits over the names and bytes of :func:`sources`."""
    digest = hashlib.sha256()
    for path in sources(script):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def commit() -> str | None:
    """Commit of the surrounding git checkout, with ``+changes`` if files differ from it; None outside a checkout."""
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=HERE, capture_output=True, text=True, timeout=20)
        dirty = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", str(HERE)], cwd=HERE, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if head.returncode:
        return None
    return head.stdout.strip() + ("+changes" if dirty.returncode else "")


def row_id(script: str, key: Mapping[str, object], source: str, environment: Mapping[str, Any]) -> str:
    """16 hex digits that name the row. Only what can change its meaning counts: not the date, not the commit."""
    what = [script, key, source, environment["device"]["name"], environment["versions"]]
    return hashlib.sha256(canonical(what).encode()).hexdigest()[:16]


class RowFile:
    """Rows of one script, appended one at a time and durable when :meth:`append` returns."""

    def __init__(self, path: Path) -> None:
        """Reads ``path`` if it exists; a last line cut off by a crash is removed and reported."""
        self.path = path
        self.rows = self._read()

    def _read(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        data = self.path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            print(f"{self.path}: the last line was cut off and is removed: {data[len(whole) :][:80]!r}", flush=True)
            os.truncate(self.path, len(whole))
        return [json.loads(line) for line in whole.splitlines() if line]

    def ids(self) -> set[str]:
        """Ids of all rows in the file."""
        return {row["id"] for row in self.rows}

    def append(self, row: dict[str, Any]) -> None:
        """Writes one row and forces it to disk. NaN and infinity are refused: a row says in words what they would mean."""
        line = json.dumps(row, allow_nan=False)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.rows.append(row)
