"""``python -m bench.kernel_table``: what every Triton kernel asks of a GPU, into docs/kernels.md. Needs no GPU.

The kernels are compiled by their own host code, launched on CPU tensors: so with the types, alignments and launch
configuration that a GPU would see.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

import asma_kernels  # noqa: F401  # declares torch.ops.asma_triton

PAGE = Path(__file__).parents[1] / "docs" / "kernels.md"
SHARED_LIMIT = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024}
"""Bytes of shared memory that a block may have, by architecture."""
HEAD = """# What the Triton kernels ask of a GPU

Made by `python -m bench.kernel_table` with triton {version}: compiled, not run. Registers of a thread / bytes of shared
memory of a block (from sm_90 on with the 1024 that the driver takes) / bytes of stack of a thread, where spilled
registers go too. tests/test_triton.py fails where a kernel has a stack, asks for more shared memory than the
architecture has, or is missing here. It does not compare numbers of registers: every compiler version has its own.

| kernel | variant | {columns} |
|---|---|---|---|---|
"""
OBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"

Row = dict[str, Any]


def works() -> Iterator[tuple[str, Callable[[], Any]]]:
    """(variant, launch) of every kernel, in the kinds that differ in what they ask of a GPU."""
    op = torch.ops.asma_triton
    rng, lengths, frames, joints = torch.tensor([1, 2]), torch.full((128,), 50), torch.arange(30), torch.arange(15)
    shapes = {"frame": (128, 50), "joint": (128, 25), "frame_joint": (128, 50, 25)}

    yield "", lambda: op.philox(rng, 128, 48)
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        name = str(dtype).removeprefix("torch.")
        x = torch.zeros(128, 3, 50, 25, 2, dtype=dtype)
        for reduce, shape in shapes.items():
            options, grad = (reduce, 2.0, 1, "zero_last", None), x.new_zeros(shape)
            yield f"{reduce}, {name}", partial(op.motion_energy, x, *options)
            yield f"{reduce}, {name}", partial(op.motion_energy_backward, grad, x, *options)
        matrix = torch.zeros(128, 3, 3, dtype=torch.float64 if dtype == torch.float64 else torch.float32)
        yield f"gather, {name}", partial(op.skeleton_view, x, frames, joints, None, None)
        yield f"affine, {name}", partial(op.skeleton_view, x, frames, joints, matrix, matrix[0, 0])
        yield f"T = 50, {name}", partial(op.frame_mask, x[:, 0, :, 0, 0], 10, "high", 10, rng, False)
    options, grad = ("frame_joint", 1.5, 2, "copy_first", lengths), x.new_zeros(shapes["frame_joint"])
    yield "p = 1.5, copy_first, lengths, float64", partial(op.motion_energy, x, *options)
    yield "p = 1.5, copy_first, lengths, float64", partial(op.motion_energy_backward, grad, x, *options)
    yield "T = 1000, float32", partial(op.frame_mask, torch.zeros(2, 1000), 10, "high", 10, rng, False)
    for mode, V in itertools.product(("fixed", "tokens", "deterministic"), (25, 133)):
        yield f"{mode}, V = {V}", partial(op.joint_mask, torch.ones(V, dtype=torch.int64), 8, 128, rng, mode, False)


@contextlib.contextmanager
def compiling(arch: int) -> Iterator[list[Any]]:
    """In the block a launch compiles for ``arch`` and launches nothing; the list gets what it compiled."""
    compiled: list[Any] = []
    run = JITFunction.run

    def compile_only(self: Any, *arguments: Any, grid: Any, warmup: bool, **options: Any) -> None:
        compiled.append(run(self, *arguments, grid=grid, warmup=True, **options))

    # The architecture serves as device number, because Triton keeps kernels by it.
    stand_in = SimpleNamespace(
        get_current_device=lambda: arch,
        get_current_stream=lambda device: 0,
        get_current_target=lambda: GPUTarget("cuda", arch, 32),
    )
    driver.set_active(stand_in)
    JITFunction.run = compile_only
    try:
        yield compiled
    finally:
        JITFunction.run = run


def usage(kernel: Any) -> Row:
    """Registers of a thread; bytes of stack, which holds what is spilled too, and of shared memory."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        command = [OBJDUMP, "--dump-resource-usage", file.name]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = {key: int(value) for key, value in re.findall(r"(REG|STACK|SHARED|LOCAL):(\d+)", told)}
    return {
        "registers": found["REG"],
        "stack": found["STACK"] + found["LOCAL"],
        "shared": found["SHARED"] + kernel.metadata.shared,
    }


def measure() -> list[Row]:
    """One row for each kernel, variant and architecture."""
    rows = []
    for arch in SHARED_LIMIT:
        for variant, launch in works():
            with compiling(arch) as compiled:
                launch()
            rows += [{"kernel": kernel.name, "variant": variant, "arch": arch} | usage(kernel) for kernel in compiled]
    return rows


def page(rows: list[Row]) -> str:
    """docs/kernels.md."""
    cells: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        cell = f"{row['registers']} / {row['shared']} / {row['stack']}"
        cells.setdefault((row["kernel"], row["variant"]), []).append(cell)
    return HEAD.format(version=triton.__version__, columns=" | ".join(f"sm_{arch}" for arch in SHARED_LIMIT)) + "".join(
        f"| {kernel} | {variant} | {' | '.join(row)} |\n" for (kernel, variant), row in sorted(cells.items())
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="What every Triton kernel asks of a GPU, into docs/kernels.md.")
    parser.add_argument("--json", action="store_true", help="print the rows instead of writing the page")
    options = parser.parse_args()
    if os.environ.get("TRITON_INTERPRET") == "1":
        raise SystemExit("kernel_table: TRITON_INTERPRET must not be 1, got 1; interpreted kernels are not compiled")
    rows = measure()
    if options.json:
        print(json.dumps(rows))
    else:
        PAGE.write_text(page(rows))


if __name__ == "__main__":
    main()
