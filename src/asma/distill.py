"""Distillation: a small ST-GCN learns to answer as the teacher does, with or without labels."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from numpy.typing import ArrayLike
from torch import nn
from torch.nn import functional as F

from .checkpoint import checksum
from .classifier import CLASSIFIER_FILE, Classifier, count_parameters, save_classifier
from .config import LATER, need
from .config_file import to_dict
from .data.feed import Feed, Rows
from .determinism import deterministic
from .evaluate import evaluation_mode
from .extras import extra
from .pretrain import START_CLIPS, usable_device
from .student import StudentConfig, make_student, student_sizes
from .supervised import UNLABELLED, SupervisedConfig, SupervisedRun, checked_clips, checked_labels, examined

__all__ = ["DistillConfig", "distill", "relation_loss"]

KIND = "distillation checkpoint"
SMALLEST_DEVIATION = 1e-3


@dataclass(frozen=True)
class DistillConfig(SupervisedConfig, StudentConfig):
    """The student and its loss: ce * cross entropy + kl * T^2 KL(teacher, student) + feature * feature alignment +
    relation * difference of the similarities between clips."""

    temperature: float = 4.0
    """T, by which both models' logits are divided in the KL divergence."""
    ce: float = 1.0
    """Weight of the cross entropy with the labels, for the clips that have one."""
    kl: float = 1.0
    """Weight of the divergence of the student's answers from the teacher's."""
    feature: float = 1.0
    """Weight of the mean squared error between the student's features, mapped linearly, and the teacher's, standardised
    over the training clips."""
    relation: float = field(default=0.0, metadata=LATER)
    """Weight of the difference between the student's and the teacher's similarities of the clips of a batch
    (`relation_loss`); 0 leaves it out."""

    def __post_init__(self) -> None:
        SupervisedConfig.__post_init__(self)
        StudentConfig.__post_init__(self)
        need(self.temperature > 0, "temperature must be positive", self.temperature)
        weights = {"ce": self.ce, "kl": self.kl, "feature": self.feature, "relation": self.relation}
        need(min(weights.values()) >= 0, "ce, kl, feature and relation must be at least 0", weights)
        need(
            self.kl + self.feature + self.relation > 0,
            "kl, feature or relation must be positive, or nothing is learnt from the teacher",
            weights,
        )


def relation_loss(features: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """How differently two models see which clips are alike: the mean over clips of |g - g'|^2, where g are a clip's
    inner products with all clips of the batch, scaled to length 1.

    Neither size nor scale of the features counts, so they need no mapping.

    Args:
        features: (N, D), the student's; N at least 1, any D.
        wanted: (N, D'), the teacher's; has no gradient.

    Returns:
        A float32 number (float64 where both are), between 0 and 4; on their device, also under autocast; with a
        gradient in `features`. Deterministic on the CPU.

    Source: Tung and Mori, ICCV 2019, arXiv 1907.09682, equations 2 to 4, times N: their weight of 3000 at N = 64 is 47.

    >>> clips = torch.eye(3)
    >>> float(relation_loss(2 * clips, clips)), float(relation_loss(clips, clips.flip(0)))
    (0.0, 0.0)
    >>> float(relation_loss(clips, torch.tensor([[1.0], [0.0], [0.0]]))) > 0.5
    True
    """
    with torch.autocast(features.device.type, enabled=False):
        return (_similarities(features) - _similarities(wanted.detach())).square().sum(dim=1).mean()


def _similarities(features: torch.Tensor) -> torch.Tensor:
    """(N, D) -> (N, N), rows of length 1."""
    x = features.to(torch.promote_types(features.dtype, torch.float32))
    return F.normalize(x @ x.T, dim=1)


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

    Source: Hinton et al., arXiv 1503.02531 (temperature), Romero et al., arXiv 1412.6550 (features), Tung and
    Mori, arXiv 1907.09682 (relations), ASMa, arXiv 2602.06251 (the size).

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
    name, sizes = student_sizes(teacher, config)
    notes = {
        "distillation": to_dict(config),
        "student": {"name": name, **sizes._asdict()},
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
        if config.relation:
            found["relation"] = relation_loss(features, wanted)
            loss = loss + config.relation * found["relation"]
        if self.labelled:
            labels = self.labels[rows]
            # Not the mean over the labelled clips: a batch may have none.
            total = F.cross_entropy(logits, labels, ignore_index=UNLABELLED, reduction="sum")
            found["ce"] = total / (labels != UNLABELLED).sum().clamp(min=1)
            loss = loss + config.ce * found["ce"]
        return {"loss": loss, **found}
