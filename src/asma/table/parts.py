"""The parts of a table: what each compares, by which protocol, for one seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from asma.align import AlignConfig, align_probe
from asma.comparison import (
    ALIGNED,
    ENCODERS,
    RANDOM,
    RANDOM_ALIGNED,
    RAW,
    STUDENT,
    TOGETHER,
    Features,
    Pair,
    measure,
)  # fmt: skip
from asma.evaluate import linear_probe, nearest_mean, raw_features
from asma.scores import balanced_subset, ensemble

from .config import STREAMS, Part
from .learn import FINETUNED, finetuned, student
from .work import RANDOM_ENCODER, Work

__all__ = ["PARTS", "PSTL_ALIGNED", "Measurement", "PartPlan"]

PSTL_ALIGNED = "two encoders with PSTL's masks, aligned"
SHARES = {"1 %": 0.01, "10 %": 0.1}
SHOTS = {"1 clip a class": 1, "5 clips a class": 5}
FROZEN = {"top1": "linear probe", "top5": "top 5", "knn": "1-NN"}
MODELS = {RANDOM: RANDOM_ENCODER, ENCODERS["pstl"]: "pstl", ENCODERS["e1"]: "e1", ENCODERS["e2"]: "e2"}
"""Row -> encoder."""


@dataclass
class Measurement:
    """What one seed gave."""

    rows: dict[str, dict[str, list[float]]]
    """Row -> column -> share of the test clips that were recognised, one number a draw."""
    probabilities: dict[str, torch.Tensor] = field(default_factory=dict)
    """Row -> (N, K), where classes can be told apart by them."""


class PartPlan(NamedTuple):
    """What is said of a part, and the function that measures it."""

    title: str
    note: str
    columns: dict[str, str]
    """Column -> its heading."""
    measure: Callable[[Work], Measurement]


def frozen(work: Work, transfer: bool = False) -> Measurement:
    """Each encoder alone, ASMa's two together, and what the togetherness itself is worth."""
    split = work.splits.transfer if transfer else work.splits.own()
    made = {row: work.features(name, transfer) for row, name in MODELS.items()}
    both = made[ENCODERS["e1"]], made[ENCODERS["e2"]]
    pairs = {row: Pair(*both, mode) for mode, row in TOGETHER.items()}
    pairs[PSTL_ALIGNED] = Pair(made[ENCODERS["pstl"]], work.features("pstl-other", transfer))
    pairs[RANDOM_ALIGNED] = Pair(made[RANDOM], work.features(f"{RANDOM_ENCODER}-other", transfer))
    found = measure(split, made, pairs).rows
    rows = {row: {column: [values[column]] for column in FROZEN} for row, values in found.items()}
    return Measurement(rows, {row: values["probabilities"] for row, values in found.items()})


def few_labels(work: Work) -> Measurement:
    """The frozen features with classifiers that see a part of the labels only."""
    split = work.splits.own()
    labels, truth, classes = split.train.label, split.test.label, len(split.train.classes)
    both = tuple(zip(work.features("e1"), work.features("e2"), strict=True))

    def alone(train: torch.Tensor, test: torch.Tensor, index: NDArray[np.int64]) -> float:
        return linear_probe(train[torch.from_numpy(index)], labels[index], test, truth, classes=classes).top1

    def aligned(index: NDArray[np.int64]) -> float:
        rows = torch.from_numpy(index)
        (first, second), test = both
        pair = first[rows], second[rows]
        return align_probe(pair, labels[index], test, truth, AlignConfig(seed=work.seed), classes=classes).top1

    rows: dict[str, dict[str, list[float]]] = {}
    for column, share in SHARES.items():
        draws = [balanced_subset(labels, share, _draw(work, draw)) for draw in range(work.config.draws)]
        for row, (train, test) in _single(work).items():
            rows.setdefault(row, {})[column] = [alone(train, test, index) for index in draws]
        rows.setdefault(ALIGNED, {})[column] = [aligned(index) for index in draws]
    return Measurement(rows)


