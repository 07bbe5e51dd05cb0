"""PSTL's encoder and training step (arXiv 2302.09018) as it writes them in eager PyTorch: our own transcription.

They work on the parameters of our encoder, so that both sides start from the same numbers.
"""

from __future__ import annotations

import random

import torch
from torch import nn

from asma.models import Encoder

from . import peers


def feature(encoder: Encoder, x: torch.Tensor, kept: list[int] | None = None) -> torch.Tensor:
    """Clips (N, C, T, V, M) -> (N, D): convolution, einsum with the dense adjacency, norm after norm."""
    N, C, T, V, M = x.shape
    x = x.permute(0, 4, 3, 1, 2).contiguous().view(N * M, V * C, T)
    x = encoder.data_bn(x).view(N, M, V, C, T).permute(0, 1, 3, 4, 2).contiguous().view(N * M, C, T, V)
    A = encoder.A
    if kept is not None:
        x, A = x[:, :, :, kept], A[:, kept][:, :, kept]
    for block, importance in zip(encoder.st_gcn_networks, encoder.edge_importance, strict=True):
        own = importance if kept is None else importance[:, kept][:, :, kept]
        residual = 0 if block.residual is None else block.residual(x)
        hidden = peers.graph_conv(x, block.gcn.conv.weight, block.gcn.conv.bias, A, own)
        x = block.relu(block.tcn(hidden) + residual)
    return x.mean((2, 3)).view(N, M, -1).mean(1)


def kept_joints(k: int) -> list[int]:
    """PSTL's spatial mask: one draw for the batch, weighted by degree."""
    tokens = [joint for joint, degree in enumerate(peers.DEGREES) for _ in range(degree)]
    gone = set(random.sample(tokens, k))
    return [joint for joint in range(len(peers.DEGREES)) if joint not in gone]


def step(clips: torch.Tensor, encoder: Encoder, projector: nn.Module, optimiser: torch.optim.Optimizer) -> torch.Tensor:
    """Three views, three features, two losses by the D x D matrix, Adam."""
    T = clips.shape[2]
    anchor, spatial, temporal = (peers.view(clips, *peers.random_view(T)) for _ in range(3))
    temporal = peers.masked_frames(temporal, T // 5, peers.random_places(T, T // 5))
    z = projector(feature(encoder, anchor))
    z_spatial = projector(feature(encoder, spatial, kept_joints(8)))
    z_temporal = projector(feature(encoder, temporal))
    loss: torch.Tensor = peers.barlow_twins(z, z_temporal) + peers.barlow_twins(z, z_spatial)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.detach()
