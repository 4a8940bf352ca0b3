"""An architecture of one's own: every position sees the one before it through a learned mix, then a gated MLP."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width)
        self.mix = nn.Parameter(torch.full((width,), 0.5))
        self.up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        now = self.norm(x)
        before = F.pad(now, (0, 0, 1, -1))
        gate, value = self.up(before + self.mix * (now - before)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * value)


class ShiftMixer(nn.Module):
    def __init__(self, width: int, depth: int, vocab: int, context: int, ratio: int = 4) -> None:
        super().__init__()
        self.width, self.depth, self.vocab, self.hidden = width, depth, vocab, ratio * width
        self.embedding = nn.Embedding(vocab, width)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.blocks = nn.ModuleList(Block(width, self.hidden) for _ in range(depth))
        self.norm = nn.RMSNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x)
        return F.linear(self.norm(x), self.embedding.weight)

    def flops(self, context: int) -> dict[str, dict[str, int]]:
        """A multiply-add is two; both operands of each product need a gradient, so the backward pass costs twice as much."""
        mlp = context * self.depth * 2 * self.width * 3 * self.hidden
        head = context * 2 * self.width * self.vocab
        return {"mlp": {"forward": mlp, "backward": 2 * mlp}, "head": {"forward": head, "backward": 2 * head}}
