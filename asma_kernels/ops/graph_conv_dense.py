"""The op behind :func:`asma_kernels.graph_conv` for adjacencies other than a SparseGraph or (K, V, W)."""

from __future__ import annotations

from typing import Any

import torch

from .. import _check, _register
from ..reference import graph_conv_dense as reference

ORDER = ("pre", "post")
AXES = "NKCTVW"


def arguments_of(
    op: str,
    x: torch.Tensor,
    graph: torch.Tensor,
    axes: str,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    order: str,
    side: str,
    reduce_k: str,
    joints: torch.Tensor | None,
) -> tuple[Any, ...]:
    """What ``torch.ops.asma.graph_conv_dense`` takes, checked in the name of ``op``."""
    _check.dim(op, "x", x, "N, C, T, V")
    _check.one_of(op, "order", order, ORDER)
    if axes != "".join(letter for letter in AXES if letter in axes) or not axes.endswith("VW"):
        raise ValueError(f"{op}: axes must be letters of {AXES} in this order, V and W among them, got {axes!r}")
    _check.dim(op, "a dense graph", graph, ", ".join(axes))
    _check.number_as(op, "graph", graph, x)
    if side == "left":
        graph = graph.mT
    for place, letter in enumerate(AXES):
        graph = graph if letter in axes else graph.unsqueeze(place)
    post = order == "post"
    if graph.shape[1] == 0:
        raise ValueError(f"{op}: the graph must have at least one partition, got K = 0")
    weight, C, D = convolution(op, x, weight, bias, graph.shape[1], post, reduce_k == "keep")
    _, _, T, J = x.shape
    for axis, size in (("N", x.shape[0]), ("C", C if post else D), ("T", T)):
        found = graph.shape[AXES.index(axis)]
        groups = axis == "C" and found > 0 and size % found == 0
        if found not in (1, size) and not groups:
            divisor = ", a divisor of it" if axis == "C" else ""
            raise ValueError(f"{op}: axis {axis} of the graph must have {size} entries{divisor} or 1, got {found}")
    V, W = graph.shape[4:]
    if joints is None:
        if J != V:
            other = "right" if side == "left" else "left"
            hint = f"or is it one of side={other!r}?" if J == W else "name the kept ones with joints="
            raise ValueError(f"{op}: x has {J} joints, the graph {V}; {hint}")
    else:
        kept_joints(op, x, V, W, joints)
        joints = joints.contiguous()
    keep = reduce_k == "keep"
    # Where h is no larger than the output it is kept for the adjacency's gradient, which else makes it again.
    with_hidden = weight is not None and not post and graph.shape[2] > 1 and (keep or graph.shape[1] == 1)
    with_hidden = with_hidden and torch.is_grad_enabled() and graph.requires_grad
    return x, graph, weight, bias, post, keep, joints, with_hidden


def convolution(
    op: str,
    x: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    K: int,
    post: bool,
    keep: bool,
) -> tuple[torch.Tensor | None, int, int]:
    """The weight as a matrix, channels in and channels out."""
    channels = x.shape[1]
    if weight is None:
        if bias is not None:
            raise ValueError(f"{op}: bias needs a weight, got none")
        if not post and channels % K:
            raise ValueError(f"{op}: x must be (N, K * C, T, V) with K = {K}, got {channels} channels")
        size = channels if post else channels // K
        return None, size, size
    if post and keep:
        raise ValueError(f"{op}: reduce_k='keep' with order='post' needs weight=None, got a weight, which sums over k")
    if weight.dim() == 4 and weight.shape[2:] == (1, 1):
        weight = weight.flatten(1)
    _check.dim(op, "weight", weight, "rows, columns")
    _check.number_as(op, "weight", weight, x)
    rows, columns = weight.shape
    if post and columns != K * channels:
        raise ValueError(f"{op}: weight must be (D, K * C) = (D, {K * channels}), got {tuple(weight.shape)}")
    if not post and (columns != channels or K == 0 or rows % K):
        raise ValueError(f"{op}: weight must be (K * D, C) with K = {K}, C = {channels}, got {tuple(weight.shape)}")
    if bias is not None:
        _check.number_as(op, "bias", bias, x)
        if tuple(bias.shape) != (rows,):
            raise ValueError(f"{op}: bias must be ({rows},), got {tuple(bias.shape)}")
    return weight, channels, rows if post else rows // K


