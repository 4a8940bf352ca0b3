"""What this GPU can do at best: the ceilings and floors that every other figure is divided by.

Parts: ``copy`` device copy bandwidth by size; ``matmul`` product rate by type at the models' shapes; ``special`` exp2 and tanh
per second; ``launch`` gap between small kernels, eager and in a CUDA graph; ``barrier`` waiting for each other through L2
(groups of a cooperative grid) and inside a cluster (cluster barrier; mbarrier with asynchronous stores); ``mps`` whether the
multi-process service can be started.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from functools import partial

import torch
from accuracy import Accuracy, Check, exactly, relative_error, within
from bench import Bench
from drive import Case, Measurement, Unsupported, main, need_triton

TYPES = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
CAP = {"fp32": 3e-5, "tf32": 2e-3, "fp16": 2e-3, "bf16": 1e-2}  # relative error of a product, accumulated in fp32
ROWS, VOCAB = 8192, 50304
YES_OR_NO = exactly("a yes or no: nothing to compare", 0)
WIDTHS = (32, 64, 128, 256, 512, 768)


def copy_case(size: int) -> Case:
    """Device-to-device copy of ``size`` bytes; its traffic is twice that."""

    def measure(bench: Bench) -> Measurement:
        pairs = []
        for _ in range(bench.clones(2 * size)):
            source = bench.integers(256, size // 8).to(torch.int64)
            pairs.append((source, torch.full_like(source, -1)))
        timing = bench.time([partial(b.copy_, a) for a, b in pairs], 2 * size)
        wrong = sum(int((a != b).sum()) for a, b in pairs[: timing.clones])
        return Measurement(exactly("elements that differ", wrong), timing, {"bytes": 2 * size})

    return Case("copy", {"what": "copy", "bytes": size}, measure)


def matmul_case(dtype: str, m: int, n: int, k: int) -> Case:
    """[m, k] @ [n, k]^T, as a linear layer computes it."""

    def measure(bench: Bench) -> Measurement:
        kind = TYPES[dtype]
        torch.backends.cuda.matmul.allow_tf32 = dtype == "tf32"
        amount = (m * k + n * k + m * n) * kind.itemsize
        inputs = [
            (bench.normal(m, k, dtype=kind), bench.normal(n, k, dtype=kind, scale=k**-0.5))
            for _ in range(bench.clones(amount, 16))
        ]
        a, b = inputs[0]
        pick = torch.linspace(0, m - 1, min(m, 64), device=a.device).long()
        error = relative_error((a @ b.T)[pick], a[pick].double() @ b.double().T)
        timing = bench.time([partial(torch.nn.functional.linear, a, b) for a, b in inputs], amount)
        torch.backends.cuda.matmul.allow_tf32 = False
        return Measurement(
            within({"rows": error}, CAP[dtype], f"cap for {dtype}"), timing, {"flops": 2 * m * n * k, "bytes": amount}
        )

    return Case("matmul", {"what": "matmul", "dtype": dtype, "m": m, "n": n, "k": k}, measure)


def special_case(name: str, elements: int, repeats: int) -> Case:
    """A chain of special functions in registers, many elements at once."""

    def measure(bench: Bench) -> Measurement:
        need_triton()
        import ceilings_triton

        x = bench.normal(elements)
        checks = []
        for count in (1, 3, repeats):
            want = x.double()
            for _ in range(count):
                want = torch.tanh(1.5 * want) if name == "tanh" else torch.exp2(-want)
            error = relative_error(ceilings_triton.special(x, count, name == "tanh"), want)
            # tanh.approx is good to 2^-11 and ex2.approx to 2^-22; the chain shrinks errors, so one step bounds all
            checks.append(
                Check(f"{count} times", error, 2e-3 if name == "tanh" else 2e-6, "accuracy of the instruction")
            )
        y = torch.empty_like(x)
        timing = bench.time([lambda: ceilings_triton.special_into(x, y, repeats, name == "tanh")])
        return Measurement(Accuracy(tuple(checks)), timing, {"results": elements * repeats})

    return Case("special", {"what": name, "elements": elements, "repeats": repeats}, measure)


def launch_case(what: str, graph: bool, calls: int) -> Case:
    """Seconds per launch of a kernel that adds one to a counter; verified by the counter."""

    def measure(bench: Bench) -> Measurement:
        counter = torch.zeros(1, dtype=torch.int32, device=bench.device)
        if what == "triton":
            need_triton()
            import ceilings_triton

            def once() -> object:
                return ceilings_triton.count_kernel[(1,)](counter, num_warps=1)
        else:

            def once() -> object:
                return counter.add_(1)

        for _ in range(calls):
            once()
        counted = exactly("launches not counted", calls - int(counter.item()))
        return Measurement(counted, bench.time([once] * calls, graph=graph), {"launches": 1})

    return Case("launch", {"what": "launch", "kernel": what, "graph": graph, "calls": calls}, measure)


def group_case(size: int, groups: int, steps: int) -> Case:
    """Seconds per step of a barrier between ``size`` blocks through a counter in L2, ``groups`` of them at once."""

    def measure(bench: Bench) -> Measurement:
        need_triton()
        import ceilings_triton

        if bench.device.type == "cuda" and groups * size > bench.environment["device"]["multiprocessors"]:
            raise Unsupported(f"{groups * size} blocks do not all fit on the device at one per multiprocessor")
        counters = torch.zeros(32 * groups, dtype=torch.int32, device=bench.device)
        slots = torch.zeros(groups * size, dtype=torch.int32, device=bench.device)
        wrong = torch.full_like(slots, -1)

        def run() -> None:
            slots.zero_()
            ceilings_triton.group_barrier(groups, size, steps, counters, slots, wrong)

        run()
        stale = exactly("steps with stale data or a broken wait", int(wrong.abs().sum()))
        return Measurement(stale, bench.time([run]), {"steps": steps})

    return Case("barrier", {"what": "group barrier", "size": size, "groups": groups, "steps": steps}, measure)


def cluster_case(size: int, method: str, clusters: int, steps: int) -> Case:
    """Seconds per step of a wait inside a cluster of ``size`` blocks, with one word exchanged between all of them."""

    def measure(bench: Bench) -> Measurement:
        if bench.device.type != "cuda":
            raise Unsupported("clusters exist on a GPU only")
        from cuda_module import Kernel, compile_cubin

        cubin = compile_cubin("cluster_barrier.cu", {"SIZE": size, "METHOD": int(method == "mbarrier")})
        kernel = Kernel(cubin, "cluster_barrier", cluster=size)
        wrong = torch.zeros(size * clusters, dtype=torch.int32, device=bench.device)

        def run() -> None:
            arguments = (ctypes.c_void_p(wrong.data_ptr()), ctypes.c_int(steps))
            kernel.launch(size * clusters, 128, arguments, torch.cuda.current_stream().cuda_stream)

        run()
        timing = bench.time([run])
        stale = exactly("steps with stale data", int(wrong.abs().sum()))  # over every launch of the timing too
        return Measurement(stale, timing, {"steps": steps})

    key = {"what": "cluster barrier", "size": size, "method": method, "clusters": clusters, "steps": steps}
    return Case("barrier", key, measure)


def mps_case() -> Case:
    """Whether the multi-process service starts here, for a daemon of our own in a folder of its own; it is ended again."""

    def measure(bench: Bench) -> Measurement:
        if bench.device.type != "cuda":
            raise Unsupported("MPS exists on a GPU only")
        control = shutil.which("nvidia-cuda-mps-control")
        if control is None:
            return Measurement(YES_OR_NO, facts={"starts": False, "said": "no nvidia-cuda-mps-control"})
        with tempfile.TemporaryDirectory() as folder:
            private = os.environ | {"CUDA_MPS_PIPE_DIRECTORY": folder, "CUDA_MPS_LOG_DIRECTORY": folder}
            options = {"env": private, "capture_output": True, "text": True, "timeout": 60}
            start = subprocess.run([control, "-d"], **options)  # type: ignore[call-overload]
            try:
                code = "import torch; print(int(torch.ones(3, device='cuda').sum()))"
                client = subprocess.run([sys.executable, "-c", code], **options)  # type: ignore[call-overload]
                servers = subprocess.run([control], input="get_server_list\n", **options)  # type: ignore[call-overload]
            finally:
                subprocess.run([control], input="quit\n", **options)  # type: ignore[call-overload]
        works = start.returncode == 0 and client.stdout.strip() == "3" and servers.stdout.strip() != ""
        said = " | ".join(part.strip()[:200] for part in (start.stderr, client.stderr, servers.stderr) if part.strip())
        return Measurement(YES_OR_NO, facts={"starts": works, "said": said})

    return Case("mps", {"what": "mps"}, measure)


def cases(tiny: bool) -> list[Case]:
    """Every row of this script, in the order of its use."""
    if tiny:
        return [
            copy_case(1 << 16),
            *(matmul_case(dtype, 64, 96, 32) for dtype in ("fp32", "bf16")),
            *(special_case(name, 2048, 4) for name in ("exp2", "tanh")),
            *(launch_case(what, True, 20) for what in ("torch", "triton")),
            group_case(1, 2, 3),
            cluster_case(4, "mbarrier", 2, 10),
            mps_case(),
        ]
    shapes = [(8192, 8192, 8192)]
    shapes += [(ROWS, n, d) for d in WIDTHS for n in (d, 3 * d, 8 * d, VOCAB)]
    shapes += [(ROWS, d, VOCAB) for d in WIDTHS] + [(VOCAB, d, ROWS) for d in WIDTHS]
    found = [copy_case(1 << power) for power in range(16, 33, 2)]
    found += [launch_case(what, graph, 1000) for what in ("torch", "triton") for graph in (False, True)]
    found += [special_case(name, 1 << 22, 256) for name in ("exp2", "tanh")]
    found += [matmul_case(dtype, *shape) for dtype in ("bf16", "fp16", "tf32", "fp32") for shape in shapes]
    found += [group_case(size, 128 // size, 512) for size in (2, 4, 8, 16, 32, 64)]
    for size in (2, 4, 8, 16):
        found += [cluster_case(size, method, 64 // size, 512) for method in ("barrier.cluster", "mbarrier")]
    return [*found, mps_case()]


if __name__ == "__main__":
    sys.exit(main("ceilings.py", "Ceilings and floors of this GPU.", cases))
