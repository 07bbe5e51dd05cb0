"""How good features are: the linear probe, nearest neighbours, and both on raw coordinates.

Every protocol takes features (N, D) and labels (N), whatever made them, so that all rows of a table are treated alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn
from torch.nn import functional as F

from .data.clips import ClipSet
from .extras import Progress

__all__ = [
    "ProbeConfig",
    "ProbeResult",
    "Scores",
    "balanced_subset",
    "encode_clips",
    "ensemble",
    "evaluation_mode",
    "knn",
    "linear_probe",
    "raw_baseline",
    "score",
]

RAW_FRAMES = 16
SMALLEST_DEVIATION = 1e-4
"""Of a feature before it is divided by; one that never changes stays 0 instead of becoming noise."""


@dataclass(frozen=True)
class ProbeConfig:
    """Training of a linear classifier on frozen features: Adam with a half cosine down to 0 (PSTL, section 4.2)."""

    lr: float = 0.01
    epochs: int = 150
    batch: int = 128
    weight_decay: float = 0.0
    """Of the loss, as half the squared norm of the weights; the bias is left alone."""
    standardise: bool = True
    """Shift and scale features by mean and deviation of the training clips first."""
    seed: int = 0
    """Of the order of the clips; the weights start at 0."""

    def __post_init__(self) -> None:
        for name, rule, holds in (
            ("lr", "positive", self.lr > 0),
            ("epochs", "at least 1", self.epochs >= 1),
            ("batch", "at least 1", self.batch >= 1),
            ("weight_decay", "at least 0", self.weight_decay >= 0),
        ):
            if not holds:
                raise ValueError(f"ProbeConfig: {name} must be {rule}, got {getattr(self, name)}")


@dataclass(frozen=True)
class Scores:
    """What a classifier does on N test clips of K classes."""

    top1: float
    """Share of the clips whose class is the likeliest one."""
    top5: float
    """Share of the clips whose class is among the five likeliest, or among all if there are fewer."""
    predictions: NDArray[np.int64] = field(repr=False)
    """(N) likeliest class; the lower one of equals."""
    probabilities: NDArray[np.float32] = field(repr=False)
    """(N, K)."""
    confusion: NDArray[np.int64] = field(repr=False)
    """(K, K) clips of the row's class that were taken for the column's."""
    per_class: NDArray[np.float64] = field(repr=False)
    """(K) share of a class's clips that were recognised, NaN for a class without a test clip."""


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


def score(probabilities: ArrayLike | torch.Tensor, labels: ArrayLike | torch.Tensor) -> Scores:
    """Scores of class probabilities (N, K) against labels (N).

    Raises:
        ValueError: shapes do not fit, no clip, or a label outside [0, K).

    >>> score([[0.9, 0.1], [0.6, 0.4]], [0, 1]).confusion.tolist()
    [[1, 0], [1, 0]]
    """
    found = torch.as_tensor(probabilities).detach().float().cpu()
    if found.dim() != 2:
        raise ValueError(f"score: probabilities must be (N, K), got shape {tuple(found.shape)}")
    classes = found.shape[1]
    truth = _labels("score", "labels", labels, len(found), classes)
    # A stable order, so that equal probabilities give the same class everywhere.
    order = found.argsort(dim=1, descending=True, stable=True)
    hits = order == truth[:, None]
    confusion = torch.zeros(classes, classes, dtype=torch.int64)
    confusion.index_put_((truth, order[:, 0]), torch.ones((), dtype=torch.int64), accumulate=True)
    clips = confusion.sum(dim=1)
    return Scores(
        top1=float(hits[:, 0].double().mean()),
        top5=float(hits[:, :5].any(dim=1).double().mean()),
        predictions=order[:, 0].numpy(),
        probabilities=found.numpy(),
        confusion=confusion.numpy(),
        per_class=(confusion.diagonal().double() / clips).numpy(),
    )


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
    a, b, y, truth, K = _checked("linear_probe", train, train_labels, test, test_labels, classes)
    if len(y.unique()) < 2:
        raise ValueError("linear_probe: training clips must be of at least 2 classes, got 1")
    classifier = nn.Linear(a.shape[1], K)
    with torch.no_grad():
        classifier.weight.zero_()
        classifier.bias.zero_()
    deviation, mean = torch.std_mean(a, dim=0, correction=0)
    if config.standardise:
        deviation = deviation.clamp(min=SMALLEST_DEVIATION)
        a = (a - mean) / deviation
    train_linear(classifier, a, y, config)
    if config.standardise:
        with torch.no_grad():
            classifier.weight /= deviation
            classifier.bias -= classifier.weight @ mean
    with torch.no_grad():
        scores = score(classifier(b).softmax(dim=1), truth)
    return ProbeResult(**vars(scores), weights=classifier.requires_grad_(False))


