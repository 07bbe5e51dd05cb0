"""What is computed again in the backward: the same numbers from less memory, and large batches in parts."""

from dataclasses import replace
from pathlib import Path

import classifiers
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from training_runs import CONFIG, OPTIMISER, clips

import asma_kernels
from asma.config import PretrainConfig
from asma.finetune import FinetuneConfig, finetune
from asma.pretrain import Pretraining
from asma_kernels import Skeleton, barlow_twins
from asma_kernels.nn import STGCNBlock, in_parts, recomputed

SKELETON = Skeleton.builtin("ucla20")


@pytest.fixture(autouse=True)
def one_thread():
    """See test_pretrain."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def block(dropout: float) -> STGCNBlock:
    torch.manual_seed(1)
    return STGCNBlock(4, 8, partitions=3, kernel=3, stride=2, dropout=dropout)


def learnt(module: nn.Module, again: bool, forward: str = "auto", backward: str = "auto") -> list[torch.Tensor]:
    """Output, gradients and buffers of a step in which the module is called twice, as for two views."""
    adjacency = SKELETON.partition("spatial")
    inputs = [torch.randn(3, 4, 6, 20, requires_grad=True) for _ in range(2)]
    with asma_kernels.backend(forward):
        outputs = [recomputed(module, x, adjacency) if again else module(x, adjacency) for x in inputs]
    with asma_kernels.backend(backward):
        (outputs[0] * outputs[1]).square().sum().backward()
    leaves = [*inputs, *module.parameters()]
    return [*outputs, *(leaf.grad for leaf in leaves), *module.buffers(), torch.get_rng_state()]


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_numbers_gradients_and_running_statistics_are_those_of_a_plain_call(backend: str, dropout: float) -> None:
    """Also where the backward is called outside of the block that chose the backend."""
    expected = learnt(block(dropout), False, backend)
    found = learnt(block(dropout), True, backend)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    "changes",
    [{}, {"bfloat16": True}, {"masks": replace(CONFIG.masks, per_clip=True)}],
    ids=["dropout", "bfloat16", "joints of each clip's own"],
)
def test_pretraining_is_the_same_bit_for_bit(changes: dict) -> None:
    config = replace(CONFIG, **changes)
    runs = [Pretraining(replace(config, recompute=again), clips(), SKELETON) for again in (False, True)]
    states = []
    for run in runs:
        torch.manual_seed(0)
        losses = [run.train_step()["loss"] for _ in range(4)]
        states.append({**run.trained.state_dict(), "losses": torch.stack(losses)})
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name


def test_fine_tuning_is_the_same_bit_for_bit(tmp_path: Path) -> None:
    """Of both encoders and their alignment."""
    tuned = []
    for again in (False, True):
        config = FinetuneConfig(optimiser=replace(OPTIMISER, steps=3), recompute=again)
        start = classifiers.teacher()
        tuned.append(finetune(start, classifiers.X, classifiers.LABELS, config, tmp_path / str(again)))
        assert [encoder.recompute for encoder in start.encoders] == [again, again]
    classifiers.assert_same_weights(*tuned)


def peak_bytes(config: PretrainConfig) -> int:
    """Of what a training step allocates."""
    run = Pretraining(config, torch.randn(32, 3, 32, 20, 1), SKELETON)
    run.train_step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run.train_step()
    found = [each for each in profile.profiler.kineto_results.events() if each.name() == "[memory]"]
    now = most = 0
    for each in sorted(found, key=lambda each: each.start_ns()):
        now += each.nbytes()
        most = max(most, now)
    return most


def test_a_step_needs_less_memory() -> None:
    encoder = replace(CONFIG.encoder, channels=(16,) * 6, strides=(1,) * 6)
    config = replace(CONFIG, data=replace(CONFIG.data, frames=32), encoder=encoder)
    config = replace(config, optimiser=replace(OPTIMISER, batch=32))
    plain = peak_bytes(config)
    assert peak_bytes(replace(config, recompute=True)) < 0.5 * plain


def test_a_step_that_is_one_graph_is_refused() -> None:
    with pytest.raises(ValueError, match="recompute must be off with cuda_graph: it reads the state of the GPU's"):
        PretrainConfig(device="cuda", cuda_graph=True, recompute=True)


def model(norm: nn.Module, dropout: float = 0.0) -> nn.Module:
    """(n, 3, 5) -> (n, 6), each row by itself where the norm is so."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(15, 8), norm, nn.Dropout(dropout), nn.Tanh(), nn.Linear(8, 6)).double()


def frozen(norm: nn.Module) -> nn.Module:
    norm.running_mean.normal_(generator=torch.Generator().manual_seed(2))
    return norm.eval()


@settings(max_examples=20, deadline=None)
@given(N=st.integers(2, 40), size=st.integers(1, 50), kind=st.sampled_from(["layer", "frozen batch"]))
def test_parts_have_the_gradient_of_the_whole_batch(N: int, size: int, kind: str) -> None:
    """Barlow Twins of two views, which no sum over parts gives."""
    views = torch.randn(2, N, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(N))
    found = []
    for parts in (False, True):
        each = model(nn.LayerNorm(8) if kind == "layer" else frozen(nn.BatchNorm1d(8)))
        z1, z2 = (in_parts(each, view, size) if parts else each(view) for view in views)
        loss = barlow_twins(z1, z2, 5e-3)
        loss.backward()
        found.append([loss, *(parameter.grad for parameter in each.parameters())])
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-9)


def test_parts_draw_their_dropout_once() -> None:
    x, found = torch.randn(10, 3, 5, dtype=torch.float64), []
    for parts in (False, True):
        each = model(nn.LayerNorm(8), dropout=0.5)
        torch.manual_seed(3)
        z = in_parts(each, x, 4) if parts else torch.cat([each(part) for part in x.split(4)])
        barlow_twins(z, z.square()).backward()
        found.append([z, *(parameter.grad for parameter in each.parameters())])
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("norm", "name"),
    [(nn.BatchNorm1d(8), "2"), (nn.BatchNorm1d(8, track_running_stats=False).eval(), "2")],
    ids=["training", "without running statistics"],
)
def test_norms_over_the_batch_are_refused(norm: nn.Module, name: str) -> None:
    with pytest.raises(ValueError, match=f"in_parts: {name} takes the statistics of its batch, .* take recomputed"):
        in_parts(model(norm), torch.randn(8, 3, 5, dtype=torch.float64), 4)


def test_a_part_has_a_clip() -> None:
    with pytest.raises(ValueError, match="in_parts: size must be at least 1, got 0"):
        in_parts(model(nn.LayerNorm(8)), torch.randn(8, 3, 5, dtype=torch.float64), 0)
