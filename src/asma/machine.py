"""What a machine can do at most, measured, and the time and memory that a call takes on it."""

from __future__ import annotations

import ctypes
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

__all__ = ["CACHED", "Limits", "best", "limits", "peak_bytes", "wait"]

CACHED = 16e6
"""Bytes of work that is held against a copy within the last cache."""


class Limits(NamedTuple):
    """Bytes and flops a second."""

    copy_bytes: float
    """Of a large copy in memory; bytes read and bytes written both count."""
    cached_copy_bytes: float
    """Of a copy of 2 MB, which stays in the last cache."""
    flops: float
    """Of a large matrix product."""

    def seconds(self, moved: float, flops: float) -> float:
        """The time that so many bytes and flops need at least.

        >>> Limits(1e9, 4e9, 1e12).seconds(1e9, 1e11)
        1.0
        """
        return max(moved / (self.cached_copy_bytes if moved < CACHED else self.copy_bytes), flops / self.flops)


def wait(device: torch.device) -> None:
    """Until a device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def best(function: Callable[[], Any], rounds: int = 15, device: torch.device | None = None) -> float:
    """The shortest of several calls, in seconds."""
    device = device or torch.device("cpu")
    times = []
    for _ in range(rounds + 1):
        wait(device)
        start = time.perf_counter()
        function()
        wait(device)
        times.append(time.perf_counter() - start)
    return min(times[1:])


def limits(device: torch.device | None = None, dtype: torch.dtype = torch.float32) -> Limits:
    """What the device does with its present number of threads: a copy, and a product of PyTorch's of two matrices of
    ``dtype``. Takes some seconds and 0.5 GB."""
    device = device or torch.device("cpu")
    size = 8192 if device.type == "cuda" else 1536
    large, clips = (torch.empty(numbers, device=device) for numbers in (1 << 26, 480_000))
    to_large, to_clips = torch.empty_like(large), torch.empty_like(clips)
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return Limits(
        8 * large.numel() / best(lambda: to_large.copy_(large), device=device),
        8 * clips.numel() / best(lambda: to_clips.copy_(clips), 200, device),
        2 * size**3 / best(lambda: a @ b, device=device),
    )


def _status(field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(found.group(1)) * 1024 if found else 0


def peak_bytes(function: Callable[[], Any], device: torch.device | None = None) -> int | None:
    """Memory at its highest during a call, less what was there before: of the device's tensors, on the CPU resident
    memory; None where the system does not tell. Calls it twice: what is kept between calls is not counted."""
    if device is not None and device.type == "cuda":
        function()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        result = function()
        return torch.cuda.max_memory_allocated(device) - before
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        function()
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before = _status("VmRSS")
        result = function()
        peak = _status("VmHWM")
    except OSError:
        return None
    del result
    return max(0, peak - before)
