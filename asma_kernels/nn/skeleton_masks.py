"""Masks of joints and frames of clips: PSTL's two and SCD-Net's. No draw here waits for a device."""

from __future__ import annotations

import torch

from .. import _check
from ..ops.frame_drop import frame_drop
from ..ops.joint_mask import JointMask, high_degree_weights, joint_mask
from ..ops.philox import philox
from ..ops.skeleton_view import skeleton_view
from ..skeleton import Skeleton
from ._random_mask import RandomMask


def motion_att_temp_mask(data: torch.Tensor, mask_frame: int, *, rng: torch.Tensor) -> torch.Tensor:
    """Drop each clip's ``mask_frame`` frames of most motion, then as many of the others by chance, and close the gaps:
    PSTL's motion-attention temporal mask.

    This is :func:`asma_kernels.frame_drop` with ``drop = extra = mask_frame``, which also tells the frames.

    Args:
        data: clips (N, C, T, V, M), float64, float32, bfloat16 or float16, any strides.
        mask_frame: in [0, T / 2); PSTL takes 10 of 50.
        rng: ``[seed, call]``, int64, on data's device. The frames by chance are drawn once for all clips, as in PSTL.

    Returns:
        (N, C, T - 2 mask_frame, V, M) in data's dtype.

    Deterministic, the same for any number of threads. Differentiable in data, once. Frames of equal motion: the earlier
    one stays, where PSTL leaves it open.

    Raises:
        ValueError, TypeError: as :func:`asma_kernels.frame_drop`.

    Source: PSTL (arXiv 2302.09018, section 3.2, motion-attention temporal mask).

    Example:
        >>> import torch, asma_kernels
        >>> from asma_kernels.nn import motion_att_temp_mask
        >>> motion_att_temp_mask(torch.randn(4, 3, 50, 25, 2), 10, rng=asma_kernels.rng.seed_tensor(7)).shape
        torch.Size([4, 3, 30, 25, 2])
    """
    return frame_drop(data, mask_frame, "high", mask_frame, rng)[0]


class CentralSpatialMask(RandomMask):
    """PSTL's central spatial mask: joints of high degree are masked more often.

    The weights and ``[seed, call]`` are buffers: move the module to the clips' device once.

    Args:
        skeleton: whose degrees count; PSTL's is ``ntu25``.
        mask_joint: k, joints to mask (mode ``tokens``: tokens), in [0, V]; PSTL's is 8.
        mode: of :func:`asma_kernels.joint_mask`; ``tokens`` is PSTL's, ``fixed`` masks exactly k joints, so that shapes
            are the same in every step.
        seed: of the draw.

    Deterministic by seed and number of the call, the same on every backend. No gradient.

    Raises:
        ValueError: as :func:`asma_kernels.joint_mask`, at the call.

    Source: PSTL (arXiv 2302.09018, section 3.2, central spatial mask).

    Example:
        >>> from asma_kernels import Skeleton
        >>> from asma_kernels.nn import CentralSpatialMask
        >>> masker = CentralSpatialMask(Skeleton.builtin("ntu25"), 8, mode="fixed")
        >>> masker().kept.shape, masker(rows=4, shared=False).mask.shape
        (torch.Size([1, 17]), torch.Size([4, 25]))
    """

    weights: torch.Tensor

    def __init__(self, skeleton: Skeleton, mask_joint: int = 8, mode: str = "tokens", seed: int = 0) -> None:
        super().__init__(seed)
        self.register_buffer("weights", high_degree_weights(skeleton.degrees), persistent=False)
        self.mask_joint = mask_joint
        self.mode = mode

    def forward(self, rows: int = 1, shared: bool = True) -> JointMask:
        """:class:`asma_kernels.JointMask` of ``rows`` rows: one draw for all of them, or one each.

        PSTL's list of joints is ``mask[0].nonzero()``; graph_conv's ``joints`` is ``kept[0]`` in mode ``fixed``.
        """
        return joint_mask(self.weights, self.mask_joint, rows, self.next(), self.mode, shared)

    def extra_repr(self) -> str:
        return f"mask_joint={self.mask_joint}, mode={self.mode!r}"


class NeighbourhoodMask(RandomMask):
    """SCD-Net's spatial mask: a few joints are drawn, and the joints that most of them reach in two steps become zero.

    With A the graph with self loops, joint v scores ``sum_s (A A)[s, v]`` over the drawn joints s, which may repeat;
    the ``masked`` joints of the highest score are set to zero in all frames and persons. Each clip draws for itself.
    Among equals the higher joint is masked; the original leaves that to an unstable sort.

    Args:
        skeleton: the graph; SCD-Net's is ``ntu25``.
        drawn: joints drawn, at least 1.
        masked: joints masked, in [0, V].
        seed: of the draw.

    Deterministic by seed and number of the call, the same on every backend: clip n of any batch gets what clip n of any
    other batch would get. Differentiable in x, once.

    Raises:
        ValueError: an argument breaks a rule above; at the call, clips of another number of joints or device.

    Source: SCD-Net (arXiv 2309.05834, masking with structural constraints).

    Example:
        >>> import torch
        >>> from asma_kernels import Skeleton
        >>> from asma_kernels.nn import NeighbourhoodMask
        >>> masked = NeighbourhoodMask(Skeleton.builtin("ntu25"))(torch.ones(4, 3, 64, 25, 2))
        >>> (masked == 0).all(1).sum(2)[:, 0, 0].tolist()
        [8, 8, 8, 8]
    """

    reach: torch.Tensor

    def __init__(self, skeleton: Skeleton, drawn: int = 5, masked: int = 8, seed: int = 0) -> None:
        super().__init__(seed)
        V = skeleton.num_joints
        if drawn < 1:
            raise ValueError(f"NeighbourhoodMask: drawn must be at least 1, got {drawn}")
        if not 0 <= masked <= V:
            raise ValueError(f"NeighbourhoodMask: masked must be in [0, V], got {masked} with V = {V}")
        step = torch.from_numpy(skeleton.adjacency) + torch.eye(V, dtype=torch.int64)
        self.register_buffer("reach", step @ step, persistent=False)
        self.drawn = drawn
        self.masked = masked

    def joints(self, rows: int) -> torch.Tensor:
        """(rows, V) int64: each joint, or -1 where it is masked, as skeleton_view's ``joints`` takes it."""
        V = len(self.reach)
        words = philox(self.next(), rows, self.drawn)
        score = self.reach[(words * V) >> 32].sum(1)
        order = torch.sort(score, dim=1, stable=True).indices
        joints = torch.arange(V, device=score.device).expand(rows, V)
        return joints.scatter(1, order[:, V - self.masked :], -1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Clips (N, C, T, V, M) -> clips of the same shape with masked joints at zero."""
        _check.dim("NeighbourhoodMask", "x", x, "N, C, T, V, M")
        _check.same_device("NeighbourhoodMask", "x", x, self.rng)
        if x.shape[3] != len(self.reach):
            raise ValueError(f"NeighbourhoodMask: x must have {len(self.reach)} joints, got shape {tuple(x.shape)}")
        return skeleton_view(x, joints=self.joints(x.shape[0]))

    def extra_repr(self) -> str:
        return f"drawn={self.drawn}, masked={self.masked}"
