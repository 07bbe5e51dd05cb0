"""The three views of a batch that an encoder is trained by."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

import asma_kernels
from asma_kernels import Skeleton, draws
from asma_kernels.rng import Draws

from . import parallel
from .config import MaskConfig, ViewConfig

OTHER_AXES = 1.0
"""Degrees, at most, about the axes that are not the drawn one (PSTL)."""


class Views(NamedTuple):
    """Three augmentations of the same N clips, two of them with something missing."""

    anchor: torch.Tensor
    """(N, C, T, V, M): nothing is missing."""
    spatial: torch.Tensor
    """(N, C, T, V, M): all joints, for the encoder to drop those that are not in ``joints`` after its first norm."""
    joints: torch.Tensor
    """(V') or (N, V') int64: the joints that the spatial view keeps."""
    temporal: torch.Tensor
    """(N, C, T', V, M): the frames that are kept."""


class ThreeViews:
    """Makes the views on the clips' device, without a copy to or from the host.

    Each view draws its own crop, shear, rotation and flip. The temporal view loses frames by the motion energy of that
    augmented view, as in PSTL. One exception to "no copy": with ``masks.joint_mode = "tokens"`` the number of joints
    changes from draw to draw and the host has to know it, so the host draws them.
    """

    def __init__(
        self,
        views: ViewConfig,
        masks: MaskConfig,
        skeleton: Skeleton,
        seed: int,
        device: torch.device,
        batch: int = 0,
    ) -> None:
        """``batch``: clips of the global batch, where several processes have a part of it each."""
        self.masks = masks
        self.batch = batch
        self.draws = Draws(seed, device)
        self.joint_draws = self.draws
        if masks.joint_mode == "tokens":
            # Another seed: two streams of one seed would draw the same words.
            self.joint_draws = Draws(seed ^ (1 << 62), "cpu")
        weights_of = asma_kernels.high_degree_weights if masks.degree == "high" else asma_kernels.low_degree_weights
        self.weights = weights_of(skeleton.degrees).to(self.joint_draws.state.device)
        self.augmentation = draws.Views(
            shear=views.shear,
            rotation=(views.rotation, OTHER_AXES if views.rotation else 0.0),
            crop=views.crop,
            flip=torch.tensor(skeleton.flip, device=device) if views.flip else None,
            p=views.flip,
            per_clip=views.per_clip,
        )

    def __call__(self, clips: torch.Tensor) -> Views:
        anchor, spatial, temporal = (self.augment(clips) for _ in range(3))
        return Views(anchor, spatial, self.kept_joints(clips), self.kept_frames(temporal))

    def augment(self, clips: torch.Tensor) -> torch.Tensor:
        """One augmentation of (N, C, T, V, M), of the same shape."""
        rows, own = self._rows(clips)
        drawn = self.augmentation.draw(self.draws.next(), N=rows, T=clips.shape[2])
        return asma_kernels.skeleton_view(clips, *[None if part is None else part[own] for part in drawn])

    def kept_frames(self, clips: torch.Tensor) -> torch.Tensor:
        """Clips without the frames that the temporal view loses: (N, C, T', V, M)."""
        masks, rng = self.masks, self.draws.next()
        chosen = masks.frames, masks.motion, masks.extra_frames, rng, not masks.per_clip
        rows, own = self._rows(clips)
        if rows == len(clips) or not masks.per_clip:
            return asma_kernels.frame_drop(clips, *chosen)[0]
        # Clip n draws row n of the global batch: the energies of all of it.
        energy = parallel.gather_rows(asma_kernels.motion_energy(clips), rows)
        return asma_kernels.skeleton_view(clips, frames=asma_kernels.frame_mask(energy, *chosen)[own])

    def kept_joints(self, clips: torch.Tensor) -> torch.Tensor:
        """(V') for all clips, or (N, V') where each clip has its own draw."""
        masks = self.masks
        batch, own = self._rows(clips)
        rows = batch if masks.per_clip else 1
        drawn = asma_kernels.joint_mask(
            self.weights, masks.joints, rows, self.joint_draws.next(), masks.joint_mode, shared=not masks.per_clip
        )
        if masks.per_clip:
            return drawn.kept[own]
        kept = drawn.kept[0]
        return kept[: int(drawn.count)].to(clips.device) if masks.joint_mode == "tokens" else kept

    def _rows(self, clips: torch.Tensor) -> tuple[int, slice]:
        """Clips of the global batch, and which of them these are."""
        if parallel.alone():
            return len(clips), slice(None)
        return self.batch, parallel.own_rows(self.batch)

    def state(self) -> dict[str, Any]:
        return {"draws": self.draws.state.cpu(), "joint_draws": self.joint_draws.state.cpu()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.draws.state.copy_(state["draws"])
        self.joint_draws.state.copy_(state["joint_draws"])
