"""`algoprog bench step`: peers start alike and compute the same, a peer that does not is noticed, and the loop adds little."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
import time
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from typer.testing import CliRunner

from algoprog.bench import parts, ways
from algoprog.bench import step as bench_step
from algoprog.bench.children import Children, PeerFailed, Place
from algoprog.bench.parts import PARTS, BareStep, loop_overhead, time_parts
from algoprog.bench.plain import build_plain
from algoprog.bench.spread import describe_ratio, median_interval, quantile
from algoprog.bench.ways import LoopWay, PlainWay
from algoprog.cli import app
from algoprog.config import BudgetConfig, InputError, RunConfig
from algoprog.data.store import TokenStore
from algoprog.models import build_model
from algoprog.recipes import resolve
from algoprog.report import tables_bench
from algoprog.sweep.worker_process import TUNED_ENVIRONMENT
from algoprog.training.calibrate import random_store
from algoprog.training.engines import Engine
from algoprog.training.loop import Run
from algoprog.training.metrics import MetricBuffer
from algoprog.training.warm import Programs

VOCAB = 300


def config_of(arch: str, width: int = 16, batch: int = 4, context: int = 32, **model: Any) -> RunConfig:
    overrides = {"batch": batch, "model": {"context": context, **model}}
    return resolve(
        arch, width, BudgetConfig(tokens=2**40), data={"corpus": "random", "tokenizer": f"bpe-{VOCAB}"}, lr=0.01, seed=3,
        precision="fp32", overrides=overrides, where="test",
    )  # fmt: skip


@pytest.fixture(scope="module")
def store() -> TokenStore:
    return random_store(VOCAB, 20_000, 32)


@pytest.mark.parametrize("arch", ["modern", "retro", "lstm"])
def test_plain_pytorch_computes_the_same_losses(arch: str, store: TokenStore, engine: Engine) -> None:
    config = config_of(arch)
    ours, plain = LoopWay(config, store, engine).first_losses(8), PlainWay(config, store, engine).first_losses(8)
    assert len(ours) == len(plain) == 8
    assert ours == pytest.approx(plain, rel=2e-6)
    assert len(set(ours)) == 8  # the losses move, so weights and batches do


def test_gpt2_sized_settings_have_a_peer(store: TokenStore, engine: Engine) -> None:
    config = config_of("modern", norm="layernorm", activation="gelu", position="learned", depth=2, heads=2)
    ours, plain = LoopWay(config, store, engine).first_losses(4), PlainWay(config, store, engine).first_losses(4)
    assert ours == pytest.approx(plain, rel=2e-6)


def test_a_recipe_without_a_peer_is_refused() -> None:
    config = config_of("modern-bias-free")
    with pytest.raises(InputError, match="no plain peer"):
        build_plain(config, [p.detach() for p in build_model(config.model, 0).parameters()])


def test_a_way_counts_its_steps_and_seconds(store: TokenStore, engine: Engine) -> None:
    for way in (LoopWay(config_of("modern"), store, engine), PlainWay(config_of("modern"), store, engine)):
        for steps in (3, 250):  # from 200 steps on the loop reports every second or third step only
            sample = way.run(steps)
            assert abs(sample.steps - steps) <= 2 and sample.seconds > 0 and sample.cpu_seconds > 0


def quickstart_config(arch: str, width: int) -> RunConfig:
    overrides = {"batch": 8, "model": {"context": 128}}
    return resolve(arch, width, BudgetConfig(tokens=2**40), data={"corpus": "random", "tokenizer": "bpe-1024"},
                   lr=0.01, precision="fp32", overrides=overrides, where="test")  # fmt: skip


@pytest.fixture(scope="module")
def quickstart_loop(engine: Engine) -> LoopWay:
    """A shape of the quickstart's."""
    return LoopWay(quickstart_config("modern", 32), random_store(1024, 40_000, 128), engine)


@pytest.mark.parametrize(("arch", "width", "most"), [("modern", 32, 0.025), ("modern", 8, 0.03)])
def test_loop_costs_less_than_three_per_cent_of_a_bare_step(
    arch: str, width: int, most: float, quickstart_loop: LoopWay
) -> None:
    """A large and a small shape of the quickstart's."""
    found = loop_overhead(dataclasses.replace(quickstart_loop, config=quickstart_config(arch, width)), rounds=10)
    assert found.interval is not None and found.interval[0] <= found.median <= found.interval[1]
    assert 0 < found.interval[0] <= most, found


