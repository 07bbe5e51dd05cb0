"""Graph convolution over a skeleton: 1x1 convolution and aggregation over neighbours in one op."""

from __future__ import annotations

from typing import Any

import torch

from .. import _check, _register
from .._dispatch import choose, ops_of
from ..graph import SparseGraph
from ..reference import graph_conv as reference
from ..reference import graph_conv_dense as dense_reference
from .graph_conv_dense import ORDER, convolution, kept_joints
from .graph_conv_dense import arguments_of as dense_arguments_of

SIDE = ("right", "left")
REDUCE_K = ("sum", "keep")


def graph_conv(
    x: torch.Tensor,
    graph: torch.Tensor | SparseGraph,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    *,
    axes: str = "KVW",
    order: str = "pre",
    side: str = "right",
    reduce_k: str = "sum",
    joints: torch.Tensor | None = None,
    backend: str = "auto",
) -> torch.Tensor:
    """``out[n, c, t, w] = sum_k sum_v A[n, k, c, t, v, w] * h[n, k, c, t, v]``: the graph convolution of ST-GCN (arXiv
    1801.07455, equation 10) for every adjacency of the field, with h the 1x1 convolution of x.

    ==================  =================================================================================
    ``axes``            models
    ==================  =================================================================================
    KVW                 ST-GCN, PSTL, AimCLR, pyskl, HD-GCN, MS-G3D (its windows are W != V joints)
    KCVW                Decoupling GCN (Cheng et al., ECCV 2020, equation 5), C the number of its groups
    NKVW                2s-AGCN (arXiv 1805.07694, equation 3), Hyper-GCN, InfoGCN
    NCVW                CTR-GCN (arXiv 2107.12213, equation 7), one subset a call, ``side="left"``
    NKCVW, NKCTVW       DG-STGCN (arXiv 2210.05895), ProtoGCN
    NTVW, NKTVW         SGN (arXiv 1904.01189): a graph a frame
    ==================  =================================================================================

    Without a C axis in A the aggregation commutes with the convolution: both orders aggregate tiles of x and multiply
    once. With one, tiles of h, (N, K, D, T, V), live in the cache; h is never built, but where it is no larger than the
    output (one partition, or ``keep``) and the adjacency needs a gradient it is saved for that.

    Args:
        x: features (N, C, T, V), float64, float32, bfloat16 or float16, any strides. With ``joints`` its last axis
            holds the kept joints. Without a weight x is h: (N, K * C, T, V) in ``pre`` order; in ``post`` order every
            k sees x.
        graph: a :class:`SparseGraph` (static or importance-weighted), or a dense, possibly learned adjacency with the
            axes of ``axes``. Source v feeds target w. In x's dtype or float32.
        weight: ``order="pre"``: (K * D, C); ``order="post"``: (D, K * C); a trailing (1, 1) as of a Conv2d is allowed.
            In x's dtype or float32. None: aggregation alone.
        bias: (K * D,) or, with ``post``, (D,). In ``pre`` order it passes through A: it is multiplied by A's column
            sums. Needs a weight.
        axes: the axes of a dense graph: letters of "NKCTVW" in this order, V and W among them. Absent axes, and N, C, T
            of size 1, are broadcast; without K there is one partition. An axis C may have G entries, a divisor of
            the channels: groups of channels share a graph, channel c has entry c % G.
        order: ``"pre"``: convolution, then aggregation; A's C axis has D entries. ``"post"``: aggregation, then
            convolution (pyskl's conv_pos, 2s-AGCN); A's C axis has C entries.
        side: ``"right"``: the last axes of A are source, target, x A. ``"left"``: target, source, A x (CTR-GCN, MS-G3D,
            HD-GCN).
        reduce_k: ``"sum"``: the partitions are summed. ``"keep"``: they are not, the output is (N, K * D, T, W) with
            k outside; not with a weight in ``post`` order, which sums them.
        joints: kept joints, int64 on x's device, distinct: (V',), or (N, V') for a subset of its own in each row. Rows
            and columns of A are selected, A is not renormalised (PSTL's ``A[:, R][:, :, R]``). Needs V = W.
        backend: auto, cpu, cuda, triton (up to 128 joints) or reference. cuda and triton run a SparseGraph or KVW with
            a weight and the partitions summed; the rest runs on the CPU kernels and the reference.

    Returns:
        (N, D, T, W), or (N, D, T, V') with ``joints``, contiguous (triton: channels-last where x is), in x's dtype;
        sums are kept in float32 or wider. Without a weight D = C. Under autocast x is cast to autocast's dtype;
        weight, bias and adjacency stay as they are.

    Deterministic, the same for any number of threads. Differentiable, once, in x, weight, bias and the adjacency (of a
    SparseGraph: in its values).

    Raises:
        ValueError, TypeError: an argument breaks a rule above.

    Example:
        >>> import torch
        >>> from asma_kernels import Skeleton, SparseGraph, graph_conv
        >>> graph = SparseGraph.from_dense(Skeleton.builtin("ntu25").partition("spatial"))
        >>> x = torch.ones(2, 3, 8, 25)
        >>> graph_conv(x, graph, torch.ones(3 * 16, 3)).shape
        torch.Size([2, 16, 8, 25])
        >>> refined = torch.rand(2, 16, 25, 25)  # CTR-GCN: a topology a clip and channel
        >>> graph_conv(x, refined, torch.ones(16, 3), axes="NCVW", side="left").shape
        torch.Size([2, 16, 8, 25])
    """
    op = "graph_conv"
    _check.floating(op, "x", x)
    x = _register.autocast_features(x)
    _check.one_of(op, "side", side, SIDE)
    _check.one_of(op, "reduce_k", reduce_k, REDUCE_K)
    sparse = isinstance(graph, SparseGraph)
    if sparse and axes != "KVW":
        raise ValueError(f"{op}: a SparseGraph has the axes KVW, got axes={axes!r}")
    if axes != "KVW" or weight is None or reduce_k == "keep":
        dense = graph.to_dense() if isinstance(graph, SparseGraph) else graph
        arguments = dense_arguments_of(op, x, dense, axes, weight, bias, order, side, reduce_k, joints)
        chosen = choose("graph_conv_dense", backend, x.device)
        if chosen == "reference":
            return dense_reference.graph_conv_dense(*arguments)[0]
        out: torch.Tensor = torch.ops.asma.graph_conv_dense(*arguments)[0]
    else:
        if side == "left":
            graph = turned(op, graph)
        arguments = arguments_of(op, x, graph, weight, bias, order, joints)
        chosen = choose(op, backend, x.device)
        run = reference.graph_conv if chosen == "reference" else ops_of(chosen).graph_conv
        out = run(*arguments)
    return out


