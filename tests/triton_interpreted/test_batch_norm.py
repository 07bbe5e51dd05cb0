"""The batch norms of an ST-GCN block, against PyTorch's own in float64."""

import cases
import pytest
import torch
from torch.nn import functional

from asma_kernels import philox
from asma_kernels.triton import _batch_norm
from asma_kernels.triton._batch_norm import (
    Statistics,
    norm_backward,
    norm_residual_relu,
    norm_residual_relu_backward,
    norm_residual_relu_sums,
)
from asma_kernels.triton._config import LAUNCH
from asma_kernels.triton._temporal_conv import row_blocks, temporal_conv, temporal_conv_input_gradient
from asma_kernels.triton._temporal_conv_backward import temporal_conv_weight_gradient

NARROW = (torch.bfloat16, torch.float16)
RNG = torch.tensor([-7, 2**40 + 3])
SHAPES = [(2, 16, 13, 17), (2, 40, 3, 25), (2, 3, 1, 17), (1, 200, 5, 3)]
RESIDUALS = ("none", "identity", "norm")


def finish_statistics(partials, counts, weight, bias, eps):
    statistics = torch.empty(5, partials.shape[2])
    _batch_norm.finish_statistics(partials, counts, weight, bias, eps, statistics)
    return statistics


@pytest.fixture(autouse=True)
def few_programs(monkeypatch):
    """Each sums several blocks of rows, and the last fewer than the others; the interpreter is faster so, too."""
    monkeypatch.setitem(LAUNCH["temporal_conv_weight_gradient"], "PROGRAMS", 27)
    monkeypatch.setitem(LAUNCH["norm_residual_relu_sums"], "PROGRAMS", 2)


def numbers(*shape, dtype=torch.float32):
    return torch.randn(shape).to(dtype).contiguous(memory_format=torch.channels_last)


def norm_parameters(D):
    return torch.randn(D), torch.randn(D)


def divided(rows, sizes):
    """Partial statistics of float64 rows (R, D) in parts of the given sizes."""
    parts = rows.split(sizes)
    mean = torch.stack([part.mean(0) for part in parts])
    square = torch.stack([((part - part.mean(0)) ** 2).sum(0) for part in parts])
    return torch.stack([mean, square]).float(), torch.tensor(sizes).float()


def statistics_of(y, weight, bias, eps=1e-5):
    rows = y.double().permute(0, 2, 3, 1).flatten(0, 2)
    return finish_statistics(*divided(rows, [len(rows)]), weight, bias, eps)


def dropped(x, dropout, rng):
    """Dropout by the definition: word (i, n) of element i of row n."""
    N, D, T, V = x.shape
    keeps = philox(rng, N, T * V * D).view(N, T, V, D).permute(0, 3, 1, 2) >= round(dropout * 2**32)
    return torch.where(keeps, x / (1 - dropout), 0.0) if dropout < 1 else x * 0


def normed(y, weight, bias):
    return functional.batch_norm(y, None, None, weight, bias, training=True)


@pytest.mark.parametrize("D", [3, 16, 40])
@pytest.mark.parametrize("sizes", [[1], [128, 1], [5] * 600 + [2, 3]])
def test_statistics(D, sizes):
    weight, bias = norm_parameters(D)
    rows = torch.randn(sum(sizes), D, dtype=torch.float64) * 3 + 2
    found = finish_statistics(*divided(rows, sizes), weight.half(), bias.bfloat16(), 1e-5)
    assert found.dtype == torch.float32
    variance, mean = torch.var_mean(rows, 0, correction=0)
    rstd = (variance + 1e-5).rsqrt()
    scale = weight.half() * rstd
    expected = torch.stack([mean, variance, rstd, scale, bias.bfloat16() - mean * scale])
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)


