"""Philox4x32-10: a lane for each word."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ._common import philox_word
from ._config import LAUNCH


@triton.jit(do_not_specialize=["columns", "total"])
def philox_kernel(rng, words, rng_step, columns, total, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    word = philox_word(rng, rng_step, place % columns, place // columns)
    tl.store(words + place, word, mask=place < total)


def philox(rng: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    words = rng.new_empty((rows, columns))
    if words.numel():
        launch = LAUNCH["philox"]
        grid = (triton.cdiv(words.numel(), launch["BLOCK"]),)
        philox_kernel[grid](rng, words, rng.stride(0), columns, words.numel(), **launch)
    return words
