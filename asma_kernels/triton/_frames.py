"""Which frames of a clip are kept, a lane for each frame."""

from __future__ import annotations

import triton
import triton.language as tl

from ._common import order_key, philox_word, place_in_order

MOST_FRAMES = 8192
"""A clip's energies are held in registers as a whole."""


@triton.jit
def keep_frames(energy, rng, rng_step, n, lane, T, drop, extra, LOW: tl.constexpr, SHARED: tl.constexpr):
    """Whether a lane's frame stays, and its place among those that do."""
    key = order_key(energy)
    if LOW:
        key = ~key
    keeps = (lane < T) & (place_in_order(key, lane, T) < T - drop)
    if rng is not None:
        position = tl.cumsum(keeps.to(tl.int32), 0) - 1
        word = philox_word(rng, rng_step, position, n * 0 if SHARED else n)
        word = tl.where(keeps, word, 0x100000000)  # behind every word
        keeps = keeps & (place_in_order(word, lane, T) >= extra)
    return keeps, tl.cumsum(keeps.to(tl.int32), 0) - 1
