"""`python -m bench.gpu_step OUT.json`: the encoder, ASMa's training step and an epoch of NTU-60's size on a GPU.

The peer is PSTL's step as it writes it (bench/pstl.py). A gate compares features before anything is timed. The file is
written anew after every row, so that a crash leaves the rows before it.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import asma_kernels as ak
from asma.config import PRESETS, PretrainConfig
from asma.models import Encoder, projector
from asma.pretrain import Pretraining
from asma_kernels import Skeleton

from . import pstl

SKELETON = Skeleton.builtin("ntu25")
CLIPS, EPOCHS, ENCODERS = 40_091, 150, 2
"""NTU RGB+D 60's training clips of X-Sub, and the paper's pretraining."""
ENCODER_FLOPS = 2 * 276e6 * 3
"""Of a person's 50 frames, forward and backward; docs/performance.md counts them."""
PROJECTOR_FLOPS = 2 * (256 * 6144 + 2 * 6144 * 6144) * 3


def config(device: str) -> PretrainConfig:
    """The paper's setting; dropout as it is, joints drawn on the device."""
    return replace(PRESETS["asma"], device=device, bfloat16=True, cuda_graph=device == "cuda")


def seconds(call: Callable[[], Any], device: str, calls: int) -> float:
    """Median time of a call."""
    found = []
    for _ in range(calls + 3):
        _wait(device)
        begun = time.perf_counter()
        call()
        _wait(device)
        found.append(time.perf_counter() - begun)
    return statistics.median(found[3:])


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def matrix_peak(device: str, size: int = 8192) -> float:
    """bfloat16 flops a second of a large product."""
    a = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    return 2 * size**3 / seconds(lambda: a @ a, device, 10)


@contextlib.contextmanager
def fused(device: str) -> Iterator[None]:
    """Our kernels where there is a GPU; elsewhere only the plumbing is run."""
    with ak.backend("triton") if device == "cuda" else contextlib.nullcontext():
        yield


def encoder_row(settings: PretrainConfig, clips: int, calls: int) -> dict[str, Any]:
    """Forward and backward of a batch."""
    device = settings.device
    made = Encoder(replace(settings.encoder, dropout=0.0), SKELETON).to(device)
    x = torch.randn(clips, 3, 50, 25, 2, device=device)

    def backward(feature: Callable[[torch.Tensor], torch.Tensor], bfloat16: bool) -> None:
        with torch.autocast(device, torch.bfloat16, enabled=bfloat16):
            loss = feature(x).square().mean()
        made.zero_grad()
        loss.backward()

    peer = torch.compile(lambda x: pstl.feature(made, x))
    with fused(device):
        check(made, x)
        ours = seconds(captured(lambda: backward(made.mean_feature, True), device), device, calls)
    return {
        "work": f"encoder, forward and backward, {2 * clips} persons", "ours": ours,
        "eager": seconds(lambda: backward(lambda x: pstl.feature(made, x), False), device, calls),
        "compiled": seconds(lambda: backward(peer, True), device, calls),
        "flops": 2 * clips * ENCODER_FLOPS, "target": "3x eager float32, 1.5x compiled bfloat16",
    }  # fmt: skip


def captured(call: Callable[[], None], device: str) -> Callable[[], None]:
    """The replay of a CUDA graph of the call."""
    if device != "cuda":
        return call
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def check(encoder: Encoder, x: torch.Tensor) -> None:
    """Our features and the peer's agree, or an AssertionError."""
    with torch.no_grad():
        actual, expected = encoder.mean_feature(x), pstl.feature(encoder, x)
    torch.testing.assert_close(actual, expected, rtol=1e-2, atol=1e-2 * float(expected.abs().max()))


def step_row(settings: PretrainConfig, calls: int) -> dict[str, Any]:
    """The whole training step."""
    device, batch = settings.device, settings.optimiser.batch
    clips = torch.randn(4 * batch, 3, 50, 25, 2)
    with fused(device):
        run = Pretraining(settings, clips, SKELETON)
        run.encoder.train()
        ours = seconds(run.train_step, device, calls)
    encoder = Encoder(settings.encoder, SKELETON).to(device)
    head = projector(settings.encoder.channels[-1], settings.projector).to(device)
    optimiser = torch.optim.Adam([*encoder.parameters(), *head.parameters()], 5e-3, weight_decay=1e-5)
    part = clips[:batch].to(device)
    return {
        "work": f"ASMa step, batch {batch}", "ours": ours,
        "eager": seconds(lambda: pstl.step(part, encoder, head, optimiser), device, calls), "compiled": None,
        "flops": batch * 3 * (2 * ENCODER_FLOPS + PROJECTOR_FLOPS), "target": "8x PSTL's step, 40% of the matrix peak",
    }  # fmt: skip


def epoch_row(settings: PretrainConfig, clips: int) -> dict[str, Any]:
    """Pretraining of both encoders, from one epoch of one of them."""
    device = settings.device
    with fused(device):
        run = Pretraining(settings, torch.randn(clips, 3, 50, 25, 2), SKELETON)
        run.encoder.train()
        for _ in range(4):
            run.train_step()
        _wait(device)
        begun = time.perf_counter()
        for _ in range(clips // settings.optimiser.batch):
            run.train_step()
        _wait(device)
    epoch = time.perf_counter() - begun
    return {
        "work": f"pretraining, {clips} clips, both encoders, {EPOCHS} epochs", "ours": epoch * EPOCHS * ENCODERS,
        "eager": None, "compiled": None, "flops": None, "target": "8 minutes",
    }  # fmt: skip


def main() -> None:
    out = Path(sys.argv[1])
    results: dict[str, Any] = {"matrix_flops": matrix_peak("cuda"), "rows": []}
    for row in (
        lambda: epoch_row(config("cuda"), CLIPS),
        lambda: step_row(config("cuda"), 30),
        lambda: encoder_row(config("cuda"), 128, 30),
    ):
        results["rows"].append(row())
        out.write_text(json.dumps(results, indent=1) + "\n")
        print(json.dumps(results["rows"][-1]), flush=True)


if __name__ == "__main__":
    main()
