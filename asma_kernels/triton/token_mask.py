"""Token masking: the keys of a row, then for each block of tokens how many keys of its row come before.

Bytes: scores are read twice, noise once, keys of 8 bytes written once and read once for each block of tokens. Flops:
L^2 comparisons a row, and two float64 logarithms a token for drawn noise.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ._common import order_key, philox_word
from ._config import LAUNCH


@triton.jit(do_not_specialize=["L", "score_n", "noise_n"])
def token_mask_keys_kernel(
    score, rng, noise, keys, L, score_n, score_l, rng_step, noise_n, noise_l, TAU: tl.constexpr, BLOCK: tl.constexpr
):
    wide: tl.constexpr = tl.float64 if score.dtype.element_ty == tl.float64 else tl.float32
    n = tl.program_id(0).to(tl.int64)
    most = tl.full((BLOCK,), float("-inf"), wide)
    for first in range(0, L, BLOCK):
        i = first + tl.arange(0, BLOCK).to(tl.int64)
        value = tl.load(score + n * score_n + i * score_l, mask=i < L, other=float("-inf")).to(wide)
        most = tl.maximum(most, tl.where(value == value, value, float("-inf")))
    scale = tl.max(most, 0) * TAU
    divisor = tl.where(scale > 0, scale, 1)
    for first in range(0, L, BLOCK):
        i = first + tl.arange(0, BLOCK).to(tl.int64)
        value = tl.load(score + n * score_n + i * score_l, mask=i < L, other=0).to(wide)
        # Rounded as IEEE 754 has it, because tokens must be in the same order on every backend.
        share = value / divisor if wide == tl.float64 else tl.div_rn(value, divisor)
        share = tl.where(scale > 0, share, value * 0)
        if noise is None:
            uniform = (philox_word(rng, rng_step, i, n).to(tl.float64) + 0.5) * (1 / (1 << 32))
            added = (-tl.log(-tl.log(uniform))).to(wide)
        else:
            added = tl.load(noise + n * noise_n + i * noise_l, mask=i < L, other=0)
        tl.store(keys + n * L + i, order_key(share + added), mask=i < L)


@triton.jit(do_not_specialize=["L", "keep"])
def token_mask_kernel(keys, ids_keep, ids_restore, mask, L, keep, BLOCK: tl.constexpr, BLOCK_L: tl.constexpr):
    blocks = tl.cdiv(L, BLOCK)
    n = (tl.program_id(0) // blocks).to(tl.int64)
    i = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    own = tl.load(keys + n * L + i, mask=i < L, other=0)
    place = tl.zeros((BLOCK,), tl.int32)
    for first in range(0, L, BLOCK_L):
        j = first + tl.arange(0, BLOCK_L)
        key = tl.load(keys + n * L + j, mask=j < L, other=0x7FFFFFFFFFFFFFFF)[None, :]
        # Past the end there are lanes that come after every token, also after those of the greatest key.
        before = (key < own[:, None]) | ((key == own[:, None]) & (j[None, :] < i[:, None]))
        place += tl.sum(before.to(tl.int32), 1)
    tl.store(ids_keep + n * keep + place, i.to(tl.int64), mask=(i < L) & (place < keep))
    tl.store(ids_restore + n * L + i, place.to(tl.int64), mask=i < L)
    tl.store(mask + n * L + i, (place >= keep).to(tl.float32), mask=i < L)


def token_mask(
    score: torch.Tensor, keep: int, rng: torch.Tensor | None, tau: float, noise: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    N, L = score.shape
    ids_keep, ids_restore = (score.new_empty((N, size), dtype=torch.int64) for size in (keep, L))
    mask = score.new_empty((N, L))
    if mask.numel():
        keys = score.new_empty((N, L), dtype=torch.int64)
        token_mask_keys_kernel[(N,)](
            score, rng, noise, keys, L, *score.stride(), 0 if rng is None else rng.stride(0),
            *((0, 0) if noise is None else noise.stride()), TAU=tau, **LAUNCH["token_mask_keys"],
        )  # fmt: skip
        launch = LAUNCH["token_mask"]
        token_mask_kernel[(N * triton.cdiv(L, launch["BLOCK"]),)](keys, ids_keep, ids_restore, mask, L, keep, **launch)
    return ids_keep, ids_restore, mask