def few_shot(work: Work) -> Measurement:
    """Nearest mean of a few labelled clips a class, by cosine; nothing is trained."""
    split = work.splits.own()
    labels, truth = split.train.label, split.test.label
    rows: dict[str, dict[str, list[float]]] = {}
    for column, shots in SHOTS.items():
        draws = [_shots(labels, shots, _draw(work, draw)) for draw in range(work.config.draws)]
        for row, (train, test) in _single(work).items():
            rows.setdefault(row, {})[column] = [
                nearest_mean(train[torch.from_numpy(index)], labels[index], test, truth) for index in draws
            ]
    return Measurement(rows)


def streams(work: Work) -> Measurement:
    """An encoder of its own for each stream, and the weighted mean of the three answers."""
    split = work.splits.own()
    labels, truth, classes = split.train.label, split.test.label, len(split.train.classes)
    rows: dict[str, dict[str, list[float]]] = {stream: {} for stream in (*STREAMS, "all three")}

    def suffixed(name: str, stream: str) -> str:
        return name if stream == "joint" else f"{name}-{stream}"

    for column, names in STREAM_MODELS.items():
        answers = []
        for stream in STREAMS:
            made = [work.features(suffixed(name, stream)) for name in names]
            train, test = (torch.cat(side, dim=1) for side in zip(*made, strict=True))
            probe = linear_probe(train, labels, test, truth, classes=classes)
            answers.append(probe.probabilities)
            rows[stream][column] = [probe.top1]
        right = ensemble(answers).argmax(axis=1) == truth
        rows["all three"][column] = [float(right.mean())]
    return Measurement(rows)


STREAM_MODELS = {"random": [RANDOM_ENCODER], "e1": ["e1"], "both": ["e1", "e2"]}


def masks(pairs: dict[str, tuple[str, str]]) -> Callable[[Work], Measurement]:
    """Encoders by the name of what is different about them, each alone, and in pairs, aligned."""
    columns = {"top1": "linear probe", "knn": "1-NN"}

    def measured(work: Work) -> Measurement:
        names = sorted({name for pair in pairs.values() for name in pair if name})
        alone = {name: work.features(name) for name in names}
        together = {row: Pair(alone[one], alone[other]) for row, (one, other) in pairs.items() if other}
        found = measure(work.splits.own(), alone, together).rows
        rows = {row: found[row if other else one] for row, (one, other) in pairs.items()}
        return Measurement({row: {column: [values[column]] for column in columns} for row, values in rows.items()})

    return measured


def finetune_part(work: Work) -> Measurement:
    """All weights learn from labels, from a random start and from pretrained ones."""
    rows: dict[str, dict[str, list[float]]] = {row: {} for row in FINETUNED}
    labels = work.splits.own().train.label
    for column, share in {**SHARES, "all": 1.0}.items():
        index = balanced_subset(labels, share, _draw(work, 0))
        for row in FINETUNED:
            rows[row][column] = [finetuned(work, row, column, index)]
    return Measurement(rows)


def student_part(work: Work) -> Measurement:
    """A small model learns from labels and from ASMa's aligned pair."""
    found = student(work)
    return Measurement({STUDENT: {column: [found[column]] for column in FROZEN}}, {STUDENT: found["probabilities"]})


def _single(work: Work) -> dict[str, Features]:
    """Features of every kind that needs no training by labels."""
    split = work.splits.own()
    raw = raw_features(split.train), raw_features(split.test)
    made = {RAW: raw} | {row: work.features(name) for row, name in MODELS.items()}
    first, second = made[ENCODERS["e1"]], made[ENCODERS["e2"]]
    both = torch.cat([first[0], second[0]], dim=1), torch.cat([first[1], second[1]], dim=1)
    return made | {TOGETHER["concat"]: both}


def _draw(work: Work, draw: int) -> int:
    """The seed of a choice of labelled clips: the same for every row, another for each of the table's seeds."""
    return 1000 * work.seed + draw


