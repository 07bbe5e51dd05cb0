"""What a classifier does on test clips, as numbers, and the checks of features and labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

__all__ = ["Scores", "balanced_subset", "check_labels", "checked_features", "ensemble", "score"]


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
    truth = check_labels("score", "labels", labels, len(found), classes)
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


def checked_features(
    where: str,
    train: torch.Tensor | ArrayLike,
    train_labels: ArrayLike | torch.Tensor,
    test: torch.Tensor | ArrayLike,
    test_labels: ArrayLike | torch.Tensor,
    classes: int | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, int]:
    """Training and test features (N, D) float32, their labels (N) int64, and K. A ValueError begins with `where`."""
    a, b = check_features(where, "train", train), check_features(where, "test", test)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"{where}: train and test must have as many features, got {a.shape[1]} and {b.shape[1]}")
    y = check_labels(where, "train_labels", train_labels, len(a), classes)
    truth = check_labels(where, "test_labels", test_labels, len(b), classes)
    return a, b, y, truth, classes or int(max(y.max(), truth.max())) + 1


def check_features(where: str, name: str, features: torch.Tensor | ArrayLike) -> torch.Tensor:
    found = torch.as_tensor(features).detach().float().cpu()
    if found.dim() != 2 or not found.numel():
        raise ValueError(f"{where}: {name} must be (N, D) with N and D at least 1, got shape {tuple(found.shape)}")
    broken = (~found.isfinite()).any(dim=1).nonzero()
    if len(broken):
        raise ValueError(f"{where}: {name} must be finite, row {int(broken[0])} is not")
    return found


def check_labels(
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
