"""graph_conv with the adjacencies of the field: against the formulas as the models write them, in float64."""

import itertools

import cases
import pytest
import torch
from torch import nn
from torch.autograd import gradcheck

from asma_kernels import Skeleton, SparseGraph, explain, graph_conv

AXES = ("KVW", "KCVW", "NVW", "NCVW", "NKVW", "NKCVW", "NKCTVW", "NTVW", "NKTVW", "KTVW", "CVW", "VW", "NCTVW")
CONVOLVED = ("pre", "post", None)


def definition(x, A, axes, weight, bias, order, side="right", keep=False, joints=None):
    """The formula with every axis written out, one row of the batch after the other."""
    if side == "left":
        A = A.mT
    for place, letter in enumerate("NKCTVW"):
        A = A if letter in axes else A.unsqueeze(place)
    K = A.shape[1]
    rows = []
    for n in range(len(x)):
        own = A[n if len(A) > 1 else 0]
        if joints is not None:
            kept = joints if joints.dim() == 1 else joints[n]
            own = own[..., kept, :][..., kept]
        h = x[n][None].expand(K, *x.shape[1:])
        if order == "pre":
            h = x[n] if weight is None else nn.functional.conv2d(x[n : n + 1], weight[..., None, None], bias)[0]
            h = h.unflatten(0, (K, -1))
        y = (h[..., None] * own).sum(-2)  # (K, C, T, V, W) summed over V
        if order == "post" and weight is not None:
            y = nn.functional.conv2d(y.flatten(0, 1)[None], weight[..., None, None], bias)[0]
        else:
            y = y.flatten(0, 1) if keep else y.sum(0)
        rows.append(y)
    return torch.stack(rows)


def problem(axes, order, weighted=True, N=2, K=3, C=4, D=5, T=7, V=6, W=None, J=None, dtype=torch.float64):
    """x, A, weight and bias of sizes that fit."""
    K = K if "K" in axes else 1
    D = D if weighted else C
    sizes = {"N": N, "K": K, "C": C if order == "post" else D, "T": T, "V": V, "W": W or V}
    A = torch.randn([sizes[axis] for axis in axes], dtype=torch.float64).to(dtype)
    channels = K * C if order == "pre" and not weighted else C
    x = torch.randn(N, channels, T, J or V, dtype=torch.float64).to(dtype)
    if not weighted:
        return x, A, None, None
    weight = torch.randn((K * D, C) if order == "pre" else (D, K * C), dtype=torch.float64).to(dtype)
    return x, A, weight, torch.randn(weight.shape[0], dtype=torch.float64).to(dtype)


