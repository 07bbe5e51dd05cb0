"""PSTL's training loop with the ops of asma_kernels and a model of one's own, as users without the wrapper write it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import asma_kernels
from asma_kernels import Skeleton, SparseGraph, draws, rng
from asma_kernels.nn import BarlowTwinsLoss, GraphConv

SKELETON = Skeleton.builtin("ntu25")
JOINTS, FRAMES, EXTRA = 8, 4, 4


class OwnModel(nn.Module):
    """Two graph convolutions and a mean; joints may be missing."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3 * 25)
        self.first, self.second = GraphConv(3, 16, kernel_size=3), GraphConv(16, 32, kernel_size=3)
        self.norms = nn.ModuleList([nn.BatchNorm2d(16), nn.BatchNorm2d(32)])
        self.importance = nn.Parameter(torch.ones(3, 25, 25))
        self.graph = SparseGraph.from_dense(SKELETON.partition("spatial"))
        self.projector = nn.Sequential(nn.Linear(32, 64, bias=False), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 64))

    def forward(self, x: torch.Tensor, joints: torch.Tensor | None = None) -> torch.Tensor:
        N, C, T, V, M = x.shape
        x = self.norm(x.permute(0, 4, 3, 1, 2).reshape(N * M, V * C, T)).view(N * M, V, C, T).permute(0, 2, 3, 1)
        x = x if joints is None else x[..., joints]
        graph = self.graph.weighted(self.importance)
        for layer, norm in zip((self.first, self.second), self.norms, strict=True):
            x = norm(layer(x, graph, joints)).relu()
        return self.projector(x.mean((2, 3)).view(N, M, -1).mean(1))


def clips_to_learn(count: int = 48) -> torch.Tensor:
    """(N, 3, T, V, M): bodies that swing one of four limbs, seen from different sides."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(1, 3, 1, 25, 1, generator=generator).expand(count, 3, 20, 25, 2).clone()
    parts = [SKELETON.parts[name] for name in ("left_arm", "right_arm", "left_leg", "right_leg")]
    swing = torch.sin(torch.linspace(0, 6.28, 20))
    for clip in range(count):
        x[clip, clip % 3, :, list(parts[clip % 4])] += (1 + clip / count) * swing[:, None, None]
    return x + 0.05 * torch.randn(x.shape, generator=generator)


def train(steps: int, seed: int = 0, autocast: bool = False) -> list[float]:
    torch.manual_seed(seed)
    clips, model, loss_of = clips_to_learn(), OwnModel(), BarlowTwinsLoss(lambd=5e-3)
    optimiser = torch.optim.Adam(model.parameters(), 5e-3)
    augment = draws.Views.of(SKELETON, shear=0.3, per_clip=True)
    stream = rng.Draws(seed)
    weights = asma_kernels.high_degree_weights(SKELETON.degrees)
    losses = []
    for _ in range(steps):
        x = clips[torch.randperm(len(clips))[:32]]
        anchor, spatial, temporal = (
            asma_kernels.skeleton_view(x, *augment.draw(stream.next(), N=32, T=20)) for _ in range(3)
        )
        _, kept_joints, _ = asma_kernels.joint_mask(weights, JOINTS, rows=1, rng=stream.next())
        energy = asma_kernels.motion_energy(temporal, "frame")
        kept_frames = asma_kernels.frame_mask(energy, FRAMES, "high", EXTRA, stream.next())
        temporal = asma_kernels.skeleton_view(temporal, frames=kept_frames)
        assert temporal.shape == (32, 3, 20 - FRAMES - EXTRA, 25, 2) and kept_joints.shape == (1, 25 - JOINTS)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            z = model(anchor)
            loss = loss_of(z, model(temporal)) + loss_of(z, model(spatial, kept_joints[0]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("autocast", [False, True])
def test_loss_falls(autocast: bool) -> None:
    losses = train(40, autocast=autocast)
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


def test_kernels_train_as_the_references_do() -> None:
    """The same draws and masks bit for bit, so the losses stay together while rounding lets them."""
    with asma_kernels.backend("reference"):
        expected = train(6)
    torch.testing.assert_close(torch.tensor(train(6)), torch.tensor(expected), rtol=2e-3, atol=1e-2)


def test_repeats_exactly_and_depends_on_the_seed() -> None:
    assert train(5) == train(5)
    assert train(5) != train(5, seed=1)


def test_all_parameters_learn() -> None:
    torch.manual_seed(0)
    model, x = OwnModel(), clips_to_learn(8)
    loss = BarlowTwinsLoss()(model(x), model(x, torch.arange(17)))
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
