"""Pretraining of one encoder: three views of a batch, one Barlow Twins loss for each masked one."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from asma_kernels import Skeleton, barlow_twins

from . import loop, parallel
from .checkpoint import CONFIG_FILE, ENCODER_FILE, save_encoder
from .config import OptimiserConfig, PretrainConfig, need
from .config_file import to_dict
from .data.feed import Feed, Rows
from .data.order import Batches
from .determinism import deterministic
from .extras import extra
from .loop import NonFiniteLossError
from .models import Encoder, projector
from .step_graph import StepGraph
from .views import ThreeViews

__all__ = ["NonFiniteLossError", "Pretraining", "learning_rate", "pretrain", "usable_device"]

KIND = "pretraining checkpoint"
START_CLIPS = 4096
"""Of a set that is not on the device, so many show how far its coordinates spread."""


class Objective(nn.Module):
    """All that learns, and the loss of a batch."""

    def __init__(self, config: PretrainConfig, encoder: Encoder, views: ThreeViews) -> None:
        super().__init__()
        self.config, self.views = config, views
        self.encoder = encoder
        self.projector = projector(config.encoder.channels[-1], config.projector)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """Clips of this process (N, C, T, V, M) -> the loss of the global batch ()."""
        views = self.views(clips)
        encode = self.encoder.mean_feature
        with torch.autocast(clips.device.type, torch.bfloat16, enabled=self.config.bfloat16):
            features = encode(views.anchor), encode(views.spatial, views.joints), encode(views.temporal)
            projected = self.projector.of_views(features)
        anchor, spatial, temporal = (parallel.gather_rows(z, self.config.optimiser.batch) for z in projected)
        lambd = self.config.projector.lambd
        return barlow_twins(anchor, temporal, lambd) + barlow_twins(anchor, spatial, lambd)


class Pretraining:
    """All that changes during a run: models, optimiser, the order of clips, and every random stream."""

    kind = KIND

    def __init__(self, config: PretrainConfig, clips: torch.Tensor | Rows, skeleton: Skeleton) -> None:
        """``clips``: (N, C, T, V, M) float32, all of them or what makes them; see ``asma.data.feed``."""
        config.check_fits(skeleton, clips.shape)
        batch, world = config.optimiser.batch, parallel.world()
        need(batch >= 2 * world, f"optimiser.batch must be at least 2 for each of {world} processes", batch)
        need(not config.cuda_graph or world == 1, "cuda_graph must be off with several processes", "on")
        self.config = config
        self.device = usable_device(config.device)
        order = Batches(clips.shape[0], batch, config.seed, torch.device("cpu"))
        self.feed = Feed(clips, order if world == 1 else parallel.OwnRows(order), self.device)
        self.clips_sum = self.feed.checksum()
        torch.manual_seed(config.seed)
        encoder = Encoder(config.encoder, skeleton).to(self.device)
        encoder.recompute = config.recompute
        encoder.start_input(self.feed.sample(START_CLIPS))
        views = ThreeViews(config.views, config.masks, skeleton, config.seed, self.device, batch)
        self.trained = Objective(config, encoder, views).to(self.device)
        parallel.global_norms(self.trained)
        self.encoder, self.projector, self.views = encoder, self.trained.projector, views
        # A captured step reads its learning rate on the device.
        lr = torch.tensor(config.optimiser.lr, device=self.device) if config.cuda_graph else config.optimiser.lr
        self.optimiser = torch.optim.Adam(
            self.trained.parameters(), lr, weight_decay=config.optimiser.weight_decay, fused=True,
            capturable=config.cuda_graph,
        )  # fmt: skip
        self.objective: nn.Module = self.trained
        if world > 1:
            self.objective = DistributedDataParallel(self.trained)
            torch.manual_seed(config.seed + parallel.rank())  # of dropout
        self.learn = StepGraph(self.learn_from) if config.cuda_graph else self.learn_from
        self.step = 0
        self.total_steps = config.optimiser.total_steps(len(self.feed))
        self.clips_per_step = batch
        self.batch: dict[str, torch.Tensor] = {}

    def train_step(self) -> dict[str, torch.Tensor]:
        """One step of Adam; the loss, still on the device."""
        rate = learning_rate(self.config.optimiser, self.step, self.total_steps)
        for group in self.optimiser.param_groups:
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        clips = self.feed.next()
        self.batch = {"index": self.feed.index, "clips": clips}
        loss = self.learn(clips)
        self.step += 1
        return {"loss": loss}

    def learn_from(self, clips: torch.Tensor) -> torch.Tensor:
        """Loss of a batch, its gradients, and what Adam makes of them."""
        loss: torch.Tensor = self.objective(clips)
        self.optimiser.zero_grad()
        # Every process has the gradients of its own clips. Theirs is the sum, and DistributedDataParallel takes means.
        (loss * parallel.world()).backward()
        self.optimiser.step()
        return loss.detach()

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
            "clips": self.clips_sum,
            "step": self.step,
            "encoder": self.encoder.state_dict(),
            "projector": self.projector.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "batches": self.feed.state(),
            "views": self.views.state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """See ``loop.Run``."""
        if state["clips"] != self.clips_sum:
            raise ValueError("the run was begun with other clips: put the data back as it was, or take another folder")
        self.step = state["step"]
        self.encoder.load_state_dict(state["encoder"])
        self.projector.load_state_dict(state["projector"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.feed.load_state(state["batches"])
        self.views.load_state(state["views"])

    def close(self) -> None:
        """After the last step: stop reading ahead, and let go of the other processes."""
        self.feed.close()
        self.objective = self.trained


def usable_device(name: str) -> torch.device:
    """The device, once something has been put there.

    Raises:
        ValueError: there is no such device here.
    """
    try:
        return torch.zeros(1, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {name} cannot be used ({reason}): take another one") from None


def learning_rate(config: OptimiserConfig, step: int, total_steps: int) -> float:
    """Up to ``lr`` over the warm-up, then down a half cosine that reaches 0 one step after the last.

    >>> config = OptimiserConfig(lr=1.0, warmup=0.5)
    >>> [round(learning_rate(config, step, 8), 2) for step in range(8)]
    [0.25, 0.5, 0.75, 1.0, 1.0, 0.85, 0.5, 0.15]
    """
    warm_steps = round(config.warmup * total_steps)
    if step < warm_steps:
        return config.lr * (step + 1) / warm_steps
    return config.lr * (1 + math.cos(math.pi * (step - warm_steps) / (total_steps - warm_steps))) / 2


def pretrain(
    config: PretrainConfig,
    clips: torch.Tensor | Rows,
    skeleton: Skeleton,
    folder: Path,
    resume: bool = False,
    say: Callable[[str], None] | None = None,
) -> Encoder:
    """Train an encoder and leave config, metrics, the last checkpoint and the encoder in ``folder``.

    Args:
        config: what to do; see ``asma.config``.
        clips: (N, C, T, V, M) float32, the training clips, or what makes them when they are asked for, as
            ``asma.prepare.Prepared``.
        skeleton: of the V joints.
        folder: where the run goes; made if it is not there.
        resume: go on with the run that the folder holds, exactly: on the CPU in float32 the encoder is bit for bit the
            one of a run that was never stopped. A finished run is returned as it is.
        say: is told where the clips are.

    Returns:
        The encoder, in evaluation mode.

    Raises:
        FileExistsError: the folder holds a run and ``resume`` is off.
        ValueError: config and data do not fit, the folder's run is another one, or its checkpoint is damaged.
        NonFiniteLossError: the loss became NaN or infinite; the message names the step and the report on it.
        TerminatedError: SIGTERM came; a checkpoint of the last step is there.
        MissingExtraError: safetensors, or tensorboard where asked for, is not installed.
    """
    for module in ["safetensors", *["tensorboard"] * config.tensorboard]:
        extra(module)  # rather now than after hours
    with deterministic(config.deterministic, config.device), parallel.processes(config.device):
        run = Pretraining(config, clips, skeleton)
        if say is not None and parallel.first():
            say(run.feed.placement)
        run.encoder.train()
        # A process that died is started again with the same command line.
        again = parallel.restarted() and (folder / CONFIG_FILE).exists()
        try:
            loop.train(run, folder, resume or again, config.tensorboard)
        finally:
            run.close()
        run.encoder.eval()
        if config.calibrate:
            run.encoder.calibrate(run.feed.parts())
        if parallel.first():
            save_encoder(folder / ENCODER_FILE, run.encoder, {"pretraining": to_dict(config), "steps": run.step})
        return run.encoder
