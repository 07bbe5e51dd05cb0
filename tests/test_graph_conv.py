import cases
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.autograd import gradcheck

from asma_kernels import Skeleton, SparseGraph, graph_conv
from asma_kernels.nn import GraphConv
from asma_kernels.reference import graph_conv as reference

NTU = Skeleton.builtin("ntu25").partition("spatial")


def adjacency(K=3, V=6, W=6, dtype=torch.float64):
    """About a third nonzero, and a partition that reaches few targets."""
    A = torch.randn(K, V, W, dtype=torch.float64) * (torch.rand(K, V, W) < 0.35)
    A[-1, :, 1:] = 0
    return A.to(dtype)


def as_stgcn_writes_it(x, A, weight, bias, joints=None):
    """ST-GCN and PSTL: convolution, view, einsum, with A[:, R][:, :, R] for kept joints."""
    if joints is not None:
        A = A[:, joints][:, :, joints]
    hidden = nn.functional.conv2d(x, weight[:, :, None, None], bias)
    N, KD, T, V = hidden.shape
    return torch.einsum("nkctv,kvw->nctw", hidden.view(N, A.shape[0], KD // A.shape[0], T, V), A)


def as_pyskl_writes_it(x, A, weight, bias, joints=None):
    """pyskl's conv_pos='post': einsum, view, convolution."""
    if joints is not None:
        A = A[:, joints][:, :, joints]
    N, C, T, _ = x.shape
    together = torch.einsum("nctv,kvw->nkctw", x, A).reshape(N, -1, T, A.shape[2])
    return nn.functional.conv2d(together, weight[:, :, None, None], bias)


def parameters(order, K, C, D, dtype=torch.float64):
    weight = torch.randn((K * D, C) if order == "pre" else (D, K * C), dtype=torch.float64)
    return weight.to(dtype), torch.randn(weight.shape[0], dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("backend", cases.BACKENDS)
@pytest.mark.parametrize(("order", "peer"), [("pre", as_stgcn_writes_it), ("post", as_pyskl_writes_it)])
@pytest.mark.parametrize("N", [1, 3])
@pytest.mark.parametrize("joints", [None, [0, 2, 3, 5], [4, 1]])
def test_is_what_peers_write(backend, order, peer, N, joints):
    A = adjacency()
    joints = None if joints is None else torch.tensor(joints)
    weight, bias = parameters(order, 3, 4, 5)
    x = torch.randn(N, 4, 7, 6 if joints is None else len(joints), dtype=torch.float64)
    expected = peer(x, A, weight, bias, joints)
    for graph in (A, SparseGraph.from_dense(A)):
        out = graph_conv(x, graph, weight, bias, order=order, joints=joints, backend=backend)
        torch.testing.assert_close(out, expected)


@pytest.mark.parametrize("backend", cases.BACKENDS)
@pytest.mark.parametrize("order", ["pre", "post"])
def test_a_subset_of_its_own_in_each_row(backend, order):
    A, joints = adjacency(), torch.stack([torch.randperm(6)[:4] for _ in range(5)])
    weight, bias = parameters(order, 3, 4, 5)
    x = torch.randn(5, 4, 7, 4, dtype=torch.float64)
    out = graph_conv(x, SparseGraph.from_dense(A), weight, bias, order=order, joints=joints, backend=backend)
    for row in range(5):
        alone = graph_conv(x[row : row + 1], A, weight, bias, order=order, joints=joints[row], backend=backend)
        torch.testing.assert_close(out[row : row + 1], alone)


@pytest.mark.parametrize("backend", cases.BACKENDS)
def test_targets_other_than_the_sources(backend):
    A = adjacency(2, 6, 9)
    weight, bias = parameters("pre", 2, 4, 5)
    x = torch.randn(2, 4, 3, 6, dtype=torch.float64)
    torch.testing.assert_close(graph_conv(x, A, weight, bias, backend=backend), as_stgcn_writes_it(x, A, weight, bias))


@pytest.mark.parametrize("dtype", cases.FLOATS)
@pytest.mark.parametrize("order", ["pre", "post"])
@pytest.mark.parametrize(("N", "C", "T", "D"), [(17, 16, 9, 32), (2, 3, 50, 16), (1, 5, 101, 1), (3, 64, 13, 72)])
def test_forward_and_backward_equal_the_reference(dtype, order, N, C, T, D):
    exact = [(t / t.shape[-1] ** 0.5).to(dtype).double() for t in parameters(order, 3, C, D)]
    A = NTU.to(dtype).double()
    x_exact = torch.randn(N, C, T, 25, dtype=torch.float64).to(dtype).double()

    def run(x, importance, weight, bias, backend):
        graph = SparseGraph.from_dense(A.to(importance.dtype)).weighted(importance)
        return graph_conv(x, graph, weight, bias, order=order, backend=backend)

    inputs = [x_exact, torch.ones_like(A), *exact]
    expected = run(*inputs, "reference")
    expected_gradients = cases.gradients(lambda *i: run(*i, "reference"), *inputs)
    for layout, x in cases.layouts(x_exact.to(dtype)).items():
        narrow = [x, *[t.to(dtype) for t in inputs[1:]]]
        out = run(*narrow, "cpu")
        assert out.dtype == dtype, layout
        cases.assert_close(out / expected.std(), expected / expected.std(), dtype)
        gradients = cases.gradients(lambda *i: run(*i, "cpu"), *narrow)
        for gradient, exact_gradient in zip(gradients, expected_gradients, strict=True):
            assert gradient.dtype == dtype
            scale = exact_gradient.abs().max()
            cases.assert_close(gradient / scale, exact_gradient / scale, dtype)


@pytest.mark.parametrize("backend", cases.BACKENDS)
@pytest.mark.parametrize("order", ["pre", "post"])
@pytest.mark.parametrize("kept", ["all", "shared", "own"])
@pytest.mark.parametrize("sparse", [True, False])
def test_gradcheck(backend, order, kept, sparse):
    A = adjacency(2, 4, 4)
    joints = {"all": None, "shared": torch.tensor([0, 3]), "own": torch.tensor([[0, 1], [2, 1]])}[kept]
    weight, bias = parameters(order, 2, 2, 3)
    x = torch.randn(2, 2, 3, 4 if joints is None else 2, dtype=torch.float64)

    def run(x, importance, weight, bias):
        graph = SparseGraph.from_dense(A).weighted(importance) if sparse else A * importance
        return graph_conv(x, graph, weight, bias, order=order, joints=joints, backend=backend)

    leaves = [t.requires_grad_() for t in (x, torch.ones_like(A), weight, bias)]
    assert gradcheck(run, leaves)


def test_only_the_gradients_that_are_asked_for():
    x = torch.randn(2, 4, 3, 25)
    weight, bias = parameters("pre", 3, 4, 5, torch.float32)
    full = [t.clone().requires_grad_() for t in (x, NTU, weight, bias)]
    graph_conv(*full).square().sum().backward()
    for alone in range(4):
        leaves = [t.clone().requires_grad_(i == alone) for i, t in enumerate((x, NTU, weight, bias))]
        graph_conv(*leaves).square().sum().backward()
        assert [t.grad is not None for t in leaves] == [i == alone for i in range(4)]
        torch.testing.assert_close(leaves[alone].grad, full[alone].grad)


@pytest.mark.parametrize("backend", cases.BACKENDS)
@pytest.mark.parametrize(("N", "C", "T", "D"), [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0)])
def test_empty_axes(backend, N, C, T, D):
    inputs = [torch.randn(N, C, T, 25), NTU, torch.randn(3 * D, C), torch.randn(3 * D)]
    leaves = [t.clone().requires_grad_() for t in inputs]
    out = graph_conv(*leaves, backend=backend)
    assert out.shape == (N, D, T, 25)
    if C == 0:
        torch.testing.assert_close(
            out, as_stgcn_writes_it(torch.zeros(N, 1, T, 25), NTU, torch.zeros(15, 1), inputs[3])
        )
    out.sum().backward()
    for leaf in leaves:
        assert leaf.grad.shape == leaf.shape
        assert not leaf.grad.isnan().any()


def test_a_graph_without_edges_and_no_kept_joint():
    weight, bias = parameters("pre", 3, 4, 5, torch.float32)
    x = torch.randn(2, 4, 3, 25)
    assert torch.equal(graph_conv(x, torch.zeros(3, 25, 25), weight, bias), torch.zeros(2, 5, 3, 25))
    assert torch.equal(graph_conv(x, SparseGraph.from_dense(torch.zeros(3, 25, 25)), weight), torch.zeros(2, 5, 3, 25))
    none = torch.zeros(0, dtype=torch.int64)
    assert graph_conv(x[..., :0], NTU, weight, bias, joints=none).shape == (2, 5, 3, 0)


def test_opcheck_and_double_backward():
    graph = SparseGraph.from_dense(NTU)
    x = torch.randn(2, 4, 3, 25, requires_grad=True)
    weight, bias = (t.requires_grad_() for t in parameters("pre", 3, 4, 5, torch.float32))
    values = graph.values.clone().requires_grad_()
    joints = torch.arange(25)
    cases.check_op("graph_conv", (x, values, graph.edges, 3, 25, 25, weight, bias, False, joints))
    cases.check_op("graph_conv", (x, NTU.clone().requires_grad_(), None, 3, 25, 25, weight, None, False, None))
    plain = [t.detach() for t in (torch.ones(2, 5, 3, 25), x, values)]
    rest = (graph.edges, 3, 25, 25, weight.detach(), bias.detach(), False, None)
    cases.check_op("graph_conv_backward", (*plain, *rest, True, True, True, True))
    cases.check_op("graph_conv_backward", (*plain, *rest, False, True, False, False))
    (grad,) = torch.autograd.grad(graph_conv(x, graph, weight).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="graph_conv: double backward is not implemented"):
        grad.sum().backward()


@pytest.mark.parametrize("backend", cases.BACKENDS)
def test_compiled(backend):
    graph = SparseGraph.from_dense(NTU)
    weight, bias = parameters("pre", 3, 4, 5, torch.float32)
    joints = torch.arange(0, 25, 3)

    def run(x, importance):
        return graph_conv(x * 2, graph.weighted(importance), weight, bias, joints=joints, backend=backend).relu()

    cases.check_compiled(run, *[(torch.randn(2, 4, 3, 9), torch.rand(3, 25, 25)) for _ in range(3)])


def test_compiled_training_step_equals_eager():
    layer = GraphConv(4, 8, 3)
    graph = SparseGraph.from_dense(NTU)
    x = torch.randn(2, 4, 6, 25)
    layer(x, graph).square().sum().backward()
    eager = [p.grad.clone() for p in layer.parameters()]
    layer.zero_grad()
    torch._dynamo.reset()
    torch.compile(layer, fullgraph=True)(x, graph).square().sum().backward()
    for parameter, expected in zip(layer.parameters(), eager, strict=True):
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=1e-4)


def test_threads_do_not_change_a_bit():
    graph = SparseGraph.from_dense(NTU)
    inputs = [torch.randn(37, 8, 20, 25), graph.values, *parameters("pre", 3, 8, 16, torch.float32)]
    cases.check_threads(lambda: graph_conv(inputs[0], graph, *inputs[2:]))

    def gradients(place):
        def run(x, values, weight, bias):
            return graph_conv(x, graph._replace(values=values), weight, bias)

        return cases.gradients(run, *inputs)[place]

    for place in range(4):
        cases.check_threads(lambda place=place: gradients(place))
    cases.check_concurrent(lambda: graph_conv(inputs[0], graph, *inputs[2:]))


@pytest.mark.parametrize("backend", cases.BACKENDS)
def test_autocast_computes_in_its_dtype_and_keeps_the_parameters(backend):
    layer, x = GraphConv(4, 8, 3), torch.randn(2, 4, 6, 25)
    expected = layer(x, NTU)
    with torch.autocast("cpu", torch.bfloat16):
        out = graph_conv(x, NTU, layer.conv.weight, layer.conv.bias, backend=backend)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), expected, rtol=0.02, atol=0.02)
    out.float().square().sum().backward()
    assert layer.conv.weight.grad.dtype == torch.float32


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.tuples(*[st.integers(1, 12)] * 3, st.integers(1, 20), st.integers(1, 20)),
    K=st.integers(1, 4),
    order=st.sampled_from(["pre", "post"]),
)
def test_any_size(sizes, K, order):
    N, T, V, C, D = sizes
    A = adjacency(K, V, V)
    weight, bias = parameters(order, K, C, D)
    x = torch.randn(N, C, T, V, dtype=torch.float64)
    peer = as_stgcn_writes_it if order == "pre" else as_pyskl_writes_it
    expected = peer(x, A, weight, bias)
    torch.testing.assert_close(graph_conv(x, SparseGraph.from_dense(A), weight, bias, order=order), expected)
    order_of_joints = torch.randperm(V)
    turned = graph_conv(x[..., order_of_joints], A, weight, bias, order=order, joints=order_of_joints)
    torch.testing.assert_close(turned, expected[..., order_of_joints])


