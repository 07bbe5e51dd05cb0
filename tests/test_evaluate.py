"""Features, the linear probe, nearest neighbours and scores: against definitions by hand and known baselines."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from asma.data import ClipSet, builtin_clips, load_clips
from asma.evaluate import (
    ProbeConfig,
    encode_clips,
    evaluation_mode,
    knn,
    linear_probe,
    raw_baseline,
    raw_features,
)
from asma.scores import balanced_subset, ensemble, score
from asma_kernels import Skeleton

SHARED = Path(__file__).parents[2] / "shared" / "data"
ADAM = ProbeConfig(solver="adam", weight_decay=1e-4)


class Mean(nn.Module):
    """(N, C, T, V, M) -> (N, C), with parts that do something else in training."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.drop = nn.Dropout(0.5).eval()
        self.seen: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(x))
        assert not torch.is_grad_enabled()
        return self.drop(self.norm(x.mean(dim=(2, 3, 4))))


@pytest.fixture
def blobs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features of three overlapping classes whose channels differ in scale: train, labels, test, labels."""
    labels = torch.arange(150) % 3
    scale = torch.tensor([1.0, 100.0, 0.01, 1.0])
    centres = torch.randn(3, 4) * 1.5
    x = (centres[labels] + torch.randn(150, 4)) * scale + 5 * scale
    return x[:90], labels[:90], x[90:], labels[90:]


def test_encode_clips_is_evaluation_of_every_clip_and_restores_the_mode_of_every_module():
    encoder = Mean().train()
    encoder.drop.eval()
    clips = torch.randn(10, 3, 4, 2, 1) * 3 + 1
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    features = encode_clips(encoder, clips, batch=4)
    assert features.dtype == torch.float32 and features.device.type == "cpu" and not features.requires_grad
    expected = clips.mean(dim=(2, 3, 4)) / math.sqrt(1 + 1e-5)
    torch.testing.assert_close(features, expected)
    assert encoder.seen == [4, 4, 2]
    assert encoder.training and encoder.norm.training and not encoder.drop.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())
    torch.testing.assert_close(encode_clips(encoder, clips.numpy(), batch=256, title="test"), features)


def test_evaluation_mode_restores_the_mode_after_an_error():
    encoder = Mean().train()
    with pytest.raises(KeyError), evaluation_mode(encoder):
        raise KeyError
    assert encoder.training and torch.is_grad_enabled()


def test_encode_clips_says_what_is_wrong():
    with pytest.raises(ValueError, match=r"x must be \(N, C, T, V, M\) with N at least 1, got shape \(0, 3, 4, 2, 1\)"):
        encode_clips(Mean(), torch.zeros(0, 3, 4, 2, 1))
    with pytest.raises(ValueError, match=r"got shape \(3, 4\)"):
        encode_clips(Mean(), torch.zeros(3, 4))
    with pytest.raises(ValueError, match="batch must be at least 1, got 0"):
        encode_clips(Mean(), torch.zeros(1, 3, 4, 2, 1), batch=0)
    clips = torch.zeros(5, 3, 4, 2, 1)
    clips[3, 0, 0, 0] = math.nan
    with pytest.raises(ValueError, match="features must be finite, those of clip 3 are not"):
        encode_clips(Mean(), clips, batch=2)


def test_scores_by_hand():
    probabilities = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8], [0.4, 0.4, 0.2], [0.2, 0.7, 0.1]])
    found = score(probabilities, [0, 1, 1, 1])
    assert found.predictions.tolist() == [0, 2, 0, 1]  # the lower one of equals
    assert found.top1 == 0.5 and found.top5 == 1.0
    assert found.confusion.tolist() == [[1, 0, 0], [1, 1, 1], [0, 0, 0]]
    np.testing.assert_array_equal(found.per_class, [1, 1 / 3, np.nan])
    assert found.probabilities.dtype == np.float32 and found.predictions.dtype == np.int64


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(2, 9), st.integers(0, 2**31))
def test_scores_agree_with_each_other(N: int, K: int, seed: int):
    rng = np.random.default_rng(seed)
    probabilities, labels = rng.dirichlet(np.ones(K), N), rng.integers(0, K, N)
    found = score(probabilities, labels)
    assert found.confusion.sum() == N and np.trace(found.confusion) == round(found.top1 * N)
    np.testing.assert_array_equal(found.confusion.sum(1), np.bincount(labels, minlength=K))
    rank = (probabilities > probabilities[np.arange(N), labels, None]).sum(1)
    assert found.top5 == pytest.approx(float((rank < 5).mean()))
    present = ~np.isnan(found.per_class)
    weights = np.bincount(labels, minlength=K) / N
    assert (found.per_class[present] * weights[present]).sum() == pytest.approx(found.top1)


def probe_loss(
    weight: torch.Tensor, bias: torch.Tensor, x: torch.Tensor, y: torch.Tensor, decay: float
) -> torch.Tensor:
    """The definition, of standardised x."""
    return F.cross_entropy(x @ weight.T + bias, y) + decay * x.shape[1] / 2 * weight.square().sum()


def test_the_probe_finds_the_optimum_of_its_loss(blobs):
    train, labels, test, truth = blobs
    decay = 1e-3
    result = linear_probe(train, labels, test, truth, ProbeConfig(weight_decay=decay, iterations=200))
    deviation, mean = torch.std_mean(train.double(), dim=0, correction=0)
    x = (train.double() - mean) / deviation
    weight = result.weights.weight.double() * deviation
    bias = result.weights.bias.double() + result.weights.weight.double() @ mean
    leaves = [tensor.clone().requires_grad_() for tensor in (weight, bias)]
    gradients = torch.autograd.grad(probe_loss(*leaves, x, labels, decay), leaves)
    assert max(float(gradient.abs().max()) for gradient in gradients) < 2e-4
    # The folded weights take features as they come.
    logits = result.weights(test)
    np.testing.assert_allclose(result.probabilities, logits.softmax(1).numpy(), rtol=1e-5)
    assert result.top1 == float((logits.argmax(1) == truth).double().mean())
    assert result.top1 > 0.7


def test_adam_comes_to_the_same_optimum(blobs):
    train, labels, test, truth = blobs
    adam = ProbeConfig(solver="adam", weight_decay=1e-2, lr=0.05, epochs=300)
    one, other = (linear_probe(train, labels, test, truth, config) for config in (ProbeConfig(weight_decay=1e-2), adam))
    np.testing.assert_allclose(one.probabilities, other.probabilities, atol=0.02)


def test_the_probe_does_not_care_for_scale_and_shift_when_it_standardises(blobs):
    train, labels, test, truth = blobs
    one = linear_probe(train, labels, test, truth)
    other = linear_probe(1000 * train - 7, labels, 1000 * test - 7, truth)
    np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-3)
    plain = linear_probe(train, labels, test, truth, ProbeConfig(standardise=False))
    assert not np.allclose(one.probabilities, plain.probabilities, atol=1e-3)


def test_a_channel_that_never_changes_does_no_harm(blobs):
    train, labels, test, truth = blobs
    constant = torch.full((len(train), 1), 3.0)
    wide = linear_probe(torch.cat([train, constant], 1), labels, torch.cat([test, constant[: len(test)]], 1), truth)
    assert np.isfinite(wide.probabilities).all()
    assert wide.top1 == pytest.approx(linear_probe(train, labels, test, truth).top1, abs=0.05)


@pytest.mark.parametrize("config", [ProbeConfig(), ADAM], ids=["lbfgs", "adam"])
def test_the_probe_is_deterministic_and_leaves_the_random_state_alone(blobs, config: ProbeConfig):
    train, labels, test, truth = blobs
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        results.append(linear_probe(train, labels, test, truth, config))
        assert torch.equal(before, torch.get_rng_state())
    np.testing.assert_array_equal(results[0].probabilities, results[1].probabilities)


def test_adam_depends_on_its_seed_and_test_labels_change_nothing_but_scores(blobs):
    train, labels, test, truth = blobs
    one = linear_probe(train, labels, test, truth, ADAM)
    other = linear_probe(train, labels, test, truth, ProbeConfig(solver="adam", weight_decay=1e-4, seed=1))
    assert not np.array_equal(one.probabilities, other.probabilities)
    wrong = linear_probe(train, labels, test, (truth + 1) % 3, ADAM)
    np.testing.assert_array_equal(one.probabilities, wrong.probabilities)
    assert wrong.top1 < one.top1


def test_weight_decay_shrinks_the_probe(blobs):
    train, labels, test, truth = blobs
    norms = [
        float(linear_probe(train, labels, test, truth, ProbeConfig(weight_decay=decay)).weights.weight.norm())
        for decay in (1e-5, 1e-2)
    ]
    assert norms[1] < norms[0] / 2


def test_classes_that_are_only_named_have_a_column(blobs):
    train, labels, test, truth = blobs
    assert linear_probe(train, labels, test, truth, classes=5).probabilities.shape == (60, 5)


def test_the_probe_says_what_is_wrong(blobs):
    train, labels, test, truth = blobs
    for arguments, message in (
        ((train[0], labels, test, truth), r"train must be \(N, D\) with N and D at least 1, got shape \(4,\)"),
        ((train, labels, test[:, :3], truth), "train and test must have as many features, got 4 and 3"),
        ((train, labels[:5], test, truth), r"train_labels must be \(90,\), one a clip, got shape \(5,\)"),
        ((train, labels.float(), test, truth), "train_labels must be integers, got torch.float32"),
        ((train, labels, test, truth - 1), r"test_labels must be in \[0, number of classes\), got -1"),
        ((train, labels, test, truth, None, 2), r"train_labels must be in \[0, 2\), got 2"),
        ((train, labels * 0, test, truth), "training clips must be of at least 2 classes, got 1"),
        ((train, labels, test * math.inf, truth), "test must be finite, row 0 is not"),
    ):
        with pytest.raises(ValueError, match="^linear_probe: " + message):
            linear_probe(*arguments)
    for wrong, message in (
        ({"lr": 0}, "lr must be positive, got 0"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"iterations": 0}, "iterations must be at least 1, got 0"),
        ({"batch": 0}, "batch must be at least 1, got 0"),
        ({"weight_decay": -1}, "weight_decay must be at least 0, got -1"),
        ({"solver": "sgd"}, "solver must be lbfgs or adam, got 'sgd'"),
    ):
        with pytest.raises(ValueError, match=f"^ProbeConfig: {message}"):
            ProbeConfig(**wrong)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 12), st.integers(1, 8), st.integers(1, 5), st.integers(0, 2**31))
def test_knn_by_hand(N: int, tests: int, k: int, seed: int):
    rng = np.random.default_rng(seed)
    train, test = rng.normal(size=(N, 3)), rng.normal(size=(tests, 3))
    labels, truth = rng.integers(0, 3, N), rng.integers(0, 3, tests)
    k = min(k, N)
    right = 0
    for clip, label in zip(test, truth, strict=True):
        cosine = train @ clip / np.linalg.norm(train, axis=1) / np.linalg.norm(clip)
        nearest = np.argsort(-cosine)[:k]
        votes = [(int((labels[nearest] == c).sum()), cosine[nearest][labels[nearest] == c].sum()) for c in range(3)]
        right += votes.index(max(votes)) == label
    assert knn(train, labels, test, truth, k) == right / tests


def test_knn_counts_all_test_clips_over_its_chunks():
    train, labels = torch.eye(2), [0, 1]
    test = torch.eye(2).repeat(700, 1)
    truth = torch.arange(1400) % 2
    assert knn(train, labels, test, truth) == 1.0
    assert knn(train, labels, test, torch.zeros(1400, dtype=torch.int64)) == 0.5


def test_knn_ignores_length_and_says_what_is_wrong():
    train = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    assert knn(train * torch.tensor([[100.0], [0.01]]), [0, 1], torch.tensor([[6.0, 8.0]]), [1]) == 1.0
    for k in (0, 3):
        with pytest.raises(ValueError, match=rf"knn: k must be in \[1, 2\], the training clips, got {k}"):
            knn(train, [0, 1], train, [0, 1], k)


def test_balanced_subset_takes_the_same_share_of_every_class():
    labels = np.repeat([0, 1, 2], [100, 50, 3])
    chosen = balanced_subset(labels, 0.1, seed=3)
    assert np.bincount(labels[chosen]).tolist() == [10, 5, 1]
    assert (np.diff(chosen) > 0).all()
    np.testing.assert_array_equal(chosen, balanced_subset(labels, 0.1, seed=3))
    assert not np.array_equal(chosen, balanced_subset(labels, 0.1, seed=4))
    assert len(balanced_subset(labels, 1.0)) == len(labels)
    for fraction in (0, 1.5):
        with pytest.raises(ValueError, match=rf"fraction must be in \(0, 1\], got {fraction}"):
            balanced_subset(labels, fraction)


def test_ensemble_is_a_weighted_mean():
    rng = np.random.default_rng(0)
    streams = rng.dirichlet(np.ones(4), (3, 5))
    expected = (0.6 * streams[0] + 0.6 * streams[1] + 0.4 * streams[2]) / 1.6
    np.testing.assert_allclose(ensemble(list(streams)), expected, rtol=1e-6)
    with pytest.raises(
        ValueError, match=r"streams must be 3 arrays of one shape, one a weight, got \(5, 4\), \(5, 4\)"
    ):
        ensemble(list(streams[:2]))
    with pytest.raises(ValueError, match=r"got \(5, 4\), \(2, 4\)"):
        ensemble([streams[0], streams[1][:2]], (1, 1))


def test_raw_features_by_hand():
    clips = builtin_clips(classes=2, subjects=2, views=1, repeats=1)
    found = raw_features(clips).view(len(clips), 3, 16, 25)
    x = clips.resample(16)[..., 0]
    for clip in (0, 3):
        for frame in (0, 7, 15):
            pose = x[clip, :, frame] - x[clip, :, frame, clips.skeleton.centre][:, None]
            pose /= np.sqrt((pose**2).mean())
            np.testing.assert_allclose(found[clip, :, frame].numpy(), pose, atol=1e-5)


def test_raw_baseline_beats_chance_on_the_builtin_clips():
    train, test = builtin_clips(classes=4, subjects=4, views=1, repeats=2).split("subject-odd-even")
    baseline = raw_baseline(train, test)
    assert baseline.knn > 0.4 and baseline.probe.top1 > 0.4
    with pytest.raises(ValueError, match="train and test must have the same joints, got 25 and 2"):
        raw_baseline(train, two_joints())


def two_joints() -> ClipSet:
    fields = {name: np.zeros(1, np.int64) for name in ("label", "subject", "view")}
    skeleton = Skeleton.from_edges([(0, 1)])
    return ClipSet(
        np.zeros((4, 2, 3), np.float32), [0, 4], name=["a"], classes=("x",), skeleton=skeleton, title="t", **fields
    )


def load_or_skip(name: str):
    if not (SHARED / f"{name}.npz").exists():
        pytest.skip(f"{name} may not be redistributed and is not beside this checkout")
    return load_clips(SHARED / f"{name}.npz")


@pytest.mark.parametrize(
    ("name", "protocol", "nearest", "probe"),
    [("utd_mhad", "subject-odd-even", 0.853, 0.756), ("nw_ucla", "view-12-3", 0.506, 0.461)],
)
def test_raw_baseline_gives_the_known_numbers(name: str, protocol: str, nearest: float, probe: float):
    train, test = load_or_skip(name).split(protocol)
    found = raw_baseline(train, test)
    assert found.knn == pytest.approx(nearest, abs=0.005)
    # The known logistic regression is untuned and of another solver.
    assert found.probe.top1 == pytest.approx(probe, abs=0.04)
