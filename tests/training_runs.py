"""Small runs in processes of their own, for tests that kill them. Nothing here learns when it is imported."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import classifiers
import safetensors.torch  # noqa: F401
import torch
import torch._dynamo  # what a first step imports, imported once for all processes

from asma import loop
from asma.config import (
    DataConfig,
    EncoderConfig,
    MaskConfig,
    OptimiserConfig,
    PretrainConfig,
    ProjectorConfig,
    ViewConfig,
)  # fmt: skip
from asma.distill import DistillConfig, distill
from asma.finetune import FinetuneConfig, finetune
from asma.pretrain import pretrain
from asma_kernels import Skeleton

KINDS = ("pretrain", "finetune", "distill")
STEPS = 12
OPTIMISER = OptimiserConfig(lr=5e-3, batch=8, steps=STEPS, warmup=0.25)
CONFIG = PretrainConfig(
    data=DataConfig(frames=12),
    views=ViewConfig(shear=0.3),
    masks=MaskConfig(joints=4, frames=3, extra_frames=2),
    encoder=EncoderConfig(channels=(4, 8), strides=(1, 2), kernel=3, dropout=0.3),
    projector=ProjectorConfig(width=16, lambd=5e-3),
    optimiser=OPTIMISER,
    log_every=2,
    checkpoint_every=2,
)


def clips() -> torch.Tensor:
    """Random walks, each clip with a direction of its own."""
    generator = torch.Generator().manual_seed(1)
    steps = torch.randn(30, 3, 12, 20, 1, generator=generator) * 0.05
    return (steps + torch.randn(30, 3, 1, 20, 1, generator=generator) * 0.1).cumsum(2)


def train(kind: str, folder: Path, resume: bool = False) -> None:
    torch.set_num_threads(1)
    common: dict[str, Any] = {"optimiser": OPTIMISER, "log_every": 2, "checkpoint_every": 2}
    taught = (classifiers.X, classifiers.LABELS)
    if kind == "pretrain":
        pretrain(CONFIG, clips(), Skeleton.builtin("ucla20"), folder, resume)
    elif kind == "finetune":
        finetune(classifiers.untrained_teacher(), *taught, FinetuneConfig(**common), folder, resume)
    else:
        teacher = classifiers.untrained_teacher()
        distill(teacher, taught[0], DistillConfig(**common), folder, resume, taught[1])


def train_and_die(kind: str, folder: Path, resume: bool, call: int) -> None:
    """SIGKILL at a call, counted from 0, of whatever puts files on the disk or renames them."""
    calls = iter(range(10**6))

    def deadly(function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any) -> Any:
            if next(calls) == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments)

        return called

    os.replace, os.fsync = deadly(os.replace), deadly(os.fsync)
    save = torch.save

    def half(content: Any, path: Path) -> None:
        save(content, path)
        if next(calls) == call:
            os.truncate(path, path.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    torch.save = half
    train(kind, folder, resume)


def train_on_a_full_disk(kind: str, folder: Path, said: Path) -> None:
    """From the fourth checkpoint on no file can have more than 9000 bytes; what is said of it goes into a file."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    rotate, calls = loop.rotate_checkpoint, iter(range(10**6))

    def rotate_on_little_room(*arguments: Any) -> None:
        if next(calls) == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (9000, resource.RLIM_INFINITY))
        rotate(*arguments)

    loop.rotate_checkpoint = rotate_on_little_room  # type: ignore[assignment]
    try:
        train(kind, folder)
    except OSError as error:
        said.write_text(str(error))
        os._exit(2)


def train_slowly(kind: str, folder: Path, resume: bool, seconds: float) -> None:
    """So many seconds a step."""
    add = loop._Log.add

    def slower(log: Any, losses: Any) -> None:
        add(log, losses)
        time.sleep(seconds)

    loop._Log.add = slower  # type: ignore[method-assign]
    try:
        train(kind, folder, resume)
    except loop.TerminatedError as error:
        print(error, file=sys.stderr, flush=True)
        os._exit(143)
