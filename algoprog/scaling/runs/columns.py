"""The columns of a table of runs: their names, renaming by request, and what to ask for when one is missing."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from algoprog.scaling.errors import InputError
from algoprog.scaling.runs.read import RawTable

REQUIRED = ("arch", "flops", "loss")
TEXT = ("run", "arch", "state", "flop_convention")
NUMBERS = (
    "width", "depth", "params", "tokens", "seed", "lr", "vocab", "step", "flops", "loss", "bits_per_byte", "seconds",
)  # fmt: skip
KNOWN = (*TEXT, *NUMBERS)

# Names that other people's tables use, as `plain_name` writes them; only ever a suggestion, never applied unasked.
ALIASES = {
    "arch": ("architecture", "model", "class", "model_class", "model_type", "model_arch", "name"),
    "flops": (
        "c", "compute", "flop", "budget", "training_flops", "train_flops", "total_flops", "total_flos",
        "train_total_flos", "cumulative_flops",
    ),
    "loss": (
        "l", "val_loss", "validation_loss", "valid_loss", "eval_loss", "val_ce", "test_loss", "final_loss", "ce",
        "train_loss",
    ),
    "params": ("n", "parameters", "n_params", "num_params", "num_parameters", "model_params", "n_opt"),
    "tokens": ("d", "n_tokens", "num_tokens", "train_tokens", "training_tokens", "total_tokens", "d_opt"),
}  # fmt: skip


def plain_name(header: str) -> str:
    """A header in lower case with ``_`` for every run of other signs: ``val/loss`` -> ``val_loss``."""
    return re.sub(r"[^a-z0-9]+", "_", header.lower()).strip("_")


def nearest(name: str, choices: Iterable[str]) -> str | None:
    """The most similar of ``choices``, or None if nothing comes near."""
    lower = {choice.lower(): choice for choice in choices}
    found = difflib.get_close_matches(name.lower(), list(lower), n=1, cutoff=0.5)
    return lower[found[0]] if found else None


def rename(raw: RawTable, mapping: Mapping[str, str]) -> RawTable:
    """Apply ``mapping`` theirs -> ours. Raises InputError for an unknown column on either side or a double target."""
    for theirs, ours in mapping.items():
        where = f"--map {theirs}={ours}"
        if theirs not in raw.columns:
            near = nearest(theirs, raw.columns)
            found = f"columns {', '.join(raw.columns)}"
            remedy = f"did you mean --map {near}={ours}?" if near else None
            raise InputError(f"no column {theirs} in {raw.where}", where=where, got=found, remedy=remedy)
        if ours not in KNOWN:
            near = nearest(ours, KNOWN)
            remedy = f"did you mean --map {theirs}={near}?" if near else None
            raise InputError(f"unknown name {ours}", where=where, expected=f"one of {', '.join(KNOWN)}", remedy=remedy)
    targets = list(mapping.values())
    twice = sorted({name for name in targets if targets.count(name) > 1})
    if twice:
        raise InputError(f"two columns mapped to {', '.join(twice)}", where="--map")
    kept = {name: cells for name, cells in raw.columns.items() if name not in mapping and name not in targets}
    kept |= {ours: raw.columns[theirs] for theirs, ours in mapping.items()}
    return replace(raw, columns=kept)


def require_columns(raw: RawTable, required: Sequence[str], keep: Sequence[str]) -> None:
    """Raise InputError for a missing column, with a ready ``--map``, and for ``step`` without ``run``."""
    missing = [name for name in required if name not in raw.columns]
    found = f"columns {', '.join(raw.columns)}" if raw.columns else "no columns"
    if missing:
        hints = [f"--map {near}={name}" for name in missing if (near := suggest(name, raw.columns))]
        what = f"missing column{'s' if len(missing) > 1 else ''} {', '.join(missing)}"
        rest = [name for name in missing if not suggest(name, raw.columns)]
        way = f"try {' '.join(hints)}" if hints else "rename with --map"
        if hints and rest:
            way += f"; for {', '.join(rest)}: --map THEIRS={rest[0]}, or add a column"
        if rest and raw.advice:
            way += f"; {raw.advice}"
        raise InputError(what, where=raw.where, got=found, remedy=way)
    for name in keep:
        if name not in raw.columns:
            near = nearest(name, raw.columns)
            remedy = f"did you mean {near}?" if near else None
            raise InputError(f"no column {name}", where=raw.where, got=found, remedy=remedy)
    if "step" in raw.columns and "run" not in raw.columns:
        raise InputError(
            "column step without column run", where=raw.where, remedy="name the runs: --map theirs=run; or drop step"
        )


def suggest(name: str, columns: Iterable[str]) -> str | None:
    """The column that most likely is ``name``: an alias, else similar spelling; never one with its own meaning."""
    free = [column for column in columns if column not in KNOWN]
    for alias in ALIASES.get(name, ()):
        for column in free:
            if plain_name(column) == alias:
                return column
    return nearest(name, free)
