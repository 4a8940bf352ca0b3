"""A keyed permutation of ``range(n)`` that can be evaluated at any index: a Feistel network with cycle walking.

The network permutes ``range(2**k)``, the next power of two; an image outside ``range(n)`` is fed through again until it
falls inside. That restricts a permutation of the larger set to one of ``range(n)``. Values and round keys stay below
2^32 inside the mixing function, so that a kernel with 64-bit signed integers computes the same numbers.

Two implementations agree exactly: :func:`permute_one` in plain Python (the oracle) and :func:`permute` in numpy.
"""

from __future__ import annotations

import hashlib
import struct

import numpy as np
import numpy.typing as npt

ROUNDS = 8
LOW32 = 0xFFFFFFFF
MIX1, MIX2 = 0x7FEB352D, 0x846CA68B  # a 32-bit finaliser of low bias ("lowbias32")
LARGEST_DOMAIN = 2**62

Keys = tuple[int, ...]


def round_keys(seed: int, epoch: int) -> Keys:
    """The eight 32-bit round keys of one pass over the data: the sha256 of (seed, epoch)."""
    return struct.unpack("<8I", hashlib.sha256(f"algoprog order {seed} {epoch}".encode()).digest())


def _half_bits(n: int) -> tuple[int, int]:
    """Bits of the high and of the low half of the smallest power of two that holds ``range(n)``."""
    bits = (n - 1).bit_length()
    return bits // 2, bits - bits // 2


def permute_one(index: int, n: int, keys: Keys) -> int:
    """The image of ``index`` under the permutation of ``range(n)`` with these keys. Plain Python, the oracle."""
    high_bits, low_bits = _half_bits(n)
    while True:
        high, low = index >> low_bits, index & ((1 << low_bits) - 1)
        for r, key in enumerate(keys):
            if r % 2 == 0:
                high ^= _mix_one(low, key) & ((1 << high_bits) - 1)
            else:
                low ^= _mix_one(high, key) & ((1 << low_bits) - 1)
        index = high << low_bits | low
        if index < n:
            return index


def _mix_one(value: int, key: int) -> int:
    x = (value ^ key) & LOW32
    x = (x ^ x >> 16) * MIX1 & LOW32
    x = (x ^ x >> 15) * MIX2 & LOW32
    return x ^ x >> 16


def permute(indices: npt.NDArray[np.int64], n: int, keys: Keys) -> npt.NDArray[np.int64]:
    """The images of ``indices`` (any shape, each in ``range(n)``), equal to :func:`permute_one` one by one."""
    high_bits, low_bits = _half_bits(n)
    image = indices.astype(np.uint64).ravel()
    outside = np.arange(image.size)
    while outside.size:
        image[outside] = _network(image[outside], high_bits, low_bits, keys)
        outside = outside[image[outside] >= np.uint64(n)]
    return image.astype(np.int64).reshape(indices.shape)


def _network(x: npt.NDArray[np.uint64], high_bits: int, low_bits: int, keys: Keys) -> npt.NDArray[np.uint64]:
    high_mask, low_mask = np.uint64((1 << high_bits) - 1), np.uint64((1 << low_bits) - 1)
    high, low = x >> np.uint64(low_bits), x & low_mask
    for r, key in enumerate(keys):
        if r % 2 == 0:
            high = high ^ (_mix(low, key) & high_mask)
        else:
            low = low ^ (_mix(high, key) & low_mask)
    return high << np.uint64(low_bits) | low


def _mix(value: npt.NDArray[np.uint64], key: int) -> npt.NDArray[np.uint64]:
    low32 = np.uint64(LOW32)
    x = (value ^ np.uint64(key)) & low32
    x = (x ^ x >> np.uint64(16)) * np.uint64(MIX1) & low32
    x = (x ^ x >> np.uint64(15)) * np.uint64(MIX2) & low32
    return x ^ x >> np.uint64(16)
