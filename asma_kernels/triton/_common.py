"""What the kernels share."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def philox_word(rng, rng_step, element, row):
    """Word 0 of the block with key = seed and counter = (element, row, call_lo, call_hi), as int64."""
    seed = tl.load(rng)
    call = tl.load(rng + rng_step)
    word, _, _, _ = tl.philox(
        seed, element.to(tl.uint32), row.to(tl.uint32), call.to(tl.uint32), (call >> 32).to(tl.uint32)
    )
    return word.to(tl.int64)


@triton.jit
def order_key(value):
    """An integer that orders as the number does: -0 equals 0 and NaN is the greatest, denormal numbers count."""
    if value.dtype == tl.float64:
        bits = value.to(tl.int64, bitcast=True)
        size = bits & 0x7FFFFFFFFFFFFFFF
        infinite = 0x7FF0000000000000
    else:
        bits = value.to(tl.float32).to(tl.int32, bitcast=True).to(tl.int64)
        size = bits & 0x7FFFFFFF
        infinite = 0x7F800000
    key = tl.where(bits < 0, -size, size)
    return tl.where(size > infinite, 0x7FFFFFFFFFFFFFFF, key)


@triton.jit
def place_in_order(key, lane, size):
    """Place of each lane's key in ascending order of the first ``size`` lanes; among equals the lower lane is first."""
    place = tl.zeros_like(lane)
    for other in range(size):
        value = tl.sum(tl.where(lane == other, key, 0), 0)
        place += ((value < key) | ((value == key) & (other < lane))).to(tl.int32)
    return place
