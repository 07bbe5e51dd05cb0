"""Frame masking: a program for each clip, a lane for each frame."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ._common import philox_word, place_in_order
from ._config import LAUNCH

MOST_FRAMES = 8192
"""A clip is held in registers as a whole."""


@triton.jit
def _order_key(value):
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


@triton.jit(do_not_specialize=["T", "drop", "extra", "energy_n"])
def frame_mask_kernel(
    energy, rng, kept, T, drop, extra, energy_n, energy_t, rng_step,
    LOW: tl.constexpr, SHARED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, BLOCK)
    key = _order_key(tl.load(energy + n * energy_n + lane.to(tl.int64) * energy_t, mask=lane < T, other=0))
    if LOW:
        key = ~key
    keeps = (lane < T) & (place_in_order(key, lane, T) < T - drop)
    if rng is not None:
        position = tl.cumsum(keeps.to(tl.int32), 0) - 1
        word = philox_word(rng, rng_step, position, n * 0 if SHARED else n)
        word = tl.where(keeps, word, 0x100000000)  # behind every word
        keeps = keeps & (place_in_order(word, lane, T) >= extra)
    position = tl.cumsum(keeps.to(tl.int32), 0) - 1
    tl.store(kept + n * (T - drop - extra) + position, lane.to(tl.int64), mask=keeps)


def frame_mask(
    energy: torch.Tensor, drop: int, which: str, extra: int, rng: torch.Tensor | None, shared: bool
) -> torch.Tensor:
    N, T = energy.shape
    if T > MOST_FRAMES:
        raise ValueError(f"frame_mask: backend 'triton' takes at most {MOST_FRAMES} frames, got T = {T}")
    kept = energy.new_empty((N, T - drop - extra), dtype=torch.int64)
    if kept.numel():
        draws = rng if extra else None
        frame_mask_kernel[(N,)](
            energy, draws, kept, T, drop, extra, *energy.stride(), 0 if draws is None else draws.stride(0),
            LOW=which == "low", SHARED=shared, BLOCK=triton.next_power_of_2(T), **LAUNCH["frame_mask"],
        )  # fmt: skip
    return kept
