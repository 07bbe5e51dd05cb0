"""A view of a batch: a program for each clip and block of places (t', v', m), all channels of which it moves.

The gradient in x gathers too, by lists of the places that read a frame or a joint: no two programs add to one number.
Bytes: forward and the gradient in x read and write what was picked once (the latter reads grad once for each BLOCK_C
channels of x); the gradients in matrix and offset read grad once and x once for each channel of the view. Flops: 2 C C'
a place of the view for each of the three.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ._config import LAUNCH

# Sizes, and the strides that follow from the number of frames: a clip of another length must not compile anew.
_VIEW = ["C", "C_out", "T", "V", "T_out", "V_out", "M"]
_SIZES = [*_VIEW, "x_n", "x_c", "x_t"]
_GRAD = ["g_n", "g_c", "g_t"]


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


@triton.jit(do_not_specialize=["size", "picked"])
def skeleton_view_places_kernel(indices, first, following, size, picked, BLOCK: tl.constexpr):
    """Lists of the places that have one index: ``first`` (size), then ``following`` (picked), -1 at the end."""
    blocks = tl.cdiv(tl.maximum(size, picked), BLOCK)
    row = (tl.program_id(0) // blocks).to(tl.int64)
    lane = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    own = tl.load(indices + row * picked + lane, mask=lane < picked, other=-1)
    begin = tl.full((BLOCK,), -1, tl.int32)
    next = tl.full((BLOCK,), -1, tl.int32)
    for i in range(picked):
        place = picked - 1 - i
        index = tl.load(indices + row * picked + place)
        begin = tl.where(index == lane, place, begin)
        next = tl.where((index == own) & (place > lane), place, next)
    tl.store(first + row * size + lane, begin, mask=lane < size)
    tl.store(following + row * picked + lane, next, mask=lane < picked)


@triton.jit(do_not_specialize=[*_VIEW, *_GRAD, "frames_n", "joints_n", "matrix_n"])
def skeleton_view_backward_kernel(
    grad, first_t, next_t, first_v, next_v, matrix, grad_x, C, C_out, T, V, T_out, V_out, M,
    g_n, g_c, g_t, g_v, g_m, frames_n, joints_n, matrix_n, BLOCK: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    wide: tl.constexpr = tl.float64 if grad.dtype.element_ty == tl.float64 else tl.float32
    size = T.to(tl.int64) * V * M
    blocks = tl.cdiv(size, BLOCK)
    n = (tl.program_id(0) // blocks).to(tl.int64)
    place = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    exists = place < size
    t0, v0 = place // M // V, place // M % V
    if first_t is not None:
        t0 = tl.load(first_t + n * frames_n * T + t0, mask=exists, other=-1).to(tl.int64)
    if first_v is not None:
        v0 = tl.load(first_v + n * joints_n * V + v0, mask=exists, other=-1).to(tl.int64)
    person = grad + n * g_n + place % M * g_m
    for first in range(0, C, BLOCK_C):
        column = first + tl.arange(0, BLOCK_C).to(tl.int64)[:, None]
        sum = tl.zeros((BLOCK_C, BLOCK), wide)
        t = tl.where(exists, t0, -1)
        while tl.max(t, 0) >= 0:
            v = tl.where(t >= 0, v0, -1)
            while tl.max(v, 0) >= 0:
                reads = v >= 0
                from_place = person + t * g_t + v * g_v
                if matrix is None:
                    inside = reads[None, :] & (column < C)
                    sum += tl.load(from_place[None, :] + column * g_c, mask=inside, other=0).to(wide)
                else:
                    for row in range(C_out):
                        value = tl.load(from_place + g_c.to(tl.int64) * row, mask=reads, other=0).to(wide)
                        factor = tl.load(matrix + n * matrix_n + row * C + column, mask=column < C, other=0)
                        sum += factor * value[None, :]
                if first_v is not None:
                    v = tl.load(next_v + n * joints_n * V_out + v, mask=reads, other=-1).to(tl.int64)
                else:
                    v = tl.full((BLOCK,), -1, tl.int64)
            if first_t is not None:
                t = tl.load(next_t + n * frames_n * T_out + t, mask=t >= 0, other=-1).to(tl.int64)
            else:
                t = tl.full((BLOCK,), -1, tl.int64)
        tl.store(grad_x + (n * C + column) * size + place[None, :], sum, mask=exists[None, :] & (column < C))


@triton.jit(do_not_specialize=[*_SIZES, "frames_n", "joints_n", *_GRAD])
def skeleton_view_backward_matrix_kernel(
    grad, x, frames, joints, grad_matrix, grad_offset, C, C_out, T, V, T_out, V_out, M, x_n, x_c, x_t, x_v, x_m,
    g_n, g_c, g_t, g_v, g_m, frames_n, joints_n, BLOCK: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """One row of the matrix of one clip. The offset is a column of it: that of a coordinate that is always 1."""
    wide: tl.constexpr = tl.float64 if x.dtype.element_ty == tl.float64 else tl.float32
    n = (tl.program_id(0) // C_out).to(tl.int64)
    row = (tl.program_id(0) % C_out).to(tl.int64)
    size = T_out.to(tl.int64) * V_out * M
    for first_c in range(0, C + 1, BLOCK_C):
        column = first_c + tl.arange(0, BLOCK_C).to(tl.int64)
        products = tl.zeros((BLOCK_C, BLOCK), wide)
        for first in range(0, size, BLOCK):
            place = first + tl.arange(0, BLOCK).to(tl.int64)
            t_out, v_out = place // M // V_out, place // M % V_out
            t, v = t_out, v_out
            if frames is not None:
                t = tl.load(frames + n * frames_n + t_out, mask=place < size, other=-1)
            if joints is not None:
                v = tl.load(joints + n * joints_n + v_out, mask=place < size, other=-1)
            inside = (place < size) & (t >= 0) & (t < T) & (v >= 0) & (v < V)
            of_view = grad + n * g_n + row * g_c + t_out * g_t + v_out * g_v + place % M * g_m
            value = tl.load(of_view, mask=inside, other=0).to(wide)
            picked = x + n * x_n + t * x_t + v * x_v + place % M * x_m
            taken = inside[None, :] & (column < C)[:, None]
            factor = tl.load(picked[None, :] + column[:, None] * x_c, mask=taken, other=0).to(wide)
            products += value[None, :] * tl.where((column == C)[:, None], 1, factor)
        total = tl.sum(products, 1)
        tl.store(grad_matrix + (n * C_out + row) * C + column, total, mask=column < C)
        tl.store(grad_offset + n * C_out + row + column * 0, total, mask=column == C)


@triton.jit(do_not_specialize=["N", "numbers"])
def skeleton_view_sum_clips_kernel(of_clips, total, N, numbers, BLOCK_N: tl.constexpr, BLOCK: tl.constexpr):
    number = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)[None, :]
    sum = tl.zeros((BLOCK_N, BLOCK), tl.float64)
    for first in range(0, N, BLOCK_N):
        n = first + tl.arange(0, BLOCK_N).to(tl.int64)[:, None]
        inside = (n < N) & (number < numbers)
        sum += tl.load(of_clips + n * numbers + number, mask=inside, other=0).to(tl.float64)
    tl.store(total + number, tl.sum(sum, 0)[None, :], mask=number < numbers)


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


def _places(indices: torch.Tensor | None, size: int) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    if indices is None:
        return None, None
    picked = indices.shape[-1]
    rows = indices.shape[:-1].numel()
    first = indices.new_empty((rows, size), dtype=torch.int32)
    following = indices.new_empty((rows, picked), dtype=torch.int32)
    launch = LAUNCH["skeleton_view_places"]
    blocks = rows * triton.cdiv(max(size, picked), launch["BLOCK"])
    if blocks:
        skeleton_view_places_kernel[(blocks,)](indices, first, following, size, picked, **launch)
    return first, following


def skeleton_view_backward(
    grad: torch.Tensor,
    x: torch.Tensor | None,
    T: int,
    V: int,
    frames: torch.Tensor | None,
    joints: torch.Tensor | None,
    matrix: torch.Tensor | None,
    needs_x: bool,
    matrix_shared: bool,
    offset_shared: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    N, C_out, T_out, V_out, M = grad.shape
    C = C_out if matrix is None else matrix.shape[-1]
    sizes = (C, C_out, T, V, T_out, V_out, M)
    grad_x = grad.new_empty((N, C, T, V, M) if needs_x else (0,))
    if grad_x.numel():
        launch = LAUNCH["skeleton_view_backward"]
        steps = [int(part is not None and part.dim() == 2) for part in (frames, joints)]
        matrix_n = 0 if matrix is None or matrix.dim() == 2 else matrix.stride(0)
        skeleton_view_backward_kernel[(N * triton.cdiv(T * V * M, launch["BLOCK"]),)](
            grad, *_places(frames, T), *_places(joints, V), matrix, grad_x, *sizes, *grad.stride(), *steps, matrix_n,
            **launch,
        )  # fmt: skip
    if x is None:
        return grad_x, grad.new_empty(0), grad.new_empty(0)
    dtype = torch.float64 if grad.dtype == torch.float64 else torch.float32
    grad_matrix, grad_offset = grad.new_empty((N, C_out, C), dtype=dtype), grad.new_empty((N, C_out), dtype=dtype)
    if grad_offset.numel():
        steps = [0 if part is None or part.dim() == 1 else part.stride(0) for part in (frames, joints)]
        skeleton_view_backward_matrix_kernel[(N * C_out,)](
            grad, x, frames, joints, grad_matrix, grad_offset, *sizes, *x.stride(), *grad.stride(), *steps,
            **LAUNCH["skeleton_view_backward_matrix"],
        )  # fmt: skip
    return (
        grad_x,
        _sum_of_clips(grad_matrix) if matrix_shared else grad_matrix,
        _sum_of_clips(grad_offset) if offset_shared else grad_offset,
    )


def _sum_of_clips(of_clips: torch.Tensor) -> torch.Tensor:
    total = of_clips.new_empty(of_clips.shape[1:])
    if total.numel():
        launch = LAUNCH["skeleton_view_sum_clips"]
        skeleton_view_sum_clips_kernel[(triton.cdiv(total.numel(), launch["BLOCK"]),)](
            of_clips, total, of_clips.shape[0], total.numel(), **launch
        )
    return total
