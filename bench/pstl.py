"""PSTL's encoder and training step (arXiv 2302.09018) as it writes them in eager PyTorch: our own transcription.

They work on the parameters of our encoder, so that both sides start from the same numbers.
"""

from __future__ import annotations

import random
from typing import NamedTuple

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


class Drawn(NamedTuple):
    """The random numbers of a step, drawn once for the batch."""

    anchor: tuple
    spatial: tuple
    temporal: tuple
    joints: list[int]
    """Those that the spatial view keeps."""
    places: list[int]
    """Those of the frames that are kept by motion that the temporal view keeps."""


def draw(T: int) -> Drawn:
    anchor, spatial, temporal = (peers.random_view(T) for _ in range(3))
    return Drawn(anchor, spatial, temporal, kept_joints(8), peers.random_places(T, T // 5))


def projections(clips: torch.Tensor, drawn: Drawn, encoder: Encoder, projector: nn.Module) -> list[torch.Tensor]:
    """Of the three views: anchor, spatial, temporal."""
    anchor, spatial, temporal = (peers.view(clips, *view) for view in drawn[:3])
    temporal = peers.masked_frames(temporal, clips.shape[2] // 5, drawn.places)
    features = feature(encoder, anchor), feature(encoder, spatial, drawn.joints), feature(encoder, temporal)
    return [projector(each) for each in features]


def loss(projected: list[torch.Tensor], lambd: float = 2e-4) -> torch.Tensor:
    """Two losses by the D x D matrix."""
    anchor, spatial, temporal = projected
    return peers.barlow_twins(anchor, temporal, lambd) + peers.barlow_twins(anchor, spatial, lambd)


def learn(loss: torch.Tensor, optimiser: torch.optim.Optimizer) -> None:
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


def step(clips: torch.Tensor, encoder: Encoder, projector: nn.Module, optimiser: torch.optim.Optimizer) -> torch.Tensor:
    """A training step, by Adam."""
    total = loss(projections(clips, draw(clips.shape[2]), encoder, projector))
    learn(total, optimiser)
    return total.detach()