def train_linear(model: nn.Module, features: torch.Tensor, labels: torch.Tensor, config: ProbeConfig) -> None:
    """The probe's training, of any module (N, D) -> (N, K) in place."""
    decayed = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    others = [parameter for parameter in model.parameters() if parameter.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.Adam(groups, config.lr)
    order = torch.Generator().manual_seed(config.seed)
    steps = config.epochs * math.ceil(len(features) / config.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(config.epochs):
        for batch in torch.randperm(len(features), generator=order).split(config.batch):
            loss = F.cross_entropy(model(features[batch]), labels[batch])
            optimiser.zero_grad()
            loss.backward()
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
    a, b, y, truth, K = _checked("knn", train, train_labels, test, test_labels, None)
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


@dataclass(frozen=True)
class RawBaseline:
    """What coordinates alone are good for."""

    knn: float
    probe: ProbeResult


def raw_baseline(train: ClipSet, test: ClipSet, config: ProbeConfig | None = None) -> RawBaseline:
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


def raw_features(clips: ClipSet) -> torch.Tensor:
    """(N, 3 * 16 * V) float32: coordinates relative to the centre joint, each frame divided by its root mean square."""
    x = torch.from_numpy(clips.resample(RAW_FRAMES))
    centre = clips.skeleton.centre
    x = x - x[:, :, :, centre : centre + 1]
    size = x.square().mean(dim=(1, 3), keepdim=True).sqrt()
    return (x / size.clamp(min=torch.finfo(x.dtype).tiny)).flatten(1)


def balanced_subset(labels: ArrayLike, fraction: float, seed: int = 0) -> NDArray[np.int64]:
    """Clips of the semi-supervised protocol: the same share of every class, at least one clip each.

    Returns:
        Indices, ascending. Deterministic in seed; draw several and report their mean and deviation.

    Raises:
        ValueError: fraction is not in (0, 1].

    >>> balanced_subset([0] * 10 + [1] * 20, 0.1).shape
    (3,)
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"balanced_subset: fraction must be in (0, 1], got {fraction}")
    truth = np.asarray(labels)
    rng = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(truth):
        clips = np.flatnonzero(truth == label)
        chosen.append(rng.choice(clips, max(1, round(fraction * len(clips))), replace=False))
    return np.sort(np.concatenate(chosen))


def ensemble(probabilities: Sequence[ArrayLike], weights: Sequence[float] = (0.6, 0.6, 0.4)) -> NDArray[np.float32]:
    """Weighted mean of the class probabilities (N, K) of several streams; the default is joint, bone, motion (PSTL).

    Raises:
        ValueError: other numbers of streams and weights, or streams of different shapes.

    >>> ensemble([[[1.0, 0.0]], [[0.0, 1.0]]], [3, 1]).tolist()
    [[0.75, 0.25]]
    """
    streams = [np.asarray(each, np.float32) for each in probabilities]
    if len(streams) != len(weights) or len({each.shape for each in streams}) != 1:
        shapes = ", ".join(str(each.shape) for each in streams)
        raise ValueError(f"ensemble: streams must be {len(weights)} arrays of one shape, one a weight, got {shapes}")
    return np.average(np.stack(streams), axis=0, weights=np.asarray(weights, np.float32)).astype(np.float32)


def _checked(
    where: str,
    train: torch.Tensor | ArrayLike,
    train_labels: ArrayLike | torch.Tensor,
    test: torch.Tensor | ArrayLike,
    test_labels: ArrayLike | torch.Tensor,
    classes: int | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, int]:
    a, b = _features(where, "train", train), _features(where, "test", test)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"{where}: train and test must have as many features, got {a.shape[1]} and {b.shape[1]}")
    y = _labels(where, "train_labels", train_labels, len(a), classes)
    truth = _labels(where, "test_labels", test_labels, len(b), classes)
    return a, b, y, truth, classes or int(max(y.max(), truth.max())) + 1


def _features(where: str, name: str, features: torch.Tensor | ArrayLike) -> torch.Tensor:
    found = torch.as_tensor(features).detach().float().cpu()
    if found.dim() != 2 or not found.numel():
        raise ValueError(f"{where}: {name} must be (N, D) with N and D at least 1, got shape {tuple(found.shape)}")
    broken = (~found.isfinite()).any(dim=1).nonzero()
    if len(broken):
        raise ValueError(f"{where}: {name} must be finite, row {int(broken[0])} is not")
    return found


def _labels(
    where: str, name: str, labels: ArrayLike | torch.Tensor, clips: int, classes: int | None
) -> torch.Tensor:
    found = torch.as_tensor(labels).cpu()
    if found.is_floating_point() or found.dtype == torch.bool:
        raise ValueError(f"{where}: {name} must be integers, got {found.dtype}")
    if tuple(found.shape) != (clips,) or not clips:
        raise ValueError(f"{where}: {name} must be ({clips},), one a clip, got shape {tuple(found.shape)}")
    found = found.long()
    outside = found[(found < 0) | (found >= (classes or math.inf))]
    if len(outside):
        raise ValueError(f"{where}: {name} must be in [0, {classes or 'number of classes'}), got {int(outside[0])}")
    return found