def test_sparse_graph_is_the_dense_one():
    importance = torch.rand(NTU.shape)
    graph = SparseGraph.from_dense(NTU)
    assert graph.values.shape == (73,)
    assert torch.equal(graph.to_dense(), NTU)
    assert torch.equal(graph.weighted(importance).to_dense(), NTU * importance)
    with pytest.raises(ValueError, match=r"SparseGraph: adjacency must be \(K, V, W\)"):
        SparseGraph.from_dense(NTU[0])
    with pytest.raises(ValueError, match=r"SparseGraph.weighted: importance must be \(3, 25, 25\)"):
        graph.weighted(importance[0])


def test_the_module_loads_a_conv_temporal_graphical():
    peer = nn.Conv2d(4, 3 * 8, 1)
    layer = GraphConv(4, 8, 3)
    layer.load_state_dict({"conv.weight": peer.weight, "conv.bias": peer.bias})
    x = torch.randn(2, 4, 6, 25)
    torch.testing.assert_close(layer(x, NTU), as_stgcn_writes_it(x, NTU, peer.weight[..., 0, 0], peer.bias))
    with pytest.raises(ValueError, match="GraphConv: the graph must have 3 partitions, got 1"):
        layer(x, NTU[:1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(4, 3, 25)}, r"graph_conv: x must be \(N, C, T, V\), got shape \(4, 3, 25\)"),
        ({"x": torch.zeros(2, 4, 3, 20)}, "graph_conv: x has 20 joints, the graph 25; name the kept ones with joints="),
        ({"graph": NTU[0]}, r"graph_conv: a dense graph must be \(K, V, W\)"),
        ({"order": "both"}, "graph_conv: order must be one of pre, post, got 'both'"),
        ({"weight": torch.zeros(16, 4)}, r"graph_conv: weight must be \(K \* D, C\) with K = 3, C = 4, got \(16, 4\)"),
        ({"order": "post"}, r"graph_conv: weight must be \(D, K \* C\) = \(D, 12\), got \(15, 4\)"),
        ({"weight": torch.zeros(15, 4).double()}, "graph_conv: weight must be torch.float32, as x, got torch.float64"),
        ({"bias": torch.zeros(5)}, r"graph_conv: bias must be \(15,\), got \(5,\)"),
        ({"joints": torch.arange(20)}, r"graph_conv: joints must be \(25,\) or \(2, 25\), as x's axes, got \(20,\)"),
        ({"joints": torch.arange(25.0)}, "graph_conv: joints must be torch.int64"),
        ({"joints": torch.arange(25), "graph": NTU[:, :, :20]}, "graph_conv: joints need a square graph"),
        ({"joints": torch.arange(1, 26)}, r"graph_conv: joints must be in \[0, V\), got 25 with V = 25"),
    ],
)
def test_wrong_arguments_end_in_one_sentence(change, message):
    arguments = {"x": torch.zeros(2, 4, 3, 25), "graph": NTU, "weight": torch.zeros(15, 4)} | change
    with pytest.raises((ValueError, TypeError, RuntimeError), match=message):
        graph_conv(**arguments)


