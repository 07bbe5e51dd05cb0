"""MS-G3D's, DecoupleGCN's and HD-GCN's units against their formulas."""

import pytest
import torch
import units
from torch import nn
from units import conv, down, names, norm

from asma_kernels.nn import HDGCN, MSG3D, MSGCN, STMSGCN, DecoupleGCN, MultiWindowMSG3D, TemporalWindows

DOWN = {"down__0": "conv", "down__1": "norm"}


def features(N, C, V, T=5):
    return torch.randn(N, C, T, V, dtype=torch.float64)


def hops(A, scales):
    """By breadth: who is reached in exactly k steps, and everybody themselves; then D^-1/2 A D^-1/2."""
    V, graphs = len(A), []
    distance = torch.full((V, V), float("inf")).fill_diagonal_(0)
    for step in range(1, V):
        reached = ((distance == step - 1).float() @ A > 0) & distance.isinf()
        distance[reached] = step
    for k in range(scales):
        graph = ((distance == k) | torch.eye(V, dtype=torch.bool)).double()
        degree = graph.sum(1)
        graphs.append(graph / (degree[:, None] * degree).sqrt())
    return torch.stack(graphs)


def powers(A, scales):
    degree = A.double().sum(1)
    normal = A.double() / (degree[:, None] * degree).sqrt()
    graphs = [torch.eye(len(A), dtype=torch.float64)]
    while len(graphs) < scales:
        graphs.append(graphs[-1] @ normal)
    return torch.stack(graphs)


def multi_scale(x, p, graphs, prefix, training):
    """Without the activation."""
    A = graphs.float().double()
    if f"{prefix}A_res" in p:
        A = A + p[f"{prefix}A_res"].view(A.shape)
    aggregated = torch.einsum("kwv,nctv->nkctw", A, x).flatten(1, 2)
    first = "0" if f"{prefix}mlp.layers.0.weight" in p else "1"
    h = conv(aggregated, p, f"{prefix}mlp.layers.{first}")
    return norm(h, p, f"{prefix}mlp.layers.{int(first) + 1}", training)


MLP = {"mlp__layers__0": "conv", "mlp__layers__1": "norm"}


@pytest.mark.parametrize(("N", "V"), units.SIZES)
@pytest.mark.parametrize("disentangled", [True, False])
@pytest.mark.parametrize("mask", [True, False])
def test_msgcn(N, V, disentangled, mask):
    A = units.binary(V)
    graphs = hops(A, 4) if disentangled else powers(A + torch.eye(V), 4)
    unit = MSGCN(4, 3, 6, A.numpy(), disentangled, mask, activation="leakyrelu")

    def written(x, p, training):
        return nn.functional.leaky_relu(multi_scale(x, p, graphs, "", training), 0.2)

    units.check(unit, written, features(N, 3, V), names(**MLP, **({"A_res": "own"} if mask else {})))


def test_dropout_is_of_the_aggregated_features_and_in_training_alone():
    A = units.binary(17)
    unit, plain = MSGCN(4, 3, 6, A, dropout=0.5).double(), MSGCN(4, 3, 6, A).double()
    state = {
        name.replace("layers.1", "layers.2").replace("layers.0", "layers.1"): t
        for name, t in plain.state_dict().items()
    }
    unit.load_state_dict(state)
    x = features(2, 3, 17)
    torch.testing.assert_close(unit.eval()(x), plain.eval()(x))
    unit.train()
    graph = hops(A, 4).float().double() + unit.A_res.view(4, 17, 17)
    torch.manual_seed(1)
    aggregated = nn.functional.dropout(torch.einsum("kwv,nctv->nkctw", graph, x).flatten(1, 2), 0.5)
    expected = norm(
        conv(aggregated, state | dict(unit.named_parameters()), "mlp.layers.1"), state, "mlp.layers.2", True
    )
    torch.manual_seed(1)
    torch.testing.assert_close(unit(x), expected.relu())


def windows(x, size, stride, dilation):
    """Frame by frame, zeros past the ends."""
    N, C, T, V = x.shape
    pad = (size - 1) * dilation // 2
    count = (T + 2 * pad - (size - 1) * dilation - 1) // stride + 1
    zero = torch.zeros(N, C, V, dtype=x.dtype)
    frames = [[window * stride + j * dilation - pad for j in range(size)] for window in range(count)]
    rows = [torch.cat([x[:, :, t] if 0 <= t < T else zero for t in window], -1) for window in frames]
    return torch.stack(rows, 2)


