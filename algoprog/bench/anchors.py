"""Published speeds of training GPT-2-size models, to set beside a measured row of the same size. None was measured here."""

from __future__ import annotations

from typing import Any

ANCHORS: tuple[dict[str, Any], ...] = (
    {
        "source": "KellerJordan/modded-nanogpt, record 1 (karpathy/llm.c baseline)",
        "setting": "GPT-2 124M, T = 1024, 8 H100",
        "tokens_per_s_per_gpu": 475_000,
        "mfu_stated": 0.41,
        "mfu_causal": 0.383,
    },
    {
        "source": "KellerJordan/modded-nanogpt, record 5",
        "setting": "GPT-2 124M, 8 H100, compiled",
        "tokens_per_s_per_gpu": 366_000,
        "mfu_stated": 0.317,
        "mfu_causal": 0.296,
    },
    {
        "source": "KellerJordan/modded-nanogpt, record 7",
        "setting": "GPT-2 124M, 8 H100, compiled",
        "tokens_per_s_per_gpu": 462_000,
        "mfu_stated": 0.399,
        "mfu_causal": 0.373,
    },
    {
        "source": "karpathy/nanoGPT, README",
        "setting": "GPT-2 124M, T = 1024, 8 A100",
        "tokens_per_s_per_gpu": 246_000,
        "mfu_stated": None,
        "mfu_causal": 0.63,
    },
)
"""``mfu_stated`` as the source's own count gives it on the data-sheet peak (H100: 989 TFLOP/s in bf16), ``mfu_causal`` the same
speed by exact-causal FLOPs (797,870,592 per token at this size, V = 50257, SwiGLU of the same cost)."""
