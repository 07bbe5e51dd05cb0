"""``python -m asma_kernels.env``: versions, what each backend can run and why not; what to paste into a bug report."""

from __future__ import annotations

import importlib.metadata
import os
import pkgutil
import platform
from pathlib import Path

import torch

from . import _dispatch, _library, ops
from ._version import __version__

# Backends that may be missing, and the device that each is asked for here.
COLUMNS = {"cpu": "cpu", "cuda": "cuda", "triton": "cuda"}


def report() -> str:
    """The page that ``python -m asma_kernels.env`` prints.

    Example:
        >>> from asma_kernels import env
        >>> env.report().startswith("asma-kernels")
        True
    """
    facts = {
        "asma-kernels": f"{__version__} in {Path(__file__).parent}",
        "python": f"{platform.python_version()} on {platform.platform()}",
        "torch": f"{torch.__version__}, CUDA {torch.version.cuda or 'none'}",
        "numpy": _version("numpy"),
        "triton": f"{_version('triton')}{_setting('TRITON_INTERPRET')}",
        "built with": _built_with(),
        "instructions": _instructions(),
        "threads": f"{torch.get_num_threads()}{_setting('OMP_NUM_THREADS')}",
        "GPU": f"none: {_gpu_problem()}" if _gpu_problem() else f"{torch.cuda.get_device_name()}, sm_{_capability()}",
        "backend": f"{_dispatch._chosen}{_setting('ASMA_BACKEND')}",
    }
    lines = [f"{name:<14}{fact}" for name, fact in facts.items()]
    return "\n".join([*lines, "", *_table(), *_warnings()])


def op_names() -> list[str]:
    """Every op: an op's name is its file's name."""
    return sorted(module.name for module in pkgutil.iter_modules(ops.__path__) if not module.name.startswith("_"))


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _setting(variable: str) -> str:
    return f" ({variable}={os.environ[variable]})" if variable in os.environ else ""


def _built_with() -> str:
    built = _library.built_with()
    if not built:
        return "unknown: there is no _build.json, or it is damaged"
    cuda = f"CUDA {built['cuda']} for {built['cuda_archs']}" if built["cuda"] else f"no CUDA ({built['cuda_left_out']})"
    return f"torch {built['torch']}, {built['compiler']}, {cuda}"


def _instructions() -> str:
    built = _library.built_with().get("isas", "").split()
    products = ", products of bfloat16" if _library.multiplies_bf16() else ""
    return f"{_library.instruction_set()} of {', '.join(built) or 'none built'}{_setting('ASMA_ISA')}{products}"


def _gpu_problem() -> str:
    if torch.version.cuda is None:
        return "this torch was built without CUDA"
    return "" if torch.cuda.is_available() else "torch sees no CUDA device (no GPU, or no driver for it)"


def _capability() -> str:
    major, minor = torch.cuda.get_device_capability()
    return f"{major}{minor}"


def _problem(op: str, backend: str) -> str:
    device = COLUMNS[backend]
    no_gpu = _gpu_problem() if device == "cuda" else ""
    return _dispatch.problem(op, backend, device) or (no_gpu and f"there is a kernel, but no GPU: {no_gpu}")


def _table() -> list[str]:
    """One row an op, one column a backend: yes, or the number of the reason below."""
    names, reasons = op_names(), list[str]()
    width = max(map(len, ["op", *names])) + 2
    lines = ["op".ljust(width) + "".join(name.ljust(9) for name in [*COLUMNS, "reference"])]
    for op in names:
        cells = []
        for backend in COLUMNS:
            why = _problem(op, backend)
            if why and why not in reasons:
                reasons.append(why)
            cells.append(f"[{reasons.index(why) + 1}]" if why else "yes")
        lines.append(op.ljust(width) + "".join(cell.ljust(9) for cell in [*cells, "yes"]))
    return lines + [f"[{number}] {why}" for number, why in enumerate(reasons, 1)]


def _warnings() -> list[str]:
    wanted, granted = os.environ.get("ASMA_ISA"), _library.instruction_set()
    if wanted is None or wanted == granted or not _library.LOADED:
        return []
    built = _library.built_with().get("isas", "").split()
    why = "this processor does not have it" if wanted in built else f"built are {', '.join(built)}"
    return ["", f"warning: ASMA_ISA={wanted} was not granted ({why}); the kernels run with {granted}"]


if __name__ == "__main__":
    print(report())
