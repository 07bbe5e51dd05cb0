"""Builds the CUDA half for the CPU, the very sources of csrc/cuda, by the headers of tests/cuda_on_cpu."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
HERE = ROOT / "tests/cuda_on_cpu"
COMPILER = os.environ.get("CXX", "g++")
TORCH = Path(torch.__file__).parent
FILES = sorted(path.stem for path in (ROOT / "csrc/cuda").glob("*.cu") if path.stem != "error")
OPS = [name for name in FILES if (ROOT / f"csrc/cuda/bind/{name}.cpp").exists()]  # the others are second files of ops


def run(*command: object) -> None:
    found = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if found.returncode:
        raise RuntimeError(f"{command[0]} failed on {command[-1]}:\n{found.stderr}")


def as_cpp(files: Sequence[str], header: str) -> list[object]:
    """Arguments that compile kernel files as C++, with an emulation's header before each."""
    kernels = [ROOT / f"csrc/cuda/{name}.cu" for name in files]
    return ["-std=c++20", "-include", HERE / header, "-x", "c++", *kernels, "-x", "none"]


def build(folder: Path) -> Path:
    """A library that registers every CUDA op as torch.ops.asma_emulated.<op>, for CPU tensors."""
    names = ["-DASMA_LIBRARY=asma_emulated", "-DASMA_CUDA_KEY=CPU", "-DTORCH_TARGET_VERSION=0x020a000000000000"]
    checks = ["-fsanitize=undefined", "-fno-sanitize-recover=all"]

    def kernel(name: str) -> Path:
        made = folder / f"{name}.o"
        run(COMPILER, "-O1", "-fPIC", *checks, *as_cpp([name], "fibers.h"), "-c", "-o", made)
        return made

    def binding(source: Path) -> Path:
        made = folder / f"bind_{source.stem}.o"
        run(COMPILER, "-std=c++20", "-O1", "-fPIC", *names, "-I", TORCH / "include", "-c", source, "-o", made)
        return made

    bindings = [ROOT / f"csrc/cuda/bind/{op}.cpp" for op in OPS] + [ROOT / "csrc/schema.cpp", HERE / "device.cpp"]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = [*pool.map(kernel, FILES), *pool.map(binding, bindings)]
    library = folder / "libasma_emulated.so"
    run(COMPILER, "-shared", "-fsanitize=undefined", *objects, TORCH / "lib/libtorch_cpu.so", "-o", library)
    return library


def races(op: str, folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Run an op's small case with a thread for each CUDA thread, under ThreadSanitizer."""
    program = folder / op
    files = [name for name in FILES if name == op or (name not in OPS and name.startswith(f"{op}_"))]
    run(
        COMPILER, "-O1", "-g", "-fsanitize=thread", "-pthread", *flags, *as_cpp(files, "threads.h"),
        HERE / f"races/{op}.cpp", "-o", program,
    )  # fmt: skip
    return subprocess.run([program], capture_output=True, text=True)
