"""Checks of arguments: each names the op, the rule and what was found."""

from __future__ import annotations

import torch

FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def dim(op: str, name: str, tensor: torch.Tensor, axes: str) -> None:
    """``axes`` as in "N, C, T, V, M"."""
    wanted = axes.count(",") + 1
    if tensor.dim() != wanted:
        raise ValueError(f"{op}: {name} must be ({axes}), got shape {tuple(tensor.shape)}")


def floating(op: str, name: str, tensor: torch.Tensor) -> None:
    if tensor.dtype not in FLOATS:
        raise TypeError(f"{op}: {name} must be float64, float32, bfloat16 or float16, got {tensor.dtype}")


def dtype(op: str, name: str, tensor: torch.Tensor, wanted: torch.dtype) -> None:
    if tensor.dtype != wanted:
        raise TypeError(f"{op}: {name} must be {wanted}, got {tensor.dtype}")


def same_device(op: str, name: str, tensor: torch.Tensor, like: torch.Tensor) -> None:
    if tensor.device != like.device:
        raise ValueError(f"{op}: {name} must be on {like.device}, got {tensor.device}")


def number_as(op: str, name: str, tensor: torch.Tensor, x: torch.Tensor) -> None:
    """A parameter lies where x does, in x's dtype or float32; with a float64 x in float64."""
    same_device(op, name, tensor, x)
    if tensor.dtype not in (x.dtype, torch.float32) or (x.dtype == torch.float64 != tensor.dtype):
        either = "" if x.dtype in (torch.float32, torch.float64) else ", or float32"
        raise TypeError(f"{op}: {name} must be {x.dtype}, as x{either}, got {tensor.dtype}")


def one_of(op: str, name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{op}: {name} must be one of {', '.join(allowed)}, got {value!r}")


def rng(op: str, state: torch.Tensor) -> None:
    dtype(op, "rng", state, torch.int64)
    if tuple(state.shape) != (2,):
        raise ValueError(
            f"{op}: rng must be [seed, call], got shape {tuple(state.shape)}; make it with asma_kernels.rng"
        )
