"""What was run, on what, with what: pairs of label and text for the page."""

from __future__ import annotations

from typing import Any

from algoprog.report.record import Record, Row, busy_seconds, dig
from algoprog.report.tables import duration
from algoprog.scaling import Analysis

Facts = list[tuple[str, str]]
HARDWARE = ("device", "threads", "cores")
CONVENTIONS = {
    "causal_exact": "exact matrix products of forward and backward, attention over visible pairs only, head included"
}


def facts(analysis: Analysis, record: Record) -> Facts:
    """Everything needed to judge and repeat the sweep; what the store does not tell is left out."""
    found = [*_sweep(record), *_data(record), *_counting(analysis), *_machine(record), *_time(record)]
    return [(label, text) for label, text in found if text]


def _sweep(record: Record) -> Facts:
    return [
        ("sweep", _text(record.meta, "sweep", "name")),
        ("description", _text(record.meta, "sweep", "description")),
        ("repeat with", _text(record.meta, "command")),
    ]


def _data(record: Record) -> Facts:
    data = dig(record.meta, "data")
    corpus = dig(data, "corpus")
    described = (
        [_text(corpus, "name"), _text(corpus, "description")] if isinstance(corpus, dict) else [str(corpus or "")]
    )
    tokenizer, vocab = _text(data, "tokenizer", "name"), dig(data, "vocab")
    return [
        ("corpus", ": ".join(filter(None, described))),
        ("licence", _text(data, "licence")),
        ("provenance", _text(data, "provenance")),
        ("tokenizer", f"{tokenizer}, {vocab:,} entries" if vocab else tokenizer),
        ("tokens", _split_sizes(data)),
        ("data fingerprint", _text(data, "fingerprint")),
    ]


def _split_sizes(data: Any) -> str:
    train, validation, size = (dig(data, key) for key in ("train_tokens", "validation_tokens", "validation_bytes"))
    if train is None or validation is None:
        return ""
    return f"{train:,} for training, {validation:,} for validation" + (f" ({size:,} bytes)" if size else "")


def _counting(analysis: Analysis) -> Facts:
    names = sorted(set(analysis.points["flop_convention"])) if "flop_convention" in analysis.points else []
    told = [f"{name} ({CONVENTIONS[name]})" if name in CONVENTIONS else name for name in names]
    return [("FLOP convention", "; ".join(told))]


def _machine(record: Record) -> Facts:
    """Hardware and versions as each attempt recorded them: one sweep may run on several machines."""
    seen = [attempt["provenance"] for attempt in record.attempts if attempt["provenance"]]
    software = seen or [dig(record.meta, "software") or {}]
    names = list(dict.fromkeys(name for row in software for name in row))
    packages = [name for name in names if name not in (*HARDWARE, "commit", "source_sha256")]
    versions = [f"{name} {found}" for name in packages if (found := _distinct(software, name))]
    return [
        ("device", _distinct(seen, "device")),
        ("threads per worker", _distinct(seen, "threads")),
        ("cores", _distinct(seen, "cores")),
        ("workers", str(len({attempt["worker"] for attempt in record.attempts}) or "")),
        ("software", ", ".join(versions)),
        ("commit", _distinct(software, "commit")),
        ("source sha256", _distinct(software, "source_sha256")),
    ]


def _time(record: Record) -> Facts:
    wall, worker = busy_seconds(record.attempts)
    if not worker:
        return []
    return [
        ("wall time", f"{duration(wall)} ({wall:,.0f} s) with at least one run in progress"),
        ("worker time", f"{duration(worker)} ({worker:,.0f} s) over all workers, repeated attempts included"),
    ]


def _distinct(rows: list[Row], key: str) -> str:
    return "; ".join(dict.fromkeys(str(row[key]) for row in rows if row.get(key) is not None))


def _text(value: Any, *keys: str) -> str:
    found = dig(value, *keys)
    return "" if found is None else str(found)
