"""How good features are: the linear probe, nearest neighbours, and both on raw coordinates.

Every protocol takes features (N, D) and labels (N), whatever made them, so that all rows of a table are treated alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn
from torch.nn import functional as F

from .data import Clips
from .extras import Progress
from .scores import Scores, checked_features, score

__all__ = [
    "ProbeConfig",
    "ProbeResult",
    "RawBaseline",
    "Scores",
    "encode_clips",
    "evaluation_mode",
    "knn",
    "linear_probe",
    "nearest_mean",
    "raw_baseline",
    "raw_features",
    "score",
]

RAW_FRAMES = 16
SMALLEST_DEVIATION = 1e-4
"""Of a feature before it is divided by; one that never changes stays 0 instead of becoming noise."""


@dataclass(frozen=True)
class ProbeConfig:
    """Training of a linear classifier on frozen features; the same for every row of a table.

    The loss is convex, so ``lbfgs``, on all clips at once, comes to the same optimum whatever the features' scale. It
    is the default. ``adam`` is the usual protocol of the field (PSTL, section 4.2), to compare with its numbers:
    ``ProbeConfig(solver="adam", weight_decay=0, standardise=False)``.
    """

    solver: Literal["lbfgs", "adam"] = "lbfgs"
    weight_decay: float = 1e-4
    """The loss has D / 2 times this times the squared norm of the weights; the bias is left alone. The factor D makes
    standardised features of any number alike. Fixed, not chosen by test clips."""
    standardise: bool = True
    """Shift and scale features by mean and deviation of the training clips first."""
    iterations: int = 60
    """Of lbfgs, at most."""
    lr: float = 0.01
    """Of adam, with a half cosine down to 0."""
    epochs: int = 150
    """Of adam."""
    batch: int = 128
    """Of adam."""
    seed: int = 0
    """Of the order of the clips under adam; the weights start at 0."""

    def __post_init__(self) -> None:
        if self.solver not in ("lbfgs", "adam"):
            raise ValueError(f"ProbeConfig: solver must be lbfgs or adam, got {self.solver!r}")
        for name, rule, holds in (
            ("weight_decay", "at least 0", self.weight_decay >= 0),
            ("iterations", "at least 1", self.iterations >= 1),
            ("lr", "positive", self.lr > 0),
            ("epochs", "at least 1", self.epochs >= 1),
            ("batch", "at least 1", self.batch >= 1),
        ):
            if not holds:
                raise ValueError(f"ProbeConfig: {name} must be {rule}, got {getattr(self, name)}")


@dataclass(frozen=True)
class ProbeResult(Scores):
    """Scores of a linear probe, and the probe."""

    weights: nn.Linear = field(repr=False)
    """(N, D) features as they come -> (N, K) logits; standardisation is folded in. On the CPU."""


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients inside; afterwards every module has the mode that it had.

    >>> model = nn.Sequential(nn.Dropout(), nn.Dropout().eval())
    >>> with evaluation_mode(model):
    ...     model[0].training
    False
    >>> model[0].training, model[1].training
    (True, False)
    """
    before = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in before.items():
            module.training = training


def encode_clips(
    encoder: nn.Module, x: torch.Tensor | NDArray[np.float32], batch: int = 256, title: str = ""
) -> torch.Tensor:
    """Features of clips in evaluation mode, a batch at a time.

    Args:
        encoder: (N, C, T, V, M) -> (N, D); its mode is the same afterwards.
        x: clips (N, C, T, V, M) float32, on any device.
        batch: clips at a time; the result does not depend on it, but for rounding.
        title: of a progress bar; without one there is none.

    Returns:
        (N, D) float32 on the CPU.

    Raises:
        ValueError: x has another number of axes or no clip, or a feature is not finite.
    """
    clips = torch.as_tensor(x)
    if clips.dim() != 5 or not len(clips):
        raise ValueError(f"encode_clips: x must be (N, C, T, V, M) with N at least 1, got shape {tuple(clips.shape)}")
    if batch < 1:
        raise ValueError(f"encode_clips: batch must be at least 1, got {batch}")
    device = next((tensor.device for tensor in encoder.parameters()), clips.device)
    starts = range(0, len(clips), batch)
    features = []
    with evaluation_mode(encoder):
        for start in Progress(starts, title) if title else starts:
            features.append(encoder(clips[start : start + batch].to(device)).float().cpu())
    found = torch.cat(features)
    broken = (~found.isfinite()).any(dim=1).nonzero()
    if len(broken):
        raise ValueError(f"encode_clips: features must be finite, those of clip {int(broken[0])} are not")
    return found


