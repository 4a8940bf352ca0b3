"""The findings in plain sentences, with intervals; every number comes from the analysis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from algoprog.report.ablations import Ablation
from algoprog.report.growth import Growth, growth
from algoprog.report.numbers import count, digits, flops, listed, percent, with_interval
from algoprog.report.record import Record
from algoprog.scaling import Analysis, Gain, MatchedGain, PairGains


def overview(analysis: Analysis, record: Record) -> str:
    """What was run, and the law of each architecture."""
    return f"{_what_was_run(analysis, record)} {_laws(analysis)}"


def findings(analysis: Analysis, ablations: Sequence[Ablation] = ()) -> list[tuple[str, str]]:
    """Per pair its name and what was found: the gain inside the data, at the centre of the overlap, and over scale.

    For ablations first what repeats at one budget say, which is not by laws of both.
    """
    matched = {(one.old, one.new): one.matched for one in ablations}
    return [
        (f"{pair.b} over {pair.a}", _pair(analysis, pair, matched.get((pair.a, pair.b)))) for pair in analysis.gains
    ]


def best_losses(analysis: Analysis) -> dict[str, float]:
    """The lowest final loss of each architecture, nats per token."""
    return {str(arch): float(rows.min()) for arch, rows in analysis.points.groupby("arch")["loss"]}


def irreducible(analysis: Analysis) -> str:
    """The irreducible loss with its interval, or as fixed. The analysis must have a law."""
    fixed = not isinstance(analysis.fit.irreducible, str)
    return f"{digits(analysis.fit.E)} (fixed)" if fixed else with_interval(analysis.fit.E, analysis.laws[0].E)


def notes(analysis: Analysis, record: Record, dropped: list[tuple[str, str]]) -> list[str]:
    """What a reader must know besides the warnings of the analysis. ``dropped``: pairs that could not be compared."""
    found = []
    for state in ("failed", "running", "planned"):
        if number := record.states.get(state, 0):
            found.append(
                f"{count(number, 'run')} {state}: not finished and not part of the laws; the sweep is incomplete."
            )
    for old, new in dropped:
        missing = listed([arch for arch in (old, new) if arch not in analysis.fit.laws])
        found.append(f"The sweep asks for the gain of {new} over {old}, but there is no law for {missing}.")
    found += _not_better(best_losses(analysis), record.baselines)
    sources = {a["provenance"].get("source_sha256") for a in record.attempts} - {None}
    if len(sources) > 1:
        found.append(f"The runs were made with {len(sources)} different versions of the source code.")
    return found


def _not_better(best: Mapping[str, float], baselines: Mapping[str, float]) -> list[str]:
    """Architectures whose best run does not beat counting tokens; the weakest baseline not beaten is named."""
    found = []
    for arch, loss in best.items():
        beaten_by = [name for name in ("unigram", "bigram") if loss >= baselines.get(name, float("inf"))]
        if beaten_by:
            name = beaten_by[0]
            found.append(
                f"The best loss of {arch}, {digits(loss, 4)} nats per token, is not below the {name} baseline "
                f"({digits(baselines[name], 4)})."
            )
    return found


def _what_was_run(analysis: Analysis, record: Record) -> str:
    archs = sorted(set(analysis.points["arch"]))
    low, high = float(analysis.points["flops"].min()), float(analysis.points["flops"].max())
    others = [f"{number} {state}" for state, number in record.states.items() if state != "done"]
    rest = f" ({listed(others)})" if others else ""
    return (
        f"{count(len(analysis.points), 'run')} of {count(len(archs), 'architecture')} ({listed(archs)}) finished{rest}, "
        f"with {flops(low)} to {flops(high)} training FLOPs each."
    )


def _laws(analysis: Analysis) -> str:
    fit = analysis.fit
    if not analysis.laws:
        return f"No scaling law could be fitted: {fit.reason}."
    level, shaky = percent(analysis.boot.level), ", unstable (see the warnings)" if analysis.boot.unstable else ""
    exponents = listed([f"{row.arch} {with_interval(row.law.alpha, row.alpha)}" for row in analysis.laws])
    return (
        f"The loss falls towards an irreducible {irreducible(analysis)} nats per token as a power of compute, with the "
        f"exponent {exponents}; ranges are {level} intervals{shaky}."
    )


def _pair(analysis: Analysis, pair: PairGains, matched: MatchedGain | None) -> str:
    parts = ["No gain lies inside the data of both." if pair.at_largest is None else _largest(pair.at_largest)]
    if matched is not None and matched.gain is not None:
        first = parts[0]
        parts = [_matched(matched, matched.gain), f"By the laws of both, {first[0].lower()}{first[1:]}"]
    if pair.at_centre is not None:
        parts.append(_centre(pair.at_centre))
    parts.append(scale_sentence(growth(analysis, pair.a, pair.b)))
    return " ".join(parts)


def _matched(found: MatchedGain, gain: float) -> str:
    beyond = "" if found.in_range else f", its law extrapolated by {digits(found.decades_beyond, 2)} decades"
    return (
        f"Repeated runs at {flops(found.flops)} FLOPs, read on the law of {found.b}{beyond}, give a gain of "
        f"{with_interval(gain, found.interval)}."
    )


def _largest(gain: Gain) -> str:
    return (
        f"The gain is {with_interval(gain.gain, gain.interval)} at the largest compute where both are inside their data: "
        f"for the loss that {gain.b} reaches with {flops(gain.flops_b)} FLOPs, {gain.a} needs that many times the "
        f"compute{_versus_one(gain)}."
    )


def _centre(gain: Gain) -> str:
    where = "in range" if gain.in_range else f"extrapolated, {beyond(gain)} the data"
    return (
        f"At {flops(gain.flops_b)} FLOPs, the centre of the compute that both cover, it is "
        f"{with_interval(gain.gain, gain.interval)}, {where}."
    )


def beyond(gain: Gain) -> str:
    """How far a gain leaves the data: ``0.3 decades beyond``."""
    return f"{digits(gain.decades_beyond, 2)} decades beyond"


def _versus_one(gain: Gain) -> str:
    if gain.interval is None or gain.interval[0] > 1 or gain.interval[1] < 1:
        return ""
    return "; the interval includes 1, so no difference is established by these laws"


def scale_sentence(found: Growth) -> str:
    """Whether the gain depends on scale, with the gap of exponents and the factor per decade."""
    gap = f"the exponents of {found.b} and {found.a} differ by {with_interval(found.gap, found.gap_interval)}"
    if found.gap_interval is None:
        return f"Whether the gain depends on scale is not known: {gap}."
    if not found.excludes_zero:
        return f"That the gain depends on scale is not established: {gap}, and the interval includes 0."
    if not found.sound:
        return (
            f"That the gain depends on scale is not established: {gap}; the interval excludes 0, but the fit or its intervals "
            "are not sound (see the warnings)."
        )
    return (
        f"The gain {'grows' if found.gap > 0 else 'shrinks'} with scale: {gap}, and the interval excludes 0; per decade of "
        f"compute it changes by a factor of {with_interval(found.per_decade, found.per_decade_interval)}."
    )
