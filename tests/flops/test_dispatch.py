"""The models' own counts against an independent counter of the operations that really run: equal integers, per component."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import flop_registry, register_flop_formula

from algoprog.config import BudgetConfig, InputError, LstmConfig, TransformerConfig
from algoprog.flops import FlopCount
from algoprog.flops.compare import executed
from algoprog.flops.dispatch import ProductCounter
from algoprog.flops.peers import Step
from algoprog.models import FAMILIES, build_model, build_skeleton, model_flops
from algoprog.models.lstm import LstmModel
from algoprog.recipes import preset_names, resolve
from algoprog.training.counting import watch, watch_shapes

Config = TransformerConfig | LstmConfig
WIDTHS, LENGTHS, VOCABULARIES = (32, 48, 64, 128, 256), (1, 17, 128, 512), (259, 4096, 50257)
VARIANTS = list(itertools.product(VOCABULARIES, (False, True), (False, True)))


def preset(arch: str, width: int, vocab: int = 259, **model: Any) -> Config:
    """The model of a preset; an LSTM is truncated into windows of 32 where they fit, else not at all."""
    if arch.startswith("lstm") and "context" in model:
        model.setdefault("bptt", 32 if model["context"] % 32 == 0 else model["context"])
    run = resolve(arch, width, BudgetConfig(tokens=1), data={"tokenizer": "gpt2"}, overrides={"model": model})
    return run.model.model_copy(update={"vocab": vocab})


def agrees(config: Config, batch: int = 1) -> None:
    assert executed(watch_shapes(config, batch)) == executed(model_flops(config) * batch)


@pytest.mark.parametrize("arch", preset_names())
@pytest.mark.parametrize("width", WIDTHS)
def test_every_preset_at_every_width_and_length(arch: str, width: int) -> None:
    for number, length in enumerate(LENGTHS):
        vocab, tied, bias = VARIANTS[(5 * number + width) % len(VARIANTS)]
        agrees(preset(arch, width, vocab, context=length, depth=1, tied=tied, bias=bias))


@pytest.mark.slow
@pytest.mark.parametrize("arch", preset_names())
@pytest.mark.parametrize("width", WIDTHS)
def test_the_whole_grid(arch: str, width: int) -> None:
    for length, (vocab, tied, bias) in itertools.product(LENGTHS, VARIANTS):
        agrees(preset(arch, width, vocab, context=length, depth=1, tied=tied, bias=bias))


@pytest.mark.parametrize(("arch", "depth"), [("modern", 3), ("retro", 16), ("lstm", 4)])
def test_depths_and_batches(arch: str, depth: int) -> None:
    agrees(preset(arch, 64, context=32, depth=depth), batch=3)


def test_every_family_has_a_preset_and_so_a_count() -> None:
    """A new architecture is held to all of the above: presets are listed from the files, families from the registry. A
    user's own has no preset: it is counted before it runs."""
    assert {preset(arch, 32).family for arch in preset_names()} == set(FAMILIES) - {"plugin"}


def test_an_architecture_without_a_count_or_with_a_wrong_one_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    class Forgetful(LstmModel):
        flops = None  # type: ignore[assignment]

    class Generous(LstmModel):
        def flops(self, tokens: int) -> FlopCount:
            return super().flops(tokens) + FlopCount({"mlp": 1})

    class Skewed(LstmModel):
        def flops(self, tokens: int) -> FlopCount:
            return super().flops(tokens) + FlopCount({"recurrent": 8}, {"recurrent": -8})

    for broken in (Forgetful, Generous, Skewed):
        monkeypatch.setitem(FAMILIES, "lstm", broken)
        with pytest.raises((AssertionError, TypeError)):
            agrees(preset("lstm", 32, context=32))


@settings(max_examples=15, deadline=None)
@given(
    heads=st.integers(1, 4), half=st.integers(2, 12), depth=st.integers(1, 3), context=st.integers(1, 70),
    vocab=st.integers(2, 600), activation=st.sampled_from(["swiglu", "glu", "gelu", "relu"]), tied=st.booleans(),
    bias=st.booleans(), position=st.sampled_from(["rotary", "sinusoidal", "learned"]), batch=st.integers(1, 3),
    placement=st.sampled_from(["pre", "post"]), norm=st.sampled_from(["rms", "layernorm"]), ratio=st.floats(0.5, 5),
)  # fmt: skip
def test_any_transformer(heads: int, half: int, placement: str, ratio: float, batch: int, **model: Any) -> None:
    values = {"width": 2 * half * heads, "heads": heads, "norm_placement": placement, "mlp_ratio": ratio, **model}
    agrees(TransformerConfig.model_validate(values), batch)


@settings(max_examples=20, deadline=None)
@given(
    width=st.integers(1, 48), depth=st.integers(1, 3), windows=st.integers(1, 3), bptt=st.integers(1, 20),
    vocab=st.integers(2, 600), tied=st.booleans(), bias=st.booleans(), batch=st.integers(1, 3),
)  # fmt: skip
def test_any_lstm(windows: int, bptt: int, batch: int, **model: Any) -> None:
    agrees(LstmConfig(context=windows * bptt, bptt=bptt, **model), batch)


def real_step(config: Config) -> Step:
    tokens = torch.randint(config.vocab, (2, config.context), generator=torch.Generator().manual_seed(0))
    return Step(build_model(config, 0), tokens, tokens)


