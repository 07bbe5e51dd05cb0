"""`python -m bench.gpu_ops OUT.json`: each op's time on a GPU, replayed from a CUDA graph over buffers larger than L2.

Peers are timed as their users run them, one call after another without a graph, because they draw on the host; compiled
peers too. A gate compares results before anything is timed. The file is written anew after every row.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import asma_kernels as ak
from asma_kernels import Skeleton, SparseGraph

from . import peers

T, V, M = 50, 25, 2
CLIP_BYTES = 4 * 3 * T * V * M
REPLAYS, ROUNDS = 20, 9


@dataclass
class GpuWork:
    """A piece of work on inputs of its own, so that buffers can rotate."""

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
        return ak.skeleton_view(x, frames=ak.frame_mask(ak.motion_energy(x), 10, "high"))

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

    return {
        "motion_energy": GpuWork(
            clips, lambda x, rng: ak.motion_energy(x), energy_as_peers, N * (CLIP_BYTES + 4 * T)
        ),
        "energy + frame mask + compaction": GpuWork(
            clips, masked, lambda x, rng: peers.masked_frames(x, 10, list(range(T - 10))),
            N * CLIP_BYTES * (1 + 2 * (T - 10) / T),
        ),
        "view: crop, shear, rotations, flip": GpuWork(
            clips, lambda x, rng: ak.skeleton_view(x, frames, flip, turned),
            lambda x, rng: peers.view(x, *view_parameters), 2 * N * CLIP_BYTES,
        ),
        "graph_conv 64->64, T=13": GpuWork(
            features, lambda x: ak.graph_conv(x, graph, weight, bias),
            lambda x: peers.graph_conv(x, weight, bias, A, ones), 4 * N * 13 * V * (64 + 64),
        ),
    }  # fmt: skip


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


def measure(name: str, N: int, work: GpuWork, bandwidth: float) -> dict[str, Any]:
    size = torch.cuda.get_device_properties(0).L2_cache_size
    count = max(2, min(64, int(2 * size / work.bytes) + 1))
    buffers = [work.inputs(i) for i in range(count)]
    check(work, buffers[0])
    ours = replayed(work, buffers)
    eager = seconds(lambda: work.eager(*buffers[0]), 20)
    faster = torch.compile(work.eager, dynamic=False)
    compiled = seconds(lambda: faster(*buffers[0]), 20)
    return {
        "work": name, "N": N, "ours": ours, "eager": eager, "compiled": compiled, "bytes": work.bytes,
        "share_of_copy": work.bytes / bandwidth / ours, "buffers": count,
    }  # fmt: skip


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
            with ak.backend("cuda"):
                results["rows"].append(measure(name, N, work, results["copy_bytes"]))
            out.write_text(json.dumps(results, indent=1) + "\n")
            print(json.dumps(results["rows"][-1]), flush=True)


if __name__ == "__main__":
    main()
