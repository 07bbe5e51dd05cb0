"""DG-STGCN's, ProtoGCN's, InfoGCN's and Hyper-GCN's units against their formulas."""

import pytest
import torch
import units
from torch import nn
from units import conv, down, names, norm

from asma_kernels.nn import DGGCN, SAGC, HyperGCN, JointAttention, ProtoGCN

DOWN = {"down__0": "conv", "down__1": "norm"}
DYNAMIC = {"A": "own", "alpha": "own", "beta": "own", "pre__0": "conv", "pre__1": "norm", "post": "conv", "bn": "norm"}
EMBEDDINGS = {"conv1": "conv", "conv2": "conv"}


def features(N, C, V, T=4):
    return torch.randn(N, C, T, V, dtype=torch.float64)


def activated(graph, activation):
    return graph.softmax(-2) if activation == "softmax" else getattr(torch, activation)(graph)


def embedded(x, p, K, over_frames):
    """Both embeddings (N, K, C', T, V), of every frame or of the mean over frames."""
    both = [conv(x, p, name) for name in ("conv1", "conv2")]
    if over_frames:
        both = [h.mean(2, keepdim=True).expand_as(h) for h in both]
    return [h.unflatten(1, (K, h.shape[1] // K)) for h in both]


def grouped(x, p, K, graph, training):
    """``graph`` (N, K, C', T, V, W)."""
    hidden = norm(conv(x, p, "pre.0"), p, "pre.1", training).relu()
    hidden = torch.einsum("nkctv,nkctvw->nkctw", hidden.unflatten(1, (K, hidden.shape[1] // K)), graph)
    out = norm(conv(hidden.flatten(1, 2), p, "post"), p, "bn", training)
    return (out + down(x, p, training)).relu()


@pytest.mark.parametrize(("N", "V"), units.SIZES)
@pytest.mark.parametrize("ctr", [None, "T", "NA"])
@pytest.mark.parametrize("ada", [None, "T", "NA"])
@pytest.mark.parametrize(
    ("D", "subset_wise", "acts"), [(8, False, ("softmax", "tanh")), (6, True, ("sigmoid", "softmax"))]
)
def test_dggcn(N, V, ctr, ada, D, subset_wise, acts):
    K, x = 3, features(N, 8, V)
    unit = DGGCN(8, D, units.adjacency(K, V), 0.25 if D == 8 else None, ctr, ada, subset_wise, *acts)
    middle = 2

    def written(x, p, training):
        graph = p["A"][None, :, None, None].expand(N, K, middle, 4, V, V)
        alpha, beta = ((p[n] if subset_wise else p[n][:1]).view(-1, 1, 1, 1, 1) for n in ("alpha", "beta"))
        if ctr or ada:
            first, second = embedded(x, p, K, over_frames="NA" not in (ctr, ada))
        if ctr:
            graph = graph + alpha * activated(first[..., :, None] - second[..., None, :], acts[1])
        if ada:
            similar = torch.einsum("nkctv,nkctw->nktvw", first, second)[:, :, None]
            graph = graph + beta * activated(similar, acts[0])
        return grouped(x, p, K, graph, training)

    parts = DYNAMIC | (EMBEDDINGS if ctr or ada else {}) | (DOWN if D == 6 else {})
    units.check(unit, written, x, names(**parts))


@pytest.mark.parametrize(("N", "V"), units.SIZES)
@pytest.mark.parametrize(("D", "acts"), [(8, ("softmax", "tanh")), (16, ("relu", "sigmoid"))])
def test_protogcn_returns_its_graph(N, V, D, acts):
    K, x = 3, features(N, 8, V)
    unit = ProtoGCN(8, D, units.adjacency(K, V), 0.25, *acts)

    def written(x, p, training):
        first, second = (h[:, :, :, :1] for h in embedded(x, p, K, over_frames=True))
        own = p["alpha"][0] * activated(first[..., :, None] - second[..., None, :], acts[1])
        own = own + p["beta"][0] * activated(torch.einsum("nkctv,nkctw->nktvw", first, second)[:, :, None], acts[0])
        graph = (own + p["A"][None, :, None, None]).expand(N, K, D // 4, 4, V, V)
        return grouped(x, p, K, graph, training), own.reshape(N, K * D // 4, V, V)

    units.check(unit, written, x, names(**DYNAMIC, **EMBEDDINGS, **(DOWN if D == 16 else {})))


@pytest.mark.parametrize(("N", "V"), units.SIZES)
@pytest.mark.parametrize(("D", "given"), [(16, False), (6, True)])
def test_sagc(N, V, D, given):
    K, T, x = 3, 4, features(N, 16, V)
    unit = SAGC(16, D, units.adjacency(K, V).numpy())

    def written(x, p, training, attention=None):
        if attention is None:
            h = x.permute(0, 2, 3, 1)
            h = (h - h.mean(-1, keepdim=True)) / (h.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
            h = (h * p["attn.ln.weight"] + p["attn.ln.bias"]) @ p["attn.to_qk.weight"].T + p["attn.to_qk.bias"]
            query, key = (part.unflatten(-1, (K, 2)) for part in h.split(K * 2, -1))
            attention = (torch.einsum("ntwkd,ntvkd->ntkwv", query, key) / 2**0.5).softmax(-1)
        graphs = attention * p["shared_topology"]
        h = sum(conv(torch.einsum("ntwv,nctv->nctw", graphs[:, :, k], x), p, f"conv_d.{k}") for k in range(K))
        return (norm(h, p, "bn", training) + down(x, p, training)).relu()

    parts = {"shared_topology": "own", "attn__to_qk": "conv", "attn__ln": "conv", "bn": "norm"}
    parts |= {f"conv_d__{k}": "conv" for k in range(K)} | (DOWN if D == 6 else {})
    if not given:
        units.check(unit, written, x, names(**parts))
        return
    attention = torch.rand(N, T, K, V, V, dtype=torch.float64)
    units.check(unit, lambda *a: written(*a, attention), x, names(**parts), attention.flatten(0, 1))


def test_attention_sums_to_one_and_is_float32_at_least():
    attention = JointAttention(16, 2, 3).bfloat16()(torch.randn(2, 16, 4, 17, dtype=torch.bfloat16))
    assert attention.dtype == torch.float32 and attention.shape == (8, 3, 17, 17)
    torch.testing.assert_close(attention.sum(-1), torch.ones(8, 3, 17), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(("N", "V"), units.SIZES)
@pytest.mark.parametrize(("D", "P"), [(16, 3), (8, 1), (16, 0)])
def test_hyper_gcn(N, V, D, P):
    K, x = 2, features(N, 16, V)
    unit = HyperGCN(16, D, V, P, units.adjacency(K, V + P).numpy(), num_subset=K)

    def groups(x, p, name):
        """A grouped 1x1 convolution of (N, C, ...)."""
        parts = zip(x.chunk(K, 1), p[f"{name}.weight"].flatten(1).chunk(K), p[f"{name}.bias"].chunk(K), strict=True)
        shape = (-1, *[1] * (x.dim() - 2))
        return torch.cat([torch.einsum("nc...,dc->nd...", h, w) + b.view(shape) for h, w, b in parts], 1)

    def written(x, p, training):
        virtual = p["hyper_joint"].T[None, :, None].expand(N, -1, x.shape[2], -1)
        whole = torch.cat([x, virtual], 3)
        A = p["edge_importance"] * p["PA"]
        A = A / (A.abs().sum(2, keepdim=True) + 1e-8)
        means = whole.mean(2)
        places = groups(means, p, "to_V").unflatten(1, (K, 2))
        places = places.transpose(2, 3)
        distance = torch.cdist(places, places, compute_mode="donot_use_mm_for_euclid_dist")
        rank = distance.argsort(-1).argsort(-1)
        H = (-distance).masked_fill(rank >= 9, -torch.inf).softmax(-1)
        W = nn.functional.leaky_relu(groups(means, p, "to_W.0"), 0.01)
        W = conv(W, p, "to_W.2").tanh()
        left = torch.einsum("nkve,nke->nkve", H, W)
        left = left / (left.abs().sum(3, keepdim=True) + 1e-8)
        G = torch.einsum("nkue,nke,nkve->nkuv", left, W / (H.abs().sum(2) + 1e-8), H)
        graph = A + p["alpha"].relu() * G
        h = groups(whole, p, "conv_d").unflatten(1, (K, D // K))
        y = torch.einsum("nkuv,nkctv->nkctu", graph, h).flatten(1, 2)[..., :V]
        return (norm(y, p, "bn", training) + down(x, p, training)).relu(), p["hyper_joint"] * 1

    parts = dict.fromkeys(("PA", "edge_importance", "hyper_joint", "alpha"), "own")
    parts |= dict.fromkeys(("to_V", "to_W__0", "to_W__2", "conv_d"), "conv") | {"bn": "norm"}
    units.check(unit, written, x, names(**parts, **(DOWN if D == 8 else {})))


A3 = units.adjacency(3, 17)
MAKERS = {
    "DGGCN": lambda A: DGGCN(8, 8, A),
    "ProtoGCN": lambda A: ProtoGCN(8, 8, A),
    "SAGC": lambda A: SAGC(8, 8, A),
    "HyperGCN": lambda A: HyperGCN(8, 8, 15, 2, A, num_subset=1),
}


@pytest.mark.parametrize("name", MAKERS)
def test_what_is_refused(name):
    if name != "HyperGCN":
        units.check_refusals(name, MAKERS[name], 8, A3)
        return
    unit = MAKERS[name](A3[:1])
    with pytest.raises(ValueError, match=r"HyperGCN: x must be \(N, 8, T, 15\), got shape \(2, 8, 5, 17\)"):
        unit(torch.randn(2, 8, 5, 17))
    with pytest.raises(TypeError, match="HyperGCN: x must be torch.float32, as the parameters, got torch.float64"):
        unit(features(2, 8, 15))


@pytest.mark.parametrize("name", MAKERS)
def test_autocast_and_an_empty_batch(name):
    hyper = name == "HyperGCN"
    units.check_types(MAKERS[name](A3[:1] if hyper else A3), torch.randn(2, 8, 5, 15 if hyper else 17))


@pytest.mark.parametrize("name", MAKERS)
def test_copies_files_and_tracing(name):
    hyper = name == "HyperGCN"
    units.check_travels(MAKERS[name](A3[:1] if hyper else A3), torch.randn(2, 8, 5, 15 if hyper else 17))


def test_what_single_units_refuse():
    with pytest.raises(ValueError, match="DGGCN: ctr must be one of NA, T, got 'F'"):
        DGGCN(8, 8, A3, ctr="F")
    with pytest.raises(ValueError, match="DGGCN: ada_act must be one of tanh, relu, sigmoid, softmax, got 'gelu'"):
        DGGCN(8, 8, A3, ada_act="gelu")
    with pytest.raises(ValueError, match=r"DGGCN: ratio \* out_channels must be >= 1, got 0.1 \* 8"):
        DGGCN(8, 8, A3, ratio=0.1)
    with pytest.raises(ValueError, match="ProtoGCN: inter_act must be one of"):
        ProtoGCN(8, 8, A3, inter_act="gelu")
    with pytest.raises(ValueError, match="SAGC: in_channels must be >= 8, as a head has in_channels // 8, got 3"):
        SAGC(3, 8, A3)
    with pytest.raises(ValueError, match=r"SAGC: attn must be \(N \* T, K, V, V\) = \(10, 3, 17, 17\), got"):
        SAGC(8, 8, A3)(torch.randn(2, 8, 5, 17), torch.rand(2, 3, 17, 17))
    with pytest.raises(ValueError, match=r"HyperGCN: A must be \(K, V, V\) = \(1, 15, 15\), virtual joints too, got"):
        HyperGCN(8, 8, 14, 1, A3[:1], num_subset=1)
    with pytest.raises(ValueError, match="HyperGCN: hyper must be True, got False"):
        HyperGCN(8, 8, 15, 2, A3[:1], hyper=False, num_subset=1)
    with pytest.raises(ValueError, match="HyperGCN: channels must be multiples of num_subset = 3, got 8, 9"):
        HyperGCN(8, 9, 15, 2, A3, num_subset=3)
    with pytest.raises(ValueError, match=r"HyperGCN: in_channels must be >= num_subset \* rel_reduction = 12"):
        HyperGCN(9, 9, 15, 2, A3, num_subset=3)
