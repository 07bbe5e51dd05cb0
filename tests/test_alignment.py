"""The alignment of two encoders: its definition, its training, and what it is for."""

import numpy as np
import pytest
import torch
from torch import nn

from asma.align import AlignConfig, align_probe, make_teacher
from asma.classifier import CLASSIFIER_FILE, Classifier, count_parameters, load_classifier, save_classifier
from asma.config import DataConfig, EncoderConfig
from asma.evaluate import encode_clips, linear_probe
from asma.models import Encoder
from asma.models.alignment import Alignment
from asma_kernels import Skeleton

QUICK = AlignConfig(out=16, epochs=15, batch=32)
SKELETON = Skeleton.builtin("ucla20")


@pytest.fixture(autouse=True)
def one_thread():
    """These models are too small for a second one to help."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def complementary(seed: int, clips: int = 300, classes: int = 12, D: int = 48):
    """Features of two encoders, each of which knows another half of what makes a class: train, labels, test, labels."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    centres, mixing = draw(classes, 12), [(draw(6, 32), draw(32, D)) for _ in range(2)]
    sides = []
    for _ in range(2):
        labels = torch.randint(0, classes, (clips,), generator=generator)
        latent = centres[labels] + 0.9 * draw(clips, 12)
        features = tuple(
            ((latent[:, 6 * e : 6 * e + 6] @ a).relu() @ b / 8 + 0.5 * draw(clips, D)).relu()
            for e, (a, b) in enumerate(mixing)
        )
        sides += [features, labels]
    return sides


def encoders() -> list[Encoder]:
    config = EncoderConfig(channels=(4, 8), strides=(1, 2), kernel=3, dropout=0.0)
    return [Encoder(config, SKELETON).eval() for _ in range(2)]


def test_mean_and_concat_by_hand():
    first, second = torch.randn(5, 3), torch.randn(5, 3)
    mean, concat = Alignment(3, mode="mean"), Alignment(3, mode="concat")
    assert torch.equal(mean(first, second), (first + second) / 2)
    assert torch.equal(concat(first, second), torch.cat([first, second], 1))
    assert (mean.features, concat.features) == (3, 6)
    assert not list(mean.parameters()) and not list(concat.parameters())


