"""Ways to compute a linear layer with cross-entropy, all with one signature, and their float64 reference.

N tokens, d width, V vocabulary, stored as P >= V rows (a multiple of 64, as a model stores it). Every variant maps
(x [N, d], w [P, d], target [N]) to (mean loss, dx, dw [V, d]); the forward ones to (mean loss,).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

Results = tuple[Tensor, ...]
Variant = Callable[[Tensor, Tensor, Tensor, int], Results]
CHUNKS = (256, 512)  # rows of bf16 logits over a vocabulary of 50304: 26 and 51 MB
TINY_CHUNK = 8


def reference(x: Tensor, w: Tensor, target: Tensor, V: int) -> Results:
    """In float64, a thousand rows at a time."""
    x, w = x.detach().double(), w.detach()[:V].double()
    loss, dx, dw = x.new_zeros(()), torch.empty_like(x), torch.zeros_like(w)
    for rows in torch.split(torch.arange(len(x), device=x.device), 1024):
        z = x[rows] @ w.T
        lse = torch.logsumexp(z, 1)
        loss += (lse - z.gather(1, target[rows, None])[:, 0]).sum() / len(x)
        p = torch.exp(z - lse[:, None])
        p[torch.arange(len(rows), device=x.device), target[rows]] -= 1
        dx[rows], dw = p @ w / len(x), dw + p.T @ x[rows] / len(x)
    return loss, dx, dw


def eager_loss(x: Tensor, w: Tensor, target: Tensor, V: int) -> Tensor:
    """As a training script writes it: logits, an fp32 copy of them, cross-entropy."""
    return F.cross_entropy((x @ w.T)[:, :V].float(), target)


def _differentiated(loss_of: Callable[[Tensor, Tensor, Tensor, int], Tensor]) -> Variant:
    def both(x: Tensor, w: Tensor, target: Tensor, V: int) -> Results:
        x, w = x.detach().requires_grad_(), w.detach().requires_grad_()
        loss = loss_of(x, w, target, V)
        dx, dw = torch.autograd.grad(loss, [x, w])
        return loss.detach(), dx, dw[:V]

    return both


def _forward(loss_of: Callable[[Tensor, Tensor, Tensor, int], Tensor]) -> Variant:
    @torch.no_grad()
    def forward(x: Tensor, w: Tensor, target: Tensor, V: int) -> Results:
        return (loss_of(x, w, target, V),)

    return forward


@cache
def _compiled(V: int, rows: int, width: int) -> Callable[[Tensor, Tensor, Tensor, int], Tensor]:
    """One compilation per shape: a shared one would turn dynamic at the second shape."""
    torch._dynamo.reset()
    return torch.compile(eager_loss, dynamic=False, fullgraph=True)


def compiled_loss(x: Tensor, w: Tensor, target: Tensor, V: int) -> Tensor:
    return _compiled(V, *x.shape)(x, w, target, V)


def torch_loss(x: Tensor, w: Tensor, target: Tensor, V: int) -> Tensor:
    """PyTorch's own fused head, from 2.13 on, in its chunked form."""
    options = torch.nn.LinearCrossEntropyOptions()
    return F.linear_cross_entropy(x, w[:V], target, options=options)


def flash_loss(x: Tensor, w: Tensor, target: Tensor, V: int) -> Tensor:
    """The flash sketch."""
    import head_flash_triton

    losses: Tensor = head_flash_triton.FlashLinearCE.apply(x, w[:V], target, -100)  # type: ignore[no-untyped-call]
    return losses.mean()


def fused(x: Tensor, w: Tensor, target: Tensor, V: int) -> Results:
    """Logits stored once, overwritten by their gradient; three products around that."""
    import head_rows_triton

    logits = x @ w.T
    loss = head_rows_triton.rows_in_place(logits, target, 1 / len(x), V)
    return loss.mean(), logits @ w, (logits.T @ x)[:V]


def chunked(rows: int) -> Variant:
    """As ``fused``, but ``rows`` rows at a time, so that their logits stay in L2; dw is summed in fp32."""

    def both(x: Tensor, w: Tensor, target: Tensor, V: int) -> Results:
        import head_rows_triton

        dx, dw = torch.empty_like(x), torch.zeros(w.shape, dtype=torch.float32, device=x.device)
        buffer, losses = x.new_empty((min(rows, len(x)), len(w))), []
        for start in range(0, len(x), rows):
            part = x[start : start + rows]
            logits = buffer[: len(part)]
            torch.mm(part, w.T, out=logits)
            losses.append(head_rows_triton.rows_in_place(logits, target[start : start + rows], 1 / len(x), V))
            torch.mm(logits, w, out=dx[start : start + rows])
            add_product(dw, logits.T, part)
        return torch.cat(losses).mean(), dx, dw[:V].to(w.dtype)

    return both


def add_product(into: Tensor, a: Tensor, b: Tensor) -> None:
    """``into += a @ b`` with ``into`` in fp32 and a, b in a half type: cuBLAS adds inside the product on a GPU."""
    if into.is_cuda:
        torch.ops.aten.addmm.dtype_out(into, a, b, torch.float32, out=into)
    else:
        into += a.float() @ b.float()


BOTH: dict[str, Variant] = {
    "eager": _differentiated(eager_loss),
    "fused in place": fused,
    **{f"chunks of {rows}": chunked(rows) for rows in (TINY_CHUNK, *CHUNKS)},
    "flash": _differentiated(flash_loss),
    "torch linear_cross_entropy": _differentiated(torch_loss),
    "compiled": _differentiated(compiled_loss),
}
FORWARD: dict[str, Variant] = {"eager": _forward(eager_loss), "flash": _forward(flash_loss)}
