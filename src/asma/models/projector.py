"""The projector between an encoder's feature and the Barlow Twins loss."""

from __future__ import annotations

from torch import nn

from ..config import ProjectorConfig


def projector(features: int, config: ProjectorConfig) -> nn.Sequential:
    """Linear maps D -> P -> ... -> P without bias, batch norm and ReLU between them (Barlow Twins, arXiv 2103.03230).

    Parameter names are those of PSTL's ``projector``.

    >>> [tuple(weight.shape) for weight in projector(8, ProjectorConfig(width=16, layers=2)).parameters()]
    [(16, 8), (16,), (16,), (16, 16)]
    """
    layers: list[nn.Module] = [nn.Linear(features, config.width, bias=False)]
    for _ in range(config.layers - 1):
        layers += [nn.BatchNorm1d(config.width), nn.ReLU(inplace=True)]
        layers += [nn.Linear(config.width, config.width, bias=False)]
    return nn.Sequential(*layers)
