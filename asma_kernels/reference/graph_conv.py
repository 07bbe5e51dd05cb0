"""Graph convolution in plain PyTorch, in its definition's order: convolution, then aggregation (or the reverse)."""

from __future__ import annotations

import torch


def graph_conv(
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
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    features, weight = x.to(wide), weight.to(wide)
    adjacency = values.to(wide)
    if edges is not None:
        adjacency = adjacency.new_zeros((K, V, W)).index_put((edges[0], edges[1], edges[2]), adjacency, accumulate=True)
    if joints is not None and joints.dim() == 1:
        adjacency = adjacency[:, joints][:, :, joints]
    elif joints is not None:  # one adjacency a row: (N, K, J, J)
        rows = adjacency[:, joints].movedim(0, 1)
        adjacency = rows.gather(3, joints[:, None, None, :].expand(rows.shape[0], K, rows.shape[2], joints.shape[1]))
    aggregate = "nkctv,nkvw->nkctw" if adjacency.dim() == 4 else "nkctv,kvw->nkctw"
    N, C, T, J = features.shape
    if post:
        together = torch.einsum(aggregate, features[:, None].expand(N, K, C, T, J), adjacency).flatten(1, 2)
        out = torch.einsum("nctw,dc->ndtw", together, weight)
        out = out if bias is None else out + bias.to(wide)[:, None, None]
    else:
        hidden = torch.einsum("nctv,dc->ndtv", features, weight)
        hidden = hidden if bias is None else hidden + bias.to(wide)[:, None, None]
        D = weight.shape[0] // K if K else 0
        out = torch.einsum(aggregate, hidden.reshape(N, K, D, T, J), adjacency).sum(1)
    return out.to(x.dtype)
