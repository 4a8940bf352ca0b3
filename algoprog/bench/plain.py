"""The three architectures and the training loop as a user of PyTorch would write them: the peers of `algoprog bench step`.

Modules of ``torch.nn``, ``F.cross_entropy`` on all logits, ``torch.optim``: nothing of this package computes anything here.
Parameters are made in the order of the package's models, so that both start from the same weights, and losses can be compared.

Shapes: B batch, T time, D width, F MLP width, V vocabulary, H heads, K head dimension.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from algoprog.config import InputError, LstmConfig, OptimConfig, RunConfig, TransformerConfig


class Block(nn.Module):
    """Causal attention and an MLP, each with its norm before (``pre``) or after (``post``) the residual."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width, hidden = config.width, config.mlp_width
        self.heads, self.pre, self.gated = config.heads, config.norm_placement == "pre", config.activation == "swiglu"
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm1 = _norm(config)
        self.up, self.down = nn.Linear(width, hidden * (2 if self.gated else 1)), nn.Linear(hidden, width)
        self.norm2 = _norm(config)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor] | None) -> Tensor:
        """x: [B, T, D]; cos and sin of rotary positions: [T, K/2]."""
        if self.pre:
            x = x + self.attend(self.norm1(x), rotary)
            return x + self.feed(self.norm2(x))
        x = self.norm1(x + self.attend(x, rotary))
        y: Tensor = self.norm2(x + self.feed(x))
        return y

    def attend(self, x: Tensor, rotary: tuple[Tensor, Tensor] | None) -> Tensor:
        """Causal softmax attention (Vaswani et al. 2017, eq. 1)."""
        B, T, D = x.shape
        q, k, v = self.qkv(x).view(B, T, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        if rotary is not None:
            q, k = _rotate(q, *rotary), _rotate(k, *rotary)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        mixed: Tensor = self.out(y.transpose(1, 2).reshape(B, T, D))
        return mixed

    def feed(self, x: Tensor) -> Tensor:
        """SwiGLU (Shazeer 2020, eq. 6) or GELU between two maps."""
        hidden = self.up(x)
        if self.gated:
            gate, up = hidden.chunk(2, dim=-1)
            hidden = F.silu(gate) * up
        else:
            hidden = F.gelu(hidden)
        y: Tensor = self.down(hidden)
        return y


def _norm(config: TransformerConfig) -> nn.Module:
    return nn.RMSNorm(config.width, config.norm_eps) if config.norm == "rms" else nn.LayerNorm(config.width)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1).to(x.dtype)


class PlainTransformer(nn.Module):
    """Token ids [B, T] in, logits [B, T, V] out."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab, config.width)
        self.positions = nn.Embedding(config.context, config.width) if config.position == "learned" else None
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, config.vocab)
        self.head.weight = self.embedding.weight
        size = config.width // config.heads if config.position == "rotary" else config.width
        frequency = 10000.0 ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
        angle = torch.outer(torch.arange(config.context, dtype=torch.float64), frequency)
        self.register_buffer("cos", angle.cos().float(), persistent=False)
        self.register_buffer("sin", angle.sin().float(), persistent=False)

    def forward(self, inputs: Tensor, state: None = None) -> tuple[Tensor, None]:
        """Logits, and no state."""
        x, rotary = self.embedding(inputs), None
        if self.config.position == "rotary":
            rotary = (self.cos, self.sin)
        elif self.positions is not None:
            x = x + self.positions.weight
        else:
            x = x * math.sqrt(self.config.width) + torch.stack((self.sin, self.cos), dim=-1).flatten(1)
        for block in self.blocks:
            x = block(x, rotary)
        return self.head(self.norm(x)), None


class PlainLstm(nn.Module):
    """Token ids [B, T] in, logits [B, T, V] out: ``nn.LSTM``, gradients cut every ``bptt`` steps."""

    def __init__(self, config: LstmConfig) -> None:
        super().__init__()
        self.bptt = config.bptt
        self.embedding = nn.Embedding(config.vocab, config.width)
        self.lstm = nn.LSTM(config.width, config.width, config.depth, batch_first=True)
        self.head = nn.Linear(config.width, config.vocab)
        self.head.weight = self.embedding.weight

    def forward(
        self, inputs: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """Logits, and the detached state after the last token."""
        outputs = []
        for window in self.embedding(inputs).split(self.bptt, dim=1):
            y, (h, c) = self.lstm(window, state)
            state = (h.detach(), c.detach())
            outputs.append(y)
        return self.head(torch.cat(outputs, dim=1)), state


def build_plain(config: RunConfig, weights: Iterable[Tensor]) -> nn.Module:
    """The peer of ``config``'s model with these weights, in the order of the package's model.

    Raises:
        InputError: the recipe makes a choice that the plain version does not have.
    """
    model = config.model
    problem = _not_plain(config)
    if problem is not None:
        raise InputError("this recipe has no plain peer", where="bench step", got=problem)
    assert isinstance(model, LstmConfig | TransformerConfig)
    made: nn.Module = PlainLstm(model) if isinstance(model, LstmConfig) else PlainTransformer(model)
    with torch.no_grad():
        for mine, theirs in zip(made.parameters(), weights, strict=True):
            assert mine.shape == theirs.shape, f"parameters in another order: {mine.shape}, {theirs.shape}"
            mine.copy_(theirs)
    return made


def _not_plain(config: RunConfig) -> str | None:
    """What the plain version cannot do, None if it can do all of it."""
    model, optim = config.model, config.optim
    if not isinstance(model, LstmConfig | TransformerConfig):
        return f"family {model.family}"
    if not (model.tied and model.bias):
        return "an untied head or no biases"
    if optim.name not in ("adam", "adamw") or optim.decay != "all":
        return f"optim.name {optim.name}, optim.decay {optim.decay}"
    if isinstance(model, LstmConfig):
        return "dropout" if model.dropout > 0 else None
    if model.final_norm != "layernorm" or model.activation not in ("swiglu", "gelu") or model.rotary_base != 10000.0:
        return f"final_norm {model.final_norm}, activation {model.activation}, rotary_base {model.rotary_base}"
    return None


def build_plain_optimizer(config: OptimConfig, model: nn.Module) -> torch.optim.Optimizer:
    """As ``torch.optim`` comes: neither fused nor with any other switch set."""
    cls = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
    betas = (config.beta1, config.beta2)
    return cls(model.parameters(), lr=config.lr, betas=betas, eps=config.eps, weight_decay=config.weight_decay)
