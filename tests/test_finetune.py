"""Fine-tuning: all of a classifier learns from labels, the same way each time, and goes on where it stopped."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from classifiers import (
    BAD_CLIPS,
    BAD_LABELS,
    LABELS,
    X,
    accuracy,
    answers,
    assert_same_weights,
    content,
    metrics,
    small_student,
    stop_in_step,
    teacher,
    untrained_teacher,
)

from asma.classifier import Classifier, load_classifier, save_classifier
from asma.config import OptimiserConfig, ViewConfig
from asma.distill import DistillConfig, distill
from asma.finetune import FinetuneConfig, finetune
from asma.supervised import SupervisedRun

CONFIG = FinetuneConfig(
    optimiser=OptimiserConfig(lr=5e-3, batch=8, steps=9, warmup=0.1),
    views=ViewConfig(shear=0.3, flip=0.0, per_clip=True),
    log_every=2,
    checkpoint_every=4,
)


@pytest.fixture(autouse=True)
def one_thread():
    """See test_pretrain."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def steps(number: int, config: FinetuneConfig = CONFIG) -> FinetuneConfig:
    return replace(config, optimiser=replace(config.optimiser, steps=number))


def test_every_parameter_learns_those_that_the_probe_froze_too(tmp_path: Path) -> None:
    model, before = teacher(), teacher()
    assert not all(parameter.requires_grad for parameter in before.parameters())
    tuned = finetune(model, X, LABELS, CONFIG, tmp_path / "run")
    assert tuned is model and not any(module.training for module in model.modules())
    for name, parameter in model.named_parameters():
        assert not torch.equal(parameter, before.get_parameter(name)), name


@pytest.mark.parametrize(("start", "number"), [(untrained_teacher, 20), (small_student, 60)])
def test_it_raises_the_accuracy_on_the_training_clips(
    tmp_path: Path, start: Callable[[], Classifier], number: int
) -> None:
    model = start()
    before = accuracy(model)
    finetune(model, X, LABELS.tolist(), steps(number, replace(CONFIG, views=None)), tmp_path / "run")
    assert before < 0.5 and accuracy(model) > 0.75
    lines = metrics(tmp_path / "run")
    assert lines[-1]["loss"] < lines[0]["loss"]


def test_the_loss_is_the_cross_entropy_with_smoothed_labels(tmp_path: Path) -> None:
    config = FinetuneConfig(optimiser=OptimiserConfig(batch=24, steps=1), views=None, label_smoothing=0.3)
    finetune(small_student(), X, LABELS, config, tmp_path / "run")
    (line,) = metrics(tmp_path / "run")
    logs = small_student().train()(X).detach().double().log_softmax(dim=1)
    expected = -0.7 * logs[torch.arange(24), LABELS].mean() - 0.3 * logs.mean()
    assert line["loss"] == pytest.approx(float(expected), rel=1e-4)


def test_clips_are_augmented_where_views_are_asked_for(tmp_path: Path) -> None:
    for name, views in (("plain", None), ("augmented", CONFIG.views)):
        finetune(small_student(), X, LABELS, replace(steps(1), views=views), tmp_path / name)
    losses = [metrics(tmp_path / name)[0]["loss"] for name in ("plain", "augmented")]
    assert abs(losses[0] - losses[1]) > 1e-3


def test_the_classifier_of_the_folder_is_the_returned_one(tmp_path: Path) -> None:
    model = finetune(teacher(), X, LABELS, CONFIG, tmp_path / "run")
    loaded, notes = load_classifier(tmp_path / "run")
    assert torch.equal(answers(loaded), answers(model)) and notes["steps"] == 9
    assert {file.name for file in (tmp_path / "run").iterdir()} == {
        "config.json", "metrics.jsonl", "checkpoint.pt", "checkpoint.previous.pt", "classifier.safetensors",
    }  # fmt: skip


def test_seeds_repeat_and_differ_and_the_random_state_is_left_alone(tmp_path: Path) -> None:
    found = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.manual_seed(len(found))
        before = torch.get_rng_state()
        found.append(finetune(teacher(), X, LABELS, replace(steps(3), seed=seed), tmp_path / name))
        assert torch.equal(before, torch.get_rng_state())
    assert_same_weights(found[0], found[1])
    assert not torch.equal(answers(found[0]), answers(found[2]))


