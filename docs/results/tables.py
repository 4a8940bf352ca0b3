"""The tables of the page on results, from the committed runs. Losses in nats per token, compute in training FLOPs."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

import numpy as np
import pandas as pd
from pages import table
from records import SWEEPS, about, analysis, checks, checks_today, interactions, optimal, optimizers, reverted, runs

from algoprog.report.ablations import at_flops
from algoprog.report.content_sizes import placed
from algoprog.report.growth import growth
from algoprog.report.law_tests import law_tests
from algoprog.report.numbers import digits, flops, with_interval
from algoprog.scaling import Gain, MatchedGain, final_points, gain_at_flops
from algoprog.scaling.breakpoints.words import break_sentence
from algoprog.scaling.frontier import BUDGET_TOLERANCE
from algoprog.scaling.interactions.result import Effect
from algoprog.scaling.predict import Check
from algoprog.scaling.published import changes, scaling_laws
from algoprog.scaling.published.number import by_name
from algoprog.scaling.published.optimal_size import hoffmann_exponents, kaplan_exponent
from algoprog.scaling.surface.lack_of_fit import lack_of_fit
from algoprog.scaling.tuning.searches import without_search

FACTOR_NAMES = {
    "model.activation": "activation", "model.position": "position", "model.norm_placement": "norm", "schedule.name": "schedule",
}  # fmt: skip
TEST_DRAWS = 199
GOLDEN_FLOPS = (2e10, 6e10, 1.8e11)
CORPORA_FLOPS = 6e10  # the middle one of three budgets
STARTED_NATS = 0.4  # a run this close to the unigram model has hardly begun to learn, whatever its ratio
AT_AN_END = 0.02  # an end of an interval is not known better


def sweeps() -> str:
    """What was run."""
    rows = []
    for name in SWEEPS:
        of, done = about()[name], final_points(runs(name))
        lost = sum(of["states"].get(state, 0) for state in ("diverged", "failed"))
        rows.append([
            name, str(len(done)), str(lost), f"{flops(float(done['flops'].min()))} to {flops(float(done['flops'].max()))}",
            flops(float(done["flops"].sum())), f"{of['worker_s'] / 3600:.1f}", ", ".join(of["commits"]), of["ended"],
        ])  # fmt: skip
    header = (
        "sweep",
        "finished runs",
        "diverged or failed",
        "FLOPs of a run",
        "FLOPs in all",
        "worker hours",
        "commit",
        "ended",
    )
    return table(header, rows)


def searches() -> str:
    """What the learning-rate searches found."""
    rows = []
    for name in SWEEPS:
        found = about()[name]["searches"]
        if found:
            states = [one["state"] for one in found]
            left = [one["left"] for one in found if one["state"] == "found"]
            told = f"{digits(median(left), 2)}, at most {digits(max(left), 2)}" if left else "–"
            rows.append(
                [name, str(len(found)), *(str(states.count(state)) for state in ("found", "flat", "edge")), told]
            )
    header = (
        "sweep",
        "searches",
        "optimum found",
        "lost in noise",
        "at an edge",
        "left on the table where found, nats/token: median",
    )
    return table(header, rows)


def laws() -> str:
    """Laws of the sweep scaling beside the study's lines."""
    study = by_name(scaling_laws.LINES)
    rows = []
    for row in analysis("scaling").laws:
        known = study.get(f"{row.arch} alpha")
        rows.append([
            row.arch, with_interval(row.law.alpha, row.alpha), with_interval(row.law.E, row.E), str(row.n_points),
            f"{flops(row.flops_range[0])} to {flops(row.flops_range[1])}", "–" if known is None else str(known.value),
        ])  # fmt: skip
    return table(("architecture", "exponent (95 %)", "E (95 %)", "frontier points", "FLOPs", "study's exponent"), rows)


