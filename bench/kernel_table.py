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
from asma_kernels.triton import _batch_norm, _temporal_conv, _temporal_conv_backward, graph_conv

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
        view, shared = x.new_zeros(128, 3, 30, 25, 2), (True, True, False)
        yield f"gather, {name}", partial(op.skeleton_view_backward, view, None, 50, 25, frames, None, None, *shared)
        yield f"affine, {name}", partial(op.skeleton_view_backward, view, x, 50, 25, frames, None, matrix[0], *shared)
        score = torch.zeros(128, 750, dtype=dtype)
        yield f"drawn, {name}", partial(op.token_mask, score, 75, rng, 0.8, None)
        yield f"given, {name}", partial(op.token_mask, score, 75, None, 0.8, score.to(matrix.dtype))
        yield f"T = 50, {name}", partial(op.frame_mask, x[:, 0, :, 0, 0], 10, "high", 10, rng, False)
        yield f"T = 50, {name}", partial(op.frame_drop, x, 10, "high", 10, rng, False, 2.0, 1, "zero_last", None)
    options, grad = ("frame_joint", 1.5, 2, "copy_first", lengths), x.new_zeros(shapes["frame_joint"])
    yield "p = 1.5, copy_first, lengths, float64", partial(op.motion_energy, x, *options)
    yield "p = 1.5, copy_first, lengths, float64", partial(op.motion_energy_backward, grad, x, *options)
    yield "T = 1000, float32", partial(op.frame_mask, torch.zeros(2, 1000), 10, "high", 10, rng, False)
    long = torch.zeros(2, 3, 1000, 25, 2)
    options = ("copy_first", lengths[:2])
    yield "T = 1000, p = 1.5, float32", partial(op.frame_drop, long, 10, "low", 10, rng, True, 1.5, 2, *options)
    for dtype, (N, D) in itertools.product((torch.float32, torch.bfloat16, torch.float64), ((128, 2048), (2048, 128))):
        z = torch.zeros(N, D, dtype=dtype)
        name = f"{'N < D' if N < D else 'N >= D'}, {str(dtype).removeprefix('torch.')}"
        yield name, partial(op.barlow_twins, z, z, 2e-4, 1e-5)
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        grad, products = torch.ones((), dtype=wide), z.new_empty((2 if N < D else 1, 128, 128), dtype=wide)
        statistics = torch.zeros(5, D, dtype=torch.float64)
        yield name, partial(op.barlow_twins_backward, grad, z, z, statistics, products, 2e-4, 1e-5)
    flip, angles = torch.arange(25), (0.5, 0.02)
    yield "", partial(op.view_draw, rng, 128, 50, 8, 1.0, *angles, flip, 2**31, True, True)
    yield "without flip", partial(op.view_draw, rng, 128, 50, 8, 1.0, *angles, None, 2**31, False, False)
    for mode, V in itertools.product(("fixed", "tokens", "deterministic"), (25, 133)):
        yield f"{mode}, V = {V}", partial(op.joint_mask, torch.ones(V, dtype=torch.int64), 8, 128, rng, mode, False)
    yield from graph_conv_works()
    yield from block_works()


def graph_conv_works() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Coordinates as they come, a layer's features channels-last, and joints of each clip's own with an edge list."""
    op, N, T, K, V = torch.ops.asma_triton, 2, 10, 3, 25
    edges, joints = torch.zeros(3, 73, dtype=torch.int64), torch.zeros(N, 17, dtype=torch.int64)
    kinds = {
        "3 to 64": (3, torch.contiguous_format, None, None),
        "64 to 64, channels-last": (64, torch.channels_last, None, None),
        "64 to 64, own joints": (64, torch.contiguous_format, edges, joints),
    }
    of = {torch.bfloat16: list(kinds), torch.float32: list(kinds), torch.float64: list(kinds)[1:2]}
    for dtype, kind in ((dtype, kind) for dtype, some in of.items() for kind in some):
        C, layout, edges_, joints_ = kinds[kind]
        J, wide = V if joints_ is None else 17, torch.float64 if dtype == torch.float64 else torch.float32
        x, grad = (torch.zeros(N, width, T, J, dtype=dtype).to(memory_format=layout) for width in (C, 64))
        values = torch.zeros(K, V, V, dtype=wide) if edges_ is None else torch.zeros(73, dtype=wide)
        weight, bias = torch.zeros(K * 64, C, dtype=wide), torch.zeros(K * 64, dtype=wide)
        arguments = (x, values, edges_, K, V, V, weight, bias, False, joints_)
        name = f"{kind}, {str(dtype).removeprefix('torch.')}"
        yield name, partial(op.graph_conv, *arguments)
        yield f"{name}, backward", partial(op.graph_conv_backward, grad, *arguments, True, True, True, True)
        if layout == torch.channels_last:
            P = graph_conv.programs(x, V)
            parts = {"partials": torch.zeros(2, P, 64, dtype=wide), "counts": torch.zeros(P, dtype=wide)}
            yield f"{name}, statistics", partial(graph_conv.aggregate, *arguments, **parts)


def block_works() -> Iterator[tuple[str, Callable[[], Any]]]:
    """The kernels of an ST-GCN block beside its graph convolution: its narrowest and widest convolution, a shortcut."""
    N, V, rng, eps = 256, 25, torch.tensor([1, 2]), 1e-5
    sizes = ((16, 16, 50, 9, 1), (64, 256, 13, 9, 1), (16, 32, 50, 1, 2))
    for dtype, (C, D, T, taps, stride) in itertools.product((torch.float32, torch.bfloat16), sizes):
        T_out = _temporal_conv.frames_out(T, taps, stride)
        x, y = (torch.zeros(N, frames, V, width, dtype=dtype) for frames, width in ((T, C), (T_out, D)))
        x, y = x.permute(0, 3, 1, 2), y.permute(0, 3, 1, 2)
        weight, c, d = torch.zeros(D, C, taps, 1), torch.zeros(C), torch.zeros(D)
        P = N * _temporal_conv.row_blocks(T_out, V)
        parts = {"partials": torch.zeros(2, P, D), "counts": torch.zeros(P)}
        norm = {} if taps == 1 else {"scale": c, "shift": c}
        moments = {} if taps == 1 else {"mean": c, "rstd": c}
        name = f"{C} to {D}, {taps} taps, {str(dtype).removeprefix('torch.')}"
        conv = partial(_temporal_conv.temporal_conv, x, weight, d, stride)
        yield name, partial(conv, **norm, **parts)
        yield f"{name}, folded", partial(conv, residual=y, relu=True)
        yield name, partial(_temporal_conv.temporal_conv_input_gradient, y, weight, stride, x, **norm, **moments)
        yield name, partial(_temporal_conv_backward.temporal_conv_weight_gradient, y, x, stride, taps, **norm)

        statistics, sums = torch.zeros(5, D), torch.zeros(4, D)
        name = f"D = {D}, {str(dtype).removeprefix('torch.')}"
        yield name, partial(_batch_norm.finish_statistics, *parts.values(), d, d, eps, statistics)
        yield name, partial(_batch_norm.norm_residual_relu, y, d, d, y, d, d, 0.5, rng)
        yield name, partial(_batch_norm.norm_residual_relu_sums, y, y, y, d, d, 0.5, rng, y, d, d)
        yield name, partial(_batch_norm.norm_residual_relu_backward, y, y, y, statistics, sums, 0.5, rng, y, statistics)
        yield f"{name}, norm alone", partial(_batch_norm.norm_backward, y, y, statistics, sums)


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
