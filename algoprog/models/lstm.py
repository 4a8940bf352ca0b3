"""The LSTM language model: embedding, a stack of LSTM layers, tied head. No residuals, no projections, no norms."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from algoprog.config import LstmConfig
from algoprog.flops import FlopCount, elementwise_flops, lstm_flops
from algoprog.kernels import REFERENCE, Operations
from algoprog.models import recompute
from algoprog.models.layers import VocabularyHead

State = list[tuple[Tensor, Tensor]]


class LstmLayer(nn.Module):
    """One layer D -> D with PyTorch's parameter shapes and gate order (i, f, g, o)."""

    component = "recurrent"

    def __init__(self, config: LstmConfig, generator: torch.Generator, operations: Operations = REFERENCE) -> None:
        super().__init__()
        self.operations = operations
        self.width = width = config.width
        self.weight_ih = nn.Parameter(torch.empty(4 * width, width))
        self.weight_hh = nn.Parameter(torch.empty(4 * width, width))
        self.bias_ih = nn.Parameter(torch.zeros(4 * width)) if config.bias else None
        self.bias_hh = nn.Parameter(torch.zeros(4 * width)) if config.bias else None
        self._init(config, generator)

    @torch.no_grad()
    def _init(self, config: LstmConfig, generator: torch.Generator) -> None:
        nn.init.xavier_uniform_(self.weight_ih, generator=generator)
        if config.recurrent_init == "orthogonal":
            nn.init.orthogonal_(self.weight_hh, generator=generator)
        else:
            nn.init.xavier_uniform_(self.weight_hh, generator=generator)
        for bias in (self.bias_ih, self.bias_hh):
            if bias is not None:
                bias[self.width : 2 * self.width] = config.forget_bias / 2

    def forward(
        self, x: Tensor, state: tuple[Tensor, Tensor], bptt: int | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """x: [B, T, D]; state: (h, c), each [1, B, D]; ``bptt``: steps that gradients flow through the state, None for all."""
        biases = None if self.bias_ih is None or self.bias_hh is None else (self.bias_ih, self.bias_hh)
        return self.operations.lstm(x, state, (self.weight_ih, self.weight_hh), biases, bptt=bptt)

    def flops(self, tokens: int) -> FlopCount:
        count = lstm_flops(self.width, self.width, tokens) + elementwise_flops("lstm_cell", self.width * tokens)
        biases = sum(bias.numel() for bias in (self.bias_ih, self.bias_hh) if bias is not None)
        return count + elementwise_flops("bias", biases * tokens)


class LstmModel(nn.Module):
    """Token ids and a carried state in, summed next-token loss and the next state out.

    Gradients flow through the state for at most ``bptt`` steps: windows of that length pass on values, not gradients. A state
    depends on its own layer and on the same step of the layer below, so the layers run one after another, each over all
    windows, in one launch where the kernel can. With ``recompute`` set, layers keep their inputs only and run again in the
    backward pass.
    """

    recompute = False

    def __init__(
        self,
        config: LstmConfig,
        generator: torch.Generator,
        compute_dtype: torch.dtype,
        operations: Operations = REFERENCE,
    ) -> None:
        super().__init__()
        self.config, self.compute_dtype = config, compute_dtype
        self.embedding = nn.Parameter(torch.empty(config.vocab, config.width))
        self.layers = nn.ModuleList(LstmLayer(config, generator, operations) for _ in range(config.depth))
        self.head = VocabularyHead(config.width, config.vocab, config.bias, config.tied, operations)
        with torch.no_grad():
            nn.init.xavier_uniform_(self.embedding, generator=generator)
            if self.head.weight is not None:
                nn.init.xavier_uniform_(self.head.weight, generator=generator)

    def zero_state(self, batch: int) -> State:
        """The state before any token: (h, c) of zeros per layer, each [1, B, D]."""
        shape = (1, batch, self.config.width)
        zeros = torch.zeros(shape, dtype=self.compute_dtype, device=self.embedding.device)
        return [(zeros, zeros) for _ in self.layers]

    def forward(
        self, inputs: Tensor, targets: Tensor, state: State | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, State]:
        """Sum of the loss in nats over the targets, and the detached state after the last token.

        inputs, targets: [B, T] int64, target -100 is not scored; ``state`` None starts from zeros. ``generator`` draws the
        dropout masks while training.
        """
        state = self.zero_state(inputs.shape[0]) if state is None else state
        x = nn.functional.embedding(inputs, self.embedding).to(self.compute_dtype)
        bptt = self.config.bptt if self.training else None
        x = self._drop(x, generator)
        after = []
        for layer, before in zip(self.layers, state, strict=True):
            x, (h, c) = recompute.call(layer, self.recompute, x, before, bptt)
            x = self._drop(x, generator)
            after.append((h.detach(), c.detach()))
        return self.head(x, self.embedding, targets), after

    def _drop(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Inverted dropout with masks from ``generator``, so that a mask depends on (seed, step) only."""
        p = self.config.dropout
        if not self.training or p == 0:
            return x
        keep = torch.empty_like(x).bernoulli_(1 - p, generator=generator)
        return x * keep / (1 - p)

    def flops(self, tokens: int) -> FlopCount:
        """FLOPs of one sequence of ``tokens`` positions."""
        total = self.head.flops(tokens) + FlopCount({"embed": 0}, {"embed": 0})
        total += elementwise_flops("embedding", self.config.width * tokens)
        masks = self.config.depth + 1 if self.config.dropout > 0 else 0
        total += elementwise_flops("dropout", masks * self.config.width * tokens)
        for layer in self.layers:
            assert isinstance(layer, LstmLayer)
            total = total + layer.flops(tokens)
            if self.recompute:
                total += FlopCount({}, {"recompute": layer.flops(tokens).forward_total})
        return total
