"""What is measured: for each piece of work ours, the peers' form, the correctness gate, bytes, flops and target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

import asma_kernels as ak
from asma_kernels import Skeleton, SparseGraph, draws
from asma_kernels.nn import STGCNBlock

from . import peers

N, C, T, V, M = 128, 3, 50, 25, 2
CLIP_BYTES = 4 * N * C * T * V * M
ENCODER_SHAPES = (
    (3, 16, 50), (16, 16, 50), (16, 16, 50), (16, 16, 50), (16, 32, 50),
    (32, 32, 25), (32, 32, 25), (32, 64, 25), (64, 64, 13), (64, 256, 13),
)  # fmt: skip
"""(C, D, T) of PSTL's ten blocks at T = 50."""
BLOCK_SHAPES = ((16, 16, 50), (32, 32, 25), (64, 64, 13), (64, 256, 13))
"""Those of its blocks without a stride."""


@dataclass
class Family:
    """A model's graph convolution with an adjacency of its own kind, at N = 8."""

    axes: str
    peer: Callable[..., torch.Tensor]
    C: int
    D: int
    T: int
    K: int
    target: float
    options: dict[str, str] = field(default_factory=dict)
    groups: int = 0
    """Entries of the adjacency's axis C; 0: one a channel."""


FAMILIES = {
    "KVW, ST-GCN": Family("KVW", peers.st_gcn, 64, 64, 100, 3, 1.5),
    "KVW, pyskl post": Family("KVW", peers.pyskl_post, 64, 64, 100, 3, 1.5, {"order": "post"}),
    "NKVW, 2s-AGCN": Family("NKVW", peers.agcn, 64, 64, 100, 3, 1.2, {"order": "post"}),
    "NCVW, CTR-GCN": Family("NCVW", peers.ctr_gcn, 64, 64, 64, 1, 1.2, {"side": "left"}),
    "NCVW, CTR-GCN, 256 channels": Family("NCVW", peers.ctr_gcn, 256, 256, 16, 1, 0.95, {"side": "left"}),
    "KCVW, Decoupling GCN": Family("KCVW", peers.decoupling, 64, 64, 100, 3, 1.5, groups=8),
    "NKCVW, DG-STGCN": Family("NKCVW", peers.dg_stgcn, 64, 8, 100, 8, 1.2, {"reduce_k": "keep"}),
}


@dataclass
class Work:
    """A piece of work by several providers; ``ours`` and the peers compute the same."""

    ours: Callable[[], Any]
    eager: Callable[[], Any]
    check: Callable[[], None]
    """Raises AssertionError where ours and the peer's results differ."""
    bytes: float
    """Read and written at least once."""
    flops: float = 0.0
    target: float = 0.0
    """Times faster than eager that we promise."""
    compiled: Callable[[], Any] | None = None
    """torch.compile of the eager form, where it can be compiled."""
    compiled_target: float = 0.0
    note: str = field(default="")


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _clips() -> torch.Tensor:
    """Smooth random walks: frames of different energy, none equal."""
    return torch.randn(N, C, T, V, M, generator=_generator()).cumsum(2) * 0.1


def frame_masking() -> Work:
    x, stream = _clips(), ak.rng.Draws(seed=1)

    def ours(rng: torch.Tensor | None = None) -> torch.Tensor:
        rng = stream.next() if rng is None else rng
        return ak.frame_drop(x, 10, "high", extra=10, rng=rng)[0]

    def check() -> None:
        rng = stream.next()
        whole, fewer = ak.frame_drop(x, 10)[1], ak.frame_drop(x, 10, extra=10, rng=rng)[1]
        places = [int((whole[0] == frame).nonzero()) for frame in fewer[0]]
        assert torch.equal(ours(rng), peers.masked_frames(x, 10, places))

    eager = lambda: peers.masked_frames(x, 10, peers.random_places(T, 10))  # noqa: E731
    # One set of places: a new list would compile anew.
    faster, places = torch.compile(peers.masked_frames, dynamic=False), peers.random_places(T, 10)
    moved = CLIP_BYTES * (1 + 30 / 50)
    return Work(
        ours, eager, check, moved, 3 * CLIP_BYTES / 4, 10,
        compiled=lambda: faster(x, 10, places),
    )  # fmt: skip


