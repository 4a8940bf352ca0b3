"""What the committed results rest on: one table of runs per sweep, and what each sweep's store says about itself.

``export`` takes both out of the stores; everything else here reads the committed files.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from algoprog.report.ablations import Ablation, ablation, ablations_of, sorted_ablations
from algoprog.report.optimal_size import OptimalSize, optimal_sizes
from algoprog.report.predictions import check_store
from algoprog.report.record import Record, busy_seconds, dig, read_record
from algoprog.report.searches import optima_of
from algoprog.scaling import Analysis, analyse, load_runs
from algoprog.scaling.frontier import BUDGET_TOLERANCE
from algoprog.scaling.interactions.analysis import factorial
from algoprog.scaling.interactions.result import FactorialAnalysis
from algoprog.scaling.predict import Check, check, predict
from algoprog.scaling.published.changes import FACTORS

HERE = Path(__file__).resolve().parent
ABOUT = HERE / "sweeps.json"
SWEEPS = (
    "scaling", "ablations", "factorial", "token-ratio", "breakpoints", "allocation", "optimizers", "lstm-golden",
    "data-quality", "data-quality-open-english",
)  # fmt: skip
DRAWS, SEED = 1000, 0

Json = dict[str, Any]


def runs_file(sweep: str) -> Path:
    """The committed table of the runs of ``sweep``."""
    return HERE / "runs" / f"{sweep}.csv"


def _kept(sweep: str) -> list[str]:
    return list(FACTORS) if sweep == "factorial" else []


def export(stores: Path) -> None:
    """Write the tables and ``sweeps.json`` from those folders ``stores/SWEEP`` that exist; the rest stays as it is.

    Raises InputError for a folder without a store.
    """
    known = json.loads(ABOUT.read_text(encoding="utf-8")) if ABOUT.is_file() else {}
    for sweep in SWEEPS:
        if (stores / sweep).is_dir():
            record = read_record(stores / sweep)
            load_runs(stores / sweep, keep=_kept(sweep)).to_csv(runs_file(sweep), index=False)
            known[sweep] = _about(record)
    ABOUT.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _about(record: Record) -> Json:
    wall, worker = busy_seconds(record.attempts)
    ended = [attempt["ended"] for attempt in record.attempts if attempt["ended"] is not None]
    made_with = [attempt["provenance"] for attempt in record.attempts]
    # A rate whose run diverged has no loss and so no row in the table, but it bounds its search.
    searches = [
        {"arch": one.arch, "width": one.width, "flops": one.flops, "state": one.state, "left": one.left,
         "left_interval": one.left_interval, "rates": len(one.rates)} for one in optima_of(record)
    ]  # fmt: skip
    return {
        "compare": record.compare,
        "data": {name: dig(record.meta, "sweep", "data", name) for name in ("corpus", "tokenizer")},
        "baselines": record.baselines,
        "states": record.states,
        "wall_s": round(wall, 1),
        "worker_s": round(worker, 1),
        "ended": datetime.fromtimestamp(max(ended), UTC).date().isoformat(),
        "commits": sorted({str(one.get("commit")) for one in made_with}),
        "devices": sorted({str(one.get("device")) for one in made_with}),
        "software": {name: dig(record.meta, "software", name) for name in ("python", "torch", "numpy", "scipy")},
        "searches": searches,
        "predictions": record.meta.get("predictions"),
    }


@cache
def about() -> Json:
    """``sweeps.json``, by sweep."""
    found: Json = json.loads(ABOUT.read_text(encoding="utf-8"))
    return found


@cache
def runs(sweep: str) -> pd.DataFrame:
    """The committed runs of ``sweep``."""
    return load_runs(runs_file(sweep), keep=_kept(sweep))


@cache
def analysis(sweep: str) -> Analysis:
    """The laws of ``sweep`` and the gains of the pairs that its file compares."""
    pairs = [(old, new) for old, new in about()[sweep]["compare"]]
    return analyse(runs(sweep), draws=DRAWS, seed=SEED, pairs=pairs or None)


@cache
def reverted() -> tuple[Ablation, ...]:
    """modern against every single reversion, largest gain first: by repeats at the largest budget, and by laws."""
    return ablations_of(analysis("ablations"), [(old, new) for old, new in about()["ablations"]["compare"]])


@cache
def interactions() -> FactorialAnalysis:
    """The factorial experiment, its losses turned into compute by the law of modern."""
    found = analysis("factorial")
    law, boot = found.fit.laws["modern"], found.boot.law("modern")
    return factorial(
        runs("factorial"), FACTORS, law=law, law_draws=boot, law_range=found.fit.flops_range["modern"],
        draws=DRAWS, seed=SEED,
    )  # fmt: skip


def checks() -> tuple[Check, ...]:
    """The predictions of the sweep breakpoints beside what came."""
    return check_store(about()["breakpoints"]["predictions"], analysis("breakpoints").points)


@cache
def checks_today() -> tuple[Check, ...]:
    """The same from the same smaller runs, with the intervals that this version gives."""
    targets = [(one.prediction.arch, one.prediction.flops) for one in checks()]
    below = min(flops for _, flops in targets) / (1.0 + BUDGET_TOLERANCE)
    found = analyse(runs("breakpoints"), draws=DRAWS, seed=SEED, max_flops=below)
    return check(predict(found, targets), analysis("breakpoints").points)


@cache
def optimal() -> OptimalSize:
    """The optimal size of modern by the runs of the sweep allocation."""
    (found,) = optimal_sizes(analysis("allocation"), DRAWS, SEED)
    return found


@cache
def optimizers() -> tuple[Ablation, ...]:
    """modern against every other optimiser and batch size of the sweep optimizers, largest gain first."""
    found = analysis("optimizers")
    others = sorted(set(found.points["arch"]) - {"modern"})
    return sorted_ablations([ablation(found, old, "modern") for old in others])