def test_large_mean_and_small_variance():
    x = (torch.randn(9, 16, 30, 25) * 1e-2 + 1000).contiguous(memory_format=torch.channels_last)
    P = 9 * row_blocks(30, 25)
    partials, counts = torch.empty(2, P, 16), torch.empty(P)
    temporal_conv(x, torch.eye(16)[:, :, None, None], None, 1, partials=partials, counts=counts)
    found = Statistics(*finish_statistics(partials, counts, torch.ones(16), torch.zeros(16), 0.0))
    variance, mean = torch.var_mean(x.double(), (0, 2, 3), correction=0)
    torch.testing.assert_close(found.mean.double(), mean, rtol=1e-7, atol=0)
    torch.testing.assert_close(found.variance.double(), variance, rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ("shape", "dtype"), [*((shape, torch.float32) for shape in SHAPES), *((SHAPES[0], dtype) for dtype in NARROW)]
)
@pytest.mark.parametrize("residual", RESIDUALS)
def test_forward_and_backward(shape, residual, dtype):
    D = shape[1]
    dropout = 0.0 if residual == "identity" else 0.3
    y, grad, x = (numbers(*shape, dtype=dtype) for _ in range(3))
    parameters, others = norm_parameters(D), norm_parameters(D)
    leaves = [leaf.double().requires_grad_() for leaf in (y, x, *parameters, *others)]
    expected = normed(leaves[0], *leaves[2:4])
    if dropout:
        expected = dropped(expected, dropout, RNG)
    if residual != "none":
        expected = expected + (leaves[1] if residual == "identity" else normed(leaves[1], *leaves[4:]))
    expected = expected.relu()

    statistics, others = statistics_of(y, *parameters), statistics_of(x, *others)
    norm, other = Statistics(*statistics), Statistics(*others)
    pair, of_other = {"none": (None, None), "identity": (x, None), "norm": (x, others)}[residual], residual == "norm"
    scales = (other.scale, other.shift) if of_other else (None, None)
    out = norm_residual_relu(y, norm.scale, norm.shift, pair[0], *scales, dropout, RNG)
    assert out.dtype == dtype
    assert out.is_contiguous(memory_format=torch.channels_last)
    cases.assert_close(out, expected, dtype)

    # Where the two differ in sign by rounding there is no derivative to compare.
    grad = torch.where((out > 0) == (expected > 0), grad, 0)
    expected_grads = torch.autograd.grad(expected, leaves, grad.double(), allow_unused=True)
    moments = (other.mean, other.rstd) if of_other else (None, None)
    sums = norm_residual_relu_sums(grad, out, y, norm.mean, norm.rstd, dropout, RNG, pair[0], *moments)
    grad_weight, grad_bias, *grad_others = expected_grads[2:]
    wanted = [grad_bias, grad_weight, *(reversed(grad_others) if of_other else ())]
    torch.testing.assert_close(sums.double(), torch.stack(wanted), rtol=1e-3, atol=1e-3)
    grad_y, grad_x = norm_residual_relu_backward(grad, out, y, statistics, sums, dropout, RNG, *pair)
    assert grad_y.dtype == dtype
    cases.assert_close(grad_y, expected_grads[0], dtype)
    if residual == "none":
        assert grad_x is None
    else:
        cases.assert_close(grad_x, expected_grads[1], dtype)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dropout", [0.5, 1e-9, 1.0])
def test_the_dropout_is_that_of_philox(shape, dropout):
    y = numbers(*shape).abs() + 1
    one, zero = torch.ones(shape[1]), torch.zeros(shape[1])
    rng = RNG.repeat_interleave(2)[::2]
    out = norm_residual_relu(y, one, zero, dropout=dropout, rng=rng)
    assert torch.equal(out, dropped(y, dropout, RNG))


def test_any_strides():
    y, x, grad = numbers(2, 16, 6, 5), numbers(2, 16, 6, 5), numbers(2, 16, 6, 5)
    statistics, others = statistics_of(y, *norm_parameters(16)), statistics_of(x, *norm_parameters(16))
    norm, other = Statistics(*statistics), Statistics(*others)

    def run(y, x, grad):
        out = norm_residual_relu(y, norm.scale, norm.shift, x, other.scale, other.shift)
        sums = norm_residual_relu_sums(
            grad, out, y, norm.mean, norm.rstd, residual=x, residual_mean=other.mean, residual_rstd=other.rstd
        )
        backward = norm_residual_relu_backward(grad, out, y, statistics, sums, residual=x, residual_statistics=others)
        return out, sums, *backward, norm_backward(grad, y, statistics, sums)

    expected = run(y, x, grad)
    for layout in ("contiguous", "turned", "every_second"):
        for actual, wanted in zip(run(*(cases.layouts(each)[layout] for each in (y, x, grad))), expected, strict=True):
            assert torch.equal(actual, wanted)


def test_nan_is_kept():
    y = torch.zeros(1, 3, 2, 2)
    y[0, 1, 0, 1] = float("nan")
    out = norm_residual_relu(y, torch.ones(3), torch.ones(3))
    assert out.isnan().nonzero().tolist() == [[0, 1, 0, 1]]