@pytest.mark.parametrize(
    ("size", "stride", "dilation"), [(1, 1, 1), (3, 1, 1), (5, 2, 1), (3, 1, 2), (5, 2, 3), (4, 3, 2)]
)
def test_temporal_windows(size, stride, dilation):
    x = features(2, 3, 17, T=11)
    out = TemporalWindows(size, stride, dilation)(x)
    assert torch.equal(out, windows(x, size, stride, dilation))
    # Where the dilation is 1 the windows hold no memory of their own.
    assert (out.untyped_storage().nbytes() > 8 * 2 * 3 * 17 * (11 + size)) == (dilation > 1 and size > 1)
    assert torch.autograd.gradcheck(TemporalWindows(size, stride, dilation), features(1, 2, 2, T=7).requires_grad_())
    turned = x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    assert torch.equal(TemporalWindows(size, stride, dilation)(turned), out)


@pytest.mark.parametrize(("N", "V"), units.SIZES)
@pytest.mark.parametrize(("residual", "D"), [(True, 3), (True, 6), (False, 6)])
@pytest.mark.parametrize("learned", [True, False])
def test_stmsgcn(N, V, residual, D, learned):
    A = units.binary(V)
    graphs = hops((A + torch.eye(V)).tile(3, 3), 3) if learned else powers((A + torch.eye(V)).tile(3, 3), 3)
    unit = STMSGCN(3, D, A.numpy(), 3, 3, disentangled_agg=learned, use_Ares=learned, residual=residual)

    def written(x, p, training):
        h = multi_scale(x, p, graphs, "", training)
        if residual and D == 3:
            h = h + x
        elif residual:
            h = h + norm(conv(x, p, "residual.layers.0"), p, "residual.layers.1", training)
        return h.relu()

    parts = MLP | ({"A_res": "own"} if learned else {})
    parts |= {"residual__layers__0": "conv", "residual__layers__1": "norm"} if residual and D == 6 else {}
    units.check(unit, written, features(N, 3, 3 * V), names(**parts))


G3D = {f"gcn3d__1__{name}": kind for name, kind in (MLP | {"A_res": "own"}).items()}
G3D |= {"out_conv": "conv", "out_bn": "norm"}


def g3d(x, p, prefix, A, size, stride, dilation, training):
    V = len(A)
    graphs = hops((A + torch.eye(V)).tile(size, size), 2)
    if f"{prefix}in1x1.layers.0.weight" in p:
        x = norm(conv(x, p, f"{prefix}in1x1.layers.0"), p, f"{prefix}in1x1.layers.1", training).relu()
    h = multi_scale(windows(x, size, stride, dilation), p, graphs, f"{prefix}gcn3d.1.", training).relu()
    frames = h.unflatten(3, (size, V))
    h = torch.einsum("nctjv,dcj->ndtv", frames, p[f"{prefix}out_conv.weight"][:, :, 0, :, 0])
    return norm(h + p[f"{prefix}out_conv.bias"][:, None, None], p, f"{prefix}out_bn", training)


@pytest.mark.parametrize(("N", "V"), units.SIZES)
@pytest.mark.parametrize(
    ("C", "size", "stride", "dilation", "factor"), [(3, 3, 1, 1, 1), (4, 5, 2, 1, 1), (4, 3, 2, 2, 2), (3, 3, 1, 3, 1)]
)
def test_msg3d(N, V, C, size, stride, dilation, factor):
    A = units.binary(V)
    unit = MSG3D(C, 8, A.numpy(), 2, size, stride, dilation, factor)

    def written(x, p, training):
        return g3d(x, p, "", A, size, stride, dilation, training)

    into = {"in1x1__layers__0": "conv", "in1x1__layers__1": "norm"} if factor > 1 else {}
    units.check(unit, written, features(N, C, V, T=7), names(**G3D, **into))


@pytest.mark.parametrize(("N", "V"), units.SIZES)
def test_multi_window_msg3d(N, V):
    A = units.binary(V)
    unit = MultiWindowMSG3D(3, 6, A, 2, (3, 5), 2, (1, 2))

    def written(x, p, training):
        return sum(g3d(x, p, f"gcn3d.{i}.", A, size, 2, d, training) for i, (size, d) in enumerate(((3, 1), (5, 2))))

    units.check(
        unit, written, features(N, 3, V, T=7), names(**{f"gcn3d__{i}__{n}": k for i in (0, 1) for n, k in G3D.items()})
    )


