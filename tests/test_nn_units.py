"""ST-GCN's, pyskl's, 2s-AGCN's and CTR-GCN's units against their formulas."""

import copy

import pytest
import torch
import units
from torch import nn
from units import conv, down, names, norm

from asma_kernels import SparseGraph
from asma_kernels.nn import (
    AAGCN,
    AGCN,
    CTRGC,
    CTRGCN,
    ConvTemporalGraphical,
    PysklAAGCN,
    PysklCTRGC,
    PysklCTRGCN,
    PysklGCN,
    STGCNUnit,
)

BLOCK = {"gcn__conv": "conv", "tcn__0": "norm", "tcn__2": "conv", "tcn__3": "norm"}
DOWN = {"down__0": "conv", "down__1": "norm"}


def features(N, C, V, T=5):
    return torch.randn(N, C, T, V, dtype=torch.float64)


def partitions(h, K):
    return h.unflatten(1, (K, h.shape[1] // K))


@pytest.mark.parametrize(("N", "V"), units.SIZES)
@pytest.mark.parametrize("bias", [True, False])
def test_conv_temporal_graphical(N, V, bias):
    A = units.adjacency(3, V).double()
    unit = ConvTemporalGraphical(4, 6, 3, bias=bias)

    def written(x, p, training):
        return torch.einsum("nkctv,kvw->nctw", partitions(conv(x, p, "conv"), 3), A), A

    class Alone(nn.Module):  # the adjacency has no gradient here
        def __init__(self):
            super().__init__()
            self.conv, self.unit = unit.conv, [unit]

        def forward(self, x):
            out, given = self.unit[0](x, A)
            assert given is A
            return out

    units.check(Alone(), lambda *a: written(*a)[0], features(N, 4, V), names(conv="conv" if bias else "weight"))
    x = features(N, 4, V)
    dense, (out, graph) = unit(x, A)[0], unit(x, SparseGraph.from_dense(A))
    assert isinstance(graph, SparseGraph)
    torch.testing.assert_close(out, dense)
    joints = torch.randperm(V)[:9]
    torch.testing.assert_close(unit(x[..., joints], A, joints)[0], unit(x[..., joints], A[:, joints][:, :, joints])[0])


def test_conv_temporal_graphical_over_frames():
    A, x = units.adjacency(3, 17).double(), features(2, 4, 17, T=9)
    unit = ConvTemporalGraphical(4, 6, 3, t_kernel_size=3, t_stride=2, t_padding=2, t_dilation=2).double()
    expected = torch.einsum("nkctv,kvw->nctw", partitions(unit.conv(x), 3), A)
    torch.testing.assert_close(unit(x, A)[0], expected)
    assert expected.shape == (2, 6, 5, 17)


@pytest.mark.parametrize(("N", "V"), units.SIZES)
@pytest.mark.parametrize(("D", "stride", "residual"), [(4, 1, True), (6, 2, True), (4, 1, False)])
def test_st_gcn_block(N, V, D, stride, residual):
    A = units.adjacency(3, V).double()
    unit = STGCNUnit(4, D, (3, 3), stride, residual=residual)

    def written(x, p, training):
        h = torch.einsum("nkctv,kvw->nctw", partitions(conv(x, p, "gcn.conv"), 3), A)
        h = norm(h, p, "tcn.0", training).relu()
        h = nn.functional.conv2d(h, p["tcn.2.weight"], p["tcn.2.bias"], (stride, 1), (1, 0))
        h = norm(h, p, "tcn.3", training)
        if residual and "residual.0.weight" in p:
            h = h + norm(conv(x[:, :, ::stride], p, "residual.0"), p, "residual.1", training)
        elif residual:
            h = h + x
        return h.relu(), A

    shortcut = {"residual__0": "conv", "residual__1": "norm"} if D == 6 else {}
    x = features(N, 4, V)
    assert unit(x.float(), A.float())[0].shape == (N, D, (5 - 1) // stride + 1, V)
    A.requires_grad_()
    units.check(unit, written, x, names(**BLOCK, **shortcut), A)
    A = A.detach()
    kept = sorted(torch.randperm(V)[:9].tolist())
    one, other = unit.eval()(x[..., kept], A, kept)[0], unit(x[..., kept], A[:, kept][:, :, kept])[0]
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize(("N", "V"), units.SIZES)
@pytest.mark.parametrize("adaptive", [None, "init", "offset", "importance"])
@pytest.mark.parametrize("conv_pos", ["pre", "post"])
@pytest.mark.parametrize(("D", "with_res"), [(6, True), (4, True), (6, False)])
def test_pyskl_gcn(N, V, adaptive, conv_pos, D, with_res):
    given = units.adjacency(3, V)
    unit = PysklGCN(4, D, given, adaptive, conv_pos, with_res)

    def written(x, p, training):
        A = p["A"] + p["PA"] if adaptive == "offset" else p["A"] * p["PA"] if adaptive == "importance" else p["A"]
        if conv_pos == "pre":
            h = torch.einsum("nkctv,kvw->nctw", partitions(conv(x, p, "conv"), 3), A)
        else:
            h = conv(torch.einsum("nctv,kvw->nkctw", x, A).flatten(1, 2), p, "conv")
        h = norm(h, p, "bn", training)
        return (h + down(x, p, training) if with_res else h).relu()

    parts = {"A": "own", "conv": "conv", "bn": "norm"}
    parts |= {"PA": "own"} if adaptive in ("offset", "importance") else {}
    parts |= DOWN if with_res and D == 6 else {}
    units.check(unit, written, features(N, 4, V), names(**parts))
    assert torch.equal(given, given.float()) and unit.A is not given


def test_pyskl_gcn_looks_at_a_loaded_graph_again():
    first, second = units.adjacency(3, 17), units.adjacency(3, 17)
    unit, other = PysklGCN(4, 6, first), PysklGCN(4, 6, second)
    nn.Sequential(unit).load_state_dict(nn.Sequential(other).state_dict())
    x = torch.randn(2, 4, 5, 17)
    torch.testing.assert_close(unit(x), other(x))
    again = copy.deepcopy(unit)
    again.load_state_dict(PysklGCN(4, 6, first).state_dict())
    assert again._edges.shape == PysklGCN(4, 6, first)._edges.shape


def test_pyskl_norms_and_activations_by_name():
    A = units.adjacency(3, 17)
    unit = PysklGCN(4, 6, A, norm={"type": "BN", "eps": 1e-3, "requires_grad": False}, act={"type": "LeakyReLU"})
    assert isinstance(unit.act, nn.LeakyReLU) and unit.bn.eps == 1e-3 and not unit.bn.weight.requires_grad
    assert isinstance(PysklGCN(4, 6, A, norm="SyncBN").bn, nn.SyncBatchNorm)
    with pytest.raises(ValueError, match="PysklGCN: norm must be one of BN, .*, got 'LN'"):
        PysklGCN(4, 6, A, norm="LN")
    with pytest.raises(ValueError, match="PysklGCN: act must be one of ReLU, .*, got {'type': 'Step'}"):
        PysklGCN(4, 6, A, act={"type": "Step"})


def similarity(x, p, k):
    embedded = [conv(x, p, f"{name}.{k}") for name in ("conv_a", "conv_b")]
    N, C, T, V = embedded[0].shape
    return torch.einsum("nctv,nctw->nvw", *embedded) / (C * T)


def convolved(x, p, graphs, training):
    h = sum(conv(torch.einsum("nctv,nvw->nctw", x, A), p, f"conv_d.{k}") for k, A in enumerate(graphs))
    return (norm(h, p, "bn", training) + down(x, p, training)).relu()


def branches(*kinds, K=3):
    return {f"{kind}__{k}": "conv" for kind in kinds for k in range(K)}


@pytest.mark.parametrize(("N", "V"), units.SIZES)
@pytest.mark.parametrize("D", [8, 12])
def test_agcn(N, V, D):
    A = units.adjacency(3, V)
    unit = AGCN(8, D, A.numpy())

    def written(x, p, training):
        graphs = [similarity(x, p, k).softmax(1) + A[k].double() + p["PA"][k] for k in range(3)]
        return convolved(x, p, graphs, training)

    parts = {"PA": "own", "bn": "norm"} | branches("conv_a", "conv_b", "conv_d") | (DOWN if D == 12 else {})
    assert torch.all(unit.PA == 1e-6)
    units.check(unit, written, features(N, 8, V), names(**parts))


@pytest.mark.parametrize(("N", "V"), units.SIZES)
@pytest.mark.parametrize("adaptive", [True, False])
@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize(("unit_class", "graph"), [(AAGCN, "PA"), (PysklAAGCN, "A")])
def test_aagcn(N, V, adaptive, attention, unit_class, graph):
    A = units.adjacency(3, V)
    unit = unit_class(8, 12, A, adaptive=adaptive, attention=attention)

    def written(x, p, training):
        graphs = [A.double()[k].expand(N, V, V) for k in range(3)]
        if adaptive:
            graphs = [p[graph][k] + similarity(x, p, k).tanh() * p["alpha"] for k in range(3)]
        y = convolved(x, p, graphs, training)
        if not attention:
            return y
        over_joints = nn.functional.conv1d(y.mean(2), p["conv_sa.weight"], p["conv_sa.bias"], padding=(V - 1) // 2)
        y = y * over_joints.sigmoid()[:, :, None] + y
        over_frames = nn.functional.conv1d(y.mean(3), p["conv_ta.weight"], p["conv_ta.bias"], padding=4)
        y = y * over_frames.sigmoid()[..., None] + y
        squeezed = (y.mean((2, 3)) @ p["fc1c.weight"].T + p["fc1c.bias"]).relu()
        return y * (squeezed @ p["fc2c.weight"].T + p["fc2c.bias"]).sigmoid()[..., None, None] + y

    parts = {"bn": "norm"} | branches("conv_d") | DOWN
    if adaptive:
        parts |= {graph: "own", "alpha": "own"} | branches("conv_a", "conv_b")
    elif graph == "A":
        parts |= {"A": "own"}
    if attention:
        parts |= dict.fromkeys(("conv_ta", "conv_sa", "fc1c", "fc2c"), "conv")
    units.check(unit, written, features(N, 8, V), names(**parts))


def refined(x, p, prefix, A, alpha, side):
    source, target = (conv(x, p, f"{prefix}conv{place}").mean(2) for place in (1, 2))
    relations = (source[:, :, :, None] - target[:, :, None]).tanh()
    graph = conv(relations, p, f"{prefix}conv4") * alpha + (0 if A is None else A)
    return torch.einsum(f"nc{'vw' if side == 'right' else 'wv'},nctv->nctw", graph, conv(x, p, f"{prefix}conv3"))


CONVS = {f"conv{place}": "conv" for place in (1, 2, 3, 4)}


@pytest.mark.parametrize(("N", "V"), units.SIZES)
@pytest.mark.parametrize(("unit_class", "side"), [(CTRGC, "left"), (PysklCTRGC, "right")])
@pytest.mark.parametrize("C", [3, 24])
def test_ctrgc(N, V, unit_class, side, C):
    unit, A, alpha = unit_class(C, 6), units.adjacency(1, V)[0].double(), torch.tensor([0.7], dtype=torch.float64)
    assert unit.conv1.out_channels == (8 if C == 3 else 3)
    x = features(N, C, V)
    units.check(unit, lambda x, p, _: refined(x, p, "", A, alpha, side), x, names(**CONVS), A, alpha)
    units.check(unit, lambda x, p, _: refined(x, p, "", None, 1, side), x, names(**CONVS))


def test_relations_of_both():
    assert [CTRGC(C, 4).conv1.out_channels for C in (3, 9, 16, 64)] == [8, 8, 2, 8]
    assert [PysklCTRGC(C, 4).conv1.out_channels for C in (3, 9, 16, 64)] == [8, 8, 8, 8]


@pytest.mark.parametrize(("N", "V"), units.SIZES)
@pytest.mark.parametrize(
    ("kind", "D"), [("own", 6), ("own", 16), ("fixed", 6), ("bare", 6), ("pyskl", 6), ("pyskl", 16)]
)
def test_ctrgcn(N, V, kind, D):
    A = units.adjacency(3, V)
    if kind == "pyskl":
        unit = PysklCTRGCN(16, D, A)
        unit.init_weights()
    else:
        unit = CTRGCN(16, D, A.numpy(), adaptive=kind != "fixed", residual=kind != "bare")
    side, graph = ("right", "A") if kind == "pyskl" else ("left", "PA")

    def written(x, p, training):
        graphs = A.double() if kind == "fixed" else p[graph]
        h = sum(refined(x, p, f"convs.{k}.", graphs[k], p["alpha"], side) for k in range(3))
        h = norm(h, p, "bn", training)
        return (h if kind == "bare" else h + down(x, p, training)).relu()

    parts = {"alpha": "own", "bn": "norm"} | {f"convs__{k}__{name}": "conv" for k in range(3) for name in CONVS}
    parts |= {} if kind == "fixed" else {graph: "own"}
    parts |= DOWN if D == 6 and kind != "bare" else {}
    units.check(unit, written, features(N, 16, V), names(**parts))


A17 = units.adjacency(3, 17)
MAKERS = {
    "PysklGCN": lambda A: PysklGCN(8, 6, A),
    "AGCN": lambda A: AGCN(8, 8, A),
    "AAGCN": lambda A: AAGCN(8, 8, A),
    "PysklAAGCN": lambda A: PysklAAGCN(8, 8, A),
    "CTRGCN": lambda A: CTRGCN(8, 8, A),
    "PysklCTRGCN": lambda A: PysklCTRGCN(8, 8, A),
}


@pytest.mark.parametrize("name", MAKERS)
def test_what_is_refused(name):
    units.check_refusals(name, MAKERS[name], 8, A17)


@pytest.mark.parametrize("name", MAKERS)
def test_autocast_and_an_empty_batch(name):
    units.check_types(MAKERS[name](A17), torch.randn(2, 8, 5, 17))


@pytest.mark.parametrize("name", MAKERS)
def test_copies_files_and_tracing(name):
    units.check_travels(MAKERS[name](A17), torch.randn(2, 8, 5, 17))


def test_what_single_units_refuse():
    with pytest.raises(ValueError, match=r"ConvTemporalGraphical: A must have 3 partitions, got 2"):
        ConvTemporalGraphical(4, 6, 3)(torch.randn(2, 4, 5, 17), A17[:2])
    with pytest.raises(ValueError, match="graph_conv: x has 16 joints, the graph 17"):
        ConvTemporalGraphical(4, 6, 3)(torch.randn(2, 4, 5, 16), A17)
    with pytest.raises(
        ValueError, match=r"STGCNUnit: kernel_size must be \(taps over frames, partitions\), got \(9,\)"
    ):
        STGCNUnit(4, 6, (9,))
    with pytest.raises(ValueError, match="kernel must be odd, got 8"):
        STGCNUnit(4, 6, (8, 3))
    with pytest.raises(ValueError, match="PysklGCN: adaptive must be one of init, offset, importance, got 'both'"):
        PysklGCN(4, 6, A17, adaptive="both")
    with pytest.raises(ValueError, match="PysklGCN: conv_pos must be one of pre, post, got 'mid'"):
        PysklGCN(4, 6, A17, conv_pos="mid")
    with pytest.raises(ValueError, match="AGCN: A must have num_subset = 3 partitions, got 2"):
        AGCN(8, 8, A17[:2])
    with pytest.raises(ValueError, match="AAGCN: out_channels must be >= coff_embedding = 4, got 3"):
        AAGCN(8, 3, A17)
    with pytest.raises(ValueError, match="CTRGC: in_channels must be >= rel_reduction = 8, got 4"):
        CTRGC(4, 6)
    with pytest.raises(ValueError, match=r"CTRGC: A must be \(17, 17\), as x's joints, got shape \(3, 17, 17\)"):
        CTRGC(8, 6)(torch.randn(2, 8, 5, 17), A17)