def view_arguments(parameters: tuple) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The peers' parameters of a view as the arguments of skeleton_view."""
    start, sheared, angles, turned = parameters
    pad = T // 6
    frames = torch.cat([torch.arange(pad).flip(0), torch.arange(T), torch.arange(T - pad, T).flip(0)])[
        start : start + T
    ]
    matrix = torch.tensor(sheared)
    for axis, angle in enumerate(angles):
        matrix = torch.tensor(peers.turn(axis, angle)) @ matrix
    return frames, torch.tensor(peers.FLIP if turned else range(V)), matrix


def view() -> Work:
    x, stream = _clips(), ak.rng.Draws(seed=2)
    views = draws.Views.of(Skeleton.builtin("ntu25"))

    def check() -> None:
        for turned in (False, True):
            parameters = peers.random_view(T, flip=turned)
            actual = ak.skeleton_view(x, *view_arguments(parameters))
            torch.testing.assert_close(actual, peers.view(x, *parameters), rtol=1e-4, atol=1e-4)

    ours = lambda: ak.skeleton_view(x, *views.draw(stream.next(), N, T))  # noqa: E731
    eager = lambda: peers.view(x, *peers.random_view(T))  # noqa: E731
    faster, drawn = torch.compile(peers.view, dynamic=False), peers.random_view(T, flip=True)
    return Work(
        ours, eager, check, 2 * CLIP_BYTES, 5 * CLIP_BYTES / 4, 10,
        compiled=lambda: faster(x, *drawn),
    )  # fmt: skip


def view_and_masks() -> Work:
    x, stream = _clips(), ak.rng.Draws(seed=3)
    views = draws.Views.of(Skeleton.builtin("ntu25"))
    weights = ak.high_degree_weights(Skeleton.builtin("ntu25").degrees)

    def ours() -> torch.Tensor:
        frames, joints, matrix = views.draw(stream.next(), N, T)
        kept_frames = ak.frame_mask(ak.motion_energy(x, "frame"), 10, "high", extra=10, rng=stream.next())
        kept_joints = ak.joint_mask(weights, 8, N, stream.next()).kept
        return ak.skeleton_view(x, draws.compose(frames, kept_frames), draws.compose(joints, kept_joints), matrix)

    def eager() -> torch.Tensor:
        turned = peers.view(x, *peers.random_view(T))
        fewer = peers.masked_frames(turned, 10, peers.random_places(T, 10))
        remaining = (~peers.masked_joints(1, 8)[0]).nonzero().flatten()
        return fewer[:, :, :, remaining]

    def check() -> None:
        parameters = peers.random_view(T)
        frames, joints, matrix = view_arguments(parameters)
        kept_frames = ak.frame_mask(ak.motion_energy(x, "frame"), 20, "high")
        kept_joints = ak.joint_mask(weights, 8, N, stream.next()).kept
        one = ak.skeleton_view(x, draws.compose(frames, kept_frames), draws.compose(joints, kept_joints), matrix)
        steps = peers.view(x, *parameters)
        index = kept_frames[:, None, :, None, None].expand(N, C, 30, V, M)
        steps = steps.gather(2, index)[:, :, :, kept_joints[0]]
        torch.testing.assert_close(one, steps, rtol=1e-4, atol=1e-4)

    moved = CLIP_BYTES * (2 + 2 * 30 / 50 * 17 / 25)
    note = "ours orders frames by the clip's energy, the peer by the augmented clip's: one pass less"
    return Work(ours, eager, check, moved, 8 * CLIP_BYTES / 4, 15, note=note)


def joint_masking() -> Work:
    stream = ak.rng.Draws(seed=4)
    weights = ak.high_degree_weights(Skeleton.builtin("ntu25").degrees)

    def check() -> None:
        rows, close = 20000, 0.02
        ours = ak.joint_mask(weights, 8, rows, stream.next(), mode="tokens", shared=False).mask
        theirs = peers.masked_joints(rows, 8)
        torch.testing.assert_close(ours.float().mean(0), theirs.float().mean(0), rtol=0, atol=close)

    ours = lambda: ak.joint_mask(weights, 8, N, stream.next(), mode="tokens", shared=False)  # noqa: E731
    return Work(ours, lambda: peers.masked_joints(N, 8), check, N * V * 9, 0, 20)