def cuda_cases():
    """Sizes (N, C, T, D), K, V, W, what is kept, and whether the adjacency is sparse: every way through the kernels."""
    own = [torch.arange(6).roll(row)[:4].tolist() for row in range(3)]
    return [
        ((2, 3, 11, 16), 3, 25, 25, None, True),
        ((2, 33, 6, 70), 3, 25, 25, None, False),  # two slices in, two blocks out
        ((3, 19, 5, 5), 2, 6, 6, own, True),
        ((3, 7, 4, 20), 2, 6, 6, own, False),
        ((2, 5, 9, 33), 3, 25, 25, [3, 4, 20, 1, 0], True),
        ((1, 4, 3, 8), 1, 140, 9, None, True),  # x's frames have no room in shared memory
        ((1, 4, 2, 8), 2, 9, 140, None, False),  # a frame is more than a tile
        ((1, 9, 2, 3), 2, 150, 150, None, True),
        ((0, 4, 3, 5), 3, 6, 6, None, True),
        ((2, 0, 3, 5), 3, 6, 6, None, True),
        ((2, 4, 3, 0), 3, 6, 6, None, False),
        ((2, 4, 0, 5), 3, 6, 6, None, True),
        ((2, 4, 3, 5), 3, 6, 6, [], True),
    ]  # fmt: skip


