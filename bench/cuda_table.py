"""``python -m bench.cuda_table``: what every CUDA kernel asks of a GPU, into docs/cuda_kernels.md.

Needs nvcc, and no GPU.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path
from typing import NamedTuple

import torch

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "cuda_kernels.md"
ARCHITECTURES = (80, 90, 100)
SHARED_LIMIT = 48 * 1024
"""Bytes that a block may declare statically, on every architecture."""
HEAD = """# What the CUDA kernels ask of a GPU

Made by `python -m bench.cuda_table` with nvcc {version}: compiled, not run. A kernel is compiled for several dtypes and
sizes; of these instances the largest figures: registers of a thread / bytes of shared memory of a block / bytes of
stack and of spilled registers of a thread. tests/test_cuda_compile.py fails where a kernel has a stack or a spill, asks
for more than 48 KB, or is missing here. It does not compare numbers of registers: every compiler version has its own.

| kernel | instances | {columns} |
|---|---|---|---|---|
"""


class Usage(NamedTuple):
    """One instance of a kernel on one architecture, as ptxas prints it."""

    kernel: str
    arch: int
    registers: int
    shared: int
    stack: int


def nvcc() -> str | None:
    return shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")


def build(folder: Path) -> str:
    """Build the CUDA half with CMakeLists.txt's own flags and architectures; what the build printed."""
    tools = os.environ | {"PATH": sysconfig.get_path("scripts") + os.pathsep + os.environ["PATH"]}
    configure: list[str | Path] = ["cmake", "-G", "Ninja", "-S", ROOT, "-B", folder, "-DASMA_CUDA=ON"]
    configure += [f"-DCMAKE_CUDA_COMPILER={nvcc()}", f"-DASMA_TORCH_DIR={Path(torch.__file__).parent}"]
    subprocess.run(configure, check=True, capture_output=True, env=tools)
    command: list[str | Path] = ["cmake", "--build", folder, "--target", "asma_cuda"]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=tools).stdout


def usages(printed: str) -> list[Usage]:
    """Every kernel that ``build`` compiled."""
    pattern = (
        r"Compiling entry function '(\w+)' for 'sm_(\d+)'.*?"
        r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads.*?"
        r"Used (\d+) registers(.*?)\n"
    )
    found = []
    for name, arch, stack, stores, loads, registers, rest in re.findall(pattern, printed, re.DOTALL):
        # Mangled names hold each part after its length, maybe behind another number: ...e4820motion_energy_kernelI...
        parts = re.findall(r"(?=(\d{1,2})([a-z]\w*?_kernel))", name)
        kernel = min((part for length, part in parts if len(part) == int(length)), key=len)
        shared = sum(int(size) for size in re.findall(r"(\d+) bytes smem", rest))
        found.append(Usage(kernel, int(arch), int(registers), shared, int(stack) + int(stores) + int(loads)))
    return found


def page(rows: list[Usage], version: str) -> str:
    """docs/cuda_kernels.md."""
    lines = []
    for kernel in sorted({row.kernel for row in rows}):
        cells = []
        for arch in ARCHITECTURES:
            of_arch = [row for row in rows if (row.kernel, row.arch) == (kernel, arch)]
            cells.append(" / ".join(str(max(row[place] for row in of_arch)) for place in (2, 3, 4)))
        lines.append(f"| {kernel} | {len(of_arch)} | {' | '.join(cells)} |\n")
    columns = " | ".join(f"sm_{arch}" for arch in ARCHITECTURES)
    return HEAD.format(version=version, columns=columns) + "".join(lines)


def main() -> None:
    compiler = nvcc()
    if compiler is None:
        raise SystemExit("cuda_table: nvcc was not found; install the CUDA toolkit or put its bin folder on the PATH")
    told = subprocess.run([compiler, "--version"], check=True, capture_output=True, text=True).stdout
    with tempfile.TemporaryDirectory() as folder:
        rows = usages(build(Path(folder)))
    PAGE.write_text(page(rows, re.findall(r"release ([\d.]+)", told)[0]))


if __name__ == "__main__":
    main()
