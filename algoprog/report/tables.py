"""Tables on a terminal. Everything printed here is also in the command's ``--json``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from rich.box import HEAVY_HEAD, SQUARE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from algoprog.report.growth import all_growth
from algoprog.report.numbers import between, count, digits, flops, percent, with_interval
from algoprog.report.sources_text import SOURCES_NOTE, source_cells, source_columns, spread
from algoprog.report.summary import best_losses, beyond, irreducible, scale_sentence
from algoprog.scaling import Analysis, Gain, SurfaceAnalysis, SurfaceStudy

if TYPE_CHECKING:
    from algoprog.report.page import Written  # which imports this module


class SweepCounts(Protocol):
    """How many runs were planned, executed now, and are in each state."""

    @property
    def planned(self) -> int: ...
    @property
    def executed(self) -> int: ...
    @property
    def states(self) -> Mapping[str, int]: ...


class QuickstartResult(Protocol):
    """What the quickstart returns, as far as its tables need it."""

    @property
    def analysis(self) -> Analysis: ...
    @property
    def report(self) -> Written: ...
    @property
    def summary(self) -> SweepCounts: ...
    @property
    def baselines(self) -> Mapping[str, float]: ...
    @property
    def seconds(self) -> Mapping[str, float]: ...


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], header: bool = True) -> None:
    table = Table(title=title, title_justify="left", show_header=header, box=HEAVY_HEAD if header else SQUARE)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    for row in rows:
        # As plain text: rich would read [brackets] in a name from a file as its own markup.
        table.add_row(*(Text(show(value)) for value in row))
    Console(soft_wrap=False).print(table)


def show(value: object) -> str:
    """A value as people write it: large and small floats in scientific notation, missing ones as a dash."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}" if 1e-3 <= abs(value) < 1e5 or value == 0 else f"{value:.3e}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}" if abs(value) < 10**9 else f"{value:.3e}"
    return str(value)