@pytest.mark.parametrize("order", ["pre", "post"])
@pytest.mark.parametrize("case", range(len(cuda_cases())))
@pytest.mark.parametrize("dtype", cases.FLOATS)
def test_cuda_kernels_on_the_cpu(emulated, dtype, case, order):
    (N, C, T, D), K, V, W, kept, sparse = cuda_cases()[case]
    A = (adjacency(K, V, W) / (V * K) ** 0.5).to(dtype)
    joints = None if kept is None else torch.tensor(kept, dtype=torch.int64)
    J = V if joints is None else joints.shape[-1]
    weight, bias = (t.to(dtype) for t in parameters(order, K, C, D))
    exact = torch.randn(N, C, T, J, dtype=torch.float64).to(dtype)
    graph = SparseGraph.from_dense(A) if sparse else None
    values, edges = (graph.values, graph.edges) if sparse else (A, None)

    def run(x, values, weight, bias):
        return reference.graph_conv(x, values, edges, K, V, W, weight, bias, order == "post", joints)

    leaves = [t.double().requires_grad_() for t in (exact, values, weight, bias)]
    expected = run(*leaves)
    grad = torch.randn(expected.shape, dtype=torch.float64).to(dtype)
    gradients = torch.autograd.grad(expected, leaves, grad.double())
    if W > V:
        weight, bias, values = (t.t().contiguous().t() if t.dim() == 2 else t.float() if dtype.itemsize == 2 else t
                                for t in (weight, bias, values))  # fmt: skip

    def close(found, wanted, like):
        assert found.dtype == like.dtype
        scale = wanted.abs().max().clamp_min(1) if wanted.numel() else 1
        cases.assert_close(found / scale, wanted / scale, found.dtype)

    rest = (edges, K, V, W, weight, bias, order == "post", joints)
    for g, x in zip(cases.layouts(grad).values(), reversed(cases.layouts(exact).values()), strict=True):
        close(emulated.graph_conv(x, values, *rest), expected.detach(), x)
        found = emulated.graph_conv_backward(g, x, values, *rest, True, True, True, True)
        for ours, exactly, like in zip(found, gradients, (x, values, weight, bias), strict=True):
            close(ours, exactly, like)


