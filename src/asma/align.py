"""The teacher of ASMa: both encoders, their alignment and a classifier, trained on frozen features or as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import nn
from torch.nn import functional as F

from .classifier import Classifier
from .config import DataConfig, need
from .evaluate import ProbeConfig, linear_probe
from .models import Encoder
from .models.alignment import Alignment, Mode
from .scores import Scores, checked_features, score

__all__ = ["AlignConfig", "AlignResult", "align_probe", "make_teacher"]


@dataclass(frozen=True)
class AlignConfig:
    """Training of the alignment and the classifier behind it on frozen features, by AdamW with a cosine down to 0."""

    mode: Mode = "aligned"
    out: int = 256
    """Size of the representation of mode aligned."""
    dropout: float = 0.4
    lr: float = 1e-3
    """Of the alignment; the classifier's rate is ten times that, the linear probe's."""
    weight_decay: float = 2.0
    """AdamW's: large because it is multiplied by the learning rate."""
    epochs: int = 100
    batch: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        need(self.out >= 1, "alignment.out must be at least 1", self.out)
        need(0 <= self.dropout < 1, "alignment.dropout must be in [0, 1)", self.dropout)
        need(self.lr > 0, "alignment.lr must be positive", self.lr)
        need(self.weight_decay >= 0, "alignment.weight_decay must be at least 0", self.weight_decay)
        need(self.epochs >= 1, "alignment.epochs must be at least 1", self.epochs)
        need(self.batch >= 2, "alignment.batch must be at least 2, batch norm compares clips", self.batch)


@dataclass(frozen=True)
class AlignResult(Scores):
    """Scores of a classifier on both encoders' features, and its parts, in evaluation mode on the CPU."""

    alignment: Alignment = field(repr=False)
    head: nn.Linear = field(repr=False)
    """(N, alignment.features) -> (N, K) logits."""


def align_probe(
    train: tuple[torch.Tensor, torch.Tensor],
    train_labels: ArrayLike | torch.Tensor,
    test: tuple[torch.Tensor, torch.Tensor],
    test_labels: ArrayLike | torch.Tensor,
    config: AlignConfig | None = None,
    probe: ProbeConfig | None = None,
    classes: int | None = None,
) -> AlignResult:
    """Accuracy of an alignment of two frozen encoders with a linear classifier behind it.

    Modes mean and concat have nothing to learn and go through `linear_probe`. Mode aligned is trained with its
    classifier; it is a small network on the concatenated features, so a gain over concat is one of non-linearity too.
    The labels of the test clips are used for the scores only.

    Args:
        train, test: features (N, D) of encoder 1 and of encoder 2.
        train_labels, test_labels: (N) integers.
        config: the alignment's training.
        probe: the linear probe's, for mean and concat.
        classes: K; without it the highest label + 1.

    Deterministic in config.seed; leaves torch's global random state alone.

    Raises:
        ValueError: shapes or labels do not fit, features that are not finite, or training clips of one class only.
    """
    config = config or AlignConfig()
    parts = [
        checked_features("align_probe", one, train_labels, other, test_labels, classes)
        for one, other in zip(train, test, strict=True)
    ]
    (a1, b1, y, truth, K), (a2, b2, *_) = parts
    need(
        a1.shape[1] == a2.shape[1],
        "align_probe: both encoders must have as many features",
        f"{a1.shape[1]}, {a2.shape[1]}",
    )
    if config.mode != "aligned":
        alignment = Alignment(a1.shape[1], mode=config.mode)
        result = linear_probe(alignment(a1, a2), y, alignment(b1, b2), truth, probe, K)
        scores = {name: getattr(result, name) for name in Scores.__dataclass_fields__}
        return AlignResult(**scores, alignment=alignment.eval(), head=result.weights)
    need(len(y.unique()) >= 2, "align_probe: training clips must be of at least 2 classes", 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        alignment = Alignment(a1.shape[1], config.out, dropout=config.dropout)
        head = nn.Linear(alignment.features, K)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        _train(alignment, head, a1, a2, y, config)
    alignment.eval().requires_grad_(False)
    head.requires_grad_(False)
    with torch.no_grad():
        found = score(head(alignment(b1, b2)).softmax(dim=1), truth)
    return AlignResult(**vars(found), alignment=alignment, head=head)


def _train(
    alignment: Alignment, head: nn.Linear, first: torch.Tensor, second: torch.Tensor, labels: torch.Tensor,
    config: AlignConfig,
) -> None:  # fmt: skip
    groups: list[dict[str, Any]] = [
        {"params": alignment.parameters()},
        {"params": head.parameters(), "lr": 10 * config.lr},
    ]
    optimiser = torch.optim.AdamW(groups, config.lr, weight_decay=config.weight_decay)
    batch = min(config.batch, len(labels))
    batches = len(labels) // batch
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.epochs * batches)
    alignment.train()
    for _ in range(config.epochs):
        # The clips that do not fill a batch are left out: batch norm over a handful of clips is noise.
        for rows in torch.randperm(len(labels))[: batches * batch].split(batch):
            logits = head(alignment(first[rows], second[rows]))
            loss = F.cross_entropy(logits, labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()


def make_teacher(
    encoders: Sequence[Encoder], result: AlignResult, classes: Sequence[str], data: DataConfig
) -> Classifier:
    """The classifier that `align_probe` scored, as one model from clips to logits, in evaluation mode.

    Its parts are the very encoders, alignment and head, not copies.
    """
    return Classifier(encoders, result.alignment, result.head, classes, data).eval()
