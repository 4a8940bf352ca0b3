"""Which stage of progress contributed how much: a study's arithmetic, and beside it the gains composed consistently.

Laws are stated constants, which come without errors and so without intervals, or are fitted to runs, where every number
gets an interval from the bootstrap draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from algoprog.scaling.ceg import gain_at_flops
from algoprog.scaling.decomposition.composed import Composed, FlopsRanges, composed
from algoprog.scaling.decomposition.estimate import with_draws
from algoprog.scaling.decomposition.plan import AllocationStage, LawStage, Plan
from algoprog.scaling.decomposition.read import read_plan
from algoprog.scaling.decomposition.reference_dependence import ReferenceDependence, reference_dependence
from algoprog.scaling.decomposition.stages import Recipes
from algoprog.scaling.decomposition.study import StudyArithmetic, study_arithmetic
from algoprog.scaling.errors import InputError
from algoprog.scaling.laws import LogLaw, PowerLaw
from algoprog.scaling.runs.load import require_arch
from algoprog.scaling.study import Analysis, largest_in_range

NO_ERRORS = "no interval: constants without errors"


@dataclass(frozen=True)
class SpanResult:
    """One span of years; ``flops`` are spent at the frontier in its last year. ``left_out``: stages that come later."""

    span: tuple[float, float]
    flops: float
    left_out: tuple[str, ...]
    study: StudyArithmetic
    composed: Composed

    @property
    def label(self) -> str:
        """``2012-2023``."""
        return f"{self.span[0]:g}-{self.span[1]:g}"


@dataclass(frozen=True)
class Decomposition:
    """What :func:`decompose` found. ``laws``: those used, by name; ``method``: of the intervals, or why there are none;
    ``level`` of the intervals; ``notes``: sentences that a reader needs.
    """

    plan: Plan
    laws: Mapping[str, PowerLaw]
    spans: tuple[SpanResult, ...]
    references: ReferenceDependence | None
    method: str
    level: float
    notes: tuple[str, ...]


def decompose(config: object, analysis: Analysis | None = None, where: str = "decomposition") -> Decomposition:
    """Decompose the gain that ``config`` describes, a plain mapping.

    All keys: ``configs/decompose/gundlach-2025.yaml``. ``analysis``: laws fitted to runs replace the stated ones; each law
    of the configuration must then name its ``arch``. ``where``: what an error calls the configuration. Raises InputError,
    with the path of the key, for a bad configuration and for an architecture without a law in the runs; what the numbers
    do is told by statuses and notes.
    """
    plan = read_plan(config, where)
    level = 0.95 if analysis is None else analysis.boot.level
    laws, vectors, ranges = _laws(plan, analysis, where)
    spans = []
    for span in plan.spans:
        names = plan.of_span(span)
        recipes = Recipes(plan.start, plan.stages, vectors, names)
        log_c = float(plan.trend.log_flops(span[1]))
        spans.append(
            SpanResult(
                span=span,
                flops=plan.trend.at(span[1]),
                left_out=tuple(stage.name for stage in plan.stages if stage.name not in names),
                study=study_arithmetic(plan, recipes, span, level),
                composed=composed(recipes, log_c, level, ranges, plan.level_at),
            )
        )
    wanted = plan.references
    return Decomposition(
        plan=plan,
        laws=laws,
        spans=tuple(spans),
        references=None if wanted is None else reference_dependence(plan, wanted, vectors, level),
        method=NO_ERRORS if analysis is None else analysis.boot.describe(*_archs(plan)),
        level=level,
        notes=tuple(_notes(plan, laws, spans, analysis)),
    )


def _archs(plan: Plan) -> tuple[str, ...]:
    return tuple(stated.arch for stated in plan.laws.values() if stated.arch is not None)


def _laws(
    plan: Plan, analysis: Analysis | None, where: str
) -> tuple[dict[str, PowerLaw], dict[str, LogLaw], FlopsRanges]:
    """Per name the law, the law with its draws, and the FLOPs of its data."""
    if analysis is None:
        laws = {name: stated.law for name, stated in plan.laws.items()}
        ranges = {name: stated.flops_range for name, stated in plan.laws.items()}
        return laws, {name: with_draws(law) for name, law in laws.items()}, ranges
    laws, vectors, found = {}, {}, {}
    for name, stated in plan.laws.items():
        path = f"{where}.laws.{name}.arch"
        if stated.arch is None:
            remedy = "name the architecture of the runs that this law stands for"
            raise InputError("missing, and laws from runs were asked for", where=path, remedy=remedy)
        _require_law(analysis, stated.arch, path)
        laws[name] = analysis.fit.laws[stated.arch]
        vectors[name] = with_draws(laws[name], stated.arch, analysis.boot)
        found[name] = analysis.fit.flops_range[stated.arch]
    return laws, vectors, found


def _require_law(analysis: Analysis, arch: str, path: str) -> None:
    try:
        require_arch(arch, set(analysis.points["arch"]))
    except InputError as error:
        raise InputError(str(error), where=path, remedy="change arch in a copy of the file") from None
    if arch not in analysis.fit.laws:
        raise InputError(f"no law for {arch}: its frontier has too few points", where=path, got=analysis.fit.reason)


def _notes(plan: Plan, laws: Mapping[str, PowerLaw], spans: list[SpanResult], analysis: Analysis | None) -> list[str]:
    found = [*_two_optima(plan, laws)]
    if analysis is None:
        found.append("The laws are stated constants without errors, so no number here has an interval.")
    else:
        found.append(
            "The intervals hold the sampling error of the laws; invariant gains, surface, policy and compute trend are "
            "stated constants, and what rests on them alone has no interval."
        )
        found += [*_inside_data(plan, analysis), *analysis.warnings]
    for span in spans:
        for name in span.left_out:
            found.append(f"{span.label}: {name} comes later and is left out.")
        if span.composed.status != "ok":
            found.append(f"{span.label}: {span.composed.status}; there are no shares.")
        if span.composed.decades_beyond:
            found.append(
                f"{span.label}: extrapolated, {span.composed.decades_beyond:.1f} decades of compute beyond the laws' data."
            )
        if span.composed.reference_free is None:
            found.append(f"{span.label}: the laws have different E, so there are no shares free of a reference.")
    return found


def _two_optima(plan: Plan, laws: Mapping[str, PowerLaw]) -> list[str]:
    """An allocation stage on top of a law claims that the law is optimal, with another exponent than its own optimum."""
    found = []
    for stage in plan.stages:
        if not isinstance(stage, AllocationStage):
            continue
        below = [s for s in plan.stages if isinstance(s, LawStage) and s.name in stage.after]
        if below:
            alpha, gamma = laws[below[-1].law].alpha, stage.change.surface.gamma
            found.append(
                f"Two different optimal architectures: the law {below[-1].law} falls with exponent {alpha:.3g}, the optimum of "
                f"the surface behind {stage.name} with gamma {gamma:.3g}; the decomposition takes them for one."
            )
    return found


def _inside_data(plan: Plan, analysis: Analysis) -> list[str]:
    """The measured gain at the largest compute inside the data of the first and the last law."""
    last = [stage.law for stage in plan.stages if isinstance(stage, LawStage)]
    if not last:
        return []
    a, b = plan.laws[plan.start].arch, plan.laws[last[-1]].arch
    assert a is not None and b is not None
    flops = largest_in_range(analysis.fit, a, b)
    if flops is None:
        return [f"No gain of {b} over {a} lies inside the data."]
    gain = gain_at_flops(analysis.fit, a, b, flops, boot=analysis.boot)
    ends = "no interval" if gain.interval is None else f"{gain.interval[0]:.3g} to {gain.interval[1]:.3g}"
    return [f"The largest gain of {b} over {a} inside the data: {gain.gain:.3g} ({ends}) at {flops:.3g} FLOPs."]
