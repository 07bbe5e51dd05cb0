"""What demos and tables compare: pretraining runs that differ in one thing, and how well their frozen features do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch

from .align import AlignConfig, AlignResult, align_probe
from .classifier import Classifier
from .config import PretrainConfig, need, preset, with_masks
from .distill import DistillConfig
from .evaluate import encode_clips, evaluation_mode, knn, linear_probe, raw_baseline
from .models import Encoder
from .models.alignment import Mode
from .prepare import Split
from .pretrain import Pretraining
from .scores import Scores, score

RAW, RANDOM, ALIGNED, STUDENT = "raw coordinates", "random encoder", "aligned", "student"
ENCODERS = {"pstl": "PSTL's masks", "e1": "encoder 1", "e2": "encoder 2"}
RANDOM_ALIGNED = "two random encoders, aligned"
OTHER_SEED = 1 << 32
"""Added to a seed for its second encoder of the same kind."""
TOGETHER: dict[Mode, str] = {"mean": "mean", "concat": "concatenation", "aligned": ALIGNED}
STUDENT_STEPS = {"demo": 200, "cpu": 1000, "asma": 0}
"""0: by epochs."""

Features = tuple[torch.Tensor, torch.Tensor]
"""Of the training and of the test clips, (N, D) each."""


@dataclass(frozen=True)
class Comparison:
    """Which clips, and how encoders are pretrained on them."""

    data: str = "builtin"
    """"builtin" (made by code), the folder of a store, or an .npz file with the .json of the same name beside it."""
    protocol: str = ""
    """How clips are split, for example subject-odd-even or view-12-3; empty for the usual split of the set."""
    centre: Literal["frame", "clip"] = "frame"
    """Put the body at 0 in every frame, or only in the first, which keeps its way through the room."""
    face: Literal["auto", "hips", "shoulders", "none"] = "auto"
    """Turn every body to the camera by these joints. auto: by the hips, but not in the built-in clips, where a camera
    that stands elsewhere is what has to be seen through."""
    preset: Literal["demo", "cpu", "asma"] = "demo"
    """Settings of the pretraining: demo takes minutes, cpu as long as it needs, asma is the paper's for a GPU."""
    seeds: tuple[int, ...] = (0,)
    """Everything is done once for each; tables show mean and standard deviation."""

    def __post_init__(self) -> None:
        different = len(set(self.seeds)) == len(self.seeds) > 0
        need(different, "seeds must be different numbers, at least one", self.seeds)

    def pretraining(self, encoder: str, seed: int) -> PretrainConfig:
        """The pretraining run of one of `ENCODERS`."""
        config = with_masks(preset(self.preset), encoder)
        face = ("none" if self.data.split(":")[0] == "builtin" else "hips") if self.face == "auto" else self.face
        data = replace(config.data, clips=self.data, protocol=self.protocol, centre=self.centre, face=face)
        return replace(config, data=data, seed=seed)

    def distillation(self, seed: int) -> DistillConfig:
        """The student's run."""
        default = DistillConfig(seed=seed, bfloat16=preset(self.preset).bfloat16)
        return replace(default, optimiser=replace(default.optimiser, steps=STUDENT_STEPS[self.preset]))


def random_encoder(config: PretrainConfig, split: Split) -> Encoder:
    """What pretraining starts from, with the running statistics that a trained encoder gets too."""
    encoder = Pretraining(config, split.train_x, split.train.skeleton).encoder
    encoder.calibrate(split.train_x)
    return encoder.eval()


class Pair(NamedTuple):
    """Two encoders' features and how they become one."""

    first: Features
    second: Features
    mode: Mode = "aligned"


class Measured(NamedTuple):
    """Rows, and the pairs' classifiers by row."""

    rows: dict[str, dict[str, Any]]
    pairs: dict[str, AlignResult]


def features_of(encoder: Encoder, split: Split) -> Features:
    """Of the clips of both sides."""
    return encode_clips(encoder, split.train_x), encode_clips(encoder, split.test_x)


def measure(split: Split, alone: Mapping[str, Features], together: Mapping[str, Pair]) -> Measured:
    """Linear probe and nearest neighbour on the coordinates, on features, and on pairs of features.

    The alignment of a pair is a network that learns from labels; what it makes of two random encoders says how much of
    its gain is pretraining's.
    """
    labels, truth, classes = split.train.label, split.test.label, len(split.train.classes)
    raw = raw_baseline(split.train, split.test)
    found = Measured({RAW: row(raw.probe, raw.knn)}, {})
    for name, (train, test) in alone.items():
        probe = linear_probe(train, labels, test, truth, classes=classes)
        found.rows[name] = row(probe, knn(train, labels, test, truth))
    for name, pair in together.items():
        train_pair, test_pair = zip(pair.first, pair.second, strict=True)
        aligned = align_probe(train_pair, labels, test_pair, truth, AlignConfig(mode=pair.mode), classes=classes)
        with torch.no_grad():
            nearest = knn(aligned.alignment(*train_pair), labels, aligned.alignment(*test_pair), truth)
        found.rows[name], found.pairs[name] = row(aligned, nearest), aligned
    return found


def row(probe: Scores, nearest: float) -> dict[str, Any]:
    """Of one seed; probabilities (N, K) of the test clips with it."""
    probabilities = torch.from_numpy(probe.probabilities)
    return {"top1": probe.top1, "top5": probe.top5, "knn": nearest, "probabilities": probabilities}


def student_row(student: Classifier, split: Split) -> dict[str, Any]:
    """Of the student's own classifier; 1-NN on its representation."""
    with evaluation_mode(student):
        train, test = student.represent(split.train_x), student.represent(split.test_x)
        found = score(student.head(test).softmax(dim=1), split.test.label)
    return row(found, knn(train, split.train.label, test, split.test.label))
