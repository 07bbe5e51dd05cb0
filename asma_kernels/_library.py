"""Loads the compiled library. When it cannot, says why and what to do; the reference backend works without it."""

from __future__ import annotations

import json
from pathlib import Path

import torch

_FOLDER = Path(__file__).parent
BUILD_FILE = _FOLDER / "_build.json"
CPU_LIBRARY = _FOLDER / "libasma_ops.so"
CUDA_LIBRARY = _FOLDER / "libasma_cuda.so"


def built_with() -> dict[str, str]:
    """Versions of asma-kernels, torch and the compilers that the library was built with; empty where it was not built."""
    if not BUILD_FILE.exists():
        return {}
    facts: dict[str, str] = json.loads(BUILD_FILE.read_text())
    return facts


def _load(library: Path) -> str:
    """Load one library; the empty string, or why it could not be."""
    if not library.exists():
        return f"{library.name} is not there: it was not built"
    try:
        torch.ops.load_library(str(library))
    except (OSError, RuntimeError) as error:
        built = built_with()
        return (
            f"{library.name} could not be loaded ({str(error).splitlines()[0]}); it was built with torch "
            f"{built.get('torch', 'unknown')} and asma-kernels {built.get('asma_kernels', 'unknown')}, and runs with "
            f"torch {torch.__version__}: reinstall it with `pip install --no-build-isolation --force-reinstall "
            "--no-deps asma-kernels` (needs torch >= 2.10)"
        )
    return ""


CPU_PROBLEM = _load(CPU_LIBRARY)
CUDA_PROBLEM = _load(CUDA_LIBRARY) if not CPU_PROBLEM else "the CPU library, which holds the schemas, is not loaded"
LOADED = not CPU_PROBLEM


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
