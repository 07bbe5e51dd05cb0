"""The student: its size, what it learns from, and runs that stop, go on or are refused."""

import json
import math
from dataclasses import replace
from pathlib import Path

import classifiers
import pytest
import torch
from classifiers import (
    BAD_CLIPS,
    BAD_LABELS,
    CLIPS,
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
)
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from asma.classifier import Classifier, load_classifier, save_classifier
from asma.config import OptimiserConfig, ViewConfig
from asma.distill import DistillConfig, distill, relation_loss
from asma.finetune import FinetuneConfig, finetune
from asma.pretrain import NonFiniteLossError
from asma.student import make_student
from asma.supervised import SupervisedRun

CONFIG = DistillConfig(
    optimiser=OptimiserConfig(lr=1e-2, batch=8, steps=12, warmup=0.1),
    views=ViewConfig(shear=0.3, flip=0.0, per_clip=True),
    log_every=2,
    checkpoint_every=5,
)


@pytest.fixture(autouse=True)
def one_thread():
    """See test_pretrain."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def steps(number: int, config: DistillConfig = CONFIG) -> DistillConfig:
    return replace(config, optimiser=replace(config.optimiser, steps=number))


def size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def divergence(model: Classifier, wanted: Classifier) -> float:
    """KL of the model's answers from the wanted ones, over the training clips."""
    return float(F.kl_div(answers(model), answers(wanted), reduction="batchmean", log_target=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"share": 0.09}, r"share must be in \(0, 0.086\], got 0.09"),
        ({"share": 0.0}, r"share must be in \(0, 0.086\], got 0.0"),
        ({"temperature": 0.0}, "temperature must be positive, got 0.0"),
        ({"channels": (8, 0)}, r"channels must be positive, got \(8, 0\)"),
        ({"strides": (2, 0)}, r"strides must be positive, got \(2, 0\)"),
        ({"kernel": 4}, "kernel must be odd and positive, or 0 for that of the student, got 4"),
        ({"kernel": -1}, "kernel must be odd and positive, or 0 .*, got -1"),
        ({"ce": -1.0}, "ce, kl, feature and relation must be at least 0, got .*'ce': -1.0"),
        ({"relation": -1.0}, "ce, kl, feature and relation must be at least 0, got .*'relation': -1.0"),
        ({"kl": 0.0, "feature": 0.0}, "nothing is learnt from the teacher"),
        ({"log_every": 0}, "log_every must be at least 1, got 0"),
        ({"checkpoint_every": 0}, "checkpoint_every must be at least 1, got 0"),
        ({"seed": -1}, "seed must be in .*, got -1"),
    ],
)
def test_settings_say_what_is_wrong(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **changes)


@pytest.mark.parametrize(("views", "share"), [(None, 0.1), (CONFIG.views, 0.6)], ids=["plain", "augmented"])
def test_distilling_brings_the_student_closer_to_the_teacher(
    tmp_path: Path, views: ViewConfig | None, share: float
) -> None:
    big = teacher()
    best = answers(big).argmax(dim=1)
    start = make_student(big, CONFIG).eval()
    student = distill(big, X, steps(60, replace(CONFIG, views=views)), tmp_path / "run")
    assert divergence(student, big) < share * divergence(start, big)
    assert accuracy(student, labels=best) > 0.8 > accuracy(start, labels=best)
    lines = metrics(tmp_path / "run")
    assert lines[-1]["kl"] < 0.5 * lines[0]["kl"] and lines[-1]["feature"] < lines[0]["feature"]


def test_the_student_of_the_folder_is_the_returned_one(tmp_path: Path) -> None:
    big = teacher()
    student = distill(big, X, CONFIG, tmp_path / "run", labels=LABELS)
    assert not student.training and size(student) <= 0.086 * size(big)
    loaded, notes = load_classifier(tmp_path / "run")
    assert torch.equal(answers(loaded), answers(student))
    assert loaded.classes == CLIPS.classes and loaded.data == big.data
    assert (notes["steps"], notes["parameters"], notes["teacher_parameters"]) == (12, size(student), size(big))
    assert {file.name for file in (tmp_path / "run").iterdir()} == {
        "config.json", "metrics.jsonl", "checkpoint.pt", "checkpoint.previous.pt", "classifier.safetensors",
    }  # fmt: skip


