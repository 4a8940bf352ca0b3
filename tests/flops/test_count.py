"""The vector itself: golden shapes, exact arithmetic, and what belongs to its sum."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from algoprog.config import LstmConfig, OptimConfig, TransformerConfig
from algoprog.flops import COMPONENTS, MODEL_COMPONENTS, FlopCount, causal_attention_flops
from algoprog.flops.optimizer import optimizer_flops
from algoprog.models import model_flops

GOLDEN = [  # width, depth, context, mlp width; training FLOPs per token: projections, scores, mlp, head, total
    (64, 1, 512, 192, 98304, 196992, 221184, 19298688, 19815168),
    (128, 2, 512, 320, 786432, 787968, 1474560, 38597376, 41646336),
    (256, 4, 512, 704, 6291456, 3151872, 12976128, 77194752, 99614208),
    (512, 8, 1024, 1344, 50331648, 25190400, 99090432, 154389504, 329001984),
    (768, 12, 1024, 2048, 169869312, 56678400, 339738624, 231584256, 797870592),
]


@pytest.mark.parametrize(("d", "depth", "T", "ff", "proj", "scores", "mlp", "head", "total"), GOLDEN)
@pytest.mark.parametrize("tied", [False, True])
def test_golden_transformers(
    d: int, depth: int, T: int, ff: int, proj: int, scores: int, mlp: int, head: int, total: int, tied: bool
) -> None:
    config = TransformerConfig(
        width=d, depth=depth, heads=d // 64, vocab=50257, context=T, mlp_ratio=8 / 3, mlp_multiple=64, tied=tied
    )
    assert config.mlp_width == ff
    count = model_flops(config)
    per_token = {name: e["forward"] + e["backward"] for name, e in count.model.per_token(T).items()}
    assert per_token == {"embed": 0, "attn_proj": proj, "attn_scores_causal": scores, "mlp": mlp, "head": head}
    assert count.training_total == T * (proj + scores + mlp + head) == T * total


@pytest.mark.parametrize(
    ("d", "depth", "recurrent", "total"),
    [(64, 1, 196608, 19495296), (128, 2, 1572864, 40170240), (512, 2, 25165824, 179555328)],
)
def test_golden_lstms(d: int, depth: int, recurrent: int, total: int) -> None:
    count = model_flops(LstmConfig(width=d, depth=depth, vocab=50257, context=128))
    assert count.of("recurrent") == 128 * recurrent
    assert count.training_total == 128 * total


def test_attention_by_counting_pairs_one_by_one() -> None:
    """Every visible pair costs a product over the head for its score and one for its value, and 4 more going back."""
    width, tokens = 6, 9
    visible = sum(1 for query in range(tokens) for key in range(tokens) if key <= query)
    count = causal_attention_flops(width, tokens)
    assert count.as_dict() == {
        "attn_scores_causal": {"forward": 4 * width * visible, "backward": 8 * width * visible},
        "recompute": {"forward": 0, "backward": 2 * width * visible},
        "attn_scores_full": {"forward": 4 * width * tokens**2, "backward": 8 * width * tokens**2},
    }
    assert count.training_total == 12 * width * visible


def test_vectors_add_subtract_and_scale_exactly() -> None:
    a, b = FlopCount.of_products("mlp", 7), FlopCount({"head": 1}, {"head": 5})
    total = (a + b) * 10**20
    assert total.training_total == 27 * 10**20 and total.forward_total == 8 * 10**20
    assert total.as_dict() == {
        "mlp": {"forward": 7 * 10**20, "backward": 14 * 10**20}, "head": {"forward": 10**20, "backward": 5 * 10**20},
    }  # fmt: skip
    assert (total - a * 10**20).of("mlp") == 0 and (a - b).of("head") == -6


entries = st.dictionaries(st.sampled_from(COMPONENTS), st.integers(0, 10**30))
counts = st.builds(FlopCount, entries, entries)


@given(counts, counts, st.integers(0, 10**12))
def test_arithmetic(a: FlopCount, b: FlopCount, times: int) -> None:
    assert (a + b).training_total == a.training_total + b.training_total
    assert ((a + b) - b).of(*COMPONENTS) == a.of(*COMPONENTS)
    assert (a * times).of("mlp") == a.of("mlp") * times
    assert FlopCount.from_dict(a.as_dict()).as_dict() == a.as_dict()
    assert a.training_total == a.model.of(*COMPONENTS) == a.of(*MODEL_COMPONENTS)


def test_other_work_never_enters_the_sum() -> None:
    extra = FlopCount({name: 1 for name in COMPONENTS if name not in MODEL_COMPONENTS})
    assert extra.training_total == extra.forward_total == 0 and extra.of(*COMPONENTS) == 5


def test_shares_per_token_are_exact_or_refused() -> None:
    assert FlopCount({"mlp": 12}).per_token(4) == {"mlp": {"forward": 3, "backward": 0}}
    with pytest.raises(ValueError, match="forward mlp: 13 FLOPs are not a whole number for each of 4 tokens"):
        FlopCount({"mlp": 13}).per_token(4)


def test_only_known_components_and_exact_integers() -> None:
    with pytest.raises(AssertionError, match="unknown FLOP component"):
        FlopCount({"magic": 1})
    with pytest.raises(AssertionError, match="not an exact integer"):
        FlopCount({"mlp": 1.0})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("config", "per_param"),
    [
        ({"name": "adamw", "weight_decay": 0.0, "clip": None}, 13),
        ({"name": "adamw", "weight_decay": 0.1}, 13 + 1 + 3),
        ({"name": "adam", "weight_decay": 0.1, "clip": None}, 13 + 2),
        ({"name": "rmsprop", "weight_decay": 0.0, "clip": None}, 9),
        ({"name": "sgd", "weight_decay": 0.0, "clip": None}, 2),
        ({"name": "sgd", "momentum": 0.9, "weight_decay": 0.0, "clip": 1.0}, 2 + 2 + 3),
    ],
)
def test_optimizer_steps(config: dict[str, object], per_param: int) -> None:
    count = optimizer_flops(OptimConfig.model_validate({"lr": 0.1, **config}), 1000, 1000)
    assert count.of("optimizer") == 1000 * per_param and count.training_total == 0


def test_decay_is_counted_where_it_acts() -> None:
    config = OptimConfig(lr=0.1, weight_decay=0.1, clip=None, decay="matrices")
    assert optimizer_flops(config, 1000, 900).of("optimizer") == 13 * 1000 + 900
