"""The convolution over frames of an ST-GCN block, against PyTorch's own in float64."""

import cases
import pytest
import torch
from torch.nn import functional

from asma_kernels.triton._config import LAUNCH
from asma_kernels.triton._temporal_conv import row_blocks, temporal_conv, temporal_conv_input_gradient
from asma_kernels.triton._temporal_conv_backward import temporal_conv_weight_gradient

# Interpreted, tl.dot is wrong for bfloat16.
DTYPES = (torch.float32, torch.float16)
SIZES = [  # N, C, D, T, V, taps, stride
    (2, 16, 16, 13, 17, 9, 1),
    (2, 3, 40, 13, 17, 9, 2),
    (2, 40, 3, 6, 25, 9, 2),
    (1, 40, 72, 1, 17, 9, 1),
    (3, 16, 40, 7, 25, 1, 2),
    (1, 3, 16, 8, 25, 1, 1),
    (1, 16, 3, 5, 2, 3, 3),
]


@pytest.fixture(autouse=True)
def few_programs(monkeypatch):
    """Each sums several blocks of rows, and the last fewer than the others; the interpreter is faster so, too."""
    monkeypatch.setitem(LAUNCH["temporal_conv_weight_gradient"], "PROGRAMS", 27)


def numbers(*shape, dtype=torch.float32, layout="channels_last"):
    """Numbers that ``dtype`` has exactly."""
    return cases.layouts(torch.randn(shape).to(dtype))[layout]


def parameters(C, D, taps):
    """Weight and bias of the convolution; scale, shift, mean and rstd of the norm before it."""
    weight = torch.randn(D, C, taps, 1) / (C * taps) ** 0.5
    return weight, torch.randn(D), torch.randn(C), torch.randn(C), torch.randn(C), torch.rand(C) + 0.5