def test_the_teacher_and_the_random_state_are_the_same_afterwards(tmp_path: Path) -> None:
    big, untouched = teacher(), teacher()
    big.train()
    big.encoders[1].eval()
    modes = [module.training for module in big.modules()]
    before = torch.get_rng_state()
    distill(big, X, CONFIG, tmp_path / "run", labels=LABELS)
    assert torch.equal(before, torch.get_rng_state())
    assert [module.training for module in big.modules()] == modes
    assert_same_weights(big, untouched)
    wanted = [parameter.requires_grad for parameter in untouched.parameters()]
    assert [parameter.requires_grad for parameter in big.parameters()] == wanted
    assert all(parameter.grad is None for parameter in big.parameters())


def test_the_losses_are_their_definitions(tmp_path: Path) -> None:
    """Of one step on all clips; every third one has no label."""
    config = replace(CONFIG, views=None, temperature=3.0, ce=0.5, kl=2.0, feature=0.25, relation=3.0)
    config = replace(config, optimiser=replace(config.optimiser, steps=1, batch=24))
    labels = LABELS.clone()
    labels[::3] = -1
    big = teacher()
    distill(big, X, config, tmp_path / "run", labels=labels)
    (found,) = metrics(tmp_path / "run")
    torch.manual_seed(config.seed)
    student = make_student(big, config).train()
    mapping = nn.Linear(student.features, big.features)
    student.first_encoder.start_input(X)
    with torch.no_grad():
        features, wanted = student.represent(X), big.represent(X)
        logits, wanted_logits = student.head(features).double(), big.head(wanted).double()
        p, q = (wanted_logits / 3).softmax(1), (logits / 3).softmax(1)
        kl = 9 * float((p * (p / q).log()).sum(1).mean())
        standard = (wanted - wanted.mean(0)) / wanted.std(0, correction=0).clamp(min=1e-3)
        feature = float((mapping(features) - standard).square().mean())
        labelled = labels >= 0
        ce = -float(logits.log_softmax(1)[labelled, labels[labelled]].mean())
        relation = relations(features, wanted)
    assert found["kl"] == pytest.approx(kl, rel=1e-4)
    assert found["feature"] == pytest.approx(feature, rel=1e-4)
    assert found["ce"] == pytest.approx(ce, rel=1e-4)
    assert found["relation"] == pytest.approx(relation, rel=1e-4)
    assert found["loss"] == pytest.approx(2 * kl + 0.25 * feature + 0.5 * ce + 3 * relation, rel=1e-4)


def relations(features: torch.Tensor, wanted: torch.Tensor) -> float:
    """Tung and Mori's loss times N, clip by clip."""
    total = 0.0
    for i in range(len(features)):
        rows = []
        for each in (features.double(), wanted.double()):
            products = [float(each[i] @ other) for other in each]
            length = math.sqrt(sum(product**2 for product in products))
            rows.append([product / length for product in products])
        total += sum((one - other) ** 2 for one, other in zip(*rows, strict=True))
    return total / len(features)


@given(st.integers(1, 9), st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**31))
def test_relations_are_their_definition_and_know_no_scale(N: int, D: int, E: int, seed: int) -> None:
    draws = torch.Generator().manual_seed(seed)
    one, other = (torch.randn(N, width, generator=draws, dtype=torch.float64) for width in (D, E))
    found = float(relation_loss(one, other))
    assert found == pytest.approx(relations(one, other), rel=1e-9, abs=1e-12) and -1e-12 <= found <= 4
    assert found == pytest.approx(float(relation_loss(7 * one, other / 3)), rel=1e-9, abs=1e-12)
    assert float(relation_loss(one, one)) == 0


def test_relations_have_the_gradient_of_the_students_features_only() -> None:
    draws = torch.Generator().manual_seed(0)
    one, other = (torch.randn(5, width, generator=draws, dtype=torch.float64) for width in (3, 4))
    one.requires_grad_(), other.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: relation_loss(x, other.detach()), (one,))
    relation_loss(one, other).backward()
    assert one.grad is not None and other.grad is None
    nothing = torch.zeros(4, 3, requires_grad=True)  # no direction, so no gradient, and no NaN
    relation_loss(nothing, other.detach()[:4]).backward()
    assert nothing.grad is not None and nothing.grad.isfinite().all()
    with torch.autocast("cpu", torch.bfloat16):
        found = relation_loss(one.detach().float(), other.detach().bfloat16())
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(relations(one.detach(), other.detach().bfloat16()), rel=1e-5)