@pytest.mark.parametrize("arch", ["modern", "retro", "lstm-2"])
def test_real_tensors_give_the_same_count_as_fake_ones(arch: str) -> None:
    config = preset(arch, 32, context=64)
    assert watch(real_step(config)) == watch_shapes(config, 2)


def test_unfused_attention_yields_full_scores_from_plain_products_alone() -> None:
    """The independent path: no formula of a fused kernel takes part, and nothing is computed twice."""
    config = preset("modern", 32, context=17)
    with sdpa_kernel(SDPBackend.MATH):
        count = watch_shapes(config)
    expected = model_flops(config)
    assert count.of("attn_scores_causal", "recompute") == 0
    for direction in ("forward", "backward"):
        assert getattr(count, direction)["attn_scores_full"] == getattr(expected, direction)["attn_scores_full"]
        assert getattr(count, direction)["attn_proj"] == getattr(expected, direction)["attn_proj"]


def test_an_unfused_lstm_lacks_only_the_gradient_of_the_first_state() -> None:
    """Step by step in float64, and no gradient flows into a state that needs none: one product per layer and window."""
    config = LstmConfig(width=12, depth=2, vocab=31, context=12, bptt=4)
    with torch.device("meta"):
        model, tokens = build_skeleton(config), torch.zeros(1, 12, dtype=torch.int64)
    gap = (model_flops(config) - watch(Step(model, tokens, tokens))).model
    assert executed(gap) == {"recurrent": {"forward": 0, "backward": 2 * 3 * 8 * 12 * 12}}


@torch.library.custom_op("algoprog_test::project", mutates_args=())
def project(x: Tensor, weight: Tensor) -> Tensor:
    return x @ weight.T


@torch.library.custom_op("algoprog_test::project_backward", mutates_args=())
def project_backward(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    return grad @ weight, grad.T @ x


project.register_fake(lambda x, weight: x.new_empty(x.shape[0], weight.shape[0]))
project_backward.register_fake(lambda grad, x, weight: (torch.empty_like(x), torch.empty_like(weight)))
project.register_autograd(
    lambda ctx, grad: project_backward(grad, *ctx.saved_tensors),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
)


class Plain(nn.Module):
    component = "mlp"

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(5, 7))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.T


class Fused(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return project(x, self.weight)


def step_of(model: nn.Module) -> ProductCounter:
    x = torch.ones(3, 7, requires_grad=True)
    with ProductCounter(model) as counter:
        model(x).sum().backward()
    return counter


@pytest.fixture()
def formulas() -> Iterator[None]:
    register_flop_formula(torch.ops.algoprog_test.project)(lambda x, w, **_: 2 * x[0] * x[1] * w[0])
    register_flop_formula(torch.ops.algoprog_test.project_backward)(lambda g, x, w, **_: 4 * x[0] * x[1] * w[0])
    yield
    for op in (torch.ops.algoprog_test.project, torch.ops.algoprog_test.project_backward):
        del flop_registry[op]


def test_a_custom_operation_counts_as_its_unfused_twin(formulas: None) -> None:
    count = step_of(Fused()).count()
    assert count == step_of(Plain()).count()
    assert count.as_dict() == {"mlp": {"forward": 2 * 3 * 7 * 5, "backward": 4 * 3 * 7 * 5}}


def test_a_custom_operation_without_a_formula_is_an_error_not_a_zero() -> None:
    with pytest.raises(
        InputError, match="without a FLOP formula.*algoprog_test::project, .*project_backward.*register"
    ):
        step_of(Fused()).count()


def test_products_without_a_formula_or_outside_every_component_are_errors() -> None:
    class Nowhere(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x @ x.T

    class Strange(Plain):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cdist(x, self.weight)

    with pytest.raises(InputError, match="aten::mm outside every module with a component"):
        step_of(Nowhere()).count()
    with pytest.raises(InputError, match="aten::_cdist_forward"):
        step_of(Strange()).count()


def test_checkpointed_products_are_recomputation() -> None:
    class Squashed(Plain):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).tanh()  # its gradient needs the product's value

    class Saving(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Squashed()

        def forward(self, x: Tensor) -> Tensor:
            return checkpoint(self.inner, x, use_reentrant=False)

    once = 2 * 3 * 7 * 5
    assert step_of(Saving()).count().as_dict() == {
        "mlp": {"forward": once, "backward": 2 * once}, "recompute": {"forward": 0, "backward": once},
    }  # fmt: skip


def test_inference_mode_and_operations_are_seen() -> None:
    """Composite operations arrive whole in inference mode and are taken apart."""
    config = preset("modern", 32, context=16)
    step = real_step(config)
    with torch.inference_mode(), ProductCounter(step.model) as counter:
        step.forward()
    assert executed(counter.count())["mlp"] == {"forward": 2 * model_flops(config).forward["mlp"], "backward": 0}
    calls, flops = counter.operations["aten::linear", "mlp", "forward"]
    assert (calls, flops) == (2 * config.depth, 2 * model_flops(config).forward["mlp"])


@pytest.mark.parametrize("groups", [1, 4])
def test_convolutions(groups: int) -> None:
    class Mixing(nn.Module):
        component = "scan"

        def __init__(self) -> None:
            super().__init__()
            self.taps = nn.Conv1d(4, 8, 3, groups=groups, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.taps(x)

    x = torch.ones(2, 4, 10, requires_grad=True)
    model = Mixing()
    with ProductCounter(model) as counter:
        model(x).sum().backward()
    once = 2 * (2 * 8 * 8) * 3 * (4 // groups)
    assert counter.count().as_dict() == {"scan": {"forward": once, "backward": 2 * once}}
