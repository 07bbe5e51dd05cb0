"""Runs that give the same bits each time, also on a GPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from .config import need

__all__ = ["deterministic"]

WORKSPACES = (":4096:8", ":16:8")
"""Of cuBLAS, with which it repeats its results."""


@contextmanager
def deterministic(wanted: bool, device: str) -> Iterator[None]:
    """PyTorch takes no algorithm inside whose result may differ from run to run; afterwards what it took before.

    An operation that knows no other raises RuntimeError and names itself.

    Args:
        wanted: off changes nothing.
        device: of the run. cuBLAS reads its setting when the process first uses it, so on a GPU it must be there.

    Raises:
        ValueError: on a GPU cuBLAS was not told.

    >>> with deterministic(True, "cpu"):
    ...     torch.are_deterministic_algorithms_enabled()
    True
    """
    if not wanted:
        yield
        return
    workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    need(
        not device.startswith("cuda") or workspace in WORKSPACES,
        f"deterministic on {device} needs CUBLAS_WORKSPACE_CONFIG={WORKSPACES[0]} in the environment: export it and "
        "start again",
        workspace or "none",
    )
    cudnn = torch.backends.cudnn
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    before_cudnn = cudnn.deterministic, cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        cudnn.deterministic, cudnn.benchmark = before_cudnn
