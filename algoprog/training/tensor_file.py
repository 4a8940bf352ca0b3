"""Named tensors as the bytes of a safetensors file, in pieces that are views of the tensors: nothing is copied.

The library's own writer copies every tensor while it holds the interpreter, which would stop the training loop for as long.
Layout (github.com/huggingface/safetensors, "Format"): 8 bytes with the length of the header, little-endian; the header,
JSON padded with spaces; the tensors without gaps.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
ALIGNMENT = 8


def tensor_chunks(tensors: Mapping[str, Tensor]) -> Iterator[bytes | memoryview]:
    """The file of ``tensors``, which lie in host memory; :func:`safetensors.torch.load` reads it.

    Raises:
        ValueError: a tensor is of a type that the format does not have here, or lies on a device.
    """
    # Wide types first: then every tensor starts on a multiple of its own width.
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, dict[str, object]] = {}
    end = 0
    for name in names:
        tensor = tensors[name]
        if tensor.dtype not in NAMES or tensor.device.type != "cpu":
            raise ValueError(
                f"tensor {name}: expected a plain type in host memory, got {tensor.dtype}, {tensor.device}"
            )
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    yield len(text).to_bytes(8, "little") + text
    for name in names:
        if tensors[name].numel():
            yield np.asarray(tensors[name].detach().contiguous().reshape(-1).view(torch.uint8)).data
