"""The decoder-only transformer: ``modern`` and ``retro`` are two settings of it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from algoprog.config import TransformerConfig
from algoprog.flops import FlopCount, elementwise_flops
from algoprog.kernels import REFERENCE, Operations
from algoprog.kernels.modules import Rotary
from algoprog.models import recompute
from algoprog.models.layers import (
    CausalSelfAttention,
    Linear,
    Mlp,
    VocabularyHead,
    block_norm,
    final_norm,
    sinusoidal_table,
)

EMBEDDING_WORK: dict[str, tuple[str, ...]] = {
    "rotary": ("embedding",),
    "sinusoidal": ("embedding", "embedding_scale", "fixed_positions"),
    "learned": ("embedding", "learned_positions"),
}


class Block(nn.Module):
    """Attention and MLP, each with a residual and a norm before (``pre``) or after (``post``) it."""

    def __init__(self, config: TransformerConfig, operations: Operations = REFERENCE) -> None:
        super().__init__()
        self.pre, self.width = config.norm_placement == "pre", config.width
        self.attention, self.attention_norm = CausalSelfAttention(config, operations), block_norm(config, operations)
        self.mlp, self.mlp_norm = Mlp(config, operations), block_norm(config, operations)

    def forward(self, x: Tensor, branch: Tensor | None, rotary: Rotary | None) -> tuple[Tensor, Tensor | None]:
        """The residual stream and the branch that the next norm adds to it, so that sum and norm are one operation."""
        if self.pre:
            normed, x = self.attention_norm(x, branch)
            normed, x = self.mlp_norm(x, self.attention(normed, rotary))
            return x, self.mlp(normed)
        x, _ = self.attention_norm(x, self.attention(x, rotary))
        x, _ = self.mlp_norm(x, self.mlp(x))
        return x, None

    def flops(self, tokens: int) -> FlopCount:
        norms = self.attention_norm.flops(tokens) + self.mlp_norm.flops(tokens)
        residuals = elementwise_flops("residual", 2 * self.width * tokens)
        return self.attention.flops(tokens) + self.mlp.flops(tokens) + norms + residuals

    def recomputed_flops(self, tokens: int) -> FlopCount:
        """Products of a second forward pass. The last map of a pre-norm block is not among them: its output is not saved."""
        products = self.flops(tokens).forward_total
        if self.pre:
            products -= self.mlp.down.flops("mlp", tokens).forward_total
        return FlopCount({}, {"recompute": products})


class Transformer(nn.Module):
    """Token ids in, summed next-token loss out. Stateless: ``state`` passes through as None.

    With ``recompute`` set, blocks keep their inputs only and run again in the backward pass.
    """

    recompute = False

    table: Tensor

    def __init__(
        self,
        config: TransformerConfig,
        generator: torch.Generator,
        compute_dtype: torch.dtype,
        operations: Operations = REFERENCE,
    ) -> None:
        super().__init__()
        self.config, self.compute_dtype = config, compute_dtype
        self.embedding = nn.Parameter(torch.empty(config.vocab, config.width))
        learned = config.position == "learned"
        self.positions = nn.Parameter(torch.empty(config.context, config.width)) if learned else None
        self.blocks = nn.ModuleList(Block(config, operations) for _ in range(config.depth))
        self.norm = final_norm(config, operations)
        self.head = VocabularyHead(config.width, config.vocab, config.bias, config.tied, operations)
        head_dim, rotates = config.width // config.heads, config.position == "rotary"
        self.rotary = Rotary(head_dim, config.context, config.rotary_base, operations) if rotates else None
        if config.position == "sinusoidal":
            self.register_buffer("table", sinusoidal_table(config.context, config.width), persistent=False)
        self._init(generator)

    @torch.no_grad()
    def _init(self, generator: torch.Generator) -> None:
        config = self.config
        scaled = config.init == "transformer_scaled"
        block_std = config.init_std / math.sqrt(2 * config.depth) if scaled else config.init_std
        vocab_std = config.init_std / math.sqrt(config.depth) if scaled else config.init_std
        self.embedding.normal_(0.0, vocab_std, generator=generator)
        if self.positions is not None:
            self.positions.normal_(0.0, config.init_std, generator=generator)
        if self.head.weight is not None:
            self.head.weight.normal_(0.0, vocab_std, generator=generator)
        for module in self.blocks.modules():
            if isinstance(module, Linear):
                self._init_linear(module, block_std, generator)

    def _init_linear(self, linear: Linear, std: float, generator: torch.Generator) -> None:
        if self.config.init == "xavier_uniform":
            nn.init.xavier_uniform_(linear.weight, generator=generator)
        elif self.config.init == "kaiming_normal":
            nn.init.kaiming_normal_(linear.weight, nonlinearity="relu", generator=generator)
        else:
            linear.weight.normal_(0.0, std, generator=generator)
        if linear.bias is not None:
            linear.bias.zero_()

    def forward(
        self, inputs: Tensor, targets: Tensor, state: None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, None]:
        """Sum of the loss in nats over the targets. inputs, targets: [B, T] int64, target -100 is not scored."""
        x, branch = self._embed(inputs), None
        for block in self.blocks:
            x, branch = recompute.call(block, self.recompute, x, branch, self.rotary)
        normed, _ = self.norm(x, branch)
        return self.head(normed, self.embedding, targets), None

    def _embed(self, inputs: Tensor) -> Tensor:
        T = inputs.shape[1]
        x = nn.functional.embedding(inputs, self.embedding)
        if self.positions is not None:
            x = x + self.positions[:T]
        elif self.config.position == "sinusoidal":
            x = x * math.sqrt(self.config.width) + self.table[:T]
        return x.to(self.compute_dtype)

    def flops(self, tokens: int) -> FlopCount:
        """FLOPs of one sequence of ``tokens`` positions."""
        total = self.head.flops(tokens) + self.norm.flops(tokens) + FlopCount({"embed": 0}, {"embed": 0})
        for operation in EMBEDDING_WORK[self.config.position]:
            total += elementwise_flops(operation, self.config.width * tokens)
        for block in self.blocks:
            assert isinstance(block, Block)
            total = total + block.flops(tokens)
            if self.recompute:
                total += block.recomputed_flops(tokens)
        return total
