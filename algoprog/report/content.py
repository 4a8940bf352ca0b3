"""The tables of the page as rows of cells: text for people, and the exact value beside it for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from algoprog.report.growth import Growth, all_growth
from algoprog.report.numbers import digits, flops, percent, with_interval
from algoprog.report.record import Record, Row, dig
from algoprog.report.sources_text import SOURCES_NOTE, source_cells, source_columns
from algoprog.report.style import Look, looks
from algoprog.report.summary import best_losses, beyond
from algoprog.scaling import Analysis, Gain, LawRow
from algoprog.scaling.sensitivity import Sources


@dataclass(frozen=True)
class Cell:
    """``text`` as shown; ``value``: the exact number; ``look``: colour and marker before it; ``kind``: emphasis."""

    text: str
    value: float | int | None = None
    look: Look | None = None
    kind: str = ""


@dataclass(frozen=True)
class Grid:
    """A table: ``name`` (its id), ``caption``, ``columns`` and ``rows``; the first cell of a row is its header."""

    name: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


def laws_table(analysis: Analysis) -> Grid:
    """Exponent, E and A of every architecture with intervals, and what they rest on."""
    look, level = looks(analysis.points["arch"]), percent(analysis.boot.level)
    columns = (
        "architecture", f"exponent α ({level})", f"E, nats/token ({level})", f"A, nats/token ({level})",
        "frontier points", "finished runs", "fitted from, FLOPs", "to, FLOPs",
    )  # fmt: skip
    caption = "Laws L = E + A · C^−α, with C in FLOPs, fitted jointly to the frontier of each architecture."
    return Grid("laws", caption, columns, [_law(row, look[row.arch]) for row in analysis.laws])


def _law(row: LawRow, look: Look) -> list[Cell]:
    law, (low, high) = row.law, row.flops_range
    return [
        Cell(row.arch, look=look),
        Cell(with_interval(law.alpha, row.alpha), law.alpha),
        Cell(with_interval(law.E, row.E), law.E),
        Cell(with_interval(law.A, row.A), law.A),
        Cell(str(row.n_points), row.n_points),
        Cell(str(row.n_runs), row.n_runs),
        Cell(flops(low), low),
        Cell(flops(high), high),
    ]


def gains_table(analysis: Analysis) -> Grid:
    """Every gain with its interval and its in-range flag."""
    columns = (
        "new over old", "where", f"gain ({percent(analysis.boot.level)})", "in range", "compute of new, FLOPs",
        "compute of old, FLOPs", "loss, nats/token",
    )  # fmt: skip
    caption = "Compute-equivalent gains: compute of the old over compute of the new architecture at equal loss."
    rows = []
    for pair in analysis.gains:
        for where, gain in (("largest in range", pair.at_largest), ("centre of the overlap", pair.at_centre)):
            rows.append([Cell(f"{pair.b} over {pair.a}"), Cell(where), *_gain(gain)])
    return Grid("gains", caption, columns, rows)


def _gain(gain: Gain | None) -> list[Cell]:
    if gain is None:
        return [Cell("no such compute", kind="bad"), *[Cell("–")] * 4]
    flag = Cell("yes", kind="good") if gain.in_range else Cell(f"no, {beyond(gain)}", kind="bad")
    return [
        Cell(with_interval(gain.gain, gain.interval), gain.gain),
        flag,
        Cell(flops(gain.flops_b), gain.flops_b),
        Cell(flops(gain.flops_a), gain.flops_a),
        Cell(digits(gain.loss, 4), gain.loss),
    ]


def growth_table(analysis: Analysis) -> Grid:
    """Does each gain depend on scale?"""
    level = percent(analysis.boot.level)
    columns = ("new over old", f"gap of exponents ({level})", f"factor on the gain per decade ({level})", "established")
    caption = "Dependence on scale. It is established if the interval of the gap excludes 0 and the fit is sound."
    return Grid("growth", caption, columns, [_growth(found) for found in all_growth(analysis)])


def _growth(found: Growth) -> list[Cell]:
    answer = "yes" if found.established else "no, the fit is not sound" if found.excludes_zero else "no"
    return [
        Cell(f"{found.b} over {found.a}"),
        Cell(with_interval(found.gap, found.gap_interval), found.gap),
        Cell(with_interval(found.per_decade, found.per_decade_interval), found.per_decade),
        Cell(answer, kind="good" if found.established else ""),
    ]


def sources_table(analysis: Analysis) -> Grid:
    """Every result with its sources of spread."""
    columns = source_columns(percent(analysis.boot.level))
    caption = f"Where the spread of each result comes from. {SOURCES_NOTE}"
    return Grid("sources", caption, columns, [_source(found) for found in analysis.sources])


def _source(found: Sources) -> list[Cell]:
    name, estimate, *rest = source_cells(found)
    profile = Cell(rest[0], kind="bad" if found.disagrees else "")
    return [Cell(name), Cell(estimate, found.estimate), profile, *(Cell(text) for text in rest[1:])]


def baselines_table(analysis: Analysis, baselines: Mapping[str, float]) -> Grid:
    """The best loss of every architecture beside what counting tokens reaches."""
    look, names = looks(analysis.points["arch"]), [name for name in ("bigram", "unigram") if name in baselines]
    columns = ("architecture", "best loss, nats/token", *(f"below {name} by" for name in names))
    rows = []
    for arch, loss in best_losses(analysis).items():
        margins = [(baselines[name] - loss) for name in names]
        cells = [Cell(digits(margin), margin, kind="" if margin > 0 else "bad") for margin in margins]
        rows.append([Cell(arch, look=look[arch]), Cell(digits(loss, 4), loss), *cells])
    told = ", ".join(
        f"{name} {digits(baselines[name], 4)}" for name in ("uniform", *reversed(names)) if name in baselines
    )
    caption = f"Validation loss against counting tokens; baselines in nats per token: {told or 'not recorded'}."
    return Grid("baselines", caption, columns, rows)


RUN_COLUMNS = (
    "run", "architecture", "state", "width", "depth", "parameters", "tokens", "epochs", "lr", "seed", "FLOPs",
    "loss, nats/token", "bits per byte", "training, s", "frontier", "message",
)  # fmt: skip


def runs_table(analysis: Analysis, record: Record) -> Grid:
    """Every run of the store, those that did not finish included."""
    look = looks(analysis.points["arch"], (run["arch"] for run in record.runs))
    frontier = set(analysis.frontier["run"])
    said = {attempt["digest"]: attempt["message"] for attempt in record.attempts if attempt["message"]}
    rows = [_run(run, look[run["arch"]], run["digest"] in frontier, said.get(run["digest"])) for run in record.runs]
    return Grid("runs", "All runs of the sweep in planned order; loss is on the validation split.", RUN_COLUMNS, rows)


def _run(run: Row, look: Look, on_frontier: bool, message: str | None) -> list[Cell]:
    def result(*keys: str) -> Any:
        return dig(run["result"], *keys)

    state, tokens, work = run["state"], result("tokens") or run["tokens"], result("flops") or run["flops"]
    lr, depth = dig(run["config"], "optim", "lr"), dig(run["config"], "model", "depth")
    kind = {"done": "", "diverged": "bad", "failed": "bad"}.get(state, "open")
    # A message of an earlier attempt says nothing about a run that was done in the end.
    why = "" if state == "done" else result("message") or message or ""
    return [
        Cell(run["digest"]),
        Cell(run["arch"], look=look),
        Cell(state, kind=kind),
        _integer(run["width"]),
        _integer(depth),
        _integer(run["params"]),
        _integer(tokens),
        _number(result("epochs")),
        _number(lr),
        _integer(run["seed"]),
        Cell(flops(work, 4), work),
        _number(result("loss"), 4),
        _number(result("bits_per_byte"), 4),
        _number(result("seconds", "train")),
        Cell("●" if on_frontier else ""),
        Cell(why, kind=kind),
    ]


def _integer(value: Any) -> Cell:
    return Cell("–") if value is None else Cell(f"{value:,}", value)


def _number(value: Any, n: int = 3) -> Cell:
    return Cell("–") if value is None else Cell(digits(float(value), n), value)
