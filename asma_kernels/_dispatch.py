"""Which backend runs a call, and why.

Only ``auto`` may choose. A backend that was asked for by name, by :func:`backend` or by ``ASMA_BACKEND`` runs the call
or raises and says why it cannot.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch

from . import _library, _triton
from ._measured import FASTEST

BACKENDS = ("auto", "cpu", "cuda", "triton", "reference")


def _checked(name: str, where: str) -> str:
    if name not in BACKENDS:
        raise ValueError(f"{where} must be one of {', '.join(BACKENDS)}, got {name!r}")
    return name


_chosen: str = _checked(os.environ.get("ASMA_BACKEND", "auto"), "ASMA_BACKEND")


@contextlib.contextmanager
def backend(name: str) -> Iterator[None]:
    """Run every op of the block on one backend. Process-wide, so not for threads that want different ones.

    Example:
        >>> import torch, asma_kernels
        >>> with asma_kernels.backend("reference"):
        ...     asma_kernels.motion_energy(torch.zeros(1, 3, 4, 5, 1)).shape
        torch.Size([1, 4])
    """
    global _chosen
    before, _chosen = _chosen, _checked(name, "backend")
    try:
        yield
    finally:
        _chosen = before


def chosen() -> str:
    """What :func:`backend` or ``ASMA_BACKEND`` says now."""
    return _chosen


def problem(op: str, name: str, device: str) -> str:
    """Why backend ``name`` cannot run ``op`` on tensors of ``device``; the empty string when it can."""
    if name == "reference":
        return ""
    if name == "triton":
        return _triton.problem(op, device)
    if name != device:
        return f"its tensors are on {device}"
    if name == "cpu" and not _library.LOADED:
        return _library.CPU_PROBLEM
    if (op, name) not in _library.KERNELS:
        return _library.CUDA_PROBLEM if name == "cuda" and _library.CUDA_PROBLEM else f"it has no {name} kernel yet"
    return ""


def choose(op: str, name: str, device: torch.device) -> str:
    """The backend that runs this call: ``cpu`` or ``cuda`` (the compiled library), ``triton`` or ``reference``."""
    wanted = name if name != "auto" else _chosen
    if wanted == "auto":
        return _best(op, device)
    _checked(wanted, f"{op}: backend")
    why = problem(op, wanted, device.type)
    if why:
        raise RuntimeError(f"{op}: backend {wanted!r} cannot run this call: {why}")
    return wanted


def fuses(op: str, device: torch.device) -> str:
    """The backend that a module runs the fused op ``op`` with; empty where it takes its parts one by one."""
    chosen = _best(op, device) if _chosen == "auto" else _chosen
    return "" if chosen == "reference" or problem(op, chosen, device.type) else chosen


def _best(op: str, device: torch.device) -> str:
    """On a GPU only what was measured there: what was not runs where it is asked for."""
    if device.type == "cpu":
        return "cpu" if (op, "cpu") in _library.KERNELS else "reference"
    if device.type != "cuda" or not FASTEST:
        return "reference"
    found = FASTEST.get(_capability(device.index or 0), {}).get(_triton.FORM_OF.get(op, op), "reference")
    return "reference" if problem(op, found, device.type) else found


def _capability(index: int) -> int:
    properties = torch.cuda.get_device_properties(index)  # a constant to torch.compile
    return 10 * int(properties.major) + int(properties.minor)


def ops_of(chosen: str) -> Any:
    """The namespace of ``torch.ops`` that holds the ops of a backend other than ``reference``."""
    return torch.ops.asma_triton if chosen == "triton" else torch.ops.asma


def explain(op: str, device: str = "cpu") -> str:
    """One sentence: what ``auto`` runs for ``op`` on ``device``, and why not the others.

    Example:
        >>> import asma_kernels
        >>> print(asma_kernels.explain("motion_energy"))  # doctest: +ELLIPSIS
        motion_energy on cpu: ...
    """
    chosen = choose(op, "auto", torch.device(device))
    reasons = [f"{name}: {why}" for name in BACKENDS[1:] if name != chosen and (why := problem(op, name, device))]
    return f"{op} on {device}: {chosen}" + (f" ({'; '.join(reasons)})" if reasons else "")
