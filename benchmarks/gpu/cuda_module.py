"""Compiles a freestanding ``.cu`` file with NVRTC and launches its kernels through the driver.

PyTorch's CUDA builds bring NVRTC and the driver is on every GPU machine, so this needs neither nvcc nor headers.
"""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
MAX_DYNAMIC_SHARED, NON_PORTABLE_CLUSTER = 8, 14  # CUfunction_attribute


class CudaError(RuntimeError):
    """NVRTC or the driver refused, with its own words."""


def _nvrtc() -> ctypes.CDLL:
    """NVRTC by its usual names, else from the ``nvidia`` packages that a PyTorch wheel depends on."""
    names = ["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"]
    package = importlib.util.find_spec("nvidia")
    for root in (package.submodule_search_locations or ()) if package else ():
        names += [str(path) for path in sorted(Path(root).glob("*/lib/libnvrtc.so.1[0-9]"))]
    for name in names:
        try:
            for part in sorted(Path(name).parent.glob("libnvrtc-builtins.so.*")) if "/" in name else ():
                ctypes.CDLL(str(part))  # NVRTC opens it by name, outside the search path of these packages
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise CudaError(f"NVRTC was not found; tried {', '.join(names)}")


def compile_cubin(source: str, defines: Mapping[str, int], architecture: str = "sm_90a") -> bytes:
    """Machine code of the file ``source`` in this folder. Raises :class:`CudaError` with the compiler's log."""
    library = _nvrtc()
    text = (HERE / source).read_bytes()
    program = ctypes.c_void_p()
    _nvrtc_check(library, library.nvrtcCreateProgram(ctypes.byref(program), text, source.encode(), 0, None, None))
    options = [f"--gpu-architecture={architecture}", "--std=c++17", *(f"-D{k}={v}" for k, v in defines.items())]
    array = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    try:
        if library.nvrtcCompileProgram(program, len(options), array):
            size = ctypes.c_size_t()
            library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
            log = ctypes.create_string_buffer(size.value)
            library.nvrtcGetProgramLog(program, log)
            raise CudaError(f"{source} {dict(defines)}: {log.value.decode(errors='replace').strip()}")
        size = ctypes.c_size_t()
        _nvrtc_check(library, library.nvrtcGetCUBINSize(program, ctypes.byref(size)))
        cubin = ctypes.create_string_buffer(size.value)
        _nvrtc_check(library, library.nvrtcGetCUBIN(program, cubin))
        return cubin.raw
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def _nvrtc_check(library: ctypes.CDLL, code: int) -> None:
    if code:
        library.nvrtcGetErrorString.restype = ctypes.c_char_p
        raise CudaError(f"NVRTC: {library.nvrtcGetErrorString(code).decode()}")


class Kernel:
    """One kernel of a compiled file, loaded into the context that PyTorch has made current."""

    def __init__(self, cubin: bytes, name: str, shared_bytes: int = 0, cluster: int = 1) -> None:
        """``shared_bytes``: dynamic shared memory per block; ``cluster``: blocks per cluster as the kernel declares."""
        self.driver = ctypes.CDLL("libcuda.so.1")
        self.shared_bytes = shared_bytes
        self._cubin = ctypes.create_string_buffer(cubin, len(cubin))
        module, self._function = ctypes.c_void_p(), ctypes.c_void_p()
        self._check(self.driver.cuModuleLoadData(ctypes.byref(module), self._cubin))
        self._check(self.driver.cuModuleGetFunction(ctypes.byref(self._function), module, name.encode()))
        if shared_bytes > 48 * 1024:
            self._check(self.driver.cuFuncSetAttribute(self._function, MAX_DYNAMIC_SHARED, shared_bytes))
        if cluster > 8:
            self._check(self.driver.cuFuncSetAttribute(self._function, NON_PORTABLE_CLUSTER, 1))

    def launch(
        self, blocks: int, threads: int, arguments: Sequence[ctypes.c_void_p | ctypes.c_int], stream: int
    ) -> None:
        """Starts the kernel on ``stream`` (``torch.cuda.current_stream().cuda_stream``); can be captured into a graph."""
        pointers = (ctypes.c_void_p * len(arguments))(
            *(ctypes.cast(ctypes.pointer(argument), ctypes.c_void_p) for argument in arguments)
        )
        one, shared = ctypes.c_uint(1), ctypes.c_uint(self.shared_bytes)
        grid, block = ctypes.c_uint(blocks), ctypes.c_uint(threads)
        self._check(
            self.driver.cuLaunchKernel(
                self._function, grid, one, one, block, one, one, shared, ctypes.c_void_p(stream), pointers, None
            )
        )

    def _check(self, code: int) -> None:
        if code:
            text = ctypes.c_char_p()
            self.driver.cuGetErrorString(code, ctypes.byref(text))
            raise CudaError(f"CUDA driver error {code}: {(text.value or b'unknown').decode()}")