@pytest.mark.parametrize(("N", "V"), units.SIZES)
@pytest.mark.parametrize("D", [4, 6])
def test_decouple_gcn(N, V, D):
    unit = DecoupleGCN(4, D, units.adjacency(3, V).numpy(), 2, V)

    def written(x, p, training):
        h = torch.einsum("nctv,cd->ndtv", x, p["Linear_weight"]) + p["Linear_bias"]
        h = norm(h, p, "bn0", training).unflatten(1, (3, D))
        A = p["DecoupleA"] / (p["DecoupleA"].sum(2, keepdim=True) + 0.001)
        channels = [torch.einsum("nktv,kvw->ntw", h[:, :, d], A[:, d % 2]) for d in range(D)]
        return (norm(torch.stack(channels, 1), p, "bn", training) + down(x, p, training)).relu()

    own = dict.fromkeys(("DecoupleA", "Linear_weight", "Linear_bias", "eyes"), "own")
    with torch.no_grad():
        unit.DecoupleA.add_(0.5)  # the sums that divide stay away from zero
    units.check(unit, written, features(N, 4, V), names(bn0="norm", bn="norm", **own, **(DOWN if D == 6 else {})))


def edge_conv(x, p, prefix, k, training):
    """[x_j - x_i; x_i] of the k nearest joints j, convolved, the largest."""
    N, C, V = x.shape
    distance = (x[:, :, :, None] - x[:, :, None]).square().sum(1)
    near = distance.argsort(-1)[..., :k]
    picked = torch.stack([torch.stack([x[n][:, near[n, i]] for i in range(V)], 1) for n in range(N)])
    edges = torch.cat([picked - x[..., None], x[..., None].expand_as(picked)], 1)
    return nn.functional.leaky_relu(norm(conv(edges, p, f"{prefix}.0"), p, f"{prefix}.1", training), 0.2).amax(-1)


@pytest.mark.parametrize(("N", "V"), units.SIZES)
@pytest.mark.parametrize(("D", "kind"), [(16, "att"), (4, "sum"), (8, "bare")])
def test_hdgcn(N, V, D, kind):
    A = torch.stack([units.adjacency(3, V) for _ in range(3)])
    joints = [list(range(place, V, 3)) for place in range(3)]
    for place, own in enumerate(joints):
        A[place, 0] = torch.diag(torch.zeros(V).index_fill(0, torch.tensor(own), 1.0))
    unit = HDGCN(4, D, A.numpy(), residual=kind != "bare", att=kind == "att")

    def written(x, p, training):
        layers = []
        for place in range(3):
            h = norm(conv(x, p, f"conv_down.{place}.0"), p, f"conv_down.{place}.1", training).relu()
            parts = []
            for s in range(3):
                z = conv(torch.einsum("nctv,wv->nctw", h, p["PA"][place, s]), p, f"conv.{place}.{s}.0")
                parts.append(norm(z, p, f"conv.{place}.{s}.1", training))
            edges = edge_conv(h.mean(2), p, f"conv.{place}.3.conv", 5, training)
            layers.append(torch.cat([*parts, edges[:, :, None].expand_as(parts[0])], 1))
        out = torch.stack(layers, 2)
        if kind == "att":
            peaks = norm(conv(out.amax(3), p, "aha.conv_down.0"), p, "aha.conv_down.1", training).relu()
            sampled = torch.stack([peaks[:, :, place, own].mean(-1) for place, own in enumerate(joints)], -1)
            weights = conv(edge_conv(sampled, p, "aha.edge_conv.conv", 3, training), p, "aha.aggregate").sigmoid()
            out = out * weights[..., None, None]
        out = norm(out.sum(2), p, "bn", training)
        return (out if kind == "bare" else out + down(x, p, training)).relu()

    parts = {"PA": "own", "bn": "norm"} | (DOWN if kind == "att" else {})
    edge = {"conv__0": "weight", "conv__1": "norm"}
    for place in range(3):
        parts |= {f"conv_down__{place}__0": "conv", f"conv_down__{place}__1": "norm"}
        for layer in [f"conv__{place}"] + ["conv_d"] * (place == 2):
            parts |= {f"{layer}__{s}__{i}": part for s in range(3) for i, part in enumerate(("conv", "norm"))}
            parts |= {f"{layer}__3__{name}": part for name, part in edge.items()}
    if kind == "att":
        parts |= {"aha__conv_down__0": "conv", "aha__conv_down__1": "norm", "aha__aggregate": "conv"}
        parts |= {f"aha__edge_conv__{name}": part for name, part in edge.items()}
    units.check(unit, written, features(N, 4, V), names(**parts))


