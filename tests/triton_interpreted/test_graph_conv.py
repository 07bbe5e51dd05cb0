import cases
import pytest
import torch
from torch.library import opcheck

from asma_kernels import SparseGraph, graph_conv
from asma_kernels.nn import GraphConv
from asma_kernels.triton import graph_conv as kernels
from asma_kernels.triton._config import LAUNCH

OWN = [[5, 0, 3, 2], [1, 4, 0, 5]]
"""Kept joints of two rows."""


@pytest.fixture(autouse=True)
def few_programs(monkeypatch):
    """So that each sums over several tiles of frames, as with real sizes."""
    for kernel in ("weight", "values"):
        for kind in ("", "_float32", "_float64"):
            monkeypatch.setitem(LAUNCH[f"graph_conv_{kernel}{kind}"], "PROGRAMS", 9)


def inputs(N=2, C=3, T=5, D=20, K=3, V=6, W=6, order="pre", joints=None, dtype=torch.float64):
    """x, adjacency, weight, bias; numbers that the dtype has."""
    J = V if joints is None else joints.shape[-1]
    A = torch.randn(K, V, W, dtype=torch.float64) * (torch.rand(K, V, W) < 0.4)
    weight = torch.randn((K * D, C) if order == "pre" else (D, K * C), dtype=torch.float64) / max(C, 1) ** 0.5
    tensors = (torch.randn(N, C, T, J, dtype=torch.float64), A, weight, torch.randn(len(weight), dtype=torch.float64))
    return [tensor.to(dtype) for tensor in tensors]


def run(backend, order="pre", joints=None, sparse=False):
    def call(x, A, weight, bias=None):
        graph = SparseGraph.from_dense(torch.ones_like(A).where(A != 0, 0)).weighted(A) if sparse else A
        return graph_conv(x, graph, weight, bias, order=order, joints=joints, backend=backend)

    return call


def check(given, **options):
    """Forward and every gradient against the float64 reference."""
    exact, dtype = [tensor.double() for tensor in given], given[0].dtype
    out, expected = run("triton", **options)(*given), run("reference", **options)(*exact)
    assert out.dtype == dtype
    pairs = [(out, expected)]
    pairs += zip(
        cases.gradients(run("triton", **options), *given), cases.gradients(run("reference", **options), *exact),
        strict=True,
    )  # fmt: skip
    for (actual, wanted), like in zip(pairs, [given[0], *given], strict=True):
        assert actual.dtype == like.dtype
        scale = wanted.abs().max().clamp_min(1) if wanted.numel() else 1
        cases.assert_close(actual / scale, wanted / scale, dtype)
    return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(("order", "kept", "sparse"), [
    ("pre", None, True), ("pre", "shared", False), ("pre", "own", True),
    ("post", None, False), ("post", "shared", True), ("post", "own", False),
])  # fmt: skip
def test_equals_the_reference(dtype, order, kept, sparse):
    joints = {None: None, "shared": torch.tensor(OWN[0]), "own": torch.tensor(OWN)}[kept]
    check(inputs(order=order, joints=joints, dtype=dtype), order=order, joints=joints, sparse=sparse)