def compare(given, run, exact, tolerance=1e-9):
    """Output and every gradient of ``run`` against those of ``exact``."""
    tensors = [t for t in given if t is not None]

    def full(function):
        def call(*leaves):
            rest = iter(leaves)
            return function(*[None if t is None else next(rest) for t in given])

        return call

    expected = full(exact)(*tensors)
    out = full(run)(*tensors)
    assert out.shape == expected.shape
    scale = expected.abs().max().clamp_min(1) if expected.numel() else 1
    torch.testing.assert_close(out / scale, expected / scale, rtol=tolerance, atol=tolerance)
    pairs = zip(cases.gradients(full(run), *tensors), cases.gradients(full(exact), *tensors), strict=True)
    for found, wanted in pairs:
        assert found.dtype == wanted.dtype and found.shape == wanted.shape
        scale = wanted.abs().max().clamp_min(1) if wanted.numel() else 1
        torch.testing.assert_close(found / scale, wanted / scale, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("backend", cases.BACKENDS)
@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("order", ["pre", "post"])
@pytest.mark.parametrize("weighted", [True, False])
def test_is_the_definition(backend, axes, order, weighted):
    for side, keep, N in (("right", False, 3), ("right", True, 1), ("left", True, 3), ("left", False, 1)):
        if keep and order == "post" and weighted:
            continue
        given = problem(axes, order, weighted, N=N, V=6 if side == "right" else 5, W=5 if side == "right" else 6)
        if side == "left":
            given = (torch.randn(*given[0].shape[:3], 6).double(), *given[1:])

        def run(x, A, weight, bias, side=side, keep=keep):
            rest = {"axes": axes, "order": order, "side": side, "reduce_k": "keep" if keep else "sum"}
            return graph_conv(x, A, weight, bias, **rest, backend=backend)

        def exact(x, A, weight, bias, side=side, keep=keep):
            return definition(x, A, axes, weight, bias, order, side, keep)

        compare(given, run, exact)


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("kept", ["shared", "own"])
def test_kept_joints(axes, kept):
    joints = {"shared": torch.tensor([4, 0, 5]), "own": torch.tensor([[0, 1, 5], [3, 2, 4]])}[kept]
    for order, weighted in itertools.product(("pre", "post"), (True, False)):
        given = problem(axes, order, weighted, J=3)

        def exact(x, A, weight, bias, order=order):
            return definition(x, A, axes, weight, bias, order, joints=joints)

        for backend in cases.BACKENDS:

            def run(x, A, weight, bias, order=order, backend=backend):
                return graph_conv(x, A, weight, bias, axes=axes, order=order, joints=joints, backend=backend)

            compare(given, run, exact)


@pytest.mark.parametrize("V", [15, 17, 18, 20, 25])
@pytest.mark.parametrize("axes", ["KVW", "KCVW", "NCVW", "NKVW", "NKCVW", "NKTVW"])
def test_real_joints_over_several_tiles(axes, V):
    """Sizes that fill tiles of frames and channels, and leave a rest."""
    for order, weighted, C, D in (
        ("pre", True, 3, 40),
        ("pre", True, 40, 6),
        ("post", True, 9, 13),
        ("pre", False, 34, 34),
    ):
        given = problem(axes, order, weighted, N=1, C=C, D=D, T=70, V=V)

        def run(x, A, weight, bias, order=order):
            return graph_conv(x, A, weight, bias, axes=axes, order=order)

        def exact(x, A, weight, bias, order=order):
            return graph_conv(x, A, weight, bias, axes=axes, order=order, backend="reference")

        compare(given, run, exact)


@pytest.mark.parametrize("dtype", cases.FLOATS)
@pytest.mark.parametrize("axes", ["KVW", "NCVW", "NKVW", "NKCTVW"])
@pytest.mark.parametrize(("order", "reduce_k"), [("pre", "sum"), ("pre", "keep"), ("post", "sum")])
def test_dtypes_and_layouts(dtype, axes, order, reduce_k):
    options = {"axes": axes, "order": order, "reduce_k": reduce_k}
    x_exact, A, weight, bias = (t / max(t.shape[-1], 1) ** 0.5 for t in problem(axes, order, C=16, D=12, V=17))
    rounded = [t.to(dtype).double() for t in (x_exact, A, weight, bias)]
    expected = graph_conv(*rounded, **options, backend="reference")
    gradients = cases.gradients(lambda *g: graph_conv(*g, **options, backend="reference"), *rounded)
    narrow = [t.to(dtype) for t in rounded]
    for place, x in enumerate(cases.layouts(narrow[0]).values()):
        # Parameters in float32 beside narrow features, and an adjacency in memory orders of its own.
        wide = [t.float() if dtype.itemsize == 2 and place == 1 else t for t in narrow[1:]]
        wide[0] = list(cases.layouts(wide[0]).values())[place]

        def run(*given):
            return graph_conv(*given, **options)

        out = run(x, *wide)
        assert out.dtype == dtype and out.is_contiguous()
        cases.assert_close(out / expected.std(), expected / expected.std(), dtype)
        for found, wanted, given in zip(cases.gradients(run, x, *wide), gradients, (x, *wide), strict=True):
            assert found.dtype == given.dtype
            cases.assert_close(found / wanted.abs().max(), wanted / wanted.abs().max(), dtype)


@pytest.mark.parametrize("backend", cases.BACKENDS)
@pytest.mark.parametrize("axes", ["KCVW", "NKTVW", "NKCTVW"])
def test_gradcheck(backend, axes):
    for order in ("pre", "post"):
        leaves = [t.requires_grad_() for t in problem(axes, order, N=2, K=2, C=2, D=3, T=2, V=3)]
        assert gradcheck(lambda *g, order=order: graph_conv(*g, axes=axes, order=order, backend=backend), leaves)


@pytest.mark.parametrize("axes", ["NCVW", "NKVW", "KCVW"])
@pytest.mark.parametrize("order", ["pre", "post"])
def test_only_the_gradients_that_are_asked_for(axes, order):
    tensors = problem(axes, order)
    full = cases.gradients(lambda *g: graph_conv(*g, axes=axes, order=order), *tensors)
    for alone in range(4):
        leaves = [t.clone().requires_grad_(i == alone) for i, t in enumerate(tensors)]
        out = graph_conv(*leaves, axes=axes, order=order)
        weight = torch.linspace(-1, 2, out.numel(), dtype=torch.float64).view(out.shape)
        out.backward(weight)
        assert [t.grad is not None for t in leaves] == [i == alone for i in range(4)]
        torch.testing.assert_close(leaves[alone].grad, full[alone])


def test_axes_of_one_entry_are_broadcast():
    for axes in ("NKCTVW", "NCVW", "NKTVW"):
        x, A, weight, bias = problem(axes, "pre")
        for axis in [axis for axis in range(len(axes)) if axes[axis] in "NCT"]:
            one = A.narrow(axis, 0, 1)

            def run(x, one, weight, bias, axes=axes):
                return graph_conv(x, one, weight, bias, axes=axes)

            def exact(x, one, weight, bias, axes=axes, size=A.shape):
                return graph_conv(x, one.expand(size), weight, bias, axes=axes, backend="reference")

            compare((x, one, weight, bias), run, exact)


@pytest.mark.parametrize("axes", ["KCVW", "NCVW", "NKCVW", "NKCTVW"])
def test_groups_of_channels_share_a_graph(axes):
    """Channel c has graph c % G, as when the groups are repeated."""
    place, subset = axes.index("C"), torch.tensor([4, 0, 5])
    for order, keep, joints in itertools.product(("pre", "post"), (False, True), (None, subset)):
        weighted = not (keep and order == "post")
        J = None if joints is None else 3
        x, A, weight, bias = problem(axes, order, weighted, C=6, D=100, T=9, J=J)
        size = A.shape[place]
        options = {"axes": axes, "order": order, "reduce_k": "keep" if keep else "sum", "joints": joints}
        for G in (2, size // 2):
            few = A.narrow(place, 0, G)

            def exact(x, few, *rest, G=G, size=size, options=options):
                repeats = [size // G if axis == "C" else 1 for axis in axes]
                return graph_conv(x, few.repeat(repeats), *rest, **options, backend="reference")

            for backend in cases.BACKENDS:

                def run(*given, options=options, backend=backend):
                    return graph_conv(*given, **options, backend=backend)

                compare((x, few, weight, bias), run, exact)


def test_an_expanded_adjacency_is_read_where_it_lies():
    x, A, weight, bias = problem("KCVW", "pre")
    torch.testing.assert_close(
        graph_conv(x, A[None].expand(2, *A.shape), weight, bias, axes="NKCVW"),
        graph_conv(x, A, weight, bias, axes="KCVW"),
    )


@pytest.mark.parametrize("backend", cases.BACKENDS)
@pytest.mark.parametrize("size", [{"N": 0}, {"C": 0}, {"T": 0}, {"D": 0}, {"V": 0}])
@pytest.mark.parametrize("axes", ["KVW", "NCVW", "NKVW", "NKCTVW", "KCVW"])
def test_empty_axes(backend, size, axes):
    for order, weighted in itertools.product(("pre", "post"), (True, False)):
        given = problem(axes, order, weighted, **{"V": 5} | size)

        def run(x, A, weight, bias, order=order):
            return graph_conv(x, A, weight, bias, axes=axes, order=order, backend=backend)

        tensors = [t for t in given if t is not None]
        leaves = [t.requires_grad_() for t in tensors]
        out = run(*leaves, *[None] * (4 - len(leaves)))
        out.sum().backward()
        assert not out.isnan().any()
        for leaf in leaves:
            assert leaf.grad.shape == leaf.shape and not leaf.grad.isnan().any()


def test_models_formulas():
    """As the models write them, one of each family."""
    x, D = torch.randn(2, 8, 6, 25).double(), 5
    weight, bias = torch.randn(3 * D, 8).double(), torch.randn(3 * D).double()
    h = nn.functional.conv2d(x, weight[..., None, None], bias)
    by_k = h.unflatten(1, (3, D))
    ctr = torch.randn(2, D, 25, 25).double()  # CTR-GCN: einsum("ncuv,nctv->nctu")
    torch.testing.assert_close(
        graph_conv(x, ctr, weight[:D], bias[:D], axes="NCVW", side="left"),
        torch.einsum("ncuv,nctv->nctu", ctr, h[:, :D]),
    )
    agcn = torch.randn(2, 3, 25, 25).double()  # 2s-AGCN: x.view(N, C T, V) @ A[k], a convolution a subset, their sum
    parts = [(x.view(2, 48, 25) @ agcn[:, k]).view(x.shape) for k in range(3)]
    post = torch.randn(D, 24).double()
    torch.testing.assert_close(
        graph_conv(x, agcn, post, axes="NKVW", order="post"),
        sum(nn.functional.conv2d(part, post[:, 8 * k : 8 * k + 8, None, None]) for k, part in enumerate(parts)),
    )
    groups = torch.randn(3, 2, 25, 25).double()  # Decoupling GCN: einsum("nkctv,kcvw->nctw"), its groups repeated
    torch.testing.assert_close(
        graph_conv(h[:, :12], groups, axes="KCVW"),
        torch.einsum("nkctv,kcvw->nctw", h[:, :12].unflatten(1, (3, 4)), groups.repeat(1, 2, 1, 1)),
    )
    dynamic = torch.randn(2, 3, D, 6, 25, 25).double()  # DG-STGCN: einsum("nkctv,nkctvw->nkctw"), partitions kept
    torch.testing.assert_close(
        graph_conv(h, dynamic, axes="NKCTVW", reduce_k="keep"),
        torch.einsum("nkctv,nkctvw->nkctw", by_k, dynamic).flatten(1, 2),
    )
    frames = torch.randn(2, 6, 25, 25).double()  # SGN: g (N, T, V, V) @ x (N, T, V, C)
    torch.testing.assert_close(
        graph_conv(x, frames, axes="NTVW", order="post", side="left"),
        (frames @ x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
    )


def test_a_sparse_graph_is_its_dense_one():
    A = Skeleton.builtin("ntu25").partition("spatial").double()
    graph, x, weight = SparseGraph.from_dense(A), torch.randn(2, 6, 4, 25).double(), torch.randn(9, 6).double()
    for options in ({}, {"side": "left"}, {"reduce_k": "keep"}, {"reduce_k": "keep", "side": "left"}):
        torch.testing.assert_close(graph_conv(x, graph, weight, **options), graph_conv(x, A, weight, **options))
    torch.testing.assert_close(graph_conv(x, graph), graph_conv(x, A))

    def run(x, importance):
        return graph_conv(x, graph.weighted(importance), reduce_k="keep")

    found = cases.gradients(run, x, torch.ones_like(A))
    wanted = cases.gradients(
        lambda x, importance: graph_conv(x, A * importance, reduce_k="keep"), x, torch.ones_like(A)
    )
    for ours, exact in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, exact)


def test_opcheck_and_double_backward():
    x, A, weight, bias = (t.requires_grad_() for t in problem("NKCTVW", "pre", dtype=torch.float32))
    cases.check_op("graph_conv_dense", (x, A, weight, bias, False, False, torch.arange(6), False))
    cases.check_op("graph_conv_dense", (x, A, weight, bias, False, True, None, True))
    h = torch.randn(2, 15, 7, 6, requires_grad=True)
    cases.check_op("graph_conv_dense", (h, A, None, None, False, False, None, False))
    plain = [t.detach() for t in (torch.ones(2, 5, 7, 6), x, A, weight, bias)]
    cases.check_op("graph_conv_dense_backward", (*plain, None, False, False, None, True, True, True, True))
    cases.check_op("graph_conv_dense_backward", (*plain, h.detach(), False, False, None, False, True, False, False))
    (grad,) = torch.autograd.grad(graph_conv(x, A, weight, axes="NKCTVW").sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="graph_conv_dense: double backward is not implemented"):
        grad.sum().backward()


@pytest.mark.parametrize("backend", cases.BACKENDS)
def test_compiled(backend):
    _, _, weight, bias = problem("NCVW", "pre", dtype=torch.float32)

    def run(x, A):
        return graph_conv(x * 2, A.tanh(), weight, bias, axes="NCVW", side="left", backend=backend).relu()

    cases.check_compiled(run, *[(torch.randn(2, 4, 7, 6), torch.randn(2, 5, 6, 6)) for _ in range(3)])


@pytest.mark.parametrize("axes", ["KVW", "KCVW", "NCVW", "NKVW", "NKCTVW"])
def test_threads_do_not_change_a_bit(axes):
    tensors = problem(axes, "pre", N=19, C=8, D=12, T=33, V=17, dtype=torch.float32)
    cases.check_threads(lambda: graph_conv(*tensors, axes=axes))
    cases.check_threads(
        lambda: torch.cat([g.flatten() for g in cases.gradients(lambda *t: graph_conv(*t, axes=axes), *tensors)])
    )
    cases.check_concurrent(lambda: graph_conv(*tensors, axes=axes))


@pytest.mark.parametrize("backend", cases.BACKENDS)
def test_autocast(backend):
    x, A, weight, bias = (t.requires_grad_() for t in problem("NCVW", "pre", dtype=torch.float32))
    expected = graph_conv(x, A, weight, bias, axes="NCVW")
    with torch.autocast("cpu", torch.bfloat16):
        # What a product inside the model gives is in autocast's dtype, the parameters are not.
        out = graph_conv(x, A.bfloat16(), weight, bias, axes="NCVW", backend=backend)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), expected, rtol=0.05, atol=0.2)
    out.float().sum().backward()
    assert x.grad.dtype == A.grad.dtype == weight.grad.dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"axes": "NVCW"}, "graph_conv: axes must be letters of NKCTVW in this order, V and W among them, got 'NVCW'"),
        ({"axes": "NCV"}, "graph_conv: axes must be letters of NKCTVW"),
        ({"axes": "NKCVW"}, r"graph_conv: a dense graph must be \(N, K, C, V, W\), got shape \(2, 5, 6, 8\)"),
        ({"graph": torch.zeros(3, 5, 6, 8)}, "graph_conv: axis N of the graph must have 2 entries or 1, got 3"),
        ({"graph": torch.zeros(2, 4, 6, 8)}, "graph_conv: axis C of the graph must have 5 entries, a divisor of it"),
        ({"graph": torch.zeros(2, 3, 6, 8), "axes": "NTVW"}, "graph_conv: axis T of the graph must have 7 entries"),
        ({"side": "left"}, "graph_conv: x has 6 joints, the graph 8; or is it one of side='right'?"),
        ({"graph": torch.zeros(2, 5, 8, 6)}, "graph_conv: x has 6 joints, the graph 8; or is it one of side='left'?"),
        ({"graph": torch.zeros(2, 5, 9, 9)}, "graph_conv: x has 6 joints, the graph 9; name the kept ones"),
        ({"side": "above"}, "graph_conv: side must be one of right, left, got 'above'"),
        ({"reduce_k": "mean"}, "graph_conv: reduce_k must be one of sum, keep, got 'mean'"),
        ({"order": "both"}, "graph_conv: order must be one of pre, post, got 'both'"),
        ({"order": "post", "reduce_k": "keep"}, "graph_conv: reduce_k='keep' with order='post' needs weight=None"),
        ({"weight": None, "bias": torch.zeros(5)}, "graph_conv: bias needs a weight, got none"),
        ({"weight": torch.zeros(5, 3)}, r"graph_conv: weight must be \(K \* D, C\) with K = 1, C = 4, got \(5, 3\)"),
        ({"order": "post"}, r"graph_conv: axis C of the graph must have 4 entries, a divisor of it or 1, got 5"),
        ({"order": "post", "weight": torch.zeros(5, 3)}, r"graph_conv: weight must be \(D, K \* C\) = \(D, 4\)"),
        ({"bias": torch.zeros(4)}, r"graph_conv: bias must be \(5,\), got \(4,\)"),
        ({"graph": torch.zeros(2, 5, 6, 8).double()}, "graph_conv: graph must be torch.float32, as x, got"),
        ({"weight": torch.zeros(5, 4).bfloat16()}, "graph_conv: weight must be torch.float32, as x"),
        ({"x": torch.zeros(2, 4, 7, 6, device="meta")}, "graph_conv: graph must be on meta, got cpu"),
        ({"x": torch.zeros(2, 4, 7)}, r"graph_conv: x must be \(N, C, T, V\), got shape \(2, 4, 7\)"),
        ({"x": torch.zeros(2, 4, 7, 6, dtype=torch.int64)}, "graph_conv: x must be float64, float32"),
        ({"joints": torch.arange(6)}, "graph_conv: joints need a square graph, got V = 6, W = 8"),
        ({"graph": torch.zeros(2, 5, 9, 9), "joints": torch.arange(5)}, r"joints must be \(6,\) or \(2, 6\), as x's"),
        ({"graph": torch.zeros(2, 5, 9, 9), "joints": torch.arange(4, 10)}, "graph_conv: joints must be in"),
        ({"graph": torch.zeros(2, 0, 5, 6, 8), "axes": "NKCVW"}, "the graph must have at least one partition"),
        (
            {"graph": torch.zeros(3, 6, 8), "axes": "KVW", "weight": None},
            r"graph_conv: x must be \(N, K \* C, T, V\) with K = 3, got 4 channels",
        ),
        ({"graph": SparseGraph.from_dense(torch.ones(1, 6, 8))}, "graph_conv: a SparseGraph has the axes KVW"),
        ({"backend": "cuda"}, "graph_conv_dense: backend 'cuda' cannot run this call: its tensors are on cpu"),
        ({"backend": "triton"}, "graph_conv_dense: backend 'triton' cannot run this call: it has no Triton kernel yet"),
    ],
)  # fmt: skip
def test_wrong_arguments_end_in_one_sentence(change, message):
    given = {"x": torch.zeros(2, 4, 7, 6), "graph": torch.zeros(2, 5, 6, 8), "weight": torch.zeros(5, 4)}
    arguments = given | {"axes": "NCVW"} | change
    with pytest.raises((ValueError, TypeError, RuntimeError), match=message):
        graph_conv(**arguments)


def test_which_backend_runs_is_said():
    assert explain("graph_conv_dense").startswith("graph_conv_dense on cpu: cpu")
