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
def place_in_order(key, lane, size):
    """Place of each lane's key in ascending order of the first ``size`` lanes; among equals the lower lane is first."""
    place = tl.zeros_like(lane)
    for other in range(size):
        value = tl.sum(tl.where(lane == other, key, 0), 0)
        place += ((value < key) | ((value == key) & (other < lane))).to(tl.int32)
    return place
