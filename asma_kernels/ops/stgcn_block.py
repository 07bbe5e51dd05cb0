"""A block of ST-GCN in one op: graph convolution, convolution over frames, batch norms, dropout, residual."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from .. import _check, _register
from .._dispatch import choose, ops_of
from ..graph import SparseGraph
from ..reference import stgcn_block as reference
from .graph_conv import arguments_of

Affine = tuple[torch.Tensor, torch.Tensor | None]
"""Weight and bias of a convolution."""
Norm = tuple[torch.Tensor, torch.Tensor]
"""Weight and bias of a batch norm, (D,) each."""


class BlockOutput(NamedTuple):
    """What :func:`stgcn_block` returns."""

    out: torch.Tensor
    mean: torch.Tensor
    variance: torch.Tensor


def stgcn_block(
    x: torch.Tensor,
    graph: torch.Tensor | SparseGraph,
    gcn: Affine,
    norm1: Norm,
    conv: Affine,
    norm2: Norm,
    *,
    shortcut: Affine | None = None,
    norm3: Norm | None = None,
    identity: bool = False,
    joints: torch.Tensor | None = None,
    stride: int = 1,
    dropout: float = 0.0,
    rng: torch.Tensor | None = None,
    eps: float = 1e-5,
    backend: str = "auto",
) -> BlockOutput:
    """``relu(dropout(norm2(conv(relu(norm1(graph_conv(x)))))) + residual(x))``, norms by the batch's own statistics.

    The training form of ST-GCN's block (arXiv 1801.07455; PSTL). What the norms need is summed where a convolution
    writes its result, and each norm is applied where the next convolution reads it, so neither makes a pass of its own.
    Work: ``graph_conv``'s and ``2 N T' V D D taps`` flops. :class:`asma_kernels.nn.STGCNBlock` holds the parameters and
    the running statistics.

    Args:
        x: features (N, C, T, V), float64, float32, bfloat16 or float16, any strides. Channels-last is the layout that
            the kernels are made for.
        graph, joints: as of :func:`asma_kernels.graph_conv`.
        gcn: weight (K * D, C), a trailing (1, 1) is allowed, and bias (K * D,) or None.
        norm1, norm2: weight and bias (D,) each.
        conv: weight (D, D, taps, 1) with an odd number of taps, padded by taps // 2 frames, and bias (D,) or None.
        shortcut, norm3: the residual is a 1x1 convolution, weight (D, C, 1, 1), of every ``stride``-th frame, and its
            batch norm. Needs as many joints out as in.
        identity: the residual is x itself; needs C = D, stride 1 and as many joints out as in. With neither of both
            there is no residual.
        stride: every how many frames the convolution gives one.
        dropout: share of numbers that are dropped before the residual is added, in [0, 1).
        rng: ``[seed, call]``, int64, on x's device; needed with ``dropout``. Number i of clip n, in the order
            (t, v, d), draws the word (i, n) of :func:`asma_kernels.philox`.
        eps: added to the variances, > 0.
        backend: auto, cpu, triton or reference; the folded form has no cpu kernel.

    Returns:
        out (N, D, T', V') in x's dtype, channels-last, T' = (T - 1) // stride + 1; mean and biased variance (3, D) of
        what the three norms got, float32 or wider, zeros for a third that is not there; they have no gradient. Under
        autocast x is cast to autocast's dtype, parameters stay as they are. y1 to y3, which cpu and triton keep for the
        backward, are rounded to x's dtype.

    Deterministic. Differentiable, once, in x, the graph's values and every parameter. The gradient of the bias of a
    convolution that a norm follows is zero (the norm takes its mean away), for ``conv`` and ``shortcut`` exactly.

    Raises:
        ValueError, TypeError: an argument breaks a rule above, or there are fewer than two numbers a channel.

    Example:
        >>> import torch
        >>> from asma_kernels import Skeleton, stgcn_block
        >>> adjacency = Skeleton.builtin("ntu25").partition("spatial")
        >>> norm = torch.ones(16), torch.zeros(16)
        >>> gcn, conv = (torch.randn(48, 3), None), (torch.randn(16, 16, 9, 1), None)
        >>> stgcn_block(torch.randn(2, 3, 8, 25), adjacency, gcn, norm, conv, norm, stride=2).out.shape
        torch.Size([2, 16, 4, 25])
    """
    head = _head("stgcn_block", x, graph, gcn, joints)
    D = _conv_channels("stgcn_block", x, gcn, head, conv, stride)
    if not 0 <= dropout < 1:
        raise ValueError(f"stgcn_block: dropout must be in [0, 1), got {dropout}")
    if not eps > 0:
        raise ValueError(f"stgcn_block: eps must be > 0, got {eps}")
    if dropout:
        if rng is None:
            raise ValueError(f"stgcn_block: dropout needs rng, got none with dropout = {dropout}")
        _check.rng("stgcn_block", rng)
        _check.same_device("stgcn_block", "rng", rng, x)
    residual = _residual("stgcn_block", x, head, D, stride, shortcut, identity)
    if (shortcut is None) != (norm3 is None):
        raise ValueError("stgcn_block: shortcut and norm3 go together, got one of them")
    for name, norm in (("norm1", norm1), ("norm2", norm2), ("norm3", norm3)):
        for tensor in norm or ():
            if tensor.shape != (D,):
                raise ValueError(f"stgcn_block: {name} must hold two tensors ({D},), got {tuple(tensor.shape)}")
            _parameter("stgcn_block", name, tensor, x)
    numbers = x.shape[0] * ((x.shape[2] - 1) // stride + 1) * x.shape[3]
    if numbers < 2:
        raise ValueError(f"stgcn_block: batch norms need more than one number a channel, got x {tuple(x.shape)}")
    arguments = (
        *head, *norm1, *conv, *norm2, *(shortcut or (None, None)), *(norm3 or (None, None)),
        residual, stride, dropout, rng if dropout else None, eps,
    )  # fmt: skip
    out, statistics = _run("stgcn_block", backend, arguments)[:2]
    return BlockOutput(out, statistics[:, 0].detach(), statistics[:, 1].detach())


def stgcn_block_folded(
    x: torch.Tensor,
    graph: torch.Tensor | SparseGraph,
    gcn: Affine,
    shift: torch.Tensor,
    conv: tuple[torch.Tensor, torch.Tensor],
    *,
    shortcut: tuple[torch.Tensor, torch.Tensor] | None = None,
    identity: bool = False,
    joints: torch.Tensor | None = None,
    stride: int = 1,
    backend: str = "auto",
) -> torch.Tensor:
    """``relu(conv(relu(graph_conv(x) + shift)) + residual(x))``: the block for inference, its norms folded away.

    With running mean m, variance v, ``scale = weight / sqrt(v + eps)`` and ``shift = bias - m scale`` of each norm:
    ``gcn`` is the block's, each output channel times scale 1; ``shift`` is shift 1, which cannot go into gcn's bias
    because that passes through the adjacency; ``conv`` is the block's times scale 2, its bias plus shift 2; and
    ``shortcut`` likewise with norm 3. :class:`asma_kernels.nn.STGCNBlock` does it.

    Args:
        x, graph, gcn, conv, shortcut, identity, joints, stride, backend: as of :func:`stgcn_block`, with biases.
        shift: (D,).

    Returns:
        (N, D, T', V') in x's dtype. Under autocast as :func:`stgcn_block`. Deterministic. Not for training: only
        the reference has a gradient.

    Raises:
        ValueError, TypeError: an argument breaks a rule above.

    Example:
        >>> import torch
        >>> from asma_kernels import Skeleton, stgcn_block_folded
        >>> adjacency = Skeleton.builtin("ntu25").partition("spatial")
        >>> gcn, conv = (torch.randn(48, 3), None), (torch.randn(16, 16, 9, 1), torch.zeros(16))
        >>> stgcn_block_folded(torch.randn(2, 3, 8, 25), adjacency, gcn, torch.zeros(16), conv).shape
        torch.Size([2, 16, 8, 25])
    """
    head = _head("stgcn_block_folded", x, graph, gcn, joints)
    D = _conv_channels("stgcn_block_folded", x, gcn, head, conv, stride)
    residual = _residual("stgcn_block_folded", x, head, D, stride, shortcut, identity)
    if shift.shape != (D,):
        raise ValueError(f"stgcn_block_folded: shift must be ({D},), got {tuple(shift.shape)}")
    _parameter("stgcn_block_folded", "shift", shift, x)
    arguments = (*head, shift, *conv, *(shortcut or (None, None)), residual, stride)
    out: torch.Tensor = _run("stgcn_block_folded", backend, arguments)
    return out


def _run(op: str, backend: str, arguments: tuple[Any, ...]) -> Any:
    x, *others = arguments
    chosen = choose(op, backend, x.device)
    return getattr(reference if chosen == "reference" else ops_of(chosen), op)(_register.autocast_features(x), *others)


def _head(
    op: str, x: torch.Tensor, graph: torch.Tensor | SparseGraph, gcn: Affine, joints: torch.Tensor | None
) -> tuple[Any, ...]:
    """x, values, edges, K, V, W, joints, weight and bias, checked."""
    x, values, edges, K, V, W, weight, bias, _, joints = arguments_of(op, x, graph, *gcn, "pre", joints)
    return x, values, edges, K, V, W, joints, weight, bias


def _conv_channels(op: str, x: torch.Tensor, gcn: Affine, head: tuple[Any, ...], conv: Affine, stride: int) -> int:
    """D, with the convolution over frames checked."""
    D = int(gcn[0].shape[0]) // int(head[3])
    weight, bias = conv
    if weight.dim() != 4 or weight.shape[:2] != (D, D) or weight.shape[3] != 1 or weight.shape[2] % 2 == 0:
        raise ValueError(f"{op}: conv must be ({D}, {D}, taps, 1) with odd taps, got {tuple(weight.shape)}")
    _parameter(op, "conv", weight, x)
    if bias is not None:
        if bias.shape != (D,):
            raise ValueError(f"{op}: conv's bias must be ({D},), got {tuple(bias.shape)}")
        _parameter(op, "conv's bias", bias, x)
    if stride < 1:
        raise ValueError(f"{op}: stride must be >= 1, got {stride}")
    return D


def _residual(
    op: str, x: torch.Tensor, head: tuple[Any, ...], D: int, stride: int, shortcut: Affine | None, identity: bool
) -> str:
    """The name of the residual, checked."""
    V, W, joints = head[4:7]
    if shortcut is None and not identity:
        return "none"
    if shortcut is not None and identity:
        raise ValueError(f"{op}: the residual is a shortcut or the identity, got both")
    if joints is None and V != W:
        raise ValueError(f"{op}: a residual needs as many joints out as in, got V = {V}, W = {W}")
    if shortcut is None:
        if x.shape[1] != D or stride != 1:
            raise ValueError(f"{op}: identity needs C = D and stride 1, got {x.shape[1]}, {D} and {stride}")
        return "identity"
    if shortcut[0].shape != (D, x.shape[1], 1, 1):
        raise ValueError(f"{op}: shortcut must be ({D}, {x.shape[1]}, 1, 1), got {tuple(shortcut[0].shape)}")
    if shortcut[1] is not None and shortcut[1].shape != (D,):
        raise ValueError(f"{op}: shortcut's bias must be ({D},), got {tuple(shortcut[1].shape)}")
    for tensor in shortcut:
        if tensor is not None:
            _parameter(op, "shortcut", tensor, x)
    return "conv"


def _parameter(op: str, name: str, tensor: torch.Tensor, x: torch.Tensor) -> None:
    _check.same_device(op, name, tensor, x)
    allowed = {x.dtype} if x.dtype == torch.float64 else {x.dtype, torch.float32}
    if tensor.dtype not in allowed:
        raise TypeError(f"{op}: {name} must be {' or '.join(sorted(map(str, allowed)))}, got {tensor.dtype}")


PARAMETERS = (1, *range(7, 19))
"""Places of the graph's values and the parameters among the op's arguments; x is at 0."""
OUTPUTS = 6


def _fake(x: torch.Tensor, *arguments: Any) -> tuple[torch.Tensor, ...]:
    *outputs, bits = _fake_triton(x, *arguments)
    dropout, rng = arguments[20:22]
    if x.device.type == "cpu" and rng is not None and round(dropout * 2**32):
        # Where dropout kept a number, in bits, whole bytes for each clip.
        N, D, T, J = outputs[0].shape
        bits = x.new_empty(N * ((D * T * J + 7) // 8), dtype=torch.uint8)
    return (*outputs, bits)


def _fake_triton(x: torch.Tensor, *arguments: Any) -> tuple[torch.Tensor, ...]:
    K, W, joints, gcn_weight, residual, stride = (arguments[place] for place in (2, 4, 5, 6, 18, 19))
    D, J, T = gcn_weight.shape[0] // K, W if joints is None else x.shape[3], x.shape[2]
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    y1, y2 = _features(x, D, T, J), _features(x, D, (T - 1) // stride + 1, J)
    y3 = torch.empty_like(y2) if residual == "conv" else x.new_empty(0)
    bits = x.new_empty(0, dtype=torch.uint8)
    return torch.empty_like(y2), x.new_empty((3, 5, D), dtype=wide), y1, y2, y3, bits


def _features(x: torch.Tensor, D: int, T: int, J: int) -> torch.Tensor:
    shape = (x.shape[0], D, T, J)
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def _fake_folded(x: torch.Tensor, *arguments: Any) -> torch.Tensor:
    K, W, joints, gcn_weight, stride = (arguments[place] for place in (2, 4, 5, 6, 14))
    J = W if joints is None else x.shape[3]
    return x.new_empty((x.shape[0], gcn_weight.shape[0] // K, (x.shape[2] - 1) // stride + 1, J))


def _fake_folded_channels_last(x: torch.Tensor, *arguments: Any) -> torch.Tensor:
    """The Triton kernel writes features so."""
    return _fake_folded(x, *arguments).contiguous(memory_format=torch.channels_last)


def _save(ctx: Any, inputs: Any, output: Any) -> None:
    out, statistics, *ys = output
    ctx.mark_non_differentiable(statistics, *ys)
    ctx.plain = {place: value for place, value in enumerate(inputs) if not isinstance(value, torch.Tensor)}
    ctx.number = len(inputs)
    ctx.save_for_backward(*(value for value in inputs if isinstance(value, torch.Tensor)), *output)


def _backward_of(ops: Any) -> Any:
    def backward(ctx: Any, grad: torch.Tensor, *rest: Any) -> Any:
        saved = ctx.saved_tensors  # once: recomputation refuses a second look
        outputs, given = saved[-OUTPUTS:], iter(saved[:-OUTPUTS])
        inputs = [ctx.plain[place] if place in ctx.plain else next(given) for place in range(ctx.number)]
        found = ops.stgcn_block_backward(grad, *outputs, *inputs)
        gradients: list[torch.Tensor | None] = [None] * ctx.number
        for place, gradient in zip((0, *PARAMETERS), found, strict=True):
            if ctx.needs_input_grad[place]:
                gradients[place] = gradient
        return tuple(gradients)

    return backward


def _fake_backward(
    grad: torch.Tensor,
    out: torch.Tensor,
    statistics: torch.Tensor,
    y1: torch.Tensor,
    y2: torch.Tensor,
    y3: torch.Tensor,
    kept: torch.Tensor,
    *inputs: Any,
) -> tuple[torch.Tensor, ...]:
    x, *_ = inputs
    return _features(x, *x.shape[1:]), *(
        grad.new_empty(0) if inputs[place] is None else inputs[place].new_empty(inputs[place].shape)
        for place in PARAMETERS
    )


def _reference_backward(
    grad: torch.Tensor,
    out: torch.Tensor,
    statistics: torch.Tensor,
    y1: torch.Tensor,
    y2: torch.Tensor,
    y3: torch.Tensor,
    kept: torch.Tensor,
    *inputs: Any,
) -> tuple[torch.Tensor, ...]:
    wanted = [place for place in (0, *PARAMETERS) if inputs[place] is not None]

    def forward(*leaves: torch.Tensor) -> torch.Tensor:
        given = dict(zip(wanted, leaves, strict=True))
        return reference.stgcn_block(*(given.get(place, value) for place, value in enumerate(inputs)))[0]

    found = dict(zip(wanted, _register.gradient(forward, grad, *(inputs[place] for place in wanted)), strict=True))
    found[0] = found[0].contiguous(memory_format=torch.channels_last)
    return tuple(found.get(place, grad.new_empty(0)) for place in (0, *PARAMETERS))


_register.fake("stgcn_block", _fake)
_register.fake("stgcn_block_backward", _fake_backward)
_register.fake("stgcn_block_folded", _fake_folded)
_register.autograd("stgcn_block", _backward_of(torch.ops.asma), _save)
_register.no_double_backward("stgcn_block")
_register.fallback("stgcn_block", reference.stgcn_block)
_register.fallback("stgcn_block_backward", _reference_backward)
_register.fallback("stgcn_block_folded", reference.stgcn_block_folded)
_register.triton("stgcn_block", _fake_triton)
_register.triton("stgcn_block_backward", _fake_backward)
_register.triton("stgcn_block_folded", _fake_folded_channels_last, file="stgcn_block")
_register.autograd("stgcn_block", _backward_of(torch.ops.asma_triton), _save, "asma_triton")
_register.no_double_backward("stgcn_block", "asma_triton")
for _namespace in ("asma", "asma_triton"):
    _register.no_gradient(
        "stgcn_block_folded", "stgcn_block_folded: it is for inference and has no gradient; use stgcn_block", _namespace
    )
