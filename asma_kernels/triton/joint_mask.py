"""Joint masking: a program for each row, a lane for each joint."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ._common import philox_word, place_in_order
from ._config import LAUNCH

MOST_JOINTS = 1024
"""A row is held in the registers of one warp."""


@triton.jit(do_not_specialize=["V", "k", "width"])
def joint_mask_kernel(
    weights, rng, mask, kept, count, V, k, width, rng_step,
    MODE: tl.constexpr, SHARED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, BLOCK)
    exists = lane < V
    tokens = tl.maximum(tl.load(weights + lane, mask=exists, other=0), 0)
    if MODE == "deterministic":
        masked = place_in_order(-tokens, lane, V) < k
    else:
        tokens = tl.minimum(tokens, 1 << 20)
        first = tl.cumsum(tokens, 0) - tokens
        drawn = row * 0 if SHARED else row
        word = tl.full((BLOCK,), 0xFFFFFFFF, tl.int64)
        token = first
        for j in range(tl.max(tokens, 0)):
            other = philox_word(rng, rng_step, first + j, drawn)
            smaller = (j < tokens) & (other < word)
            word = tl.where(smaller, other, word)
            token = tl.where(smaller, first + j, token)
        if MODE == "fixed":
            masked = place_in_order(word, lane, V) < k
        else:
            before = tl.zeros((BLOCK,), tl.int64)
            for i in range(tl.sum(tokens, 0)):
                other = philox_word(rng, rng_step, first * 0 + i, drawn)
                before += ((other < word) | ((other == word) & (i < token))).to(tl.int64)
            masked = (tokens > 0) & (before < k)
    tl.store(mask + row * V + lane, masked, mask=exists)

    keeps = exists & (masked == 0)
    number = tl.sum(keeps.to(tl.int64), 0)
    position = tl.cumsum(keeps.to(tl.int64), 0) - 1
    tl.store(kept + row * width + position, lane.to(tl.int64), mask=keeps)
    tl.store(kept + row * width + lane, tl.full((BLOCK,), -1, tl.int64), mask=(lane >= number) & (lane < width))
    tl.store(count + row, number)


def joint_mask(
    weights: torch.Tensor, k: int, rows: int, rng: torch.Tensor | None, mode: str, shared: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    V = weights.shape[0]
    if V > MOST_JOINTS:
        raise ValueError(f"joint_mask: backend 'triton' takes at most {MOST_JOINTS} joints, got V = {V}")
    width = V if mode == "tokens" else V - k
    mask = weights.new_empty((rows, V), dtype=torch.bool)
    kept, count = weights.new_empty((rows, width)), weights.new_empty((rows,))
    if rows:
        draws = None if mode == "deterministic" else rng
        joint_mask_kernel[(rows,)](
            weights, draws, mask, kept, count, V, k, width, 0 if draws is None else draws.stride(0),
            MODE=mode, SHARED=shared, BLOCK=triton.next_power_of_2(max(V, 1)), **LAUNCH["joint_mask"],
        )  # fmt: skip
    return mask, kept, count
