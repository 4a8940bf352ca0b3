"""Models are what the study describes: parameters to the unit, causal, and equal to an independent implementation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from algoprog.config import BudgetConfig, LstmConfig, TransformerConfig
from algoprog.models import FAMILIES, build_model, parameter_count
from algoprog.recipes import resolve

GPT2 = {"tokenizer": "gpt2"}
BUDGET = BudgetConfig(flops=10**15)
V = 50257
WIDTHS = [32, 64, 128, 256]


def count(preset: str, width: int, **model: object) -> int:
    return parameter_count(resolve(preset, width, BUDGET, data=GPT2, overrides={"model": model}).model)


@pytest.mark.parametrize("h", WIDTHS)
def test_parameter_counts_are_the_papers_formulas(h: int) -> None:
    layers = max(1, round(h / 16))
    attention = 4 * h * h + 4 * h
    assert count("modern", h) == V * h + V + layers * (attention + (12 * h * h + 9 * h) + 2 * h) + 2 * h
    assert count("retro", h) == V * h + V + layers * (attention + (8 * h * h + 5 * h) + 4 * h) + 2 * h
    assert count("retro-study-code", h) == V * h + V + layers * (attention + (8 * h * h + 5 * h) + 2 * h) + 2 * h
    assert count("modern-bias-free", h) == V * h + layers * (4 * h * h + 15 * h * h // 2 + 2 * h) + 2 * h
    assert count("modern-sgd", h) == count("modern-bias-free", h)
    for preset, depth in (("lstm", 1), ("lstm-study-code", 1), ("lstm-2", 2)):
        assert count(preset, h) == V * h + V + depth * (8 * h * h + 8 * h)


@pytest.mark.parametrize(
    ("preset", "width", "published"),
    [
        ("modern", 64, 3_532_817), ("modern", 256, 29_755_217), ("retro-study-code", 256, 25_544_529),
        ("retro", 256, 25_552_721), ("modern-bias-free", 32, 1_631_968), ("modern-bias-free", 64, 3_405_504),
        ("lstm", 256, 13_442_385), ("lstm-2", 512, 29_984_337),
    ],
)  # fmt: skip
def test_published_parameter_counts(preset: str, width: int, published: int) -> None:
    assert count(preset, width) == published


def test_other_counts() -> None:
    assert count("modern", 64, position="learned") == count("modern", 64) + 128 * 64
    assert count("modern", 64, tied=False) == count("modern", 64) + V * 64


def transformer(**changes: object) -> TransformerConfig:
    values = {"width": 32, "depth": 2, "heads": 2, "vocab": 97, "context": 24, **changes}
    return TransformerConfig.model_validate(values)


def lstm(**changes: object) -> LstmConfig:
    return LstmConfig.model_validate({"width": 16, "depth": 2, "vocab": 97, "context": 24, "bptt": 8, **changes})


VARIANTS = [
    transformer(),
    transformer(norm="layernorm", norm_placement="post", activation="gelu", position="sinusoidal"),
    transformer(activation="relu", position="learned", bias=False, tied=False, init="transformer_scaled"),
    transformer(activation="glu", final_norm="rms", mlp_ratio=2.5, init="xavier_uniform"),
    transformer(init="kaiming_normal"),
    lstm(),
    lstm(depth=1, bias=False, tied=False, recurrent_init="xavier_uniform", dropout=0.3),
]


def losses(model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Loss of every position, from summed losses of single targets."""
    rows = []
    for t in range(inputs.shape[1]):
        only = torch.full_like(targets, -100)
        only[:, t] = targets[:, t]
        rows.append(model(inputs, only)[0])
    return torch.stack(rows)


