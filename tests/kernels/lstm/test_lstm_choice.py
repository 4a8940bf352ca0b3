"""Which LSTM kernel runs: by what can serve and by measurement, never by a guess; and the module around them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from algoprog.kernels import LSTM, dispatch, lstm_table, select
from algoprog.kernels.lstm import choose, lstm
from algoprog.kernels.lstm_table import Row, fastest, write

CPU, GPU = torch.device("cpu"), torch.device("cuda")
FP32, BF16 = torch.float32, torch.bfloat16
ROWS = (
    Row("H", "bfloat16", 64, 32, "library", 9.0, 0.1),
    Row("H", "bfloat16", 64, 32, "tile", 2.0, 0.1),
    Row("H", "bfloat16", 64, 32, "cluster", 1.0, 0.1),
    Row("H", "bfloat16", 512, 32, "library", 9.0, 0.1),
    Row("H", "bfloat16", 512, 32, "group", 20.0, 0.1),
    Row("H", "bfloat16", 256, 32, "library", 9.0, 0.5),
    Row("H", "bfloat16", 256, 32, "group", 8.6, 0.1),
    Row("H", "float16", 64, 32, "tile", 2.0, 0.1),
)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that can run everything but the cluster kernel, as far as choosing goes."""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.delenv("ALGOPROG_KERNELS", raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *device: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *device: "H")


def test_no_gpu_has_been_measured() -> None:
    """The day this fails, say in kernels/README.md and the doctor's notes on which device rows exist."""
    assert lstm_table.rows() == ()


@pytest.mark.parametrize(
    ("case", "kernel"),
    [
        (("H", "bfloat16", 64, 32), "cluster"),
        (("H", "bfloat16", 64, 64), "cluster"),  # within a factor of 2
        (("H", "bfloat16", 64, 65), None),
        (("H", "bfloat16", 72, 32), None),
        (("other", "bfloat16", 64, 32), None),
        (("H", "bfloat16", 512, 32), "library"),
        (("H", "bfloat16", 256, 32), "library"),  # faster by less than the range
        (("H", "float16", 64, 32), None),  # nothing to compare with
    ],
)
def test_the_fastest_measured_kernel(case: tuple[str, str, int, int], kernel: str | None) -> None:
    found = fastest(ROWS, *case)
    assert (found.kernel if found else None) == kernel


rows = st.builds(
    Row,
    st.sampled_from(["A", "B"]),
    st.just("float32"),
    st.just(64),
    st.integers(1, 8),
    st.sampled_from(lstm_table.KERNELS),
    st.floats(0.1, 100.0),
    st.floats(0, 1),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(rows, max_size=12), st.integers(1, 8))
def test_the_fastest_is_one_of_the_rows_and_beats_the_library(table: list[Row], batch: int) -> None:
    found = fastest(table, "A", "float32", 64, batch)
    if found is not None:
        assert found in table and max(found.batch, batch) <= 2 * min(found.batch, batch)
        library = [r for r in table if (r.device, r.dtype, r.hidden, r.batch) == ("A", "float32", 64, found.batch)]
        library = [r for r in library if r.kernel == "library"]
        assert library and found.us_per_step <= library[-1].us_per_step