def test_a_teacher_from_its_file_learns_as_the_one_in_memory(tmp_path: Path) -> None:
    save_classifier(tmp_path / "classifier.safetensors", untrained_teacher(), {})
    loaded, _ = load_classifier(tmp_path)
    one = finetune(untrained_teacher(), X, LABELS, steps(3), tmp_path / "one")
    assert_same_weights(one, finetune(loaded, X, LABELS, steps(3), tmp_path / "other"))


@pytest.mark.parametrize("step", [7, 3], ids=["after a checkpoint", "before the first one"])
def test_stopped_and_resumed_is_bit_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    whole = finetune(teacher(), X, LABELS, CONFIG, tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_in_step(patch, step)
        finetune(teacher(), X, LABELS, CONFIG, tmp_path / "parts")
    torch.manual_seed(999)  # another process
    parts = finetune(teacher(), X, LABELS, CONFIG, tmp_path / "parts", resume=True)
    assert_same_weights(whole, parts)
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "parts")


def test_a_finished_run_is_returned_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = finetune(teacher(), X, LABELS, CONFIG, tmp_path / "run")
    lines = metrics(tmp_path / "run")
    monkeypatch.setattr(SupervisedRun, "train_step", lambda run: pytest.fail("trained again"))
    assert_same_weights(first, finetune(teacher(), X, LABELS, CONFIG, tmp_path / "run", resume=True))
    assert metrics(tmp_path / "run") == lines


def test_a_refused_folder_is_left_alone_and_so_is_the_model(tmp_path: Path) -> None:
    run, student, home = tmp_path / "run", tmp_path / "student", tmp_path / "teacher"
    finetune(teacher(), X, LABELS, CONFIG, run)
    distill(teacher(), X, DistillConfig(optimiser=OptimiserConfig(batch=8, steps=1)), student)
    home.mkdir()
    save_classifier(home / "classifier.safetensors", teacher(), {})
    other = "the run was begun with other clips, labels or models"
    for folder, start, config, clips, labels, resume, message in (
        (run, teacher, CONFIG, X, LABELS, False, "holds a run already: go on with it by --resume, or take"),
        (run, teacher, replace(CONFIG, label_smoothing=0.2), X, LABELS, True, r"another label_smoothing \(0.1, not"),
        (run, teacher, CONFIG, X + 1, LABELS, True, other),
        (run, teacher, CONFIG, X, LABELS.flip(0), True, other),
        (run, untrained_teacher, CONFIG, X, LABELS, True, other),
        (student, teacher, CONFIG, X, LABELS, False, "holds a run already"),
        (student, teacher, CONFIG, X, LABELS, True, "is not the config of a run"),
        (home, teacher, CONFIG, X, LABELS, False, "holds a teacher or student already"),
    ):
        before, model = content(folder), start()
        with pytest.raises((ValueError, FileExistsError), match=message) as error:
            finetune(model, clips, labels, config, folder, resume)
        assert str(folder) in str(error.value) and content(folder) == before
        assert torch.equal(answers(model), answers(start())) and not model.training


@pytest.mark.parametrize(("clips", "message"), BAD_CLIPS)
def test_bad_clips_are_refused_before_anything_is_written(tmp_path: Path, clips: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=f"^finetune: {message}"):
        finetune(small_student(), clips, LABELS[: len(clips)], CONFIG, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("labels", "message"), [*BAD_LABELS, (LABELS - 1, "every clip must have a label, got -1")])
def test_bad_labels_are_refused_before_anything_is_written(tmp_path: Path, labels: object, message: str) -> None:
    with pytest.raises(ValueError, match=f"^finetune: .*{message}"):
        finetune(small_student(), X, labels, CONFIG, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_label_smoothing_must_leave_something_of_the_label() -> None:
    for value in (1.0, -0.1):
        with pytest.raises(ValueError, match=rf"label_smoothing must be in \[0, 1\), got {value}"):
            FinetuneConfig(label_smoothing=value)
