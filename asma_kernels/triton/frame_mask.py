"""Frame masking: a program for each clip, a lane for each frame."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ._config import LAUNCH
from ._frames import MOST_FRAMES, keep_frames


@triton.jit(do_not_specialize=["T", "drop", "extra", "energy_n"])
def frame_mask_kernel(
    energy, rng, kept, T, drop, extra, energy_n, energy_t, rng_step,
    LOW: tl.constexpr, SHARED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, BLOCK)
    value = tl.load(energy + n * energy_n + lane.to(tl.int64) * energy_t, mask=lane < T, other=0)
    keeps, position = keep_frames(value, rng, rng_step, n, lane, T, drop, extra, LOW, SHARED)
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
