"""What a sweep was asked: interactions and a chain as its file declares them, the optimal size, and the tests of its laws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from algoprog.report.chain import Asked, Chain, decompose_chain
from algoprog.report.law_tests import ArchTests, GainLicence, gains_beyond, law_tests
from algoprog.report.optimal_size import OptimalSize, optimal_sizes
from algoprog.report.record import Record, Row, dig
from algoprog.scaling import Analysis, InputError, load_runs
from algoprog.scaling.interactions.analysis import factorial
from algoprog.scaling.interactions.result import FactorialAnalysis
from algoprog.sweep.store import FILE, open_for_reading

FEWEST_DRAWS = 100


@dataclass(frozen=True, eq=False)
class Answers:
    """``factorial`` and ``chain`` where the sweep asks for them, or the problem; ``laws``: the tests of every architecture,
    ``beyond``: the licences of extrapolated gains; ``sizes``: of every architecture with the sizes for it."""

    factorial: FactorialAnalysis | None
    factorial_problem: str
    chain: Chain | None
    chain_problem: str
    laws: tuple[ArchTests, ...]
    beyond: tuple[GainLicence, ...]
    sizes: tuple[OptimalSize, ...] = ()


@dataclass(frozen=True)
class Declared:
    """Interactions as a sweep declares them: config keys with (old, new) levels, and whose law turns losses into compute."""

    factors: Mapping[str, tuple[str, str]]
    law_arch: str


def declared_factors(meta: Row) -> Declared | None:
    """What the store says that it is a factorial experiment of; None if it says nothing."""
    factors, arch = dig(meta, "sweep", "interactions", "factors"), dig(meta, "sweep", "interactions", "law_arch")
    if not isinstance(factors, Mapping) or not isinstance(arch, str):
        return None
    return Declared({str(name): (str(old), str(new)) for name, (old, new) in factors.items()}, arch)


def declared_chain(meta: Row) -> Asked | None:
    """The chain that the store's sweep asks to decompose; None if it asks for none."""
    stages, years = dig(meta, "sweep", "decompose", "stages"), dig(meta, "sweep", "decompose", "years")
    if not isinstance(stages, list):
        return None
    trend = dig(meta, "sweep", "decompose", "compute")
    return Asked(tuple(map(str, stages)), None if years is None else tuple(map(float, years)), trend)


def factors_of_store(folder: Path) -> Declared:
    """What the sweep in ``folder`` declares. Raises InputError if it is no sweep's folder, or declares nothing."""
    remedy = "add --factor NAME=OLD,NEW, or a block interactions to the sweep file"
    if not (folder / FILE).is_file():
        raise InputError(
            "no factor", where=folder, expected="--factor, or a sweep that declares its factors", remedy=remedy
        )
    with open_for_reading(folder) as store:
        found = declared_factors(store.meta())
    if found is None:
        raise InputError("this sweep declares no factors", where=folder, remedy=remedy)
    return found


def answers(folder: Path, analysis: Analysis, record: Record, draws: int) -> Answers:
    """Everything that was asked of the sweep in ``folder``, with the laws of ``analysis``."""
    found, problem = _factorial(folder, analysis, declared_factors(record.meta), draws)
    chain, lacking = _chain(analysis, declared_chain(record.meta))
    tests = law_tests(analysis, draws)
    beyond, sizes = gains_beyond(analysis, tests), optimal_sizes(analysis, draws)
    return Answers(found, problem, chain, lacking, tests, beyond, sizes)


def _factorial(
    folder: Path, analysis: Analysis, asked: Declared | None, draws: int
) -> tuple[FactorialAnalysis | None, str]:
    if asked is None:
        return None, ""
    arch = asked.law_arch
    if arch not in analysis.fit.laws:
        return None, f"there is no law of {arch} yet, on which losses are read as compute"
    drawn = analysis.boot.law(arch)
    try:
        points = load_runs(folder, keep=list(asked.factors), required=("flops", "loss"))
        return factorial(
            points, asked.factors, law=analysis.fit.laws[arch], law_draws=drawn if drawn.E.size else None,
            law_range=analysis.fit.flops_range[arch], draws=max(draws, FEWEST_DRAWS),
        ), ""  # fmt: skip
    except InputError as error:
        return None, str(error).replace(str(folder / FILE), "the store")


def _chain(analysis: Analysis, asked: Asked | None) -> tuple[Chain | None, str]:
    if asked is None:
        return None, ""
    try:
        return decompose_chain(analysis, asked), ""
    except InputError as error:
        return None, str(error)