def linear_probe(
    train: torch.Tensor | ArrayLike,
    train_labels: ArrayLike | torch.Tensor,
    test: torch.Tensor | ArrayLike,
    test_labels: ArrayLike | torch.Tensor,
    config: ProbeConfig | None = None,
    classes: int | None = None,
) -> ProbeResult:
    """Accuracy of a linear classifier on frozen features.

    The labels of the test clips are used for the scores only: nothing is chosen by them.

    Args:
        train, test: features (N, D), finite.
        train_labels, test_labels: (N) integers.
        config: how the classifier is trained.
        classes: K; without it the highest label + 1.

    Deterministic in config.seed; leaves torch's global random state alone.

    Raises:
        ValueError: shapes or labels do not fit, features that are not finite, or training clips of one class only.

    >>> features, labels = torch.eye(4), [0, 0, 1, 1]
    >>> linear_probe(features, labels, features, labels).top1
    1.0
    """
    config = config or ProbeConfig()
    a, b, y, truth, K = checked_features("linear_probe", train, train_labels, test, test_labels, classes)
    if len(y.unique()) < 2:
        raise ValueError("linear_probe: training clips must be of at least 2 classes, got 1")
    classifier = nn.utils.skip_init(nn.Linear, a.shape[1], K)  # no draw from the global random state
    with torch.no_grad():
        classifier.weight.zero_()
        classifier.bias.zero_()
    deviation, mean = torch.std_mean(a, dim=0, correction=0)
    if config.standardise:
        deviation = deviation.clamp(min=SMALLEST_DEVIATION)
        a = (a - mean) / deviation
    _fit_linear(classifier, a, y, config)
    if config.standardise:
        with torch.no_grad():
            classifier.weight /= deviation
            classifier.bias -= classifier.weight @ mean
    with torch.no_grad():
        scores = score(classifier(b).softmax(dim=1), truth)
    return ProbeResult(**vars(scores), weights=classifier.requires_grad_(False))


