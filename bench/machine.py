"""The machine: what it is called, and how busy it is. What it can do at most measures asma.machine."""

from __future__ import annotations

import os
import platform
import re
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

import asma_kernels
from asma_kernels._library import built_with, instruction_set, multiplies_bf16


def device_name() -> str:
    """The processor's name as a file name."""
    found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    name = found.group(1) if found else platform.processor() or platform.machine()
    return re.sub(r"[^A-Za-z0-9]+", "-", f"{name} {instruction_set()}").strip("-").lower()


def facts() -> dict[str, Any]:
    return {
        "device": device_name(),
        "instruction_set": instruction_set(),
        "bfloat16_products": multiplies_bf16(),
        "asma_kernels": asma_kernels.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
        "built_with": built_with(),
        "cores": torch.get_num_threads(),
    }


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