def duration(seconds: float) -> str:
    """Seconds as 42 s, 3.5 min or 2.1 h."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def print_mapping(title: str, values: Mapping[str, Any]) -> None:
    """Two columns without a header."""
    _table(title, ("", ""), values.items(), header=False)


def _short(value: float | None) -> str:
    """Two significant digits, so that a plan fits into eighty columns."""
    return "-" if value is None else f"{value:.1e}".replace("e+", "e").replace("e0", "e")


def print_plan(plan: Mapping[str, Any]) -> None:
    """Every run with its work and estimated cost, and the totals; exact numbers are in the JSON."""
    runs = plan["runs"]
    repeats = any((run["epochs"] or 0) > 1 for run in runs)
    columns = ("arch", "width", "lr", "seed", "params", "tokens", "FLOPs", "time", "MB")
    rows = [
        [
            run["arch"],
            run["width"],
            f"{run['lr']:.2g}",
            run["seed"],
            _short(run["params"]),
            _short(run["tokens"]),
            _short(run["flops"]),
            duration(run["seconds"]),
            round(run["memory_bytes"] / 1e6),
            *([f"{run['epochs']:.1f}"] if repeats else []),
        ]
        for run in runs
    ]
    _table(f"plan of {plan['sweep']}", (*columns, "epochs") if repeats else columns, rows)
    print(
        f"{len(runs)} runs, {plan['total_flops']:.3e} FLOPs (exact), about {duration(plan['wall_seconds'])} on "
        f"{plan['workers']} workers (estimate; {plan['seconds_include']})"
    )
    if plan["searches"]:
        print(f"{plan['searches']} searches: each adds runs when these are finished")
    if plan["data"] is None:
        print("the corpus is not prepared yet: run names and epochs follow from `algoprog data prepare`")


def print_status(status: Mapping[str, Any]) -> None:
    """Counts by state, and what went wrong."""
    states = ", ".join(f"{count} {state}" for state, count in sorted(status["states"].items()))
    print(f"sweep {status['sweep']}: {status['total']} runs: {states}")
    print(f"FLOPs done {status['flops_done']:.3e}, left {status['flops_left']:.3e}")
    if status["runs_per_hour"] is not None:
        phases = ", ".join(f"{name} {seconds:.3g} s" for name, seconds in status["phase_seconds"].items())
        print(f"{status['runs_per_hour']:.0f} runs per hour; all workers together spent: {phases}")
    if status["problems"]:
        columns = ("run", "outcome", "message")
        _table("problems", columns, [[problem[c] for c in columns] for problem in status["problems"]])


def print_verification(found: Mapping[str, Any]) -> None:
    """What a check of a store found."""
    checked = ", ".join(f"{count} {kind}" for kind, count in found["checked"].items())
    print(f"{found['store']}: {'whole' if found['whole'] else 'DAMAGED'}; checked: {checked or 'nothing'}")
    for problem in found["problems"]:
        print(f"  {problem}")


RUN_KEYS = (
    "run", "arch", "width", "seed", "state", "message", "loss", "bits_per_byte", "loss_windowed", "loss_streaming",
    "train_loss", "params", "steps", "tokens", "epochs", "flops", "unspent_flops", "evaluation_flops", "engine", "world",
    "device", "folder",
)  # fmt: skip


def print_run(record: Mapping[str, Any]) -> None:
    """One finished run."""
    values = {key: record[key] for key in RUN_KEYS if record.get(key) is not None}
    values |= {f"seconds: {phase}": spent for phase, spent in record["seconds"].items()}
    speed = record.get("throughput") or {}
    shown = {"tokens_per_s": "tokens per second", "mfu_causal": "MFU, exact causal", "mfu_full": "MFU, full attention"}
    shown["roofline_share"] = "share of the roofline"
    values |= {label: "n/a" if speed[key] is None else speed[key] for key, label in shown.items() if key in speed}
    print_mapping(f"{record['arch']} at width {record['width']}", values)


def print_fit(found: Analysis | SurfaceStudy) -> None:
    """Frontier laws, or one surface per architecture."""
    if isinstance(found, SurfaceStudy):
        for surface in found.surfaces:
            print_surface(surface)
    else:
        print_laws(found)


def print_surface(found: SurfaceAnalysis) -> None:
    """One surface: parameters with intervals, what they were fitted to and how, then the warnings."""
    fit, boot, data = found.fit, found.boot, found.fit.points
    if fit.surface is not None:
        names = {
            "E, nats/token": "E", "A": "A", "B": "B", "alpha": "alpha", "beta": "beta", "a: N* ~ C^a": "a_N",
            "b: D* ~ C^b": "b_D", "gamma: L* - E ~ C^-gamma": "gamma",
        }  # fmt: skip
        rows = [(label, with_interval(getattr(fit.surface, n), boot.intervals[n])) for label, n in names.items()]
        columns = ("quantity", f"value ({percent(boot.level)})")
        _table(f"{found.arch}: L = E + A N^-alpha + B D^-beta, {fit.status.value}", columns, rows)
        profile = between(boot.profile.interval) if boot.profile else "no interval"
        print(
            f"{count(fit.n, 'point')} of {count(fit.runs, 'run')}, {data.sizes} sizes, {data.budgets} budgets over "
            f"{flops(data.flops_range[0])} to {flops(data.flops_range[1])} FLOPs; {fit.agreeing} of {fit.starts} starts agree"
        )
        unit = "nats" if fit.problem.raw else "ln L"
        print(f"{fit.reason}; sigma {digits(fit.sigma)} in {unit}, by MAD {digits(fit.sigma_mad)}")
        if fit.n > fit.runs:
            print(
                f"{digits(fit.points_per_run)} points a run, their residuals correlate by {digits(fit.run_correlation)}"
            )
        print(f"intervals: {boot.method}; profile of E: {profile}")
    print_warnings(found.warnings)


def print_laws(analysis: Analysis) -> None:
    """The law of every architecture with intervals, then the warnings."""
    level = percent(analysis.boot.level)
    rows = [
        (
            row.arch,
            with_interval(row.law.alpha, row.alpha),
            f"{row.n_points} of {row.n_runs} runs",
            f"{flops(row.flops_range[0])} to {flops(row.flops_range[1])}",
        )
        for row in analysis.laws
    ]
    if rows:
        columns = ("arch", f"exponent ({level})", "on frontier", "fitted over FLOPs")
        _table(f"laws L = E + A C^-alpha, E = {irreducible(analysis)} nats/token", columns, rows)
    shown = [one for one in analysis.sources if one.quantity in ("exponent", "gap")]
    if shown:
        _table("sources of spread", source_columns(level), [source_cells(one) for one in shown])
        print(SOURCES_NOTE)
    print_warnings(analysis.warnings)


def print_gain(gain: Gain) -> None:
    """One gain with its interval, and whether it is measured or extrapolated."""
    print_mapping(
        f"gain of {gain.b} over {gain.a}",
        {
            "gain": with_interval(gain.gain, gain.interval),
            "in range": in_range(gain),
            f"FLOPs of {gain.a}": flops(gain.flops_a),
            f"FLOPs of {gain.b}": flops(gain.flops_b),
            "loss, nats per token": digits(gain.loss, 4),
            "anchor": gain.anchor,
            "intervals by": gain.method,
            **({} if gain.sources is None else spread(gain.sources)),
        },
    )
    if gain.sources is not None:
        print(SOURCES_NOTE)


def in_range(gain: Gain) -> str:
    """``yes``, or how far the gain is extrapolated."""
    return "yes" if gain.in_range else f"no, {beyond(gain)}"


def print_gains(analysis: Analysis) -> None:
    """All gains of an analysis with in-range flags, and whether each depends on scale."""
    rows = [
        (f"{gain.b} over {gain.a}", flops(gain.flops_b), with_interval(gain.gain, gain.interval), in_range(gain))
        for pair in analysis.gains
        for gain in (pair.at_largest, pair.at_centre)
        if gain is not None
    ]
    if rows:
        columns = ("new over old", "at FLOPs", f"gain ({percent(analysis.boot.level)})", "in range")
        _table("compute-equivalent gains", columns, rows)
    for found in all_growth(analysis):
        print(f"{found.b} over {found.a}: {scale_sentence(found)}")


def print_warnings(warnings: Iterable[str]) -> None:
    """One line each."""
    for warning in warnings:
        print(f"warning: {warning}")


def print_baselines(analysis: Analysis, baselines: Mapping[str, float]) -> None:
    """The best loss of every architecture against counting tokens."""
    names = [name for name in ("bigram", "unigram") if name in baselines]
    rows = [
        (arch, digits(loss, 4), *(digits(baselines[name] - loss) for name in names))
        for arch, loss in best_losses(analysis).items()
    ]
    told = ", ".join(f"{name} {digits(baselines[name], 4)}" for name in names) or "not recorded"
    columns = ("arch", "best loss", *(f"below {name} by" for name in names))
    _table(f"validation loss, nats/token; {told}", columns, rows)


def print_quickstart(result: QuickstartResult) -> None:
    """Laws, gains, baselines, where the time went, and the path of the page."""
    analysis, summary = result.analysis, result.summary
    print_laws(analysis)
    print_gains(analysis)
    print_baselines(analysis, result.baselines)
    print_warnings(result.report.notes)
    states = ", ".join(f"{number} {state}" for state, number in sorted(summary.states.items()))
    print(f"{summary.planned} runs planned, {summary.executed} executed now: {states}")
    print("time: " + ", ".join(f"{phase} {duration(seconds)}" for phase, seconds in result.seconds.items()))
    print(f"report: {result.report.page}")