@pytest.mark.parametrize("config", VARIANTS)
def test_causality_and_sum(config: TransformerConfig | LstmConfig) -> None:
    model = build_model(config, seed=0).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())) * 0.3)
        inputs = torch.randint(0, 97, (2, 12), generator=torch.Generator().manual_seed(1))
        targets = torch.randint(0, 97, (2, 12), generator=torch.Generator().manual_seed(2))
        before = losses(model, inputs, targets)
        changed = inputs.clone()
        changed[:, 7] = (changed[:, 7] + 1) % 97
        after = losses(model, changed, targets)
    torch.testing.assert_close(before[:7], after[:7], rtol=0, atol=1e-5)
    assert (before[7:] - after[7:]).abs().max() > 1e-3, "a later position must see the change"
    torch.testing.assert_close(before.sum(), model(inputs, targets)[0], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("config", VARIANTS)
def test_every_parameter_gets_a_gradient_and_init_is_near_uniform(config: TransformerConfig | LstmConfig) -> None:
    model = build_model(config, seed=3)
    inputs = torch.randint(0, 97, (4, 24), generator=torch.Generator().manual_seed(1))
    loss, _ = model(inputs, inputs.roll(-1, 1), None, torch.Generator().manual_seed(0))
    (loss / inputs.numel()).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None and torch.isfinite(p.grad).all() and p.grad.abs().sum() > 0, name
    if config.init in ("normal", "transformer_scaled") if isinstance(config, TransformerConfig) else config.tied:
        assert loss.item() / inputs.numel() == pytest.approx(math.log(97), abs=0.5)


def test_seed_alone_decides_the_weights() -> None:
    first, torch_noise, second = build_model(transformer(), 5), torch.randn(3), build_model(transformer(), 5)
    assert torch_noise.numel() == 3
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first.embedding, build_model(transformer(), 6).embedding)


