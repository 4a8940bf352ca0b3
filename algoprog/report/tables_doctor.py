"""The machine's checkup on a terminal: lines, since its notes are sentences and would be cut by a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def print_doctor(found: Mapping[str, Any]) -> None:
    """What `algoprog doctor --json` holds: parts, operations by implementation and reason, attention by head dimension."""
    for name, part in found["parts"].items():
        about = "; ".join(text for text in (part["found"], part["note"]) if text)
        print(f"{name:<14} {part['state']:<8} {about}".rstrip())
    grouped: dict[tuple[str, str], list[str]] = {}
    for row in found["kernels"]:
        grouped.setdefault((row["implementation"], row["reason"]), []).append(row["op"])
    print("operations")
    for (implementation, reason), operations in grouped.items():
        print(f"  {implementation} ({reason}): {', '.join(operations)}")
    attention: Sequence[Mapping[str, Any]] = found["attention"]
    if attention:
        print("attention in bf16")
    for row in attention:
        print(f"  heads of {row.get('head_dim', '?')}: {row.get('backend', 'none')} ({row['reason']})")
