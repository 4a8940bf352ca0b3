"""One training run whose step can be executed eagerly, compiled, or as one captured CUDA graph."""

from __future__ import annotations

from collections.abc import Callable

import torch
from bench import Bench
from step_models import Model
from torch import Tensor

CLIP = 1.0
TRUTH_SEQUENCES = 64


class Run:
    """Model, optimiser and one fixed batch. The same ``seed`` gives the same run, bit for bit."""

    def __init__(self, bench: Bench, arch: str, width: int, shape: tuple[int, int, int], seed: int) -> None:
        """``shape``: sequences per step, context, vocabulary."""
        self.device = bench.device
        sequences, context, vocab = self.shape = shape
        torch.manual_seed(seed)
        self.model = Model(arch, width, vocab, context, torch.bfloat16).to(bench.device)
        tokens = torch.randint(vocab, (sequences, context + 1)).to(bench.device)
        self.inputs, self.targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
        self.parameters = list(self.model.parameters())
        on_gpu = bench.device.type == "cuda"
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-3, fused=True, capturable=on_gpu)
        self.stream = torch.cuda.Stream() if on_gpu else None  # type: ignore[no-untyped-call]
        self.compute_loss: Callable[[Tensor, Tensor], Tensor] = self.model
        self.loss, self.gradients = torch.zeros(()), tuple[Tensor, ...]()
        self.step()  # creates the optimiser's state
        self._restore(seed)

    def _restore(self, seed: int) -> None:
        torch.manual_seed(seed)
        fresh = Model(self.model.arch, self.model.width, self.shape[2], self.shape[1], torch.bfloat16)
        self.start = [p.detach().to(self.device) for p in fresh.parameters()]
        self.rewind()

    @torch.no_grad()
    def rewind(self) -> None:
        """Back to the first step, in place: captured graphs keep their addresses."""
        torch._foreach_copy_([*self.parameters], self.start)
        for state in self.optimizer.state.values():
            for value in state.values():
                value.zero_()

    def step(self) -> None:
        """Forward, backward, clipping, AdamW. ``gradients`` are those before clipping."""
        self.loss = self.compute_loss(self.inputs, self.targets)
        self.gradients = torch.autograd.grad(self.loss, self.parameters)
        norm = torch.nn.utils.get_total_norm(self.gradients)
        factor = (CLIP / (norm + 1e-6)).clamp(max=1.0)
        for parameter, gradient in zip(self.parameters, torch._foreach_mul(self.gradients, factor), strict=True):
            parameter.grad = gradient
        self.optimizer.step()

    def compile(self) -> None:
        """Sends the forward, and with it the backward, through torch.compile."""
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        self.compute_loss = torch.compile(self.model, dynamic=False)

    def capture(self) -> Callable[[], object]:
        """The whole step as one CUDA graph on this run's own stream, rewound. On a CPU: the step itself."""
        if self.stream is None:
            return self.step
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            for _ in range(3):
                self.step()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream):
            self.step()
        self.rewind()
        torch.cuda.synchronize()
        return graph.replay

    def after(self, step: Callable[[], object], steps: int) -> list[Tensor]:
        """Copies of all parameters after ``steps`` steps from the start."""
        self.rewind()
        for _ in range(steps):
            step()
        if self.stream is not None:
            torch.cuda.synchronize()
        return [p.detach().clone() for p in self.parameters]

    def results(self, step: Callable[[], object]) -> dict[str, Tensor]:
        """Loss and whole gradient of the first step."""
        self.rewind()
        step()
        return {"loss": self.loss.detach().clone(), "gradient": torch.cat([g.flatten() for g in self.gradients])}

    def truth(self) -> dict[str, Tensor]:
        """The same in float64, from the same weights and tokens."""
        sequences, context, vocab = self.shape
        exact = Model(self.model.arch, self.model.width, vocab, context, torch.float64).to(self.device).double()
        with torch.no_grad():
            torch._foreach_copy_([*exact.parameters()], [p.double() for p in self.start])
        loss, gradient = torch.zeros((), dtype=torch.float64, device=self.device), torch.zeros(())
        for start in range(0, sequences, TRUTH_SEQUENCES):  # all logits of 32768 tokens take 13 GB
            part = slice(start, start + TRUTH_SEQUENCES)
            share = exact(self.inputs[part], self.targets[part]) * (len(self.inputs[part]) / sequences)
            gradients = torch.autograd.grad(share, list(exact.parameters()))
            gradient = torch.cat([g.flatten() for g in gradients]) + (gradient if start else 0.0)
            loss += share.detach()
        return {"loss": loss, "gradient": gradient}
