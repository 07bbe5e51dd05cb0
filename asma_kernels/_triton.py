"""Which Triton kernels there are and whether they can run, known without importing Triton."""

from __future__ import annotations

import importlib.util
import os
import pkgutil
from pathlib import Path

from . import _library

KERNELS = frozenset(
    module.name
    for module in pkgutil.iter_modules([str(Path(__file__).parent / "triton")])
    if not module.name.startswith("_")
)
"""Ops with a Triton kernel: an op's name is its file's name."""
FORM_OF = {"stgcn_block_folded": "stgcn_block"}
"""Ops that are another form of one, in its file and measured with it."""

INSTALLED = importlib.util.find_spec("triton") is not None
# Triton reads the variable once, when a kernel is decorated, so a later change would not count either.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def problem(op: str, device: str) -> str:
    """Why Triton cannot run ``op`` on tensors of ``device``; the empty string when it can."""
    if FORM_OF.get(op, op) not in KERNELS:
        return "it has no Triton kernel yet"
    if not INSTALLED:
        return "triton is not installed"
    if not _library.LOADED:
        return f"it needs the CPU library, and {_library.CPU_PROBLEM}"  # the schemas are there
    if device == "cuda" or (device == "cpu" and INTERPRETED):
        return ""
    return f"its tensors are on {device}" + (
        " and it was not started with TRITON_INTERPRET=1" if device == "cpu" else ""
    )