@pytest.mark.parametrize("shape", [(0, 4, 3, 2), (2, 0, 3, 2), (2, 4, 0, 2), (2, 4, 3, 0)])
def test_nothing(shape):
    y, D = torch.ones(shape), shape[1]
    statistics, one = torch.ones(5, D), torch.ones(D)
    out = norm_residual_relu(y, one, one, y, one, one, 0.5, RNG)
    sums = norm_residual_relu_sums(y, out, y, one, one, 0.5, RNG, y, one, one)
    assert torch.equal(sums, torch.zeros(4, D))
    for result in (out, *norm_residual_relu_backward(y, out, y, statistics, sums, 0.5, RNG, y, statistics)):
        assert result.shape == y.shape
    assert norm_backward(y, y, statistics, sums).shape == y.shape
    empty = finish_statistics(torch.empty(2, 0, D), torch.empty(0), one, one, 1.0)
    assert torch.equal(empty, torch.tensor([0.0, 0, 1, 1, 1])[:, None].expand(5, D))


@pytest.mark.parametrize("residual", RESIDUALS)
@pytest.mark.parametrize("stride", [1, 2])
def test_the_part_of_a_block_behind_its_graph_convolution(residual, stride):
    """out = relu(dropout(bn2(conv(relu(bn1(y1))))) + residual), its gradient put together from the kernels."""
    N, C, T, V, dropout = 2, 16, 9, 17, 0.3
    stride = 1 if residual == "identity" else stride
    y1, x = numbers(N, C, T, V), numbers(N, C, T, V)
    weight, weight3 = torch.randn(C, C, 9, 1) / 12, torch.randn(C, C, 1, 1) / 4
    norm1, norm2, norm3 = (norm_parameters(C) for _ in range(3))
    bias = torch.randn(C)
    leaves = [leaf.double().requires_grad_() for leaf in (y1, x, weight, bias, weight3, *norm1, *norm2, *norm3)]

    def exact(y1, x, weight, bias, weight3, *norms):
        y2 = functional.conv2d(normed(y1, *norms[:2]).relu(), weight, bias, (stride, 1), (4, 0))
        out = dropped(normed(y2, *norms[2:4]), dropout, RNG)
        if residual == "identity":
            out = out + x
        elif residual == "norm":
            out = out + normed(functional.conv2d(x, weight3, None, (stride, 1)), *norms[4:])
        return out.relu()

    def convolved(x, weight, bias, norm, **constants):
        frames = -(-T // stride)
        P = N * row_blocks(frames, V)
        partials, counts = torch.empty(2, P, C), torch.empty(P)
        y = temporal_conv(x, weight, bias, stride, partials=partials, counts=counts, **constants)
        return y, finish_statistics(partials, counts, *norm, 1e-5)

    expected = exact(*leaves)
    statistics1 = statistics_of(y1, *norm1)
    bn1 = Statistics(*statistics1)
    inner = {"scale": bn1.scale, "shift": bn1.shift}
    y2, statistics2 = convolved(y1, weight, bias, norm2, **inner)
    y3, statistics3 = convolved(x, weight3, None, norm3)
    bn2, bn3 = Statistics(*statistics2), Statistics(*statistics3)
    other = {"none": None, "identity": x, "norm": y3}[residual]
    if residual != "norm":
        bn3, statistics3 = Statistics(*[None] * 5), None
    out = norm_residual_relu(y2, bn2.scale, bn2.shift, other, bn3.scale, bn3.shift, dropout, RNG)
    cases.assert_close(out, expected, torch.float32)

    grad = numbers(*out.shape)
    sums = norm_residual_relu_sums(grad, out, y2, bn2.mean, bn2.rstd, dropout, RNG, other, bn3.mean, bn3.rstd)
    grad_y2, grad_residual = norm_residual_relu_backward(
        grad, out, y2, statistics2, sums, dropout, RNG, other, statistics3
    )
    g, sums1 = temporal_conv_input_gradient(grad_y2, weight, stride, y1, **inner, mean=bn1.mean, rstd=bn1.rstd)
    actual = {
        0: norm_backward(g, y1, statistics1, sums1),
        2: temporal_conv_weight_gradient(grad_y2, y1, stride, 9, **inner),
        5: sums1[1], 6: sums1[0], 7: sums[1], 8: sums[0],
    }  # fmt: skip
    if residual == "identity":
        actual[1] = grad_residual
    elif residual == "norm":
        actual[1], _ = temporal_conv_input_gradient(grad_residual, weight3, stride, x)
        actual[4] = temporal_conv_weight_gradient(grad_residual, x, stride, 1)
        actual[9], actual[10] = sums[3], sums[2]
    wanted = torch.autograd.grad(expected, leaves, grad.double(), allow_unused=True)
    assert {place for place, each in enumerate(wanted) if each is not None} == {3, *actual}
    for place, each in actual.items():
        torch.testing.assert_close(each.double(), wanted[place], rtol=1e-4, atol=1e-4)
