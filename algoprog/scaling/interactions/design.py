"""The design of a two-level factorial experiment: cells, contrasts, and which effects the runs can tell.

Levels are coded -1 (old) and +1 (new); the column of an interaction is the product of its factors' columns (Box, Hunter
and Hunter, Statistics for Experimenters, chapter 5). An effect is twice its coefficient: the mean at +1 minus the mean
at -1. In a complete design the columns are orthogonal; with cells missing, orders of interaction are given up from the
top until the rest can be estimated.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from algoprog.scaling.laws import FloatArray

Term = tuple[int, ...]
RANK_TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False)
class Design:
    """``signs`` (runs, factors) of -1 and +1, ``block`` (runs,) the number of each run's budget."""

    signs: NDArray[np.intp]
    block: NDArray[np.intp]

    @property
    def cell(self) -> NDArray[np.intp]:
        """The cell of each run, shape (runs,): bit j is set where factor j is new."""
        bits = (self.signs > 0) << np.arange(self.signs.shape[1])
        return np.asarray(bits.sum(axis=1), dtype=np.intp)

    @property
    def group(self) -> NDArray[np.intp]:
        """Cell and budget as one number, shape (runs,): runs of one group are replicates."""
        return np.asarray(self.block * (1 << self.signs.shape[1]) + self.cell, dtype=np.intp)


def terms_up_to(factors: int, order: int) -> list[Term]:
    """All sets of at most ``order`` factors, by size, then in the order of the factors."""
    return [term for size in range(1, order + 1) for term in combinations(range(factors), size)]


def model_matrix(design: Design, terms: list[Term]) -> FloatArray:
    """One indicator column per budget, then one column of signs per term; shape (runs, budgets + terms)."""
    blocks = (design.block[:, None] == np.unique(design.block)).astype(np.float64)
    columns = [design.signs[:, list(term)].prod(axis=1) for term in terms]
    return np.column_stack([blocks, *columns]).astype(np.float64)


def highest_order(design: Design, wanted: int) -> int:
    """The highest order up to ``wanted`` at which every term can be estimated; 1 if none is."""
    for order in range(wanted, 1, -1):
        matrix = model_matrix(design, terms_up_to(design.signs.shape[1], order))
        if np.linalg.matrix_rank(matrix) == matrix.shape[1]:
            return order
    return 1


def effect_weights(design: Design, terms: list[Term]) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Weights on runs that give each effect, shape (terms, runs), and which effects are estimable, (terms,)."""
    matrix = model_matrix(design, terms)
    inverse = np.linalg.pinv(matrix)
    # Estimable: the coefficient is the same in every solution, so its row of pinv(X) X is a unit row.
    resolved = np.abs(inverse @ matrix - np.eye(matrix.shape[1])).max(axis=1) < RANK_TOLERANCE
    blocks = matrix.shape[1] - len(terms)
    weights = np.asarray(2.0 * inverse[blocks:], dtype=np.float64)
    return weights, np.asarray(resolved[blocks:], dtype=bool)


def group_means(design: Design) -> FloatArray:
    """The matrix that replaces every run by the mean of its replicates, shape (runs, runs)."""
    same = (design.group[:, None] == design.group[None, :]).astype(np.float64)
    return np.asarray(same / same.sum(axis=1, keepdims=True))


def difference_weights(design: Design, plus: list[int], minus: list[int]) -> FloatArray | None:
    """Weights on runs of ``sum of plus cells - sum of minus cells``, shape (runs,); None if never all present.

    Averaged over the budgets that hold every cell named. A cell may be named more than once.
    """
    found = []
    for block in np.unique(design.block):
        present = set(design.cell[design.block == block])
        if present >= {*plus, *minus}:
            weights = np.zeros(design.cell.size)
            for cells, sign in ((plus, 1.0), (minus, -1.0)):
                for cell in cells:
                    members = (design.cell == cell) & (design.block == block)
                    weights += sign * members / members.sum()
            found.append(weights)
    return np.asarray(np.mean(found, axis=0)) if found else None