def convolved(x, weight, bias, stride, scale=None, shift=None):
    """The definition, and the value that its ReLU reads."""
    inner = x if scale is None else x * scale[:, None, None] + shift[:, None, None]
    outer = inner if scale is None else inner.relu()
    return functional.conv2d(outer, weight, bias, (stride, 1), (weight.shape[2] // 2, 0)), inner


def double(*tensors):
    return [tensor.double() for tensor in tensors]


def rounded(weight, dtype):
    """The product is made of the data's type."""
    return weight.to(dtype).float()


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_forward_and_partial_statistics(sizes, dtype):
    N, C, D, T, V, taps, stride = sizes
    x = numbers(N, C, T, V, dtype=dtype)
    weight, bias, scale, shift, _, _ = parameters(C, D, taps)
    weight = rounded(weight, dtype)
    plain, _ = convolved(*double(x, weight), None, stride)
    out = temporal_conv(x, weight.to(dtype), None, stride)
    assert out.dtype == dtype
    assert out.is_contiguous(memory_format=torch.channels_last)
    cases.assert_close(out, plain, dtype)

    expected, _ = convolved(*double(x, weight, bias), stride, *double(scale, shift))
    residual = numbers(*expected.shape, dtype=dtype)
    P = N * row_blocks(expected.shape[2], V)
    partials, counts = torch.empty(2, P, D), torch.empty(P)
    norm, parts = {"scale": scale, "shift": shift}, {"partials": partials, "counts": counts}
    out = temporal_conv(x, weight, bias, stride, **norm, **parts, residual=residual, relu=True)
    cases.assert_close(out, (expected + residual).relu(), dtype)
    assert counts.sum() == expected.numel() // D
    rows = expected.permute(0, 2, 3, 1).reshape(-1, D)
    for part, mean, square in zip(rows.split(counts.int().tolist()), *partials, strict=True):
        # The product is of what the ReLU gives, rounded to the data's type.
        cases.assert_close(mean, part.mean(0), dtype)
        cases.assert_close(square / len(part), part.var(0, correction=0), dtype)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize(("dtype", "norm"), [(torch.float32, True), (torch.float16, False)])
def test_gradients(sizes, dtype, norm):
    N, C, D, T, V, taps, stride = sizes
    x = numbers(N, C, T, V, dtype=dtype)
    weight, _, *constants = parameters(C, D, taps)
    weight = rounded(weight, dtype)
    scale, shift, mean, rstd = constants if norm else (None,) * 4
    leaves = [leaf.requires_grad_() for leaf in double(x, weight)]
    expected, inner = convolved(*leaves, None, stride, *(double(scale, shift) if norm else ()))
    grad = numbers(*expected.shape, dtype=dtype)
    expected_g, expected_weight = torch.autograd.grad(expected, (inner, leaves[1]), grad.double())

    g, sums = temporal_conv_input_gradient(grad, weight, stride, x, scale=scale, shift=shift, mean=mean, rstd=rstd)
    assert g.dtype == dtype
    assert g.is_contiguous(memory_format=torch.channels_last)
    cases.assert_close(g, expected_g, dtype)
    if norm:
        xhat = (x.double() - mean[:, None, None]) * rstd[:, None, None]
        for total, term in zip(sums, (expected_g, expected_g * xhat), strict=True):
            torch.testing.assert_close(total.double(), term.sum((0, 2, 3)), rtol=1e-4, atol=1e-3)
    else:
        assert not sums.any()

    actual = temporal_conv_weight_gradient(grad, x, stride, taps, scale=scale, shift=shift)
    assert (actual.dtype, actual.shape) == (torch.float32, weight.shape)
    torch.testing.assert_close(actual.double(), expected_weight, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layout", ["contiguous", "turned", "every_second"])
def test_any_strides(layout):
    x, grad = numbers(2, 16, 6, 5), numbers(2, 16, 3, 5)
    weight, bias, scale, shift, mean, rstd = parameters(16, 16, 9)
    x_other, grad_other, weight_other = (cases.layouts(tensor)[layout] for tensor in (x, grad, weight))

    def run(x, grad, weight):
        constants = {"scale": scale, "shift": shift}
        yield temporal_conv(x, weight, bias, 2, **constants, residual=grad)
        yield from temporal_conv_input_gradient(grad, weight, 2, x, **constants, mean=mean, rstd=rstd)
        yield temporal_conv_weight_gradient(grad, x, 2, 9, **constants)

    for actual, expected in zip(run(x_other, grad_other, weight_other), run(x, grad, weight), strict=True):
        assert torch.equal(actual, expected)


def test_padding_is_zero_behind_the_norm_and_nan_is_kept():
    x = torch.zeros(1, 16, 5, 2)
    weight, scale, shift = torch.ones(16, 16, 9, 1), torch.ones(16), torch.ones(16)
    out = temporal_conv(x, weight, None, 1, scale=scale, shift=shift)
    assert torch.equal(out[0, 0, :, 0], torch.full((5,), 5 * 16.0))
    x[0, 3, 0, 1] = float("nan")
    out = temporal_conv(x, weight[:, :, 3:6], None, 1, scale=scale, shift=shift, relu=True)
    assert out[0, 0].isnan().nonzero().tolist() == [[0, 1], [1, 1]]


@pytest.mark.parametrize(("N", "T", "V"), [(0, 5, 4), (2, 0, 4), (2, 5, 0)])
def test_nothing(N, T, V):
    x, norm = torch.ones(N, 16, T, V), {"scale": torch.ones(16), "shift": torch.ones(16)}
    weight = torch.ones(16, 16, 9, 1)
    out = temporal_conv(x, weight, torch.ones(16), 1, **norm, partials=torch.empty(2, 0, 16), counts=torch.empty(0))
    assert out.shape == x.shape
    g, sums = temporal_conv_input_gradient(out, weight, 1, x, **norm, mean=torch.ones(16), rstd=torch.ones(16))
    assert g.shape == x.shape
    assert torch.equal(sums, torch.zeros(2, 16))
    assert torch.equal(temporal_conv_weight_gradient(out, x, 1, 9, **norm), torch.zeros_like(weight))
