"""AdamW over one flat buffer: gradient norm, clipping, schedule and update in three launches, however many parameters.

Per element, in fp32 (Loshchilov & Hutter 2019, algorithm 2): ``m <- m + (1 - b1)(g - m)``, ``v <- v + (1 - b2)(g^2 - v)``,
``p <- p - lr wd p - (lr / c1) m / (sqrt(v / c2) + eps)``, with ``c = 1 - b^t``. The averages move towards the new value and
the decay is subtracted, because 0.999 and 1 - lr wd are not fp32 numbers: multiplying by their roundings is the same small
error at every step. c1, c2, the norm and the learning rates are computed in float64 on the device, once per step.

Launches: squares of the gradient, summed per program; one program that adds those sums in a fixed order and turns them into
the step's scalars; the update, one tile per program, whose group (learning rate, weight decay) comes from a table.
Bytes per element: 4 for the norm, 28 for the update, 2 for a copy in bf16. Model FLOPs: 0, as for all elementwise work.
Nothing is read by the host, and a norm or a loss that is not finite stops every write of the update.

Checked without a GPU: accuracy in the interpreter, budgets of the compiler's output for sm_80 and sm_90.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from algoprog.kernels.formulas import register_formula
from algoprog.kernels.fused.launch import (
    INTERPRETED,
    PROGRAMS,
    next_power_of_2,
    on_device_of,
    require,
    require_shape,
)
from algoprog.kernels.reference import ADAMW_TILE

MAX_GROUPS = 1024
SHADOWS = (torch.bfloat16, torch.float16, torch.float32)
CLIP_EPS = 1e-6  # as in torch.nn.utils.clip_grad_norm_


@triton.jit(do_not_specialize=["elements"])
def squares(grad_ptr, partial_ptr, elements, TILE: tl.constexpr):
    """The sum of squares of every tile that is this program's. Buffers hold whole tiles, so there are no masks."""
    total = tl.zeros([TILE], tl.float32)
    program = tl.program_id(0).to(tl.int64)
    for first in range(program * TILE, elements, tl.num_programs(0) * TILE):
        g = tl.load(grad_ptr + first + tl.arange(0, TILE))
        total += g * g
    tl.store(partial_ptr + program, tl.sum(total, axis=0))


@triton.jit(do_not_specialize=["programs", "steps", "groups"])
def scalars(
    partial_ptr, lr_ptr, decay_ptr, factor_ptr, step_ptr, loss_ptr, norm_ptr, ok_ptr, control_ptr, programs, steps,
    groups, LOG1: tl.constexpr, LOG2: tl.constexpr, MAX_NORM: tl.constexpr, CLIP_EPS: tl.constexpr,
    PARTIALS: tl.constexpr, GROUPS: tl.constexpr,
):  # fmt: skip
    """One program. Writes norm, ok, the next step, and control: clip factor, 1 / sqrt(c2), lr wd and lr / c1 per group.

    LOG1 and LOG2 are natural logarithms of the betas, None for a beta of 0; MAX_NORM is None without clipping.
    """
    index = tl.arange(0, PARTIALS)
    total = tl.sum(tl.load(partial_ptr + index, mask=index < programs, other=0.0).to(tl.float64), axis=0)
    norm = tl.sqrt(total)
    ok = norm < float("inf")  # false for NaN too
    if loss_ptr is not None:
        ok = ok & (tl.abs(tl.load(loss_ptr).to(tl.float32)) < float("inf"))
    done = tl.load(step_ptr)
    t = (done + 1).to(tl.float64)
    one = t * 0.0 + 1.0
    c1, c2 = one, one
    if LOG1 is not None:
        c1 = one - tl.exp(t * LOG1)
    if LOG2 is not None:
        c2 = one - tl.exp(t * LOG2)
    clip = one
    if MAX_NORM is not None:
        clip = tl.minimum(one, MAX_NORM / (norm + CLIP_EPS))
    tl.store(norm_ptr, norm.to(tl.float32))
    tl.store(ok_ptr, ok.to(tl.int32))
    tl.store(step_ptr, done + ok.to(tl.int64))
    tl.store(control_ptr, clip.to(tl.float32))
    tl.store(control_ptr + 1, tl.sqrt(one / c2).to(tl.float32))
    group = tl.arange(0, GROUPS)
    rate = tl.load(lr_ptr + group, mask=group < groups, other=0.0) * tl.load(factor_ptr + tl.minimum(done, steps - 1))
    decay = tl.load(decay_ptr + group, mask=group < groups, other=0.0)
    tl.store(control_ptr + 2 + group, (rate * decay).to(tl.float32), mask=group < groups)
    tl.store(control_ptr + 2 + groups + group, (rate / c1).to(tl.float32), mask=group < groups)