def gains() -> str:
    """Gains at the largest compute inside the data of both, and whether they grow."""
    rows = []
    for sweep in ("scaling", "breakpoints", "token-ratio", "lstm-golden"):
        for pair in analysis(sweep).gains:
            found = growth(analysis(sweep), pair.a, pair.b)
            rows.append([
                sweep, f"{pair.b} over {pair.a}", *_gain(pair.at_largest),
                with_interval(found.per_decade, found.per_decade_interval), "yes" if found.established else "no",
            ])  # fmt: skip
    header = (
        "sweep",
        "new over old",
        "gain (95 %)",
        "at FLOPs of the new",
        "factor per decade (95 %)",
        "growth established",
    )
    return table(header, rows)


def _gain(gain: Gain | None) -> tuple[str, str]:
    return ("none in range", "–") if gain is None else (with_interval(gain.gain, gain.interval), flops(gain.flops_b))


def ablations() -> str:
    """The gain of modern over each single reversion, largest first, beside the study's bar."""
    bars = {change.old: change.gain.value for change in changes.ABLATIONS}
    rows = []
    for one in reverted():
        matched, (gain, work) = one.matched, _gain(one.by_laws)
        told = "not known" if matched.gain is None else with_interval(matched.gain, matched.interval)
        by_laws = gain if one.by_laws is None else f"{gain} at {work}"
        rows.append([one.old, told, by_laws, f"{bars[one.old]:g}", _verdict(matched, bars[one.old])])
    largest = at_flops([one.matched.flops for one in reverted() if one.matched.flops is not None])
    header = ("reverted to", f"gain of modern at {largest} (95 %)", "by laws of both (95 %), FLOPs", "study")
    return table((*header, "study inside our interval"), rows)


def _verdict(one: MatchedGain, value: float) -> str:
    if one.interval is None:
        return "–"
    low, high = one.interval
    if any(abs(value / end - 1) < AT_AN_END for end in (low, high)):
        return "at its end"
    return "yes" if low <= value <= high else f"no, ours is {'larger' if value < low else 'smaller'}"


def effects() -> str:
    """Main effects and interactions of the factorial experiment."""
    told = [one for one in interactions().effects if len(one.factors) <= 2]
    return table(("effect", "factor on the gain (95 %)", "interval excludes 1"), [_effect(one) for one in told])


def product() -> str:
    """Single changes multiplied against all together."""
    found = interactions().product
    study = {"predicted": changes.PREDICTED.value, "measured": changes.MEASURED.value}
    study["excess"] = study["predicted"] / study["measured"]
    names = {
        "predicted": "product of single changes",
        "measured": "all together",
        "excess": "product over all together",
    }
    rows = [[f"{_named(one)} alone", *_effect(one)[1:], "–"] for one in found.singles]
    rows += [[told, *_effect(getattr(found, name))[1:], digits(study[name])] for name, told in names.items()]
    return table(("change", "gain (95 %)", "interval excludes 1", "study"), rows)


def _effect(one: Effect) -> list[str]:
    if one.gain is None:
        return [_named(one), "not known", "–"]
    low, high = one.gain_interval or (float("-inf"), float("inf"))
    return [_named(one), with_interval(one.gain, one.gain_interval), "no" if low <= 1 <= high else "yes"]


def _named(one: Effect) -> str:
    return " × ".join(FACTOR_NAMES.get(name, name) for name in one.factors)


def ratios() -> str:
    """How far the loss at each ratio lies above that at twenty tokens per parameter, at equal compute."""
    floor = about()["token-ratio"]["baselines"]["unigram"] - STARTED_NATS
    rows, columns = [], [10.0 * 2**step for step in range(5)]
    for arch, own in final_points(runs("token-ratio")).groupby("arch", sort=True):
        started = own[own["loss"] < floor]
        nominal = 10.0 * 2 ** np.round(np.log2((started["tokens"] / started["params"]).to_numpy() / 10.0))
        offsets = ratio_offsets(started["flops"].to_numpy(), nominal, started["loss"].to_numpy())
        found = {level: "0" if ends is None else with_interval(value, ends) for level, value, ends in offsets}
        rows.append([str(arch), *(found.get(level, "–") for level in columns), f"{len(started)} of {len(own)}"])
    return table(("nats/token above 20 tokens per parameter, at", *(f"{level:g}" for level in columns), "runs"), rows)


