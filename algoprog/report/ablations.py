"""What each single change of one recipe is worth: by repeats at one budget, and by the laws of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from algoprog.report.numbers import Interval, flops
from algoprog.scaling import Analysis, Gain, MatchedGain, matched_gain

FEWEST = 3


@dataclass(frozen=True)
class Bar:
    """A gain with its interval; ``by_laws``: from the laws of both recipes, not from repeats at one budget."""

    gain: float
    interval: Interval
    by_laws: bool


@dataclass(frozen=True)
class Ablation:
    """The gain of the common new architecture over an old one.

    ``matched``: by repeats at the largest budget that both ran, without a number where there are none. ``by_laws``: by the
    laws of both at the largest compute inside the data of both, None where there is none.
    """

    matched: MatchedGain
    by_laws: Gain | None

    @property
    def old(self) -> str:
        """The architecture with the change undone."""
        return self.matched.a

    @property
    def new(self) -> str:
        """The common new architecture."""
        return self.matched.b

    @property
    def bar(self) -> Bar | None:
        """The gain that is reported: by repeats, else by laws; None without either."""
        if self.matched.gain is not None:
            return Bar(self.matched.gain, self.matched.interval, by_laws=False)
        return None if self.by_laws is None else Bar(self.by_laws.gain, self.by_laws.interval, by_laws=True)


def ablations_of(analysis: Analysis, compare: Sequence[tuple[str, str]]) -> tuple[Ablation, ...]:
    """The pairs of ``compare`` that share the most common new architecture, the largest gain first; none below three.

    Pairs need finished runs of the old architecture and a law of the new one. Those without any gain come last.
    """
    news = [new for _, new in compare]
    common = max(news, key=news.count, default="")
    if news.count(common) < FEWEST or common not in analysis.fit.laws:
        return ()
    archs = set(analysis.points["arch"])
    olds = dict.fromkeys(old for old, new in compare if new == common and old in archs)
    return sorted_ablations([ablation(analysis, old, common) for old in olds])


def ablation(analysis: Analysis, old: str, new: str) -> Ablation:
    """The gain of ``new`` over ``old`` both ways. Raises InputError where ``matched_gain`` does."""
    by_laws = [pair.at_largest for pair in analysis.gains if (pair.a, pair.b) == (old, new)]
    matched = matched_gain(analysis.points, old, new, analysis.fit, analysis.boot, seed=analysis.boot.seed)
    return Ablation(matched, by_laws[0] if by_laws else None)


def sorted_ablations(ablations: Sequence[Ablation]) -> tuple[Ablation, ...]:
    """The largest gain first, those without one last."""
    return tuple(sorted(ablations, key=lambda one: (one.bar is None, -one.bar.gain if one.bar else 0.0)))


def at_flops(values: Sequence[float]) -> str:
    """``1.8e11 FLOPs``, or ``5.4e10 to 1.8e11 FLOPs`` where rounded values differ. There must be one value."""
    low, high = flops(min(values)), flops(max(values))
    return f"{low} FLOPs" if low == high else f"{low} to {high} FLOPs"