@triton.jit(do_not_specialize=["groups"])
def update(
    param_ptr, grad_ptr, exp_avg_ptr, exp_avg_sq_ptr, shadow_ptr, tile_group_ptr, ok_ptr, control_ptr, groups,
    BETA1: tl.constexpr, BETA2: tl.constexpr, EPS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """One tile. Everything is read before the scalars are, so that memory is busy while they arrive."""
    tile = tl.program_id(0).to(tl.int64)
    at = tile * TILE + tl.arange(0, TILE)
    g, p = tl.load(grad_ptr + at), tl.load(param_ptr + at)
    m, v = tl.load(exp_avg_ptr + at), tl.load(exp_avg_sq_ptr + at)
    group = tl.load(tile_group_ptr + tile)
    shrink, rate = tl.load(control_ptr + 2 + group), tl.load(control_ptr + 2 + groups + group)
    g *= tl.load(control_ptr)
    # From the nearer end, so that a beta of 0 gives exactly the new value (and one near 1 loses nothing of the old).
    if BETA1 < 0.5:
        m = g - (g - m) * BETA1
    else:
        m += (g - m) * (1 - BETA1)
    if BETA2 < 0.5:
        v = g * g - (g * g - v) * BETA2
    else:
        v += (g * g - v) * (1 - BETA2)
    change = tl.div_rn(m, tl.sqrt_rn(v) * tl.load(control_ptr + 1) + EPS)
    p = p - p * shrink - rate * change
    if tl.load(ok_ptr) != 0:
        tl.store(param_ptr + at, p)
        tl.store(exp_avg_ptr + at, m)
        tl.store(exp_avg_sq_ptr + at, v)
        if shadow_ptr is not None:
            tl.store(shadow_ptr + at, p.to(shadow_ptr.dtype.element_ty))


def _launch_squares(grad: Tensor) -> Tensor:
    """Sums of squares per program, [programs] fp32."""
    programs = min(grad.numel() // ADAMW_TILE, PROGRAMS)
    partial = torch.empty(programs, dtype=torch.float32, device=grad.device)
    squares[(programs,)](grad, partial, grad.numel(), TILE=ADAMW_TILE, num_warps=4)
    return partial


def _launch_scalars(
    partial: Tensor, lr: Tensor, weight_decay: Tensor, factors: Tensor, step: Tensor, loss: Tensor | None, norm: Tensor,
    ok: Tensor, beta1: float, beta2: float, max_norm: float | None,
) -> Tensor:  # fmt: skip
    """Control of the update, [2 + 2 groups] fp32; see :func:`scalars`."""
    groups = lr.numel()
    control = torch.empty(2 + 2 * groups, dtype=torch.float32, device=lr.device)
    scalars[(1,)](
        partial, lr, weight_decay, factors, step, loss, norm, ok, control, partial.numel(), factors.numel(), groups,
        LOG1=math.log(beta1) if beta1 else None, LOG2=math.log(beta2) if beta2 else None, MAX_NORM=max_norm,
        CLIP_EPS=CLIP_EPS, PARTIALS=next_power_of_2(PROGRAMS), GROUPS=next_power_of_2(groups), num_warps=4,
    )  # fmt: skip
    return control


def _launch_update(
    param: Tensor, grad: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor, shadow: Tensor | None, tile_group: Tensor,
    ok: Tensor, control: Tensor, beta1: float, beta2: float, eps: float,
) -> None:  # fmt: skip
    update[(tile_group.numel(),)](
        param, grad, exp_avg, exp_avg_sq, shadow, tile_group, ok, control, (control.numel() - 2) // 2,
        BETA1=beta1, BETA2=beta2, EPS=eps, TILE=ADAMW_TILE, num_warps=4,
    )  # fmt: skip


@torch.library.custom_op(
    "algoprog::adamw_", mutates_args=("param", "exp_avg", "exp_avg_sq", "step", "norm", "ok", "shadow")
)
def _adamw(
    param: Tensor,
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    tile_group: Tensor,
    lr: Tensor,
    weight_decay: Tensor,
    factors: Tensor,
    step: Tensor,
    norm: Tensor,
    ok: Tensor,
    shadow: Tensor | None,
    loss: Tensor | None,
    beta1: float,
    beta2: float,
    eps: float,
    max_norm: float | None,
) -> None:
    with on_device_of(param):
        partial = _launch_squares(grad)
        control = _launch_scalars(
            partial, lr, weight_decay, factors, step, loss, norm, ok, beta1, beta2, max_norm
        )  # fmt: skip
        _launch_update(param, grad, exp_avg, exp_avg_sq, shadow, tile_group, ok, control, beta1, beta2, eps)


@_adamw.register_fake
def _(*_: object) -> None:
    return None


register_formula("adamw_")


def _check(tensors: dict[str, Tensor], shadow: Tensor | None, loss: Tensor | None, scalars_: dict[str, float]) -> None:
    op, param = "adamw_", tensors["param"]
    require(INTERPRETED or param.is_cuda, op, "param", "a CUDA tensor", param.device)
    optional = {"shadow": shadow, "loss": loss}
    for name, x in {**tensors, **{name: x for name, x in optional.items() if x is not None}}.items():
        require(x.device == param.device, op, name, f"a tensor on {param.device}", x.device)
        require(x.is_contiguous(), op, name, "a contiguous tensor", f"strides {x.stride()}")
    elements = param.numel()
    require(
        param.ndim == 1 and elements > 0 and elements % ADAMW_TILE == 0,
        op, "param", f"shape [M], M a positive multiple of {ADAMW_TILE}", tuple(param.shape),
    )  # fmt: skip
    for name in ("param", "grad", "exp_avg", "exp_avg_sq"):
        require(tensors[name].dtype == torch.float32, op, name, "a float32 tensor", tensors[name].dtype)
        require_shape(op, name, tensors[name], param.shape)
    groups = tensors["lr"].numel()
    require(1 <= groups <= MAX_GROUPS, op, "lr", f"1 to {MAX_GROUPS} groups", groups)
    require_shape(op, "tile_group", tensors["tile_group"], (elements // ADAMW_TILE,))
    require_shape(op, "weight_decay", tensors["weight_decay"], (groups,))
    require(tensors["factors"].numel() >= 1, op, "factors", "at least one factor", "none")
    wanted = {"tile_group": torch.int32, "step": torch.int64, "norm": torch.float32, "ok": torch.int32}
    for name, dtype in (wanted | dict.fromkeys(("lr", "weight_decay", "factors"), torch.float64)).items():
        require(tensors[name].dtype == dtype, op, name, f"a {dtype} tensor", tensors[name].dtype)
    for name in ("step", "norm", "ok"):
        require(tensors[name].numel() == 1, op, name, "one element", tuple(tensors[name].shape))
    if shadow is not None:
        require(shadow.dtype in SHADOWS, op, "shadow", "a bfloat16, float16 or float32 tensor", shadow.dtype)
        require_shape(op, "shadow", shadow, param.shape)
    if loss is not None:
        require(loss.numel() == 1, op, "loss", "one element", tuple(loss.shape))
    for name in ("beta1", "beta2"):
        require(0 <= scalars_[name] < 1, op, name, "a number in [0, 1)", scalars_[name])
    require(scalars_["eps"] > 0, op, "eps", "a number above 0", scalars_["eps"])
    require(scalars_["max_norm"] > 0, op, "max_norm", "a number above 0, or None", scalars_["max_norm"])


def adamw_(
    param: Tensor,
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    tile_group: Tensor,
    lr: Tensor,
    weight_decay: Tensor,
    factors: Tensor,
    step: Tensor,
    norm: Tensor,
    ok: Tensor,
    shadow: Tensor | None,
    loss: Tensor | None,
    beta1: float,
    beta2: float,
    eps: float,
    max_norm: float | None,
) -> None:
    """As :func:`algoprog.kernels.reference.adamw_`. Raises ValueError on a bad argument."""
    tensors = dict(
        param=param, grad=grad, exp_avg=exp_avg, exp_avg_sq=exp_avg_sq, tile_group=tile_group, lr=lr,
        weight_decay=weight_decay, factors=factors, step=step, norm=norm, ok=ok,
    )  # fmt: skip
    numbers = {"beta1": beta1, "beta2": beta2, "eps": eps, "max_norm": 1.0 if max_norm is None else max_norm}
    _check(tensors, shadow, loss, numbers)
    with torch.no_grad():
        torch.ops.algoprog.adamw_(
            param, grad, exp_avg, exp_avg_sq, tile_group, lr, weight_decay, factors, step, norm, ok, shadow, loss,
            beta1, beta2, eps, max_norm,
        )  # fmt: skip