A17 = units.binary(17)
A3 = units.adjacency(3, 17)
MAKERS = {
    "MSGCN": (lambda A: MSGCN(3, 8, 6, A), A17),
    "DecoupleGCN": (lambda A: DecoupleGCN(8, 6, A, 2, 17), A3),
    "HDGCN": (lambda A: HDGCN(8, 8, A), A3.repeat(3, 1, 1, 1)),
}


@pytest.mark.parametrize("name", MAKERS)
def test_what_is_refused(name):
    make, A = MAKERS[name]
    units.check_refusals(name, make, 8, A)


@pytest.mark.parametrize("name", [*MAKERS, "MSG3D"])
def test_autocast_and_an_empty_batch(name):
    make, A = MAKERS.get(name, (lambda A: MSG3D(8, 6, A, 2, 3, 1, 1), A17))
    units.check_types(make(A), torch.randn(2, 8, 5, 17))


@pytest.mark.parametrize("name", [*MAKERS, "MSG3D"])
def test_copies_files_and_tracing(name):
    make, A = MAKERS.get(name, (lambda A: MSG3D(8, 6, A, 2, 3, 1, 1), A17))
    units.check_travels(make(A), torch.randn(2, 8, 5, 17))


def test_what_single_units_refuse():
    with pytest.raises(ValueError, match=r"STMSGCN: x must be \(N, 3, T, 51\), got shape \(2, 3, 5, 17\)"):
        STMSGCN(3, 6, A17, 2, 3)(torch.randn(2, 3, 5, 17))
    with pytest.raises(ValueError, match=r"STMSGCN: A must be \(V, V\)"):
        STMSGCN(3, 6, A3, 2, 3)
    with pytest.raises(ValueError, match="MSGCN: activation must be one of relu, leakyrelu, tanh, linear, got 'gelu'"):
        MSGCN(2, 3, 6, A17, activation="gelu")
    with pytest.raises(ValueError, match="num_scales must be at least 1, got 0"):
        MSGCN(0, 3, 6, A17)
    with pytest.raises(ValueError, match="TemporalWindows: x must have at least 2 frames, got shape"):
        TemporalWindows(4, 1)(torch.randn(2, 3, 1, 17))
    with pytest.raises(ValueError, match=r"TemporalWindows: x must be \(N, C, T, V\), got shape \(3, 5, 17\)"):
        TemporalWindows(3, 1)(torch.randn(3, 5, 17))
    with pytest.raises(ValueError, match="MultiWindowMSG3D: window_sizes and window_dilations must have one entry"):
        MultiWindowMSG3D(3, 6, A17, 2, (3, 5), 1, (1,))
    with pytest.raises(
        ValueError, match=r"DecoupleGCN: A must be \(num_subset, num_point, num_point\) = \(3, 25, 25\)"
    ):
        DecoupleGCN(8, 6, A3, 2, 25)
    with pytest.raises(ValueError, match="DecoupleGCN: groups must divide out_channels = 6, got 4"):
        DecoupleGCN(8, 6, A3, 4, 17)
    graph = A3.repeat(3, 1, 1, 1)
    with pytest.raises(ValueError, match="HDGCN: adaptive must be True, got False"):
        HDGCN(8, 8, graph, adaptive=False)
    with pytest.raises(ValueError, match=r"HDGCN: out_channels must be a multiple of S \+ 1 = 4, got 6"):
        HDGCN(8, 6, graph)
    with pytest.raises(ValueError, match="HDGCN: A must have at least 5 joints"):
        HDGCN(8, 8, graph[..., :4, :4])
    with pytest.raises(
        ValueError, match="HDGCN: att needs at least 3 layers, each with self loops in its first subset"
    ):
        HDGCN(8, 16, graph[:2], att=True)
