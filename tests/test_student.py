"""Which student a teacher gets: presets, sizes of its own, and the limit."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from classifiers import X, small_student, teacher
from torch import nn

from asma.classifier import Classifier, count_parameters
from asma.config import PRESETS, DataConfig, OptimiserConfig
from asma.config_file import from_dict, to_dict
from asma.distill import DistillConfig, distill
from asma.models import Encoder
from asma.models.alignment import Alignment
from asma.student import STUDENTS, Sizes, StudentConfig, make_student, student_sizes
from asma_kernels import Skeleton

CONFIG = DistillConfig(optimiser=OptimiserConfig(batch=8, steps=2))


def large_teacher(preset: str, skeleton: str, classes: int, frames: int = 32, persons: int = 1) -> Classifier:
    """As pretraining by a preset gives it, untrained."""
    config = PRESETS[preset].encoder
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoders = [Encoder(config, Skeleton.builtin(skeleton)) for _ in range(2)]
        alignment = Alignment(encoders[0].features)
        head = nn.Linear(alignment.features, classes)
    names = [f"class {k}" for k in range(classes)]
    return Classifier(encoders, alignment, head, names, DataConfig(frames=frames, persons=persons)).eval()


TEACHERS = {
    "the paper's, NTU RGB+D": lambda: large_teacher("asma", "ntu25", 60, 50, 2),
    "small sets": lambda: large_teacher("cpu", "utd20", 27),
}


@pytest.mark.parametrize("of", TEACHERS)
def test_every_preset_is_small_enough_for_the_presets_of_pretraining(of: str) -> None:
    big = TEACHERS[of]()
    sizes = []
    for name, wanted in STUDENTS.items():
        student = make_student(big, StudentConfig(student=name))
        config, theirs = student.first_encoder.config, big.first_encoder.config
        assert Sizes(config.channels, config.strides, config.kernel) == wanted
        assert (config.segments, config.partition, config.input_gain, config.dropout) == (
            theirs.segments, theirs.partition, theirs.input_gain, 0.0,
        )  # fmt: skip
        assert (student.classes, student.data, student.skeleton) == (big.classes, big.data, big.skeleton)
        sizes.append(count_parameters(student))
    assert sizes == sorted(sizes, reverse=True) and sizes[0] <= 0.086 * count_parameters(big)
    assert student_sizes(big, StudentConfig()) == ("base", STUDENTS["base"])


def test_auto_is_the_largest_preset_that_is_small_enough() -> None:
    big = large_teacher("cpu", "utd20", 27)
    sizes = {name: count_parameters(make_student(big, StudentConfig(student=name))) for name in STUDENTS}
    for most in (*sizes.values(), min(sizes.values()) - 1):
        wanted = next((name for name, size in sizes.items() if size <= most), "narrow")
        share = (most + 0.5) / count_parameters(big)
        assert student_sizes(big, StudentConfig(share=share))[0] == wanted
    assert wanted == "narrow"
    assert student_sizes(big, StudentConfig(channels=(8, 8, 8))) == ("narrow", Sizes((8, 8, 8), (2, 2, 2), 9))


@pytest.mark.parametrize("share", [0.086, 0.075])
def test_a_narrow_student_is_the_widest_that_has_at_most_its_share_of_the_parameters(share: float) -> None:
    big = teacher()
    student = make_student(big, StudentConfig(share=share))
    assert count_parameters(student) <= share * count_parameters(big)
    config = student.first_encoder.config
    assert (config.strides, config.kernel, config.segments, config.dropout) == ((2, 2), 3, 2, 0.0)
    wider = tuple(width + 4 for width in config.channels)
    with pytest.raises(ValueError, match="a student must have at most"):
        make_student(big, StudentConfig(share=share, channels=wider))


def test_sizes_of_its_own_replace_those_of_the_student() -> None:
    big = large_teacher("cpu", "utd20", 27)
    for given, wanted in (
        ({"student": "nano", "kernel": 5}, STUDENTS["nano"]._replace(kernel=5)),
        ({"student": "nano", "strides": (2, 2)}, STUDENTS["nano"]._replace(strides=(2, 2))),
        ({"channels": (8,), "strides": (4,), "kernel": 3}, Sizes((8,), (4,), 3)),
        ({"channels": (4, 8, 8, 8), "strides": (2, 1, 2, 1)}, Sizes((4, 8, 8, 8), (2, 1, 2, 1), 9)),
    ):
        config = make_student(big, StudentConfig(**given)).first_encoder.config
        assert Sizes(config.channels, config.strides, config.kernel) == wanted
    wider = make_student(big, StudentConfig(student="narrow", kernel=3)).first_encoder.config
    assert wider.kernel == 3 and sum(wider.channels) > sum(make_student(big, NARROW).first_encoder.config.channels)


NARROW = StudentConfig(student="narrow")


def test_the_random_state_is_that_of_one_student() -> None:
    torch.manual_seed(5)
    one = make_student(teacher(), NARROW).state_dict()
    after = torch.get_rng_state()
    torch.manual_seed(5)
    sizes = student_sizes(teacher(), NARROW)[1]
    other = make_student(teacher(), StudentConfig(**sizes._asdict())).state_dict()
    assert torch.equal(after, torch.get_rng_state())
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_students_that_do_not_fit_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    big = teacher()
    most = rf"distill: a student must have at most 8.6 % of the teacher's {count_parameters(big):,} parameters, \d,\d+"
    as_many = "distill: channels and strides must be as many, one a block"
    for model, config, message in (
        (big, {"channels": (32, 64)}, rf"{most}, got \d\d,\d+ with channels \(32, 64\)"),
        (big, {"student": "base"}, rf"{most}, got \d\d,\d+ with channels {re.escape(str(STUDENTS['base'].channels))}"),
        (big, {"channels": (8, 8, 8)}, rf"{as_many}; those of narrow are 2, got channels \(8, 8, 8\) and strides \(2"),
        (big, {"strides": (2,)}, rf"{as_many}; those of narrow are 2, got channels \(32, 64\) and strides \(2,\)"),
        (big, {"student": "small", "channels": (8, 8)}, rf"{as_many}; those of small are 3, got channels \(8, 8\) and"),
        (small_student(), {}, r"parameters, \d+, got [\d,]+ with the narrowest blocks, \(4, 4\)"),
    ):
        with pytest.raises(ValueError, match=message):
            distill(model, X, replace(CONFIG, **config), tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_a_run_from_before_there_were_presets_goes_on_as_it_was(tmp_path: Path) -> None:
    """Its config.json has no `student`, `strides`, `kernel` and `relation`."""
    values = to_dict(DistillConfig())
    for key in ("student", "strides", "kernel", "relation"):
        del values[key]
    old = from_dict(DistillConfig, values)
    assert old == DistillConfig(student="narrow", relation=0.0)
    assert from_dict(DistillConfig, to_dict(DistillConfig())) == DistillConfig()