Offset = tuple[float, float, tuple[float, float] | None]


def ratio_offsets(compute: np.ndarray, ratio: np.ndarray, loss: np.ndarray, base: float = 20.0) -> list[Offset]:
    """(ratio, offset, its 95 % interval) in nats per token, by least squares: one parabola in ln compute for all ratios, and an
    offset for each but ``base``. Intervals are Student's, so misfit of the parabola counts.
    """
    from scipy.stats import t

    levels = sorted(set(ratio))
    x = np.log(compute) - np.log(compute).mean()
    others = [level for level in levels if level != base]
    design = np.column_stack([np.ones_like(x), x, x**2, *((ratio == level).astype(float) for level in others)])
    solved, *_ = np.linalg.lstsq(design, loss, rcond=None)
    freedom = len(loss) - design.shape[1]
    variance = float(((loss - design @ solved) ** 2).sum()) / freedom
    errors = np.sqrt(variance * np.diag(np.linalg.inv(design.T @ design)))
    room = float(t.ppf(0.975, freedom))
    found: dict[float, tuple[float, tuple[float, float] | None]] = {base: (0.0, None)}
    for level, value, error in zip(others, solved[3:], errors[3:], strict=True):
        found[level] = (float(value), (float(value - room * error), float(value + room * error)))
    return [(level, *found[level]) for level in levels]


def predictions() -> str:
    """Losses predicted from smaller budgets before the larger ones were run, and as this version would predict them."""
    rows = []
    for check, today in zip(checks(), checks_today(), strict=True):
        told, measured = check.prediction, check.measured
        rows.append([
            told.arch, flops(told.flops), with_interval(told.loss, told.interval), _inside(check),
            with_interval(today.prediction.loss, today.prediction.interval), _inside(today),
            "–" if measured is None else digits(measured, 4),
        ])  # fmt: skip
    return table(
        ("architecture", "FLOPs", "predicted (95 %)", "inside", "with today's draws", "inside", "measured"), rows
    )


def _inside(check: Check) -> str:
    return {True: "yes", False: "no", None: "–"}[check.inside]


def optimizer_gains() -> str:
    """The gain of modern, AdamW at batch 8, over every other optimiser and batch size."""
    rows = []
    for one in optimizers():
        repeats, laws = one.matched, one.by_laws
        told = "–" if repeats.gain is None else with_interval(repeats.gain, repeats.interval)
        by_laws = (
            "none in range" if laws is None else f"{with_interval(laws.gain, laws.interval)} at {flops(laws.flops_b)}"
        )
        rows.append([one.old, told, by_laws])
    largest = flops(max(one.matched.flops or 0.0 for one in optimizers()))
    return table(("instead", f"gain of modern at {largest} FLOPs (95 %)", "by laws of both (95 %), FLOPs"), rows)