def test_aligned_by_hand_in_both_modes():
    torch.manual_seed(3)
    alignment = Alignment(3, out=4, dropout=0.0)
    features = [torch.randn(20, 3) * 5 + 2, torch.randn(20, 3) * 0.01]

    def standard(x: torch.Tensor, mean: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
        return (x - mean) / (variance + 1e-5).sqrt()

    def by_hand(statistics) -> torch.Tensor:
        parts = [
            standard(x, *stats) @ m.weight.T for x, stats, m in zip(features, statistics, alignment.maps, strict=True)
        ]
        return parts[0] + parts[1]

    common = by_hand([(x.mean(0), x.var(0, unbiased=False)) for x in features])
    expected = standard(common, common.mean(0), common.var(0, unbiased=False)).relu()
    torch.testing.assert_close(alignment.train()(*features), expected, rtol=1e-4, atol=1e-5)
    alignment.eval()
    common = by_hand([(norm.running_mean, norm.running_var) for norm in alignment.norms])
    expected = standard(common, alignment.norm.running_mean, alignment.norm.running_var).relu()
    torch.testing.assert_close(alignment(*features), expected, rtol=1e-4, atol=1e-5)
    assert count_parameters(alignment) == 2 * 3 * 4 + 2 * 4


def test_dropout_acts_in_training_only():
    alignment = Alignment(4, out=64, dropout=0.5).train()
    features = torch.randn(50, 4), torch.randn(50, 4)
    assert (alignment(*features) == 0).float().mean() > 0.6
    alignment.eval()
    assert torch.equal(alignment(*features), alignment(*features))


def test_alignment_says_what_is_wrong():
    for arguments, message in (
        ((3, 4, "sum"), "mode must be one of aligned, mean, concat, got 'sum'"),
        ((0, 4), "dim and out must be at least 1, got 0 and 4"),
        ((3, 0), "dim and out must be at least 1, got 3 and 0"),
        ((3, 4, "aligned", 1.0), r"dropout must be in \[0, 1\), got 1.0"),
    ):
        with pytest.raises(ValueError, match="^Alignment: " + message):
            Alignment(*arguments)
    for first, second in ((torch.zeros(2, 3), torch.zeros(2, 4)), (torch.zeros(2, 4), torch.zeros(2, 4))):
        with pytest.raises(ValueError, match=r"features must be \(N, 3\) of both encoders, got \(2, "):
            Alignment(3)(first, second)


def test_aligned_is_as_good_as_mean_and_concat_where_encoders_complement_each_other():
    found: dict[str, list[float]] = {}
    for seed in range(3):
        train, labels, test, truth = complementary(seed)
        for encoder in (0, 1):
            single = linear_probe(train[encoder], labels, test[encoder], truth)
            found.setdefault(f"encoder {encoder + 1}", []).append(single.top1)
        for mode in ("mean", "concat", "aligned"):
            result = align_probe(train, labels, test, truth, AlignConfig(mode=mode))
            found.setdefault(mode, []).append(result.top1)
    accuracy = {name: float(np.mean(values)) for name, values in found.items()}
    assert accuracy["aligned"] >= accuracy["mean"] + 0.01
    assert accuracy["aligned"] >= accuracy["concat"] - 0.01
    assert accuracy["aligned"] >= max(accuracy["encoder 1"], accuracy["encoder 2"]) + 0.1


@pytest.mark.parametrize("mode", ["mean", "concat"])
def test_align_probe_without_parameters_is_the_linear_probe(mode: str):
    train, labels, test, truth = complementary(0, clips=60)
    result = align_probe(train, labels, test, truth, AlignConfig(mode=mode))
    fused = [Alignment(48, mode=mode)(*side) for side in (train, test)]
    expected = linear_probe(fused[0], labels, fused[1], truth)
    np.testing.assert_array_equal(result.probabilities, expected.probabilities)
    assert result.top1 == expected.top1


def test_align_probe_is_deterministic_in_its_seed_and_leaves_the_random_state_alone():
    train, labels, test, truth = complementary(0, clips=70)
    results = []
    for seed in (5, 6):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        results.append(align_probe(train, labels, test, truth, QUICK).probabilities)
        assert torch.equal(before, torch.get_rng_state())
    np.testing.assert_array_equal(*results)
    other = align_probe(train, labels, test, truth, AlignConfig(out=16, epochs=15, batch=32, seed=1))
    assert not np.array_equal(results[0], other.probabilities)


def test_test_labels_change_nothing_but_the_scores():
    train, labels, test, truth = complementary(0, clips=70)
    one = align_probe(train, labels, test, truth, QUICK)
    other = align_probe(train, labels, test, (truth + 1) % 12, QUICK)
    np.testing.assert_array_equal(one.probabilities, other.probabilities)


def test_fewer_clips_than_a_batch_are_one_batch():
    train, labels, test, truth = complementary(0, clips=20)
    result = align_probe(train, labels, test, truth, AlignConfig(out=8, epochs=3))
    assert np.isfinite(result.probabilities).all()


def test_align_probe_says_what_is_wrong():
    train, labels, test, truth = complementary(0, clips=20)
    for arguments, message in (
        (
            ((train[0], train[1][:, :3]), labels, (test[0], test[1][:, :3]), truth),
            "both encoders must have as many features",
        ),
        ((train, labels[:3], test, truth), r"train_labels must be \(20,\)"),
        ((train, labels * 0, test, truth), "training clips must be of at least 2 classes, got 1"),
        (((train[0], train[1] / 0), labels, test, truth), "train must be finite"),
    ):
        with pytest.raises(ValueError, match="^align_probe: " + message):
            align_probe(*arguments)
    for wrong, message in (
        ({"out": 0}, "alignment.out must be at least 1, got 0"),
        ({"dropout": 1}, r"alignment.dropout must be in \[0, 1\), got 1"),
        ({"lr": 0}, "alignment.lr must be positive, got 0"),
        ({"weight_decay": -1}, "alignment.weight_decay must be at least 0, got -1"),
        ({"epochs": 0}, "alignment.epochs must be at least 1, got 0"),
        ({"batch": 1}, "alignment.batch must be at least 2, batch norm compares clips, got 1"),
    ):
        with pytest.raises(ValueError, match=message):
            AlignConfig(**wrong)


@pytest.mark.parametrize("mode", ["aligned", "mean", "concat"])
def test_the_teacher_answers_as_the_probe_did_and_lives_in_a_file(mode: str, tmp_path):
    clips, labels = torch.randn(40, 3, 12, 20, 1), torch.arange(40) % 3
    pair = encoders()
    features = tuple(encode_clips(encoder, clips) for encoder in pair)
    result = align_probe(features, labels, features, labels, AlignConfig(mode=mode, out=16, epochs=10))
    teacher = make_teacher(pair, result, ("a", "b", "c"), DataConfig(frames=12))
    with torch.no_grad():
        np.testing.assert_allclose(teacher(clips).softmax(1).numpy(), result.probabilities, atol=1e-5)
    assert not teacher.training and teacher.skeleton is SKELETON
    save_classifier(tmp_path / CLASSIFIER_FILE, teacher, {"steps": 7})
    loaded, notes = load_classifier(tmp_path)
    assert notes == {"steps": 7} and loaded.classes == ("a", "b", "c") and loaded.data == DataConfig(frames=12)
    assert loaded.skeleton == SKELETON and not loaded.training
    with torch.no_grad():
        assert torch.equal(loaded(clips), teacher(clips))
    assert count_parameters(teacher) == sum(map(count_parameters, (*pair, result.alignment, result.head)))
    assert [file.name for file in tmp_path.iterdir()] == [CLASSIFIER_FILE]


def test_parts_that_do_not_fit_and_files_that_are_none(tmp_path):
    pair = encoders()
    with pytest.raises(ValueError, match="encoders must be 2 with an alignment, got 1"):
        Classifier(pair[:1], Alignment(8), nn.Linear(256, 2), ("a", "b"), DataConfig())
    with pytest.raises(ValueError, match="encoders must be 1 without an alignment, got 2"):
        Classifier(pair, None, nn.Linear(8, 2), ("a", "b"), DataConfig())
    with pytest.raises(ValueError, match="head must take 8 features to 3 classes, it takes 8 to 2"):
        Classifier(pair[:1], None, nn.Linear(8, 2), ("a", "b", "c"), DataConfig())
    with pytest.raises(FileNotFoundError, match="is not there: a probe of both encoders or a distillation writes it"):
        load_classifier(tmp_path)
    file = tmp_path / CLASSIFIER_FILE
    model = Classifier(pair[:1], None, nn.Linear(8, 2), ("a", "b"), DataConfig())
    save_classifier(file, model, {})
    whole = file.read_bytes()
    for damaged in (b"", b"text", whole[:50], whole[:-9], whole.replace(b'\\"classes\\"', b'\\"klasses\\"')):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match="is not a classifier of asma"):
            load_classifier(file)
