"""Named ways to turn a FLOP vector into one number. The vector is kept; an analysis chooses a convention by name.

The choice is not cosmetic: from width 64 to 768 the exact count grows 40 times, ``kaplan_6n`` 1590 times, so a law fitted
in one convention is another law than the same runs give in the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from algoprog.config import unknown_key
from algoprog.flops.count import HARDWARE_COMPONENTS, FlopCount, head_recompute, whole_share


@dataclass(frozen=True)
class Facts:
    """What conventions need to know about a model and one sequence of ``tokens`` positions.

    Parameters: ``params`` all of them, a tied table once; ``input_params`` tables that are only gathered from (an untied
    token table, learned positions); ``table_params`` those of the token table (V D). ``attention_heads`` over all layers.
    """

    count: FlopCount
    tokens: int
    params: int
    input_params: int
    table_params: int
    attention_heads: int
    tied: bool


@dataclass(frozen=True)
class Convention:
    """Training FLOPs of one sequence by one rule; ``includes`` in words, ``source`` the paper or program it is from."""

    name: str
    includes: str
    source: str
    per_sequence: Callable[[Facts], int]


def _full_attention(facts: Facts) -> int:
    return 6 * (facts.params - facts.input_params) * facts.tokens + facts.count.of("attn_scores_full")


def _chinchilla(facts: Facts) -> int:
    forward = sum(facts.count.model.forward.values()) - facts.count.forward.get("attn_scores_causal", 0)
    forward += facts.count.forward.get("attn_scores_full", 0)
    embedding = 2 * facts.table_params * facts.tokens
    softmax = 3 * facts.attention_heads * facts.tokens * facts.tokens
    return 3 * (forward + embedding + softmax)


def _study_theoretical(facts: Facts) -> int:
    second_table = 0 if facts.tied else facts.table_params
    return 6 * (facts.params - second_table) * facts.tokens


DEFAULT = "causal_exact"

CONVENTIONS: dict[str, Convention] = {
    convention.name: convention
    for convention in (
        Convention(
            DEFAULT,
            "forward and backward matrix products; scores of visible pairs only; head included; embedding 0",
            "matrix products of the definition, counted module by module",
            lambda facts: facts.count.training_total,
        ),
        Convention(
            "full_attention",
            "6 per parameter that is not only gathered, biases and gains too, plus scores of all T x T pairs",
            "Chowdhery et al. 2022 (PaLM), appendix B; torchtitan's 6 (N - embedding) + 12 L D T",
            _full_attention,
        ),
        Convention(
            "kaplan_6n",
            "6 per entry of the matrices between embedding and head, active experts only; no scores, no head, no biases",
            "Kaplan et al. 2020, section 2.1 and equation 2.1, with C = 6 N per token",
            lambda facts: facts.count.of("attn_proj", "mlp", "recurrent", "scan", "router"),
        ),
        Convention(
            "six_n_total",
            "6 per parameter, all of them, a tied table once; no scores",
            "the approximation C = 6 N D of Kaplan et al. 2020 and Hoffmann et al. 2022, with N the total",
            lambda facts: 6 * facts.params * facts.tokens,
        ),
        Convention(
            "chinchilla_f",
            "products with all T x T pairs, softmax 3 per pair and head, the embedding as a product with one-hot vectors",
            "Hoffmann et al. 2022, appendix F; recurrent layers, which it does not treat, by their products",
            _chinchilla,
        ),
        Convention(
            "study_profiler",
            "products that torch.profiler sees: linear maps; no fused attention, no fused LSTM, so an LSTM is its head alone",
            "arXiv 2511.21622, the profiler column of its runs, without elementwise products and sums",
            lambda facts: facts.count.of("attn_proj", "mlp", "scan", "router", "head"),
        ),
        Convention(
            "study_theoretical",
            "6 per parameter, the embedding counted once also where it is not tied; no scores",
            "arXiv 2511.21622, the theoretical column of its runs",
            _study_theoretical,
        ),
        Convention(
            "hardware",
            "causal_exact plus products that are executed twice or on padding: scores again in the backward pass",
            "Dao et al. 2022, algorithm 4, for fused attention; plain PyTorch for everything else, unless with_head says so",
            lambda facts: facts.count.training_total + facts.count.of(*HARDWARE_COMPONENTS),
        ),
    )
}


def named(name: str, where: object = "--flops") -> Convention:
    """The convention called ``name``.

    Raises:
        InputError: there is none; the nearest name is given.
    """
    if name not in CONVENTIONS:
        raise unknown_key(name, list(CONVENTIONS), where=where, kind="FLOP convention")
    return CONVENTIONS[name]


def with_head(facts: Facts, kind: str) -> Facts:
    """The same facts of a run whose vocabulary head was of this kind (:data:`algoprog.flops.count.HEADS`).

    Only ``hardware`` changes: 8 N V D in place of 6 N V D for a head in chunks, 10 N V D for one without logits in memory.

    Raises:
        ValueError: there is no such kind.
    """
    return replace(facts, count=facts.count + head_recompute(facts.count, kind))


def per_sequence(facts: Facts) -> dict[str, int]:
    """Training FLOPs of one sequence in every convention."""
    return {name: convention.per_sequence(facts) for name, convention in CONVENTIONS.items()}


def per_token(values: Mapping[str, int], tokens: int) -> dict[str, int]:
    """Sequence totals as whole numbers per token.

    Raises:
        ValueError: a convention is not a whole number per token.
    """
    return {name: whole_share(value, tokens, name) for name, value in values.items()}
