"""Training by labels or by a teacher: the loop that distillation and fine-tuning share, with its files."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from asma_kernels import Skeleton

from .checkpoint import (
    CHECKPOINT_FILE,
    CONFIG_FILE,
    METRICS_FILE,
    load_checkpoint,
    save_checkpoint,
)
from .classifier import CLASSIFIER_FILE
from .config import MaskConfig, OptimiserConfig, ViewConfig, need
from .config_file import difference, load_config, to_dict
from .data.order import Batches
from .extras import Progress
from .files import write_text
from .models import Encoder
from .pretrain import NonFiniteLossError, learning_rate
from .views import ThreeViews

__all__ = ["SupervisedConfig", "SupervisedRun", "checked_clips", "checked_labels"]

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
    log_every: int = 20
    """Steps between two lines of metrics.jsonl."""
    checkpoint_every: int = 200
    """Steps between two checkpoints; the last step is always one."""

    def __post_init__(self) -> None:
        need(0 <= self.seed < 2**63, "seed must be in [0, 2^63)", self.seed)
        need(self.log_every >= 1, "log_every must be at least 1", self.log_every)
        need(self.checkpoint_every >= 1, "checkpoint_every must be at least 1", self.checkpoint_every)


class SupervisedRun:
    """All that changes during a run, and its folder: config.json, metrics.jsonl and checkpoint.pt."""

    def __init__(
        self,
        kind: str,
        config: SupervisedConfig,
        trained: nn.Module,
        losses: Callable[[torch.Tensor, torch.Tensor], dict[str, torch.Tensor]],
        clips: torch.Tensor,
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
            clips: (N, C, T, V, M) float32, N at least 2, on config.device.
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
        self.kind, self.config, self.trained, self.losses, self.clips, self.inputs = (
            kind, config, trained, losses, clips, inputs,
        )  # fmt: skip
        device = clips.device
        settings = config.optimiser
        batch = min(settings.batch, len(clips))
        self.optimiser = torch.optim.Adam(trained.parameters(), settings.lr, weight_decay=settings.weight_decay)
        self.batches = Batches(len(clips), batch, config.seed, device)
        self.views = (
            None if config.views is None else ThreeViews(config.views, MaskConfig(), skeleton, config.seed, device)
        )
        self.total_steps = settings.steps or settings.epochs * (len(clips) // batch)
        self.step = 0
        self.seconds = 0.0

    def train(self, folder: Path, resume: bool) -> None:
        """Run to the end, or go on with the run that the folder holds: on the CPU in float32, exactly.

        Raises:
            FileExistsError: the folder holds a run and `resume` is off, or a classifier that no run in it made.
            ValueError: the folder's run is another one, or its checkpoint is damaged.
            NonFiniteLossError: a loss became NaN or infinite; the message names the step.
        """
        self._begin(folder, resume)
        pending: list[dict[str, torch.Tensor]] = []
        since = time.perf_counter()
        progress = Progress(range(self.step, self.total_steps), folder.name)
        for _ in progress:
            pending.append(self._train_step())
            checkpoint = self.step == self.total_steps or self.step % self.config.checkpoint_every == 0
            if checkpoint or self.step % self.config.log_every == 0:
                now = time.perf_counter()
                self.seconds, since = self.seconds + now - since, now
                values = self._write_metrics(folder / METRICS_FILE, pending)
                pending.clear()
                progress.show(loss=f"{values['loss']:.3f}")
            if checkpoint:
                save_checkpoint(folder / CHECKPOINT_FILE, self.kind, self._state())

    def _train_step(self) -> dict[str, torch.Tensor]:
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.config.optimiser, self.step, self.total_steps)
        rows = self.batches.next()
        x = self.clips.index_select(0, rows)
        if self.views is not None:
            x = self.views.augment(x)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.config.bfloat16):
            losses = self.losses(x, rows)
        self.optimiser.zero_grad()
        losses["loss"].backward()
        self.optimiser.step()
        self.step += 1
        return {name: loss.detach() for name, loss in losses.items()}

    def _write_metrics(self, file: Path, pending: list[dict[str, torch.Tensor]]) -> dict[str, float]:
        series = {name: torch.stack([losses[name] for losses in pending]).tolist() for name in pending[0]}
        for step, loss in enumerate(series["loss"], self.step - len(pending) + 1):
            if not math.isfinite(loss):
                raise NonFiniteLossError(
                    f"the loss became {loss} in step {step} of {self.total_steps}: try a lower optimiser.lr (it is "
                    f"{self.config.optimiser.lr}) or bfloat16 off; the last checkpoint is from before"
                )
        values = {
            "step": self.step,
            **{name: sum(losses) / len(losses) for name, losses in series.items()},
            "lr": self.optimiser.param_groups[0]["lr"],
            "seconds": round(self.seconds, 2),
        }
        with file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(values) + "\n")
        return values

    def _begin(self, folder: Path, resume: bool) -> None:
        config_file, checkpoint_file = folder / CONFIG_FILE, folder / CHECKPOINT_FILE
        if resume and config_file.exists():
            found = difference(to_dict(load_config(config_file, type(self.config))), to_dict(self.config))
            if found:
                raise ValueError(f"{folder} holds a run with another {found}: take another folder, or the same options")
            # Stopped before its first checkpoint, a run starts again.
            if checkpoint_file.exists():
                self._load_state(load_checkpoint(checkpoint_file, self.kind), folder)
        elif config_file.exists() or checkpoint_file.exists():
            raise FileExistsError(f"{folder} holds a run already: resume it, or take another folder")
        elif (folder / CLASSIFIER_FILE).exists():
            raise FileExistsError(f"{folder} holds a teacher or student already: take another folder")
        else:
            folder.mkdir(parents=True, exist_ok=True)
            write_text(config_file, json.dumps(to_dict(self.config), indent=2) + "\n")
        # A run that stopped after its last checkpoint has written lines that it is about to write again.
        metrics = folder / METRICS_FILE
        lines = metrics.read_text(encoding="utf-8").splitlines() if metrics.exists() else []
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= self.step]
        write_text(metrics, "".join(line + "\n" for line in kept))

    def _state(self) -> dict[str, Any]:
        return {
            "inputs": self.inputs,
            "step": self.step,
            "seconds": self.seconds,
            "trained": self.trained.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "batches": self.batches.state(),
            "views": None if self.views is None else self.views.state(),
            "random": torch.get_rng_state(),
        }

    def _load_state(self, state: dict[str, Any], folder: Path) -> None:
        if state["inputs"] != self.inputs:
            raise ValueError(
                f"{folder} holds a run with other clips, labels or models: put them back as they were, or take another"
                " folder"
            )
        self.step, self.seconds = state["step"], state["seconds"]
        self.trained.load_state_dict(state["trained"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.batches.load_state(state["batches"])
        if self.views is not None:
            self.views.load_state(state["views"])
        torch.set_rng_state(state["random"])


def checked_clips(where: str, clips: torch.Tensor, encoder: Encoder) -> torch.Tensor:
    """Clips (N, C, T, V, M) that the encoder can learn from.

    Raises:
        ValueError: another shape or type, fewer than two clips, or coordinates that are not finite; the message begins
            with `where`.
    """
    found = torch.as_tensor(clips)
    C, V = encoder.config.in_channels, encoder.skeleton.num_joints
    shape = tuple(found.shape)
    need(
        len(shape) == 5 and (shape[1], shape[3]) == (C, V) and shape[2] * shape[4] > 0 and found.dtype == torch.float32,
        f"{where}: clips must be (N, {C}, T, {V}, M) float32 with T and M at least 1",
        f"{found.dtype} of shape {shape}",
    )
    need(len(found) >= 2, f"{where}: clips must be at least 2", len(found))
    broken = (~found.isfinite()).flatten(1).any(dim=1).nonzero()
    if len(broken):
        raise ValueError(f"{where}: clips must be finite, clip {int(broken[0])} is not")
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