def graph_convolution(C: int, D: int, T: int, place: int) -> Work:
    A = Skeleton.builtin("ntu25").partition("spatial")
    graph, rows = SparseGraph.from_dense(A), 32
    generator = _generator(place)
    x, grad = torch.randn(rows, C, T, V, generator=generator), torch.randn(rows, D, T, V, generator=generator)
    weight = torch.randn(3 * D, C, 1, 1, generator=generator) / C**0.5
    bias, importance = torch.randn(3 * D, generator=generator), torch.rand(A.shape, generator=generator)
    leaves = [t.requires_grad_() for t in (x, weight, bias, importance)]

    def step(function: Callable[..., torch.Tensor]) -> tuple[torch.Tensor, ...]:
        out = function()
        return (out, *torch.autograd.grad(out, leaves, grad))

    plain = lambda: peers.graph_conv(x, weight, bias, A, importance)  # noqa: E731
    faster = torch.compile(peers.graph_conv, dynamic=False)
    ours = lambda: step(lambda: ak.graph_conv(x, graph.weighted(importance), weight, bias))  # noqa: E731

    def check() -> None:
        for actual, expected in zip(ours(), step(plain), strict=True):
            scale = expected.abs().max()
            torch.testing.assert_close(actual / scale, expected / scale, rtol=1e-4, atol=1e-5)

    moved = 4 * rows * T * V * (3 * C + 2 * D)  # x, x again and its gradient; out and its gradient
    flops = 3 * 2 * rows * T * (73 * C + 57 * C * D)  # 57 of the 75 pairs (partition, target) have an edge
    return Work(
        ours, lambda: step(plain), check, moved, flops, 2,
        compiled=lambda: step(lambda: faster(x, weight, bias, A, importance)), compiled_target=1.3,
    )  # fmt: skip


def block(C: int, D: int, T: int) -> Work:
    """A block of PSTL's encoder in training, 128 persons: ours and its modules one after the other."""
    A = Skeleton.builtin("ntu25").partition("spatial")
    graph = SparseGraph.from_dense(A)
    torch.manual_seed(0)
    module, importance = STGCNBlock(C, D, partitions=3, dropout=0.5), torch.rand(A.shape, requires_grad=True)
    x, grad = torch.randn(N, C, T, V, requires_grad=True), torch.randn(N, D, T, V)
    # Each block gives the next what it takes best.
    last, last_grad = (tensor.detach().contiguous(memory_format=torch.channels_last) for tensor in (x, grad))
    leaves = [importance, *module.parameters()]

    def modules() -> torch.Tensor:
        residual = module.residual(x) if module.residual is not None else 0
        hidden = peers.graph_conv(x, module.gcn.conv.weight, module.gcn.conv.bias, A, importance)
        out: torch.Tensor = module.relu(module.tcn(hidden) + residual)
        return out

    def eager() -> tuple[torch.Tensor, ...]:
        out = modules()
        return (out, *torch.autograd.grad(out, [x, *leaves], grad))

    def ours() -> tuple[torch.Tensor, ...]:
        leaf = last.detach().requires_grad_()
        out = module(leaf, graph.weighted(importance))
        return (out, *torch.autograd.grad(out, [leaf, *leaves], last_grad))

    def check() -> None:
        dropout = module.tcn[4]
        kept, dropout.p = dropout.p, 0.0  # they drop different numbers
        names = ["out", "x", "importance", *(name for name, _ in module.named_parameters())]
        skipped = ("tcn.2.bias", "residual.0.bias")  # a norm follows: their gradient is nothing but rounding
        for name, actual, expected in zip(names, ours(), eager(), strict=True):
            if name not in skipped:
                # In the mean: at a ReLU's corner rounding decides whether a gradient passes.
                error = (actual - expected).square().mean().sqrt() / expected.abs().max()
                assert error < 1e-3, f"{name}: {error}"
        dropout.p = kept

    flops = 3 * 2 * N * T * (73 * C + 57 * C * D + V * (9 * D * D + (C * D if C != D else 0)))
    moved = 4 * N * T * V * (5 * C + 11 * D)
    return Work(ours, eager, check, moved, flops, 2)