def test_relations_alone_bring_the_similarities_closer(tmp_path: Path) -> None:
    big = teacher()
    config = steps(60, replace(CONFIG, views=None, kl=0.0, feature=0.0, relation=1.0))
    start = make_student(big, config).eval()
    student = distill(big, X, config, tmp_path / "run")
    with torch.no_grad():
        first, last = (float(relation_loss(each.represent(X), big.represent(X))) for each in (start, student))
    assert last < 0.5 * first


def test_labels_that_contradict_the_teacher_win_where_they_weigh_more(tmp_path: Path) -> None:
    big = teacher()
    other = (LABELS + 1) % 3
    config = steps(60, replace(CONFIG, ce=10.0, kl=0.01, feature=0.01, views=None))
    student = distill(big, X, config, tmp_path / "run", labels=other.numpy())
    assert accuracy(student, labels=other) > 0.8 > 0.5 > accuracy(student, labels=answers(big).argmax(dim=1))


def test_labels_of_minus_one_are_no_labels(tmp_path: Path) -> None:
    big = teacher()
    without = distill(big, X, steps(4), tmp_path / "without")
    minus = distill(big, X, steps(4), tmp_path / "minus", labels=torch.full((24,), -1))
    labelled = distill(big, X, steps(4), tmp_path / "labelled", labels=LABELS)
    assert_same_weights(without, minus)
    assert not torch.equal(answers(without), answers(labelled))
    keys = [set(metrics(tmp_path / name)[0]) for name in ("without", "minus", "labelled")]
    assert keys[0] == keys[1] == {"step", "loss", "kl", "feature", "lr"} and keys[2] == keys[0] | {"ce"}


def test_a_batch_without_a_label_does_no_harm(tmp_path: Path) -> None:
    labels = torch.full((24,), -1)
    labels[0] = 2
    student = distill(teacher(), X, replace(CONFIG, log_every=1), tmp_path / "run", labels=labels)
    ce = [line["ce"] for line in metrics(tmp_path / "run")]
    assert 0.0 in ce and max(ce) > 0 and all(math.isfinite(value) for value in ce)
    assert all(parameter.isfinite().all() for parameter in student.parameters())


def test_stopped_and_resumed_is_bit_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(CONFIG, relation=1.0)
    whole = distill(teacher(), X, config, tmp_path / "whole", labels=LABELS)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_in_step(patch, 9)
        distill(teacher(), X, config, tmp_path / "parts", labels=LABELS)
    # Step 8 was logged, but the run goes on from step 5.
    assert metrics(tmp_path / "parts")[-1]["step"] == 8
    assert not (tmp_path / "parts" / "classifier.safetensors").exists()
    torch.manual_seed(999)  # another process
    parts = distill(teacher(), X, config, tmp_path / "parts", resume=True, labels=LABELS)
    assert_same_weights(whole, parts)
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "parts")
    assert [line["step"] for line in metrics(tmp_path / "parts")] == [2, 4, 5, 6, 8, 10, 12]


