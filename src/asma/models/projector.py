"""The projector between an encoder's feature and the Barlow Twins loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..config import ProjectorConfig


def projector(features: int, config: ProjectorConfig) -> Projector:
    """Linear maps D -> P -> ... -> P without bias, batch norm and ReLU between them (Barlow Twins, arXiv 2103.03230).

    Parameter names are those of PSTL's ``projector``.

    >>> [tuple(weight.shape) for weight in projector(8, ProjectorConfig(width=16, layers=2)).parameters()]
    [(16, 8), (16,), (16,), (16, 16)]
    """
    layers: list[nn.Module] = [nn.Linear(features, config.width, bias=False)]
    for _ in range(config.layers - 1):
        layers += [nn.BatchNorm1d(config.width), nn.ReLU(inplace=True)]
        layers += [nn.Linear(config.width, config.width, bias=False)]
    return Projector(*layers)


class Projector(nn.Sequential):
    """Layers that several views pass."""

    def of_views(self, views: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Each view (N, D) -> (N, P) as if projected by itself, one after the other.

        The norms take each view's own statistics. The linear maps take all views at once: a large weight is read once,
        and has one gradient in place of a sum of several.
        """
        rows = [len(view) for view in views]
        x = torch.cat(list(views))
        for layer in self:
            x = torch.cat([layer(part) for part in x.split(rows)]) if isinstance(layer, _BatchNorm) else layer(x)
        return x.split(rows)
