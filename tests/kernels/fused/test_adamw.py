"""AdamW over a flat buffer, fused against the reference and against PyTorch's own optimiser."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from algoprog.kernels import FlatAdamW, reference
from algoprog.kernels.fused import adamw
from algoprog.kernels.reference import ADAMW_TILE

Draw = Callable[..., Tensor]
FLOOR = 2.0**-24  # half a unit in the last place: one rounding more than PyTorch


def buffers(draw: Draw, tiles: int, groups: int = 1, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    size = tiles * ADAMW_TILE
    param, grad, m = (draw(size, scale=scale).detach() for scale in (0.02, 1.0, 0.1))
    device = param.device
    return {
        "param": param,
        "grad": grad,
        "exp_avg": m,
        "exp_avg_sq": draw(size).detach().square(),
        "tile_group": torch.arange(tiles, dtype=torch.int32, device=device) % groups,
        "lr": torch.linspace(0.01, 0.02, groups, dtype=torch.float64, device=device),
        "weight_decay": torch.linspace(0.1, 0.0, groups, dtype=torch.float64, device=device),
        "factors": torch.tensor([0.5, 1.0, 0.25], dtype=torch.float64, device=device),
        "step": torch.zeros((), dtype=torch.int64, device=device),
        "norm": torch.full((), float("nan"), device=device),
        "ok": torch.full((), -7, dtype=torch.int32, device=device),
        "shadow": torch.full((size,), float("nan"), dtype=torch.bfloat16, device=device),
        "loss": None,
        "beta1": 0.9,
        "beta2": 0.95,
        "eps": 1e-8,
        "max_norm": 1.0,
    }


def copied(state: dict[str, Any], dtype: torch.dtype | None = None) -> dict[str, Any]:
    """A deep copy; with ``dtype`` the fp32 tensors are converted."""
    made = {k: v.clone() if isinstance(v, Tensor) else v for k, v in state.items()}
    if dtype is not None:
        made = {k: v.to(dtype) if isinstance(v, Tensor) and v.dtype == torch.float32 else v for k, v in made.items()}
    return made


@pytest.mark.parametrize("step", [0, 1, 7])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.0, 0.95), (0.3, 0.0)])
def test_one_step_equals_the_reference_in_float64(betas: tuple[float, float], step: int, draw: Draw) -> None:
    start = buffers(draw, 5, groups=3) | {"beta1": betas[0], "beta2": betas[1]}
    start["step"].fill_(step)
    exact, plain, fused = copied(start, torch.float64), copied(start), copied(start)
    reference.adamw_(**exact)
    reference.adamw_(**plain)
    adamw.adamw_(**fused)
    assert int(fused["step"]) == step + 1 and int(fused["ok"]) == 1
    for name in ("param", "exp_avg", "exp_avg_sq", "norm"):
        size = exact[name].norm()
        error, allowed = ((x[name].double() - exact[name]).norm() / size for x in (fused, plain))
        assert allowed < 1e-6, f"{name}: the reference is off by {allowed:.1e}"
        assert error <= 2 * allowed + FLOOR, f"{name}: {error:.2e}, reference {allowed:.2e}"
    assert torch.equal(fused["shadow"], fused["param"].to(torch.bfloat16))
    assert torch.equal(fused["grad"], start["grad"])


@pytest.mark.parametrize(
    ("steps", "beta1"), [(1, 0.9), (10, 0.9), (10, 0.0), (200, 0.9), pytest.param(1000, 0.9, marks=pytest.mark.slow)]
)
def test_accuracy_over_steps_is_that_of_pytorch(steps: int, beta1: float, draw: Draw, device: torch.device) -> None:
    """Two groups, a schedule and clipping, against PyTorch in float64 and, for the allowance, in fp32."""
    weights = [draw(24, 20, scale=0.02), draw(7), draw(300, mean=1.0, scale=0.5)]
    gradients = torch.Generator().manual_seed(steps)
    factors = [min(1.0, (s + 1) / 20) for s in range(steps)]

    def optimised(kind: str, dtype: torch.dtype) -> tuple[list[Tensor], Any]:
        params = [w.detach().to(dtype).clone().requires_grad_() for w in weights]
        groups: list[dict[str, Any]] = [{"params": params[:2], "weight_decay": 0.1}, {"params": params[2:]}]
        if steps > 10:  # the interpreter takes its time per tile, so there is one
            groups = [{"params": params, "weight_decay": 0.1}]
        settings: dict[str, Any] = {"lr": 0.01, "betas": (beta1, 0.99), "eps": 1e-8, "weight_decay": 0.0}
        if kind == "fused":
            return params, FlatAdamW(groups, **settings, max_norm=1.0, factors=factors, update=adamw.adamw_)
        return params, torch.optim.AdamW(groups, **settings, fused=True)

    made = {kind: optimised(kind, torch.float64 if kind == "exact" else torch.float32)
            for kind in ("exact", "plain", "fused")}  # fmt: skip
    for s in range(steps):
        drawn = [torch.randn(w.shape, generator=gradients).to(device) * 0.1 + 0.02 for w in weights]
        for kind, (params, optimizer) in made.items():
            for p, g in zip(params, drawn, strict=True):
                p.grad = g.to(p.dtype, copy=True)
            if kind != "fused":
                torch.nn.utils.clip_grad_norm_(params, 1.0)
                for group in optimizer.param_groups:
                    group["lr"] = 0.01 * factors[s]
            optimizer.step()
    for i, truth in enumerate(made["exact"][0]):
        for what in ("weight", "exp_avg", "exp_avg_sq"):
            values = {}
            for kind, (params, optimizer) in made.items():
                p = params[i]
                values[kind] = (p if what == "weight" else optimizer.state[p][what]).detach().double()
            size = values["exact"].norm()
            error, allowed = ((values[kind] - values["exact"]).norm() / size for kind in ("fused", "plain"))
            assert allowed < 1e-4, f"PyTorch is off by {allowed:.1e}"
            message = f"{what} {i} {tuple(truth.shape)}: {error:.2e}, PyTorch {allowed:.2e}"
            print(message)
            assert error <= 2 * allowed + FLOOR, message


@pytest.mark.parametrize("trouble", ["nan gradient", "infinite gradient", "nan loss", "infinite loss"])
def test_a_step_that_is_not_finite_writes_nothing(trouble: str, draw: Draw, device: torch.device) -> None:
    bad = float("nan") if "nan" in trouble else -math.inf
    for operation in (adamw.adamw_, reference.adamw_):
        state = buffers(draw, 2)
        state["shadow"].copy_(state["param"])
        if "gradient" in trouble:
            state["grad"][ADAMW_TILE + 5] = bad
        else:
            state["loss"] = torch.tensor([bad], device=device)
        before = copied(state)
        operation(**state)
        assert int(state["ok"]) == 0 and int(state["step"]) == 0
        for name in ("param", "exp_avg", "exp_avg_sq", "shadow"):
            assert torch.equal(state[name], before[name]), name


def test_the_schedule_stays_at_its_last_factor(draw: Draw) -> None:
    for factors, step in (([0.5, 2.0], 0), ([0.5, 2.0], 1), ([0.5, 2.0], 9)):
        state = buffers(draw, 1)
        state["factors"], state["max_norm"] = torch.tensor(factors).double().to(state["param"].device), None
        state["step"].fill_(step)
        exact = copied(state, torch.float64)
        adamw.adamw_(**state)
        reference.adamw_(**exact)
        torch.testing.assert_close(state["param"], exact["param"].float(), rtol=1e-5, atol=1e-8)


def test_zeros_stay_zero_and_many_groups_find_their_rates(draw: Draw) -> None:
    state = buffers(draw, 37, groups=37) | {"max_norm": None}
    for name in ("param", "grad", "exp_avg", "exp_avg_sq"):
        state[name][3 * ADAMW_TILE : 4 * ADAMW_TILE] = 0.0
    exact = copied(state, torch.float64)
    adamw.adamw_(**state)
    reference.adamw_(**exact)
    assert not state["param"][3 * ADAMW_TILE : 4 * ADAMW_TILE].any()
    torch.testing.assert_close(state["param"], exact["param"].float(), rtol=1e-5, atol=1e-8)


def test_the_norm_is_summed_over_more_tiles_than_programs(draw: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adamw, "PROGRAMS", 3)
    state = buffers(draw, 7)
    state["grad"] *= torch.linspace(0.1, 10, len(state["grad"]), device=state["grad"].device)
    adamw.adamw_(**state)
    wanted = state["grad"].double().norm()
    assert abs(state["norm"].double() / wanted - 1) < 2.0**-22


BAD: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "length": (lambda s: s.update(grad=s["grad"][:-1]), "grad: expected shape"),
    "tile": (lambda s: s.update(param=s["param"][:-1]), "param: expected shape .M., M a positive multiple of 1024"),
    "empty": (lambda s: s.update(param=s["param"][:0]), "param: expected shape"),
    "dtype": (lambda s: s.update(exp_avg=s["exp_avg"].bfloat16()), "exp_avg: expected a float32 tensor"),
    "strided": (lambda s: s.update(exp_avg_sq=s["exp_avg_sq"].repeat(2)[::2]), "exp_avg_sq: expected a contiguous"),
    "groups": (lambda s: s.update(weight_decay=s["weight_decay"].repeat(2)), "weight_decay: expected shape"),
    "table": (lambda s: s.update(tile_group=s["tile_group"][:1]), "tile_group: expected shape"),
    "step": (lambda s: s.update(step=s["step"].float()), "step: expected a torch.int64 tensor"),
    "device": (lambda s: s.update(step=s["step"].to("meta")), "step: expected a tensor on"),
    "shadow": (lambda s: s.update(shadow=s["shadow"].double()), "shadow: expected a bfloat16, float16 or float32"),
    "loss": (lambda s: s.update(loss=s["param"]), "loss: expected one element"),
    "factors": (lambda s: s.update(factors=s["factors"][:0]), "factors: expected at least one"),
    "beta1": (lambda s: s.update(beta1=1.0), r"beta1: expected a number in \[0, 1\), got 1.0"),
    "beta2": (lambda s: s.update(beta2=-0.1), "beta2: expected a number in"),
    "eps": (lambda s: s.update(eps=0.0), "eps: expected a number above 0"),
    "max_norm": (lambda s: s.update(max_norm=0.0), "max_norm: expected a number above 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments_are_named_and_nothing_is_written(case: str, draw: Draw) -> None:
    change, message = BAD[case]
    state = buffers(draw, 2)
    before = state["param"].clone()
    whole = state["param"]
    change(state)
    with pytest.raises(ValueError, match=f"adamw_: {message}"):
        adamw.adamw_(**state)
    assert torch.equal(whole, before)


def test_offsets_beyond_two_to_the_31_elements(only_program: Callable[[int], None], device: torch.device) -> None:
    """The last tile of a buffer whose offsets do not fit 32 bits: untouched pages of four large buffers cost nothing."""
    tiles = 2**21 + 1
    size = tiles * ADAMW_TILE
    only_program(tiles - 1)
    large = {name: torch.empty(size, device=device) for name in ("param", "grad", "exp_avg", "exp_avg_sq")}
    for i, x in enumerate(large.values()):
        x[-ADAMW_TILE:] = 0.5 + i
    tile_group = torch.zeros(tiles, dtype=torch.int32, device=device)
    ok = torch.ones((), dtype=torch.int32, device=device)
    control = torch.tensor([1.0, 1.0, 0.25, 0.125], device=device)
    adamw.update[(tiles,)](
        *large.values(), None, tile_group, ok, control, 1, BETA1=0.5, BETA2=0.5, EPS=1e-8, TILE=ADAMW_TILE, num_warps=4
    )
    m, v = 0.5 * (2.5 + 1.5), 0.5 * (3.5 + 1.5**2)
    wanted = torch.full((ADAMW_TILE,), 0.5 - 0.5 * 0.25 - 0.125 * m / v**0.5, device=device)
    torch.testing.assert_close(large["param"][-ADAMW_TILE:], wanted)
