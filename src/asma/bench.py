"""Where the time of a pretraining step goes, held against what the machine can do at most."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch

from asma_kernels import Skeleton, barlow_twins

from . import parallel
from .config import PretrainConfig, need
from .data.feed import Rows
from .extras import Progress
from .machine import Limits, limits, peak_bytes, wait
from .models import Encoder
from .pretrain import Pretraining

__all__ = ["PARTS", "Measured", "Work", "bench", "staged_step", "work_of_step"]

PARTS = (
    "data", "views", "masks", "encoder, forward", "projector, forward", "loss, forward", "loss, backward",
    "projector, backward", "encoder, backward", "optimiser",
)  # fmt: skip
"""Of a step, in their order."""
WHOLE = "whole step"
WARM_UP = 2


class Work(NamedTuple):
    """What a part needs at least by its definition. A kernel may need fewer flops: a convolution has other forms."""

    moved: float
    """Bytes read and written."""
    flops: float = 0.0


@dataclass(frozen=True)
class Measured:
    """A step, and its parts one by one."""

    title: str
    clips: int
    """Of a step."""
    step: float
    """Seconds of a whole step, the median."""
    parts: dict[str, float]
    """Seconds of each part, the medians."""
    work: dict[str, Work]
    peak: int | None
    """Bytes of a step beyond models and clips; None where the system does not tell."""
    limits: Limits

    def least(self, part: str) -> float:
        """Seconds that a part needs at least by the measured limits."""
        return self.limits.seconds(*self.work[part])

    def table(self) -> str:
        """Each part, its share of the step, and the share of its time that the limits explain."""
        rows = [
            f"{name:<22}{1e3 * seconds:>10.2f} ms{seconds / self.step:>9.1%}{self.least(name) / seconds:>16.0%}"
            for name, seconds in self.parts.items()
        ]
        least = sum(map(self.least, self.parts))
        memory = "" if self.peak is None else f", {self.peak / 1e9:.2f} GB at most beyond models and clips"
        return "\n".join([
            self.title, "", f"{'part':<22}{'time':>13}{'share':>9}{'of the limit':>16}", *rows,
            f"{WHOLE:<22}{1e3 * self.step:>10.2f} ms{1:>9.0%}{least / self.step:>16.0%}", "",
            f"{self.clips / self.step:.1f} clips a second{memory}",
            f"limits: {self.limits.flops / 1e9:,.0f} GFLOP/s by a matrix product, "
            f"{self.limits.copy_bytes / 1e9:.1f} GB/s by a copy. Flops are those of the definitions; kernels that need "
            "fewer can be past the limit.",
        ])  # fmt: skip


class Clock:
    """Seconds of what is done under each name, until the device has done it."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        wait(self.device)
        begun = time.perf_counter()
        yield
        wait(self.device)
        self.seconds[name] += time.perf_counter() - begun


def staged_step(run: Pretraining, clock: Clock) -> torch.Tensor:
    """What ``Pretraining.train_step`` does, part by part: the same numbers, bit for bit, at the rate of its last step.

    The graph is cut where the parts meet, so that each one's backward is timed by itself.
    """
    config, views, encode = run.config, run.views, run.encoder.mean_feature
    with clock("data"):
        clips = run.feed.next()
    with clock("views"):
        anchor, spatial, temporal = (views.augment(clips) for _ in range(3))
    with clock("masks"):
        joints, temporal = views.kept_joints(clips), views.kept_frames(temporal)
    with torch.autocast(run.device.type, torch.bfloat16, enabled=config.bfloat16):
        with clock("encoder, forward"):
            features = encode(anchor), encode(spatial, joints), encode(temporal)
        given = [feature.detach().requires_grad_() for feature in features]
        with clock("projector, forward"):
            projected = run.projector.of_views(given)
    ends = [z.detach().requires_grad_() for z in projected]
    with clock("loss, forward"):
        lambd = config.projector.lambd
        loss = barlow_twins(ends[0], ends[2], lambd) + barlow_twins(ends[0], ends[1], lambd)
    with clock("optimiser"):
        run.optimiser.zero_grad()
    with clock("loss, backward"):
        loss.backward()
    with clock("projector, backward"):
        torch.autograd.backward(projected, [end.grad for end in ends])
    with clock("encoder, backward"):
        torch.autograd.backward(features, [feature.grad for feature in given])
    with clock("optimiser"):
        run.optimiser.step()
    return loss.detach()


