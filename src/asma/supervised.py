"""Training by labels or by a teacher: the loop that distillation and fine-tuning share, with its files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from asma_kernels import Skeleton

from . import loop
from .checkpoint import CONFIG_FILE, checksum
from .classifier import CLASSIFIER_FILE
from .config import LATER, MaskConfig, OptimiserConfig, ViewConfig, need
from .data.feed import Feed, Rows
from .data.order import Batches
from .models import Encoder
from .pretrain import learning_rate
from .views import ThreeViews

__all__ = ["SupervisedConfig", "SupervisedRun", "checked_clips", "checked_labels", "examined"]

UNLABELLED = -1


@dataclass(frozen=True)
class SupervisedConfig:
    """What distillation and fine-tuning have in common."""

    optimiser: OptimiserConfig = field(default_factory=lambda: OptimiserConfig(lr=2e-3, batch=64, warmup=0.05))
    views: ViewConfig | None = field(default_factory=lambda: ViewConfig(shear=0.3, flip=0.0, per_clip=True))
    """How clips are augmented, anew in each step; None for not at all. Flips are off: they may change the class."""
    seed: int = 0
    device: str = "cpu"
    bfloat16: bool = False
    """Autocast the models to bfloat16; losses and weights stay float32."""
    recompute: bool = field(default=False, metadata=LATER)
    """Keep less of the encoders for the backward and compute them again there: less memory, more time, the same
    result."""
    deterministic: bool = field(default=False, metadata=LATER)
    """Take only algorithms that give the same bits in every run; on the CPU they do so anyway."""
    log_every: int = 20
    """Steps between two lines of metrics.jsonl."""
    checkpoint_every: int = 200
    """Steps between two checkpoints; the last step is always one."""

    def __post_init__(self) -> None:
        need(0 <= self.seed < 2**63, "seed must be in [0, 2^63)", self.seed)
        need(self.log_every >= 1, "log_every must be at least 1", self.log_every)
        need(self.checkpoint_every >= 1, "checkpoint_every must be at least 1", self.checkpoint_every)

    def feed(self, clips: torch.Tensor | Rows, device: torch.device) -> Feed:
        """The run's batches of clips (N, C, T, V, M); of all clips where they are fewer than a batch."""
        order = Batches(clips.shape[0], min(self.optimiser.batch, clips.shape[0]), self.seed, torch.device("cpu"))
        return Feed(clips, order, device)


