"""Graph convolution over a skeleton: 1x1 convolution and aggregation over neighbours in one op."""

from __future__ import annotations

from typing import Any

import torch

from .. import _check, _register
from .._dispatch import choose, ops_of
from ..graph import SparseGraph
from ..reference import graph_conv as reference

ORDER = ("pre", "post")


def graph_conv(
    x: torch.Tensor,
    graph: torch.Tensor | SparseGraph,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    order: str = "pre",
    joints: torch.Tensor | None = None,
    backend: str = "auto",
) -> torch.Tensor:
    """``out[n, d, t, w] = sum_k sum_v A[k, v, w] * h[n, k, d, t, v]`` with h the 1x1 convolution of x (ST-GCN, arXiv
    1801.07455, equation 10; PSTL, AimCLR, pyskl).

    The K-times-wide h is never built: the nonzeros of A act on x first, then one product with the weight follows. Work
    with E nonzeros: ``2 N T (E C + W K C D)`` flops, less the partitions that no edge brings to a target; bytes of x
    and out once.

    Args:
        x: features (N, C, T, V), float64, float32, bfloat16 or float16, any strides. With ``joints`` its last axis
            holds the kept joints.
        graph: a :class:`SparseGraph` (static or importance-weighted), or a dense, possibly learned adjacency (K, V, W).
            Source v feeds target w. In x's dtype or float32.
        weight: ``order="pre"``: (K * D, C); ``order="post"``: (D, K * C); a trailing (1, 1) as of a Conv2d is allowed.
            In x's dtype or float32.
        bias: (K * D,) or, with ``post``, (D,). In ``pre`` order it passes through A: it is multiplied by A's column
            sums.
        order: ``"pre"``: convolution, then aggregation. ``"post"``: aggregation, then convolution (pyskl's conv_pos).
        joints: kept joints, int64 on x's device, distinct: (V',), or (N, V') for a subset of its own in each row. Rows
            and columns of A are selected, A is not renormalised (PSTL's ``A[:, R][:, :, R]``). Needs V = W.
        backend: auto, cpu, cuda, triton (up to 128 joints) or reference.

    Returns:
        (N, D, T, W), or (N, D, T, V') with ``joints``, contiguous (triton: channels-last where x is), in x's dtype;
        sums are kept in float32 or wider. Under autocast x is cast to autocast's dtype; weight, bias and adjacency
        stay as they are.

    Deterministic, the same for any number of threads. Differentiable, once, in x, weight, bias and the adjacency (of a
    SparseGraph: in its values).

    Raises:
        ValueError, TypeError: an argument breaks a rule above.

    Example:
        >>> import torch
        >>> from asma_kernels import Skeleton, SparseGraph, graph_conv
        >>> graph = SparseGraph.from_dense(Skeleton.builtin("ntu25").partition("spatial"))
        >>> graph_conv(torch.ones(2, 3, 8, 25), graph, torch.ones(3 * 16, 3)).shape
        torch.Size([2, 16, 8, 25])
    """
    arguments = arguments_of("graph_conv", x, graph, weight, bias, order, joints)
    chosen = choose("graph_conv", backend, x.device)
    by_hand = chosen in ("reference", "triton")  # the compiled library's op casts by itself
    if by_hand and torch.is_autocast_enabled(x.device.type) and x.dtype != torch.float64:
        arguments = (x.to(torch.get_autocast_dtype(x.device.type)), *arguments[1:])
    if chosen == "reference":
        return reference.graph_conv(*arguments)
    out: torch.Tensor = ops_of(chosen).graph_conv(*arguments)
    return out


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
    if weight.dim() == 4 and weight.shape[2:] == (1, 1):
        weight = weight.flatten(1)
    _check.dim(op, "weight", weight, "rows, columns")
    for name, tensor in (("graph", values), ("weight", weight), ("bias", bias)):
        if tensor is None:
            continue
        _check.same_device(op, name, tensor, x)
        if tensor.dtype not in (x.dtype, torch.float32) or (x.dtype == torch.float64 != tensor.dtype):
            raise TypeError(
                f"{op}: {name} must be {x.dtype}, as x"
                f"{'' if x.dtype in (torch.float32, torch.float64) else ', or float32'}, got {tensor.dtype}"
            )
    C = x.shape[1]
    post = order == "post"
    if post and weight.shape[1] != K * C:
        raise ValueError(f"{op}: weight must be (D, K * C) = (D, {K * C}), got {tuple(weight.shape)}")
    if not post and (weight.shape[1] != C or K == 0 or weight.shape[0] % K):
        raise ValueError(f"{op}: weight must be (K * D, C) with K = {K}, C = {C}, got {tuple(weight.shape)}")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"{op}: bias must be ({weight.shape[0]},), got {tuple(bias.shape)}")
    J = x.shape[3]
    if joints is None:
        if J != V:
            raise ValueError(f"{op}: x has {J} joints, the graph {V}; name the kept ones with joints=")
    else:
        _check.dtype(op, "joints", joints, torch.int64)
        _check.same_device(op, "joints", joints, x)
        if V != W:
            raise ValueError(f"{op}: joints need a square graph, got V = {V}, W = {W}")
        if tuple(joints.shape) not in ((J,), (x.shape[0], J)):
            raise ValueError(
                f"{op}: joints must be ({J},) or ({x.shape[0]}, {J}), as x's axes, got {tuple(joints.shape)}"
            )
        joints = joints.contiguous()
    return x, values, edges, K, V, W, weight, bias, post, joints


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
