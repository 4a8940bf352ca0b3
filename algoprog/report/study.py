"""The study's figures redrawn from its published numbers, beside the same figures of our runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from algoprog.report.figure_study_allocation import study_allocation_figure
from algoprog.report.figure_study_bars import study_ablations_figure, study_interactions_figure
from algoprog.report.figure_study_progress import study_progress_figure
from algoprog.report.figure_study_scaling import study_scaling_figure
from algoprog.report.figure_study_sensitivity import study_sensitivity_figure
from algoprog.report.figures import write_figures
from algoprog.report.study_runs import Ours, Part, read_ours
from algoprog.report.study_words import captions
from algoprog.scaling.commands import plain
from algoprog.scaling.interactions.commands import interactions_json
from algoprog.scaling.published import changes
from algoprog.scaling.published.commands import published_json


@dataclass(frozen=True, eq=False)
class Comparison:
    """Our runs beside the study, the ``captions`` of its figures by name, and the files written."""

    ours: Ours
    captions: dict[str, str]
    files: tuple[Path, ...]

    def as_json(self) -> dict[str, Any]:
        """The published numbers with their sources, what they give again, our runs per figure, captions and files."""
        parts: dict[str, Part[Any]] = {
            "scaling": self.ours.laws,
            "ablations": self.ours.ablations,
            "interactions": self.ours.together,
            "allocation": self.ours.allocation,
        }
        mine = {
            "runs": {
                name: {"from": None if part.runs is None else str(part.runs.path), "why_not": part.why}
                for name, part in parts.items()
            },
            "gains": [self._gain(change) for change in (*changes.ABLATIONS, *changes.CLASSES)],
            "together": None
            if self.ours.together.value is None
            else interactions_json(self.ours.together.value)["product"],
            "captions": self.captions,
            "figures": [str(path) for path in self.files],
        }
        return published_json() | plain(mine)

    def _gain(self, change: changes.Change) -> dict[str, Any]:
        """A published gain beside ours (null: none); ``by_laws``: at the largest compute in range, not from repeats."""
        gain = self.ours.gain(change.old, change.new)
        mine = None if gain is None else asdict(gain)
        return {
            "change": change.label,
            "from": change.old,
            "to": change.new,
            "published": change.gain.value,
            "ours": mine,
        }


def compare_with_study(paths: Sequence[Path], out: Path | None, draws: int = 1000, seed: int = 0) -> Comparison:
    """Read our runs in ``paths``, which may be empty, and draw the six figures into ``out`` as PNG and PDF, if given.

    Raises InputError for runs that cannot be read or are not finished, and where ``out`` cannot be written.
    """
    ours = read_ours(paths, draws, seed)
    files = () if out is None else write_figures(study_figures(ours), out)
    return Comparison(ours, captions(ours), files)


def study_figures(ours: Ours) -> dict[str, Figure]:
    """The six figures by name."""
    told = captions(ours)
    return {
        "study-scaling": study_scaling_figure(ours.laws, told["study-scaling"]),
        "study-ablations": study_ablations_figure(ours, told["study-ablations"]),
        "study-interactions": study_interactions_figure(ours, told["study-interactions"]),
        "study-allocation": study_allocation_figure(ours.allocation, told["study-allocation"]),
        "study-progress": study_progress_figure(ours.laws, told["study-progress"]),
        "study-sensitivity": study_sensitivity_figure(ours.laws, told["study-sensitivity"]),
    }
