"""The parts of a table that train by labels: fine-tuned models and the student, each a run in the table's folder."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from asma.align import AlignConfig, align_probe, make_teacher
from asma.classifier import CLASSIFIER_FILE, Classifier, load_classifier
from asma.comparison import ALIGNED, ENCODERS, student_row
from asma.distill import distill
from asma.evaluate import evaluation_mode, linear_probe
from asma.finetune import finetune
from asma.scores import score

from .work import RANDOM_ENCODER, Work

__all__ = ["FINETUNED", "finetuned", "student"]

FINETUNED = {
    "from random weights": (RANDOM_ENCODER,),
    ENCODERS["pstl"]: ("pstl",),
    ENCODERS["e1"]: ("e1",),
    ALIGNED: ("e1", "e2"),
}
"""Row -> the encoders that it starts from."""


def finetuned(work: Work, row: str, share: str, index: NDArray[Any]) -> float:
    """Top-1 accuracy of a model of `FINETUNED` that learnt from the training clips of `index`."""
    names = FINETUNED[row]
    run = work.folder / "finetune" / f"{'-'.join(names)}-{share.replace(' %', '-per-cent')}"
    split = work.splits.own()
    if (run / CLASSIFIER_FILE).exists():
        model, _ = load_classifier(run)
    else:
        model = _probed(work, names, index)
        clips, labels = split.train_x[torch.from_numpy(index)], split.train.label[index]
        config = work.config.finetuning(work.seed)
        work.say(f"seed {work.seed}: fine-tuning {row} on {len(index)} clips")
        model = finetune(model, clips, labels, config, run, resume=run.exists())
    with evaluation_mode(model):
        return score(model(split.test_x).softmax(dim=1), split.test.label).top1


def _probed(work: Work, names: tuple[str, ...], index: NDArray[Any]) -> Classifier:
    """Encoders, alignment and classifier as a probe on the clips of `index` leaves them."""
    split, rows = work.splits.own(), torch.from_numpy(index)
    labels, truth, classes = split.train.label[index], split.test.label, split.train.classes
    encoders = [copy.deepcopy(work.encoder(name)) for name in names]
    features = [work.features(name) for name in names]
    data = work.config.pretraining("e1", work.seed).data
    if len(names) == 2:
        (a, b), (c, d) = features
        config = AlignConfig(seed=work.seed)
        result = align_probe((a[rows], c[rows]), labels, (b, d), truth, config, classes=len(classes))
        return make_teacher(encoders, result, classes, data)
    ((train, test),) = features
    probe = linear_probe(train[rows], labels, test, truth, classes=len(classes))
    return Classifier(encoders, None, probe.weights, classes, data).eval()


def student(work: Work) -> dict[str, Any]:
    """The row of a student of encoders 1 and 2, aligned."""
    run: Path = work.folder / "student"
    split = work.splits.own()
    if (run / CLASSIFIER_FILE).exists():
        model, _ = load_classifier(run)
    else:
        teacher = _probed(work, FINETUNED[ALIGNED], torch.arange(len(split.train)).numpy())
        config = work.config.distillation(work.seed)
        work.say(f"seed {work.seed}: distilling the student")
        model = distill(teacher, split.train_x, config, run, resume=run.exists(), labels=split.train.label)
    return student_row(model, split)
