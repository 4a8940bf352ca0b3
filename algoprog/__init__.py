"""Measure algorithmic progress in language models: train many, count every FLOP, fit laws, report gains with intervals.

The public API, imported when first used::

    resolve, RunConfig, BudgetConfig        a run from a preset
    prepare                                 a corpus as tokens
    load_sweep, run_sweep                   a plan of runs, and its execution
    load_runs, analyse, PowerLaw            laws and gains from runs
    write_report                            one HTML page
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "BudgetConfig": "algoprog.config",
    "DataConfig": "algoprog.config",
    "InputError": "algoprog.config",
    "PowerLaw": "algoprog.scaling",
    "RunConfig": "algoprog.config",
    "analyse": "algoprog.scaling",
    "load_runs": "algoprog.scaling",
    "load_sweep": "algoprog.sweep.sweep_file",
    "prepare": "algoprog.data.tokens",
    "resolve": "algoprog.recipes",
    "run_sweep": "algoprog.sweep.driver",
    "write_report": "algoprog.report.page",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'algoprog' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
