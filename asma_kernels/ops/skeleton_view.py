"""A view of a batch of clips: frames and joints picked and moved in one pass."""

from __future__ import annotations

from typing import Any

import torch

from .. import _check, _register
from .._dispatch import choose, ops_of
from ..reference import skeleton_view as reference


def skeleton_view(
    x: torch.Tensor,
    frames: torch.Tensor | None = None,
    joints: torch.Tensor | None = None,
    matrix: torch.Tensor | None = None,
    offset: torch.Tensor | None = None,
    *,
    backend: str = "auto",
) -> torch.Tensor:
    """``out[n, :, t', v', m] = matrix[n] @ x[n, :, frames[n, t'], joints[n, v'], m] + offset[n]``, in one pass.

    Crop, resize by index, shear, rotation, flip and both masks are one gather: indices of indices and products of
    matrices are taken beforehand, where they are small. :mod:`asma_kernels.draws` draws them as PSTL does
    (arXiv 2302.09018, section 4.2).

    Args:
        x: coordinates (N, C, T, V, M), float64, float32, bfloat16 or float16, any strides, any device.
        frames: frame of x for each frame t' of the output, (T') for all clips or (N, T'), int64. None takes all
            frames. -1 gives a frame of zeros: the offset is not added to it.
        joints: joint of x for each joint v' of the output, (V') or (N, V'), int64. None takes all joints; -1 gives
            zeros, as above.
        matrix: (C', C) for all clips or (N, C', C), float32, float64 or of x's dtype. None is the identity.
        offset: (C') for all clips or (N, C'), dtypes as for matrix. None is zero.
        backend: auto, cpu, cuda, triton or reference.

    Returns:
        (N, C', T', V', M) in x's dtype, contiguous. Products are summed in float32, in float64 for float64 x; matrix
        and offset are rounded to that first. Without matrix and offset the numbers are copied, bit for bit.

    Deterministic, the same for any number of threads, also backward where frames or joints repeat. Differentiable in x,
    matrix and offset, once.

    Raises:
        ValueError, TypeError: an argument breaks a rule above.
        RuntimeError: an index is outside [-1, T) or [-1, V). Only the CPU looks: a GPU would have to be waited for.

    Example:
        >>> import torch, asma_kernels
        >>> x = torch.arange(6.0).view(1, 2, 3, 1, 1)
        >>> asma_kernels.skeleton_view(x, frames=torch.tensor([2, 2, -1]))[0, :, :, 0, 0].tolist()
        [[2.0, 2.0, 0.0], [5.0, 5.0, 0.0]]
        >>> quarter_turn = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
        >>> asma_kernels.skeleton_view(x, matrix=quarter_turn)[0, :, :, 0, 0].tolist()
        [[3.0, 4.0, 5.0], [0.0, -1.0, -2.0]]
    """
    _check.dim("skeleton_view", "x", x, "N, C, T, V, M")
    _check.floating("skeleton_view", "x", x)
    accumulate = torch.float64 if x.dtype == torch.float64 else torch.float32
    N, C = x.shape[:2]
    for name, indices, axes in (("frames", frames, "T'"), ("joints", joints, "V'")):
        if indices is not None:
            _check.dtype("skeleton_view", name, indices, torch.int64)
            _check_clips(name, indices, x, axes)
    C_out = C
    if matrix is not None:
        _check_floats("matrix", matrix, x)
        _check_clips("matrix", matrix, x, "C', C")
        C_out = matrix.shape[-2]
        if matrix.shape[-1] != C:
            raise ValueError(
                f"skeleton_view: matrix must be (C', C) or (N, C', C) with C = {C}, got {tuple(matrix.shape)}"
            )
        matrix = matrix.to(accumulate).contiguous()
    if offset is not None:
        _check_floats("offset", offset, x)
        _check_clips("offset", offset, x, "C'")
        if offset.shape[-1] != C_out:
            raise ValueError(
                f"skeleton_view: offset must be (C') or (N, C') with C' = {C_out}, got {tuple(offset.shape)}"
            )
        offset = offset.to(accumulate).contiguous()
    frames = frames.contiguous() if frames is not None else None
    joints = joints.contiguous() if joints is not None else None
    chosen = choose("skeleton_view", backend, x.device)
    if chosen == "reference":
        return reference.skeleton_view(x, frames, joints, matrix, offset)
    view: torch.Tensor = ops_of(chosen).skeleton_view(x, frames, joints, matrix, offset)
    return view