def test_float64():
    joints = torch.tensor(OWN)
    check(inputs(T=3, joints=joints, dtype=torch.float64), joints=joints, sparse=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("sizes", [
    {"N": 1, "C": 37, "T": 3, "D": 35, "K": 2, "V": 25, "W": 25},
    {"N": 2, "C": 16, "T": 3, "D": 5, "V": 17, "W": 40},
    {"N": 1, "C": 1, "T": 7, "D": 33, "K": 1, "V": 70, "W": 9},
])  # fmt: skip
def test_any_size(dtype, sizes):
    x, A, weight, bias = inputs(**sizes, dtype=dtype)
    check([x, A / sizes["V"] ** 0.5, weight, bias])


def test_no_bias():
    for order in ("pre", "post"):
        check(inputs(T=2, order=order, dtype=torch.float32)[:3], order=order)


@pytest.mark.parametrize("layout", ["contiguous", "turned", "channels_last", "every_second"])
def test_any_strides_and_channels_last_stays(layout):
    x, A, weight, bias = inputs(C=16, D=5, dtype=torch.float32)
    x, turned = (
        cases.layouts(x)[layout],
        (A.mT.contiguous().mT, weight.T.contiguous().T, bias.repeat_interleave(2)[::2]),
    )
    leaves = [tensor.detach().requires_grad_() for tensor in (x, *turned)]
    out, expected = (run(backend)(*leaves) for backend in ("triton", "reference"))
    cases.assert_close(out, expected, torch.float32)
    grad = cases.layouts(torch.randn(out.shape))[{"contiguous": "turned"}.get(layout, layout)]
    found = torch.autograd.grad(out, leaves, grad)
    last = torch.channels_last if layout in ("turned", "channels_last") else torch.contiguous_format
    assert out.is_contiguous(memory_format=last)
    assert found[0].is_contiguous(memory_format=last)
    for ours, wanted in zip(found, torch.autograd.grad(expected, leaves, grad), strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-4)


def test_only_the_gradients_that_are_asked_for():
    given = inputs(T=2, dtype=torch.float32)
    expected = cases.gradients(run("reference"), *given)
    for alone in range(4):
        leaves = [tensor.clone().requires_grad_(place == alone) for place, tensor in enumerate(given)]
        out = run("triton")(*leaves)
        weight = torch.linspace(-1, 2, out.numel(), dtype=torch.float64).view(out.shape).float()
        out.backward(weight)
        assert [leaf.grad is not None for leaf in leaves] == [place == alone for place in range(4)]
        torch.testing.assert_close(leaves[alone].grad, expected[alone], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("empty", ["N", "C", "T", "D"])
@pytest.mark.parametrize("sparse", [True, False])
def test_empty_axes(empty, sparse):
    check(inputs(**{empty: 0}, dtype=torch.float32), sparse=sparse)


def test_a_graph_without_edges_and_no_kept_joint():
    x, A, weight, bias = inputs(dtype=torch.float32)
    assert torch.equal(run("triton", sparse=True)(x, A * 0, weight, bias), torch.zeros(2, 20, 5, 6))
    none = torch.zeros(0, dtype=torch.int64)
    check([x[..., :0], A, weight, bias], joints=none)


def test_what_is_outside_the_graph_feeds_nothing_and_an_edge_named_twice_counts_twice():
    x, A, weight, bias = inputs(V=3, W=3, dtype=torch.float32)
    edges = torch.tensor([[0, 1, 0, 2, 1, 1, 1, 3], [0, 2, -1, 1, 3, 2, 2, 0], [1, 0, 2, 1, 0, 0, 3, 0]])
    values, inside = torch.randn(8), torch.tensor([0, 1, 3, 5])
    op, reference = torch.ops.asma_triton.graph_conv, torch.ops.asma.graph_conv
    rest = (3, 3, 3, weight, bias, False)
    expected = reference(x, values[inside], edges[:, inside], *rest, None)
    torch.testing.assert_close(op(x, values, edges, *rest, None), expected)
    # A graph with an isolated joint more stands in for the joints that are none.
    joints, known = torch.tensor([[2, 9, 0], [1, 0, -4]]), torch.tensor([[2, 3, 0], [1, 0, 3]])
    larger = torch.nn.functional.pad(A, (0, 1, 0, 1))
    expected = reference(x, larger, None, 3, 4, 4, weight, bias, False, known)
    torch.testing.assert_close(op(x, A, None, *rest, joints), expected)


def test_parameters_in_float32_and_autocast():
    x, A, weight, bias = (tensor.float() for tensor in inputs(dtype=torch.float16))
    expected = run("reference")(x, A, weight, bias)
    layer = GraphConv(3, 20, 3)
    layer.conv.weight.data, layer.conv.bias.data = weight[:, :, None, None], bias
    with torch.autocast("cpu", torch.float16):
        out = graph_conv(x, A, layer.conv.weight, layer.conv.bias, backend="triton")
    assert out.dtype == torch.float16
    torch.testing.assert_close(out.float(), expected, rtol=5e-3, atol=5e-3)
    out.float().square().sum().backward()
    assert layer.conv.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_statistics_of_the_output(dtype, layout):
    x, A, weight, bias = inputs(T=9, D=70, dtype=dtype)
    bias += 100  # so that a mean of squares, or of rounded numbers, would be wrong
    rest = (None, 3, 6, 6, weight, bias, False, None)
    P = kernels.programs(x, 6)
    partials, counts = torch.full((2, P, 70), float("nan")), torch.full((P,), float("nan"))
    out = kernels.aggregate(cases.layouts(x)[layout], A, *rest, partials=partials, counts=counts)
    assert torch.equal(out, kernels.graph_conv(x, A, *rest))
    exact = run("reference")(*[tensor.double() for tensor in (x, A, weight, bias)])
    frames = int(counts[0]) // 6
    blocks = [block for clip in exact for block in clip.split(frames, 1)]  # (D, frames, W)
    assert P > 2
    assert counts.tolist() == [block[0].numel() for block in blocks]
    means = torch.stack([block.mean((1, 2)) for block in blocks])
    torch.testing.assert_close(partials[0].double(), means, rtol=1e-3 if dtype == torch.float16 else 1e-5, atol=1e-3)
    squares = torch.stack([block.var((1, 2), correction=0) * block[0].numel() for block in blocks])
    torch.testing.assert_close(partials[1].double(), squares, rtol=1e-2 if dtype == torch.float16 else 1e-4, atol=1e-3)


@pytest.mark.parametrize("relu", [False, True])
def test_scale_shift_and_relu_on_the_way_out(relu):
    x, A, weight, bias = inputs(dtype=torch.float32)
    scale, shift = torch.randn(2, 20)
    rest = (None, 3, 6, 6, weight, bias, False, None)
    expected = kernels.graph_conv(x, A, *rest) * scale[:, None, None] + shift[:, None, None]
    out = kernels.aggregate(x, A, *rest, scale=scale, shift=shift, relu=relu)
    torch.testing.assert_close(out, expected.relu() if relu else expected)
    assert kernels.aggregate(x * float("nan"), A, *rest, relu=relu).isnan().any()


def test_more_than_a_program_holds_is_refused():
    x, A, weight, bias = inputs(V=140, W=9, dtype=torch.float32)
    with pytest.raises(ValueError, match="takes at most 128 joints in torch.float32, got V = 140, W = 9, x with 140"):
        run("triton")(x, A, weight, bias)
    with pytest.raises(ValueError, match="graph_conv: backend 'triton' takes at most 64 joints in torch.float64"):
        run("triton")(*inputs(V=65, W=2))


def test_opcheck_and_double_backward():
    joints = torch.tensor(OWN)
    x, A, weight, bias = (tensor.requires_grad_() for tensor in inputs(T=2, D=5, joints=joints, dtype=torch.float32))
    graph = SparseGraph.from_dense(A)
    ops = torch.ops.asma_triton
    values = graph.values.detach().requires_grad_()
    last = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    opcheck(ops.graph_conv.default, (last, values, graph.edges, 3, 6, 6, weight, bias, False, joints))
    plain = [tensor.detach() for tensor in (torch.ones(2, 5, 2, 4), last, values)]
    rest = (graph.edges, 3, 6, 6, weight.detach(), bias.detach(), False, joints)
    opcheck(ops.graph_conv_backward.default, (*plain, *rest, True, True, True, True))
    (grad,) = torch.autograd.grad(run("triton", joints=joints)(x, A, weight).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="graph_conv: double backward is not implemented"):
        grad.sum().backward()
