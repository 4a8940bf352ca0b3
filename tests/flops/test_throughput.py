"""Rates and shares of the peak: exact names only, three definitions, and a bound that no product can beat."""

from __future__ import annotations

import pytest
import torch

from algoprog.config import BudgetConfig, LstmConfig, RunConfig, TransformerConfig
from algoprog.flops.conventions import per_sequence
from algoprog.flops.peaks import PEAKS, Peak, peak_of
from algoprog.models import flop_facts
from algoprog.recipes import resolve
from algoprog.training.throughput import device_name, least_seconds, measure

H100 = "NVIDIA H100 80GB HBM3"


def run(arch: str = "modern", width: int = 64) -> RunConfig:
    return resolve(arch, width, BudgetConfig(tokens=10**6), data={"tokenizer": "gpt2"}, precision="bf16")


@pytest.mark.parametrize(
    "name", ["cpu", "NVIDIA H100", "nvidia h100 80gb hbm3", "H100", "", "NVIDIA H100 80GB HBM3 MIG 1g"]
)
def test_no_peak_is_guessed(name: str) -> None:
    assert peak_of(name) is None
    speed = measure(run(), name, 1, 10, 2.0)
    assert speed is not None and speed.tokens_per_s == 10 * 8192 / 2.0
    assert speed.mfu_causal is speed.mfu_full is speed.roofline_share is speed.peak_source is None


def test_every_peak_has_a_source_and_dense_rates() -> None:
    for peak in PEAKS.values():
        assert peak.source and set(peak.flops_per_s) == {"bf16", "fp32"}
        assert 1e13 < peak.flops_per_s["fp32"] < peak.flops_per_s["bf16"] < 1e15 and 2e11 < peak.bytes_per_s < 1e13


def test_three_definitions() -> None:
    config = run()
    speed = measure(config, H100, 2, steps=100, seconds=4.0)
    assert speed is not None
    flops = per_sequence(flop_facts(config.model))
    whole = 2 * PEAKS[H100].flops_per_s["bf16"] * 4.0
    assert speed.mfu_causal == pytest.approx(flops["causal_exact"] * 64 * 100 / whole)
    assert speed.mfu_full == pytest.approx(flops["full_attention"] * 64 * 100 / whole)
    least = least_seconds(config.model, 32, "bf16", PEAKS[H100])
    assert least is not None and speed.roofline_share == pytest.approx(least * 100 / 4.0)
    assert speed.mfu_causal < speed.mfu_full and speed.mfu_causal < speed.roofline_share


@pytest.mark.parametrize("arch", ["modern", "retro", "lstm-2"])
@pytest.mark.parametrize("width", [32, 256])
def test_without_a_memory_limit_the_roofline_is_the_peak(arch: str, width: int) -> None:
    """So the list of products is complete: their FLOPs are the exact count."""
    config, peak = run(arch, width), Peak({"bf16": 10**12}, 10**30, "test")
    least = least_seconds(config.model, 3, "bf16", peak)
    assert least == pytest.approx(3 * flop_facts(config.model).count.training_total / 1e12, rel=1e-12)


def test_bytes_by_hand_of_one_untied_layer() -> None:
    """An LSTM layer and its head, all bound by memory."""
    config = LstmConfig(width=4, vocab=10, context=8, bptt=8, tied=False)
    tokens = 2 * 8
    layer = 2 * 3 * (tokens * (4 + 16) + 4 * 16)
    head = 3 * 4 * (tokens + 10)
    assert least_seconds(config, 2, "fp32", Peak({"fp32": 10**30}, 1, "test")) == pytest.approx(4 * (layer + head))


def test_a_layer_that_nobody_counted_has_no_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    config = TransformerConfig(width=8, depth=1, heads=2, vocab=11, context=4)
    monkeypatch.setattr("algoprog.training.throughput.Linear", LstmConfig)
    assert least_seconds(config, 1, "bf16", PEAKS[H100]) is None


def test_nothing_done_has_no_rate() -> None:
    assert measure(run(), H100, 1, 0, 1.0) is None
    assert device_name(torch.device("cpu")) == "cpu"