def test_cuda_kernels_on_the_cpu_pass_over_what_is_outside_the_graph(emulated):
    """Edges that name no joint and kept joints that are none feed nothing; an edge named twice counts twice."""
    edges = torch.tensor([[0, 1, 0, 2, 1, 1], [0, 2, -1, 1, 3, 2], [1, 0, 2, 1, 0, 0]])
    values, weight, bias = torch.randn(6), *parameters("pre", 2, 3, 4, torch.float32)
    x, grad = torch.randn(2, 3, 5, 3), torch.randn(2, 4, 5, 3)
    inside = torch.tensor([0, 1, 5])
    rest = (2, 3, 3, weight, bias, False)
    for joints in (None, torch.tensor([[2, 9, 0], [1, 0, -4]])):
        # A graph with an isolated joint more stands in for the joints that are none.
        known = None if joints is None else torch.where((joints < 0) | (joints > 2), 3, joints)
        for dense in (False, True):
            A = torch.randn(2, 3, 3) if dense else values
            larger = nn.functional.pad(A, (0, 1, 0, 1)) if dense else A[inside]
            size = (2, 4, 4) if dense or joints is not None else (2, 3, 3)
            if dense and joints is None:
                continue
            expected = (larger, None if dense else edges[:, inside], *size, weight, bias, False, known)
            given = (A, None if dense else edges, *rest, joints)
            torch.testing.assert_close(emulated.graph_conv(x, *given), reference.graph_conv(x, *expected))
            found = emulated.graph_conv_backward(grad, x, *given, True, True, True, True)
            wanted = torch.ops.asma.graph_conv_backward(grad, x, *expected, True, True, True, True)
            for place in (0, 2, 3):
                torch.testing.assert_close(found[place], wanted[place])
            of_values = wanted[1][:, :3, :3] if dense else torch.zeros(6).index_put((inside,), wanted[1])
            torch.testing.assert_close(found[1], of_values)


def test_cuda_kernels_on_the_cpu_give_what_is_asked_for_and_loop_over_large_grids(emulated):
    N, T, A = 1050, 65, torch.randn(1, 2, 2)  # rows of two tiles
    joints = torch.stack([torch.randperm(2) for _ in range(N)])
    weight, bias = parameters("pre", 1, 2, 3, torch.float32)
    x, grad = torch.randn(N, 2, T, 2), torch.randn(N, 3, T, 2)
    rest = (None, 1, 2, 2, weight, bias, False, joints)
    torch.testing.assert_close(emulated.graph_conv(x, A, *rest), reference.graph_conv(x, A, *rest))
    expected = torch.ops.asma.graph_conv_backward(grad, x, A, *rest, True, True, True, True)
    for wanted in ((True, False, False, False), (False, True, False, True), (False, False, True, False)):
        found = emulated.graph_conv_backward(grad, x, A, *rest, *wanted)
        for ours, exactly, want in zip(found, expected, wanted, strict=True):
            torch.testing.assert_close(ours, exactly if want else exactly.new_empty(0), rtol=1e-4, atol=1e-3)