class SupervisedRun:
    """All that changes during a run, and its folder: config.json, metrics.jsonl and checkpoint.pt."""

    def __init__(
        self,
        kind: str,
        config: SupervisedConfig,
        trained: nn.Module,
        losses: Callable[[torch.Tensor, torch.Tensor], dict[str, torch.Tensor]],
        feed: Feed,
        skeleton: Skeleton,
        inputs: int,
    ) -> None:
        """
        Args:
            kind: of the checkpoints.
            config: what to do.
            trained: everything that learns, in the mode in which it does.
            losses: clips of a batch (N, C, T, V, M), augmented, and their indices (N) -> losses by name; the one called
                "loss" is minimised, the others are written down.
            feed: of the training clips, of ``config.feed``.
            skeleton: of the V joints.
            inputs: checksum of all that the run depends on besides its config.

        Raises:
            ValueError: a flip that the skeleton does not know.
        """
        need(
            config.views is None or not config.views.flip or skeleton.flip_joints is not None,
            f"views.flip must be 0: the skeleton {skeleton.name} does not say which joints mirror which",
            config.views and config.views.flip,
        )
        self.kind, self.config, self.trained, self.losses, self.feed, self.inputs = (
            kind, config, trained, losses, feed, inputs,
        )  # fmt: skip
        self.device = device = feed.device
        settings = config.optimiser
        self.optimiser = torch.optim.Adam(trained.parameters(), settings.lr, weight_decay=settings.weight_decay)
        self.views = (
            None if config.views is None else ThreeViews(config.views, MaskConfig(), skeleton, config.seed, device)
        )
        for module in trained.modules():
            if isinstance(module, Encoder):
                module.recompute = config.recompute
        self.clips_per_step = min(settings.batch, len(feed))
        self.total_steps = settings.steps or settings.epochs * (len(feed) // self.clips_per_step)
        self.step = 0
        self.batch: dict[str, torch.Tensor] = {}

    def train(self, folder: Path, resume: bool) -> None:
        """Run to the end, or go on with the run that the folder holds, if it holds one; see ``loop.train``.

        Raises:
            FileExistsError: the folder holds a run and `resume` is off, or a classifier that no run in it made.
        """
        held = (folder / CONFIG_FILE).exists()
        if not held and (folder / CLASSIFIER_FILE).exists():
            raise FileExistsError(f"{folder} holds a teacher or student already: take another folder")
        try:
            loop.train(self, folder, resume and held)
        finally:
            self.feed.close()

    def train_step(self) -> dict[str, torch.Tensor]:
        """See ``loop.Run``."""
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.config.optimiser, self.step, self.total_steps)
        x, rows = self.feed.next(), self.feed.index
        self.batch = {"index": rows, "clips": x}
        if self.views is not None:
            x = self.views.augment(x)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.config.bfloat16):
            losses = self.losses(x, rows)
        self.optimiser.zero_grad()
        losses["loss"].backward()
        self.optimiser.step()
        self.step += 1
        return losses

    @property
    def rate(self) -> float:
        """The learning rate of the last step."""
        return float(self.optimiser.param_groups[0]["lr"])

    @property
    def waited(self) -> float:
        """See ``loop.Run``."""
        return self.feed.waited

    def state(self) -> dict[str, Any]:
        """See ``loop.Run``."""
        return {
            "inputs": self.inputs,
            "step": self.step,
            "trained": self.trained.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "batches": self.feed.state(),
            "views": None if self.views is None else self.views.state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """See ``loop.Run``."""
        if state["inputs"] != self.inputs:
            raise ValueError(
                "the run was begun with other clips, labels or models: put them back, or take another folder"
            )
        self.step = state["step"]
        self.trained.load_state_dict(state["trained"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.feed.load_state(state["batches"])
        if self.views is not None:
            self.views.load_state(state["views"])


def checked_clips(where: str, clips: torch.Tensor | Rows, encoder: Encoder) -> torch.Tensor | Rows:
    """Clips (N, C, T, V, M) of a shape and type that the encoder can learn from; their numbers are not looked at.

    Raises:
        ValueError: another shape or type, or fewer than two clips; the message begins with `where`.
    """
    found = clips if hasattr(clips, "rows") else torch.as_tensor(clips)
    C, V = encoder.config.in_channels, encoder.skeleton.num_joints
    shape, dtype = tuple(found.shape), getattr(found, "dtype", torch.float32)
    need(
        len(shape) == 5 and (shape[1], shape[3]) == (C, V) and shape[2] * shape[4] > 0 and dtype == torch.float32,
        f"{where}: clips must be (N, {C}, T, {V}, M) float32 with T and M at least 1",
        f"{dtype} of shape {shape}",
    )
    need(shape[0] >= 2, f"{where}: clips must be at least 2", shape[0])
    return found


def examined(where: str, feed: Feed) -> int:
    """The checksum of all clips; reads all of them.

    Raises:
        ValueError: coordinates that are not finite; the message begins with `where`.
    """
    found = place = 0
    for clips in feed.parts():
        broken = (~clips.isfinite()).flatten(1).any(dim=1).nonzero()
        if len(broken):
            raise ValueError(f"{where}: clips must be finite, clip {place + int(broken[0])} is not")
        found, place = checksum([clips], found), place + len(clips)
    return found


def checked_labels(where: str, labels: Any, clips: int, classes: int) -> torch.Tensor:
    """(N) int64 in [0, K), or -1 for a clip without a label.

    Raises:
        ValueError: another shape, type or range; the message begins with `where`.
    """
    rule = f"{where}: labels must be ({clips},) integers, one a clip"
    try:
        found = torch.as_tensor(labels).cpu()
    except (TypeError, ValueError, RuntimeError) as error:  # strings, None, lists of different lengths
        raise ValueError(f"{rule}, but {error}") from None
    integers = not (found.is_floating_point() or found.is_complex() or found.dtype == torch.bool)
    need(integers and tuple(found.shape) == (clips,), rule, f"{found.dtype} of shape {tuple(found.shape)}")
    found = found.long()
    outside = found[(found < UNLABELLED) | (found >= classes)]
    if len(outside):
        raise ValueError(f"{where}: labels must be in [0, {classes}), or -1 for none, got {int(outside[0])}")
    return found