def _fit_linear(classifier: nn.Linear, features: torch.Tensor, labels: torch.Tensor, config: ProbeConfig) -> None:
    """Train the classifier (N, D) -> (N, K) in place."""
    penalty = config.weight_decay * features.shape[1] / 2

    def loss_of(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(classifier(x), y) + penalty * classifier.weight.square().sum()

    if config.solver == "lbfgs":
        solver = torch.optim.LBFGS(classifier.parameters(), max_iter=config.iterations, line_search_fn="strong_wolfe")

        def closure() -> torch.Tensor:
            solver.zero_grad()
            loss = loss_of(features, labels)
            loss.backward()
            return loss

        solver.step(closure)
        return
    optimiser = torch.optim.Adam(classifier.parameters(), config.lr)
    order = torch.Generator().manual_seed(config.seed)
    steps = config.epochs * math.ceil(len(features) / config.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(config.epochs):
        for rows in torch.randperm(len(features), generator=order).split(config.batch):
            optimiser.zero_grad()
            loss_of(features[rows], labels[rows]).backward()
            optimiser.step()
            schedule.step()


def knn(
    train: torch.Tensor | ArrayLike,
    train_labels: ArrayLike | torch.Tensor,
    test: torch.Tensor | ArrayLike,
    test_labels: ArrayLike | torch.Tensor,
    k: int = 1,
) -> float:
    """Top-1 accuracy of the vote of the k nearest training clips by cosine; nothing is trained.

    Among classes with as many votes the one with the larger sum of cosines wins.

    Args:
        train, test: features (N, D), finite.
        train_labels, test_labels: (N) integers.
        k: 1 up to the number of training clips.

    Raises:
        ValueError: shapes, labels or k do not fit.

    >>> knn([[1.0, 0.0], [0.0, 1.0]], [0, 1], [[2.0, 1.0]], [0])
    1.0
    """
    a, b, y, truth, K = checked_features("knn", train, train_labels, test, test_labels, None)
    if not 1 <= k <= len(a):
        raise ValueError(f"knn: k must be in [1, {len(a)}], the training clips, got {k}")
    a, b = F.normalize(a, dim=1), F.normalize(b, dim=1)
    right = 0
    for rows, labels in zip(b.split(1024), truth.split(1024), strict=True):
        cosine, nearest = (rows @ a.T).topk(k, dim=1)
        # A vote counts more than all cosines of the k together can.
        weight = 4.0 * k + cosine.double()
        votes = torch.zeros(len(rows), K, dtype=torch.float64).scatter_add_(1, y[nearest], weight)
        right += int((votes.argmax(dim=1) == labels).sum())
    return right / len(b)


def nearest_mean(
    train: torch.Tensor | ArrayLike,
    train_labels: ArrayLike | torch.Tensor,
    test: torch.Tensor | ArrayLike,
    test_labels: ArrayLike | torch.Tensor,
) -> float:
    """Top-1 accuracy of the class whose mean feature is nearest by cosine; nothing is trained.

    Features are centred by the mean of the training clips and scaled to unit length before and after the classes' means
    are taken, so that a part that all features share does not decide (SimpleShot).

    Args:
        train, test: features (N, D), finite.
        train_labels, test_labels: (N) integers.

    Source: Snell et al., NeurIPS 2017, arXiv 1703.05175 (means of classes); Wang et al., 2019, arXiv 1911.04623.

    Raises:
        ValueError: shapes or labels do not fit.

    >>> nearest_mean([[1.0, 0.0], [0.0, 1.0]], [0, 1], [[2.0, 1.0], [0.0, 3.0]], [0, 1])
    1.0
    """
    a, b, y, truth, K = checked_features("nearest_mean", train, train_labels, test, test_labels, None)
    centre = a.mean(dim=0)
    a, b = F.normalize(a - centre, dim=1), F.normalize(b - centre, dim=1)
    means = F.normalize(torch.zeros(K, a.shape[1]).index_add_(0, y, a), dim=1)
    cosine = b @ means.T
    cosine[:, torch.bincount(y, minlength=K) == 0] = -math.inf  # a class without a labelled clip is never the answer
    return float((cosine.argmax(dim=1) == truth).double().mean())


@dataclass(frozen=True)
class RawBaseline:
    """What coordinates alone are good for."""

    knn: float
    probe: ProbeResult


def raw_baseline(train: Clips, test: Clips, config: ProbeConfig | None = None) -> RawBaseline:
    """1-NN by cosine and the linear probe on coordinates: 16 frames, root at 0 and unit size in every frame.

    No encoder is worth its name that does not beat the probe; 1-NN on coordinates is hard to beat on small sets whose
    clips are cut and turned alike.

    Raises:
        ValueError: the two sets have skeletons with other numbers of joints.
    """
    if train.skeleton.num_joints != test.skeleton.num_joints:
        raise ValueError(
            f"raw_baseline: train and test must have the same joints, got {train.skeleton.num_joints}"
            f" and {test.skeleton.num_joints}"
        )
    a, b = (raw_features(clips) for clips in (train, test))
    probe = linear_probe(a, train.label, b, test.label, config, len(train.classes))
    return RawBaseline(knn(a, train.label, b, test.label), probe)


def raw_features(clips: Clips) -> torch.Tensor:
    """(N, 3 * 16 * V) float32: coordinates relative to the centre joint, each frame divided by its root mean square."""
    x = torch.from_numpy(clips.resample(RAW_FRAMES))
    centre = clips.skeleton.centre
    x = x - x[:, :, :, centre : centre + 1]
    size = x.square().mean(dim=(1, 3), keepdim=True).sqrt()
    return (x / size.clamp(min=torch.finfo(x.dtype).tiny)).flatten(1)