def test_stopped_before_the_first_checkpoint_starts_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = distill(teacher(), X, CONFIG, tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_in_step(patch, 4)
        distill(teacher(), X, CONFIG, tmp_path / "parts")
    assert_same_weights(whole, distill(teacher(), X, CONFIG, tmp_path / "parts", resume=True))


def test_seeds_repeat_and_differ(tmp_path: Path) -> None:
    found = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.manual_seed(len(found))
        found.append(distill(teacher(), X, replace(steps(3), seed=seed), tmp_path / name))
    assert_same_weights(found[0], found[1])
    assert not torch.equal(answers(found[0]), answers(found[2]))


def test_a_finished_run_is_returned_and_a_damaged_student_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    first = distill(teacher(), X, CONFIG, folder)
    lines = (folder / "metrics.jsonl").read_text()
    monkeypatch.setattr(SupervisedRun, "train_step", lambda run: pytest.fail("trained again"))
    assert_same_weights(first, distill(teacher(), X, CONFIG, folder, resume=True))
    assert (folder / "metrics.jsonl").read_text() == lines
    (folder / "classifier.safetensors").write_bytes((folder / "classifier.safetensors").read_bytes()[:1000])
    distill(teacher(), X, CONFIG, folder, resume=True)
    assert_same_weights(first, load_classifier(folder)[0])


def test_another_run_in_the_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    distill(teacher(), X, CONFIG, folder, labels=LABELS)
    before = content(folder)
    other = "the run was begun with other clips, labels or models"
    for arguments, config, labels, resume, message in (
        (
            (teacher(), X),
            CONFIG,
            LABELS,
            False,
            "holds a run already: go on with it by --resume, or take another folder",
        ),
        ((teacher(), X), replace(CONFIG, temperature=2.0), LABELS, True, r"another temperature \(4.0, not 2.0\)"),
        ((teacher(), X), replace(CONFIG, views=None), LABELS, True, r"holds a run with another views \(.*, not None\)"),
        ((teacher(), X + 1), CONFIG, LABELS, True, other),
        ((teacher(), X), CONFIG, None, True, other),
        ((teacher(), X), CONFIG, LABELS.flip(0), True, other),
        ((classifiers.untrained_teacher(), X), CONFIG, LABELS, True, other),
    ):
        with pytest.raises((ValueError, FileExistsError), match=message) as error:
            distill(*arguments, config, folder, resume, labels)
        assert str(folder) in str(error.value) and content(folder) == before


def test_the_folder_of_a_fine_tuning_or_of_the_teacher_is_refused(tmp_path: Path) -> None:
    tuned = FinetuneConfig(optimiser=OptimiserConfig(batch=8, steps=1))
    finetune(small_student(), X, LABELS, tuned, tmp_path / "tuned")
    (tmp_path / "teacher").mkdir()
    save_classifier(tmp_path / "teacher" / "classifier.safetensors", teacher(), {})
    for name, resume, error, message in (
        ("tuned", False, FileExistsError, "holds a run already"),
        ("tuned", True, ValueError, "config.json is not the config of a run: .* no other keys than .*label_smoothing"),
        ("teacher", False, FileExistsError, "holds a teacher or student already: take another folder"),
        ("teacher", True, FileExistsError, "holds a teacher or student already: take another folder"),
    ):
        before = content(tmp_path / name)
        with pytest.raises(error, match=message):
            distill(teacher(), X, CONFIG, tmp_path / name, resume=resume)
        assert content(tmp_path / name) == before


def test_a_damaged_checkpoint_is_one_error_and_loses_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    distill(teacher(), X, CONFIG, folder)
    whole = (folder / "checkpoint.pt").read_bytes()
    (folder / "checkpoint.previous.pt").unlink()
    for damaged in (b"", b"text", whole[: len(whole) // 2], whole.replace(b"distillation", b"fine-tuning.")):
        (folder / "checkpoint.pt").write_bytes(damaged)
        before = content(folder)
        with pytest.raises(ValueError, match=f"checkpoint {folder / 'checkpoint.pt'} "):
            distill(teacher(), X, CONFIG, folder, resume=True)
        assert content(folder) == before


@pytest.mark.parametrize(("clips", "message"), BAD_CLIPS)
def test_bad_clips_are_refused_before_anything_is_written(tmp_path: Path, clips: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=f"^distill: {message}"):
        distill(teacher(), clips, CONFIG, tmp_path / "run", labels=LABELS[: len(clips)])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("labels", "message"), BAD_LABELS)
def test_bad_labels_are_refused_before_anything_is_written(tmp_path: Path, labels: object, message: str) -> None:
    with pytest.raises(ValueError, match=f"^distill: .*{message}"):
        distill(teacher(), X, CONFIG, tmp_path / "run", labels=labels)
    assert not (tmp_path / "run").exists()


def test_a_device_that_is_not_there_is_said_before_anything_is_written(tmp_path: Path) -> None:
    for device in ("teapot", "cuda:77"):
        with pytest.raises(ValueError, match=f"device {device} cannot be used"):
            distill(teacher(), X, replace(CONFIG, device=device), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_names_the_step_and_keeps_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_step = SupervisedRun.train_step

    def breaking(run: SupervisedRun) -> dict[str, torch.Tensor]:
        losses = train_step(run)
        return {name: loss * math.nan for name, loss in losses.items()} if run.step == 7 else losses

    monkeypatch.setattr(SupervisedRun, "train_step", breaking)
    with pytest.raises(NonFiniteLossError, match=r"the loss became nan in step 7 of 12: try a lower optimiser.lr"):
        distill(teacher(), X, CONFIG, tmp_path / "run")
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert state["step"] == 5
    assert [json.loads(line)["step"] for line in (tmp_path / "run" / "metrics.jsonl").open()] == [2, 4, 5, 6]
    assert not (tmp_path / "run" / "classifier.safetensors").exists()
