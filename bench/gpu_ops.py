"""`python -m bench.gpu_ops OUT.json`: each op's time on a GPU, replayed from a CUDA graph over buffers larger than L2.

Every backend is measured, the reference too, since `auto` runs what was fastest (bench/fastest.py). Peers are timed as
their users run them, one call after another without a graph, because they draw on the host; compiled peers too. A gate
compares results before anything is timed. The file is written anew after every row.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

import asma_kernels as ak
from asma_kernels import Skeleton, SparseGraph
from asma_kernels._dispatch import problem
from asma_kernels.nn import STGCNBlock

from . import peers

T, V, M = 50, 25, 2
CLIP_BYTES = 4 * 3 * T * V * M
REPLAYS, ROUNDS = 20, 9


@dataclass
class GpuWork:
    """A piece of work on inputs of its own, so that buffers can rotate."""

    op: str
    inputs: Callable[[int], tuple[torch.Tensor, ...]]
    """Of buffer i."""
    ours: Callable[..., torch.Tensor]
    eager: Callable[..., torch.Tensor]
    bytes: float
    """Read and written at least once by a call."""


def works(N: int, device: str) -> dict[str, GpuWork]:
    def clips(i: int) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator(device).manual_seed(i)
        x = torch.randn(N, 3, T, V, M, generator=generator, device=device)
        return x, torch.tensor([i, 0], device=device)

    def masked(x: torch.Tensor, rng: torch.Tensor) -> torch.Tensor:
        return ak.frame_drop(x, 10)[0]

    def energy_as_peers(x: torch.Tensor, rng: torch.Tensor) -> torch.Tensor:
        motion = torch.zeros_like(x)
        motion[:, :, :-1] = x[:, :, 1:] - x[:, :, :-1]
        return (motion**2).mean((1, 3, 4))

    turned = torch.tensor(peers.turn(2, 0.5), device=device)
    view_parameters = (0, [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], (0.0, 0.0, 0.5), True)
    frames = torch.cat([torch.arange(T // 6).flip(0), torch.arange(T)])[:T].to(device)  # the crop that starts at 0
    flip = torch.tensor(peers.FLIP, device=device)

    A = Skeleton.builtin("ntu25").partition("spatial").to(device)
    graph = SparseGraph.from_dense(A)
    weight = torch.randn(3 * 64, 64, 1, 1, device=device) / 8
    bias = torch.randn(3 * 64, device=device)
    ones = torch.ones_like(A)

    def features(i: int) -> tuple[torch.Tensor]:
        return (torch.randn(N, 64, 13, V, generator=torch.Generator(device).manual_seed(i), device=device),)

    def projections(i: int) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator(device).manual_seed(i)
        z1, z2 = torch.randn(2, N, 6144, generator=generator, device=device)
        return z1.requires_grad_(), z2.requires_grad_()

    block = STGCNBlock(64, 64, partitions=3).to(device)

    def block_as_peers(x: torch.Tensor) -> torch.Tensor:
        hidden = peers.graph_conv(x, block.gcn.conv.weight, block.gcn.conv.bias, A, ones)
        return functional.relu(block.tcn(hidden) + x)

    few = {
        "barlow_twins, D = 6144, forward and backward": GpuWork(
            "barlow_twins", projections, lambda z1, z2: slope(ak.barlow_twins(z1, z2), z1, z2),
            lambda z1, z2: slope(peers.barlow_twins(z1, z2), z1, z2), 6 * 4 * N * 6144,
        ),
        "stgcn_block 64->64, T=13, forward and backward": GpuWork(
            "stgcn_block", lambda i: (features(i)[0].requires_grad_(),),
            lambda x: slope(block(x, graph).sum(), x, *block.parameters()),
            lambda x: slope(block_as_peers(x).sum(), x, *block.parameters()), 14 * 4 * N * 13 * V * 64,
        ),
    }  # fmt: skip
    return (few if N <= 128 else {}) | {
        "motion_energy": GpuWork(
            "motion_energy", clips, lambda x, rng: ak.motion_energy(x), energy_as_peers, N * (CLIP_BYTES + 4 * T)
        ),
        "energy + frame mask + compaction": GpuWork(
            "frame_drop", clips, masked, lambda x, rng: peers.masked_frames(x, 10, list(range(T - 10))),
            N * CLIP_BYTES * (1 + (T - 10) / T),
        ),
        "view: crop, shear, rotations, flip": GpuWork(
            "skeleton_view", clips, lambda x, rng: ak.skeleton_view(x, frames, flip, turned),
            lambda x, rng: peers.view(x, *view_parameters), 2 * N * CLIP_BYTES,
        ),
        "graph_conv 64->64, T=13": GpuWork(
            "graph_conv", features, lambda x: ak.graph_conv(x, graph, weight, bias),
            lambda x: peers.graph_conv(x, weight, bias, A, ones), 4 * N * 13 * V * (64 + 64),
        ),
    }  # fmt: skip


def slope(loss: torch.Tensor, *leaves: torch.Tensor) -> torch.Tensor:
    """The gradients in all leaves are computed, by either side; the first one is compared."""
    return torch.autograd.grad(loss, leaves)[0]


def copy_bandwidth() -> float:
    """Bytes a second of a large copy on the device."""
    a = torch.empty(1 << 28, device="cuda")
    b = torch.empty_like(a)
    return 8 * a.numel() / seconds(lambda: b.copy_(a), 20)


def seconds(call: Callable[[], Any], calls: int) -> float:
    """Median time of one call, of several rounds of ``calls`` back to back."""
    call()
    found = []
    for _ in range(ROUNDS):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(calls):
            call()
        end.record()
        end.synchronize()
        found.append(begin.elapsed_time(end) / 1e3 / calls)
    return statistics.median(found)


def replayed(work: GpuWork, buffers: list[tuple[torch.Tensor, ...]]) -> float:
    """Time of one call, from a graph that calls on each buffer in turn."""
    for inputs in buffers[:2]:
        work.ours(*inputs)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kept = [work.ours(*inputs) for inputs in buffers]
    found = seconds(graph.replay, REPLAYS) / len(buffers)
    del kept
    return found


def empty_launch() -> float:
    """A launch that does next to nothing, replayed: what one kernel costs at least."""
    one = torch.zeros(1, device="cuda")
    graph = torch.cuda.CUDAGraph()
    one.add_(1)
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        for _ in range(50):
            one.add_(1)
    return seconds(graph.replay, REPLAYS) / 50


def measure(name: str, N: int, work: GpuWork, bandwidth: float) -> Iterator[dict[str, Any]]:
    """A row for each backend that has a kernel, and the reference; one that fails says so and leaves the others."""
    size = torch.cuda.get_device_properties(0).L2_cache_size
    count = max(2, min(64, int(2 * size / work.bytes) + 1))
    buffers = [work.inputs(i) for i in range(count)]
    faster = torch.compile(work.eager, dynamic=False)
    peer = {"eager": seconds(lambda: work.eager(*buffers[0]), 20), "compiled": seconds(lambda: faster(*buffers[0]), 20)}
    for backend in ("cuda", "triton", "reference"):
        if backend != "reference" and problem(work.op, backend, "cuda"):
            continue
        row = {"work": name, "op": work.op, "N": N, "backend": backend, "bytes": work.bytes, "buffers": count} | peer
        try:
            with ak.backend(backend):
                check(work, buffers[0])
                ours = replayed(work, buffers)
        except Exception as error:  # a kernel that cannot be compiled or differs is a result too
            print(f"{name}, N = {N}, {backend}: {error}", file=sys.stderr, flush=True)
            continue
        yield row | {"ours": ours, "share_of_copy": work.bytes / bandwidth / ours}


def check(work: GpuWork, inputs: tuple[torch.Tensor, ...]) -> None:
    """Ours and the peer's results agree, or an AssertionError."""
    actual, expected = work.ours(*inputs), work.eager(*inputs)
    scale = expected.abs().max()
    torch.testing.assert_close(actual / scale, expected / scale, rtol=1e-3, atol=1e-4)


def main() -> None:
    out = Path(sys.argv[1])
    results: dict[str, Any] = {"copy_bytes": copy_bandwidth(), "empty_launch": empty_launch(), "rows": []}
    for N in (128, 8192):
        for name, work in works(N, "cuda").items():
            for row in measure(name, N, work, results["copy_bytes"]):
                results["rows"].append(row)
                out.write_text(json.dumps(results, indent=1) + "\n")
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