def _check_clips(name: str, tensor: torch.Tensor, x: torch.Tensor, axes: str) -> None:
    shared = axes.count(",") + 1
    if tensor.dim() != shared and (tensor.dim() != shared + 1 or tensor.shape[0] != x.shape[0]):
        raise ValueError(
            f"skeleton_view: {name} must be ({axes}) or (N, {axes}) with N = {x.shape[0]}, got {tuple(tensor.shape)}"
        )
    _check.same_device("skeleton_view", name, tensor, x)


def _check_floats(name: str, tensor: torch.Tensor, x: torch.Tensor) -> None:
    if tensor.dtype not in (torch.float32, torch.float64, x.dtype):
        raise TypeError(
            f"skeleton_view: {name} must be float32, float64 or of x's dtype, {x.dtype}, got {tensor.dtype}"
        )


def _fake(
    x: torch.Tensor,
    frames: torch.Tensor | None,
    joints: torch.Tensor | None,
    matrix: torch.Tensor | None,
    offset: torch.Tensor | None,
) -> torch.Tensor:
    N, C, T, V, M = x.shape
    return x.new_empty(
        N,
        C if matrix is None else matrix.shape[-2],
        T if frames is None else frames.shape[-1],
        V if joints is None else joints.shape[-1],
        M,
    )


def _fake_backward(
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
    N, C_out, _, _, M = grad.shape
    C = C_out if matrix is None else matrix.shape[-1]
    grad_x = grad.new_empty((N, C, T, V, M) if needs_x else (0,))
    if x is None:
        return grad_x, grad.new_empty(0), grad.new_empty(0)
    accumulate = torch.float64 if grad.dtype == torch.float64 else torch.float32
    return (
        grad_x,
        grad.new_empty((C_out, C) if matrix_shared else (N, C_out, C), dtype=accumulate),
        grad.new_empty((C_out,) if offset_shared else (N, C_out), dtype=accumulate),
    )


def _save(ctx: Any, inputs: Any, output: Any) -> None:
    x, frames, joints, matrix, offset = inputs
    ctx.T, ctx.V = x.shape[2:4]
    ctx.matrix_shared = matrix is None or matrix.dim() == 2
    ctx.offset_shared = offset is None or offset.dim() == 1
    # The view is linear in x, so only the gradients in matrix and offset need it.
    keeps_x = ctx.needs_input_grad[3] or ctx.needs_input_grad[4]
    ctx.save_for_backward(x if keeps_x else None, frames, joints, matrix)


def _backward_of(ops: Any) -> Any:
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        x, frames, joints, matrix = ctx.saved_tensors
        needs_x, _, _, needs_matrix, needs_offset = ctx.needs_input_grad
        grad_x, grad_matrix, grad_offset = ops.skeleton_view_backward(
            grad, x, ctx.T, ctx.V, frames, joints, matrix, needs_x, ctx.matrix_shared, ctx.offset_shared
        )
        return (
            grad_x if needs_x else None,
            None,
            None,
            grad_matrix if needs_matrix else None,
            grad_offset if needs_offset else None,
        )

    return backward


def _reference_backward(
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
    shapes = _fake_backward(grad, x, T, V, frames, joints, matrix, needs_x, matrix_shared, offset_shared)
    # The view is affine, so its gradients in x are the same at x = 0, and those in matrix and offset at 0 too.
    grad_x, grad_matrix, grad_offset = map(torch.zeros_like, shapes)
    if needs_x:
        grad_x = _register.gradient(lambda x: reference.skeleton_view(x, frames, joints, matrix, None), grad, grad_x)
    if x is not None:
        grad_matrix, grad_offset = _register.gradient(
            lambda matrix, offset: reference.skeleton_view(x, frames, joints, matrix, offset),
            grad,
            grad_matrix,
            grad_offset,
        )
    return grad_x, grad_matrix, grad_offset


_register.fake("skeleton_view", _fake)
_register.fake("skeleton_view_backward", _fake_backward)
_register.autograd("skeleton_view", _backward_of(torch.ops.asma), _save)
_register.no_double_backward("skeleton_view")
_register.fallback("skeleton_view", reference.skeleton_view)
_register.fallback("skeleton_view_backward", _reference_backward)
_register.triton("skeleton_view", _fake)
_register.triton("skeleton_view_backward", _fake_backward)
_register.autograd("skeleton_view", _backward_of(torch.ops.asma_triton), _save, "asma_triton")
_register.no_double_backward("skeleton_view", "asma_triton")