def reference_modern(model: nn.Module, config: TransformerConfig, inputs: torch.Tensor) -> torch.Tensor:
    """Logits of the modern transformer, written again from the description with complex rotations and explicit softmax."""
    K, T = config.width // config.heads, inputs.shape[1]
    angles = torch.outer(torch.arange(T).double(), 10000.0 ** (-torch.arange(K // 2).double() / (K // 2)))
    turn = torch.polar(torch.ones_like(angles), angles)

    def rotate(x: torch.Tensor) -> torch.Tensor:
        turned = torch.complex(x[..., : K // 2], x[..., K // 2 :]) * turn
        return torch.cat((turned.real, turned.imag), -1)

    def rms(x: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
        return x / (x.square().mean(-1, keepdim=True) + 1e-8).sqrt() * gain

    weights = {name: value.double() for name, value in model.state_dict().items()}
    x = weights["embedding"][inputs]
    for i in range(config.depth):
        w = {k.removeprefix(f"blocks.{i}."): v for k, v in weights.items() if k.startswith(f"blocks.{i}.")}
        y = rms(x, w["attention_norm.weight"]) @ w["attention.qkv.weight"].T + w["attention.qkv.bias"]
        q, k, v = (part.unflatten(-1, (config.heads, K)).transpose(1, 2) for part in y.chunk(3, -1))
        scores = rotate(q) @ rotate(k).transpose(-1, -2) / math.sqrt(K)
        scores = scores.masked_fill(torch.ones(T, T, dtype=torch.bool).triu(1), -math.inf)
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        x = x + mixed @ w["attention.out.weight"].T + w["attention.out.bias"]
        y = rms(x, w["mlp_norm.weight"]) @ w["mlp.up.weight"].T + w["mlp.up.bias"]
        gate, value = y.chunk(2, -1)
        x = x + (gate * gate.sigmoid() * value) @ w["mlp.down.weight"].T + w["mlp.down.bias"]
    x = nn.functional.layer_norm(x, x.shape[-1:], weights["norm.weight"], weights["norm.bias"], 1e-5)
    return x @ weights["embedding"].T + weights["head.bias"]


def test_modern_equals_an_independent_implementation_in_float64() -> None:
    config = transformer(width=48, heads=3)
    model = build_model(config, 0)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())) * 0.1)
    inputs = torch.randint(0, 97, (3, 24), generator=torch.Generator().manual_seed(1))
    targets = inputs.roll(-1, 1)
    logits = reference_modern(model, config, inputs)
    expected = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
    assert model(inputs, targets)[0].item() == pytest.approx(expected.item(), rel=2e-6)


def test_lstm_equals_torch_modules() -> None:
    config = lstm(bptt=24)
    model = build_model(config, 0)
    stack = nn.LSTM(16, 16, num_layers=2, batch_first=True)
    for i, layer in enumerate(model.layers):
        for ours, theirs in (
            ("weight_ih", "weight_ih"),
            ("weight_hh", "weight_hh"),
            ("bias_ih", "bias_ih"),
            ("bias_hh", "bias_hh"),
        ):
            getattr(stack, f"{theirs}_l{i}").data.copy_(getattr(layer, ours))
    inputs = torch.randint(0, 97, (3, 24), generator=torch.Generator().manual_seed(1))
    hidden, _ = stack(nn.functional.embedding(inputs, model.embedding))
    logits = hidden @ model.embedding.T + model.head.bias
    expected = nn.functional.cross_entropy(logits.flatten(0, 1), inputs.roll(-1, 1).flatten(), reduction="sum")
    assert model(inputs, inputs.roll(-1, 1))[0].item() == pytest.approx(expected.item(), rel=1e-5)


def test_lstm_carries_its_state() -> None:
    model = build_model(lstm(), 0).eval()
    inputs = torch.randint(0, 97, (2, 24), generator=torch.Generator().manual_seed(1))
    targets = inputs.roll(-1, 1)
    with torch.no_grad():
        whole, _ = model(inputs, targets)
        first, state = model(inputs[:, :10], targets[:, :10])
        second, _ = model(inputs[:, 10:], targets[:, 10:], state)
        forgetful, _ = model(inputs[:, 10:], targets[:, 10:])
    torch.testing.assert_close(whole, first + second, rtol=1e-5, atol=1e-4)
    assert abs(second - forgetful) > 1e-3


def test_lstm_truncates_gradients_not_values() -> None:
    """With truncation after 8 steps, the loss of step 20 says nothing about the token of step 3, but is the same number."""
    inputs = torch.randint(0, 97, (1, 24), generator=torch.Generator().manual_seed(1))
    targets = torch.full_like(inputs, -100)
    targets[:, 20] = 5
    gradients = {}
    for bptt in (8, 24):
        model = build_model(lstm(bptt=bptt, tied=False), 0)
        loss, _ = model(inputs, targets)
        loss.backward()
        gradients[bptt] = (loss.item(), model.embedding.grad[inputs[0, 3]].abs().sum().item())
    assert gradients[8][0] == pytest.approx(gradients[24][0], rel=1e-6)
    assert inputs[0, 3] not in inputs[0, 16:21]
    assert gradients[8][1] == 0 < gradients[24][1]


def test_lstm_forget_bias_is_split_over_both_vectors() -> None:
    layer = build_model(lstm(forget_bias=2.0), 0).layers[0]
    total = layer.bias_ih + layer.bias_hh
    assert torch.equal(total[16:32], torch.full((16,), 2.0)) and total[:16].abs().sum() == 0 == total[32:].abs().sum()
    identity = layer.weight_hh.T @ layer.weight_hh
    torch.testing.assert_close(identity, torch.eye(16), atol=1e-5, rtol=0)


def test_dropout_depends_on_its_generator_and_on_training() -> None:
    model = build_model(lstm(dropout=0.5), 0)
    x = torch.randint(0, 97, (2, 24), generator=torch.Generator().manual_seed(1))
    draws = [model(x, x, None, torch.Generator().manual_seed(seed))[0].item() for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]
    model.eval()
    assert model(x, x)[0].item() == model(x, x)[0].item()


def test_bf16_compute_keeps_fp32_weights_and_loss() -> None:
    for config in (transformer(), lstm()):
        model = build_model(config, 0, torch.bfloat16)
        x = torch.randint(0, 97, (2, 24), generator=torch.Generator().manual_seed(1))
        loss, _ = model(x, x)
        loss.backward()
        exact, _ = build_model(config, 0)(x, x)
        assert loss.dtype == torch.float32 and all(p.dtype == p.grad.dtype == torch.float32 for p in model.parameters())
        assert loss.item() == pytest.approx(exact.item(), rel=1e-2) and loss.item() != exact.item()


def test_families_have_counts() -> None:
    for family in FAMILIES.values():
        assert callable(family.flops)