def test_rows_are_written_as_python_and_read_back(tmp_path: Path) -> None:
    for table in (ROWS, ()):
        write(table, tmp_path / "rows.py")
        spec = importlib.util.spec_from_file_location("rows", tmp_path / "rows.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        assert {Row(*row) for row in module.ROWS} == set(table)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (Row("H", "float32", 64, 1, "fast", 1.0, 0.0), "kernel: expected library, tile, group, cluster, got 'fast'"),
        (Row("H", "float32", 64, 1, "tile", float("nan"), 0.0), "times: expected finite microseconds"),
        (ROWS[0], "rows: expected one per case, got several"),
    ],
)
def test_rows_that_say_nothing_are_refused(row: Row, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        write((*ROWS, row), tmp_path / "rows.py")
    assert not (tmp_path / "rows.py").exists()


def test_a_cpu_runs_pytorchs_operator_where_it_can() -> None:
    assert choose(64, 8, FP32, CPU).kernel == "library"
    masked = choose(64, 8, FP32, CPU, masked=True)
    assert (masked.kernel, masked.reason) == ("steps", "cpu: PyTorch's operator knows neither resets nor lengths")
    with pytest.raises(ValueError, match="got 'tile': they need a CUDA device, not cpu"):
        choose(64, 8, FP32, CPU, wanted="tile")
    with pytest.raises(ValueError, match="got 'library': PyTorch's operator knows neither resets nor lengths"):
        choose(64, 8, FP32, CPU, masked=True, wanted="library")
    with pytest.raises(ValueError, match="expected auto, library, steps, tile, group, cluster, got 'fast'"):
        choose(64, 8, FP32, CPU, wanted="fast")


def test_a_gpu_runs_cudnn_until_something_is_measured(gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    assert choose(64, 32, BF16, GPU) == choose(64, 32, BF16, GPU, wanted="auto")
    assert choose(64, 32, BF16, GPU).reason == "no measurement for width 64, batch 32 on H"
    assert [choose(H, 32, BF16, GPU).kernel for H in (64, 512)] == ["library", "library"]
    assert [choose(H, 32, BF16, GPU, masked=True).kernel for H in (64, 512, 2048)] == ["tile", "group", "steps"]
    monkeypatch.setattr(lstm_table, "rows", lambda: tuple(r for r in ROWS if r.kernel != "cluster"))
    assert [choose(H, 32, BF16, GPU).kernel for H in (64, 256, 512)] == ["tile", "library", "library"]
    assert choose(64, 32, BF16, GPU).reason == "2.00 us per step measured at batch 32 on H"
    assert choose(512, 32, BF16, GPU, masked=True).kernel == "group"  # the library was faster but cannot


def test_operations_say_by_which_rule(gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    unmeasured = select("auto", GPU, BF16)
    assert "lstm" in unmeasured.record()["reference"] and "lstm" not in unmeasured.record()
    reason = next(c.reason for c in unmeasured.choices if c.op == "lstm")
    assert reason.startswith("cuDNN: no fused kernel has been measured")
    by_name = select("fused", GPU, BF16)
    assert by_name.record()["lstm"] == ["requested: tile to width 128, group beyond; not measured"]
    assert by_name.lstm.__module__ == "algoprog.kernels.fused.lstm"
    monkeypatch.setattr(lstm_table, "rows", lambda: ROWS)
    measured = select("auto", GPU, BF16)
    assert measured.lstm is lstm and measured.record()["measured"] == ["lstm"]
    assert measured.record()["lstm"] == ["the fastest at each width and batch by 7 measured rows on H"]
    assert {row["op"]: row["implementation"] for row in dispatch.describe(GPU, BF16)}["lstm"] == "measured"


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("kernel", ["auto", "steps"])
def test_the_module_is_pytorchs_with_its_state_dict(layers: int, bias: bool, batch_first: bool, kernel: str) -> None:
    theirs = torch.nn.LSTM(3, 5, num_layers=layers, bias=bias, batch_first=batch_first)
    ours = LSTM(3, 5, layers, bias, batch_first, kernel=kernel)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    x, state = torch.randn(4, 2, 3), torch.randn(2, layers, 2 if not batch_first else 4, 5)
    for given_state in (None, (state[0], state[1])):
        torch.testing.assert_close(ours(x, given_state), theirs(x, given_state))
    back = torch.nn.LSTM(3, 5, num_layers=layers, bias=bias, batch_first=batch_first)
    back.load_state_dict(ours.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(back.parameters(), theirs.parameters(), strict=True))


def test_the_module_resets_and_stops_every_layer() -> None:
    module = LSTM(3, 5, 2, batch_first=True)
    x = torch.randn(2, 6, 3)
    keep = torch.ones(2, 6, dtype=torch.bool)
    keep[:, 4] = False
    torch.testing.assert_close(module(x, keep=keep)[0][:, 4:], module(x[:, 4:])[0])
    y, (h, _) = module(x, lengths=torch.tensor([6, 2]))
    assert (y[1, 2:] == 0).all() and torch.equal(h[-1, 1], y[1, 1])


def test_the_modules_weights_are_drawn_like_pytorchs() -> None:
    torch.manual_seed(0)
    module = LSTM(3, 400)
    for parameter in module.parameters():
        assert parameter.abs().max() <= 0.05 and parameter.std().item() == pytest.approx(0.05 / 3**0.5, rel=0.05)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0, 5), "input_size: expected at least 1, got 0"), ((3, 5, 0), "num_layers: expected at least 1, got 0")],
)
def test_bad_sizes_name_themselves(arguments: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LSTM(*arguments)
    with pytest.raises(ValueError, match="LSTM: kernel: expected auto, library"):
        LSTM(3, 5, kernel="fast")