@pytest.mark.parametrize("where", ["step", "report"])
def test_a_loop_that_costs_more_is_noticed(
    where: str, quickstart_loop: LoopWay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Work of 2 % of a step, done in every step or for ten of them at every report."""
    bare = BareStep(quickstart_loop.config, quickstart_loop.store, quickstart_loop.engine)
    seconds = statistics.median(parts.seconds_of(bare, 1)[1] for _ in range(20))
    name, share = ("record", 0.02) if where == "step" else ("drain", 0.2)
    usual = getattr(MetricBuffer, name)

    def slower(*arguments: Any) -> Any:
        until = time.process_time() + share * seconds
        while time.process_time() < until:
            pass
        return usual(*arguments)

    monkeypatch.setattr(MetricBuffer, name, slower)
    found = loop_overhead(quickstart_loop, rounds=10)
    assert found.interval is not None and found.interval[0] > 0.025, found


class Counted(TorchDispatchMode):
    """How often each operation is called."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls[func._schema.name.removeprefix("aten::")] += func.namespace == "aten"
        return func(*args, **(kwargs or {}))


OWN = {
    "index_select": 1, "addcmul": 2, "ge": 1, "logical_not": 1, "sub_": 1, "copy_": 2, "index_copy_": 1, "add_": 1,
    "detach": 1, "_foreach_sub_": 1,
}  # fmt: skip
"""Table row; loss and norm finite, skips left; bad steps; loss, norm and their row of metrics; cursor; loss without graph;
and what PyTorch's fused optimiser does where a step may be refused: it takes back its count of steps."""


@pytest.mark.parametrize("arch", ["modern", "retro", "lstm"])
def test_a_step_of_the_loop_is_a_bare_step_and_a_dozen_small_operations(
    arch: str, store: TokenStore, engine: Engine
) -> None:
    """Times are noisy, counts are not. On a CPU an operation on one number costs about 10 us in the middle of a step."""
    config = config_of(arch).model_copy(update={"budget": BudgetConfig(tokens=60 * 4 * 32)})
    run, bare = Run(config, Programs(store, engine)), BareStep(config, store, engine)
    run.step.load(3)
    counted = []
    for step in (run.step, bare):
        step()
        step()  # from the second step on all are alike
        with Counted() as mode:
            step()
        counted.append(mode.calls)
    carried = {"where": 4 * config.model.depth} if arch == "lstm" else {}  # h and c, before and after
    more, less = counted[0] - counted[1], counted[1] - counted[0]
    assert more == Counter({**OWN, **carried})
    assert less == Counter({"select": 1})  # the bare step picks its row by a number of the host's


def test_parts_are_all_there_and_make_a_step(store: TokenStore, engine: Engine) -> None:
    config = config_of("lstm")
    found = time_parts(BareStep(config, store, engine), LoopWay(config, store, engine), rounds=3)
    assert set(found) == {*PARTS, "bare", "loop"} and all(value > 0 for value in found.values())


def test_taking_a_step_apart_changes_no_weight(store: TokenStore, engine: Engine) -> None:
    whole, cut = (BareStep(config_of("modern"), store, engine) for _ in range(2))
    for _ in range(3):
        whole()
        cut.timed()
    for a, b in zip(whole.model.parameters(), cut.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    options = bench_step.Settings(
        archs=("lstm",), widths=(16,), tokenizer=f"bpe-{VOCAB}", batch=2, context=32, rounds=6, compiled=False
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench_step, "SAMPLE_S", 0.02)
        return bench_step.step(options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU has other ways")
def test_every_way_has_a_row(measured: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    json.dumps(measured, allow_nan=False)
    rows = {row["way"]: row for row in measured["rows"]}
    assert set(rows) == {"loop", "plain", "sweep", "plain, defaults"}
    for row in rows.values():
        assert row["tokens_per_s"] > 0 and row["rounds"] == 6 and row["same_losses"] and row["reason"] is None
        assert row["mfu"] is None  # no peak of a CPU is assumed
        low, high = row["loop_over_this"]["interval"]
        assert low <= row["loop_over_this"]["ratio"] <= high
    assert rows["loop"]["loop_over_this"]["ratio"] == 1.0 == rows["sweep"]["sweep_over_this"]["ratio"]
    assert rows["plain, defaults"]["threads"] is None and not rows["plain, defaults"]["tuned_allocator"]
    (split,) = measured["parts"]
    assert math.isclose(sum(split["parts"].values()), split["seconds_per_step"])
    tables_bench.print_step(measured)
    assert "n/a" in capsys.readouterr().out


def test_a_peer_that_computes_something_else_has_no_ratio(measured: dict[str, Any]) -> None:
    problem = bench_step._Problem.__new__(bench_step._Problem)
    problem.config = config_of("lstm")
    problem.losses = {"loop": [5.0, 4.9], "other": [5.0, 4.8], "same": [5.0, 4.9 * (1 + 1e-6)]}
    assert not problem._compare_losses("other")["same_losses"] and problem._compare_losses("same")["same_losses"]


def test_a_way_that_fails_is_a_row_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    here = (Place(1, tuned=True),)
    ways_here = [bench_step.WayPlan("loop", "loop", here), bench_step.WayPlan("broken", "nonsense", here)]
    monkeypatch.setattr(bench_step, "plans", lambda *_: ways_here)
    monkeypatch.setattr(bench_step, "SAMPLE_S", 0.02)
    options = bench_step.Settings(("lstm",), (16,), tokenizer=f"bpe-{VOCAB}", batch=2, context=32, rounds=2)
    found = {row["way"]: row for row in bench_step.step(options)["rows"]}
    assert "AssertionError" in found["broken"]["reason"] and found["broken"]["tokens_per_s"] is None
    assert found["loop"]["loop_over_this"]["interval"] is None  # two rounds make no interval


def test_a_child_that_dies_is_noticed() -> None:
    with Children("torch") as children:
        with pytest.raises(PeerFailed, match="no_such|_no_such|attribute"):
            children.ask([Place(1, tuned=True)], {"kind": "no_such"})
    with Children("nonsense") as children, pytest.raises(PeerFailed, match="engine"):
        children.ask([Place(1, tuned=True)], {"kind": "close", "name": "x"})


def test_places_keep_our_settings_out_of_a_users_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("MALLOC_TOP_PAD_", "1")
    untouched, ours = Place(None, tuned=False).environment(), Place(2, tuned=True).environment()
    assert not {"OMP_NUM_THREADS", *TUNED_ENVIRONMENT} & set(untouched)
    assert ours["OMP_NUM_THREADS"] == "2" and TUNED_ENVIRONMENT.items() <= ours.items()


def test_known_intervals_of_a_median() -> None:
    assert median_interval([1, 2, 3, 4, 5]) is None
    assert median_interval([3, 1, 2, 6, 5, 4]) == (1, 6)  # coverage 1 - 2 / 64
    assert median_interval(list(range(1, 21))) == (6, 15)  # tables: ranks 6 and 15 of 20, coverage 0.959
    assert describe_ratio([2, 4], [1, 1]) == {"ratio": 3.0, "interval": None}


@given(st.lists(st.floats(0.1, 10.0), min_size=1, max_size=40))
def test_quantiles_are_those_of_numpy(values: list[float]) -> None:
    for q in (0.0, 0.25, 0.5, 0.9, 1.0):
        assert quantile(values, q) == pytest.approx(np.quantile(values, q))
    assert quantile(values, 0.5) == pytest.approx(statistics.median(values))


@settings(max_examples=20, deadline=None)
@given(st.integers(6, 30))
def test_interval_covers_the_median_as_often_as_it_says(n: int) -> None:
    draws = np.random.default_rng(n).normal(size=(2000, n))
    intervals = [median_interval(list(row)) for row in draws]
    covered = np.mean([i is not None and i[0] <= 0 <= i[1] for i in intervals])
    assert covered > 0.95 - 4 * math.sqrt(0.05 * 0.95 / 2000)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--arch", "modrn"], "modern"),
        (["--rounds", "1000"], "1 to 100"),
        (["--precision", "fp8"], "auto, fp32 or bf16"),
        (["--width", "17", "--arch", "modern"], "width"),
    ],
)
def test_bad_input_is_one_line(options: list[str], message: str) -> None:
    asked = CliRunner().invoke(app, ["bench", "step", *options])
    assert asked.exit_code == 2 and message in asked.stderr and asked.stderr.count("\n") == 1


def test_plain_loop_forgets_when_ours_does(store: TokenStore) -> None:
    config = config_of("lstm", reset_probability=1.0)
    order = ways.make_order(config.data.order, len(store.train), 32, config.batch, config.seed)
    assert all(ways._forgets(config, order, step) for step in range(5))
    kept = config_of("lstm", reset_probability=0.0)
    assert [ways._forgets(kept, order, step) for step in range(3)] == [True, False, False]