def sizes() -> str:
    """How the optimal size grows with compute, by surface and by slices, and what Kaplan's exponent wastes."""
    rows = [
        [
            f"exponent of the optimal size, by the {way.name}",
            with_interval(way.a, way.interval),
            placed(way.interval or (0.0, 1.0), (kaplan_exponent(), kaplan_exponent())),
            placed(way.interval or (0.0, 1.0), hoffmann_exponents()),
        ]
        for way in optimal().ways
    ]
    rows += [
        [
            f"tokens per parameter at {flops(way.flops)} FLOPs, by the {way.name}",
            with_interval(way.ratio, way.ratio_interval),
            "–",
            "–",
        ]
        for way in optimal().ways
        if way.ratio is not None
    ]
    rows += [
        [
            f"compute wasted by Kaplan's exponent at {flops(one.flops)} FLOPs",
            with_interval(one.found.gain, one.found.interval),
            "–",
            "–",
        ]
        for one in optimal().waste
    ]
    misfit = None if optimal().fits is None else lack_of_fit(optimal().fits.surface.fit)
    if misfit is not None:
        missed, noise = f"{100 * misfit.misses:.2g} %", f"{100 * misfit.repeats:.2g} %"
        rows.append(
            [
                f"the surface misses {misfit.cells} means by {missed}, repeats differ by {noise}",
                f"p = {misfit.p:.1g}",
                "–",
                "–",
            ]
        )
    low, high = hoffmann_exponents()
    return table(
        ("", "95 %", f"Kaplan's {kaplan_exponent():g} inside", f"Hoffmann's {low:.2f} to {high:.2f} inside"), rows
    )


def golden() -> str:
    """Loss after a search over everything, mean of the seeds at the chosen settings with its range, by budget."""
    rows = []
    tuned, searched = (without_search(final_points(runs(sweep))) for sweep in ("lstm-golden", "ablations"))
    nominal = {"lstm": tuned[tuned["arch"] == "lstm"], "modern": tuned[tuned["arch"] == "modern"]}
    plain = searched[searched["arch"] == "modern"]
    for budget in GOLDEN_FLOPS:
        parts = [_at(nominal["lstm"], budget), _at(nominal["modern"], budget), _at(plain, budget)]
        rows.append([flops(budget), *(_mean_and_range(part) for part in parts)])
    return table(("FLOPs", "lstm, all tuned", "modern, all tuned", "modern, rate searched (ablations)"), rows)


def _at(final: pd.DataFrame, budget: float) -> pd.DataFrame:
    return final[np.abs(np.log(final["flops"].to_numpy() / budget)) < BUDGET_TOLERANCE]


def _mean_and_range(part: pd.DataFrame) -> str:
    if part.empty:
        return "–"
    # A search over depths leaves the best run of each depth; that of the depth that lost was not repeated.
    losses = part["loss"][part["lr"] == part["lr"].mode()[0]].to_numpy()
    mean, low, high = (digits(float(value), 4) for value in (losses.mean(), losses.min(), losses.max()))
    return f"{mean} ({low} to {high}, {len(losses)} runs)"


def corpora() -> str:
    """Gains at one compute on two corpora."""
    rows = []
    for a, b in (("retro", "modern"), ("lstm", "modern"), ("lstm", "retro")):
        cells = [f"{b} over {a}"]
        for sweep in ("data-quality", "data-quality-open-english"):
            found = analysis(sweep)
            gain = gain_at_flops(found.fit, a, b, CORPORA_FLOPS, boot=found.boot)
            cells.append(with_interval(gain.gain, gain.interval) + ("" if gain.in_range else ", extrapolated"))
        rows.append(cells)
    return table(("new over old", "`sotu`", "`open-english-core`"), rows)


def breaks() -> str:
    """Is each law one law?"""
    rows = []
    for one in law_tests(analysis("breakpoints"), TEST_DRAWS):
        told = one.skipped or ("too few points on the frontier" if one.test is None else break_sentence(one.test))
        rows.append([one.arch, str(one.points), told])
    return table(("architecture", "frontier points", "test for a break"), rows)


BLOCKS: dict[str, Callable[[], str]] = {
    "sweeps": sweeps, "searches": searches, "laws": laws, "gains": gains, "ablations": ablations, "effects": effects,
    "product": product, "ratios": ratios, "predictions": predictions, "breaks": breaks,
    "optimizers": optimizer_gains, "sizes": sizes, "golden": golden, "corpora": corpora,
}  # fmt: skip
"""Every table of the page, by the name between its markers."""
