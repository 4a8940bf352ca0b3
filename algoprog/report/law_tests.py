"""Is each law one law, and how far may it be used? The tests of every architecture's frontier, as far as a page can wait."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from algoprog.scaling import Analysis, Gain
from algoprog.scaling.breakpoints.breaks import BreakTest, break_test
from algoprog.scaling.breakpoints.extrapolation import Extrapolation, extrapolate
from algoprog.scaling.breakpoints.licensing import Licence, LicenceStatus, gain_licences

DRAWS, FEWEST_DRAWS = 199, 19
# Every cut is refitted in every simulated study, so the time grows with the square of the points: 40 of them take some 2 s.
POINTS, MOST_POINTS, LESS_DRAWS = 40, 60, 99
MOST_ARCHS = 8
FEWEST_POINTS = 6  # five to fit and one to predict; a test for a break needs more, and says so


@dataclass(frozen=True, eq=False)
class ArchTests:
    """Both tests of one architecture, or ``skipped``: why they were not made, besides too few ``points`` on its frontier."""

    arch: str
    points: int
    test: BreakTest | None
    extrapolation: Extrapolation | None
    skipped: str = ""

    @property
    def too_few(self) -> bool:
        """True if the frontier leaves nothing to test."""
        return self.points < FEWEST_POINTS


@dataclass(frozen=True)
class GainLicence:
    """An extrapolated gain, and whether the law of each side outside its data may be used there."""

    gain: Gain
    licences: tuple[Licence, ...]

    @property
    def allowed(self) -> bool:
        """True if every law is licensed where it is used."""
        return all(one.allowed for one in self.licences)


def law_tests(analysis: Analysis, draws: int) -> tuple[ArchTests, ...]:
    """The tests of every architecture in alphabetical order; at most ``draws`` simulated studies, and no more than 199.

    The eight architectures with most points are tested, and frontiers of 6 to 60 points: the rest is told as skipped.
    """
    sizes = analysis.frontier["arch"].value_counts()
    archs = sorted(map(str, sizes.index))
    chosen = sorted(archs, key=lambda arch: (-int(sizes[arch]), arch))[:MOST_ARCHS]
    return tuple(_tests(analysis, arch, int(sizes[arch]), arch in chosen, draws) for arch in archs)


def _tests(analysis: Analysis, arch: str, n: int, chosen: bool, draws: int) -> ArchTests:
    if n < FEWEST_POINTS:
        return ArchTests(arch, n, None, None)
    if not chosen or n > MOST_POINTS:
        limit = f"at most {MOST_ARCHS} architectures" if not chosen else f"frontiers of at most {MOST_POINTS} points"
        return ArchTests(arch, n, None, None, f"a page tests {limit}; `algoprog breaks` tests this one")
    own = analysis.frontier[analysis.frontier["arch"] == arch]
    draws = max(FEWEST_DRAWS, min(draws, DRAWS if n <= POINTS else LESS_DRAWS))
    return ArchTests(arch, n, break_test(own, draws), extrapolate(own, draws=draws))


def gains_beyond(analysis: Analysis, tests: Sequence[ArchTests]) -> tuple[GainLicence, ...]:
    """Every extrapolated gain of the page with the licences of those laws that leave their data for it."""
    known = {one.arch: one.extrapolation for one in tests if one.extrapolation is not None}
    found = []
    for pair in analysis.gains:
        gain = pair.at_centre
        if gain is not None and not gain.in_range and {pair.a, pair.b} <= set(known):
            both = gain_licences(gain, known)
            found.append(GainLicence(gain, tuple(one for one in both if one.status is not LicenceStatus.IN_RANGE)))
    return tuple(found)
