"""A view of a batch: a program for each clip and block of places (t', v', m), all channels of which it moves."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ._config import LAUNCH

# Sizes, and the strides that follow from the number of frames: a clip of another length must not compile anew.
_SIZES = ["C", "C_out", "T", "V", "T_out", "V_out", "M", "x_n", "x_c", "x_t"]


@triton.jit(do_not_specialize=[*_SIZES, "frames_n", "joints_n", "matrix_n", "offset_n"])
def skeleton_view_kernel(
    x, frames, joints, matrix, offset, view, C, C_out, T, V, T_out, V_out, M, x_n, x_c, x_t, x_v, x_m,
    frames_n, joints_n, matrix_n, offset_n, BLOCK: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    wide: tl.constexpr = tl.float64 if x.dtype.element_ty == tl.float64 else tl.float32
    size = T_out.to(tl.int64) * V_out * M
    blocks = tl.cdiv(size, BLOCK)
    n = (tl.program_id(0) // blocks).to(tl.int64)
    place = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    exists = place < size

    t, v = place // M // V_out, place // M % V_out
    if frames is not None:
        t = tl.load(frames + n * frames_n + t, mask=exists, other=-1)
    if joints is not None:
        v = tl.load(joints + n * joints_n + v, mask=exists, other=-1)
    # Nobody looks at the indices on a GPU, so those outside must not be followed either.
    inside = exists & (t >= 0) & (t < T) & (v >= 0) & (v < V)
    picked = x + n * x_n + t * x_t + v * x_v + place % M * x_m
    to = view + n * C_out * size + place

    if matrix is None:
        for c in range(C):
            value = tl.load(picked + x_c.to(tl.int64) * c, mask=inside, other=0)
            if offset is not None:  # without, the numbers are copied as they are
                value = value.to(wide) + tl.where(inside, tl.load(offset + n * offset_n + c), 0)
            tl.store(to + c * size, value, mask=exists)
    else:
        for first in range(0, C_out, BLOCK_C):
            row = first + tl.arange(0, BLOCK_C).to(tl.int64)[:, None]
            sum = tl.zeros((BLOCK_C, BLOCK), wide)
            for c in range(C):
                factor = tl.load(matrix + n * matrix_n + row * C + c, mask=row < C_out, other=0)
                value = tl.load(picked + x_c.to(tl.int64) * c, mask=inside, other=0).to(wide)
                sum += factor * value[None, :]
            if offset is not None:
                sum += tl.load(offset + n * offset_n + row, mask=row < C_out, other=0)
            sum = tl.where(inside[None, :], sum, 0)
            tl.store(to[None, :] + row * size, sum, mask=(row < C_out) & exists[None, :])


def skeleton_view(
    x: torch.Tensor,
    frames: torch.Tensor | None,
    joints: torch.Tensor | None,
    matrix: torch.Tensor | None,
    offset: torch.Tensor | None,
) -> torch.Tensor:
    N, C, T, V, M = x.shape
    C_out = C if matrix is None else matrix.shape[-2]
    T_out = T if frames is None else frames.shape[-1]
    V_out = V if joints is None else joints.shape[-1]
    view = x.new_empty((N, C_out, T_out, V_out, M))
    if view.numel():
        launch = LAUNCH["skeleton_view"]
        # Shared by all clips without an axis n.
        parts = ((frames, 1), (joints, 1), (matrix, 2), (offset, 1))
        steps = [0 if part is None or part.dim() == shared else part.stride(0) for part, shared in parts]
        skeleton_view_kernel[(N * triton.cdiv(T_out * V_out * M, launch["BLOCK"]),)](
            x, frames, joints, matrix, offset, view, C, C_out, T, V, T_out, V_out, M, *x.stride(), *steps, **launch,
        )  # fmt: skip
    return view