def adjacency(family: Family) -> Work:
    rows, generator, post = 8, _generator(7), family.options.get("order") == "post"
    K, C, D = family.K, family.C, family.D
    size = {"N": rows, "K": K, "C": family.groups or D, "V": V, "W": V}
    x = torch.randn(rows, C, family.T, V, generator=generator)
    A = torch.randn([size[axis] for axis in family.axes], generator=generator) / V**0.5
    weight = torch.randn((D, K * C, 1, 1) if post else (K * D, C, 1, 1), generator=generator) / C**0.5
    bias = torch.randn(len(weight), generator=generator)
    leaves = [t.requires_grad_() for t in (x, A, weight, bias)]
    keep = family.options.get("reduce_k") == "keep"
    grad = torch.randn(rows, K * D if keep else D, family.T, V, generator=generator)

    def step(function: Callable[..., torch.Tensor]) -> tuple[torch.Tensor, ...]:
        out = function(x, A, weight, bias)
        return (out, *torch.autograd.grad(out, leaves, grad))

    def graph_conv(*tensors: torch.Tensor) -> torch.Tensor:
        return ak.graph_conv(*tensors, axes=family.axes, **family.options)  # type: ignore[arg-type]

    def check() -> None:
        for actual, expected in zip(step(graph_conv), step(family.peer), strict=True):
            scale = expected.abs().max()
            torch.testing.assert_close(actual / scale, expected / scale, rtol=1e-4, atol=1e-5)

    between = D if "C" in family.axes else C  # channels that the adjacency acts on
    flops = 3 * 2 * rows * family.T * K * V * (V * between + C * D)
    moved = 4 * (3 * x.numel() + 2 * grad.numel() + 3 * A.numel())
    faster = torch.compile(family.peer, dynamic=False)
    return Work(
        lambda: step(graph_conv), lambda: step(family.peer), check, moved, flops, family.target,
        compiled=lambda: step(faster),
    )  # fmt: skip


def barlow() -> Work:
    rows, D = 128, 6144
    z1, z2 = (torch.randn(rows, D, generator=_generator(seed), requires_grad=True) for seed in (5, 6))

    def step(function: Callable[..., torch.Tensor]) -> tuple[torch.Tensor, ...]:
        loss = function(z1, z2)
        return (loss, *torch.autograd.grad(loss, (z1, z2)))

    def check() -> None:
        for actual, expected in zip(step(ak.barlow_twins), step(peers.barlow_twins), strict=True):
            scale = expected.abs().max()
            torch.testing.assert_close(actual / scale, expected / scale, rtol=1e-3, atol=1e-4)

    faster = torch.compile(peers.barlow_twins, dynamic=False)
    flops = 2 * rows * rows * D * (2 * 0.5 + 2)  # two symmetric Gram matrices, two products in the backward
    return Work(
        lambda: step(ak.barlow_twins), lambda: step(peers.barlow_twins), check,
        4 * rows * D * 6, flops, 40, compiled=lambda: step(faster),
    )  # fmt: skip


def all_work() -> dict[str, Callable[[], Work]]:
    """Makers by name, so that only what is being measured holds memory."""
    convolutions = {
        f"graph_conv {place}: {C}->{D}, T={T}": lambda place=place, shape=(C, D, T): graph_convolution(*shape, place)
        for place, (C, D, T) in enumerate(ENCODER_SHAPES, 1)
    }
    return {
        "energy + frame mask + compaction": frame_masking,
        "view: crop, shear, rotations, flip": view,
        "view and both masks": view_and_masks,
        "joint mask, 128 rows": joint_masking,
        **convolutions,
        **{f"stgcn_block {C}->{D}, T={T}": partial(block, C, D, T) for C, D, T in BLOCK_SHAPES},
        **{f"dense graph_conv {name}": partial(adjacency, family) for name, family in FAMILIES.items()},
        "barlow_twins, N=128, D=6144": barlow,
    }