def kept_joints(op: str, x: torch.Tensor, V: int, W: int, joints: torch.Tensor) -> None:
    """Whether ``joints`` can name x's joints among those of a graph (V, W)."""
    N, _, _, J = x.shape
    _check.dtype(op, "joints", joints, torch.int64)
    _check.same_device(op, "joints", joints, x)
    if V != W:
        raise ValueError(f"{op}: joints need a square graph, got V = {V}, W = {W}")
    if tuple(joints.shape) not in ((J,), (N, J)):
        raise ValueError(f"{op}: joints must be ({J},) or ({N}, {J}), as x's axes, got {tuple(joints.shape)}")


def _fake(
    x: torch.Tensor,
    graph: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    post: bool,
    keep: bool,
    joints: torch.Tensor | None,
    with_hidden: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    N, channels, T, J = x.shape
    K = graph.shape[1]
    if weight is not None:
        channels = weight.shape[0] if post or keep else weight.shape[0] // K
    elif post:
        channels = channels * K if keep else channels
    elif not keep:
        channels = channels // K
    out = x.new_empty((N, channels, T, graph.shape[5] if joints is None else J))
    return out, x.new_empty((N, weight.shape[0], T, J) if weight is not None and with_hidden else (0,))


def _save(ctx: Any, inputs: Any, output: Any) -> None:
    x, graph, weight, bias, ctx.post, ctx.keep, joints, with_hidden = inputs
    hidden = output[1]
    ctx.mark_non_differentiable(hidden)
    ctx.set_materialize_grads(False)  # no zeros as large as h for the gradient that it has not
    ctx.save_for_backward(x, graph, weight, bias, hidden if with_hidden else None, joints)


def _backward(ctx: Any, grad: torch.Tensor | None, _: None) -> Any:
    if grad is None:
        return (None,) * 8
    x, graph, weight, bias, hidden, joints = ctx.saved_tensors
    needs = ctx.needs_input_grad[:4]
    # Autograd hands over gradients in the output's dtype, and that is x's.
    gradients = torch.ops.asma.graph_conv_dense_backward(
        grad, x, graph, weight, bias, hidden, ctx.post, ctx.keep, joints, *needs
    )
    return (*(g if n else None for g, n in zip(gradients, needs, strict=True)), None, None, None, None)


def _fake_backward(
    grad: torch.Tensor,
    x: torch.Tensor,
    graph: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    hidden: torch.Tensor | None,
    post: bool,
    keep: bool,
    joints: torch.Tensor | None,
    *needs: bool,
) -> tuple[torch.Tensor, ...]:
    given = zip((x, graph, weight, bias), needs, strict=True)
    return tuple(x.new_empty(0) if t is None or not need else t.new_empty(t.shape) for t, need in given)


def _reference_backward(
    grad: torch.Tensor,
    x: torch.Tensor,
    graph: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    hidden: torch.Tensor | None,
    post: bool,
    keep: bool,
    joints: torch.Tensor | None,
    *needs: bool,
) -> tuple[torch.Tensor, ...]:
    given = (x, graph, weight, bias)
    asked = [place for place, need in enumerate(needs) if need and given[place] is not None]

    def forward(*leaves: torch.Tensor) -> torch.Tensor:
        now = dict(enumerate(given)) | dict(zip(asked, leaves, strict=True))
        rest = (now[2], now[3], post, keep, joints, False)
        return reference.graph_conv_dense(now[0], now[1], *rest)[0]  # type: ignore[arg-type]

    gradients = [x.new_empty(0) for _ in given]
    if asked:
        found = _register.gradient(forward, grad, *[tensor for place in asked if (tensor := given[place]) is not None])
        for place, gradient in zip(asked, found if len(asked) > 1 else (found,), strict=True):
            gradients[place] = gradient
    return tuple(gradients)


_register.fake("graph_conv_dense", _fake)
_register.fake("graph_conv_dense_backward", _fake_backward)
_register.autograd("graph_conv_dense", _backward, _save)
_register.no_double_backward("graph_conv_dense")
_register.fallback("graph_conv_dense", reference.graph_conv_dense)
_register.fallback("graph_conv_dense_backward", _reference_backward)
_register.autocast("graph_conv_dense", "first")
