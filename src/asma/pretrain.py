"""Pretraining of one encoder: three views of a batch, one Barlow Twins loss for each masked one."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from asma_kernels import Skeleton, barlow_twins

from .checkpoint import (
    CHECKPOINT_FILE,
    CONFIG_FILE,
    ENCODER_FILE,
    METRICS_FILE,
    load_checkpoint,
    save_checkpoint,
    save_encoder,
)
from .config import OptimiserConfig, PretrainConfig
from .config_file import difference, load_config, to_dict
from .data.feed import Feed, Rows
from .data.order import Batches
from .extras import Progress, extra
from .files import write_text
from .models import Encoder, Projector
from .step_graph import StepGraph
from .views import ThreeViews

KIND = "pretraining checkpoint"
START_CLIPS = 4096
"""Of a set that is not on the device, so many show how far its coordinates spread."""


class NonFiniteLossError(ValueError):
    """The loss became NaN or infinite."""


class Pretraining:
    """All that changes during a run: models, optimiser, the order of clips, and every random stream."""

    def __init__(self, config: PretrainConfig, clips: torch.Tensor | Rows, skeleton: Skeleton) -> None:
        """``clips``: (N, C, T, V, M) float32, all of them or what makes them; see ``asma.data.feed``."""
        config.check_fits(skeleton, clips.shape)
        self.config = config
        self.device = usable_device(config.device)
        order = Batches(clips.shape[0], config.optimiser.batch, config.seed, torch.device("cpu"))
        self.feed = Feed(clips, order, self.device)
        self.clips_sum = self.feed.checksum()
        torch.manual_seed(config.seed)
        self.encoder = Encoder(config.encoder, skeleton).to(self.device)
        self.encoder.start_input(self.feed.sample(START_CLIPS))
        self.projector = Projector(config.encoder.channels[-1], config.projector).to(self.device)
        parameters = [*self.encoder.parameters(), *self.projector.parameters()]
        # A captured step reads its learning rate on the device.
        lr = torch.tensor(config.optimiser.lr, device=self.device) if config.cuda_graph else config.optimiser.lr
        self.optimiser = torch.optim.Adam(
            parameters, lr, weight_decay=config.optimiser.weight_decay, fused=True, capturable=config.cuda_graph
        )
        self.learn = StepGraph(self.learn_from) if config.cuda_graph else self.learn_from
        self.views = ThreeViews(config.views, config.masks, skeleton, config.seed, self.device)
        self.step = 0
        self.total_steps = config.optimiser.total_steps(len(self.feed))

    def train_step(self) -> torch.Tensor:
        """One step of Adam; the loss, still on the device."""
        rate = learning_rate(self.config.optimiser, self.step, self.total_steps)
        for group in self.optimiser.param_groups:
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        loss = self.learn(self.feed.next())
        self.step += 1
        return loss

    def learn_from(self, clips: torch.Tensor) -> torch.Tensor:
        """Views of a batch (N, C, T, V, M), their loss, its gradients, and what Adam makes of them."""
        views = self.views(clips)
        encode = self.encoder.mean_feature
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.bfloat16):
            features = encode(views.anchor), encode(views.spatial, views.joints), encode(views.temporal)
            anchor, spatial, temporal = self.projector.of_views(features)
        lambd = self.config.projector.lambd
        loss = barlow_twins(anchor, temporal, lambd) + barlow_twins(anchor, spatial, lambd)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return loss.detach()

    def state(self) -> dict[str, Any]:
        """What ``load_state`` needs to go on as if nothing had happened."""
        random = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self.device)
        return {
            "config": to_dict(self.config),
            "clips": self.clips_sum,
            "step": self.step,
            "encoder": self.encoder.state_dict(),
            "projector": self.projector.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "batches": self.feed.state(),
            "views": self.views.state(),
            "random": random,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        if state["clips"] != self.clips_sum:
            raise ValueError("the run was begun with other clips: put the data back as it was, or take another folder")
        self.step = state["step"]
        self.encoder.load_state_dict(state["encoder"])
        self.projector.load_state_dict(state["projector"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.feed.load_state(state["batches"])
        self.views.load_state(state["views"])
        torch.set_rng_state(state["random"]["cpu"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state["random"]["cuda"], self.device)


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


class Log:
    """metrics.jsonl, and TensorBoard's files where asked for. Losses stay on the device until a line is written."""

    def __init__(self, folder: Path, run: Pretraining) -> None:
        self.run = run
        self.file = folder / METRICS_FILE
        # A run that stopped after its last checkpoint has written lines that it is about to write again.
        lines = self.file.read_text(encoding="utf-8").splitlines() if self.file.exists() else []
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= run.step]
        write_text(self.file, "".join(line + "\n" for line in kept))
        self.board = extra("torch.utils.tensorboard").SummaryWriter(str(folder)) if run.config.tensorboard else None
        self.losses: list[torch.Tensor] = []
        self.seconds = json.loads(kept[-1])["seconds"] if kept else 0.0
        self.since = time.perf_counter()

    def add(self, loss: torch.Tensor) -> None:
        self.losses.append(loss)

    def write(self) -> dict[str, float]:
        """A line with the mean loss since the last one, the learning rate, the speed, and the seconds of all steps.

        Raises:
            NonFiniteLossError: one of the losses was NaN or infinite.
        """
        run = self.run
        losses = torch.stack(self.losses).tolist()
        first = run.step - len(losses) + 1
        for step, loss in enumerate(losses, first):
            if not math.isfinite(loss):
                raise NonFiniteLossError(
                    f"the loss became {loss} in step {step} of {run.total_steps}: try a lower optimiser.lr (it is "
                    f"{run.config.optimiser.lr}) or bfloat16 off; the last checkpoint is from before"
                )
        now = time.perf_counter()
        self.seconds += now - self.since
        values = {
            "step": run.step,
            "loss": sum(losses) / len(losses),
            "lr": float(run.optimiser.param_groups[0]["lr"]),
            "clips_per_second": round(len(losses) * run.config.optimiser.batch / (now - self.since), 1),
            "seconds": round(self.seconds, 2),
        }
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")
        if self.board is not None:
            for name, value in values.items():
                self.board.add_scalar(name, value, run.step)
        self.losses.clear()
        self.since = now
        return values

    def close(self) -> None:
        if self.board is not None:
            self.board.close()


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
        NonFiniteLossError: the loss became NaN or infinite; the message names the step.
        MissingExtraError: safetensors, or tensorboard where asked for, is not installed.
    """
    for module in ["safetensors", *["tensorboard"] * config.tensorboard]:
        extra(module)  # rather now than after hours
    run = Pretraining(config, clips, skeleton)
    started = start_or_resume(run, folder, resume)
    if say is not None:
        say(run.feed.placement)
    log = Log(folder, run)
    progress = Progress(range(started, run.total_steps), folder.name)
    run.encoder.train()
    for _ in progress:
        log.add(run.train_step())
        last = run.step == run.total_steps
        checkpoint = last or run.step % config.checkpoint_every == 0
        if checkpoint or run.step % config.log_every == 0:
            values = log.write()
            progress.show(loss=f"{values['loss']:.1f}", clips_per_second=f"{values['clips_per_second']:.0f}")
        if checkpoint:
            save_checkpoint(folder / CHECKPOINT_FILE, KIND, run.state())
    log.close()
    run.encoder.eval()
    if config.calibrate:
        run.encoder.calibrate(run.feed.parts())
    run.feed.close()
    save_encoder(folder / ENCODER_FILE, run.encoder, {"pretraining": to_dict(config), "steps": run.step})
    return run.encoder


def start_or_resume(run: Pretraining, folder: Path, resume: bool) -> int:
    """Make the folder, or load what it holds; the number of steps that are done."""
    config_file, checkpoint_file = folder / CONFIG_FILE, folder / CHECKPOINT_FILE
    if resume:
        found = difference(to_dict(load_config(config_file, PretrainConfig)), to_dict(run.config))
        if found:
            raise ValueError(f"{folder} holds a run with another {found}: leave the option away or take another folder")
        # Stopped before its first checkpoint, a run starts again.
        if checkpoint_file.exists():
            run.load_state(load_checkpoint(checkpoint_file, KIND))
    elif config_file.exists() or checkpoint_file.exists():
        raise FileExistsError(f"{folder} holds a run already: go on with it by --resume, or take another folder")
    else:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(config_file, json.dumps(to_dict(run.config), indent=2) + "\n")
    return run.step
