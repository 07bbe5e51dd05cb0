"""Loads the compiled library. When it cannot, says why and what to do; the reference backend works without it."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import torch

from ._version import __version__

_FOLDER = Path(__file__).parent
BUILD_FILE = _FOLDER / "_build.json"
CPU_LIBRARY = _FOLDER / "libasma_ops.so"
CUDA_LIBRARY = _FOLDER / "libasma_cuda.so"


def built_with() -> dict[str, str]:
    """What the library was built with, as CMake wrote it down; empty where that is not known.

    Keys: asma_kernels, torch, compiler, isas (separated by spaces), cuda (a version, empty without), cuda_archs,
    cuda_left_out (why there is no CUDA, empty with it).
    """
    try:
        facts: dict[str, str] = json.loads(BUILD_FILE.read_text())
    except (OSError, ValueError):
        return {}
    return facts


def _load(library: Path) -> str:
    """Load one library; the empty string, or why it could not be."""
    built = built_with()
    if not library.exists():
        why = built.get("cuda_left_out") if library == CUDA_LIBRARY else ""
        return f"{library.name} was not built" + (f" ({why})" if why else "")
    try:
        torch.ops.load_library(str(library))
    except (OSError, RuntimeError) as error:
        return (
            f"{library.name} could not be loaded ({str(error).splitlines()[0]}): it was built for asma-kernels "
            f"{built.get('asma_kernels', 'unknown')} with torch {built.get('torch', 'unknown')} and "
            f"{built.get('compiler', 'an unknown compiler')}, this is asma-kernels {__version__} with torch "
            f"{torch.__version__}; build it anew with `pip install --no-build-isolation --force-reinstall --no-deps "
            "asma-kernels` (torch >= 2.10)"
        )
    return ""


CPU_PROBLEM = _load(CPU_LIBRARY)
CUDA_PROBLEM = _load(CUDA_LIBRARY) if not CPU_PROBLEM else f"it needs the CPU library, and {CPU_PROBLEM}"
LOADED = not CPU_PROBLEM
if CPU_PROBLEM:
    # Not an error: without it everything runs, only slower, and somebody would wonder why.
    warnings.warn(f"asma_kernels runs on its PyTorch reference only: {CPU_PROBLEM}", RuntimeWarning, stacklevel=2)


def _kernels() -> frozenset[tuple[str, str]]:
    """(op, device type) of every kernel in the compiled libraries. Looked up once: torch.compile cannot trace it."""
    names = [name for name in torch._C._dispatch_get_all_op_names() if name.startswith("asma::")]
    return frozenset(
        (name.removeprefix("asma::"), device)
        for name in names
        for device, key in (("cpu", "CPU"), ("cuda", "CUDA"))
        if torch._C._dispatch_has_kernel_for_dispatch_key(name, key)
    )


KERNELS = _kernels()


def instruction_set() -> str:
    """The instruction set that the CPU kernels run with: generic, avx2, avx512 or neon; "none" without the library."""
    return str(torch.ops.asma.isa()) if LOADED else "none"


def multiplies_bf16() -> bool:
    """Whether CPU kernels that can multiply bfloat16 by instructions made for it (AVX512_BF16) do so here."""
    return LOADED and bool(torch.ops.asma.multiplies_bf16())
