"""Distillation: a small ST-GCN learns to answer as the teacher does, with or without labels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from numpy.typing import ArrayLike
from torch import nn
from torch.nn import functional as F

from .checkpoint import checksum
from .classifier import CLASSIFIER_FILE, Classifier, count_parameters, save_classifier
from .config import need
from .config_file import to_dict
from .data.feed import Feed, Rows
from .determinism import deterministic
from .evaluate import evaluation_mode
from .extras import extra
from .models import Encoder
from .pretrain import START_CLIPS, usable_device
from .supervised import UNLABELLED, SupervisedConfig, SupervisedRun, checked_clips, checked_labels, examined

__all__ = ["DistillConfig", "distill", "make_student"]

KIND = "distillation checkpoint"
LARGEST_SHARE = 0.086
"""The paper's student has 91.4 % fewer parameters than its teacher."""
CHANNEL_STEP = 4
SMALLEST_DEVIATION = 1e-3


@dataclass(frozen=True)
class DistillConfig(SupervisedConfig):
    """The student and its loss: ce * cross entropy + kl * T^2 KL(teacher, student) + feature * feature alignment."""

    channels: tuple[int, ...] = ()
    """Channels of the student's blocks, as many as the teacher's; empty for the widest even shrinking of the teacher's
    that is small enough."""
    share: float = LARGEST_SHARE
    """Of the teacher's parameters, that the student may have at most."""
    temperature: float = 4.0
    """T, by which both models' logits are divided in the KL divergence."""
    ce: float = 1.0
    """Weight of the cross entropy with the labels, for the clips that have one."""
    kl: float = 1.0
    """Weight of the divergence of the student's answers from the teacher's."""
    feature: float = 1.0
    """Weight of the mean squared error between the student's features, mapped linearly, and the teacher's, standardised
    over the training clips."""

    def __post_init__(self) -> None:
        super().__post_init__()
        need(all(width >= 1 for width in self.channels), "channels must be positive", self.channels)
        need(0 < self.share <= LARGEST_SHARE, f"share must be in (0, {LARGEST_SHARE}]", self.share)
        need(self.temperature > 0, "temperature must be positive", self.temperature)
        weights = {"ce": self.ce, "kl": self.kl, "feature": self.feature}
        need(min(weights.values()) >= 0, "ce, kl and feature must be at least 0", weights)
        need(
            self.kl + self.feature > 0, "kl or feature must be positive, or nothing is learnt from the teacher", weights
        )


def make_student(teacher: Classifier, config: DistillConfig) -> Classifier:
    """An untrained student of at most `config.share` of the teacher's parameters, counted in both as they are.

    The student has the blocks, strides, kernels and readout of the teacher's encoders, but one encoder, no dropout and
    fewer channels. It draws from torch's global random state.

    Raises:
        ValueError: the channels make it too large, or no number of channels makes it small enough.
    """
    whole = count_parameters(teacher)
    most = int(config.share * whole)
    encoder = teacher.first_encoder.config
    limit = (
        f"distill: a student must have at most {100 * config.share:g} % of the teacher's {whole:,} parameters, {most:,}"
    )
    if config.channels:
        need(
            len(config.channels) == len(encoder.channels),
            f"distill: channels must be {len(encoder.channels)} numbers, one a block of the teacher",
            config.channels,
        )
        student = _student(teacher, config.channels)
        found = count_parameters(student)
        need(found <= most, limit, f"{found:,} with channels {config.channels}")
        return student
    widths = sorted({_narrowed(encoder.channels, part / 64) for part in range(1, 65)}, key=sum)
    # Parameters grow with the width, so the widest that fits is found by halving.
    low, high = 0, len(widths)
    while low < high:
        middle = (low + high) // 2
        if count_parameters(_student(teacher, widths[middle])) <= most:
            low = middle + 1
        else:
            high = middle
    need(low > 0, limit, f"{count_parameters(_student(teacher, widths[0])):,} with the narrowest blocks, {widths[0]}")
    return _student(teacher, widths[low - 1])


def _narrowed(channels: tuple[int, ...], part: float) -> tuple[int, ...]:
    return tuple(max(CHANNEL_STEP, CHANNEL_STEP * round(width * part / CHANNEL_STEP)) for width in channels)


def _student(teacher: Classifier, channels: tuple[int, ...]) -> Classifier:
    config = replace(teacher.first_encoder.config, channels=channels, dropout=0.0)
    encoder = Encoder(config, teacher.skeleton)
    head = nn.Linear(encoder.features, len(teacher.classes))
    return Classifier([encoder], None, head, teacher.classes, teacher.data)


