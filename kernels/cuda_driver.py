"""Loads machine code into PyTorch's CUDA context and launches its kernels, through the driver's own library."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

LIBRARY = "libcuda.so.1"
MAX_DYNAMIC_SHARED, NON_PORTABLE_CLUSTER = 8, 14  # CUfunction_attribute
CLUSTER_DIMENSION = 4  # CUlaunchAttributeID
PORTABLE_CLUSTER = 8


class CudaError(RuntimeError):
    """The driver refused, with its own words."""


class _Attribute(ctypes.Structure):
    """CUlaunchAttribute whose value is a cluster dimension."""

    _fields_ = [
        ("id", ctypes.c_int),
        ("pad", ctypes.c_char * 4),
        ("dimension", ctypes.c_uint * 3),
        ("rest", ctypes.c_char * 52),
    ]


class _Launch(ctypes.Structure):
    """CUlaunchConfig."""

    _fields_ = [
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared_bytes", ctypes.c_uint),
        ("stream", ctypes.c_void_p),
        ("attributes", ctypes.POINTER(_Attribute)),
        ("attribute_count", ctypes.c_uint),
    ]


class Kernel:
    """One kernel on one device.

    Attributes:
        resident: how many clusters of it the device can hold at once if nothing else runs there.
    """

    def __init__(self, cubin: bytes, name: str, device: int, threads: int, shared_bytes: int, cluster: int) -> None:
        """``cluster``: blocks per cluster, as the kernel itself declares; ``shared_bytes``: dynamic shared memory per block.

        Raises:
            CudaError: the machine code does not fit the device, or no cluster of this size does.
        """
        self.device, self.threads, self.shared_bytes, self.cluster = device, threads, shared_bytes, cluster
        self._driver = ctypes.CDLL(LIBRARY)
        self._cubin = ctypes.create_string_buffer(cubin, len(cubin))
        module, self._function = ctypes.c_void_p(), ctypes.c_void_p()
        with torch.cuda.device(device):
            torch.cuda.current_stream().query()  # creates the context and makes it current on this thread
            self._context = ctypes.c_void_p()
            self._check(self._driver.cuCtxGetCurrent(ctypes.byref(self._context)))
            self._check(self._driver.cuModuleLoadData(ctypes.byref(module), self._cubin))
            self._check(self._driver.cuModuleGetFunction(ctypes.byref(self._function), module, name.encode()))
            self._check(self._driver.cuFuncSetAttribute(self._function, MAX_DYNAMIC_SHARED, shared_bytes))
            if cluster > PORTABLE_CLUSTER:
                self._check(self._driver.cuFuncSetAttribute(self._function, NON_PORTABLE_CLUSTER, 1))
            self.resident = self._resident()
        if self.resident == 0:
            raise CudaError(
                f"{name}: no cluster of {cluster} blocks with {shared_bytes} bytes each fits on device {device}"
            )

    def _resident(self) -> int:
        attribute = _Attribute(CLUSTER_DIMENSION, b"", (self.cluster, 1, 1), b"")
        launch = _Launch(
            (self.cluster, 1, 1), (self.threads, 1, 1), self.shared_bytes, None, ctypes.pointer(attribute), 1
        )
        count = ctypes.c_int()
        self._check(
            self._driver.cuOccupancyMaxActiveClusters(ctypes.byref(count), self._function, ctypes.byref(launch))
        )
        return count.value

    def launch(self, clusters: int, tensors: Sequence[Tensor | None], numbers: Sequence[int]) -> None:
        """Start ``clusters`` clusters on the current stream of the device: pointers first, then C ints. Does not wait."""
        values: list[ctypes.c_void_p | ctypes.c_int] = [
            ctypes.c_void_p(t.data_ptr() if t is not None else None) for t in tensors
        ]
        values += [ctypes.c_int(number) for number in numbers]
        arguments = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
        one, shared = ctypes.c_uint(1), ctypes.c_uint(self.shared_bytes)
        grid, block = ctypes.c_uint(clusters * self.cluster), ctypes.c_uint(self.threads)
        with torch.cuda.device(self.device):
            stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
            self._check(self._driver.cuCtxSetCurrent(self._context))  # threads of autograd may have none yet
            self._check(
                self._driver.cuLaunchKernel(
                    self._function, grid, one, one, block, one, one, shared, stream, arguments, None
                )
            )

    def _check(self, code: int) -> None:
        if code:
            text = ctypes.c_char_p()
            self._driver.cuGetErrorString(code, ctypes.byref(text))
            raise CudaError(f"CUDA driver error {code}: {(text.value or b'unknown').decode()}")
