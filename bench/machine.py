"""The machine: what it is called, and the limits that results are held against, measured."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

import asma_kernels
from asma_kernels._library import built_with, instruction_set


def device_name() -> str:
    """The processor's name as a file name."""
    found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    name = found.group(1) if found else platform.processor() or platform.machine()
    return re.sub(r"[^A-Za-z0-9]+", "-", f"{name} {instruction_set()}").strip("-").lower()


def facts() -> dict[str, Any]:
    return {
        "device": device_name(),
        "instruction_set": instruction_set(),
        "asma_kernels": asma_kernels.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
        "built_with": built_with(),
        "cores": torch.get_num_threads(),
    }


def best(function: Callable[[], Any], rounds: int = 15) -> float:
    function()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def busy(seconds: float = 2.0) -> float:
    """The share of the processors' time that others use just now, in [0, 1]."""

    def times() -> list[int]:
        return [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]

    before = times()
    time.sleep(seconds)
    passed = [after - earlier for earlier, after in zip(before, times(), strict=True)]
    idle = passed[3] + passed[4]  # waiting for a disk is no work
    return 1 - idle / max(sum(passed), 1)


def busy_said(results: dict[str, Any]) -> str:
    """A sentence on results' "busy_before"; empty for those from before it was measured."""
    share = results.get("busy_before")
    return "" if share is None else f"Others kept the processors {100 * share:.0f} % busy before. "


def limits() -> dict[str, float]:
    """Bytes and flops a second of the present number of threads: a copy in memory, one of the clips' size (it stays in
    the last cache), and a float32 matrix product of PyTorch's BLAS."""
    large, clips = torch.empty(1 << 26), torch.empty(480_000)
    to_large, to_clips = torch.empty_like(large), torch.empty_like(clips)
    a, b = torch.randn(1536, 1536), torch.randn(1536, 1536)
    return {
        "copy_bytes": 8 * large.numel() / best(lambda: to_large.copy_(large)),
        "cached_copy_bytes": 8 * clips.numel() / best(lambda: to_clips.copy_(clips), 200),
        "flops": 2 * 1536**3 / best(lambda: a @ b),
    }


def need_room(folder: Path, wanted: int) -> None:
    """End here unless so many bytes are free in a folder."""
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise SystemExit(f"bench.data: {folder} must have {wanted:,} bytes free, it has {free:,}")


def forget(files: Iterable[Path]) -> None:
    """Let files leave the page cache, so that they are read from the disk."""
    os.sync()
    for file in files:
        handle = os.open(file, os.O_RDONLY)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def _status(field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(found.group(1)) * 1024 if found else 0


def peak_bytes(function: Callable[[], Any]) -> int | None:
    """Resident memory at its highest during a call, less what was there before; None where Linux does not tell."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        function()  # what is kept between calls is not counted
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before = _status("VmRSS")
        result = function()
        peak = _status("VmHWM")
    except OSError:
        return None
    del result
    return max(0, peak - before)
