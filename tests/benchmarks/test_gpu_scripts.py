"""The GPU measurement scripts on a CPU: they run end to end, keep their rows, and refuse to call a wrong result fast."""

from __future__ import annotations

import ast
import importlib.util
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import algoprog
from algoprog.config import LstmConfig, TransformerConfig
from algoprog.models.registry import model_flops, parameter_count

ROOT = Path(algoprog.__file__).resolve().parent.parent
GPU = ROOT / "benchmarks" / "gpu"
SCRIPTS = ("ceilings", "lstm_baseline", "head", "step", "counters", "memory_sanity")
QUICK_PART = {"head": ["--part", "main"], "step": ["--part", "graph"]}  # torch.compile takes its time: slow tests
HAS_TRITON = importlib.util.find_spec("triton") is not None
NEEDS_TRITON = pytest.mark.skipif(not HAS_TRITON, reason="Triton is not installed")

if str(GPU) not in sys.path:
    sys.path.append(str(GPU))  # the scripts import each other by name, as they do on a GPU machine without this package
import accuracy  # noqa: E402
import ceilings  # noqa: E402
import consequences  # noqa: E402
import cuda_module  # noqa: E402
import lstm_cluster  # noqa: E402
import memory_sanity  # noqa: E402
import ncu  # noqa: E402
import predictions  # noqa: E402
import rows  # noqa: E402
import step_models  # noqa: E402