def work_of_step(run: Pretraining) -> dict[str, Work]:
    """What each part needs at least; numbers of features and projections have the size of autocast's type."""
    config, encoder = run.config, run.encoder
    _, channels, T, V, M = run.feed.source.shape
    N, size = config.optimiser.batch, 2 if config.bfloat16 else 4
    masks, width = config.masks, config.projector.width
    clips = 4.0 * N * channels * T * V * M
    kept = T - masks.frames - masks.extra_frames
    seen = ((T, V), (T, V - masks.joints), (kept, V))
    passes = [_encoder(encoder, frames, joints, N * M, size) for frames, joints in seen]
    forward, backward = (Work(*map(sum, zip(*found, strict=True))) for found in zip(*passes, strict=True))
    weights = [layer.numel() for layer in run.projector.parameters() if layer.dim() == 2]
    rows = 3 * N * (config.encoder.channels[-1] + width * (2 * len(weights) - 1)) * size
    product = N * width * min(N, width)
    learnt = sum(parameter.numel() for parameter in run.trained.parameters())
    return {
        "data": Work(2 * clips),
        "views": Work(6 * clips, 3 * 15 * clips / 4),
        "masks": Work(clips * (1 + kept / T), 3 * clips / 4),
        "encoder, forward": forward,
        "projector, forward": Work(4 * sum(weights) + rows, 2 * 3 * N * sum(weights)),
        # Two losses: two symmetric Gram matrices each, or one matrix of columns.
        "loss, forward": Work(4 * N * width * size, 2 * 2 * product),
        "loss, backward": Work(8 * N * width * size, 2 * 4 * product),
        "projector, backward": Work(8 * sum(weights) + 2 * rows, 2 * 2 * 3 * N * sum(weights)),
        "encoder, backward": backward,
        # Parameter, gradient and two moments are read, all but the gradient written.
        "optimiser": Work(7 * 4 * learnt),
    }  # fmt: skip


def _encoder(encoder: Encoder, frames: int, joints: int, persons: int, size: int) -> tuple[Work, Work]:
    """Forward and backward of one view. Each pass over a block's input and over what its norms take counts."""
    config, share = encoder.config, joints / encoder.A.shape[1]
    edges = float(encoder.A.count_nonzero()) * share
    targets = float((encoder.A != 0).any(dim=1).sum()) * share  # pairs of partition and target with an edge
    flops = ahead = back = 0.0
    C = config.in_channels
    for place, (D, stride) in enumerate(zip(config.channels, config.strides, strict=True)):
        after = (frames - 1) // stride + 1
        flops += 2 * frames * (edges * C + targets * C * D) + 2 * after * joints * config.kernel * D * D
        if place and (C != D or stride > 1):
            flops += 2 * after * joints * C * D
        # y1 is written and read, y2 too, the output written; x is read for both ways. Backwards x and its gradient,
        # y1 twice, y2 twice, the output and its gradient.
        ahead += joints * (2 * C * frames + 2 * D * frames + 3 * D * after)
        back += joints * (3 * C * frames + 2 * D * frames + 4 * D * after)
        C, frames = D, after
    return Work(persons * size * ahead, persons * flops), Work(persons * size * back, 2 * persons * flops)


def bench(
    config: PretrainConfig,
    clips: torch.Tensor | Rows,
    skeleton: Skeleton,
    steps: int = 5,
) -> Measured:
    """Time some steps of a pretraining run, whole ones and part by part in turn, after a warm-up. Nothing is written.

    Args:
        config: the run.
        clips: as ``pretrain`` takes them.
        skeleton: of their joints.
        steps: how many are timed, at least 1.

    Raises:
        ValueError: steps is less than 1, config and data do not fit, or this is one of several processes.
    """
    need(steps >= 1, "steps must be at least 1", steps)
    need(not parallel.started(), "bench measures one process: start it without torchrun", "several")
    run = Pretraining(config, clips, skeleton)
    most = limits(run.device, torch.bfloat16 if config.bfloat16 else torch.float32)
    run.encoder.train()
    found = []
    for _ in Progress(range(WARM_UP + steps), "steps"):
        clock = Clock(run.device)
        with clock(WHOLE):
            run.train_step()
        staged_step(run, clock)
        found.append(clock.seconds)
    medians = {name: statistics.median(seconds[name] for seconds in found[WARM_UP:]) for name in (WHOLE, *PARTS)}
    peak = peak_bytes(run.train_step, run.device)
    run.feed.close()
    batch = config.optimiser.batch
    title = (
        f"one step of pretraining: {batch} clips of {tuple(run.feed.source.shape[1:])}, "
        f"{'bfloat16' if config.bfloat16 else 'float32'} on {run.device}, "
        + (f"threads: {torch.get_num_threads()}, " if run.device.type == "cpu" else "")
        + f"torch {torch.__version__}, medians of {steps}"
    )
    return Measured(title, batch, medians.pop(WHOLE), medians, work_of_step(run), peak, most)
