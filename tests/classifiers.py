"""Small teachers and students on a small set, for the tests of all that is done with them."""

import copy
import functools
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from asma.align import AlignConfig, align_probe, make_teacher
from asma.classifier import Classifier
from asma.config import DataConfig, EncoderConfig
from asma.data import builtin_clips
from asma.evaluate import encode_clips
from asma.models import Encoder
from asma.models.alignment import Alignment
from asma.prepare import prepare
from asma.supervised import SupervisedRun

CLIPS = builtin_clips(classes=3, subjects=4, views=1, repeats=2)
LABELS = torch.from_numpy(CLIPS.label)
DATA = DataConfig(frames=16, face="hips", scale=True)
X = prepare(CLIPS, DATA)
ENCODER = EncoderConfig(channels=(32, 64), strides=(2, 2), kernel=3, dropout=0.1, input_gain=1.2, segments=2)


def two_encoders() -> list[Encoder]:
    found = [Encoder(ENCODER, CLIPS.skeleton) for _ in range(2)]
    for encoder in found:
        encoder.start_input(X)
        encoder.calibrate(X)
    return found


def untrained_teacher() -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        encoders = two_encoders()
        alignment = Alignment(encoders[0].features, 32, dropout=0.2)
        return Classifier(encoders, alignment, nn.Linear(32, 3), CLIPS.classes, DATA).eval()


@functools.cache
def _probed_teacher() -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        encoders = two_encoders()
    features = (encode_clips(encoders[0], X), encode_clips(encoders[1], X))
    found = align_probe(features, LABELS, features, LABELS, AlignConfig(out=32, epochs=30, batch=8))
    return make_teacher(encoders, found, CLIPS.classes, DATA)


def teacher() -> Classifier:
    """Of two random encoders; alignment and head know the training clips, and are frozen."""
    return copy.deepcopy(_probed_teacher())


def small_student() -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        encoder = Encoder(EncoderConfig(channels=(8, 12), strides=(2, 2), kernel=3, dropout=0.0), CLIPS.skeleton)
        return Classifier([encoder], None, nn.Linear(12, 3), CLIPS.classes, DATA).eval()


def answers(model: Classifier, x: torch.Tensor = X) -> torch.Tensor:
    """Log-probabilities of clips."""
    with torch.no_grad():
        return model(x).log_softmax(dim=1)


def accuracy(model: Classifier, labels: torch.Tensor = LABELS) -> float:
    return float((answers(model).argmax(dim=1) == labels).double().mean())


def assert_same_weights(a: nn.Module, b: nn.Module) -> None:
    one, other = a.state_dict(), b.state_dict()
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


MACHINE = ("seconds", "clips_per_second", "data_wait", "memory_mb")


def metrics(folder: Path) -> list[dict[str, float]]:
    """Lines of metrics.jsonl without time and memory, which differ from run to run."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in MACHINE} for line in lines]


def stop_in_step(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Ctrl-C in the middle of a step."""
    train_step = SupervisedRun.train_step

    def interrupted(run: SupervisedRun) -> dict[str, torch.Tensor]:
        if run.step + 1 == step:
            raise KeyboardInterrupt
        return train_step(run)

    monkeypatch.setattr(SupervisedRun, "train_step", interrupted)


NOT_FINITE = X.clone()
NOT_FINITE[3, 0, 5, 2, 0] = torch.nan
SHAPE = r"clips must be \(N, 3, T, 25, M\) float32"
BAD_CLIPS = [
    (X[:0], "clips must be at least 2, got 0"),
    (X[:1], "clips must be at least 2, got 1"),
    (NOT_FINITE, "clips must be finite, clip 3 is not"),
    (X[:, :, :, :20], rf"{SHAPE} .*, got torch.float32 of shape \(24, 3, 16, 20, 1\)"),
    (X[:, :2], rf"{SHAPE} .* of shape \(24, 2, 16, 25, 1\)"),
    (X[..., 0], rf"{SHAPE} .* of shape \(24, 3, 16, 25\)"),
    (X[:, :, :0], rf"{SHAPE} with T and M at least 1, got .* of shape \(24, 3, 0, 25, 1\)"),
    (X.double(), f"{SHAPE} .*, got torch.float64"),
]
BAD_LABELS = [
    (LABELS[:5], r"labels must be \(24,\) integers, one a clip, got torch.int64 of shape \(5,\)"),
    (LABELS[:, None], r"got torch.int64 of shape \(24, 1\)"),
    (LABELS.double(), "one a clip, got torch.float64"),
    (LABELS > 0, "one a clip, got torch.bool"),
    (["sit"] * 24, "labels must be .* integers, one a clip, but "),
    ([None] * 24, "labels must be .* integers, one a clip, but "),
    ([[0], [1, 2]], "labels must be .* integers, one a clip, but "),
    (LABELS + 1, r"labels must be in \[0, 3\), or -1 for none, got 3"),
    (LABELS - 2, r"labels must be in \[0, 3\), or -1 for none, got -2"),
]
