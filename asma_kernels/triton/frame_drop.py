"""Frames of most motion removed: a program for each clip sums its energies, chooses, and copies what stays.

Bytes: x once (what the copy reads again, and a frame's second difference, hit the caches), kept and frames once.
Flops: 3 a number of x, and 2 T^2 comparisons a clip.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ._config import LAUNCH
from ._frames import MOST_FRAMES, keep_frames
from ._motion import add_differences, length_of

# Sizes and the strides that follow from the number of frames: a clip of another length must not compile anew.
_SIZES = ["C", "T", "V", "M", "stride", "drop", "extra", "x_n", "x_c", "x_t"]


@triton.jit(do_not_specialize=_SIZES)
def frame_drop_kernel(
    x, lengths, rng, energies, kept, frames, C, T, V, M, stride, drop, extra, x_n, x_c, x_t, x_v, x_m, rng_step,
    P: tl.constexpr, COPY_FIRST: tl.constexpr, LOW: tl.constexpr, SHARED: tl.constexpr, BLOCK: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_COPY: tl.constexpr,
):  # fmt: skip
    wide: tl.constexpr = tl.float64 if x.dtype.element_ty == tl.float64 else tl.float32
    n = tl.program_id(0).to(tl.int64)
    clip = x + n * x_n

    # In the tiles of motion_energy, so that the sums are the same.
    length = length_of(lengths, n, T)
    scale = 1 / tl.maximum(C.to(tl.int64) * V * M, 1).to(wide)
    for t0 in range(0, T, BLOCK_T):
        t = t0 + tl.arange(0, BLOCK_T).to(tl.int64)
        total = tl.zeros((BLOCK_T, BLOCK_V), wide)
        for v0 in range(0, V, BLOCK_V):
            v = v0 + tl.arange(0, BLOCK_V).to(tl.int64)
            total = add_differences(
                total, clip, length, t, v, C, V, M, stride, x_c, x_t, x_v, x_m, P, COPY_FIRST
            )  # fmt: skip
        tl.store(energies + n * T + t, tl.sum(total, 1) * scale, mask=t < T)
    tl.debug_barrier()  # other lanes read what these have written

    left = (T - drop - extra).to(tl.int64)
    lane = tl.arange(0, BLOCK)
    energy = tl.load(energies + n * T + lane, mask=lane < T, other=0)
    keeps, position = keep_frames(energy, rng, rng_step, n, lane, T, drop, extra, LOW, SHARED)
    tl.store(frames + n * left + position, lane.to(tl.int64), mask=keeps)
    tl.debug_barrier()

    size = left * V * M
    for first in range(0, size, BLOCK_COPY):
        place = first + tl.arange(0, BLOCK_COPY).to(tl.int64)
        exists = place < size
        frame = tl.load(frames + n * left + place // M // V, mask=exists, other=0)
        at = clip + frame * x_t + place // M % V * x_v + place % M * x_m
        for c in range(C):
            value = tl.load(at + x_c.to(tl.int64) * c, mask=exists)
            tl.store(kept + (n * C + c) * size + place, value, mask=exists)


def frame_drop(
    x: torch.Tensor,
    drop: int,
    which: str,
    extra: int,
    rng: torch.Tensor | None,
    shared: bool,
    p: float,
    stride: int,
    boundary: str,
    lengths: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    N, C, T, V, M = x.shape
    if T > MOST_FRAMES:
        raise ValueError(f"frame_drop: backend 'triton' takes at most {MOST_FRAMES} frames, got T = {T}")
    left = T - drop - extra
    kept, frames = x.new_empty((N, C, left, V, M)), x.new_empty((N, left), dtype=torch.int64)
    if frames.numel():
        draws = rng if extra else None
        frame_drop_kernel[(N,)](
            x, lengths, draws, x.new_empty((N, T)), kept, frames, C, T, V, M, min(stride, T), drop, extra, *x.stride(),
            0 if draws is None else draws.stride(0), P=p, COPY_FIRST=boundary == "copy_first", LOW=which == "low",
            SHARED=shared, BLOCK=triton.next_power_of_2(T), **LAUNCH["motion_energy"], **LAUNCH["frame_drop"],
        )  # fmt: skip
    return kept, frames
