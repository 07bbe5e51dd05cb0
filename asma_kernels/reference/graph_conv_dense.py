"""Graph convolution with an adjacency of any axes in plain PyTorch, in its definition's order."""

from __future__ import annotations

import torch


def graph_conv_dense(
    x: torch.Tensor,
    graph: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    post: bool,
    keep: bool,
    joints: torch.Tensor | None,
    with_hidden: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The output, and ``with_hidden`` what the 1x1 convolution made of x; graph (N or 1, K, C or 1, T or 1, V, W)."""
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    features, adjacency, K = x.to(wide), graph.to(wide), graph.shape[1]
    channels = x.shape[1] if post else (x.shape[1] if weight is None else weight.shape[0]) // K
    if adjacency.shape[2] not in (1, channels):  # channel c has entry c % G
        adjacency = adjacency.repeat(1, 1, channels // adjacency.shape[2], 1, 1, 1)
    if joints is not None:
        adjacency = _kept(adjacency, joints)
    if weight is not None and not post:
        features = _convolution(features, weight.to(wide), bias)
    hidden = features.to(x.dtype).contiguous() if with_hidden else x.new_empty(0)
    given = "nctv"
    if not post:
        features, given = features.unflatten(1, (K, features.shape[1] // K)), "nkctv"
    # Axes of size 1 are broadcast: einsum sees an adjacency without them.
    broadcast = [axis for axis in (0, 2, 3) if adjacency.shape[axis] == 1]
    axes = "".join(letter for axis, letter in enumerate("nkctvw") if axis not in broadcast)
    out = "nkctw" if keep or (post and weight is not None) else "nctw"
    result = torch.einsum(f"{given},{axes}->{out}", features, adjacency.squeeze(broadcast))
    if out == "nkctw":
        result = result.flatten(1, 2)
    if weight is not None and post:
        result = _convolution(result, weight.to(wide), bias)
    return result.to(x.dtype), hidden


def _convolution(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    out = torch.einsum("nctv,dc->ndtv", x, weight)
    return out if bias is None else out + bias.to(out.dtype)[:, None, None]


def _kept(adjacency: torch.Tensor, joints: torch.Tensor) -> torch.Tensor:
    """Rows and columns of the kept joints; of a subset a row, one adjacency a row."""
    if joints.dim() == 1:
        return adjacency.index_select(4, joints).index_select(5, joints)
    N, J = joints.shape
    _, K, C, T, V, W = adjacency.shape
    rows = joints[:, None, None, None, :, None].expand(N, K, C, T, J, W)
    columns = joints[:, None, None, None, None, :].expand(N, K, C, T, J, J)
    return adjacency.expand(N, K, C, T, V, W).gather(4, rows).gather(5, columns)