def distill(
    teacher: Classifier,
    clips: torch.Tensor | Rows,
    config: DistillConfig,
    run_dir: Path,
    resume: bool = False,
    labels: ArrayLike | torch.Tensor | None = None,
) -> Classifier:
    """Train a student and leave config, metrics, the last checkpoint and `classifier.safetensors` in a folder.

    Teacher and student see the same augmented clip in each step (Beyer et al., CVPR 2022, arXiv 2106.05237).

    Args:
        teacher: its parameters and its mode are the same afterwards.
        clips: (N, C, T, V, M) float32, the training clips, prepared by `teacher.data`, or what makes them when they are
            asked for, as `asma.prepare.Prepared`.
        config: the student, the loss and the training.
        run_dir: where the run goes; made if it is not there.
        resume: go on with the run that the folder holds, if it holds one. A finished run is returned as it is.
        labels: (N) in [0, K), -1 for a clip without one; None if no clip has one, then the cross entropy is left out.

    Returns:
        The student, in evaluation mode.

    Source: Hinton et al., arXiv 1503.02531 (temperature), Romero et al., arXiv 1412.6550 (features), ASMa, arXiv
    2602.06251 (the size).

    Deterministic on the CPU in float32, also across a resume; leaves torch's global random state alone.

    Raises:
        FileExistsError: the folder holds a run and `resume` is off, or a classifier that no run in it made.
        ValueError: the student is too large, clips and labels do not fit, or the folder's run is another one.
        NonFiniteLossError: the loss became NaN or infinite; the message names the step.
        MissingExtraError: safetensors is not installed.
    """
    extra("safetensors")  # rather now than after minutes
    device = usable_device(config.device)
    clips = checked_clips("distill", clips, teacher.first_encoder)
    truth = torch.full((clips.shape[0],), UNLABELLED)
    if labels is not None:
        truth = checked_labels("distill", labels, len(truth), len(teacher.classes))
    feed = config.feed(clips, device)
    inputs = checksum([truth, *teacher.state_dict().values()], examined("distill", feed))
    home = next(teacher.parameters()).device
    draws = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
    with draws, deterministic(config.deterministic, config.device):
        torch.manual_seed(config.seed)
        student = make_student(teacher, config).to(device)
        mapping = nn.Linear(student.features, teacher.features).to(device)
        student.first_encoder.start_input(feed.sample(START_CLIPS))
        try:
            with evaluation_mode(teacher):
                losses = _Losses(teacher.to(device), student, mapping, truth.to(device), config)
                losses.standardise(feed)
                trained = nn.ModuleDict({"student": student.train(), "mapping": mapping.train()})
                run = SupervisedRun(KIND, config, trained, losses, feed, teacher.skeleton, inputs)
                with torch.enable_grad():
                    run.train(Path(run_dir), resume)
        finally:
            teacher.to(home)
    student = student.cpu().eval()
    notes = {
        "distillation": to_dict(config),
        "steps": run.step,
        "parameters": count_parameters(student),
        "teacher_parameters": count_parameters(teacher),
    }
    save_classifier(Path(run_dir) / CLASSIFIER_FILE, student, notes)
    return student


class _Losses:
    """Losses of a batch, by name."""

    def __init__(
        self, teacher: Classifier, student: Classifier, mapping: nn.Linear, labels: torch.Tensor, config: DistillConfig
    ) -> None:
        self.teacher, self.student, self.mapping, self.labels, self.config = teacher, student, mapping, labels, config
        self.labelled = bool((labels != UNLABELLED).any())
        self.mean = self.deviation = torch.zeros(())

    @torch.no_grad()
    def standardise(self, feed: Feed) -> None:
        """Take mean and deviation of the teacher's features over all clips."""
        features = torch.cat([self.teacher.represent(clips) for clips in feed.parts()])
        self.deviation, self.mean = torch.std_mean(features, dim=0, correction=0)
        self.deviation = self.deviation.clamp(min=SMALLEST_DEVIATION)

    def __call__(self, x: torch.Tensor, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            wanted = self.teacher.represent(x)
            wanted_logits = self.teacher.head(wanted).float()
        features = self.student.represent(x)
        logits = self.student.head(features).float()
        config = self.config
        T = config.temperature
        answers = F.log_softmax(logits / T, dim=1)
        found = {
            "kl": T**2
            * F.kl_div(answers, F.log_softmax(wanted_logits / T, dim=1), reduction="batchmean", log_target=True),
            "feature": F.mse_loss(self.mapping(features).float(), (wanted.float() - self.mean) / self.deviation),
        }
        loss = config.kl * found["kl"] + config.feature * found["feature"]
        if self.labelled:
            labels = self.labels[rows]
            # Not the mean over the labelled clips: a batch may have none.
            total = F.cross_entropy(logits, labels, ignore_index=UNLABELLED, reduction="sum")
            found["ce"] = total / (labels != UNLABELLED).sum().clamp(min=1)
            loss = loss + config.ce * found["ce"]
        return {"loss": loss, **found}