def _shots(labels: NDArray[np.int64], shots: int, seed: int) -> NDArray[np.int64]:
    """So many clips of every class, or all of a class that has fewer."""
    rng = np.random.default_rng(seed)
    found = []
    for label in np.unique(labels):
        clips = np.flatnonzero(labels == label)
        found.append(rng.choice(clips, min(shots, len(clips)), replace=False))
    return np.sort(np.concatenate(found))


def _headings(columns: Sequence[str]) -> dict[str, str]:
    return {column: column for column in columns}


PER_CLIP = {
    "encoder 1, masks shared by the batch": ("e1", ""),
    "encoder 1, masks of each clip": ("e1-per-clip", ""),
    "encoder 2, masks shared by the batch": ("e2", ""),
    "encoder 2, masks of each clip": ("e2-per-clip", ""),
    "aligned, masks shared by the batch": ("e1", "e2"),
    "aligned, masks of each clip": ("e1-per-clip", "e2-per-clip"),
}
SIDES = {
    "joints high, frames low: encoder 1": ("e1", ""),
    "joints low, frames high: encoder 2": ("e2", ""),
    "joints high, frames high: PSTL's": ("pstl", ""),
    "joints low, frames low": ("low", ""),
    "aligned: encoders 1 and 2": ("e1", "e2"),
    "aligned: high and high, low and low": ("pstl", "low"),
    "aligned: two of PSTL's": ("pstl", "pstl-other"),
    "aligned: two of encoder 1": ("e1", "e1-other"),
}
AMOUNTS = {
    "half as many joints and frames masked": ("e1-half", ""),
    "as the preset has it": ("e1", ""),
    "half as many again": ("e1-more", ""),
}
TOP1 = {"top1": "linear probe", "knn": "1-NN"}
PARTS: dict[Part, PartPlan] = {
    "frozen": PartPlan(
        "Frozen encoders",
        "A linear classifier and the nearest training clip on features that labels had no part in. An aligned row has "
        "a small network that learns from labels; the same network on two random encoders and on two of PSTL's says "
        "how much of its gain is the network's, and how much the second encoder's.",
        FROZEN,
        frozen,
    ),
    "few-labels": PartPlan(
        "Few labels, frozen encoders",
        "The linear classifier sees a share of the training labels, the same of every class, at least one clip each.",
        _headings(list(SHARES)),
        few_labels,
    ),
    "few-shot": PartPlan(
        "Few shots",
        "The nearest mean, by cosine, of a few labelled clips of each class; nothing is trained.",
        _headings(list(SHOTS)),
        few_shot,
    ),
    "finetune": PartPlan(
        "Fine-tuning",
        "All weights learn from a share of the labels, from where a probe on the same share left the classifier.",
        _headings([*SHARES, "all"]),
        finetune_part,
    ),
    "streams": PartPlan(
        "Streams",
        "Linear probe of encoders pretrained on joints, on bones and on motion, and of the weighted mean of their "
        "answers (0.6, 0.6, 0.4).",
        {"random": "random encoder", "e1": "encoder 1", "both": "encoders 1 and 2, concatenated"},
        streams,
    ),
    "per-clip": PartPlan(
        "Masks of each clip or of the batch",
        "PSTL draws one mask for all clips of a batch.",
        TOP1,
        masks(PER_CLIP),
    ),
    "sides": PartPlan(
        "Which side is masked",
        "Joints of high or low degree, frames of high or low motion; pairs are aligned.",
        TOP1,
        masks(SIDES),
    ),
    "amounts": PartPlan("How much is masked", "Encoder 1.", TOP1, masks(AMOUNTS)),
    "transfer": PartPlan(
        "Transfer",
        "The same encoders, frozen, on the clips of another set that they never saw; its joints are mapped to those "
        "that the encoders know. The raw rows are the other set's own.",
        FROZEN,
        lambda work: frozen(work, transfer=True),
    ),
    "student": PartPlan(
        "Student",
        "All of it learns, from labels and from the aligned pair; its row is not comparable with frozen ones.",
        FROZEN,
        student_part,
    ),
}