def run(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    settings = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    settings.pop("TRITON_INTERPRET", None)
    command = [sys.executable, str(GPU / f"{script}.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, env=settings)


def tiny(script: str, out: Path, *arguments: str) -> list[dict[str, Any]]:
    done = run(script, "--device", "cpu", "--tiny", "--out", str(out), *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in (out / f"{script}.jsonl").read_text().splitlines()]


def check_row(row: dict[str, Any]) -> None:
    for key in ("id", "script", "key", "source", "commit", "device", "versions", "status", "utc", "tiny"):
        assert key in row
    assert {"driver", "torch", "triton", "cuda", "cudnn", "python"} == set(row["versions"])
    if row["status"] == "measured":
        assert row["median_s"] > 0 and row["iqr_s"] >= 0 and row["n"] >= 5 and row["speed"]
        assert row["accuracy"]["verified"] and row["accuracy"]["checks"] and row["reason"] is None
        assert row["timing"]["method"] and row["ceilings"]["copy_bytes_per_s"] > 0
    else:
        assert row["median_s"] is None and row["speed"] is None
        assert row["status"] == "answered" or row["reason"]


SLOW = ("lstm_baseline", "step", "counters")  # what all scripts share, the others show


# Without ceilings: the test after the next.
@pytest.mark.parametrize("script", [pytest.param(s, marks=pytest.mark.slow) if s in SLOW else s for s in SCRIPTS[1:]])
def test_a_script_runs_end_to_end_on_a_cpu(script: str, tmp_path: Path) -> None:
    found = tiny(script, tmp_path, *QUICK_PART.get(script, []))
    for row in found:
        check_row(row)
    verified = [row for row in found if row["status"] in ("measured", "answered")]
    assert len(verified) >= 3
    for row in found:
        assert row["status"] != "failed", row["reason"]
        if row["status"] == "inaccurate":  # PyTorch's own head returns its loss in bf16
            assert row["key"]["variant"] == "torch linear_cross_entropy"
        if not HAS_TRITON and row["status"] == "unsupported":
            continue
        if row["status"] == "unsupported":
            assert "GPU" in row["reason"] or "linear_cross_entropy" in row["reason"]


@pytest.mark.slow
@pytest.mark.parametrize(("script", "part"), [("head", "compiled"), ("step", "compiled"), ("step", "streams")])
def test_compiled_parts_run_on_a_cpu(script: str, part: str, tmp_path: Path) -> None:
    found = tiny(script, tmp_path, "--part", part)
    assert found and all(row["status"] == "measured" for row in found), found


def test_a_start_stops_at_its_limit_and_the_next_one_continues(tmp_path: Path) -> None:
    arguments = ["--device", "cpu", "--tiny", "--out", str(tmp_path), "--part", "matmul"]
    stopped = run("ceilings", *arguments, "--minutes", "0.00001")
    assert stopped.returncode == 75 and "same command" in stopped.stdout
    assert not (tmp_path / "ceilings.jsonl").exists()
    first = tiny("ceilings", tmp_path, "--part", "matmul")
    more = tiny("ceilings", tmp_path)  # those of the part are there already
    assert more[: len(first)] == first and len({row["id"] for row in more}) == len(more) > len(first)


def test_a_gpu_is_not_invented(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    done = run("ceilings", "--out", str(tmp_path / "rows"))
    assert done.returncode == 2 and "no CUDA device" in done.stderr
    assert not (tmp_path / "rows").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--device", "cpu"], "--tiny"),
        (["--device", "cpu", "--tiny"], "--out"),
        (["--part", "nonsense"], "expected one of"),
        (["--minutes", "0"], "--minutes"),
    ],
)
def test_bad_input_gives_one_line_and_code_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        ceilings.main("ceilings.py", "about", ceilings.cases, arguments)
    assert stop.value.code == 2 and said in capsys.readouterr().err.splitlines()[-1]


FAULTS = """
import os, sys, time
sys.path.insert(0, {gpu!r})
import drive
from accuracy import Accuracy, Check, exactly
from bench import Case, Measurement
drive.SILENCE_S = 2.0

def case(name, action):
    return Case("only", {{"name": name}}, action)

def right(bench):
    return Measurement(exactly("wrong", 0), bench.time([lambda: None]), {{"flops": 1.0}})

def wrong(bench):
    return Measurement(exactly("wrong", 1), bench.time([lambda: None]), {{"flops": 1.0}})

def unverified(bench):
    return Measurement(Accuracy(), bench.time([lambda: None]), {{"flops": 1.0}})

def nan(bench):
    return Measurement(Accuracy((Check("x", float("nan"), float("nan"), "rule"),)), bench.time([lambda: None]))

def raises(bench):
    raise ValueError("a peer broke")

cases = [case("raises", raises), case("dies", lambda bench: os._exit(7)), case("hangs", lambda bench: time.sleep(60)),
         case("wrong", wrong), case("unverified", unverified), case("nan", nan), case("right", right)]
sys.exit(drive.main("ceilings.py", "faults", lambda tiny: cases))
"""


def test_a_fault_of_one_case_costs_one_row(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FAULTS.format(gpu=str(GPU)), "--device", "cpu", "--tiny", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = {r["key"]["name"]: r for r in map(json.loads, (tmp_path / "ceilings.jsonl").read_text().splitlines())}
    for row in found.values():
        check_row(row)
    assert {name: row["status"] for name, row in found.items()} == {
        "raises": "failed", "dies": "failed", "hangs": "failed", "wrong": "inaccurate", "unverified": "inaccurate",
        "nan": "inaccurate", "right": "measured",
    }  # fmt: skip
    assert "a peer broke" in found["raises"]["reason"] and "exit code 7" in found["dies"]["reason"]
    assert "killed" in found["hangs"]["reason"] and "not verified" in found["unverified"]["reason"]


def test_a_cut_off_line_is_removed_and_nan_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"id": "a"}\n{"id": "b", "med')
    file = rows.RowFile(path)
    assert file.ids() == {"a"} and "cut off" in capsys.readouterr().out
    file.append({"id": "c"})
    assert rows.RowFile(path).ids() == {"a", "c"}
    with pytest.raises(ValueError):
        file.append({"id": "d", "speed": math.nan})
    assert rows.RowFile(path).ids() == {"a", "c"}


def test_the_source_hash_covers_what_is_imported_and_the_cuda_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {path.name for path in rows.sources("lstm_baseline.py")}
    assert {"lstm_baseline.py", "lstm_problem.py", "lstm_triton.py", "lstm_cluster.cu", "timing.py"} <= names
    assert "head.py" not in names
    for path in GPU.iterdir():
        if path.suffix in (".py", ".cu"):
            shutil.copy(path, tmp_path)
    monkeypatch.setattr(rows, "HERE", tmp_path)
    before = rows.source_hash("lstm_baseline.py"), rows.source_hash("head.py")
    (tmp_path / "lstm_cluster.cu").write_text((tmp_path / "lstm_cluster.cu").read_text() + "\n")
    assert rows.source_hash("lstm_baseline.py") != before[0] and rows.source_hash("head.py") == before[1]


def test_the_accuracy_rule_catches_wrong_results_and_broken_references() -> None:
    good = accuracy.against_plain({"y": 1.9e-3}, {"y": 1e-3}, cap=0.02, floor=1e-6)
    assert good.verified
    assert not accuracy.against_plain({"y": 2.1e-3}, {"y": 1e-3}, cap=0.02, floor=1e-6).verified
    assert not accuracy.against_plain({"y": 0.03}, {"y": 0.5}, cap=0.02, floor=1e-6).verified
    assert not accuracy.against_plain({"y": math.nan}, {"y": 1e-3}, cap=0.02, floor=1e-6).verified
    assert not accuracy.against_plain({"y": 1e-4}, {"y": math.nan}, cap=0.02, floor=1e-6).verified
    assert not accuracy.Accuracy().verified
    want = torch.tensor([3.0, 4.0])
    assert accuracy.relative_error(want + torch.tensor([0.0, 0.5]), want) == pytest.approx(0.1)


# These measure the package itself; the others must run on a machine that has nothing but torch and triton.
OF_THE_PACKAGE = ("frontier_1e16", "lstm", "package_runs", "package_step", "run_1e17", "sweep_1e15")


def test_the_scripts_need_torch_and_triton_alone() -> None:
    beside = {path.stem for path in GPU.glob("*.py")} - set(OF_THE_PACKAGE)
    for path in (GPU / f"{name}.py" for name in sorted(beside)):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                roots = [alias.name.split(".")[0] for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                roots = [str(node.module).split(".")[0]]
            else:
                continue
            for root in roots:
                assert root in sys.stdlib_module_names | beside | {"torch", "triton", "__future__"}, f"{path}: {root}"


@pytest.mark.parametrize("arch", step_models.ARCHITECTURES)
def test_the_plain_models_are_the_study_models(arch: str) -> None:
    width, vocab, context, sequences = 64, 1000, 128, 3
    if arch == "lstm":
        config: Any = LstmConfig(width=width, vocab=vocab, context=context)
    else:
        modern = arch == "modern"
        config = TransformerConfig(
            width=width, depth=4, heads=4, vocab=vocab, context=context,
            norm="rms" if modern else "layernorm", norm_placement="pre" if modern else "post",
            activation="swiglu" if modern else "gelu", position="rotary" if modern else "sinusoidal",
        )  # fmt: skip
    plain = step_models.Model(arch, width, vocab, context, torch.float32)
    assert sum(p.numel() for p in plain.parameters()) == parameter_count(config)
    assert plain.training_flops(sequences, context) == sequences * model_flops(config).training_total


def test_cluster_layouts_follow_the_kernel() -> None:
    H = 32
    w = torch.arange(4 * H * H).view(4 * H, H)
    flat = lstm_cluster.interleaved(w).view(4 * H, H)
    for gate in range(4):
        for unit in range(H):
            to = (unit // 8 * 2 + gate // 2) * 16 + gate % 2 * 8 + unit % 8
            assert torch.equal(flat[to], w[gate * H + unit])
    xg = torch.arange(2 * 4 * H).view(2, 4 * H)
    assert torch.equal(lstm_cluster.gates_innermost(xg).view(2, H, 4)[1, 5], xg[1, 5::H])


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed")
def test_cuda_sketches_compile_for_hopper_without_spills(tmp_path: Path) -> None:
    variants = [("lstm_cluster.cu", {"UNITS": H, "CLUSTER": c, "TILE": t, "WARPS": w})
                for H, (c, t, w) in ((64, (1, 8, 4)), (128, (2, 8, 8)), (256, (4, 16, 8)))]  # fmt: skip
    variants += [("cluster_barrier.cu", {"SIZE": 4, "METHOD": method}) for method in (0, 1)]
    for source, defines in variants:
        flags = ["-cubin", "-O3", "-std=c++17", "-gencode", "arch=compute_90a,code=sm_90a", "-Werror", "all-warnings"]
        command = ["nvcc", *flags, "-Xptxas", "-v", *(f"-D{k}={v}" for k, v in defines.items())]
        done = subprocess.run(
            [*command, "-o", str(tmp_path / "x.cubin"), str(GPU / source)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert "0 bytes spill stores, 0 bytes spill loads" in done.stderr, done.stderr


def test_cuda_sketches_compile_with_nvrtc() -> None:
    try:
        cuda_module._nvrtc()
    except cuda_module.CudaError:
        pytest.skip("NVRTC is not installed")
    assert cuda_module.compile_cubin("cluster_barrier.cu", {"SIZE": 2, "METHOD": 1})[:4] == b"\x7fELF"
    assert cuda_module.compile_cubin("lstm_cluster.cu", {"UNITS": 64, "CLUSTER": 1, "TILE": 8, "WARPS": 4})
    with pytest.raises(cuda_module.CudaError, match="no whole tile per warp"):
        cuda_module.compile_cubin("lstm_cluster.cu", {"UNITS": 64, "CLUSTER": 1, "TILE": 8, "WARPS": 3})


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")
def test_the_cuda_lstm_emulated_on_a_cpu_matches_a_loop_in_double(tmp_path: Path) -> None:
    program = tmp_path / "emulate"
    source = str(GPU / "lstm_cluster_emulate.cpp")
    subprocess.run(["g++", "-std=c++20", "-O1", "-pthread", source, "-o", str(program)], check=True, timeout=120)
    done = subprocess.run([str(program)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "all match" in done.stdout, done.stdout


COMPILE = """
import sys
sys.path.insert(0, {gpu!r})
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
import ceilings_triton, head_flash_triton as flash, head_rows_triton, lstm_triton as lstm

def build(kernel, types, constants, warps, **options):
    at = {{name: i for i, name in enumerate(kernel.arg_names)}}
    source = ASTSource(
        fn=kernel,
        signature={{**types, **dict.fromkeys(constants, "constexpr")}},
        attrs={{(at[n],): [["tt.divisibility", 16]] for n, t in types.items() if t[0] == "*"}},
        constexprs={{(at[n],): v for n, v in constants.items()}},
    )
    built = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=dict(num_warps=warps, **options))
    assert ".target sm_90a" in built.asm["ptx"] and built.metadata.shared <= 232448, kernel
    print(kernel.fn.__name__, built.metadata.shared)

b, f, i = "*bf16", "*fp32", "*i64"
state = dict(H=64, HP=64, BN=8, FAST=True, RESET=False, UPCAST=False)
build(lstm.lstm_forward_kernel, dict(xg=b, w=b, hs=b, cs=f, gates=b, keep="*u8", T="i32", B="i32"),
      dict(state, SAVE=False), 4, num_stages=1)
build(lstm.lstm_backward_kernel, dict(gates=b, w=b, cs=f, keep="*u8", dy=b, dhn=b, dcn=f, dxg=b, dh0=f, dc0=f,
      T="i32", B="i32"), dict(state, PRE=True), 4, num_stages=1)
shapes = (dict(x=b, w=b, target=i, part=f, hit=f, N="i32"), dict(x=b, w=b, lse2=f, part=f, N="i32"),
          dict(xs=b, w=b, coef=f, lse2=f, hot=f, target=i, order=i, seg=i, scale=f, dw=f, N="i32"))
kernels = (flash.lce_forward_kernel, flash.lce_dx_kernel, flash.lce_dw_kernel)
for kernel, types, (BM, BV, warps, stages) in zip(kernels, shapes, flash.TILES[32]):
    build(kernel, types, dict(V=50257, D=32, DP=32, BM=BM, BV=BV, UPCAST=False), warps, num_stages=stages)
build(head_rows_triton.rows_in_place_kernel, dict(logits=b, target=i, loss=f, scale="fp32", V="i32"),
      dict(STRIDE=50304, BLOCK=4096), 8)
build(ceilings_triton.special_kernel, dict(x=f, y=f, repeats="i32"), dict(TANH=True, BLOCK=1024, EXACT=False), 4)
build(ceilings_triton.group_barrier_kernel, dict(counters="*i32", slots="*i32", wrong="*i32", steps="i32"),
      dict(SIZE=4, LIMIT=1024), 4, launch_cooperative_grid=True)
"""


@NEEDS_TRITON
def test_triton_sketches_compile_for_hopper(tmp_path: Path) -> None:
    settings = os.environ | {"TRITON_CACHE_DIR": str(tmp_path)}
    settings.pop("TRITON_INTERPRET", None)
    command = [sys.executable, "-c", COMPILE.format(gpu=str(GPU))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=settings)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(done.stdout.splitlines()) == 8


NCU_LISTING = """Device NVIDIA H100
sm__ops_path_tensor_src_bf16_dst_fp32                     Counter  op
sm__ops_path_tensor_src_bf16_dst_fp32_sparsity_off        Counter  op
sm__ops_path_tensor_src_tf32_dst_fp32_sparsity_off        Counter  op
sm__ops_path_tensor_src_tf32_dst_fp32_sparsity_on         Counter  op
sm__cycles_elapsed                                        Counter  cycle
"""
NCU_ROWS = """==PROF== Connected to process 1
"ID","Kernel Name","Metric Name","Metric Unit","Metric Value"
"0","gemm","sm__ops_path_tensor_src_bf16_dst_fp32.sum","op","1,024"
"0","gemm","smsp__sass_thread_inst_executed_op_ffma_pred_on.sum","inst","10"
"1","add","sm__ops_path_tensor_src_bf16_dst_fp32.sum","op","0"
"1","add","smsp__sass_thread_inst_executed_op_fadd_pred_on.sum","inst","5"
==PROF== Disconnected
"""


def test_counters_are_chosen_once_and_summed_over_kernels() -> None:
    chosen = ncu.tensor_metrics(NCU_LISTING)
    assert chosen == [
        "sm__ops_path_tensor_src_bf16_dst_fp32",
        "sm__ops_path_tensor_src_tf32_dst_fp32_sparsity_off",
        "sm__ops_path_tensor_src_tf32_dst_fp32_sparsity_on",
    ]
    sums, kernels = ncu.totals(NCU_ROWS)
    assert kernels == 2 and ncu.flops(sums, chosen) == {"tensor": 1024.0, "fp32": 25.0}


def test_sanitizer_summaries_are_read() -> None:
    assert memory_sanity.reported("========= ERROR SUMMARY: 0 errors\n") == 0
    assert memory_sanity.reported("========= RACECHECK SUMMARY: 3 hazards displayed (2 errors, 1 warning)\n") == 3
    assert memory_sanity.reported("Segmentation fault\n") is None


SYNTHETIC = "SYNTHETIC TEST DEVICE"  # these rows exist in this file only; no device produced them


def synthetic(script: str, key: dict[str, Any], median: float | None, **fields: Any) -> dict[str, Any]:
    return {
        "id": rows.canonical(key), "script": script, "part": fields.pop("part", "main"), "key": key, "tiny": False,
        "utc": "2000-01-01T00:00:00Z", "device": {"name": SYNTHETIC}, "median_s": median, "iqr_s": 1e-6, "n": 20,
        "status": "inaccurate" if median is None else "measured", "reason": "synthetic",
        "speed": None if median is None else {}, **fields,
    }  # fmt: skip


def head_key(variant: str, d: int) -> dict[str, Any]:
    return {"variant": variant, "N": 8192, "d": d, "V": 50257, "dtype": "bf16", "pass": "both"}


def test_the_crossover_table_names_winner_and_change(tmp_path: Path) -> None:
    made = [
        *(synthetic("head", head_key("flash", d), s) for d, s in ((64, 5e-4), (128, 9e-4), (256, 2e-3))),
        *(synthetic("head", head_key("chunks of 256", d), s) for d, s in ((64, 7e-4), (128, 9e-4 + 5e-7), (256, 1e-3))),
        *(synthetic("head", head_key("eager", d), 5e-3) for d in (64, 128)),
        synthetic("head", head_key("eager", 256), None),
    ]
    file = rows.RowFile(tmp_path / "head.jsonl")
    for row in made:
        file.append(row)
    file.append(synthetic("head", head_key("compiled", 64), 1e-9, device={"name": "cpu"}))
    found = consequences.load(tmp_path)
    assert len(found) == len(made)  # the row of a CPU is left out
    text = consequences.crossover(found)
    lines = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("|")}
    assert lines["64"].endswith("| flash |") and "61.0" in lines["64"]
    assert lines["128"].endswith("| flash = chunks of 256 |")  # they differ by less than their spread
    assert lines["256"].endswith("| chunks of 256 |") and "inaccurate" in lines["256"]
    assert "crossover: none" in text  # at 128 both win, so no width separates them
    assert "between 64 and 256: flash -> chunks of 256" in consequences.crossover(
        [row for row in found if row["key"]["d"] != 128]
    )


def test_predictions_are_set_against_measurements(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = 1 << 30
    copy = {"what": "copy", "bytes": size}
    rows.RowFile(tmp_path / "ceilings.jsonl").append(synthetic("ceilings", copy, 2 * size / 1e12, part="copy"))
    assert consequences.main(["--results", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert f"# {SYNTHETIC}" in text and "2.73 x slower, explain" in text
    row = next(line for line in text.splitlines() if line.startswith("| ceilings | copy |"))
    wanted = row.split("|")
    assert int(wanted[4]) == 1 and int(wanted[-2]) == int(wanted[3]) - 1  # the others are named as missing


def test_without_rows_nothing_is_claimed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert consequences.main(["--results", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "nothing has been measured" in text and "|" not in text
    assert consequences.main(["--results", str(tmp_path / "absent")]) == 2


@pytest.mark.parametrize(
    ("variant", "d", "ns"),
    [
        ("eager", 64, 570),
        ("compiled", 64, 201),
        ("fused in place", 512, 263),
        ("chunks of 256", 64, 84),
        ("chunks of 256", 768, 327),
    ],
)
def test_the_head_model_is_bytes_per_logit_over_bandwidth(variant: str, d: int, ns: float) -> None:
    """ns per token worked out by hand: 34, 12, 10 bytes x 50304 over 3 or 6 TB/s; 6dV over 790 TFLOP/s where that is more."""
    made = predictions.predict("head", head_key(variant, d))
    assert made is not None and made.high is not None
    middle = math.sqrt(made.low * made.high) / 8192 * 1e9
    assert middle == pytest.approx(ns, rel=0.01)


def test_the_readme_names_every_script() -> None:
    text = (GPU / "README.md").read_text()
    assert all(f"{script}.py" in text for script in (*SCRIPTS, "consequences"))