def turned(op: str, graph: torch.Tensor | SparseGraph) -> torch.Tensor | SparseGraph:
    """The graph of ``side="left"`` as one of the right side."""
    if isinstance(graph, SparseGraph):
        K, V, W = graph.shape
        return SparseGraph(graph.values, graph.edges[[0, 2, 1]], (K, W, V))
    _check.dim(op, "a dense graph", graph, "K, V, W")
    return graph.mT.contiguous()


def arguments_of(
    op: str,
    x: torch.Tensor,
    graph: torch.Tensor | SparseGraph,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    order: str,
    joints: torch.Tensor | None,
) -> tuple[Any, ...]:
    """What ``torch.ops.asma.graph_conv`` takes, checked in the name of ``op``."""
    _check.dim(op, "x", x, "N, C, T, V")
    _check.floating(op, "x", x)
    _check.one_of(op, "order", order, ORDER)
    if isinstance(graph, SparseGraph):
        values, edges, (K, V, W) = graph
    else:
        _check.dim(op, "a dense graph", graph, "K, V, W")
        values, edges, (K, V, W) = graph, None, graph.shape
    _check.number_as(op, "graph", values, x)
    post = order == "post"
    matrix = convolution(op, x, weight, bias, K, post, keep=False)[0]
    J = x.shape[3]
    if joints is None:
        if J != V:
            raise ValueError(f"{op}: x has {J} joints, the graph {V}; name the kept ones with joints=")
    else:
        kept_joints(op, x, V, W, joints)
        joints = joints.contiguous()
    return x, values, edges, K, V, W, matrix, bias, post, joints


