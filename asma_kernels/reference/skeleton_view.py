"""Picked frames and joints of a clip, moved by an affine map, in plain PyTorch."""

from __future__ import annotations

import torch


def skeleton_view(
    x: torch.Tensor,
    frames: torch.Tensor | None,
    joints: torch.Tensor | None,
    matrix: torch.Tensor | None,
    offset: torch.Tensor | None,
) -> torch.Tensor:
    picked = x if x.dtype == torch.float64 else x.float()
    absent = torch.zeros((1, 1, 1, 1, 1), dtype=torch.bool, device=x.device)
    for name, axis, indices in (("frames", 2, frames), ("joints", 3, joints)):
        if indices is None:
            continue
        _check_range(name, indices, x.shape[axis])
        picked = _pick(picked, axis, indices)
        absent = absent | _along(axis, indices < 0)
    if matrix is not None:
        picked = torch.einsum("nrc,nctvm->nrtvm", matrix.expand(x.shape[0], *matrix.shape[-2:]), picked)
    if offset is not None:
        picked = picked + offset.expand(x.shape[0], offset.shape[-1])[:, :, None, None, None]
    return torch.where(absent, 0, picked).to(x.dtype)


def _along(axis: int, values: torch.Tensor) -> torch.Tensor:
    """(S,) or (N, S) as a tensor that broadcasts over (N, C, T, V, M) with S on ``axis``."""
    shape = [1, 1, 1, 1, 1]
    shape[axis] = values.shape[-1]
    if values.dim() == 2:
        shape[0] = values.shape[0]
    return values.view(shape)


def _pick(x: torch.Tensor, axis: int, indices: torch.Tensor) -> torch.Tensor:
    shape = list(x.shape)
    shape[axis] = indices.shape[-1]
    if x.shape[axis] == 0:  # nothing to gather: every index is -1
        return x.sum(axis, keepdim=True).expand(shape)
    return x.gather(axis, _along(axis, indices.clamp(min=0)).expand(shape))


def _check_range(name: str, indices: torch.Tensor, size: int) -> None:
    # Elsewhere than on the CPU, and in a traced graph, asking would stop the device.
    if indices.device.type != "cpu" or torch.compiler.is_compiling():
        return
    outside = ((indices < -1) | (indices >= size)).nonzero()
    if len(outside):
        *clip, place = outside[0].tolist()
        raise RuntimeError(
            f"skeleton_view: {name} must be in [-1, {size}), got {indices[tuple(outside[0])]} at place {place}"
            + (f" of clip {clip[0]}" if clip else "")
        )