def _fake(
    x: torch.Tensor,
    values: torch.Tensor,
    edges: torch.Tensor | None,
    K: int,
    V: int,
    W: int,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    post: bool,
    joints: torch.Tensor | None,
) -> torch.Tensor:
    N, _, T, J = x.shape
    return x.new_empty((N, weight.shape[0] if post else weight.shape[0] // K, T, W if joints is None else J))


def _save(ctx: Any, inputs: Any, output: Any) -> None:
    x, values, edges, K, V, W, weight, bias, post, joints = inputs
    ctx.sizes, ctx.post = (K, V, W), post
    ctx.save_for_backward(x, values, edges, weight, bias, joints)


def _backward_of(ops: Any) -> Any:
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        x, values, edges, weight, bias, joints = ctx.saved_tensors
        need = ctx.needs_input_grad
        needs = (need[0], need[1], need[6], bias is not None and need[7])
        # Autograd hands over gradients in the output's dtype, and that is x's.
        gradients = ops.graph_conv_backward(grad, x, values, edges, *ctx.sizes, weight, bias, ctx.post, joints, *needs)
        grad_x, grad_values, grad_weight, grad_bias = (g if n else None for g, n in zip(gradients, needs, strict=True))
        return grad_x, grad_values, None, None, None, None, grad_weight, grad_bias, None, None

    return backward


def _fake_backward(
    grad: torch.Tensor,
    x: torch.Tensor,
    values: torch.Tensor,
    edges: torch.Tensor | None,
    K: int,
    V: int,
    W: int,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    post: bool,
    joints: torch.Tensor | None,
    for_x: bool,
    for_values: bool,
    for_weight: bool,
    for_bias: bool,
) -> tuple[torch.Tensor, ...]:
    shapes = (x, values, weight, bias if bias is not None else weight[:, 0])
    needs = (for_x, for_values, for_weight, for_bias and bias is not None)
    return tuple(t.new_empty(t.shape if need else (0,)) for t, need in zip(shapes, needs, strict=True))


def _reference_backward(
    grad: torch.Tensor,
    x: torch.Tensor,
    values: torch.Tensor,
    edges: torch.Tensor | None,
    K: int,
    V: int,
    W: int,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    post: bool,
    joints: torch.Tensor | None,
    *needs: bool,
) -> tuple[torch.Tensor, ...]:
    given = {"x": x, "values": values, "weight": weight}
    if bias is not None:
        given["bias"] = bias
    asked = zip(("x", "values", "weight", "bias"), needs, strict=True)
    wanted = [name for name, need in asked if need and name in given]

    def forward(*leaves: torch.Tensor) -> torch.Tensor:
        now = given | dict(zip(wanted, leaves, strict=True))
        rest = (K, V, W, now["weight"], now.get("bias"), post, joints)
        return reference.graph_conv(now["x"], now["values"], edges, *rest)

    gradients = {name: tensor.new_empty(0) for name, tensor in {"bias": weight, **given}.items()}
    if wanted:
        found = _register.gradient(forward, grad, *[given[name] for name in wanted])
        gradients.update(zip(wanted, found if len(wanted) > 1 else (found,), strict=True))
    return tuple(gradients[name] for name in ("x", "values", "weight", "bias"))


def _as_x(x: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """The Triton kernels write channels-last where x is."""
    if features.dim() != 4 or x.shape[1] <= 1 or x.stride(1) != 1:
        return features
    return torch.empty(features.shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def _fake_triton(x: torch.Tensor, *arguments: Any) -> torch.Tensor:
    return _as_x(x, _fake(x, *arguments))


def _fake_triton_backward(grad: torch.Tensor, x: torch.Tensor, *arguments: Any) -> tuple[torch.Tensor, ...]:
    grad_x, *others = _fake_backward(grad, x, *arguments)
    return _as_x(x, grad_x), *others


_register.fake("graph_conv", _fake)
_register.fake("graph_conv_backward", _fake_backward)
_register.autograd("graph_conv", _backward_of(torch.ops.asma), _save)
_register.no_double_backward("graph_conv")
_register.fallback("graph_conv", reference.graph_conv)
_register.fallback("graph_conv_backward", _reference_backward)
_register.autocast("graph_conv", "first")
_register.triton("graph_conv", _fake_triton)
_register.triton("graph_conv_backward", _fake_triton_backward)
_register.autograd("graph_conv", _backward_of(torch.ops.asma_triton), _save, "asma_triton")
_register.no_double_backward("graph_conv", "asma_triton")
